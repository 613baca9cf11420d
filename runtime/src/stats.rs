//! Counters: each has one writer, and whoever reads them wakes no shard.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;

use crate::{ClusterName, LatencyStats};

/// Adds to a counter of which this thread is the only writer.
#[inline]
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

/// Sets a counter of which this thread is the only writer.
#[inline]
pub(crate) fn store(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What one link has counted. Padded, so that no two shards write to one cache line.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct LinkCounters {
    /// Whether the shard uses the cluster: 1 when it does.
    pub(crate) used: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) tries: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) processed: AtomicU64,
    pub(crate) in_doubt: AtomicU64,
    pub(crate) discarded_oversized: AtomicU64,
    pub(crate) discarded_unsent: AtomicU64,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) sends: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) stray: AtomicU64,
    pub(crate) moves: AtomicU64,
    pub(crate) overlap: AtomicU64,
    pub(crate) bad_addresses: AtomicU64,
    pub(crate) lagged: AtomicU64,
    pub(crate) handler_panics: AtomicU64,
    pub(crate) server_errors: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) requests_unsent: AtomicU64,
    pub(crate) requests_timed_out: AtomicU64,
    pub(crate) requests_no_responders: AtomicU64,
    pub(crate) requests_cut_off: AtomicU64,
}

impl LinkCounters {
    /// Whether the shard uses the cluster.
    pub(crate) fn is_used(&self) -> bool {
        load(&self.used) == 1
    }

    /// Whether the server has accepted the link's connection.
    pub(crate) fn is_connected(&self) -> bool {
        load(&self.connected) == 1
    }

    /// What can be read from any thread. Queued and written messages are told apart only on the shard;
    /// here both count as queued.
    pub(crate) fn stats(&self, cluster: &ClusterName, round_trip: LatencyStats) -> LinkStats {
        let discarded = load(&self.discarded_oversized) + load(&self.discarded_unsent);
        let settled = load(&self.processed) + load(&self.in_doubt) + discarded;
        LinkStats {
            cluster: cluster.clone(),
            connected: self.is_connected(),
            connects: load(&self.connects),
            disconnects: load(&self.disconnects),
            tries: load(&self.tries),
            accepted: load(&self.accepted),
            rejected: load(&self.rejected),
            queued: load(&self.accepted).saturating_sub(settled),
            written: 0,
            processed: load(&self.processed),
            in_doubt: load(&self.in_doubt),
            discarded,
            discarded_oversized: load(&self.discarded_oversized),
            discarded_unsent: load(&self.discarded_unsent),
            queued_bytes: load(&self.queued_bytes),
            sends: load(&self.sends),
            reads: load(&self.reads),
            received: load(&self.received),
            received_bytes: load(&self.received_bytes),
            stray: load(&self.stray),
            moves: load(&self.moves),
            overlap: load(&self.overlap),
            bad_addresses: load(&self.bad_addresses),
            lagged: load(&self.lagged),
            handler_panics: load(&self.handler_panics),
            server_errors: load(&self.server_errors),
            requests: load(&self.requests),
            requests_unsent: load(&self.requests_unsent),
            requests_timed_out: load(&self.requests_timed_out),
            requests_no_responders: load(&self.requests_no_responders),
            requests_cut_off: load(&self.requests_cut_off),
            round_trip,
        }
    }
}

/// One link's counts since the start of its shard.
///
/// The fates of publishes balance:
/// `accepted = queued + written + processed + in_doubt + discarded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LinkStats {
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether the server has accepted the link's connection.
    pub connected: bool,
    /// Connections accepted so far.
    pub connects: u64,
    /// Accepted connections that have ended.
    pub disconnects: u64,
    /// Tries to connect, failed ones included.
    pub tries: u64,
    /// Messages that a publish took.
    pub accepted: u64,
    /// Messages that a publish refused: no room, or too large.
    pub rejected: u64,
    /// Accepted messages of which no byte was sent. From a `NodeHandle` written ones are counted here.
    pub queued: u64,
    /// Messages handed to the kernel, whole or in part, for which no PONG has come.
    pub written: u64,
    /// Messages that the server has processed: a PONG came after them.
    pub processed: u64,
    /// Messages written to a connection that was cut before a PONG. Not sent again.
    pub in_doubt: u64,
    /// Messages dropped from the queue, for whatever reason.
    pub discarded: u64,
    /// Of them, those larger than a new connection's server takes.
    pub discarded_oversized: u64,
    /// Of them, those still there when the link ended: the drain ran out of time, or every server refused.
    pub discarded_unsent: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// System calls that sent.
    pub sends: u64,
    /// Reads that brought bytes.
    pub reads: u64,
    /// Messages that arrived.
    pub received: u64,
    /// Bytes that arrived, all operations included.
    pub received_bytes: u64,
    /// Messages for which nobody was there any more: sent before the server knew of an UNSUB, or a
    /// reply after its request's timeout.
    pub stray: u64,
    /// Moves to another connection before the old one ended: off a server in lame duck mode, or on demand.
    pub moves: u64,
    /// Possible duplicates: messages that came over a connection that was being moved away from, while the
    /// new one was subscribed as well. Those of queue groups, which come once, are not counted.
    pub overlap: u64,
    /// Addresses of other servers that a server named and that were ignored: no address, or too many.
    pub bad_addresses: u64,
    /// Messages dropped for slow subscribers.
    pub lagged: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// `-ERR` lines.
    pub server_errors: u64,
    /// Requests that were sent, those of calls to services included.
    pub requests: u64,
    /// Requests that were not: the link was down, too many were in flight, or the publish was refused.
    pub requests_unsent: u64,
    /// Requests whose time was over before a reply.
    pub requests_timed_out: u64,
    /// Requests of which the server said that nobody listens.
    pub requests_no_responders: u64,
    /// Requests that were in flight when the connection was cut.
    pub requests_cut_off: u64,
    /// From a PING to its PONG, the turns of this shard included. One PING at a time is measured: those behind what
    /// is published, at least every 10 ms while something is, and else those of `connection.ping_interval`.
    pub round_trip: LatencyStats,
}

/// What a shard has counted since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// The shard.
    pub shard: usize,
    /// Its links, in the order of the configuration; clusters that it has not used are left out.
    pub links: Vec<LinkStats>,
    /// Times that the watchdog found the shard asleep over runnable work.
    pub stalls: u64,
    /// Times that a task kept the shard from everything else for longer than `shards.blocked_after`.
    pub blocks: u64,
    /// The longest of these times, to 50 ms.
    pub longest_block: Duration,
    /// Tasks of the application that panicked.
    pub task_panics: u64,
    /// From the call of `request` to the reply in the caller's hands; of those that many may answer, to the first
    /// reply. Requests without a reply are not among them: the links count those.
    pub requests: LatencyStats,
}

impl ShardStats {
    /// The counts of the link to one cluster, if the shard has used it.
    pub fn link(&self, cluster: &str) -> Option<&LinkStats> {
        self.links.iter().find(|link| link.cluster == cluster)
    }
}
