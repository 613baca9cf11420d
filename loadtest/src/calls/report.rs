//! The report of a calls run, for programs and for people.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Seen;
use super::judge::{CallCounts, Judgement};
use super::protocol::{Counted, node_name};
use crate::cpu::CpuTimes;
use crate::fault::{Act, Fault};
use crate::options::CallsOptions;
use crate::quantity::{grouped, whole};
use crate::recorder::histogram;
use crate::report::{CpuReport, Percentiles, SCHEMA, command_line, program, rounded};
use crate::results::{Histograms, RunReport, SeriesReport};
use crate::series::Series;
use crate::slo::Measures;
use crate::summary::{backlog_line, fault_time, latency_lines, verdict_lines};
use crate::surroundings::Surroundings;
use crate::verdict::{Circumstances, Remedy, Verdict};

/// Everything that is known about a run when it has ended.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct CallsReport {
    pub(crate) schema: u32,
    pub(crate) scenario: &'static str,
    /// Whether a signal ended the run before its time.
    partial: bool,
    pub(crate) verdict: Verdict,
    /// The measured phase.
    counts: CallCounts,
    warmup_counts: CallCounts,
    /// Executions of no call of the run.
    executions_of_nothing: u64,
    rate: RateReport,
    latency_us: LatencyReport,
    workers: WorkersReport,
    faults: Vec<FaultReport>,
    /// Connections of the caller's node to the servers that ended.
    disconnects: u64,
    cpu_s: CpuReport,
    cpu_us_per_call: CpuReport,
    /// Of calls: made as sent, answered as delivered, not answered as lost.
    series: SeriesReport,
    arguments: ArgumentsReport,
    surroundings: Surroundings,
    #[serde(skip)]
    histograms: Histograms,
    #[serde(skip)]
    intervals: Option<Arc<Series>>,
}

/// What a goal of a calls run can be about.
pub(crate) const MEASURES: Measures = Measures {
    latencies: &["e2e", "service", "lag", "failed"],
    counts: &[
        "timeout",
        "in_doubt",
        "no_service",
        "no_responders",
        "disconnected",
        "executed_twice",
        "never_ended",
        "overdue",
        "corrupt",
        "unexplained",
        "calls",
        "answered",
    ],
};

impl RunReport for CallsReport {
    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn summary(&self) -> String {
        self.to_string()
    }

    fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    fn intervals(&self) -> Option<(&'static str, &Series)> {
        self.intervals.as_deref().map(|series| ("e2e", series))
    }
}

/// Calls a second.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct RateReport {
    asked: u64,
    achieved: f64,
    /// Calls of the warm-up that were made when it was over; they are in `achieved`.
    backlog: u64,
    unsent: u64,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct LatencyReport {
    /// From the intended time of a call to its answer.
    e2e: Percentiles,
    /// From the actual time to the answer.
    service: Percentiles,
    /// From the intended to the actual time.
    lag: Percentiles,
    /// From the intended time to the error of a call that had no answer.
    failed: Percentiles,
    /// From a signal until the caller saw none of the process's instances.
    detect: Percentiles,
    detect_crash: Percentiles,
    detect_freeze: Percentiles,
}

/// What the instances did beside answering; a life that was killed has not told.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct WorkersReport {
    added: u64,
    removed: u64,
    corrupt_requests: u64,
    answers_not_given: u64,
}

/// What a fault did.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(super) struct FaultReport {
    fault: String,
    /// Seconds from the start of the measured phase.
    at_s: f64,
    process: String,
    #[serde(skip)]
    is_kill: bool,
    #[serde(skip)]
    detect_nanos: Option<u64>,
    /// From the signal until the caller saw none of its instances.
    detect_us: Option<f64>,
    /// From the restart, or the end of standing still, until the caller saw one again.
    back_us: Option<f64>,
    /// When the caller saw one again, in seconds from the start of the measured phase.
    back_at_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct ArgumentsReport {
    /// How the program was started: `cargo loadtest`, or its path.
    program: String,
    /// The words after that.
    command_line: Vec<String>,
    rate: u64,
    warmup_s: f64,
    duration_s: f64,
    workers: usize,
    processes: usize,
    keys: String,
    key_count: usize,
    size_bytes_min: usize,
    size_bytes_max: usize,
    churn_s: f64,
    timeout_s: f64,
    clusters: usize,
    seed: u64,
    faults: Vec<String>,
}

/// What is known when a run has ended.
pub(super) struct Findings<'a> {
    pub(super) options: &'a CallsOptions,
    pub(super) unsent: u64,
    /// When the schedule was given up, since the start of the measured phase.
    pub(super) gave_up_nanos: Option<u64>,
    /// The length of the measured phase.
    pub(super) asked_nanos: u64,
    /// What ended the run before its time.
    pub(super) interruption: Option<String>,
    pub(super) measured_from_nanos: u64,
    pub(super) judgement: Judgement,
    pub(super) series: Series,
    pub(super) measured_from_offset_nanos: u64,
    /// When the calling was broken off, on the run's clock.
    pub(super) stopped_nanos: Option<u64>,
    pub(super) counted: Counted,
    pub(super) disconnects: u64,
    pub(super) faults: Vec<FaultReport>,
    pub(super) cpu: CpuTimes,
    pub(super) surroundings: Surroundings,
}

impl FaultReport {
    /// From what was seen of a fault in a measured phase that began at `measured_from_nanos`.
    pub(super) fn of(fault: &Fault, seen: &Seen, measured_from_nanos: u64) -> Self {
        let outage = &seen.outage;
        let micros = |nanos: u64| rounded(nanos as f64 / 1_000.0, 1);
        let since_start = |at: u64| rounded(at.saturating_sub(measured_from_nanos) as f64 / 1e9, 3);
        let detect_nanos = outage.detected_nanos.map(|at| at.saturating_sub(outage.signal_nanos));
        let back_nanos = seen.back_nanos.map(|at| at.saturating_sub(outage.revived_nanos));
        Self {
            fault: fault.name('w'),
            at_s: since_start(outage.signal_nanos),
            process: node_name(outage.process),
            is_kill: fault.act == Act::Kill,
            detect_nanos,
            detect_us: detect_nanos.map(micros),
            back_us: back_nanos.map(micros),
            back_at_s: seen.back_nanos.map(since_start),
        }
    }
}

impl Findings<'_> {
    /// Weighs everything.
    pub(super) fn report(self) -> CallsReport {
        let judged = &self.judgement;
        let e2e = judged.e2e();
        let asked = self.options.rate.per_second();
        let took_nanos = judged.last_made_nanos.saturating_sub(self.measured_from_nanos);
        let took_nanos = took_nanos.max(self.asked_nanos).max(1);
        let calls = judged.measured.calls + judged.backlog;
        // What is left of the warm-up is no reason to have made more than was asked for.
        let achieved = (calls as f64 / (took_nanos as f64 / 1e9)).min(asked as f64);
        let circumstances = Circumstances {
            interruption: self.interruption.clone(),
            unit: "calls",
            rate_asked: asked as f64,
            rate_achieved: achieved,
            remedy: Remedy::Rate,
            gave_up_nanos: self.gave_up_nanos,
            unsent: self.unsent,
            is_debug_build: cfg!(debug_assertions),
            lag_p99_nanos: judged.lag.value_at_quantile(0.99),
            latency: "end-to-end",
            e2e_p99_nanos: e2e.value_at_quantile(0.99),
            e2e_medians_nanos: judged.medians(),
            steal_share: self.cpu.steal_share(),
            others_share: self.cpu.others_share(),
            others_have_servers: false,
            pressure_before_percent: self.surroundings.pressure_before_percent,
            cores: self.surroundings.cores,
            roles: 1 + self.options.processes + self.options.clusters,
        };
        let mut invalid = self.invalid_reasons();
        invalid.extend(circumstances.invalid_reasons());
        let verdict = Verdict::of(invalid, circumstances.degraded_reasons());
        let detect = |is_wanted: fn(&FaultReport) -> bool| {
            let mut times = histogram();
            let wanted = self.faults.iter().filter(|fault| is_wanted(fault));
            wanted.filter_map(|fault| fault.detect_nanos).for_each(|nanos| times.saturating_record(nanos));
            Percentiles::of_nanos(&times)
        };
        let (client, servers) = (self.cpu.client.as_secs_f64(), self.cpu.servers.as_secs_f64());
        // Of no call there is no share.
        let each = if judged.measured.calls == 0 { 0.0 } else { 1e6 / judged.measured.calls as f64 };
        CallsReport {
            schema: SCHEMA,
            scenario: CallsOptions::SCENARIO,
            partial: self.interruption.is_some(),
            verdict,
            counts: judged.measured,
            warmup_counts: judged.warmup,
            executions_of_nothing: judged.executions_of_nothing,
            rate: RateReport {
                asked,
                achieved: rounded(achieved, 1),
                backlog: judged.backlog,
                unsent: self.unsent,
            },
            latency_us: LatencyReport {
                e2e: Percentiles::of_nanos(&e2e),
                service: Percentiles::of_nanos(&judged.service),
                lag: Percentiles::of_nanos(&judged.lag),
                failed: Percentiles::of_nanos(&judged.failed),
                detect: detect(|_| true),
                detect_crash: detect(|fault| fault.is_kill),
                detect_freeze: detect(|fault| !fault.is_kill),
            },
            workers: WorkersReport {
                added: self.counted.added,
                removed: self.counted.removed,
                corrupt_requests: self.counted.corrupt,
                answers_not_given: self.counted.unanswered,
            },
            disconnects: self.disconnects,
            cpu_s: CpuReport { client: rounded(client, 3), servers: Some(rounded(servers, 3)) },
            cpu_us_per_call: CpuReport {
                client: rounded(client * each, 3),
                servers: Some(rounded(servers * each, 3)),
            },
            arguments: ArgumentsReport::of(self.options),
            series: SeriesReport::of(
                &self.series,
                (self.measured_from_offset_nanos, self.stopped_nanos),
                Vec::new(),
            ),
            surroundings: self.surroundings.with_cpu(&self.cpu),
            faults: self.faults,
            histograms: Histograms(vec![
                ("e2e", e2e),
                ("service", self.judgement.service),
                ("lag", self.judgement.lag),
                ("failed", self.judgement.failed),
            ]),
            intervals: Some(Arc::new(self.series)),
        }
    }

    fn invalid_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (phase, counts) in
            [("measured phase", &self.judgement.measured), ("warm-up", &self.judgement.warmup)]
        {
            for (count, what) in [
                (counts.executed_twice, "calls were executed twice"),
                (counts.executed_though_refused, "calls were executed though their error excludes it"),
                (counts.answered_without_execution, "calls were answered and not executed"),
                (counts.corrupt, "answers were corrupt"),
                (counts.never_ended, "calls never ended"),
                (counts.overdue, "calls ended after their timeout"),
                (counts.to_dead_after_detection, "calls went to a process that was known to be gone"),
                (counts.unexplained, "calls failed for which no fault can be blamed"),
            ] {
                if count > 0 {
                    reasons.push(format!(
                        "in the {phase} {} {what}, of {} calls",
                        grouped(count),
                        grouped(counts.calls)
                    ));
                }
            }
        }
        for (count, what) in [
            (self.judgement.executions_of_nothing, "executions were of no call"),
            (self.counted.corrupt, "requests were corrupt"),
            (self.counted.unanswered, "answers could not be given"),
            (self.disconnects, "unexpected disconnects from the servers"),
        ] {
            if count > 0 {
                reasons.push(format!("{} {what}", grouped(count)));
            }
        }
        for fault in self.faults.iter().filter(|fault| fault.is_kill && fault.detect_nanos.is_none()) {
            reasons.push(format!("{} was not seen by the caller", fault.fault));
        }
        for fault in &self.faults {
            if fault.detect_nanos.is_some() && fault.back_us.is_none() {
                reasons.push(format!("after {} its instances did not come back", fault.fault));
            }
        }
        reasons
    }
}

impl ArgumentsReport {
    pub(crate) fn of(options: &CallsOptions) -> Self {
        let seconds = |duration: std::time::Duration| rounded(duration.as_secs_f64(), 3);
        Self {
            program: program(),
            command_line: command_line(),
            rate: options.rate.per_second(),
            warmup_s: seconds(options.warmup),
            duration_s: seconds(options.duration),
            workers: options.workers,
            processes: options.processes,
            keys: options.keys.name(),
            key_count: options.key_count,
            size_bytes_min: options.size.smallest_bytes,
            size_bytes_max: options.size.largest_bytes,
            churn_s: seconds(options.churn),
            timeout_s: seconds(options.timeout),
            clusters: options.clusters,
            seed: options.seed,
            faults: options
                .faults
                .iter()
                .map(|fault| format!("{:?} {}", fault.at, fault.name('w')))
                .collect(),
        }
    }
}

impl fmt::Display for CallsReport {
    /// The report for people: aligned, short, plain text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "calls       made {}, answered {}, executed {}, twice {}, never ended {}, to the dead {}",
            grouped(counts.calls),
            grouped(counts.answered),
            grouped(counts.executed),
            grouped(counts.executed_twice),
            grouped(counts.never_ended),
            grouped(counts.to_dead_after_detection)
        )?;
        writeln!(
            f,
            "errors      in doubt {}, timeout {}, no responders {}, no service {}, disconnected {}, other {}",
            grouped(counts.in_doubt),
            grouped(counts.timeout),
            grouped(counts.no_responders),
            grouped(counts.no_service),
            grouped(counts.disconnected),
            grouped(counts.too_many + counts.other)
        )?;
        if let Some(told) = backlog_line(counts.calls, self.rate.backlog, "made") {
            writeln!(f, "{told}")?;
        }
        writeln!(f, "rate        {}/s of {}/s asked", whole(self.rate.achieved), grouped(self.rate.asked))?;
        let latency = &self.latency_us;
        let rows = [
            ("end to end", latency.e2e, "from the intended call to the answer"),
            ("service", latency.service, "from the actual call to the answer"),
            ("lag", latency.lag, "intended to actual call"),
            ("failed", latency.failed, "from the intended call to the error"),
            (fault_time("detect_crash"), latency.detect_crash, "SIGKILL until gone for the caller"),
            (fault_time("detect_freeze"), latency.detect_freeze, "SIGSTOP until gone for the caller"),
        ];
        latency_lines(f, &rows)?;
        writeln!(
            f,
            "workers     {} came and {} went while calls were made",
            grouped(self.workers.added),
            grouped(self.workers.removed)
        )?;
        write!(f, "cpu         caller and workers {:.2} s", self.cpu_s.client)?;
        if self.cpu_us_per_call.client > 0.0 {
            write!(f, " ({:.1} us a call)", self.cpu_us_per_call.client)?;
        }
        writeln!(f, ", servers {:.2} s", self.cpu_s.servers.unwrap_or(0.0))?;
        verdict_lines(f, &self.verdict)
    }
}
