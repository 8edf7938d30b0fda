//! A holder that takes its time to die: what its lock reports meanwhile, and how a locker waits for
//! the end of its process.

use crate::harness::skip;
use crate::support::{Outcome, Stage, child, kill, kill_unreaped, outcome_of, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pshared::fork::Child;
use pshared::{Holder, LockError, Shared, SharedRwLock};
use std::fs;
use std::hint::black_box;
use std::time::Duration;

crate::tests!(
    a_timeout_reports_that_the_holder_dumps_core,
    a_death_names_the_dead_holder_and_its_end_can_be_waited_for,
);

const LONG: Duration = Duration::from_secs(60);

/// Runs a child that writes a core dump of this size while it holds the lock. The dump goes to the
/// current directory.
fn dumps_core(stage: &Stage, bytes: usize) -> Child {
    let holder = child(|| {
        let _guard = stage.lock.lock().unwrap();
        let memory = black_box(vec![1_u8; bytes]);
        stage.ready.set();
        stage.over.wait();
        black_box(&memory);
        std::process::abort();
    });
    stage.meet(&holder);
    holder
}

/// Lets children write core dumps of any size. Skips the test if that is not permitted, or if the
/// dumps do not go to files in the current directory.
fn allow_core_files() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with('|') || pattern.contains(['/', '@']) {
        skip(&format!("core dumps go to {}", pattern.trim()));
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    if hard != libc::RLIM_INFINITY {
        skip(&format!("core dumps are limited to {hard} bytes"));
    }
    setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("CoreDumping:") {
        skip("the kernel does not show core dumps (Linux 4.15)");
    }
}

fn a_timeout_reports_that_the_holder_dumps_core() {
    const FIRST_SIZE: usize = 128 << 20;
    const LAST_SIZE: usize = 2 << 30;
    allow_core_files();
    let directory = tempfile::tempdir().unwrap();
    std::env::set_current_dir(&directory).unwrap();
    let mut size = FIRST_SIZE;
    // The dump can be complete before it is observed. A larger one takes longer.
    while !timeout_reports_a_dump(size) {
        size *= 2;
        if size > LAST_SIZE {
            skip("core dumps are written too fast here to be observed");
        }
    }
}

fn timeout_reports_a_dump(size: usize) -> bool {
    let stage = Stage::anonymous();
    let holder = dumps_core(&stage, size);
    let named = stage.lock.holder().expect("it is held");
    assert_eq!(named.process, holder.id());
    assert!(!named.is_dumping_core());
    stage.over.set();
    until(|| named.is_dumping_core() || holder.try_wait().unwrap().is_some());
    let outcome = stage.lock.lock_timeout(Duration::from_millis(5));
    let is_reported = match outcome {
        Err(LockError::HolderDumpsCore) => true,
        // The dump was complete.
        Err(LockError::Poisoned(_)) => false,
        outcome => panic!("{:?}", outcome_of(outcome)),
    };
    if is_reported {
        assert_eq!(outcome_of(stage.lock.lock()), Outcome::FreshDeath);
    }
    assert!(holder.wait_timeout(LONG).unwrap().is_some());
    assert!(!named.is_dumping_core());
    is_reported
}

fn a_death_names_the_dead_holder_and_its_end_can_be_waited_for() {
    for end in [kill, kill_unreaped] {
        let stage = Stage::anonymous();
        let holder = stage.holder();
        let living = stage.lock.holder().unwrap();
        assert!(!living.wait_for_exit(Duration::from_millis(20)));
        end(&holder);
        assert!(living.wait_for_exit(LONG));
        let Err(LockError::Poisoned(poisoned)) = stage.lock.lock() else {
            panic!("the holder died");
        };
        assert_eq!(poisoned.dead_holder(), Some(living));
        drop(poisoned);
        let Err(LockError::Poisoned(poisoned)) = stage.lock.lock() else {
            panic!("the lock is poisoned");
        };
        assert_eq!(poisoned.dead_holder(), None);
    }
    let lock = Shared::anonymous(SharedRwLock::new(0_u64)).unwrap();
    for reads in [false, true] {
        let holder = child(|| {
            std::mem::forget(lock.write());
            std::process::abort();
        });
        holder.wait().unwrap();
        let dead: Option<Holder> = match reads {
            true => lock.read().err().and_then(dead_holder),
            false => lock.write().err().and_then(dead_holder),
        };
        assert_eq!(dead.map(|dead| dead.process), Some(holder.id()));
    }
}

fn dead_holder<G: pshared::LockGuard>(error: LockError<G>) -> Option<Holder> {
    match error {
        LockError::Poisoned(poisoned) => poisoned.dead_holder(),
        _ => None,
    }
}
