//! A holder that was restored from a checkpoint (CRIU) has another start time than its record. It
//! keeps its lock.

use crate::support::{Outcome, Stage, as_root, child, outcome_of, passes};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

crate::tests!(a_holder_that_a_restore_put_into_another_time_namespace_keeps_its_lock);

/// Gives the record of the lock's holder another start time, as if the holder had been restored
/// since.
fn restore_holder(stage: &Stage) {
    const IMAGE: usize = 16;
    const TICKS: u64 = 500 << 24;
    let lock = std::ptr::from_ref(&stage.lock).cast::<u8>();
    // SAFETY: this is the image in the owner record of the mutex, an atomic word in its memory.
    let image = unsafe { &*lock.add(IMAGE).cast::<AtomicU64>() };
    let recorded = image.fetch_sub(TICKS, SeqCst);
    assert!(recorded > TICKS, "not a process image: {recorded:#x}");
}

fn a_holder_that_a_restore_put_into_another_time_namespace_keeps_its_lock() {
    as_root();
    let stage = Stage::anonymous();
    let between = child(|| {
        // CLONE_NEWTIME (Linux 5.6) has no name in nix: the children get a clock of their own.
        // SAFETY: the call takes a number only.
        let answer = unsafe { libc::unshare(libc::CLONE_NEWTIME) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        passes(&child(|| stage.hold()));
    });
    stage.meet(&between);
    restore_holder(&stage);
    assert_eq!(
        outcome_of(stage.lock.lock_timeout(Duration::from_secs(1))),
        Outcome::TimedOut
    );
    assert_eq!(outcome_of(stage.lock.try_lock()), Outcome::WouldBlock);
    stage.over.set();
    passes(&between);
    assert_eq!(outcome_of(stage.lock.lock()), Outcome::Unpoisoned);
}
