//! The holders of a subscription: a stream of messages, or the guard of a handler.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use croupier_protocol::Subject;
use futures_core::Stream;

use crate::{ClusterName, Message, SubscribeError, cluster_link::Link, receiver::Receiver};

/// A stream of the messages of one topic. Dropping it unsubscribes.
///
/// Messages wait in a queue that is bounded by count and by the memory it holds
/// (`limits.subscriber_queue`). What does not fit is dropped as `limits.on_slow_subscriber` says and
/// counted by [`Subscription::lagged`]; other subscriptions do not notice. A lost cluster does not end
/// the stream; it is subscribed again when the cluster is back. The stream ends after
/// [`Subscription::unsubscribe_after`], [`Subscription::drain`], a drain of the node, or when the server
/// forbids the topic.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    attached: Attached,
    unconfirmed: Vec<ClusterName>,
}

impl Subscription {
    pub(crate) fn new(attached: Attached, unconfirmed: Vec<ClusterName>) -> Self {
        Subscription { attached, unconfirmed }
    }

    /// The topic as it was asked for.
    pub fn topic(&self) -> &Subject {
        self.attached.receiver.topic()
    }

    /// Messages that were dropped because this subscription's queue was full. Exact.
    pub fn lagged(&self) -> u64 {
        self.attached.receiver.lagged()
    }

    /// The clusters that had not confirmed when the subscription was handed out. They are subscribed as
    /// soon as they are connected.
    pub fn unconfirmed(&self) -> &[ClusterName] {
        &self.unconfirmed
    }

    /// The next message, or `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.attached.receiver.poll_next(cx)).await
    }

    /// Ends the subscription now, and waits until its servers know; a cluster that is down is not waited
    /// for, as it forgot already. What waits in the queue is dropped.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Unconfirmed`] when a connected cluster did not answer in time. The subscription
    /// has ended all the same.
    pub async fn unsubscribe(self) -> Result<(), SubscribeError> {
        self.attached.receiver.close();
        self.attached.detach();
        self.attached.receiver.abandon();
        self.attached.barrier().await
    }

    /// Ends the subscription after this many messages in all, counted from its beginning and by this
    /// subscription alone, over reconnects, those dropped for want of room included. At once if it has had
    /// as many. Of several calls the least number holds.
    ///
    /// The server is told too, unless the topic is a wildcard or other subscriptions of this shard share
    /// its SUB: beyond the number it sends the messages of a queue group to other members.
    pub fn unsubscribe_after(&mut self, messages: u64) {
        self.attached.unsubscribe_after(messages);
    }

    /// Messages that it was given so far: taken, waiting, or dropped for want of room.
    pub fn delivered(&self) -> u64 {
        self.attached.receiver.delivered()
    }

    /// Messages that wait to be taken.
    pub fn queued_messages(&self) -> usize {
        self.attached.receiver.waiting().0
    }

    /// Bytes of memory that they hold, what they share with others included.
    pub fn queued_bytes(&self) -> usize {
        self.attached.receiver.waiting().1
    }

    /// Unsubscribes; then everything that the servers had sent before they knew can still be taken, and
    /// then the stream ends.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Unconfirmed`] when a connected cluster did not answer in time: the stream ends
    /// after what has arrived.
    pub async fn drain(&mut self) -> Result<(), SubscribeError> {
        self.attached.drain().await
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.attached.receiver.poll_next(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.attached.receiver.abandon();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", self.topic())
            .field("lagged", &self.lagged())
            .field("unconfirmed", &self.unconfirmed)
            .finish_non_exhaustive()
    }
}

/// Keeps a handler of `subscribe_with` subscribed. Dropping it unsubscribes, also from within the
/// handler, which is then not called again.
#[must_use = "dropping the guard ends the subscription"]
pub struct HandlerGuard {
    attached: Attached,
    unconfirmed: Vec<ClusterName>,
}

impl HandlerGuard {
    pub(crate) fn new(attached: Attached, unconfirmed: Vec<ClusterName>) -> Self {
        HandlerGuard { attached, unconfirmed }
    }

    /// The topic as it was asked for.
    pub fn topic(&self) -> &Subject {
        self.attached.receiver.topic()
    }

    /// As [`Subscription::unconfirmed`].
    pub fn unconfirmed(&self) -> &[ClusterName] {
        &self.unconfirmed
    }

    /// Whether the handler is called no more: it panicked, was drained, or the server forbids the topic.
    pub fn is_ended(&self) -> bool {
        self.attached.receiver.is_closed()
    }

    /// As [`Subscription::unsubscribe_after`].
    pub fn unsubscribe_after(&mut self, messages: u64) {
        self.attached.unsubscribe_after(messages);
    }

    /// As [`Subscription::unsubscribe`].
    ///
    /// # Errors
    ///
    /// As [`Subscription::unsubscribe`].
    pub async fn unsubscribe(self) -> Result<(), SubscribeError> {
        self.attached.receiver.close();
        self.attached.detach();
        self.attached.barrier().await
    }

    /// As [`Subscription::drain`]: the handler still sees all that was sent before the servers knew.
    ///
    /// # Errors
    ///
    /// As [`Subscription::drain`].
    pub async fn drain(&mut self) -> Result<(), SubscribeError> {
        self.attached.drain().await
    }
}

impl fmt::Debug for HandlerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerGuard")
            .field("topic", self.topic())
            .field("is_ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}

/// A receiver and the links that deliver to it.
pub(crate) struct Attached {
    pub(crate) receiver: Rc<Receiver>,
    pub(crate) links: Vec<Rc<Link>>,
}

impl Attached {
    pub(crate) fn clusters(&self) -> Vec<ClusterName> {
        self.links.iter().map(|link| link.cluster().clone()).collect()
    }

    /// Takes the receiver off its links.
    pub(crate) fn detach(&self) {
        for link in &self.links {
            link.detach(&self.receiver);
        }
    }

    fn unsubscribe_after(&self, messages: u64) {
        self.receiver.set_delivered_max(messages);
        if self.receiver.is_closed() {
            self.detach();
        } else {
            self.links.iter().for_each(|link| link.announce_max(&self.receiver));
        }
    }

    /// Waits until each connected server has processed what was sent before.
    async fn barrier(&self) -> Result<(), SubscribeError> {
        for link in &self.links {
            link.confirm_if_connected().await?;
        }
        Ok(())
    }

    async fn drain(&self) -> Result<(), SubscribeError> {
        for link in &self.links {
            link.begin_drain(&self.receiver);
        }
        let outcome = self.barrier().await;
        self.receiver.close();
        self.detach();
        outcome
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.receiver.close();
        self.detach();
    }
}
