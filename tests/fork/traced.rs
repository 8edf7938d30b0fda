//! The system calls of a child as ptrace(2) reports them. They show what ended a sleep.

use crate::harness::skip;
use crate::steps::{sleeps_in, until_idly};
use crate::support::state;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pshared::fork::Child;
use std::io;

/// A traced child. Its first thread stops before and after each of its system calls. The child is
/// killed if this process dies.
pub struct Traced(u32);

/// The type of the number of a request.
#[cfg(target_env = "gnu")]
type Request = libc::c_uint;
#[cfg(target_env = "musl")]
type Request = libc::c_int;

/// The point at which the child has stopped: before a call with this number, after a call that
/// returned this value, or elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Before(libc::c_long),
    After(i64),
    Elsewhere,
}

impl Traced {
    /// Attaches to a child of this process and stops it. Skips the test if that is not permitted.
    pub fn seize(child: &Child) -> Self {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        let traced = Traced(child.id());
        if let Err(error) = traced.request(libc::PTRACE_SEIZE, 0, options as usize) {
            skip(&format!("a child may not be traced here: {error}"));
        }
        traced.request(libc::PTRACE_INTERRUPT, 0, 0).unwrap();
        assert_eq!(traced.stop(), Stop::Elsewhere);
        traced
    }

    /// Lets the child run until it sleeps in one of these calls.
    pub fn sleeps_in_any(&self, calls: &[libc::c_long]) {
        loop {
            self.go_on();
            let Stop::Before(call) = self.stop() else {
                continue;
            };
            self.go_on();
            if !calls.contains(&call) {
                self.stop();
                continue;
            }
            let sleeps = || state(self.0) == Some('S') && sleeps_in(self.0, call);
            let mut has_stopped = false;
            until_idly(|| {
                has_stopped = state(self.0) == Some('t');
                has_stopped || sleeps()
            });
            if !has_stopped {
                return;
            }
            self.stop();
        }
    }

    /// Waits until the system call in which the child sleeps returns. Detaches from the child and
    /// returns the call's return value.
    pub fn wakes(self) -> i64 {
        let Stop::After(answer) = self.stop() else {
            panic!("the child was not in a system call");
        };
        self.request(libc::PTRACE_DETACH, 0, 0).unwrap();
        answer
    }

    fn go_on(&self) {
        self.request(libc::PTRACE_SYSCALL, 0, 0).unwrap();
    }

    fn stop(&self) -> Stop {
        const ENTRY: u8 = 1; // PTRACE_SYSCALL_INFO_ENTRY
        const EXIT: u8 = 2; // PTRACE_SYSCALL_INFO_EXIT
        let child = Pid::from_raw(self.0.cast_signed());
        let status = waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
        let is_stop = !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        assert!(is_stop, "the child has ended: {status:?}");
        // `struct ptrace_syscall_info`: its kind is in the first byte, and the call's number or
        // return value is at byte 24.
        let mut info = [0_u64; 11];
        let size = size_of_val(&info);
        const GET_SYSCALL_INFO: Request = 0x420e; // PTRACE_GET_SYSCALL_INFO
        self.request(GET_SYSCALL_INFO, size, info.as_mut_ptr().addr())
            .unwrap();
        match info[0].to_ne_bytes()[0] {
            ENTRY => Stop::Before(info[3].cast_signed()),
            EXIT => Stop::After(info[3].cast_signed()),
            _ => Stop::Elsewhere,
        }
    }

    fn request(&self, request: Request, address: usize, data: usize) -> io::Result<()> {
        // SAFETY: of the requests made here, only one writes. It writes at most `address` bytes to
        // `data`. The caller passes a buffer of that size there.
        let answer = unsafe { libc::ptrace(request, self.0, address, data) };
        match answer {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}
