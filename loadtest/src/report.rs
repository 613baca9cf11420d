//! The report of a run, as JSON of schema 1.

use std::sync::Arc;

use croupier::ShardStats;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::beside::BesideReport;
use crate::fault::FaultReport;
use crate::find_max::FindMaxReport;
use crate::options::RunOptions;
use crate::pace::Pace;
use crate::recorder::Counts;
use crate::reqrep::RequestFates;
use crate::results::{Histograms, RunReport, SeriesReport};
use crate::roles::Pattern;
use crate::series::Series;
use crate::slo::Measures;
use crate::steps::StepReport;
use crate::summary::Summary;
use crate::surroundings::Surroundings;
use crate::verdict::Verdict;

/// Raised when a key changes its meaning or goes away; new keys leave it as it is.
pub(crate) const SCHEMA: u32 = 1;

/// Everything that is known about a run when it has ended.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) scenario: &'static str,
    /// Whether a signal ended the run before its time.
    pub(crate) partial: bool,
    pub(crate) verdict: Verdict,
    /// The measured phase.
    pub(crate) counts: CountsReport,
    /// The warm-up, which is checked like the rest and is in no other figure.
    pub(crate) warmup_counts: CountsReport,
    pub(crate) rate: RateReport,
    pub(crate) latency_us: LatencyReport,
    /// How the requests of the measured phase ended; only where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<RequestFates>,
    /// The closed loop beside this one; only where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beside: Option<BesideReport>,
    /// Of a search for the highest rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) find_max: Option<FindMaxReport>,
    /// Of a ramp.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<StepReport>,
    pub(crate) cpu_s: CpuReport,
    /// The same, for each delivered message (of a fan-out for each delivered copy), those of a closed loop beside
    /// included; in microseconds.
    pub(crate) cpu_us_per_message: CpuReport,
    pub(crate) clusters: Vec<ClusterReport>,
    pub(crate) connections: ConnectionsReport,
    pub(crate) series: SeriesReport,
    /// In the order in which they struck.
    pub(crate) faults: Vec<FaultReport>,
    pub(crate) arguments: ArgumentsReport,
    pub(crate) surroundings: Surroundings,
    #[serde(skip)]
    pub(crate) histograms: Histograms,
    #[serde(skip)]
    pub(crate) intervals: Option<Arc<Series>>,
}

/// What a goal of a pubsub, fanout or reqrep run can be about.
pub(crate) const MEASURES: Measures = Measures {
    latencies: &["e2e", "lag", "wire", "service"],
    counts: &["lost", "duplicate", "reordered", "corrupt", "sent", "delivered"],
};

impl RunReport for Report {
    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn summary(&self) -> String {
        Summary(self).to_string()
    }

    fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    fn intervals(&self) -> Option<(&'static str, &Series)> {
        self.intervals.as_deref().map(|series| ("e2e", series))
    }
}

/// How many messages of a phase had which fate. But for `published`, one that is to arrive several times counts as
/// often.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct CountsReport {
    /// Messages, each counted once, however many are to get it.
    pub(crate) published: u64,
    /// Deliveries that are due: of a fan-out each message as often as its topic has subscribers, otherwise once.
    pub(crate) sent: u64,
    /// Distinct messages that arrived intact; requests that were answered.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicate: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupt: u64,
}

/// Messages or requests a second, each counted once.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct RateReport {
    /// Of a ramp the mean; 0 in a closed loop, which asks for none.
    pub(crate) asked: u64,
    /// What was sent in the time of the measured phase, or longer when the last message was late: messages of the
    /// warm-up among it when the phase began with such a backlog. Never more than was asked for.
    pub(crate) achieved: f64,
    /// Messages of the warm-up that were sent when it was over.
    pub(crate) backlog: u64,
    /// Messages that were due and not sent before the run was given up.
    pub(crate) unsent: u64,
    /// Publishes refused because a buffer was full; each was tried again until it was accepted.
    pub(crate) busy: u64,
    /// Messages given up, because the buffer of a cluster that a fault had struck was full.
    pub(crate) refused: u64,
}

/// The latencies of the measured phase, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct LatencyReport {
    /// From the intended send to the delivery; of a request, to its answer. In a closed loop the intended
    /// send is the actual one.
    pub(crate) e2e: Percentiles,
    /// From the intended to the actual send.
    pub(crate) lag: Percentiles,
    /// From the actual send to the delivery.
    pub(crate) wire: Percentiles,
    /// From the actual send of a request to its answer; only where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<Percentiles>,
}

/// Points of a distribution, in microseconds with one decimal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// How many values there are.
    pub(crate) count: u64,
}

/// Processor time, user and system together.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct CpuReport {
    pub(crate) client: f64,
    /// None of servers that ran already: their processes are not the run's to look at.
    pub(crate) servers: Option<f64>,
}

/// A cluster's part of the measured phase.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ClusterReport {
    pub(crate) name: String,
    /// Of the delivered messages, from 0 to 1.
    pub(crate) share: f64,
    pub(crate) delivered: u64,
    /// Topics whose home it is.
    pub(crate) topics: u64,
}

/// What went wrong on the connections and shards, over the whole run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ConnectionsReport {
    /// Accepted connections that ended.
    pub(crate) disconnects: u64,
    /// Messages dropped because a subscriber did not keep up.
    pub(crate) slow_consumer_drops: u64,
    /// Errors that the servers told.
    pub(crate) server_errors: u64,
    /// Messages written to a connection that was cut before the server confirmed them.
    pub(crate) in_doubt: u64,
    /// Times that the watchdog had to wake a shard.
    pub(crate) stalls: u64,
}

/// What was asked for, defaults included.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct ArgumentsReport {
    /// How the program was started: `cargo loadtest`, or its path.
    pub(crate) program: String,
    /// The words after that.
    pub(crate) command_line: Vec<String>,
    /// Whether messages were sent at their times, or when one before them had arrived: open or closed.
    #[serde(rename = "loop")]
    pub(crate) loop_kind: &'static str,
    /// Under way at one time in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
    /// Of a ramp the mean; 0 in a closed loop.
    pub(crate) rate: u64,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) size_bytes_min: usize,
    pub(crate) size_bytes_max: usize,
    pub(crate) topics: usize,
    pub(crate) keys: String,
    pub(crate) clusters: usize,
    /// Servers of each cluster; 0 when they were not the run's own.
    pub(crate) nodes: usize,
    pub(crate) processes: usize,
    /// Of each process.
    pub(crate) shards: usize,
    pub(crate) publishers: usize,
    /// Of a fan-out the subscribers of each topic.
    pub(crate) subscribers: usize,
    /// Of each request; only where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_s: Option<f64>,
    pub(crate) seed: u64,
}

impl ArgumentsReport {
    /// Of a run over so many clusters.
    pub(crate) fn of(options: &RunOptions, clusters: usize) -> Self {
        Self {
            program: program(),
            command_line: command_line(),
            loop_kind: if options.pace.is_closed() { "closed" } else { "open" },
            concurrency: match options.pace {
                Pace::Closed { concurrency } => Some(concurrency),
                Pace::Steady(_) | Pace::Ramp(_) => None,
            },
            rate: options.pace.per_second().round() as u64,
            warmup_s: options.warmup.as_secs_f64(),
            duration_s: options.duration.as_secs_f64(),
            size_bytes_min: options.size.smallest_bytes,
            size_bytes_max: options.size.largest_bytes,
            topics: options.topics,
            keys: options.keys.name(),
            clusters,
            nodes: if options.config.is_some() { 0 } else { options.nodes },
            processes: options.processes,
            shards: options.shards,
            publishers: options.publishers,
            subscribers: options.subscribers,
            timeout_s: (options.pattern == Pattern::Reqrep).then_some(options.timeout.as_secs_f64()),
            seed: options.seed,
        }
    }
}

impl ConnectionsReport {
    /// What a shard's counters say.
    pub(crate) fn of(stats: &ShardStats) -> Self {
        let mut report = Self { stalls: stats.stalls, ..Self::default() };
        for link in &stats.links {
            report.disconnects += link.disconnects;
            report.slow_consumer_drops += link.lagged;
            report.server_errors += link.server_errors;
            report.in_doubt += link.in_doubt;
        }
        report
    }

    /// Adds those of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.disconnects += other.disconnects;
        self.slow_consumer_drops += other.slow_consumer_drops;
        self.server_errors += other.server_errors;
        self.in_doubt += other.in_doubt;
        self.stalls += other.stalls;
    }
}

impl CountsReport {
    /// Of messages that are to arrive so often each.
    pub(crate) fn of(counts: &Counts, copies: u64) -> Self {
        Self {
            published: counts.sent / copies.max(1),
            sent: counts.sent,
            delivered: counts.delivered,
            lost: counts.lost(),
            duplicate: counts.duplicate,
            reordered: counts.reordered,
            corrupt: counts.corrupt,
        }
    }
}

impl Percentiles {
    /// Reads a histogram of nanoseconds; all zero when it is empty.
    pub(crate) fn of_nanos(histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| rounded(nanos as f64 / 1_000.0, 1);
        let at = |quantile: f64| micros(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
            count: histogram.len(),
        }
    }
}

/// How the program was started, for who wants to do it again: `cargo loadtest` where that did, else as the shell was
/// told.
pub(crate) fn program() -> String {
    // Cargo tells what it runs of itself; its alias is for what users have.
    let is_of_cargo = std::env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == env!("CARGO_PKG_NAME"));
    if is_of_cargo && !cfg!(debug_assertions) {
        return "cargo loadtest".to_owned();
    }
    std::env::args_os()
        .next()
        .map_or_else(|| "croupier".to_owned(), |word| word.to_string_lossy().into_owned())
}

/// The words after the program's name.
pub(crate) fn command_line() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Keeps `decimals` decimals: what lies below is noise, and makes a report hard to read.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_histogram_in_microseconds() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).expect("bounds");
        for micros in 1..=1_000_u64 {
            histogram.record(micros * 1_000).expect("within the bounds");
        }
        let percentiles = Percentiles::of_nanos(&histogram);
        let close = |value: f64, exact: f64| (value - exact).abs() <= exact * 0.001 + 0.1;
        assert!(close(percentiles.p50, 500.0), "{percentiles:?}");
        assert!(close(percentiles.p90, 900.0), "{percentiles:?}");
        assert!(close(percentiles.p99, 990.0), "{percentiles:?}");
        assert!(close(percentiles.p999, 999.0), "{percentiles:?}");
        assert!(close(percentiles.max, 1_000.0), "{percentiles:?}");
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).expect("bounds");
        let zero = Percentiles { p50: 0.0, p90: 0.0, p99: 0.0, p999: 0.0, max: 0.0, count: 0 };
        assert_eq!(Percentiles::of_nanos(&histogram), zero);
    }

    #[test]
    fn the_keys_of_schema_1_are_where_they_were() {
        let report = serde_json::to_value(sample()).expect("a report is serialisable");
        for key in ["schema", "scenario"] {
            assert!(!report[key].is_null(), "{key}");
        }
        for (part, keys) in [
            ("verdict", &["status", "reasons"][..]),
            ("counts", &["sent", "delivered", "lost", "duplicate", "reordered", "corrupt"]),
            ("rate", &["asked", "achieved"]),
            ("latency_us", &["e2e", "lag", "wire"]),
            ("cpu_s", &["client", "servers"]),
        ] {
            for key in keys {
                assert!(!report[part][key].is_null(), "{part}.{key}");
            }
        }
        for latency in ["e2e", "lag", "wire"] {
            for key in ["p50", "p90", "p99", "p999", "max"] {
                assert!(report["latency_us"][latency][key].is_number(), "{latency}.{key}");
            }
        }
        for key in ["name", "share"] {
            assert!(!report["clusters"][0][key].is_null(), "clusters.{key}");
        }
        assert_eq!(report["schema"], 1);
    }

    #[test]
    fn rounding_keeps_the_decimals_asked_for() {
        assert_eq!(rounded(123.456, 1), 123.5);
        assert_eq!(rounded(0.33333, 4), 0.3333);
    }

    fn sample_histograms() -> Histograms {
        let mut values = crate::recorder::histogram();
        (1..=1_000_u64).for_each(|micros| values.saturating_record(micros * 1_000));
        Histograms(["e2e", "lag", "wire"].map(|name| (name, values.clone())).into())
    }

    /// A report of round numbers.
    pub(crate) fn sample() -> Report {
        let counts = Counts { sent: 200_000, delivered: 200_000, ..Counts::default() };
        let percentiles =
            Percentiles { p50: 182.4, p90: 310.0, p99: 905.1, p999: 2_100.0, max: 12_345.6, count: 200_000 };
        let cluster = |name: &str, share| ClusterReport {
            name: name.to_owned(),
            share,
            delivered: (200_000.0 * share) as u64,
            topics: 5_000,
        };
        Report {
            schema: SCHEMA,
            scenario: "pubsub",
            partial: false,
            verdict: Verdict {
                status: crate::verdict::Status::Degraded,
                reasons: vec!["fewer cores than roles: 2 cores for 5 shards and servers".to_owned()],
            },
            counts: CountsReport::of(&counts, 1),
            warmup_counts: CountsReport::of(&Counts::default(), 1),
            rate: RateReport {
                asked: 20_000,
                achieved: 19_999.9,
                backlog: 0,
                unsent: 0,
                busy: 3,
                refused: 0,
            },
            latency_us: LatencyReport {
                e2e: percentiles,
                lag: percentiles,
                wire: percentiles,
                service: None,
            },
            requests: None,
            beside: None,
            steps: Vec::new(),
            find_max: None,
            cpu_s: CpuReport { client: 1.25, servers: Some(2.5) },
            cpu_us_per_message: CpuReport { client: 6.25, servers: Some(12.5) },
            clusters: vec![cluster("c1", 0.5), cluster("c2", 0.5)],
            connections: ConnectionsReport::default(),
            series: SeriesReport::default(),
            faults: vec![crate::fault::sample()],
            arguments: ArgumentsReport {
                program: "croupier".to_owned(),
                command_line: Vec::new(),
                loop_kind: "open",
                concurrency: None,
                rate: 20_000,
                warmup_s: 2.0,
                duration_s: 10.0,
                size_bytes_min: 128,
                size_bytes_max: 128,
                topics: 10_000,
                keys: "uniform".to_owned(),
                clusters: 2,
                nodes: 1,
                processes: 1,
                shards: 2,
                publishers: 2,
                subscribers: 2,
                timeout_s: None,
                seed: 42,
            },
            surroundings: Surroundings::before_run(),
            histograms: sample_histograms(),
            intervals: None,
        }
    }
}
