//! The machine of a shard: two and three nodes whose frames travel as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{ChunkLimits, FRAME_BYTES_MAX, LogLimits, WindowLimits};
use crate::tests::start;
use crate::wire::v1::{Frame, LogId, Operation, Outcome, Place};
use crate::wire::{Encoded, HEADER_BYTES, Header, decode};
use crate::{
    CommandError, Delta, Epoch, Event, Fault, MemberChange, NodeKey, Partition, Partitions, PartitionsConfig,
    Put, Seal, Service, ServiceBuilder, ServiceKey, Violation,
};

#[test]
fn a_change_is_seen_on_the_other_node_and_told_as_an_event() {
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    assert_eq!(net.ids(1), ["1"]);
    assert_eq!(net.events(1), ["joined 1"]);
    net.put(0, &service("1").with_online(false));
    assert_eq!(net.events(1), ["updated 1"]);
    assert_eq!(net.nodes[1].candidates(KIND), []);
    net.remove(0, "1");
    assert_eq!(net.events(1), ["left 1"]);
    assert_eq!(net.ids(1), [""; 0]);
}

#[test]
fn a_joiner_gets_all_in_small_chunks_within_its_windows() {
    let mut net = Net::new(2);
    for number in 0..500 {
        net.put(0, &service(&number.to_string()));
    }
    for number in (0..500).step_by(2) {
        net.remove(0, &number.to_string());
    }
    net.join_all();
    assert_eq!(net.ids(1).len(), 250);
    assert_eq!(net.nodes[1].digests().collect::<BTreeMap<_, _>>(), net.nodes[0].digests().collect());
    assert!(net.nodes[1].is_synced(net.key(0)));
}

#[test]
fn a_down_node_is_hidden_and_after_a_split_shown_only_when_synced() {
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    net.put(0, &service("2"));
    net.events(1);
    net.split(0, 1);
    let key = net.key(0);
    net.member(1, MemberChange::Suspect(key));
    assert_eq!(net.events(1), ["updated 1", "updated 2"]);
    assert!(net.nodes[1].instances(KIND).iter().all(|instance| instance.suspect));
    net.member(1, MemberChange::Down(key));
    assert_eq!(net.events(1), ["left 1", "left 2"]);
    net.remove(0, "1");
    // It is Up again, but what it removed meanwhile must not show before its log has arrived.
    let up = net.up(0);
    net.member(1, up);
    assert_eq!((net.ids(1), net.events(1).len()), (vec![], 0));
    net.link(0, 1);
    net.settle();
    assert_eq!(net.events(1), ["joined 2"]);
}

#[test]
fn the_fault_of_showing_too_early_is_caught() {
    let _built_in = Fault::ShownBeforeSynced.build_in();
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    net.split(0, 1);
    let key = net.key(0);
    net.member(1, MemberChange::Down(key));
    net.remove(0, "1");
    let up = net.up(0);
    net.member(1, up);
    assert_eq!(net.ids(1), ["1"], "the fault shows what was removed");
}

#[test]
fn data_of_an_unknown_node_or_life_creates_nothing() {
    let mut net = Net::new(2);
    net.link(0, 1);
    let stranger = NodeKey::of_name("stranger");
    let frame = chunk_of(stranger, Epoch::at_start(1, 1));
    let mut digest_before = digests(&net.nodes[1]);
    assert_eq!(net.nodes[1].handle_frame(stranger, &frame, 100, net.now), Ok(()));
    assert_eq!(digests(&net.nodes[1]), digest_before);
    assert_eq!(net.nodes[1].unknown_chunks(), 1);
    net.join_all();
    digest_before = digests(&net.nodes[1]);
    let origin = net.key(0);
    let other_life = chunk_of(origin, Epoch::at_start(1, 1));
    assert_eq!(net.nodes[1].handle_frame(origin, &other_life, 100, net.now), Ok(()));
    assert_eq!(digests(&net.nodes[1]), digest_before);
    let _built_in = Fault::DataCreatesMembers.build_in();
    net.nodes[1].handle_frame(stranger, &frame, 100, net.now).unwrap();
    assert_ne!(digests(&net.nodes[1]), digest_before, "the fault is caught by this very comparison");
}

#[test]
fn an_unasked_log_of_another_origin_is_a_violation() {
    let mut net = Net::new(3);
    net.join_all();
    let before = digests(&net.nodes[1]);
    for origin in [2, 1] {
        let frame = chunk_of(net.key(origin), net.epoch(origin));
        let from = net.key(0);
        let refused = net.nodes[1].handle_frame(from, &frame, 100, net.now);
        assert_eq!(refused, Err(Violation::Unasked { origin: net.key(origin) }));
    }
    assert_eq!(digests(&net.nodes[1]), before);
}

#[test]
fn what_a_broken_pair_lacks_is_pulled_from_a_third_node() {
    let mut net = Net::new(3);
    net.join_all();
    net.split(0, 2);
    for id in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        net.put(0, &service(id));
    }
    net.remove(0, "1");
    assert_eq!((net.ids(1).len(), net.ids(2).len()), (7, 0));
    let (helper, origin) = (net.key(1), net.key(0));
    // Either side may find that the digests differ; the one that lacks pulls.
    net.nodes[2].send_versions(helper, origin);
    net.settle();
    assert_eq!(net.ids(2), net.ids(1));
    // Later changes were not asked for: they neither come nor close the link.
    net.put(0, &service("9"));
    assert_eq!(net.ids(2).len(), 7);
    let peer = net.key(2);
    net.nodes[1].send_versions(peer, origin);
    net.settle();
    assert_eq!(net.ids(2).len(), 8);
}

#[test]
fn a_command_is_carried_out_by_its_owner_and_visible_to_who_asked() {
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    net.events(1);
    let (owner, key) = (net.key(0), key("1"));
    net.command(1, 1, owner, Operation::Disable, &key).unwrap();
    assert_eq!(net.events(1), ["updated 1", "command 1: Done { version: 2 }"]);
    assert!(!net.nodes[1].instances(KIND)[0].service.is_online());
    assert_eq!(net.events(0), ["joined 1", "updated 1"]);
    net.command(1, 2, owner, Operation::Disable, &key).unwrap();
    assert_eq!(net.events(1), ["command 2: Unchanged { version: 2 }"]);
    net.command(1, 3, owner, Operation::Remove, &key).unwrap();
    assert_eq!(net.events(1), ["left 1", "command 3: Done { version: 3 }"]);
    let missing = net.command(1, 4, owner, Operation::Remove, &key);
    assert_eq!(missing, Err(CommandError::NotFound { owner, key: key.clone() }));
    net.split(0, 1);
    net.member(1, MemberChange::Down(owner));
    assert_eq!(net.command(1, 5, owner, Operation::Remove, &key), Err(CommandError::OwnerDown { owner }));
}

#[test]
fn a_repeated_command_is_carried_out_once() {
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    let command = |op_id, operation| Frame::Command {
        op_id,
        origin: NodeKey::of_name("node-1"),
        epoch: Epoch::at_start(1000, 0),
        operation,
        key: key("1"),
        expect_version: None,
    };
    let from = net.key(1);
    for (op_id, operation) in
        [(1, Operation::Disable), (2, Operation::Enable), (1, Operation::Disable), (2, Operation::Enable)]
    {
        net.nodes[0].handle_frame(from, &command(op_id, operation), 100, net.now).unwrap();
    }
    net.settle();
    let partition = Partition::of_kind(KIND);
    assert_eq!(net.nodes[0].log(net.key(0), partition).unwrap().known(), 3);
    assert!(net.nodes[0].instances(KIND)[0].service.is_online());
}

#[test]
fn an_unanswered_command_ends_in_doubt() {
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    net.events(1);
    let owner = net.key(0);
    for op_id in [1, 2] {
        let sent = net.nodes[1].command(op_id, owner, Operation::Remove, &key("1"), None, TIMEOUT, net.now);
        assert_eq!(sent, Ok(()));
    }
    while net.nodes[1].poll_frame().is_some() {}
    let deadline = net.nodes[1].poll_timeout().unwrap();
    assert_eq!(deadline, net.now + TIMEOUT);
    net.nodes[1].handle_timeout(deadline);
    assert_eq!(net.events(1), ["in doubt 1", "in doubt 2"]);
    net.nodes[1].command(3, owner, Operation::Remove, &key("1"), None, TIMEOUT, net.now).unwrap();
    net.member(1, MemberChange::Down(owner));
    assert_eq!(net.events(1), ["left 1", "in doubt 3"]);
}

#[test]
fn changes_in_quick_succession_travel_together_and_a_lone_one_at_once() {
    let mut net = Net::with_chunks(2, ChunkLimits::default());
    net.join_all();
    net.now += Duration::from_secs(1);
    for number in 0..50 {
        net.nodes[0].put(&service(&number.to_string()), net.now).unwrap();
    }
    // The first went at once, the others wait for each other.
    let written = |net: &mut Net| {
        let peer = net.key(1);
        let frames: Vec<_> = std::iter::from_fn(|| net.nodes[0].poll_frame()).collect();
        for (_, frame) in &frames {
            net.nodes[0].handle_written(peer, frame);
        }
        frames.len()
    };
    assert_eq!(written(&mut net), 1);
    let due = net.nodes[0].poll_timeout().unwrap();
    assert_eq!(due, net.now + Duration::from_millis(1));
    net.nodes[0].handle_timeout(due);
    assert_eq!(written(&mut net), 1);
    assert_eq!(net.nodes[0].poll_timeout(), None);
    net.nodes[0].put(&service("last"), due + Duration::from_millis(1)).unwrap();
    assert_eq!(written(&mut net), 1);
}

#[test]
fn what_is_under_way_to_a_peer_that_does_not_read_is_bounded_and_goes_on_later() {
    let mut net = Net::new(2);
    net.join_all();
    let (mut bytes, mut unwritten) = (0, Vec::new());
    for number in 0..900 {
        net.now += Duration::from_millis(2);
        net.nodes[0].put(&service(&number.to_string()), net.now).unwrap();
        for (_, frame) in std::iter::from_fn(|| net.nodes[0].poll_frame()) {
            bytes += frame.frame_bytes();
            unwritten.push(frame);
        }
    }
    // Both windows, and the frame that went beyond each.
    assert!((4000..4000 + 2000 + 2 * 600).contains(&bytes), "{bytes}");
    let peer = net.key(1);
    // What it lags behind by then is a transfer, which only its credit lets go on.
    for frame in &unwritten {
        net.nodes[0].handle_written(peer, frame);
    }
    assert!(net.nodes[0].poll_frame().is_none());
    let credit = Frame::Credit { partition: Partition::of_kind(KIND), bytes: 600 };
    net.nodes[0].handle_frame(peer, &credit, 49, net.now).unwrap();
    assert!(net.nodes[0].poll_frame().is_some());
}

#[test]
fn of_unique_instances_one_is_chosen_and_all_are_listed() {
    let mut net = Net::new(3);
    net.join_all();
    let unique = ServiceBuilder::new(KIND, "1").unique().build().unwrap();
    for node in 0..3 {
        net.put(node, &unique);
    }
    for node in &net.nodes {
        assert_eq!(node.instances(KIND).len(), 3);
        let chosen = node.candidates(KIND);
        assert_eq!(chosen.len(), 1);
        let least = (0..3).map(|node| net.key(node)).min().unwrap();
        assert_eq!(NodeKey::of_name(&chosen[0].node), least);
    }
}

#[test]
fn a_new_epoch_carries_the_entries_over() {
    let mut net = Net::new(2);
    net.join_all();
    net.put(0, &service("1"));
    let renewed = Epoch::at_start(9999, 0);
    net.member(0, MemberChange::Renewed(renewed));
    net.epochs[0] = renewed;
    net.events(1);
    net.split(0, 1);
    let up = net.up(0);
    net.member(1, up);
    net.link(0, 1);
    net.settle();
    assert_eq!(net.events(1), ["left 1", "joined 1"]);
}

#[test]
fn two_pulls_may_both_be_answered() {
    let mut net = Net::new(3);
    net.join_all();
    let (helper, origin, epoch) = (net.key(1), net.key(0), net.epoch(0));
    let partition = Partition::of_kind(KIND);
    for _ in 0..2 {
        net.nodes[2].send_pull(helper, origin, Some(partition));
    }
    while net.nodes[2].poll_frame().is_some() {}
    let frame = chunk_of(origin, epoch);
    for _ in 0..2 {
        assert_eq!(net.nodes[2].handle_frame(helper, &frame, 100, net.now), Ok(()));
    }
    let third = net.nodes[2].handle_frame(helper, &frame, 100, net.now);
    assert_eq!(third, Err(Violation::Unasked { origin }));
}

#[test]
fn a_log_that_has_to_begin_anew_is_hidden_until_it_is_where_it_was() {
    let mut net = Net::new(2);
    net.join_all();
    for id in ["1", "2", "3"] {
        net.put(0, &service(id));
    }
    net.events(1);
    let (from, partition) = (net.key(0), Partition::of_kind(KIND));
    let log = LogId { origin: from, epoch: net.epoch(0), partition };
    let put = |version, id| Put { version, service: service(id) };
    let delta = |from, to, removals_from, puts| {
        let delta = Delta { from, to, horizon: to.max(3), removals_from, puts, removals: Vec::new() };
        Frame::Delta { log, delta }
    };
    let seal = Seal { target: 6, low: 0, high: 6, horizon: 6, live: vec![4, 6] };
    let frames = [
        delta(3, 6, 6, vec![put(6, "6")]),
        Frame::Seal { log, seal: seal.clone() },
        Frame::Seal { log, seal },
    ];
    for frame in &frames {
        net.nodes[1].handle_frame(from, frame, 100, net.now).unwrap();
    }
    assert_eq!(net.events(1), ["joined 6", "left 1", "left 2", "left 3", "left 6"]);
    // A sender that lags may come first; what it has was perhaps removed before.
    net.nodes[1].handle_frame(from, &delta(0, 2, 0, vec![put(1, "1"), put(2, "2")]), 100, net.now).unwrap();
    assert_eq!((net.ids(1), net.events(1).len()), (vec![], 0));
    net.nodes[1].handle_frame(from, &delta(2, 3, 0, vec![put(3, "3")]), 100, net.now).unwrap();
    assert_eq!(net.events(1), ["joined 1", "joined 2", "joined 3"]);
}

#[test]
fn of_many_chunks_behind_a_gap_the_first_pulls() {
    let mut net = Net::new(2);
    net.join_all();
    let (from, partition) = (net.key(0), Partition::of_kind(KIND));
    let log = LogId { origin: from, epoch: net.epoch(0), partition };
    for version in 2..10 {
        let puts = vec![Put { version, service: service("x") }];
        let (from_version, removals) = (version - 1, Vec::new());
        let delta =
            Delta { from: from_version, to: version, horizon: version, removals_from: 0, puts, removals };
        net.nodes[1].handle_frame(from, &Frame::Delta { log, delta }, 100, net.now).unwrap();
    }
    let pulls = std::iter::from_fn(|| net.nodes[1].poll_frame()).map(|(_, encoded)| frame_of(&encoded));
    assert_eq!(pulls.filter(|frame| matches!(frame, Frame::Pull { .. })).count(), 1);
}

#[test]
fn credit_for_one_partition_lets_another_go_on() {
    let mut net = Net::new(2);
    net.join_all();
    net.split(0, 1);
    let kinds = [KIND, b"other"];
    assert_ne!(Partition::of_kind(kinds[0]), Partition::of_kind(kinds[1]));
    for number in 0..900 {
        let service = ServiceBuilder::new(kinds[number % 2], number.to_string()).build().unwrap();
        net.nodes[0].put(&service, net.now).unwrap();
    }
    let (from, to) = (net.key(1), net.key(0));
    net.nodes[0].handle_link_up(from);
    net.nodes[1].handle_link_up(to);
    let (_, pull) = net.nodes[1].poll_frame().unwrap();
    net.nodes[0].handle_frame(from, &frame_of(&pull), 100, net.now).unwrap();
    let mut puts = 0;
    // Nothing but credits, each for the partition of the frame that came.
    while let Some((_, encoded)) = net.nodes[0].poll_frame() {
        let Frame::Delta { log, delta } = frame_of(&encoded) else { continue };
        puts += delta.puts.len();
        let credit = Frame::Credit { partition: log.partition, bytes: encoded.frame_bytes() as u64 };
        net.nodes[0].handle_frame(from, &credit, 49, net.now).unwrap();
    }
    assert_eq!(puts, 900);
}

#[test]
fn what_is_relayed_counts_against_the_bound_of_all_transfers() {
    let window = WindowLimits { transfers_bytes: 1000, ..WINDOW };
    let mut net = Net::with_limits(3, CHUNK, window);
    net.join_all();
    for number in 0..100 {
        net.put(0, &service(&number.to_string()));
    }
    let (origin, from) = (net.key(0), net.key(2));
    let places = vec![Place { partition: Partition::of_kind(KIND), known: 0, content: 0 }];
    let pull = Frame::Pull { origin, epoch: net.epoch(0), places };
    net.nodes[1].handle_frame(from, &pull, 100, net.now).unwrap();
    let sent: usize =
        std::iter::from_fn(|| net.nodes[1].poll_frame()).map(|(_, frame)| frame.frame_bytes()).sum();
    assert!((1000..2000).contains(&sent), "{sent}");
}

/// Nodes of one shard each, and whose links are open.
struct Net {
    nodes: Vec<Partitions>,
    epochs: Vec<Epoch>,
    links: Vec<(usize, usize)>,
    now: Instant,
}

impl Net {
    fn new(nodes: usize) -> Self {
        Self::with_chunks(nodes, CHUNK)
    }

    fn with_chunks(nodes: usize, chunk: ChunkLimits) -> Self {
        Self::with_limits(nodes, chunk, WINDOW)
    }

    fn with_limits(nodes: usize, chunk: ChunkLimits, window: WindowLimits) -> Self {
        let epochs: Vec<_> = (0..nodes as u64).map(|node| Epoch::at_start(1000 + node, 0)).collect();
        let config = |(node, epoch): (usize, &Epoch)| PartitionsConfig {
            name: name(node),
            epoch: *epoch,
            shard: 0,
            shards: 1,
            log: LogLimits { removals_least: 4, removals_most: 4, entries_max: 1000 },
            chunk,
            window,
        };
        let nodes = epochs.iter().enumerate().map(config).map(Partitions::new).collect();
        Self { nodes, epochs, links: Vec::new(), now: start() }
    }

    fn key(&self, node: usize) -> NodeKey {
        NodeKey::of_name(&name(node))
    }

    fn epoch(&self, node: usize) -> Epoch {
        self.epochs[node]
    }

    fn up(&self, node: usize) -> MemberChange {
        let advertised = self.nodes[node].own_versions();
        MemberChange::Up { name: name(node), epoch: self.epochs[node], advertised }
    }

    fn join_all(&mut self) {
        for one in 0..self.nodes.len() {
            for other in (0..self.nodes.len()).filter(|other| *other != one) {
                let up = self.up(other);
                self.member(one, up);
            }
        }
        for one in 0..self.nodes.len() {
            for other in 0..one {
                self.link(one, other);
            }
        }
        self.settle();
    }

    fn link(&mut self, one: usize, other: usize) {
        self.links.extend([(one, other), (other, one)]);
        let (one_key, other_key) = (self.key(one), self.key(other));
        self.nodes[one].handle_link_up(other_key);
        self.nodes[other].handle_link_up(one_key);
    }

    fn split(&mut self, one: usize, other: usize) {
        self.links.retain(|link| *link != (one, other) && *link != (other, one));
        let (one_key, other_key) = (self.key(one), self.key(other));
        self.nodes[one].handle_link_down(other_key);
        self.nodes[other].handle_link_down(one_key);
    }

    fn member(&mut self, node: usize, change: MemberChange) {
        self.nodes[node].handle_member(change, self.now);
    }

    fn put(&mut self, node: usize, service: &Service) {
        self.nodes[node].put(service, self.now).unwrap();
        self.settle();
    }

    fn remove(&mut self, node: usize, id: &str) {
        self.nodes[node].remove(&key(id), self.now).unwrap();
        self.settle();
    }

    fn command(
        &mut self,
        node: usize,
        op_id: u128,
        owner: NodeKey,
        operation: Operation,
        key: &ServiceKey,
    ) -> Result<(), CommandError> {
        self.nodes[node].command(op_id, owner, operation, key, None, TIMEOUT, self.now)?;
        self.settle();
        Ok(())
    }

    /// Delivers all frames, in order, until nobody has any; the bound proves that it ends.
    fn settle(&mut self) {
        for _ in 0..2000 {
            self.now += Duration::from_millis(2);
            let mut idle = true;
            for from in 0..self.nodes.len() {
                self.nodes[from].handle_timeout(self.now);
                while let Some((to, encoded)) = self.nodes[from].poll_frame() {
                    idle = false;
                    let to = (0..self.nodes.len()).find(|node| self.key(*node) == to).unwrap();
                    let from_key = self.key(from);
                    let to_key = self.key(to);
                    self.nodes[from].handle_written(to_key, &encoded);
                    let mut bytes = Vec::new();
                    encoded.write_to(0, &mut bytes);
                    let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
                    let header = Header::parse(header, FRAME_BYTES_MAX).unwrap();
                    let frame = decode(&header, payload).unwrap();
                    assert!(self.links.contains(&(from, to)), "a frame without a link");
                    self.nodes[to].handle_frame(from_key, &frame, bytes.len(), self.now).unwrap();
                }
            }
            if idle {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn ids(&self, node: usize) -> Vec<String> {
        let instances = self.nodes[node].instances(KIND);
        instances.iter().map(|instance| String::from_utf8_lossy(instance.service.id()).into_owned()).collect()
    }

    fn events(&mut self, node: usize) -> Vec<String> {
        let describe = |event| match event {
            Event::Joined(instance) => format!("joined {}", String::from_utf8_lossy(instance.service.id())),
            Event::Updated(instance) => format!("updated {}", String::from_utf8_lossy(instance.service.id())),
            Event::Left(instance) => format!("left {}", String::from_utf8_lossy(instance.service.id())),
            Event::Commanded { op_id, outcome } => {
                assert_ne!(outcome, Outcome::Busy);
                format!("command {op_id}: {outcome:?}")
            }
            Event::CommandInDoubt { op_id } => format!("in doubt {op_id}"),
        };
        std::iter::from_fn(|| self.nodes[node].poll_event()).map(describe).collect()
    }
}

fn frame_of(encoded: &Encoded) -> Frame {
    let mut bytes = Vec::new();
    encoded.write_to(0, &mut bytes);
    let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    decode(&Header::parse(header, FRAME_BYTES_MAX).unwrap(), payload).unwrap()
}

fn name(node: usize) -> Arc<str> {
    format!("node-{node}").into()
}

fn service(id: &str) -> Service {
    ServiceBuilder::new(KIND, id).build().unwrap()
}

fn key(id: &str) -> ServiceKey {
    ServiceKey::new(KIND, id.as_bytes()).unwrap()
}

fn digests(node: &Partitions) -> Vec<(NodeKey, crate::Digest)> {
    node.digests().collect()
}

fn chunk_of(origin: NodeKey, epoch: Epoch) -> Frame {
    let put = Put { version: 1, service: service("x") };
    let delta = Delta { from: 0, to: 1, horizon: 1, removals_from: 0, puts: vec![put], removals: Vec::new() };
    Frame::Delta { log: LogId { origin, epoch, partition: Partition::of_kind(KIND) }, delta }
}

const KIND: &[u8] = b"kind";
const TIMEOUT: Duration = Duration::from_secs(5);
const WINDOW: WindowLimits =
    WindowLimits { live_bytes: 4000, transfer_bytes: 2000, transfers_bytes: 100_000 };
const CHUNK: ChunkLimits = ChunkLimits { events_max: 3, bytes: 1 << 20 };
