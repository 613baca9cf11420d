//! The bytes that a link has read: chunks that messages may hold on to.
//!
//! A chunk is lent out frozen for the time of a dispatch. If nobody kept a part of it, it becomes
//! writable again as it is; otherwise reading goes on in another one, and only the message that
//! straddles the two is copied.

use bytes::{Bytes, BytesMut};

use super::fault::{self, Fault};

/// Size of the first chunk of a connection.
const CHUNK_BYTES_MIN: usize = 16 << 10;
/// Size to which chunks grow while reads fill them.
const CHUNK_BYTES_MAX: usize = 128 << 10;
/// A chunk above this goes back to the ordinary size once its large message has passed.
const CHUNK_BYTES_KEPT: usize = 512 << 10;
/// The least room that a read is offered.
const READ_BYTES_MIN: usize = 4 << 10;

pub(crate) struct ReadBuffer {
    /// Every byte of it is initialised: its length is its capacity.
    storage: BytesMut,
    start: usize,
    end: usize,
    /// The last chunk that somebody held, to be used again if it came back.
    spare: Option<Bytes>,
    chunk_bytes: usize,
}

/// A chunk lent out for a dispatch.
pub(crate) struct Lent {
    pub(crate) chunk: Bytes,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        ReadBuffer {
            storage: allocate(CHUNK_BYTES_MIN),
            start: 0,
            end: 0,
            spare: None,
            chunk_bytes: CHUNK_BYTES_MIN,
        }
    }

    /// Room for the next read, never empty.
    pub(crate) fn unfilled(&mut self) -> &mut [u8] {
        if self.storage.len() - self.end < READ_BYTES_MIN {
            self.make_room(self.end - self.start + READ_BYTES_MIN);
        }
        &mut self.storage[self.end..]
    }

    /// Takes note of what a read put into the room.
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
        if self.end == self.storage.len() && self.chunk_bytes < CHUNK_BYTES_MAX {
            self.chunk_bytes *= 2;
        }
    }

    pub(crate) fn lend(&mut self) -> Lent {
        let chunk = std::mem::take(&mut self.storage).freeze();
        Lent { chunk, start: self.start, end: self.end }
    }

    /// Takes the chunk back, read up to `at`; the next message needs `needed` bytes from there, or 0.
    pub(crate) fn give_back(&mut self, lent: Lent, at: usize, needed: usize) {
        let Lent { chunk, end, .. } = lent;
        match chunk.try_into_mut() {
            Ok(storage) => {
                self.storage = storage;
                (self.start, self.end) = if at == end { (0, 0) } else { (at, end) };
            }
            Err(chunk) => {
                let torn = fault::is_built_in(Fault::StraddlingMessageTorn);
                let partial_bytes = if torn { 0 } else { end - at };
                self.storage = self.fresh(partial_bytes + READ_BYTES_MIN);
                self.storage[..partial_bytes].copy_from_slice(&chunk[at..at + partial_bytes]);
                (self.start, self.end) = (0, partial_bytes);
                self.spare = Some(chunk);
            }
        }
        let oversized = self.storage.len() > CHUNK_BYTES_KEPT && self.start == self.end;
        if oversized || (self.start == self.end && self.storage.len() < self.chunk_bytes) {
            self.storage = allocate(self.chunk_bytes);
            (self.start, self.end) = (0, 0);
        }
        if self.start + needed > self.storage.len() {
            // Memory follows what was received: at most twice of it is taken, whatever was announced.
            let received_bytes = self.end - self.start;
            self.make_room(needed.min((2 * received_bytes).max(self.chunk_bytes)));
        }
    }

    /// Makes the chunk hold `bytes` from the first unread one on.
    fn make_room(&mut self, bytes: usize) {
        if bytes <= self.storage.len() {
            self.storage.copy_within(self.start..self.end, 0);
        } else {
            let mut larger = allocate(bytes.max(self.chunk_bytes));
            larger[..self.end - self.start].copy_from_slice(&self.storage[self.start..self.end]);
            self.storage = larger;
        }
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// The spare chunk if it is free and large enough, else a new one.
    fn fresh(&mut self, bytes: usize) -> BytesMut {
        if let Some(Ok(storage)) = self.spare.take().map(Bytes::try_into_mut)
            && storage.len() >= bytes
            && storage.len() >= self.chunk_bytes
        {
            return storage;
        }
        allocate(bytes.max(self.chunk_bytes))
    }
}

/// Zeroed memory that is shared from the start, so that freezing it, and handing out parts, allocates
/// nothing.
fn allocate(bytes: usize) -> BytesMut {
    let mut storage = BytesMut::zeroed(bytes);
    let tail = storage.split_off(bytes / 2);
    storage.unsplit(tail);
    storage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut ReadBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = buffer.unfilled();
            let part = room.len().min(bytes.len());
            room[..part].copy_from_slice(&bytes[..part]);
            buffer.filled(part);
            bytes = &bytes[part..];
        }
    }

    #[test]
    fn a_chunk_nobody_kept_is_used_again() {
        let mut buffer = ReadBuffer::new();
        fill(&mut buffer, b"hello");
        let lent = buffer.lend();
        let place = lent.chunk.as_ptr();
        buffer.give_back(lent, 5, 0);
        assert_eq!(buffer.unfilled().as_ptr(), place);
        assert_eq!(buffer.unfilled().len(), CHUNK_BYTES_MIN);
    }

    #[test]
    fn a_kept_part_stays_as_it_was_while_reading_goes_on() {
        let mut buffer = ReadBuffer::new();
        fill(&mut buffer, b"first-sec");
        let lent = buffer.lend();
        let kept = lent.chunk.slice(0..5);
        buffer.give_back(lent, 6, 6);
        fill(&mut buffer, b"ond");
        let lent = buffer.lend();
        assert_eq!(&lent.chunk[lent.start..lent.end], b"second");
        assert_eq!(&kept[..], b"first");
        buffer.give_back(lent, 6, 0);
        drop(kept);
        // The first chunk has come back, and serves when the second one is held.
        fill(&mut buffer, b"third");
        let lent = buffer.lend();
        let _kept = lent.chunk.clone();
        let end = lent.end;
        buffer.give_back(lent, end, 0);
        assert!(buffer.spare.is_some());
    }

    #[test]
    fn memory_follows_what_was_received_not_what_was_announced() {
        let mut buffer = ReadBuffer::new();
        fill(&mut buffer, b"MSG a 1 67000000\r\nabc");
        let lent = buffer.lend();
        buffer.give_back(lent, 0, 67_000_018);
        assert!(buffer.storage.len() <= CHUNK_BYTES_MAX);
        let mut whole = b"MSG a 1 67000000\r\nabc".to_vec();
        for round in 0..60_u8 {
            let part = vec![round; 30_000];
            fill(&mut buffer, &part);
            whole.extend_from_slice(&part);
            let lent = buffer.lend();
            assert_eq!(&lent.chunk[lent.start..lent.end], &whole[..]);
            buffer.give_back(lent, 0, 67_000_018);
            assert!(buffer.storage.len() <= 2 * whole.len() + CHUNK_BYTES_MAX);
        }
    }

    #[test]
    fn an_oversized_chunk_is_given_up_after_its_message() {
        let mut buffer = ReadBuffer::new();
        fill(&mut buffer, &vec![7; 2 << 20]);
        let lent = buffer.lend();
        let end = lent.end;
        buffer.give_back(lent, end, 0);
        assert!(buffer.storage.len() <= CHUNK_BYTES_MAX);
    }
}
