//! Kills workers under load. The server must continue, and its counts must match those of the
//! clients.

use crate::clients::{Books, Clients, Wants, agent};
use crate::server::{Server, kill_worker, until};
use std::sync::atomic::Ordering::SeqCst;

crate::tests!(
    without_kills_the_books_are_exact,
    three_hundred_killed_workers_lose_nothing_with_a_mutex_at_the_door,
    killed_workers_lose_no_permit_at_the_door,
    killed_workers_lose_nothing_where_everybody_accepts,
    a_worker_that_dies_at_the_door_is_told_of_and_replaced,
    a_worker_that_dies_in_the_limiter_is_told_of_and_replaced,
    a_worker_that_dies_in_the_cache_is_told_of_and_replaced,
);

/// Ends the server and checks its counts, after the clients have stopped.
#[track_caller]
fn balance(server: &mut Server, books: &Books, kills: u64) {
    server.end();
    let (answered, broken) = (books.answered.load(SeqCst), books.broken.load(SeqCst));
    let counted = server.state().answered();
    assert!(
        (answered..=answered + kills).contains(&counted),
        "{counted} counted, {answered} answered, {kills} killed"
    );
    assert!(broken <= kills, "{broken} broken by {kills} kills");
    assert_eq!(books.turned_away.load(SeqCst), 0);
    assert_eq!(books.refused.load(SeqCst), 0);
    assert_eq!(server.state().deaths(), kills, "{}", server.log());
}

fn without_kills_the_books_are_exact() {
    for accept in ["mutex", "permits", "none"] {
        let mut server = Server::start(&["--accept", accept]);
        let clients = Clients::start(server.address(), 6, Wants::Everything);
        clients.wait_for(3000);
        let books = clients.stop();
        balance(&mut server, &books, 0);
    }
}

/// Kills workers one after the other under load. Every second kill targets the owner of a lock, if
/// there is one. The other kills target a random worker. After each kill, clients must receive
/// answers before the next one.
fn under_fire(accept: &str, kills: u64, wants: Wants) {
    let mut server = Server::start(&["--accept", accept, "--workers", "4"]);
    let clients = Clients::start(server.address(), 5, wants);
    clients.wait_for(20);
    for number in 0..kills {
        let holder = || {
            let all: Vec<u32> = server
                .state()
                .holders()
                .map(|(_, process)| process)
                .collect();
            fastrand::choice(all)
        };
        let deaths = server.state().deaths();
        let target = holder().filter(|_| number % 2 == 0);
        let target = target.or_else(|| fastrand::choice(server.workers()));
        let Some(target) = target.filter(|process| *process != server.id()) else {
            panic!("no worker:\n{}", server.log());
        };
        kill_worker(target);
        // Wait until the supervisor has counted a new death.
        until(|| server.state().deaths() > deaths);
        clients.wait_for(10);
        until(|| server.workers().len() == 4);
    }
    let books = clients.stop();
    balance(&mut server, &books, kills);
    let told = &server.state().reported;
    assert_eq!(told.slot.get(), kills, "every abandoned slot was adopted");
    println!(
        "deaths reported: {} at accept, {} in the limiter, {} in the cache",
        told.accept.get(),
        told.limiter.get(),
        told.cache.get()
    );
}

fn three_hundred_killed_workers_lose_nothing_with_a_mutex_at_the_door() {
    under_fire("mutex", 300, Wants::Everything);
}

fn killed_workers_lose_no_permit_at_the_door() {
    under_fire("permits", 60, Wants::NewConnections);
}

fn killed_workers_lose_nothing_where_everybody_accepts() {
    under_fire("none", 60, Wants::Everything);
}

/// Kills workers in the critical section `place`, repeatedly, under load.
fn dies_inside(place: &str, reported: impl Fn(&Server) -> u64) {
    const DEATHS: u64 = 30;
    for accept in ["mutex", "permits"] {
        let mut server = Server::start(&["--accept", accept]);
        let clients = Clients::start(server.address(), 3, Wants::Everything);
        let mut answered = 0;
        for number in 1..=DEATHS {
            let asked = agent()
                .get(server.url(&format!("/fault?kill={place}")))
                .call();
            assert_eq!(asked.expect("an answer").status(), 200);
            answered += 1;
            until(|| server.state().deaths() == number);
            // The next locker must receive the report. The clients' requests cause it to lock.
            until(|| reported(&server) == number);
            clients.wait_for(10);
        }
        let books = clients.stop();
        books.answered.fetch_add(answered, SeqCst);
        balance(&mut server, &books, DEATHS);
        assert_eq!(reported(&server), DEATHS, "each death was reported once");
    }
}

fn a_worker_that_dies_at_the_door_is_told_of_and_replaced() {
    dies_inside("accept", |server| server.state().reported.accept.get());
}

fn a_worker_that_dies_in_the_limiter_is_told_of_and_replaced() {
    dies_inside("limiter", |server| server.state().reported.limiter.get());
}

fn a_worker_that_dies_in_the_cache_is_told_of_and_replaced() {
    dies_inside("cache", |server| server.state().reported.cache.get());
}
