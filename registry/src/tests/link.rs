//! One connection: its greeting, its order, and what closes it.

use crate::limits::HELLO_TIME;
use crate::tests::start;
use crate::wire::v1::{ByeReason, Frame, Operation};
use crate::wire::{Encoded, Hello};
use crate::{
    Digest, Epoch, Link, LinkError, Next, NodeKey, PARTITIONS, Partition, ProcessId, Route, ServiceKey,
    WireError,
};

#[test]
fn two_links_greet_each_other_and_open() {
    let (mut one, mut other) = open_pair();
    let mut bytes = Vec::new();
    one.write(&encoded(&Frame::Ping { nonce: 7 }), &mut bytes);
    let partition = Partition::of_kind(b"k");
    one.write(&encoded(&Frame::Credit { partition, bytes: 1 }), &mut bytes);
    assert_eq!(routes(&mut other, &bytes), Ok(vec![Route::Membership, Route::Partition(partition)]));
    assert_eq!((one.peer(), other.peer()), (Some(NodeKey::of_name("b")), Some(NodeKey::of_name("a"))));
    assert_eq!(one.poll_timeout(), None);
}

#[test]
fn every_split_of_the_bytes_gives_the_same_frames() {
    let (mut one, _) = open_pair();
    let mut bytes = Vec::new();
    for nonce in 0..3 {
        one.write(&encoded(&Frame::Ping { nonce }), &mut bytes);
    }
    for split in 0..bytes.len() {
        let (_, mut other) = open_pair();
        let mut frames = Vec::new();
        let mut buffer = Vec::new();
        for part in [&bytes[..split], &bytes[split..]] {
            buffer.extend_from_slice(part);
            loop {
                match other.next_frame(&buffer).unwrap() {
                    Next::Frame { frame, bytes, .. } => {
                        frames.push(frame);
                        buffer.drain(..bytes);
                    }
                    Next::Incomplete { needed } => {
                        assert!(needed > buffer.len());
                        break;
                    }
                    Next::Skipped { .. } => panic!("all types are known"),
                }
            }
        }
        assert_eq!(frames, [0, 1, 2].map(|nonce| Frame::Ping { nonce }), "split at {split}");
    }
}

#[test]
fn nothing_but_a_greeting_is_read_before_the_link_is_open() {
    for frame in [Frame::Ping { nonce: 1 }, Frame::Digest(Vec::new()), Frame::Bye(ByeReason::Failed)] {
        let mut link = Link::new(start());
        let refused = routes(&mut link, &alone(&frame, 0));
        assert_eq!(refused, Err(LinkError::Unexpected { frame_type: frame.frame_type(), state: "silent" }));
    }
    let mut greeted = Link::new(start());
    assert_eq!(routes(&mut greeted, &alone(&Frame::Hello(hello("a")), 0)), Ok(vec![Route::Hello]));
    let again = routes(&mut greeted, &alone(&Frame::Hello(hello("a")), 1));
    assert_eq!(again, Err(LinkError::Unexpected { frame_type: 1, state: "greeting" }));
    assert_eq!(routes(&mut greeted, &alone(&Frame::Bye(ByeReason::Failed), 1)), Ok(vec![Route::Membership]));
    // A payload beyond a Hello's is refused by its header alone.
    let mut large = alone(&Frame::Ping { nonce: 1 }, 0);
    large[8..12].copy_from_slice(&100_000_u32.to_le_bytes());
    let refused = Link::new(start()).next_frame(&large).unwrap_err();
    assert!(matches!(refused, LinkError::Wire(WireError::TooLong { bytes: 100_000, .. })), "{refused}");
}

#[test]
fn a_replayed_or_lost_frame_closes_the_link() {
    let (mut one, other) = open_pair();
    let mut bytes = Vec::new();
    one.write(&encoded(&Frame::Ping { nonce: 7 }), &mut bytes);
    let twice = [bytes.clone(), bytes.clone()].concat();
    let mut replayed = other;
    let sequence = WireError::Sequence { found: 2, expected: 3 };
    assert_eq!(routes(&mut replayed, &twice), Err(sequence.into()));
    let (mut one, mut lost) = open_pair();
    one.write(&encoded(&Frame::Ping { nonce: 7 }), &mut Vec::new());
    let mut bytes = Vec::new();
    one.write(&encoded(&Frame::Ping { nonce: 8 }), &mut bytes);
    let sequence = WireError::Sequence { found: 3, expected: 2 };
    assert_eq!(routes(&mut lost, &bytes), Err(sequence.into()));
}

#[test]
fn a_command_in_the_name_of_somebody_else_closes_the_link() {
    let command = |origin: &str| Frame::Command {
        op_id: 1,
        origin: NodeKey::of_name(origin),
        epoch: Epoch::at_start(1, 1),
        operation: Operation::Remove,
        key: ServiceKey::new(b"k", b"1").unwrap(),
        expect_version: None,
    };
    let (_, mut other) = open_pair();
    let bytes = alone(&command("a"), 2);
    assert_eq!(routes(&mut other, &bytes), Ok(vec![Route::Partition(Partition::of_kind(b"k"))]));
    let refused = routes(&mut other, &alone(&command("c"), 3));
    assert_eq!(refused, Err(LinkError::Unexpected { frame_type: 13, state: "open" }));
}

#[test]
fn a_peer_that_does_not_introduce_itself_is_given_up() {
    let now = start();
    let link = Link::new(now);
    assert_eq!(link.poll_timeout(), Some(now + HELLO_TIME));
    assert_eq!(link.handle_timeout(now), Ok(()));
    assert_eq!(link.handle_timeout(now + HELLO_TIME), Err(LinkError::HelloTimeout));
}

#[test]
fn logs_are_pulled_when_digests_differ_twice_with_nothing_under_way() {
    let (mut link, _) = open_pair();
    let (same, other) = (Digest::from_bytes([1; 16]), Digest::from_bytes([2; 16]));
    assert!(!link.compare_digests(other, same, false));
    assert!(!link.compare_digests(same, same, false));
    assert!(!link.compare_digests(other, same, false));
    assert!(!link.compare_digests(other, same, true));
    assert!(!link.compare_digests(other, same, false));
    assert!(link.compare_digests(other, same, false));
    assert!(!link.compare_digests(other, same, false));
}

fn open_pair() -> (Link, Link) {
    let now = start();
    let (mut one, mut other) = (Link::new(now), Link::new(now));
    let (mut to_one, mut to_other) = (Vec::new(), Vec::new());
    one.write_hello(hello("a"), &mut to_other).unwrap();
    other.write_hello(hello("b"), &mut to_one).unwrap();
    assert_eq!(routes(&mut one, &to_one), Ok(vec![Route::Hello]));
    assert_eq!(routes(&mut other, &to_other), Ok(vec![Route::Hello]));
    (to_one, to_other) = (Vec::new(), Vec::new());
    one.handle_accepted(&mut to_other);
    other.handle_accepted(&mut to_one);
    assert!(!one.is_open());
    assert_eq!(routes(&mut one, &to_one), Ok(vec![Route::Link]));
    assert_eq!(routes(&mut other, &to_other), Ok(vec![Route::Link]));
    assert!(one.is_open() && other.is_open());
    (one, other)
}

fn routes(link: &mut Link, mut bytes: &[u8]) -> Result<Vec<Route>, LinkError> {
    let mut routes = Vec::new();
    while !bytes.is_empty() {
        match link.next_frame(bytes)? {
            Next::Frame { route, bytes: taken, .. } => {
                routes.push(route);
                bytes = &bytes[taken..];
            }
            other => panic!("whole frames only, but {other:?}"),
        }
    }
    Ok(routes)
}

fn alone(frame: &Frame, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoded(frame).write_to(sequence, &mut bytes);
    bytes
}

fn encoded(frame: &Frame) -> Encoded {
    Encoded::new(frame).unwrap()
}

fn hello(name: &str) -> Hello {
    Hello {
        cluster: [1; 16],
        name: name.into(),
        address: String::new(),
        epoch: Epoch::at_start(1, 1),
        first_epoch: Epoch::at_start(1, 1),
        process: ProcessId::from_random(1),
        number: 0,
        features: 0,
        versions: Box::new([0; PARTITIONS]),
    }
}
