//! Nodes that want to get into a cluster, and whether they do.

use std::time::Duration;

use croupier::{
    BoxError, Builder, Credentials, CredentialsRequest, LinkEnd, Node, PublishError, Shard,
    config::{ClusterConfig, TlsConfig},
    testing::LocalCluster,
};

use crate::{
    log_lines,
    support::{TestNode, wait_for},
};

/// The only cluster of some servers, under a name of the test's own, by which its lines are found.
pub(crate) fn cluster(name: &str, servers: &LocalCluster) -> ClusterConfig {
    ClusterConfig::new(name, servers.servers(0))
}

/// A builder of a node with this cluster alone, patient with a busy machine and quick to try again.
pub(crate) fn builder(cluster: ClusterConfig) -> Builder {
    log_lines::keep();
    let mut builder = Node::builder();
    let config = builder.config_mut();
    config.clusters.push(cluster);
    config.shards.pin = false;
    config.limits.drain_timeout = Duration::from_millis(300);
    config.connection.connect_timeout = Duration::from_secs(20);
    config.connection.subscribe_timeout = Duration::from_secs(30);
    config.connection.reconnect.max = Duration::from_millis(50);
    builder
}

pub(crate) fn start(cluster: ClusterConfig) -> TestNode {
    TestNode::start(builder(cluster), 1)
}

/// A node whose application gives the credentials.
pub(crate) fn start_asking<F>(cluster: ClusterConfig, callback: F) -> TestNode
where
    F: AsyncFn(CredentialsRequest) -> Result<Credentials, BoxError> + Send + Sync + 'static,
{
    let name = cluster.name.clone();
    TestNode::start(builder(cluster).credentials(name, callback), 1)
}

/// TLS with the issuer of this file.
pub(crate) fn trusting(authority: &crate::certificates::Authority) -> TlsConfig {
    TlsConfig::default().ca_file(authority.ca_file())
}

/// A message goes to the server and comes back.
pub(crate) fn round_trip(node: &TestNode) {
    node.on(0, async |shard: Shard| {
        let mut messages = shard.subscribe("round.trip").await.unwrap();
        shard.publish("round.trip", "payload").unwrap();
        assert_eq!(messages.next().await.unwrap().payload(), b"payload");
    });
}

/// The node gets in.
pub(crate) fn gets_in(cluster: ClusterConfig) {
    let node = start(cluster);
    round_trip(&node);
    node.end();
}

/// Every server refuses the node for good, and it has said so twice.
pub(crate) fn is_refused(cluster: ClusterConfig) {
    let name = cluster.name.clone();
    let node = start(cluster);
    end_of_tries(&node);
    let (lines, tries) = (log_lines::lines(&name), node.handle.stats()[0].links[0].tries);
    assert!(tries == 2 && lines.iter().any(|line| line.contains("refuses")), "{tries} tries: {lines:?}");
    assert_eq!(node.handle.stats()[0].links[0].connects, 0);
    node.end();
}

/// Waits until a publish says that the servers refuse the node.
pub(crate) fn end_of_tries(node: &TestNode) {
    wait_for("the end of the tries", || {
        node.on(0, async |shard: Shard| match shard.publish("a", "b") {
            Err(PublishError::Disconnected { reason: LinkEnd::Refused, .. }) => Some(()),
            _ => None,
        })
    });
}

/// The node does not get in, and says why.
pub(crate) fn fails_with(cluster: ClusterConfig, text: &str) {
    let name = cluster.name.clone();
    let node = start(cluster);
    node.on(0, async |shard: Shard| drop(shard.subscribe_unconfirmed("a").unwrap()));
    log_lines::wait_for_line(&name, text);
    assert_eq!(node.handle.stats()[0].links[0].connects, 0);
    node.end();
}
