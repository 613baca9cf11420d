//! Accepting peers: one listening socket a node, whose connections any shard may take over.

use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, FromRawFd, IntoRawFd},
};

use glommio::net::{AcceptedTcpStream, TcpListener};
use socket2::{Domain, Protocol, SockAddr, Type};

use super::{
    executor::io_error,
    lookout::{Lookout, Watch},
};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A socket that listens, and is not on a shard yet.
pub(crate) struct BoundListener {
    socket: socket2::Socket,
    address: SocketAddr,
}

impl BoundListener {
    /// Listens on an address that nobody else listens on. Port 0 takes a free one.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<BoundListener> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A node that is started again must not wait for connections of its last life to time out.
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the socket has no internet address"))?;
        Ok(BoundListener { socket, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Brings it onto this thread's executor.
    pub(crate) fn listen(self) -> Listener {
        // SAFETY: the descriptor is a listening TCP socket, and its ownership moves with `into_raw_fd`; the borrow
        // of it is for the watch, which is dropped before the listener.
        let (descriptor, listener) = unsafe {
            let descriptor = self.socket.into_raw_fd();
            (BorrowedFd::borrow_raw(descriptor), TcpListener::from_raw_fd(descriptor))
        };
        Listener { _watch: Lookout::watch(descriptor, true).ok(), listener }
    }
}

/// A listening socket on this thread's executor.
pub(crate) struct Listener {
    /// Who connects ends the thread's wait, so that the reactor sees it. Without a watch it is seen a little later.
    _watch: Option<Watch>,
    listener: TcpListener,
}

impl Listener {
    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        self.listener.shared_accept().await.map(Accepted).map_err(io_error)
    }
}

/// A connection that was accepted, on its way to the shard that takes it.
pub(crate) struct Accepted(pub(super) AcceptedTcpStream);
