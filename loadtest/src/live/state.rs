//! What the live view knows: the last snapshot, how the rates went, and the lines that were told.

use std::collections::VecDeque;
use std::time::Duration;

use crate::report::Percentiles;

/// A run at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// "warm-up", "measured", "late".
    pub(crate) phase: &'static str,
    pub(crate) elapsed: Duration,
    /// How long the schedule takes, the warm-up included.
    pub(crate) whole: Duration,
    /// What the schedule asks for, a second.
    pub(crate) rate_asked: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) busy: u64,
    /// Duplicate, reordered or corrupt.
    pub(crate) wrong: u64,
    /// End to end: since the last look, and so far; in microseconds.
    pub(crate) recent: Option<Percentiles>,
    pub(crate) so_far: Option<Percentiles>,
    pub(crate) clusters: Vec<ClusterNow>,
    pub(crate) shards: Vec<ShardNow>,
}

/// What a cluster has delivered so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterNow {
    pub(crate) name: String,
    pub(crate) delivered: u64,
}

/// What a shard has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardNow {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
}

/// Rates between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) sent: f64,
    pub(super) delivered: f64,
    pub(super) clusters: Vec<f64>,
    pub(super) shards: Vec<f64>,
}

/// A point of the pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    pub(super) at: Duration,
    pub(super) delivered: f64,
    pub(super) p99_us: Option<f64>,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) title: String,
    pub(super) now: Snapshot,
    pub(super) rates: Rates,
    pub(super) history: VecDeque<Moment>,
    pub(super) lines: VecDeque<String>,
    /// When a line told of a fault, on the run's clock.
    pub(super) faults: Vec<(Duration, String)>,
    /// What the rates are counted from.
    since: Snapshot,
}

/// Rates over less than this jump too much to be read.
const RATES_EVERY: Duration = Duration::from_millis(500);
const LINES_MAX: usize = 200;
const MOMENTS_MAX: usize = 600;
const FAULTS_MAX: usize = 100;

/// How a line about a fault begins.
const FAULT_WORD: &str = "fault ";

impl State {
    pub(super) fn new(title: String) -> Self {
        Self {
            title,
            now: Snapshot::default(),
            rates: Rates::default(),
            history: VecDeque::new(),
            lines: VecDeque::new(),
            faults: Vec::new(),
            since: Snapshot::default(),
        }
    }

    pub(super) fn line(&mut self, text: &str) {
        for line in text.lines() {
            if line.starts_with(FAULT_WORD) && self.faults.len() < FAULTS_MAX {
                let told = line[FAULT_WORD.len()..].trim().to_owned();
                self.faults.push((self.now.elapsed, told));
            }
            if self.lines.len() == LINES_MAX {
                self.lines.pop_front();
            }
            self.lines.push_back(line.to_owned());
        }
    }

    pub(super) fn update(&mut self, snapshot: Snapshot) {
        let passed = snapshot.elapsed.saturating_sub(self.since.elapsed);
        if passed >= RATES_EVERY {
            self.rates = rates(&self.since, &snapshot, passed.as_secs_f64());
            self.since = snapshot.clone();
            if self.history.len() == MOMENTS_MAX {
                self.history.pop_front();
            }
            self.history.push_back(Moment {
                at: snapshot.elapsed,
                delivered: self.rates.delivered,
                p99_us: snapshot.recent.filter(|recent| recent.count > 0).map(|recent| recent.p99),
            });
        }
        self.now = snapshot;
    }
}

fn rates(before: &Snapshot, now: &Snapshot, seconds: f64) -> Rates {
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let clusters = now.clusters.iter().enumerate();
    let shards = now.shards.iter().enumerate();
    Rates {
        sent: rate(now.sent, before.sent),
        delivered: rate(now.delivered, before.delivered),
        clusters: clusters
            .map(|(place, it)| rate(it.delivered, before.clusters.get(place).map_or(0, |it| it.delivered)))
            .collect(),
        shards: shards
            .map(|(place, it)| rate(it.delivered, before.shards.get(place).map_or(0, |it| it.delivered)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64, delivered: u64) -> Snapshot {
        Snapshot {
            elapsed: Duration::from_millis(millis),
            sent: delivered,
            delivered,
            shards: vec![ShardNow { sent: delivered, delivered }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_over_half_a_second_at_least() {
        let mut state = State::new(String::new());
        for (millis, delivered) in [(200, 1_000), (400, 2_000), (600, 3_000), (800, 4_000)] {
            state.update(at(millis, delivered));
        }
        assert_eq!((state.rates.delivered, state.rates.shards.as_slice()), (5_000.0, &[5_000.0][..]));
        assert_eq!(state.history.len(), 1);
        assert_eq!(state.now.delivered, 4_000);
    }

    #[test]
    fn lines_are_bounded_and_faults_are_remembered_with_their_time() {
        let mut state = State::new(String::new());
        state.update(at(3_000, 1));
        for number in 0..1_000 {
            state.line(&format!("line {number}"));
        }
        state.line("fault       kill c2/1: detected after 1.4 ms");
        assert_eq!(state.lines.len(), LINES_MAX);
        assert_eq!(state.faults, [(Duration::from_secs(3), "kill c2/1: detected after 1.4 ms".to_owned())]);
    }
}
