//! Every bound of this crate, by name. Those of the wire are the same on all nodes.

use std::time::Duration;

/// Longest service type, in bytes. A constant of the wire.
pub const KIND_BYTES_MAX: usize = 128;
/// Longest instance id, in bytes. A constant of the wire.
pub const ID_BYTES_MAX: usize = 256;
/// Longest inbox subject, in bytes. A constant of the wire.
pub const INBOX_BYTES_MAX: usize = 256;
/// Most bytes of metadata an entry has, in its packed form. A constant of the wire.
pub const METADATA_BYTES_MAX: usize = 4096;
/// Heaviest weight of a service instance. A constant of the wire.
pub const WEIGHT_MAX: u8 = 8;
/// Number of ring classes. A constant of the wire.
pub const CLASSES: u8 = 6;
/// Most puts, and most removals, in one delta. A constant of the wire.
pub const PUTS_PER_DELTA_MAX: usize = 4096;
/// Most versions in one part of a Seal; they take 1 MiB of memory. A constant of the wire.
pub const SEAL_VERSIONS_MAX: usize = 131_072;
/// Highest version of a log that a frame may name. A writer at a change a nanosecond reaches it in 146 years.
pub const VERSION_MAX: u64 = 1 << 62;

/// Bounds of the logs, which a node chooses for itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogLimits {
    /// Fewest removals that a log remembers. Default 64. Each costs its key.
    pub removals_least: usize,
    /// Most removals that a log remembers; in between it is a quarter of the live entries. Default 4096.
    pub removals_most: usize,
    /// Most entries of one origin in one partition. Default 1 048 576. The quota that a peer cannot exceed.
    pub entries_max: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { removals_least: 64, removals_most: 4096, entries_max: 1 << 20 }
    }
}

/// How much one delta or one part of a Seal may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkLimits {
    /// Most puts and removals together. Default 4096, which is also the most that a receiver takes.
    pub events_max: usize,
    /// Bytes after which a chunk ends; the last entry may go beyond. Default 256 KiB.
    pub bytes: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self { events_max: PUTS_PER_DELTA_MAX, bytes: 256 << 10 }
    }
}

/// Largest frame, header and payload. A constant of the wire.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest payload of a frame before the peer has introduced itself.
pub const HELLO_BYTES_MAX: usize = 4096 - crate::wire::HEADER_BYTES;
/// Longest node name, in bytes. A constant of the wire.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest address, in bytes. A constant of the wire.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Most nodes in one frame of members or digests. A constant of the wire.
pub const NODES_PER_FRAME_MAX: usize = 1024;

/// How long an owner remembers a command, so that it is carried out once.
pub const COMMAND_MEMORY: Duration = Duration::from_secs(60);
/// Most commands that a shard remembers; further ones are answered with `Busy`. At 64 bytes each.
pub const COMMANDS_MAX: usize = 65_536;
/// Most commands of this node that wait for an answer, on one shard.
pub const COMMANDS_PENDING_MAX: usize = 4096;

/// How much may be under way to one peer, and to all. Each shard has its even share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowLimits {
    /// Bytes of live changes that wait to be written to one peer. Default 256 KiB.
    pub live_bytes: usize,
    /// Bytes of transfers that one peer has not yet taken. Default 4 MiB.
    pub transfer_bytes: usize,
    /// Bytes of transfers to all peers together. Default 64 MiB.
    pub transfers_bytes: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { live_bytes: 256 << 10, transfer_bytes: 4 << 20, transfers_bytes: 64 << 20 }
    }
}

/// Time in which a peer must have introduced itself, and be accepted.
pub const HELLO_TIME: Duration = Duration::from_secs(2);
