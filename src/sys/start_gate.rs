//! The gate at which a forked child waits until its parent can identify it.
//!
//! A child has no pidfd yet when `fork(2)` returns. If its parent then cannot open one, no child
//! must have run. So the child waits at the gate, which is a pair of connected sockets, one for
//! each side. The parent opens the pidfd and then sends a byte: to start the child, or to end it.
//! If the parent dies first, its socket is closed and the child ends too.
//!
//! While the child waits, its end shows as a closed socket. So the parent knows that the pidfd is
//! that of its child, even if other code reaped the child and the kernel reused the id.

use super::process::{pidfd_has_status, pidfd_open};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const START: u8 = 1;
const END: u8 = 0;

/// Returns the two sides of a gate: `socketpair(2)`.
pub(crate) fn start_gate() -> io::Result<(ParentGate, ChildGate)> {
    let (parents, childs) = UnixStream::pair()?;
    let parent = std::process::id();
    Ok((ParentGate(parents), ChildGate(childs, parent)))
}

/// The child's side.
#[derive(Debug)]
pub(crate) struct ChildGate(UnixStream, u32);

impl ChildGate {
    /// Waits until the parent decides. Returns whether the child may start.
    pub(crate) fn wait(self) -> bool {
        let ChildGate(mut socket, parent) = self;
        // A child that another thread of the parent forks at the same time has a copy of the
        // parent's socket until it ends or calls `exec`. So the closing of the socket may not show
        // that the parent has died, and the wait is interrupted to check that.
        let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
        let mut byte = [END];
        loop {
            match socket.read(&mut byte) {
                Ok(read) => return read == 1 && byte == [START],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // 0: the parent is in an outer PID namespace.
                    if ![parent, 0].contains(&std::os::unix::process::parent_id()) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

/// The parent's side.
#[derive(Debug)]
pub(crate) struct ParentGate(UnixStream);

impl ParentGate {
    /// Opens a pidfd of the child `id`, which waits at this gate, and starts the child.
    ///
    /// # Errors
    ///
    /// Returns an error if no pidfd can be opened, or if the child was killed at the gate and other
    /// code has reaped it. The child then ends at the gate.
    pub(crate) fn start(self, id: u32) -> io::Result<OwnedFd> {
        let opened = pidfd_open(id).and_then(|pidfd| {
            // The child cannot leave the gate. If its socket is open after the pidfd was opened, it
            // had the id until then. If it has ended, it must still be this process's child.
            if self.is_child_waiting() {
                Ok(pidfd)
            } else {
                pidfd_has_status(&pidfd).map(|()| pidfd)
            }
        });
        self.send(if opened.is_ok() { START } else { END });
        opened
    }

    fn is_child_waiting(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the argument is one pollfd; with the timeout 0, the call does not wait.
        while unsafe { libc::poll(&mut poll, 1, 0) } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        poll.revents == 0
    }

    fn send(&self, decision: u8) {
        let fd = self.0.as_raw_fd();
        // A child that was killed at the gate needs no decision. MSG_NOSIGNAL: there is no SIGPIPE.
        // SAFETY: the buffer is one byte.
        unsafe { libc::send(fd, (&raw const decision).cast(), 1, libc::MSG_NOSIGNAL) };
    }
}
