//! Who offers what: the service registry of a cluster of nodes, without I/O.
#![forbid(unsafe_code)]

mod commands;
mod delta;
mod digest;
mod error;
mod export;
mod fault;
mod identity;
pub mod limits;
mod log;
mod membership;
mod partition;
mod partitions;
mod removals;
mod seal;
mod service;
mod slot_index;
#[cfg(test)]
mod tests;
pub mod wire;

pub use commands::{CommandError, CommandLedger};
pub use delta::{Delta, Put, Removal, Version};
pub use digest::Digest;
pub use error::{ChunkError, InvalidService, MalformedChunk, QuotaExceeded, WireError};
pub use export::{Chunk, Cursor};
#[cfg(any(test, feature = "deliberate-faults"))]
pub use fault::{BuiltIn, Fault};
pub use identity::{Epoch, NodeKey, ProcessId};
pub use log::{Applied, Change, Log};
pub use membership::{
    DialResult, LinkId, Membership, MembershipConfig, MembershipOutput, NodeStanding, NodeStatus, Notice,
};
pub use partition::{PARTITIONS, Partition};
pub use partitions::{Event, Instance, MemberChange, Partitions, PartitionsConfig, Violation};
pub use seal::Seal;
pub use service::{Metadata, Service, ServiceBuilder, ServiceKey};
