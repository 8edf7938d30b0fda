//! Kills workers under load. The server must continue, and its counts must match those of the
//! clients.

use crate::clients::{Clients, Counts, Wants, agent};
use crate::server::{Server, kill_worker, until};
use std::sync::atomic::Ordering::SeqCst;

crate::tests!(
    without_kills_the_counts_are_exact,
    three_hundred_killed_workers_lose_nothing_with_an_accept_mutex,
    killed_workers_lose_no_accept_permit,
    killed_workers_lose_nothing_if_all_workers_accept,
    a_worker_that_dies_at_accept_is_reported_and_replaced,
    a_worker_that_dies_in_the_limiter_is_reported_and_replaced,
    a_worker_that_dies_in_the_cache_is_reported_and_replaced,
);

/// Ends the server and checks its counts, after the clients have stopped.
#[track_caller]
fn check_counts(server: &mut Server, counts: &Counts, kills: u64) {
    server.end();
    let (answered, broken) = (counts.answered.load(SeqCst), counts.broken.load(SeqCst));
    let counted = server.state().answered();
    assert!(
        (answered..=answered + kills).contains(&counted),
        "{counted} counted, {answered} answered, {kills} killed"
    );
    assert!(broken <= kills, "{broken} broken by {kills} kills");
    assert_eq!(counts.refused_connections.load(SeqCst), 0);
    assert_eq!(counts.refused.load(SeqCst), 0);
    assert_eq!(server.state().deaths(), kills, "{}", server.log());
}

fn without_kills_the_counts_are_exact() {
    for accept in ["mutex", "permits", "none"] {
        let mut server = Server::start(&["--accept", accept]);
        let clients = Clients::start(server.address(), 6, Wants::Everything);
        clients.wait_for(3000);
        let counts = clients.stop();
        check_counts(&mut server, &counts, 0);
    }
}

/// Kills workers one after the other under load. Every second kill targets the owner of a lock, if
/// there is one. The other kills target a random worker. After each kill, clients must receive
/// answers before the next one.
fn kill_under_load(accept: &str, kills: u64, wants: Wants) {
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
    let counts = clients.stop();
    check_counts(&mut server, &counts, kills);
    let reported_deaths = &server.state().reported;
    assert_eq!(
        reported_deaths.slot.get(),
        kills,
        "every abandoned slot was adopted"
    );
    println!(
        "deaths reported: {} at accept, {} in the limiter, {} in the cache",
        reported_deaths.accept.get(),
        reported_deaths.limiter.get(),
        reported_deaths.cache.get()
    );
}

fn three_hundred_killed_workers_lose_nothing_with_an_accept_mutex() {
    kill_under_load("mutex", 300, Wants::Everything);
}

fn killed_workers_lose_no_accept_permit() {
    kill_under_load("permits", 60, Wants::NewConnections);
}

fn killed_workers_lose_nothing_if_all_workers_accept() {
    kill_under_load("none", 60, Wants::Everything);
}

/// Kills workers in the critical section `place`, repeatedly, under load.
fn worker_dies_in(place: &str, reported: impl Fn(&Server) -> u64) {
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
        let counts = clients.stop();
        counts.answered.fetch_add(answered, SeqCst);
        check_counts(&mut server, &counts, DEATHS);
        assert_eq!(reported(&server), DEATHS, "each death was reported once");
    }
}

fn a_worker_that_dies_at_accept_is_reported_and_replaced() {
    worker_dies_in("accept", |server| server.state().reported.accept.get());
}

fn a_worker_that_dies_in_the_limiter_is_reported_and_replaced() {
    worker_dies_in("limiter", |server| server.state().reported.limiter.get());
}

fn a_worker_that_dies_in_the_cache_is_reported_and_replaced() {
    worker_dies_in("cache", |server| server.state().reported.cache.get());
}
