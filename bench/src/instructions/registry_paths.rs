//! Hot paths of the registry: changes applied, entries found, frames made and read.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use croupier_registry::limits::{ChunkLimits, FRAME_BYTES_MAX, LogLimits, PUTS_PER_DELTA_MAX, WindowLimits};
use croupier_registry::wire::v1::{Frame, LogId, Place};
use croupier_registry::wire::{Encoded, HEADER_BYTES, Header, decode};
use croupier_registry::{
    Change, Delta, Epoch, Event, Link, Log, MemberChange, NodeKey, PARTITIONS, Partition, Partitions,
    PartitionsConfig, Put, ServiceKey, Version,
};

use super::Path;
use crate::registry::workload::{id, kind, service};

/// The paths.
pub const PATHS: [Path; 7] = [
    Path { name: "registry.apply a delta of one entry to a log", go: apply_to_log, times: 2000 },
    Path { name: "registry.apply a delta's frame to a shard", go: apply_to_shard, times: 2000 },
    Path { name: "registry.find an entry", go: find, times: 10_000 },
    Path { name: "registry.put, encode, write to 10 peers", go: own_put, times: 1000 },
    Path { name: "registry.encode a frame of one entry", go: |times| encode(1, times), times: 2000 },
    Path { name: "registry.decode a frame of one entry", go: |times| read(1, times), times: 2000 },
    Path { name: "registry.decode a frame of 100 entries", go: |times| read(100, times), times: 200 },
];

/// Entries that are there already.
const ENTRIES: u64 = 2000;
const OWNER: &str = "owner";
/// What a frame is said to have taken; only transfers are credited with it.
const FRAME_BYTES: usize = 248;

fn epoch() -> Epoch {
    Epoch::at_start(1_800_000_000_000, 0)
}

fn put(version: Version, number: u64, revision: u64) -> Put {
    Put { version, service: service(&kind(0), number, revision).expect("within the limits") }
}

/// The deltas by which a replica gets the entries in the first place.
fn history(entries: u64) -> impl Iterator<Item = Delta> {
    (0..entries).step_by(PUTS_PER_DELTA_MAX).map(move |from| {
        let to = (from + PUTS_PER_DELTA_MAX as u64).min(entries);
        let puts = (from..to).map(|number| put(number + 1, number, 0)).collect();
        Delta { from, to, horizon: entries, removals_from: 0, puts, removals: Vec::new() }
    })
}

/// Changes of entries that are there, so many; the last is always the same one, whatever their number, so that two
/// runs differ in what is done alone. Which entry is hit looks like chance.
fn updates() -> Vec<Delta> {
    let update = |from: Version| {
        let version = from + 1;
        let number = version.wrapping_mul(0x9E37_79B9_7F4A_7C15) % ENTRIES;
        let puts = vec![put(version, number, version)];
        Delta { from, to: version, horizon: version, removals_from: 0, puts, removals: Vec::new() }
    };
    (ENTRIES..ENTRIES + UPDATES_MAX).map(update).collect()
}

/// As many as the longer of two runs applies.
const UPDATES_MAX: u64 = 4000;

fn apply_to_log(times: u64) {
    let mut log = Log::new(LogLimits::default());
    let mut changes = Vec::new();
    for delta in history(ENTRIES) {
        log.apply_delta(&delta, &mut changes).expect("no gaps");
        changes.clear();
    }
    let updates = updates();
    for delta in &updates[..times as usize] {
        log.apply_delta(black_box(delta), &mut changes).expect("no gaps");
        assert!(matches!(changes[..], [Change::Put { previous: Some(_), .. }]));
        changes.clear();
    }
    assert_eq!((log.known(), log.len() as u64), (ENTRIES + times, ENTRIES));
}

fn frame(delta: Delta) -> Frame {
    let partition = Partition::of_kind(kind(0).as_bytes());
    Frame::Delta { log: LogId { origin: NodeKey::of_name(OWNER), epoch: epoch(), partition }, delta }
}

fn partitions(name: &str) -> Partitions {
    Partitions::new(PartitionsConfig {
        name: name.into(),
        epoch: epoch(),
        shard: 0,
        shards: 1,
        log: LogLimits::default(),
        chunk: ChunkLimits::default(),
        window: WindowLimits::default(),
    })
}

/// A shard that follows one other node and has its entries.
fn replica(now: Instant) -> Partitions {
    let mut shard = partitions("replica");
    let advertised = Box::new([0; PARTITIONS]);
    shard.handle_member(MemberChange::Up { name: OWNER.into(), epoch: epoch(), advertised }, now);
    shard.handle_link_up(NodeKey::of_name(OWNER));
    for delta in history(ENTRIES) {
        take(&mut shard, &frame(delta), now);
    }
    shard
}

/// Takes a frame and counts its events.
fn take(shard: &mut Partitions, frame: &Frame, now: Instant) -> u64 {
    shard.handle_frame(NodeKey::of_name(OWNER), frame, FRAME_BYTES, now).expect("a good frame");
    while shard.poll_frame().is_some() {}
    let mut events = 0;
    while shard.poll_event().is_some() {
        events += 1;
    }
    events
}

fn apply_to_shard(times: u64) {
    let now = Instant::now();
    let mut shard = replica(now);
    let frames: Vec<Frame> = updates().into_iter().map(frame).collect();
    let events: u64 =
        frames[..times as usize].iter().map(|frame| take(&mut shard, black_box(frame), now)).sum();
    assert_eq!(events, times, "each change is told once");
}

fn find(times: u64) {
    let shard = replica(Instant::now());
    let node = NodeKey::of_name(OWNER);
    let key = |number| ServiceKey::new(kind(0).as_bytes(), id(number).as_bytes()).expect("a key");
    let keys: Vec<ServiceKey> = (0..ENTRIES).map(key).collect();
    let mut found = 0;
    for number in 0..times {
        found += u64::from(shard.find(node, black_box(&keys[(number % ENTRIES) as usize])).is_some());
    }
    assert_eq!(found, times);
}

fn own_put(times: u64) {
    const PEERS: u64 = 10;
    let mut now = Instant::now();
    let mut shard = partitions(OWNER);
    for number in 0..ENTRIES {
        shard.put(&service(&kind(0), number, 0).expect("within the limits"), now).expect("within the quota");
        while shard.poll_event().is_some() {}
    }
    let mut links = Vec::new();
    for peer in 0..PEERS {
        let name: Arc<str> = format!("peer-{peer}").into();
        let key = NodeKey::of_name(&name);
        let advertised = Box::new([0; PARTITIONS]);
        shard.handle_member(MemberChange::Up { name, epoch: epoch(), advertised }, now);
        shard.handle_link_up(key);
        let known = shard.own_versions();
        let place = |partition: Partition| {
            let known = known[partition.index()];
            Place { partition, known, content: known }
        };
        let places = Partition::all().map(place).collect();
        let pull = Frame::Pull { origin: NodeKey::of_name(OWNER), epoch: epoch(), places };
        shard.handle_frame(key, &pull, FRAME_BYTES, now).expect("a good frame");
        links.push((key, Link::new(now)));
    }
    while shard.poll_frame().is_some() {}
    links.sort_by_key(|(key, _)| *key);
    let change =
        |number: u64| service(&kind(0), number.wrapping_mul(7919) % ENTRIES, number).expect("it is built");
    let changes: Vec<_> = (0..UPDATES_MAX).map(change).collect();
    let (mut buffer, mut written) = (Vec::new(), 0);
    for change in &changes[..times as usize] {
        now += Duration::from_millis(2);
        shard.put(black_box(change), now).expect("within the quota");
        buffer.clear();
        while let Some((peer, frame)) = shard.poll_frame() {
            let at = links.binary_search_by_key(&peer, |(key, _)| *key).expect("a peer");
            links[at].1.write(&frame, &mut buffer);
            shard.handle_written(peer, &frame);
            written += 1;
        }
        assert!(matches!(shard.poll_event(), Some(Event::Updated(_))));
    }
    assert_eq!(written, times * PEERS);
}

fn one_frame(puts: u64) -> Frame {
    let mut deltas = history(puts);
    let frame = frame(deltas.next().expect("it has entries"));
    assert!(deltas.next().is_none(), "all of them in one");
    frame
}

fn encode(puts: u64, times: u64) {
    let frame = one_frame(puts);
    for _ in 0..times {
        black_box(Encoded::new(black_box(&frame)).expect("within the limits"));
    }
}

fn read(puts: u64, times: u64) {
    let frame = one_frame(puts);
    let mut bytes = Vec::new();
    Encoded::new(&frame).expect("within the limits").write_to(0, &mut bytes);
    let read = |bytes: &[u8]| {
        let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
        let header = Header::parse(header, FRAME_BYTES_MAX).expect("a good header");
        decode(&header, payload).expect("a good payload")
    };
    assert_eq!(read(&bytes), frame);
    for _ in 0..times {
        black_box(read(black_box(&bytes)));
    }
}
