//! Where the messages of one subscription go: a handler, or a bounded queue.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

use croupier_protocol::{Sid, Subject};

use crate::{
    ClusterName, Message, MessageView,
    config::{QueueLimits, SlowSubscriberPolicy},
    error::panic_message,
    message::Arrival,
};

/// A chunk is pinned for a small message only while a queue pins less than this.
const PINNED_BYTES_MAX: usize = 1 << 20;

type Handler = Box<dyn FnMut(MessageView<'_>)>;

/// The receiving end that links deliver to; one for each subscription, whatever the number of its links.
pub(crate) struct Receiver {
    /// The topic, if it is literal: then every message has it.
    literal: Option<Subject>,
    topic: Subject,
    closed: Cell<bool>,
    denied: RefCell<Option<ClusterName>>,
    delivered: Cell<u64>,
    delivered_max: Cell<u64>,
    /// What `delivered` was when the SUB that it has on this connection was written; `None` if it joined one
    /// that others had before.
    delivered_at_sub: Cell<Option<u64>>,
    /// Its place on each link: index of the cluster, and sid.
    places: RefCell<Vec<(usize, Sid)>>,
    sink: Sink,
}

enum Sink {
    Handler(RefCell<Option<Handler>>),
    Queue(RefCell<Queue>),
}

/// What a delivery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Taken,
    /// The queue was full, and so many messages were dropped; `began` when they are the first since a
    /// reader last emptied it.
    Lagged {
        dropped: u64,
        began: bool,
    },
    /// The queue was full: this message was dropped, and the receiver is closed, as its policy says.
    Overrun,
    /// The handler panicked; the receiver is closed.
    Panicked,
    /// Nobody is there any more.
    Closed,
}

impl Receiver {
    pub(crate) fn handler(topic: Subject, handler: impl FnMut(MessageView<'_>) + 'static) -> Self {
        Self::new(topic, Sink::Handler(RefCell::new(Some(Box::new(handler)))))
    }

    pub(crate) fn queue(topic: Subject, limits: QueueLimits, policy: SlowSubscriberPolicy) -> Self {
        Self::new(topic, Sink::Queue(RefCell::new(Queue::new(limits, policy))))
    }

    fn new(topic: Subject, sink: Sink) -> Self {
        Receiver {
            literal: (!topic.is_wildcard()).then(|| topic.clone()),
            topic,
            closed: Cell::new(false),
            denied: RefCell::new(None),
            delivered: Cell::new(0),
            delivered_max: Cell::new(u64::MAX),
            delivered_at_sub: Cell::new(None),
            places: RefCell::new(Vec::new()),
            sink,
        }
    }

    pub(crate) fn topic(&self) -> &Subject {
        &self.topic
    }

    #[inline]
    pub(crate) fn literal(&self) -> Option<&Subject> {
        self.literal.as_ref()
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The cluster that forbade the subscription, if one did.
    pub(crate) fn denied(&self) -> Option<ClusterName> {
        self.denied.borrow().clone()
    }

    pub(crate) fn deny(&self, cluster: ClusterName) {
        *self.denied.borrow_mut() = Some(cluster);
        self.close();
    }

    /// No more messages; those in the queue may still be taken.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        if let Sink::Queue(queue) = &self.sink
            && let Some(waker) = queue.borrow_mut().waker.take()
        {
            waker.wake();
        }
    }

    /// Lets go of the handler, which may hold what leads back here.
    pub(crate) fn release(&self) {
        self.close();
        if let Sink::Handler(handler) = &self.sink
            && let Ok(mut handler) = handler.try_borrow_mut()
        {
            let handler = handler.take();
            drop(handler);
        }
    }

    /// Lets go of what waits in the queue as well.
    pub(crate) fn abandon(&self) {
        self.close();
        if let Sink::Queue(queue) = &self.sink {
            let items = queue.borrow_mut().clear();
            drop(items);
        }
    }

    /// Takes what waits in the queue, which gets no more.
    pub(crate) fn take_all(&self) -> Vec<Message> {
        self.close();
        match &self.sink {
            Sink::Queue(queue) => queue.borrow_mut().clear().into_iter().map(|item| item.message).collect(),
            Sink::Handler(_) => Vec::new(),
        }
    }

    /// Ends it after so many messages in all; a greater number than an earlier one changes nothing.
    pub(crate) fn set_delivered_max(&self, messages: u64) {
        let messages = messages.min(self.delivered_max.get());
        self.delivered_max.set(messages);
        if self.delivered.get() >= messages {
            self.close();
        }
    }

    /// Messages that it was given, those dropped for want of room included.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.get()
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.delivered_max.get() != u64::MAX
    }

    /// A SUB was written, from which its server counts.
    pub(crate) fn sub_written(&self) {
        self.delivered_at_sub.set(Some(self.delivered.get()));
    }

    /// After how many messages, counted from its SUB, the server may forget it. A wildcard's messages come
    /// from several servers, none of which knows what the others have sent.
    pub(crate) fn max_on_the_wire(&self) -> Option<u64> {
        if !self.is_limited() || self.literal.is_none() {
            return None;
        }
        // None to come would mean all to come, on the wire.
        self.delivered_at_sub.get().map(|begun| (self.delivered_max.get() - begun).max(1))
    }

    /// Messages and bytes of memory in the queue.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        match &self.sink {
            Sink::Queue(queue) => {
                let queue = queue.borrow();
                (queue.items.len(), queue.bytes)
            }
            Sink::Handler(_) => (0, 0),
        }
    }

    /// Whether messages wait that somebody may still take.
    pub(crate) fn is_awaited(&self) -> bool {
        match &self.sink {
            Sink::Queue(queue) => !queue.borrow().items.is_empty(),
            Sink::Handler(_) => false,
        }
    }

    pub(crate) fn lagged(&self) -> u64 {
        match &self.sink {
            Sink::Queue(queue) => queue.borrow().lagged,
            Sink::Handler(_) => 0,
        }
    }

    pub(crate) fn add_place(&self, cluster: usize, sid: Sid) {
        self.places.borrow_mut().push((cluster, sid));
    }

    pub(crate) fn place(&self, cluster: usize) -> Option<Sid> {
        self.places.borrow().iter().find(|(at, _)| *at == cluster).map(|(_, sid)| *sid)
    }

    pub(crate) fn take_place(&self, cluster: usize) -> Option<Sid> {
        let mut places = self.places.borrow_mut();
        let index = places.iter().position(|(at, _)| *at == cluster)?;
        Some(places.swap_remove(index).1)
    }

    #[inline]
    pub(crate) fn deliver(&self, arrival: &Arrival<'_>) -> Delivered {
        if self.closed.get() {
            return Delivered::Closed;
        }
        let outcome = match &self.sink {
            Sink::Handler(handler) => {
                let mut handler = handler.borrow_mut();
                let Some(handler) = handler.as_mut() else { return Delivered::Closed };
                match catch_unwind(AssertUnwindSafe(|| handler(MessageView::new(arrival)))) {
                    Ok(()) => Delivered::Taken,
                    Err(panic) => {
                        self.closed.set(true);
                        tracing::error!(topic = %self.topic, message = panic_message(&*panic), "a handler panicked; its subscription ends");
                        return Delivered::Panicked;
                    }
                }
            }
            Sink::Queue(queue) => {
                let outcome = queue.borrow_mut().push(arrival);
                if outcome == Delivered::Overrun {
                    self.close();
                }
                outcome
            }
        };
        let delivered = self.delivered.get() + 1;
        self.delivered.set(delivered);
        if delivered >= self.delivered_max.get() {
            self.close();
        }
        outcome
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let Sink::Queue(queue) = &self.sink else { return Poll::Ready(None) };
        let mut queue = queue.borrow_mut();
        if let Some(message) = queue.pop() {
            return Poll::Ready(Some(message));
        }
        if self.closed.get() {
            return Poll::Ready(None);
        }
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A bounded queue that counts the memory it really holds: a message that shares a chunk pins the
/// whole of it, once.
struct Queue {
    items: VecDeque<Item>,
    pins: VecDeque<Pin>,
    pinned_bytes: usize,
    bytes: usize,
    limits: QueueLimits,
    policy: SlowSubscriberPolicy,
    waker: Option<Waker>,
    lagged: u64,
    lagging: bool,
}

struct Item {
    message: Message,
    /// Bytes of its own, beside a chunk.
    own_bytes: usize,
    pins: bool,
}

/// A chunk that consecutive items share.
struct Pin {
    chunk: usize,
    bytes: usize,
    items: usize,
}

impl Queue {
    fn new(limits: QueueLimits, policy: SlowSubscriberPolicy) -> Self {
        Queue {
            items: VecDeque::new(),
            pins: VecDeque::new(),
            pinned_bytes: 0,
            bytes: 0,
            limits,
            policy,
            waker: None,
            lagged: 0,
            lagging: false,
        }
    }

    fn push(&mut self, arrival: &Arrival<'_>) -> Delivered {
        let Arrival { chunk, frame, .. } = arrival;
        let frame_bytes = frame.subject.len()
            + frame.payload.len()
            + frame.reply.map_or(0, <[u8]>::len)
            + frame.headers.map_or(0, <[u8]>::len);
        let place = chunk.as_ptr() as usize;
        let is_pinned = self.pins.back().is_some_and(|pin| pin.chunk == place && pin.bytes == chunk.len());
        // A lone small message is not worth a chunk, once the queue holds on to a good deal.
        let is_worth_a_chunk =
            frame_bytes >= chunk.len() / 4 || self.pinned_bytes + chunk.len() <= PINNED_BYTES_MAX;
        // Where a chunk has no room, its message alone may have.
        let has_room_for_a_chunk = self.bytes + size_of::<Item>() + chunk.len() <= self.limits.bytes;
        let pins = is_pinned || (is_worth_a_chunk && has_room_for_a_chunk);
        let own_bytes = size_of::<Item>() + if pins { 0 } else { frame_bytes };
        let added = own_bytes + if pins && !is_pinned { chunk.len() } else { 0 };

        let (lagged_before, was_lagging) = (self.lagged, self.lagging);
        while self.items.len() >= self.limits.messages || self.bytes + added > self.limits.bytes {
            self.lagged += 1;
            if self.policy == SlowSubscriberPolicy::Close {
                return Delivered::Overrun;
            }
            if self.policy == SlowSubscriberPolicy::DropNewest || self.pop().is_none() {
                return self.lag(lagged_before, was_lagging);
            }
        }
        // Dropping the oldest may have let go of the very chunk.
        let is_pinned = is_pinned && self.pins.back().is_some_and(|pin| pin.chunk == place);
        let message = if pins { arrival.to_message() } else { arrival.copied() };
        if pins {
            if is_pinned {
                if let Some(pin) = self.pins.back_mut() {
                    pin.items += 1;
                }
            } else {
                self.pins.push_back(Pin { chunk: place, bytes: chunk.len(), items: 1 });
                self.pinned_bytes += chunk.len();
                self.bytes += chunk.len();
            }
        }
        self.bytes += own_bytes;
        self.items.push_back(Item { message, own_bytes, pins });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        self.lag(lagged_before, was_lagging)
    }

    /// What a push came to. Dropping the last old message is no reader's emptying.
    fn lag(&mut self, lagged_before: u64, was_lagging: bool) -> Delivered {
        let dropped = self.lagged - lagged_before;
        if dropped == 0 {
            return Delivered::Taken;
        }
        self.lagging = true;
        Delivered::Lagged { dropped, began: !was_lagging }
    }

    fn pop(&mut self) -> Option<Message> {
        let item = self.items.pop_front()?;
        self.bytes -= item.own_bytes;
        if item.pins
            && let Some(pin) = self.pins.front_mut()
        {
            pin.items -= 1;
            if pin.items == 0 {
                self.bytes -= pin.bytes;
                self.pinned_bytes -= pin.bytes;
                self.pins.pop_front();
            }
        }
        if self.items.is_empty() {
            self.lagging = false;
        }
        Some(item.message)
    }

    fn clear(&mut self) -> VecDeque<Item> {
        self.pins.clear();
        self.bytes = 0;
        self.pinned_bytes = 0;
        std::mem::take(&mut self.items)
    }
}
