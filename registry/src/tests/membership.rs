//! Several memberships over simulated connections and time. A run depends on its seed alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::tests::start;
use crate::wire::v1::{ByeReason, Frame};
use crate::{
    DialResult, Epoch, Fault, LinkId, MemberChange, Membership, MembershipConfig, MembershipOutput, NodeKey,
    NodeStanding, Notice, PARTITIONS, ProcessId,
};

#[test]
fn all_meet_through_one_seed() {
    let mut sim = Sim::new(8, 1);
    sim.run(ms(3000));
    for node in 0..8 {
        assert_eq!(sim.up_seen_by(node), sim.others(node), "node {node}");
    }
}

#[test]
fn a_crashed_node_is_down_everywhere_at_once() {
    for nodes in [2, 3, 8] {
        let mut sim = Sim::joined(nodes, 2);
        sim.crash(1);
        sim.run(ms(20));
        for node in sim.alive() {
            assert_eq!(sim.standing(node, 1), Some(NodeStanding::Down), "{nodes} nodes, seen by {node}");
        }
    }
}

#[test]
fn a_silent_node_is_down_within_three_seconds_and_up_again_when_it_speaks() {
    let mut sim = Sim::joined(8, 3);
    sim.pause(1);
    sim.run(ms(700));
    assert!(sim.alive().iter().all(|node| sim.standing(*node, 1) == Some(NodeStanding::Up)));
    sim.run(ms(2300));
    assert!(sim.alive().iter().all(|node| sim.standing(*node, 1) == Some(NodeStanding::Down)));
    sim.resume(1);
    sim.run(ms(8000));
    for node in 0..8 {
        assert_eq!(sim.up_seen_by(node), sim.others(node), "node {node}");
    }
}

#[test]
fn a_short_silence_is_suspected_and_cleared() {
    let mut sim = Sim::joined(3, 4);
    sim.pause(1);
    sim.run(ms(1500));
    assert_eq!(sim.standing(0, 1), Some(NodeStanding::Suspect));
    sim.resume(1);
    sim.run(ms(500));
    assert_eq!(sim.standing(0, 1), Some(NodeStanding::Up));
    assert_eq!(sim.downs, 0);
    // It saw nothing itself for so long, and accuses nobody.
    assert_eq!(sim.up_seen_by(1), sim.others(1));
}

#[test]
fn a_stall_of_400_ms_accuses_nobody() {
    let mut sim = Sim::joined(8, 5);
    for _ in 0..5 {
        sim.pause(1);
        sim.run(ms(400));
        sim.resume(1);
        sim.run(ms(2000));
    }
    assert_eq!((sim.downs, sim.suspects), (0, 0));
}

#[test]
fn who_says_bye_is_dropped_and_not_dialled() {
    let mut sim = Sim::joined(4, 6);
    sim.leave(1);
    sim.run(ms(20));
    sim.dials = 0;
    sim.run(ms(5000));
    for node in sim.alive() {
        assert_eq!(sim.standing(node, 1), None);
    }
    assert_eq!(sim.dials_to(1), 0);
}

#[test]
fn a_fast_restart_is_back_within_a_second() {
    let mut sim = Sim::joined(4, 7);
    sim.crash(1);
    sim.start(1, 5000);
    sim.run(ms(1000));
    for node in 0..4 {
        assert_eq!(sim.up_seen_by(node), sim.others(node), "node {node}");
    }
}

#[test]
fn a_restart_with_the_clock_set_back_takes_a_higher_epoch() {
    let mut sim = Sim::joined(4, 8);
    let before = sim.nodes[1].as_ref().unwrap().epoch();
    sim.crash(1);
    sim.run(ms(100));
    sim.start(1, 10);
    sim.run(ms(3000));
    assert!(sim.nodes[1].as_ref().unwrap().epoch() > before);
    assert!(
        sim.notices.iter().any(|(node, notice)| *node == 1 && matches!(notice, Notice::EpochWasStale { .. }))
    );
    for node in 0..4 {
        assert_eq!(sim.up_seen_by(node), sim.others(node), "node {node}");
    }
}

#[test]
fn the_epoch_of_a_forgotten_node_is_remembered() {
    let forgotten = |fault: Option<Fault>| {
        let mut sim = Sim::joined(6, 9);
        for node in [1, 2, 3] {
            sim.crash(node);
        }
        sim.run(FORGET_AFTER + ms(2000));
        assert_eq!(sim.standing(0, 1), None);
        let _built_in = fault.map(Fault::build_in);
        for node in [1, 2, 3] {
            sim.start(node, 10);
        }
        sim.run(ms(5000));
        sim.epochs_went_back
    };
    assert!(!forgotten(None));
}

#[test]
fn every_fault_of_the_membership_is_caught() {
    let set_back = |fault: Fault| {
        let _built_in = fault.build_in();
        let mut sim = Sim::joined(6, 9);
        for node in [1, 2, 3] {
            sim.crash(node);
        }
        sim.run(FORGET_AFTER + ms(2000));
        for node in [1, 2, 3] {
            sim.start(node, 10);
        }
        sim.run(ms(5000));
        let complete = (0..6).all(|node| sim.up_seen_by(node) == sim.others(node));
        sim.epochs_went_back || !complete
    };
    for fault in [Fault::LowerEpochsAccepted, Fault::NoStaleEpoch, Fault::TooFewGraves] {
        assert!(set_back(fault), "{fault:?} passed");
    }
    // Without a fault that concerns the membership, the same run is right.
    assert!(!set_back(Fault::NoSeal));
}

#[test]
fn of_two_live_nodes_with_one_name_the_first_stays() {
    let mut sim = Sim::joined(4, 10);
    let name = sim.name(1);
    sim.start_named(&name, 4, 6000);
    sim.run(ms(5000));
    assert!(sim.notices.contains(&(4, Notice::NameConflict)));
    assert!(!sim.notices.contains(&(1, Notice::NameConflict)));
    for node in [0, 2, 3] {
        assert_eq!(sim.standing(node, 1), Some(NodeStanding::Up));
    }
    assert!(!sim.epochs_went_back);
    // The one that waits has no links and gives everybody up; the others do not notice.
    assert!(sim.seen_downs.iter().all(|node| *node == 4), "{:?}", sim.seen_downs);
    // It waits, and takes the place when the first is gone.
    sim.crash(1);
    sim.run(ms(15_000));
    for node in [0, 2, 3] {
        assert_eq!(sim.standing(node, 1), Some(NodeStanding::Up));
    }
}

#[test]
fn a_split_heals() {
    let mut sim = Sim::joined(6, 11);
    sim.split = Some(BTreeSet::from([0, 1, 2]));
    sim.run(ms(5000));
    assert_eq!(sim.up_seen_by(0), BTreeSet::from([1, 2]));
    assert_eq!(sim.up_seen_by(5), BTreeSet::from([3, 4]));
    sim.split = None;
    sim.run(ms(8000));
    for node in 0..6 {
        assert_eq!(sim.up_seen_by(node), sim.others(node), "node {node}");
    }
}

#[test]
fn another_cluster_is_refused() {
    let mut sim = Sim::new(2, 12);
    sim.nodes[1] = None;
    sim.start_in(*b"another-cluster!", 1, 2000);
    sim.run(ms(3000));
    assert_eq!((sim.standing(0, 1), sim.standing(1, 0)), (None, None));
}

#[test]
fn any_mixture_of_crashes_pauses_and_splits_heals() {
    for seed in 0..100 {
        let mut sim = Sim::joined(6, seed);
        let mut clock_ms = 5000;
        for _ in 0..6 {
            let victim = sim.random.usize(..6);
            clock_ms += 1000;
            match sim.random.u32(..4) {
                0 => {
                    sim.crash(victim);
                    let wait = sim.random.u64(..3000);
                    sim.run(ms(wait));
                    // One clock in four is set back.
                    let clock_ms = if sim.random.u32(..4) == 0 { 10 } else { clock_ms };
                    sim.start(victim, clock_ms);
                }
                1 => {
                    sim.pause(victim);
                    let wait = sim.random.u64(..5000);
                    sim.run(ms(wait));
                    sim.resume(victim);
                }
                2 => {
                    sim.split = Some((0..6).filter(|_| sim.random.bool()).collect());
                    let wait = sim.random.u64(..5000);
                    sim.run(ms(wait));
                    sim.split = None;
                }
                _ => sim.run(ms(500)),
            }
        }
        sim.run(ms(40_000));
        for node in 0..6 {
            assert_eq!(sim.up_seen_by(node), sim.others(node), "seed {seed}, node {node}");
        }
        assert!(!sim.epochs_went_back, "seed {seed}");
        let conflict = sim.notices.iter().find(|(_, notice)| *notice == Notice::NameConflict);
        assert_eq!(conflict, None, "seed {seed}");
    }
}

#[test]
fn a_seed_replays_a_run() {
    let trace = |seed| {
        let mut sim = Sim::joined(5, seed);
        sim.crash(2);
        sim.run(ms(700));
        sim.start(2, 9000);
        sim.run(ms(2000));
        (sim.delivered, sim.dials, sim.suspects)
    };
    for seed in 0..5 {
        assert_eq!(trace(seed), trace(seed));
    }
}

/// Nodes `n0`, `n1`, ...; `n0` is everybody's seed. Every connection delivers in order after a random delay.
struct Sim {
    random: fastrand::Rng,
    now: Instant,
    nodes: Vec<Option<Membership>>,
    names: Vec<Arc<str>>,
    paused: BTreeSet<usize>,
    /// One side of a split.
    split: Option<BTreeSet<usize>>,
    /// The two ends; the first dialled.
    links: BTreeMap<LinkId, (usize, usize)>,
    accepted: BTreeSet<(usize, LinkId)>,
    /// By time and number, so that the order of equals is that of their sending.
    events: BTreeMap<(Instant, u64), (usize, Delivery)>,
    in_order: BTreeMap<(usize, LinkId), Instant>,
    numbers: u64,
    highest_epochs: BTreeMap<(usize, NodeKey), Epoch>,
    epochs_went_back: bool,
    notices: Vec<(usize, Notice)>,
    dialled: Vec<usize>,
    dials: usize,
    downs: usize,
    /// Who held somebody to be Down.
    seen_downs: Vec<usize>,
    suspects: usize,
    delivered: u64,
}

enum Delivery {
    Hello { link: LinkId, hello: Box<crate::wire::Hello>, dialled: bool },
    Frame { link: LinkId, frame: Frame },
    Closed { link: LinkId },
    DialFailed { address: String, result: DialResult },
}

impl Sim {
    fn new(nodes: usize, seed: u64) -> Self {
        let mut sim = Self {
            random: fastrand::Rng::with_seed(seed),
            now: start(),
            nodes: (0..nodes).map(|_| None).collect(),
            names: (0..nodes).map(|node| format!("n{node}").into()).collect(),
            paused: BTreeSet::new(),
            split: None,
            links: BTreeMap::new(),
            accepted: BTreeSet::new(),
            events: BTreeMap::new(),
            in_order: BTreeMap::new(),
            numbers: 0,
            highest_epochs: BTreeMap::new(),
            epochs_went_back: false,
            notices: Vec::new(),
            dialled: Vec::new(),
            dials: 0,
            downs: 0,
            seen_downs: Vec::new(),
            suspects: 0,
            delivered: 0,
        };
        for node in 0..nodes {
            sim.start(node, 1000);
        }
        sim
    }

    fn joined(nodes: usize, seed: u64) -> Self {
        let mut sim = Self::new(nodes, seed);
        sim.run(ms(3000));
        for node in 0..nodes {
            assert_eq!(sim.up_seen_by(node), sim.others(node), "node {node} while joining");
        }
        (sim.downs, sim.suspects, sim.dials) = (0, 0, 0);
        sim.dialled.clear();
        sim
    }

    fn name(&self, node: usize) -> Arc<str> {
        Arc::clone(&self.names[node])
    }

    fn start(&mut self, node: usize, clock_ms: u64) {
        let name = self.name(node);
        self.start_node(CLUSTER, &name, node, clock_ms);
    }

    fn start_named(&mut self, name: &str, node: usize, clock_ms: u64) {
        self.nodes.resize_with(self.nodes.len().max(node + 1), || None);
        self.names.resize(self.nodes.len(), name.into());
        self.start_node(CLUSTER, name, node, clock_ms);
    }

    fn start_in(&mut self, cluster: [u8; 16], node: usize, clock_ms: u64) {
        let name = self.name(node);
        self.start_node(cluster, &name, node, clock_ms);
    }

    fn start_node(&mut self, cluster: [u8; 16], name: &str, node: usize, clock_ms: u64) {
        let mut config = MembershipConfig::new(cluster, name);
        config.address = address(node);
        config.seeds = vec![address(0)];
        config.forget_after = FORGET_AFTER;
        let epoch = Epoch::at_start(clock_ms, self.random.u32(..));
        let process = ProcessId::from_random(self.random.u128(..));
        self.paused.remove(&node);
        // A new process has seen nothing yet.
        self.highest_epochs.retain(|(observer, _), _| *observer != node);
        self.nodes[node] = Some(Membership::new(config, epoch, process, self.random.u64(..), self.now));
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node] = None;
        let links: Vec<_> = self.links.iter().map(|(link, ends)| (*link, *ends)).collect();
        for (link, (one, other)) in links {
            if one == node || other == node {
                let peer = if one == node { other } else { one };
                self.later(peer, link, Delivery::Closed { link });
                self.links.remove(&link);
            }
        }
    }

    fn leave(&mut self, node: usize) {
        self.nodes[node].as_mut().unwrap().leave(ByeReason::Leaving);
        self.drain(node);
        self.crash(node);
    }

    fn pause(&mut self, node: usize) {
        self.paused.insert(node);
    }

    fn resume(&mut self, node: usize) {
        self.paused.remove(&node);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deliverable =
                self.events.iter().find(|(_, (to, _))| !self.paused.contains(to)).map(|(at, _)| *at);
            let timer = self.alive().into_iter().map(|node| {
                let due = self.nodes[node].as_ref().map(Membership::poll_timeout).unwrap_or(end);
                (due.max(self.now), node)
            });
            let timer = timer.min();
            let next_event = deliverable.map(|(at, _)| at.max(self.now));
            let next = next_event.into_iter().chain(timer.map(|(at, _)| at)).min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
            if let Some(key) = deliverable.filter(|_| next_event == Some(next))
                && let Some((to, delivery)) = self.events.remove(&key)
            {
                self.deliver(to, delivery);
            } else if let Some((_, node)) = timer {
                if let Some(membership) = &mut self.nodes[node] {
                    membership.handle_timeout(self.now);
                    assert!(membership.poll_timeout() > self.now, "a timer that does not go on");
                }
                self.drain(node);
            }
        }
    }

    fn deliver(&mut self, to: usize, delivery: Delivery) {
        self.delivered += 1;
        let now = self.now;
        let Some(node) = &mut self.nodes[to] else { return };
        match delivery {
            Delivery::Hello { link, hello, dialled } if self.links.contains_key(&link) => {
                node.handle_hello(link, *hello, dialled, now);
            }
            Delivery::Frame { link, frame } => node.handle_frame(link, &frame, now),
            Delivery::Closed { link } => node.handle_link_closed(link, now),
            Delivery::DialFailed { address, result } => node.handle_dial_failed(&address, result, now),
            Delivery::Hello { .. } => {}
        }
        self.drain(to);
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].as_mut().and_then(Membership::poll_output) {
            match output {
                MembershipOutput::Dial { address, deadline } => self.dial(node, &address, deadline),
                MembershipOutput::Accept { link, .. } => {
                    self.accepted.insert((node, link));
                }
                MembershipOutput::Close { link, reason } => {
                    if let Some(peer) = self.peer(node, link) {
                        self.later(peer, link, Delivery::Frame { link, frame: Frame::Bye(reason) });
                        self.later(peer, link, Delivery::Closed { link });
                    }
                    self.accepted.remove(&(node, link));
                }
                MembershipOutput::Send { link, frame } => {
                    if let Some(peer) = self.peer(node, link) {
                        self.later(peer, link, Delivery::Frame { link, frame });
                    }
                }
                MembershipOutput::Beat { counter } => {
                    let links: Vec<_> =
                        self.accepted.iter().filter(|(end, _)| *end == node).copied().collect();
                    for (_, link) in links {
                        if let Some(peer) = self.peer(node, link) {
                            let frame = Frame::Heartbeat { counter, digest: [0; 16] };
                            self.later(peer, link, Delivery::Frame { link, frame });
                        }
                    }
                }
                MembershipOutput::Changed(change) => self.changed(node, &change),
                MembershipOutput::Notice(notice) => self.notices.push((node, notice)),
            }
        }
    }

    fn changed(&mut self, node: usize, change: &MemberChange) {
        match change {
            MemberChange::Up { name, epoch, .. } => {
                let highest = self.highest_epochs.entry((node, NodeKey::of_name(name))).or_insert(*epoch);
                self.epochs_went_back |= *epoch < *highest;
                *highest = (*highest).max(*epoch);
            }
            MemberChange::Down(_) => {
                self.downs += 1;
                self.seen_downs.push(node);
            }
            MemberChange::Suspect(_) => self.suspects += 1,
            MemberChange::Cleared(_) | MemberChange::Dropped(_) | MemberChange::Renewed(_) => {}
        }
    }

    fn dial(&mut self, from: usize, address: &str, deadline: Duration) {
        let to: usize = address.trim_start_matches("host-").parse().unwrap();
        self.dials += 1;
        self.dialled.push(to);
        let fail = |result, after: Duration, sim: &mut Self| {
            let event = (from, Delivery::DialFailed { address: address.to_owned(), result });
            sim.numbers += 1;
            sim.events.insert((sim.now + after, sim.numbers), event);
        };
        if self.is_cut(from, to) || self.paused.contains(&to) {
            return fail(DialResult::Unreachable, deadline, self);
        }
        if self.nodes.get(to).is_none_or(Option::is_none) {
            return fail(DialResult::Refused, ms(1), self);
        }
        self.numbers += 1;
        let link = LinkId(self.numbers);
        self.links.insert(link, (from, to));
        for (me, peer, dialled) in [(from, to, false), (to, from, true)] {
            let hello = self.nodes[me].as_ref().unwrap().hello(Box::new([0; PARTITIONS]));
            self.later(peer, link, Delivery::Hello { link, hello: Box::new(hello), dialled });
        }
    }

    /// Delivers after up to 2 ms, in the order of the connection; across a split, never.
    fn later(&mut self, to: usize, link: LinkId, delivery: Delivery) {
        if self.links.get(&link).is_some_and(|(one, other)| self.is_cut(*one, *other)) {
            return;
        }
        let at = self.now + Duration::from_micros(self.random.u64(100..2000));
        let last = self.in_order.entry((to, link)).or_insert(at);
        *last = at.max(*last);
        self.numbers += 1;
        self.events.insert((*last, self.numbers), (to, delivery));
    }

    fn peer(&self, node: usize, link: LinkId) -> Option<usize> {
        let (one, other) = *self.links.get(&link)?;
        Some(if one == node { other } else { one })
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.split.as_ref().is_some_and(|side| side.contains(&one) != side.contains(&other))
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_some() && !self.paused.contains(node))
            .collect()
    }

    fn others(&self, node: usize) -> BTreeSet<usize> {
        (0..self.nodes.len()).filter(|other| *other != node).collect()
    }

    fn standing(&self, seen_by: usize, node: usize) -> Option<NodeStanding> {
        self.nodes[seen_by].as_ref()?.standing(NodeKey::of_name(&self.names[node]))
    }

    fn up_seen_by(&self, node: usize) -> BTreeSet<usize> {
        (0..self.nodes.len()).filter(|other| self.standing(node, *other) == Some(NodeStanding::Up)).collect()
    }

    fn dials_to(&self, node: usize) -> usize {
        self.dialled.iter().filter(|to| **to == node).count()
    }
}

fn address(node: usize) -> String {
    format!("host-{node}")
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const CLUSTER: [u8; 16] = *b"cluster-of-tests";
const FORGET_AFTER: Duration = ms(20_000);
