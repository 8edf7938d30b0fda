//! Tests the signals that make the server replace its workers or shut down.

use crate::clients::{Clients, Wants};
use crate::server::{Server, pass, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

crate::tests!(
    sighup_replaces_every_worker_and_breaks_no_request,
    sighup_replaces_idle_workers,
    sigterm_under_load_drops_no_accepted_request,
    sigterm_answers_connections_that_wait_to_be_accepted,
    sigterm_answers_one_more_request_of_an_idle_connection,
    sigterm_answers_connections_whose_handshake_is_in_progress,
    sigterm_ends_the_server_in_time_despite_silent_clients,
    signals_are_handled_from_the_first_line_of_output_on,
    a_worker_that_another_process_asks_to_leave_is_replaced,
    workers_leave_when_their_supervisor_is_killed_and_another_continues,
    a_map_is_free_after_its_supervisor_died_even_if_its_id_is_reused,
    a_map_is_refused_while_a_worker_of_an_earlier_server_occupies_a_slot,
);

fn sighup_replaces_every_worker_and_breaks_no_request() {
    for (accept, wants) in [
        ("mutex", Wants::Everything),
        ("permits", Wants::NewConnections),
        ("none", Wants::NewConnections),
    ] {
        let mut server = Server::start(&["--accept", accept, "--workers", "3"]);
        let clients = Clients::start(server.address(), 4, wants);
        for round in 1..=3 {
            clients.wait_for(50);
            until(|| server.workers().len() == 3);
            let before = server.workers();
            server.signal(Signal::SIGHUP);
            until(|| server.state().replaced.get() == 3 * round);
            until(|| server.workers().len() == 3);
            let after = server.workers();
            assert!(
                before.iter().all(|process| !after.contains(process)),
                "{before:?} {after:?}"
            );
        }
        clients.wait_for(50);
        let counts = clients.stop();
        server.end();
        let answered = counts.answered.load(SeqCst);
        assert_eq!(counts.broken.load(SeqCst), 0, "{counts:?}");
        assert_eq!(counts.refused_connections.load(SeqCst), 0, "{counts:?}");
        assert_eq!(server.state().answered(), answered);
        assert_eq!(server.state().deaths(), 0, "{}", server.log());
    }
}

fn sighup_replaces_idle_workers() {
    for accept in ["mutex", "permits", "none"] {
        let mut server = Server::start(&["--accept", accept, "--workers", "3"]);
        until(|| server.workers().len() == 3);
        let before = server.workers();
        server.signal(Signal::SIGHUP);
        until(|| server.state().replaced.get() == 3 && server.workers().len() == 3);
        until(|| {
            server
                .workers()
                .iter()
                .all(|process| !before.contains(process))
        });
        server.end();
        assert_eq!(server.state().deaths(), 0, "{}", server.log());
    }
}

fn sigterm_under_load_drops_no_accepted_request() {
    for (accept, wants) in [
        ("mutex", Wants::Everything),
        ("mutex", Wants::NewConnections),
        ("permits", Wants::NewConnections),
        ("none", Wants::NewConnections),
        ("none", Wants::Page),
    ] {
        let mut server = Server::start(&["--accept", accept]);
        // More clients than workers: some connections are accepted only by the kernel.
        let clients = Clients::start(server.address(), 8, wants);
        clients.wait_for(300);
        server.signal(Signal::SIGTERM);
        let status = server.wait();
        assert!(status.success(), "{status}\n{}", server.log());
        clients.wait_until_refused();
        let counts = clients.stop();
        assert_eq!(
            counts.broken.load(SeqCst),
            0,
            "{accept} {wants:?} {counts:?}"
        );
        assert_eq!(server.state().answered(), counts.answered.load(SeqCst));
        assert_eq!(server.state().deaths(), 0, "{}", server.log());
        server.assert_nothing_is_held();
    }
}

const REQUEST: &[u8] = b"GET /count HTTP/1.1\r\nHost: here\r\n\r\n";

#[track_caller]
fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer and an end");
    answer
}

fn sigterm_answers_connections_that_wait_to_be_accepted() {
    let mut server = Server::start(&["--workers", "1"]);
    // The only worker waits for the first client's request. The other connections are accepted only
    // by the kernel.
    let mut first = TcpStream::connect(server.address()).unwrap();
    let slot = || server.state().workers.slots().next().unwrap();
    until(|| slot().data.connections.get() == 1);
    let mut waiting: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(REQUEST).unwrap();
            stream
        })
        .collect();
    server.signal(Signal::SIGTERM);
    until(|| server.state().closing.load(SeqCst));
    first.write_all(REQUEST).unwrap();
    for stream in [&mut first].into_iter().chain(&mut waiting) {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    assert!(server.wait().success());
    assert_eq!(server.state().hits.get(), 11);
}

fn sigterm_answers_one_more_request_of_an_idle_connection() {
    let mut server = Server::start(&["--workers", "1", "--keep-alive", "60000"]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(REQUEST).unwrap();
    until(|| server.state().answered() == 1);
    server.signal(Signal::SIGTERM);
    until(|| server.state().closing.load(SeqCst));
    // The same as a request that was in flight.
    stream.write_all(REQUEST).unwrap();
    let answers = read_all(&mut stream);
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    assert_eq!(answers.matches("Connection: close").count(), 1, "{answers}");
    assert!(server.wait().success());
    // A client that sends nothing more must not delay the shutdown.
    let mut server = Server::start(&["--workers", "1", "--keep-alive", "60000"]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(REQUEST).unwrap();
    until(|| server.state().answered() == 1);
    server.end();
    assert_eq!(read_all(&mut stream).matches("HTTP/1.1 200 ").count(), 1);
}

fn sigterm_answers_connections_whose_handshake_is_in_progress() {
    let mut server = Server::start(&["--workers", "2"]);
    until(|| server.workers().len() == 2);
    // These clients are connected from their side. The kernel delays the last segment of the
    // handshake, which simulates a long network path.
    let mut clients: Vec<TcpStream> = (0..5)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_tcp_quickack(false).unwrap();
            let address: SocketAddr = server.address().parse().unwrap();
            socket.connect(&address.into()).unwrap();
            socket.into()
        })
        .collect();
    server.signal(Signal::SIGTERM);
    until(|| server.state().closing.load(SeqCst));
    pass(Duration::from_millis(100));
    for stream in &mut clients {
        stream.write_all(REQUEST).unwrap();
    }
    for stream in &mut clients {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(server.wait().success());
    assert_eq!(server.state().hits.get(), 5);
}

fn sigterm_ends_the_server_in_time_despite_silent_clients() {
    let mut server = Server::start(&["--workers", "1", "--drain", "1500"]);
    until(|| server.workers().len() == 1);
    // These clients send nothing, and a worker would wait for each until its timeout.
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    server.signal(Signal::SIGTERM);
    let status = server.wait();
    assert!(status.success(), "{status}\n{}", server.log());
    // The drain time was over before the workers had served all connections.
    let slots = server.state().workers.slots();
    let accepted: u64 = slots.map(|slot| slot.data.connections.get()).sum();
    assert!(
        accepted < silent.len() as u64,
        "{accepted}\n{}",
        server.log()
    );
    server.assert_nothing_is_held();
    drop(silent);
}

fn signals_are_handled_from_the_first_line_of_output_on() {
    for _ in 0..10 {
        let mut server = Server::start(&[]);
        server.signal(Signal::SIGHUP);
        server.end();
        assert_eq!(server.state().deaths(), 0, "{}", server.log());
    }
}

fn a_worker_that_another_process_asks_to_leave_is_replaced() {
    let mut server = Server::start(&["--workers", "2"]);
    until(|| server.workers().len() == 2);
    let clients = Clients::start(server.address(), 3, Wants::NewConnections);
    clients.wait_for(20);
    let left = server.workers()[0];
    kill(Pid::from_raw(left.cast_signed()), Signal::SIGTERM).unwrap();
    until(|| server.workers().len() == 2 && !server.workers().contains(&left));
    clients.wait_for(20);
    let counts = clients.stop();
    assert_eq!(counts.broken.load(SeqCst), 0);
    server.end();
    assert_eq!(server.state().deaths(), 0);
}

fn workers_leave_when_their_supervisor_is_killed_and_another_continues() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Server::start_in(directory.path(), &["--workers", "2"]);
    let clients = Clients::start(first.address(), 2, Wants::Page);
    clients.wait_for(100);
    let second = crate::server::program()
        .args(["--listen", "127.0.0.1:0", "--map"])
        .arg(directory.path().join("state"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let on_timeout = String::from_utf8(second.stderr).unwrap();
    assert!(
        on_timeout.contains(&format!("another server, process {}", first.id())),
        "{on_timeout}"
    );
    first.signal(Signal::SIGKILL);
    first.wait();
    until(|| first.workers().is_empty());
    let counts = clients.stop();
    let counted = first.state().answered();
    assert!(counted >= counts.answered.load(SeqCst));
    first.assert_nothing_is_held();

    let mut second = Server::start_in(directory.path(), &["--workers", "2"]);
    let clients = Clients::start(second.address(), 2, Wants::Page);
    clients.wait_for(100);
    let more = clients.stop().answered.load(SeqCst);
    second.end();
    assert_eq!(
        second.state().answered(),
        counted + more,
        "the counts continued"
    );
}

fn a_map_is_free_after_its_supervisor_died_even_if_its_id_is_reused() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Server::start_in(directory.path(), &["--workers", "2"]);
    until(|| first.workers().len() == 2);
    first.signal(Signal::SIGKILL);
    first.wait();
    until(|| first.workers().is_empty());
    // The same as after a reboot: another process has the supervisor's id.
    first.state().supervisor.store(std::process::id(), SeqCst);
    let mut second = Server::start_in(directory.path(), &["--workers", "2"]);
    until(|| second.workers().len() == 2 || second.has_ended());
    second.end();
}

fn a_map_is_refused_while_a_worker_of_an_earlier_server_occupies_a_slot() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--workers", "2", "--stuck", "3600000"];
    let mut first = Server::start_in(directory.path(), &options);
    until(|| first.workers().len() == 2);
    let stopped = Pid::from_raw(first.workers()[0].cast_signed());
    kill(stopped, Signal::SIGSTOP).unwrap();
    first.signal(Signal::SIGKILL);
    first.wait();
    until(|| first.workers().len() == 1);
    // The stopped worker may hold a lock, and no process can take the lock from it.
    let second = crate::server::program()
        .args(["--listen", "127.0.0.1:0", "--drain", "200", "--map"])
        .arg(directory.path().join("state"))
        .output()
        .unwrap();
    let on_timeout = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{on_timeout}");
    assert!(
        on_timeout.contains(&format!("process {stopped}")),
        "{on_timeout}"
    );
    kill(stopped, Signal::SIGCONT).unwrap();
    let mut third = Server::start_in(directory.path(), &["--workers", "2"]);
    until(|| third.workers().len() == 2);
    third.end();
}
