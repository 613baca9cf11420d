//! Where a link connects to, and as whom: discovered servers, options, permissions, one fate for each message.

use std::time::{Duration, Instant};

use croupier::{
    DeniedAction, DisconnectReason, Event, Events, PublishError, Shard, SubscribeError, testing::LocalCluster,
};
use futures_lite::{StreamExt, future::block_on};

use crate::{
    own_server::OwnServer,
    rig::{Rig, configured, guarded, peer, peer_subscribe},
    scripted::{ScriptedServer, Sent, serve_politely},
    support::{GUARD, TestNode, assert_balanced, permit, wait_for},
};

/// Rounds of kill and restart.
const KILLS: u64 = 20;

/// Waits for an event that `wanted` makes something of; the others are passed over.
pub(crate) fn event<T>(events: &mut Events, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let deadline = Instant::now() + GUARD;
    loop {
        match events.try_next() {
            Some(event) => {
                if let Some(value) = wanted(&event) {
                    return value;
                }
                seen.push(event);
            }
            None => {
                assert!(Instant::now() < deadline, "no {what} among {seen:#?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn host_port(url: &str) -> &str {
    url.trim_start_matches("nats://")
}

#[test]
fn given_one_seed_a_link_moves_to_a_discovered_server_when_its_own_dies() {
    let _permit = permit(1);
    let mut servers = LocalCluster::with_nodes(1, 3).unwrap();
    let urls = servers.servers(0);
    let node = TestNode::start(
        configured(croupier::Node::builder().cluster("c1", [&urls[0]]), |config| config.shards.pin = false),
        1,
    );
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| drop(shard.subscribe_unconfirmed("seed").unwrap()));
    let mut known = Vec::new();
    event(&mut events, "discovery of both", |event| {
        if let Event::DiscoveredServers { added, .. } = event {
            known.extend(added.iter().cloned());
        }
        (known.len() == 2).then_some(())
    });
    for url in &urls[1..] {
        assert!(known.iter().any(|server| server == host_port(url)), "{url} is not in {known:?}");
    }
    node.connected(0, "c1");

    let killed = Instant::now();
    servers.kill(0, 0).unwrap();
    let (now_on, took) = event(&mut events, "reconnect", |event| match event {
        Event::Reconnected { server, .. } => Some((server.clone(), killed.elapsed())),
        _ => None,
    });
    println!("connected to another server {took:?} after the kill was begun");
    node.on(0, async |shard: Shard| {
        let mut messages = shard.subscribe("after").await.unwrap();
        shard.publish("after", "x").unwrap();
        assert_eq!(messages.next().await.unwrap().payload(), b"x");
    });

    // The survivor tells when the third one goes.
    let on = urls.iter().position(|url| host_port(url) == now_on).unwrap();
    assert!(on > 0);
    let other = 3 - on;
    servers.kill(0, other).unwrap();
    event(&mut events, "removal", |event| match event {
        Event::DiscoveredServers { removed, .. } => {
            removed.iter().any(|server| server == host_port(&urls[other])).then_some(())
        }
        _ => None,
    });
    let link = node.link(0, "c1");
    assert_eq!((link.connects, link.disconnects, link.bad_addresses), (2, 1, 0), "{link:?}");
    node.end();
}

#[test]
fn a_server_is_killed_twenty_times_and_every_message_has_one_fate() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(
        configured(servers.builder(), |config| {
            config.connection.reconnect.max = Duration::from_millis(50);
        }),
        1,
    );
    let mut events = node.handle.events();
    let burst = || {
        node.on(0, async |shard: Shard| {
            for number in 0..500_u32 {
                shard.publish("killed", number.to_string()).unwrap();
            }
        });
    };
    burst();
    node.connected(0, "c1");
    let mut in_doubt = 0;
    for round in 1..=KILLS {
        burst();
        servers.kill(0, 0).unwrap();
        burst();
        let (fates, lost) = event(&mut events, "disconnect", |event| match event {
            Event::Disconnected { fates, in_doubt, queued, .. } => {
                assert_eq!((fates.queued, fates.written), (*queued, 0));
                Some((*fates, *in_doubt))
            }
            _ => None,
        });
        in_doubt += lost;
        assert_eq!(fates.in_doubt, in_doubt, "round {round}");
        let settled = fates.processed + fates.in_doubt + fates.discarded_oversized + fates.discarded_unsent;
        assert_eq!(fates.accepted, fates.queued + fates.written + settled, "round {round}: {fates:?}");
        assert_balanced(&node.link(0, "c1"));
        servers.restart(0, 0).unwrap();
        event(&mut events, "reconnect", |event| matches!(event, Event::Reconnected { .. }).then_some(()));
    }
    node.on(0, async |shard: Shard| shard.flush().await.unwrap());
    let link = node.link(0, "c1");
    assert_balanced(&link);
    assert_eq!((link.connects, link.disconnects), (KILLS + 1, KILLS));
    assert_eq!((link.accepted, link.queued, link.written), (500 * (2 * KILLS + 1), 0, 0));
    assert_eq!(link.in_doubt, in_doubt);
    println!("{} published, {in_doubt} in doubt", link.accepted);
    node.end();
}

#[test]
fn what_is_too_large_for_a_restarted_server_is_discarded_and_counted() {
    let _permit = permit(1);
    let mut server = OwnServer::start("");
    let node = TestNode::start(
        configured(croupier::Node::builder().cluster("c1", [server.url()]), |config| {
            config.shards.pin = false;
            config.connection.reconnect.max = Duration::from_millis(50);
        }),
        1,
    );
    node.on(0, async |shard: Shard| shard.publish("size", "first").unwrap());
    node.connected(0, "c1");
    node.on(0, async |shard: Shard| shard.flush().await.unwrap());
    server.kill();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    node.on(0, async |shard: Shard| {
        for bytes in [10, 3000, 20, 5000, 30] {
            shard.publish("size", vec![b'x'; bytes]).unwrap();
        }
    });
    server.restart("max_payload: 1000");
    node.connected(0, "c1");
    node.on(0, async |shard: Shard| {
        shard.flush().await.unwrap();
        match shard.publish("size", vec![b'x'; 1001]) {
            Err(PublishError::PayloadTooLarge { limit_bytes: 1000, .. }) => {}
            other => panic!("{other:?}"),
        }
    });
    let link = node.link(0, "c1");
    assert_balanced(&link);
    assert_eq!((link.accepted, link.processed, link.discarded), (6, 4, 2), "{link:?}");
    assert_eq!((link.discarded_oversized, link.discarded_unsent, link.rejected), (2, 0, 1), "{link:?}");
    node.end();
}

#[test]
fn a_forbidden_subject_leaves_the_others_alone() {
    let _permit = permit(1);
    let server = OwnServer::start(
        r#"accounts { A { users = [ { user: app, password: any,
            permissions: { publish: { deny: "closed.>" }, subscribe: { deny: "closed.>" } } } ] } }
           no_auth_user: app"#,
    );
    let node = TestNode::start(
        configured(croupier::Node::builder().cluster("c1", [server.url()]), |config| {
            config.shards.pin = false;
        }),
        1,
    );
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| {
        let mut open = shard.subscribe("open.a").await.unwrap();
        match shard.subscribe("closed.a").await {
            Err(SubscribeError::PermissionDenied { cluster }) => assert_eq!(cluster, *"c1"),
            other => panic!("{other:?}"),
        }
        shard.publish("closed.b", "x").unwrap();
        shard.publish("open.a", "y").unwrap();
        assert_eq!(open.next().await.unwrap().payload(), b"y");
    });
    for expected in [(DeniedAction::Subscribe, "closed.a"), (DeniedAction::Publish, "closed.b")] {
        event(&mut events, "denial", |event| match event {
            Event::PermissionDenied { action, subject, .. } => {
                assert_eq!((*action, subject.as_str()), expected);
                Some(())
            }
            _ => None,
        });
    }
    let link = node.link(0, "c1");
    assert_eq!((link.connects, link.disconnects, link.server_errors), (1, 0, 2), "{link:?}");
    node.end();
}

#[test]
fn a_server_that_closes_without_a_word_leaves_what_was_written_in_doubt() {
    let _permit = permit(1);
    let server = ScriptedServer::start(|number, stream| {
        serve_politely(stream, 1 << 20, |sent, _| match sent {
            Sent::Publish { .. } if number == 0 => Err(std::io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        })
    });
    let node = TestNode::start(
        configured(croupier::Node::builder().cluster("c1", [server.url()]), |config| {
            config.shards.pin = false;
        }),
        1,
    );
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| shard.publish("closed", "x").unwrap());
    let (reason, in_doubt) = event(&mut events, "disconnect", |event| match event {
        Event::Disconnected { reason, in_doubt, .. } => Some((reason.clone(), *in_doubt)),
        _ => None,
    });
    assert!(matches!(reason, DisconnectReason::EndOfStream | DisconnectReason::Socket(_)), "{reason:?}");
    assert_eq!(in_doubt, 1);
    event(&mut events, "reconnect", |event| matches!(event, Event::Reconnected { .. }).then_some(()));
    assert_balanced(&node.link(0, "c1"));
    node.end();
}

#[test]
fn without_echo_a_shard_hears_others_and_not_itself() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(configured(servers.builder(), |config| config.connection.echo = false), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut there = peer_subscribe(&peer, "echo").await;
        let mut here = rig.subscribe(0, "echo").await;
        rig.on(0, async |shard| shard.publish("echo", "from the shard").unwrap()).await;
        assert_eq!(&there.next().await.unwrap().payload[..], b"from the shard");
        peer.publish("echo", "from the peer".into()).await.unwrap();
        assert_eq!(here.next().await.payload(), b"from the peer");
        assert!(here.is_empty());
    });
}

#[test]
fn replies_come_to_the_configured_prefix() {
    let servers = LocalCluster::start(1).unwrap();
    let change = |config: &mut croupier::Config| config.connection.inbox_prefix = "replies.app-1".to_owned();
    let rig = Rig::start(configured(servers.builder(), change), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut asked = peer_subscribe(&peer, "ask").await;
        let answering = async {
            let message = asked.next().await.unwrap();
            let reply = message.reply.unwrap();
            assert!(reply.starts_with("replies.app-1."), "{reply}");
            peer.publish(reply, "yes".into()).await.unwrap();
        };
        let asking = rig.on(0, async |shard| shard.request("ask", "?").await.unwrap().payload().to_vec());
        let ((), answer) = futures_lite::future::zip(answering, asking).await;
        assert_eq!(answer, b"yes");
    });
}

#[test]
fn servers_show_the_client_by_its_name() {
    let _permit = permit(1);
    let server = OwnServer::start("");
    let names = || {
        let connz = server.monitoring("/connz");
        let connections = connz["connections"].as_array().unwrap().clone();
        connections.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    for (client_name, expected) in [(None, "the-node"), (Some("the-app"), "the-app")] {
        let builder = croupier::Node::builder().name("the-node").cluster("c1", [server.url()]);
        let node = TestNode::start(
            configured(builder, |config| {
                config.shards.pin = false;
                config.connection.client_name = client_name.map(str::to_owned);
            }),
            1,
        );
        node.on(0, async |shard: Shard| shard.publish("name", "x").unwrap());
        node.connected(0, "c1");
        assert_eq!(names(), [expected]);
        block_on(node.handle.drain()).unwrap();
        wait_for("the connection's end", || names().is_empty().then_some(()));
    }
}
