//! What can be wrong, sorted by whose fault it is: our caller's, the frame's, the peer's.

use thiserror::Error;

use crate::limits::{
    CLASSES, HELLO_TIME, ID_BYTES_MAX, INBOX_BYTES_MAX, KIND_BYTES_MAX, METADATA_BYTES_MAX,
    PUTS_PER_DELTA_MAX, SEAL_VERSIONS_MAX, WEIGHT_MAX,
};
use crate::{Partition, Version};

/// Why a service, or its key, cannot be. Nothing was changed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidService {
    /// A type of no bytes.
    #[error("a service type has no bytes")]
    EmptyKind,
    /// The type is too long.
    #[error("a service type of {bytes} bytes, at most {KIND_BYTES_MAX} are allowed")]
    KindTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// An id of no bytes.
    #[error("an instance id has no bytes")]
    EmptyId,
    /// The id is too long.
    #[error("an instance id of {bytes} bytes, at most {ID_BYTES_MAX} are allowed")]
    IdTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The inbox is too long.
    #[error("an inbox of {bytes} bytes, at most {INBOX_BYTES_MAX} are allowed")]
    InboxTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The metadata is too long in its packed form (4 bytes a pair, and its text).
    #[error("{bytes} bytes of metadata or more, at most {METADATA_BYTES_MAX} are allowed")]
    MetadataTooLong {
        /// How long it is, up to the pair that went too far.
        bytes: usize,
    },
    /// The packed metadata is not pairs of UTF-8 by ascending key.
    #[error("malformed metadata at byte {offset}")]
    MalformedMetadata {
        /// Where the bad pair begins.
        offset: usize,
    },
    /// A weight that no instance has.
    #[error("a weight of {weight}, allowed are 1 to {WEIGHT_MAX}")]
    Weight {
        /// What was asked for.
        weight: u8,
    },
    /// A ring class that does not exist.
    #[error("ring class {class}, allowed are those below {CLASSES}")]
    Class {
        /// What was asked for.
        class: u8,
    },
    /// Flags that this version does not know.
    #[error("unknown flags {flags:#04x}")]
    UnknownFlags {
        /// All of the flags.
        flags: u8,
    },
}

/// Why a delta or a Seal makes no sense, whatever the receiver knows. It changes nothing, and its sender is at fault.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum MalformedChunk {
    /// The bounds contradict each other.
    #[error("a chunk of the versions {from} to {to} with horizon {horizon}")]
    Range {
        /// The version before the first.
        from: Version,
        /// The last version.
        to: Version,
        /// The sender's latest version.
        horizon: Version,
    },
    /// Versions do not ascend within the bounds.
    #[error("version {version} after {previous}, in a chunk up to {to}")]
    Version {
        /// The offending version.
        version: Version,
        /// The one before it, or the lower bound.
        previous: Version,
        /// The upper bound.
        to: Version,
    },
    /// More puts or removals than a delta may carry.
    #[error("{events} puts or removals in one delta, at most {PUTS_PER_DELTA_MAX} are allowed")]
    TooManyEvents {
        /// How many there are.
        events: usize,
    },
    /// More versions than a part of a Seal may list.
    #[error("more than {SEAL_VERSIONS_MAX} versions in one part of a Seal")]
    TooManyVersions,
    /// An entry of another partition.
    #[error("an entry of partition {} in a chunk of partition {}", found.get(), expected.get())]
    Partition {
        /// What the chunk is for.
        expected: Partition,
        /// Where the entry belongs.
        found: Partition,
    },
    /// A packed version that is cut, zero, too long or beyond the bounds.
    #[error("a malformed packed version at byte {offset}")]
    PackedVersion {
        /// Where it begins.
        offset: usize,
    },
}

/// Why a log did not take a chunk.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ChunkError {
    /// The chunk makes no sense. Nothing was changed.
    #[error(transparent)]
    Malformed(#[from] MalformedChunk),
    /// Versions before it are missing: pull from `known`. Nothing was changed; normal after a loss.
    #[error("a chunk from version {from}, but only {have} is here")]
    Gap {
        /// Where the chunk begins.
        from: Version,
        /// What is here.
        have: Version,
    },
    /// A Seal lists an entry that is not here: pull. Nothing was changed, unless this was the second time in a row,
    /// after which the log is empty and starts anew.
    #[error("a Seal lists version {version}, which is not here (log restarted: {restarted})")]
    SealMissing {
        /// The first version that is missing.
        version: Version,
        /// Whether the log was emptied.
        restarted: bool,
    },
    /// The origin would have more entries than it may. Nothing was changed.
    #[error("{entries} entries, at most {entries_max} are allowed")]
    Quota {
        /// How many there would be.
        entries: usize,
        /// The quota.
        entries_max: usize,
    },
}

/// An owner has as many entries in one partition as it may. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{entries} entries in one partition, at most {entries_max} are allowed")]
pub struct QuotaExceeded {
    /// How many there would be.
    pub entries: usize,
    /// The quota.
    pub entries_max: usize,
}

/// Why bytes from a peer are not a frame. The link that they came over is to be closed; nothing else changes.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum WireError {
    /// The first two bytes are not those of a frame.
    #[error("a frame begins with {found:#06x}")]
    Magic {
        /// What it begins with.
        found: u16,
    },
    /// A version of the format that this node does not speak.
    #[error("wire version {found}, only {ours} is spoken here")]
    Version {
        /// What the frame says.
        found: u8,
        /// What this node speaks.
        ours: u8,
    },
    /// A type that this node does not know, and may not skip.
    #[error("unknown frame type {frame_type}, which is required")]
    UnknownType {
        /// Its number.
        frame_type: u8,
    },
    /// A flag that this version does not know.
    #[error("unknown frame flags {flags:#06x}")]
    UnknownFlags {
        /// All of the flags.
        flags: u16,
    },
    /// The frame announces more than a frame may have. No memory was taken for it.
    #[error("a payload of {bytes} bytes, at most {bytes_max} are allowed here")]
    TooLong {
        /// What it announces.
        bytes: u32,
        /// The limit.
        bytes_max: u32,
    },
    /// The checksum differs.
    #[error("checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// What the frame says.
        found: u32,
        /// What it is.
        computed: u32,
    },
    /// A frame was lost, repeated or reordered on the link.
    #[error("frame number {found}, expected {expected}")]
    Sequence {
        /// What the frame says.
        found: u64,
        /// What comes next on this link.
        expected: u64,
    },
    /// The payload is no archive of its type.
    #[error("the payload of {bytes} bytes of a frame of type {frame_type} is malformed")]
    Malformed {
        /// The frame's type.
        frame_type: u8,
        /// How long the payload is.
        bytes: usize,
    },
    /// A field of the payload is beyond its limit or has no meaning.
    #[error("{field} is {value}, which means nothing")]
    Field {
        /// Which one.
        field: &'static str,
        /// Its value, or its length.
        value: u64,
    },
    /// More elements than a frame of this type may have.
    #[error("{count} {field} in a frame, at most {count_max} are allowed")]
    TooMany {
        /// Elements of what.
        field: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A service in it is none.
    #[error(transparent)]
    Service(#[from] InvalidService),
    /// A delta or a Seal in it makes no sense.
    #[error(transparent)]
    Chunk(#[from] MalformedChunk),
}

/// Why a link has to be closed. What came before was taken, the offending frame was not.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum LinkError {
    /// The bytes are no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame that must not come at this point, or that speaks for somebody else.
    #[error("a frame of type {frame_type}, which must not come while the link is {state}")]
    Unexpected {
        /// Its type.
        frame_type: u8,
        /// How far the link had come.
        state: &'static str,
    },
    /// The peer did not introduce itself in time, or was not introduced.
    #[error("the two did not introduce themselves within {} ms", HELLO_TIME.as_millis())]
    HelloTimeout,
}
