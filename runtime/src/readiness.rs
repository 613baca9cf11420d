//! Why a node should not be sent work.

use std::fmt;

use crate::{ClusterName, node_shared::NodeShared};

/// What keeps a node from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unready {
    /// Links to a cluster are not connected. Those of shards that have not used it do not count.
    ClusterDown {
        /// The cluster.
        cluster: ClusterName,
        /// Shards that are connected to it.
        connected: usize,
        /// Shards that use it.
        links: usize,
    },
    /// The registry has not yet heard from every node that it knows of.
    RegistrySyncing,
    /// The node is draining, or has stopped.
    Draining,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::ClusterDown { cluster, connected: 0, .. } => write!(f, "cluster {cluster} is down"),
            Unready::ClusterDown { cluster, connected, links } => {
                write!(f, "cluster {cluster} is down for {} of {links} shards", links - connected)
            }
            Unready::RegistrySyncing => f.write_str("the registry is syncing"),
            Unready::Draining => f.write_str("the node is draining"),
        }
    }
}

impl NodeShared {
    /// What keeps the node from being ready; nothing when it is. Asks no shard.
    pub(crate) fn unready(&self) -> Vec<Unready> {
        let mut obstacles = Vec::new();
        if self.is_draining() {
            obstacles.push(Unready::Draining);
        }
        for (index, cluster) in self.clusters.iter().enumerate() {
            let used = self.ports.iter().map(|port| &port.links[index]).filter(|link| link.is_used());
            let (links, connected) = used.fold((0, 0), |(links, connected), link| {
                (links + 1, connected + usize::from(link.is_connected()))
            });
            if connected < links {
                obstacles.push(Unready::ClusterDown { cluster: cluster.clone(), connected, links });
            }
        }
        if self.registry.is_syncing() {
            obstacles.push(Unready::RegistrySyncing);
        }
        obstacles
    }
}
