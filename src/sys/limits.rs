//! The soft limits of the process: `getrlimit(2)`.

/// How large the process may make files, in bytes (`RLIMIT_FSIZE`). `None` means without limit.
pub(crate) fn file_size_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_FSIZE)
}

/// How many bytes the process may lock into memory (`RLIMIT_MEMLOCK`). `None` means without limit.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_MEMLOCK)
}

/// How many file descriptors the process may have (`RLIMIT_NOFILE`). `None` means without limit.
pub(crate) fn descriptor_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_NOFILE)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid for writes. The call cannot fail with a valid resource and address.
    unsafe { libc::getrlimit(resource, &mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
