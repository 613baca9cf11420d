//! What the shards of a node, and the threads beside them, share of the registry.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use croupier_registry::{LinkId, PARTITIONS, Version};

use super::{ToShard, mirror::Mirror, stats::RegistryCounters};

/// The shared part: lanes into the shards, counters, and what any thread may ask.
pub(crate) struct RegistryShared {
    lanes: Vec<async_channel::Sender<ToShard>>,
    /// What this node's own logs have reached, for the Hello of a new link.
    versions: Box<[AtomicU64; PARTITIONS]>,
    /// For each shard, whether it waits for what a node has advertised.
    awaits: Vec<AtomicBool>,
    /// Whether nodes or seeds were heard of that are not reached yet.
    reaches_out: AtomicBool,
    next_link: AtomicU64,
    ready_to_leave: AtomicUsize,
    pub(crate) mirror: Mirror,
    pub(crate) counters: RegistryCounters,
    pub(crate) address: Option<SocketAddr>,
}

impl RegistryShared {
    /// The shared part for so many shards, and each one's end of its lane.
    pub(crate) fn new(
        shards: usize,
        address: Option<SocketAddr>,
        has_seeds: bool,
    ) -> (Self, Vec<async_channel::Receiver<ToShard>>) {
        // What the lanes hold is bounded by the windows of the links: see `peer_link`.
        let (lanes, ends) = (0..shards).map(|_| async_channel::unbounded()).unzip();
        let shared = RegistryShared {
            lanes,
            versions: Box::new([const { AtomicU64::new(0) }; PARTITIONS]),
            awaits: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            reaches_out: AtomicBool::new(has_seeds),
            next_link: AtomicU64::new(0),
            ready_to_leave: AtomicUsize::new(0),
            mirror: Mirror::default(),
            counters: RegistryCounters::default(),
            address,
        };
        (shared, ends)
    }

    pub(crate) fn shards(&self) -> usize {
        self.lanes.len()
    }

    /// Sends to a shard. One that has stopped needs no word; the message is then dropped here.
    pub(crate) fn send(&self, shard: usize, message: ToShard) {
        let _stopped = self.lanes[shard].try_send(message);
    }

    /// A link that nobody has used, and so its shard.
    pub(crate) fn new_link(&self) -> LinkId {
        LinkId(self.next_link.fetch_add(1, Ordering::Relaxed))
    }

    /// The shard that a link lives on.
    pub(crate) fn shard_of(&self, link: LinkId) -> usize {
        // The remainder is below the number of shards.
        (link.0 % self.lanes.len() as u64) as usize
    }

    pub(crate) fn set_version(&self, partition: usize, version: Version) {
        self.versions[partition].store(version, Ordering::Release);
    }

    pub(crate) fn versions(&self) -> Box<[Version; PARTITIONS]> {
        let mut versions = Box::new([0; PARTITIONS]);
        for (version, shared) in versions.iter_mut().zip(self.versions.iter()) {
            *version = shared.load(Ordering::Acquire);
        }
        versions
    }

    pub(crate) fn set_awaits(&self, shard: usize, awaits: bool) {
        self.awaits[shard].store(awaits, Ordering::Release);
    }

    pub(crate) fn set_reaches_out(&self, reaches_out: bool) {
        self.reaches_out.store(reaches_out, Ordering::Release);
    }

    pub(crate) fn is_syncing(&self) -> bool {
        self.reaches_out.load(Ordering::Acquire)
            || self.awaits.iter().any(|awaits| awaits.load(Ordering::Acquire))
    }

    /// A shard has nothing more to say.
    pub(crate) fn ready_to_leave(&self) {
        self.ready_to_leave.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn shards_ready_to_leave(&self) -> usize {
        self.ready_to_leave.load(Ordering::Acquire)
    }
}

/// So that what is shared can be handed about.
pub(crate) type Shared = Arc<RegistryShared>;
