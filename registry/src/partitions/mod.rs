//! The machine of one shard: the logs of its partitions, this node's and all others'.
//!
//! What a node's membership is comes as a [`MemberChange`], what its peers say as frames. After each input, take all
//! frames by [`Partitions::poll_frame`] and all events by [`Partitions::poll_event`]; what one input brings forth is
//! bounded by the windows of the peers and by the entries that it changes.

mod commanding;
mod sending;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use crate::fault::{self, Fault};
use crate::limits::{ChunkLimits, LogLimits, WindowLimits};
use crate::wire::Encoded;
use crate::wire::v1::{Frame, LogId, Outcome, Place};
use crate::{
    Applied, Change, ChunkError, CommandLedger, Delta, Digest, Epoch, Log, NodeKey, PARTITIONS, Partition,
    QuotaExceeded, Seal, Service, ServiceKey, Version,
};
use commanding::Pending;
use sending::Peer;

/// What a shard must know.
#[derive(Clone, Debug)]
pub struct PartitionsConfig {
    /// This node's name.
    pub name: Arc<str>,
    /// This node's life.
    pub epoch: Epoch,
    /// Which shard this is.
    pub shard: usize,
    /// How many there are.
    pub shards: usize,
    /// Bounds of each log.
    pub log: LogLimits,
    /// Bounds of each chunk.
    pub chunk: ChunkLimits,
    /// Bounds of what is under way.
    pub window: WindowLimits,
}

/// What the membership tells each shard.
#[derive(Clone, Debug)]
pub enum MemberChange {
    /// A node said Hello and is Up. Its services are shown, partition by partition, once its log has reached the
    /// version that this Hello advertised.
    Up {
        /// Its name.
        name: Arc<str>,
        /// Its life; logs of another one are dropped.
        epoch: Epoch,
        /// What its own logs had reached.
        advertised: Box<[Version; PARTITIONS]>,
    },
    /// Its services are shown on, but flagged.
    Suspect(NodeKey),
    /// It was suspected wrongly: nothing is flagged.
    Cleared(NodeKey),
    /// Its services are hidden, its logs kept.
    Down(NodeKey),
    /// It left, was forgotten or replaced: its logs are dropped.
    Dropped(NodeKey),
    /// This node goes on with another epoch, since its own was stale.
    Renewed(Epoch),
}

/// An instance that is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    /// The name of the node that offers it.
    pub node: Arc<str>,
    /// What it is.
    pub service: Service,
    /// Whether its node is suspected to be gone.
    pub suspect: bool,
}

/// What became of the services that are shown, and of commands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// An instance is shown that was not.
    Joined(Instance),
    /// An instance, or the standing of its node, changed.
    Updated(Instance),
    /// An instance is not shown any more.
    Left(Instance),
    /// A command of this node has its outcome; if it changed something, the change is visible here.
    Commanded {
        /// The command.
        op_id: u128,
        /// How it went.
        outcome: Outcome,
    },
    /// A command of this node had no answer in time, or its owner went: it may have been carried out.
    CommandInDoubt {
        /// The command.
        op_id: u128,
    },
}

/// What a peer must not send. Its link is to be closed; nothing was changed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// Another origin's log that was not asked for, or one that claims to be this node's.
    #[error("an unasked chunk of a log of node {origin}")]
    Unasked {
        /// Whose log it claims to be.
        origin: NodeKey,
    },
    /// Beyond the quota, or malformed.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A frame that is not for this machine.
    #[error("a frame of type {frame_type} or of another shard")]
    Misrouted {
        /// Its type.
        frame_type: u8,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Partitions {
    config: PartitionsConfig,
    me: NodeKey,
    own: BTreeMap<Partition, Log>,
    origins: BTreeMap<NodeKey, Origin>,
    peers: BTreeMap<NodeKey, Peer>,
    ledger: CommandLedger,
    pending: BTreeMap<u128, Pending>,
    /// Changed since the last flush.
    dirty: BTreeSet<Partition>,
    /// Perhaps not sent to all.
    lagging: BTreeSet<Partition>,
    flushed_at: Option<Instant>,
    frames: VecDeque<(NodeKey, Encoded)>,
    events: VecDeque<Event>,
    /// Chunks of nodes or lives that are not known here: dropped, and repaired later.
    unknown_chunks: u64,
}

impl Partitions {
    /// A shard without services.
    #[must_use]
    pub fn new(config: PartitionsConfig) -> Self {
        let me = NodeKey::of_name(&config.name);
        Self {
            config,
            me,
            own: BTreeMap::new(),
            origins: BTreeMap::new(),
            peers: BTreeMap::new(),
            ledger: CommandLedger::default(),
            pending: BTreeMap::new(),
            dirty: BTreeSet::new(),
            lagging: BTreeSet::new(),
            flushed_at: None,
            frames: VecDeque::new(),
            events: VecDeque::new(),
            unknown_chunks: 0,
        }
    }

    /// The next frame to be sent, and to whom.
    pub fn poll_frame(&mut self) -> Option<(NodeKey, Encoded)> {
        self.frames.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > EVENTS_KEPT {
            // A node that came or went fills it once; that is not to be held for ever.
            self.events = VecDeque::new();
        }
        event
    }

    /// Chunks that were dropped since their node, or its life, is not known here.
    #[must_use]
    pub fn unknown_chunks(&self) -> u64 {
        self.unknown_chunks
    }

    // This node's own entries.

    /// Adds or replaces an entry of this node.
    ///
    /// # Errors
    ///
    /// If it would be beyond the quota; nothing was changed.
    ///
    /// # Panics
    ///
    /// If its partition is another shard's.
    pub fn put(&mut self, service: &Service, now: Instant) -> Result<Version, QuotaExceeded> {
        let partition = service.partition();
        self.assert_mine(partition);
        let log = self.own.entry(partition).or_insert_with(|| Log::new(self.config.log));
        let previous = log.get(service.kind(), service.id()).map(|(_, service)| service.clone());
        let version = log.put(service.clone())?;
        let change = Change::Put { service: service.clone(), previous };
        self.events.push_back(event_of(&self.config.name, change, false));
        self.own_changed(partition, now);
        Ok(version)
    }

    /// Removes an entry of this node; `None` if there is none.
    ///
    /// # Panics
    ///
    /// If its partition is another shard's.
    pub fn remove(&mut self, key: &ServiceKey, now: Instant) -> Option<Version> {
        let partition = key.partition();
        self.assert_mine(partition);
        let (version, service) = self.own.get_mut(&partition)?.remove(key)?;
        self.events.push_back(event_of(&self.config.name, Change::Removed { service }, false));
        self.own_changed(partition, now);
        Some(version)
    }

    /// What this node's own logs have reached, for the Hello; only the partitions of this shard are set.
    #[must_use]
    pub fn own_versions(&self) -> Box<[Version; PARTITIONS]> {
        let mut versions = Box::new([0; PARTITIONS]);
        for (partition, log) in &self.own {
            versions[partition.index()] = log.known();
        }
        versions
    }

    // What is shown.

    /// The entry of a node, if it is shown.
    #[must_use]
    pub fn find(&self, node: NodeKey, key: &ServiceKey) -> Option<(Version, &Service)> {
        let log = if node == self.me {
            self.own.get(&key.partition())?
        } else {
            let origin = self.origins.get(&node)?;
            origin.logs.get(&key.partition()).filter(|_| origin.shows(key.partition()))?
        };
        log.get(key.kind(), key.id())
    }

    /// All instances of a type that are shown, by node key and id.
    #[must_use]
    pub fn instances(&self, kind: &[u8]) -> Vec<Instance> {
        let partition = Partition::of_kind(kind);
        let mut found = Vec::new();
        let own = self.own.get(&partition).map(|log| (self.me, &self.config.name, log, false));
        let others =
            self.origins.iter().filter(|(_, origin)| origin.shows(partition)).filter_map(|(key, origin)| {
                Some((*key, &origin.name, origin.logs.get(&partition)?, origin.standing == Standing::Suspect))
            });
        for (key, name, log, suspect) in own.into_iter().chain(others) {
            found.extend(log.entries_of_kind(kind).map(|(_, service)| {
                (key, Instance { node: Arc::clone(name), service: service.clone(), suspect })
            }));
        }
        found.sort_unstable_by(|(node, one), (other, next)| {
            node.cmp(other).then_with(|| one.service.id().cmp(next.service.id()))
        });
        found.into_iter().map(|(_, instance)| instance).collect()
    }

    /// The instances of a type that lookups may choose: online, and of those that are `unique` and share an id only
    /// the one whose node has the least key.
    #[must_use]
    pub fn candidates(&self, kind: &[u8]) -> Vec<Instance> {
        let mut unique = BTreeSet::new();
        let mut candidates = self.instances(kind);
        candidates.retain(|instance| {
            let service = &instance.service;
            service.is_online() && (!service.is_unique() || unique.insert(service.id().to_vec()))
        });
        candidates
    }

    /// The types of which instances may be shown, ascending.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<Vec<u8>> {
        let others = self.origins.values().flat_map(|origin| &origin.logs).filter(|(_, log)| !log.is_empty());
        let logs = self.own.iter().chain(others);
        logs.flat_map(|(_, log)| log.kinds()).map(<[u8]>::to_vec).collect()
    }

    /// Whether everything that a node advertised in its Hello is shown.
    #[must_use]
    pub fn is_synced(&self, node: NodeKey) -> bool {
        self.origins.get(&node).is_some_and(|origin| origin.awaited.is_empty())
    }

    /// The log of a node's partition, for inspection; of this node, its own.
    #[must_use]
    pub fn log(&self, node: NodeKey, partition: Partition) -> Option<&Log> {
        if node == self.me { self.own.get(&partition) } else { self.origins.get(&node)?.logs.get(&partition) }
    }

    /// What this shard has of each node's logs, as its part of a digest.
    pub fn digests(&self) -> impl Iterator<Item = (NodeKey, Digest)> {
        let digest = |epoch: Epoch, logs: &BTreeMap<Partition, Log>| {
            logs.iter().map(|(partition, log)| Digest::of_log(epoch, *partition, log.known())).sum()
        };
        let own = (self.me, digest(self.config.epoch, &self.own));
        let others = self.origins.iter().map(move |(key, origin)| (*key, digest(origin.epoch, &origin.logs)));
        std::iter::once(own).chain(others)
    }

    /// What this shard has of one node's logs, as its part of a digest.
    #[must_use]
    pub fn digest(&self, node: NodeKey) -> Digest {
        let (epoch, logs) = if node == self.me {
            (self.config.epoch, &self.own)
        } else {
            let Some(origin) = self.origins.get(&node) else { return Digest::default() };
            (origin.epoch, &origin.logs)
        };
        logs.iter().map(|(partition, log)| Digest::of_log(epoch, *partition, log.known())).sum()
    }

    // Membership.

    /// Takes what the membership decided. It alone creates, shows, hides and drops nodes.
    pub fn handle_member(&mut self, change: MemberChange, now: Instant) {
        match change {
            MemberChange::Up { name, epoch, advertised } => self.node_up(&name, epoch, &advertised, now),
            MemberChange::Suspect(node) => self.set_suspect(node, Standing::Shown, Standing::Suspect),
            MemberChange::Cleared(node) => self.set_suspect(node, Standing::Suspect, Standing::Shown),
            MemberChange::Down(node) => {
                if let Some(origin) = self.origins.get_mut(&node) {
                    origin.hide(&mut self.events);
                }
                self.node_gone(node);
            }
            MemberChange::Dropped(node) => {
                if let Some(mut origin) = self.origins.remove(&node) {
                    origin.hide(&mut self.events);
                }
                self.node_gone(node);
            }
            MemberChange::Renewed(epoch) => {
                self.config.epoch = epoch;
                // To the peers it is another set of logs, of which they have nothing.
                for peer in self.peers.values_mut() {
                    peer.forget_own_places();
                }
            }
        }
    }

    fn node_up(&mut self, name: &Arc<str>, epoch: Epoch, advertised: &[Version; PARTITIONS], now: Instant) {
        let node = NodeKey::of_name(name);
        if node == self.me {
            return;
        }
        if self.origins.get(&node).is_some_and(|origin| origin.epoch != epoch) {
            self.handle_member(MemberChange::Dropped(node), now);
        }
        let log_limits = self.config.log;
        let origin = self.origins.entry(node).or_insert_with(|| Origin::new(Arc::clone(name), epoch));
        let was = std::mem::replace(&mut origin.standing, Standing::Shown);
        if was == Standing::Hidden {
            for partition in Partition::of_shard(self.config.shard, self.config.shards) {
                let version = advertised[partition.index()];
                let known = origin.logs.get(&partition).map_or(0, Log::known);
                if known < version && !fault::is_built_in(Fault::ShownBeforeSynced) {
                    origin.awaited.insert(partition, version);
                    origin.logs.entry(partition).or_insert_with(|| Log::new(log_limits));
                } else {
                    origin.announce(partition, Event::Joined, &mut self.events);
                }
            }
        } else if was == Standing::Suspect {
            origin.announce_all(Event::Updated, &mut self.events);
        }
    }

    fn set_suspect(&mut self, node: NodeKey, from: Standing, to: Standing) {
        if let Some(origin) = self.origins.get_mut(&node).filter(|origin| origin.standing == from) {
            origin.standing = to;
            origin.announce_all(Event::Updated, &mut self.events);
        }
    }

    // Frames.

    /// Takes a frame from a peer with an open link: Delta, Seal, Pull, Versions, Command, CommandAck or Credit. Those
    /// that name several partitions may be given to every shard; each takes its own. `frame_bytes` is what the frame
    /// took on the wire.
    ///
    /// # Errors
    ///
    /// What the peer must not send. Its link is to be closed; nothing was changed.
    pub fn handle_frame(
        &mut self,
        from: NodeKey,
        frame: &Frame,
        frame_bytes: usize,
        now: Instant,
    ) -> Result<(), Violation> {
        match frame {
            Frame::Delta { log, delta } => {
                self.handle_chunk(from, *log, &Incoming::Delta(delta), frame_bytes)
            }
            Frame::Seal { log, seal } => self.handle_chunk(from, *log, &Incoming::Seal(seal), frame_bytes),
            Frame::Pull { origin, epoch, places } => {
                self.handle_pull(from, *origin, *epoch, places);
                Ok(())
            }
            Frame::Versions { origin, epoch, places } => {
                self.handle_versions(from, *origin, *epoch, places);
                Ok(())
            }
            Frame::Credit { partition, bytes } => {
                self.handle_credit(from, *partition, *bytes);
                Ok(())
            }
            Frame::Command { op_id, epoch, operation, key, expect_version, .. }
                if self.is_mine(key.partition()) =>
            {
                self.handle_command(from, *op_id, *epoch, *operation, key, *expect_version, now);
                Ok(())
            }
            Frame::CommandAck { op_id, outcome } => {
                self.handle_command_ack(from, *op_id, *outcome);
                Ok(())
            }
            _ => Err(Violation::Misrouted { frame_type: frame.frame_type() }),
        }
    }

    fn handle_chunk(
        &mut self,
        from: NodeKey,
        id: LogId,
        chunk: &Incoming<'_>,
        frame_bytes: usize,
    ) -> Result<(), Violation> {
        let LogId { origin: node, epoch, partition } = id;
        if !self.is_mine(partition) {
            return Err(Violation::Misrouted { frame_type: 0 });
        }
        if node != from && !self.peers.get(&from).is_some_and(|peer| peer.has_asked_for(node, partition)) {
            return Err(Violation::Unasked { origin: node });
        }
        match chunk {
            Incoming::Delta(delta) => delta.check(partition).map_err(ChunkError::from)?,
            Incoming::Seal(seal) => seal.check().map_err(ChunkError::from)?,
        }
        self.credit_chunk(from, id, chunk, frame_bytes);
        if fault::is_built_in(Fault::DataCreatesMembers) && !self.origins.contains_key(&node) {
            let mut origin = Origin::new(format!("{node}").into(), epoch);
            origin.standing = Standing::Shown;
            self.origins.insert(node, origin);
        }
        let Some(origin) = self.origins.get_mut(&node).filter(|origin| origin.epoch == epoch) else {
            self.unknown_chunks += 1;
            return Ok(());
        };
        let log = origin.logs.entry(partition).or_insert_with(|| Log::new(self.config.log));
        let (mut changes, known_before) = (Vec::new(), log.known());
        let applied = match chunk {
            Incoming::Delta(delta) => log.apply_delta(delta, &mut changes),
            Incoming::Seal(seal) => log.apply_seal(seal, &mut changes),
        };
        let suspect = origin.standing == Standing::Suspect;
        if origin.shows(partition) {
            let events = changes.into_iter().map(|change| event_of(&origin.name, change, suspect));
            self.events.extend(events);
            if matches!(applied, Err(ChunkError::SealMissing { restarted: true, .. })) && known_before > 0 {
                // It begins anew, perhaps from somebody who lags: nothing of before this version is shown again.
                origin.awaited.insert(partition, known_before);
            }
        } else if origin.has_reached_awaited(partition) {
            origin.awaited.remove(&partition);
            origin.announce(partition, Event::Joined, &mut self.events);
        }
        match applied {
            Ok(Applied::Advanced) => self.answer_waiting(node, partition),
            Ok(Applied::Filled | Applied::Nothing) => {}
            Err(ChunkError::Gap { .. }) => self.pull_gap(from, node, partition),
            Err(ChunkError::SealMissing { .. }) => self.send_pull(from, node, Some(partition)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn is_mine(&self, partition: Partition) -> bool {
        partition.shard(self.config.shards) == self.config.shard
    }

    fn assert_mine(&self, partition: Partition) {
        assert!(self.is_mine(partition), "partition {} is another shard's", partition.get());
    }
}

/// Events for which the queue keeps its memory.
const EVENTS_KEPT: usize = 1024;

enum Incoming<'a> {
    Delta(&'a Delta),
    Seal(&'a Seal),
}

/// Another node, as this shard knows it.
#[derive(Debug)]
struct Origin {
    name: Arc<str>,
    epoch: Epoch,
    standing: Standing,
    logs: BTreeMap<Partition, Log>,
    /// Partitions that are not shown until their log has reached the version that the Hello advertised.
    awaited: BTreeMap<Partition, Version>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Shown,
    Suspect,
    Hidden,
}

impl Origin {
    fn new(name: Arc<str>, epoch: Epoch) -> Self {
        Self { name, epoch, standing: Standing::Hidden, logs: BTreeMap::new(), awaited: BTreeMap::new() }
    }

    fn shows(&self, partition: Partition) -> bool {
        self.standing != Standing::Hidden && !self.awaited.contains_key(&partition)
    }

    fn has_reached_awaited(&self, partition: Partition) -> bool {
        let known = self.logs.get(&partition).map_or(0, Log::known);
        self.awaited.get(&partition).is_some_and(|version| known >= *version)
    }

    fn hide(&mut self, events: &mut VecDeque<Event>) {
        self.announce_all(Event::Left, events);
        self.awaited.clear();
        self.standing = Standing::Hidden;
    }

    fn announce_all(&self, event: fn(Instance) -> Event, events: &mut VecDeque<Event>) {
        for partition in self.logs.keys() {
            self.announce(*partition, event, events);
        }
    }

    /// One event for each entry of a partition that is shown.
    fn announce(&self, partition: Partition, event: fn(Instance) -> Event, events: &mut VecDeque<Event>) {
        let Some(log) = self.logs.get(&partition).filter(|_| self.shows(partition)) else { return };
        let suspect = self.standing == Standing::Suspect;
        events.extend(log.entries().map(|(_, service)| {
            event(Instance { node: Arc::clone(&self.name), service: service.clone(), suspect })
        }));
    }

    /// From where on this node's log is needed.
    fn place(&self, partition: Partition) -> Place {
        let log = self.logs.get(&partition);
        Place { partition, known: log.map_or(0, Log::known), content: log.map_or(0, Log::content) }
    }
}

fn event_of(node: &Arc<str>, change: Change, suspect: bool) -> Event {
    let instance = |service| Instance { node: Arc::clone(node), service, suspect };
    match change {
        Change::Put { service, previous: None } => Event::Joined(instance(service)),
        Change::Put { service, previous: Some(_) } => Event::Updated(instance(service)),
        Change::Removed { service } => Event::Left(instance(service)),
    }
}
