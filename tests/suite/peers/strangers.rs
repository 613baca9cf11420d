//! Strangers at the door of a node without a secret: every refusal counted, nothing changed.

use std::time::Duration;

use croupier_registry::{
    Delta, Epoch, NodeKey, Partition, Put, Removal, Seal, ServiceKey,
    wire::v1::{ByeReason, Frame, LogId, MemberRecord, Operation, Place, Standing},
};

use super::{
    peer::registry,
    raw_peer::{RawPeer, cluster_id, hello, service},
    siege::{Refused, Siege},
};
use crate::support::wait_for;

const NOTHING: Refused = Refused { channel: 0, hello_timeout: 0, other_cluster: 0, frame: 0, violation: 0 };
const ONE_FRAME: Refused = Refused { frame: 1, ..NOTHING };
const ONE_VIOLATION: Refused = Refused { violation: 1, ..NOTHING };
const ONE_TIMEOUT: Refused = Refused { hello_timeout: 1, ..NOTHING };

/// Where the length and the number of a frame stand in its header, and where its payload begins.
const LENGTH_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const PAYLOAD_AT: usize = 24;

fn heartbeat() -> Frame {
    Frame::Heartbeat { counter: 1, digest: [0; 16] }
}

/// The first change of a log: an instance of a type.
fn delta(origin: NodeKey, epoch: Epoch, kind: &str) -> Frame {
    let put = Put { version: 1, service: service(kind, "forged") };
    let partition = put.service.partition();
    let log = LogId { origin, epoch, partition };
    let delta = Delta { from: 0, to: 1, horizon: 1, removals_from: 0, puts: vec![put], removals: Vec::new() };
    Frame::Delta { log, delta }
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let siege = Siege::begin(registry);
    let expected = Refused { other_cluster: 1, ..NOTHING };
    let reason = siege.withstands("another cluster", expected, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        let mut hello = hello("stranger");
        hello.cluster = cluster_id("roadhouse");
        stranger.greet(hello);
        stranger.until_closed()
    });
    assert_eq!(reason, Some(ByeReason::OtherCluster));
    assert_eq!(siege.victim().standing("stranger"), None);
    siege.lifted();
}

#[test]
fn bytes_that_are_no_frames_are_refused() {
    let siege = Siege::begin(registry);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    for round in 0..20 {
        // 0 begins a handshake, for which this node has no secret.
        let mut noise: Vec<u8> = (0..4096).map(|_| chance.u8(..)).collect();
        noise[0] = chance.u8(1..);
        siege.withstands(&format!("noise {round}"), ONE_FRAME, 0, |address| {
            let mut stranger = RawPeer::connect(address);
            stranger.send_bytes(&noise);
            stranger.until_end();
        });
    }
    let encrypted = Refused { channel: 1, ..NOTHING };
    siege.withstands("a handshake", encrypted, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        stranger.send_bytes(&[0, 48]);
        stranger.until_end();
    });
    for (what, words) in [
        ("a browser", "GET / HTTP/1.1\r\nHost: casino\r\n\r\n".as_bytes()),
        ("a client of gnatsd", b"CONNECT {\"verbose\":false}\r\nPING\r\n"),
    ] {
        siege.withstands(what, ONE_FRAME, 0, |address| {
            let mut stranger = RawPeer::connect(address);
            stranger.send_bytes(words);
            stranger.until_end();
        });
    }
    siege.lifted();
}

#[test]
fn who_does_not_introduce_itself_in_time_is_closed() {
    let siege = Siege::begin(registry);
    siege.withstands("silence", ONE_TIMEOUT, 0, |address| RawPeer::connect(address).until_end());
    for part in [1, PAYLOAD_AT - 1, PAYLOAD_AT, 500] {
        siege.withstands(&format!("{part} bytes of a Hello"), ONE_TIMEOUT, 0, |address| {
            let mut stranger = RawPeer::connect(address);
            let bytes = stranger.frame_bytes(&Frame::Hello(hello("slow")));
            stranger.send_bytes(&bytes[..part]);
            stranger.until_end();
        });
    }
    // It says Hello, and never that it accepts the node.
    siege.withstands("half a greeting", ONE_TIMEOUT, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        stranger.greet(hello("reticent"));
        stranger.until_end();
    });
    siege.lifted();
}

#[test]
fn a_frame_that_announces_four_gibibytes_is_refused_before_and_after_the_greeting() {
    let siege = Siege::begin(registry);
    let huge = |mut bytes: Vec<u8>| {
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes
    };
    siege.withstands("a huge Hello", ONE_FRAME, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        let bytes = stranger.frame_bytes(&Frame::Hello(hello("huge")));
        stranger.send_bytes(&huge(bytes));
        stranger.until_end();
    });
    // What an open link may carry is too much for a greeting.
    siege.withstands("a Hello of a megabyte", ONE_FRAME, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        let mut bytes = stranger.frame_bytes(&Frame::Hello(hello("large")));
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(1_u32 << 19).to_le_bytes());
        stranger.send_bytes(&bytes);
        stranger.until_end();
    });
    let reason = siege.withstands("a huge heartbeat", ONE_FRAME, 1, |address| {
        let mut stranger = RawPeer::open(address, hello("huge"));
        let bytes = stranger.frame_bytes(&heartbeat());
        stranger.send_bytes(&huge(bytes));
        stranger.until_closed()
    });
    assert_eq!(reason, Some(ByeReason::BadFrame));
    siege.lifted();
}

#[test]
fn a_frame_that_was_changed_or_is_not_the_next_is_refused() {
    let siege = Siege::begin(registry);
    let bad = |what: &str, spoil: fn(&mut RawPeer) -> Vec<u8>| {
        let reason = siege.withstands(what, ONE_FRAME, 1, |address| {
            let mut stranger = RawPeer::open(address, hello("mallory"));
            let bytes = spoil(&mut stranger);
            stranger.send_bytes(&bytes);
            stranger.until_closed()
        });
        assert_eq!(reason, Some(ByeReason::BadFrame), "{what}");
    };
    bad("a changed payload", |stranger| {
        let mut bytes = stranger.frame_bytes(&heartbeat());
        bytes[PAYLOAD_AT] ^= 1;
        bytes
    });
    bad("a changed header", |stranger| {
        let mut bytes = stranger.frame_bytes(&heartbeat());
        bytes[6] ^= 1;
        bytes
    });
    bad("a frame that was left out", |stranger| {
        let _left_out = stranger.frame_bytes(&heartbeat());
        stranger.frame_bytes(&heartbeat())
    });
    bad("a frame that comes twice", |stranger| {
        let bytes = stranger.frame_bytes(&heartbeat());
        bytes.repeat(2)
    });
    bad("a number from the end of time", |stranger| {
        let mut bytes = stranger.frame_bytes(&heartbeat());
        bytes[SEQUENCE_AT..PAYLOAD_AT].fill(0xFF);
        bytes
    });
    bad("a second Hello", |stranger| stranger.frame_bytes(&Frame::Hello(hello("mallory"))));
    bad("a command in another's name", |stranger| {
        stranger.frame_bytes(&Frame::Command {
            op_id: 1,
            origin: NodeKey::of_name("friend"),
            epoch: Epoch::at_start(1 << 41, 7),
            operation: Operation::Remove,
            key: ServiceKey::new(b"dealer", b"i0").unwrap(),
            expect_version: None,
        })
    });
    siege.withstands("a frame before the Hello", ONE_FRAME, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        stranger.send(&delta(NodeKey::of_name("victim"), Epoch::at_start(1 << 41, 7), "dealer"));
        stranger.until_end();
    });
    siege.withstands("a frame between Hello and HelloAck", ONE_FRAME, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        stranger.greet(hello("hasty"));
        stranger.send(&heartbeat());
        stranger.until_end();
    });
    siege.lifted();
}

#[test]
fn a_changed_bit_anywhere_in_a_frame_closes_only_that_link() {
    let siege = Siege::begin(registry);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    for round in 0..40 {
        siege.withstands(&format!("changed bit {round}"), ONE_FRAME, 1, |address| {
            let mut stranger = RawPeer::open(address, hello("flips"));
            let own = delta(NodeKey::of_name("flips"), Epoch::at_start(1 << 41, 7), "dealer");
            let mut bytes = stranger.frame_bytes(&own);
            let at = chance.usize(..bytes.len());
            bytes[at] ^= 1 << chance.u8(..8);
            // A length that grew makes the node wait for the rest: it gets as much as there may be.
            bytes.resize(bytes.len() + (1 << 20), 0);
            stranger.send_bytes(&bytes);
            stranger.until_end();
        });
    }
    siege.lifted();
}

#[test]
fn nobody_writes_another_nodes_log() {
    let siege = Siege::begin(registry);
    let nodes = siege.victim().handle().nodes();
    for name in ["victim", "friend"] {
        let epoch = nodes.iter().find(|node| &*node.name == name).expect("a node of this name").epoch;
        let origin = NodeKey::of_name(name);
        let partition = Partition::of_kind(b"dealer");
        let log = LogId { origin, epoch, partition };
        let later = |delta: Delta| Frame::Delta { log, delta };
        let removal = Removal { version: 101, key: ServiceKey::new(b"dealer", b"i0").unwrap() };
        let frames = [
            ("a put", delta(origin, epoch, "dealer")),
            ("a put in a later life", delta(origin, Epoch::MAX, "dealer")),
            (
                "a removal",
                later(Delta {
                    from: 100,
                    to: 101,
                    horizon: 101,
                    removals_from: 100,
                    puts: Vec::new(),
                    removals: vec![removal],
                }),
            ),
            (
                "a Seal of nothing",
                Frame::Seal {
                    log,
                    seal: Seal { target: 1 << 40, low: 0, high: 1 << 40, horizon: 1 << 40, live: Vec::new() },
                },
            ),
        ];
        for (what, frame) in frames {
            let reason = siege.withstands(&format!("{what} of {name}"), ONE_VIOLATION, 1, |address| {
                let mut stranger = RawPeer::open(address, hello("forger"));
                stranger.send(&frame);
                stranger.until_closed()
            });
            assert_eq!(reason, Some(ByeReason::BadFrame), "{what} of {name}");
        }
    }
    assert!(siege.victim().instances("dealer").iter().all(|(_, id)| id != "forged"));
    siege.lifted();
}

#[test]
fn a_log_of_a_node_that_nobody_knows_creates_no_member() {
    let siege = Siege::begin(registry);
    let ghost = NodeKey::of_name("ghost");
    siege.withstands("a log of nobody's", ONE_VIOLATION, 1, |address| {
        let mut stranger = RawPeer::open(address, hello("medium"));
        stranger.send(&delta(ghost, Epoch::at_start(1 << 41, 7), "dealer"));
        stranger.until_closed();
    });
    assert_eq!(siege.victim().standing("ghost"), None);
    siege.lifted();
}

#[test]
fn malformed_contents_of_a_whole_frame_are_refused() {
    let siege = Siege::begin(registry);
    let me = NodeKey::of_name("mallory");
    let epoch = Epoch::at_start(1 << 41, 7);
    let put = |version| Put { version, service: service("dealer", "forged") };
    let chunk = |from, to, puts| {
        let log = LogId { origin: me, epoch, partition: Partition::of_kind(b"dealer") };
        let delta = Delta { from, to, horizon: to, removals_from: 0, puts, removals: Vec::new() };
        Frame::Delta { log, delta }
    };
    let elsewhere = (0..=255_u16)
        .filter_map(Partition::from_wire)
        .find(|partition| *partition != Partition::of_kind(b"dealer"))
        .expect("another partition");
    let frames = [
        ("a version beyond the range", chunk(0, 1, vec![put(2)])),
        ("versions that go back", chunk(0, 3, vec![put(2), put(1)])),
        ("a range that goes back", chunk(2, 1, Vec::new())),
        (
            "a type of another partition",
            Frame::Delta {
                log: LogId { origin: me, epoch, partition: elsewhere },
                delta: Delta {
                    from: 0,
                    to: 1,
                    horizon: 1,
                    removals_from: 0,
                    puts: vec![put(1)],
                    removals: Vec::new(),
                },
            },
        ),
        (
            "a pull of one place twice",
            Frame::Pull {
                origin: NodeKey::of_name("victim"),
                epoch,
                places: vec![Place { partition: elsewhere, known: 0, content: 0 }; 2],
            },
        ),
    ];
    for (what, frame) in frames {
        siege.withstands(what, ONE_FRAME, 1, |address| {
            let mut stranger = RawPeer::open(address, hello("mallory"));
            stranger.send(&frame);
            stranger.until_closed()
        });
    }
    siege.lifted();
}

#[test]
fn an_unknown_optional_frame_is_skipped_and_an_unknown_required_one_ends_the_link() {
    let siege = Siege::begin(registry);
    let unknown = |stranger: &mut RawPeer, flags: u8| {
        let mut bytes = stranger.frame_bytes(&Frame::Ping { nonce: 5 });
        bytes[3] = 200;
        bytes[4] = flags;
        checksum(&mut bytes);
        bytes
    };
    siege.withstands("an unknown required frame", ONE_FRAME, 1, |address| {
        let mut stranger = RawPeer::open(address, hello("modern"));
        let bytes = unknown(&mut stranger, 0);
        stranger.send_bytes(&bytes);
        stranger.until_closed();
    });
    siege.withstands("unknown optional frames", NOTHING, 1, |address| {
        let mut stranger = RawPeer::open(address, hello("modern"));
        for _ in 0..10 {
            let bytes = unknown(&mut stranger, 1);
            stranger.send_bytes(&bytes);
        }
        stranger.send(&Frame::Ping { nonce: 77 });
        loop {
            match stranger.next() {
                Some(Frame::Ack { nonce, .. }) => break assert_eq!(nonce, 77),
                Some(_) => {}
                None => panic!("the node closed the link"),
            }
        }
        stranger.send(&Frame::Bye(ByeReason::Leaving));
        stranger.until_closed();
    });
    siege.lifted();
}

/// Writes the checksum that goes with a changed header.
fn checksum(bytes: &mut [u8]) {
    bytes[12..16].fill(0);
    let payload_first: Vec<u8> = [&bytes[PAYLOAD_AT..], &bytes[..PAYLOAD_AT]].concat();
    let sum = crc32c(&payload_first);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82F6_3B78 * (sum & 1)))
    })
}

#[test]
fn who_takes_a_live_nodes_name_is_sent_away() {
    let siege = Siege::begin(registry);
    let reason = siege.withstands("a false friend", NOTHING, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        stranger.greet(hello("friend"));
        stranger.until_closed()
    });
    assert_eq!(reason, Some(ByeReason::NameConflict));
    let reason = siege.withstands("a false victim", NOTHING, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        stranger.greet(hello("victim"));
        stranger.until_closed()
    });
    assert_eq!(reason, Some(ByeReason::NameConflict));
    siege.lifted();
}

#[test]
fn what_a_peer_says_of_others_makes_nobody_a_member_and_hides_nobody() {
    let siege = Siege::begin(registry);
    let friend = siege.victim().handle().nodes().into_iter().find(|node| &*node.name == "friend").unwrap();
    let record = |name: &str, epoch: Epoch, standing: Standing| MemberRecord {
        name: name.to_owned(),
        // Nobody listens on the port of the discard service.
        address: format!("127.0.{}:9", name.strip_prefix("ghost").unwrap_or("0.1")),
        epoch,
        counter: u64::MAX,
        standing,
    };
    let mut records = vec![
        record("friend", friend.epoch, Standing::Down),
        record("friend", friend.epoch, Standing::Left),
        record("friend", Epoch::MAX, Standing::Up),
        record("victim", Epoch::MAX, Standing::Down),
        record("victim", Epoch::MAX, Standing::Up),
    ];
    let ghost = |number: usize| format!("ghost{}.{}", 1 + number / 200, 1 + number % 200);
    records.extend((0..500).map(|number| record(&ghost(number), friend.epoch, Standing::Up)));
    siege.withstands("gossip", NOTHING, 1, |address| {
        let mut stranger = RawPeer::open(address, hello("gossip"));
        stranger.send(&Frame::Member(records));
        stranger.send(&Frame::Ping { nonce: 78 });
        while !matches!(stranger.next(), Some(Frame::Ack { nonce: 78, .. })) {}
        stranger.send(&Frame::Bye(ByeReason::Leaving));
        stranger.until_closed();
    });
    let nodes = siege.victim().handle().nodes();
    let ghosts = nodes.iter().filter(|node| node.name.starts_with("ghost"));
    assert!(ghosts.clone().all(|node| node.standing == croupier::NodeStanding::Candidate));
    // They are dialled, a few at a time, and the node works on.
    let failed = siege.victim().stats().dials_failed;
    wait_for("more dials", || (siege.victim().stats().dials_failed > failed + 50).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    siege.is_as_before("dials of ghosts");
    siege.lifted();
}
