//! One direction of a connection: what has been read on one side and is still to be written on the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::Passage;

/// Bytes on their way, each chunk with the time from which it may pass.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The side that is read has ended.
    has_ended: bool,
    /// The side that is written was told so.
    has_told_end: bool,
    /// What is read is thrown away: the connection was cut.
    is_dead: bool,
}

#[derive(Debug)]
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// Behind so much that waits nothing more is read.
const BYTES_MAX: usize = 4 << 20;
/// Of one read; a chunk keeps no more memory than it needs.
const CHUNK_BYTES: usize = 64 << 10;

impl Pipe {
    /// Whether the one side is worth reading.
    pub(super) fn wants_read(&self) -> bool {
        !self.has_ended && (self.is_dead || self.bytes < BYTES_MAX)
    }

    /// Whether there is something for the other side at this time.
    pub(super) fn wants_write(&self, passage: Passage, now: Instant) -> bool {
        passage != Passage::Held
            && match self.chunks.front() {
                Some(chunk) => chunk.due <= now,
                None => self.has_ended && !self.has_told_end,
            }
    }

    /// When there will be something for the other side.
    pub(super) fn due(&self, passage: Passage) -> Option<Instant> {
        self.chunks.front().map(|chunk| chunk.due).filter(|_| passage != Passage::Held)
    }

    /// Nothing more will pass, either way.
    pub(super) fn is_done(&self) -> bool {
        self.has_ended && self.has_told_end
    }

    /// Reads what there is, once.
    pub(super) fn read(&mut self, from: &TcpStream, passage: Passage) -> io::Result<()> {
        let mut buffer = [0; CHUNK_BYTES];
        let mut from = from;
        match from.read(&mut buffer) {
            Ok(0) => self.has_ended = true,
            Ok(_) if self.is_dead => {}
            Ok(count) => {
                let late = match passage {
                    Passage::Late(late) => late,
                    Passage::Open | Passage::Held => Duration::ZERO,
                };
                // Nothing overtakes what was read before it.
                let after = self.chunks.back().map(|last| last.due);
                let due = after.map_or(Instant::now() + late, |after| after.max(Instant::now() + late));
                self.chunks.push_back(Chunk { due, bytes: buffer[..count].to_vec(), written: 0 });
                self.bytes += count;
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what is due, and then the end.
    pub(super) fn write(&mut self, to: &TcpStream, now: Instant) -> io::Result<()> {
        let mut stream = to;
        while let Some(chunk) = self.chunks.front_mut().filter(|chunk| chunk.due <= now) {
            match stream.write(&chunk.bytes[chunk.written..]) {
                Ok(count) => {
                    chunk.written += count;
                    self.bytes -= count;
                    if chunk.written == chunk.bytes.len() {
                        self.chunks.pop_front();
                    }
                }
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.chunks.is_empty() && self.has_ended && !self.has_told_end {
            self.tell_end(to);
        }
        Ok(())
    }

    /// Ends the other side in order; what waits is thrown away, and what is still read.
    pub(super) fn cut(&mut self, to: &TcpStream) {
        self.chunks.clear();
        (self.bytes, self.is_dead) = (0, true);
        if !self.has_told_end {
            self.tell_end(to);
        }
    }

    fn tell_end(&mut self, to: &TcpStream) {
        self.has_told_end = true;
        // One that is gone already need not be told.
        drop(to.shutdown(Shutdown::Write));
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
