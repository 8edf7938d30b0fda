//! The liveness check examines owners that the kernel has not marked. It finds every dead owner and
//! never takes a lock from a living one.

use crate::support::{
    Outcome, Stage, as_root, become_unprivileged, child, field, gettid, hide_others, kill,
    kill_unreaped, outcome_of, passes, state, until,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill as signal, sigaction};
use nix::unistd::Pid;
use pshared::{Shared, SharedCondvar};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

crate::tests!(
    a_holder_whose_thread_is_younger_than_its_process_keeps_its_lock,
    a_stopped_holder_keeps_its_lock,
    a_holder_whose_leader_ended_before_its_first_lock_keeps_its_lock,
    a_holder_without_descriptors_at_its_first_lock_keeps_its_lock,
    a_holder_in_another_time_namespace_keeps_its_lock,
    a_waiter_without_descriptors_takes_no_held_lock,
    a_waiter_without_proc_takes_no_held_lock,
    a_waiter_of_another_user_takes_no_held_lock_and_gets_the_death_report,
    a_waiter_that_hidepid_restricts_takes_no_held_lock,
    an_unmarked_death_is_found_by_lock_and_by_try_lock,
    a_waiter_without_descriptors_gets_the_death_report,
    a_zombie_is_not_taken_for_a_living_holder_for_want_of_descriptors,
    signals_do_not_postpone_the_liveness_check,
    a_wait_for_a_notification_gets_the_report_of_an_unmarked_death,
);

/// Long enough for several liveness checks.
const SEVERAL_CHECKS: Duration = Duration::from_secs(1);

/// Waits for a lock that is held, and never acquires it.
fn stays_held(stage: &Stage) {
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(SEVERAL_CHECKS)),
        Outcome::TimedOut
    );
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
}

/// Checks what is true of every living holder.
fn is_held_until_released(stage: &Stage, holder: &pshared::fork::Child) {
    stays_held(stage);
    stage.over.set();
    passes(holder);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
}

fn a_holder_whose_thread_is_younger_than_its_process_keeps_its_lock() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        const STARTED: usize = 22;
        let process = field(Path::new("/proc/self/stat"), STARTED);
        // The kernel counts start times in hundredths of a second. Threads are started until one
        // has another start time than its process.
        let mut held = false;
        while !held {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let own = format!("/proc/self/task/{}/stat", gettid());
                    let younger = field(Path::new(&own), STARTED) != process;
                    if younger {
                        stage.hold();
                    }
                    younger
                });
                held = thread.join().unwrap();
            });
        }
    });
    stage.meet(&holder);
    is_held_until_released(&stage, &holder);
}

fn a_stopped_holder_keeps_its_lock() {
    let stage = Stage::anonymous();
    let holder = stage.holder();
    let id = Pid::from_raw(holder.id().cast_signed());
    signal(id, Signal::SIGSTOP).unwrap();
    until(|| state(holder.id()) == Some('T'));
    stays_held(&stage);
    signal(id, Signal::SIGCONT).unwrap();
    is_held_until_released(&stage, &holder);
}

fn a_holder_whose_leader_ended_before_its_first_lock_keeps_its_lock() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        let leader = gettid();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until(|| state(leader) == Some('Z'));
                stage.hold();
                std::process::exit(0);
            });
            // SAFETY: ends this thread only; its stack stays mapped for the other thread.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
    });
    stage.meet(&holder);
    is_held_until_released(&stage, &holder);
}

/// After this call the process can open no file.
fn use_up_descriptors() {
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0).expect("no limit");
    assert!(fs::File::open("/proc/self/stat").is_err());
}

fn a_holder_without_descriptors_at_its_first_lock_keeps_its_lock() {
    let stage = Stage::anonymous();
    let holder = child(|| {
        use_up_descriptors();
        stage.hold();
    });
    stage.meet(&holder);
    is_held_until_released(&stage, &holder);
}

fn a_holder_in_another_time_namespace_keeps_its_lock() {
    as_root();
    let stage = Stage::anonymous();
    let between = child(|| {
        // CLONE_NEWTIME (Linux 5.6) has no name in nix: the children get a clock of their own.
        // SAFETY: the call takes a number only.
        let answer = unsafe { libc::unshare(libc::CLONE_NEWTIME) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        fs::write(
            "/proc/self/timens_offsets",
            "boottime 86400 0\nmonotonic 86400 0",
        )
        .unwrap();
        passes(&child(|| stage.hold()));
    });
    stage.meet(&between);
    is_held_until_released(&stage, &between);
}

fn a_waiter_without_descriptors_takes_no_held_lock() {
    let stage = Stage::anonymous();
    let holder = stage.holder();
    passes(&child(|| {
        use_up_descriptors();
        stays_held(&stage);
    }));
    // A waiter that recorded its identity before it ran out of descriptors.
    passes(&child(|| {
        assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
        use_up_descriptors();
        stays_held(&stage);
    }));
    is_held_until_released(&stage, &holder);
}

fn a_waiter_without_proc_takes_no_held_lock() {
    as_root();
    let empty = tempfile::tempdir().unwrap();
    let stage = Stage::anonymous();
    let holder = stage.holder();
    passes(&child(|| {
        assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
        nix::unistd::chroot(empty.path()).unwrap();
        stays_held(&stage);
    }));
    is_held_until_released(&stage, &holder);
}

fn a_waiter_of_another_user_takes_no_held_lock_and_gets_the_death_report() {
    as_root();
    let stage = Stage::anonymous();
    let holder = stage.holder();
    let waiter = child(|| {
        become_unprivileged();
        stays_held(&stage);
        stage.thread.store(1, Relaxed);
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    });
    until(|| stage.thread.load(Relaxed) == 1);
    kill(&holder);
    passes(&waiter);
}

fn a_waiter_that_hidepid_restricts_takes_no_held_lock() {
    as_root();
    let stage = Stage::anonymous();
    let holder = stage.holder();
    passes(&child(|| {
        hide_others();
        become_unprivileged();
        assert!(fs::read_to_string(format!("/proc/{}/stat", holder.id())).is_err());
        stays_held(&stage);
    }));
    is_held_until_released(&stage, &holder);
}

/// Runs a child that dies with the lock and is not marked by the kernel, as when the out-of-memory
/// reaper was faster.
fn dies_unmarked(stage: &Stage) {
    stage.ready.reset();
    let holder = child(|| {
        let _guard = stage.lock.lock();
        // SAFETY: the call takes a null head; the kernel then walks no list for this thread.
        let answer = unsafe { libc::syscall(libc::SYS_set_robust_list, 0, 24) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        stage.ready.set();
        loop {
            std::thread::park();
        }
    });
    stage.meet(&holder);
    kill(&holder);
}

fn an_unmarked_death_is_found_by_lock_and_by_try_lock() {
    let stage = Stage::anonymous();
    dies_unmarked(&stage);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::OldDeath);
    dies_unmarked(&stage);
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::FreshDeath);
    dies_unmarked(&stage);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(Duration::from_secs(60))),
        Outcome::FreshDeath
    );
}

fn a_waiter_without_descriptors_gets_the_death_report() {
    let stage = Stage::anonymous();
    let holder = stage.holder();
    let waiter = child(|| {
        use_up_descriptors();
        stage.thread.store(gettid(), Relaxed);
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    });
    until(|| {
        stage.thread.load(Relaxed) == waiter.id()
            && crate::support::sleeps_on(waiter.id(), &stage.lock)
    });
    kill(&holder);
    passes(&waiter);
}

/// Runs `check` in a child, after a holder was killed. The holder is reaped once `over` is set.
fn with_an_unreaped_holder(check: impl FnOnce(&Stage)) {
    let stage = Stage::anonymous();
    let holder = stage.holder();
    kill_unreaped(&holder);
    let waiter = child(|| check(&stage));
    until(|| stage.over.is_set() || waiter.try_wait().unwrap().is_some());
    kill(&holder);
    passes(&waiter);
}

fn a_zombie_is_not_taken_for_a_living_holder_for_want_of_descriptors() {
    // The process never has a descriptor, and knows little about itself.
    with_an_unreaped_holder(|stage| {
        use_up_descriptors();
        assert_eq!(
            outcome_of(stage.lock.lock_timeout(SEVERAL_CHECKS)),
            Outcome::TimedOut
        );
        assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
        stage.over.set();
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    });
    // It has none at its first lock call.
    with_an_unreaped_holder(|stage| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
        assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    });
    // It has none later.
    with_an_unreaped_holder(|stage| {
        let other = Stage::anonymous();
        drop(other.lock.lock().unwrap());
        use_up_descriptors();
        let outcome = match statx_has_mount_ids() {
            true => Outcome::FreshDeath,
            false => Outcome::TimedOut,
        };
        assert_eq!(outcome_of(stage.lock.lock_timeout(SEVERAL_CHECKS)), outcome);
    });
}

/// Whether the kernel has the calls that show a zombie without a descriptor (Linux 6.8).
fn statx_has_mount_ids() -> bool {
    // SAFETY: zero bytes are a valid statx, and the call may write it.
    unsafe {
        let mut answer: libc::statx = std::mem::zeroed();
        let mask = libc::STATX_MNT_ID_UNIQUE;
        libc::statx(libc::AT_FDCWD, c"/proc".as_ptr(), 0, mask, &mut answer);
        answer.stx_mask & mask != 0
    }
}

/// Interrupts every sleep of the calling process from now on, long before its first liveness check.
fn be_interrupted() {
    be_interrupted_every(Duration::from_millis(20));
}

/// Sends a signal to the calling process again and again from now on.
pub fn be_interrupted_every(interval: Duration) {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    let often = libc::timeval {
        tv_sec: 0,
        tv_usec: i64::from(interval.subsec_micros()),
    };
    let timer = libc::itimerval {
        it_interval: often,
        it_value: often,
    };
    // SAFETY: `timer` is a timer to read; a null pointer means that none is written.
    let answer = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Long enough for a waiter that performs the liveness check at all.
const FAR: Duration = Duration::from_secs(60);

fn passes_in_time(child: &pshared::fork::Child) {
    if child.wait_timeout(FAR).unwrap().is_none() {
        kill(child);
        panic!("the child waits forever");
    }
    passes(child);
}

fn signals_do_not_postpone_the_liveness_check() {
    let stage = Stage::anonymous();
    dies_unmarked(&stage);
    passes_in_time(&child(|| {
        be_interrupted();
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    }));
}

fn a_wait_for_a_notification_gets_the_report_of_an_unmarked_death() {
    for interrupted in [false, true] {
        let stage = Stage::anonymous();
        let condvar = Shared::anonymous(SharedCondvar::new()).unwrap();
        let waiter = child(|| {
            if interrupted {
                be_interrupted();
            }
            let guard = stage.lock.lock().unwrap();
            assert_eq!(outcome_of(condvar.wait(guard)), Outcome::FreshDeath);
        });
        until(|| crate::support::sleeps_on(waiter.id(), &*condvar));
        dies_unmarked(&stage);
        passes_in_time(&waiter);
    }
}
