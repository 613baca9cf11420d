//! Wildcards over several clusters, of which some are down.

use std::time::Duration;

use croupier::{SubscribeError, testing::LocalCluster};

use crate::{
    rig::{Rig, configured, guarded, peer, settle, text},
    support::GUARD,
};

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_millis(300);

fn quick(servers: &LocalCluster) -> croupier::Builder {
    configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = SUBSCRIBE_TIMEOUT;
        config.connection.reconnect.max = Duration::from_millis(50);
    })
}

#[test]
fn a_wildcard_lists_the_cluster_that_is_down_and_hears_it_when_it_is_back() {
    let mut servers = LocalCluster::start(3).unwrap();
    servers.kill(1, 0).unwrap();
    let rig = Rig::start(quick(&servers), 1);
    guarded(async {
        let topics: Vec<String> =
            ["c1", "c2", "c3"].iter().map(|cluster| rig.topics_on(cluster, "wild", 1).remove(0)).collect();
        let (sender, mut got) = tokio::sync::mpsc::unbounded_channel();
        rig.on(0, async move |shard| {
            let mut subscription = shard.subscribe("wild.*").await.unwrap();
            assert_eq!(subscription.unconfirmed(), ["c2"]);
            let guard = shard.subscribe_with("wild.>", |_| {}).await.unwrap();
            assert_eq!(guard.unconfirmed(), ["c2"]);
            let queued = shard.queue_subscribe("wild.*", "crew").await.unwrap();
            assert_eq!(queued.unconfirmed(), ["c2"]);
            shard.spawn(async move {
                while let Some(message) = subscription.next().await {
                    sender.send((message.cluster().to_string(), text(message.payload()))).unwrap();
                }
            });
        })
        .await;
        for index in [0, 2] {
            rig.handle().publish(&topics[index], "before").unwrap();
            assert_eq!(got.recv().await.unwrap(), (format!("c{}", index + 1), "before".to_owned()));
        }
        servers.restart(1, 0).unwrap();
        rig.until_connected(0, "c2", true).await;
        rig.on(0, async |shard| shard.flush().await.unwrap()).await;
        let peer = peer(&servers.servers(1)).await;
        peer.publish(topics[1].clone(), "after".into()).await.unwrap();
        assert_eq!(got.recv().await.unwrap(), ("c2".to_owned(), "after".to_owned()));
        // All are connected now.
        rig.on(0, async |shard| {
            let subscription = shard.subscribe("*.*").await.unwrap();
            assert!(subscription.unconfirmed().is_empty(), "{subscription:?}");
        })
        .await;
    });
}

#[test]
fn a_wildcard_without_any_cluster_fails_and_leaves_nothing() {
    let mut servers = LocalCluster::start(2).unwrap();
    servers.kill(0, 0).unwrap();
    servers.kill(1, 0).unwrap();
    let rig = Rig::start(quick(&servers), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let error = shard.subscribe("none.*").await.unwrap_err();
            let SubscribeError::Unconfirmed { cluster, waited, .. } = &error else { panic!("{error}") };
            assert_eq!((cluster.as_str(), *waited), ("c1", SUBSCRIBE_TIMEOUT));
            assert!(error.is_retryable());
        })
        .await;
        for index in 0..2 {
            servers.restart(index, 0).unwrap();
            rig.until_connected(0, &format!("c{}", index + 1), true).await;
            let peer = peer(&servers.servers(index)).await;
            let error = peer.request("none.x", "".into()).await.unwrap_err();
            assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
        }
    });
}

#[test]
fn a_wildcard_waits_for_the_first_of_clusters_that_are_all_down() {
    let mut servers = LocalCluster::start(2).unwrap();
    servers.kill(0, 0).unwrap();
    servers.kill(1, 0).unwrap();
    let builder = configured(quick(&servers), |config| config.connection.subscribe_timeout = GUARD);
    let rig = Rig::start(builder, 1);
    guarded(async {
        let topic = rig.topics_on("c2", "wild", 1).remove(0);
        let (sender, is_down) = tokio::sync::oneshot::channel();
        let heard = rig.on(0, async move |shard| {
            let watching = shard.clone();
            shard.spawn(async move {
                // Both links have failed at least once before a cluster comes back.
                while watching.stats().links.iter().filter(|link| link.tries > 1).count() < 2 {
                    watching.sleep(Duration::from_millis(1)).await;
                }
                sender.send(()).unwrap();
            });
            let mut subscription = shard.subscribe("wild.*").await.unwrap();
            assert_eq!(subscription.unconfirmed(), ["c1"]);
            shard.publish(&topic, "heard").unwrap();
            text(subscription.next().await.unwrap().payload())
        });
        let restarted = async {
            is_down.await.unwrap();
            servers.restart(1, 0).unwrap();
        };
        let (heard, ()) = tokio::join!(heard, restarted);
        assert_eq!(heard, "heard");
    });
}

#[test]
fn a_wildcard_and_a_literal_that_overlap_each_get_the_message() {
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let patterns = ["over.lap", "over.*", "over.>", "*.lap", ">"];
        let mut inlets = Vec::new();
        for pattern in patterns {
            inlets.push(rig.subscribe(0, pattern).await);
        }
        let mut beside = rig.subscribe(0, "over").await;
        rig.on(0, async |shard| {
            for number in 0..100 {
                shard.publish("over.lap", number.to_string()).unwrap();
            }
            shard.flush().await.unwrap();
            shard.publish("over", "end").unwrap();
        })
        .await;
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        for (pattern, inlet) in patterns.iter().zip(&mut inlets) {
            assert_eq!(inlet.texts(100).await, numbers, "{pattern}");
        }
        assert_eq!(beside.texts(1).await, ["end"]);
        assert_eq!(inlets.pop().unwrap().texts(1).await, ["end"], "\">\" hears that too");
        assert!(inlets.iter().all(|inlet| inlet.is_empty()));
    });
}

#[test]
fn dropping_a_wildcard_unsubscribes_on_every_cluster() {
    let servers = LocalCluster::start(3).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let mut peers = Vec::new();
        for index in 0..3 {
            peers.push(peer(&servers.servers(index)).await);
        }
        rig.on(0, async |shard| {
            let subscription = shard.subscribe("gone.*").await.unwrap();
            drop(subscription);
            shard.flush().await.unwrap();
        })
        .await;
        for peer in &peers {
            let error = peer.request("gone.x", "".into()).await.unwrap_err();
            assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
            settle(peer).await;
        }
    });
}
