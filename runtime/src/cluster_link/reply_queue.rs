//! The replies to a request that may have many, from the first until one of its limits is reached.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use croupier_protocol::{RequestToken, Subject};

use super::Link;
use crate::{
    Message, RequestError,
    config::{QueueLimits, SlowSubscriberPolicy},
    message::Arrival,
    receiver::{Delivered, Receiver},
    time,
    transport::Alarm,
};

/// When no more replies are awaited.
pub(crate) struct ReplyLimits {
    pub(crate) replies_max: u64,
    pub(crate) silence: Option<Duration>,
    pub(crate) sentinel: Option<Bytes>,
    pub(crate) timeout: Duration,
    /// What may wait to be taken.
    pub(crate) queue: QueueLimits,
}

/// Which limit ended the replies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepliesEnd {
    /// As many came as were asked for.
    Count,
    /// After a reply none came for as long as silence was to be.
    Silence,
    /// A reply with the agreed payload came, which says that it is the last one.
    Sentinel,
    /// The time for all of them is over.
    Timeout,
}

/// What the link fills and the asker empties.
pub(super) struct ReplyQueue {
    receiver: Receiver,
    sentinel: Option<Bytes>,
    end: Cell<Option<RepliesEnd>>,
    failure: RefCell<Option<RequestError>>,
    is_answered: Cell<bool>,
}

impl ReplyQueue {
    /// For the replies to a request on this topic, by which a full queue is told of.
    pub(super) fn new(asked: Subject, limits: ReplyLimits) -> Self {
        let receiver = Receiver::queue(asked, limits.queue, SlowSubscriberPolicy::DropNewest);
        receiver.set_delivered_max(limits.replies_max);
        let end = receiver.is_closed().then_some(RepliesEnd::Count);
        ReplyQueue {
            receiver,
            sentinel: limits.sentinel,
            end: Cell::new(end),
            failure: RefCell::new(None),
            is_answered: Cell::new(false),
        }
    }

    pub(super) fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    pub(super) fn deliver(&self, arrival: &Arrival<'_>) -> Delivered {
        self.is_answered.set(true);
        if self.sentinel.as_deref() == Some(arrival.frame.payload) {
            self.finish(RepliesEnd::Sentinel);
            return Delivered::Taken;
        }
        let delivered = self.receiver.deliver(arrival);
        if self.receiver.is_closed() {
            self.finish(RepliesEnd::Count);
        }
        delivered
    }

    /// No more replies are awaited; those that wait can still be taken.
    pub(super) fn finish(&self, end: RepliesEnd) {
        if self.end.get().is_none() && self.failure.borrow().is_none() {
            self.end.set(Some(end));
        }
        self.receiver.close();
    }

    /// No more replies can come. The asker is told after those that wait.
    pub(super) fn fail(&self, error: RequestError) {
        if !self.is_over() {
            *self.failure.borrow_mut() = Some(error);
        }
        self.receiver.close();
    }

    /// Whether anybody has answered.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.get()
    }

    pub(super) fn is_over(&self) -> bool {
        self.receiver.is_closed()
    }
}

/// The asker's end. Its drop frees the request's place.
pub(crate) struct AwaitedReplies {
    link: Rc<Link>,
    token: RequestToken,
    queue: Rc<ReplyQueue>,
    begun: Instant,
    silence: Option<Duration>,
    has_had_any: bool,
    /// Since when the asker waits for another one.
    silent_since: Option<Instant>,
    alarm: Alarm,
}

impl AwaitedReplies {
    pub(super) fn new(
        link: Rc<Link>,
        token: RequestToken,
        queue: Rc<ReplyQueue>,
        begun: Instant,
        silence: Option<Duration>,
    ) -> Self {
        let alarm = Alarm::default();
        AwaitedReplies { link, token, queue, begun, silence, has_had_any: false, silent_since: None, alarm }
    }

    /// Which limit ended the replies, if one has.
    pub(crate) fn end(&self) -> Option<RepliesEnd> {
        self.queue.end.get()
    }

    /// Replies that were dropped because too many waited.
    pub(crate) fn lagged(&self) -> u64 {
        self.queue.receiver.lagged()
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RequestError>>> {
        match self.queue.receiver.poll_next(cx) {
            Poll::Ready(Some(reply)) => {
                if !self.has_had_any {
                    self.has_had_any = true;
                    self.link.latencies.request(time::now() - self.begun);
                }
                self.silent_since = None;
                Poll::Ready(Some(Ok(reply)))
            }
            Poll::Ready(None) => Poll::Ready(self.queue.failure.borrow_mut().take().map(Err)),
            Poll::Pending => {
                let Some(silence) = self.silence.filter(|_| self.has_had_any) else { return Poll::Pending };
                let now = time::now();
                let due = *self.silent_since.get_or_insert(now) + silence;
                if due <= now {
                    self.queue.finish(RepliesEnd::Silence);
                    self.link.cancel_request(self.token);
                    return Poll::Ready(None);
                }
                self.alarm.arm(due, now, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for AwaitedReplies {
    fn drop(&mut self) {
        self.link.cancel_request(self.token);
    }
}
