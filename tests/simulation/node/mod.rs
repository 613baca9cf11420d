//! A process with the real machines, driven as the registry's crate says.

mod linking;
mod sharding;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use croupier_registry::wire::Encoded;
use croupier_registry::wire::v1::{ByeReason, Frame};
use croupier_registry::{
    DialResult, Digest, Epoch, Link, LinkId, Membership, MembershipConfig, Next, NodeKey, PARTITIONS,
    Partition, Partitions, PartitionsConfig, ProcessId, Service, ServiceKey, Version,
};
use fastrand::Rng;

use crate::network::{Event, Network};
use crate::oracle::Oracle;
use crate::plan::{Micros, Plan, SECOND};
use crate::shard::{Message, Shard};
use crate::watch::Watch;

/// What a process needs of the world while it is driven.
pub(crate) struct Context<'a> {
    pub(crate) network: &'a mut Network,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) random: &'a mut Rng,
    pub(crate) plan: &'a Plan,
    /// Whether frames are lost, repeated and reordered below the links.
    pub(crate) hostile: bool,
    /// Frames that may come again.
    pub(crate) archive: &'a mut VecDeque<(NodeKey, Arc<Frame>, usize)>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) host: usize,
    pub(crate) name: Arc<str>,
    pub(crate) key: NodeKey,
    pub(crate) membership: Membership,
    pub(crate) shards: Vec<Shard>,
    links: BTreeMap<LinkId, LinkState>,
    open: BTreeMap<NodeKey, LinkId>,
    digest_due: Micros,
    timer_at: Option<Micros>,
    inbox_due: Micros,
    pub(crate) watch: Watch,
    /// Addresses to be dialled, and within which time.
    pub(crate) dials: Vec<(String, Micros)>,
}

#[derive(Debug)]
struct LinkState {
    link: Link,
    connection: usize,
    end: usize,
    dialled: Option<String>,
    received: Vec<u8>,
    /// Frames that the socket has no room for, and the shards that they are of.
    waiting: VecDeque<(Option<usize>, Encoded)>,
    /// Frames of the membership until the link is open.
    held: Vec<Encoded>,
    /// Bytes of live changes that wait, by shard.
    live: Vec<usize>,
    /// Bytes of transfers without credit, by shard.
    transfers: Vec<usize>,
    /// Whether spoilt bytes came, after which no frame may be taken.
    poisoned: bool,
}

impl Process {
    pub(crate) fn start(number: u32, host: usize, name: &str, unix_ms: u64, cx: &mut Context<'_>) -> Self {
        let key = NodeKey::of_name(name);
        let mut config = MembershipConfig::new(*b"cluster-of-tests", name);
        config.address = address(host);
        config.seeds = vec![address(0), address(1)];
        config.forget_after = cx.plan.forget_after;
        let epoch = Epoch::at_start(unix_ms, cx.random.u32(..));
        let id = ProcessId::from_random(cx.random.u128(..));
        let count = cx.plan.shards.get(host).copied().unwrap_or(1);
        let shard = |shard| {
            let config = PartitionsConfig {
                name: name.into(),
                epoch,
                shard,
                shards: count,
                log: cx.plan.log,
                chunk: cx.plan.chunk,
                window: cx.plan.window,
            };
            let kinds = cx.plan.kinds.iter().map(|kind| Partition::of_kind(kind));
            let used: BTreeSet<_> = kinds.filter(|partition| partition.shard(count) == shard).collect();
            Shard::new(Partitions::new(config), key, number, used.into_iter().collect())
        };
        let shards = (0..count).map(shard).collect();
        cx.oracle.lives(number, key, epoch);
        let now = cx.network.instant();
        let mut process = Self {
            number,
            host,
            name: name.into(),
            key,
            membership: Membership::new(config, epoch, id, cx.random.u64(..), now),
            shards,
            links: BTreeMap::new(),
            open: BTreeMap::new(),
            digest_due: cx.network.now + cx.random.u64(..SECOND),
            timer_at: None,
            inbox_due: 0,
            watch: Watch::default(),
            dials: Vec::new(),
        };
        process.settle(cx);
        process
    }

    // This node's own services.

    pub(crate) fn put(&mut self, service: &Service, cx: &mut Context<'_>) {
        let shard = self.shard_of(service.partition());
        let now = cx.network.instant();
        if let Ok(version) = self.shards[shard].partitions.put(service, now) {
            cx.oracle.wrote(self.number, &service.key(), version, Some(service.clone()));
        }
        self.after_own_change(shard, service.partition(), cx);
    }

    pub(crate) fn remove(&mut self, key: &ServiceKey, cx: &mut Context<'_>) {
        let shard = self.shard_of(key.partition());
        let now = cx.network.instant();
        if let Some(version) = self.shards[shard].partitions.remove(key, now) {
            cx.oracle.wrote(self.number, key, version, None);
        }
        self.after_own_change(shard, key.partition(), cx);
    }

    /// Lets `act` change a log of this node, by a command if it does.
    pub(crate) fn by_command(
        &mut self,
        shard: usize,
        op_id: u128,
        key: &ServiceKey,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Partitions),
    ) {
        let partitions = &mut self.shards[shard].partitions;
        let known =
            |partitions: &Partitions, me| partitions.log(me, key.partition()).map_or(0, |log| log.known());
        let before = known(partitions, self.key);
        act(partitions);
        let after = known(partitions, self.key);
        cx.oracle
            .require(after <= before + 1, || format!("command {op_id:x} made {} events", after - before));
        if after > before {
            let service = partitions.find(self.key, key).map(|(_, service)| service.clone());
            cx.oracle.wrote(self.number, key, after, service);
            cx.oracle.executed(op_id, after);
        }
    }

    fn after_own_change(&mut self, shard: usize, partition: Partition, cx: &mut Context<'_>) {
        let shown = &mut self.shards[shard];
        shown.drain_events(cx.oracle);
        if let (Some(log), Some(history)) =
            (shown.partitions.log(self.key, partition), cx.oracle.history(self.number, partition))
        {
            let (written, known) = (history.known(), log.known());
            cx.oracle.require(written == known, || format!("wrote {written}, and the log is at {known}"));
        }
        self.settle(cx);
    }

    pub(crate) fn shard_of(&self, partition: Partition) -> usize {
        partition.shard(self.shards.len())
    }

    // Connections.

    pub(crate) fn handle_established(
        &mut self,
        connection: usize,
        end: usize,
        dialled: Option<String>,
        cx: &mut Context<'_>,
    ) {
        // Both ends of a connection bear its number, which no other one of this node has.
        let id = LinkId(connection as u64);
        let mut state = LinkState {
            link: Link::new(cx.network.instant()),
            connection,
            end,
            dialled,
            received: Vec::new(),
            waiting: VecDeque::new(),
            held: Vec::new(),
            live: vec![0; self.shards.len()],
            transfers: vec![0; self.shards.len()],
            poisoned: false,
        };
        let mut versions = Box::new([0; PARTITIONS]);
        for shard in &self.shards {
            let own = shard.partitions.own_versions();
            versions.iter_mut().zip(own.iter()).for_each(|(all, one)| *all = (*all).max(*one));
        }
        let mut buffer = Vec::new();
        if let Err(error) = state.link.write_hello(self.membership.hello(versions), &mut buffer) {
            cx.oracle.fail(|| format!("no Hello: {error}"));
        }
        cx.network.say_hello(connection, end, buffer);
        self.links.insert(id, state);
        self.settle(cx);
    }

    pub(crate) fn handle_gone(&mut self, connection: usize, cx: &mut Context<'_>) {
        self.closed(LinkId(connection as u64), cx);
        self.settle(cx);
    }

    pub(crate) fn handle_dial_failed(&mut self, address: &str, result: DialResult, cx: &mut Context<'_>) {
        self.membership.handle_dial_failed(address, result, cx.network.instant());
        self.settle(cx);
    }

    /// Bytes of a connection.
    pub(crate) fn handle_bytes(
        &mut self,
        connection: usize,
        bytes: &[u8],
        corrupted: bool,
        cx: &mut Context<'_>,
    ) {
        let id = LinkId(connection as u64);
        if let Some(state) = self.links.get_mut(&id) {
            state.received.extend_from_slice(bytes);
            state.poisoned |= corrupted;
        }
        let before = corrupted.then(|| self.state());
        // A frame may close the link.
        while let Some(state) = self.links.get_mut(&id) {
            let next = state.link.next_frame(&state.received);
            let poisoned = state.poisoned;
            match next {
                Ok(Next::Incomplete { .. }) => break,
                Ok(Next::Skipped { bytes }) => {
                    state.received.drain(..bytes);
                    cx.oracle.fail(|| "a frame was skipped that nobody sent".to_owned());
                }
                Ok(Next::Frame { frame, route, bytes }) => {
                    state.received.drain(..bytes);
                    cx.oracle.counts.frames += 1;
                    cx.oracle.require(!poisoned, || format!("a spoilt frame was taken: {frame:?}"));
                    self.handle_frame(id, frame, route, bytes, cx);
                    self.settle(cx);
                }
                Err(error) => {
                    cx.oracle.counts.refused += 1;
                    cx.oracle.require(poisoned, || {
                        format!("process {} refuses what process {} sent: {error}", self.number, {
                            let (connection, end) = (state.connection, state.end);
                            cx.network.owner(connection, 1 - end).1
                        })
                    });
                    if let Some(before) = before {
                        let after = self.state();
                        cx.oracle.require(before == after, || {
                            format!("a spoilt frame changed something: {error}")
                        });
                    }
                    self.bad_frame(id, cx);
                    self.settle(cx);
                    break;
                }
            }
        }
    }

    /// The peer closed.
    pub(crate) fn handle_end(&mut self, connection: usize, cx: &mut Context<'_>) {
        self.closed(LinkId(connection as u64), cx);
        self.settle(cx);
    }

    /// The socket has room again.
    pub(crate) fn handle_writable(&mut self, connection: usize, cx: &mut Context<'_>) {
        let id = LinkId(connection as u64);
        if self.links.get(&id).is_some_and(|state| !state.waiting.is_empty()) {
            self.settle(cx);
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timer(&mut self, cx: &mut Context<'_>) {
        if self.timer_at.is_none_or(|at| at > cx.network.now) {
            return;
        }
        self.timer_at = None;
        let now = cx.network.instant();
        let late: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, state)| state.link.poll_timeout().is_some_and(|at| at <= now))
            .filter_map(|(id, state)| state.link.handle_timeout(now).is_err().then_some(*id))
            .collect();
        for id in late {
            self.bad_frame(id, cx);
        }
        for shard in &mut self.shards {
            if shard.partitions.poll_timeout().is_some_and(|at| at <= now) {
                shard.partitions.handle_timeout(now);
                let stuck = shard.partitions.poll_timeout().is_some_and(|at| at <= now);
                cx.oracle.require(!stuck, || "a shard's timer does not go on".to_owned());
            }
        }
        if self.membership.poll_timeout() <= now {
            self.membership.handle_timeout(now);
            let next = self.membership.poll_timeout();
            cx.oracle.require(next > now, || format!("the timer of process {} does not go on", self.number));
        }
        if cx.network.now >= self.digest_due {
            self.digest_due = cx.network.now + SECOND;
            self.send_digests(cx);
        }
        self.settle(cx);
    }

    /// Says Bye everywhere.
    pub(crate) fn leave(&mut self, reason: ByeReason, cx: &mut Context<'_>) {
        self.membership.leave(reason);
        while let Some(output) = self.membership.poll_output() {
            self.handle_output(output, cx);
        }
    }

    /// A message of somebody who is not on a link, for whichever shards it concerns. It must not be trusted.
    pub(crate) fn handle_stray(
        &mut self,
        from: NodeKey,
        frame: &Arc<Frame>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) {
        for shard in self.shards_for(frame) {
            let message = Message::Frame { from, session: None, frame: Arc::clone(frame), bytes };
            self.take(shard, message, cx);
        }
        self.settle(cx);
    }

    /// Gives a shard a frame that it must refuse.
    pub(crate) fn handle_forged(&mut self, from: NodeKey, frame: &Frame, cx: &mut Context<'_>) {
        for shard in self.shards_for(frame) {
            let before = self.shards[shard].state();
            let refused = self.shards[shard].partitions.handle_frame(from, frame, 100, cx.network.instant());
            let after = self.shards[shard].state();
            cx.oracle.counts.refused += 1;
            cx.oracle.require(refused.is_err() && before == after, || format!("{frame:?} was not refused"));
        }
        self.settle(cx);
    }

    /// Requires everything of this process to be right.
    pub(crate) fn check(&mut self, oracle: &mut Oracle) {
        for shard in &mut self.shards {
            shard.check(oracle);
        }
        self.watch.check(&self.membership, oracle);
    }

    /// The digests of all shards together.
    pub(crate) fn digests(&self) -> BTreeMap<NodeKey, Digest> {
        let mut sums: BTreeMap<NodeKey, Digest> = BTreeMap::new();
        for (node, digest) in self.shards.iter().flat_map(|shard| shard.partitions.digests()) {
            let sum = sums.entry(node).or_default();
            *sum = sum.plus(digest);
        }
        sums
    }

    /// The peers with an open link.
    pub(crate) fn peers(&self) -> Vec<NodeKey> {
        self.open.keys().copied().collect()
    }

    /// Drains every output, until there is none.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        for _ in 0..SETTLE_MAX {
            let mut idle = true;
            while let Some(output) = self.membership.poll_output() {
                idle = false;
                self.handle_output(output, cx);
            }
            for at in 0..self.shards.len() {
                let now = cx.network.now;
                while let Some((_, message)) = self.shards[at].inbox.pop_front_if(|(due, _)| *due <= now) {
                    idle = false;
                    self.take(at, message, cx);
                }
                self.shards[at].drain_events(cx.oracle);
                self.collect(at, cx);
            }
            let links: Vec<LinkId> = self.links.keys().copied().collect();
            for id in links {
                idle &= !self.flush(id, cx);
            }
            if idle {
                return self.arm(cx);
            }
        }
        cx.oracle.fail(|| format!("process {} does not come to rest", self.number));
    }

    /// Writes what the socket takes. Whether that was anything.
    fn flush(&mut self, id: LinkId, cx: &mut Context<'_>) -> bool {
        let Some(state) = self.links.get_mut(&id) else { return false };
        let waiting = state.waiting.len();
        cx.oracle.require(waiting < WAITING_MAX, || format!("{waiting} frames wait for one socket"));
        if waiting == 0 || !cx.network.has_room(state.connection, state.end) {
            return false;
        }
        let Some(peer) = state.link.peer() else { return false };
        let mut buffer = Vec::new();
        let mut written = Vec::new();
        while buffer.len() < SEGMENT_BYTES
            && let Some((shard, encoded)) = state.waiting.pop_front()
        {
            state.link.write(&encoded, &mut buffer);
            if let Some(shard) = shard {
                if encoded.is_live() {
                    state.live[shard] -= encoded.frame_bytes();
                }
                written.push((shard, encoded));
            }
        }
        cx.network.send(state.connection, state.end, buffer);
        for (shard, encoded) in written {
            let shard = &mut self.shards[shard];
            if shard.sessions.get(&peer) == Some(&id) {
                shard.partitions.handle_written(peer, &encoded);
            }
        }
        true
    }

    /// Asks to be woken when the first of the machines wants it.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let shards = self.shards.iter().filter_map(|shard| shard.partitions.poll_timeout());
        let links = self.links.values().filter_map(|state| state.link.poll_timeout());
        let first = shards.chain(links).chain([self.membership.poll_timeout()]).min();
        let due = first.map_or(self.digest_due, |first| cx.network.micros(first)).min(self.digest_due);
        if self.timer_at.is_none_or(|at| due < at) {
            let due = due.max(cx.network.now);
            self.timer_at = Some(due);
            cx.network.at(due, Event::Timer { host: self.host, process: self.number });
        }
    }

    /// A sum of all state that frames can change.
    fn state(&self) -> Vec<u64> {
        self.shards.iter().map(Shard::state).collect()
    }

    /// What this node's own logs hold, for the others to converge to.
    pub(crate) fn version_of(&self, node: NodeKey, partition: Partition) -> Version {
        let shard = &self.shards[self.shard_of(partition)];
        shard.partitions.log(node, partition).map_or(0, |log| log.known())
    }
}

/// Where a host accepts peers.
pub(crate) fn address(host: usize) -> String {
    format!("host-{host}")
}

/// Rounds in which a process must come to rest after one input.
const SETTLE_MAX: usize = 10_000;
/// Frames that may wait for one socket.
const WAITING_MAX: usize = 10_000;
/// After so many bytes a segment ends.
const SEGMENT_BYTES: usize = 2_000;
/// Frames of which one may come again.
const ARCHIVE_MAX: usize = 300;
