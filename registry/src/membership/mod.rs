//! The machine that decides who is a member: one a node. It alone gates data.
//!
//! Only a Hello over a link of one's own makes a node Up; what others say of it makes it a candidate to be dialled.
//! After each input, take all outputs by [`Membership::poll_output`].

mod admission;
mod graves;
mod suspicion;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{ADDRESS_BYTES_MAX, NODES_PER_FRAME_MAX};
use crate::wire::Hello;
use crate::wire::v1::{ByeReason, Frame, MemberRecord, Standing};
use crate::{Epoch, MemberChange, NodeKey, PARTITIONS, ProcessId, Version};
use admission::Challenge;
use graves::Graves;
use suspicion::{Confirmation, Favour, SHORT_LINKS_MAX};

/// How a node takes part. Each duration is a minimum; lateness of this node stretches those that accuse others.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// The hash of the cluster's name.
    pub cluster: [u8; 16],
    /// This node's name.
    pub name: Arc<str>,
    /// Where it accepts peers, as the others are to dial it; may be empty.
    pub address: String,
    /// Addresses to be dialled for ever, at a low rate.
    pub seeds: Vec<String>,
    /// Shortest time between heartbeats. Default 250 ms; it grows by 2.5 ms a node.
    pub heartbeat: Duration,
    /// Silence after which a node is suspected, at least four heartbeats. Default 1 s.
    pub suspect_after: Duration,
    /// Time that a suspect has to be heard, times log10 of the nodes if that is more than 1. Default 1 s.
    pub suspicion: Duration,
    /// Time after which a node that is Down is forgotten. Default 20 min.
    pub forget_after: Duration,
}

impl MembershipConfig {
    /// The defaults for a node of this name.
    #[must_use]
    pub fn new(cluster: [u8; 16], name: impl Into<Arc<str>>) -> Self {
        Self {
            cluster,
            name: name.into(),
            address: String::new(),
            seeds: Vec::new(),
            heartbeat: Duration::from_millis(250),
            suspect_after: Duration::from_secs(1),
            suspicion: Duration::from_secs(1),
            forget_after: Duration::from_mins(20),
        }
    }
}

/// A connection, by a number that the driver never uses twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum MembershipOutput {
    /// Connect within the deadline and say Hello; report a failure by [`Membership::handle_dial_failed`].
    Dial {
        /// Where to.
        address: String,
        /// How long it may take.
        deadline: Duration,
    },
    /// The Hello was accepted: acknowledge it, and open the link for data once the shards know the change before.
    Accept {
        /// Which link.
        link: LinkId,
        /// Who is at its other end.
        peer: NodeKey,
    },
    /// Say Bye and close.
    Close {
        /// Which link.
        link: LinkId,
        /// Why.
        reason: ByeReason,
    },
    /// Send a frame.
    Send {
        /// Which link.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// Send a heartbeat with this counter, and each link's digest, on every accepted link.
    Beat {
        /// The counter.
        counter: u64,
    },
    /// Tell every shard.
    Changed(MemberChange),
    /// Tell whoever operates the node.
    Notice(Notice),
}

/// What an operator must know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// Another live node bears this node's name and was there first. This one waits, and tries again.
    NameConflict,
    /// This node had a lower epoch than it once had (its clock was set back), and took a higher one.
    EpochWasStale {
        /// The one it has now.
        epoch: Epoch,
    },
}

/// What a node is held to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeStanding {
    /// Heard of, never spoken to.
    Candidate,
    /// Alive: served.
    Up,
    /// Perhaps gone: served, and flagged.
    Suspect,
    /// Gone: hidden, kept, dialled again and again.
    Down,
}

/// What is known of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Where it accepts peers.
    pub address: String,
    /// Its life.
    pub epoch: Epoch,
    /// What it is held to be.
    pub standing: NodeStanding,
}

/// How a dial ended without a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DialResult {
    /// Its host refuses.
    Refused,
    /// No answer came in time, or the address leads nowhere.
    Unreachable,
}

/// The machine.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    me: NodeKey,
    epoch: Epoch,
    first_epoch: Epoch,
    process: ProcessId,
    /// How many Hellos were said.
    hellos: Cell<u64>,
    chance: Chance,
    members: BTreeMap<NodeKey, Member>,
    links: BTreeMap<LinkId, NodeKey>,
    graves: Graves,
    challenges: Vec<Challenge>,
    favours: Vec<Favour>,
    dials: BTreeMap<String, Dial>,
    seeds_due: Instant,
    beat_due: Instant,
    gossip_due: Instant,
    counter: u64,
    /// Own lateness, as a number of intervals by which accusations wait longer.
    lateness: u32,
    /// Set while another node of this name is in place.
    conflict_until: Option<Instant>,
    /// Hellos of nodes whose epoch was stale.
    stale_hellos: u64,
    outputs: VecDeque<MembershipOutput>,
}

#[derive(Debug)]
struct Member {
    name: Arc<str>,
    address: String,
    epoch: Epoch,
    first_epoch: Epoch,
    process: Option<ProcessId>,
    /// The highest number of its Hellos that were accepted.
    hello: u64,
    standing: NodeStanding,
    link: Option<LinkId>,
    /// When the latest link was accepted.
    linked_at: Instant,
    /// How many of the latest links ended soon, one after the other.
    short_links: u8,
    /// How often it was dialled again soon since its link ended.
    redials: u8,
    /// Whether this node dialled the link.
    dialled: bool,
    counter: u64,
    heard_at: Instant,
    /// When a suspect is Down, or a node that is Down is forgotten.
    deadline: Option<Instant>,
    dial_due: Instant,
    confirmation: Option<Confirmation>,
}

#[derive(Clone, Copy, Debug)]
struct Dial {
    until: Instant,
}

impl Membership {
    /// A node that knows nobody. `random` seeds jitter and nonces; it needs no secrecy.
    #[must_use]
    pub fn new(
        config: MembershipConfig,
        epoch: Epoch,
        process: ProcessId,
        random: u64,
        now: Instant,
    ) -> Self {
        let me = NodeKey::of_name(&config.name);
        Self {
            config,
            me,
            epoch,
            first_epoch: epoch,
            process,
            hellos: Cell::new(0),
            chance: Chance(random),
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            graves: Graves::default(),
            challenges: Vec::new(),
            favours: Vec::new(),
            dials: BTreeMap::new(),
            seeds_due: now,
            beat_due: now,
            gossip_due: now,
            counter: 0,
            lateness: 0,
            conflict_until: None,
            stale_hellos: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// This node's life.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What this node says first on every link, each with a number of its own. `versions` are those of all shards.
    #[must_use]
    pub fn hello(&self, versions: Box<[Version; PARTITIONS]>) -> Hello {
        Hello {
            cluster: self.config.cluster,
            name: self.config.name.to_string(),
            address: self.config.address.clone(),
            epoch: self.epoch,
            first_epoch: self.first_epoch,
            process: self.process,
            number: self.hellos.replace(self.hellos.get() + 1),
            features: 0,
            versions,
        }
    }

    /// All nodes but this one, by key.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let status = |member: &Member| NodeStatus {
            name: Arc::clone(&member.name),
            address: member.address.clone(),
            epoch: member.epoch,
            standing: member.standing,
        };
        self.members.values().map(status).collect()
    }

    /// What a node is held to be.
    #[must_use]
    pub fn standing(&self, node: NodeKey) -> Option<NodeStanding> {
        self.members.get(&node).map(|member| member.standing)
    }

    /// Whether nodes were heard of that were not reached yet; lookups are incomplete until then.
    #[must_use]
    pub fn has_candidates(&self) -> bool {
        self.members.values().any(|member| member.standing == NodeStanding::Candidate)
    }

    /// Hellos that were answered with `StaleEpoch`.
    #[must_use]
    pub fn stale_hellos(&self) -> u64 {
        self.stale_hellos
    }

    /// Number of forgotten nodes that are remembered.
    #[must_use]
    pub fn graves(&self) -> usize {
        self.graves.len()
    }

    /// Takes a frame from an accepted link: Member, Ping, PingReq, Ack, StaleEpoch, Bye or Heartbeat; of others only
    /// that they came. Any frame shows that its sender lives.
    pub fn handle_frame(&mut self, link: LinkId, frame: &Frame, now: Instant) {
        if let Frame::StaleEpoch { remembered } = frame {
            self.handle_stale_epoch(link, *remembered, now);
            return;
        }
        if let Frame::Bye(ByeReason::NameConflict) = frame {
            self.handle_name_conflict(now);
            return;
        }
        let Some(peer) = self.links.get(&link).copied() else { return };
        self.heard(peer, now);
        match frame {
            Frame::Heartbeat { counter, .. } => {
                if let Some(member) = self.members.get_mut(&peer) {
                    member.counter = member.counter.max(*counter);
                }
            }
            Frame::Member(records) => self.handle_records(link, peer, records, now),
            Frame::Ping { nonce } => {
                let reach = crate::wire::v1::Reach::Answered;
                self.send(link, Frame::Ack { nonce: *nonce, target: self.me, reach });
            }
            Frame::PingReq { nonce, target } => self.handle_ping_req(link, *nonce, *target, now),
            Frame::Ack { nonce, target, reach } => self.handle_ack(peer, *nonce, *target, *reach, now),
            Frame::Bye(ByeReason::Leaving) => self.node_left(peer),
            Frame::Bye(ByeReason::Failed) => self.node_down(peer, now),
            _ => {}
        }
    }

    /// The link was closed by the peer or the kernel. Links that an output told to close need no report.
    pub fn handle_link_closed(&mut self, link: LinkId, now: Instant) {
        self.challenge_link_closed(link, now);
        let Some(peer) = self.links.remove(&link) else { return };
        self.favours_link_closed(peer);
        let Some(member) = self.members.get_mut(&peer).filter(|member| member.link == Some(link)) else {
            return;
        };
        member.link = None;
        self.suspect_cut(peer, now);
    }

    /// A dial ended without a link.
    pub fn handle_dial_failed(&mut self, address: &str, result: DialResult, now: Instant) {
        self.dials.remove(address);
        let here = self.members.iter().find(|(_, member)| member.address == address && member.link.is_none());
        let Some(key) = here.map(|(key, _)| *key) else { return };
        if result == DialResult::Refused {
            return self.dial_refused(key, now);
        }
        // A process that is being killed takes connections to the last; soon its host refuses them.
        if let Some(member) = self.members.get_mut(&key)
            && member.standing == NodeStanding::Suspect
            && member.short_links <= SHORT_LINKS_MAX
            && member.redials < SUSPECT_REDIALS_MAX
        {
            member.dial_due = member.dial_due.min(now + SUSPECT_REDIAL_INTERVAL * (1 << member.redials));
            member.redials += 1;
        }
    }

    /// When [`Membership::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let suspect_after = self.suspect_after();
        let may_dial = self.conflict_until.is_none();
        let has_room = may_dial && self.dials.len() < DIALS_MAX;
        let members = self.members.values().flat_map(|member| {
            let silence = (member.standing == NodeStanding::Up).then(|| member.heard_at + suspect_after);
            let wants_dial = has_room && member.link.is_none() && !member.address.is_empty();
            [silence, wants_dial.then_some(member.dial_due), member.deadline, self.ask_due(member)]
        });
        let dials = self.dials.values().map(|dial| Some(dial.until));
        let challenges = self.challenges.iter().map(|challenge| Some(challenge.until));
        let favours = self.favours.iter().map(|favour| Some(favour.until));
        let seeds = may_dial.then_some(self.seeds_due);
        let own = [Some(self.beat_due), Some(self.gossip_due), seeds, self.conflict_until];
        let all = members.chain(dials).chain(challenges).chain(favours).chain(own);
        all.flatten().min().unwrap_or(self.beat_due)
    }

    /// Takes other seeds, which are dialled at once. Links to the old ones stay. Says whether anything has
    /// changed.
    pub fn set_seeds(&mut self, seeds: &[String], now: Instant) -> bool {
        if self.config.seeds == seeds {
            return false;
        }
        self.config.seeds = seeds.to_vec();
        self.seeds_due = now;
        true
    }

    /// Time has passed. If the call comes late, nobody is accused of the silence meanwhile.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.excuse_own_lateness(now);
        if self.conflict_until.is_some_and(|until| now >= until) {
            self.conflict_until = None;
            self.seeds_due = now;
            for member in self.members.values_mut() {
                member.dial_due = now;
            }
        }
        self.decide_challenges(now);
        self.expire_favours(now);
        // A beat in time shortens the patience with others, so it comes before they are accused.
        self.beat(now);
        self.accuse(now);
        self.dial(now);
    }

    /// Says Bye on every link; the node is not to be driven any further.
    pub fn leave(&mut self, reason: ByeReason) {
        for link in std::mem::take(&mut self.links).into_keys() {
            self.outputs.push_back(MembershipOutput::Close { link, reason });
        }
    }

    fn heard(&mut self, peer: NodeKey, now: Instant) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.heard_at = now;
        if member.standing == NodeStanding::Suspect && member.link.is_some() {
            member.standing = NodeStanding::Up;
            member.deadline = None;
            member.confirmation = None;
            self.changed(MemberChange::Cleared(peer));
        }
    }

    /// What others say of nodes: it makes candidates, and an advance of a counter is a sign of life.
    fn handle_records(&mut self, link: LinkId, peer: NodeKey, records: &[MemberRecord], now: Instant) {
        let rearm = self.suspicion_time();
        for record in records {
            let key = NodeKey::of_name(&record.name);
            if key == self.me || record.standing != Standing::Up {
                continue;
            }
            if key == peer && self.members.get(&peer).is_some_and(|member| record.epoch > member.epoch) {
                // Its Hello on this link was said before it took a higher epoch: the two have to begin again.
                self.close(link, ByeReason::Duplicate);
                if let Some(member) = self.members.get_mut(&peer) {
                    member.link = None;
                }
                return self.suspect_cut(peer, now);
            }
            if let Some(member) = self.members.get_mut(&key) {
                if record.epoch == member.epoch && record.counter > member.counter {
                    let first = member.counter == 0;
                    member.counter = record.counter;
                    if member.standing == NodeStanding::Suspect && !first {
                        member.confirmation = None;
                        member.deadline = Some(now + rearm);
                    }
                }
                if member.link.is_none() && record.epoch > member.epoch && !record.address.is_empty() {
                    member.address.clone_from(&record.address);
                    member.dial_due = member.dial_due.min(now);
                }
                continue;
            }
            let is_news = self.graves.may_live(key, record.epoch);
            if is_news && self.members.len() < MEMBERS_MAX && record.address.len() <= ADDRESS_BYTES_MAX {
                let jitter = self.chance.up_to(JOIN_JITTER);
                self.members.insert(key, Member::candidate(record, now + jitter, now));
            }
        }
    }

    fn beat(&mut self, now: Instant) {
        if now >= self.beat_due {
            self.counter += 1;
            self.beat_due = now + self.heartbeat();
            self.lateness = self.lateness.saturating_sub(1);
            if self.conflict_until.is_none() {
                self.outputs.push_back(MembershipOutput::Beat { counter: self.counter });
            }
        }
        if now >= self.gossip_due {
            self.gossip_due = now + GOSSIP_INTERVAL;
            let linked: Vec<LinkId> = self.links.keys().copied().collect();
            if let Some(link) = self.chance.pick(&linked) {
                self.send_records(*link);
            }
        }
    }

    /// Tells a peer of as many nodes as a frame may have, and first of this one.
    fn send_records(&mut self, link: LinkId) {
        let record = |member: &Member| MemberRecord {
            name: member.name.to_string(),
            address: member.address.clone(),
            epoch: member.epoch,
            counter: member.counter,
            standing: match member.standing {
                NodeStanding::Up => Standing::Up,
                NodeStanding::Suspect => Standing::Suspect,
                NodeStanding::Down | NodeStanding::Candidate => Standing::Down,
            },
        };
        let own = MemberRecord {
            name: self.config.name.to_string(),
            address: self.config.address.clone(),
            epoch: self.epoch,
            counter: self.counter,
            standing: Standing::Up,
        };
        let peer = self.links.get(&link).copied();
        let others =
            self.members.iter().filter(|(key, _)| Some(**key) != peer).map(|(_, member)| record(member));
        let records = std::iter::once(own).chain(others).take(NODES_PER_FRAME_MAX).collect();
        self.send(link, Frame::Member(records));
    }

    /// Starts the dials that are due, a bounded number at a time.
    fn dial(&mut self, now: Instant) {
        self.dials.retain(|_, dial| dial.until > now);
        if self.conflict_until.is_some() {
            return;
        }
        if now >= self.seeds_due {
            let alone = self.links.is_empty();
            let wait = if alone { SEEDS_INTERVAL_ALONE } else { SEEDS_INTERVAL };
            self.seeds_due = now + wait + self.chance.up_to(wait);
            // A second link to a node would only take the place of the first.
            let linked = |seed: &&String| {
                self.members.values().any(|member| member.link.is_some() && member.address == **seed)
            };
            let seeds: Vec<_> = self.config.seeds.iter().filter(|seed| !linked(seed)).cloned().collect();
            for seed in seeds {
                self.start_dial(seed, DIAL_DEADLINE, now);
            }
        }
        let due =
            |member: &&Member| member.link.is_none() && member.dial_due <= now && !member.address.is_empty();
        let due: Vec<_> =
            self.members.iter().filter(|(_, member)| due(member)).map(|(key, _)| *key).collect();
        for key in due {
            let wait = REDIAL_INTERVAL + self.chance.up_to(REDIAL_INTERVAL);
            let Some(member) = self.members.get_mut(&key) else { continue };
            let address = member.address.clone();
            let deadline =
                if member.standing == NodeStanding::Suspect { SUSPECT_DIAL_DEADLINE } else { DIAL_DEADLINE };
            if self.start_dial(address, deadline, now)
                && let Some(member) = self.members.get_mut(&key)
            {
                member.dial_due = now + wait;
            }
        }
    }

    fn start_dial(&mut self, address: String, deadline: Duration, now: Instant) -> bool {
        if address == self.config.address || self.dials.contains_key(&address) {
            return true;
        }
        if self.dials.len() >= DIALS_MAX {
            return false;
        }
        self.dials.insert(address.clone(), Dial { until: now + deadline + deadline });
        self.outputs.push_back(MembershipOutput::Dial { address, deadline });
        true
    }

    fn heartbeat(&self) -> Duration {
        let nodes = u32::try_from(self.members.len() + 1).unwrap_or(u32::MAX);
        self.config.heartbeat.max(HEARTBEAT_PER_NODE * nodes)
    }

    fn send(&mut self, link: LinkId, frame: Frame) {
        self.outputs.push_back(MembershipOutput::Send { link, frame });
    }

    fn close(&mut self, link: LinkId, reason: ByeReason) {
        self.links.remove(&link);
        self.outputs.push_back(MembershipOutput::Close { link, reason });
    }

    fn changed(&mut self, change: MemberChange) {
        self.outputs.push_back(MembershipOutput::Changed(change));
    }
}

impl Member {
    fn candidate(record: &MemberRecord, dial_due: Instant, now: Instant) -> Self {
        Self {
            name: record.name.as_str().into(),
            address: record.address.clone(),
            epoch: record.epoch,
            first_epoch: record.epoch,
            process: None,
            hello: 0,
            standing: NodeStanding::Candidate,
            link: None,
            linked_at: now,
            short_links: 0,
            redials: 0,
            dialled: false,
            counter: record.counter,
            heard_at: now,
            deadline: Some(now + CANDIDATE_TIME),
            dial_due,
            confirmation: None,
        }
    }
}

/// Jitter and nonces: splitmix64 (Steele, Lea, Flood, 2014). It decides nothing that must be secret.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn up_to(&mut self, bound: Duration) -> Duration {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.next() % micros)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = from.len() as u64;
        from.get(usize::try_from(self.next().checked_rem(count)?).ok()?)
    }
}

/// Most nodes that are known at a time; what is heard of more is ignored.
const MEMBERS_MAX: usize = 4096;
/// Most dials under way.
const DIALS_MAX: usize = 32;
const DIAL_DEADLINE: Duration = Duration::from_secs(2);
/// A node whose stream ended is dialled at once; if it lives it answers soon.
const SUSPECT_DIAL_DEADLINE: Duration = Duration::from_millis(50);
/// The first pause of such dials, which doubles, and how many there are.
const SUSPECT_REDIALS_MAX: u8 = 4;
const SUSPECT_REDIAL_INTERVAL: Duration = Duration::from_millis(20);
const REDIAL_INTERVAL: Duration = Duration::from_secs(1);
const SEEDS_INTERVAL: Duration = Duration::from_secs(15);
const SEEDS_INTERVAL_ALONE: Duration = Duration::from_millis(500);
const GOSSIP_INTERVAL: Duration = Duration::from_secs(1);
const JOIN_JITTER: Duration = Duration::from_millis(20);
/// How long a node that was only heard of is tried.
const CANDIDATE_TIME: Duration = Duration::from_mins(1);
const HEARTBEAT_PER_NODE: Duration = Duration::from_micros(2500);
