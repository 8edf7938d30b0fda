//! Whether the machine has been rebooted since a file was last used.
//!
//! The question arises only for a file without users. While a process holds the shared `flock`, all
//! users run on one kernel: remote file systems are refused, and a kernel's locks end with it. So
//! no evidence can speak against a file in use, or against a memfd.
//!
//! Evidence, in the order of the decision:
//!
//! | evidence | what it shows |
//! |---|---|
//! | both boot ids are known | the same boot if they are equal, another one if not |
//! | the file is [marked](boot::mark) | the same boot: a reboot removes the mark |
//! | both boot times are known | the same boot if they agree, another one if not |
//! | nothing | nothing, which counts as another boot |
//!
//! An id is known only if the kernel itself shows it, so it is the same for every view of the
//! machine. It comes first, because it belongs to the bytes of the file. The mark belongs to the
//! inode: it stays if a backup of an earlier boot is copied into the file.
//!
//! The mark needs no `/proc`, so views of one machine take turns without a false report: a service
//! with a `/proc` of processes only, a container with a boot id of its own, and their host. The
//! kernel may drop the mark when it drops an unused inode. Then the clocks decide.
//!
//! A boot time is the difference of the settable clock and the boot clock, corrected by the offset
//! of the time namespace. Within a boot it changes only if the clock is stepped: adjustments of the
//! rate and suspensions change both clocks alike. Two boots start further apart than [`TOLERANCE`],
//! so a clock that is right distinguishes them. A boot time is known only if the kernel's clock was
//! synchronized, and no seccomp filter may kill the process for asking. Another clock is no
//! evidence: without a battery it may start at the same saved time, at the same point of each boot.
//!
//! An error in one direction is harmless: if the same boot counts as another one, the locks report
//! a death, and the data is checked once more than necessary. The error in the other direction
//! returns torn data as whole. So everything in doubt counts as another boot. The opener then marks
//! the file, and the next one trusts it.

use crate::sys::boot::{self, BootTime};

/// How far two readings of one boot time may differ, in nanoseconds beyond their uncertainties.
const TOLERANCE: u64 = 1_000_000;

/// Whether the machine has been rebooted since the file was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::memory) enum Boot {
    /// It has not been rebooted: everything that was written is there.
    Same,
    /// It has been rebooted, or this is not known. It may have stopped at any instant, with only
    /// some of the pages on the disk.
    Changed,
}

/// What is known about a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::memory) struct BootRecord {
    pub(in crate::memory) id: Option<u128>,
    pub(in crate::memory) time: Option<BootTime>,
}

impl BootRecord {
    /// Returns what this process can find out about the current boot.
    pub(in crate::memory) fn current() -> Self {
        BootRecord {
            id: boot::boot_id(),
            time: BootTime::read(),
        }
    }

    /// Returns this, completed by what an older record of the same boot knows.
    pub(in crate::memory) fn or(self, older: BootRecord) -> Self {
        BootRecord {
            id: self.id.or(older.id),
            time: self.time.or(older.time),
        }
    }

    /// Decides whether the boot in which this was recorded is that of `now`. `marked` says whether
    /// the file has the mark of the current boot.
    pub(in crate::memory) fn compared_with(&self, now: &BootRecord, marked: bool) -> Boot {
        let same = if let (Some(recorded), Some(id)) = (self.id, now.id) {
            recorded == id
        } else if marked {
            true
        } else if let (Some(recorded), Some(time)) = (self.time, now.time) {
            agree(recorded, time)
        } else {
            false
        };
        if same { Boot::Same } else { Boot::Changed }
    }
}

/// Returns whether two readings, of which `later` was made later, may be of one boot.
fn agree(earlier: BootTime, later: BootTime) -> bool {
    let latest = |time: BootTime| {
        (time.earliest)
            .saturating_add(time.uncertainty.into())
            .saturating_add(TOLERANCE)
    };
    earlier.earliest <= latest(later)
        && later.earliest <= latest(earlier)
        && earlier.elapsed <= later.elapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: BootRecord = BootRecord {
        id: None,
        time: None,
    };
    /// A time in 2026, in nanoseconds since 1970.
    const START: u64 = 1_780_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn with_id(id: u128) -> BootRecord {
        BootRecord {
            id: Some(id),
            ..NOTHING
        }
    }

    fn started(earliest: u64, elapsed: u64) -> BootRecord {
        BootRecord {
            time: Some(BootTime {
                earliest,
                uncertainty: 100,
                elapsed,
            }),
            ..NOTHING
        }
    }

    fn both(id: u128, earliest: u64) -> BootRecord {
        BootRecord {
            id: Some(id),
            ..started(earliest, SECOND)
        }
    }

    #[test]
    fn a_mark_shows_the_same_boot_unless_two_known_ids_differ() {
        for recorded in [NOTHING, with_id(1), started(START, SECOND)] {
            for now in [NOTHING, with_id(1), started(START + SECOND, 0)] {
                assert_eq!(recorded.compared_with(&now, true), Boot::Same);
            }
        }
        assert_eq!(with_id(1).compared_with(&with_id(2), true), Boot::Changed);
    }

    #[test]
    fn two_known_ids_decide_whatever_the_clocks_show() {
        let decide = |recorded: BootRecord, now: BootRecord| recorded.compared_with(&now, false);
        assert_eq!(decide(with_id(1), with_id(1)), Boot::Same);
        assert_eq!(decide(with_id(1), with_id(2)), Boot::Changed);
        assert_eq!(decide(both(1, START), both(1, START + SECOND)), Boot::Same);
        assert_eq!(decide(both(1, START), both(2, START)), Boot::Changed);
    }

    #[test]
    fn the_clocks_decide_if_an_id_is_unknown() {
        let decide = |recorded: BootRecord, now: BootRecord| recorded.compared_with(&now, false);
        let recorded = started(START, 10 * SECOND);
        for (now, expected) in [
            (started(START, 10 * SECOND), Boot::Same),
            (started(START + TOLERANCE + 100, 11 * SECOND), Boot::Same),
            (started(START - TOLERANCE - 100, 11 * SECOND), Boot::Same),
            (started(START + TOLERANCE + 101, 11 * SECOND), Boot::Changed),
            (started(START - TOLERANCE - 101, 11 * SECOND), Boot::Changed),
            // The machine has not yet run as long as it had at the earlier reading.
            (started(START, 10 * SECOND - 1), Boot::Changed),
            (started(0, 11 * SECOND), Boot::Changed),
            (started(u64::MAX, 11 * SECOND), Boot::Changed),
            (NOTHING, Boot::Changed),
            (with_id(1), Boot::Changed),
        ] {
            assert_eq!(decide(recorded, now), expected, "{now:?}");
        }
        assert_eq!(decide(both(1, START), started(START, SECOND)), Boot::Same);
        assert_eq!(decide(started(START, SECOND), both(1, START)), Boot::Same);
    }

    #[test]
    fn an_unknown_boot_is_not_equal_to_an_unknown_boot() {
        for (recorded, now) in [
            (NOTHING, NOTHING),
            (NOTHING, with_id(1)),
            (with_id(1), NOTHING),
        ] {
            assert_eq!(recorded.compared_with(&now, false), Boot::Changed);
        }
    }
}
