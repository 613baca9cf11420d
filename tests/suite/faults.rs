//! Real servers that die, stop and come back: every publish has one fate, and the other clusters notice nothing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use croupier::{Builder, PublishError, Shard, SubscribeError, testing::LocalCluster};

use crate::support::{TestNode, assert_balanced, on_one_shard, permit, topic_on, wait_for, wait_on};

/// Guard on a reconnect that takes some hundred milliseconds at most.
const RECONNECT_GUARD: Duration = Duration::from_secs(10);

/// The payloads that a subscription got, in order, and when.
type Received = Arc<Mutex<Vec<(Instant, Vec<u8>)>>>;

fn impatient(mut builder: Builder) -> Builder {
    builder.config_mut().connection.reconnect.max = Duration::from_millis(100);
    builder
}

/// Subscribes on shard 0 for as long as the node runs.
fn collect(node: &TestNode, topic: &str) -> Received {
    let received = Received::default();
    let (collected, topic) = (Arc::clone(&received), topic.to_owned());
    node.on(0, async move |shard: Shard| {
        let take = move |view: croupier::MessageView<'_>| {
            collected
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((Instant::now(), view.payload().to_vec()));
        };
        let guard = shard.subscribe_with(topic, take).await.unwrap();
        shard.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
    });
    received
}

fn count(received: &Received) -> usize {
    received.lock().unwrap_or_else(PoisonError::into_inner).len()
}

fn numbers(received: &Received) -> Vec<u64> {
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.iter().map(|(_, payload)| str::from_utf8(payload).unwrap().parse().unwrap()).collect()
}

/// What a load has published so far.
struct Load {
    published: AtomicU64,
    /// When each number was published.
    sent: Mutex<Vec<Instant>>,
}

/// The 99th percentile of the time from publish to handler, over what was published between the two.
fn p99(load: &Load, received: &Received, from: Instant, to: Instant) -> Duration {
    let sent = load.sent.lock().unwrap_or_else(PoisonError::into_inner);
    let numbers = numbers(received);
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waits: Vec<Duration> = numbers
        .iter()
        .zip(received.iter())
        .map(|(number, (at, _))| (sent[*number as usize], *at))
        .filter(|(sent, _)| (from..to).contains(sent))
        .map(|(sent, at)| at - sent)
        .collect();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// Publishes numbers from 0 on, some ten thousand a second, until told to stop.
fn publish_numbers(node: &TestNode, topic: String, stop: &Arc<AtomicBool>) -> Arc<Load> {
    let load = Arc::new(Load { published: AtomicU64::new(0), sent: Mutex::default() });
    let (counted, stop) = (Arc::clone(&load), Arc::clone(stop));
    node.on(0, async move |shard: Shard| {
        let publisher = shard.clone();
        shard.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                for _ in 0..10 {
                    let number = counted.published.load(Ordering::Relaxed);
                    counted.sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                    publisher.publish(&topic, number.to_string()).unwrap();
                    counted.published.store(number + 1, Ordering::Release);
                }
                publisher.sleep(Duration::from_millis(1)).await;
            }
        });
    });
    load
}

#[test]
fn a_killed_cluster_comes_back_with_every_fate_accounted_for_and_the_others_lose_nothing() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(3).unwrap();
    let node = TestNode::start(impatient(servers.builder()), 1);
    let topics = ["c1", "c2", "c3"].map(|cluster| topic_on(&node.handle, cluster, "load"));
    let received = topics.each_ref().map(|topic| collect(&node, topic));
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let loads = topics.each_ref().map(|topic| publish_numbers(&node, topic.clone(), &stop));
    wait_for("load", || (count(&received[1]) > 10_000).then_some(()));

    let killed = Instant::now();
    servers.kill(1, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "c2").connected).then_some(()));
    println!("seen to be noticed {:?} after the kill was begun", killed.elapsed());
    assert_eq!(node.link(0, "c2").disconnects, 1);
    while killed.elapsed() < Duration::from_secs(2) {
        ["c1", "c2", "c3"].into_iter().for_each(|cluster| assert_balanced(&node.link(0, cluster)));
        thread::sleep(Duration::from_millis(20));
    }
    let down = node.link(0, "c2");
    assert_eq!((down.connects, down.written), (1, 0), "{down:?}");
    assert!(down.queued > 0, "{down:?}");

    let restarted = Instant::now();
    let handle = node.handle.clone();
    let watching = thread::spawn(move || {
        let is_back = || {
            let stats = handle.stats();
            stats[0].link("c2").is_some_and(|link| link.connects == 2).then_some(())
        };
        wait_for("the reconnect", is_back);
        Instant::now()
    });
    servers.restart(1, 0).unwrap();
    let answered = restarted.elapsed();
    let connected = watching.join().unwrap() - restarted;
    println!("restarted: the server answered after {answered:?}, the link was connected after {connected:?}");
    assert!(connected < answered + RECONNECT_GUARD, "{connected:?}");

    let resumed = loads[1].published.load(Ordering::Acquire);
    wait_for("load after the restart", || {
        numbers(&received[1]).last().is_some_and(|last| *last > resumed + 1000).then_some(())
    });
    stop.store(true, Ordering::Release);
    node.on(0, async |shard: Shard| {
        shard.sleep(Duration::from_millis(20)).await;
        shard.flush().await.unwrap();
    });
    for (cluster, index) in [("c1", 0), ("c2", 1), ("c3", 2)] {
        let link = node.link(0, cluster);
        let published = loads[index].published.load(Ordering::Acquire);
        let got = numbers(&received[index]);
        assert_balanced(&link);
        assert_eq!(
            (link.accepted, link.queued, link.written, link.discarded),
            (published, 0, 0, 0),
            "{link:?}"
        );
        assert!(got.is_sorted_by(|a, b| a < b), "{cluster}: repeated or out of order");
        let lost = published - got.len() as u64;
        println!("{cluster}: {published} published, {} in doubt, {lost} lost", link.in_doubt);
        if cluster == "c2" {
            assert_eq!((link.connects, link.disconnects), (2, 1));
            assert!(lost <= link.in_doubt, "{lost} lost, {} in doubt", link.in_doubt);
        } else {
            assert_eq!((link.connects, link.disconnects, link.in_doubt, lost), (1, 0, 0, 0), "{link:?}");
            let before = p99(&loads[index], &received[index], begun, killed);
            let during = p99(&loads[index], &received[index], killed, restarted);
            println!("{cluster}: p99 {before:?} before the fault, {during:?} during it");
        }
    }
    node.end();
}

#[test]
fn what_is_queued_while_the_cluster_is_down_arrives_after_its_restart_in_order() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(impatient(servers.builder()), 1);
    let received = collect(&node, "queued");
    servers.kill(0, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    node.on(0, async |shard: Shard| {
        for number in 0..5000 {
            shard.publish("queued", number.to_string()).unwrap();
        }
    });
    let link = node.link(0, "c1");
    assert_eq!((link.queued, link.written, link.in_doubt), (5000, 0, 0));
    assert_balanced(&link);
    servers.restart(0, 0).unwrap();
    wait_for("all of it", || (count(&received) >= 5000).then_some(()));
    node.on(0, async |shard: Shard| shard.flush().await.unwrap());
    assert_eq!(numbers(&received), (0..5000).collect::<Vec<_>>());
    let link = node.link(0, "c1");
    assert_eq!((link.processed, link.queued, link.written, link.in_doubt), (5000, 0, 0, 0));
    node.end();
}

#[test]
fn a_full_buffer_says_busy_and_takes_more_when_the_cluster_is_back() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let mut builder = impatient(servers.builder());
    builder.config_mut().limits.publish_buffer = 64 << 10;
    let node = TestNode::start(builder, 1);
    let received = collect(&node, "busy");
    servers.kill(0, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    let taken = node.on(0, async |shard: Shard| {
        let mut number = 0_u64;
        loop {
            match shard.publish("busy", number.to_string()) {
                Ok(()) => number += 1,
                Err(PublishError::Busy { queued_bytes, limit_bytes, needed_bytes, .. }) => {
                    assert!(queued_bytes <= limit_bytes && queued_bytes + needed_bytes > limit_bytes);
                    assert_eq!(limit_bytes, 64 << 10);
                    break number;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    let link = node.link(0, "c1");
    assert_eq!((link.accepted, link.queued, link.rejected), (taken, taken, 1));
    assert!(link.queued_bytes <= 64 << 10);
    let waited = Arc::new(AtomicBool::new(false));
    let (through, next) = (Arc::clone(&waited), taken.to_string());
    node.on(0, async move |shard: Shard| {
        let publisher = shard.clone();
        shard.spawn(async move {
            publisher.publish_wait("busy", next).await.unwrap();
            through.store(true, Ordering::Release);
        });
        shard.sleep(Duration::from_millis(50)).await;
    });
    assert!(!waited.load(Ordering::Acquire), "there was no room to wait for");
    servers.restart(0, 0).unwrap();
    wait_for("all of it", || (count(&received) > taken as usize).then_some(()));
    assert!(waited.load(Ordering::Acquire));
    assert_eq!(numbers(&received), (0..=taken).collect::<Vec<_>>());
    node.end();
}

#[test]
fn a_lost_cluster_ends_no_subscriber() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(2).unwrap();
    let node = TestNode::start(impatient(servers.builder()), 1);
    let topic = topic_on(&node.handle, "c1", "kept");
    let subject = topic.clone();
    // The subscriptions stay on the shard; what each got is told through these.
    let got: [Arc<AtomicU64>; 4] = Default::default();
    let counted = got.clone();
    node.on(0, async move |shard: Shard| {
        let subscriptions = [
            shard.subscribe(&subject).await.unwrap(),
            shard.queue_subscribe(&subject, "group").await.unwrap(),
            shard.subscribe("kept.*").await.unwrap(),
            shard.subscribe_unconfirmed(&subject).unwrap(),
        ];
        for (mut subscription, counted) in subscriptions.into_iter().zip(counted) {
            shard.spawn(async move {
                while subscription.next().await.is_some() {
                    counted.fetch_add(1, Ordering::AcqRel);
                }
                counted.store(u64::MAX, Ordering::Release);
            });
        }
    });
    let counts = || got.each_ref().map(|count| count.load(Ordering::Acquire));
    let publish = || {
        let topic = topic.clone();
        node.on(0, async move |shard: Shard| shard.publish(topic, "x").unwrap());
    };
    publish();
    wait_for("the first message", || (counts() == [1; 4]).then_some(()));
    for round in 2..5 {
        servers.kill(0, 0).unwrap();
        wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
        publish();
        servers.restart(0, 0).unwrap();
        wait_for("the next message", || (counts() == [round; 4]).then_some(()));
    }
    assert_eq!(node.link(0, "c1").connects, 4);
    assert_eq!(node.link(0, "c2").connects, 1);
    node.end();
    wait_for("the end of the streams", || (counts() == [u64::MAX; 4]).then_some(()));
}

#[test]
fn a_server_that_stands_still_for_half_a_second_costs_no_message_and_no_connection() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(2).unwrap();
    let node = TestNode::start(servers.builder(), 1);
    let topics = ["c1", "c2"].map(|cluster| topic_on(&node.handle, cluster, "still"));
    let received = topics.each_ref().map(|topic| collect(&node, topic));
    let stop = Arc::new(AtomicBool::new(false));
    let loads = topics.each_ref().map(|topic| publish_numbers(&node, topic.clone(), &stop));
    wait_for("load", || (count(&received[0]) > 100).then_some(()));
    servers.pause(0, 0).unwrap();
    let before = count(&received[1]);
    thread::sleep(Duration::from_millis(500));
    let paused = node.link(0, "c1");
    assert!(paused.queued + paused.written > 0, "{paused:?}");
    assert_balanced(&paused);
    assert!(count(&received[1]) > before, "the other cluster goes on meanwhile");
    servers.resume(0, 0).unwrap();
    let resumed = loads[0].published.load(Ordering::Acquire);
    wait_for("load after the pause", || (count(&received[0]) as u64 > resumed).then_some(()));
    stop.store(true, Ordering::Release);
    node.on(0, async |shard: Shard| {
        shard.sleep(Duration::from_millis(20)).await;
        shard.flush().await.unwrap();
    });
    for (index, cluster) in ["c1", "c2"].into_iter().enumerate() {
        let link = node.link(0, cluster);
        let published = loads[index].published.load(Ordering::Acquire);
        assert_eq!(numbers(&received[index]), (0..published).collect::<Vec<_>>());
        assert_eq!((link.connects, link.disconnects, link.processed), (1, 0, published));
    }
    node.end();
}

#[test]
fn a_server_that_stands_still_for_ten_seconds_is_given_up_and_every_publish_has_a_fate() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(2).unwrap();
    let node = TestNode::start(impatient(servers.builder()), 1);
    let topics = ["c1", "c2"].map(|cluster| topic_on(&node.handle, cluster, "still"));
    let received = topics.each_ref().map(|topic| collect(&node, topic));
    let stop = Arc::new(AtomicBool::new(false));
    let loads = topics.each_ref().map(|topic| publish_numbers(&node, topic.clone(), &stop));
    wait_for("load", || (count(&received[0]) > 100).then_some(()));
    servers.pause(0, 0).unwrap();
    let paused = Instant::now();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    println!("given up after {:?}", paused.elapsed());
    while paused.elapsed() < Duration::from_secs(10) {
        ["c1", "c2"].into_iter().for_each(|cluster| assert_balanced(&node.link(0, cluster)));
        thread::sleep(Duration::from_millis(100));
    }
    let still = node.link(0, "c1");
    assert!(still.in_doubt > 0 && still.queued > 0 && still.written == 0, "{still:?}");
    servers.resume(0, 0).unwrap();
    let resumed = loads[0].published.load(Ordering::Acquire);
    wait_for("load after the pause", || {
        numbers(&received[0]).last().is_some_and(|last| *last > resumed).then_some(())
    });
    stop.store(true, Ordering::Release);
    node.on(0, async |shard: Shard| {
        shard.sleep(Duration::from_millis(20)).await;
        shard.flush().await.unwrap();
    });
    for (index, cluster) in ["c1", "c2"].into_iter().enumerate() {
        let link = node.link(0, cluster);
        let published = loads[index].published.load(Ordering::Acquire);
        let got = numbers(&received[index]);
        assert_balanced(&link);
        assert_eq!((link.accepted, link.queued, link.written, link.discarded), (published, 0, 0, 0));
        let lost = published - got.len() as u64;
        println!("{cluster}: {published} published, {} in doubt, {lost} lost", link.in_doubt);
        if cluster == "c2" {
            assert_eq!((link.disconnects, link.in_doubt, lost), (0, 0, 0), "{link:?}");
        } else {
            assert!(lost <= link.in_doubt, "{lost} lost, {} in doubt", link.in_doubt);
        }
    }
    node.end();
}

#[test]
fn a_cluster_that_is_down_at_the_start_does_not_stop_the_node() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(2).unwrap();
    servers.kill(1, 0).unwrap();
    let mut builder = impatient(servers.builder());
    builder.config_mut().connection.subscribe_timeout = Duration::from_millis(300);
    let node = TestNode::start(builder, 1);
    let [up, down] = ["c1", "c2"].map(|cluster| topic_on(&node.handle, cluster, "start"));
    let received = collect(&node, &up);
    let wild = collect(&node, "*.*");
    let (up, down_topic) = (up.clone(), down.clone());
    node.on(0, async move |shard: Shard| {
        match shard.subscribe(&down_topic).await {
            Err(SubscribeError::Unconfirmed { cluster, .. }) => assert_eq!(cluster, *"c2"),
            other => panic!("{other:?}"),
        }
        let wildcard = shard.subscribe("other.>").await.unwrap();
        assert_eq!(wildcard.unconfirmed().iter().map(ToString::to_string).collect::<Vec<_>>(), ["c2"]);
        shard.publish(&up, "0").unwrap();
        shard.publish(&down_topic, "1").unwrap();
    });
    wait_for("the message on the living cluster", || (count(&received) == 1).then_some(()));
    assert_eq!(node.link(0, "c2").queued, 1);
    servers.restart(1, 0).unwrap();
    wait_for("the message on the other one", || (count(&wild) == 2).then_some(()));
    assert_eq!(numbers(&wild), [0, 1]);
    node.end();
}

#[test]
fn a_flush_names_the_cluster_that_is_down() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(2).unwrap();
    servers.kill(1, 0).unwrap();
    let mut builder = impatient(servers.builder());
    builder.config_mut().connection.subscribe_timeout = Duration::from_millis(300);
    on_one_shard(builder, async |shard: Shard| {
        let topics: Vec<String> = (0..20).map(|n| format!("flush.{n}")).collect();
        for topic in &topics {
            shard.publish(topic, "x").unwrap();
        }
        wait_on(&shard, "c1", || shard.stats().link("c1").is_some_and(|link| link.connected).then_some(()))
            .await;
        let failed = shard.flush().await.unwrap_err().failed;
        assert_eq!(failed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c2"]);
        assert_eq!(shard.stats().link("c1").unwrap().queued, 0);
    });
}
