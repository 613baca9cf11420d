//! The frames, frozen by golden bytes, and what is no frame.

use proptest::prelude::*;

use crate::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use crate::wire::v1::{
    ByeReason, Frame, LogId, MemberRecord, Operation, OriginDigest, Outcome, Place, Reach, Standing,
};
use crate::wire::{Encoded, HEADER_BYTES, Header, Hello, HelloAck, decode};
use crate::{
    Delta, Epoch, MalformedChunk, NodeKey, PARTITIONS, Partition, ProcessId, Put, Removal, Seal,
    ServiceBuilder, ServiceKey, WireError,
};

#[test]
fn every_frame_has_its_golden_bytes_and_comes_back() {
    let golden: Vec<_> = include_str!("golden_frames.txt").lines().collect();
    let frames = frames();
    let ours: Vec<_> = frames.iter().map(|frame| hex(&bytes_of(frame, 7))).collect();
    assert_eq!(ours, golden);
    for frame in frames {
        let bytes = bytes_of(&frame, 7);
        assert_eq!(read(&bytes), Ok(frame));
    }
}

#[test]
fn no_frame_with_a_flipped_bit_is_taken() {
    for frame in frames() {
        let bytes = bytes_of(&frame, 7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit} of {frame:?}");
        }
    }
}

#[test]
fn without_the_checksum_a_flipped_bit_gives_an_error_or_a_frame_that_makes_sense() {
    for frame in frames() {
        let encoded = Encoded::new(&frame).unwrap();
        for bit in 0..encoded.payload().len() * 8 {
            let mut flipped = encoded.payload().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(Frame::Delta { log, delta }) = decode_payload(&frame, &flipped) {
                assert_eq!(delta.check(log.partition), Ok(()));
            }
        }
    }
}

#[test]
fn no_cut_frame_is_taken() {
    for frame in frames() {
        let encoded = Encoded::new(&frame).unwrap();
        for length in 0..encoded.payload().len() {
            assert!(
                decode_payload(&frame, &encoded.payload()[..length]).is_err(),
                "{length} bytes of {frame:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn random_payloads_do_not_panic(frame_type in 0_u8..20, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Frame::decode_payload(frame_type, Partition::of_kind(b"kind"), &bytes);
    }
}

#[test]
fn a_header_is_refused_before_memory_is_taken() {
    let good: [u8; HEADER_BYTES] = bytes_of(&Frame::Ping { nonce: 1 }, 0)[..HEADER_BYTES].try_into().unwrap();
    let parse = |at: usize, value: u8| {
        let mut header = good;
        header[at] = value;
        Header::parse(&header, FRAME_BYTES_MAX).map(|header| header.known)
    };
    assert_eq!(parse(0, good[0]), Ok(true));
    assert_eq!(parse(0, 0), Err(WireError::Magic { found: 0x5200 }));
    assert_eq!(parse(2, 2), Err(WireError::Version { found: 2, ours: 1 }));
    assert_eq!(parse(3, 99), Err(WireError::UnknownType { frame_type: 99 }));
    assert_eq!(parse(4, 2), Err(WireError::UnknownFlags { flags: 2 }));
    assert_eq!(parse(7, 1), Err(WireError::Field { field: "partition", value: 256 }));
    let bytes_max = (FRAME_BYTES_MAX - HEADER_BYTES) as u32;
    assert_eq!(parse(11, 0xFF), Err(WireError::TooLong { bytes: 0xFF00_0008, bytes_max }));
    // An unknown type may be skipped if its sender says so.
    let mut optional = good;
    optional[3] = 99;
    optional[4] = 1;
    assert!(!Header::parse(&optional, FRAME_BYTES_MAX).unwrap().known);
    // Before the Hello much less is allowed.
    let mut large = good;
    large[8..12].copy_from_slice(&4096_u32.to_le_bytes());
    let refused = Header::parse(&large, HELLO_BYTES_MAX).unwrap_err();
    assert_eq!(refused, WireError::TooLong { bytes: 4096, bytes_max: HELLO_BYTES_MAX as u32 });
}

#[test]
fn an_entry_of_another_partition_is_refused() {
    let Frame::Delta { log, mut delta } = delta_frame() else { unreachable!("that is what it makes") };
    delta.puts.push(Put { version: 9, service: ServiceBuilder::new("other", "i").build().unwrap() });
    let expected = Partition::of_kind(KIND);
    let found = Partition::of_kind(b"other");
    let bytes = bytes_of(&Frame::Delta { log, delta }, 7);
    assert_eq!(read(&bytes), Err(MalformedChunk::Partition { expected, found }.into()));
}

#[test]
fn a_change_takes_less_than_260_bytes() {
    let service = ServiceBuilder::new("uploader", "0.1")
        .inbox("_CR.0123456789abcdef.0.12")
        .meta("zone", "x".repeat(56))
        .build()
        .unwrap();
    assert_eq!(service.packed_metadata().len(), 64);
    let delta = |puts: u64| Delta {
        from: 0,
        to: puts,
        horizon: puts,
        removals_from: 0,
        puts: (1..=puts).map(|version| Put { version, service: service.clone() }).collect(),
        removals: Vec::new(),
    };
    let log = LogId { origin: key(), epoch: epoch(), partition: service.partition() };
    let bytes = |puts| bytes_of(&Frame::Delta { log, delta: delta(puts) }, 0).len();
    assert_eq!(bytes(1), ONE_CHANGE_BYTES);
    assert_eq!(bytes(100), HUNDRED_CHANGES_BYTES);
    const { assert!(ONE_CHANGE_BYTES <= 260 && HUNDRED_CHANGES_BYTES <= 100 * 170) };
}

const ONE_CHANGE_BYTES: usize = 239;
const HUNDRED_CHANGES_BYTES: usize = 14396;

fn read(bytes: &[u8]) -> Result<Frame, WireError> {
    let (header, payload) = bytes.split_first_chunk().expect("a whole header");
    let header = Header::parse(header, FRAME_BYTES_MAX)?;
    if header.payload_bytes != payload.len() {
        // On a link the rest would come from the next frame, and the checksum would differ.
        return Err(WireError::Checksum { found: 0, computed: 0 });
    }
    if header.sequence != 7 && header.verify(payload).is_ok() {
        panic!("a checksum that does not cover the sequence");
    }
    if !header.known {
        header.verify(payload)?;
        panic!("a frame became optional");
    }
    decode(&header, payload)
}

fn decode_payload(frame: &Frame, payload: &[u8]) -> Result<Frame, WireError> {
    let partition = Partition::from_wire(u16::from(frame.partition())).expect("a partition");
    Frame::decode_payload(frame.frame_type(), partition, payload)
}

fn bytes_of(frame: &Frame, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = Encoded::new(frame).unwrap();
    encoded.write_to(sequence, &mut bytes);
    assert_eq!(bytes.len(), encoded.frame_bytes());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key() -> NodeKey {
    NodeKey::of_name("node-1")
}

fn epoch() -> Epoch {
    Epoch::at_start(1_700_000_000_000, 12345)
}

fn log() -> LogId {
    LogId { origin: key(), epoch: epoch(), partition: Partition::of_kind(KIND) }
}

fn delta_frame() -> Frame {
    let first =
        ServiceBuilder::new(KIND, "0.1").inbox("in.box").meta("zone", "eu-1").weight(2).build().unwrap();
    let second = ServiceBuilder::new(KIND, "0.2").online(false).unique().class(1).build().unwrap();
    let removals = vec![Removal { version: 6, key: ServiceKey::new(KIND, b"0.3").unwrap() }];
    let puts = vec![Put { version: 5, service: first }, Put { version: 8, service: second }];
    Frame::Delta {
        log: log(),
        delta: Delta { from: 4, to: 9, horizon: 11, removals_from: 2, puts, removals },
    }
}

/// One of each type, by ascending number.
fn frames() -> Vec<Frame> {
    let mut versions = Box::new([0; PARTITIONS]);
    versions[3] = 77;
    let hello = Hello {
        cluster: *b"0123456789abcdef",
        name: "node-1".into(),
        address: "127.0.0.1:7000".into(),
        epoch: epoch(),
        first_epoch: epoch(),
        process: ProcessId::from_random(0x1234_5678),
        number: 5,
        features: 0,
        versions,
    };
    let place = |partition, known, content| {
        let partition = Partition::from_wire(partition).unwrap();
        Place { partition, known, content }
    };
    let places = vec![place(1, 10, 10), place(200, 5, 9)];
    let record = MemberRecord {
        name: "node-2".into(),
        address: "127.0.0.1:7001".into(),
        epoch: epoch(),
        counter: 99,
        standing: Standing::Suspect,
    };
    let command = Frame::Command {
        op_id: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10,
        origin: key(),
        epoch: epoch(),
        operation: Operation::Disable,
        key: ServiceKey::new(KIND, b"0.1").unwrap(),
        expect_version: Some(5),
    };
    vec![
        Frame::Hello(hello),
        Frame::HelloAck(HelloAck { features: 0 }),
        Frame::Heartbeat { counter: 3, digest: [9; 16] },
        delta_frame(),
        Frame::Seal {
            log: log(),
            seal: Seal { target: 900, low: 0, high: 500, horizon: 901, live: vec![5, 400] },
        },
        Frame::Pull { origin: key(), epoch: epoch(), places: places.clone() },
        Frame::Digest(vec![OriginDigest { origin: key(), digest: [4; 16] }]),
        Frame::Versions { origin: key(), epoch: epoch(), places },
        Frame::Member(vec![record]),
        Frame::Ping { nonce: 1 },
        Frame::PingReq { nonce: 2, target: key() },
        Frame::Ack { nonce: 2, target: key(), reach: Reach::Refused },
        command,
        Frame::CommandAck { op_id: 16, outcome: Outcome::VersionMismatch { version: 8 } },
        Frame::Credit { partition: Partition::of_kind(KIND), bytes: 262_144 },
        Frame::StaleEpoch { remembered: epoch() },
        Frame::Bye(ByeReason::NameConflict),
    ]
}

const KIND: &[u8] = b"uploader";
