//! The read buffer of the measuring side: what has come and is not yet used up.

use std::io::{self, Read};

use crate::wire::FRAME_BYTES_MAX;

/// How much one read asks for: enough to be few, small enough to stay in the cache.
const READ_BYTES: usize = 256 * 1024;

/// Bytes between a socket and [`crate::wire::first_frame`].
#[derive(Debug)]
pub struct Inbound {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { buffer: vec![0; READ_BYTES + FRAME_BYTES_MAX].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Inbound {
    /// What has come and is not used up.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Uses up the first `bytes`.
    ///
    /// # Panics
    /// If that is more than there is.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "{bytes} used of {}", self.end - self.start);
        self.start += bytes;
    }

    /// One read; 0 at the end of the stream. There is always room as long as frames are used up when they
    /// are complete, since an incomplete one is at most [`FRAME_BYTES_MAX`] long.
    ///
    /// # Errors
    /// Those of the source.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = (self.end + READ_BYTES).min(self.buffer.len());
        loop {
            match source.read(&mut self.buffer[self.end..room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(bytes);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_up_stays_in_front_of_what_comes() {
        let mut inbound = Inbound::default();
        inbound.fill(&mut &b"PING\r\nPO"[..]).unwrap();
        inbound.consume(6);
        inbound.fill(&mut &b"NG\r\n"[..]).unwrap();
        assert_eq!(inbound.unread(), b"PONG\r\n");
        assert_eq!(inbound.fill(&mut &b""[..]).unwrap(), 0);
    }
}
