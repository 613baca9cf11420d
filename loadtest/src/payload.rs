//! What a message carries so that its receiver can judge it: identity, sequence, times and a hash.
//!
//! Little-endian, no padding:
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | xxh3 of all the bytes that follow |
//! | 8..16 | run |
//! | 16..20 | publisher (shard) |
//! | 20..24 | topic (number) |
//! | 24..32 | sequence, from 0 for each publisher and topic |
//! | 32..40 | intended send time, nanoseconds on the run's clock |
//! | 40..48 | actual send time, on the same clock |
//! | 48.. | filler, the same in every message |

use xxhash_rust::xxh3::xxh3_64;

use crate::traffic::mix;

/// The bytes before the filler, and so the smallest payload.
pub(crate) const HEAD_BYTES: usize = 48;

/// The largest payload: what a nats-server accepts unless configured otherwise.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// What a payload says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u64,
    pub(crate) publisher: u32,
    pub(crate) topic: u32,
    pub(crate) sequence: u64,
    pub(crate) intended_nanos: u64,
    pub(crate) actual_nanos: u64,
}

/// The buffer in which a publisher writes its payloads, one after the other.
#[derive(Debug)]
pub(crate) struct PayloadBuffer(Vec<u8>);

impl PayloadBuffer {
    /// Room for payloads of up to `bytes_max` bytes, with filler made from `seed`.
    pub(crate) fn new(bytes_max: usize, seed: u64) -> Self {
        let mut bytes = vec![0; bytes_max.max(HEAD_BYTES)];
        for (word, chunk) in bytes.chunks_mut(8).enumerate() {
            let filler = mix(seed.wrapping_add(word as u64)).to_le_bytes();
            chunk.copy_from_slice(&filler[..chunk.len()]);
        }
        Self(bytes)
    }

    /// The payload of `bytes` bytes that carries `stamp`; `bytes` is kept between the
    /// head and the room.
    pub(crate) fn stamped(&mut self, bytes: usize, stamp: &Stamp) -> &[u8] {
        let bytes = bytes.clamp(HEAD_BYTES, self.0.len());
        let payload = &mut self.0[..bytes];
        payload[8..16].copy_from_slice(&stamp.run.to_le_bytes());
        payload[16..20].copy_from_slice(&stamp.publisher.to_le_bytes());
        payload[20..24].copy_from_slice(&stamp.topic.to_le_bytes());
        payload[24..32].copy_from_slice(&stamp.sequence.to_le_bytes());
        payload[32..40].copy_from_slice(&stamp.intended_nanos.to_le_bytes());
        payload[40..48].copy_from_slice(&stamp.actual_nanos.to_le_bytes());
        let hash = xxh3_64(&payload[8..]);
        payload[..8].copy_from_slice(&hash.to_le_bytes());
        payload
    }
}

impl Stamp {
    /// Reads a payload; none when it is too short or its hash does not fit its bytes.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() < HEAD_BYTES {
            return None;
        }
        let (hash, rest) = payload.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*hash) != xxh3_64(rest) {
            return None;
        }
        let (run, rest) = rest.split_first_chunk::<8>()?;
        let (publisher, rest) = rest.split_first_chunk::<4>()?;
        let (topic, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (intended, rest) = rest.split_first_chunk::<8>()?;
        let (actual, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            run: u64::from_le_bytes(*run),
            publisher: u32::from_le_bytes(*publisher),
            topic: u32::from_le_bytes(*topic),
            sequence: u64::from_le_bytes(*sequence),
            intended_nanos: u64::from_le_bytes(*intended),
            actual_nanos: u64::from_le_bytes(*actual),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0x1122_3344_5566_7788,
        publisher: 3,
        topic: 9_999,
        sequence: 77,
        intended_nanos: 1_000_000_007,
        actual_nanos: 1_000_000_123,
    };

    #[test]
    fn a_stamp_survives_the_way_at_every_size() {
        let mut buffer = PayloadBuffer::new(1024, 5);
        for bytes in [HEAD_BYTES, 49, 55, 64, 128, 1000, 1024] {
            let payload = buffer.stamped(bytes, &STAMP);
            assert_eq!(payload.len(), bytes);
            assert_eq!(Stamp::read(payload), Some(STAMP), "{bytes} bytes");
        }
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let mut payload = PayloadBuffer::new(64, 5).stamped(64, &STAMP).to_vec();
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&payload), None, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Stamp::read(&payload), Some(STAMP));
    }

    #[test]
    fn every_cut_and_every_longer_payload_is_noticed() {
        let payload = PayloadBuffer::new(100, 5).stamped(100, &STAMP).to_vec();
        for bytes in 0..payload.len() {
            assert_eq!(Stamp::read(&payload[..bytes]), None, "{bytes} bytes");
        }
        let mut longer = payload;
        longer.push(0);
        assert_eq!(Stamp::read(&longer), None);
    }
}
