//! The soft limits of the process: `getrlimit(2)`.

use std::io;

/// How large the process may make files, in bytes (`RLIMIT_FSIZE`). `None` means without limit.
pub(crate) fn file_size_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_FSIZE)
}

/// How many bytes the process may lock into memory (`RLIMIT_MEMLOCK`). `None` means without limit.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_MEMLOCK)
}

/// What left no descriptor for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoDescriptors {
    /// How many the process may have (`RLIMIT_NOFILE`), or `None` if the limit of the whole system
    /// is reached.
    pub(crate) limit: Option<u64>,
}

impl NoDescriptors {
    /// Returns this if the call failed because the process (`EMFILE`) or the system (`ENFILE`) can
    /// open no more files.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let limit = match error.raw_os_error()? {
            libc::EMFILE => soft_limit(libc::RLIMIT_NOFILE),
            libc::ENFILE => None,
            _ => return None,
        };
        Some(NoDescriptors { limit })
    }
}

/// The type of a limit's number.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn soft_limit(resource: Resource) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid for writes. The call cannot fail with a valid resource and address.
    unsafe { libc::getrlimit(resource, &mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
