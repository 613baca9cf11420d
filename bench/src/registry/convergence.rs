//! How long a change takes until every node has it: who began it, who saw it, and what it cost.
//!
//! One process holds all nodes of a side. Changes come at a fixed rate with jitter, each of another node in turn, each
//! a new entry; a clock that all nodes share says when the last of them saw it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// Most nodes of a measurement: one bit each.
pub const NODES_MAX: usize = 64;
/// Nodes that do not find each other within this time do not do so at all.
pub const JOIN_MAX: Duration = Duration::from_mins(2);
/// After the last change, so much time for all to see it.
pub const SETTLE_MAX: Duration = Duration::from_mins(1);
/// The nodes are left alone for so long before the changes, to learn what they cost without any.
pub const IDLE: Duration = Duration::from_secs(3);

/// Whose nodes are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Ours: nodes that are linked over loopback.
    Croupier,
    /// chitchat over UDP on loopback, gossiping at this interval.
    ChitchatUdp {
        /// Milliseconds between two rounds of a node's gossip.
        gossip_ms: u64,
    },
    /// chitchat over its channels in memory, which count bytes. Its times are not those of a network.
    ChitchatChannel {
        /// Milliseconds between two rounds of a node's gossip.
        gossip_ms: u64,
    },
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose nodes.
    pub side: Side,
    /// How many nodes, from 2 to [`NODES_MAX`].
    pub nodes: usize,
    /// How many changes.
    pub changes: usize,
    /// Milliseconds between two changes, on average.
    pub every_ms: u64,
    /// Seeds the jitter.
    pub seed: u64,
}

impl Assignment {
    /// Who makes a change.
    #[must_use]
    pub fn owner_of(&self, change: usize) -> usize {
        change % self.nodes
    }

    /// When a change is due, from the beginning: its turn, and up to as much again.
    #[must_use]
    pub fn due(&self, change: usize) -> Duration {
        // splitmix64, so that the changes keep no step with anybody's gossip.
        let mut jitter = (self.seed ^ change as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        jitter = (jitter ^ (jitter >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        jitter = (jitter ^ (jitter >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        jitter ^= jitter >> 31;
        let every_us = self.every_ms * 1000;
        Duration::from_micros(every_us * change as u64 + jitter % every_us.max(1))
    }

    /// How long the changes take, until all have been made.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.every_ms * (self.changes as u64 + 1))
    }
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Microseconds from each change until the last node saw it, ascending.
    pub latencies_us: Vec<f64>,
    /// What the nodes cost while the changes were made.
    pub busy: Cost,
    /// What they cost in [`IDLE`], without any.
    pub idle: Cost,
}

/// What all nodes cost together in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The time.
    pub seconds: f64,
    /// CPU time of the process.
    pub cpu_us: f64,
    /// Bytes sent, where they can be counted.
    pub bytes: Option<u64>,
}

impl Outcome {
    /// The latency that so many in a hundred do not exceed; nothing without changes.
    #[must_use]
    pub fn percentile_us(&self, percent: f64) -> Option<f64> {
        let last = self.latencies_us.len().checked_sub(1)?;
        let rank = (percent / 100.0 * self.latencies_us.len() as f64).ceil() as usize;
        self.latencies_us.get(rank.saturating_sub(1).min(last)).copied()
    }

    /// CPU time of all nodes for one change, above what they cost without any; of little meaning where they cost more
    /// than that already.
    #[must_use]
    pub fn cpu_us_per_change(&self) -> f64 {
        let idle = self.idle.cpu_us / self.idle.seconds * self.busy.seconds;
        (self.busy.cpu_us - idle) / self.latencies_us.len() as f64
    }

    /// Bytes of one change to one receiver, above what is sent without any.
    #[must_use]
    pub fn bytes_per_change_and_receiver(&self, nodes: usize) -> Option<f64> {
        let idle = self.idle.bytes? as f64 / self.idle.seconds * self.busy.seconds;
        Some((self.busy.bytes? as f64 - idle) / self.latencies_us.len() as f64 / (nodes - 1) as f64)
    }
}

/// Notes which node saw which change when. All nodes share it, from whatever thread.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    changes: Vec<Record>,
    strays: AtomicU64,
}

#[derive(Debug, Default)]
struct Record {
    begun_ns: AtomicU64,
    last_ns: AtomicU64,
    waiting: AtomicU64,
}

impl Recorder {
    /// Expects every change to be seen once by every node but its owner.
    ///
    /// # Panics
    /// With more than [`NODES_MAX`] nodes.
    #[must_use]
    pub fn new(assignment: &Assignment) -> Self {
        assert!(assignment.nodes <= NODES_MAX, "one bit a node");
        let all = u64::MAX >> (NODES_MAX - assignment.nodes);
        let record = |change| Record {
            waiting: AtomicU64::new(all & !(1 << assignment.owner_of(change))),
            ..Record::default()
        };
        let changes = (0..assignment.changes).map(record).collect();
        Self { start: Instant::now(), changes, strays: AtomicU64::new(0) }
    }

    /// A change is about to be made.
    pub fn begin(&self, change: usize) {
        self.changes[change].begun_ns.store(self.now_ns(), Ordering::Release);
    }

    /// A node that does not own the change sees it.
    pub fn saw(&self, node: usize, change: usize) {
        let now = self.now_ns();
        let Some(record) = self.changes.get(change) else {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return;
        };
        record.last_ns.fetch_max(now, Ordering::AcqRel);
        if record.waiting.fetch_and(!(1 << node), Ordering::AcqRel) & (1 << node) == 0 {
            self.strays.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether all saw all.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.changes.iter().all(|record| record.waiting.load(Ordering::Acquire) == 0)
    }

    /// Microseconds from each change until the last node saw it, ascending.
    ///
    /// # Errors
    /// If a node did not see a change, or saw one twice, or one that nobody made.
    pub fn latencies_us(&self, client: &'static str) -> Result<Vec<f64>, BenchError> {
        let wrong = |reason: String| BenchError::client(client)(reason);
        let unseen = self.changes.iter().map(|record| record.waiting.load(Ordering::Acquire).count_ones());
        let unseen: u32 = unseen.sum();
        if unseen > 0 {
            return Err(wrong(format!("{unseen} times a node did not see a change")));
        }
        let strays = self.strays.load(Ordering::Relaxed);
        if strays > 0 {
            return Err(wrong(format!("{strays} times a node saw what nobody had changed, or saw it twice")));
        }
        let latency = |record: &Record| {
            let begun = record.begun_ns.load(Ordering::Acquire);
            record.last_ns.load(Ordering::Acquire).saturating_sub(begun) as f64 / 1e3
        };
        let mut latencies: Vec<f64> = self.changes.iter().map(latency).collect();
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_over_when_the_last_has_seen_it() {
        let recorder = Recorder::new(&ASSIGNMENT);
        for change in 0..2 {
            recorder.begin(change);
            for node in (0..3).filter(|node| *node != ASSIGNMENT.owner_of(change)) {
                assert!(!recorder.is_complete());
                recorder.saw(node, change);
            }
        }
        assert!(recorder.is_complete());
        assert_eq!(recorder.latencies_us("x").unwrap().len(), 2);
    }

    #[test]
    fn a_change_that_was_missed_or_seen_twice_fails() {
        let recorder = Recorder::new(&Assignment { changes: 1, ..ASSIGNMENT });
        recorder.begin(0);
        recorder.saw(1, 0);
        assert!(recorder.latencies_us("x").is_err());
        recorder.saw(2, 0);
        assert!(recorder.latencies_us("x").is_ok());
        recorder.saw(2, 0);
        assert!(recorder.latencies_us("x").is_err());
    }

    #[test]
    fn what_is_idle_is_not_a_change_s() {
        let cost = |seconds, cpu_us, bytes| Cost { seconds, cpu_us, bytes: Some(bytes) };
        let latencies_us = vec![1.0, 2.0, 3.0, 4.0];
        let outcome = Outcome { latencies_us, busy: cost(2.0, 600.0, 2800), idle: cost(1.0, 100.0, 1000) };
        assert_eq!(outcome.cpu_us_per_change(), 100.0);
        assert_eq!(outcome.bytes_per_change_and_receiver(3), Some(100.0));
        assert_eq!((outcome.percentile_us(50.0), outcome.percentile_us(99.0)), (Some(2.0), Some(4.0)));
    }

    #[test]
    fn changes_are_due_in_their_turns() {
        for change in 0..100 {
            let due = ASSIGNMENT.due(change).as_millis();
            assert!((10 * change as u128..10 * change as u128 + 10).contains(&due));
        }
    }

    const ASSIGNMENT: Assignment =
        Assignment { side: Side::ChitchatUdp { gossip_ms: 50 }, nodes: 3, changes: 2, every_ms: 10, seed: 1 };
}
