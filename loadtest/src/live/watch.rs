//! The main thread's look at a run, for the live view.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::share::Gathered;
use super::state::{ClusterNow, Snapshot};
use crate::console::Console;
use crate::control::Control;
use crate::report::Percentiles;
use crate::schedule::Schedule;

/// Looks from time to time, when there is a screen to show it on.
#[derive(Debug)]
pub(crate) struct Watch {
    console: Console,
    clusters: Vec<String>,
    rate_asked: u64,
    gathered: Gathered,
    /// The latencies of the last look that found any.
    recent: Option<Percentiles>,
    is_measured: bool,
    due: Instant,
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Watch {
    /// For a run of `shards` shards over these clusters that asks for so many messages a second.
    pub(crate) fn new(console: Console, shards: usize, clusters: Vec<String>, rate_asked: u64) -> Self {
        let gathered = Gathered::new(shards, clusters.len());
        Self {
            console,
            clusters,
            rate_asked,
            gathered,
            recent: None,
            is_measured: false,
            due: Instant::now(),
        }
    }

    /// Shows how the run stands, if it is time to.
    pub(crate) fn look(&mut self, control: &Control, schedule: &Schedule) {
        let Console::Screen(screen) = self.console else { return };
        let Some(shares) = control.shares().filter(|_| control.start().is_some()) else { return };
        if Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + LOOK_EVERY;
        let recent = self.gathered.take(shares);
        if !recent.is_empty() {
            self.recent = points(&recent);
        }
        let is_measured = control.now_nanos() >= schedule.measured_from_nanos();
        if is_measured && !std::mem::replace(&mut self.is_measured, is_measured) {
            // What is told so far is without the warm-up from here on.
            self.gathered.e2e.reset();
        }
        let totals = control.totals();
        let elapsed_nanos = control.now_nanos();
        let clusters = self.clusters.iter().zip(&self.gathered.delivered_by_cluster);
        screen.update(Snapshot {
            phase: match elapsed_nanos {
                nanos if nanos < schedule.measured_from_nanos() => "warm-up",
                nanos if nanos < schedule.end_nanos() => "measured",
                _ => "late",
            },
            elapsed: Duration::from_nanos(elapsed_nanos),
            whole: Duration::from_nanos(schedule.end_nanos()),
            rate_asked: self.rate_asked,
            sent: totals.sent,
            delivered: totals.delivered,
            busy: totals.busy,
            wrong: self.gathered.wrong(),
            recent: self.recent,
            so_far: points(&self.gathered.e2e),
            clusters: clusters
                .map(|(name, delivered)| ClusterNow { name: name.clone(), delivered: *delivered })
                .collect(),
            shards: control.shards_now(),
        });
    }
}

fn points(histogram: &Histogram<u64>) -> Option<Percentiles> {
    (!histogram.is_empty()).then(|| Percentiles::of_nanos(histogram))
}
