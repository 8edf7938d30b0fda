//! Tests stopped workers, and a machine without resources for the map or for another process.

use crate::clients::{Clients, Wants, agent};
use crate::disk::Disk;
use crate::server::program;
use crate::server::{Server, kill_worker, pass, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prefork::shared_state::Activity;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

crate::tests!(
    a_worker_that_stops_with_the_accept_lock_is_named_and_killed,
    a_worker_that_stops_with_a_permit_is_killed,
    only_the_worker_that_stops_in_the_limiter_or_the_cache_is_killed,
    a_worker_that_stops_with_a_client_is_killed,
    idle_workers_are_not_taken_for_stuck,
    a_server_that_was_stopped_as_a_whole_kills_no_worker,
    a_client_that_does_not_read_costs_no_worker,
    a_slow_client_costs_no_worker,
    workers_that_share_nothing_are_not_taken_for_stuck,
    a_log_that_cannot_be_written_ends_no_process,
    a_worker_that_cannot_accept_for_lack_of_descriptors_tries_again,
    a_server_that_inherits_an_ignored_sigchld_reaps_its_workers,
    a_full_disk_is_reported_with_the_file_name,
    a_disk_that_becomes_full_disturbs_no_request,
    a_worker_that_cannot_start_is_retried_later,
    the_demonstration_passes_its_checks,
);

/// Stops a worker in a critical section. The supervisor must kill this worker only, and the server
/// must continue.
fn worker_stops_in(accept: &str, place: &str, named: &str) {
    let mut server = Server::start(&["--accept", accept, "--stuck", "1500"]);
    let clients = Clients::start(server.address(), 3, Wants::Everything);
    clients.wait_for(50);
    let asked = agent()
        .get(server.url(&format!("/fault?stop={place}")))
        .call();
    let text = asked
        .expect("an answer")
        .body_mut()
        .read_to_string()
        .unwrap();
    let process = text
        .split_whitespace()
        .nth(1)
        .expect("the worker's process id")
        .to_owned();
    until(|| server.state().stuck.get() == 1);
    until(|| server.state().deaths() == 1);
    until(|| server.workers().len() == 4);
    clients.wait_for(50);
    let counts = clients.stop();
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains(&format!("worker {process} ")))
        .unwrap_or_default();
    assert!(
        line.contains(named) && line.contains("has given no heartbeat for"),
        "{log}"
    );
    server.end();
    let answered = counts.answered.load(SeqCst) + 1;
    let counted = server.state().answered();
    assert!(
        (answered..=answered + 1).contains(&counted),
        "{counted} {answered}"
    );
    assert_eq!(server.state().stuck.get(), 1, "{}", server.log());
    assert_eq!(server.state().deaths(), 1, "{}", server.log());
}

fn a_worker_that_stops_with_the_accept_lock_is_named_and_killed() {
    worker_stops_in("mutex", "accept", "has held the accept lock");
}

fn a_worker_that_stops_with_a_permit_is_killed() {
    worker_stops_in("permits", "accept", "has been accepting");
}

fn only_the_worker_that_stops_in_the_limiter_or_the_cache_is_killed() {
    worker_stops_in("mutex", "limiter", "has held the rate limiter");
    worker_stops_in("mutex", "cache", "has held the cache");
}

fn a_worker_that_stops_with_a_client_is_killed() {
    let mut server = Server::start(&["--workers", "2", "--stuck", "1500", "--keep-alive", "0"]);
    let clients = Clients::start(server.address(), 2, Wants::Everything);
    // Stop a worker while it answers. This may need several attempts.
    let mut stopped = None;
    until(|| {
        let slots = server.state().workers.slots();
        let busy: Vec<usize> = slots
            .filter(|slot| slot.data.activity() == Activity::Answering)
            .map(|slot| slot.number)
            .collect();
        let found = server
            .state()
            .live_workers()
            .find(|(_, slot)| busy.contains(slot));
        let Some((process, slot)) = found else {
            return false;
        };
        let process = Pid::from_raw(process.cast_signed());
        let _ = kill(process, Signal::SIGSTOP);
        until(|| is_stopped(process));
        let slot = server.state().workers.slots().nth(slot).unwrap();
        if slot.data.activity() == Activity::Answering {
            stopped = Some(process);
        } else {
            let _ = kill(process, Signal::SIGCONT);
        }
        stopped.is_some()
    });
    until(|| server.state().stuck.get() >= 1);
    clients.wait_for(20);
    clients.stop();
    assert!(
        server
            .log()
            .contains(&format!("worker {} ", stopped.unwrap())),
        "{}",
        server.log()
    );
    server.end();
    assert_eq!(server.state().stuck.get(), 1, "{}", server.log());
}

/// Returns how often a process has gone to sleep.
fn sleep_count(process: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it is alive");
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count
        .and_then(|count| count.trim().parse().ok())
        .expect("a count")
}

fn is_stopped(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status
        .rsplit(") ")
        .next()
        .is_none_or(|rest| rest.starts_with(['T', 'Z']))
}

fn idle_workers_are_not_taken_for_stuck() {
    for accept in ["mutex", "permits", "none"] {
        let mut server = Server::start(&["--accept", accept, "--stuck", "1000", "--workers", "3"]);
        until(|| server.workers().len() == 3);
        let before = server.workers();
        // Longer than a stuck worker may go without a heartbeat.
        pass(Duration::from_millis(2500));
        assert_eq!(server.workers(), before, "{}", server.log());
        server.end();
        assert_eq!(server.state().stuck.get(), 0);
    }
}

fn a_server_that_was_stopped_as_a_whole_kills_no_worker() {
    let mut server = Server::start(&["--stuck", "1000", "--workers", "3"]);
    until(|| server.workers().len() == 3);
    let workers = server.workers();
    let all = || workers.iter().copied().chain([server.id()]);
    let signal = |signal| {
        all().for_each(|process| {
            kill(Pid::from_raw(process.cast_signed()), signal).expect("it is alive")
        })
    };
    // The same as Ctrl-Z and then `fg`.
    signal(Signal::SIGSTOP);
    pass(Duration::from_millis(2500));
    // The supervisor continues first, which is the worst case: it checks the workers before they
    // continue.
    let supervisor = Pid::from_raw(server.id().cast_signed());
    let before = sleep_count(supervisor);
    kill(supervisor, Signal::SIGCONT).unwrap();
    until(|| sleep_count(supervisor) > before + 1);
    signal(Signal::SIGCONT);
    assert_eq!(agent().get(server.url("/")).call().unwrap().status(), 200);
    assert_eq!(server.workers(), workers, "{}", server.log());
    server.end();
    assert_eq!(server.state().stuck.get(), 0, "{}", server.log());
}

fn a_client_that_does_not_read_costs_no_worker() {
    let mut server = Server::start(&["--workers", "2", "--stuck", "500"]);
    until(|| server.workers().len() == 2);
    let before = server.workers();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // Write until the server closes the connection because it cannot send its answers.
    let request = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n".repeat(50);
    while stream.write_all(&request).is_ok() {}
    assert_eq!(server.workers(), before, "{}", server.log());
    server.end();
    assert_eq!(server.state().stuck.get(), 0, "{}", server.log());
}

fn a_slow_client_costs_no_worker() {
    // The client has the full timeout for the first byte, and again for the rest of the head.
    let mut server = Server::start(&["--stuck", "500", "--keep-alive", "0"]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut send_later = |what: &[u8]| {
        pass(Duration::from_millis(4000));
        stream.write_all(what).unwrap();
    };
    send_later(b"G");
    send_later(b"ET / HTTP/1.1\r\nHost: here\r\n\r\n");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.end();
    assert_eq!(server.state().stuck.get(), 0, "{}", server.log());
}

fn workers_that_share_nothing_are_not_taken_for_stuck() {
    // These workers give no heartbeats while they serve a connection.
    let mut server = Server::start(&["--no-sharing", "--stuck", "500"]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    for _ in 0..8 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        pass(Duration::from_millis(250));
    }
    server.end();
    assert_eq!(server.state().stuck.get(), 0, "{}", server.log());
}

fn a_log_that_cannot_be_written_ends_no_process() {
    let mut server = Server::start_with_log("/dev/full", &["--workers", "2"]);
    for number in 1..=3 {
        until(|| server.workers().len() == 2 || server.has_ended());
        kill_worker(server.workers()[0]);
        until(|| server.state().deaths() == number || server.has_ended());
    }
    let answer = agent().get(server.url("/")).call();
    assert_eq!(answer.expect("an answer").status(), 200);
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
}

fn a_worker_that_cannot_accept_for_lack_of_descriptors_tries_again() {
    for accept in ["mutex", "none"] {
        let mut server = Server::start(&["--workers", "1", "--accept", accept]);
        until(|| server.workers().len() == 1);
        let worker = server.workers()[0];
        let is_ready = || {
            server
                .state()
                .occupied()
                .any(|at| at.activity() == Activity::Accepting)
        };
        until(is_ready);
        // The worker polls two descriptors: a lower limit would make `poll` fail.
        let previous = limit_descriptors(worker, 2);
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        pass(Duration::from_millis(500));
        assert_eq!(server.workers(), [worker], "{}", server.log());
        limit_descriptors(worker, previous);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        server.end();
        assert_eq!(server.state().deaths(), 0, "{}", server.log());
    }
}

fn a_server_that_inherits_an_ignored_sigchld_reaps_its_workers() {
    let mut server = Server::start_without_sigchld(&["--workers", "2"]);
    until(|| server.workers().len() == 2);
    kill_worker(server.workers()[0]);
    until(|| server.state().deaths() == 1 || server.has_ended());
    let answer = agent().get(server.url("/")).call();
    assert_eq!(answer.expect("an answer").status(), 200);
    server.end();
}

fn a_full_disk_is_reported_with_the_file_name() {
    let disk = Disk::new("tmpfs", "size=16k");
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--map"])
        .arg(disk.path().join("state"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let on_timeout = String::from_utf8(output.stderr).unwrap();
    assert!(
        on_timeout.contains("No space left on device") && on_timeout.contains("state"),
        "{on_timeout}"
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

fn a_disk_that_becomes_full_disturbs_no_request() {
    let disk = Disk::new("tmpfs", "size=1m");
    // The log is on the same disk and cannot grow either.
    let mut server = Server::start_in(disk.path(), &[]);
    let _ = fs::write(disk.path().join("ballast"), vec![1; 2 << 20]);
    assert!(
        fs::write(disk.path().join("more"), [1; 4096]).is_err(),
        "the disk is not full"
    );
    let clients = Clients::start(server.address(), 3, Wants::Everything);
    for number in 1..=20 {
        clients.wait_for(20);
        until(|| server.workers().len() == 4);
        kill_worker(server.workers()[0]);
        until(|| server.state().deaths() == number);
    }
    clients.wait_for(20);
    let counts = clients.stop();
    server.end();
    let (counted, answered) = (server.state().answered(), counts.answered.load(SeqCst));
    assert!(
        (answered..=answered + 20).contains(&counted),
        "{counted} {answered}"
    );
}

fn a_worker_that_cannot_start_is_retried_later() {
    let mut server = Server::start(&["--workers", "2"]);
    until(|| server.workers().len() == 2);
    // The supervisor can open no descriptor, so none for a handle on a child. It polls four
    // descriptors: a lower limit would make `poll` fail.
    let previous = limit_descriptors(server.id(), 4);
    kill_worker(server.workers()[0]);
    until(|| server.state().deaths() >= 1);
    until(|| server.log().matches("cannot start a worker").count() >= 3);
    let answer = agent().get(server.url("/")).call();
    assert_eq!(answer.expect("the other worker answers").status(), 200);
    limit_descriptors(server.id(), previous);
    until(|| server.workers().len() == 2);
    let log = server.log();
    assert!(log.contains("20ms") && log.contains("40ms"), "{log}");
    server.end();
}

/// Limits the number of descriptors of another process and returns the previous limit.
fn limit_descriptors(process: u32, number: u64) -> u64 {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let process = process.cast_signed();
    // SAFETY: `old` is valid for the write of a limit. The new limit is null, so no limit is set.
    let read =
        unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut old) };
    assert_eq!(read, 0);
    let new = libc::rlimit {
        rlim_cur: number,
        ..old
    };
    // SAFETY: `new` is a valid limit. The old limit is null, so nothing is written.
    let set = unsafe {
        libc::prlimit(
            process,
            libc::RLIMIT_NOFILE,
            &raw const new,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(set, 0);
    old.rlim_cur
}

fn the_demonstration_passes_its_checks() {
    let output = program().arg("--demo").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        text.lines().filter(|line| line.starts_with("ok ")).count(),
        5,
        "{text}"
    );
    assert!(text.contains("a kill every 200 ms: "), "{text}");
}
