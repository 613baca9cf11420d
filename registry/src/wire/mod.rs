//! Frames: what two nodes say to each other, in bytes.
//!
//! A frame is a header of 24 bytes, little-endian, and a payload:
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic, `0x5243` |
//! | 2 | version of the format, 1 |
//! | 3 | type |
//! | 4 | flags: bit 0, a receiver that does not know the type may skip the frame |
//! | 6 | partition |
//! | 8 | length of the payload |
//! | 12 | crc32c of the payload, then of the header with 0 in this field |
//! | 16 | number of the frame on its link, from 0 |
//!
//! The payload is a fixed layout for `Hello` and `HelloAck`, and else an rkyv archive of [`v1`], which is validated
//! before anything is read from it.

mod hello;
pub mod v1;

pub use hello::{Hello, HelloAck};

use std::sync::Arc;

use crate::limits::FRAME_BYTES_MAX;
use crate::wire::v1::Frame;
use crate::{Partition, WireError};

/// Length of the header.
pub const HEADER_BYTES: usize = 24;
/// The version of the format.
pub const VERSION: u8 = 1;
/// The seed of all hashes that nodes must agree on.
pub const HASH_SEED: u64 = 0;

const MAGIC: u16 = 0x5243;
const FLAG_OPTIONAL: u16 = 1;
const CHECKSUM_AT: usize = 12;

/// What a header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The number of the type; it may be unknown, and then the frame is optional.
    pub frame_type: u8,
    /// Whether the type is known here. If not, skip the payload.
    pub known: bool,
    /// The partition field; 0 where it means nothing.
    pub partition: Partition,
    /// Length of the payload, within the limit given.
    pub payload_bytes: usize,
    /// The checksum.
    pub checksum: u32,
    /// The number of the frame on its link.
    pub sequence: u64,
    bytes: [u8; HEADER_BYTES],
}

impl Header {
    /// Reads a header; `payload_bytes_max` bounds what it may announce.
    ///
    /// # Errors
    ///
    /// If it is not the header of a frame that this node can take. The link is to be closed then.
    pub fn parse(bytes: &[u8; HEADER_BYTES], payload_bytes_max: usize) -> Result<Self, WireError> {
        let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
        if magic != MAGIC {
            return Err(WireError::Magic { found: magic });
        }
        if bytes[2] != VERSION {
            return Err(WireError::Version { found: bytes[2], ours: VERSION });
        }
        let flags = u16::from_le_bytes([bytes[4], bytes[5]]);
        if flags & !FLAG_OPTIONAL != 0 {
            return Err(WireError::UnknownFlags { flags });
        }
        let frame_type = bytes[3];
        let known = v1::is_known(frame_type);
        if !known && flags & FLAG_OPTIONAL == 0 {
            return Err(WireError::UnknownType { frame_type });
        }
        let partition = u16::from_le_bytes([bytes[6], bytes[7]]);
        let partition = Partition::from_wire(partition)
            .ok_or(WireError::Field { field: "partition", value: u64::from(partition) })?;
        let bytes_max = payload_bytes_max.min(FRAME_BYTES_MAX - HEADER_BYTES) as u32;
        let length = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if length > bytes_max {
            return Err(WireError::TooLong { bytes: length, bytes_max });
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&bytes[16..24]);
        Ok(Self {
            frame_type,
            known,
            partition,
            payload_bytes: length as usize,
            checksum: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            sequence: u64::from_le_bytes(sequence),
            bytes: *bytes,
        })
    }

    /// Requires header and payload to be what their sender checksummed.
    ///
    /// # Errors
    ///
    /// [`WireError::Checksum`].
    pub fn verify(&self, payload: &[u8]) -> Result<(), WireError> {
        let mut header = self.bytes;
        header[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
        let computed = crc32c::crc32c_append(crc32c::crc32c(payload), &header);
        if computed != self.checksum {
            return Err(WireError::Checksum { found: self.checksum, computed });
        }
        Ok(())
    }
}

/// A frame without its place on a link: encoded once, sent to many peers.
#[derive(Clone, Debug)]
pub struct Encoded {
    frame_type: u8,
    partition: u8,
    payload: Arc<[u8]>,
    checksum: u32,
    live: bool,
}

impl Encoded {
    /// Encodes a frame.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLong`] if it is larger than a frame may be, and [`WireError::TooMany`].
    pub fn new(frame: &Frame) -> Result<Self, WireError> {
        let payload = frame.encode_payload()?;
        let bytes_max = (FRAME_BYTES_MAX - HEADER_BYTES) as u32;
        if payload.len() > bytes_max as usize {
            let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            return Err(WireError::TooLong { bytes, bytes_max });
        }
        let checksum = crc32c::crc32c(&payload);
        Ok(Self {
            frame_type: frame.frame_type(),
            partition: frame.partition(),
            payload: payload.into(),
            checksum,
            live: false,
        })
    }

    /// The same frame, which counts against the window of live changes until it is written.
    pub(crate) fn into_live(mut self) -> Self {
        self.live = true;
        self
    }

    /// Whether it is a live change: it counts against the window of live changes until it is written, and should not
    /// wait behind transfers of other partitions.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The payload, to be sent behind the header.
    #[must_use]
    pub fn payload(&self) -> &Arc<[u8]> {
        &self.payload
    }

    /// Whether it is part of a transfer: a Delta or a Seal that is no live change.
    #[must_use]
    pub fn is_transfer(&self) -> bool {
        !self.live && v1::is_chunk(self.frame_type)
    }

    /// The partition that its header names; 0 for a frame that concerns none.
    #[must_use]
    pub fn partition(&self) -> u8 {
        self.partition
    }

    /// Length of the frame with its header.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// The header for a place on a link.
    #[must_use]
    pub fn header(&self, sequence: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        header[2] = VERSION;
        header[3] = self.frame_type;
        header[6] = self.partition;
        // A payload beyond 1 MiB was refused.
        header[8..12].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        header[16..24].copy_from_slice(&sequence.to_le_bytes());
        let checksum = crc32c::crc32c_append(self.checksum, &header);
        header[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Appends the whole frame.
    pub fn write_to(&self, sequence: u64, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.header(sequence));
        buffer.extend_from_slice(&self.payload);
    }
}

/// Decodes a frame of a known type from a header and the payload that belongs to it.
///
/// # Errors
///
/// If the checksum differs, the payload is malformed, or what it says makes no sense. The link is to be closed then.
pub fn decode(header: &Header, payload: &[u8]) -> Result<Frame, WireError> {
    header.verify(payload)?;
    Frame::decode_payload(header.frame_type, header.partition, payload)
}
