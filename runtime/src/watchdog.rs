//! One thread a node that wakes shards which do not move.
//!
//! An executor can go to sleep over runnable tasks when its preempt timer fires before the first poll
//! of a round; no timer inside it ends that, a wake from another thread does.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Poll,
    thread,
    time::Duration,
};

use crate::{Shard, node_shared::NodeShared, stats::add};

/// A shard that has not moved for this long is woken. Idle shards pay for it with one empty turn.
const PERIOD: Duration = Duration::from_millis(50);
/// What `woken_at` holds when no wake is under way.
const NOT_WOKEN: u64 = u64::MAX;

/// Watches until all shards have stopped.
pub(crate) fn watch(node: &Arc<NodeShared>) {
    let mut seen: Vec<u64> = node.ports.iter().map(|port| port.progress()).collect();
    while !node.is_stopped() {
        thread::park_timeout(PERIOD);
        for (port, seen) in node.ports.iter().zip(&mut seen) {
            let progress = port.progress();
            if progress == *seen && !port.is_stopped() {
                port.woken_at.store(progress, Ordering::Release);
                port.beat.wake();
            }
            *seen = progress;
        }
    }
}

/// The shard's side: a task that the watchdog wakes. It runs behind all tasks that were runnable, so if
/// one of them moved since the wake was sent, the shard had been asleep over it.
pub(crate) async fn beat(shard: Shard) {
    std::future::poll_fn(|cx| {
        let port = shard.port(shard.id());
        port.beat.register(cx.waker());
        let woken_at = port.woken_at.swap(NOT_WOKEN, Ordering::AcqRel);
        if woken_at != NOT_WOKEN && port.progress() != woken_at {
            add(&port.stalls, 1);
            tracing::warn!(shard = shard.id(), "the watchdog woke the shard, which slept over runnable work");
        }
        Poll::<()>::Pending
    })
    .await;
}
