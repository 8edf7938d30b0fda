//! The socket that the parent binds and all workers accept from.

use crate::signals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The pause after an accept that failed for lack of descriptors or memory.
const SHORTAGE: Duration = Duration::from_millis(20);

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bind = || {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            // A worker that polls a connection may find that another worker has already accepted
            // it.
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?.as_socket();
            let address = address.expect("an internet socket has an internet address");
            Ok(Listener { socket, address })
        };
        bind().map_err(|error: io::Error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot listen on {address}: {error}. Choose another address with --listen"
                ),
            )
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts the next connection. Returns `None` if there is none, or no descriptor or memory for
    /// it.
    pub fn accept(&self) -> io::Result<Option<TcpStream>> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => {
                    socket.set_tcp_nodelay(true)?;
                    return Ok(Some(socket.into()));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(None),
                    // The worker must not exit: its replacement would exit for the same reason, in
                    // a fork loop.
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        signals::pause(SHORTAGE);
                        return Ok(None);
                    }
                    // An error of one connection, which is gone. Linux reports pending network
                    // errors of the new connection here too: see accept(2).
                    Some(
                        libc::EINTR
                        | libc::ECONNABORTED
                        | libc::EPERM
                        | libc::EPROTO
                        | libc::ENOPROTOOPT
                        | libc::EOPNOTSUPP
                        | libc::ENETDOWN
                        | libc::ENETUNREACH
                        | libc::EHOSTDOWN
                        | libc::EHOSTUNREACH
                        | libc::ENONET
                        | libc::ETIMEDOUT,
                    ) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Returns whether a connection waits to be accepted.
    pub fn has_pending_connection(&self) -> bool {
        let mut readable = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut readable, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Admits no new connections. Connections that have arrived can still be accepted, and
    /// handshakes in progress still complete. Closing the socket instead would break both.
    ///
    /// A filter makes the kernel drop SYN segments for this socket. A new client retries, and is
    /// refused once the socket is closed. If a client's SYN was answered before, the client may
    /// already be connected from its side but not yet from this side. So the socket must stay open
    /// as long as the last segment of a handshake can be in flight.
    pub fn refuse_new_connections(&self) -> io::Result<()> {
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        let load = |what| {
            SockFilter::new(
                (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16,
                0,
                0,
                what,
            )
        };
        let skip_unless = |bits| {
            SockFilter::new(
                (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
                0,
                1,
                bits,
            )
        };
        let keep = |bytes| SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes);
        self.socket
            .attach_filter(&[load(FLAGS), skip_unless(SYN), keep(0), keep(u32::MAX)])
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
