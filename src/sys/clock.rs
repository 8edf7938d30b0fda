//! The monotonic clock: deadlines, and the recheck timer of waiters.

use super::timer_slack::ShortSlack;
use std::time::{Duration, Instant};

/// A point in time on `CLOCK_MONOTONIC`, as the time since the start of that clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// Returns the deadline `timeout` from now. If the clock cannot express it, the deadline lies
    /// in the far future.
    pub(crate) fn after(timeout: Duration) -> Self {
        // A kernel timespec holds its seconds in an i64. The bound also keeps every later sum from
        // overflowing.
        const FAR: Duration = Duration::from_secs(i64::MAX as u64 / 4);
        Deadline(now(libc::CLOCK_MONOTONIC).saturating_add(timeout).min(FAR))
    }

    /// Returns the deadline at `instant`, or the current time if `instant` has passed.
    pub(crate) fn at(instant: Instant) -> Self {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Returns the current time, for a caller that does not wait.
    pub(crate) fn now() -> Self {
        Self::after(Duration::ZERO)
    }

    pub(crate) fn has_passed(self) -> bool {
        now(libc::CLOCK_MONOTONIC) >= self.0
    }

    /// Returns the time until the deadline.
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_sub(now(libc::CLOCK_MONOTONIC))
    }

    /// Returns the time until the deadline, as a deadline of a clock that starts now. Relative
    /// timeouts are made from it.
    pub(crate) fn left(self) -> Self {
        Deadline(self.remaining())
    }

    /// Sleeps until the deadline.
    pub(crate) fn sleep(self) {
        let _slack = ShortSlack::new();
        std::thread::sleep(self.remaining());
    }

    pub(crate) fn timespec(self) -> libc::timespec {
        libc::timespec {
            tv_sec: self.0.as_secs() as i64,
            tv_nsec: self.0.subsec_nanos().into(),
        }
    }
}

/// Schedules the liveness checks of a waiter.
///
/// No sleep lasts longer than a second without a check. The first intervals are shorter, so that
/// the death of an owner that the kernel left unmarked is found soon.
#[derive(Debug)]
pub(crate) struct RecheckTimer {
    next: Duration,
    end: Deadline,
}

impl RecheckTimer {
    const FIRST: Duration = Duration::from_millis(62);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        RecheckTimer {
            next: Self::FIRST,
            end: Deadline(Duration::ZERO),
        }
    }

    /// Returns when the waiter must next wake up: at the end of the current recheck interval, or at
    /// `deadline` if that is earlier.
    ///
    /// A wake or a signal does not end a recheck interval. The next interval is twice as long, up
    /// to a second.
    pub(crate) fn next_deadline(&mut self, deadline: Option<Deadline>) -> Deadline {
        if self.is_due() {
            self.end = Deadline::after(self.next);
            self.next = (self.next * 2).min(Self::LONGEST);
        }
        let end = self.end;
        deadline.map_or(end, |deadline| deadline.min(end))
    }

    /// Returns whether a check is due, however the sleep ended.
    pub(crate) fn is_due(&self) -> bool {
        self.end.has_passed()
    }
}

/// Reads `CLOCK_MONOTONIC_COARSE` in milliseconds. It is very cheap to read and advances every few
/// milliseconds.
pub(crate) fn coarse_milliseconds() -> u64 {
    now(libc::CLOCK_MONOTONIC_COARSE).as_millis() as u64
}

/// Reads the monotonic clock in nanoseconds.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn nanoseconds() -> u64 {
    now(libc::CLOCK_MONOTONIC).as_nanos() as u64
}

/// Converts `deadline` to the settable clock (`CLOCK_REALTIME`). Returns one second from now if
/// that is earlier.
pub(super) fn realtime_slice(deadline: Deadline) -> libc::timespec {
    let wait = deadline.remaining().min(Duration::from_secs(1));
    Deadline(now(libc::CLOCK_REALTIME) + wait).timespec()
}

/// Reads a clock.
pub(super) fn now(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec that clock_gettime(2) may write.
    let answer = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(
        answer,
        0,
        "clock_gettime({clock}): {}",
        std::io::Error::last_os_error()
    );
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_beyond_the_clock_is_the_far_future_and_a_valid_timespec() {
        let deadline = Deadline::after(Duration::MAX);
        assert!(!deadline.has_passed());
        let time = deadline.timespec();
        assert!(time.tv_sec > 0 && (0..1_000_000_000).contains(&time.tv_nsec));
    }

    #[test]
    fn a_timeout_keeps_its_nanoseconds() {
        let at = Deadline(Duration::new(7, 123_456_789)).timespec();
        assert_eq!((at.tv_sec, at.tv_nsec), (7, 123_456_789));
    }

    #[test]
    fn a_sleep_ends_when_its_deadline_has_passed() {
        let soon = Deadline::after(Duration::from_millis(1));
        soon.sleep();
        assert!(soon.has_passed());
    }

    #[test]
    fn the_coarse_clock_lags_the_monotonic_clock_slightly() {
        let before = now(libc::CLOCK_MONOTONIC).as_millis() as u64;
        let coarse = coarse_milliseconds();
        let after = now(libc::CLOCK_MONOTONIC).as_millis() as u64;
        assert!(before <= coarse + 1_000 && coarse <= after);
    }

    #[test]
    fn a_wait_by_the_realtime_clock_lasts_at_most_one_second() {
        let moment = |time: libc::timespec| Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        for (timeout, most) in [(Duration::MAX, 1), (Duration::ZERO, 0)] {
            let deadline = Deadline::after(timeout);
            let before = now(libc::CLOCK_REALTIME);
            let until = moment(realtime_slice(deadline));
            let after = now(libc::CLOCK_REALTIME);
            let most = Duration::from_secs(most);
            assert!(before + most <= until && until <= after + most);
        }
    }

    #[test]
    fn recheck_intervals_double_up_to_one_second() {
        let mut timer = RecheckTimer::new();
        let mut lengths = vec![timer.next];
        for _ in 0..6 {
            timer.end = Deadline(Duration::ZERO);
            timer.next_deadline(None);
            lengths.push(timer.next);
        }
        assert_eq!(lengths.map_millis(), [62, 124, 248, 496, 992, 1000, 1000]);
    }

    #[test]
    fn an_interrupted_recheck_interval_continues_and_ends_on_time() {
        let mut timer = RecheckTimer::new();
        let end = timer.next_deadline(None);
        assert!(!timer.is_due());
        assert_eq!(
            timer.next_deadline(None),
            end,
            "a wake-up does not end the interval"
        );
        timer.end = Deadline::now();
        assert!(timer.is_due());
        assert!(timer.next_deadline(None) > end);
    }

    #[test]
    fn a_recheck_interval_ends_at_an_earlier_deadline_of_the_waiter() {
        let soon = Deadline::after(Duration::ZERO);
        assert_eq!(RecheckTimer::new().next_deadline(Some(soon)), soon);
        let late = Deadline::after(Duration::from_secs(3600));
        assert!(RecheckTimer::new().next_deadline(Some(late)) < late);
    }

    trait Millis {
        fn map_millis(self) -> Vec<u128>;
    }
    impl Millis for Vec<Duration> {
        fn map_millis(self) -> Vec<u128> {
            self.into_iter().map(|timer| timer.as_millis()).collect()
        }
    }
}
