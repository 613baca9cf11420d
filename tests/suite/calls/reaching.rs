//! The usual case: a call goes to the instance that its key leads to, and its answer comes back.

use std::{collections::BTreeSet, time::Duration};

use croupier::{CallError, OwnedMessage, ServiceSpec, Shard, testing::LocalCluster};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    dispatch::offer::Offer,
    registry_rig::{RegistryRig, until_counted},
    rig::{Rig, guarded, text},
    support::permit,
};

/// Three instances on each of two nodes, which answer with their node and id.
async fn six(rig: &RegistryRig) -> Vec<Offer> {
    let mut offers = Vec::new();
    for (node, name) in [(0, "a"), (1, "b")] {
        for id in 0..3 {
            let spec = ServiceSpec::new("rpc").id(format!("{name}{id}"));
            offers.push(Offer::answering(rig.node(node), 0, spec).await);
        }
    }
    for node in [rig.node(0), rig.node(1)] {
        until_counted(node, "rpc", 6, 6).await;
    }
    offers
}

#[test]
fn a_call_reaches_the_instance_that_its_key_leads_to() {
    let rig = RegistryRig::start(3, &[1, 2]);
    guarded(async {
        let _offers = six(&rig).await;
        for (node, shard) in [(0, 0), (1, 0), (1, 1)] {
            let reached = rig.node(node).on(shard, async |shard: Shard| {
                let registry = shard.registry();
                let services = registry.service_type("rpc");
                let mut reached = BTreeSet::new();
                for key in (0..200).map(|key| format!("key {key}")) {
                    let owner = text(registry.find_service("rpc", &key).unwrap().id());
                    let answer = registry.call("rpc", &key, format!("do {key}")).await.unwrap();
                    assert_eq!(text(answer.payload()), format!("{owner}:do {key}"));
                    // By the type that was resolved once, and by an async block that owns the call.
                    let answer = services.call(&key, "again").await.unwrap();
                    assert_eq!(text(answer.payload()), format!("{owner}:again"));
                    reached.insert(owner);
                }
                reached.len()
            });
            assert_eq!(reached.await, 6);
        }
    });
}

#[test]
fn any_payload_arrives_and_comes_back() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let echo = |request: croupier::Message| {
            let payload = request.payload().to_vec();
            request.respond(payload).unwrap();
        };
        let _offer = Offer::start(rig.node(0), 0, ServiceSpec::new("echo"), echo).await;
        until_counted(rig.node(1), "echo", 1, 1).await;
        rig.node(1)
            .on(0, async |shard: Shard| {
                for size in [0, 1, 17, 4096, 65_537, 1 << 20] {
                    let payload: Vec<u8> = (0..size).map(|at| (at * 7) as u8).collect();
                    let answer = shard.registry().call("echo", "k", &payload).await.unwrap();
                    assert!(answer.payload() == payload, "{size} bytes");
                }
                // More than may be sent is refused before anything is.
                let error = shard.registry().call("echo", "k", vec![0; (1 << 20) + 1]).await.unwrap_err();
                let is_refused =
                    matches!(error, CallError::Publish(croupier::PublishError::PayloadTooLarge { .. }));
                assert!(is_refused, "{error:?}");
                assert!(!error.is_retryable());
            })
            .await;
    });
}

#[test]
fn any_thread_may_call_and_cast_through_the_handle() {
    let rig = RegistryRig::start(2, &[2, 1]);
    guarded(async {
        let _offers = six(&rig).await;
        let (taken, mut all_taken) = unbounded_channel();
        let sink = move |message: croupier::Message| taken.send(OwnedMessage::from(message)).unwrap();
        let _sink = Offer::start(rig.node(1), 0, ServiceSpec::new("sink"), sink).await;
        until_counted(rig.node(0), "sink", 1, 1).await;
        let handle = rig.node(0).handle().clone();
        let callers: Vec<_> = (0..64)
            .map(|number| {
                let handle = handle.clone();
                tokio::spawn(async move {
                    let owner = loop {
                        // The handle's own view may be a moment behind the shards'.
                        match handle.find_service("rpc", number.to_string()) {
                            Some(owner) => break text(owner.id()),
                            None => tokio::task::yield_now().await,
                        }
                    };
                    let answer = handle.call("rpc", number.to_string(), format!("do {number}")).await;
                    assert_eq!(text(answer.unwrap().payload()), format!("{owner}:do {number}"));
                    handle.cast("sink", number.to_string(), format!("cast {number}")).unwrap();
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let mut casts = BTreeSet::new();
        while casts.len() < 64 {
            let message = all_taken.recv().await.unwrap();
            assert!(message.reply().is_none(), "nobody waits for an answer to a cast");
            assert!(casts.insert(text(message.payload())), "once each");
        }
        // From a thread without any runtime.
        let answer = std::thread::spawn(move || {
            futures_lite::future::block_on(handle.call("rpc", "x", "plain thread").into_future())
        });
        assert!(text(answer.join().unwrap().unwrap().payload()).ends_with("plain thread"));
        let handle = rig.node(0).handle();
        let error = handle.call("nobody", "x", "").idempotent().await.unwrap_err();
        assert!(matches!(&error, CallError::NoService { kind } if kind == "nobody"), "{error:?}");
        let error = handle.cast("nobody", "x", "").unwrap_err();
        assert!(matches!(&error, CallError::NoService { kind } if kind == "nobody"), "{error:?}");
    });
}

#[test]
fn sixty_four_calls_at_a_time_each_get_their_own_answer() {
    let rig = RegistryRig::start(2, &[1, 1]);
    guarded(async {
        let _offers = six(&rig).await;
        let node = rig.node(0);
        let calls: Vec<_> = (0..64)
            .map(|number| {
                tokio::spawn(node.handle().submit_to(0, async move |shard: Shard| {
                    for round in 0..20 {
                        let payload = format!("{number} in round {round}");
                        let answer = shard.registry().call("rpc", &payload, &payload).await.unwrap();
                        let answer = text(answer.payload());
                        assert_eq!(answer.split_once(':').unwrap().1, payload);
                    }
                }))
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_type_without_instances_is_an_error_of_its_own() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let check = async |node: &Rig| {
            node.on(0, async |shard: Shard| {
                let registry = shard.registry();
                let services = registry.service_type("rpc");
                for error in [
                    registry.call("rpc", "x", "").await.unwrap_err(),
                    registry.call("rpc", "x", "").idempotent().await.unwrap_err(),
                    services.call("x", "").await.unwrap_err(),
                    services.cast("x", "").unwrap_err(),
                    registry.cast("rpc", "x", "").unwrap_err(),
                    registry.multi_cast(3, "rpc", "x", "").unwrap_err(),
                ] {
                    assert!(matches!(&error, CallError::NoService { kind } if kind == "rpc"), "{error:?}");
                    assert!(error.is_retryable());
                }
                assert!(registry.multi_call(3, "rpc", "x", "").await.is_empty());
            })
            .await;
        };
        for node in [a, b] {
            check(node).await;
        }
        let offer = Offer::answering(a, 0, ServiceSpec::new("rpc")).await;
        until_counted(b, "rpc", 1, 1).await;
        offer.with(async |me| me.disable().await).await.unwrap();
        until_counted(b, "rpc", 1, 0).await;
        for node in [a, b] {
            check(node).await;
        }
    });
}

#[test]
fn an_instance_that_never_answers_is_waited_for_as_long_as_the_caller_says() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let _offer = Offer::start(rig.node(0), 0, ServiceSpec::new("rpc").id("never"), drop).await;
        let _other = Offer::answering(rig.node(0), 0, ServiceSpec::new("rpc").id("other")).await;
        until_counted(rig.node(1), "rpc", 2, 2).await;
        rig.node(1)
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                let leads = |key: &String| registry.find_service("rpc", key).unwrap().id() == b"never";
                let key = (0..).map(|key| format!("key {key}")).find(leads).unwrap();
                let limit = Duration::from_millis(150);
                // Idempotent or not: it had its time.
                for call in [registry.call("rpc", &key, "x"), registry.call("rpc", &key, "x").idempotent()] {
                    let error = call.timeout(limit).await.unwrap_err();
                    let is_timeout =
                        matches!(error, CallError::Timeout { waited, sent: true } if waited == limit);
                    assert!(is_timeout, "{error:?}");
                    assert!(!error.is_retryable());
                }
                // A caller that goes away before leaves nothing behind that would trouble the next one.
                let gone =
                    shard.timeout(Duration::from_millis(20), async { registry.call("rpc", &key, "x").await });
                assert!(gone.await.is_err());
                let error = registry.call("rpc", &key, "x").timeout(Duration::ZERO).await.unwrap_err();
                assert!(
                    matches!(error, CallError::Timeout { .. } | CallError::Disconnected { .. }),
                    "{error:?}"
                );
            })
            .await;
    });
}

#[test]
fn without_a_registry_section_the_registry_is_the_node_alone() {
    let permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let node = Rig::beside(servers.builder(), 2);
    guarded(async {
        let _offer = Offer::answering(&node, 0, ServiceSpec::new("rpc")).await;
        until_counted(&node, "rpc", 1, 1).await;
        for shard in [0, 1] {
            let answer = node.on(shard, async |shard: Shard| {
                let registry = shard.registry();
                assert!(!registry.is_syncing());
                text(registry.call("rpc", "x", "alone").await.unwrap().payload())
            });
            assert_eq!(answer.await, "0.0:alone");
        }
        assert!(node.handle().registry_addr().is_none());
    });
    drop(node);
    drop(permit);
}
