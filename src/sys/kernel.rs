//! Features of the kernel that not every supported one has.
//!
//! Each caller tries the call and does without it if the kernel refuses. Nothing depends on the
//! version that the kernel reports: distributions add features to old versions, and a system call
//! filter may deny any call.

/// A feature, with the version of Linux that introduced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    /// `FUTEX_LOCK_PI2`: waits for a priority-inheriting lock by the monotonic clock.
    FutexLockPi2,
    /// `futex_waitv(2)`: waits for any of several words.
    FutexWaitv,
    /// `MFD_NOEXEC_SEAL`: memory files that cannot be executed.
    MemfdNoExecSeal,
    /// `STATX_MNT_ID_UNIQUE`: an id of a mount that no other mount gets later.
    UniqueMountId,
    /// `PIDFD_GET_PID_NAMESPACE`: the PID namespace of a process, without `/proc`.
    NamespaceOfPidfd,
}

impl Feature {
    #[cfg(any(test, feature = "assume-kernel"))]
    fn since(self) -> (u32, u32) {
        match self {
            Feature::FutexLockPi2 => (5, 14),
            Feature::FutexWaitv => (5, 16),
            Feature::MemfdNoExecSeal => (6, 3),
            Feature::UniqueMountId => (6, 8),
            Feature::NamespaceOfPidfd => (6, 11),
        }
    }

    /// Returns whether the feature must not be used, because a test assumes an older kernel.
    #[cfg(not(feature = "assume-kernel"))]
    #[inline(always)]
    pub(super) fn is_hidden(self) -> bool {
        false
    }

    /// Returns whether the feature must not be used, because the environment variable
    /// `PSHARED_ASSUME_KERNEL` names an older kernel.
    #[cfg(feature = "assume-kernel")]
    pub(super) fn is_hidden(self) -> bool {
        self.since() > assumed::kernel()
    }
}

#[cfg(feature = "assume-kernel")]
mod assumed {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// The version in `PSHARED_ASSUME_KERNEL`, or the latest possible one.
    pub(super) fn kernel() -> (u32, u32) {
        // The variable is read once, so that a child of a fork does not read the environment.
        static KERNEL: AtomicU64 = AtomicU64::new(0);
        let mut known = KERNEL.load(Relaxed);
        if known == 0 {
            let (major, minor) = match std::env::var("PSHARED_ASSUME_KERNEL") {
                Ok(text) => super::parse(&text).unwrap_or_else(|| {
                    panic!("PSHARED_ASSUME_KERNEL={text:?} is not a version of Linux such as 5.14")
                }),
                Err(_) => (u32::MAX, u32::MAX),
            };
            known = u64::from(major) << 32 | u64::from(minor);
            KERNEL.store(known, Relaxed);
        }
        ((known >> 32) as u32, known as u32)
    }
}

/// Parses a version such as `5.14`.
#[cfg(any(test, feature = "assume-kernel"))]
fn parse(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let major = major.parse().ok().filter(|major| *major > 0)?;
    Some((major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_two_numbers() {
        assert_eq!(parse("5.14"), Some((5, 14)));
        for text in ["", "5", "5.", ".14", "0.1", "5.14.2", "new"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn features_are_ordered_by_version_and_not_by_digits() {
        assert!(Feature::NamespaceOfPidfd.since() > parse("6.9").unwrap());
        assert!(Feature::FutexWaitv.since() > parse("5.9").unwrap());
    }
}
