//! Find: time of a lookup of a service on a shard, beside the bare hash of its key.
//!
//! The services are registered on the very shard; every lookup's answer is summed, and none may miss.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use croupier::{RingClass, ServiceSpec, Shard};
use croupier_bench::error::BenchError;
use croupier_bench::shard_bench::ShardBench;
use xxhash_rust::xxh3::xxh3_64;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = find
}
criterion_main!(benches);

/// Keys that the lookups go through.
const KEYS: usize = 4096;
/// Services that are being added at the same time.
const ADDS_AT_A_TIME: usize = 2000;
/// Instances of a lookup of several.
const SEVERAL: usize = 3;

#[derive(Clone, Copy)]
enum Lookup {
    Hash,
    Find,
    OfType,
    Several,
}

fn find(criterion: &mut Criterion) {
    let bench = ShardBench::start().expect("a shard and its stub");
    let mut group = criterion.benchmark_group("find");
    group.sampling_mode(SamplingMode::Flat);
    for (kind, services, class) in [
        ("ten", 10, RingClass::Small),
        ("thousand", 1000, RingClass::Medium),
        ("many", 100_000, RingClass::Large17),
    ] {
        bench.run(async move |shard| add(&shard, kind, services, class).await).expect("all are added");
        for (lookup, name) in [
            (Lookup::Hash, "the bare hash"),
            (Lookup::Find, "find_service"),
            (Lookup::OfType, "ServiceType::find"),
            (Lookup::Several, "find_multi_service of 3"),
        ] {
            group.bench_function(format!("{name}, {services} services"), |bencher| {
                bencher.iter_custom(|lookups| {
                    let run = bench.run(async move |shard| Ok(look_up(&shard, kind, lookup, lookups)));
                    run.expect("the lookups")
                });
            });
        }
    }
    group.finish();
    bench.finish().expect("the stub's account");
}

/// Adds services that stay for as long as the shard.
async fn add(shard: &Shard, kind: &'static str, services: usize, class: RingClass) -> Result<(), BenchError> {
    let added = Rc::new(RefCell::new(Vec::new()));
    let begun = Instant::now();
    let mut started = 0;
    while added.borrow().len() < services {
        while started < services && started < added.borrow().len() + ADDS_AT_A_TIME {
            let (registry, added) = (shard.registry(), Rc::clone(&added));
            started += 1;
            shard.spawn(async move {
                let spec = ServiceSpec::new(kind).ring_class(class).meta("zone", "eu-1");
                let handle = registry.add_service(spec).await.expect("a service is added");
                added.borrow_mut().push(handle);
            });
        }
        shard.sleep(Duration::from_micros(100)).await;
    }
    println!("added {services} services in {:?}", begun.elapsed());
    assert_eq!(shard.registry().get_online_services(kind).len(), services);
    // Held until the node ends.
    shard.spawn(async move {
        let _held = added;
        std::future::pending::<()>().await;
    });
    Ok(())
}

fn look_up(shard: &Shard, kind: &str, lookup: Lookup, lookups: u64) -> Duration {
    let registry = shard.registry();
    let of_type = registry.service_type(kind);
    let keys: Vec<String> = (0..KEYS).map(|number| format!("user.{number:012}")).collect();
    let mut keys = keys.iter().cycle();
    let mut sum = 0_u64;
    let begun = Instant::now();
    for _ in 0..lookups {
        let Some(key) = keys.next() else { break };
        sum = sum.wrapping_add(match lookup {
            Lookup::Hash => xxh3_64(key.as_bytes()) | 1,
            Lookup::Find => registry.find_service(kind, key).map_or(0, |service| u64::from(service.weight())),
            Lookup::OfType => of_type.find(key).map_or(0, |service| u64::from(service.weight())),
            Lookup::Several => registry.find_multi_service(SEVERAL, kind, key).len() as u64,
        });
    }
    let took = begun.elapsed();
    assert!(sum >= lookups || matches!(lookup, Lookup::Hash), "a lookup found nobody");
    std::hint::black_box(sum);
    took
}
