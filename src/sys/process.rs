//! Processes: fork, and children identified by a pidfd.

use super::Deadline;
use super::kernel::Feature;
use super::timer_slack::ShortSlack;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Asks the kernel whether the thread exists. This works without `/proc`. `EPERM` means that the
/// thread exists and belongs to another user.
pub(super) fn thread_exists(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 is not sent; the kernel only checks whether the thread exists.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Registers `handler` to be called in each child of a `fork(3)`: `pthread_atfork(3)`. (`_Fork` and
/// a bare `clone` call no handlers.)
pub(super) fn at_fork_in_the_child(handler: extern "C" fn()) {
    // SAFETY: the handler is a function that lives as long as the process image. (If there is no
    // memory, the handler is not registered; it is only the first of two safeguards.)
    unsafe { libc::pthread_atfork(None, None, Some(handler)) };
}

/// `fork(2)`. Returns `None` in the child, and the id of the child in the parent.
///
/// # Safety
///
/// The contract of [`crate::fork::spawn_unchecked`] applies.
pub(crate) unsafe fn fork() -> io::Result<Option<u32>> {
    // SAFETY: guaranteed by the caller.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        id => Ok(Some(id as u32)),
    }
}

/// `_exit(2)`: ends the process without calling the `atexit` handlers, which belong to the parent.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// `pidfd_open(2)`.
pub(crate) fn pidfd_open(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) })
}

/// Returns the number of the process's own PID namespace, without `/proc`:
/// `ioctl(PIDFD_GET_PID_NAMESPACE)`, Linux 6.11.
pub(super) fn own_pid_namespace() -> io::Result<u32> {
    const PIDFD_GET_PID_NAMESPACE: u16 = 0xff05; // _IO(0xff, 5) of linux/pidfd.h
    if Feature::NamespaceOfPidfd.is_hidden() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let pidfd = pidfd_open(std::process::id())?;
    // SAFETY: this ioctl takes integers.
    let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_PID_NAMESPACE.into(), 0) };
    let namespace = fs::File::from(owned(fd.into())?);
    Ok(std::os::unix::fs::MetadataExt::ino(&namespace.metadata()?) as u32)
}

/// Mounts a new `/proc` of the process's own PID namespace nowhere, and returns its root:
/// `fsmount(2)`, Linux 5.2. Only root may do so.
pub(super) fn mount_proc_nowhere() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // A filter may kill the process for these calls.
    // SAFETY: this operation of prctl(2) has no further arguments.
    if unsafe { libc::prctl(libc::PR_GET_SECCOMP) } != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: the name is a string that ends in a zero byte.
    let context =
        owned(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) })?;
    let (fd, create) = (context.as_raw_fd(), FSCONFIG_CMD_CREATE);
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes no key and no value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, fd, create, none, none, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fsmount(2) takes integers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, 0) })
}

/// Takes over the descriptor that a system call has just created, or returns its error.
fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created the descriptor, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
}

/// Reaps a child that ends by itself. If other code reaps it, or if the process ignores SIGCHLD,
/// waits until it has ended.
pub(crate) fn reap(id: u32) {
    // SAFETY: the arguments are an integer, a null pointer (no status is requested), and no flags.
    while unsafe { libc::waitpid(id as i32, std::ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Sends SIGKILL with `pidfd_send_signal(2)`. If the process has already ended, this is not an
/// error.
pub(crate) fn pidfd_kill(pidfd: &OwnedFd) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: with a null info, the kernel sends what kill(2) would send.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            no_info,
            0,
        )
    };
    match io::Error::last_os_error() {
        error if answer != 0 && error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// Waits until the process has ended, with `ppoll(2)`. Returns false if the timeout expires first.
pub(crate) fn pidfd_wait(pidfd: &OwnedFd, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.map(Deadline::after);
    loop {
        let left = deadline.map(|deadline| deadline.left().timespec());
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut poll = libc::pollfd {
            fd: pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let _slack = ShortSlack::new();
        // SAFETY: the arguments are one pollfd, a timespec or null, and no signal mask.
        match unsafe { libc::ppoll(&mut poll, 1, left, std::ptr::null()) } {
            0 => return Ok(false),
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            _ => return Ok(true),
        }
    }
}

/// Reaps a child that has ended: `waitid(P_PIDFD)`.
pub(crate) fn pidfd_reap(pidfd: &OwnedFd) -> io::Result<ExitStatus> {
    let info = waitid(pidfd, libc::WEXITED)?;
    // SAFETY: waitid has filled the fields of a SIGCHLD.
    let status = unsafe { info.si_status() };
    Ok(ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    }))
}

/// Returns an error if the process is not a child of this process that can still be reaped. Waits
/// until it has ended.
pub(super) fn pidfd_has_status(pidfd: &OwnedFd) -> io::Result<()> {
    waitid(pidfd, libc::WEXITED | libc::WNOWAIT).map(drop)
}

fn waitid(pidfd: &OwnedFd, options: libc::c_int) -> io::Result<libc::siginfo_t> {
    loop {
        // SAFETY: zero bytes are a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let pidfd = pidfd.as_raw_fd() as libc::id_t;
        // SAFETY: `info` is a siginfo_t that may be written.
        if unsafe { libc::waitid(libc::P_PIDFD, pidfd, &mut info, options) } == 0 {
            return Ok(info);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs `body` in a child with one thread.
    pub(in crate::sys) fn passes_in_a_child(body: impl FnOnce() + std::panic::UnwindSafe) {
        // SAFETY: the child does not use what other threads may have held, but the allocator,
        // whose state glibc and musl make whole in a child.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let passed = std::panic::catch_unwind(body).is_ok();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if passed { 0 } else { 101 }) }
        }
        let mut status = 0;
        // SAFETY: the child belongs to this test, and `status` is an int that may be written.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    fn only_a_child_that_has_ended_has_a_status() {
        // SAFETY: the child ends at once.
        let child = match unsafe { fork() }.unwrap() {
            None => exit_at_once(0),
            Some(child) => child,
        };
        let pidfd = pidfd_open(child).unwrap();
        pidfd_has_status(&pidfd).unwrap();
        // The status can still be read.
        assert!(pidfd_reap(&pidfd).unwrap().success());
        let of_none = pidfd_has_status(&pidfd).unwrap_err();
        assert_eq!(of_none.raw_os_error(), Some(libc::ECHILD));
        let stranger = pidfd_open(std::process::id()).unwrap();
        assert!(pidfd_has_status(&stranger).is_err());
    }
}
