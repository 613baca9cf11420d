//! One shard: the verbs of the application on its core.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use croupier_protocol::{Headers, QueueGroup, Subject};
use croupier_ring::{hash_key, home_shard};
use futures_channel::oneshot;
use futures_lite::FutureExt;

use crate::{
    ClusterName, Elapsed, FlushError, HandlerGuard, InvalidTopic, Message, MessageView, Payload,
    PublishError, Registry, RequestError, ShardStats, SubmitError, SubscribeError, Subscription, Topic,
    cluster_link::{self, Destination, Link, LinkStatus},
    error::panic_message,
    mesh::{Job, MeshSender},
    node_shared::{NodeShared, ShardPort},
    receiver::Receiver,
    registry_shard::RegistryShard,
    stats::{add, store},
    subscription::Attached,
    time,
    transport::{self, Task},
};

type DrainHook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

/// A shard of a node: one thread, one executor, its own links to the clusters.
///
/// Cloning it is cheap. It never leaves its core: other threads use a
/// [`NodeHandle`](crate::NodeHandle), other shards [`Shard::submit_to`].
#[derive(Clone)]
pub struct Shard(Rc<State>);

struct State {
    id: usize,
    node: Arc<NodeShared>,
    links: Box<[OnceCell<Rc<Link>>]>,
    mesh: MeshSender,
    publishes: bool,
    subscribes: bool,
    tasks: RefCell<BTreeMap<u64, Task>>,
    next_task: Cell<u64>,
    link_tasks: RefCell<Vec<Task>>,
    drain_hooks: RefCell<Vec<DrainHook>>,
    is_closed: Cell<bool>,
    registry: Rc<RegistryShard>,
}

impl Shard {
    pub(crate) fn new(
        id: usize,
        node: Arc<NodeShared>,
        mesh: MeshSender,
        registry: Rc<RegistryShard>,
    ) -> Self {
        let role = node.config.connection.role;
        Shard(Rc::new(State {
            id,
            links: node.clusters.iter().map(|_| OnceCell::new()).collect(),
            node,
            mesh,
            publishes: role.publishes(),
            subscribes: role.subscribes(),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
            link_tasks: RefCell::default(),
            drain_hooks: RefCell::default(),
            is_closed: Cell::new(false),
            registry,
        }))
    }

    /// Its number, from 0.
    pub fn id(&self) -> usize {
        self.0.id
    }

    /// How many shards the node has.
    pub fn shards(&self) -> usize {
        self.0.node.shards()
    }

    /// Publishes one message to the cluster that the topic hashes to: appends it to that link's buffer
    /// and returns. At most once; see [`LinkStats`](crate::LinkStats) for what became of it.
    ///
    /// One topic, from one shard, keeps its order. While the link is down, messages wait in the buffer,
    /// up to `limits.publish_buffer`. Nothing is retried behind the caller's back, and no topic moves to
    /// another cluster.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; then nothing was done.
    #[inline]
    pub fn publish<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        self.publish_any(topic.as_ref(), None, payload.into())
    }

    /// As [`Shard::publish`], with headers.
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`].
    pub fn publish_with_headers<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        self.publish_any(topic.as_ref(), Some(headers), payload.into())
    }

    #[inline]
    fn publish_any(
        &self,
        topic: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<(), PublishError> {
        self.check_publish(topic)?;
        let to = Destination::Subject { subject: topic, reply: None, headers };
        self.link(self.0.node.ring.owner(topic)).publish(&to, payload)
    }

    #[inline]
    fn check_publish(&self, topic: &[u8]) -> Result<(), PublishError> {
        if !self.0.publishes {
            return Err(PublishError::Role);
        }
        Subject::check_literal(topic).map_err(|reason| InvalidTopic::new(topic, reason))?;
        Ok(())
    }

    /// As [`Shard::publish`], but waits for room in the buffer instead of failing with
    /// [`PublishError::Busy`].
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`]; `Busy` only for a message that is larger than the whole buffer.
    pub async fn publish_wait<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        let topic = topic.as_ref();
        let payload = payload.into();
        self.check_publish(topic)?;
        let to = Destination::Subject { subject: topic, reply: None, headers: None };
        self.link(self.0.node.ring.owner(topic)).publish_wait(&to, payload).await
    }

    /// Publishes to a cluster by name, whatever the subject hashes to.
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`], and [`PublishError::UnknownCluster`].
    pub fn publish_to<'a>(
        &self,
        cluster: &ClusterName,
        subject: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        let subject = subject.as_ref();
        self.check_publish(subject)?;
        let index = self
            .0
            .node
            .clusters
            .iter()
            .position(|name| name == cluster)
            .ok_or_else(|| PublishError::UnknownCluster { cluster: cluster.clone() })?;
        let to = Destination::Subject { subject, reply: None, headers: None };
        self.link(index).publish(&to, payload.into())
    }

    /// Checks, hashes and routes a topic once, for publishing to it often.
    ///
    /// # Errors
    ///
    /// [`InvalidTopic`] when it is no subject, or a wildcard.
    pub fn topic(&self, name: impl AsRef<[u8]>) -> Result<Topic, InvalidTopic> {
        let name = name.as_ref();
        let subject = Subject::literal(name).map_err(|reason| InvalidTopic::new(name, reason))?;
        let link = Rc::clone(self.link(self.0.node.ring.owner(name)));
        Ok(Topic::new(subject, link, self.0.publishes))
    }

    /// Subscribes, and returns when the server has confirmed: what is published afterwards through that
    /// server arrives. The other servers of its cluster follow within milliseconds, which no client can
    /// confirm.
    ///
    /// A wildcard (`*`, `>`) subscribes on every cluster. It succeeds on those that are connected, and
    /// [`Subscription::unconfirmed`] lists the others.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; then nothing stays subscribed. A literal topic whose cluster is down waits up
    /// to `connection.subscribe_timeout`, and a wildcard as long for the first of all clusters.
    pub async fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<Subscription, SubscribeError> {
        let attached = self.attach_queue(topic.as_ref(), None)?;
        let unconfirmed = self.confirm(&attached).await?;
        Ok(Subscription::new(attached, unconfirmed))
    }

    /// Subscribes without waiting. The subscription is live as soon as its cluster is connected; all of
    /// its clusters are listed as unconfirmed.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`], but never `Unconfirmed`.
    pub fn subscribe_unconfirmed(&self, topic: impl AsRef<[u8]>) -> Result<Subscription, SubscribeError> {
        let attached = self.attach_queue(topic.as_ref(), None)?;
        let unconfirmed = attached.links.iter().map(|link| link.cluster().clone()).collect();
        Ok(Subscription::new(attached, unconfirmed))
    }

    /// Subscribes as a member of a queue group: each message goes to one member. Each member has a SUB
    /// of its own.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`]; a group with a blank or a line break is an invalid topic.
    pub async fn queue_subscribe(
        &self,
        topic: impl AsRef<[u8]>,
        group: impl AsRef<[u8]>,
    ) -> Result<Subscription, SubscribeError> {
        let group = group.as_ref();
        let group = QueueGroup::new(group).map_err(|reason| InvalidTopic::new(group, reason))?;
        let attached = self.attach_queue(topic.as_ref(), Some(&group))?;
        let unconfirmed = self.confirm(&attached).await?;
        Ok(Subscription::new(attached, unconfirmed))
    }

    /// Subscribes with a handler, which is called in the read loop with each message where it was read:
    /// no queue, no copy, no allocation.
    ///
    /// A handler may call every synchronous verb, also one that publishes on the same link, and may drop
    /// its own guard. One that panics ends its subscription and nothing else. While it runs, the shard
    /// does nothing else. The first messages may come before this returns.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`].
    pub async fn subscribe_with<F: FnMut(MessageView<'_>) + 'static>(
        &self,
        topic: impl AsRef<[u8]>,
        handler: F,
    ) -> Result<HandlerGuard, SubscribeError> {
        let subject = self.check_subscribe(topic.as_ref())?;
        let attached = self.attach(Receiver::handler(subject, handler), None)?;
        let unconfirmed = self.confirm(&attached).await?;
        Ok(HandlerGuard::new(attached, unconfirmed))
    }

    /// Sends a request and waits for the first reply, for `limits.request_timeout` at most.
    ///
    /// A request is never queued: on a link that is down it fails at once, with nothing sent.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which says whether anybody may have got the request.
    pub async fn request<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Message, RequestError> {
        let timeout = self.0.node.limits.get().request_timeout;
        self.request_any(topic.as_ref(), None, payload.into(), timeout).await
    }

    /// As [`Shard::request`], with headers.
    ///
    /// # Errors
    ///
    /// As [`Shard::request`].
    pub async fn request_with_headers<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Message, RequestError> {
        let timeout = self.0.node.limits.get().request_timeout;
        self.request_any(topic.as_ref(), Some(headers), payload.into(), timeout).await
    }

    /// As [`Shard::request`], with a timeout of its own.
    ///
    /// # Errors
    ///
    /// As [`Shard::request`].
    pub async fn request_with_timeout<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.request_any(topic.as_ref(), None, payload.into(), timeout).await
    }

    async fn request_any(
        &self,
        topic: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.check_publish(topic)?;
        let link = Rc::clone(self.link(self.0.node.ring.owner(topic)));
        link.request(topic, headers, payload, timeout).await
    }

    /// Waits until the servers have processed all that was published from this shard before: a PING and
    /// its PONG on every cluster in use.
    ///
    /// # Errors
    ///
    /// [`FlushError`] names the clusters that did not answer within `connection.subscribe_timeout`,
    /// among them those that are down while messages wait for them.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.flush_within(self.0.node.config.connection.subscribe_timeout).await
    }

    pub(crate) async fn flush_within(&self, limit: Duration) -> Result<(), FlushError> {
        let deadline = std::time::Instant::now() + limit;
        let mut waiting = Vec::new();
        for link in self.links() {
            if link.status() == LinkStatus::Connected || link.has_pending() {
                // A cut connection loses what was in flight, which a reconnect cannot make good.
                let survives_cut = link.status() != LinkStatus::Connected;
                waiting.push((Rc::clone(link), link.barrier(survives_cut)));
            }
        }
        let mut failed = Vec::new();
        for (link, barrier) in waiting {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if !time::timeout(left, barrier.passed()).await.unwrap_or(false) {
                failed.push(link.cluster().clone());
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(FlushError { failed, waited: limit }) }
    }

    /// The cluster that a topic lives on.
    pub fn cluster_of(&self, topic: impl AsRef<[u8]>) -> ClusterName {
        self.0.node.clusters[self.0.node.ring.owner(topic.as_ref())].clone()
    }

    /// The home shard of a key, for an application that wants all work of a key on one core.
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> usize {
        home_shard(hash_key(key.as_ref()), self.shards() as u32)
    }

    /// Runs `f` on another shard, or on this one, and waits for what it returns.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: no such shard, it stopped, or `f` panicked.
    pub async fn submit_to<F, T>(&self, shard: usize, f: F) -> Result<T, SubmitError>
    where
        F: AsyncFnOnce(Shard) -> T + Send + 'static,
        T: Send + 'static,
    {
        if shard >= self.shards() {
            return Err(SubmitError::UnknownShard { shard, shards: self.shards() });
        }
        let (job, answer) = submission(shard, f);
        if shard == self.id() {
            job(self);
        } else if self.0.mesh.send(self, shard, job).await.is_err() {
            return Err(SubmitError::Stopped { shard });
        }
        answer.await.unwrap_or(Err(SubmitError::Stopped { shard }))
    }

    /// The registry of services: who offers what, on every node.
    pub fn registry(&self) -> Registry {
        Registry::new(self.clone())
    }

    #[inline]
    pub(crate) fn registry_shard(&self) -> &Rc<RegistryShard> {
        &self.0.registry
    }

    /// Whether the node's role lets it publish.
    pub(crate) fn publishes(&self) -> bool {
        self.0.publishes
    }

    /// The links that a subject may go over: its own cluster's first, then the others in order. Each is
    /// made when it is reached.
    pub(crate) fn links_from(&self, subject: &[u8]) -> impl Iterator<Item = Rc<Link>> {
        let clusters = self.0.links.len();
        let owner = self.0.node.ring.owner(subject);
        (0..clusters).map(move |offset| Rc::clone(self.link((owner + offset) % clusters)))
    }

    /// Starts a task on this shard. It ends with the drain at the latest; a panic ends it alone.
    pub fn spawn<F: Future<Output = ()> + 'static>(&self, task: F) {
        if self.0.is_closed.get() {
            return;
        }
        let id = self.0.next_task.replace(self.0.next_task.get() + 1);
        let shard = self.clone();
        let running = transport::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                add(&shard.port(shard.id()).task_panics, 1);
                tracing::error!(shard = shard.id(), message = panic_message(&*panic), "a task panicked");
            }
            shard.0.tasks.borrow_mut().remove(&id);
        });
        self.0.tasks.borrow_mut().insert(id, running);
    }

    /// Sleeps at least this long. Even the shortest sleep lets the shard's sockets be served.
    pub async fn sleep(&self, duration: Duration) {
        transport::sleep(duration).await;
    }

    /// Waits for a future, but no longer than `duration`; then it is dropped.
    ///
    /// # Errors
    ///
    /// [`Elapsed`].
    pub async fn timeout<F: Future>(&self, duration: Duration, f: F) -> Result<F::Output, Elapsed> {
        time::timeout(duration, f).await
    }

    /// Has `f` run when the node drains, before anything is unsubscribed. Hooks run one after the other,
    /// the last first, within `limits.drain_timeout` in all.
    pub fn on_drain<F: AsyncFnOnce() + 'static>(&self, f: F) {
        self.0.drain_hooks.borrow_mut().push(Box::new(move || Box::pin(async move { f().await })));
    }

    /// What the shard has counted.
    pub fn stats(&self) -> ShardStats {
        let port = self.port(self.id());
        ShardStats { links: self.links().map(|link| link.stats()).collect(), ..port.stats(self.id(), &[]) }
    }

    pub(crate) fn node(&self) -> &Arc<NodeShared> {
        &self.0.node
    }

    pub(crate) fn port(&self, shard: usize) -> &ShardPort {
        &self.0.node.ports[shard]
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Rc<Link>> {
        self.0.links.iter().filter_map(OnceCell::get)
    }

    /// The link to a cluster, which the first use makes.
    #[inline]
    fn link(&self, index: usize) -> &Rc<Link> {
        self.0.links[index].get_or_init(|| self.make_link(index))
    }

    /// Makes the links to all clusters, so that it is known whether they are up.
    pub(crate) fn use_all_clusters(&self) {
        for index in 0..self.0.links.len() {
            self.link(index);
        }
    }

    #[cold]
    fn make_link(&self, index: usize) -> Rc<Link> {
        store(&self.port(self.id()).links[index].used, 1);
        let link = Link::new(index, self.id(), &self.0.node);
        if self.0.is_closed.get() {
            link.close();
        } else {
            self.0.link_tasks.borrow_mut().push(transport::spawn(cluster_link::run(Rc::clone(&link))));
        }
        link
    }

    fn check_subscribe(&self, topic: &[u8]) -> Result<Subject, SubscribeError> {
        if !self.0.subscribes {
            return Err(SubscribeError::Role);
        }
        Ok(Subject::pattern(topic).map_err(|reason| InvalidTopic::new(topic, reason))?)
    }

    fn attach_queue(&self, topic: &[u8], group: Option<&QueueGroup>) -> Result<Attached, SubscribeError> {
        let subject = self.check_subscribe(topic)?;
        let limits = self.0.node.limits.get();
        self.attach(Receiver::queue(subject, limits.subscriber_queue, limits.on_slow_subscriber), group)
    }

    fn attach(&self, receiver: Receiver, group: Option<&QueueGroup>) -> Result<Attached, SubscribeError> {
        let receiver = Rc::new(receiver);
        let links = if receiver.topic().is_wildcard() {
            (0..self.0.links.len()).map(|index| Rc::clone(self.link(index))).collect()
        } else {
            vec![Rc::clone(self.link(self.0.node.ring.owner(receiver.topic().as_bytes())))]
        };
        let attached = Attached { receiver, links };
        for link in &attached.links {
            link.attach(&attached.receiver, group)?;
        }
        Ok(attached)
    }

    /// Waits for the servers; returns the clusters that are down.
    async fn confirm(&self, attached: &Attached) -> Result<Vec<ClusterName>, SubscribeError> {
        let limit = self.0.node.config.connection.subscribe_timeout;
        let confirmed = if let [link] = attached.links.as_slice() {
            time::timeout(limit, link.barrier(true).passed()).await.unwrap_or(false)
        } else {
            false
        };
        let unconfirmed = if confirmed {
            Vec::new()
        } else if attached.links.len() == 1 {
            attached.links.iter().map(|link| link.cluster().clone()).collect()
        } else {
            confirm_all(&attached.links, limit).await
        };
        if let Some(cluster) = attached.receiver.denied() {
            return Err(SubscribeError::PermissionDenied { cluster });
        }
        if unconfirmed.len() == attached.links.len()
            && let Some(cluster) = unconfirmed.first()
        {
            return Err(SubscribeError::Unconfirmed { cluster: cluster.clone(), waited: limit });
        }
        Ok(unconfirmed)
    }

    pub(crate) fn take_drain_hook(&self) -> Option<impl Future<Output = ()> + use<>> {
        let hook = self.0.drain_hooks.borrow_mut().pop()?;
        Some(hook())
    }

    /// Takes no more work: links end, and what they had queued is discarded and counted.
    pub(crate) async fn close(&self) {
        self.0.is_closed.set(true);
        for link in self.links() {
            link.close();
        }
        let link_tasks = std::mem::take(&mut *self.0.link_tasks.borrow_mut());
        for task in link_tasks {
            task.join().await;
        }
        loop {
            let Some((_, task)) = self.0.tasks.borrow_mut().pop_first() else { break };
            task.cancel().await;
        }
        for link in self.links() {
            link.close_receivers();
        }
    }
}

/// For each cluster of a wildcard: confirmed, or down. Waits for the first tries, and as long as none at
/// all is connected.
async fn confirm_all(links: &[Rc<Link>], limit: Duration) -> Vec<ClusterName> {
    let deadline = std::time::Instant::now() + limit;
    let left = || deadline.saturating_duration_since(std::time::Instant::now());
    let barriers: Vec<_> = links.iter().map(|link| link.barrier(true)).collect();
    let mut unconfirmed = Vec::new();
    for (link, barrier) in links.iter().zip(&barriers) {
        let tried = time::timeout(left(), link.first_try()).await;
        let is_connected = matches!(tried, Ok(LinkStatus::Connected));
        if !is_connected || !time::timeout(left(), barrier.passed()).await.unwrap_or(false) {
            unconfirmed.push(link.cluster().clone());
        }
    }
    if unconfirmed.len() < links.len() {
        return unconfirmed;
    }
    let mut any: Pin<Box<dyn Future<Output = Option<usize>>>> = Box::pin(std::future::pending());
    for (index, barrier) in barriers.iter().enumerate() {
        any = Box::pin(any.or(async move {
            if barrier.passed().await { Some(index) } else { std::future::pending().await }
        }));
    }
    match time::timeout(left(), any).await {
        Ok(Some(index)) => links
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index)
            .map(|(_, link)| link.cluster().clone())
            .collect(),
        _ => unconfirmed,
    }
}

/// A job that runs `f` on a shard, and the answer that it will send.
pub(crate) fn submission<F, T>(shard: usize, f: F) -> (Job, oneshot::Receiver<Result<T, SubmitError>>)
where
    F: AsyncFnOnce(Shard) -> T + Send + 'static,
    T: Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |on: &Shard| {
        let on_shard = on.clone();
        on.spawn(async move {
            let outcome = AssertUnwindSafe(async move { f(on_shard).await }).catch_unwind().await;
            // Nobody listens when the caller gave up.
            let _unheard = answer.send(
                outcome.map_err(|panic| SubmitError::Panicked { shard, message: panic_message(&*panic) }),
            );
        });
    });
    (job, answered)
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id())
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}
