//! Subscriptions from their beginning to their end, and what a queue group shares.

use std::{collections::BTreeSet, time::Duration};

use croupier::{RequestError, Shard, SubscribeError, testing::LocalCluster};
use futures_lite::{StreamExt, future};

use crate::{
    rig::{Rig, configured, guarded, peer, text},
    support::GUARD,
};

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_millis(300);

/// The server knows of nobody who subscribes to this.
async fn assert_unsubscribed(shard: &Shard, topic: &str) {
    let outcome = shard.request_with_timeout(topic, "anybody?", GUARD).await;
    assert!(matches!(outcome, Err(RequestError::NoResponders { .. })), "{topic}: {outcome:?}");
}

#[test]
fn subscribing_faster_than_the_server_takes_it_is_refused_and_goes_on_afterwards() {
    let servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.limits.publish_buffer = 1 << 20;
        config.connection.subscribe_timeout = GUARD;
    });
    let rig = Rig::start(builder, 1);
    guarded(async {
        rig.on(0, async |shard| {
            let kept = shard.subscribe("kept").await.unwrap();
            let long = format!("long.{}", "x".repeat(1900));
            let mut taken = 0;
            // In one turn nothing is sent; so much comes together only by making subscriptions and leaving them.
            let (queued_bytes, limit_bytes) = loop {
                match shard.subscribe_unconfirmed(&long) {
                    Ok(subscription) => drop(subscription),
                    Err(SubscribeError::Busy { queued_bytes, limit_bytes, .. }) => {
                        break (queued_bytes, limit_bytes);
                    }
                    Err(error) => panic!("{error}"),
                }
                taken += 1;
            };
            assert_eq!(limit_bytes, (1 << 20) + (64 << 20));
            // Over the limit by one SUB and one UNSUB at most.
            assert!((limit_bytes..limit_bytes + 4096).contains(&queued_bytes), "{queued_bytes}");
            assert!(taken > 30_000, "{taken}");
            assert!(shard.subscribe_unconfirmed("other").unwrap_err().is_retryable());
            // Who shares a SUB that is there needs no other one.
            let shared = shard.subscribe_unconfirmed("kept").unwrap();
            shard.flush().await.unwrap();
            let mut other = shard.subscribe("other").await.unwrap();
            shard.publish("other", "x").unwrap();
            assert_eq!(other.next().await.unwrap().payload(), b"x");
            drop((kept, shared));
        })
        .await;
    });
}

#[test]
fn members_of_a_queue_group_share_and_others_get_all() {
    const MESSAGES: usize = 600;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let mut plain = rig.subscribe(0, "work").await;
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        for (shard, members) in [(0, 2), (1, 1)] {
            for member in 0..members {
                let sender = sender.clone();
                rig.on(shard, async move |shard| {
                    let mut subscription = shard.queue_subscribe("work", "crew").await.unwrap();
                    assert_eq!(subscription.topic(), &"work");
                    let name = (shard.id(), member);
                    shard.spawn(async move {
                        while let Some(message) = subscription.next().await {
                            sender.send((name, text(message.payload()))).unwrap();
                        }
                    });
                })
                .await;
            }
        }
        let mut other_crew = {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            rig.on(1, async move |shard| {
                let mut subscription = shard.queue_subscribe("work", "other").await.unwrap();
                shard.spawn(async move {
                    while let Some(message) = subscription.next().await {
                        sender.send(text(message.payload())).unwrap();
                    }
                });
            })
            .await;
            receiver
        };
        rig.on(0, async |shard| {
            for number in 0..MESSAGES {
                shard.publish("work", number.to_string()).unwrap();
            }
        })
        .await;
        let all: BTreeSet<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
        let (mut members, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..MESSAGES {
            let (member, payload) = taken.recv().await.unwrap();
            members.insert(member);
            assert!(seen.insert(payload.clone()), "{payload} came to two members");
        }
        assert_eq!(seen, all);
        assert_eq!(members.len(), 3, "each member has its share");
        assert_eq!(plain.texts(MESSAGES).await.into_iter().collect::<BTreeSet<_>>(), all);
        for number in 0..MESSAGES {
            assert_eq!(other_crew.recv().await.unwrap(), number.to_string());
        }
    });
}

#[test]
fn unsubscribe_after_counts_for_one_subscription_alone() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let mut counted = shard.subscribe("count").await.unwrap();
            let mut beside = shard.subscribe("count").await.unwrap();
            let mut of_crew = shard.queue_subscribe("count", "crew").await.unwrap();
            counted.unsubscribe_after(3);
            of_crew.unsubscribe_after(2);
            for number in 0..5 {
                shard.publish("count", number.to_string()).unwrap();
            }
            shard.flush().await.unwrap();
            let texts = async |subscription: croupier::Subscription| {
                subscription.map(|message| text(message.payload())).collect::<Vec<_>>().await
            };
            assert_eq!(texts(counted).await, ["0", "1", "2"]);
            assert_eq!(texts(of_crew).await, ["0", "1"]);
            // Counted from the beginning: it has had more than that already, and keeps what waits.
            beside.unsubscribe_after(2);
            assert_eq!(texts(beside).await, ["0", "1", "2", "3", "4"]);
            shard.flush().await.unwrap();
            assert_unsubscribed(&shard, "count").await;

            let mut none = shard.subscribe("count").await.unwrap();
            none.unsubscribe_after(0);
            assert!(none.next().await.is_none());
            shard.flush().await.unwrap();
            assert_unsubscribed(&shard, "count").await;
        })
        .await;
    });
}

#[test]
fn unsubscribe_returns_when_the_server_knows() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        for round in 0..50 {
            let topic = format!("leave.{round}");
            let left = topic.clone();
            rig.on(0, async move |shard| {
                let plain = shard.subscribe(&left).await.unwrap();
                let member = shard.queue_subscribe(&left, "crew").await.unwrap();
                let handler = shard.subscribe_with(&left, |_| panic!("nobody publishes")).await.unwrap();
                plain.unsubscribe().await.unwrap();
                member.unsubscribe().await.unwrap();
                handler.unsubscribe().await.unwrap();
            })
            .await;
            let error = peer.request(topic, "".into()).await.unwrap_err();
            assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "round {round}");
        }
    });
}

#[test]
fn drain_gives_what_was_under_way_and_then_the_end() {
    const MESSAGES: usize = 1000;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        rig.on(0, async |shard| {
            let mut subscription = shard.subscribe("drain").await.unwrap();
            let handled = std::rc::Rc::new(std::cell::Cell::new(0));
            let calls = std::rc::Rc::clone(&handled);
            let mut guard = shard.subscribe_with("drain", move |_| calls.set(calls.get() + 1)).await.unwrap();
            // On the wire, but not yet read, when the drain begins.
            for number in 0..MESSAGES {
                shard.publish("drain", number.to_string()).unwrap();
            }
            guard.drain().await.unwrap();
            subscription.drain().await.unwrap();
            assert!(guard.is_ended());
            shard.publish("drain", "too late").unwrap();
            shard.flush().await.unwrap();
            for number in 0..MESSAGES {
                assert_eq!(text(subscription.next().await.unwrap().payload()), number.to_string());
            }
            assert!(subscription.next().await.is_none());
            assert_eq!(handled.get(), MESSAGES);
            assert_unsubscribed(&shard, "drain").await;
        })
        .await;
    });
}

#[test]
fn who_subscribes_while_another_drains_is_subscribed() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            for round in 0..20 {
                let topic = format!("relay.{round}");
                let mut leaving = shard.subscribe(&topic).await.unwrap();
                let (drained, coming) = future::zip(leaving.drain(), async {
                    // The drain has begun, and is not answered yet.
                    shard.subscribe(&topic).await.unwrap()
                })
                .await;
                drained.unwrap();
                let mut coming = coming;
                shard.publish(&topic, "hello").unwrap();
                let message =
                    shard.timeout(GUARD / 6, coming.next()).await.expect("the newcomer is subscribed");
                assert_eq!(message.unwrap().payload(), b"hello");
                assert!(leaving.next().await.is_none());
                coming.unsubscribe().await.unwrap();
                assert_unsubscribed(&shard, &topic).await;
            }
        })
        .await;
    });
}

#[test]
fn an_unconfirmed_subscription_is_live_as_soon_as_its_cluster_is() {
    let mut servers = LocalCluster::start(2).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    servers.kill(0, 0).unwrap();
    let rig = Rig::start(builder, 1);
    guarded(async {
        let (down, up) = (rig.topics_on("c1", "live", 1).remove(0), rig.topics_on("c2", "live", 1).remove(0));
        let (sender, mut got) = tokio::sync::mpsc::unbounded_channel();
        let topic = down.clone();
        rig.on(0, async move |shard| {
            let mut on_up = shard.subscribe_unconfirmed(&up).unwrap();
            assert_eq!(on_up.unconfirmed(), ["c2"]);
            shard.publish(&up, "behind the SUB").unwrap();
            assert_eq!(on_up.next().await.unwrap().payload(), b"behind the SUB");
            let mut on_down = shard.subscribe_unconfirmed(&topic).unwrap();
            assert_eq!(on_down.unconfirmed(), ["c1"]);
            let wildcard = shard.subscribe_unconfirmed("live.*").unwrap();
            assert_eq!(wildcard.unconfirmed(), ["c1", "c2"]);
            shard.spawn(async move {
                while let Some(message) = on_down.next().await {
                    sender.send(text(message.payload())).unwrap();
                }
            });
        })
        .await;
        servers.restart(0, 0).unwrap();
        rig.until_connected(0, "c1", true).await;
        rig.on(0, async |shard| shard.flush().await.unwrap()).await;
        let peer = peer(&servers.servers(0)).await;
        peer.publish(down, "of a peer".into()).await.unwrap();
        assert_eq!(got.recv().await.unwrap(), "of a peer");
    });
}

#[test]
fn a_subscribe_that_is_not_confirmed_leaves_nothing_subscribed() {
    let mut servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = SUBSCRIBE_TIMEOUT;
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    servers.kill(0, 0).unwrap();
    let address = servers.servers(0).remove(0).replace("nats://", "");
    let rig = Rig::start(builder, 1);
    guarded(async {
        rig.on(0, async move |shard| {
            let unconfirmed = |error: SubscribeError| {
                let SubscribeError::Unconfirmed { cluster, waited, failed_try } = &error else {
                    panic!("{error}")
                };
                assert_eq!((cluster.as_str(), *waited), ("c1", SUBSCRIBE_TIMEOUT));
                assert_eq!(failed_try.as_ref().map(|failed| &failed.server), Some(&address));
                assert!(error.to_string().contains(&address), "{error}");
                assert!(error.is_retryable());
            };
            unconfirmed(shard.subscribe("left.plain").await.unwrap_err());
            unconfirmed(shard.queue_subscribe("left.crew", "crew").await.unwrap_err());
            unconfirmed(shard.subscribe_with("left.handler", |_| {}).await.unwrap_err());
        })
        .await;
        let error = rig.handle().subscribe("left.handle").await.unwrap_err();
        assert!(matches!(&error, SubscribeError::Unconfirmed { cluster, .. } if *cluster == "c1"), "{error}");

        servers.restart(0, 0).unwrap();
        rig.until_connected(0, "c1", true).await;
        rig.on(0, async |shard| {
            for topic in ["left.plain", "left.crew", "left.handler", "left.handle"] {
                assert_unsubscribed(&shard, topic).await;
            }
        })
        .await;
    });
}

#[test]
fn a_subscribe_that_fails_leaves_its_neighbour_alone() {
    let mut servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = SUBSCRIBE_TIMEOUT;
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    let rig = Rig::start(builder, 1);
    guarded(async {
        let mut neighbour = rig.subscribe(0, "shared").await;
        servers.kill(0, 0).unwrap();
        rig.until_connected(0, "c1", false).await;
        rig.on(0, async |shard| {
            let error = shard.subscribe("shared").await.unwrap_err();
            assert!(matches!(error, SubscribeError::Unconfirmed { .. }), "{error}");
        })
        .await;
        servers.restart(0, 0).unwrap();
        rig.handle().publish("shared", "to the neighbour").unwrap();
        assert_eq!(neighbour.texts(1).await, ["to the neighbour"]);
    });
}

#[test]
fn a_subscribe_waits_for_a_cluster_that_comes_back_in_time() {
    let mut servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = GUARD;
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    servers.kill(0, 0).unwrap();
    let rig = Rig::start(builder, 1);
    guarded(async {
        let subscribed = rig.subscribe(0, "patient");
        let restarted = async {
            while rig.handle().stats()[0].link("c1").is_none_or(|link| link.tries < 2) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            servers.restart(0, 0).unwrap();
        };
        let (mut inlet, ()) = tokio::join!(subscribed, restarted);
        let peer = peer(&servers.servers(0)).await;
        peer.publish("patient", "at once".into()).await.unwrap();
        assert_eq!(inlet.texts(1).await, ["at once"]);
    });
}
