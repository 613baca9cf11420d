//! One cluster of two servers: a node on one of them, async-nats on the other.

use std::{collections::BTreeSet, time::Duration};

use croupier::{RequestError, testing::LocalCluster};
use futures_lite::StreamExt;

use crate::rig::{Rig, answer_in_capitals, guarded, peer, peer_subscribe, text};

const MESSAGES: usize = 200;
/// Between tries while interest travels from server to server.
const PAUSE: Duration = Duration::from_millis(5);

/// A node on the first server, and what the peer on the second has to connect to.
fn start() -> (LocalCluster, Rig, Vec<String>) {
    let servers = LocalCluster::with_nodes(1, 2).unwrap();
    let [first, second] = <[String; 2]>::try_from(servers.servers(0)).unwrap();
    let mut builder = croupier::Node::builder().cluster("c1", [first]);
    builder.config_mut().shards.pin = false;
    (servers, Rig::start(builder, 1), vec![second])
}

fn numbers() -> Vec<String> {
    (0..MESSAGES).map(|number| number.to_string()).collect()
}

#[test]
fn messages_pass_from_server_to_server_in_order() {
    let (_servers, rig, second) = start();
    guarded(async {
        let peer = peer(&second).await;
        let mut subscriber = peer_subscribe(&peer, "across.to").await;
        let mut inlet = rig.subscribe(0, "across.from").await;

        // A PONG says nothing about the other server: the first delivery does.
        let first = loop {
            rig.handle().publish("across.to", "first").unwrap();
            if let Ok(message) = tokio::time::timeout(PAUSE, subscriber.next()).await {
                break message.unwrap();
            }
        };
        assert_eq!(text(&first.payload), "first");
        rig.on(0, async |shard| {
            for number in 0..MESSAGES {
                shard.publish("across.to", number.to_string()).unwrap();
            }
        })
        .await;
        let mut seen = Vec::new();
        while seen.len() < MESSAGES {
            let payload = text(&subscriber.next().await.unwrap().payload);
            // Those tries that came late.
            if payload != "first" {
                seen.push(payload);
            }
        }
        assert_eq!(seen, numbers());

        while inlet.is_empty() {
            peer.publish("across.from", "first".into()).await.unwrap();
            tokio::time::sleep(PAUSE).await;
        }
        for number in 0..MESSAGES {
            peer.publish("across.from", number.to_string().into()).await.unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < MESSAGES {
            let payload = text(inlet.next().await.payload());
            if payload != "first" {
                seen.push(payload);
            }
        }
        assert_eq!(seen, numbers());
    });
}

#[test]
fn a_request_crosses_the_route_and_its_reply_comes_back() {
    let (_servers, rig, second) = start();
    guarded(async {
        let peer = peer(&second).await;
        let requests = peer_subscribe(&peer, "across.rpc").await;
        answer_in_capitals(&peer, requests, MESSAGES);
        rig.on(0, async |shard| {
            let mut answered = 0;
            while answered < MESSAGES {
                match shard.request("across.rpc", format!("ask {answered}")).await {
                    Ok(reply) => assert_eq!(text(reply.payload()), format!("ASK {answered}")),
                    // The first server has not heard of the responder yet.
                    Err(RequestError::NoResponders { .. }) if answered == 0 => {
                        shard.sleep(PAUSE).await;
                        continue;
                    }
                    // The second server has not heard of the inbox yet, so the reply to the first is lost.
                    Err(RequestError::Timeout { .. }) if answered == 0 => {}
                    Err(error) => panic!("request {answered}: {error}"),
                }
                answered += 1;
            }
        })
        .await;
    });
}

#[test]
fn a_queue_group_with_a_member_on_each_server_shares_what_comes() {
    let (_servers, rig, second) = start();
    guarded(async {
        let peer = peer(&second).await;
        let mut there = peer.queue_subscribe("across.work", "crew".to_owned()).await.unwrap();
        let (sender, mut here) = tokio::sync::mpsc::unbounded_channel();
        rig.on(0, async move |shard| {
            let mut member = shard.queue_subscribe("across.work", "crew").await.unwrap();
            shard.spawn(async move {
                while let Some(message) = member.next().await {
                    sender.send(text(message.payload())).unwrap();
                }
            });
        })
        .await;
        for number in numbers() {
            peer.publish("across.work", number.into()).await.unwrap();
        }
        // Whichever member the servers prefer, each message comes to one.
        let mut seen = Vec::new();
        while seen.len() < MESSAGES {
            tokio::select! {
                message = here.recv() => seen.push(message.unwrap()),
                message = there.next() => seen.push(text(&message.unwrap().payload)),
            }
        }
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), numbers().into_iter().collect());

        // The far member goes; the near one gets all that a client on the far server sends.
        drop(there);
        let mut published = 0;
        let mut seen = BTreeSet::new();
        while seen.len() < MESSAGES {
            peer.publish("across.work", format!("again {published}").into()).await.unwrap();
            published += 1;
            while let Ok(message) = here.try_recv() {
                seen.insert(message);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
