//! What a spinning waiter asks of the processor.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tells the processor that this is a spin loop.
#[inline]
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// Lets another thread run on this CPU: `sched_yield(2)`.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}

/// How many spins pay, of so many that a spinning waiter would have: none on one CPU, where whoever holds the lock cannot run
/// meanwhile.
#[inline]
pub(crate) fn spin_limit(spins: u32) -> u32 {
    if spinning_pays() { spins } else { 0 }
}

/// Asked once a process: the CPUs that the thread which asks first may run on.
#[inline]
fn spinning_pays() -> bool {
    /// The generation of the process that asked, and how many there are.
    static ASKED: AtomicU64 = AtomicU64::new(0);
    const MOST: u64 = 1 << 10;
    let generation = super::current_thread().generation();
    let mut asked = ASKED.load(Relaxed);
    if asked / MOST != generation {
        asked = generation * MOST + cpus().min(MOST - 1);
        ASKED.store(asked, Relaxed);
    }
    asked % MOST > 1
}

/// How many CPUs the calling thread may run on: `sched_getaffinity(2)`, one call. (A quota of CPU time takes none away.)
fn cpus() -> u64 {
    let own = nix::unistd::Pid::from_raw(0);
    let Ok(set) = nix::sched::sched_getaffinity(own) else {
        // More than a `CpuSet` can tell.
        return u64::MAX;
    };
    let count = nix::sched::CpuSet::count();
    (0..count)
        .filter(|&cpu| set.is_set(cpu) == Ok(true))
        .count() as u64
}
