//! From what the shards handed in to the report.

use std::sync::Arc;

use croupier::ClusterName;

use crate::beside::BesideReport;
use crate::cpu::CpuTimes;
use crate::fault::{Account, Witness};
use crate::interrupt::Interruption;
use crate::options::RunOptions;
use crate::pace::Pace;
use crate::recorder::Recorder;
use crate::report::{
    ArgumentsReport, ClusterReport, ConnectionsReport, CountsReport, CpuReport, LatencyReport, Percentiles,
    RateReport, Report, SCHEMA, rounded,
};
use crate::results::{Histograms, SeriesReport};
use crate::roles::Pattern;
use crate::surroundings::Surroundings;
use crate::verdict::{Circumstances, Evidence, Remedy};
use crate::worker::{Assignment, Outcome};

/// What is known when a run has ended.
pub(crate) struct Findings<'a> {
    pub(crate) options: &'a RunOptions,
    pub(crate) assignment: &'a Assignment,
    pub(crate) outcomes: Vec<Outcome>,
    /// Of the measured phase.
    pub(crate) cpu: CpuTimes,
    pub(crate) surroundings: Surroundings,
    /// Of a run with faults.
    pub(crate) witness: Option<Witness>,
    pub(crate) interrupted: Option<Interruption>,
    /// Of the closed loop beside this one.
    pub(crate) beside: Option<BesideReport>,
}

/// How far the schedule was kept.
struct Kept {
    unsent: u64,
    /// When it was beyond hope, on the run's clock.
    gave_up_nanos: Option<u64>,
    /// Messages a second.
    achieved: f64,
}

impl Findings<'_> {
    /// Merges the shards and weighs the whole.
    pub(crate) fn report(self) -> Report {
        let clusters = self.assignment.clusters.len();
        let mut recorder = self.assignment.recorder();
        let mut topics_by_cluster = vec![0; clusters];
        let (mut unsent, mut gave_up_nanos, mut connections) = (0, None, ConnectionsReport::default());
        for outcome in &self.outcomes {
            recorder.merge(&outcome.recorder);
            unsent += outcome.unsent;
            gave_up_nanos = [gave_up_nanos, outcome.gave_up_nanos].into_iter().flatten().min();
            connections.add(&outcome.connections);
            for (ours, theirs) in topics_by_cluster.iter_mut().zip(&outcome.topics_by_cluster) {
                *ours += theirs;
            }
        }

        let achieved = self.rate_achieved(&recorder, gave_up_nanos);
        let stopped_nanos = self.interrupted.map(|interruption| interruption.at_nanos).or(gave_up_nanos);
        let kept = Kept { unsent, gave_up_nanos, achieved };
        let has_requests = self.options.pattern == Pattern::Reqrep;
        let account = self.account(&recorder);
        let verdict = self.evidence(&recorder, &connections, &kept, account.as_ref()).verdict();
        // One process ran both loops.
        let delivered =
            recorder.measured.delivered + self.beside.as_ref().map_or(0, |beside| beside.delivered);
        // Of no message there is no share.
        let each = if delivered == 0 { 0.0 } else { 1e6 / delivered as f64 };
        let client = self.cpu.client.as_secs_f64();
        let servers = self.options.config.is_none().then_some(self.cpu.servers.as_secs_f64());
        let surroundings = self.surroundings.clone().with_cpu(&self.cpu);
        let mut histograms = vec![
            ("e2e", recorder.e2e()),
            ("lag", recorder.lag.clone()),
            ("wire", recorder.wire.clone()),
            ("service", recorder.service.clone()),
        ];
        histograms.extend(self.beside.iter().map(|beside| ("closed_loop", beside.e2e.clone())));
        Report {
            schema: SCHEMA,
            scenario: self.options.pattern.name(),
            partial: self.interrupted.is_some(),
            verdict,
            counts: CountsReport::of(&recorder.measured, self.copies()),
            warmup_counts: CountsReport::of(&recorder.warmup, self.copies()),
            rate: RateReport {
                asked: self.options.pace.per_second().round() as u64,
                achieved: rounded(achieved, 1),
                backlog: recorder.backlog,
                unsent,
                busy: recorder.busy,
                refused: recorder.refused,
            },
            latency_us: LatencyReport {
                e2e: Percentiles::of_nanos(&recorder.e2e()),
                lag: Percentiles::of_nanos(&recorder.lag),
                wire: Percentiles::of_nanos(&recorder.wire),
                service: has_requests.then(|| Percentiles::of_nanos(&recorder.service)),
            },
            requests: has_requests.then_some(recorder.requests),
            beside: self.beside.clone(),
            find_max: None,
            steps: recorder.steps.reports(self.assignment.schedule.steps(), self.copies()),
            cpu_s: CpuReport {
                client: rounded(client, 3),
                servers: servers.map(|servers| rounded(servers, 3)),
            },
            cpu_us_per_message: CpuReport {
                client: rounded(client * each, 3),
                servers: servers.map(|servers| rounded(servers * each, 3)),
            },
            clusters: clusters_report(&self.assignment.clusters, &recorder, &topics_by_cluster),
            connections,
            series: SeriesReport::of(
                &recorder.series,
                (self.assignment.schedule.measured_from_nanos(), stopped_nanos),
                self.assignment.clusters.iter().map(ToString::to_string).collect(),
            ),
            faults: account.map(|account| account.reports).unwrap_or_default(),
            arguments: ArgumentsReport::of(self.options, clusters),
            surroundings,
            histograms: Histograms(histograms),
            intervals: Some(Arc::new(recorder.series)),
        }
    }

    /// What was sent once the measured phase had begun, by the time that it took: the phase's own, or longer when the
    /// last message was late. A backlog of the warm-up is part of it, but no reason to have sent more than was asked for.
    fn rate_achieved(&self, recorder: &Recorder, gave_up_nanos: Option<u64>) -> f64 {
        let schedule = &self.assignment.schedule;
        let from_nanos = schedule.measured_from_nanos();
        let interrupted = self.interrupted.map(|interruption| interruption.at_nanos);
        let until_nanos = interrupted.or(gave_up_nanos).unwrap_or(schedule.end_nanos());
        let asked_nanos = until_nanos.saturating_sub(from_nanos);
        let took_nanos = recorder.last_sent_nanos.saturating_sub(from_nanos).max(asked_nanos).max(1);
        let messages = (recorder.measured.sent + recorder.refused + recorder.backlog) / self.copies();
        let achieved = messages as f64 / (took_nanos as f64 / 1e9);
        match self.options.pace {
            Pace::Closed { .. } => achieved,
            pace => achieved.min(pace.per_second()),
        }
    }

    /// Servers on this machine, as far as is known.
    fn servers(&self) -> usize {
        match self.options.config {
            Some(_) => 0,
            None => self.options.clusters * self.options.nodes,
        }
    }

    /// How often each message is to arrive.
    fn copies(&self) -> u64 {
        self.assignment.roles.copies().max(1) as u64
    }

    fn account(&self, recorder: &Recorder) -> Option<Account> {
        let schedule = &self.assignment.schedule;
        let names: Vec<String> = self.assignment.clusters.iter().map(ToString::to_string).collect();
        let until_nanos = self.interrupted.map_or(schedule.end_nanos(), |interruption| interruption.at_nanos);
        let (witness, ledger) = self.witness.as_ref().zip(recorder.ledger.as_ref())?;
        Some(witness.account(ledger, &names, schedule.measured_from_nanos(), until_nanos))
    }

    /// How the requests ended that were not answered.
    fn unanswered(&self, recorder: &Recorder) -> Option<String> {
        let is_whole = recorder.requests.answered == recorder.measured.sent;
        (self.options.pattern == Pattern::Reqrep && !is_whole)
            .then(|| format!("of the requests: {}", recorder.requests))
    }

    fn interruption(&self) -> Option<String> {
        let measured_from_nanos = self.assignment.schedule.measured_from_nanos();
        self.interrupted.map(|interruption| interruption.reason(measured_from_nanos))
    }

    fn evidence(
        &self,
        recorder: &Recorder,
        connections: &ConnectionsReport,
        kept: &Kept,
        account: Option<&Account>,
    ) -> Evidence {
        Evidence {
            warmup: recorder.warmup,
            measured: recorder.measured,
            disconnects: connections.disconnects,
            slow_consumer_drops: connections.slow_consumer_drops,
            faults: account.map(|account| (account.excused, account.reasons.clone())),
            // With faults it is the ledger that knows which of them are explained.
            unanswered: self.unanswered(recorder).filter(|_| account.is_none()),
            circumstances: Circumstances {
                interruption: self.interruption(),
                unit: self.options.pattern.unit(),
                gave_up_nanos: kept
                    .gave_up_nanos
                    .map(|at| at.saturating_sub(self.assignment.schedule.measured_from_nanos())),
                unsent: kept.unsent,
                rate_asked: self.options.pace.per_second(),
                rate_achieved: kept.achieved,
                remedy: match self.options.pace {
                    Pace::Steady(_) => Remedy::RateOrSearch,
                    Pace::Ramp(_) | Pace::Closed { .. } => Remedy::Other,
                },
                is_debug_build: cfg!(debug_assertions),
                lag_p99_nanos: recorder.lag.value_at_quantile(0.99),
                latency: "end-to-end",
                e2e_p99_nanos: recorder.e2e().value_at_quantile(0.99),
                e2e_medians_nanos: recorder
                    .e2e_medians()
                    .filter(|_| self.assignment.schedule.steps().is_empty()),
                steal_share: self.cpu.steal_share(),
                others_share: self.cpu.others_share(),
                others_have_servers: self.options.config.is_some(),
                pressure_before_percent: self.surroundings.pressure_before_percent,
                cores: self.surroundings.cores,
                roles: self.assignment.roles.shards + self.servers(),
            },
        }
    }
}

fn clusters_report(names: &[ClusterName], recorder: &Recorder, topics: &[u64]) -> Vec<ClusterReport> {
    let all = recorder.delivered_by_cluster.iter().sum::<u64>().max(1) as f64;
    names
        .iter()
        .zip(&recorder.delivered_by_cluster)
        .zip(topics)
        .map(|((name, delivered), topics)| ClusterReport {
            name: name.to_string(),
            share: rounded(*delivered as f64 / all, 4),
            delivered: *delivered,
            topics: *topics,
        })
        .collect()
}
