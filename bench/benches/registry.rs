//! The registry's machines: changes applied and sent, frames, tables after a change, lookups.
//!
//! Times are CPU time of the thread, except for lookups, which are too short for that clock. Every bench checks what
//! it did: versions, entries, events, owners.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use croupier_bench::registry::cpu;
use croupier_bench::registry::workload::{id, kind, service};
use croupier_registry::limits::{ChunkLimits, FRAME_BYTES_MAX, LogLimits, PUTS_PER_DELTA_MAX, WindowLimits};
use croupier_registry::wire::v1::{Frame, LogId, Place};
use croupier_registry::wire::{Encoded, HEADER_BYTES, Header, decode};
use croupier_registry::{
    Change, Delta, Epoch, Event, Link, Log, MemberChange, NodeKey, PARTITIONS, Partition, Partitions,
    PartitionsConfig, Put, Removal, ServiceKey, Version,
};
use croupier_ring::{RingClass, ServiceRing, ServiceTable};
use xxhash_rust::xxh3::xxh3_64;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = apply, own_change, wire, table_change, lookup
}
criterion_main!(benches);

const SIZES: [u64; 3] = [1000, 100_000, 1_000_000];
/// What is prepared at a time, off the clock.
const BATCH: u64 = 256;

/// Prepares batches off the clock, and runs them on it.
fn in_batches<T>(
    bencher: &mut Bencher<'_>,
    mut prepare: impl FnMut(u64) -> Vec<T>,
    mut run: impl FnMut(&[T]),
) {
    bencher.iter_custom(|iterations| {
        let mut spent = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let batch = prepare(left.min(BATCH));
            left -= batch.len() as u64;
            let start = cpu::of_thread();
            run(&batch);
            spent += cpu::of_thread() - start;
            drop(batch);
        }
        spent
    });
}

// Applying.

/// The changes of one owner, one version after the other. Which entry is hit looks like chance.
struct Owner {
    entries: u64,
    version: Version,
    added: bool,
}

impl Owner {
    /// An owner that has put so many entries of one type.
    fn new(entries: u64) -> Self {
        Self { entries, version: entries, added: false }
    }

    /// The deltas by which a replica gets the entries in the first place.
    fn history(&self) -> impl Iterator<Item = Delta> {
        let entries = self.entries;
        (0..entries).step_by(PUTS_PER_DELTA_MAX).map(move |from| {
            let to = (from + PUTS_PER_DELTA_MAX as u64).min(entries);
            let puts = (from..to).map(|number| put(number + 1, number, 0)).collect();
            Delta { from, to, horizon: entries, removals_from: 0, puts, removals: Vec::new() }
        })
    }

    fn update(&mut self) -> Delta {
        let number = self.version.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.entries;
        let version = self.version + 1;
        self.next(vec![put(version, number, version)], Vec::new())
    }

    /// An entry that was not there, and then its removal.
    fn add_or_remove(&mut self) -> Delta {
        let version = self.version + 1;
        self.added = !self.added;
        if self.added {
            return self.next(vec![put(version, self.entries, version)], Vec::new());
        }
        let key = ServiceKey::new(kind(0).as_bytes(), id(self.entries).as_bytes()).expect("a key");
        self.next(Vec::new(), vec![Removal { version, key }])
    }

    fn next(&mut self, puts: Vec<Put>, removals: Vec<Removal>) -> Delta {
        let from = self.version;
        self.version += 1;
        Delta { from, to: self.version, horizon: self.version, removals_from: 0, puts, removals }
    }
}

fn put(version: Version, number: u64, revision: u64) -> Put {
    Put { version, service: service(&kind(0), number, revision).expect("within the limits") }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply a delta of one entry");
    for entries in SIZES {
        let mut owner = Owner::new(entries);
        let mut log = Log::new(LogLimits::default());
        let mut changes = Vec::new();
        for delta in owner.history() {
            log.apply_delta(&delta, &mut changes).expect("no gaps");
            changes.clear();
        }
        group.bench_function(format!("log, update among {entries}"), |bencher| {
            in_batches(
                bencher,
                |count| (0..count).map(|_| owner.update()).collect(),
                |deltas| {
                    for delta in deltas {
                        log.apply_delta(delta, &mut changes).expect("no gaps");
                        assert!(matches!(changes[..], [Change::Put { previous: Some(_), .. }]));
                        changes.clear();
                    }
                },
            );
        });
        assert_eq!((log.known(), log.len() as u64), (owner.version, entries));
        drop(log);

        let mut owner = Owner::new(entries);
        let mut shard = Replica::new(&owner);
        group.bench_function(format!("shard, update among {entries}"), |bencher| {
            in_batches(
                bencher,
                |count| (0..count).map(|_| frame(owner.update())).collect(),
                |frames| {
                    for frame in frames {
                        assert!(matches!(shard.take(frame), Some(Event::Updated(_))));
                    }
                },
            );
        });
        group.bench_function(format!("shard, add or remove among {entries}"), |bencher| {
            in_batches(
                bencher,
                |count| (0..count).map(|_| frame(owner.add_or_remove())).collect(),
                |frames| {
                    for frame in frames {
                        assert!(matches!(shard.take(frame), Some(Event::Joined(_) | Event::Left(_))));
                    }
                },
            );
        });
        let log = shard.log();
        assert_eq!((log.known(), log.len() as u64), (owner.version, entries + u64::from(owner.added)));
    }
    group.finish();
}

/// A shard that follows one other node.
struct Replica {
    partitions: Partitions,
    now: Instant,
}

impl Replica {
    fn new(owner: &Owner) -> Self {
        let now = Instant::now();
        let mut partitions = partitions("replica");
        let advertised = Box::new([0; PARTITIONS]);
        partitions.handle_member(MemberChange::Up { name: OTHER.into(), epoch: epoch(), advertised }, now);
        partitions.handle_link_up(NodeKey::of_name(OTHER));
        let mut replica = Self { partitions, now };
        for delta in owner.history() {
            replica.take(&frame(delta));
        }
        replica
    }

    /// Takes a frame and gives its first event, if it has one that was not taken before.
    fn take(&mut self, frame: &Frame) -> Option<Event> {
        let from = NodeKey::of_name(OTHER);
        self.partitions.handle_frame(from, frame, FRAME_BYTES, self.now).expect("a good frame");
        while self.partitions.poll_frame().is_some() {}
        let event = self.partitions.poll_event();
        while self.partitions.poll_event().is_some() {}
        event
    }

    fn log(&self) -> &Log {
        let log = self.partitions.log(NodeKey::of_name(OTHER), Partition::of_kind(kind(0).as_bytes()));
        log.expect("it has entries")
    }
}

fn frame(delta: Delta) -> Frame {
    let partition = Partition::of_kind(kind(0).as_bytes());
    Frame::Delta { log: LogId { origin: NodeKey::of_name(OTHER), epoch: epoch(), partition }, delta }
}

/// What a frame is said to have taken; only transfers are credited with it.
const FRAME_BYTES: usize = 248;
const OTHER: &str = "owner";

fn epoch() -> Epoch {
    Epoch::at_start(1_800_000_000_000, 0)
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

// An own change.

fn own_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("own put, encoded, written to every peer");
    for peers in [1, 10, 49] {
        let mut now = Instant::now();
        let mut shard = partitions("owner");
        for number in 0..OWN_ENTRIES {
            let service = service(&kind(0), number, 0).expect("within the limits");
            shard.put(&service, now).expect("within the quota");
            while shard.poll_event().is_some() {}
        }
        let mut links = Vec::new();
        for peer in 0..peers {
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
            let pull = Frame::Pull { origin: NodeKey::of_name("owner"), epoch: epoch(), places };
            shard.handle_frame(key, &pull, FRAME_BYTES, now).expect("a good frame");
            links.push((key, Link::new(now)));
        }
        while shard.poll_frame().is_some() {}
        links.sort_by_key(|(key, _)| *key);
        let mut number = 0_u64;
        let mut buffer = Vec::new();
        group.bench_function(format!("{peers} peers"), |bencher| {
            in_batches(
                bencher,
                |count| {
                    let update = |_| {
                        number += 1;
                        service(&kind(0), number.wrapping_mul(7919) % OWN_ENTRIES, number)
                            .expect("it is built")
                    };
                    (0..count).map(update).collect()
                },
                |services| {
                    for service in services {
                        now += Duration::from_millis(2);
                        shard.put(service, now).expect("within the quota");
                        buffer.clear();
                        let mut written = 0;
                        while let Some((peer, frame)) = shard.poll_frame() {
                            let at = links.binary_search_by_key(&peer, |(key, _)| *key).expect("a peer");
                            links[at].1.write(&frame, &mut buffer);
                            shard.handle_written(peer, &frame);
                            written += 1;
                        }
                        assert!(matches!(shard.poll_event(), Some(Event::Updated(_))));
                        assert_eq!(written, peers);
                    }
                },
            );
        });
    }
    group.finish();
}

const OWN_ENTRIES: u64 = 1000;

// Frames.

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire, per entry");
    for puts in [1_u64, 1000] {
        let owner = Owner::new(puts);
        let mut deltas = owner.history();
        let delta = deltas.next().expect("it has entries");
        assert!(deltas.next().is_none(), "all of them in one");
        let frame = frame(delta);
        let mut bytes = Vec::new();
        Encoded::new(&frame).expect("within the limits").write_to(0, &mut bytes);
        let decoded = |bytes: &[u8]| {
            let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
            let header = Header::parse(header, FRAME_BYTES_MAX).expect("a good header");
            decode(&header, payload).expect("a good payload")
        };
        assert_eq!(decoded(&bytes), frame);
        group.throughput(Throughput::Elements(puts));
        group.bench_function(format!("encode {puts}"), |bencher| {
            in_batches(
                bencher,
                |count| vec![(); count as usize],
                |batch| {
                    for () in batch {
                        black_box(Encoded::new(black_box(&frame)).expect("within the limits"));
                    }
                },
            );
        });
        group.bench_function(format!("decode and validate {puts}"), |bencher| {
            in_batches(
                bencher,
                |count| vec![(); count as usize],
                |batch| {
                    for () in batch {
                        black_box(decoded(black_box(&bytes)));
                    }
                },
            );
        });
    }
    group.finish();
}

// Tables.

const RINGS: [(usize, RingClass); 3] =
    [(10, RingClass::Small), (1000, RingClass::Medium), (100_000, RingClass::Large17)];

fn identity(node: &str, id: &[u8]) -> Vec<u8> {
    [node.as_bytes(), b"/", id].concat()
}

fn ring(instances: usize, class: RingClass) -> ServiceRing {
    let members = 0..instances as u64;
    let builder = members.fold(ServiceRing::builder(class), |builder, number| {
        builder.member(identity("node", id(number).as_bytes()), 1)
    });
    builder.build().expect("the members are a ring")
}

/// From the change of an entry to the table that is to be published.
fn table_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put or remove, to the table");
    group.sample_size(10);
    for (instances, class) in RINGS {
        let now = Instant::now();
        let mut shard = partitions("node");
        for number in 0..instances as u64 {
            shard.put(&service(&kind(0), number, 0).expect("it is built"), now).expect("within the quota");
            while shard.poll_event().is_some() {}
        }
        let mut ring = ring(instances, class);
        let unchanged = ring.fingerprint();
        let newcomer = service(&kind(0), instances as u64, 0).expect("it is built");
        let join = |shard: &mut Partitions, ring: &mut ServiceRing| {
            shard.put(&newcomer, now).expect("within the quota");
            let Some(Event::Joined(instance)) = shard.poll_event() else { panic!("it joined") };
            let identity = identity(&instance.node, instance.service.id());
            ring.join(identity, u32::from(instance.service.weight())).expect("there is room");
            ring.table()
        };
        let leave = |shard: &mut Partitions, ring: &mut ServiceRing| {
            shard.remove(&newcomer.key(), now).expect("it is there");
            let Some(Event::Left(instance)) = shard.poll_event() else { panic!("it left") };
            let identity = identity(&instance.node, instance.service.id());
            ring.leave(ring.index_of(&identity).expect("it is a member")).expect("others are left");
            ring.table()
        };
        for (name, join_counts) in [("join", true), ("leave", false)] {
            group.bench_function(format!("{name} among {instances}, {class:?}"), |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..iterations {
                        let start = cpu::of_thread();
                        black_box(join(&mut shard, &mut ring));
                        let between = cpu::of_thread();
                        let table: ServiceTable = black_box(leave(&mut shard, &mut ring));
                        let end = cpu::of_thread();
                        assert_eq!(table.len(), instances);
                        spent += if join_counts { between - start } else { end - between };
                    }
                    spent
                });
            });
        }
        assert_eq!(ring.fingerprint(), unchanged, "who joined and left has changed nothing");
    }
    group.finish();
}

// Lookups.

fn lookup(criterion: &mut Criterion) {
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|key| format!("room.{key:08}.chat").into_bytes()).collect();
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("bare xxh3", |bencher| {
        bencher.iter(|| keys.iter().fold(0_usize, |sum, key| sum.wrapping_add(xxh3_64(key) as usize)));
    });
    group.bench_function("bare xxh3, each after the one before", |bencher| {
        bencher.iter(|| {
            (0..KEYS).fold(0_usize, |at, _| (at + 1 + xxh3_64(&keys[at]) as usize % 8) & (KEYS - 1))
        });
    });
    for (instances, class) in RINGS {
        let ring = ring(instances, class);
        let table = ring.table();
        let expected = keys.iter().fold(0_usize, |sum, key| sum.wrapping_add(ring.owner(key)));
        let sum = || keys.iter().fold(0_usize, |sum, key| sum.wrapping_add(table.owner(key)));
        assert!(sum() == expected && keys.iter().all(|key| table.owner(key) < instances));
        group.bench_function(format!("{instances} instances, {class:?}"), |bencher| bencher.iter(sum));
        group.bench_function(
            format!("{instances} instances, {class:?}, each after the one before"),
            |bencher| {
                bencher.iter(|| {
                    (0..KEYS).fold(0_usize, |at, _| (at + 1 + table.owner(&keys[at]) % 8) & (KEYS - 1))
                });
            },
        );
    }
    group.finish();
}

/// A power of two.
const KEYS: usize = 1 << 14;
