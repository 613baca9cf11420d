//! R1, R2, R6: what may and may not end a consumer, and from when on it hears everything.

use std::{cell::RefCell, rc::Rc, time::Duration};

use croupier::{Node, OwnedMessage, testing::LocalCluster};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    recording_proxy::RecordingProxy,
    rig::{Rig, configured, guarded, peer, settle, text},
};

#[test]
fn r1_a_consumer_that_ends_takes_no_other_with_it() {
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        // On the same topic, on another one, on another cluster, by a wildcard, by a handler.
        let topic = rig.topics_on("c1", "r1", 1).remove(0);
        let others = [
            topic.clone(),
            rig.topics_on("c1", "other", 1).remove(0),
            rig.topics_on("c2", "r1", 1).remove(0),
        ];
        let mut inlets = Vec::new();
        for other in &others {
            inlets.push(rig.subscribe(0, other).await);
        }
        let mut wildcard = rig.subscribe(0, "r1.*").await;
        let (sender, mut handled) = unbounded_channel();
        let (ending, counted) = (topic.clone(), topic.clone());
        rig.on(0, async move |shard| {
            let guard = shard
                .subscribe_with(&counted, move |view| {
                    sender.send(OwnedMessage::from(view.to_message())).unwrap();
                })
                .await
                .unwrap();
            shard.spawn(async move {
                std::future::pending::<()>().await;
                drop(guard);
            });

            // A consumer ends in each of the ways there are.
            drop(shard.subscribe(&ending).await.unwrap());
            shard.subscribe(&ending).await.unwrap().unsubscribe().await.unwrap();
            shard.subscribe(&ending).await.unwrap().drain().await.unwrap();
            shard.subscribe(&ending).await.unwrap().unsubscribe_after(0);
            drop(shard.subscribe("r1.>").await.unwrap());
            drop(shard.queue_subscribe(&ending, "crew").await.unwrap());
            drop(shard.subscribe_with(&ending, |_| {}).await.unwrap());
            let guard =
                shard.subscribe_with("r1.panic", |_| panic!("a handler of the test panics")).await.unwrap();
            shard.publish("r1.panic", "go").unwrap();
            while !guard.is_ended() {
                shard.sleep(Duration::from_millis(1)).await;
            }
            let mut dying = shard.subscribe(&ending).await.unwrap();
            shard.spawn(async move {
                dying.next().await;
                panic!("a consumer of the test panics");
            });
            shard.publish(&ending, "last words").unwrap();
            while shard.stats().task_panics == 0 {
                shard.sleep(Duration::from_millis(1)).await;
            }
        })
        .await;

        assert_eq!(inlets[0].texts(1).await, ["last words"]);
        assert_eq!(text(handled.recv().await.unwrap().payload()), "last words");
        assert_eq!(wildcard.texts(2).await.len(), 2, "\"go\" and \"last words\"");
        for (other, inlet) in others.iter().zip(&mut inlets) {
            rig.handle().publish(other, "still here").unwrap();
            assert_eq!(inlet.texts(1).await, ["still here"]);
        }
        assert_eq!(wildcard.texts(2).await, ["still here"; 2]);
        assert_eq!(text(handled.recv().await.unwrap().payload()), "still here");
        let stats = rig.handle().stats().remove(0);
        assert!(stats.links.iter().all(|link| link.disconnects == 0), "{stats:?}");
        assert_eq!(
            (stats.task_panics, stats.links.iter().map(|link| link.handler_panics).sum::<u64>()),
            (1, 1)
        );
    });
}

#[test]
fn r2_a_lost_cluster_ends_no_consumer() {
    const ROUNDS: usize = 3;
    let mut servers = LocalCluster::start(2).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.reconnect.max = Duration::from_millis(100);
    });
    let rig = Rig::start(builder, 1);
    guarded(async {
        let lost = rig.topics_on("c1", "r2", 1).remove(0);
        let kept = rig.topics_on("c2", "r2", 1).remove(0);
        let mut on_lost = rig.subscribe(0, &lost).await;
        let mut on_kept = rig.subscribe(0, &kept).await;
        let mut on_all = rig.subscribe(0, "r2.*").await;
        let (sender, mut handled) = unbounded_channel();
        let topic = lost.clone();
        rig.on(0, async move |shard| {
            let guard = shard
                .subscribe_with(&topic, move |view| sender.send(text(view.payload())).unwrap())
                .await
                .unwrap();
            shard.spawn(async move {
                std::future::pending::<()>().await;
                drop(guard);
            });
        })
        .await;
        for round in 0..ROUNDS {
            servers.kill(0, 0).unwrap();
            rig.until_connected(0, "c1", false).await;

            let meanwhile = format!("{round}: meanwhile");
            rig.handle().publish(&kept, &meanwhile).unwrap();
            assert_eq!(on_kept.texts(1).await, [meanwhile.as_str()]);
            assert_eq!(on_all.texts(1).await, [meanwhile.as_str()]);
            // Waits in the buffer, and goes out behind the SUBs of the new connection.
            let waiting = format!("{round}: waited");
            rig.handle().publish(&lost, &waiting).unwrap();

            servers.restart(0, 0).unwrap();
            assert_eq!(on_lost.texts(1).await, [waiting.as_str()]);
            assert_eq!(on_all.texts(1).await, [waiting.as_str()]);
            assert_eq!(handled.recv().await.unwrap(), waiting);
            // And from somebody else.
            let peer = peer(&servers.servers(0)).await;
            peer.publish(lost.clone(), "of a peer".into()).await.unwrap();
            assert_eq!(on_lost.texts(1).await, ["of a peer"]);
            assert_eq!(on_all.texts(1).await, ["of a peer"]);
            assert_eq!(handled.recv().await.unwrap(), "of a peer");
        }
        let stats = rig.handle().stats().remove(0);
        assert_eq!(stats.link("c1").unwrap().disconnects, ROUNDS as u64);
        assert_eq!(stats.link("c2").unwrap().disconnects, 0);
        assert!(on_lost.is_empty() && on_kept.is_empty() && on_all.is_empty(), "nothing came twice");
    });
}

#[test]
fn r6_what_is_published_right_after_subscribe_arrives() {
    const ROUNDS: usize = 40;
    /// The SUB takes so long to the server that a subscribe which did not wait would miss everything.
    const DELAY: Duration = Duration::from_millis(25);
    let servers = LocalCluster::start(1).unwrap();
    let proxy = RecordingProxy::start(&servers.servers(0)[0], DELAY);
    let builder =
        configured(Node::builder().cluster("c1", [proxy.url()]), |config| config.shards.pin = false);
    let rig = Rig::start(builder, 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut inlets = Vec::new();
        for round in 0..ROUNDS {
            let topic = format!("r6.{round}");
            inlets.push(rig.subscribe(0, &topic).await);
            // From a client that is not slow, at once.
            peer.publish(topic, round.to_string().into()).await.unwrap();
            peer.flush().await.unwrap();
        }
        settle(&peer).await;
        for (round, inlet) in inlets.iter_mut().enumerate() {
            assert_eq!(inlet.texts(1).await, [round.to_string()]);
        }
    });
}

#[test]
fn r6_also_when_the_subscriber_shares_a_sub_that_is_on_its_way() {
    const DELAY: Duration = Duration::from_millis(25);
    let servers = LocalCluster::start(1).unwrap();
    let proxy = RecordingProxy::start(&servers.servers(0)[0], DELAY);
    let builder =
        configured(Node::builder().cluster("c1", [proxy.url()]), |config| config.shards.pin = false);
    let rig = Rig::start(builder, 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        for round in 0..10 {
            let topic = format!("r6.{round}");
            let (confirmed, is_confirmed) = tokio::sync::oneshot::channel();
            let of_shard = topic.clone();
            let shared = rig.on(0, async move |shard| {
                let first = shard.subscribe_unconfirmed(&of_shard).unwrap();
                let mut second = shard.subscribe(&of_shard).await.unwrap();
                confirmed.send(()).unwrap();
                let message = second.next().await.unwrap();
                drop(first);
                text(message.payload())
            });
            let published = async {
                is_confirmed.await.unwrap();
                peer.publish(topic, "right after".into()).await.unwrap();
                peer.flush().await.unwrap();
            };
            let (seen, ()) = tokio::join!(shared, published);
            assert_eq!(seen, "right after");
        }
    });
}

#[test]
fn r1_a_handler_may_end_itself_and_subscribe_again() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let mut beside = rig.subscribe(0, "r1.once").await;
        rig.on(0, async |shard| {
            let held = Rc::new(RefCell::new(None));
            let calls = Rc::new(RefCell::new(Vec::new()));
            let (own, of_calls) = (Rc::clone(&held), Rc::clone(&calls));
            let guard = shard
                .subscribe_with("r1.once", move |view| {
                    of_calls.borrow_mut().push(text(view.payload()));
                    drop(own.borrow_mut().take());
                })
                .await
                .unwrap();
            *held.borrow_mut() = Some(guard);
            for number in 0..3 {
                shard.publish("r1.once", number.to_string()).unwrap();
            }
            shard.flush().await.unwrap();
            assert_eq!(*calls.borrow(), ["0"], "after its guard is dropped a handler is not called");
        })
        .await;
        assert_eq!(beside.texts(3).await, ["0", "1", "2"]);
    });
}
