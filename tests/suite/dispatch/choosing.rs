//! Which instance a key leads to, where Dispatch copied, lost, moved or disputed them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc,
    time::Duration,
};

use croupier::{ServiceSpec, Shard};

use super::{
    documented::{add, name_of, owners},
    offer::Offer,
};
use crate::{
    registry_rig::{RegistryRig, until_counted, until_seen},
    rig::{Rig, guarded, text},
    support::wait_for,
};

/// Keys whose owners are compared.
const KEYS: usize = 10_000;

#[test]
fn d1_d2_a_lookup_does_not_wait_for_the_shard_that_builds_the_table() {
    let rig = RegistryRig::start(1, &[2]);
    let kinds = || (0..16).map(|number| format!("kind {number}"));
    guarded(async {
        let node = rig.node(0);
        let mut offers = Vec::new();
        for kind in kinds() {
            offers.extend(add(node, 0, &kind, &["1", "2"]).await);
        }
        // Shard 1 stands still until it is told to go on: it builds no table, and answers nobody.
        let (stands, is_still) = tokio::sync::oneshot::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let blocked = node.on(1, async move |_| {
            stands.send(()).unwrap();
            // Ends when the test lets go, however it ends.
            let _let_go = goes_on.recv();
        });
        let reader = node.on(0, async move |shard| {
            is_still.await.unwrap();
            let registry = shard.registry();
            let mut unbuilt = 0;
            for kind in kinds() {
                for key in 0..1000 {
                    let key = format!("key {key}");
                    let owner = registry.find_service(&kind, &key).expect("an instance");
                    let both: Vec<_> = registry.find_multi_service(2, &kind, &key).collect();
                    assert_eq!((both.len(), both[0].id()), (2, owner.id()));
                }
                // What has to ask the building shard does wait.
                let built = shard.timeout(Duration::from_millis(20), registry.fingerprint(&kind)).await;
                unbuilt += usize::from(built.is_err());
            }
            drop(go_on);
            unbuilt
        });
        let ((), unbuilt) = tokio::join!(blocked, reader);
        assert!((1..16).contains(&unbuilt), "both shards build tables: {unbuilt} of 16 wait for shard 1");
    });
}

#[test]
fn d3_every_key_gets_as_many_instances_as_it_asks_for() {
    let rig = RegistryRig::start(1, &[1]);
    guarded(async {
        let ids: Vec<String> = (0..10).map(|id| id.to_string()).collect();
        let _offers =
            add(rig.node(0), 0, "uploader", &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        rig.node(0)
            .on(0, async |shard| {
                let services = shard.registry().service_type("uploader");
                for key in 0..100_000_u32 {
                    let found = services.find_multi(3, key.to_le_bytes());
                    let distinct: BTreeSet<Vec<u8>> = found.map(|service| service.id().to_vec()).collect();
                    assert_eq!(distinct.len(), 3, "key {key}");
                }
                for (count, key) in (0..=12).flat_map(|count| (0..1000_u32).map(move |key| (count, key))) {
                    let found = services.find_multi(count, key.to_le_bytes());
                    let distinct: BTreeSet<Vec<u8>> = found.map(|service| service.id().to_vec()).collect();
                    assert_eq!(distinct.len(), count.min(10), "key {key}");
                }
            })
            .await;
    });
}

#[test]
fn d6_every_service_is_found_on_every_shard_of_every_node() {
    let rig = RegistryRig::start(1, &[4, 2]);
    guarded(async {
        // Of one type each, and all of one type.
        let (sole, common) = (|number: usize| format!("sole {number}"), "common");
        let mut offers = Vec::new();
        for number in 0..160 {
            let node = rig.node(number % 2);
            let shard = number / 2 % node.handle().shards();
            let id = number.to_string();
            offers.push(Offer::answering(node, shard, ServiceSpec::new(sole(number)).id(&id)).await);
            offers.push(Offer::answering(node, shard, ServiceSpec::new(common).id(&id)).await);
        }
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, common, 160, 160).await;
            for shard in 0..node.handle().shards() {
                until_seen(node, shard, "all types", move |registry| {
                    (0..160).all(|number| registry.get_services(sole(number)).len() == 1).then_some(())
                })
                .await;
                let found = node
                    .on(shard, async move |shard| {
                        let registry = shard.registry();
                        for number in 0..160 {
                            let found = registry.find_service(sole(number), "any key").unwrap();
                            assert_eq!(text(found.id()), number.to_string());
                            assert_eq!(found.node(), ["a", "b"][number % 2]);
                        }
                        let owner = |key: u32| registry.find_service(common, key.to_le_bytes()).unwrap();
                        (0..20_000).map(|key| name_of(&owner(key))).collect::<BTreeSet<_>>().len()
                    })
                    .await;
                assert_eq!(found, 160, "each instance serves some keys");
            }
        }
    });
}

#[test]
fn d7_restarting_an_instance_moves_no_key() {
    let mut rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let mut offers =
            add(rig.node(0), 0, "uploader", &["0", "1", "2", "3", "4", "5", "6", "7", "8"]).await;
        // With the default id, which its next life has as well.
        let tenth = |rig: &RegistryRig| add_one(rig.node(1).handle().clone());
        tenth(&rig).await;
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "uploader", 10, 10).await;
        }
        let before = owners(rig.node(0), 0, "uploader", KEYS).await;

        // An instance that goes and comes again under its id.
        let again = offers.remove(4);
        let id = text(again.service().id());
        again.remove().await.unwrap();
        until_counted(rig.node(1), "uploader", 9, 9).await;
        let meanwhile = owners(rig.node(1), 0, "uploader", KEYS).await;
        let moved = before.iter().zip(&meanwhile).filter(|(before, after)| before != after);
        assert!(moved.clone().count() > KEYS / 20, "the others serve its keys meanwhile");
        assert!(moved.clone().all(|(before, _)| *before == format!("a/{id}")), "and only these move");
        offers.extend(add(rig.node(0), 0, "uploader", &[&id]).await);
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "uploader", 10, 10).await;
            assert_eq!(owners(node, 0, "uploader", KEYS).await, before);
        }

        // A whole node that is restarted under its name.
        rig.stop(1).await;
        until_counted(rig.node(0), "uploader", 9, 9).await;
        rig.start_again(1);
        tenth(&rig).await;
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "uploader", 10, 10).await;
            assert_eq!(owners(node, 0, "uploader", KEYS).await, before);
        }
    });
}

/// Adds an instance with its default id, which its shard holds for as long as it lives.
async fn add_one(node: croupier::NodeHandle) {
    let added = node.submit_to(0, async |shard: Shard| {
        let mut me = shard.registry().add_service(ServiceSpec::new("uploader")).await.unwrap();
        shard.spawn(async move { while me.next_request().await.is_some() {} });
    });
    added.await.unwrap();
}

#[test]
fn d8_the_order_of_arrival_does_not_matter() {
    let mut rig = RegistryRig::start(1, &[2, 1, 1]);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    guarded(async {
        // Each node sees its own instances first, and one comes late and learns all at once.
        rig.stop(2).await;
        let mut offers: Vec<(usize, Offer)> = Vec::new();
        let mut next = 0;
        let spec = |number: usize, random: &mut fastrand::Rng| {
            let weight = random.u8(1..=3);
            (ServiceSpec::new("uploader").id(format!("i{number}")).weight(weight), weight)
        };
        for _ in 0..150 {
            let at = random.usize(..2);
            if offers.len() > 10 && random.u8(..3) == 0 {
                let (_, gone) = offers.swap_remove(random.usize(..offers.len()));
                drop(gone);
            } else {
                let (spec, _) = spec(next, &mut random);
                next += 1;
                let shard = random.usize(..rig.node(at).handle().shards());
                offers.push((at, Offer::answering(rig.node(at), shard, spec).await));
            }
        }
        rig.start_again(2);
        let count = offers.len();
        let mut views = Vec::new();
        for node in [rig.node(0), rig.node(1), rig.node(2)] {
            until_counted(node, "uploader", count, count).await;
            let fingerprint =
                node.on(0, async |shard| shard.registry().fingerprint("uploader").await.unwrap()).await;
            views.push((fingerprint, owners(node, 0, "uploader", KEYS).await));
        }
        assert!(views[0].0 != 0 && views[1..].iter().all(|view| *view == views[0]));
        let chosen: BTreeSet<&String> = views[0].1.iter().collect();
        assert_eq!(chosen.len(), count, "each serves some keys");

        // The fingerprint is one of the set: without one of them it is another.
        drop(offers.pop());
        until_counted(rig.node(2), "uploader", count - 1, count - 1).await;
        let other =
            rig.node(2).on(0, async |shard| shard.registry().fingerprint("uploader").await.unwrap()).await;
        assert_ne!(other, views[0].0);
    });
}

/// The share of the keys that each instance serves.
async fn shares(node: &Rig, kind: &'static str) -> BTreeMap<String, f64> {
    let mut shares = BTreeMap::new();
    for owner in owners(node, 0, kind, 100_000).await {
        *shares.entry(owner).or_insert(0.0) += 1.0 / 100_000.0;
    }
    shares
}

#[test]
fn d11_keys_are_shared_out_by_weight() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let weights = [("1", 1_u8), ("2", 2), ("3", 5), ("4", 8)];
        let mut offers = Vec::new();
        for (id, weight) in weights {
            let spec = ServiceSpec::new("uploader").id(id).weight(weight);
            offers.push(Offer::answering(rig.node(0), 0, spec).await);
        }
        let node = rig.node(1);
        until_counted(node, "uploader", 4, 4).await;
        let found = shares(node, "uploader").await;
        for (id, weight) in weights {
            let (share, due) = (found[&format!("a/{id}")], f64::from(weight) / 16.0);
            assert!((share / due - 1.0).abs() < 0.1, "{id} serves {share} of the keys, and is due {due}");
        }
        let weighed = node.on(0, async |shard| {
            let services = shard.registry().get_services("uploader");
            services.iter().map(croupier::Service::weight).collect::<Vec<_>>()
        });
        assert_eq!(weighed.await, [1, 2, 5, 8]);

        // The one with half of the weight is disabled: the others keep their keys and share its own.
        let before = owners(node, 0, "uploader", KEYS).await;
        offers[3].with(async |me| me.disable().await).await.unwrap();
        until_counted(node, "uploader", 4, 3).await;
        let after = owners(node, 0, "uploader", KEYS).await;
        let kept = before.iter().zip(&after).filter(|(before, _)| *before != "a/4");
        assert!(kept.clone().all(|(before, after)| before == after));
        let found = shares(node, "uploader").await;
        for (id, weight) in &weights[..3] {
            let (share, due) = (found[&format!("a/{id}")], f64::from(*weight) / 8.0);
            assert!((share / due - 1.0).abs() < 0.1, "{id} serves {share} of the keys, and is due {due}");
        }
        offers[3].with(async |me| me.enable().await).await.unwrap();
        until_counted(node, "uploader", 4, 4).await;
        assert_eq!(owners(node, 0, "uploader", KEYS).await, before);
    });
}

#[test]
fn d11_metadata_arrives_and_is_updated() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let spec = ServiceSpec::new("uploader").meta("zone", "eu-1").meta("load", "0").meta("load", "1");
        let offer = Offer::answering(rig.node(0), 0, spec).await;
        let pairs = |registry: &croupier::Registry| {
            let service = registry.find_service("uploader", "x")?;
            Some(service.metadata().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())
        };
        let arrived = until_seen(rig.node(1), 0, "the service", pairs).await;
        assert_eq!(arrived, ["load=1", "zone=eu-1"]);
        for value in ["2", "", "a long value ".repeat(100).as_str()] {
            let value = value.to_owned();
            let sent = value.clone();
            offer.with(async move |me| me.update_meta("load", sent).await).await.unwrap();
            let expected = vec![format!("load={value}"), "zone=eu-1".to_owned()];
            until_seen(rig.node(1), 0, "the update", move |registry| {
                (pairs(registry)? == expected).then_some(())
            })
            .await;
        }
        offer.with(async |me| me.update_meta("rack", "7").await).await.unwrap();
        wait_for("the handle's view", || {
            let service = rig.node(1).handle().find_service("uploader", "x")?;
            (service.meta("rack") == Some("7")).then_some(())
        });
        // What would be too long changes nothing.
        let error = offer.with(async |me| me.update_meta("rack", "x".repeat(4096)).await).await.unwrap_err();
        assert!(matches!(error, croupier::RegistryError::Invalid(_)), "{error:?}");
        let own = rig.node(0).on(0, async move |shard| pairs(&shard.registry()).unwrap()).await;
        assert_eq!(own.len(), 3);
        assert!(own.contains(&"rack=7".to_owned()), "{own:?}");
    });
}
