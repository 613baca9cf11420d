//! Subscriptions with queues, groups and ends of their own; the server's part in an end after a number of
//! messages; barrier and round trip.

use std::{cell::Cell, rc::Rc, time::Duration};

use croupier::{
    ClusterName, RoundTripError, Shard, SubscribeOptions, Subscription, config::SlowSubscriberPolicy,
    testing::LocalCluster,
};
use futures_lite::future;

use crate::{
    rig::{Rig, configured, guarded, peer, settle, text},
    support::{TestNode, on_one_shard, permit, wait_for, wait_on},
};

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_millis(300);

async fn publish(shard: &Shard, topic: &str, count: usize) {
    for number in 0..count {
        shard.publish_wait(topic, number.to_string()).await.unwrap();
    }
    shard.flush().await.unwrap();
}

/// Everything that can be taken without waiting, and whether the stream has ended.
async fn waiting(subscription: &mut Subscription) -> (Vec<String>, bool) {
    let mut texts = Vec::new();
    loop {
        match future::poll_once(subscription.next()).await {
            Some(Some(message)) => texts.push(text(message.payload())),
            Some(None) => return (texts, true),
            None => return (texts, false),
        }
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn each_subscription_may_have_a_queue_and_a_policy_of_its_own() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        let small = SubscribeOptions::new().queue_messages(10);
        let [newest, oldest, close] =
            [SlowSubscriberPolicy::DropNewest, SlowSubscriberPolicy::DropOldest, SlowSubscriberPolicy::Close]
                .map(|policy| small.clone().on_slow_subscriber(policy));
        let mut newest = shard.subscribe_with_options("own", &newest).await.unwrap();
        let mut oldest = shard.subscribe_with_options("own", &oldest).await.unwrap();
        let mut close = shard.subscribe_with_options("own", &close).await.unwrap();
        let mut few_bytes =
            shard.subscribe_with_options("own", &SubscribeOptions::new().queue_bytes(4096)).await.unwrap();
        let mut plain = shard.subscribe("own").await.unwrap();
        publish(&shard, "own", 100).await;
        assert_eq!((newest.queued_messages(), newest.delivered(), newest.lagged()), (10, 100, 90));
        assert_eq!(waiting(&mut newest).await, (numbers(0..10), false));
        assert_eq!(oldest.lagged(), 90);
        assert_eq!(waiting(&mut oldest).await, (numbers(90..100), false));
        assert_eq!(close.lagged(), 1);
        assert_eq!(waiting(&mut close).await, (numbers(0..10), true));
        assert!(few_bytes.queued_bytes() <= 4096, "{}", few_bytes.queued_bytes());
        let (kept, _) = waiting(&mut few_bytes).await;
        assert!(!kept.is_empty() && kept.len() + few_bytes.lagged() as usize == 100, "{}", kept.len());
        assert_eq!(few_bytes.queued_bytes(), 0);
        assert_eq!(plain.lagged(), 0);
        assert_eq!(waiting(&mut plain).await, (numbers(0..100), false));
    });
}

#[test]
fn options_without_confirmation_do_not_wait() {
    let mut servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    servers.kill(0, 0).unwrap();
    let rig = Rig::start(builder, 1);
    guarded(async {
        let (sender, mut got) = tokio::sync::mpsc::unbounded_channel();
        rig.on(0, async move |shard| {
            let options = SubscribeOptions::new().queue_group("crew").unconfirmed();
            let mut subscription = shard.subscribe_with_options("later", &options).await.unwrap();
            assert_eq!(subscription.unconfirmed(), ["c1"]);
            shard.spawn(async move {
                while let Some(message) = subscription.next().await {
                    sender.send(text(message.payload())).unwrap();
                }
            });
            let broken = SubscribeOptions::new().queue_group("two words").unconfirmed();
            assert!(shard.subscribe_with_options("later", &broken).await.is_err());
        })
        .await;
        servers.restart(0, 0).unwrap();
        rig.until_connected(0, "c1", true).await;
        rig.on(0, async |shard| shard.barrier().await.unwrap()).await;
        let peer = peer(&servers.servers(0)).await;
        peer.publish("later", "hello".into()).await.unwrap();
        assert_eq!(got.recv().await.unwrap(), "hello");
    });
}

#[test]
fn beyond_its_number_the_server_gives_a_members_share_to_the_others() {
    const MESSAGES: usize = 500;
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        let crew = SubscribeOptions::new().queue_group("crew");
        let mut from_the_start =
            shard.subscribe_with_options("share", &crew.clone().unsubscribe_after(5)).await.unwrap();
        let mut set_later = shard.subscribe_with_options("share", &crew).await.unwrap();
        set_later.unsubscribe_after(7);
        let mut others = shard.subscribe_with_options("share", &crew).await.unwrap();
        publish(&shard, "share", MESSAGES).await;
        let (first, first_ended) = waiting(&mut from_the_start).await;
        let (second, second_ended) = waiting(&mut set_later).await;
        let (rest, rest_ended) = waiting(&mut others).await;
        assert_eq!((first.len(), first_ended, second.len(), second_ended), (5, true, 7, true));
        assert_eq!((rest.len(), rest_ended), (MESSAGES - 12, false), "none is lost");
        assert_eq!(shard.stats().links[0].stray, 0);
    });
}

#[test]
fn a_number_of_messages_counts_over_a_reconnect() {
    const MESSAGES: usize = 500;
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder();
    builder.config_mut().connection.reconnect.max = Duration::from_millis(50);
    let node = TestNode::start(builder, 1);
    let (sender, told) = std::sync::mpsc::channel();
    node.on(0, async move |shard: Shard| {
        let crew = SubscribeOptions::new().queue_group("crew");
        let mut limited =
            shard.subscribe_with_options("kept", &crew.clone().unsubscribe_after(10)).await.unwrap();
        publish(&shard, "kept", 4).await;
        assert_eq!(waiting(&mut limited).await, (numbers(0..4), false));
        let mut others = shard.subscribe_with_options("kept", &crew).await.unwrap();
        let mut plain = shard.subscribe("kept").await.unwrap();
        plain.unsubscribe_after(3);
        let inner = shard.clone();
        shard.spawn(async move {
            let connects = || inner.stats().links[0].connects;
            wait_on(&inner, "the reconnect", || (connects() == 2).then_some(())).await;
            inner.barrier().await.unwrap();
            publish(&inner, "kept", MESSAGES).await;
            let (six, ended) = waiting(&mut limited).await;
            let (rest, _) = waiting(&mut others).await;
            let three = waiting(&mut plain).await;
            let strays = inner.stats().links[0].stray;
            sender.send((six.len(), ended, rest.len(), three, strays)).unwrap();
        });
    });
    servers.kill(0, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    servers.restart(0, 0).unwrap();
    let (limited, ended, rest, plain, strays) =
        told.recv_timeout(crate::support::GUARD).expect("a task that does not panic");
    assert_eq!((limited, ended, rest), (6, true, MESSAGES - 6), "what the first has had before counts");
    assert_eq!(plain, (numbers(0..3), true));
    assert_eq!(strays, 0);
    node.end();
}

#[test]
fn a_number_set_on_a_shared_subscription_counts_from_its_own_beginning() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        let first = shard.subscribe("shared").await.unwrap();
        publish(&shard, "shared", 20).await;
        let mut second = shard.subscribe("shared").await.unwrap();
        publish(&shard, "shared", 3).await;
        drop(first);
        // The server has counted 23 on the SUB that this one has alone from here on.
        second.unsubscribe_after(5);
        publish(&shard, "shared", 10).await;
        let (texts, ended) = waiting(&mut second).await;
        assert_eq!(
            (texts, ended),
            (vec!["0", "1", "2", "0", "1"].into_iter().map(str::to_owned).collect(), true)
        );

        let mut limited = shard.subscribe("shared").await.unwrap();
        limited.unsubscribe_after(5);
        // Of several numbers the least holds, and a newcomer is not cut off with it.
        limited.unsubscribe_after(50);
        let mut newcomer = shard.subscribe("shared").await.unwrap();
        publish(&shard, "shared", 10).await;
        assert_eq!(waiting(&mut limited).await, (numbers(0..5), true));
        assert_eq!(waiting(&mut newcomer).await, (numbers(0..10), false));
    });
}

#[test]
fn handlers_share_in_a_queue_group_and_end_after_a_number() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        let counts = [Rc::new(Cell::new(0)), Rc::new(Cell::new(0))];
        let [first, second] = counts.each_ref().map(|count| {
            let count = Rc::clone(count);
            move |_: croupier::MessageView<'_>| count.set(count.get() + 1)
        });
        let mut limited = shard.queue_subscribe_with("handled", "crew", first).await.unwrap();
        let _second = shard.queue_subscribe_with("handled", "crew", second).await.unwrap();
        limited.unsubscribe_after(9);
        publish(&shard, "handled", 300).await;
        assert_eq!((counts[0].get(), counts[1].get()), (9, 291));
        assert!(limited.is_ended());
    });
}

#[test]
fn after_a_barrier_the_servers_know_of_every_subscription() {
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let topics = rig.topics_on("c1", "known", 50);
        let subscribed = topics.clone();
        let (published, all_published) = tokio::sync::oneshot::channel::<()>();
        let (sender, told) = tokio::sync::oneshot::channel();
        rig.on(1, async move |shard| {
            shard.barrier().await.unwrap();
            let subscriptions: Vec<_> =
                subscribed.iter().map(|topic| shard.subscribe_unconfirmed(topic).unwrap()).collect();
            // A barrier waits for no cluster that is not connected.
            let connected = || shard.stats().link("c1").is_some_and(|link| link.connected).then_some(());
            wait_on(&shard, "c1", connected).await;
            let inner = shard.clone();
            shard.spawn(async move {
                all_published.await.unwrap();
                inner.flush().await.unwrap();
                sender.send(subscriptions.iter().map(Subscription::queued_messages).collect()).unwrap();
            });
        })
        .await;
        rig.handle().barrier().await.unwrap();
        let peer = peer(&servers.servers(0)).await;
        for topic in topics {
            peer.publish(topic, "".into()).await.unwrap();
        }
        settle(&peer).await;
        published.send(()).unwrap();
        let queued: Vec<usize> = told.await.unwrap();
        assert_eq!(queued, [1; 50]);
    });
}

#[test]
fn a_barrier_and_a_round_trip_name_the_cluster_that_does_not_answer() {
    let mut servers = LocalCluster::start(3).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = SUBSCRIBE_TIMEOUT;
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    let rig = Rig::start(builder, 1);
    guarded(async {
        let round_trips = rig.on(0, async |shard| {
            let _wild = shard.subscribe(">").await.unwrap();
            let mut round_trips = Vec::new();
            for cluster in ["c1", "c2", "c3"] {
                round_trips.push(shard.rtt(&ClusterName::from(cluster)).await.unwrap());
            }
            let error = shard.rtt(&ClusterName::from("c4")).await.unwrap_err();
            assert!(matches!(&error, RoundTripError::UnknownCluster { cluster } if *cluster == "c4"));
            assert!(!error.is_retryable());
            round_trips
        });
        let round_trips = round_trips.await;
        println!("round trips to three clusters: {round_trips:?}");
        assert!(round_trips.iter().all(|round_trip| !round_trip.is_zero()));
        assert!(!rig.handle().rtt(&ClusterName::from("c2")).await.unwrap().is_zero());
        servers.pause(1, 0).unwrap();
        servers.kill(2, 0).unwrap();
        rig.until_connected(0, "c3", false).await;
        rig.on(0, async |shard| {
            let error = shard.barrier().await.unwrap_err();
            assert_eq!(error.failed, ["c2"], "c3 is down, and has forgotten everything");
            let error = shard.rtt(&ClusterName::from("c2")).await.unwrap_err();
            assert!(
                matches!(&error, RoundTripError::Timeout { cluster, waited }
                if *cluster == "c2" && *waited == SUBSCRIBE_TIMEOUT),
                "{error}"
            );
            let error = shard.rtt(&ClusterName::from("c3")).await.unwrap_err();
            assert!(
                matches!(&error, RoundTripError::Disconnected { cluster } if *cluster == "c3"),
                "{error}"
            );
        })
        .await;
        let error = rig.handle().barrier().await.unwrap_err();
        assert_eq!(error.failed, ["c2"]);
        servers.resume(1, 0).unwrap();
    });
}
