//! What a shard sends: its own changes to every peer, and what a peer asked for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use crate::export::{Chunk, Cursor};
use crate::partitions::{Incoming, Partitions};
use crate::wire::Encoded;
use crate::wire::v1::{Frame, LogId, Place};
use crate::{Delta, Digest, Epoch, NodeKey, PARTITIONS, Partition, Seal, Version};

/// A peer with an open link: a cursor for each log, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its places in this node's logs. Before it has said where it is, nothing is sent.
    own: BTreeMap<Partition, Cursor>,
    /// Its places in other nodes' logs that it asked for, until they are done.
    relayed: BTreeMap<(NodeKey, Partition), Cursor>,
    /// Other nodes' logs that were asked of it, and how many answers may still end.
    asked: BTreeMap<(NodeKey, Partition), u32>,
    /// Where a log was when a gap made this node pull it from this peer.
    gaps: BTreeMap<(NodeKey, Partition), Place>,
    live_bytes: usize,
    transfer_bytes: usize,
}

impl Peer {
    pub(super) fn forget_own_places(&mut self) {
        self.own.clear();
    }

    pub(super) fn has_asked_for(&self, origin: NodeKey, partition: Partition) -> bool {
        self.asked.contains_key(&(origin, partition))
    }
}

impl Partitions {
    /// A link to a peer is open, and the membership has told about it. Asks for its logs from where they are here.
    pub fn handle_link_up(&mut self, peer: NodeKey) {
        self.peers.insert(peer, Peer::default());
        self.send_pull(peer, peer, None);
    }

    /// The link is closed; what was under way is forgotten.
    pub fn handle_link_down(&mut self, peer: NodeKey) {
        self.peers.remove(&peer);
        self.frames.retain(|(to, _)| *to != peer);
    }

    /// A frame of this shard was written to the peer's socket: there is room for more changes.
    pub fn handle_written(&mut self, peer: NodeKey, frame: &Encoded) {
        let room = self.config.window.live_bytes.div_ceil(self.config.shards);
        let Some(peer) = self.peers.get_mut(&peer).filter(|_| frame.is_live()) else { return };
        let was_full = peer.live_bytes >= room;
        peer.live_bytes = peer.live_bytes.saturating_sub(frame.frame_bytes());
        // Only who found no room waits for some.
        if was_full && peer.live_bytes < room {
            self.send_lagging();
        }
    }

    /// When [`Partitions::handle_timeout`] is to be called: changes wait for company.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let commands = self.command_timeout();
        let flush = self.flushed_at.filter(|_| !self.dirty.is_empty()).map(|at| at + self.flush_interval());
        commands.into_iter().chain(flush).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_commands(now);
        self.flush_if_due(now);
    }

    /// This shard's part of the digest of this node's versions, as far as they were enqueued to a peer.
    #[must_use]
    pub fn enqueued_digest(&self, peer: NodeKey) -> Digest {
        let cursors = self.peers.get(&peer).into_iter().flat_map(|peer| &peer.own);
        cursors.map(|(partition, cursor)| Digest::of_log(self.config.epoch, *partition, cursor.known())).sum()
    }

    /// Asks a peer for a node's logs: the part of one partition, or of all that are this shard's.
    pub fn send_pull(&mut self, peer: NodeKey, node: NodeKey, partition: Option<Partition>) {
        let Some(origin) = self.origins.get(&node) else { return };
        let Some(link) = self.peers.get_mut(&peer) else { return };
        let all = Partition::of_shard(self.config.shard, self.config.shards);
        let places: Vec<Place> = match partition {
            Some(partition) => vec![origin.place(partition)],
            None => all.map(|partition| origin.place(partition)).collect(),
        };
        if node != peer {
            for place in &places {
                *link.asked.entry((node, place.partition)).or_default() += 1;
            }
        }
        self.send(peer, &Frame::Pull { origin: node, epoch: origin.epoch, places });
    }

    /// Pulls what a chunk showed to be missing. The chunks behind it, which are under way, show the same: only the first
    /// pulls. If that leads to nothing, the digests will differ.
    pub(super) fn pull_gap(&mut self, peer: NodeKey, node: NodeKey, partition: Partition) {
        let Some(place) = self.origins.get(&node).map(|origin| origin.place(partition)) else { return };
        let Some(link) = self.peers.get_mut(&peer) else { return };
        if link.gaps.insert((node, partition), place) != Some(place) {
            self.send_pull(peer, node, Some(partition));
        }
    }

    /// Tells a peer what is known here of a node's logs, so that either pulls what it lacks.
    pub fn send_versions(&mut self, peer: NodeKey, node: NodeKey) {
        let Some((epoch, known)) = self.known_of(node) else { return };
        let place = |(partition, known)| Place { partition, known, content: known };
        let places = known.into_iter().map(place).collect();
        self.send(peer, &Frame::Versions { origin: node, epoch, places });
    }

    pub(super) fn send(&mut self, peer: NodeKey, frame: &Frame) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        match Encoded::new(frame) {
            Ok(encoded) => self.frames.push_back((peer, encoded)),
            Err(error) => debug_assert!(false, "an own frame is within the limits: {error}"),
        }
    }

    pub(super) fn own_changed(&mut self, partition: Partition, now: Instant) {
        self.dirty.insert(partition);
        self.flush_if_due(now);
    }

    /// At once if the last time is long enough ago, else when [`Partitions::poll_timeout`] says.
    pub(super) fn flush_if_due(&mut self, now: Instant) {
        let waits = self.flushed_at.is_some_and(|at| now < at + self.flush_interval());
        if !waits && !self.dirty.is_empty() {
            self.flush(now);
        }
    }

    /// Sends to every peer what its windows allow: live changes first, then transfers.
    fn flush(&mut self, now: Instant) {
        self.flushed_at = Some(now);
        for partition in std::mem::take(&mut self.dirty) {
            self.send_partition(partition, ChunkKind::Live);
        }
        self.send_lagging();
    }

    /// Goes on with what found no room before. It does not make a change wait that comes next.
    fn send_lagging(&mut self) {
        for partition in self.lagging.clone() {
            self.send_partition(partition, ChunkKind::Transfer);
        }
        self.send_relayed();
    }

    fn flush_interval(&self) -> Duration {
        Duration::from_millis(match self.peers.len() + 1 {
            ..=64 => 1,
            65..=128 => 2,
            _ => 5,
        })
    }

    /// Sends one partition of this node to all peers that lag; those at the same place share the encoding.
    fn send_partition(&mut self, partition: Partition, kind: ChunkKind) {
        self.lagging.remove(&partition);
        let Some(log) = self.own.get(&partition) else { return };
        let id = LogId { origin: self.me, epoch: self.config.epoch, partition };
        let mut shared: Vec<(Cursor, Cursor, Encoded, ChunkKind)> = Vec::new();
        let mut total: usize = self.peers.values().map(|peer| peer.transfer_bytes).sum();
        let shards = self.config.shards;
        for (key, peer) in &mut self.peers {
            while let Some(cursor) = peer.own.get(&partition).copied() {
                let live_room = peer.live_bytes < self.config.window.live_bytes.div_ceil(shards);
                let transfer_room = peer.transfer_bytes < self.config.window.transfer_bytes.div_ceil(shards)
                    && total < self.config.window.transfers_bytes.div_ceil(shards);
                if cursor.is_done(log) || !(live_room || transfer_room) {
                    break;
                }
                // So far behind, it is a transfer: not worth encoding while there is no room for it.
                if !transfer_room && log.known().saturating_sub(cursor.known()) > LIVE_EVENTS_MAX as u64 {
                    break;
                }
                let at = shared.iter().position(|(before, ..)| *before == cursor).or_else(|| {
                    let mut after = cursor;
                    let chunk = after.next_chunk(log, &self.config.chunk)?;
                    let kind = ChunkKind::of_chunk(&chunk);
                    // A chunk ends at its limit of bytes, far below that of a frame.
                    let encoded = Encoded::new(&frame_of(id, chunk)).ok()?;
                    let encoded = if kind == ChunkKind::Live { encoded.into_live() } else { encoded };
                    shared.push((cursor, after, encoded, kind));
                    Some(shared.len() - 1)
                });
                let Some((_, after, encoded, its_kind)) = at.map(|at| &shared[at]) else { break };
                let has_room = if *its_kind == ChunkKind::Live { live_room } else { transfer_room };
                if (kind == ChunkKind::Live && *its_kind == ChunkKind::Transfer) || !has_room {
                    break;
                }
                let bytes = encoded.frame_bytes();
                match its_kind {
                    ChunkKind::Live => peer.live_bytes += bytes,
                    ChunkKind::Transfer => {
                        peer.transfer_bytes += bytes;
                        total += bytes;
                    }
                }
                peer.own.insert(partition, *after);
                self.frames.push_back((*key, encoded.clone()));
            }
            if peer.own.get(&partition).is_some_and(|cursor| !cursor.is_done(log)) {
                self.lagging.insert(partition);
            }
        }
    }

    /// Sends what peers asked for of other nodes' logs. All of it counts as a transfer.
    fn send_relayed(&mut self) {
        let share = self.config.window.transfer_bytes.div_ceil(self.config.shards);
        let share_of_all = self.config.window.transfers_bytes.div_ceil(self.config.shards);
        let mut total: usize = self.peers.values().map(|peer| peer.transfer_bytes).sum();
        for (key, peer) in &mut self.peers {
            let asked: Vec<_> = peer.relayed.keys().copied().collect();
            for (node, partition) in asked {
                let origin = self.origins.get(&node);
                let log = origin.and_then(|origin| Some((origin.epoch, origin.logs.get(&partition)?)));
                while let Some(cursor) = peer.relayed.get_mut(&(node, partition)) {
                    if peer.transfer_bytes >= share || total >= share_of_all {
                        break;
                    }
                    let next = log.and_then(|(epoch, log)| {
                        let chunk = cursor.next_chunk(log, &self.config.chunk)?;
                        let is_last = match &chunk {
                            Chunk::Delta(delta) => is_last_delta(delta),
                            Chunk::Seal(seal) => is_last_seal(seal),
                        };
                        let frame = frame_of(LogId { origin: node, epoch, partition }, chunk);
                        Some((Encoded::new(&frame).ok()?, is_last))
                    });
                    // What follows the last was not asked for.
                    if next.as_ref().is_none_or(|(_, is_last)| *is_last) {
                        peer.relayed.remove(&(node, partition));
                    }
                    let Some((encoded, _)) = next else { break };
                    peer.transfer_bytes += encoded.frame_bytes();
                    total += encoded.frame_bytes();
                    self.frames.push_back((*key, encoded));
                }
            }
        }
    }

    pub(super) fn handle_pull(&mut self, from: NodeKey, node: NodeKey, epoch: Epoch, places: &[Place]) {
        let (shard, shards) = (self.config.shard, self.config.shards);
        let mine = places.iter().filter(|place| place.partition.shard(shards) == shard);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if node == self.me && epoch == self.config.epoch {
            for place in mine {
                peer.own.insert(place.partition, Cursor::new(place.known, place.content));
                self.lagging.insert(place.partition);
            }
        } else if self.origins.get(&node).is_some_and(|origin| origin.epoch == epoch) {
            for place in mine {
                peer.relayed.insert((node, place.partition), Cursor::new(place.known, place.content));
            }
        }
        self.send_lagging();
    }

    /// Pulls where the peer is ahead, and tells it where it lags. Two nodes that are equal are silent.
    pub(super) fn handle_versions(&mut self, from: NodeKey, node: NodeKey, epoch: Epoch, places: &[Place]) {
        let Some((our_epoch, known)) = self.known_of(node) else { return };
        if our_epoch != epoch {
            return;
        }
        let mut ahead = Vec::new();
        for place in places {
            if !self.is_mine(place.partition) {
                continue;
            }
            let ours = known.get(&place.partition).copied().unwrap_or(0);
            if ours < place.known && node != self.me {
                self.send_pull(from, node, Some(place.partition));
            } else if ours > place.known {
                ahead.push(Place { partition: place.partition, known: ours, content: ours });
            }
        }
        if !ahead.is_empty() {
            self.send(from, &Frame::Versions { origin: node, epoch, places: ahead });
        }
    }

    pub(super) fn handle_credit(&mut self, from: NodeKey, partition: Partition, bytes: u64) {
        if !self.is_mine(partition) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.transfer_bytes =
            peer.transfer_bytes.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        // The room is that of all partitions, whichever the credit was for.
        self.send_lagging();
    }

    /// A transfer is credited chunk by chunk, whatever becomes of it, and ends what was asked for with its last.
    pub(super) fn credit_chunk(
        &mut self,
        from: NodeKey,
        id: LogId,
        chunk: &Incoming<'_>,
        frame_bytes: usize,
    ) {
        let relayed = id.origin != from;
        let (kind, is_last) = match chunk {
            Incoming::Delta(delta) => (ChunkKind::of_delta(delta), is_last_delta(delta)),
            Incoming::Seal(seal) => (ChunkKind::Transfer, is_last_seal(seal)),
        };
        if relayed || kind == ChunkKind::Transfer {
            self.send(from, &Frame::Credit { partition: id.partition, bytes: frame_bytes as u64 });
        }
        if relayed
            && is_last
            && let Some(peer) = self.peers.get_mut(&from)
        {
            // A Pull that overtakes the answer to the one before may be answered, too.
            if let Entry::Occupied(mut asked) = peer.asked.entry((id.origin, id.partition)) {
                *asked.get_mut() -= 1;
                if *asked.get() == 0 {
                    asked.remove();
                }
            }
        }
    }

    pub(super) fn node_gone(&mut self, node: NodeKey) {
        for peer in self.peers.values_mut() {
            peer.relayed.retain(|(origin, _), _| *origin != node);
            peer.gaps.retain(|(origin, _), _| *origin != node);
        }
        self.fail_commands_to(node);
    }

    fn known_of(&self, node: NodeKey) -> Option<(Epoch, BTreeMap<Partition, Version>)> {
        let (epoch, logs) = if node == self.me {
            (self.config.epoch, &self.own)
        } else {
            let origin = self.origins.get(&node)?;
            (origin.epoch, &origin.logs)
        };
        debug_assert!(logs.len() <= PARTITIONS);
        let mine = Partition::of_shard(self.config.shard, self.config.shards);
        let known = mine.map(|partition| (partition, logs.get(&partition).map_or(0, crate::Log::known)));
        Some((epoch, known.collect()))
    }
}

/// Sender and receiver must agree on it, since only transfers are credited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ChunkKind {
    Live,
    Transfer,
}

impl ChunkKind {
    /// A delta that brings the receiver up to date by little is live; all else is part of a transfer.
    fn of_delta(delta: &Delta) -> Self {
        let events = delta.puts.len() + delta.removals.len();
        if is_last_delta(delta) && events <= LIVE_EVENTS_MAX { Self::Live } else { Self::Transfer }
    }

    fn of_chunk(chunk: &Chunk) -> Self {
        match chunk {
            Chunk::Delta(delta) => Self::of_delta(delta),
            Chunk::Seal(_) => Self::Transfer,
        }
    }
}

fn is_last_delta(delta: &Delta) -> bool {
    delta.to == delta.horizon && delta.removals_from <= delta.from
}

fn is_last_seal(seal: &Seal) -> bool {
    seal.high == seal.target && seal.target == seal.horizon
}

fn frame_of(log: LogId, chunk: Chunk) -> Frame {
    match chunk {
        Chunk::Delta(delta) => Frame::Delta { log, delta },
        Chunk::Seal(seal) => Frame::Seal { log, seal },
    }
}

/// Events in a live delta. A constant of the wire, as both sides classify by it.
const LIVE_EVENTS_MAX: usize = 256;
