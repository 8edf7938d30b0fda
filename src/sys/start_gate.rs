//! The gate at which a forked child waits until its parent can identify it.
//!
//! A child has no pidfd yet when `fork(2)` returns. If its parent then cannot open one, no child
//! must have run. So the child waits at the gate, which is a pair of connected sockets, one for
//! each side. The parent opens the pidfd and then sends a byte, which starts the child. If it
//! cannot, it closes the connection and the child ends. If the parent dies first, the connection is
//! closed too.
//!
//! If the child is killed while it waits, the parent sees its end of the connection closed. So the
//! parent knows that the pidfd is that of its child, even if other code reaps the child and the
//! kernel reuses the id.

use super::process::{pidfd_has_status, pidfd_open};
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The byte that starts the child.
static START: u8 = 1;

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
        let mut byte = [0];
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
    /// Returns the call that failed and its error: no pidfd can be opened, the child cannot be
    /// started, or the child was killed at the gate and other code has reaped it. The child then
    /// ends at the gate.
    pub(crate) fn start(self, id: u32) -> Result<OwnedFd, (&'static str, io::Error)> {
        let started = self.try_start(id);
        if started.is_err() {
            // The child ends when its read returns nothing. Dropping the socket would not suffice
            // if another process has a copy of it.
            let _ = self.0.shutdown(Shutdown::Both);
        }
        started
    }

    fn try_start(&self, id: u32) -> Result<OwnedFd, (&'static str, io::Error)> {
        let pidfd = pidfd_open(id).map_err(|error| ("pidfd_open", error))?;
        // The child cannot leave the gate. If its socket is open after the pidfd was opened, it had
        // the id until then.
        if self.is_child_waiting() {
            match self.send_start() {
                // It was killed meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                sent => return sent.map(|()| pidfd).map_err(|error| ("send", error)),
            }
        }
        // It was killed. It must still be a child of this process, so that the pidfd is its own.
        let is_child = pidfd_has_status(&pidfd);
        is_child.map(|()| pidfd).map_err(|error| ("waitid", error))
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

    fn send_start(&self) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the buffer is one byte. MSG_NOSIGNAL: there is no SIGPIPE.
        let sent = unsafe { libc::send(fd, (&raw const START).cast(), 1, libc::MSG_NOSIGNAL) };
        match sent {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
