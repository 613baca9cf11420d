//! One thread a node that wakes shards which do not move, and sees those that do not yield.
//!
//! An executor can go to sleep over runnable tasks when its preempt timer fires before the first poll
//! of a round; no timer inside it ends that, a wake from another thread does. A wake that stays unanswered shows
//! a shard that is kept by one of its tasks: it is *blocked*.
//!
//! It also adds up the latencies that the shards hand over, so that their figures are fresh whoever asks.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Shard,
    node_shared::{NodeShared, ShardPort},
    stats::add,
};

/// A shard that has not moved for this long is woken. Idle shards pay for it with one empty turn.
const PERIOD: Duration = Duration::from_millis(50);
/// The most that one period counts for. A process that was stopped, or had no processor, would otherwise find
/// all of its shards blocked.
const PERIOD_MAX: Duration = Duration::from_millis(100);
/// What `woken_at` holds when no wake is under way.
const NOT_WOKEN: u64 = u64::MAX;

/// What the watchdog remembers of one shard.
struct Watched {
    progress: u64,
    /// For how long the wake that is under way has not been answered.
    unanswered: Duration,
}

/// Watches until all shards have stopped.
pub(crate) fn watch(node: &Arc<NodeShared>) {
    let limit = node.config.shards.blocked_after;
    let mut shards: Vec<Watched> = node
        .ports
        .iter()
        .map(|port| Watched { progress: port.progress(), unanswered: Duration::ZERO })
        .collect();
    let mut looked_at = Instant::now();
    while !node.is_stopped() {
        thread::park_timeout(PERIOD);
        let now = Instant::now();
        let passed = (now - looked_at).min(PERIOD_MAX);
        looked_at = now;
        for (shard, (port, watched)) in node.ports.iter().zip(&mut shards).enumerate() {
            look(shard, port, watched, passed, limit);
            port.latencies.collect(now);
        }
    }
}

fn look(shard: usize, port: &ShardPort, watched: &mut Watched, passed: Duration, limit: Duration) {
    let progress = port.progress();
    let is_still = progress == watched.progress && !port.is_stopped();
    watched.progress = progress;
    let is_answered = port.woken_at.load(Ordering::Acquire) == NOT_WOKEN;
    if !is_still || is_answered {
        watched.unanswered = Duration::ZERO;
        let blocked = port.blocks.yielded();
        if blocked >= limit {
            tracing::info!(shard, ?blocked, "the shard yields again");
        }
    } else {
        watched.unanswered += passed;
        if port.blocks.blocked(watched.unanswered, limit) {
            tracing::warn!(shard, blocked = ?watched.unanswered, "a task keeps the shard: it has not yielded");
        }
    }
    if is_still {
        port.woken_at.store(progress, Ordering::Release);
        port.beat.wake();
    }
}

/// The shard's side: a task that the watchdog wakes. It runs behind all tasks that were runnable, so if
/// one of them moved since the wake was sent, the shard had been asleep over it.
pub(crate) async fn beat(shard: Shard) {
    std::future::poll_fn(|cx| {
        let port = shard.port(shard.id());
        port.beat.register(cx.waker());
        let woken_at = port.woken_at.swap(NOT_WOKEN, Ordering::AcqRel);
        // Who was kept by a task was not asleep.
        if woken_at != NOT_WOKEN && port.progress() != woken_at && !port.blocks.is_blocked() {
            add(&port.stalls, 1);
            tracing::warn!(shard = shard.id(), "the watchdog woke the shard, which slept over runnable work");
        }
        Poll::<()>::Pending
    })
    .await;
}
