//! One TCP connection, plain or under TLS: glommio's readiness, and non-blocking sends on the descriptor.

use std::{
    cell::RefCell,
    io,
    io::IoSlice,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustls::{ClientConfig, pki_types::ServerName};
#[cfg(not(test))]
use socket2::Socket as Outlet;
use socket2::{SockRef, TcpKeepalive};

#[cfg(test)]
use super::simulated::{self, Outlet, Stream};
#[cfg(not(test))]
use super::stream::Stream;
use super::{
    executor::io_error,
    listener::Accepted,
    lookout::use_reactor,
    tls::{AcceptedTls, Tls},
};

/// What the kernel is told about a connection.
#[derive(Clone, Debug)]
pub(crate) struct SocketSettings {
    pub(crate) connect_timeout: Duration,
    /// How long written bytes may stay unacknowledged before the kernel gives the connection up.
    pub(crate) user_timeout: Duration,
    /// Silence after which the kernel probes.
    pub(crate) keepalive: Duration,
}

/// A connected stream.
pub(crate) struct Socket {
    stream: Stream,
    sender: Rc<Outlet>,
    tls: Option<Rc<RefCell<Tls>>>,
}

/// The sending side, which whoever fills the write buffer may use within a turn.
#[derive(Clone)]
pub(crate) struct SendHalf {
    socket: Rc<Outlet>,
    tls: Option<Rc<RefCell<Tls>>>,
}

impl Socket {
    /// Connects to one address within the timeout.
    pub(crate) async fn connect(address: SocketAddr, settings: &SocketSettings) -> io::Result<Socket> {
        #[cfg(test)]
        if let Some(connecting) = simulated::connect(address, settings) {
            let wire = connecting.await?;
            let sender = Rc::new(Outlet::Simulated(Rc::clone(&wire)));
            return Ok(Socket { stream: Stream::Simulated(wire), sender, tls: None });
        }
        let connecting = use_reactor();
        let stream = TcpStream::connect_timeout(address, settings.connect_timeout).await.map_err(io_error)?;
        drop(connecting);
        Socket::from_stream(stream, settings)
    }

    /// Takes over a connection that was accepted.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "its descriptor has one owner, though glommio copies it"
    )]
    pub(crate) fn from_accepted(accepted: Accepted, settings: &SocketSettings) -> io::Result<Socket> {
        Socket::from_stream(accepted.0.bind_to_executor(), settings)
    }

    fn from_stream(stream: TcpStream, settings: &SocketSettings) -> io::Result<Socket> {
        // SAFETY: `stream` owns the descriptor and outlives this borrow, which ends with this block.
        let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        let options = SockRef::from(&descriptor);
        options.set_tcp_nodelay(true)?;
        options.set_tcp_user_timeout(Some(settings.user_timeout))?;
        options.set_tcp_keepalive(
            &TcpKeepalive::new().with_time(settings.keepalive).with_interval(settings.keepalive),
        )?;
        let sender = options.try_clone()?;
        let stream = Stream::new(stream)?;
        #[cfg(test)]
        let sender = Outlet::from(sender);
        Ok(Socket { stream, sender: Rc::new(sender), tls: None })
    }

    /// Puts the socket under TLS, whatever was read and written before. A send half taken earlier stays plain.
    pub(crate) fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), rustls::Error> {
        self.tls = Some(Rc::new(RefCell::new(Tls::new(config, name)?)));
        Ok(())
    }

    /// Whether [`Socket::start_tls`] was called.
    pub(crate) fn is_under_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// How the connection is protected; `None` without TLS, and before the handshake is over.
    pub(crate) fn tls(&self) -> Option<AcceptedTls> {
        self.tls.as_ref()?.borrow().accepted()
    }

    /// Goes on with the handshake; ready when it is over. The error has a `rustls::Error` in it unless it
    /// is the socket's own.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(tls) => tls.borrow_mut().poll_handshake(&mut self.stream, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn send_half(&self) -> SendHalf {
        SendHalf { socket: Rc::clone(&self.sender), tls: self.tls.clone() }
    }

    /// Reads what is there, or has the task woken when there is something. Safe to abandon.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &self.tls {
            None => Pin::new(&mut self.stream).poll_read(cx, buffer),
            Some(tls) => tls.borrow_mut().poll_read(&mut self.stream, cx, buffer),
        }
    }

    /// Sends what the kernel takes, or has the task woken when it takes some. Of no bytes, under TLS, it
    /// sends what is sealed already.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &self.tls {
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Some(tls) => tls.borrow_mut().poll_send(&mut self.stream, cx, bytes),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The descriptor is shared with send halves, so closing one of them would not end the stream.
        let _gone_already = self.sender.shutdown(std::net::Shutdown::Both);
    }
}

impl SendHalf {
    #[cfg(test)]
    pub(crate) fn from_socket(socket: socket2::Socket) -> Self {
        SendHalf { socket: Rc::new(Outlet::from(socket)), tls: None }
    }

    /// Sends what the kernel takes now; under TLS what is sealed, of which the kernel may not have all yet.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.socket.send_with_flags(bytes, SEND_FLAGS),
            Some(tls) => tls.borrow_mut().send(&self.socket, &[IoSlice::new(bytes)]),
        }
    }

    /// The same of several pieces.
    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.tls {
            None => send_now(&self.socket, slices),
            Some(tls) => tls.borrow_mut().send(&self.socket, slices),
        }
    }

    /// Has the kernel take what is sealed, under TLS; "would block" if it does not take all.
    #[inline]
    pub(crate) fn flush(&self) -> io::Result<()> {
        match &self.tls {
            None => Ok(()),
            Some(tls) => tls.borrow_mut().flush(&self.socket),
        }
    }
}

/// Sends what the kernel takes without waiting.
pub(super) fn send_now(socket: &Outlet, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket.send_vectored_with_flags(slices, SEND_FLAGS)
}

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
