//! Both sides in turn, each run in a process of its own, several rounds; medians, and the rows that are printed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::registry::convergence::{Assignment, IDLE, JOIN_MAX, Outcome, SETTLE_MAX, Side};
use crate::registry::{chitchat_nodes, croupier_nodes};
use crate::statistics::Spread;
use crate::subprocess;

/// The hidden first argument that makes the program a worker. Its second is an [`Assignment`] as JSON.
pub const WORKER_COMMAND: &str = "registry-worker";

impl Side {
    /// The name in the tables and the JSON.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Croupier => croupier_nodes::NAME.to_owned(),
            Self::ChitchatUdp { gossip_ms } => format!("{} {gossip_ms} ms", chitchat_nodes::NAME),
            Self::ChitchatChannel { gossip_ms } => format!("{} {gossip_ms} ms, bytes", chitchat_nodes::NAME),
        }
    }
}

/// Does what a worker is told.
///
/// # Errors
/// Those of the measurement.
pub fn work(assignment: &Assignment) -> Result<Outcome, BenchError> {
    match assignment.side {
        Side::Croupier => croupier_nodes::run(assignment),
        Side::ChitchatUdp { gossip_ms } => {
            chitchat_nodes::over_udp(assignment, Duration::from_millis(gossip_ms))
        }
        Side::ChitchatChannel { gossip_ms } => {
            chitchat_nodes::over_channels(assignment, Duration::from_millis(gossip_ms))
        }
    }
}

/// A side's result: medians over the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Whose nodes.
    pub side: String,
    /// How many.
    pub nodes: usize,
    /// Milliseconds until all nodes saw a change: median.
    pub p50_ms: f64,
    /// Milliseconds until all nodes saw a change: the 99th percentile.
    pub p99_ms: f64,
    /// The least and the most median of a round.
    pub p50_ms_range: [f64; 2],
    /// CPU time of all nodes for one change, in microseconds, above what they cost without any.
    pub cpu_us_per_change: f64,
    /// CPU time of all nodes without changes, in milliseconds a second.
    pub idle_cpu_ms_per_second: f64,
    /// Bytes of one change to one receiver, above what is sent without any, where they can be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_per_change_and_receiver: Option<f64>,
    /// Bytes that all nodes send in a second without changes, where they can be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idle_bytes_per_second: Option<f64>,
    /// Changes of each round.
    pub changes: usize,
    /// How often the side was measured.
    pub rounds: usize,
}

/// The heading over [`Row`]'s lines.
pub const HEADING: &str = concat!(
    "                              until all nodes see a change, ms          CPU us    idle CPU  bytes a change   idle\n",
    "side                    nodes      p50 (least..most)           p99     a change      ms/s    and receiver  bytes/s"
);

/// One line under [`HEADING`].
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, most] = self.p50_ms_range;
        let p50 = format!("{:.2} ({least:.2}..{most:.2})", self.p50_ms);
        let bytes = |bytes: Option<f64>| bytes.map_or("-".to_owned(), |bytes| format!("{bytes:.0}"));
        write!(
            f,
            "{:<25} {:>3}  {p50:<26} {:>9.2} {:>12.0} {:>9.1} {:>15} {:>8}",
            self.side,
            self.nodes,
            self.p99_ms,
            self.cpu_us_per_change,
            self.idle_cpu_ms_per_second,
            bytes(self.bytes_per_change_and_receiver),
            bytes(self.idle_bytes_per_second),
        )
    }
}

impl Row {
    /// From the rounds of a side; nothing without any, or without changes.
    #[must_use]
    pub fn of(assignment: &Assignment, outcomes: &[Outcome]) -> Option<Self> {
        let spread = |value: &dyn Fn(&Outcome) -> Option<f64>| Spread::of(outcomes.iter().filter_map(value));
        let p50 = spread(&|outcome| outcome.percentile_us(50.0))?;
        let p99 = spread(&|outcome| outcome.percentile_us(99.0))?;
        let bytes = |outcome: &Outcome| outcome.bytes_per_change_and_receiver(assignment.nodes);
        let idle_bytes = |outcome: &Outcome| Some(outcome.idle.bytes? as f64 / outcome.idle.seconds);
        let idle_cpu = |outcome: &Outcome| Some(outcome.idle.cpu_us / 1e3 / outcome.idle.seconds);
        Some(Self {
            side: assignment.side.name(),
            nodes: assignment.nodes,
            p50_ms: p50.median / 1e3,
            p99_ms: p99.median / 1e3,
            p50_ms_range: [p50.least / 1e3, p50.most / 1e3],
            cpu_us_per_change: spread(&|outcome| Some(outcome.cpu_us_per_change()))?.median,
            idle_cpu_ms_per_second: spread(&idle_cpu)?.median,
            bytes_per_change_and_receiver: spread(&bytes).map(|spread| spread.median),
            idle_bytes_per_second: spread(&idle_bytes).map(|spread| spread.median),
            changes: assignment.changes,
            rounds: outcomes.len(),
        })
    }
}

/// Measures all sides in turn, so many times; each round begins with another side.
///
/// # Errors
/// The first thing that goes wrong on any side.
pub fn compare(
    sides: &[Side],
    nodes: usize,
    changes: usize,
    every_ms: u64,
    rounds: usize,
) -> Result<Vec<Row>, BenchError> {
    let assignment = |side, round| Assignment { side, nodes, changes, every_ms, seed: round as u64 };
    let mut outcomes = vec![Vec::new(); sides.len()];
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let at = (turn + round) % sides.len();
            outcomes[at].push(run_worker(&assignment(sides[at], round))?);
        }
    }
    let rows = sides.iter().zip(&outcomes);
    Ok(rows.filter_map(|(side, outcomes)| Row::of(&assignment(*side, 0), outcomes)).collect())
}

/// Runs this program again as a worker and reads its report.
fn run_worker(assignment: &Assignment) -> Result<Outcome, BenchError> {
    let what = format!("{} nodes of {}", assignment.nodes, assignment.side.name());
    let time_max = JOIN_MAX + IDLE + assignment.length() + SETTLE_MAX + SETTLE_MAX;
    let order = serde_json::to_string(assignment).map_err(|error| BenchError::client("worker")(error))?;
    let mut command = subprocess::this_program()?;
    command.args([WORKER_COMMAND, &order]);
    subprocess::report_of(command, &what, time_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::convergence::Cost;

    #[test]
    fn a_row_holds_the_medians_of_the_rounds() {
        let side = Side::ChitchatChannel { gossip_ms: 50 };
        let assignment = Assignment { side, nodes: 3, changes: 2, every_ms: 10, seed: 1 };
        let outcome = |latency: f64| Outcome {
            latencies_us: vec![latency, latency * 10.0],
            busy: Cost { seconds: 1.0, cpu_us: 300.0, bytes: Some(500) },
            idle: Cost { seconds: 1.0, cpu_us: 100.0, bytes: Some(100) },
        };
        let row = Row::of(&assignment, &[outcome(1000.0), outcome(5000.0), outcome(2000.0)]).unwrap();
        assert_eq!((row.p50_ms, row.p99_ms, row.p50_ms_range), (2.0, 20.0, [1.0, 5.0]));
        assert_eq!((row.cpu_us_per_change, row.idle_cpu_ms_per_second), (100.0, 0.1));
        assert_eq!((row.bytes_per_change_and_receiver, row.rounds), (Some(100.0), 3));
        assert!(Row::of(&assignment, &[]).is_none());
    }
}
