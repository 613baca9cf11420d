//! The node as any other thread or runtime sees it.

use std::{
    fmt,
    future::{Future, IntoFuture},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use croupier_protocol::Subject;
use croupier_ring::{hash_key, home_shard};
use futures_channel::oneshot;
use futures_core::Stream;
use futures_lite::{FutureExt, future::Boxed};

use crate::{
    CallError, ClusterName, Error, Events, InvalidTopic, NodeStatus, OwnedMessage, Payload, PublishError,
    RegistryStats, RequestError, Result, Service, Shard, ShardStats, SubmitError, SubscribeError, Unready,
    error::LinkEnd, mesh::Job, node_shared::NodeShared, shard::submission,
};

/// Messages that a handle's subscription holds for its thread, beside those in the shard's own queue.
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

    /// Hands one message to the topic's home shard, which publishes it. One topic from one thread keeps
    /// its order.
    ///
    /// # Errors
    ///
    /// [`PublishError`], for what can be told before the hop: `Busy` when the shard's inbox is full,
    /// `InvalidTopic`, `PayloadTooLarge` over the configured limit, `Disconnected` when the shard has
    /// stopped. What the shard itself refuses is counted in its statistics as rejected.
    pub fn publish<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        let topic = topic.as_ref();
        if !self.0.config.connection.role.publishes() {
            return Err(PublishError::Role);
        }
        let subject = Subject::literal(topic).map_err(|reason| InvalidTopic::new(topic, reason))?;
        let payload = payload.into();
        let limit_bytes = self.0.limits.get().max_payload;
        if payload.len() > limit_bytes {
            let cluster = self.cluster_of(topic);
            return Err(PublishError::PayloadTooLarge { cluster, payload_bytes: payload.len(), limit_bytes });
        }
        let payload = payload.into_bytes();
        let needed_bytes = payload.len();
        let port = &self.0.ports[self.shard_of(topic)];
        let job: Job = Box::new(move |shard| {
            // The link counts what it refuses.
            let _counted = shard.publish(&subject, payload);
        });
        port.inbox.try_send(job).map_err(|error| match error {
            async_channel::TrySendError::Full(_) => PublishError::Busy {
                cluster: self.cluster_of(topic),
                queued_bytes: port.inbox.len(),
                limit_bytes: self.0.config.shards.inbox,
                needed_bytes,
            },
            async_channel::TrySendError::Closed(_) => {
                PublishError::Disconnected { cluster: self.cluster_of(topic), reason: LinkEnd::ShardStopped }
            }
        })
    }

    /// Sends a request by way of the topic's home shard, and waits for the first reply.
    ///
    /// # Errors
    ///
    /// As [`Shard::request`]; `Disconnected` with nothing sent when the shard has stopped.
    pub fn request<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Boxed<Result<OwnedMessage, RequestError>> {
        let topic = topic.as_ref().to_vec();
        let payload = payload.into().into_bytes();
        let handle = self.clone();
        Box::pin(async move {
            let shard = handle.shard_of(&topic);
            let cluster = handle.cluster_of(&topic);
            let asked = handle.submit_to(shard, async move |shard: Shard| {
                shard.request(&topic, payload).await.map(OwnedMessage::from)
            });
            match asked.await {
                Ok(outcome) => outcome,
                Err(_) => Err(RequestError::Disconnected { cluster, sent: false }),
            }
        })
    }

    /// Subscribes on the topic's home shard (a wildcard: on shard 0), and returns when the server has
    /// confirmed. The messages come as a stream that any thread may hold.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`].
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Boxed<Result<HandleSubscription, SubscribeError>> {
        let topic = topic.as_ref().to_vec();
        let handle = self.clone();
        Box::pin(async move {
            let cluster = handle.cluster_of(&topic);
            let home = match Subject::pattern(&topic) {
                Ok(subject) if !subject.is_wildcard() => handle.shard_of(&topic),
                _ => 0,
            };
            let (sender, receiver) = async_channel::bounded(HANDOVER_MESSAGES);
            let (held, dropped) = oneshot::channel::<()>();
            let lagged = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&lagged);
            let subscribed = handle.submit_to(home, async move |shard: Shard| {
                let mut subscription = shard.subscribe(&topic).await?;
                let subject = subscription.topic().clone();
                let unconfirmed = subscription.unconfirmed().to_vec();
                shard.spawn(async move {
                    let forward = async {
                        while let Some(message) = subscription.next().await {
                            if sender.send(OwnedMessage::from(message)).await.is_err() {
                                break;
                            }
                            counted.store(subscription.lagged(), Ordering::Relaxed);
                        }
                    };
                    // Resolves when the holder is dropped, with or without another message.
                    let gone = async {
                        let _holder_is_gone = dropped.await;
                    };
                    forward.or(gone).await;
                });
                Ok::<_, SubscribeError>((subject, unconfirmed))
            });
            let (topic, unconfirmed) = match subscribed.await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    return Err(SubscribeError::Disconnected { cluster, reason: LinkEnd::ShardStopped });
                }
            };
            Ok(HandleSubscription { topic, unconfirmed, receiver: Box::pin(receiver), lagged, _held: held })
        })
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
        let port = &self.0.ports[self.shard_of(&key)];
        let job: Job = Box::new(move |shard| {
            // At most once: what the shard cannot send is lost, and its link counts what it refuses.
            let _lost = shard.registry().cast(&kind, &key, payload);
        });
        port.inbox.try_send(job).map_err(|error| {
            CallError::Publish(match error {
                async_channel::TrySendError::Full(_) => PublishError::Busy {
                    cluster,
                    queued_bytes: port.inbox.len(),
                    limit_bytes: self.0.config.shards.inbox,
                    needed_bytes,
                },
                async_channel::TrySendError::Closed(_) => {
                    PublishError::Disconnected { cluster, reason: LinkEnd::ShardStopped }
                }
            })
        })
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

/// A subscription in the hands of another thread. Dropping it unsubscribes.
#[must_use = "dropping a subscription ends it"]
pub struct HandleSubscription {
    topic: Subject,
    unconfirmed: Vec<ClusterName>,
    receiver: Pin<Box<async_channel::Receiver<OwnedMessage>>>,
    lagged: Arc<AtomicU64>,
    /// Its drop tells the shard, and can neither fail nor be full.
    _held: oneshot::Sender<()>,
}

impl HandleSubscription {
    /// The topic as it was asked for.
    pub fn topic(&self) -> &Subject {
        &self.topic
    }

    /// As [`Subscription::unconfirmed`](crate::Subscription::unconfirmed).
    pub fn unconfirmed(&self) -> &[ClusterName] {
        &self.unconfirmed
    }

    /// Messages dropped because this thread took them too slowly, as of the last one handed over.
    pub fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }

    /// The next message, or `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.recv().await.ok()
    }
}

impl Stream for HandleSubscription {
    type Item = OwnedMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OwnedMessage>> {
        self.receiver.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for HandleSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleSubscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}
