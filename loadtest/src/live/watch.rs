//! The main thread's look at a run, for the live view.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Screen;
use super::share::{Gathered, Seen};
use super::state::{Row, Snapshot, Table, Words};
use crate::console::Console;
use crate::control::{Control, Totals};
use crate::recorder::merge;
use crate::report::Percentiles;
use crate::schedule::Schedule;
use crate::series::interval_histogram;

/// Looks from time to time at a run of messages, when there is a screen to show it on.
#[derive(Debug)]
pub(crate) struct Watch {
    pulse: Pulse,
    clusters: Vec<String>,
    rate_asked: u64,
    /// How often each message is to arrive.
    copies: u64,
    gathered: Gathered,
    latencies: Latencies,
}

/// When to look, and where to show it.
#[derive(Debug)]
pub(crate) struct Pulse {
    console: Console,
    due: Instant,
}

/// A run of messages at one moment.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) elapsed_nanos: u64,
    pub(crate) totals: Totals,
    pub(crate) seen: Seen,
    /// Who sends and receives.
    pub(crate) workers: Table,
}

/// The latency that a run is about, as the live view shows it.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// Of the last look that found any.
    recent: Option<Percentiles>,
    /// From the begin of the measured phase on; before it, from the start.
    so_far: Histogram<u64>,
    is_measured: bool,
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Watch {
    /// For a run of `shards` shards of this process over these clusters, that asks for so many messages a second,
    /// each of which is to arrive `copies` times.
    pub(crate) fn new(
        console: Console,
        shards: usize,
        clusters: Vec<String>,
        rate_asked: u64,
        copies: usize,
    ) -> Self {
        let gathered = Gathered::new(shards, clusters.len());
        let latencies = Latencies::default();
        let pulse = Pulse::new(console);
        Self { pulse, clusters, rate_asked, copies: copies as u64, gathered, latencies }
    }

    /// Whether there is a screen, and it is time to look.
    pub(crate) fn is_due(&self) -> bool {
        self.pulse.is_due()
    }

    /// Shows how the shards of this process stand, if it is time to.
    pub(crate) fn look(&mut self, control: &Control, schedule: &Schedule) {
        // Before its start there is nothing of a run to show.
        let Some(shares) = control.shares().filter(|_| control.now_nanos() > 0 && self.is_due()) else {
            return;
        };
        let seen = self.gathered.take(shares);
        let rows = control.delivered_by_shard().into_iter().enumerate();
        let rows =
            rows.map(|(shard, count)| Row { name: format!("shard {shard}"), count, note: String::new() });
        let workers = Table { title: "shards", rows: rows.collect() };
        let totals = control.totals();
        self.show(Sight { elapsed_nanos: control.now_nanos(), totals, seen, workers }, schedule);
    }

    /// Shows how a run stands.
    pub(crate) fn show(&mut self, sight: Sight, schedule: &Schedule) {
        let Some(screen) = self.pulse.beat() else { return };
        let Sight { elapsed_nanos, totals, seen, workers } = sight;
        self.latencies.add(&seen.recent, elapsed_nanos >= schedule.measured_from_nanos());
        let clusters = self.clusters.iter().zip(&seen.delivered_by_cluster);
        let clusters =
            clusters.map(|(name, count)| Row { name: name.clone(), count: *count, note: String::new() });
        screen.update(Snapshot {
            words: match self.copies {
                1 => Words::default(),
                _ => Words { things: "copies", sent: "due", ..Words::default() },
            },
            phase: phase(schedule, elapsed_nanos),
            elapsed: Duration::from_nanos(elapsed_nanos),
            whole: Duration::from_nanos(schedule.end_nanos()),
            measured_from: Duration::from_nanos(schedule.measured_from_nanos()),
            rate_asked: schedule
                .step_rate(elapsed_nanos)
                .unwrap_or(self.rate_asked)
                .saturating_mul(self.copies),
            sent: totals.sent,
            delivered: totals.delivered,
            under_way: totals.sent.saturating_sub(totals.delivered),
            under_way_max: match self.rate_asked {
                0 => u64::MAX,
                // More than those of a second.
                rate => rate.saturating_mul(self.copies),
            },
            others: [("wrong", seen.wrong), ("busy", totals.busy)],
            recent: self.latencies.recent(),
            so_far: self.latencies.so_far(),
            tables: vec![Table { title: "clusters", rows: clusters.collect() }, workers],
        });
    }
}

impl Pulse {
    pub(crate) fn new(console: Console) -> Self {
        Self { console, due: Instant::now() }
    }

    /// Whether there is a screen, and it is time to look.
    pub(crate) fn is_due(&self) -> bool {
        self.console.is_screen() && Instant::now() >= self.due
    }

    /// The next look is due at once.
    pub(crate) fn hasten(&mut self) {
        self.due = Instant::now();
    }

    /// When the next look is due; never without a screen.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.console.is_screen().then_some(self.due)
    }

    /// The screen; the next look is due some time later.
    pub(crate) fn beat(&mut self) -> Option<&'static Screen> {
        self.due = Instant::now() + LOOK_EVERY;
        match self.console {
            Console::Screen(screen) => Some(screen),
            Console::Stdout | Console::Stderr => None,
        }
    }
}

/// Where in its schedule a run is.
pub(crate) fn phase(schedule: &Schedule, elapsed_nanos: u64) -> &'static str {
    match elapsed_nanos {
        nanos if nanos < schedule.measured_from_nanos() => "warm-up",
        nanos if nanos < schedule.end_nanos() => "measured",
        _ => "late",
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self { recent: None, so_far: interval_histogram(), is_measured: false }
    }
}

impl Latencies {
    /// Adds what was seen since the last look, in nanoseconds. The first look in the measured phase still tells of the
    /// warm-up, and ends it.
    pub(crate) fn add(&mut self, recent: &Histogram<u64>, is_measured: bool) {
        merge(&mut self.so_far, recent);
        if is_measured && !std::mem::replace(&mut self.is_measured, is_measured) {
            self.so_far.reset();
        }
        if let Some(points) = points(recent) {
            self.recent = Some(points);
        }
    }

    pub(crate) fn recent(&self) -> Option<Percentiles> {
        self.recent
    }

    pub(crate) fn so_far(&self) -> Option<Percentiles> {
        points(&self.so_far)
    }
}

fn points(histogram: &Histogram<u64>) -> Option<Percentiles> {
    (!histogram.is_empty()).then(|| Percentiles::of_nanos(histogram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_so_far_is_without_the_warm_up() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.recent(), latencies.so_far()), (None, None));
        let mut of_look = |micros: u64, is_measured| {
            let mut recent = interval_histogram();
            recent.saturating_record(micros * 1_000);
            latencies.add(&recent, is_measured);
            let count = latencies.so_far().map_or(0, |points| points.count);
            (count, latencies.recent().map_or(0.0, |points| points.max.round()))
        };
        assert_eq!([of_look(50, false), of_look(60, false)].map(|(count, _)| count), [1, 2]);
        assert_eq!([of_look(70, true), of_look(80, true)].map(|(count, _)| count), [0, 1]);
        latencies.add(&interval_histogram(), true);
        let recent = latencies.recent().expect("the last that there were");
        assert!(recent.count == 1 && (recent.max - 80.0).abs() < 1.0, "{recent:?}");
    }
}
