//! `[limits]` as a node has it at this moment: a reload changes it, and every thread reads it.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::config::{LimitsConfig, QueueLimits, SlowSubscriberPolicy};

/// The limits, each of them readable at any time. What a message needs, a link keeps in a cell of its own.
#[derive(Debug, Default)]
pub(crate) struct LiveLimits {
    publish_buffer: AtomicUsize,
    queue_messages: AtomicUsize,
    queue_bytes: AtomicUsize,
    policy: AtomicU8,
    max_payload: AtomicUsize,
    request_timeout_ns: AtomicU64,
    drain_timeout_ns: AtomicU64,
}

const POLICIES: [SlowSubscriberPolicy; 3] =
    [SlowSubscriberPolicy::DropNewest, SlowSubscriberPolicy::DropOldest, SlowSubscriberPolicy::Close];

impl LiveLimits {
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        let live = Self::default();
        live.set(limits);
        live
    }

    pub(crate) fn set(&self, limits: &LimitsConfig) {
        let LimitsConfig {
            publish_buffer,
            subscriber_queue: QueueLimits { messages, bytes },
            on_slow_subscriber,
            max_payload,
            request_timeout,
            drain_timeout,
        } = limits;
        // Validation refuses more than a day; code that skips it gets some centuries.
        let nanoseconds = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let policy = POLICIES.iter().position(|policy| policy == on_slow_subscriber).unwrap_or_default();
        self.publish_buffer.store(*publish_buffer, Ordering::Relaxed);
        self.queue_messages.store(*messages, Ordering::Relaxed);
        self.queue_bytes.store(*bytes, Ordering::Relaxed);
        self.policy.store(policy as u8, Ordering::Relaxed);
        self.max_payload.store(*max_payload, Ordering::Relaxed);
        self.request_timeout_ns.store(nanoseconds(request_timeout), Ordering::Relaxed);
        self.drain_timeout_ns.store(nanoseconds(drain_timeout), Ordering::Relaxed);
    }

    /// All of them. While a reload sets them they may be of both.
    pub(crate) fn get(&self) -> LimitsConfig {
        let duration = |nanoseconds: &AtomicU64| Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        LimitsConfig {
            publish_buffer: self.publish_buffer.load(Ordering::Relaxed),
            subscriber_queue: QueueLimits {
                messages: self.queue_messages.load(Ordering::Relaxed),
                bytes: self.queue_bytes.load(Ordering::Relaxed),
            },
            on_slow_subscriber: POLICIES[usize::from(self.policy.load(Ordering::Relaxed))],
            max_payload: self.max_payload.load(Ordering::Relaxed),
            request_timeout: duration(&self.request_timeout_ns),
            drain_timeout: duration(&self.drain_timeout_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        for policy in POLICIES {
            let limits = LimitsConfig {
                publish_buffer: 1,
                subscriber_queue: QueueLimits { messages: 2, bytes: 3 },
                on_slow_subscriber: policy,
                max_payload: 4,
                request_timeout: Duration::from_nanos(5),
                drain_timeout: Duration::from_secs(6),
            };
            let live = LiveLimits::new(&LimitsConfig::default());
            assert_eq!(live.get(), LimitsConfig::default());
            live.set(&limits);
            assert_eq!(live.get(), limits);
        }
    }
}
