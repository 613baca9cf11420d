//! The other side: what a shard has handed over, added up.

use std::{
    mem,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rtrb::{Consumer, Producer};

use super::{Recorded, Series, histogram};

/// Upper bounds of the buckets on `/metrics`, in seconds: from a round trip on one machine to a patient timeout. The
/// last bucket has none.
pub(super) const BOUNDS_SECONDS: [f64; 18] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
    1.0, 2.5, 5.0, 10.0,
];

/// How long percentiles look back, at least; at most twice that.
const WINDOW: Duration = Duration::from_secs(10);

/// What was handed over by one shard.
pub(super) struct Collector {
    pub(super) requests: Sum,
    pub(super) round_trips: Vec<Sum>,
    full: Consumer<Box<Recorded>>,
    empty: Producer<Box<Recorded>>,
    window_began: Instant,
}

impl Collector {
    pub(super) fn new(
        clusters: usize,
        full: Consumer<Box<Recorded>>,
        empty: Producer<Box<Recorded>>,
        now: Instant,
    ) -> Self {
        let round_trips = (0..clusters).map(|_| Sum::new()).collect();
        Collector { requests: Sum::new(), round_trips, full, empty, window_began: now }
    }

    /// Takes what waits, and gives it back empty. Whether anything has changed.
    pub(super) fn collect(&mut self, now: Instant) -> bool {
        let mut has_changed = self.turn_windows(now);
        while let Ok(mut recorded) = self.full.pop() {
            has_changed = true;
            self.requests.take(&mut recorded.requests);
            for (sum, series) in self.round_trips.iter_mut().zip(&mut recorded.round_trips) {
                sum.take(series);
            }
            // There are no more buffers than the ring has places.
            let _fits = self.empty.push(recorded);
        }
        has_changed
    }

    fn turn_windows(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.window_began);
        if passed < WINDOW {
            return false;
        }
        self.window_began = now;
        for sum in self.round_trips.iter_mut().chain([&mut self.requests]) {
            sum.turn_window(passed >= 2 * WINDOW);
        }
        true
    }
}

/// One kind of time: all of it in buckets, and the recent part in full.
pub(super) struct Sum {
    pub(super) totals: Totals,
    /// Since the window began, and the window before.
    recent: [Histogram<u32>; 2],
}

/// Figures of the recent times, in nanoseconds; zero when there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    pub(super) p50_nanos: u64,
    pub(super) p99_nanos: u64,
    pub(super) max_nanos: u64,
}

impl Sum {
    fn new() -> Self {
        Sum { totals: Totals::default(), recent: [histogram(), histogram()] }
    }

    fn take(&mut self, series: &mut Series) {
        if series.histogram.is_empty() {
            return;
        }
        self.totals.add(series);
        add(&mut self.recent[0], &series.histogram);
        series.reset();
    }

    fn turn_window(&mut self, is_all_past: bool) {
        let [current, before] = &mut self.recent;
        mem::swap(current, before);
        current.reset();
        if is_all_past {
            before.reset();
        }
    }

    pub(super) fn recent(&self) -> Recent {
        let [current, before] = &self.recent;
        if current.is_empty() && before.is_empty() {
            return Recent::default();
        }
        let mut both = current.clone();
        add(&mut both, before);
        Recent {
            p50_nanos: both.value_at_quantile(0.5).min(super::NANOS_MAX),
            p99_nanos: both.value_at_quantile(0.99).min(super::NANOS_MAX),
            max_nanos: both.max().min(super::NANOS_MAX),
        }
    }
}

fn add(to: &mut Histogram<u32>, other: &Histogram<u32>) {
    to.add(other).expect("all histograms have the same bounds");
}

/// All times of one kind since the start of the shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// By [`BOUNDS_SECONDS`], and one for what is above them.
    counts: [u64; BOUNDS_SECONDS.len() + 1],
    pub(crate) sum_nanos: u64,
}

impl Totals {
    fn add(&mut self, series: &Series) {
        for value in series.histogram.iter_recorded() {
            // The upper end of what two digits keep together: no time is said to be shorter than it was.
            let seconds = value.value_iterated_to() as f64 / 1e9;
            let bucket = BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
            self.counts[bucket] += u64::from(value.count_at_value());
        }
        self.sum_nanos = self.sum_nanos.saturating_add(series.sum_nanos);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds in seconds, and what lies between each and the one before.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS_SECONDS.into_iter().chain([f64::INFINITY]).zip(self.counts)
    }
}
