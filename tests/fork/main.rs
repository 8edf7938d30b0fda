//! Everything that forks or kills. One thread, and each test in a process of its own: see `harness`.

mod auto_event;
mod barrier;
mod breakers;
mod choosing;
mod condvar;
mod counters;
mod disk;
mod ends;
mod event;
mod examples;
mod exclusion;
mod file_lock;
mod files;
mod glibc;
mod harness;
mod identity;
mod kills;
mod kit;
mod net;
mod once;
mod owners;
mod permits;
mod program;
mod pthread;
mod pthreads;
mod reentrant;
mod roster;
mod rwlock;
mod rwlock_kills;
mod rwlock_row;
mod scenarios;
mod semaphore;
mod slot;
mod steps;
mod strangers;
mod strategies;
mod sysv;
mod traced;
mod wait_any;

fn main() -> std::process::ExitCode {
    if let Ok(socket) = std::env::var(strangers::ROLE) {
        return strangers::as_stranger(&socket);
    }
    harness::run(
        [
            auto_event::tests(),
            barrier::tests(),
            breakers::tests(),
            choosing::tests(),
            condvar::tests(),
            counters::tests(),
            ends::tests(),
            event::tests(),
            examples::tests(),
            exclusion::tests(),
            file_lock::tests(),
            files::tests(),
            glibc::tests(),
            identity::tests(),
            kills::tests(),
            net::tests(),
            once::tests(),
            owners::tests(),
            reentrant::tests(),
            pthreads::tests(),
            permits::tests(),
            roster::tests(),
            rwlock::tests(),
            rwlock_kills::tests(),
            rwlock_row::tests(),
            scenarios::tests(),
            semaphore::tests(),
            slot::tests(),
            strategies::tests(),
            strangers::tests(),
            sysv::tests(),
            wait_any::tests(),
        ]
        .concat(),
    )
}
