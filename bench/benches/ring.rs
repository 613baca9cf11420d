//! Lookups, builds and changes of the ring, beside the bare hash. The peers are beside it in `peers ring`.
//!
//! First come the ratios that `design/ring.md` holds the ring to: each is the median over many short turns that
//! alternate between the two sides, so that a noisy machine disturbs both alike. Then criterion's figures.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use croupier_ring::{
    CLUSTER_UNITS, ClusterRing, ClusterSlots, ClusterTable, RingClass, RingMode, ServiceRing, ServiceTable,
};
use xxhash_rust::xxh3::xxh3_64;

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = ratios, lookups, changes
}
criterion_main!(benches);

/// One answer after the other, independent of each other. A macro, as are the next two: each loop gets its answer
/// inlined, which the compiler does not do for a closure that several loops share.
macro_rules! sum {
    ($keys:expr, $key:ident => $answer:expr) => {{
        let mut sum = 0_usize;
        for $key in $keys.iter() {
            sum = sum.wrapping_add($answer);
        }
        sum
    }};
}

/// Each answer chooses the next key, one of the eight that follow.
macro_rules! chain {
    ($keys:expr, $key:ident => $answer:expr) => {{
        let mask = $keys.len() - 1;
        let mut at = 0_usize;
        for _ in 0..$keys.len() {
            let $key = $keys.key(at);
            at = (at + 1 + $answer % 8) & mask;
        }
        at
    }};
}

/// The throughput of an answer, and its latency, as ratios to those of the bare hash.
macro_rules! ratio {
    ($keys:expr, $key:ident => $answer:expr) => {
        (
            median_ratio(|| sum!($keys, $key => $answer), || sum!($keys, $key => xxh3_64($key) as usize)),
            median_ratio(|| chain!($keys, $key => $answer), || chain!($keys, $key => xxh3_64($key) as usize)),
        )
    };
}

/// Prints what the design page holds the ring to.
fn ratios(_: &mut Criterion) {
    // As many as the first-level cache holds beside a table, and as many as no cache near the core holds.
    let keys = Keys::new(1 << 9);
    let many_keys = Keys::new(1 << 16);
    println!("ratio to the bare xxh3 of the key            throughput  latency");
    for (members, slots) in [
        (3, ClusterSlots::Narrow),
        (16, ClusterSlots::Narrow),
        (64, ClusterSlots::Narrow),
        (256, ClusterSlots::Wide),
    ] {
        let table = cluster_ring(members, slots).table();
        check_cluster_table(&table, &keys);
        let (throughput, latency) = ratio!(keys, key => table.owner(key));
        println!("cluster lookup, {members:>3} members, {slots:<9?}       {throughput:>8.2} {latency:>8.2}");
        let (throughput, _) = ratio!(keys, key => table.owners(key, 3).sum::<usize>());
        println!("3 distinct,     {members:>3} members, {slots:<9?}       {throughput:>8.2}");
    }
    for (class, members) in
        [(RingClass::Small, 100), (RingClass::Medium, 4000), (RingClass::Large17, 100_000)]
    {
        let table = service_ring(class, members).table();
        check_service_table(&table, &many_keys);
        let (throughput, latency) = ratio!(many_keys, key => table.owner(key));
        println!("service lookup, {members:>6} instances, {class:<7?}   {throughput:>8.2} {latency:>8.2}");
        let (throughput, _) = ratio!(many_keys, key => table.owners(key, 3).sum::<usize>());
        println!("3 distinct,     {members:>6} instances, {class:<7?}   {throughput:>8.2}");
        let before = ALLOCATED_BYTES.get();
        drop(black_box(table.clone()));
        let bytes = ALLOCATED_BYTES.get() - before;
        println!("size of the table: {} KiB", bytes / 1024);
    }
    println!("256 clusters in 2^14 slots: shortest of many");
    let all = cluster_ring(256, ClusterSlots::Narrow);
    let mut fewer = all.clone();
    fewer.leave(255).expect("there are 256");
    println!("full build {:>10.1?}", shortest(|| (), |()| cluster_ring(256, ClusterSlots::Narrow)));
    let join = |mut ring: ClusterRing| {
        ring.join("cluster-255", CLUSTER_UNITS).expect("there is room");
        ring
    };
    println!("join       {:>10.1?}", shortest(|| fewer.clone(), join));
    let leave = |mut ring: ClusterRing| {
        ring.leave(255).expect("there are 256");
        ring
    };
    println!("leave      {:>10.1?}", shortest(|| all.clone(), leave));
}

/// The least disturbed of many runs. What a run returns is dropped after the clock has stopped.
fn shortest<I, O>(prepare: impl Fn() -> I, run: impl Fn(I) -> O) -> Duration {
    let once = |_| {
        let input = black_box(prepare());
        let start = Instant::now();
        let output = black_box(run(input));
        let elapsed = start.elapsed();
        drop(output);
        elapsed
    };
    (0..300).map(once).min().expect("300 runs")
}

/// Absolute times, for the record.
fn lookups(criterion: &mut Criterion) {
    let keys = Keys::new(1 << 14);
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(keys.len() as u64));
    group.bench_function("bare xxh3", |bencher| bencher.iter(|| sum!(keys, key => xxh3_64(key) as usize)));
    let table = cluster_ring(16, ClusterSlots::Narrow).table();
    group.bench_function("16 clusters", |bencher| bencher.iter(|| sum!(keys, key => table.owner(key))));
    group.bench_function("16 clusters, 3 distinct", |bencher| {
        bencher.iter(|| sum!(keys, key => table.owners(key, 3).sum::<usize>()));
    });
    let table = cluster_builder(16).mode(RingMode::Roulette).build_table().expect("16 clusters are a ring");
    group.bench_function("16 clusters, roulette", |bencher| {
        bencher.iter(|| sum!(keys, key => table.owner(key)));
    });
    let table = service_ring(RingClass::Large17, 100_000).table();
    group.bench_function("100 000 instances", |bencher| bencher.iter(|| sum!(keys, key => table.owner(key))));
    group.finish();
}

/// Building and changing a ring.
fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("256 clusters in 2^14 slots");
    let all = cluster_ring(256, ClusterSlots::Narrow);
    group.bench_function("full build", |bencher| bencher.iter(|| cluster_ring(256, ClusterSlots::Narrow)));
    let mut without_last = all.clone();
    without_last.leave(255).expect("there are 256");
    group.bench_function("join", |bencher| {
        let join = |ring: &mut ClusterRing| ring.join("cluster-255", CLUSTER_UNITS).expect("there is room");
        bencher.iter_batched_ref(|| without_last.clone(), join, BatchSize::PerIteration);
    });
    group.bench_function("leave", |bencher| {
        let leave = |ring: &mut ClusterRing| ring.leave(255).expect("there are 256");
        bencher.iter_batched_ref(|| all.clone(), leave, BatchSize::PerIteration);
    });
    group.bench_function("table to publish", |bencher| bencher.iter(|| all.table()));
    group.finish();
    let mut back = without_last.clone();
    back.join("cluster-255", CLUSTER_UNITS).expect("there is room");
    assert_eq!(back.fingerprint(), all.fingerprint(), "a join equals the full build");

    let mut group = criterion.benchmark_group("service");
    for (class, members) in [
        (RingClass::Small, 100),
        (RingClass::Medium, 4000),
        (RingClass::Large14, 10_000),
        (RingClass::Large17, 100_000),
    ] {
        let all = service_ring(class, members);
        let name = format!("instance-{}", members - 1);
        let mut without_last = all.clone();
        without_last.leave(members - 1).expect("it is a member");
        group.sample_size(10);
        group.bench_function(format!("{class:?}, {members}: full build"), |bencher| {
            bencher.iter(|| service_ring(class, members));
        });
        group.bench_function(format!("{class:?}, {members}: join"), |bencher| {
            let join = |ring: &mut ServiceRing| ring.join(&name, 1).expect("there is room");
            bencher.iter_batched_ref(|| without_last.clone(), join, BatchSize::PerIteration);
        });
        group.bench_function(format!("{class:?}, {members}: leave"), |bencher| {
            let leave = |ring: &mut ServiceRing| ring.leave(members - 1).expect("it is a member");
            bencher.iter_batched_ref(|| all.clone(), leave, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn cluster_builder(members: usize) -> croupier_ring::ClusterRingBuilder {
    let builder = ClusterRing::builder();
    (0..members).fold(builder, |builder, number| builder.member(format!("cluster-{number}"), CLUSTER_UNITS))
}

fn cluster_ring(members: usize, slots: ClusterSlots) -> ClusterRing {
    cluster_builder(members).slots(slots).build().expect("the members are a ring")
}

fn service_ring(class: RingClass, members: usize) -> ServiceRing {
    let builder = ServiceRing::builder(class);
    let builder =
        (0..members).fold(builder, |builder, number| builder.member(format!("instance-{number}"), 1));
    builder.build().expect("the members are a ring")
}

fn check_cluster_table(table: &ClusterTable, keys: &Keys) {
    check_even(keys, table.len(), |key| table.owner(key));
    check_distinct(keys, table.len(), |key| (table.owner(key), table.owners(key, 3).collect()));
}

fn check_service_table(table: &ServiceTable, keys: &Keys) {
    check_distinct(keys, table.len(), |key| (table.owner(key), table.owners(key, 3).collect()));
}

fn check_distinct(keys: &Keys, members: usize, answer: impl Fn(&[u8]) -> (usize, Vec<usize>)) {
    let before = ALLOCATIONS.get();
    for key in keys.iter() {
        let (owner, owners) = answer(key);
        assert_eq!(owners.len(), 3);
        assert!(owner == owners[0] && owners.iter().all(|owner| *owner < members));
        assert!(owners[0] != owners[1] && owners[1] != owners[2] && owners[0] != owners[2]);
    }
    assert!(ALLOCATIONS.get() - before >= keys.len(), "the counter counts the vectors of this check");
}

/// No answer is out of range and nobody is far from its share.
fn check_even(keys: &Keys, members: usize, owner: impl Fn(&[u8]) -> usize) {
    let mut counts = vec![0_usize; members];
    for key in keys.iter() {
        counts[owner(key)] += 1;
    }
    let share = keys.len() / members;
    assert!(counts.iter().all(|count| (share / 4..=share * 4 + 4).contains(count)), "{counts:?}");
}

/// Keys that look like topics, 18 bytes each, one after the other.
struct Keys {
    bytes: Vec<u8>,
    /// Start and length of each, read for each lookup: else the compiler would make a hash for one length alone.
    spans: Vec<(u32, u32)>,
}

impl Keys {
    fn new(count: u32) -> Self {
        assert!(count.is_power_of_two());
        let bytes: Vec<u8> = (0..count).flat_map(|key| format!("room.{key:08}.chat").into_bytes()).collect();
        let spans = (0..count).map(|key| (key * 18, 18)).collect();
        Keys { bytes, spans }
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.key(at))
    }

    #[inline]
    fn key(&self, at: usize) -> &[u8] {
        let (start, length) = self.spans[at];
        &self.bytes[start as usize..][..length as usize]
    }
}

fn median_ratio(mut ours: impl FnMut() -> usize, mut bare: impl FnMut() -> usize) -> f64 {
    const TURNS: usize = 401;
    let mut ratios: Vec<f64> = (0..TURNS).map(|_| seconds(&mut ours) / seconds(&mut bare)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[TURNS / 2]
}

/// The time of one turn, which must not allocate.
fn seconds(side: &mut impl FnMut() -> usize) -> f64 {
    let allocations = ALLOCATIONS.get();
    let start = Instant::now();
    black_box(run(side));
    let elapsed = start.elapsed();
    assert_eq!(ALLOCATIONS.get(), allocations, "a lookup has allocated");
    elapsed.as_secs_f64()
}

/// A function of its own for each loop, so that no other code takes its registers.
#[inline(never)]
fn run(side: &mut impl FnMut() -> usize) -> usize {
    side()
}

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread.
struct Counting;

// SAFETY: every call goes to the system's allocator as it is; the counters are constants-initialised thread locals
// without destructors, so that counting neither allocates nor outlives the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        ALLOCATED_BYTES.set(ALLOCATED_BYTES.get() + layout.size());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`, and all memory came from `System`.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
