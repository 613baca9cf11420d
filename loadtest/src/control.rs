//! What the main thread and the shards of a run tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::live::{Reporter, Shares};
use crate::recorder::Recorder;

/// Shared by the main thread, which decides, and the shards, which report.
#[derive(Debug)]
pub(crate) struct Control {
    start: OnceLock<Instant>,
    is_over: AtomicBool,
    has_stopped: AtomicBool,
    gave_up: OnceLock<u64>,
    /// A bit for each cluster that a fault has struck.
    struck: AtomicU64,
    shards: Vec<ShardProgress>,
    /// What the shards hand over to the live view, when there is one.
    shares: Option<Arc<Shares>>,
}

/// One shard's counters, on cache lines of its own. Only that shard writes them, but for the credits.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ShardProgress {
    is_ready: AtomicBool,
    has_sent_all: AtomicBool,
    sent: AtomicU64,
    delivered: AtomicU64,
    busy: AtomicU64,
    credits: AtomicU64,
}

/// The counters of all shards together, at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) busy: u64,
}

impl Totals {
    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.busy += other.busy;
    }
}

impl Control {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            start: OnceLock::new(),
            is_over: AtomicBool::new(false),
            has_stopped: AtomicBool::new(false),
            gave_up: OnceLock::new(),
            struck: AtomicU64::new(0),
            shards: (0..shards).map(|_| ShardProgress::default()).collect(),
            shares: None,
        }
    }

    /// Has the shards hand over what the live view shows.
    pub(crate) fn watched(self) -> Self {
        Self { shares: Some(Arc::new(Shares::new(self.shards.len()))), ..self }
    }

    /// What was handed over and not taken; none when nobody watches.
    pub(crate) fn shares(&self) -> Option<&Shares> {
        self.shares.as_deref()
    }

    /// Has a shard's recorder hand over what it sees, when somebody watches.
    pub(crate) fn watch(&self, shard: usize, recorder: Recorder) -> Recorder {
        let clusters = recorder.delivered_by_cluster.len();
        let reporter = self.shares.as_ref().map(|shares| Reporter::new(shares, shard, clusters));
        recorder.with_reporter(reporter)
    }

    /// What each shard has delivered so far.
    pub(crate) fn delivered_by_shard(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.delivered.load(Ordering::Relaxed)).collect()
    }

    /// Fixes the time of the first message; only the first call does.
    pub(crate) fn start_at(&self, start: Instant) {
        self.start.get_or_init(|| start);
    }

    /// The time of the first message, once it is fixed.
    pub(crate) fn start(&self) -> Option<Instant> {
        self.start.get().copied()
    }

    /// Nanoseconds since the start, on the machine's monotonic clock; zero before it.
    pub(crate) fn now_nanos(&self) -> u64 {
        let since_start = self.start().map(|start| start.elapsed().as_nanos());
        since_start.map_or(0, |nanos| u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Asks the shards to hand in what they have.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Asks the shards to send nothing more; what is on its way still arrives.
    pub(crate) fn stop_sending(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    /// One of the shards found the schedule beyond hope: none of them sends any more. Only the first call counts.
    pub(crate) fn give_up(&self) {
        self.gave_up.get_or_init(|| self.now_nanos());
        self.stop_sending();
    }

    /// When a shard gave up, on the run's clock; none when none did.
    pub(crate) fn gave_up_nanos(&self) -> Option<u64> {
        self.gave_up.get().copied()
    }

    /// Whether the shards may still send.
    pub(crate) fn may_send(&self) -> bool {
        !self.has_stopped.load(Ordering::Relaxed) && !self.is_over()
    }

    /// A fault has struck a cluster of the run.
    pub(crate) fn strike(&self, cluster: usize) {
        self.struck.fetch_or(bit_of(cluster), Ordering::Relaxed);
    }

    /// Whether a fault has struck a cluster; what there is no room for is refused from then on.
    pub(crate) fn is_struck(&self, cluster: usize) -> bool {
        self.struck.load(Ordering::Relaxed) & bit_of(cluster) != 0
    }

    /// The counters of a shard of this run.
    pub(crate) fn shard(&self, shard: usize) -> &ShardProgress {
        &self.shards[shard]
    }

    pub(crate) fn all_ready(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_ready.load(Ordering::Acquire))
    }

    pub(crate) fn all_sent(&self) -> bool {
        self.shards.iter().all(|shard| shard.has_sent_all.load(Ordering::Acquire))
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            totals.sent += shard.sent.load(Ordering::Relaxed);
            totals.delivered += shard.delivered.load(Ordering::Relaxed);
            totals.busy += shard.busy.load(Ordering::Relaxed);
        }
        totals
    }
}

impl ShardProgress {
    pub(crate) fn ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    pub(crate) fn sent_all(&self) {
        self.has_sent_all.store(true, Ordering::Release);
    }

    /// A message left that is to arrive so many times.
    pub(crate) fn sent_copies(&self, copies: u64) {
        self.sent.store(self.sent.load(Ordering::Relaxed) + copies, Ordering::Relaxed);
    }

    /// A message of this shard's has arrived, says the shard where it did.
    pub(crate) fn credit_one(&self) {
        self.credits.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages of this shard's have arrived; counted in a closed loop alone.
    pub(crate) fn credits(&self) -> u64 {
        self.credits.load(Ordering::Relaxed)
    }

    pub(crate) fn delivered_one(&self) {
        add_one(&self.delivered);
    }

    pub(crate) fn busy_once(&self) {
        add_one(&self.busy);
    }
}

/// Clusters beyond the bits there are count as one.
fn bit_of(cluster: usize) -> u64 {
    1 << cluster.min(u64::BITS as usize - 1)
}

/// There is one writer, so that no locked instruction is needed.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_clock_is_zero_until_the_start_and_the_start_is_fixed_once() {
        let control = Control::new(1);
        assert_eq!(control.now_nanos(), 0);
        let later = Instant::now() + Duration::from_secs(3600);
        control.start_at(later);
        control.start_at(Instant::now());
        assert_eq!(control.start(), Some(later));
        assert_eq!(control.now_nanos(), 0);
    }

    #[test]
    fn a_stop_ends_the_sending_and_not_the_run_and_only_struck_clusters_are_struck() {
        let control = Control::new(1);
        assert!(control.may_send());
        control.stop_sending();
        assert!(!control.may_send() && !control.is_over());
        control.strike(2);
        control.strike(70);
        let struck: Vec<usize> = (0..8).filter(|cluster| control.is_struck(*cluster)).collect();
        assert_eq!(struck, [2]);
        assert!(control.is_struck(70));
    }

    #[test]
    fn the_totals_are_the_sum_of_the_shards_and_all_means_every_one() {
        let control = Control::new(2);
        control.shard(0).sent_copies(1);
        control.shard(1).sent_copies(1);
        control.shard(1).delivered_one();
        control.shard(0).busy_once();
        assert_eq!(control.totals(), Totals { sent: 2, delivered: 1, busy: 1 });

        control.shard(0).ready();
        control.shard(0).sent_all();
        assert!(!control.all_ready() && !control.all_sent());
        control.shard(1).ready();
        control.shard(1).sent_all();
        assert!(control.all_ready() && control.all_sent());
    }
}
