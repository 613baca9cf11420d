//! Whole nodes in memory, one thread, simulated time: their machines, and the bytes between them.
//!
//! It drives [`Membership`], one [`Partitions`] and a [`Link`] a connection as the contract of the registry says,
//! with links that take no time and lose nothing. The digest that goes to one random peer a second is left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use croupier_registry::limits::{ChunkLimits, LogLimits, WindowLimits};
use croupier_registry::wire::Encoded;
use croupier_registry::wire::v1::{ByeReason, Frame};
use croupier_registry::{
    DialResult, Digest, Epoch, Event, Link, LinkId, Membership, MembershipConfig, MembershipOutput, Next,
    NodeKey, Partitions, PartitionsConfig, ProcessId, Route, Service, ServiceKey,
};

use crate::error::BenchError;

/// The nodes and what lies between them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    ends: BTreeMap<LinkId, End>,
    /// Links that have bytes to be read, or whose other end is gone.
    readable: VecDeque<LinkId>,
    split: BTreeSet<(usize, usize)>,
    next_link: u64,
    now: Instant,
    traffic: BTreeMap<(usize, usize, u8), Traffic>,
}

/// Frames of one type from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub frames: u64,
    /// Their bytes, with headers.
    pub bytes: u64,
}

/// What became visible on a node, or ceased to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Instances that came.
    pub joined: u64,
    /// Instances that changed.
    pub updated: u64,
    /// Instances that went.
    pub left: u64,
}

/// The types of frames that a figure tells apart, as their headers name them.
pub mod frame_type {
    /// A heartbeat.
    pub const HEARTBEAT: u8 = 3;
    /// Changes of a log.
    pub const DELTA: u8 = 4;
    /// The live versions of a log.
    pub const SEAL: u8 = 5;
}

#[derive(Debug)]
struct Node {
    membership: Membership,
    partitions: Partitions,
    /// The open link to each peer.
    open: BTreeMap<NodeKey, LinkId>,
    seen: Seen,
}

#[derive(Debug)]
struct End {
    node: usize,
    other: LinkId,
    link: Link,
    dialled: bool,
    incoming: Vec<u8>,
    /// The other end is gone: what is left is read, and then this one goes.
    closed: bool,
}

/// Where the type stands in a frame's header.
const FRAME_TYPE_AT: usize = 3;
/// The name of a node is also its address.
fn name(node: usize) -> String {
    format!("node-{node}")
}

/// The key of a node.
#[must_use]
pub fn key(node: usize) -> NodeKey {
    NodeKey::of_name(&name(node))
}

impl Cluster {
    /// Nodes that do not know each other yet, each of one shard, with the default limits. `forget_after` as in
    /// [`MembershipConfig`]; `None` for its default.
    #[must_use]
    pub fn new(nodes: usize, forget_after: Option<Duration>) -> Self {
        let now = Instant::now();
        let node = |number: usize| {
            let epoch = Epoch::at_start(1_800_000_000_000 + number as u64, 0);
            let mut config = MembershipConfig::new([7; 16], name(number));
            config.address = name(number);
            config.seeds = vec![name(0)];
            config.forget_after = forget_after.unwrap_or(config.forget_after);
            let process = ProcessId::from_random(number as u128 + 1);
            let partitions = PartitionsConfig {
                name: Arc::clone(&config.name),
                epoch,
                shard: 0,
                shards: 1,
                log: LogLimits::default(),
                chunk: ChunkLimits::default(),
                window: WindowLimits::default(),
            };
            Node {
                membership: Membership::new(config, epoch, process, number as u64, now),
                partitions: Partitions::new(partitions),
                open: BTreeMap::new(),
                seen: Seen::default(),
            }
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            ends: BTreeMap::new(),
            readable: VecDeque::new(),
            split: BTreeSet::new(),
            next_link: 0,
            now,
            traffic: BTreeMap::new(),
        }
    }

    /// Adds or replaces an entry of a node and delivers what that sends at once.
    ///
    /// # Errors
    /// The quota, and what a peer must not send.
    pub fn put(&mut self, node: usize, service: &Service) -> Result<(), BenchError> {
        self.put_without_delivery(node, service)?;
        self.deliver()
    }

    /// Adds or replaces an entry of a node. What it sends waits for [`Cluster::deliver`].
    ///
    /// # Errors
    /// The quota.
    pub fn put_without_delivery(&mut self, node: usize, service: &Service) -> Result<(), BenchError> {
        let now = self.now;
        self.nodes[node].partitions.put(service, now).map_err(refused)?;
        self.nodes[node].count_events();
        Ok(())
    }

    /// Removes an entry of a node, if it is there, and delivers what that sends at once.
    ///
    /// # Errors
    /// What a peer must not send.
    pub fn remove(&mut self, node: usize, key: &ServiceKey) -> Result<bool, BenchError> {
        let now = self.now;
        let removed = self.nodes[node].partitions.remove(key, now).is_some();
        self.nodes[node].count_events();
        self.deliver()?;
        Ok(removed)
    }

    /// Cuts two nodes off from each other. Neither gets an answer of the other any more.
    ///
    /// # Errors
    /// What a peer must not send.
    pub fn split(&mut self, one: usize, other: usize) -> Result<(), BenchError> {
        self.split.extend([(one, other), (other, one)]);
        let cut: Vec<LinkId> = self
            .ends
            .iter()
            .filter(|(_, end)| self.split.contains(&(end.node, self.ends[&end.other].node)))
            .map(|(id, _)| *id)
            .collect();
        for id in cut {
            self.end_gone(id);
        }
        self.deliver()
    }

    /// Lets two nodes reach each other again.
    pub fn heal(&mut self, one: usize, other: usize) {
        self.split.remove(&(one, other));
        self.split.remove(&(other, one));
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// What a peer must not send.
    pub fn run_for(&mut self, time: Duration) -> Result<(), BenchError> {
        let until = self.now + time;
        self.run_until(until, |_| false).map(|_| ())
    }

    /// Lets time pass until all nodes know all of each other's changes. Returns how much time that took.
    ///
    /// # Errors
    /// If that takes longer than `time_max`, and what a peer must not send.
    pub fn run_until_equal(&mut self, time_max: Duration) -> Result<Duration, BenchError> {
        let start = self.now;
        if self.run_until(start + time_max, Self::is_equal)? {
            return Ok(self.now - start);
        }
        Err(refused(format!("the nodes differ after {time_max:?}")))
    }

    /// Delivers everything that is on its way at this moment.
    ///
    /// # Errors
    /// What a peer must not send.
    pub fn deliver(&mut self) -> Result<(), BenchError> {
        self.take_outputs()?;
        while let Some(id) = self.readable.pop_front() {
            self.read(id)?;
            self.take_outputs()?;
        }
        Ok(())
    }

    /// Whether every node is linked to all others, has the logs of each as they are, and shows them.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.nodes.iter().enumerate().all(|(number, node)| {
            let owner: Digest = node.own_digest(key(number));
            self.nodes.iter().enumerate().filter(|(other, _)| *other != number).all(|(_, other)| {
                other.open.contains_key(&key(number))
                    && other.partitions.is_synced(key(number))
                    && other.own_digest(key(number)) == owner
            })
        })
    }

    /// What frames of a type took from one node to another since the last [`Cluster::forget_traffic`].
    #[must_use]
    pub fn traffic_of(&self, from: usize, to: usize, frame_type: u8) -> Traffic {
        self.traffic.get(&(from, to, frame_type)).copied().unwrap_or_default()
    }

    /// What all frames took from one node to another since the last [`Cluster::forget_traffic`].
    #[must_use]
    pub fn traffic(&self, from: usize, to: usize) -> Traffic {
        let between = self.traffic.iter().filter(|((a, b, _), _)| (*a, *b) == (from, to));
        between.fold(Traffic::default(), |sum, (_, one)| Traffic {
            frames: sum.frames + one.frames,
            bytes: sum.bytes + one.bytes,
        })
    }

    /// Begins to count anew.
    pub fn forget_traffic(&mut self) {
        self.traffic.clear();
    }

    /// What a node saw since the last call, its own changes included.
    pub fn seen(&mut self, node: usize) -> Seen {
        std::mem::take(&mut self.nodes[node].seen)
    }

    /// The shard of a node, for questions.
    #[must_use]
    pub fn partitions(&self, node: usize) -> &Partitions {
        &self.nodes[node].partitions
    }

    /// Whether a node knows another as a member, in whatever standing.
    #[must_use]
    pub fn remembers(&self, node: usize, other: usize) -> bool {
        self.nodes[node].membership.standing(key(other)).is_some()
    }

    // Time.

    fn run_until(&mut self, until: Instant, is_done: impl Fn(&Self) -> bool) -> Result<bool, BenchError> {
        self.deliver()?;
        loop {
            if is_done(self) {
                return Ok(true);
            }
            let timeouts = self
                .nodes
                .iter()
                .flat_map(|node| [Some(node.membership.poll_timeout()), node.partitions.poll_timeout()]);
            let links = self.ends.values().map(|end| end.link.poll_timeout());
            let next = timeouts.chain(links).flatten().min().unwrap_or(until);
            if next > until {
                self.now = until;
                return Ok(false);
            }
            self.now = self.now.max(next);
            for node in &mut self.nodes {
                if node.membership.poll_timeout() <= self.now {
                    node.membership.handle_timeout(self.now);
                }
                node.partitions.handle_timeout(self.now);
            }
            for end in self.ends.values() {
                end.link.handle_timeout(self.now).map_err(refused)?;
            }
            self.deliver()?;
        }
    }

    // Links.

    fn connect(&mut self, from: usize, to: usize) -> Result<(), BenchError> {
        let ids = [LinkId(self.next_link), LinkId(self.next_link + 1)];
        self.next_link += 2;
        for (at, node) in [from, to].into_iter().enumerate() {
            let link = Link::new(self.now);
            let (other, dialled) = (ids[1 - at], at == 0);
            self.ends
                .insert(ids[at], End { node, other, link, dialled, incoming: Vec::new(), closed: false });
        }
        for (at, node) in [from, to].into_iter().enumerate() {
            let node = &self.nodes[node];
            let hello = node.membership.hello(node.partitions.own_versions());
            self.write_with(ids[at], |link, buffer| link.write_hello(hello, buffer).map_err(refused))?;
        }
        Ok(())
    }

    fn write(&mut self, id: LinkId, frame: &Encoded) -> Result<(), BenchError> {
        self.write_with(id, |link, buffer| {
            link.write(frame, buffer);
            Ok(())
        })
    }

    /// Appends one frame to what the other end has to read.
    fn write_with(
        &mut self,
        id: LinkId,
        append: impl FnOnce(&mut Link, &mut Vec<u8>) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let Some(end) = self.ends.get_mut(&id) else { return Ok(()) };
        let (from, other) = (end.node, end.other);
        let mut frame = Vec::new();
        append(&mut end.link, &mut frame)?;
        let Some(far) = self.ends.get_mut(&other) else { return Ok(()) };
        let count = self.traffic.entry((from, far.node, frame[FRAME_TYPE_AT])).or_default();
        count.frames += 1;
        count.bytes += frame.len() as u64;
        if far.incoming.is_empty() {
            self.readable.push_back(other);
            far.incoming = frame;
        } else {
            far.incoming.extend_from_slice(&frame);
        }
        Ok(())
    }

    /// Reads all that has come on a link.
    fn read(&mut self, id: LinkId) -> Result<(), BenchError> {
        let Some(end) = self.ends.get_mut(&id) else { return Ok(()) };
        let (node, bytes, closed) = (end.node, std::mem::take(&mut end.incoming), end.closed);
        let mut at = 0;
        while let Some(end) = self.ends.get_mut(&id) {
            match end.link.next_frame(&bytes[at..]).map_err(refused)? {
                Next::Incomplete { .. } => break,
                Next::Skipped { bytes } => at += bytes,
                Next::Frame { frame, route, bytes } => {
                    at += bytes;
                    self.handle(id, node, frame, route, bytes)?;
                    // The next frame may be one that only what this one brought forth makes an expected one.
                    self.take_outputs()?;
                }
            }
        }
        if closed {
            self.end_gone(id);
        }
        Ok(())
    }

    fn handle(
        &mut self,
        id: LinkId,
        node: usize,
        frame: Frame,
        route: Route,
        bytes: usize,
    ) -> Result<(), BenchError> {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&id) else { return Ok(()) };
        let (peer, dialled) = (end.link.peer(), end.dialled);
        let here = &mut self.nodes[node];
        if route == Route::Hello {
            if let Frame::Hello(hello) = frame {
                here.membership.handle_hello(id, hello, dialled, now);
            }
            return Ok(());
        }
        here.membership.handle_frame(id, &frame, now);
        let Some(peer) = peer else { return Ok(()) };
        match route {
            Route::Partition(_) | Route::EveryShard => {
                here.partitions.handle_frame(peer, &frame, bytes, now).map_err(refused)?;
            }
            Route::Link => self.open_if_accepted(id),
            Route::Membership => {
                if let Frame::Heartbeat { digest, .. } = frame
                    && end.link.compare_digests(Digest::from_bytes(digest), here.own_digest(peer), false)
                {
                    here.partitions.send_pull(peer, peer, None);
                }
            }
            Route::Hello | Route::Repair => {}
        }
        Ok(())
    }

    fn open_if_accepted(&mut self, id: LinkId) {
        let Some(end) = self.ends.get(&id) else { return };
        let Some(peer) = end.link.peer().filter(|_| end.link.is_open()) else { return };
        let node = &mut self.nodes[end.node];
        if node.open.insert(peer, id).is_some() {
            node.partitions.handle_link_down(peer);
        }
        node.partitions.handle_link_up(peer);
    }

    /// Takes an end out: the node that it belongs to learns of it, and the other end once it has read the rest.
    fn end_gone(&mut self, id: LinkId) {
        let Some(node) = self.drop_end(id) else { return };
        self.nodes[node].membership.handle_link_closed(id, self.now);
    }

    fn drop_end(&mut self, id: LinkId) -> Option<usize> {
        let end = self.ends.remove(&id)?;
        let node = &mut self.nodes[end.node];
        if let Some(peer) = end.link.peer().filter(|peer| node.open.get(peer) == Some(&id)) {
            node.open.remove(&peer);
            node.partitions.handle_link_down(peer);
        }
        if let Some(far) = self.ends.get_mut(&end.other) {
            far.closed = true;
            self.readable.push_back(end.other);
        }
        Some(end.node)
    }

    // Outputs.

    /// Takes what the machines have to say until none has anything.
    fn take_outputs(&mut self) -> Result<(), BenchError> {
        let mut busy = true;
        while busy {
            busy = false;
            for node in 0..self.nodes.len() {
                while let Some(output) = self.nodes[node].membership.poll_output() {
                    busy = true;
                    self.carry_out(node, output)?;
                }
                while let Some((peer, frame)) = self.nodes[node].partitions.poll_frame() {
                    busy = true;
                    let Some(link) = self.nodes[node].open.get(&peer).copied() else { continue };
                    self.write(link, &frame)?;
                    self.nodes[node].partitions.handle_written(peer, &frame);
                }
                self.nodes[node].count_events();
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, node: usize, output: MembershipOutput) -> Result<(), BenchError> {
        match output {
            MembershipOutput::Dial { address, .. } => {
                let to = (0..self.nodes.len()).find(|to| name(*to) == address);
                match to.filter(|to| !self.split.contains(&(node, *to))) {
                    Some(to) => self.connect(node, to)?,
                    None => {
                        let now = self.now;
                        let membership = &mut self.nodes[node].membership;
                        membership.handle_dial_failed(&address, DialResult::Unreachable, now);
                    }
                }
            }
            MembershipOutput::Accept { link, .. } => {
                self.write_with(link, |link, buffer| {
                    link.handle_accepted(buffer);
                    Ok(())
                })?;
                self.open_if_accepted(link);
            }
            MembershipOutput::Close { link, reason } => self.close(link, reason)?,
            MembershipOutput::Send { link, frame } => {
                let encoded = Encoded::new(&frame).map_err(refused)?;
                self.write(link, &encoded)?;
            }
            MembershipOutput::Beat { counter } => {
                for (peer, link) in self.nodes[node].open.clone() {
                    let digest = self.nodes[node].partitions.enqueued_digest(peer).to_bytes();
                    let beat = Encoded::new(&Frame::Heartbeat { counter, digest }).map_err(refused)?;
                    self.write(link, &beat)?;
                }
            }
            MembershipOutput::Changed(change) => {
                let now = self.now;
                self.nodes[node].partitions.handle_member(change, now);
            }
            MembershipOutput::Notice(notice) => return Err(refused(format!("node {node}: {notice:?}"))),
        }
        Ok(())
    }

    fn close(&mut self, link: LinkId, reason: ByeReason) -> Result<(), BenchError> {
        self.write(link, &Encoded::new(&Frame::Bye(reason)).map_err(refused)?)?;
        self.drop_end(link);
        Ok(())
    }
}

impl Node {
    /// What this node has of another's logs, or of its own.
    fn own_digest(&self, of: NodeKey) -> Digest {
        self.partitions.digests().find(|(node, _)| *node == of).map(|(_, digest)| digest).unwrap_or_default()
    }

    fn count_events(&mut self) {
        while let Some(event) = self.partitions.poll_event() {
            match event {
                Event::Joined(_) => self.seen.joined += 1,
                Event::Updated(_) => self.seen.updated += 1,
                Event::Left(_) => self.seen.left += 1,
                Event::Commanded { .. } | Event::CommandInDoubt { .. } => {}
            }
        }
    }
}

/// Why a measurement of the registry has no result.
pub fn refused<E: Into<Box<dyn std::error::Error + Send + Sync>>>(reason: E) -> BenchError {
    BenchError::client("croupier-registry")(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::workload::{kind, service};

    #[test]
    fn a_change_of_each_node_is_seen_on_all() {
        let mut cluster = Cluster::new(3, None);
        cluster.run_until_equal(JOIN).unwrap();
        for node in 0..3 {
            cluster.put(node, &service(&kind(node), 1, 0).unwrap()).unwrap();
            cluster.run_until_equal(JOIN).unwrap();
        }
        for node in 0..3 {
            assert_eq!(cluster.seen(node), Seen { joined: 3, ..Seen::default() });
            assert_eq!(cluster.partitions(node).kinds().len(), 3);
        }
        assert!(cluster.traffic_of(0, 1, frame_type::DELTA).bytes > 0);
    }

    #[test]
    fn after_a_split_what_changed_meanwhile_is_seen() {
        let mut cluster = Cluster::new(2, Some(Duration::from_hours(2)));
        let services: Vec<_> = (0..10).map(|number| service("k", number, 0).unwrap()).collect();
        for one in &services {
            cluster.put(0, one).unwrap();
        }
        cluster.run_until_equal(JOIN).unwrap();
        assert_eq!(cluster.seen(1).joined, 10);
        cluster.split(0, 1).unwrap();
        cluster.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!(cluster.seen(1), Seen { left: 10, updated: 10, joined: 0 }, "flagged, then hidden");
        assert!(cluster.remove(0, &services[3].key()).unwrap());
        cluster.heal(0, 1);
        cluster.run_until_equal(JOIN).unwrap();
        assert_eq!(cluster.seen(1).joined, 9);
    }

    #[test]
    fn a_node_that_was_away_for_too_long_is_forgotten() {
        let mut cluster = Cluster::new(2, Some(Duration::from_mins(1)));
        cluster.run_until_equal(JOIN).unwrap();
        cluster.split(0, 1).unwrap();
        cluster.run_for(Duration::from_mins(2)).unwrap();
        assert!(!cluster.remembers(0, 1));
    }

    const JOIN: Duration = Duration::from_secs(60);
}
