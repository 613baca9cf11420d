//! TLS over a socket: rustls in the middle, which seals what is sent and opens what is read.
//!
//! The kernel is offered ciphertext again until it has taken it; only then is more plaintext sealed. So
//! what is sealed and not sent is at most [`SEALED_BYTES_MAX`], and what was sealed counts as
//! sent to whoever keeps account of it.

use std::{
    io::{self, IoSlice, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_lite::io::{AsyncRead, AsyncWrite};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, pki_types::ServerName};
#[cfg(not(test))]
use socket2::Socket as Outlet;

#[cfg(test)]
use super::simulated::Outlet;
use super::socket::send_now;

/// Ciphertext that one read takes from the kernel, at most.
const CIPHERTEXT_READ_BYTES: usize = 64 << 10;
/// Bytes that are sealed ahead of the kernel, at most.
const SEALED_BYTES_MAX: usize = 64 << 10;

/// How a connection is protected, once the handshake is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptedTls {
    /// The version, such as `TLS 1.3`.
    pub version: String,
    /// The certificates that the server showed, its own first, in DER.
    pub certificates: Vec<Vec<u8>>,
}

/// One TLS connection without its socket.
pub(super) struct Tls {
    connection: ClientConnection,
    /// Ciphertext from the socket that rustls has not taken yet.
    ciphertext: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Tls {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Tls, rustls::Error> {
        let mut connection = ClientConnection::new(config, name)?;
        connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
        let ciphertext = vec![0; CIPHERTEXT_READ_BYTES].into_boxed_slice();
        Ok(Tls { connection, ciphertext, start: 0, end: 0 })
    }

    pub(super) fn accepted(&self) -> Option<AcceptedTls> {
        let version = match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        };
        let shown = self.connection.peer_certificates().unwrap_or_default();
        Some(AcceptedTls { version, certificates: shown.iter().map(|one| one.to_vec()).collect() })
    }

    /// Goes on with the handshake until it is over and all of it is sent.
    pub(super) fn poll_handshake<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let is_flushed = self.poll_flush(stream, cx)?.is_ready();
            if !self.connection.is_handshaking() {
                return if is_flushed { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if self.start == self.end {
                match Pin::new(&mut *stream).poll_read(cx, &mut self.ciphertext) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(Ok(bytes)) => (self.start, self.end) = (0, bytes),
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Err(error) = self.open() {
                // The server is told why, if the kernel takes it at once.
                let _unheard = self.poll_flush(stream, cx);
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Reads what is there into `buffer`, until it is full or the kernel has no more. 0 is the end.
    pub(super) fn poll_read<S>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        let mut filled = 0;
        loop {
            match self.connection.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Poll::Ready(Ok(filled)),
                Ok(bytes) => {
                    filled += bytes;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The server has closed without a word of farewell, as servers do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(filled)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.start == self.end {
                if filled > 0 {
                    return Poll::Ready(Ok(filled));
                }
                match Pin::new(&mut *stream).poll_read(cx, &mut self.ciphertext) {
                    Poll::Ready(Ok(bytes)) => (self.start, self.end) = (0, bytes),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
                if self.end == 0 {
                    return Poll::Ready(Ok(0));
                }
            }
            match self.open() {
                Ok(()) => {}
                // It comes again at the next read; what came before it is good.
                Err(_) if filled > 0 => return Poll::Ready(Ok(filled)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives rustls some ciphertext, of which there is some.
    fn open(&mut self) -> io::Result<()> {
        let mut ciphertext = &self.ciphertext[self.start..self.end];
        let taken = self.connection.read_tls(&mut ciphertext)?;
        // It takes nothing after the server's farewell.
        self.start = if taken == 0 { self.end } else { self.start + taken };
        self.connection
            .process_new_packets()
            .map(drop)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Seals and sends what the kernel takes. Whatever is sealed counts as sent, and an error after that is
    /// left to the next call: some of it may be on its way.
    pub(super) fn send(&mut self, socket: &Outlet, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(socket)?;
        let sealed = self.connection.writer().write_vectored(slices)?;
        let _again_at_the_next_call = self.flush(socket);
        Ok(sealed)
    }

    /// Sends what is sealed.
    pub(super) fn flush(&mut self, socket: &Outlet) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Now(socket))?;
        }
        Ok(())
    }

    /// The same by way of the reactor.
    pub(super) fn poll_send<S>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        match self.poll_flush(stream, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sealed = self.connection.writer().write(bytes)?;
        let _again_at_the_next_call = self.poll_flush(stream, cx);
        Poll::Ready(Ok(sealed))
    }

    fn poll_flush<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Polled { stream, cx }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A socket that takes what it takes now.
struct Now<'a>(&'a Outlet);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send_now(self.0, &[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send_now(self.0, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that has the task woken when it takes no more.
struct Polled<'a, 'c, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'c>,
}

impl<S: AsyncWrite + Unpin> Write for Polled<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write(self.cx, bytes) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
