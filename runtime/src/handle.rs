//! The node as any other thread or runtime sees it.

mod publishing;
mod replies;
mod requests;
mod subscription;

use std::{
    fmt,
    future::{Future, IntoFuture},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use croupier_ring::{hash_key, home_shard};
use futures_lite::future::Boxed;

pub use self::{replies::HandleReplies, subscription::HandleSubscription};
use crate::{
    CallError, ClusterName, Error, Events, NodeStatus, OwnedMessage, Payload, PublishError, RegistryStats,
    Result, Service, Shard, ShardStats, SubmitError, Unready, error::LinkEnd, mesh::Job,
    node_shared::NodeShared, shard::submission,
};

/// Messages that a stream of a handle holds for its thread, beside those in the shard's own queue.
const HANDOVER_MESSAGES: usize = 1024;

/// The way into a node from any thread and any async runtime. Its futures need no particular executor.
///
/// Each call is a hop to a shard: about a microsecond, where the verbs of a [`Shard`] take some tens of
/// nanoseconds.
#[derive(Clone)]
pub struct NodeHandle(Arc<NodeShared>);

impl NodeHandle {
    pub(crate) fn new(node: Arc<NodeShared>) -> Self {
        NodeHandle(node)
    }

    pub(crate) fn shared(&self) -> &Arc<NodeShared> {
        &self.0
    }

    /// How many shards the node has.
    pub fn shards(&self) -> usize {
        self.0.shards()
    }

    /// The cluster that a topic lives on.
    pub fn cluster_of(&self, topic: impl AsRef<[u8]>) -> ClusterName {
        self.0.clusters[self.0.ring.owner(topic.as_ref())].clone()
    }

    /// The home shard of a key.
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> usize {
        home_shard(hash_key(key.as_ref()), self.shards() as u32)
    }

    /// Where this node listens for its peers; `None` without a `[registry]`.
    pub fn registry_addr(&self) -> Option<SocketAddr> {
        self.0.registry.address
    }

    /// Where the admin server listens; `None` when the node has none.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.0.admin.as_ref().map(|admin| admin.address)
    }

    /// What keeps the node from being ready, as `/readyz` says; nothing when it is. It asks no shard.
    pub fn unready(&self) -> Vec<Unready> {
        self.0.unready()
    }

    /// As [`Registry::get_services`](crate::Registry::get_services). It waits for no shard.
    pub fn get_services(&self, kind: impl AsRef<[u8]>) -> Vec<Service> {
        self.0.registry.mirror.all(kind.as_ref())
    }

    /// As [`Registry::get_online_services`](crate::Registry::get_online_services). It waits for no shard.
    pub fn get_online_services(&self, kind: impl AsRef<[u8]>) -> Vec<Service> {
        let mut services = self.get_services(kind);
        services.retain(Service::is_online);
        services
    }

    /// As [`Registry::find_service`](crate::Registry::find_service). It waits for no shard, but takes a lock that other threads' lookups
    /// share.
    pub fn find_service(&self, kind: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Option<Service> {
        self.0.registry.mirror.find(kind.as_ref(), key.as_ref())
    }

    /// The nodes of the cluster that are known here, this one first.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.0.registry.mirror.nodes()
    }

    /// As [`Registry::is_syncing`](crate::Registry::is_syncing).
    pub fn is_syncing(&self) -> bool {
        self.0.registry.is_syncing()
    }

    /// What the node's registry has counted.
    pub fn registry_stats(&self) -> RegistryStats {
        self.0.registry.counters.stats()
    }

    /// A request to the instance that a key leads to, by way of the key's home shard: it is made when it is
    /// awaited. As [`Registry::call`](crate::Registry::call).
    pub fn call<'a>(
        &self,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> HandleCall {
        HandleCall {
            handle: self.clone(),
            kind: kind.as_ref().to_vec(),
            key: key.as_ref().to_vec(),
            payload: payload.into().into_bytes(),
            idempotent: false,
            timeout: None,
        }
    }

    /// Hands a message for the instance that a key leads to, to the key's home shard, which sends it.
    ///
    /// # Errors
    ///
    /// [`CallError`], for what can be told before the hop: `NoService`, and a publish error when the
    /// shard's inbox is full or it has stopped.
    pub fn cast<'a>(
        &self,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), CallError> {
        let (kind, key) = (kind.as_ref().to_vec(), key.as_ref().to_vec());
        let Some(service) = self.find_service(&kind, &key) else {
            return Err(CallError::NoService { kind: String::from_utf8_lossy(&kind).into_owned() });
        };
        let cluster = self.cluster_of(service.inbox());
        let payload = payload.into().into_bytes();
        let needed_bytes = payload.len();
        let home = self.shard_of(&key);
        let job: Job = Box::new(move |shard| {
            // At most once: what the shard cannot send is lost, and its link counts what it refuses.
            let _lost = shard.registry().cast(&kind, &key, payload);
        });
        Ok(self.post(home, || cluster.clone(), needed_bytes, job)?)
    }

    /// Runs `f` on a shard and waits for what it returns.
    ///
    /// # Errors
    ///
    /// As [`Shard::submit_to`].
    pub fn submit_to<F, T>(
        &self,
        shard: usize,
        f: F,
    ) -> impl Future<Output = Result<T, SubmitError>> + Send + use<F, T>
    where
        F: AsyncFnOnce(Shard) -> T + Send + 'static,
        T: Send + 'static,
    {
        let node = Arc::clone(&self.0);
        async move {
            let shards = node.shards();
            let Some(port) = node.ports.get(shard) else {
                return Err(SubmitError::UnknownShard { shard, shards });
            };
            let (job, answer) = submission(shard, f);
            port.inbox.send(job).await.map_err(|_| SubmitError::Stopped { shard })?;
            answer.await.unwrap_or(Err(SubmitError::Stopped { shard }))
        }
    }

    /// What every shard has counted. Wakes none of them; the figures of a busy link are those of its
    /// last turn.
    pub fn stats(&self) -> Vec<ShardStats> {
        self.0.collect_latencies();
        self.0.ports.iter().enumerate().map(|(shard, port)| port.stats(shard, &self.0.clusters)).collect()
    }

    /// What happens to the node's links from here on: a stream for any thread and any executor. It costs
    /// nothing for each message, and nothing at all while no stream is held.
    pub fn events(&self) -> Events {
        self.0.events.listen()
    }

    /// Drains the node within `limits.drain_timeout`, and waits until it has stopped.
    ///
    /// # Errors
    ///
    /// None at present; what ended the node otherwise is told by [`Node::join`](crate::Node::join).
    pub fn drain(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let node = Arc::clone(&self.0);
        async move {
            node.request_drain(node.limits.get().drain_timeout);
            node.stopped().await.map_err(|_| Error::Submit(SubmitError::Stopped { shard: 0 }))
        }
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle")
            .field("name", &self.0.name)
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

/// A call that another thread makes: awaiting it makes it, on any executor.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct HandleCall {
    handle: NodeHandle,
    kind: Vec<u8>,
    key: Vec<u8>,
    payload: Bytes,
    idempotent: bool,
    timeout: Option<Duration>,
}

impl HandleCall {
    /// As [`Call::idempotent`](crate::Call::idempotent).
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// As [`Call::timeout`](crate::Call::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for HandleCall {
    type Output = Result<OwnedMessage, CallError>;
    type IntoFuture = Boxed<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let HandleCall { handle, kind, key, payload, idempotent, timeout } = self;
        let cluster = handle.find_service(&kind, &key).map(|service| handle.cluster_of(service.inbox()));
        let shard = handle.shard_of(&key);
        let asked = handle.submit_to(shard, async move |shard: Shard| {
            let mut call = shard.registry().call(&kind, &key, payload);
            if idempotent {
                call = call.idempotent();
            }
            if let Some(timeout) = timeout {
                call = call.timeout(timeout);
            }
            call.await.map(OwnedMessage::from)
        });
        Box::pin(async move {
            match asked.await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let cluster = cluster.unwrap_or_else(|| handle.0.clusters[0].clone());
                    let reason = LinkEnd::ShardStopped;
                    Err(CallError::Publish(PublishError::Disconnected { cluster, reason }))
                }
            }
        })
    }
}
