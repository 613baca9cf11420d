//! A connection's stream: read at once while the lookout knows it readable, and awaited in both places where the
//! executor's thread may wait.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};

use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::net::RecvFlags;

use super::lookout::{Lookout, Watch};

/// A TCP stream of this thread's executor.
pub(super) struct Stream {
    // Dropped before the descriptor is closed.
    watch: Watch,
    descriptor: BorrowedFd<'static>,
    stream: TcpStream,
}

impl Stream {
    pub(super) fn new(stream: TcpStream) -> io::Result<Stream> {
        // SAFETY: `stream` owns the descriptor, lives as long as the struct that this becomes part of, and is
        // dropped after its other fields.
        let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        Ok(Stream { watch: Lookout::watch(descriptor, false)?, descriptor, stream })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.watch.is_readable() {
            match rustix::net::recv(self.descriptor, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((bytes, _)) => {
                    if 0 < bytes && bytes < buffer.len() {
                        self.watch.drained();
                    }
                    return Poll::Ready(Ok(bytes));
                }
                Err(rustix::io::Errno::AGAIN) => self.watch.drained(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        // The reactor first: what it finds is read at once.
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if outcome.is_pending() {
            self.watch.await_reading(cx);
        }
        outcome
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if outcome.is_pending() {
            self.watch.await_writing(cx);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
