//! One TCP connection: glommio's readiness, and non-blocking sends on the descriptor.

use std::{
    io,
    io::IoSlice,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::{executor::io_error, listener::Accepted};

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
    stream: TcpStream,
    sender: Rc<socket2::Socket>,
}

/// The sending side, which whoever fills the write buffer may use within a turn.
#[derive(Clone)]
pub(crate) struct SendHalf(Rc<socket2::Socket>);

impl Socket {
    /// Connects to one address within the timeout.
    pub(crate) async fn connect(address: SocketAddr, settings: &SocketSettings) -> io::Result<Socket> {
        let stream = TcpStream::connect_timeout(address, settings.connect_timeout).await.map_err(io_error)?;
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
        let sender = Rc::new(options.try_clone()?);
        Ok(Socket { stream, sender })
    }

    pub(crate) fn send_half(&self) -> SendHalf {
        SendHalf(Rc::clone(&self.sender))
    }

    /// Reads what is there, or has the task woken when there is something. Safe to abandon.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }

    /// Sends what the kernel takes, or has the task woken when it takes some.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
        SendHalf(Rc::new(socket))
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, SEND_FLAGS)
    }

    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored_with_flags(slices, SEND_FLAGS)
    }
}

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
