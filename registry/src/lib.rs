//! Who offers what: the service registry of a cluster of nodes, without I/O.
//!
//! Each node writes [versioned logs](Log) of its own services, one for each [`Partition`], and every other node
//! follows them. A log has one writer, so a merge compares no clocks, and what a replica knows of a log is one number.
//! Bytes, time and randomness come in; frames and decisions go out. There are no sockets, clocks, threads or futures.
//!
//! # The three machines
//!
//! | machine | where | takes | gives |
//! |---|---|---|---|
//! | [`Link`] | one a connection | bytes | [`Next`]: a frame and its [`Route`] |
//! | [`Membership`] | one a node | Hellos, [`Route::Membership`] frames, closed links, failed dials | [`MembershipOutput`] |
//! | [`Partitions`] | one a shard | own changes, [`MemberChange`], [`Route::Partition`] and [`Route::EveryShard`] frames | frames, [`Event`] |
//!
//! They speak in messages, so each may live on another shard:
//!
//! - [`Link`] to [`Membership`]: the [`Hello`](wire::Hello) of a connection, by [`Membership::handle_hello`].
//! - [`Membership`] to [`Link`]: [`MembershipOutput::Accept`], then [`Link::handle_accepted`]; `Send`, `Close`, `Beat`.
//!   What is to be sent before [`Link::is_open`] waits until then, for the other end would refuse it; only
//!   `StaleEpoch` goes at once, and then it is the other end that closes.
//! - [`Membership`] to every [`Partitions`]: [`MemberChange`] by [`Partitions::handle_member`]. It alone creates, shows,
//!   hides and drops nodes; data never does. A shard must see it before [`Partitions::handle_link_up`].
//! - [`Link`] to every [`Partitions`]: [`Partitions::handle_link_up`] once [`Link::is_open`], and
//!   [`Partitions::handle_link_down`], which has to come before the next `handle_link_up` of that peer.
//! - [`Partitions`] to [`Link`]: frames by [`Partitions::poll_frame`]; back comes [`Partitions::handle_written`].
//! - Repair: a heartbeat carries the sum of [`Partitions::enqueued_digest`] over the sender's shards. The receiver
//!   hands it with the sum of its own [`Partitions::digests`] to [`Link::compare_digests`], and if that says so, every
//!   shard pulls. A Digest frame is compared node by node; [`Partitions::send_versions`] answers where it differs.
//!
//! # The contract
//!
//! Every machine has `handle_*` methods, which take one input and the time, `poll_*` methods, and plain getters. After
//! each input, drain every output, then wait until `poll_timeout` or the next input. Time never goes back. Errors that
//! a peer causes change nothing and end its link; a panic here is a fault of this crate or of its caller.
#![forbid(unsafe_code)]

mod commands;
mod delta;
mod digest;
mod error;
mod export;
mod fault;
mod identity;
pub mod limits;
mod link;
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
pub use error::{ChunkError, InvalidService, LinkError, MalformedChunk, QuotaExceeded, WireError};
pub use export::{Chunk, Cursor};
#[cfg(any(test, feature = "deliberate-faults"))]
pub use fault::{BuiltIn, Fault};
pub use identity::{Epoch, NodeKey, ProcessId};
pub use link::{Link, Next, Route};
pub use log::{Applied, Change, Log};
pub use membership::{
    DialResult, LinkId, Membership, MembershipConfig, MembershipOutput, NodeStanding, NodeStatus, Notice,
};
pub use partition::{PARTITIONS, Partition};
pub use partitions::{Event, Instance, MemberChange, Partitions, PartitionsConfig, Violation};
pub use seal::Seal;
pub use service::{Metadata, Service, ServiceBuilder, ServiceKey};
