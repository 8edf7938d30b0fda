//! All tests that fork or kill. The runner has one thread and runs each test in its own process:
//! see `harness`. With `--soak` as the first argument it runs the tests of kills for long: see
//! `soak`.

mod auto_reset_event;
mod barrier;
mod choosing;
mod condvar;
mod counters;
mod disk;
mod dying;
mod environments;
mod event;
mod examples;
mod exclusion;
mod file_lock;
mod files;
#[cfg(target_env = "gnu")]
mod glibc;
mod harness;
mod holder_exit;
mod kills;
#[cfg_attr(
    target_env = "musl",
    allow(dead_code, reason = "for the tests of glibc's mutexes")
)]
mod list_op_pending;
mod liveness;
mod liveness_fallback;
mod many_locks;
#[cfg(target_env = "musl")]
mod musl;
mod once;
mod permits;
mod program;
mod pthread;
#[cfg(target_env = "gnu")]
mod pthreads;
mod reentrant;
mod restored;
mod roster;
mod rwlock;
mod rwlock_full;
mod rwlock_kills;
mod scenarios;
mod seccomp;
mod semaphore;
mod soak;
mod soundness;
mod spawn;
mod steps;
mod strategies;
mod support;
mod sysv;
mod thread_identity;
mod timer_slack;
mod traced;
mod unrelated;
mod wait_any;

fn main() -> std::process::ExitCode {
    if let Ok(socket) = std::env::var(unrelated::ROLE) {
        return unrelated::as_unrelated_process(&socket);
    }
    let tests = tests();
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "--soak" => soak::run(tests, arguments),
        _ => harness::run(tests),
    }
}

fn tests() -> Vec<harness::Test> {
    [
        auto_reset_event::tests(),
        barrier::tests(),
        soundness::tests(),
        spawn::tests(),
        choosing::tests(),
        condvar::tests(),
        counters::tests(),
        holder_exit::tests(),
        dying::tests(),
        environments::tests(),
        event::tests(),
        examples::tests(),
        exclusion::tests(),
        file_lock::tests(),
        files::tests(),
        #[cfg(target_env = "gnu")]
        glibc::tests(),
        thread_identity::tests(),
        timer_slack::tests(),
        kills::tests(),
        liveness_fallback::tests(),
        many_locks::tests(),
        once::tests(),
        liveness::tests(),
        reentrant::tests(),
        #[cfg(target_env = "gnu")]
        pthreads::tests(),
        #[cfg(target_env = "musl")]
        musl::tests(),
        permits::tests(),
        restored::tests(),
        roster::tests(),
        rwlock::tests(),
        rwlock_kills::tests(),
        rwlock_full::tests(),
        scenarios::tests(),
        semaphore::tests(),
        soak::tests(),
        list_op_pending::tests(),
        strategies::tests(),
        unrelated::tests(),
        sysv::tests(),
        wait_any::tests(),
    ]
    .concat()
}
