//! The socket that the parent binds and all workers accept from.

use crate::signals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long nobody is accepted where the machine has no room for it.
const SHORTAGE: Duration = Duration::from_millis(20);

/// A socket that listens.
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
            // Whoever sees a connection may find that another worker has it already.
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?.as_socket();
            let address = address.expect("a socket of the internet");
            Ok(Listener { socket, address })
        };
        bind().map_err(|error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen at {address}: {error}. Choose another by --listen"),
            )
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, if there is one and room for it.
    pub fn accept(&self) -> io::Result<Option<TcpStream>> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => {
                    socket.set_tcp_nodelay(true)?;
                    return Ok(Some(socket.into()));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(None),
                    // A worker that ended for this would be followed by one that ends for the same, as fast as they can be forked.
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        signals::pause(SHORTAGE);
                        return Ok(None);
                    }
                    // The fault of one connection, which is gone; those of its network are told here too: see accept(2).
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

    /// Whether a connection waits to be accepted.
    pub fn has_one(&self) -> bool {
        let mut readable = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut readable, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Lets no connection more in. Those that have come can be accepted, and those on their way in still come: a socket
    /// that is just closed would break both.
    ///
    /// The kernel drops segments with SYN that are for this socket. A client that comes now tries again, and is refused once the
    /// socket is closed. One whose SYN was answered before may be connected by its own account and not yet by this side's: the
    /// socket has to stay for as long as the last segment of a handshake is on its way.
    pub fn let_nobody_in(&self) -> io::Result<()> {
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
