//! A link that moves to another connection before it lets go of the old one: nothing in doubt, nothing lost.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use croupier::{Event, Shard, testing::LocalCluster};
use futures_lite::{StreamExt, future::block_on};

use crate::{
    links::event,
    rig::{configured, guarded, peer, peer_subscribe, settle},
    support::{TestNode, assert_balanced, permit, wait_for},
};

pub(crate) type Numbers = Arc<Mutex<Vec<u64>>>;

/// Subscribes on shard 0 for as long as the node runs; in a queue group if one is named.
pub(crate) fn collect(node: &TestNode, topic: &'static str, group: Option<&'static str>) -> Numbers {
    let received = Numbers::default();
    let collected = Arc::clone(&received);
    node.on(0, async move |shard: Shard| {
        let mut subscription = match group {
            Some(group) => shard.queue_subscribe(topic, group).await.unwrap(),
            None => shard.subscribe(topic).await.unwrap(),
        };
        shard.spawn(async move {
            while let Some(message) = subscription.next().await {
                let number = str::from_utf8(message.payload()).unwrap().parse().unwrap();
                collected.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            }
        });
    });
    received
}

pub(crate) fn numbers(received: &Numbers) -> Vec<u64> {
    received.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Publishes numbers from 0 on to each of the topics, until told to stop; how many, for each.
pub(crate) fn publish_numbers(
    node: &TestNode,
    topics: &'static [&'static str],
    stop: &Arc<AtomicBool>,
) -> Arc<AtomicU64> {
    let published = Arc::new(AtomicU64::new(0));
    let (counted, stop) = (Arc::clone(&published), Arc::clone(stop));
    node.on(0, async move |shard: Shard| {
        let publisher = shard.clone();
        shard.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                for _ in 0..5 {
                    let number = counted.load(Ordering::Relaxed);
                    for topic in topics {
                        publisher.publish(topic, number.to_string()).unwrap();
                    }
                    counted.store(number + 1, Ordering::Release);
                }
                publisher.sleep(Duration::from_millis(1)).await;
            }
        });
    });
    published
}

/// All of `0..published`, the first time in order; how many came a second time.
pub(crate) fn assert_nothing_lost(received: &[u64], published: u64, is_ordered: bool) -> u64 {
    let unique: BTreeSet<u64> = received.iter().copied().collect();
    let missing: Vec<u64> = (0..published).filter(|number| !unique.contains(number)).collect();
    assert!(missing.is_empty(), "{} lost: {:?}..", missing.len(), &missing[..missing.len().min(5)]);
    if is_ordered {
        let mut next = 0;
        for number in received {
            assert!(*number <= next, "{number} came before {next}");
            next = next.max(number + 1);
        }
    }
    (received.len() - unique.len()) as u64
}

#[test]
fn a_link_leaves_a_lame_duck_under_load_with_nothing_in_doubt_and_nothing_lost() {
    let _permit = permit(1);
    let mut servers = LocalCluster::with_nodes(1, 2).unwrap();
    let [first, second] = <[String; 2]>::try_from(servers.servers(0)).unwrap();
    let node = TestNode::start(
        configured(croupier::Node::builder().cluster("c1", [&first]), |config| config.shards.pin = false),
        1,
    );
    let mut events = node.handle.events();
    let own = collect(&node, "own", None);
    let theirs = collect(&node, "theirs", None);
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_numbers(&node, &["own"], &stop);
    let peer_published = guarded(async {
        let peer = peer(std::slice::from_ref(&second)).await;
        let mut sent = 0_u64;
        // A PONG says nothing about the other server: the first delivery does.
        while numbers(&theirs).is_empty() {
            peer.publish("theirs", "0".into()).await.unwrap();
            peer.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        servers.lame_duck(0, 0).unwrap();
        let left = || node.handle.stats()[0].link("c1").is_some_and(|link| link.disconnects == 1);
        let mut after = 0;
        while after < 50 {
            after += u64::from(left());
            sent += 1;
            peer.publish("theirs", sent.to_string().into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        settle(&peer).await;
        sent
    });
    event(&mut events, "lame duck", |event| matches!(event, Event::LameDuck { .. }).then_some(()));
    event(&mut events, "move", |event| match event {
        Event::Moved { from, to, .. } => {
            assert!(first.ends_with(from.as_str()) && second.ends_with(to.as_str()), "{from} to {to}");
            Some(())
        }
        Event::Disconnected { .. } => panic!("{event:?}"),
        _ => None,
    });
    stop.store(true, Ordering::Release);
    node.on(0, async |shard: Shard| {
        shard.sleep(Duration::from_millis(20)).await;
        shard.flush().await.unwrap();
    });
    let published = published.load(Ordering::Acquire);
    wait_for("the last ones", || {
        let all = numbers(&own).contains(&(published - 1)) && numbers(&theirs).contains(&peer_published);
        all.then_some(())
    });
    let link = node.link(0, "c1");
    assert_balanced(&link);
    assert_eq!((link.accepted, link.processed, link.in_doubt), (published, published, 0), "{link:?}");
    assert_eq!((link.connects, link.disconnects, link.moves), (2, 1, 1), "{link:?}");
    let twice = assert_nothing_lost(&numbers(&own), published, true);
    // The first number was sent until it arrived.
    let later: Vec<u64> =
        numbers(&theirs).into_iter().filter(|number| *number > 0).map(|number| number - 1).collect();
    let twice_theirs = assert_nothing_lost(&later, peer_published, false);
    println!(
        "{published} and {peer_published} messages; {twice} and {twice_theirs} came twice, {} counted as possible duplicates",
        link.overlap
    );
    assert!(twice + twice_theirs <= link.overlap, "{twice} + {twice_theirs}, {}", link.overlap);
    node.end();
}

#[test]
fn a_link_moves_on_demand_and_loses_neither_messages_nor_replies() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(servers.builder(), 1);
    let mut events = node.handle.events();
    let plain = collect(&node, "moved", None);
    let queued = collect(&node, "queued", Some("group"));
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_numbers(&node, &["moved", "queued"], &stop);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut asked = peer_subscribe(&peer, "slow").await;
        for _ in 0..3 {
            let answer = node.handle.request("slow", "?");
            let answering = async {
                let request = asked.next().await.unwrap();
                let moves = node.link(0, "c1").moves;
                node.handle.reconnect("c1").await.unwrap();
                event(&mut events, "move", |event| matches!(event, Event::Moved { .. }).then_some(()));
                assert_eq!(node.link(0, "c1").moves, moves + 1);
                // What is subscribed during the overlap is subscribed on the new connection.
                node.on(0, async |shard: Shard| {
                    let mut messages = shard.subscribe("during").await.unwrap();
                    shard.publish("during", "x").unwrap();
                    assert_eq!(messages.next().await.unwrap().payload(), b"x");
                });
                peer.publish(request.reply.unwrap(), "late".into()).await.unwrap();
            };
            let (answer, ()) = futures_lite::future::zip(answer, answering).await;
            assert_eq!(answer.unwrap().payload(), b"late");
        }
    });
    wait_for("the old connections' ends", || (node.link(0, "c1").disconnects == 3).then_some(()));
    stop.store(true, Ordering::Release);
    node.on(0, async |shard: Shard| {
        shard.sleep(Duration::from_millis(20)).await;
        shard.flush().await.unwrap();
        match shard.reconnect("c9") {
            Err(croupier::ReconnectError::UnknownCluster { cluster }) => assert_eq!(cluster, *"c9"),
            other => panic!("{other:?}"),
        }
    });
    let published = published.load(Ordering::Acquire);
    wait_for("the last ones", || {
        [&plain, &queued].iter().all(|received| numbers(received).contains(&(published - 1))).then_some(())
    });
    let link = node.link(0, "c1");
    assert_balanced(&link);
    // Beside the load, each round published one message and one request.
    let accepted = 2 * published + 6;
    assert_eq!((link.accepted, link.processed, link.in_doubt), (accepted, accepted, 0), "{link:?}");
    assert_eq!((link.connects, link.moves), (4, 3), "{link:?}");
    let twice = assert_nothing_lost(&numbers(&plain), published, true);
    assert!(twice <= link.overlap, "{twice} of {}", link.overlap);
    assert_eq!(assert_nothing_lost(&numbers(&queued), published, false), 0, "a queue group gets each once");
    node.end();
}

#[test]
fn without_another_server_a_link_stays_on_a_lame_duck_until_it_is_dropped() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(
        configured(servers.builder(), |config| {
            config.connection.reconnect.max = Duration::from_millis(50);
        }),
        1,
    );
    let mut events = node.handle.events();
    let received = collect(&node, "stays", None);
    servers.lame_duck(0, 0).unwrap();
    event(&mut events, "lame duck", |event| matches!(event, Event::LameDuck { .. }).then_some(()));
    for _ in 0..3 {
        event(&mut events, "vain try", |event| matches!(event, Event::ConnectFailed { .. }).then_some(()));
    }
    node.on(0, async |shard: Shard| {
        shard.publish("stays", "7").unwrap();
        shard.flush().await.unwrap();
    });
    wait_for("the message", || (numbers(&received) == [7]).then_some(()));
    let link = node.link(0, "c1");
    assert_eq!((link.connected, link.connects, link.disconnects, link.moves), (true, 1, 0, 0), "{link:?}");
    servers.kill(0, 0).unwrap();
    event(&mut events, "disconnect", |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    servers.restart(0, 0).unwrap();
    event(&mut events, "reconnect", |event| matches!(event, Event::Reconnected { .. }).then_some(()));
    node.on(0, async |shard: Shard| shard.publish("stays", "8").unwrap());
    wait_for("the message", || (numbers(&received) == [7, 8]).then_some(()));
    block_on(node.handle.reconnect("c1")).unwrap();
    event(&mut events, "move", |event| matches!(event, Event::Moved { .. }).then_some(()));
    node.end();
}
