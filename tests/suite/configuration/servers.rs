//! A cluster's servers change while a node runs: links connect to new ones, and leave those that are gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use croupier::{Builder, Config, Event, Node, ReloadError, Shard, testing::LocalCluster};
use futures_lite::future::block_on;

use crate::{
    lame_duck::{assert_nothing_lost, collect, numbers, publish_numbers},
    links::event,
    log_lines::{self, CANARY},
    rig::configured,
    support::{GUARD, TestNode, assert_balanced, permit, wait_for},
};

/// A port that nobody listens at: no server of a test gets it.
const NOBODY: &str = "nats://127.0.0.1:1";

/// The configuration with these servers in its first cluster.
fn with_servers(config: &Config, servers: &[&str]) -> Config {
    let mut config = config.clone();
    config.clusters[0].servers = servers.iter().map(|server| (*server).to_owned()).collect();
    config
}

fn start(builder: Builder, shards: usize) -> (TestNode, Config) {
    let builder = configured(builder, |config| {
        config.shards.pin = false;
        config.connection.subscribe_timeout = GUARD;
    });
    let config = builder.clone().shards(shards).config_mut().clone();
    (TestNode::start(builder, shards), config)
}

#[test]
fn a_link_leaves_a_server_that_is_taken_out_under_load_and_nothing_is_lost_or_in_doubt() {
    let _permit = permit(2);
    let mut servers = LocalCluster::with_nodes(1, 2).unwrap();
    let [first, second] = <[String; 2]>::try_from(servers.servers(0)).unwrap();
    let (node, config) = start(Node::builder().cluster("c1", [&first]), 2);
    let mut events = node.handle.events();
    let plain = collect(&node, "plain", None);
    let queued = collect(&node, "queued", Some("group"));
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_numbers(&node, &["plain", "queued"], &stop);
    wait_for("some messages", || (numbers(&plain).len() > 20).then_some(()));

    let reloaded = block_on(node.handle.reload(with_servers(&config, &[&second]))).unwrap();
    assert_eq!(reloaded.changed, ["clusters[0].servers"]);
    event(&mut events, "move", |event| match event {
        Event::Moved { from, to, .. } => {
            assert!(first.ends_with(from.as_str()) && second.ends_with(to.as_str()), "{from} to {to}");
            Some(())
        }
        Event::Disconnected { .. } => panic!("{event:?}"),
        _ => None,
    });
    wait_for("the end of the old connection", || (node.link(0, "c1").disconnects == 1).then_some(()));
    stop.store(true, Ordering::Release);
    node.on(0, async |shard: Shard| {
        shard.sleep(Duration::from_millis(20)).await;
        shard.flush().await.unwrap();
    });
    let published = published.load(Ordering::Acquire);
    wait_for("the last ones", || {
        [&plain, &queued].iter().all(|received| numbers(received).contains(&(published - 1))).then_some(())
    });
    let link = node.link(0, "c1");
    assert_balanced(&link);
    assert_eq!((link.accepted, link.processed, link.in_doubt), (2 * published, 2 * published, 0), "{link:?}");
    assert_eq!((link.connects, link.moves), (2, 1), "{link:?}");
    let twice = assert_nothing_lost(&numbers(&plain), published, true);
    assert!(twice <= link.overlap, "{twice} of {}", link.overlap);
    assert_eq!(assert_nothing_lost(&numbers(&queued), published, false), 0, "a queue group gets each once");

    // A shard that had no link yet knows only of the other one.
    servers.kill(0, 0).unwrap();
    node.on(1, async move |shard: Shard| {
        shard.publish("plain", published.to_string()).unwrap();
        shard.flush().await.unwrap();
    });
    wait_for("what the other shard sent", || numbers(&plain).contains(&published).then_some(()));
    assert_eq!(node.link(0, "c1").disconnects, 1);
    node.end();
}

#[test]
fn servers_that_are_refused_change_nothing() {
    let _permit = permit(1);
    let servers = LocalCluster::start(2).unwrap();
    let (node, config) = start(servers.builder(), 1);
    let topic = crate::support::topic_on(&node.handle, "c1", "stays");
    let own = collect(&node, Box::leak(topic.clone().into_boxed_str()), None);
    let first = config.clusters[0].servers[0].clone();
    let other = config.clusters[1].servers[0].clone();

    let mut wrong = with_servers(&config, &[&first, "nats://a b"]);
    wrong.limits.max_payload = 1;
    match block_on(node.handle.reload(wrong)) {
        Err(ReloadError::Invalid(error)) => {
            let keys: Vec<&str> = error.problems().iter().map(|problem| problem.key.as_str()).collect();
            assert_eq!(keys, ["clusters[0].servers[1]"], "{error}");
        }
        outcome => panic!("{outcome:?}"),
    }
    let mut fixed = with_servers(&config, &[NOBODY]);
    fixed.clusters[0].name = "renamed".to_owned();
    match block_on(node.handle.reload(fixed)) {
        Err(ReloadError::Fixed { keys }) => assert_eq!(keys, ["clusters[0].name"]),
        outcome => panic!("{outcome:?}"),
    }
    // Between the two moves it would be a server of both.
    let mut passing = with_servers(&config, &[&other]);
    passing.clusters[1].servers = vec![NOBODY.to_owned()];
    match block_on(node.handle.reload(passing)) {
        Err(ReloadError::ServerPasses { server, from, to }) => {
            assert!(other.ends_with(&server.to_string()), "{server}");
            assert_eq!((from, to), ("c2".into(), "c1".into()));
        }
        outcome => panic!("{outcome:?}"),
    }
    node.on(0, async move |shard: Shard| {
        shard.publish(&topic, "1").unwrap();
        shard.flush().await.unwrap();
    });
    wait_for("the message", || (numbers(&own) == [1]).then_some(()));
    let link = node.link(0, "c1");
    assert_eq!((link.connected, link.connects, link.disconnects, link.moves), (true, 1, 0, 0), "{link:?}");
    node.end();
}

#[test]
fn a_link_stays_on_a_server_that_is_taken_out_until_another_one_takes_it() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let server = servers.servers(0).remove(0);
    let (node, config) = start(
        configured(servers.builder(), |config| config.connection.reconnect.max = Duration::from_millis(50)),
        1,
    );
    let mut events = node.handle.events();
    let own = collect(&node, "stays", None);
    block_on(node.handle.reload(with_servers(&config, &[NOBODY]))).unwrap();
    for _ in 0..2 {
        event(&mut events, "vain try", |event| matches!(event, Event::ConnectFailed { .. }).then_some(()));
    }
    node.on(0, async |shard: Shard| {
        shard.publish("stays", "1").unwrap();
        shard.flush().await.unwrap();
    });
    wait_for("the message", || (numbers(&own) == [1]).then_some(()));
    let link = node.link(0, "c1");
    assert_eq!((link.connected, link.connects, link.disconnects, link.in_doubt), (true, 1, 0, 0), "{link:?}");
    // Under another name it is another server.
    let by_name = server.replace("127.0.0.1", "localhost");
    block_on(node.handle.reload(with_servers(&config, &[&by_name]))).unwrap();
    event(&mut events, "move", |event| match event {
        Event::Moved { to, .. } => {
            assert!(by_name.ends_with(to.as_str()), "{to}");
            Some(())
        }
        Event::Disconnected { .. } => panic!("{event:?}"),
        _ => None,
    });
    node.end();
}

#[test]
fn a_server_may_come_to_belong_to_another_cluster_in_two_reloads() {
    let _permit = permit(1);
    let servers = LocalCluster::start(3).unwrap();
    let [first, other, third] = [0, 1, 2].map(|cluster| servers.servers(cluster).remove(0));
    let (node, config) = start(Node::builder().cluster("c1", [&first]).cluster("c2", [&other]), 1);
    let mut events = node.handle.events();
    for cluster in ["c1", "c2"] {
        let topic = crate::support::topic_on(&node.handle, cluster, "both");
        node.on(0, async move |shard: Shard| {
            shard.publish(&topic, "x").unwrap();
            shard.flush().await.unwrap();
        });
    }
    let mut moves_to = |server: &str| {
        event(&mut events, "move", |event| match event {
            Event::Moved { to, .. } => {
                assert!(server.ends_with(to.as_str()), "{to}");
                Some(())
            }
            Event::Disconnected { .. } => panic!("{event:?}"),
            _ => None,
        });
    };
    let mut config = with_servers(&config, &[&third]);
    block_on(node.handle.reload(config.clone())).unwrap();
    moves_to(&third);
    wait_for("the end of the old connection", || (node.link(0, "c1").disconnects == 1).then_some(()));
    // What it was known as is forgotten, or the node would end: two of its clusters would be one.
    config.clusters[1].servers = vec![first.clone()];
    block_on(node.handle.reload(config)).unwrap();
    moves_to(&first);
    node.end();
}

#[test]
fn a_link_that_waits_for_its_next_try_connects_to_a_new_server_at_once() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let builder = configured(Node::builder().cluster("c1", [NOBODY]), |config| {
        // The pause is anything up to that; less than the test would wait is as good as never.
        config.connection.reconnect.base = Duration::from_secs(24 * 3600);
        config.connection.reconnect.max = Duration::from_secs(24 * 3600);
    });
    let (node, config) = start(builder, 1);
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| shard.publish("waits", "1").unwrap());
    event(&mut events, "vain try", |event| matches!(event, Event::ConnectFailed { .. }).then_some(()));
    block_on(node.handle.reload(with_servers(&config, &[&servers.servers(0)[0]]))).unwrap();
    event(&mut events, "connection", |event| matches!(event, Event::Connected { .. }).then_some(()));
    node.on(0, async |shard: Shard| shard.flush().await.unwrap());
    assert_eq!(node.link(0, "c1").processed, 1);
    node.end();
}

#[test]
fn a_server_with_other_credentials_is_connected_to_anew() {
    let _permit = permit(1);
    let users = format!(
        "authorization {{ users: [{{ user: one, password: \"{CANARY}\" }}, {{ user: two, password: \"{CANARY}\" }}] }}"
    );
    let servers = LocalCluster::with_config(1, 1, users).unwrap();
    log_lines::keep();
    let url = |user: &str| servers.servers(0)[0].replace("nats://", &format!("nats://{user}:{CANARY}@"));
    let (node, config) = start(Node::builder().cluster("acc-reload-users", [url("one")]), 1);
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| {
        shard.publish("first", "x").unwrap();
        shard.flush().await.unwrap();
    });
    let same = block_on(node.handle.reload(with_servers(&config, &[&url("one")]))).unwrap();
    assert_eq!(same.changed, [""; 0]);
    let changed = block_on(node.handle.reload(with_servers(&config, &[&url("two")]))).unwrap();
    assert_eq!(changed.changed, ["clusters[0].servers"]);
    event(&mut events, "move", |event| match event {
        Event::Moved { from, to, .. } => {
            assert_eq!(from, to);
            Some(())
        }
        Event::Disconnected { .. } => panic!("{event:?}"),
        _ => None,
    });
    let link = node.link(0, "acc-reload-users");
    assert_eq!((link.connects, link.moves, link.in_doubt), (2, 1, 0), "{link:?}");
    node.end();
    assert!(log_lines::lines("acc-reload-users").iter().all(|line| !line.contains(CANARY)));
}
