//! The next instance is asked when the first certainly did not get the call, and only then.

use std::{cell::RefCell, rc::Rc, time::Duration};

use croupier::{CallError, Registry, ServiceHandle, ServiceSpec, Shard, testing::LocalCluster};

use crate::{
    dispatch::offer::Offer,
    registry_rig::{RegistryRig, until_counted},
    rig::{Rig, configured, guarded, text},
    support::wait_on,
};

/// Longer than the routes of a new inbox are waited for: nobody there means that nobody is there.
const SETTLED: Duration = Duration::from_millis(150);

/// A key that leads to the instance with this id.
pub(super) fn key_of(registry: &Registry, kind: &str, id: &str) -> String {
    let leads = |key: &String| registry.find_service(kind, key).expect("an instance").id() == id.as_bytes();
    (0..100_000).map(|key| format!("key {key}")).find(leads).expect("each instance serves some keys")
}

/// Adds an instance that answers with its id; what it answered comes into the list.
async fn serve(shard: &Shard, id: &'static str, served: &Rc<RefCell<Vec<String>>>) {
    let mut me = shard.registry().add_service(ServiceSpec::new("rpc").id(id)).await.unwrap();
    let served = Rc::clone(served);
    shard.spawn(async move {
        while let Some(request) = me.next_request().await {
            served.borrow_mut().push(format!("{id}:{}", text(request.payload())));
            request.respond(id).unwrap();
        }
    });
}

async fn idle(shard: &Shard, id: &str) -> ServiceHandle {
    shard.registry().add_service(ServiceSpec::new("rpc").id(id)).await.unwrap()
}

#[test]
fn the_next_instance_is_asked_when_the_first_was_removed_just_now() {
    let rig = RegistryRig::start(1, &[1]);
    guarded(rig.node(0).on(0, async |shard: Shard| {
        let registry = shard.registry();
        let served = Rc::default();
        let first = idle(&shard, "first").await;
        serve(&shard, "second", &served).await;
        shard.sleep(SETTLED).await;
        let key = key_of(&registry, "rpc", "first");
        drop(first);
        // The registry's task has had no turn: the call still sees the first one.
        assert_eq!(registry.find_service("rpc", &key).unwrap().id(), b"first");
        let answer = registry.call("rpc", &key, "x").await.unwrap();
        assert_eq!(answer.payload(), b"second");
        assert_eq!(*served.borrow(), ["second:x"]);
    }));
}

#[test]
fn a_call_whose_only_instance_was_removed_just_now_has_no_responders() {
    let rig = RegistryRig::start(1, &[1]);
    guarded(rig.node(0).on(0, async |shard: Shard| {
        let registry = shard.registry();
        for (rest, is_settled) in [(SETTLED, true), (Duration::ZERO, false)] {
            let (one, other) = (idle(&shard, "one").await, idle(&shard, "other").await);
            shard.sleep(rest).await;
            drop((one, other));
            assert_eq!(registry.get_services("rpc").len(), 2);
            let error = registry.call("rpc", "x", "").await.unwrap_err();
            // The other may be out of sight by then.
            assert!(matches!(error, CallError::NoResponders { tried: 1 | 2 }), "{error:?} {is_settled}");
            assert!(error.is_retryable());
            let error = registry.call("rpc", "x", "").await.unwrap_err();
            assert!(matches!(error, CallError::NoService { .. }), "{error:?}");
        }
    }));
}

#[test]
fn requests_that_wait_in_a_handle_go_to_the_next_instance_when_it_is_dropped() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (worker, caller) = (rig.node(0), rig.node(1));
        let (drop_now, dropped) = tokio::sync::oneshot::channel::<()>();
        let (taken, is_taken) = tokio::sync::oneshot::channel();
        worker
            .on(0, async move |shard: Shard| {
                let first = idle(&shard, "first").await;
                let inbox = first.inbox().clone();
                let task = shard.clone();
                shard.spawn(async move {
                    // Takes no request: they wait, each unanswered.
                    let mut first = first;
                    let request = first.next_request().await.unwrap();
                    taken.send(()).unwrap();
                    let _told = dropped.await;
                    drop((first, inbox, task));
                    // What was taken before is answered by who took it.
                    request.respond("first").unwrap();
                });
            })
            .await;
        let _second = Offer::answering(caller, 0, ServiceSpec::new("rpc").id("second")).await;
        until_counted(caller, "rpc", 2, 2).await;
        tokio::time::sleep(SETTLED).await;
        let key = caller.on(0, async |shard: Shard| key_of(&shard.registry(), "rpc", "first")).await;
        let calls: Vec<_> = (0..10)
            .map(|number| {
                let key = key.clone();
                tokio::spawn(caller.handle().submit_to(0, async move |shard: Shard| {
                    let call = shard.registry().call("rpc", &key, number.to_string());
                    call.timeout(Duration::from_secs(20)).await.map(|answer| text(answer.payload()))
                }))
            })
            .collect();
        is_taken.await.unwrap();
        let inbox_fills = caller.handle().stats()[0].links[0].written;
        // All ten are at the worker once a request after them has been answered there.
        let _flushed = caller.on(0, async |shard: Shard| shard.flush().await.unwrap()).await;
        let _flushed = worker.on(0, async |shard: Shard| shard.flush().await.unwrap()).await;
        assert!(inbox_fills <= 11);
        drop_now.send(()).unwrap();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap().unwrap().unwrap());
        }
        let by_first = answers.iter().filter(|answer| *answer == "first").count();
        assert_eq!(by_first, 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer == "first" || answer.starts_with("second:")));
    });
}

#[test]
fn a_request_beyond_the_limit_of_the_queue_is_refused_and_goes_to_the_next_instance() {
    let rig = RegistryRig::configured(1, &[1, 1], |index, builder| {
        configured(builder, |config| {
            if index == 0 {
                config.limits.subscriber_queue.messages = 3;
            }
        })
    });
    guarded(async {
        let (worker, caller) = (rig.node(0), rig.node(1));
        let (look, looks) = tokio::sync::oneshot::channel::<()>();
        let (counted, refused) = tokio::sync::oneshot::channel();
        worker
            .on(0, async move |shard: Shard| {
                let mut first = idle(&shard, "first").await;
                shard.spawn(async move {
                    let _told = looks.await;
                    let refused = first.refused();
                    for _ in 0..3 {
                        first.next_request().await.unwrap().respond("first").unwrap();
                    }
                    counted.send(refused).unwrap();
                    // Kept, so that nothing is refused for its end.
                    std::future::pending::<()>().await;
                });
            })
            .await;
        let _second = Offer::answering(caller, 0, ServiceSpec::new("rpc").id("second")).await;
        until_counted(caller, "rpc", 2, 2).await;
        tokio::time::sleep(SETTLED).await;
        let key = caller.on(0, async |shard: Shard| key_of(&shard.registry(), "rpc", "first")).await;
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let key = key.clone();
                tokio::spawn(caller.handle().submit_to(0, async move |shard: Shard| {
                    let call = shard.registry().call("rpc", &key, number.to_string());
                    call.timeout(Duration::from_secs(20)).await.map(|answer| text(answer.payload()))
                }))
            })
            .collect();
        // Five are answered by the second, while the first answers none; then the first answers the rest.
        let answered = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let collected: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let answered = std::sync::Arc::clone(&answered);
                tokio::spawn(async move {
                    let answer = call.await.unwrap().unwrap().unwrap();
                    answered.lock().unwrap().push(answer);
                })
            })
            .collect();
        while answered.lock().unwrap().len() < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(answered.lock().unwrap().iter().all(|answer| answer.starts_with("second:")));
        look.send(()).unwrap();
        assert_eq!(refused.await.unwrap(), 5);
        for call in collected {
            call.await.unwrap();
        }
        assert_eq!(answered.lock().unwrap().iter().filter(|answer| *answer == "first").count(), 3);
    });
}

#[test]
fn a_call_over_an_inbox_whose_cluster_is_down_goes_through_another() {
    let mut rig = RegistryRig::start(2, &[1, 1]);
    guarded(async {
        let mut offers = Vec::new();
        for id in 0..6 {
            let spec = ServiceSpec::new("rpc").id(id.to_string());
            offers.push(Offer::answering(rig.node(0), 0, spec).await);
        }
        until_counted(rig.node(1), "rpc", 6, 6).await;
        let calls_all = async |rig: &RegistryRig| {
            let call = async |shard: Shard| {
                let registry = shard.registry();
                let mut over_first = 0;
                for id in (0..6).map(|id| id.to_string()) {
                    let key = key_of(&registry, "rpc", &id);
                    let inbox = registry.find_service("rpc", &key).unwrap().inbox().clone();
                    over_first += usize::from(shard.cluster_of(inbox) == *"c1");
                    let answer = registry.call("rpc", &key, "x").await.unwrap();
                    assert_eq!(text(answer.payload()), format!("{id}:x"));
                    registry.cast("rpc", &key, "y").unwrap();
                }
                over_first
            };
            rig.node(1).on(0, call).await
        };
        let over_first = calls_all(&rig).await;
        // Both clusters carry some, unless all six inboxes happen to hash to one: then either half of the
        // test says less, but nothing wrong.
        println!("{over_first} of 6 inboxes are on c1");
        for cluster in [0, 1] {
            rig.servers.kill(cluster, 0).unwrap();
            let name = ["c1", "c2"][cluster];
            for node in [0, 1] {
                rig.node(node).until_connected(0, name, false).await;
            }
            calls_all(&rig).await;
            rig.servers.restart(cluster, 0).unwrap();
            for node in [0, 1] {
                rig.node(node).until_connected(0, name, true).await;
                // Its subscriptions are confirmed again.
                rig.node(node).on(0, async |shard: Shard| shard.flush().await.unwrap()).await;
            }
        }
        calls_all(&rig).await;
    });
}

#[test]
fn a_call_is_disconnected_when_every_cluster_is_down() {
    let mut rig = RegistryRig::start(2, &[1, 1]);
    guarded(async {
        let _offer = Offer::answering(rig.node(0), 0, ServiceSpec::new("rpc")).await;
        until_counted(rig.node(1), "rpc", 1, 1).await;
        rig.node(1).handle().call("rpc", "x", "").await.unwrap();
        for (cluster, name) in [(0, "c1"), (1, "c2")] {
            rig.servers.kill(cluster, 0).unwrap();
            rig.node(1).until_connected(0, name, false).await;
        }
        rig.node(1)
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                assert!(registry.find_service("rpc", "x").is_some(), "the registry needs no cluster");
                for error in [
                    registry.call("rpc", "x", "").await.unwrap_err(),
                    registry.call("rpc", "x", "").idempotent().await.unwrap_err(),
                    registry.cast("rpc", "x", "").unwrap_err(),
                    registry.multi_cast(2, "rpc", "x", "").unwrap_err(),
                ] {
                    assert!(matches!(error, CallError::Disconnected { .. }), "{error:?}");
                    assert!(error.is_retryable());
                }
                let mut outcomes = registry.multi_call(2, "rpc", "x", "").await;
                assert_eq!(outcomes.len(), 1);
                let (_, outcome) = outcomes.remove(0);
                assert!(matches!(outcome, Err(CallError::Disconnected { .. })));
            })
            .await;
        rig.servers.restart(1, 0).unwrap();
        for node in [0, 1] {
            rig.node(node).until_connected(0, "c2", true).await;
            rig.node(node)
                .on(0, async |shard: Shard| {
                    wait_on(&shard, "the link", || shard.stats().link("c2").unwrap().connected.then_some(()))
                        .await;
                })
                .await;
        }
        let answer = retried(rig.node(1)).await;
        assert_eq!(answer, "0.0:x");
    });
}

/// Calls again while nobody is reached: the worker's own link may come back a moment later.
async fn retried(node: &Rig) -> String {
    loop {
        match node.handle().call("rpc", "x", "x").await {
            Ok(answer) => return text(answer.payload()),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_service_that_has_just_appeared_is_reached_over_a_cluster_of_three_servers() {
    // The caller's server learns of a new inbox's route a moment after the registry has told of it.
    let permit = crate::support::permit(2);
    let servers = LocalCluster::with_nodes(1, 3).unwrap();
    let registry = || {
        croupier::RegistryConfig::new(crate::registry_rig::REGISTRY)
            .bind("127.0.0.1:0")
            .secret(crate::registry_rig::SECRET)
    };
    let on = |server: usize, name: &str| {
        let one = [servers.servers(0)[server].clone()];
        configured(croupier::Node::builder().name(name).cluster("c1", one), |config| {
            config.shards.pin = false;
        })
    };
    guarded(async {
        for _ in 0..5 {
            let worker = Rig::beside(on(0, "worker").registry(registry()), 1);
            let seed = worker.handle().registry_addr().unwrap();
            let caller = Rig::beside(on(2, "caller").registry(registry().seed(seed)), 1);
            for node in [&worker, &caller] {
                node.on(0, async |shard: Shard| shard.flush().await.unwrap()).await;
            }
            while !crate::registry_rig::sees(caller.handle(), 2) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The caller waits on its shard for the service's first sight, and calls at once.
            let calling = tokio::spawn(caller.handle().submit_to(0, async |shard: Shard| {
                let mut watch = shard.registry().watch("rpc");
                loop {
                    let event = watch.next().await.unwrap();
                    if matches!(event, croupier::ServiceEvent::Joined(_) | croupier::ServiceEvent::Present(_))
                    {
                        break;
                    }
                }
                shard.registry().call("rpc", "x", "x").await.map(|answer| text(answer.payload()))
            }));
            let _offer = Offer::answering(&worker, 0, ServiceSpec::new("rpc")).await;
            assert_eq!(calling.await.unwrap().unwrap().unwrap(), "0.0:x");
        }
    });
    drop(servers);
    drop(permit);
}
