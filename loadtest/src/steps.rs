//! The figures of each step of a ramp, by the times at which its messages were intended.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::quantity::{grouped, whole};
use crate::recorder::{histogram, merge};
use crate::report::{Percentiles, rounded};
use crate::schedule::Step;
use crate::sparse;

/// The steps of a run, which are of one length and follow each other; none of a run without a ramp.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Steps {
    from_nanos: u64,
    each_nanos: u64,
    all: Vec<StepFigures>,
}

/// What became of the messages that were due in one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StepFigures {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// When the last of them was sent, on the run's clock.
    pub(crate) last_sent_nanos: u64,
    /// From the intended send to the delivery.
    #[serde(with = "sparse")]
    pub(crate) e2e: Histogram<u64>,
    /// From the intended to the actual send.
    #[serde(with = "sparse")]
    pub(crate) lag: Histogram<u64>,
}

/// A step of a ramp, as it is reported.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct StepReport {
    /// Seconds after the start of the measured phase.
    pub(crate) from_s: f64,
    pub(crate) until_s: f64,
    /// Messages a second that were asked for, and that were sent.
    pub(crate) asked: u64,
    pub(crate) achieved: f64,
    /// Deliveries that are due: of a fan-out each message as often as its topic has subscribers.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// In microseconds, as those of the whole run.
    pub(crate) e2e: Percentiles,
    pub(crate) lag: Percentiles,
}

impl Steps {
    pub(crate) fn new(steps: &[Step]) -> Self {
        let Some(first) = steps.first() else { return Self::default() };
        let empty =
            StepFigures { sent: 0, delivered: 0, last_sent_nanos: 0, e2e: histogram(), lag: histogram() };
        Self {
            from_nanos: first.from_nanos,
            each_nanos: (first.until_nanos - first.from_nanos).max(1),
            all: vec![empty; steps.len()],
        }
    }

    /// A message left, and is to arrive so many times.
    pub(crate) fn sent(&mut self, copies: u64, intended_nanos: u64, actual_nanos: u64) {
        if let Some(step) = self.of(intended_nanos) {
            step.sent += copies;
            step.last_sent_nanos = step.last_sent_nanos.max(actual_nanos);
            step.lag.saturating_record(actual_nanos.saturating_sub(intended_nanos));
        }
    }

    /// A distinct message arrived intact.
    pub(crate) fn delivered(&mut self, intended_nanos: u64, delivered_nanos: u64) {
        if let Some(step) = self.of(intended_nanos) {
            step.delivered += 1;
            step.e2e.saturating_record(delivered_nanos.saturating_sub(intended_nanos));
        }
    }

    /// Adds what another shard of the same run saw.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.all.iter_mut().zip(&other.all) {
            ours.sent += theirs.sent;
            ours.delivered += theirs.delivered;
            ours.last_sent_nanos = ours.last_sent_nanos.max(theirs.last_sent_nanos);
            merge(&mut ours.e2e, &theirs.e2e);
            merge(&mut ours.lag, &theirs.lag);
        }
    }

    /// In their order; `plan` is what they were made from, and each message has so many copies.
    pub(crate) fn reports(&self, plan: &[Step], copies: u64) -> Vec<StepReport> {
        let seconds = |nanos: u64| rounded(nanos.saturating_sub(self.from_nanos) as f64 / 1e9, 3);
        let report = |(step, figures): (&Step, &StepFigures)| StepReport {
            from_s: seconds(step.from_nanos),
            until_s: seconds(step.until_nanos),
            asked: step.rate.per_second(),
            achieved: rounded(figures.rate(step, copies), 1),
            sent: figures.sent,
            delivered: figures.delivered,
            lost: figures.sent.saturating_sub(figures.delivered),
            e2e: Percentiles::of_nanos(&figures.e2e),
            lag: Percentiles::of_nanos(&figures.lag),
        };
        plan.iter().zip(&self.all).map(report).collect()
    }

    fn of(&mut self, intended_nanos: u64) -> Option<&mut StepFigures> {
        if self.all.is_empty() {
            return None;
        }
        let place = intended_nanos.checked_sub(self.from_nanos)? / self.each_nanos;
        self.all.get_mut(usize::try_from(place).ok()?)
    }
}

impl StepFigures {
    /// Messages by the time that they took: the step's own, or longer when the last of them was late.
    fn rate(&self, step: &Step, copies: u64) -> f64 {
        let until_nanos = self.last_sent_nanos.max(step.until_nanos);
        let took_nanos = until_nanos.saturating_sub(step.from_nanos).max(1);
        (self.sent / copies.max(1)) as f64 / (took_nanos as f64 / 1e9)
    }
}

impl StepReport {
    /// The heading of the lines that steps are displayed in.
    pub(crate) const HEADING: &'static str =
        "steps           asked/s   achieved/s     lost    p50 us    p99 us  p99.9 us    lag p99";
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sent == 0 {
            // Nothing has no latency of zero.
            let asked = grouped(self.asked);
            return writeln!(f, "  {:>6.1} s  {asked:>11}  not come to: the run ended before", self.from_s);
        }
        writeln!(
            f,
            "  {:>6.1} s  {:>11}  {:>11}  {:>7} {:>9} {:>9} {:>9}  {:>9}",
            self.from_s,
            grouped(self.asked),
            grouped(self.achieved.round() as u64),
            grouped(self.lost),
            whole(self.e2e.p50),
            whole(self.e2e.p99),
            whole(self.e2e.p999),
            whole(self.lag.p99)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Rate;

    #[test]
    fn a_message_belongs_to_the_step_in_which_it_was_due() {
        let step = |from_nanos| Step { rate: Rate::of(1), from_nanos, until_nanos: from_nanos + 100 };
        let plan = [step(50), step(150)];
        let mut steps = Steps::new(&plan);
        for intended in [0, 49, 50, 149, 150, 249, 250, u64::MAX] {
            steps.sent(3, intended, intended.saturating_add(7));
            steps.delivered(intended, intended.saturating_add(500));
        }
        let mut other = Steps::new(&plan);
        other.sent(3, 60, 1_000);
        steps.merge(&other);
        let reports = steps.reports(&plan, 3);
        let seen: Vec<_> = reports.iter().map(|step| (step.sent, step.delivered, step.lost)).collect();
        assert_eq!(seen, [(9, 2, 7), (6, 2, 4)]);
        assert_eq!((reports[1].from_s, steps.all[1].lag.max(), steps.all[1].e2e.max()), (0.0, 7, 500));
        // Three messages until 1000 ns instead of 150, and two until 256 instead of 250.
        assert_eq!((reports[0].achieved, reports[1].achieved), (3_157_894.7, 18_867_924.5));
    }

    #[test]
    fn a_step_that_the_run_did_not_come_to_has_no_figures() {
        let step = |from_nanos| Step { rate: Rate::of(5_000), from_nanos, until_nanos: from_nanos + 100 };
        let plan = [step(0), step(100)];
        let mut steps = Steps::new(&plan);
        steps.sent(1, 50, 51);
        steps.delivered(50, 60);
        let told: Vec<String> = steps.reports(&plan, 1).iter().map(ToString::to_string).collect();
        assert!(!told[0].contains("not come to"), "{told:?}");
        assert_eq!(told[1], "     0.0 s        5 000  not come to: the run ended before\n");
    }

    #[test]
    fn a_run_without_a_ramp_has_none() {
        let mut steps = Steps::new(&[]);
        steps.sent(1, 0, 0);
        assert!(steps.reports(&[], 1).is_empty());
    }
}
