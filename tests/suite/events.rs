//! What happens to a node is told to whoever listens: in order, bounded, without secrets.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use croupier::{DisconnectReason, Event, LinkEnd, Node, Shard, testing::LocalCluster};
use futures_lite::future::block_on;

use crate::{
    links::event,
    rig::configured,
    scripted::{ScriptedServer, Sent, serve_politely},
    support::{TestNode, permit},
};

#[test]
fn a_nodes_life_is_told_from_its_first_connection_to_its_end() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&told);
    let builder = configured(servers.builder(), |config| config.limits.subscriber_queue.messages = 2);
    let node = TestNode::start(
        builder.on_event(move |event| {
            assert!(!format!("{event:?}").is_empty());
            counted.fetch_add(1, Ordering::AcqRel);
        }),
        1,
    );
    let (mut events, mut all) = (node.handle.events(), node.handle.events());
    node.on(0, async |shard: Shard| shard.publish("first", "x").unwrap());
    event(&mut events, "connection", |event| match event {
        Event::Connected { cluster, shard: 0, server } => {
            assert_eq!(*cluster, *"c1");
            assert!(servers.servers(0)[0].ends_with(server.as_str()), "{server}");
            Some(())
        }
        _ => None,
    });
    node.on(0, async |shard: Shard| {
        let guard = shard.subscribe_with("odd", |_| panic!("on purpose")).await.unwrap();
        let slow = shard.subscribe("slow").await.unwrap();
        shard.publish("odd", "x").unwrap();
        for _ in 0..5 {
            shard.publish("slow", "x").unwrap();
        }
        shard.flush().await.unwrap();
        assert_eq!(slow.lagged(), 3);
        drop((guard, slow));
    });
    event(&mut events, "panic", |event| match event {
        Event::HandlerPanicked { topic, shard: 0, .. } => {
            assert_eq!(topic, "odd");
            Some(())
        }
        _ => None,
    });
    event(&mut events, "slow subscriber", |event| match event {
        Event::SlowSubscriber { topic, lagged, .. } => {
            assert_eq!((topic.as_str(), *lagged), ("slow", 1));
            Some(())
        }
        _ => None,
    });
    let handle = node.handle.clone();
    node.end();
    event(&mut events, "drain", |event| matches!(event, Event::Draining).then_some(()));
    event(&mut events, "disconnect", |event| match event {
        Event::Disconnected { reason, in_doubt, queued, fates, .. } => {
            assert_eq!((reason, *in_doubt, *queued), (&DisconnectReason::Draining, 0, 0));
            assert_eq!((fates.accepted, fates.processed), (7, 7));
            Some(())
        }
        _ => None,
    });
    event(&mut events, "end", |event| match event {
        Event::LinkEnded { reason, discarded, .. } => {
            assert_eq!((*reason, *discarded), (LinkEnd::Draining, 0));
            Some(())
        }
        _ => None,
    });
    assert_eq!(block_on(events.next()), None);
    // The other stream and the callback have got the same; one stream is slow, and none slows the other.
    let mut count = 0;
    while block_on(all.next()).is_some() {
        count += 1;
    }
    assert_eq!((told.load(Ordering::Acquire), all.lagged()), (count, 0));
    assert_eq!(block_on(handle.events().next()), None, "a stopped node has no events");
}

#[test]
fn a_server_that_refuses_twice_ends_the_tries_and_that_is_told() {
    let _permit = permit(1);
    let server = ScriptedServer::start(|_, stream| {
        serve_politely(stream, 1 << 20, |sent, to| match sent {
            Sent::Connect => to.write_all(b"-ERR 'Authorization Violation'\r\n"),
            _ => Ok(()),
        })
    });
    let node = TestNode::start(
        configured(Node::builder().cluster("c1", [server.url()]), |config| {
            config.shards.pin = false;
            config.limits.drain_timeout = Duration::from_millis(100);
        }),
        1,
    );
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| shard.publish("refused", "x").unwrap());
    let mut failed = 0;
    event(&mut events, "refusal", |event| match event {
        Event::ConnectFailed { reason, .. } => {
            assert_eq!(*reason, DisconnectReason::Server("authorization violation".to_owned()));
            failed += 1;
            None
        }
        Event::ServerRefused { text, .. } => {
            assert_eq!(text, "authorization violation");
            Some(())
        }
        _ => None,
    });
    assert_eq!(failed, 2);
    event(&mut events, "end", |event| match event {
        Event::LinkEnded { reason, discarded, .. } => {
            assert_eq!((*reason, *discarded), (LinkEnd::Refused, 1));
            Some(())
        }
        _ => None,
    });
    assert_eq!(server.accepted(), 2);
    let link = node.link(0, "c1");
    assert_eq!((link.discarded, link.discarded_unsent, link.discarded_oversized), (1, 1, 0), "{link:?}");
    node.end();
}

#[test]
fn what_a_server_complains_of_is_told_without_what_looks_like_a_secret() {
    let _permit = permit(1);
    let server = ScriptedServer::start(|_, stream| {
        serve_politely(stream, 1 << 20, |sent, to| match sent {
            Sent::Publish { .. } => to.write_all(b"-ERR 'odd: nats://app:canary@host'\r\n"),
            _ => Ok(()),
        })
    });
    let node = TestNode::start(
        configured(Node::builder().cluster("c1", [server.url()]), |config| config.shards.pin = false),
        1,
    );
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| shard.publish("odd", "x").unwrap());
    event(&mut events, "complaint", |event| match event {
        Event::ServerError { text, .. } => {
            assert!(text.contains("odd") && !text.contains("canary"), "{text}");
            Some(())
        }
        _ => None,
    });
    assert!(node.link(0, "c1").connected, "the connection goes on");
    node.end();
}
