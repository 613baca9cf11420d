//! The report of a registry run, for programs and for people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::convergence::{ChangeCounts, Convergence};
use super::faults::{FaultReport, Kind};
use super::protocol::Traffic;
use super::seconds;
use crate::cpu::CpuTimes;
use crate::interrupt::Interruption;
use crate::options::RegistryOptions;
use crate::quantity::{counted, grouped, whole};
use crate::recorder::histogram;
use crate::report::{CpuReport, Percentiles, SCHEMA, command_line, program, rounded};
use crate::results::{Histograms, RunReport, SeriesReport};
use crate::schedule::Schedule;
use crate::series::Series;
use crate::slo::Measures;
use crate::summary::{fault_time, latency_lines, verdict_lines};
use crate::surroundings::Surroundings;
use crate::verdict::{Circumstances, Remedy, Verdict};

/// Everything that is known about a run when it has ended.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct RegistryReport {
    pub(crate) schema: u32,
    pub(crate) scenario: &'static str,
    /// Whether a signal ended the run before its time.
    partial: bool,
    pub(crate) verdict: Verdict,
    /// The measured phase.
    counts: ChangeCounts,
    warmup_counts: ChangeCounts,
    sightings: SightingsReport,
    rate: RateReport,
    latency_us: LatencyReport,
    bytes: BytesReport,
    memory: MemoryReport,
    faults: Vec<FaultReport>,
    state: StateReport,
    links: LinksReport,
    cpu_s: CpuReport,
    /// The same for each change that one node saw of another; 0 when none was seen.
    cpu_us_per_sighting: CpuReport,
    /// Of changes: made as sent, seen by the last node as delivered.
    series: SeriesReport,
    arguments: ArgumentsReport,
    surroundings: Surroundings,
    #[serde(skip)]
    histograms: Histograms,
    #[serde(skip)]
    intervals: Option<Arc<Series>>,
}

/// What a goal of a registry run can be about.
pub(crate) const MEASURES: Measures = Measures {
    latencies: &["converge", "first", "wire", "lag"],
    counts: &["missing", "never_shown", "impossible", "changes", "seen"],
};

impl RunReport for RegistryReport {
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
        self.intervals.as_deref().map(|series| ("converge", series))
    }
}

/// What the watches told beside each change once, over the whole run.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct SightingsReport {
    /// Seen only in what a later change of the same service made of them.
    superseded: u64,
    repeated: u64,
    unexplained: u64,
}

/// Changes a second.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct RateReport {
    asked: u64,
    achieved: f64,
    unsent: u64,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct LatencyReport {
    /// From the intended time of a change until the last node had seen it.
    converge: Percentiles,
    /// From the intended time until the first other node had seen it.
    first: Percentiles,
    /// From the actual time until the last node had seen it.
    wire: Percentiles,
    /// From the intended to the actual time.
    lag: Percentiles,
    /// From a signal until a node's services were gone on every other node; one value for each node and
    /// fault.
    detect: Percentiles,
    detect_crash: Percentiles,
    detect_freeze: Percentiles,
    /// From the begin of a partition until a node's services were gone on every node of its other side.
    detect_partition: Percentiles,
    /// From the restart of a process until every other node had its nodes' services again.
    back_crash: Percentiles,
    /// The same from the end of standing still.
    back_freeze: Percentiles,
    /// The same from the end of a partition, on the nodes of its other side.
    back_partition: Percentiles,
}

/// What the nodes sent each other.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct BytesReport {
    /// Less what heartbeats and digests take in the same time.
    per_change_and_receiver: f64,
    /// With them.
    per_change_and_receiver_with_heartbeats: f64,
    idle_per_second: f64,
    sent: u64,
    frames_sent: u64,
    /// Changes in the time that was counted.
    changes: u64,
    method: &'static str,
}

/// What services take in memory.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct MemoryReport {
    bytes_per_entry: f64,
    resident_bytes_before: u64,
    resident_bytes_after: u64,
    /// Services times the nodes that list each.
    entries: u64,
    method: &'static str,
}

/// Whether all nodes listed exactly what they had to.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct StateReport {
    agreed_after_the_changes: bool,
    agreed_after_the_faults: bool,
    /// Services of all nodes together at the end.
    services: u64,
    /// Times that a node found another one gone that was not.
    false_alarms: u64,
}

/// The links between the nodes in the measured phase.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
struct LinksReport {
    closed: u64,
    refused: u64,
    repairs: u64,
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
    registry_nodes: usize,
    processes: usize,
    entries: usize,
    clusters: usize,
    shards: usize,
    faults: Vec<String>,
}

/// What is known when a run has ended.
pub(super) struct Findings<'a> {
    pub(super) options: &'a RegistryOptions,
    pub(super) schedule: &'a Schedule,
    pub(super) interrupted: Option<Interruption>,
    pub(super) convergence: Convergence,
    pub(super) bytes: BytesReport,
    pub(super) traffic: Traffic,
    pub(super) memory: MemoryReport,
    pub(super) faults: Vec<FaultReport>,
    /// After the changes and after the faults: what differed, if anything did.
    pub(super) agreed: [Option<String>; 2],
    pub(super) services: u64,
    pub(super) false_alarms: u64,
    pub(super) cpu: CpuTimes,
    pub(super) surroundings: Surroundings,
}

impl BytesReport {
    /// From what was sent in `lasted` with changes and in `idle_for` without, where each change goes to
    /// `receivers`.
    pub(super) fn of(
        traffic: &Traffic,
        lasted: Duration,
        idle: &Traffic,
        idle_for: Duration,
        receivers: u64,
    ) -> Self {
        let idle_per_second = idle.bytes_sent as f64 / idle_for.as_secs_f64().max(1e-9);
        let heartbeats = idle_per_second * lasted.as_secs_f64();
        let each = |bytes: f64| rounded(bytes.max(0.0) / (traffic.made * receivers).max(1) as f64, 1);
        Self {
            per_change_and_receiver: each(traffic.bytes_sent as f64 - heartbeats),
            per_change_and_receiver_with_heartbeats: each(traffic.bytes_sent as f64),
            idle_per_second: rounded(idle_per_second, 1),
            sent: traffic.bytes_sent,
            frames_sent: traffic.frames_sent,
            changes: traffic.made,
            method: "bytes sent by all nodes in the measured phase, less the rate of two idle seconds before \
                     the changes, by changes times the other nodes",
        }
    }
}

impl MemoryReport {
    /// From the resident bytes of all processes before and after `services` services were listed on each of
    /// `nodes` nodes.
    pub(super) fn of(before: u64, after: u64, services: u64, nodes: u64) -> Self {
        let entries = services * nodes;
        Self {
            bytes_per_entry: rounded(after.saturating_sub(before) as f64 / entries.max(1) as f64, 1),
            resident_bytes_before: before,
            resident_bytes_after: after,
            entries,
            method: "growth of the resident memory of all worker processes while the services were added, by \
                     services times the nodes that list them; with tables, handles and inboxes; below some \
                     ten thousand entries a node, fixed costs prevail",
        }
    }
}

impl Findings<'_> {
    /// Weighs everything.
    pub(super) fn report(self) -> RegistryReport {
        let convergence = &self.convergence;
        let converge = convergence.converge();
        let asked = self.options.rate.per_second();
        let achieved = self.rate_achieved();
        let measured_from_nanos = self.schedule.measured_from_nanos();
        let circumstances = Circumstances {
            interruption: self.interrupted.map(|interruption| interruption.reason(measured_from_nanos)),
            unit: "changes",
            rate_asked: asked as f64,
            rate_achieved: achieved,
            remedy: Remedy::Rate,
            gave_up_nanos: None,
            unsent: convergence.unsent,
            is_debug_build: cfg!(debug_assertions),
            lag_p99_nanos: convergence.lag.value_at_quantile(0.99),
            latency: "converge",
            e2e_p99_nanos: converge.value_at_quantile(0.99),
            e2e_medians_nanos: convergence.medians(),
            steal_share: self.cpu.steal_share(),
            others_share: self.cpu.others_share(),
            others_have_servers: false,
            pressure_before_percent: self.surroundings.pressure_before_percent,
            cores: self.surroundings.cores,
            roles: self.options.nodes * self.options.shards + self.options.clusters,
        };
        let mut invalid = self.invalid_reasons();
        invalid.extend(circumstances.invalid_reasons());
        let never_shown = convergence.measured.never_shown + convergence.warmup.never_shown;
        let mut degraded = circumstances.degraded_reasons();
        if never_shown > 0 {
            degraded.push(format!(
                "nodes were so far behind that services came and went unseen: {} sightings",
                grouped(never_shown)
            ));
        }
        let verdict = Verdict::of(invalid, degraded);

        let times = |kind: Kind, of: fn(&FaultReport) -> &Vec<Option<u64>>| {
            let mut times = histogram();
            for fault in self.faults.iter().filter(|fault| fault.kind == kind) {
                of(fault).iter().flatten().for_each(|nanos| times.saturating_record(*nanos));
            }
            times
        };
        let [detect_crash, detect_freeze, detect_partition] =
            [Kind::Kill, Kind::Freeze, Kind::Partition].map(|kind| times(kind, |fault| &fault.detect_nanos));
        let mut detect: Histogram<u64> = detect_crash.clone();
        crate::recorder::merge(&mut detect, &detect_freeze);
        crate::recorder::merge(&mut detect, &detect_partition);

        let (client, servers) = (self.cpu.client.as_secs_f64(), self.cpu.servers.as_secs_f64());
        let each = match convergence.measured.seen {
            0 => 0.0,
            seen => 1e6 / seen as f64,
        };
        let surroundings = self.surroundings.clone().with_cpu(&self.cpu);
        RegistryReport {
            schema: SCHEMA,
            scenario: RegistryOptions::SCENARIO,
            partial: self.interrupted.is_some(),
            verdict,
            counts: convergence.measured,
            warmup_counts: convergence.warmup,
            sightings: SightingsReport {
                superseded: convergence.superseded,
                repeated: convergence.repeated,
                unexplained: convergence.unexplained,
            },
            rate: RateReport { asked, achieved: rounded(achieved, 1), unsent: convergence.unsent },
            latency_us: LatencyReport {
                converge: Percentiles::of_nanos(&converge),
                first: Percentiles::of_nanos(&convergence.first),
                wire: Percentiles::of_nanos(&convergence.wire),
                lag: Percentiles::of_nanos(&convergence.lag),
                detect: Percentiles::of_nanos(&detect),
                detect_crash: Percentiles::of_nanos(&detect_crash),
                detect_freeze: Percentiles::of_nanos(&detect_freeze),
                detect_partition: Percentiles::of_nanos(&detect_partition),
                back_crash: Percentiles::of_nanos(&times(Kind::Kill, |fault| &fault.back_nanos)),
                back_freeze: Percentiles::of_nanos(&times(Kind::Freeze, |fault| &fault.back_nanos)),
                back_partition: Percentiles::of_nanos(&times(Kind::Partition, |fault| &fault.back_nanos)),
            },
            bytes: self.bytes.clone(),
            memory: self.memory.clone(),
            state: StateReport {
                agreed_after_the_changes: self.agreed[0].is_none(),
                agreed_after_the_faults: self.agreed[1].is_none(),
                services: self.services,
                false_alarms: self.false_alarms,
            },
            links: LinksReport {
                closed: self.traffic.links_closed,
                refused: self.traffic.refused,
                repairs: self.traffic.repairs,
            },
            cpu_s: CpuReport { client: rounded(client, 3), servers: Some(rounded(servers, 3)) },
            cpu_us_per_sighting: CpuReport {
                client: rounded(client * each, 3),
                servers: Some(rounded(servers * each, 3)),
            },
            series: SeriesReport::of(
                &convergence.series,
                (
                    self.schedule.measured_from_nanos(),
                    self.interrupted.map(|interruption| interruption.at_nanos),
                ),
                Vec::new(),
            ),
            arguments: ArgumentsReport::of(self.options),
            faults: self.faults,
            surroundings,
            histograms: Histograms(vec![
                ("converge", converge),
                ("first", self.convergence.first),
                ("wire", self.convergence.wire),
                ("lag", self.convergence.lag),
            ]),
            intervals: Some(Arc::new(self.convergence.series)),
        }
    }

    /// Changes of the measured phase by the time that they took.
    fn rate_achieved(&self) -> f64 {
        let from_nanos = self.schedule.measured_from_nanos();
        let until_nanos = self.interrupted.map_or(u64::MAX, |interruption| interruption.at_nanos);
        let asked_nanos = self.schedule.end_nanos().min(until_nanos).saturating_sub(from_nanos);
        let took_nanos = self.convergence.last_made_nanos.saturating_sub(from_nanos).max(asked_nanos).max(1);
        self.convergence.measured.changes as f64 / (took_nanos as f64 / 1e9)
    }

    fn invalid_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let found = &self.convergence;
        for (phase, counts) in [("measured phase", &found.measured), ("warm-up", &found.warmup)] {
            if counts.missing > 0 || counts.impossible > 0 {
                reasons.push(format!(
                    "wrong counts in the {phase}: of {} sightings {} are missing and {} impossible",
                    grouped(counts.to_be_seen),
                    grouped(counts.missing),
                    grouped(counts.impossible)
                ));
            }
        }
        if found.repeated > 0 || found.unexplained > 0 {
            reasons.push(format!(
                "{} changes were seen again, and {} events are of no change",
                grouped(found.repeated),
                grouped(found.unexplained)
            ));
        }
        for (when, differing) in ["after the changes", "after the faults"].iter().zip(&self.agreed) {
            if let Some(differing) = differing {
                reasons.push(format!("the nodes do not agree {when}: {differing}"));
            }
        }
        if self.false_alarms > 0 {
            reasons.push(format!(
                "{} times a node found another one gone that was not",
                grouped(self.false_alarms)
            ));
        }
        if self.traffic.links_closed > 0 {
            reasons.push(format!(
                "{} unexpected disconnects between the nodes",
                grouped(self.traffic.links_closed)
            ));
        }
        if self.traffic.refused > 0 {
            reasons.push(format!("{} frames or connections were refused", grouped(self.traffic.refused)));
        }
        for fault in &self.faults {
            if fault.must_be_detected && fault.detect_nanos.iter().any(Option::is_none) {
                let who = if fault.kind == Kind::Partition { "node on its other side" } else { "other node" };
                reasons.push(format!("{} was not seen by every {who}", fault.fault));
            }
            let was_gone = |place: &usize| fault.detect_nanos[*place].is_some() || fault.kind == Kind::Kill;
            if (0..fault.back_nanos.len()).any(|place| was_gone(&place) && fault.back_nanos[place].is_none())
            {
                reasons.push(format!("after {} its nodes did not come back everywhere", fault.fault));
            }
        }
        reasons
    }
}

impl ArgumentsReport {
    pub(crate) fn of(options: &RegistryOptions) -> Self {
        Self {
            program: program(),
            command_line: command_line(),
            rate: options.rate.per_second(),
            warmup_s: seconds(options.warmup),
            duration_s: seconds(options.duration),
            registry_nodes: options.nodes,
            processes: options.processes,
            entries: options.entries,
            clusters: options.clusters,
            shards: options.shards,
            faults: options.faults.iter().map(|fault| format!("{:?} {}", fault.at(), fault.name())).collect(),
        }
    }
}

impl fmt::Display for RegistryReport {
    /// The report for people: aligned, short, plain text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "changes     made {} (added {}, updated {}, removed {}), seen {} of {}, missing {}, superseded {}",
            grouped(counts.changes),
            grouped(counts.adds),
            grouped(counts.updates),
            grouped(counts.removals),
            grouped(counts.seen),
            grouped(counts.to_be_seen),
            grouped(counts.missing),
            grouped(self.sightings.superseded)
        )?;
        writeln!(f, "rate        {}/s of {}/s asked", whole(self.rate.achieved), grouped(self.rate.asked))?;
        let latency = &self.latency_us;
        let rows = [
            ("converge", latency.converge, "intended change to the last node"),
            ("first", latency.first, "intended change to the first other node"),
            ("wire", latency.wire, "actual change to the last node"),
            ("lag", latency.lag, "intended to actual change"),
            (fault_time("detect_crash"), latency.detect_crash, "SIGKILL until gone on every other node"),
            (fault_time("detect_freeze"), latency.detect_freeze, "SIGSTOP until gone on every other node"),
            (fault_time("back_crash"), latency.back_crash, "restart until back on every other node"),
            (fault_time("back_freeze"), latency.back_freeze, "SIGCONT until back on every other node"),
            (
                fault_time("detect_partition"),
                latency.detect_partition,
                "partition until gone on every node beyond it",
            ),
            (
                fault_time("back_partition"),
                latency.back_partition,
                "its end until back on every node beyond it",
            ),
        ];
        latency_lines(f, &rows)?;
        writeln!(
            f,
            "bytes       {} a change and receiver, {} with heartbeats ({} B/s when idle)",
            whole(self.bytes.per_change_and_receiver),
            whole(self.bytes.per_change_and_receiver_with_heartbeats),
            whole(self.bytes.idle_per_second)
        )?;
        writeln!(
            f,
            "memory      {} B an entry, over {}: each service on each node (resident memory, all processes)",
            whole(self.memory.bytes_per_entry),
            counted(self.memory.entries, "entry")
        )?;
        writeln!(
            f,
            "cpu         nodes {:.2} s ({}), servers {:.2} s",
            self.cpu_s.client,
            match self.counts.seen {
                0 => "no change was seen".to_owned(),
                _ => format!("{:.1} us a sighting", self.cpu_us_per_sighting.client),
            },
            self.cpu_s.servers.unwrap_or(0.0)
        )?;
        let agreed = self.state.agreed_after_the_changes && self.state.agreed_after_the_faults;
        let agreed = if agreed { "all nodes list exactly these" } else { "the nodes do not agree" };
        writeln!(f, "services    {} at the end; {agreed}", grouped(self.state.services))?;
        verdict_lines(f, &self.verdict)
    }
}
