//! The membership's driver, on shard 0: what it decides goes to links and shards, what they see comes here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use croupier_registry::{
    DialResult, Digest, LinkId, MemberChange, Membership, MembershipOutput, NodeKey, NodeStanding,
    NodeStatus, Notice, PARTITIONS,
    wire::{
        Hello,
        v1::{ByeReason, Frame, OriginDigest},
    },
};

use super::{
    Acceptance, ToShard,
    message::Nodes,
    shared::Shared,
    stats::{Refusal, count},
};

/// Connections that were accepted and have not introduced themselves.
const HALF_OPEN_MAX: usize = 64;
/// Comparisons of digests under way.
const ROUNDS_MAX: usize = 64;
/// Time between two digests of all origins to somebody.
const DIGEST_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// The driver.
pub(crate) struct Hub {
    shared: Shared,
    membership: Membership,
    cluster: [u8; 16],
    own: NodeStatus,
    accepted: BTreeMap<LinkId, NodeKey>,
    acceptances: Acceptance,
    half_open: VecDeque<LinkId>,
    /// Seeds that were never tried.
    untried_seeds: BTreeSet<String>,
    rounds: BTreeMap<u64, Round>,
    next_round: u64,
    digest_due: Instant,
    has_left: bool,
}

/// Digests of all nodes, collected from all shards.
struct Round {
    parts_missing: usize,
    sums: BTreeMap<NodeKey, Digest>,
    purpose: Purpose,
}

enum Purpose {
    /// To be sent to somebody.
    Tell { link: LinkId },
    /// To be compared with what somebody has.
    Compare { peer: NodeKey, theirs: Vec<OriginDigest> },
}

impl Hub {
    pub(crate) fn new(
        shared: Shared,
        membership: Membership,
        own: NodeStatus,
        seeds: &[String],
        now: Instant,
    ) -> Self {
        let cluster = membership.hello(Box::new([0; PARTITIONS])).cluster;
        // This node does not dial itself.
        let untried_seeds = seeds.iter().filter(|seed| **seed != own.address).cloned().collect();
        Hub {
            shared,
            membership,
            cluster,
            own,
            accepted: BTreeMap::new(),
            acceptances: 0,
            half_open: VecDeque::new(),
            untried_seeds,
            rounds: BTreeMap::new(),
            next_round: 0,
            digest_due: now + DIGEST_INTERVAL,
            has_left: false,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (!self.has_left).then(|| self.membership.poll_timeout().min(self.digest_due))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.has_left {
            return;
        }
        if self.membership.poll_timeout() <= now {
            self.membership.handle_timeout(now);
            self.settle();
        }
        if self.digest_due <= now {
            self.digest_due = now + DIGEST_INTERVAL;
            let links: Vec<LinkId> = self.accepted.keys().copied().collect();
            if !links.is_empty() {
                let link = links[fastrand::usize(..links.len())];
                self.begin_round(Purpose::Tell { link });
            }
        }
    }

    /// Takes a message that is for the membership.
    pub(crate) fn handle(&mut self, message: ToShard, now: Instant) {
        if self.has_left {
            return;
        }
        match message {
            ToShard::Greet { link } => {
                let hello = self.membership.hello(self.shared.versions());
                self.shared
                    .send(self.shared.shard_of(link), ToShard::Send { link, frame: Frame::Hello(hello) });
            }
            ToShard::Hello { link, hello, dialled } => self.handle_hello(link, hello, dialled, now),
            ToShard::MembershipFrame { link, frame, burden: _burden } => {
                self.membership.handle_frame(link, &frame, now);
                if matches!(frame, Frame::Member(_)) {
                    self.tell_nodes();
                }
            }
            ToShard::OriginDigests { peer, digests, burden: _burden } => {
                self.begin_round(Purpose::Compare { peer, theirs: digests });
            }
            ToShard::DigestsPart { round, parts } => self.take_digests(round, parts),
            ToShard::LinkClosed { link } => {
                self.accepted.remove(&link);
                self.membership.handle_link_closed(link, now);
            }
            ToShard::DialFailed { address, result } => self.dial_failed(&address, result, now),
            ToShard::Introduced { link } => self.half_open.retain(|half_open| *half_open != link),
            _ => debug_assert!(false, "a message that is for another part"),
        }
        self.settle();
    }

    /// A connection came in. Returns the link that it is to be, after making room for it.
    pub(crate) fn accept(&mut self) -> LinkId {
        let link = self.shared.new_link();
        self.half_open.push_back(link);
        if self.half_open.len() > HALF_OPEN_MAX
            && let Some(oldest) = self.half_open.pop_front()
        {
            // Who has the key is introduced within milliseconds, so that the oldest is the least likely.
            self.shared.counters.refuse(Refusal::HalfOpen);
            let reason = ByeReason::Duplicate;
            self.shared.send(self.shared.shard_of(oldest), ToShard::Close { link: oldest, reason });
        }
        link
    }

    /// Says Bye to everybody. Nothing is driven any more.
    pub(crate) fn leave(&mut self, reason: ByeReason) {
        if !self.has_left {
            self.membership.leave(reason);
            self.settle();
            self.has_left = true;
        }
    }

    fn handle_hello(&mut self, link: LinkId, hello: Hello, dialled: bool, now: Instant) {
        if hello.cluster != self.cluster {
            self.shared.counters.refuse(Refusal::OtherCluster);
        }
        let is_first = !self.untried_seeds.is_empty();
        self.untried_seeds.clear();
        self.membership.handle_hello(link, hello, dialled, now);
        if is_first {
            self.tell_nodes();
        }
    }

    /// Takes other seeds. Links to the old ones stay.
    pub(crate) fn set_seeds(&mut self, seeds: &[String], now: Instant) {
        if self.has_left || !self.membership.set_seeds(seeds, now) {
            return;
        }
        self.untried_seeds.retain(|seed| seeds.contains(seed));
        if self.accepted.is_empty() {
            self.untried_seeds.extend(seeds.iter().filter(|seed| **seed != self.own.address).cloned());
        }
        self.tell_nodes();
    }

    fn dial_failed(&mut self, address: &str, result: DialResult, now: Instant) {
        count(&self.shared.counters.dials_failed, 1);
        if self.untried_seeds.remove(address) && self.untried_seeds.is_empty() {
            self.tell_nodes();
        }
        self.membership.handle_dial_failed(address, result, now);
    }

    /// Carries out what the membership wants.
    fn settle(&mut self) {
        let mut has_news = false;
        while let Some(output) = self.membership.poll_output() {
            match output {
                MembershipOutput::Dial { address, deadline } => {
                    let link = self.shared.new_link();
                    self.send(link, ToShard::Dial { link, address, deadline });
                }
                MembershipOutput::Accept { link, peer } => {
                    self.accepted.insert(link, peer);
                    self.acceptances += 1;
                    self.send(link, ToShard::Accept { link, acceptance: self.acceptances });
                }
                MembershipOutput::Close { link, reason } => {
                    self.accepted.remove(&link);
                    self.send(link, ToShard::Close { link, reason });
                }
                MembershipOutput::Send { link, frame } => self.send(link, ToShard::Send { link, frame }),
                MembershipOutput::Beat { counter } => self.send_all(|| ToShard::Beat { counter }),
                MembershipOutput::Changed(change) => {
                    has_news = true;
                    if let MemberChange::Renewed(epoch) = change {
                        self.own.epoch = epoch;
                    }
                    self.send_all(|| ToShard::Member(change.clone()));
                }
                MembershipOutput::Notice(notice) => self.notice(&notice),
            }
        }
        if has_news {
            self.tell_nodes();
        }
    }

    fn notice(&self, notice: &Notice) {
        let node = &*self.own.name;
        match notice {
            Notice::NameConflict => {
                count(&self.shared.counters.name_conflicts, 1);
                tracing::error!(
                    node,
                    "another live node has this node's name and was there first; this one offers nothing, and tries again in 10 s"
                );
            }
            Notice::EpochWasStale { epoch } => {
                count(&self.shared.counters.stale_epochs, 1);
                tracing::warn!(
                    node,
                    epoch = epoch.get(),
                    "the others remember a later life of this node (its clock was set back); it takes a later epoch"
                );
            }
        }
    }

    /// Tells every shard who is known.
    pub(crate) fn tell_nodes(&self) {
        let others = self.membership.nodes();
        let mut nodes = Vec::with_capacity(others.len() + 1);
        nodes.push(self.own.clone());
        nodes.extend(others);
        let is_alone =
            nodes.iter().all(|node| node.standing != NodeStanding::Up || node.name == self.own.name);
        let is_reaching_out =
            self.membership.has_candidates() || (is_alone && !self.untried_seeds.is_empty());
        self.shared.mirror.set_nodes(&nodes);
        let nodes = Arc::new(Nodes { nodes, is_reaching_out });
        self.send_all(|| ToShard::Nodes(Arc::clone(&nodes)));
    }

    fn begin_round(&mut self, purpose: Purpose) {
        if self.rounds.len() >= ROUNDS_MAX {
            // A shard is stuck; the next digest comes within a second.
            self.rounds.pop_first();
        }
        let round = self.next_round;
        self.next_round += 1;
        let parts_missing = self.shared.shards();
        self.rounds.insert(round, Round { parts_missing, sums: BTreeMap::new(), purpose });
        self.send_all(|| ToShard::CollectDigests { round });
    }

    fn take_digests(&mut self, number: u64, parts: Vec<(NodeKey, Digest)>) {
        let Some(round) = self.rounds.get_mut(&number) else { return };
        for (node, digest) in parts {
            let sum = round.sums.entry(node).or_default();
            *sum = sum.plus(digest);
        }
        round.parts_missing -= 1;
        if round.parts_missing > 0 {
            return;
        }
        let Some(Round { sums, purpose, .. }) = self.rounds.remove(&number) else { return };
        match purpose {
            Purpose::Tell { link } => {
                let digests = sums.into_iter().take(croupier_registry::limits::NODES_PER_FRAME_MAX);
                let digests = digests
                    .map(|(origin, digest)| OriginDigest { origin, digest: digest.to_bytes() })
                    .collect();
                self.send(link, ToShard::Send { link, frame: Frame::Digest(digests) });
            }
            Purpose::Compare { peer, theirs } => {
                for OriginDigest { origin, digest } in theirs {
                    let ours = sums.get(&origin).copied();
                    if ours.is_some_and(|ours| ours.to_bytes() != digest) {
                        self.send_all(|| ToShard::SendVersions { peer, node: origin });
                    }
                }
            }
        }
    }

    fn send(&self, link: LinkId, message: ToShard) {
        self.shared.send(self.shared.shard_of(link), message);
    }

    fn send_all(&self, mut message: impl FnMut() -> ToShard) {
        for shard in 0..self.shared.shards() {
            self.shared.send(shard, message());
        }
    }
}
