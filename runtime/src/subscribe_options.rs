//! What one subscription may have of its own.

use croupier_protocol::QueueGroup;

use crate::{
    InvalidTopic, SubscribeError,
    config::{LimitsConfig, QueueLimits, SlowSubscriberPolicy},
};

/// How one subscription differs from what the configuration says for all: its queue, its queue group, and
/// whether to wait for the servers.
///
/// ```
/// use croupier::{SubscribeOptions, config::SlowSubscriberPolicy};
///
/// let options = SubscribeOptions::new()
///     .queue_group("workers")
///     .queue_messages(1000)
///     .on_slow_subscriber(SlowSubscriberPolicy::DropOldest);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until something is subscribed with them"]
pub struct SubscribeOptions {
    group: Option<Vec<u8>>,
    queue_messages: Option<usize>,
    queue_bytes: Option<usize>,
    policy: Option<SlowSubscriberPolicy>,
    messages_max: Option<u64>,
    unconfirmed: bool,
}

impl SubscribeOptions {
    /// As the configuration says.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it a member of a queue group: each message goes to one member.
    pub fn queue_group(mut self, group: impl AsRef<[u8]>) -> Self {
        self.group = Some(group.as_ref().to_vec());
        self
    }

    /// Messages that may wait, instead of `limits.subscriber_queue.messages`; 0 counts as 1.
    pub fn queue_messages(mut self, messages: usize) -> Self {
        self.queue_messages = Some(messages.max(1));
        self
    }

    /// Bytes of memory that waiting messages may hold, instead of `limits.subscriber_queue.bytes`; 0 counts
    /// as 1. What is read together is held together: a chunk of 64 KiB or so, once, for all that share it.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes.max(1));
        self
    }

    /// What to do when the queue is full, instead of `limits.on_slow_subscriber`.
    pub fn on_slow_subscriber(mut self, policy: SlowSubscriberPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Ends it after so many messages, as [`Subscription::unsubscribe_after`](crate::Subscription::unsubscribe_after)
    /// does, from the beginning: its server never sends more.
    pub fn unsubscribe_after(mut self, messages: u64) -> Self {
        self.messages_max = Some(messages);
        self
    }

    /// Does not wait for the servers: it is live as soon as its cluster is connected.
    pub fn unconfirmed(mut self) -> Self {
        self.unconfirmed = true;
        self
    }

    pub(crate) fn group(&self) -> Result<Option<QueueGroup>, SubscribeError> {
        let Some(group) = &self.group else { return Ok(None) };
        Ok(Some(QueueGroup::new(group.as_slice()).map_err(|reason| InvalidTopic::new(group, reason))?))
    }

    pub(crate) fn queue(&self, limits: &LimitsConfig) -> (QueueLimits, SlowSubscriberPolicy) {
        let queue = QueueLimits {
            messages: self.queue_messages.unwrap_or(limits.subscriber_queue.messages),
            bytes: self.queue_bytes.unwrap_or(limits.subscriber_queue.bytes),
        };
        (queue, self.policy.unwrap_or(limits.on_slow_subscriber))
    }

    pub(crate) fn messages_max(&self) -> Option<u64> {
        self.messages_max
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        !self.unconfirmed
    }
}
