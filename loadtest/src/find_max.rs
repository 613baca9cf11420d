//! The highest rate that meets an objective, by a bounded search: each try is a run.

use std::fmt;

use serde::Serialize;

use crate::console::Console;
use crate::interrupt::Interrupt;
use crate::options::RunOptions;
use crate::quantity::{Rate, grouped, whole};
use crate::report::{CountsReport, Report};
use crate::scenario::{self, RunError};
use crate::slo::{Measured, Slo};
use crate::verdict::{RATE_ACHIEVED_MIN, Status, Verdict};

/// What the search found, and how.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct FindMaxReport {
    pub(crate) objective: String,
    /// Messages a second; none when no rate that was tried met it.
    pub(crate) best: Option<u64>,
    /// In their order.
    pub(crate) tries: Vec<TryReport>,
}

/// One run of the search.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct TryReport {
    pub(crate) asked: u64,
    pub(crate) achieved: f64,
    pub(crate) lost: u64,
    /// What the objective is about, in microseconds; absent when nothing was measured.
    pub(crate) measured_us: Option<f64>,
    pub(crate) met: bool,
    /// Why it was not; empty when it was.
    pub(crate) reason: String,
}

/// A search between a rate that is met and one that is not, once both are known.
#[derive(Clone, Debug)]
struct Search {
    met: Option<u64>,
    missed: Option<u64>,
    next: u64,
    tries: usize,
}

/// Each is a run with its warm-up.
const TRIES_MAX: usize = 20;

/// The search ends when the rates are nearer to each other than this part of the lower.
const PRECISION: f64 = 0.05;

/// Runs until the highest rate is known well enough; the report is that of the run with this rate.
pub(crate) fn run(
    options: &RunOptions,
    objective: &Slo,
    console: Console,
    interrupt: &Interrupt,
) -> Result<Report, RunError> {
    let mut search = Search::from(options.rate);
    let mut tries: Vec<TryReport> = Vec::new();
    let (mut best, mut last) = (None, None);
    while let Some(rate) = search.next() {
        console.line(format_args!("try {:<8}{rate}, for {objective}", tries.len() + 1));
        let report = scenario::run_once(&options.at(rate), console, interrupt)?;
        if report.partial {
            return Ok(report);
        }
        let made = TryReport::of(rate, objective, &report)?;
        console.line(&made);
        search.tell(made.met);
        if made.met {
            best = Some(report);
        } else {
            last = Some(report);
        }
        tries.push(made);
    }
    let found = FindMaxReport { objective: objective.to_string(), best: search.met, tries };
    let Some(mut report) = best.or(last) else {
        return Err(RunError::Stuck { what: "be tried at any rate", waited: options.duration });
    };
    if found.best.is_none() {
        let mut reasons = vec![format!("none of the {} rates tried met {objective}", found.tries.len())];
        reasons.append(&mut report.verdict.reasons);
        report.verdict = Verdict { status: Status::Invalid, reasons };
    }
    report.find_max = Some(found);
    Ok(report)
}

impl Search {
    fn from(first: Rate) -> Self {
        Self { met: None, missed: None, next: first.per_second(), tries: 0 }
    }

    /// The rate to try; none when the search has ended.
    fn next(&self) -> Option<Rate> {
        let is_narrow = self.met.zip(self.missed).is_some_and(|(met, missed)| {
            missed <= met + 1 || (missed - met) as f64 <= met as f64 * PRECISION
        });
        let is_at_the_end = self.met == Some(Rate::MAX_PER_SECOND) || self.missed == Some(1);
        (!is_narrow && !is_at_the_end && self.tries < TRIES_MAX).then(|| Rate::of(self.next))
    }

    /// Takes whether the rate that was tried met the objective.
    fn tell(&mut self, is_met: bool) {
        self.tries += 1;
        if is_met {
            self.met = Some(self.next);
        } else {
            self.missed = Some(self.next);
        }
        self.next = match (self.met, self.missed) {
            (Some(met), Some(missed)) => met.midpoint(missed),
            (Some(met), None) => (met * 2).min(Rate::MAX_PER_SECOND),
            (None, Some(missed)) => (missed / 2).max(1),
            (None, None) => self.next,
        };
    }
}

impl TryReport {
    fn of(rate: Rate, objective: &Slo, report: &Report) -> Result<Self, RunError> {
        let value = serde_json::to_value(report)?;
        let judged = objective.judge(&Measured { histograms: &report.histograms, report: &value });
        let reason = unsound(rate, report).or_else(|| (!judged.met).then_some(judged.told));
        Ok(Self {
            asked: rate.per_second(),
            achieved: report.rate.achieved,
            lost: report.counts.lost,
            measured_us: judged.measured,
            met: reason.is_none(),
            reason: reason.unwrap_or_default(),
        })
    }
}

/// What makes a run INVALID, other than the kind of the build, which no rate can change.
fn unsound(rate: Rate, report: &Report) -> Option<String> {
    let is_exact = |counts: &CountsReport| {
        counts.lost == 0 && counts.duplicate == 0 && counts.reordered == 0 && counts.corrupt == 0
    };
    let achieved_min = rate.per_second() as f64 * RATE_ACHIEVED_MIN;
    match report {
        report if !is_exact(&report.counts) || !is_exact(&report.warmup_counts) => {
            Some(format!("lost {}, or worse", grouped(report.counts.lost + report.warmup_counts.lost)))
        }
        report if report.rate.unsent > 0 => Some(format!("{} not sent in time", grouped(report.rate.unsent))),
        report if report.rate.achieved < achieved_min => Some("the rate was not reached".to_owned()),
        report if report.connections.disconnects > 0 => Some("a disconnect".to_owned()),
        report if report.connections.slow_consumer_drops > 0 => Some("a slow consumer".to_owned()),
        _ => None,
    }
}

impl fmt::Display for TryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = self.measured_us.map_or_else(|| "-".to_owned(), whole);
        write!(
            f,
            "  {:>11}/s  achieved {:>11}/s  lost {:>7}  measured {measured:>9} us  {}",
            grouped(self.asked),
            grouped(self.achieved.round() as u64),
            grouped(self.lost),
            if self.met { "met" } else { "missed" }
        )?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl fmt::Display for FindMaxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.best {
            Some(best) => writeln!(f, "highest     {}/s meets {}", grouped(best), self.objective)?,
            None => writeln!(f, "highest     no rate met {}", self.objective)?,
        }
        self.tries.iter().try_for_each(|made| writeln!(f, "{made}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::MEASURES;
    use crate::report::tests::sample;

    /// The rates tried, and the best, where all up to `limit` meet the objective.
    fn search(first: u64, limit: u64) -> (Vec<u64>, Option<u64>) {
        let mut search = Search::from(Rate::of(first));
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate.per_second());
            search.tell(rate.per_second() <= limit);
        }
        (tried, search.met)
    }

    #[test]
    fn the_search_ends_near_the_limit_and_below_it() {
        for limit in [1, 2, 7, 50, 999, 20_000, 20_001, 123_456, 3_000_000] {
            for first in [1, 1_000, 20_000] {
                let (tried, best) = search(first, limit);
                let best = best.unwrap_or_else(|| panic!("{limit} from {first}: {tried:?}"));
                assert!(best <= limit && tried.len() <= TRIES_MAX, "{limit} from {first}: {tried:?}");
                let is_near = best + 1 >= limit || best as f64 * (1.0 + PRECISION) >= limit as f64;
                assert!(is_near || tried.len() == TRIES_MAX, "{limit} from {first}: {best}");
            }
        }
    }

    #[test]
    fn the_search_is_bounded_where_everything_or_nothing_meets_it() {
        let (tried, best) = search(20_000, u64::MAX);
        assert_eq!((tried.len(), best), (20, Some(Rate::MAX_PER_SECOND)));
        let (tried, best) = search(20_000, 0);
        assert_eq!((tried.last(), best), (Some(&1), None));
    }

    #[test]
    fn a_try_is_met_when_its_counts_and_its_latency_are() {
        let met = |objective: &str, change: fn(&mut Report)| {
            // From 1 to 1000 us.
            let mut report = sample();
            change(&mut report);
            let objective = Slo::parse(objective, &MEASURES).expect("an objective");
            TryReport::of(Rate::of(20_000), &objective, &report).expect("a report that can be written")
        };
        let made = met("p99<1ms", |_| {});
        assert!(
            made.met && made.measured_us.is_some_and(|micros| (989.0..992.0).contains(&micros)),
            "{made}"
        );
        assert_eq!(met("p99<900us", |_| {}).reason, "990 us");
        assert_eq!(met("service.p99<1s", |_| {}).reason, "there is no service latency");
        assert_eq!(met("p99<1ms", |report| report.counts.lost = 3).reason, "lost 3, or worse");
        assert!(!met("p99<1ms", |report| report.rate.achieved = 19_000.0).met);
        assert!(!met("p99<1ms", |report| report.rate.unsent = 1).met);
        assert!(!met("p99<1ms", |report| report.connections.disconnects = 1).met);
        assert!(!met("p99<1ms", |report| report.warmup_counts.duplicate = 1).met);
    }
}
