//! How two nodes introduce themselves: a fixed layout, so that every version can read it.

use crate::limits::{ADDRESS_BYTES_MAX, FRAME_BYTES_MAX, NAME_BYTES_MAX, PUTS_PER_DELTA_MAX};
use crate::wire::{HASH_SEED, VERSION};
use crate::{Epoch, NodeKey, PARTITIONS, ProcessId, Version, WireError};

/// Who speaks, and what its own logs have reached.
///
/// Layout, little-endian: least and highest version of the format (2 bytes), partition count (u16), features (u32),
/// hash seed (u64), cluster id (16 bytes), node key (16), epoch (u64), first epoch
/// (u64), process id (16), number of the Hello (u64), largest frame (u32), puts in a delta (u32), lengths of name and address (2 bytes), the versions of the partitions (256 times u64), name, address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// The hash of the cluster's name. Another one is refused.
    pub cluster: [u8; 16],
    /// The node's name.
    pub name: String,
    /// Where it accepts peers; may be empty.
    pub address: String,
    /// Its life.
    pub epoch: Epoch,
    /// The life that its process began with; a process that was told that it is stale has a higher one now.
    pub first_epoch: Epoch,
    /// Its process.
    pub process: ProcessId,
    /// How many Hellos its process had said before, on any link. One that arrives late, on a link that was slow, does
    /// not bring a node back that was found to be gone after a later one.
    pub number: u64,
    /// Bits of features that it offers; this version knows none.
    pub features: u32,
    /// The version that its own log of each partition has reached. Its services are shown from there on.
    pub versions: Box<[Version; PARTITIONS]>,
}

impl Hello {
    /// The key that goes with the name.
    #[must_use]
    pub fn key(&self) -> NodeKey {
        NodeKey::of_name(&self.name)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, WireError> {
        check_text("node name", self.name.as_bytes(), NAME_BYTES_MAX)?;
        check_length("address", self.address.len(), ADDRESS_BYTES_MAX)?;
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.name.len() + self.address.len());
        bytes.extend_from_slice(&[VERSION, VERSION]);
        bytes.extend_from_slice(&(PARTITIONS as u16).to_le_bytes());
        bytes.extend_from_slice(&self.features.to_le_bytes());
        bytes.extend_from_slice(&HASH_SEED.to_le_bytes());
        bytes.extend_from_slice(&self.cluster);
        bytes.extend_from_slice(&self.key().to_bytes());
        bytes.extend_from_slice(&self.epoch.get().to_le_bytes());
        bytes.extend_from_slice(&self.first_epoch.get().to_le_bytes());
        bytes.extend_from_slice(&self.process.get().to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
        bytes.extend_from_slice(&(PUTS_PER_DELTA_MAX as u32).to_le_bytes());
        bytes.extend_from_slice(&[self.name.len() as u8, self.address.len() as u8]);
        for version in self.versions.iter() {
            bytes.extend_from_slice(&version.to_le_bytes());
        }
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(self.address.as_bytes());
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader { rest: bytes, bytes: bytes.len(), frame_type: super::v1::TYPE_HELLO };
        let [least, highest] = reader.take()?;
        if !(least..=highest).contains(&VERSION) {
            return Err(WireError::Version { found: highest, ours: VERSION });
        }
        let partitions = u64::from(u16::from_le_bytes(reader.take()?));
        let features = u32::from_le_bytes(reader.take()?);
        let seed = u64::from_le_bytes(reader.take()?);
        let cluster = reader.take()?;
        let key = NodeKey::from_bytes(reader.take()?);
        let epoch = u64::from_le_bytes(reader.take()?);
        let first_epoch = u64::from_le_bytes(reader.take()?);
        let process = ProcessId::from_random(u128::from_le_bytes(reader.take()?));
        let number = u64::from_le_bytes(reader.take()?);
        let frame_bytes = u64::from(u32::from_le_bytes(reader.take()?));
        let puts = u64::from(u32::from_le_bytes(reader.take()?));
        let [name_bytes, address_bytes] = reader.take()?;
        let mut versions = Box::new([0; PARTITIONS]);
        for version in versions.iter_mut() {
            *version = u64::from_le_bytes(reader.take()?);
            require("version", *version, *version <= crate::limits::VERSION_MAX)?;
        }
        let name = reader.text("node name", usize::from(name_bytes))?;
        let address = reader.text("address", usize::from(address_bytes))?;
        reader.end()?;
        check_text("node name", name.as_bytes(), NAME_BYTES_MAX)?;
        require("partition count", partitions, partitions == PARTITIONS as u64)?;
        require("hash seed", seed, seed == HASH_SEED)?;
        require("largest frame", frame_bytes, frame_bytes == FRAME_BYTES_MAX as u64)?;
        require("puts in a delta", puts, puts == PUTS_PER_DELTA_MAX as u64)?;
        let epoch = Epoch::from_wire(epoch).ok_or(WireError::Field { field: "epoch", value: epoch })?;
        let first_epoch = Epoch::from_wire(first_epoch)
            .ok_or(WireError::Field { field: "first epoch", value: first_epoch })?;
        let hello = Self { cluster, name, address, epoch, first_epoch, process, number, features, versions };
        require("node key", u64::from(key.to_bytes()[0]), key == hello.key())?;
        Ok(hello)
    }
}

/// That a Hello was accepted. Layout: version of the format to be spoken (1 byte), features to be used (u32).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HelloAck {
    /// The features that both offer.
    pub features: u32,
}

impl HelloAck {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.features.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader { rest: bytes, bytes: bytes.len(), frame_type: super::v1::TYPE_HELLO_ACK };
        let [version] = reader.take()?;
        if version != VERSION {
            return Err(WireError::Version { found: version, ours: VERSION });
        }
        let features = u32::from_le_bytes(reader.take()?);
        reader.end()?;
        Ok(Self { features })
    }
}

/// Takes fields from the front of a payload.
struct Reader<'a> {
    rest: &'a [u8],
    bytes: usize,
    frame_type: u8,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*field)
    }

    fn text(&mut self, field: &'static str, bytes: usize) -> Result<String, WireError> {
        let (text, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        let text = std::str::from_utf8(text);
        Ok(text.map_err(|_| WireError::Field { field, value: bytes as u64 })?.to_owned())
    }

    fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    fn malformed(&self) -> WireError {
        WireError::Malformed { frame_type: self.frame_type, bytes: self.bytes }
    }
}

pub(crate) fn require(field: &'static str, value: u64, holds: bool) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::Field { field, value }) }
}

pub(crate) fn check_length(field: &'static str, bytes: usize, bytes_max: usize) -> Result<(), WireError> {
    require(field, bytes as u64, bytes <= bytes_max)
}

pub(crate) fn check_text(field: &'static str, text: &[u8], bytes_max: usize) -> Result<(), WireError> {
    require(field, 0, !text.is_empty())?;
    check_length(field, text.len(), bytes_max)
}

/// All of a Hello but the two texts.
const FIXED_BYTES: usize = 2 + 2 + 4 + 8 + 16 + 16 + 8 + 8 + 16 + 8 + 4 + 4 + 2 + 8 * PARTITIONS;
const _: () = assert!(FIXED_BYTES + NAME_BYTES_MAX + ADDRESS_BYTES_MAX <= crate::limits::HELLO_BYTES_MAX);
