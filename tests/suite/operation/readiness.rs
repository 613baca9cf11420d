//! When a node says that it should be sent work, and when not.

use std::{net::TcpListener, thread};

use croupier::{RegistryConfig, Shard, Unready, testing::LocalCluster};
use futures_lite::future::block_on;

use super::client::{get, status};
use crate::support::{TestNode, permit, wait_for};

/// Waits for an answer of `/readyz`.
fn until_ready(address: std::net::SocketAddr, code: u16, line: &str) {
    wait_for(line, || {
        let answer = get(address, "/readyz");
        (answer.code == code && answer.body.lines().any(|told| told == line)).then_some(())
    });
}

#[test]
fn a_cluster_that_is_down_makes_a_node_unready_and_leaves_it_healthy() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(2).unwrap();
    servers.kill(1, 0).unwrap();
    // Nothing of the application uses any cluster.
    let node = TestNode::start(servers.builder().admin_listen("127.0.0.1:0"), 1);
    let address = node.handle.admin_addr().expect("an admin server");
    let first = get(address, "/readyz");
    assert_eq!(first.code, 503, "{first:?}");
    until_ready(address, 503, "cluster c2 is down");
    assert_eq!(get(address, "/healthz").code, 200);
    node.connected(0, "c1");
    let expected = Unready::ClusterDown { cluster: "c2".into(), connected: 0, links: 1 };
    assert_eq!(node.handle.unready(), [expected]);
    assert_eq!(status(address)["unready"][0], "cluster c2 is down");

    servers.restart(1, 0).unwrap();
    until_ready(address, 200, "ready");
    servers.kill(0, 0).unwrap();
    until_ready(address, 503, "cluster c1 is down");
    node.end();
}

#[test]
fn a_node_that_has_not_reached_its_seed_is_unready_until_it_has_tried() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = RegistryConfig::new("casino").bind("127.0.0.1:0").seed(silent.local_addr().unwrap());
    let node =
        TestNode::start(servers.builder().name("n1").registry(registry).admin_listen("127.0.0.1:0"), 1);
    let address = node.handle.admin_addr().expect("an admin server");
    until_ready(address, 503, "the registry is syncing");
    drop(silent);
    until_ready(address, 200, "ready");
    node.end();
}

#[test]
fn a_node_that_drains_is_unready_and_healthy() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(servers.builder().admin_listen("127.0.0.1:0"), 1);
    let address = node.handle.admin_addr().expect("an admin server");
    until_ready(address, 200, "ready");
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    node.on(0, async move |shard: Shard| {
        shard.on_drain(async move || {
            // The drain goes on when the test has seen it.
            let _released = held.await;
        });
    });
    let handle = node.handle.clone();
    let draining = thread::spawn(move || block_on(handle.drain()));
    until_ready(address, 503, "the node is draining");
    assert_eq!(get(address, "/healthz").code, 200);
    assert_eq!(status(address)["state"], "draining");
    drop(release);
    draining.join().unwrap().unwrap();
    node.end();
}
