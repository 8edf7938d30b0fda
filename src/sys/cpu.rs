//! The processor: spin hints, yielding and the number of available CPUs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Signals to the processor that this is a spin loop.
#[inline]
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// Lets another thread run on this CPU: `sched_yield(2)`.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}

/// Returns how many times a waiter should spin: `spins`, or 0 if only one CPU is available. On one
/// CPU the owner cannot run while the waiter spins.
#[inline]
pub(crate) fn spin_limit(spins: u32) -> u32 {
    if spinning_pays() { spins } else { 0 }
}

/// Returns whether more than one CPU is available. The CPUs are counted once per process: those on
/// which the first thread that asks may run.
#[inline]
fn spinning_pays() -> bool {
    /// The generation of the process that counted its CPUs, times `LIMIT`, plus the count.
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    const LIMIT: u64 = 1 << 10;
    let generation = super::current_thread().generation();
    let mut counted = COUNTED.load(Relaxed);
    if counted / LIMIT != generation {
        counted = generation * LIMIT + cpus().min(LIMIT - 1);
        COUNTED.store(counted, Relaxed);
    }
    counted % LIMIT > 1
}

/// Returns on how many CPUs the calling thread may run: one call of `sched_getaffinity(2)`. (A
/// quota of CPU time does not reduce the number.)
fn cpus() -> u64 {
    let own = nix::unistd::Pid::from_raw(0);
    let Ok(set) = nix::sched::sched_getaffinity(own) else {
        // There are more CPUs than a `CpuSet` can represent.
        return u64::MAX;
    };
    let count = nix::sched::CpuSet::count();
    (0..count)
        .filter(|&cpu| set.is_set(cpu) == Ok(true))
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    #[test]
    fn spinning_pays_on_several_cpus_only() {
        assert_eq!(spin_limit(5), if cpus() > 1 { 5 } else { 0 });
        crate::sys::process::tests::passes_in_a_child(|| {
            let mut one = CpuSet::new();
            // SAFETY: sched_getcpu(3) has no preconditions.
            let current = unsafe { libc::sched_getcpu() };
            one.set(current.cast_unsigned() as usize).unwrap();
            sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            assert_eq!((cpus(), spin_limit(5)), (1, 0));
        });
    }
}
