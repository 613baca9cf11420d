//! `NodeHandle::reload`: every shard works by the new settings, or nothing has changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use croupier::{
    Builder, Config, NodeHandle, PublishError, RegistryConfig, ReloadError, RequestError, Shard,
    config::ClusterConfig, testing::LocalCluster,
};
use futures_lite::future::block_on;

use crate::support::{TestNode, permit, wait_for};

/// Starts the node, and says what it was told.
fn start(mut builder: Builder, shards: usize) -> (TestNode, Config) {
    builder = builder.shards(shards);
    let config = builder.config_mut().clone();
    (TestNode::start(builder, shards), config)
}

fn changed(handle: &NodeHandle, config: &Config) -> Vec<String> {
    block_on(handle.reload(config.clone())).unwrap().changed
}

#[test]
fn limits_change_on_every_shard() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (node, mut config) = start(servers.builder(), 2);
    for shard in 0..2 {
        node.on(shard, async |shard: Shard| shard.publish("limits", [0; 1000]).unwrap());
    }
    config.limits.max_payload = 999;
    config.limits.request_timeout = Duration::from_millis(7);
    assert_eq!(changed(&node.handle, &config), ["limits.max_payload", "limits.request_timeout"]);
    assert_eq!(changed(&node.handle, &config), [""; 0]);
    for shard in 0..2 {
        let refusal = node.on(shard, async |shard: Shard| shard.publish("limits", [0; 1000]).unwrap_err());
        let limit = |error: &PublishError| match error {
            PublishError::PayloadTooLarge { limit_bytes, .. } => *limit_bytes,
            other => panic!("{other}"),
        };
        assert_eq!(limit(&refusal), 999);
        assert_eq!(limit(&node.handle.publish("limits", [0; 1000]).unwrap_err()), 999);
        let waited = node.on(shard, async |shard: Shard| {
            // Somebody must be there, or the server answers at once that nobody is.
            let _deaf = shard.subscribe("deaf").await.unwrap();
            match shard.request("deaf", "").await {
                Err(RequestError::Timeout { waited, .. }) => waited,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(waited, Duration::from_millis(7));
    }
    config.limits.max_payload = 1000;
    assert_eq!(changed(&node.handle, &config), ["limits.max_payload"]);
    node.on(1, async |shard: Shard| shard.publish("limits", [0; 1000]).unwrap());
    node.end();
}

#[test]
fn a_publish_buffer_grows_for_who_waits_for_room() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder();
    builder.config_mut().limits.publish_buffer = 10_000;
    let (node, mut config) = start(builder, 1);
    node.on(0, async |shard: Shard| shard.publish("room", "").unwrap());
    node.connected(0, "c1");
    servers.kill(0, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    node.on(0, async move |shard: Shard| {
        let mut full = 0;
        while shard.publish("room", [0; 1000]).is_ok() {
            full += 1;
        }
        assert!(full < 10);
        let waiting = shard.clone();
        shard.spawn(async move {
            waiting.publish_wait("room", [0; 5000]).await.unwrap();
            counted.store(1, Ordering::Release);
        });
    });
    assert_eq!(written.load(Ordering::Acquire), 0);
    config.limits.publish_buffer = 100_000;
    assert_eq!(changed(&node.handle, &config), ["limits.publish_buffer"]);
    wait_for("the room", || (written.load(Ordering::Acquire) == 1).then_some(()));
    servers.restart(0, 0).unwrap();
    node.connected(0, "c1");
    node.end();
}

#[test]
fn what_cannot_change_is_named_and_nothing_is_applied() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let (node, config) = start(servers.builder(), 1);
    let mut other = config.clone();
    other.limits.max_payload = 10;
    other.clusters[0].weight = 2.0;
    other.connection.ping_interval = Duration::from_secs(9);
    other.node.name = Some("another".to_owned());
    other.registry = Some(RegistryConfig::new("prod"));
    match block_on(node.handle.reload(other.clone())) {
        Err(ReloadError::Fixed { keys }) => {
            assert_eq!(keys, ["clusters[0].weight", "connection.ping_interval", "node.name", "registry"]);
        }
        outcome => panic!("{outcome:?}"),
    }
    other.clusters.push(ClusterConfig::new("c1", ["a"]));
    match block_on(node.handle.reload(other)) {
        Err(ReloadError::Invalid(error)) => {
            assert_eq!(error.problems()[0].key, "clusters[1].name", "{error}");
        }
        outcome => panic!("{outcome:?}"),
    }
    node.on(0, async |shard: Shard| shard.publish("x", [0; 1000]).unwrap());
    assert_eq!(changed(&node.handle, &config), [""; 0]);

    let handle = node.handle.clone();
    node.end();
    assert!(matches!(block_on(handle.reload(config)), Err(ReloadError::Stopped)));
}

#[test]
fn no_message_is_lost_while_the_configuration_changes() {
    const MESSAGES: u64 = 20_000;
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (node, mut config) = start(servers.builder(), 2);
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    node.on(1, async move |shard: Shard| {
        let mut messages = shard.subscribe("kept").await.unwrap();
        shard.spawn(async move {
            while messages.next().await.is_some() {
                counted.fetch_add(1, Ordering::AcqRel);
            }
        });
    });
    let publisher = node.handle.clone();
    let publishing = std::thread::spawn(move || {
        block_on(publisher.submit_to(0, async |shard: Shard| {
            for number in 0..MESSAGES {
                shard.publish_wait("kept", number.to_string()).await.unwrap();
                if number.is_multiple_of(100) {
                    shard.sleep(Duration::from_micros(100)).await;
                }
            }
        }))
        .unwrap();
    });
    let mut reloads = 0;
    while !publishing.is_finished() {
        reloads += 1;
        config.limits.publish_buffer = (1 << 20) + reloads;
        config.limits.max_payload = 1000 + reloads;
        assert_eq!(changed(&node.handle, &config), ["limits.max_payload", "limits.publish_buffer"]);
    }
    publishing.join().unwrap();
    assert!(reloads > 0);
    wait_for("every message", || (taken.load(Ordering::Acquire) == MESSAGES).then_some(()));
    node.end();
}

/// A node of the registry `prod` with these secrets and seeds.
fn member(servers: &LocalCluster, name: &str, secrets: &[&str], seeds: &[String]) -> (TestNode, Config) {
    let registry = RegistryConfig::new("prod").bind("127.0.0.1:0").heartbeat(Duration::from_millis(100));
    let registry = secrets.iter().fold(registry, RegistryConfig::secret);
    let registry = seeds.iter().fold(registry, RegistryConfig::seed);
    start(servers.builder().name(name).registry(registry), 1)
}

fn address(node: &TestNode) -> String {
    node.handle.registry_addr().expect("it has peers").to_string()
}

/// Waits until a node sees so many nodes that are up, itself included.
fn until_sees(node: &TestNode, count: usize) {
    use croupier::NodeStanding::Up;
    wait_for("the nodes", || {
        let nodes = node.on(0, async |shard: Shard| shard.registry().nodes());
        (nodes.iter().filter(|node| node.standing == Up).count() == count).then_some(())
    });
}

#[test]
fn a_new_seed_is_dialled() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (a, _) = member(&servers, "a", &["a secret of the suite"], &[]);
    let (b, mut config) = member(&servers, "b", &["a secret of the suite"], &[]);
    let registry = config.registry.take().expect("a member");
    config.registry = Some(registry.seed(address(&a)));
    assert_eq!(changed(&b.handle, &config), ["registry.seeds"]);
    until_sees(&a, 2);
    until_sees(&b, 2);
    b.end();
    a.end();
}

#[test]
fn secrets_are_changed_while_the_nodes_run() {
    let _permit = permit(3);
    let servers = LocalCluster::start(1).unwrap();
    let (old, new) = ("the old secret of the suite", "the new secret of the suite");
    let (a, mut config) = member(&servers, "a", &[old], &[]);
    let (b, _) = member(&servers, "b", &[old], &[address(&a)]);
    until_sees(&a, 2);
    let (c, _) = member(&servers, "c", &[new], &[address(&a)]);
    let registry = config.registry.take().expect("a member");
    config.registry = Some(registry.secret(new));
    assert_eq!(changed(&a.handle, &config), ["registry.secrets"]);
    // Both belong to it: the link of the old secret stays, one of the new one is accepted.
    until_sees(&a, 3);
    c.end();
    b.end();
    a.end();
}
