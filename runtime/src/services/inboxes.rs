//! Where the requests for a shard's services come: one prefix, one wildcard SUB on each cluster, and a
//! bounded queue for each service.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use croupier_protocol::Subject;
use croupier_registry::ServiceKey;

use super::Service;
use crate::{
    HandlerGuard, Message, MessageView, Shard, SubscribeError,
    config::{LimitsConfig, QueueLimits, SlowSubscriberPolicy},
    local_notify::LocalNotify,
    receiver::{Delivered, Receiver},
};

/// Random characters in the prefix: another life of the shard has another one.
const PREFIX_RANDOM_CHARS: usize = 16;
/// How long requests are still taken after a service was withdrawn, while the others learn of it.
pub(crate) const LINGER: Duration = Duration::from_millis(100);

type Queues = Rc<RefCell<HashMap<u64, Rc<Receiver>>>>;

/// The inboxes of one shard.
pub(crate) struct Inboxes {
    prefix: Vec<u8>,
    limits: RefCell<QueueLimits>,
    queues: Queues,
    /// Whose inbox each is. Two may be of one key for a moment: the later one is then refused.
    keys: RefCell<HashMap<u64, ServiceKey>>,
    next: Cell<u64>,
    /// The next number of a default id, for each type.
    next_ids: RefCell<HashMap<Box<[u8]>, u64>>,
    subscribed: RefCell<Subscribed>,
    subscribed_changed: LocalNotify,
}

#[derive(Default)]
enum Subscribed {
    #[default]
    Not,
    Trying,
    /// Held for as long as the shard lives.
    Yes {
        _guard: HandlerGuard,
    },
}

/// A queue that a service has, until it is let go.
pub(crate) struct Inbox {
    pub(crate) subject: Subject,
    pub(crate) receiver: Rc<Receiver>,
    token: u64,
}

impl Inboxes {
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        let mut prefix = b"_CRP.".to_vec();
        prefix.extend((0..PREFIX_RANDOM_CHARS).map(|_| fastrand::alphanumeric() as u8));
        prefix.push(b'.');
        Inboxes {
            prefix,
            limits: RefCell::new(limits.subscriber_queue.clone()),
            queues: Rc::default(),
            keys: RefCell::default(),
            next: Cell::new(0),
            next_ids: RefCell::default(),
            subscribed: RefCell::default(),
            subscribed_changed: LocalNotify::default(),
        }
    }

    /// Bounds of the inboxes that are opened from here on.
    pub(crate) fn set_limits(&self, limits: &LimitsConfig) {
        *self.limits.borrow_mut() = limits.subscriber_queue.clone();
    }

    /// Makes sure that requests come, before the first service is announced.
    pub(crate) async fn subscribe(&self, shard: &Shard) -> Result<(), SubscribeError> {
        let turn = self
            .subscribed_changed
            .until(|| match &*self.subscribed.borrow() {
                Subscribed::Not => Some(true),
                Subscribed::Trying => None,
                Subscribed::Yes { .. } => Some(false),
            })
            .await;
        if !turn {
            return Ok(());
        }
        let attempt = Attempt::begin(self);
        let mut pattern = self.prefix.clone();
        pattern.push(b'*');
        let (queues, prefix_bytes) = (Rc::clone(&self.queues), self.prefix.len());
        let guard =
            shard.subscribe_with(pattern, move |request| deliver(&queues, prefix_bytes, &request)).await?;
        attempt.succeed(guard);
        Ok(())
    }

    /// An inbox that nobody has.
    pub(crate) fn open(&self) -> Inbox {
        let token = self.next.replace(self.next.get() + 1);
        let mut subject = self.prefix.clone();
        subject.extend_from_slice(token.to_string().as_bytes());
        let subject = Subject::from_wire(Bytes::from(subject));
        let policy = SlowSubscriberPolicy::DropNewest;
        let receiver = Rc::new(Receiver::queue(subject.clone(), self.limits.borrow().clone(), policy));
        self.queues.borrow_mut().insert(token, Rc::clone(&receiver));
        Inbox { subject, receiver, token }
    }

    /// Notes whose inbox it is.
    pub(crate) fn assign(&self, inbox: &Inbox, key: &ServiceKey) {
        self.keys.borrow_mut().insert(inbox.token, key.clone());
    }

    /// Lets an inbox go. Whoever waits in it is told that nobody is there.
    pub(crate) fn close(&self, inbox: &Inbox) {
        self.queues.borrow_mut().remove(&inbox.token);
        self.keys.borrow_mut().remove(&inbox.token);
        for request in inbox.receiver.take_all() {
            request.refuse();
        }
    }

    /// The default id of a type's next service on this shard.
    pub(crate) fn next_id(&self, shard: usize, kind: &[u8]) -> Vec<u8> {
        let mut next_ids = self.next_ids.borrow_mut();
        let next = next_ids.entry(kind.into()).or_default();
        let id = format!("{shard}.{next}");
        *next += 1;
        id.into_bytes()
    }

    /// The queue of a service of this shard that is not offered any more; it may be closed after a while.
    pub(crate) fn withdrawn(&self, service: &Service) -> Option<Rc<Receiver>> {
        let token = service.instance().service.inbox().strip_prefix(&*self.prefix)?;
        self.queues.borrow().get(&str::from_utf8(token).ok()?.parse().ok()?).cloned()
    }

    /// All services of this shard.
    pub(crate) fn keys(&self) -> Vec<ServiceKey> {
        self.keys.borrow().values().cloned().collect()
    }

    /// Takes no more requests, and returns the queues: what waits in them can still be taken.
    pub(crate) fn close_all(&self) -> Vec<Rc<Receiver>> {
        let queues: Vec<_> = self.queues.borrow().values().cloned().collect();
        for queue in &queues {
            queue.close();
        }
        queues
    }
}

impl Inbox {
    /// The next request, or `None` when there will be none.
    pub(crate) async fn next(&self) -> Option<Message> {
        poll_fn(|cx| self.receiver.poll_next(cx)).await
    }
}

/// A request goes to its service's queue. If there is none, or it is full, the caller is told that nobody
/// is there, so that it may ask the next instance.
fn deliver(queues: &Queues, prefix_bytes: usize, request: &MessageView<'_>) {
    let arrival = request.arrival();
    let token = arrival.frame.subject.get(prefix_bytes..).and_then(|token| str::from_utf8(token).ok());
    let receiver = token.and_then(|token| queues.borrow().get(&token.parse().ok()?).cloned());
    let is_taken = receiver.is_some_and(|receiver| receiver.deliver(arrival) == Delivered::Taken);
    if !is_taken {
        request.refuse();
    }
}

/// The wildcard is being subscribed; if that comes to nothing, somebody else may try.
struct Attempt<'a>(Option<&'a Inboxes>);

impl<'a> Attempt<'a> {
    fn begin(inboxes: &'a Inboxes) -> Self {
        *inboxes.subscribed.borrow_mut() = Subscribed::Trying;
        Attempt(Some(inboxes))
    }

    fn succeed(mut self, guard: HandlerGuard) {
        if let Some(inboxes) = self.0.take() {
            *inboxes.subscribed.borrow_mut() = Subscribed::Yes { _guard: guard };
            inboxes.subscribed_changed.notify();
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(inboxes) = self.0 {
            *inboxes.subscribed.borrow_mut() = Subscribed::Not;
            inboxes.subscribed_changed.notify();
        }
    }
}
