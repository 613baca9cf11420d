//! What passes between the two ends: subjects, payloads that can be summed, and the sum itself.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Subject of the messages that are measured. Nobody but the measured client ever subscribes to it.
pub const DATA_SUBJECT: &str = "bench";
/// A [`FloodOrder`] published here is answered with a flood on [`DATA_SUBJECT`].
pub const FLOOD_SUBJECT: &str = "bench.flood";
/// A request to this subject is answered with its own payload.
pub const ECHO_SUBJECT: &str = "bench.echo";

/// How many payloads differ from one another before they repeat. A power of two.
pub const DISTINCT_PAYLOADS: usize = 64;
/// Every payload begins with its stamp, so none is shorter.
pub const STAMP_BYTES: usize = 8;

/// Odd, so that the stamps of one round of payloads all differ and a sum shows a lost, doubled or torn message.
pub(crate) const STAMP_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Count, bytes and stamps of payloads that passed one end. Two ends that saw the same have the same tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub messages: u64,
    /// How many payload bytes.
    pub bytes: u64,
    /// The stamps, summed and wrapped.
    pub stamps: u64,
}

impl Tally {
    /// Counts one payload. One shorter than a stamp is counted without one.
    pub fn add(&mut self, payload: &[u8]) {
        self.messages += 1;
        self.bytes += payload.len() as u64;
        if let Some(stamp) = payload.first_chunk::<STAMP_BYTES>() {
            self.stamps = self.stamps.wrapping_add(u64::from_le_bytes(*stamp));
        }
    }

    /// The tally of the first `messages` payloads of [`Payloads`] of this size.
    pub fn of_first(messages: u64, payload_bytes: usize) -> Self {
        let mut tally = Self { messages, bytes: messages * payload_bytes as u64, stamps: 0 };
        let (rounds, rest) = (messages / DISTINCT_PAYLOADS as u64, messages % DISTINCT_PAYLOADS as u64);
        for index in 0..DISTINCT_PAYLOADS as u64 {
            let times = rounds + u64::from(index < rest);
            tally.stamps = tally.stamps.wrapping_add(stamp(index).wrapping_mul(times));
        }
        tally
    }

    /// This tally and another one together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            stamps: self.stamps.wrapping_add(other.stamps),
        }
    }
}

/// Everything that passed one end of a measurement, as that end counted it itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Published by the client to [`DATA_SUBJECT`].
    pub swallowed: Tally,
    /// Sent to the client by its [`FloodOrder`]s.
    pub flooded: Tally,
    /// Requests of the client to [`ECHO_SUBJECT`] that were answered.
    pub echoed: Tally,
}

impl Account {
    /// This account and another one together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            swallowed: self.swallowed.plus(other.swallowed),
            flooded: self.flooded.plus(other.flooded),
            echoed: self.echoed.plus(other.echoed),
        }
    }
}

/// The payloads of one figure, made once, so that making them is nobody's cost.
#[derive(Clone, Debug)]
pub struct Payloads {
    all: Vec<Vec<u8>>,
}

impl Payloads {
    /// Payloads of this size, each with its own stamp in front.
    ///
    /// # Panics
    /// If the size is below [`STAMP_BYTES`].
    pub fn new(payload_bytes: usize) -> Self {
        assert!(payload_bytes >= STAMP_BYTES, "a payload of {payload_bytes} bytes has no room for its stamp");
        let payload = |index| {
            let mut payload = stamp(index).to_le_bytes().to_vec();
            payload.resize(payload_bytes, b'.');
            payload
        };
        Self { all: (0..DISTINCT_PAYLOADS as u64).map(payload).collect() }
    }

    /// The payload of the message with this number.
    pub fn at(&self, number: u64) -> &[u8] {
        &self.all[number as usize % DISTINCT_PAYLOADS]
    }
}

/// The same as a client takes them at the least cost that is handed a payload: static.
#[derive(Clone, Debug)]
pub struct StaticPayloads(Arc<[Bytes]>);

impl StaticPayloads {
    /// Payloads of this size, as those of [`Payloads::new`]. They are never freed.
    ///
    /// # Panics
    /// As [`Payloads::new`].
    pub fn new(payload_bytes: usize) -> Self {
        let payloads = Payloads::new(payload_bytes);
        let leaked = |number| Bytes::from_static(Vec::leak(payloads.at(number).to_vec()));
        Self((0..DISTINCT_PAYLOADS as u64).map(leaked).collect())
    }

    /// The payload of the message with this number.
    pub fn at(&self, number: u64) -> Bytes {
        self.0[number as usize % DISTINCT_PAYLOADS].clone()
    }
}

fn stamp(index: u64) -> u64 {
    (index + 1).wrapping_mul(STAMP_STEP)
}

/// How much flood is wanted: the payload of a message to [`FLOOD_SUBJECT`], `MESSAGES BYTES` in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodOrder {
    /// How many messages.
    pub messages: u64,
    /// The size of each payload.
    pub payload_bytes: usize,
}

impl FloodOrder {
    /// As it goes over the wire.
    pub fn to_payload(self) -> String {
        format!("{} {}", self.messages, self.payload_bytes)
    }

    /// As it came over the wire; `None` if it is no order.
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let (messages, payload_bytes) = str::from_utf8(payload).ok()?.split_once(' ')?;
        Some(Self { messages: messages.parse().ok()?, payload_bytes: payload_bytes.parse().ok()? })
    }
}

/// Many ready-made messages in one buffer, to be written as fast as a socket takes them.
#[derive(Debug)]
pub struct Flood {
    buffer: Vec<u8>,
    message_bytes: usize,
    payload_bytes: usize,
}

/// A flood is written in pieces of about this size: a few fill a socket buffer, and one stays in the cache.
const FLOOD_BUFFER_BYTES: usize = 128 * 1024;

impl Flood {
    /// Messages that all begin with `control_line` (without its CRLF), which must name `payload_bytes`.
    ///
    /// # Panics
    /// If the size is below [`STAMP_BYTES`].
    pub fn new(control_line: &str, payload_bytes: usize) -> Self {
        let payloads = Payloads::new(payload_bytes);
        let message_bytes = control_line.len() + payload_bytes + 4;
        let rounds = (FLOOD_BUFFER_BYTES / (message_bytes * DISTINCT_PAYLOADS)).max(1);
        let mut buffer = Vec::with_capacity(rounds * DISTINCT_PAYLOADS * message_bytes);
        for number in 0..(rounds * DISTINCT_PAYLOADS) as u64 {
            buffer.extend_from_slice(control_line.as_bytes());
            buffer.extend_from_slice(b"\r\n");
            buffer.extend_from_slice(payloads.at(number));
            buffer.extend_from_slice(b"\r\n");
        }
        Self { buffer, message_bytes, payload_bytes }
    }

    /// Writes the first `messages` messages, over and over, and tells their tally.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, messages: u64, output: &mut impl std::io::Write) -> std::io::Result<Tally> {
        let in_buffer = (self.buffer.len() / self.message_bytes) as u64;
        for _ in 0..messages / in_buffer {
            output.write_all(&self.buffer)?;
        }
        output.write_all(&self.buffer[..(messages % in_buffer) as usize * self.message_bytes])?;
        Ok(Tally::of_first(messages, self.payload_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_tally_is_that_of_the_payloads_one_by_one() {
        for (messages, size) in [(0, 16), (1, 8), (63, 16), (64, 16), (65, 128), (1000, 4096)] {
            let payloads = Payloads::new(size);
            let mut counted = Tally::default();
            (0..messages).for_each(|number| counted.add(payloads.at(number)));
            assert_eq!(counted, Tally::of_first(messages, size), "{messages} of {size} bytes");
        }
    }

    #[test]
    fn a_tally_shows_a_message_that_took_the_place_of_another() {
        let payloads = Payloads::new(16);
        let mut counted = Tally::default();
        [0, 1, 1].into_iter().for_each(|number| counted.add(payloads.at(number)));
        assert_ne!(counted, Tally::of_first(3, 16));
    }

    #[test]
    fn an_order_survives_the_wire() {
        let order = FloodOrder { messages: 70_000, payload_bytes: 128 };
        assert_eq!(FloodOrder::from_payload(order.to_payload().as_bytes()), Some(order));
        for nonsense in [&b""[..], b"1", b"1 2 3", b"-1 16", b"\xff \xff"] {
            assert_eq!(FloodOrder::from_payload(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_flood_is_as_long_as_ordered() {
        let flood = Flood::new("MSG bench 1 16", 16);
        for messages in [0, 1, 63, 64, 5000, 10_000] {
            let mut written = Vec::new();
            let tally = flood.write(messages, &mut written).unwrap();
            assert_eq!(written.len() as u64, messages * ("MSG bench 1 16\r\n".len() + 18) as u64);
            assert_eq!(tally, Tally::of_first(messages, 16));
        }
    }
}
