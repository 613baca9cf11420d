//! Looking services up allocates nothing: no table is copied (Dispatch's faults D1 and D2).

use std::{hint::black_box, sync::mpsc, time::Duration};

use croupier::{BoxError, ServiceHandle, ServiceSpec, Shard, testing::LocalCluster};

use crate::{alone, counting::allocations};

/// Lookups of each kind.
const LOOKUPS: u32 = 100_000;
/// Services of the type.
const SERVICES: usize = 100;
/// After this long something hangs.
const GUARD: Duration = Duration::from_secs(60);

#[test]
fn d1_d2_a_lookup_allocates_nothing() {
    looked_up(|shard, keys| {
        let registry = shard.registry();
        for key in keys {
            assert!(black_box(registry.find_service("uploader", key.to_le_bytes())).is_some());
        }
    });
}

#[test]
fn d1_d2_a_lookup_of_three_allocates_nothing() {
    looked_up(|shard, keys| {
        let registry = shard.registry();
        for key in keys {
            assert_eq!(black_box(registry.find_multi_service(3, "uploader", key.to_le_bytes())).count(), 3);
        }
    });
}

#[test]
fn d1_d2_a_lookup_of_a_type_that_was_resolved_once_allocates_nothing() {
    looked_up(|shard, keys| {
        let services = shard.registry().service_type("uploader");
        for key in keys {
            let service = black_box(services.find(key.to_le_bytes())).expect("an instance");
            assert!(service.is_online() && service.meta("zone") == Some("eu-1"));
        }
    });
}

/// Runs the lookups on a shard among services, and counts what its thread allocates meanwhile.
fn looked_up(look_up: impl Fn(&Shard, std::ops::Range<u32>) + Clone + Send + 'static) {
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    let (counted, count) = mpsc::channel();
    let app = async move |shard: Shard| -> Result<(), BoxError> {
        let registry = shard.registry();
        let mut services: Vec<ServiceHandle> = Vec::new();
        for _ in 0..SERVICES {
            let adding = registry.add_service(ServiceSpec::new("uploader").meta("zone", "eu-1"));
            services.push(shard.timeout(GUARD, adding).await??);
        }
        assert_eq!(registry.get_online_services("uploader").len(), SERVICES);
        // The first lookups of all: nothing is warmed up for those that count.
        let before = allocations();
        look_up(&shard, 0..1);
        let first = allocations() - before;
        let before = allocations();
        look_up(&shard, 0..LOOKUPS);
        let all = allocations() - before;
        // What is counted is this thread's.
        let before = allocations();
        drop(black_box(registry.get_services("uploader")));
        assert!(allocations() > before);
        counted.send((first, all))?;
        Ok(())
    };
    servers.builder().shards(1).run(app).unwrap();
    let (first, all) = count.recv().unwrap();
    println!("{first} allocations in the first lookup, {all} in {LOOKUPS} more");
    assert_eq!((first, all), (0, 0));
}
