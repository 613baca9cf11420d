//! What the live view knows: the last snapshot, how the rates went, and the lines that were told.

use std::collections::VecDeque;
use std::time::Duration;

use crate::report::Percentiles;

/// A run at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) words: Words,
    /// "warm-up", "measured", "late", "faults".
    pub(crate) phase: &'static str,
    pub(crate) elapsed: Duration,
    /// How long the schedule takes, the warm-up included.
    pub(crate) whole: Duration,
    /// How much of it is the warm-up: people are told the time since it was over.
    pub(crate) measured_from: Duration,
    /// What the schedule asks for, a second.
    pub(crate) rate_asked: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Neither delivered nor known to be lost.
    pub(crate) under_way: u64,
    /// More than this is rather missing.
    pub(crate) under_way_max: u64,
    /// What else is counted, and how often; of the first any is an alarm.
    pub(crate) others: [(&'static str, u64); 2],
    /// The latency that the run is about: since the last look, and so far; in microseconds.
    pub(crate) recent: Option<Percentiles>,
    pub(crate) so_far: Option<Percentiles>,
    /// Two at most.
    pub(crate) tables: Vec<Table>,
}

/// What a scenario's figures are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) things: &'static str,
    pub(crate) sent: &'static str,
    pub(crate) delivered: &'static str,
    pub(crate) under_way: &'static str,
    pub(crate) latency: &'static str,
}

/// Those who share the work.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What it has done so far.
    pub(crate) count: u64,
    /// What else there is to say of it; if nothing, its share is drawn.
    pub(crate) note: String,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            things: "messages",
            sent: "sent",
            delivered: "delivered",
            under_way: "under way or lost",
            latency: "e2e",
        }
    }
}

/// Rates between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) sent: f64,
    pub(super) delivered: f64,
    /// By table and row.
    pub(super) tables: Vec<Vec<f64>>,
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
    let counted = |table: usize, row: usize| Some(before.tables.get(table)?.rows.get(row)?.count);
    let of_table = |(table, it): (usize, &Table)| {
        let rows = it.rows.iter().enumerate();
        rows.map(|(row, it)| rate(it.count, counted(table, row).unwrap_or(0))).collect()
    };
    Rates {
        sent: rate(now.sent, before.sent),
        delivered: rate(now.delivered, before.delivered),
        tables: now.tables.iter().enumerate().map(of_table).collect(),
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
            tables: vec![Table { title: "shards", rows: vec![Row { count: delivered, ..Row::default() }] }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_over_half_a_second_at_least() {
        let mut state = State::new(String::new());
        for (millis, delivered) in [(200, 1_000), (400, 2_000), (600, 3_000), (800, 4_000)] {
            state.update(at(millis, delivered));
        }
        assert_eq!((state.rates.delivered, state.rates.tables.as_slice()), (5_000.0, &[vec![5_000.0]][..]));
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
