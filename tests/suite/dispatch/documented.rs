//! Dispatch's documented functions, one by one, on two nodes.

use std::collections::{BTreeMap, BTreeSet};

use croupier::{CallError, OwnedMessage, RegistryError, Service, ServiceEvent, ServiceRef, ServiceSpec};
use tokio::sync::mpsc::unbounded_channel;

use super::{offer::Offer, worker_process::WorkerProcess};
use crate::{
    registry_rig::{RegistryRig, until_counted, until_seen},
    rig::{Rig, guarded, text},
    support::wait_for,
};

/// Keys that a test looks up.
const KEYS: usize = 1000;

/// The node and id of an instance.
pub(super) fn name_of(service: &Service) -> String {
    format!("{}/{}", service.node(), text(service.id()))
}

/// The instance that each of the keys leads to, as a shard sees it.
pub(super) async fn owners(node: &Rig, shard: usize, kind: &'static str, keys: usize) -> Vec<String> {
    node.on(shard, async move |shard| {
        let services = shard.registry().service_type(kind);
        let owner = |key: usize| name_of(&services.find(format!("key {key}")).expect("an instance"));
        (0..keys).map(owner).collect()
    })
    .await
}

/// Adds instances with these ids on a shard, one after the other.
pub(super) async fn add(node: &Rig, shard: usize, kind: &str, ids: &[&str]) -> Vec<Offer> {
    let mut offers = Vec::new();
    for id in ids {
        offers.push(Offer::answering(node, shard, ServiceSpec::new(kind).id(id)).await);
    }
    offers
}

/// A command of a shard for an instance of any node.
pub(super) async fn command(
    node: &Rig,
    service: &ServiceRef,
    command: &'static str,
) -> Result<(), RegistryError> {
    let service = service.clone();
    node.on(0, async move |shard| match command {
        "enable" => shard.registry().enable_service(&service).await,
        "disable" => shard.registry().disable_service(&service).await,
        "remove" => shard.registry().remove_service(&service).await,
        _ => unreachable!("no such command"),
    })
    .await
}

#[test]
fn a_service_that_was_added_is_online_and_found_on_both_nodes() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let spec = ServiceSpec::new("downloader").id("one").meta("zone", "eu-1");
        let offer = Offer::answering(a, 0, spec).await;
        assert_eq!(offer.service().to_string(), "downloader one of node a");
        // Its own shard sees it once the call has returned, without any waiting.
        let seen = a
            .on(0, async |shard| {
                let registry = shard.registry();
                let listed: Vec<String> = registry.get_services("downloader").iter().map(name_of).collect();
                (listed, registry.find_service("downloader", "file.png").is_some())
            })
            .await;
        assert_eq!(seen, (vec!["a/one".to_owned()], true));

        until_counted(b, "downloader", 1, 1).await;
        b.on(0, async |shard| {
            let registry = shard.registry();
            let found = registry.find_service("downloader", "file.png").unwrap();
            assert_eq!((found.node(), found.id(), found.kind()), ("a", &b"one"[..], &b"downloader"[..]));
            assert_eq!(found.meta("zone"), Some("eu-1"));
            assert!(found.is_online() && !found.is_suspect());
            assert_eq!(registry.get_online_services("downloader").len(), 1);
            assert!(registry.find_service("uploader", "file.png").is_none(), "of another type");
            assert!(registry.get_services("uploader").is_empty());
        })
        .await;
        wait_for("the handle's view", || b.handle().find_service("downloader", "x"));
        assert_eq!(b.handle().get_services("downloader").len(), 1);
        assert_eq!(b.handle().get_online_services("downloader").len(), 1);
    });
}

#[test]
fn a_service_that_is_there_already_is_an_error_and_stays_as_it_is() {
    let rig = RegistryRig::start(1, &[2, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let spec = || ServiceSpec::new("downloader").id("one");
        let offer = Offer::answering(a, 0, spec().meta("zone", "eu-1")).await;
        // Nor may another shard of the node.
        for shard in [0, 1] {
            let error = a
                .on(shard, async move |shard| {
                    shard.registry().add_service(spec().meta("zone", "us-2")).await.map(drop).unwrap_err()
                })
                .await;
            assert!(
                matches!(&error, RegistryError::AlreadyRegistered { service } if service == offer.service()),
                "{error:?}"
            );
            assert!(!error.is_retryable());
        }
        until_counted(b, "downloader", 1, 1).await;
        let answer = b.handle().call("downloader", "x", "still there").await.unwrap();
        assert_eq!(text(answer.payload()), "one:still there");
        let zone = b
            .on(0, async |shard| {
                shard.registry().find_service("downloader", "x").unwrap().meta("zone").map(str::to_owned)
            })
            .await;
        assert_eq!(zone.as_deref(), Some("eu-1"));
        // The same id on another node is another instance.
        let _other = Offer::answering(b, 0, spec()).await;
        until_counted(a, "downloader", 2, 2).await;
    });
}

#[test]
fn a_second_add_of_an_id_does_not_part_the_first_from_its_requests_or_its_end() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let (service, ended) = a
            .on(0, async |shard| {
                let mut me = shard.registry().add_service(ServiceSpec::new("printer").id("p")).await.unwrap();
                let service = me.service_ref();
                let refused = shard.registry().add_service(ServiceSpec::new("printer").id("p")).await;
                assert!(matches!(refused, Err(RegistryError::AlreadyRegistered { .. })));
                let (end, ended) = tokio::sync::oneshot::channel();
                shard.spawn(async move {
                    let mut requests = 0;
                    while let Some(request) = me.next_request().await {
                        requests += 1;
                        request.respond("printed").unwrap();
                    }
                    let _heard = end.send(requests);
                });
                (service, ended)
            })
            .await;
        until_counted(b, "printer", 1, 1).await;
        b.handle().call("printer", "x", "page").await.unwrap();
        command(b, &service, "remove").await.unwrap();
        assert_eq!(ended.await, Ok(1), "its holder is told that it was removed");
    });
}

#[test]
fn a_service_is_removed_by_its_holder_and_by_any_other_node() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let mut offers = add(a, 0, "downloader", &["one", "two", "three"]).await;
        until_counted(b, "downloader", 3, 3).await;

        let one = offers.remove(0);
        let service = one.service().clone();
        one.remove().await.unwrap();
        let left = a.on(0, async |shard| shard.registry().get_services("downloader").len()).await;
        assert_eq!(left, 2, "its own shard sees it at once");
        until_counted(b, "downloader", 2, 2).await;
        for node in [a, b] {
            let error = command(node, &service, "remove").await.unwrap_err();
            assert!(
                matches!(&error, RegistryError::NotFound { service: named } if *named == service),
                "{error:?}"
            );
        }

        let two = offers.remove(0);
        command(b, two.service(), "remove").await.unwrap();
        let left = b.on(0, async |shard| shard.registry().get_services("downloader").len()).await;
        assert_eq!(left, 1, "the shard that asked for it sees it at once");
        until_counted(a, "downloader", 1, 1).await;
        let last = two.with(async |me| me.next_request().await.is_none()).await;
        assert!(last, "its holder is told that there will be no more requests");
        let error = two.with(async |me| me.disable().await).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    });
}

#[test]
fn a_holder_that_ends_takes_its_service_with_it() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let offers = add(a, 0, "downloader", &["one", "two"]).await;
        until_counted(b, "downloader", 2, 2).await;
        drop(offers);
        for node in [a, b] {
            until_counted(node, "downloader", 0, 0).await;
            let found = node.on(0, async |shard| shard.registry().find_service("downloader", "x")).await;
            assert!(found.is_none());
        }
    });
}

#[test]
fn a_disabled_service_is_listed_and_never_chosen_until_it_is_enabled() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let offers = add(a, 0, "downloader", &["one", "two", "three"]).await;
        until_counted(b, "downloader", 3, 3).await;
        let one = &offers[0];

        // From its own node, by the handle and by name, and from the other node.
        for way in ["handle", "own node", "other node"] {
            for (verb, online) in [("disable", 2), ("disable", 2), ("enable", 3), ("enable", 3)] {
                let done = match (way, verb) {
                    ("handle", "disable") => one.with(async |me| me.disable().await).await,
                    ("handle", _) => one.with(async |me| me.enable().await).await,
                    ("own node", _) => command(a, one.service(), verb).await,
                    _ => command(b, one.service(), verb).await,
                };
                done.unwrap();
                // Who asked for it sees it at once.
                let asked = if way == "other node" { b } else { a };
                let services = asked
                    .on(0, async |shard| {
                        let registry = shard.registry();
                        let all = registry.get_services("downloader");
                        (all.len(), registry.get_online_services("downloader").len())
                    })
                    .await;
                assert_eq!(services, (3, online), "{verb} by {way}");
                for node in [a, b] {
                    until_counted(node, "downloader", 3, online).await;
                    let chosen: BTreeSet<_> = owners(node, 0, "downloader", KEYS).await.into_iter().collect();
                    assert_eq!(chosen.len(), online);
                    assert_eq!(chosen.contains("a/one"), online == 3);
                }
            }
        }

        let nobody = offers[1].service().clone();
        let mut offers = offers;
        offers.remove(1).remove().await.unwrap();
        until_counted(b, "downloader", 2, 2).await;
        for node in [a, b] {
            for verb in ["enable", "disable"] {
                let error = command(node, &nobody, verb).await.unwrap_err();
                assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
            }
        }
    });
}

#[test]
fn a_service_may_begin_offline() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let offer = Offer::answering(a, 0, ServiceSpec::new("downloader").offline()).await;
        until_counted(b, "downloader", 1, 0).await;
        let error = b.handle().call("downloader", "x", "").await.unwrap_err();
        assert!(matches!(error, CallError::NoService { .. }), "{error:?}");
        command(b, offer.service(), "enable").await.unwrap();
        b.handle().call("downloader", "x", "").await.unwrap();
    });
}

#[test]
fn a_key_leads_to_the_same_instance_until_the_set_changes() {
    let rig = RegistryRig::start(1, &[1, 2]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let mut offers = add(a, 0, "uploader", &["1", "2", "3", "4", "5"]).await;
        offers.extend(add(b, 1, "uploader", &["1", "2", "3", "4", "5"]).await);
        for node in [a, b] {
            until_counted(node, "uploader", 10, 10).await;
        }
        let before = owners(a, 0, "uploader", KEYS).await;
        for (node, shard) in [(a, 0), (b, 0), (b, 1)] {
            assert_eq!(owners(node, shard, "uploader", KEYS).await, before);
        }
        // Another type's instances do not count, nor does metadata.
        let _other = add(a, 0, "downloader", &["6"]).await;
        offers[0].with(async |me| me.update_meta("load", "high").await).await.unwrap();
        until_counted(b, "downloader", 1, 1).await;
        assert_eq!(owners(b, 1, "uploader", KEYS).await, before);

        offers.extend(add(a, 0, "uploader", &["6"]).await);
        until_counted(b, "uploader", 11, 11).await;
        let after = owners(b, 1, "uploader", KEYS).await;
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(!moved.is_empty() && moved.iter().all(|(_, after)| *after == "a/6"), "{moved:?}");
    });
}

#[test]
fn a_multi_find_gives_distinct_instances_with_the_owner_first() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let mut offers = add(a, 0, "uploader", &["1", "2", "3"]).await;
        offers.extend(add(b, 0, "uploader", &["1", "2"]).await);
        for node in [a, b] {
            until_counted(node, "uploader", 5, 5).await;
            node.on(0, async |shard| {
                let registry = shard.registry();
                for key in (0..KEYS).map(|key| format!("key {key}")) {
                    // More than there are: all of them, none twice.
                    for count in [0, 1, 2, 4, 5, 9] {
                        let services = registry.find_multi_service(count, "uploader", &key);
                        assert_eq!(services.len(), count.min(5));
                        let names: Vec<String> = services.map(|service| name_of(&service)).collect();
                        let distinct: BTreeSet<_> = names.iter().collect();
                        assert_eq!(distinct.len(), count.min(5), "{names:?}");
                        if count > 0 {
                            let owner = registry.find_service("uploader", &key).unwrap();
                            assert_eq!(names[0], name_of(&owner));
                        }
                    }
                }
                assert_eq!(registry.find_multi_service(3, "nobody", "key").count(), 0);
            })
            .await;
        }
    });
}

#[test]
fn a_message_to_a_service_goes_from_either_node_to_one_or_to_several() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let (taken, mut all_taken) = unbounded_channel();
        let mut offers = Vec::new();
        for (node, id) in [(a, "1"), (b, "2"), (b, "3")] {
            let taken = taken.clone();
            let serve = move |request: croupier::Message| {
                if request.reply().is_some() {
                    request.respond(format!("{id} did")).unwrap();
                }
                taken.send((id, OwnedMessage::from(request))).unwrap();
            };
            offers.push(Offer::start(node, 0, ServiceSpec::new("uploader").id(id), serve).await);
        }
        for node in [a, b] {
            until_counted(node, "uploader", 3, 3).await;
            node.on(0, async |shard| {
                let registry = shard.registry();
                let owner = text(registry.find_service("uploader", "file.png").unwrap().id());
                let answer = registry.call("uploader", "file.png", "called").await.unwrap();
                assert_eq!(text(answer.payload()), format!("{owner} did"));
                let answers = registry.multi_call(2, "uploader", "file.png", "multi-called").await;
                assert_eq!(answers.len(), 2);
                for (service, answer) in &answers {
                    let id = text(service.id());
                    assert_eq!(text(answer.as_ref().unwrap().payload()), format!("{id} did"));
                }
                registry.cast("uploader", "file.png", "cast").unwrap();
                assert_eq!(registry.multi_cast(3, "uploader", "file.png", "multi-cast").unwrap(), 3);
                assert_eq!(registry.multi_cast(9, "uploader", "file.png", "multi-cast").unwrap(), 3);
                let error = registry.multi_cast(3, "nobody", "x", "").unwrap_err();
                assert!(matches!(error, CallError::NoService { .. }), "{error:?}");
                let error = registry.cast("nobody", "x", "").unwrap_err();
                assert!(matches!(error, CallError::NoService { .. }), "{error:?}");
            })
            .await;
        }
        // From each node: one call, a multi-call of two, a cast, and two multi-casts of three.
        let mut received = Vec::new();
        while received.len() < 2 * 10 {
            let (id, message) = all_taken.recv().await.unwrap();
            received.push((text(message.payload()), id));
        }
        for (what, count) in [("called", 2), ("multi-called", 4), ("cast", 2), ("multi-cast", 12)] {
            assert_eq!(received.iter().filter(|(payload, _)| payload == what).count(), count, "{what}");
        }
        for id in ["1", "2", "3"] {
            let multi_cast = received.iter().filter(|(payload, at)| payload == "multi-cast" && *at == id);
            assert_eq!(multi_cast.count(), 4);
        }
    });
}

/// What a watch on another node has seen, in words.
pub(super) fn in_words(event: ServiceEvent) -> String {
    match event {
        ServiceEvent::Present(service) => format!("present {}", name_of(&service)),
        ServiceEvent::Synced => "synced".to_owned(),
        ServiceEvent::Joined(service) => format!("joined {}", name_of(&service)),
        ServiceEvent::Updated(service) => {
            let state = if service.is_online() { "online" } else { "offline" };
            format!("updated {} {state} {:?}", name_of(&service), service.meta("load"))
        }
        ServiceEvent::Left(service) => format!("left {}", name_of(&service)),
        other => format!("{other:?}"),
    }
}

/// A watch on a shard; its events come out here, in words.
pub(super) async fn watch(
    node: &Rig,
    shard: usize,
    kind: &'static str,
) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, events) = unbounded_channel();
    node.on(shard, async move |shard| {
        let mut watch = shard.registry().watch(kind);
        shard.spawn(async move {
            let mut states = BTreeMap::new();
            while let Some(event) = watch.next().await {
                let is_as_before = match &event {
                    ServiceEvent::Present(service)
                    | ServiceEvent::Joined(service)
                    | ServiceEvent::Updated(service)
                    | ServiceEvent::Left(service) => {
                        let state = (service.is_online(), service.meta("load").map(str::to_owned));
                        states.insert(name_of(service), state.clone()) == Some(state)
                    }
                    _ => false,
                };
                // On a busy machine a node may be suspected for a moment, which is an update too.
                if is_as_before && matches!(event, ServiceEvent::Updated(_)) {
                    continue;
                }
                if sender.send(in_words(event)).is_err() {
                    break;
                }
            }
        });
    })
    .await;
    events
}

#[test]
fn a_watch_tells_what_is_there_and_then_each_change_in_order() {
    let mut rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let mut offers = add(a, 0, "downloader", &["1", "2"]).await;
        until_counted(b, "downloader", 2, 2).await;
        let mut events = watch(b, 0, "downloader").await;
        let mut own_events = watch(a, 0, "downloader").await;
        let mut all = Vec::new();
        let mut expect = async |expected: &[&str]| {
            for events in [&mut events, &mut own_events] {
                for expected in expected {
                    let event = events.recv().await.unwrap();
                    assert_eq!(event, *expected, "after {all:?}");
                }
            }
            all.extend(expected.iter().map(|&event| event.to_owned()));
        };
        expect(&["present a/1", "present a/2", "synced"]).await;
        offers.extend(add(a, 0, "downloader", &["3"]).await);
        expect(&["joined a/3"]).await;
        let _other_type = add(a, 0, "uploader", &["4"]).await;
        offers[0].with(async |me| me.disable().await).await.unwrap();
        expect(&["updated a/1 offline None"]).await;
        offers[0].with(async |me| me.update_meta("load", "9").await).await.unwrap();
        expect(&["updated a/1 offline Some(\"9\")"]).await;
        command(b, offers[0].service(), "enable").await.unwrap();
        expect(&["updated a/1 online Some(\"9\")"]).await;
        // What changes nothing is no event.
        command(b, offers[0].service(), "enable").await.unwrap();
        offers.remove(2).remove().await.unwrap();
        expect(&["left a/3"]).await;
        drop(offers.remove(1));
        expect(&["left a/2"]).await;
        command(b, offers[0].service(), "remove").await.unwrap();
        expect(&["left a/1"]).await;
        offers.extend(add(b, 0, "downloader", &["1"]).await);
        expect(&["joined b/1"]).await;
        rig.stop(1).await;
        assert_eq!(own_events.recv().await.unwrap(), "left b/1");
        assert_eq!(events.recv().await.unwrap(), "left b/1", "its own watch sees it too");
        assert_eq!(events.recv().await, None, "and ends with the node");
    });
}

#[test]
fn an_instance_that_takes_the_place_of_another_is_another_to_a_watch() {
    let rig = RegistryRig::start(1, &[1]);
    guarded(async {
        let node = rig.node(0);
        let mut events = watch(node, 0, "printer").await;
        node.on(0, async |shard| {
            let registry = shard.registry();
            let one = registry.add_service(ServiceSpec::new("printer").id("1")).await.unwrap();
            // Both changes are taken in one turn.
            drop(one);
            let two = registry.add_service(ServiceSpec::new("printer").id("2")).await.unwrap();
            // The same id again is another life of it.
            drop(two);
            let _two = registry.add_service(ServiceSpec::new("printer").id("2")).await.unwrap();
        })
        .await;
        let mut all = Vec::new();
        while all.len() < 7 {
            all.push(events.recv().await.unwrap());
        }
        let expected =
            ["synced", "joined a/1", "left a/1", "joined a/2", "left a/2", "joined a/2", "left a/2"];
        assert_eq!(all, expected);
    });
}

#[test]
fn a_node_that_is_drained_takes_its_services_with_it() {
    let mut rig = RegistryRig::start(1, &[1, 2]);
    guarded(async {
        let mut offers = add(rig.node(0), 0, "downloader", &["1"]).await;
        offers.extend(add(rig.node(1), 0, "downloader", &["1", "2"]).await);
        offers.extend(add(rig.node(1), 1, "downloader", &["3"]).await);
        until_counted(rig.node(0), "downloader", 4, 4).await;
        rig.stop(1).await;
        until_counted(rig.node(0), "downloader", 1, 1).await;
        let chosen: BTreeSet<_> = owners(rig.node(0), 0, "downloader", KEYS).await.into_iter().collect();
        assert_eq!(chosen, BTreeSet::from(["a/1".to_owned()]));
    });
}

#[test]
fn a_node_that_is_killed_takes_its_services_with_it() {
    let rig = RegistryRig::with_guest(1, &[1, 1]);
    guarded(async {
        let _own = add(rig.node(0), 0, "downloader", &["1"]).await;
        let mut worker = WorkerProcess::start(&rig, "downloader", 3);
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "downloader", 4, 4).await;
        }
        worker.kill();
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "downloader", 1, 1).await;
            until_seen(node, 0, "the owner", |registry| {
                let owner = registry.find_service("downloader", "x").unwrap();
                (owner.node() == "a").then_some(())
            })
            .await;
        }
    });
}
