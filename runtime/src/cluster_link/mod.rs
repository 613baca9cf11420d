//! A shard's link to one cluster: what the shard's verbs do to it, and the cells that its task shares
//! with them.
//!
//! The write half ([`Outbox`]) and the read half (the subscriptions) are separate cells, and neither
//! is borrowed while a handler runs: a message goes to the list of receivers as it was when the
//! message was looked up. So a handler may use every verb, and each takes effect at once.

mod access;
mod barrier;
mod catch_up;
mod connector;
mod crossing;
mod fault;
mod gate;
mod life;
mod outbox;
mod pool;
mod read_buffer;
mod reply;
mod reply_queue;
mod requests;
mod server_entry;
mod session;
#[cfg(test)]
mod simulation;
mod trial;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use croupier_protocol::{Headers, MessageFrame, QueueGroup, Requests, Sid, Subject, Subscriptions, encode};

pub(crate) use self::{
    barrier::Barrier,
    connector::run,
    gate::ReconnectGate,
    outbox::{Destination, SLICE_BYTES_MIN},
    reply_queue::{AwaitedReplies, ReplyLimits},
    server_entry::{ServerEntry, tls_name},
    trial::Trial,
};
use self::{
    barrier::Barriers,
    fault::Fault,
    outbox::{Outbox, Refused},
    pool::Pool,
    requests::{Asker, Inbox},
};
pub use self::{
    reply_queue::RepliesEnd,
    trial::{Accepted, DialError},
};
use crate::{
    ClusterName, Event, Payload, PublishError, SubscribeError,
    config::{Config, LimitsConfig},
    error::{FailedTry, InvalidTopic, LinkEnd},
    latency::Recorder,
    local_notify::LocalNotify,
    message::Arrival,
    node_shared::NodeShared,
    receiver::{Delivered, Receiver},
    stats::{LinkCounters, LinkStats, add, store},
    time,
};

/// The headers of an answer that says that nobody is there.
const NO_RESPONDERS: &[u8] = b"NATS/1.0 503\r\n\r\n";

/// How a link stands with its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkStatus {
    /// No try has ended yet.
    Connecting,
    Connected,
    Down,
}

/// One SUB on the wire and who shares it.
enum Wire {
    /// A dispatch holds on to the list; who changes it meanwhile changes a copy.
    Receivers(Rc<Vec<Rc<Receiver>>>),
    Inbox,
}

pub(crate) struct Link {
    cluster: ClusterName,
    index: usize,
    shard: usize,
    config: Arc<Config>,
    node: Arc<NodeShared>,
    outbox: RefCell<Outbox>,
    subscriptions: RefCell<Subscriptions<Wire>>,
    /// The shared SUB of each subject that is subscribed without a queue group.
    shared: RefCell<HashMap<Subject, Sid>>,
    requests: RefCell<Requests<Asker>>,
    inbox: Inbox,
    barriers: RefCell<Barriers>,
    status: Cell<LinkStatus>,
    /// Since when there was no connection, if there is none: since the last one ended, or since the beginning.
    down_since: Cell<Instant>,
    end: Cell<Option<LinkEnd>>,
    closing: Cell<bool>,
    pool: RefCell<Pool>,
    /// The last of those tries to connect that have failed since there was a connection.
    failed_try: RefCell<Option<FailedTry>>,
    /// Whose connection is the current one, or was the last.
    current_server: Cell<Option<pool::ServerId>>,
    /// A move to another connection is to be made, but not before this time.
    move_wanted: Cell<Option<Instant>>,
    status_changed: LocalNotify,
    room: LocalNotify,
    /// What the last server said that it takes.
    server_payload_bytes_max: Cell<usize>,
    scheduled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    counters: Arc<LinkCounters>,
    latencies: Rc<Recorder>,
}

impl Link {
    pub(crate) fn new(
        index: usize,
        shard: usize,
        node: &Arc<NodeShared>,
        latencies: Rc<Recorder>,
    ) -> Rc<Link> {
        let config = Arc::clone(&node.config);
        let limits = node.limits.get();
        let mut subscriptions = Subscriptions::new();
        let inbox = Inbox::new(&mut subscriptions, &config.connection.inbox_prefix);
        Rc::new(Link {
            cluster: node.clusters[index].clone(),
            index,
            shard,
            outbox: RefCell::new(Outbox::new(limits.publish_buffer, limits.max_payload)),
            pool: RefCell::new(Pool::new(&node.running.servers()[index], config.connection.randomize)),
            config,
            node: Arc::clone(node),
            subscriptions: RefCell::new(subscriptions),
            shared: RefCell::new(HashMap::new()),
            requests: RefCell::new(Requests::new(requests::IN_FLIGHT_MAX)),
            inbox,
            barriers: RefCell::new(Barriers::default()),
            status: Cell::new(LinkStatus::Connecting),
            down_since: Cell::new(time::now()),
            end: Cell::new(None),
            closing: Cell::new(false),
            failed_try: RefCell::new(None),
            current_server: Cell::new(None),
            move_wanted: Cell::new(None),
            status_changed: LocalNotify::default(),
            room: LocalNotify::default(),
            server_payload_bytes_max: Cell::new(usize::MAX),
            scheduled: Cell::new(false),
            waker: RefCell::new(None),
            counters: Arc::clone(&node.ports[shard].links[index]),
            latencies,
        })
    }

    pub(crate) fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Which of the node's clusters it is a link to.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Works by other limits from the next publish on.
    pub(crate) fn apply_limits(&self, limits: &LimitsConfig) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.set_limit_bytes(limits.publish_buffer);
        outbox.set_payload_bytes_max(self.payload_bytes_max(limits));
        drop(outbox);
        // Whoever waits for room may have got it.
        self.room.notify();
        self.schedule();
    }

    fn payload_bytes_max(&self, limits: &LimitsConfig) -> usize {
        limits.max_payload.min(self.server_payload_bytes_max.get())
    }

    pub(crate) fn status(&self) -> LinkStatus {
        self.status.get()
    }

    /// Has the link's task run in this turn of the executor.
    #[inline]
    pub(crate) fn schedule(&self) {
        if !self.scheduled.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    #[inline]
    pub(crate) fn publish(&self, to: &Destination<'_>, payload: Payload<'_>) -> Result<(), PublishError> {
        if let Some(reason) = self.end.get() {
            return Err(PublishError::Disconnected { cluster: self.cluster.clone(), reason });
        }
        let appended = self.outbox.borrow_mut().publish(to, payload);
        match appended {
            Ok(()) => {
                self.schedule();
                Ok(())
            }
            Err(refused) => Err(self.refused(&refused)),
        }
    }

    #[cold]
    fn refused(&self, refused: &Refused) -> PublishError {
        self.schedule();
        let cluster = self.cluster.clone();
        match *refused {
            Refused::Full { queued_bytes, limit_bytes, needed_bytes } => {
                PublishError::Busy { cluster, queued_bytes, limit_bytes, needed_bytes }
            }
            Refused::TooLarge { payload_bytes, limit_bytes } => {
                PublishError::PayloadTooLarge { cluster, payload_bytes, limit_bytes }
            }
        }
    }

    /// Publishes as soon as the buffer has room.
    pub(crate) async fn publish_wait(
        &self,
        to: &Destination<'_>,
        payload: Payload<'_>,
    ) -> Result<(), PublishError> {
        let payload = payload.into_cheap_to_clone();
        loop {
            match self.publish(to, payload.clone()) {
                Err(PublishError::Busy { limit_bytes, needed_bytes, .. }) if needed_bytes <= limit_bytes => {
                    self.room.until(|| self.has_room(needed_bytes).then_some(())).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn has_room(&self, needed_bytes: usize) -> bool {
        let outbox = self.outbox.borrow();
        outbox.queued_bytes() + needed_bytes <= outbox.limit_bytes() || self.end.get().is_some()
    }

    /// Publishes to a reply subject, which came from the server and is not hashed.
    pub(crate) fn respond(
        &self,
        reply: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<(), PublishError> {
        Subject::check_literal(reply).map_err(|reason| InvalidTopic::new(reply, reason))?;
        self.publish(&Destination::Subject { subject: reply, reply: None, headers }, payload)
    }

    /// Tells who asks that nobody is there, as a server does. Best effort: he has a timeout.
    pub(crate) fn refuse(&self, reply: &[u8]) {
        let Ok(headers) = Headers::parse(NO_RESPONDERS) else { return };
        if Subject::check_literal(reply).is_ok() {
            let to = Destination::Subject { subject: reply, reply: None, headers: Some(&headers) };
            let _unheard = self.publish(&to, Payload::from(&[][..]));
        }
    }

    /// Whether what is published now is likely to be sent soon.
    pub(crate) fn is_connected_or_trying(&self) -> bool {
        self.end.get().is_none() && self.status.get() != LinkStatus::Down
    }

    /// All SUBs of a new connection, and what is left of those that end after a number of messages.
    fn resubscribe(&self, subscriptions: &Subscriptions<Wire>) -> Vec<u8> {
        let mut out = Vec::new();
        for (sid, subscribed) in subscriptions.iter() {
            let subject = &subscribed.subject;
            match &subscribed.value {
                Wire::Inbox if self.inbox.is_live.get() && !fault::is_built_in(Fault::InboxForgotten) => {
                    encode::subscribe(&mut out, subject.as_bytes(), None, sid);
                }
                Wire::Inbox => {}
                Wire::Receivers(_)
                    if fault::is_built_in(Fault::SubscriptionForgotten) && sid.raw().is_multiple_of(3) => {}
                Wire::Receivers(receivers) => {
                    let queue = subscribed.queue.as_ref().map(QueueGroup::as_bytes);
                    encode::subscribe(&mut out, subject.as_bytes(), queue, sid);
                    receivers.iter().for_each(|receiver| receiver.sub_written());
                    if let [receiver] = receivers.as_slice()
                        && self.shared.borrow().get(subject) != Some(&sid)
                        && let Some(max) = receiver.max_on_the_wire()
                    {
                        let again = fault::is_built_in(Fault::CountBegunAgain);
                        let max = if again { max + receiver.delivered() } else { max };
                        encode::unsubscribe(&mut out, sid, Some(max));
                    }
                }
            }
        }
        out
    }

    /// UNSUBs of all that the link is subscribed to.
    fn unsubscribe_all(&self, out: &mut Vec<u8>) {
        for (sid, _) in self.subscriptions.borrow().iter() {
            encode::unsubscribe(out, sid, None);
        }
    }

    /// Has the receiver get what is sent to its topic.
    pub(crate) fn attach(
        &self,
        receiver: &Rc<Receiver>,
        queue: Option<&QueueGroup>,
    ) -> Result<(), SubscribeError> {
        if let Some(reason) = self.end.get() {
            return Err(SubscribeError::Disconnected { cluster: self.cluster.clone(), reason });
        }
        self.add(&mut self.subscriptions.borrow_mut(), receiver, queue)?;
        self.schedule();
        Ok(())
    }

    /// Takes the receiver off; it gets nothing any more.
    pub(crate) fn detach(&self, receiver: &Rc<Receiver>) {
        let removed = self.remove(&mut self.subscriptions.borrow_mut(), receiver);
        // A handler's own state goes with it, and may do anything when it is dropped.
        drop(removed);
        self.schedule();
    }

    fn add(
        &self,
        subscriptions: &mut Subscriptions<Wire>,
        receiver: &Rc<Receiver>,
        queue: Option<&QueueGroup>,
    ) -> Result<(), SubscribeError> {
        let subject = receiver.topic();
        let mut shared = self.shared.borrow_mut();
        // One that ends after a number of messages has the server count them, for it alone.
        let is_shared = queue.is_none() && !receiver.is_limited();
        if is_shared
            && let Some(sid) = shared.get(subject)
            && let Some(subscribed) = subscriptions.get_mut(*sid)
            && let Wire::Receivers(receivers) = &mut subscribed.value
        {
            Rc::make_mut(receivers).push(Rc::clone(receiver));
            receiver.add_place(self.index, *sid);
            return Ok(());
        }
        let is_connected = self.status.get() == LinkStatus::Connected;
        if is_connected {
            let outbox = self.outbox.borrow();
            if !outbox.has_room_for_control() {
                return Err(SubscribeError::Busy {
                    cluster: self.cluster.clone(),
                    queued_bytes: outbox.queued_bytes(),
                    limit_bytes: outbox.control_limit_bytes(),
                });
            }
        }
        let wire = Wire::Receivers(Rc::new(vec![Rc::clone(receiver)]));
        let sid = subscriptions
            .insert(subject.clone(), queue.cloned(), wire)
            .map_err(|full| SubscribeError::TooMany { cluster: self.cluster.clone(), limit: full.max })?;
        receiver.add_place(self.index, sid);
        if is_shared {
            shared.insert(subject.clone(), sid);
        }
        if is_connected {
            let queue = queue.map(QueueGroup::as_bytes);
            let mut outbox = self.outbox.borrow_mut();
            encode::subscribe(outbox.control(), subject.as_bytes(), queue, sid);
            receiver.sub_written();
            if let Some(max) = receiver.max_on_the_wire() {
                encode::unsubscribe(outbox.control(), sid, Some(max));
            }
        }
        Ok(())
    }

    /// Tells the server after how many messages the receiver wants no more, if it has a SUB of its own: what
    /// is beyond them then goes to another member of its queue group, and needs not be sent.
    pub(crate) fn announce_max(&self, receiver: &Rc<Receiver>) {
        let Some(sid) = receiver.place(self.index) else { return };
        if !self.outbox.borrow().has_room_for_control() {
            // The receiver counts for itself, and ends its SUB then.
            return;
        }
        let subscriptions = self.subscriptions.borrow();
        let is_alone = subscriptions.get(sid).is_some_and(
            |subscribed| matches!(&subscribed.value, Wire::Receivers(receivers) if receivers.len() == 1),
        );
        if is_alone && let Some(max) = receiver.max_on_the_wire() {
            // The server will forget this SUB: nobody may join it any more.
            self.unshare(receiver.topic(), sid);
            if self.status.get() == LinkStatus::Connected {
                encode::unsubscribe(self.outbox.borrow_mut().control(), sid, Some(max));
                self.schedule();
            }
        }
    }

    fn remove(
        &self,
        subscriptions: &mut Subscriptions<Wire>,
        receiver: &Rc<Receiver>,
    ) -> Option<Rc<Receiver>> {
        let sid = receiver.take_place(self.index)?;
        let subscribed = subscriptions.get_mut(sid)?;
        let Wire::Receivers(receivers) = &mut subscribed.value else { return None };
        let index = receivers.iter().position(|known| Rc::ptr_eq(known, receiver))?;
        let removed = Rc::make_mut(receivers).swap_remove(index);
        if receivers.is_empty() {
            self.forget(subscriptions, sid);
            if self.status.get() == LinkStatus::Connected {
                encode::unsubscribe(self.outbox.borrow_mut().control(), sid, None);
            }
        }
        Some(removed)
    }

    fn forget(&self, subscriptions: &mut Subscriptions<Wire>, sid: Sid) {
        if let Some(subscribed) = subscriptions.remove(sid)
            && subscribed.queue.is_none()
        {
            self.unshare(&subscribed.subject, sid);
        }
    }

    /// Whoever subscribes from here on gets a SUB of his own, unless another one is shared already.
    fn unshare(&self, subject: &Subject, sid: Sid) {
        let mut shared = self.shared.borrow_mut();
        if shared.get(subject) == Some(&sid) {
            shared.remove(subject);
        }
    }

    /// Tells the server that no more is wanted, and goes on taking what comes.
    pub(crate) fn begin_drain(&self, receiver: &Rc<Receiver>) {
        let Some(sid) = receiver.place(self.index) else { return };
        let subscriptions = self.subscriptions.borrow();
        if let Some(Wire::Receivers(receivers)) = subscriptions.get(sid).map(|subscribed| &subscribed.value)
            && receivers.len() == 1
            && self.status.get() == LinkStatus::Connected
        {
            encode::unsubscribe(self.outbox.borrow_mut().control(), sid, None);
            // The server forgets this SUB: nobody may join it any more.
            self.unshare(receiver.topic(), sid);
            self.schedule();
        }
    }

    /// Unsubscribes everything but the inbox, and goes on taking what comes.
    pub(crate) fn begin_drain_all(&self) {
        if self.status.get() != LinkStatus::Connected {
            return;
        }
        let subscriptions = self.subscriptions.borrow();
        let mut outbox = self.outbox.borrow_mut();
        for (sid, subscribed) in subscriptions.iter() {
            if matches!(subscribed.value, Wire::Receivers(_)) {
                encode::unsubscribe(outbox.control(), sid, None);
            }
        }
        drop(outbox);
        self.schedule();
    }

    /// Ends every subscription, and returns them: what waits in a queue can still be taken.
    pub(crate) fn close_receivers(&self) -> Vec<Rc<Receiver>> {
        let mut subscriptions = self.subscriptions.borrow_mut();
        let sids: Vec<Sid> = subscriptions
            .iter()
            .filter(|(_, subscribed)| matches!(subscribed.value, Wire::Receivers(_)))
            .map(|(sid, _)| sid)
            .collect();
        let mut gone = Vec::new();
        for sid in sids {
            if let Some(subscribed) = subscriptions.get_mut(sid)
                && let Wire::Receivers(receivers) = &mut subscribed.value
            {
                gone.append(Rc::make_mut(receivers));
            }
            self.forget(&mut subscriptions, sid);
        }
        drop(subscriptions);
        for receiver in &gone {
            receiver.take_place(self.index);
            receiver.release();
        }
        gone
    }

    /// A place in the row of those who wait for the next PONG.
    pub(crate) fn barrier(&self, survives_cut: bool) -> Rc<Barrier> {
        let barrier = self.barriers.borrow_mut().add(survives_cut);
        if self.end.get().is_some() {
            self.barriers.borrow_mut().end();
        } else if !survives_cut && self.status.get() != LinkStatus::Connected {
            self.barriers.borrow_mut().cut();
        }
        self.schedule();
        barrier
    }

    /// Waits for the server to have processed what was written; at once if the link is down.
    pub(crate) async fn confirm_if_connected(&self) -> Result<(), SubscribeError> {
        if self.status.get() != LinkStatus::Connected {
            return Ok(());
        }
        let waited = self.config.connection.subscribe_timeout;
        match time::timeout(waited, self.barrier(false).passed()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.unconfirmed(waited)),
        }
    }

    /// The answer to a subscribe that the server did not confirm in this time.
    pub(crate) fn unconfirmed(&self, waited: Duration) -> SubscribeError {
        let is_down = self.status.get() != LinkStatus::Connected;
        let failed_try = self.failed_try.borrow().clone().filter(|_| is_down);
        SubscribeError::Unconfirmed { cluster: self.cluster.clone(), waited, failed_try }
    }

    /// How long a PING takes to the server and back, the turns of this shard included; `None` if the
    /// connection is cut before.
    pub(crate) async fn round_trip(&self) -> Option<Duration> {
        let begun = time::now();
        self.barrier(false).passed().await.then(|| time::now() - begun)
    }

    /// Waits until the first try to connect has ended, one way or the other.
    pub(crate) async fn first_try(&self) -> LinkStatus {
        self.status_changed
            .until(|| match self.status.get() {
                LinkStatus::Connecting if self.end.get().is_none() => None,
                status => Some(status),
            })
            .await
    }

    /// Whether messages wait that have no fate yet.
    pub(crate) fn has_pending(&self) -> bool {
        self.outbox.borrow().pending() > 0
    }

    pub(crate) fn stats(&self) -> LinkStats {
        self.refresh_counters();
        let round_trip = self.node.ports[self.shard].latencies.round_trip(self.index);
        let mut stats = self.counters.stats(&self.cluster, round_trip);
        let outbox = self.outbox.borrow();
        stats.queued = outbox.queued();
        stats.written = outbox.pending() - stats.queued;
        stats.queued_bytes = outbox.queued_bytes() as u64;
        stats
    }

    fn refresh_counters(&self) {
        let outbox = self.outbox.borrow();
        let totals = outbox.totals();
        store(&self.counters.accepted, totals.accepted);
        store(&self.counters.rejected, totals.rejected);
        store(&self.counters.processed, totals.processed);
        store(&self.counters.in_doubt, totals.in_doubt);
        store(&self.counters.discarded_oversized, totals.discarded_oversized);
        store(&self.counters.discarded_unsent, totals.discarded_unsent);
        store(&self.counters.sends, totals.sends);
        store(&self.counters.queued_bytes, outbox.queued_bytes() as u64);
    }

    /// Refuses whatever comes from here on.
    pub(crate) fn end_for(&self, reason: LinkEnd) {
        self.end.set(Some(reason));
        self.room.notify();
        self.status_changed.notify();
    }

    /// Has the link's task end; what is queued then is discarded and counted.
    pub(crate) fn close(&self) {
        self.end_for(LinkEnd::Draining);
        self.closing.set(true);
        self.schedule();
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn set_status(&self, status: LinkStatus) {
        if status == LinkStatus::Connected {
            self.failed_try.borrow_mut().take();
        }
        if self.status.replace(status) != status {
            store(&self.counters.connected, u64::from(status == LinkStatus::Connected));
            self.status_changed.notify();
        }
    }

    /// Hands one message to everybody who subscribes to it.
    #[inline]
    fn dispatch(self: &Rc<Self>, frame: MessageFrame<'_>, chunk: &Bytes) {
        let receivers = match self.subscriptions.borrow().get(frame.sid).map(|subscribed| &subscribed.value) {
            Some(Wire::Receivers(receivers)) => Rc::clone(receivers),
            Some(Wire::Inbox) => return self.complete_request(frame, chunk),
            // Sent before the server knew of the UNSUB.
            None => return add(&self.counters.stray, 1),
        };
        // Who shares a SUB shares its subject.
        let literal = receivers.first().and_then(|receiver| receiver.literal());
        let arrival = Arrival::new(frame, chunk, literal, self);
        for receiver in &*receivers {
            let delivered = receiver.deliver(&arrival);
            if delivered != Delivered::Taken || receiver.is_closed() {
                self.not_simply_taken(receiver, delivered);
            }
        }
    }

    #[cold]
    fn not_simply_taken(&self, receiver: &Rc<Receiver>, delivered: Delivered) {
        match delivered {
            Delivered::Lagged { dropped, began } => self.has_lagged(receiver, dropped, began),
            Delivered::Overrun => {
                add(&self.counters.lagged, 1);
                self.tell_slow(receiver);
                tracing::warn!(topic = %receiver.topic(), cluster = %self.cluster, shard = self.shard,
                    "a subscriber is slow: its subscription ends");
            }
            Delivered::Panicked => {
                add(&self.counters.handler_panics, 1);
                self.emit(|| Event::HandlerPanicked {
                    cluster: self.cluster.clone(),
                    shard: self.shard,
                    topic: receiver.topic().to_string(),
                });
            }
            Delivered::Taken | Delivered::Closed => {}
        }
        if receiver.is_closed() {
            self.detach(receiver);
        }
    }

    #[cold]
    fn has_lagged(&self, receiver: &Receiver, dropped: u64, began: bool) {
        add(&self.counters.lagged, dropped);
        if began {
            self.tell_slow(receiver);
            tracing::warn!(topic = %receiver.topic(), cluster = %self.cluster, shard = self.shard,
                "a subscriber is slow: messages are dropped and counted");
        }
    }

    /// Counts what may come over another connection, too. A queue group gets each message once.
    #[cold]
    fn count_overlap(&self, frame: &MessageFrame<'_>) {
        let subscriptions = self.subscriptions.borrow();
        let is_shared = subscriptions.get(frame.sid).is_some_and(|subscribed| {
            subscribed.queue.is_none()
                && matches!(subscribed.value, Wire::Receivers(_))
                && !fault::is_built_in(Fault::OverlapNotCounted)
        });
        add(&self.counters.overlap, u64::from(is_shared));
    }

    fn tell_slow(&self, receiver: &Receiver) {
        self.emit(|| Event::SlowSubscriber {
            cluster: self.cluster.clone(),
            shard: self.shard,
            topic: receiver.topic().to_string(),
            lagged: receiver.lagged(),
        });
    }

    /// Ends the subscription that the server forbids.
    fn deny(&self, subject: &[u8], queue: Option<&[u8]>) {
        let mut denied = Vec::new();
        {
            let mut subscriptions = self.subscriptions.borrow_mut();
            let Some(sid) = subscriptions.iter().find_map(|(sid, subscribed)| {
                let same_queue = subscribed.queue.as_ref().map(QueueGroup::as_bytes) == queue;
                (same_queue && subscribed.subject.as_bytes() == subject).then_some(sid)
            }) else {
                return;
            };
            if let Some(subscribed) = subscriptions.get_mut(sid)
                && let Wire::Receivers(receivers) = &mut subscribed.value
            {
                denied.append(Rc::make_mut(receivers));
            }
            self.forget(&mut subscriptions, sid);
        }
        for receiver in denied {
            receiver.take_place(self.index);
            receiver.deny(self.cluster.clone());
        }
    }
}
