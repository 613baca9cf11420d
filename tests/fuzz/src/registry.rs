//! Whatever a peer sends, the registry takes it or refuses it: it never panics, a refused frame changes nothing, and
//! no frame of a peer changes this node's own services.

use std::sync::Arc;
use std::time::{Duration, Instant};

use croupier_registry::limits::{ChunkLimits, LogLimits, WindowLimits};
use croupier_registry::wire::v1::Frame;
use croupier_registry::wire::{HEADER_BYTES, Header, Hello, decode};
use croupier_registry::{
    Digest, Epoch, Link, LinkId, MemberChange, Membership, MembershipConfig, Next, NodeKey, PARTITIONS,
    Partitions, PartitionsConfig, ProcessId, ServiceBuilder,
};

use super::recipe::Recipe;

/// The bytes are a stream to a fresh link, a stream behind a Hello, or frames whose checksums are made right.
pub fn check(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 3 {
        0 => check_stream(Link::new(start()), rest),
        1 => check_stream(greeted(), rest),
        _ => check_frames(rest),
    }
}

#[allow(clippy::disallowed_methods, reason = "every time in here is told from this one")]
fn start() -> Instant {
    Instant::now()
}

fn hello(name: &str) -> Hello {
    Hello {
        cluster: [7; 16],
        name: name.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        epoch: Epoch::at_start(1, 1),
        first_epoch: Epoch::at_start(1, 1),
        process: ProcessId::from_random(1),
        number: 0,
        features: 0,
        versions: Box::new([3; PARTITIONS]),
    }
}

/// A link whose peer has said Hello.
fn greeted() -> Link {
    let (mut peer, mut link) = (Link::new(start()), Link::new(start()));
    let mut wire = Vec::new();
    peer.write_hello(hello("peer"), &mut wire).expect("a Hello within its limits");
    assert!(matches!(link.next_frame(&wire), Ok(Next::Frame { .. })));
    link
}

fn check_stream(mut link: Link, stream: &[u8]) {
    let mut at = 0;
    while let Ok(next) = link.next_frame(&stream[at..]) {
        match next {
            Next::Incomplete { needed } => {
                assert!(needed > stream.len() - at, "what is whole is taken");
                break;
            }
            Next::Frame { bytes, .. } | Next::Skipped { bytes } => {
                assert!(bytes >= HEADER_BYTES && bytes <= stream.len() - at);
                at += bytes;
            }
        }
    }
}

/// Frames of any type, partition and payload, as from a peer that is Up.
fn check_frames(data: &[u8]) {
    let now = start();
    let mut partitions = partitions(now);
    let mut membership = membership(now);
    let own = own_state(&partitions);
    let peer = NodeKey::of_name("peer");
    let mut recipe = Recipe::new(data);
    let mut frames = 0;
    while !recipe.is_empty() && frames < FRAMES_MAX {
        frames += 1;
        let (frame_type, partition) = (recipe.byte(), recipe.byte());
        let payload =
            if recipe.byte().is_multiple_of(2) { recipe.piece().to_vec() } else { doubled(recipe.piece()) };
        let Some(frame) = framed(frame_type, partition, &payload) else { continue };
        let later = now + Duration::from_millis(recipe.byte().into());
        membership.handle_frame(LinkId(1), &frame, later);
        membership.handle_timeout(later);
        while membership.poll_output().is_some() {}
        let before = state(&partitions);
        if partitions.handle_frame(peer, &frame, HEADER_BYTES + payload.len(), later).is_err() {
            assert_eq!(state(&partitions), before, "a refused frame changed something");
        }
        partitions.handle_timeout(later);
        while partitions.poll_frame().is_some() {}
        while partitions.poll_event().is_some() {}
        if matches!(frame, Frame::Command { .. }) {
            // It may change them: that is what it is for.
            return;
        }
        assert_eq!(own_state(&partitions), own, "a peer changed this node's services");
    }
}

/// Frames in one run.
const FRAMES_MAX: usize = 64;

/// The frame of these parts, if it decodes once its checksum is right.
fn framed(frame_type: u8, partition: u8, payload: &[u8]) -> Option<Frame> {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..3].copy_from_slice(&beginning()[0..3]);
    bytes[3] = frame_type;
    bytes[6] = partition;
    bytes[8..12].copy_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(payload), &bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    let header = Header::parse(&bytes, payload.len()).ok()?;
    decode(&header, payload).ok()
}

/// How every frame begins: its magic and its version.
fn beginning() -> Vec<u8> {
    let mut wire = Vec::new();
    Link::new(start()).write_hello(hello("peer"), &mut wire).expect("a Hello within its limits");
    wire
}

/// Longer payloads of few bytes: tables with many rows.
fn doubled(piece: &[u8]) -> Vec<u8> {
    piece.repeat(1 + piece.first().map_or(0, |first| usize::from(*first) % 16))
}

fn partitions(now: Instant) -> Partitions {
    let mut partitions = Partitions::new(PartitionsConfig {
        name: "me".into(),
        epoch: Epoch::at_start(2, 2),
        shard: 0,
        shards: 1,
        log: LogLimits { removals_least: 4, removals_most: 4, entries_max: 64 },
        chunk: ChunkLimits { events_max: 3, ..ChunkLimits::default() },
        window: WindowLimits::default(),
    });
    for id in ["0.0", "0.1", "0.2"] {
        let service = ServiceBuilder::new("kind", id).meta("zone", "eu").build().expect("a good service");
        partitions.put(&service, now).expect("room");
    }
    let name: Arc<str> = "peer".into();
    let change =
        MemberChange::Up { name, epoch: Epoch::at_start(1, 1), advertised: Box::new([3; PARTITIONS]) };
    partitions.handle_member(change, now);
    partitions.handle_link_up(NodeKey::of_name("peer"));
    while partitions.poll_frame().is_some() {}
    while partitions.poll_event().is_some() {}
    partitions
}

fn membership(now: Instant) -> Membership {
    let config = MembershipConfig::new([7; 16], "me");
    let mut membership = Membership::new(config, Epoch::at_start(2, 2), ProcessId::from_random(2), 2, now);
    membership.handle_hello(LinkId(1), hello("peer"), false, now);
    while membership.poll_output().is_some() {}
    membership
}

/// What is known of every node, and what is shown.
fn state(partitions: &Partitions) -> (Vec<(NodeKey, Digest)>, usize) {
    let shown = partitions.kinds().iter().map(|kind| partitions.instances(kind).len()).sum();
    (partitions.digests().collect(), shown)
}

fn own_state(partitions: &Partitions) -> Digest {
    partitions.digest(NodeKey::of_name("me"))
}
