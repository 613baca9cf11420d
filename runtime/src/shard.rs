//! One shard: the verbs of the application on its core.

mod requests;
mod subscribing;

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

use croupier_protocol::{Headers, Subject};
use croupier_ring::{hash_key, home_shard};
use futures_channel::oneshot;
use futures_lite::FutureExt;

use crate::{
    ClusterName, Elapsed, InvalidTopic, Payload, PublishError, Registry, ShardStats, SubmitError, Topic,
    cluster_link::{self, Destination, Link},
    error::panic_message,
    latency::Recorder,
    mesh::{Job, MeshSender},
    node_shared::{NodeShared, ShardPort},
    registry_shard::RegistryShard,
    stats::{add, store},
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
    latencies: Rc<Recorder>,
}

impl Shard {
    pub(crate) fn new(
        id: usize,
        node: Arc<NodeShared>,
        mesh: MeshSender,
        registry: Rc<RegistryShard>,
        latencies: Rc<Recorder>,
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
            latencies,
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
    pub(crate) fn publish_any(
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

    /// As [`Shard::publish`], with a subject to answer to.
    ///
    /// Answers come on the cluster of `topic`, whatever `reply` hashes to: who wants to get them
    /// subscribes with a wildcard that covers `reply`, which listens on every cluster. A request has all that.
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`]; `InvalidTopic` also when `reply` is no subject, or a wildcard.
    pub fn publish_with_reply<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        reply: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        let (topic, reply) = (topic.as_ref(), reply.as_ref());
        self.check_publish(topic)?;
        Subject::check_literal(reply).map_err(|reason| InvalidTopic::new(reply, reason))?;
        let to = Destination::Subject { subject: topic, reply: Some(reply), headers: None };
        self.link(self.0.node.ring.owner(topic)).publish(&to, payload.into())
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
        let to = Destination::Subject { subject, reply: None, headers: None };
        self.link_to(cluster)?.publish(&to, payload.into())
    }

    /// Answers a request that came from this cluster to any shard of the node.
    pub(crate) fn respond(
        &self,
        cluster: &ClusterName,
        reply: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<(), PublishError> {
        self.link_to(cluster)?.respond(reply, headers, payload)
    }

    fn link_to(&self, cluster: &ClusterName) -> Result<&Rc<Link>, PublishError> {
        let index = self.0.node.clusters.iter().position(|name| name == cluster);
        let index = index.ok_or_else(|| PublishError::UnknownCluster { cluster: cluster.clone() })?;
        Ok(self.link(index))
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
        let link = Link::new(index, self.id(), &self.0.node, Rc::clone(&self.0.latencies));
        if self.0.is_closed.get() {
            link.close();
        } else {
            self.0.link_tasks.borrow_mut().push(transport::spawn(cluster_link::run(Rc::clone(&link))));
        }
        link
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
