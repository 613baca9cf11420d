//! The registry on one shard: its partitions, its links to peers, what its lookups read, and on shard 0
//! the membership. One task takes all messages and changes all of it.

mod home;
mod hub;
mod losses;
mod message;
mod mirror;
mod open_links;
mod shared;
mod stats;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::poll_fn,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use croupier_registry::{
    CommandError, Epoch, Event, LinkId, MemberChange, NodeKey, NodeStanding, NodeStatus, Partition,
    Partitions, PartitionsConfig, ServiceBuilder,
    limits::{ChunkLimits, LogLimits, WindowLimits},
    wire::v1::{self, ByeReason, Outcome},
};
use futures_channel::oneshot;
use futures_core::Stream;

pub use self::stats::RegistryStats;
pub(crate) use self::{
    hub::Hub,
    message::{Burden, Load, Nodes, Operated, Operation, ToShard},
    open_links::Acceptance,
    shared::{RegistryShared, Shared},
    stats::{Refusal, count},
};
use crate::{
    RegistryError,
    local_notify::LocalNotify,
    node_shared::NodeShared,
    peer_link::{self, PeerContext, PeerLink},
    receiver::Receiver,
    secret::KeyRing,
    services::{Inboxes, KindUpdate, LINGER, Service, ServiceRef, Views, WatchQueue},
    transport::{Alarm, Task},
};
use home::{Audience, Home};
use losses::Losses;
use open_links::{OpenLinks, Opened};

/// Messages taken before other tasks get a turn.
const MESSAGES_PER_TURN: usize = 512;
/// How long the links have for their last frames.
const LAST_FRAMES: Duration = Duration::from_millis(300);
/// How long the owner of a service on another node has to answer a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// Who asked for a command, the token of its answer if it wants one, and the service.
type Asker = (usize, Option<u64>, ServiceRef);

/// An outcome for whoever waits for it on a shard, once that shard sees the change.
struct Answer {
    shard: usize,
    token: u64,
    kind: Box<[u8]>,
    outcome: Result<Operated, RegistryError>,
}

/// The registry on one shard.
pub(crate) struct RegistryShard {
    id: usize,
    node: Arc<NodeShared>,
    me: NodeKey,
    /// Messages of this shard to itself.
    own_lane: RefCell<VecDeque<ToShard>>,
    waker: RefCell<Option<Waker>>,
    partitions: RefCell<Partitions>,
    home: RefCell<Home>,
    hub: RefCell<Option<Hub>>,
    links: RefCell<BTreeMap<LinkId, Rc<PeerLink>>>,
    /// The open link to each peer, wherever it lives.
    peers: RefCell<OpenLinks>,
    /// Nodes whose advertised versions are not reached yet.
    awaited: RefCell<BTreeSet<NodeKey>>,
    /// Remote commands under way, and who waits for them.
    commands: RefCell<HashMap<u128, Asker>>,
    /// Outcomes that are told once the tables have changed.
    answers: RefCell<Vec<Answer>>,
    /// Operations of this shard's application.
    waiting: RefCell<HashMap<u64, oneshot::Sender<Result<Operated, RegistryError>>>>,
    next_token: Cell<u64>,
    views: Views,
    nodes: RefCell<Arc<Nodes>>,
    losses: Losses,
    watches: RefCell<Vec<Weak<WatchQueue>>>,
    inboxes: Inboxes,
    peer_context: RefCell<Option<PeerContext>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    next_task: Cell<u64>,
    is_draining: Cell<bool>,
    has_left: Cell<bool>,
    left: LocalNotify,
}

impl RegistryShard {
    pub(crate) fn new(id: usize, node: &Arc<NodeShared>, epoch: Epoch) -> Rc<Self> {
        let config = PartitionsConfig {
            name: node.name.as_str().into(),
            epoch,
            shard: id,
            shards: node.shards(),
            log: LogLimits::default(),
            chunk: ChunkLimits::default(),
            window: WindowLimits::default(),
        };
        let own = NodeStatus {
            name: node.name.as_str().into(),
            address: String::new(),
            epoch,
            standing: NodeStanding::Up,
        };
        if id == 0 {
            node.registry.mirror.set_nodes(std::slice::from_ref(&own));
        }
        Rc::new(RegistryShard {
            id,
            node: Arc::clone(node),
            me: NodeKey::of_name(&node.name),
            own_lane: RefCell::default(),
            waker: RefCell::default(),
            partitions: RefCell::new(Partitions::new(config)),
            home: RefCell::default(),
            hub: RefCell::new(None),
            links: RefCell::default(),
            peers: RefCell::default(),
            awaited: RefCell::default(),
            commands: RefCell::default(),
            answers: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            views: Views::default(),
            nodes: RefCell::new(Arc::new(Nodes { nodes: vec![own], is_reaching_out: false })),
            losses: Losses::default(),
            watches: RefCell::default(),
            inboxes: Inboxes::new(&node.limits.get()),
            peer_context: RefCell::default(),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
            is_draining: Cell::new(false),
            has_left: Cell::new(false),
            left: LocalNotify::default(),
        })
    }

    /// Gives the shard the membership (on shard 0) and what links need.
    pub(crate) fn join_cluster(&self, hub: Option<Hub>, context: PeerContext) {
        if let Some(hub) = &hub {
            hub.tell_nodes();
        }
        *self.hub.borrow_mut() = hub;
        *self.peer_context.borrow_mut() = Some(context);
    }

    pub(crate) fn node(&self) -> &Arc<NodeShared> {
        &self.node
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.node.registry
    }

    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    pub(crate) fn inboxes(&self) -> &Inboxes {
        &self.inboxes
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        Arc::clone(&self.nodes.borrow())
    }

    /// Sends a message to a shard, this one included. To one shard they keep their order.
    pub(crate) fn post(&self, shard: usize, message: ToShard) {
        if shard == self.id {
            self.own_lane.borrow_mut().push_back(message);
            self.wake();
        } else {
            self.shared().send(shard, message);
        }
    }

    pub(crate) fn post_all(&self, mut message: impl FnMut() -> ToShard) {
        for shard in 0..self.node.shards() {
            self.post(shard, message());
        }
    }

    pub(crate) fn post_to_hub(&self, message: ToShard) {
        self.post(0, message);
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    // What this shard's application asks for.

    /// Asks the shard of a type's partition for a change. When the answer has come, this shard sees it.
    pub(crate) async fn operate(&self, kind: &[u8], operation: Operation) -> Result<Operated, RegistryError> {
        if self.has_left.get() {
            return Err(RegistryError::Draining);
        }
        let token = self.next_token.replace(self.next_token.get() + 1);
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().insert(token, answer);
        let message = ToShard::Operate { from: self.id, token: Some(token), operation };
        self.post(self.home_of(kind), message);
        answered.await.unwrap_or(Err(RegistryError::Draining))
    }

    /// As [`operate`](Self::operate), for who does not wait.
    pub(crate) fn operate_unheard(&self, kind: &[u8], operation: Operation) {
        let message = ToShard::Operate { from: self.id, token: None, operation };
        self.post(self.home_of(kind), message);
    }

    fn home_of(&self, kind: &[u8]) -> usize {
        Partition::of_kind(kind).shard(self.node.shards())
    }

    /// Which nodes are lost.
    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(crate) fn add_watch(&self, queue: &Rc<WatchQueue>) {
        if self.is_draining.get() {
            queue.close();
        }
        let mut watches = self.watches.borrow_mut();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Rc::downgrade(queue));
    }

    // The task.

    /// Takes messages and drives the machines until the shard stops.
    pub(crate) async fn run(self: Rc<Self>, lane: async_channel::Receiver<ToShard>) {
        let mut lane = pin!(lane);
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            self.turn(lane.as_mut(), &mut alarm, cx);
            Poll::<()>::Pending
        })
        .await;
    }

    fn turn(
        self: &Rc<Self>,
        mut lane: Pin<&mut async_channel::Receiver<ToShard>>,
        alarm: &mut Alarm,
        cx: &mut Context<'_>,
    ) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        let now = Instant::now();
        let mut taken = 0;
        loop {
            // In turns: a peer that keeps the own lane full must not make the other one grow.
            let own = if taken % 2 == 0 { self.own_lane.borrow_mut().pop_front() } else { None };
            let other = match own {
                Some(message) => Some(message),
                None => match lane.as_mut().poll_next(cx) {
                    Poll::Ready(message) => message,
                    Poll::Pending => None,
                },
            };
            let Some(message) = other.or_else(|| self.own_lane.borrow_mut().pop_front()) else {
                self.settle(now);
                if self.own_lane.borrow().is_empty() {
                    break;
                }
                continue;
            };
            self.handle(message, now);
            taken += 1;
            if taken >= MESSAGES_PER_TURN {
                self.settle(now);
                // Others get their turn, and sockets are polled.
                alarm.arm(now, now, cx);
                break;
            }
        }
        if taken > 0 {
            self.node.ports[self.id].progressed();
        }
        let partitions_due = self.partitions.borrow().poll_timeout();
        let hub_due = self.hub.borrow().as_ref().and_then(Hub::poll_timeout);
        let publication_due = self.home.borrow().publication_due();
        if let Some(due) = [partitions_due, hub_due, publication_due].into_iter().flatten().min() {
            alarm.arm(due, now, cx);
        }
    }

    /// Lets time pass for the machines, and carries their outputs to where they belong.
    fn settle(self: &Rc<Self>, now: Instant) {
        if let Some(hub) = &mut *self.hub.borrow_mut() {
            hub.handle_timeout(now);
        }
        let mut partitions = self.partitions.borrow_mut();
        if partitions.poll_timeout().is_some_and(|due| due <= now) {
            partitions.handle_timeout(now);
        }
        let mut home = self.home.borrow_mut();
        while let Some(event) = partitions.poll_event() {
            self.take_event(&partitions, &mut home, event);
        }
        self.awaited.borrow_mut().retain(|node| !partitions.is_synced(*node));
        self.shared().set_awaits(self.id, !self.awaited.borrow().is_empty());
        self.send_frames(&mut partitions);
        drop(partitions);
        for news in home.own_news() {
            count(&self.shared().counters.table_changes, 1);
            let mut withdrawn = Vec::new();
            self.views.apply_own(&news.kind, news.ring, &news.changes, now, |left| {
                withdrawn.extend(self.withdrawn_inbox(left));
            });
            self.close_later(withdrawn);
        }
        let mut answers = self.answers.borrow_mut();
        let is_owed = |kind: &[u8], is_small: bool| {
            let waits = |answer: &Answer| *answer.kind == *kind && (is_small || answer.shard != self.id);
            answers.iter().any(waits)
        };
        let audience = if self.node.shards() > 1 { Audience::Shards } else { Audience::ThreadsAlone };
        for news in home.publications(now, audience, is_owed) {
            self.shared().mirror.push(&news);
            for shard in (0..self.node.shards()).filter(|shard| *shard != self.id) {
                self.post(shard, ToShard::News(Arc::clone(&news)));
            }
        }
        // The lanes keep their order: whoever gets an answer has the news before it.
        for Answer { shard, token, outcome, .. } in answers.drain(..) {
            self.post(shard, ToShard::Operated { token, outcome });
        }
    }

    fn send_frames(&self, partitions: &mut Partitions) {
        while let Some((peer, frame)) = partitions.poll_frame() {
            if let Some(link) = self.peers.borrow().of(peer) {
                self.post(self.shared().shard_of(link), ToShard::Write { link, from: self.id, frame });
            }
        }
    }

    fn take_event(&self, partitions: &Partitions, home: &mut Home, event: Event) {
        match event {
            Event::Commanded { op_id, outcome } => {
                if let Some((shard, Some(token), service)) = self.commands.borrow_mut().remove(&op_id) {
                    self.answer(shard, token, service.kind(), outcome_of(outcome, &service));
                }
            }
            Event::CommandInDoubt { op_id } => {
                if let Some((shard, Some(token), service)) = self.commands.borrow_mut().remove(&op_id) {
                    let node = Arc::clone(&service.node);
                    self.answer(shard, token, service.kind(), Err(RegistryError::InDoubt { node }));
                }
            }
            Event::Joined(ref instance) | Event::Updated(ref instance) | Event::Left(ref instance) => {
                if *instance.node == *self.node.name {
                    let partition = instance.service.partition();
                    let known = partitions.log(self.me, partition).map_or(0, croupier_registry::Log::known);
                    self.shared().set_version(partition.index(), known);
                }
                home.take(event);
            }
        }
    }

    fn answer(&self, shard: usize, token: u64, kind: &[u8], outcome: Result<Operated, RegistryError>) {
        self.answers.borrow_mut().push(Answer { shard, token, kind: kind.into(), outcome });
    }

    fn handle(self: &Rc<Self>, message: ToShard, now: Instant) {
        match message {
            ToShard::Member(change) => self.member_changed(change, now),
            ToShard::Nodes(nodes) => {
                if self.id == 0 {
                    self.shared().set_reaches_out(nodes.is_reaching_out);
                }
                *self.nodes.borrow_mut() = nodes;
            }
            ToShard::Beat { counter } => self.beat(counter),
            ToShard::CollectDigests { round } => {
                let parts = self.partitions.borrow().digests().collect();
                self.post_to_hub(ToShard::DigestsPart { round, parts });
            }
            ToShard::SendVersions { peer, node } => self.partitions.borrow_mut().send_versions(peer, node),
            ToShard::Leave => {
                self.has_left.set(true);
                self.left.notify();
            }
            ToShard::Dial { link, address, deadline } => {
                self.start(peer_link::dial(Rc::clone(self), link, address, deadline));
            }
            ToShard::Accepted { link, connection } => {
                self.start(peer_link::take_over(Rc::clone(self), link, connection));
            }
            ToShard::LinkUp { peer, link, acceptance } => self.link_up(peer, link, acceptance),
            ToShard::LinkDown { peer, link } => self.link_down(peer, link),
            ToShard::Compare { peer, link } => {
                let digest = self.partitions.borrow().digest(peer);
                self.post(self.shared().shard_of(link), ToShard::ComparePart { link, digest });
            }
            ToShard::Repair { peer } => self.partitions.borrow_mut().send_pull(peer, peer, None),
            ToShard::Frame { link, peer, frame, frame_bytes, load } => {
                load.0.fetch_sub(frame_bytes, Ordering::AcqRel);
                if self.peers.borrow().of(peer) == Some(link) {
                    let taken = self.partitions.borrow_mut().handle_frame(peer, &frame, frame_bytes, now);
                    if let Err(violation) = taken {
                        self.post(self.shared().shard_of(link), ToShard::Violation { link, violation });
                    }
                }
            }
            ToShard::Written { link, peer, frames } => {
                if self.peers.borrow().of(peer) == Some(link) {
                    let mut partitions = self.partitions.borrow_mut();
                    for frame in &frames {
                        partitions.handle_written(peer, frame);
                    }
                }
            }
            ToShard::News(news) => self.take_news(&news, now),
            ToShard::Operate { from, token, operation } => self.carry_out(from, token, operation, now),
            ToShard::Operated { token, outcome } => {
                if let Some(waiting) = self.waiting.borrow_mut().remove(&token) {
                    // Whoever gave up waiting needs no answer.
                    let _unheard = waiting.send(outcome);
                }
            }
            ToShard::Accept { link, acceptance } => self.with_link(link, |link| link.accept(acceptance)),
            ToShard::Close { link, reason } => self.with_link(link, |link| link.close(reason)),
            ToShard::Send { link, frame } => self.with_link(link, |link| link.send(&frame)),
            ToShard::Write { link, from, frame } => self.with_link(link, |link| link.write(from, frame)),
            ToShard::HeartbeatPart { link, from, counter, digest } => {
                self.with_link(link, |link| link.heartbeat_part(from, counter, digest));
            }
            ToShard::ComparePart { link, digest } => {
                self.with_link(link, |link| link.compare_part(digest));
            }
            ToShard::Violation { link, violation } => {
                self.with_link(link, |link| link.violated(&violation));
            }
            ToShard::Greet { .. }
            | ToShard::Hello { .. }
            | ToShard::MembershipFrame { .. }
            | ToShard::OriginDigests { .. }
            | ToShard::DigestsPart { .. }
            | ToShard::LinkClosed { .. }
            | ToShard::DialFailed { .. }
            | ToShard::Introduced { .. } => {
                if let Some(hub) = &mut *self.hub.borrow_mut() {
                    hub.handle(message, now);
                }
            }
        }
    }

    /// Starts a task that ends by itself, or with the shard.
    pub(crate) fn start(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let id = self.next_task.replace(self.next_task.get() + 1);
        let registry = Rc::clone(self);
        let running = crate::transport::spawn(async move {
            task.await;
            registry.tasks.borrow_mut().remove(&id);
        });
        self.tasks.borrow_mut().insert(id, running);
    }

    fn with_link(&self, link: LinkId, act: impl FnOnce(&PeerLink)) {
        let link = self.links.borrow().get(&link).cloned();
        if let Some(link) = link {
            act(&link);
        }
    }

    fn member_changed(&self, change: MemberChange, now: Instant) {
        let gone = match &change {
            MemberChange::Down(node) | MemberChange::Dropped(node) => Some(*node),
            MemberChange::Up { name, .. } => {
                self.awaited.borrow_mut().insert(NodeKey::of_name(name));
                None
            }
            _ => None,
        };
        self.partitions.borrow_mut().handle_member(change, now);
        if let Some(node) = gone {
            self.awaited.borrow_mut().remove(&node);
            let name =
                self.nodes.borrow().nodes.iter().find(|known| NodeKey::of_name(&known.name) == node).cloned();
            if let Some(known) = name {
                self.losses.add(known.name);
            }
        }
    }

    fn beat(&self, counter: u64) {
        let mut partitions = self.partitions.borrow_mut();
        // What was enqueued before goes out before.
        self.send_frames(&mut partitions);
        for (peer, link) in self.peers.borrow().iter() {
            let digest = partitions.enqueued_digest(peer);
            let part = ToShard::HeartbeatPart { link, from: self.id, counter, digest };
            self.post(self.shared().shard_of(link), part);
        }
    }

    fn link_up(&self, peer: NodeKey, link: LinkId, acceptance: Acceptance) {
        let opened = self.peers.borrow_mut().opened(peer, link, acceptance);
        let mut partitions = self.partitions.borrow_mut();
        match opened {
            Opened::First => {}
            Opened::Replaces => partitions.handle_link_down(peer),
            Opened::Late => return,
        }
        partitions.handle_link_up(peer);
    }

    fn link_down(&self, peer: NodeKey, link: LinkId) {
        if self.peers.borrow_mut().closed(peer, link) {
            self.partitions.borrow_mut().handle_link_down(peer);
        }
    }

    fn take_news(self: &Rc<Self>, news: &Arc<KindUpdate>, now: Instant) {
        let mut withdrawn = Vec::new();
        self.views.apply(news, now, |left| withdrawn.extend(self.withdrawn_inbox(left)));
        self.close_later(withdrawn);
    }

    /// The inbox of a service of this shard that is not offered any more.
    fn withdrawn_inbox(&self, left: &Service) -> Option<Rc<Receiver>> {
        if left.node() == self.node.name { self.inboxes.withdrawn(left) } else { None }
    }

    fn close_later(self: &Rc<Self>, withdrawn: Vec<Rc<Receiver>>) {
        for inbox in withdrawn {
            // Another node, or the drain, removed it: its holder serves on while the others learn of it.
            self.start(async move {
                crate::transport::sleep(LINGER).await;
                inbox.close();
            });
        }
    }

    // Operations, on the shard of the partition.

    fn carry_out(&self, from: usize, token: Option<u64>, operation: Operation, now: Instant) {
        let kind = operation.kind().to_vec();
        let outcome = match operation {
            Operation::Add(service) => self.add(&service, now),
            Operation::SetMeta { key, name, value } => self.set_meta(&key, &name, &value, now),
            Operation::Withdraw { key, inbox } => self.withdraw(&key, inbox.as_bytes(), now),
            Operation::Fingerprint { kind } => {
                Ok(Operated::Fingerprint(self.home.borrow().fingerprint(&kind)))
            }
            Operation::Command { service, operation } => {
                return self.command(from, token, service, operation, now);
            }
        };
        if let Some(token) = token {
            self.answer(from, token, &kind, outcome);
        }
    }

    fn add(&self, service: &croupier_registry::Service, now: Instant) -> Result<Operated, RegistryError> {
        let mut partitions = self.partitions.borrow_mut();
        let key = service.key();
        if partitions.find(self.me, &key).is_some() {
            let service = ServiceRef { node: self.node.name.as_str().into(), key };
            return Err(RegistryError::AlreadyRegistered { service });
        }
        partitions.put(service, now)?;
        Ok(Operated::Done)
    }

    fn withdraw(
        &self,
        key: &croupier_registry::ServiceKey,
        inbox: &[u8],
        now: Instant,
    ) -> Result<Operated, RegistryError> {
        let mut partitions = self.partitions.borrow_mut();
        if partitions.find(self.me, key).is_some_and(|(_, service)| service.inbox() == inbox) {
            partitions.remove(key, now);
        }
        Ok(Operated::Done)
    }

    fn set_meta(
        &self,
        key: &croupier_registry::ServiceKey,
        name: &str,
        value: &str,
        now: Instant,
    ) -> Result<Operated, RegistryError> {
        let mut partitions = self.partitions.borrow_mut();
        let Some((_, service)) = partitions.find(self.me, key) else {
            let service = ServiceRef { node: self.node.name.as_str().into(), key: key.clone() };
            return Err(RegistryError::NotFound { service });
        };
        let service = ServiceBuilder::from_service(service).meta(name, value).build()?;
        partitions.put(&service, now)?;
        Ok(Operated::Done)
    }

    fn command(
        &self,
        from: usize,
        token: Option<u64>,
        service: ServiceRef,
        operation: v1::Operation,
        now: Instant,
    ) {
        let op_id = fastrand::u128(..);
        let owner = NodeKey::of_name(&service.node);
        let key = service.key.clone();
        self.commands.borrow_mut().insert(op_id, (from, token, service.clone()));
        let sent =
            self.partitions.borrow_mut().command(op_id, owner, operation, &key, None, COMMAND_TIMEOUT, now);
        if let Err(error) = sent {
            self.commands.borrow_mut().remove(&op_id);
            let node = Arc::clone(&service.node);
            let error = match error {
                CommandError::NotFound { .. } => RegistryError::NotFound { service },
                CommandError::Busy => RegistryError::Busy,
                _ => RegistryError::OwnerDown { node },
            };
            if let Some(token) = token {
                self.answer(from, token, key.kind(), Err(error));
            }
        }
    }

    // Links.

    pub(crate) fn peer_context(&self) -> Option<PeerContext> {
        self.peer_context.borrow().clone()
    }

    /// The keys of the links that begin from here on.
    pub(crate) fn set_keys(&self, keys: KeyRing) {
        if let Some(context) = &mut *self.peer_context.borrow_mut() {
            context.keys = keys;
        }
    }

    /// The seeds, if this is the shard of the membership.
    pub(crate) fn set_seeds(&self, seeds: &[String]) {
        if let Some(hub) = &mut *self.hub.borrow_mut() {
            hub.set_seeds(seeds, Instant::now());
        }
        // Its next dial may be due.
        self.wake();
    }

    pub(crate) fn link_begins(&self, id: LinkId, link: &Rc<PeerLink>) {
        self.links.borrow_mut().insert(id, Rc::clone(link));
    }

    pub(crate) fn link_ends(&self, id: LinkId) {
        self.links.borrow_mut().remove(&id);
        self.left.notify();
    }

    /// A connection came in: the link that it is to be.
    pub(crate) fn accept_link(&self) -> Option<LinkId> {
        self.hub.borrow_mut().as_mut().map(Hub::accept)
    }

    // The end.

    /// Takes back all services of this shard, and lets no more come. Returns whether there were any.
    pub(crate) fn withdraw_all(&self) -> bool {
        self.is_draining.set(true);
        let keys = self.inboxes.keys();
        for key in &keys {
            let service = ServiceRef { node: self.node.name.as_str().into(), key: key.clone() };
            let operation = Operation::Command { service, operation: v1::Operation::Remove };
            self.operate_unheard(key.kind(), operation);
        }
        !keys.is_empty()
    }

    /// Says Bye to all peers, once all shards are ready or `limit` has passed, and waits until it is written.
    pub(crate) async fn leave(self: &Rc<Self>, reason: ByeReason, limit: Duration) {
        self.shared().ready_to_leave();
        if self.peer_context().is_none() {
            return;
        }
        let deadline = Instant::now() + limit;
        if self.id == 0 {
            while !self.are_all_ready() && Instant::now() < deadline {
                crate::transport::sleep(Duration::from_millis(1)).await;
            }
            if let Some(hub) = &mut *self.hub.borrow_mut() {
                hub.leave(reason);
            }
            self.post_all(|| ToShard::Leave);
        }
        let written = self.left.until(|| {
            let is_stranded = self.id != 0 && self.node.ports[0].is_stopped();
            ((self.has_left.get() && self.links.borrow().is_empty()) || is_stranded).then_some(())
        });
        let _late =
            crate::time::timeout(deadline.saturating_duration_since(Instant::now()) + LAST_FRAMES, written)
                .await;
    }

    fn are_all_ready(&self) -> bool {
        let stopped = self.node.ports.iter().filter(|port| port.is_stopped()).count();
        self.shared().shards_ready_to_leave() + stopped >= self.node.shards()
    }

    /// Ends every watch, also those that come later.
    pub(crate) fn close_watches(&self) {
        for watch in self.watches.borrow_mut().drain(..) {
            if let Some(watch) = watch.upgrade() {
                watch.close();
            }
        }
    }

    /// Ends whatever waits: watches, operations, tasks.
    pub(crate) async fn close(&self) {
        self.has_left.set(true);
        self.waiting.borrow_mut().clear();
        self.close_watches();
        loop {
            let Some((_, task)) = self.tasks.borrow_mut().pop_first() else { break };
            task.cancel().await;
        }
        self.links.borrow_mut().clear();
    }
}

fn outcome_of(outcome: Outcome, service: &ServiceRef) -> Result<Operated, RegistryError> {
    match outcome {
        Outcome::Done { .. } | Outcome::Unchanged { .. } => Ok(Operated::Done),
        Outcome::NotFound | Outcome::VersionMismatch { .. } => {
            Err(RegistryError::NotFound { service: service.clone() })
        }
        Outcome::OtherEpoch => Err(RegistryError::OwnerDown { node: Arc::clone(&service.node) }),
        Outcome::Busy => Err(RegistryError::Busy),
    }
}
