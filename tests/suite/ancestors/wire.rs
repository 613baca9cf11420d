//! R12: what many local subscribers of one topic cost on the wire.

use std::time::Duration;

use croupier::{Node, testing::LocalCluster};

use crate::{
    recording_proxy::RecordingProxy,
    rig::{Rig, configured, guarded, peer, text},
};

/// Lines of the recording that begin with this.
fn lines(recording: &str, beginning: &str) -> usize {
    recording.lines().filter(|line| line.starts_with(beginning)).count()
}

#[test]
fn r12_a_hundred_local_subscribers_are_one_sub_and_one_copy() {
    const SUBSCRIBERS: usize = 100;
    const MESSAGES: usize = 10;
    let servers = LocalCluster::start(1).unwrap();
    let proxy = RecordingProxy::start(&servers.servers(0)[0], Duration::ZERO);
    let builder =
        configured(Node::builder().cluster("c1", [proxy.url()]), |config| config.shards.pin = false);
    let rig = Rig::start(builder, 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let (subscribed, all_subscribed) = tokio::sync::oneshot::channel();
        let consumed = rig.on(0, async move |shard| {
            let mut subscriptions = Vec::new();
            let (mut handled, mut guards) = (Vec::new(), Vec::new());
            for number in 0..SUBSCRIBERS {
                // Every second one is a handler.
                if number % 2 == 0 {
                    subscriptions.push(shard.subscribe("r12").await.unwrap());
                } else {
                    let calls = std::rc::Rc::new(std::cell::Cell::new(0));
                    handled.push(std::rc::Rc::clone(&calls));
                    guards.push(
                        shard.subscribe_with("r12", move |_| calls.set(calls.get() + 1)).await.unwrap(),
                    );
                }
            }
            subscribed.send(()).unwrap();
            for subscription in &mut subscriptions {
                for number in 0..MESSAGES {
                    assert_eq!(text(subscription.next().await.unwrap().payload()), number.to_string());
                }
            }
            assert!(handled.iter().all(|calls| calls.get() == MESSAGES), "{handled:?}");
            assert_eq!(shard.stats().link("c1").unwrap().received, MESSAGES as u64);

            // All but one go: the server hears nothing of it.
            let last = subscriptions.pop().unwrap();
            drop((subscriptions, guards));
            shard.flush().await.unwrap();
            last.unsubscribe().await.unwrap();
        });
        let published = async {
            all_subscribed.await.unwrap();
            let sent = proxy.sent_by_clients();
            assert_eq!(lines(&sent, "SUB r12 "), 1, "{sent}");
            for number in 0..MESSAGES {
                peer.publish("r12", number.to_string().into()).await.unwrap();
            }
            peer.flush().await.unwrap();
        };
        tokio::join!(consumed, published);
        let (sent, received) = (proxy.sent_by_clients(), proxy.sent_by_server());
        assert_eq!(lines(&received, "MSG r12 "), MESSAGES, "one copy each: {received}");
        assert_eq!((lines(&sent, "SUB r12 "), lines(&sent, "UNSUB ")), (1, 1), "{sent}");
    });
}
