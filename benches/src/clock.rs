//! Clocks, and work of a chosen length.

use std::hint::black_box;

/// Returns the nanoseconds of the monotonic clock, which all processes share. A read through the
/// vDSO takes about 20 ns.
#[inline]
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Returns the nanoseconds of CPU time that the process has used.
pub fn cpu() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` may be written. Both clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Busy work, counted in steps of a chain of multiplications. It accesses no memory and calls no
/// function.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    steps: u32,
}

impl Work {
    #[inline]
    pub fn run(self) {
        let mut value = 1_u64;
        for _ in 0..self.steps {
            value = black_box(value.wrapping_mul(0x5851_f42d_4c95_7f2d));
        }
    }
}

/// The time of one step on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    step_ns: f64,
}

impl Pace {
    /// Measures the pace as the best of many tries, which is one without an interruption.
    pub fn measure() -> Self {
        const STEPS: u32 = 20_000;
        let best = (0..200)
            .map(|_| {
                let began = now();
                Work { steps: STEPS }.run();
                now() - began
            })
            .min()
            .unwrap_or(0);
        Pace {
            step_ns: (best as f64 / f64::from(STEPS)).max(0.01),
        }
    }

    pub fn work(self, ns: u32) -> Work {
        Work {
            steps: (f64::from(ns) / self.step_ns).round() as u32,
        }
    }
}
