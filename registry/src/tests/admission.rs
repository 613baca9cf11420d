//! One membership by itself: what it answers to Hellos, late ones and stale ones, and whom it accuses.

use std::time::{Duration, Instant};

use crate::tests::start;
use crate::wire::Hello;
use crate::wire::v1::{ByeReason, Frame, MemberRecord, Reach, Standing};
use crate::{
    DialResult, Epoch, LinkId, MemberChange, Membership, MembershipConfig, MembershipOutput, NodeKey,
    NodeStanding, PARTITIONS, ProcessId,
};

#[test]
fn two_nodes_that_are_both_stale_to_each_other_both_take_a_higher_epoch() {
    let mut nodes = [("a", "b"), ("b", "a")].map(|(me, other)| {
        let mut node = Node::new(me, 1);
        // The other one had a later life, which said Bye.
        node.hello(LinkId(1), &hello(other, 100, 1));
        node.frame(LinkId(1), &Frame::Bye(ByeReason::Leaving));
        node
    });
    let hellos = [0, 1].map(|node| nodes[node].own_hello());
    let told = [0, 1].map(|node: usize| nodes[node].hello(LinkId(2), &hellos[1 - node]));
    for (node, told) in told.into_iter().rev().enumerate() {
        assert!(told.iter().all(|output| !matches!(output, MembershipOutput::Close { .. })), "{told:?}");
        let [MembershipOutput::Send { frame, .. }] = &told[..] else { panic!("{told:?}") };
        let before = nodes[node].membership.epoch();
        nodes[node].frame(LinkId(2), frame);
        assert!(nodes[node].membership.epoch() > Epoch::at_start(100, 0), "{before}");
    }
}

#[test]
fn two_lives_that_are_told_the_same_take_different_epochs() {
    let [one, other] = [1, 2].map(|random| {
        let mut node = Node::new("a", random);
        node.frame(LinkId(1), &Frame::StaleEpoch { remembered: Epoch::at_start(100, 0) });
        node.membership.epoch()
    });
    assert_ne!(one, other);
    assert!(one.min(other) > Epoch::at_start(100, 0));
}

#[test]
fn a_hello_said_before_a_bye_does_not_bring_the_node_back() {
    let mut node = Node::new("a", 1);
    node.hello(LinkId(1), &hello("b", 100, 2));
    node.frame(LinkId(1), &Frame::Bye(ByeReason::Leaving));
    let told = node.hello(LinkId(2), &hello("b", 100, 1));
    assert!(matches!(told[..], [MembershipOutput::Send { frame: Frame::StaleEpoch { .. }, .. }]), "{told:?}");
    assert_eq!(node.standing("b"), None);
    node.hello(LinkId(3), &hello("b", 101, 0));
    assert_eq!(node.standing("b"), Some(NodeStanding::Up));
}

#[test]
fn a_hello_slower_than_a_later_one_does_not_bring_a_node_back() {
    let mut node = Node::new("a", 1);
    node.hello(LinkId(1), &hello("b", 100, 7));
    node.frame(LinkId(1), &Frame::Bye(ByeReason::Failed));
    assert_eq!(node.standing("b"), Some(NodeStanding::Down));
    let told = node.hello(LinkId(2), &hello("b", 100, 6));
    assert!(matches!(told[..], [MembershipOutput::Close { .. }]), "{told:?}");
    assert_eq!(node.standing("b"), Some(NodeStanding::Down));
    node.hello(LinkId(3), &hello("b", 100, 8));
    assert_eq!(node.standing("b"), Some(NodeStanding::Up));
}

#[test]
fn the_slow_hello_of_a_dead_process_does_not_push_its_successor_out() {
    let mut node = Node::new("a", 1);
    node.hello(LinkId(1), &hello("b", 100, 0));
    for (clock_ms, told_to_go) in [(50, false), (150, true)] {
        // Both began before the one that is in place; the second of them has taken a higher epoch since.
        let first_epoch = Epoch::at_start(50, 0);
        let told = node.hello(LinkId(2), &Hello { first_epoch, ..hello("b", clock_ms, 9) });
        let [MembershipOutput::Send { link: LinkId(1), frame: Frame::Ping { nonce } }] = told[..] else {
            panic!("{told:?}")
        };
        let ack = Frame::Ack { nonce, target: NodeKey::of_name("b"), reach: Reach::Answered };
        let told = node.frame(LinkId(1), &ack);
        let conflict = |output: &MembershipOutput| {
            matches!(output, MembershipOutput::Close { link: LinkId(1), reason: ByeReason::NameConflict })
        };
        assert_eq!(told.iter().any(conflict), told_to_go, "{told:?}");
    }
}

#[test]
fn a_dying_process_that_still_takes_connections_is_dialled_again_soon() {
    let mut node = Node::new("a", 1);
    node.hello(LinkId(1), &hello("b", 100, 0));
    let dials = |outputs: &[MembershipOutput]| {
        let to_b = |output: &&MembershipOutput| matches!(output, MembershipOutput::Dial { address, .. } if address == "b:1");
        outputs.iter().filter(to_b).count()
    };
    node.membership.handle_link_closed(LinkId(1), node.now);
    assert_eq!(dials(&node.drain()), 1);
    for pause_ms in [20, 40, 80] {
        node.membership.handle_dial_failed("b:1", DialResult::Unreachable, node.now);
        assert_eq!(dials(&node.drain()), 0, "not in the same moment");
        node.now += Duration::from_millis(pause_ms);
        node.membership.handle_timeout(node.now);
        assert_eq!(dials(&node.drain()), 1);
    }
    assert_eq!(node.standing("b"), Some(NodeStanding::Suspect));
    node.membership.handle_dial_failed("b:1", DialResult::Refused, node.now);
    assert_eq!(node.standing("b"), Some(NodeStanding::Down));
}

#[test]
fn every_hello_has_a_number_of_its_own() {
    let node = Node::new("a", 1);
    assert_eq!([0, 1, 2].map(|_| node.own_hello().number), [0, 1, 2]);
}

#[test]
fn a_peer_that_took_a_higher_epoch_after_its_hello_has_to_say_another() {
    let mut node = Node::new("a", 1);
    node.hello(LinkId(1), &hello("b", 100, 0));
    let told = node.frame(LinkId(1), &Frame::Member(vec![record("b", 101, 1)]));
    let closes =
        |output: &MembershipOutput| matches!(output, MembershipOutput::Close { link: LinkId(1), .. });
    assert!(told.iter().any(closes), "{told:?}");
    let dials = |output: &MembershipOutput| matches!(output, MembershipOutput::Dial { address, .. } if address == "b:1");
    assert!(told.iter().any(dials), "{told:?}");
    assert_eq!(node.standing("b"), Some(NodeStanding::Suspect));
}

#[test]
fn a_node_that_others_still_reach_is_flagged_but_not_down() {
    for (answers, standing) in [(true, NodeStanding::Suspect), (false, NodeStanding::Down)] {
        let mut node = Node::new("a", 1);
        node.hello(LinkId(1), &hello("b", 100, 0));
        node.hello(LinkId(2), &hello("c", 100, 0));
        let end = node.now + Duration::from_secs(10);
        let mut closed = 0;
        while node.now < end {
            node.now = node.membership.poll_timeout().max(node.now);
            node.frame(LinkId(2), &Frame::Ping { nonce: 0 });
            let now = node.now;
            node.membership.handle_timeout(now);
            assert!(node.membership.poll_timeout() > now, "a timer that does not go on");
            for output in node.drain() {
                if let MembershipOutput::Send { link: LinkId(2), frame: Frame::PingReq { nonce, target } } =
                    output
                    && answers
                {
                    let told = node.frame(LinkId(2), &Frame::Ack { nonce, target, reach: Reach::Answered });
                    let closes = |output: &&MembershipOutput| {
                        matches!(output, MembershipOutput::Close { link: LinkId(1), .. })
                    };
                    closed += told.iter().filter(closes).count();
                }
            }
        }
        assert_eq!((node.standing("b"), node.standing("c")), (Some(standing), Some(NodeStanding::Up)));
        // Its own link is of no use, and another one is tried.
        assert_eq!(closed, usize::from(answers));
    }
}

#[test]
fn the_beat_that_ends_a_stall_also_ends_the_patience_with_others() {
    let mut node = Node::new("a", 1);
    node.membership.handle_timeout(node.now);
    node.hello(LinkId(1), &hello("b", 100, 0));
    // In time until 750 ms, then 350 ms late, then in time again.
    for after_ms in [250, 250, 250, 350, 250] {
        node.now += Duration::from_millis(after_ms);
        node.membership.handle_timeout(node.now);
        assert!(node.membership.poll_timeout() > node.now, "a timer that does not go on");
        node.drain();
    }
    assert_eq!(node.standing("b"), Some(NodeStanding::Suspect));
}

#[test]
fn of_a_forgotten_node_one_hears_again_but_not_of_one_that_left() {
    for (bye, heard) in [(ByeReason::Leaving, None), (ByeReason::Failed, Some(NodeStanding::Candidate))] {
        let mut node = Node::new("a", 1);
        node.hello(LinkId(1), &hello("b", 100, 0));
        node.hello(LinkId(2), &hello("c", 100, 0));
        node.frame(LinkId(1), &Frame::Bye(bye));
        // Forgotten after 20 minutes, in which c is heard.
        for _ in 0..21 * 60 * 2 {
            node.now += Duration::from_millis(500);
            node.frame(LinkId(2), &Frame::Ping { nonce: 0 });
            node.membership.handle_timeout(node.now);
        }
        assert_eq!(node.standing("b"), None);
        node.frame(LinkId(2), &Frame::Member(vec![record("b", 100, 9)]));
        assert_eq!(node.standing("b"), heard, "{bye:?}");
    }
}

#[test]
fn a_seed_with_a_link_is_not_dialled_again() {
    let mut node = Node::new("a", 1);
    node.hello(LinkId(1), &hello("b", 100, 0));
    let mut dialled = Vec::new();
    for _ in 0..120 {
        node.now += Duration::from_millis(500);
        node.frame(LinkId(1), &Frame::Ping { nonce: 0 });
        node.membership.handle_timeout(node.now);
        dialled.extend(node.drain().into_iter().filter_map(|output| match output {
            MembershipOutput::Dial { address, .. } => Some(address),
            _ => None,
        }));
    }
    // Of the two seeds, the other one is dialled for ever.
    assert!(dialled.len() >= 2 && dialled.iter().all(|address| address == "seed:1"), "{dialled:?}");
}

#[test]
fn a_node_whose_name_is_taken_leaves_whoever_dials_it() {
    let mut node = Node::new("a", 1);
    node.frame(LinkId(1), &Frame::Bye(ByeReason::NameConflict));
    let told = node.hello(LinkId(2), &hello("b", 100, 0));
    assert!(
        matches!(told[..], [MembershipOutput::Close { link: LinkId(2), reason: ByeReason::Leaving }]),
        "{told:?}"
    );
}

#[test]
fn links_that_end_at_once_are_not_dialled_at_once_for_ever() {
    let mut node = Node::new("a", 1);
    let mut dials = 0;
    for number in 0..100 {
        node.hello(LinkId(number), &hello("b", 100, number));
        node.membership.handle_link_closed(LinkId(number), node.now);
        let is_dial = |output: &&MembershipOutput| matches!(output, MembershipOutput::Dial { .. });
        dials += node.drain().iter().filter(is_dial).count();
        node.now += Duration::from_millis(2);
    }
    assert!((1..=4).contains(&dials), "{dials}");
}

/// A membership, and the time.
struct Node {
    membership: Membership,
    now: Instant,
}

impl Node {
    fn new(name: &str, random: u64) -> Self {
        let mut config = MembershipConfig::new(CLUSTER, name);
        config.address = format!("{name}:1");
        config.seeds = vec!["b:1".to_owned(), "seed:1".to_owned()];
        let now = start();
        let process = ProcessId::from_random(u128::from(random));
        Self { membership: Membership::new(config, Epoch::at_start(1, 0), process, random, now), now }
    }

    fn own_hello(&self) -> Hello {
        self.membership.hello(Box::new([0; PARTITIONS]))
    }

    fn hello(&mut self, link: LinkId, hello: &Hello) -> Vec<MembershipOutput> {
        self.membership.handle_hello(link, hello.clone(), false, self.now);
        self.drain()
    }

    fn frame(&mut self, link: LinkId, frame: &Frame) -> Vec<MembershipOutput> {
        self.membership.handle_frame(link, frame, self.now);
        self.drain()
    }

    fn drain(&mut self) -> Vec<MembershipOutput> {
        let outputs: Vec<_> = std::iter::from_fn(|| self.membership.poll_output()).collect();
        let is_news =
            |output: &MembershipOutput| matches!(output, MembershipOutput::Changed(MemberChange::Up { .. }));
        assert!(outputs.iter().filter(|output| is_news(output)).count() <= 1);
        outputs
    }

    fn standing(&self, name: &str) -> Option<NodeStanding> {
        self.membership.standing(NodeKey::of_name(name))
    }
}

fn hello(name: &str, clock_ms: u64, number: u64) -> Hello {
    let epoch = Epoch::at_start(clock_ms, 0);
    Hello {
        cluster: CLUSTER,
        name: name.into(),
        address: format!("{name}:1"),
        epoch,
        first_epoch: epoch,
        process: ProcessId::from_random(u128::from(clock_ms)),
        number,
        features: 0,
        versions: Box::new([0; PARTITIONS]),
    }
}

fn record(name: &str, clock_ms: u64, counter: u64) -> MemberRecord {
    let (epoch, address) = (Epoch::at_start(clock_ms, 0), format!("{name}:1"));
    MemberRecord { name: name.into(), address, epoch, counter, standing: Standing::Up }
}

const CLUSTER: [u8; 16] = *b"cluster-of-tests";
