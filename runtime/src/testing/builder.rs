//! A node over the local clusters.

use super::LocalCluster;
use crate::{Builder, Node};

impl LocalCluster {
    /// A builder of a node that knows these clusters as `c1`, `c2`, and so on.
    ///
    /// Its shards are not pinned to cores, so that there may be more of them than cores, and several
    /// nodes in a process do not crowd one core.
    pub fn builder(&self) -> Builder {
        let mut builder = (0..self.clusters()).fold(Node::builder(), |builder, index| {
            builder.cluster(format!("c{}", index + 1), self.servers(index))
        });
        builder.config_mut().shards.pin = false;
        builder
    }
}
