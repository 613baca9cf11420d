//! Connecting anew on demand.

use std::sync::Arc;

use futures_lite::future::Boxed;

use crate::{ClusterName, NodeHandle, Shard};

/// Why nothing was connected anew. The links are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconnectError {
    /// No cluster of this name is configured.
    #[error("no cluster is named {cluster}")]
    UnknownCluster {
        /// The name.
        cluster: ClusterName,
    },
    /// A shard has stopped. Those before it were asked.
    #[error("shard {shard} has stopped")]
    Stopped {
        /// The shard.
        shard: usize,
    },
}

impl ReconnectError {
    /// Never.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Shard {
    /// Has this shard's link to a cluster move to a new connection, to another server if there is one: after
    /// credentials have changed, or to spread the load anew. It returns at once; the link's
    /// [`Event::Moved`](crate::Event::Moved) tells when it is done.
    ///
    /// The present connection serves until the new one is accepted and subscribed, so that nothing is in
    /// doubt; while no server takes a new connection, it goes on, and tries follow with pauses. A link that is
    /// down, or was never used, is left as it is: it connects anyway.
    ///
    /// # Errors
    ///
    /// [`ReconnectError::UnknownCluster`].
    pub fn reconnect(&self, cluster: impl AsRef<str>) -> Result<(), ReconnectError> {
        let cluster = cluster.as_ref();
        if !self.node().clusters.iter().any(|name| name == cluster) {
            return Err(ReconnectError::UnknownCluster { cluster: cluster.into() });
        }
        if let Some(link) = self.links().find(|link| link.cluster() == cluster) {
            link.renew();
        }
        Ok(())
    }
}

impl NodeHandle {
    /// As [`Shard::reconnect`], on every shard. It returns when all have been asked.
    ///
    /// # Errors
    ///
    /// [`ReconnectError`].
    pub fn reconnect(&self, cluster: impl AsRef<str>) -> Boxed<Result<(), ReconnectError>> {
        let cluster: Arc<str> = cluster.as_ref().into();
        let handle = self.clone();
        Box::pin(async move {
            for shard in 0..handle.shards() {
                let cluster = Arc::clone(&cluster);
                handle
                    .submit_to(shard, async move |on: Shard| on.reconnect(cluster))
                    .await
                    .map_err(|_| ReconnectError::Stopped { shard })??;
            }
            Ok(())
        })
    }
}
