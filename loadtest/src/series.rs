//! A run in intervals: what was sent, delivered and how fast, warm-up included, bounded in number.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::recorder::{LATENCY_NANOS_MAX, Window, merge};
use crate::sparse;

/// One record for each interval of a run.
///
/// A message belongs to the interval of its intended time, so that what a fault delayed is seen where it
/// was due; only `departed` and `arrived` go by the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    interval_nanos: u64,
    intervals: Vec<Interval>,
    /// Where the schedule ends.
    until_nanos: u64,
    /// Arrivals after the end of the schedule, which are in no interval's `arrived`.
    arrived_late: u64,
    /// What each shard sent and delivered in each interval; a shard has a row when its series was
    /// [labelled](Self::label).
    by_shard: BTreeMap<usize, Vec<Flow>>,
}

/// The messages intended in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) flow: Flow,
    /// Messages that were sent within the interval, whenever they were intended.
    pub(crate) departed: u64,
    /// Messages that arrived within the interval, whenever they were intended.
    pub(crate) arrived: u64,
    pub(crate) delivered_by_cluster: Vec<u64>,
    /// From the intended send to the delivery, in nanoseconds, to two digits.
    #[serde(with = "sparse")]
    pub(crate) e2e: Histogram<u64>,
    /// By [`Timed`]; made with their first value.
    others: [Option<Carried>; Timed::ALL.len()],
}

/// A latency that is kept for each interval, beside that of [`Interval::e2e`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    Lag,
    Wire,
    Service,
    First,
    Failed,
}

/// A histogram that travels between processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Carried(#[serde(with = "sparse")] Histogram<u64>);

/// Messages sent and delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
}

/// More would not be told apart in a picture, and would cost memory: each takes some 26 KB for each latency on each
/// shard.
pub(crate) const INTERVALS_MAX: u64 = 600;

/// The length of an interval in a run of at most [`INTERVALS_MAX`] of them.
const SHORT_NANOS: u64 = 100_000_000;
/// Otherwise it is so many whole seconds as the bound asks for.
const SECOND_NANOS: u64 = 1_000_000_000;

/// A picture needs no more: an error below 1 %.
const SIGNIFICANT_DIGITS: u8 = 2;
/// Below this latencies are not told apart.
const LATENCY_NANOS_MIN: u64 = 1_000;

impl Series {
    /// Empty intervals from the start of the warm-up to the end of the schedule.
    pub(crate) fn new(window: Window, clusters: usize) -> Self {
        let until_nanos = window.until_nanos.max(1);
        let interval_nanos = interval_nanos(until_nanos);
        let empty = Interval {
            flow: Flow::default(),
            departed: 0,
            arrived: 0,
            delivered_by_cluster: vec![0; clusters],
            e2e: interval_histogram(),
            others: Default::default(),
        };
        let intervals = vec![empty; until_nanos.div_ceil(interval_nanos) as usize];
        Self { interval_nanos, intervals, until_nanos, arrived_late: 0, by_shard: BTreeMap::new() }
    }

    /// A message left that is to arrive so many times. What leaves after the end of the schedule is in no interval's
    /// `departed`.
    pub(crate) fn sent(&mut self, copies: u64, intended_nanos: u64, actual_nanos: u64) {
        self.interval(intended_nanos).flow.sent += copies;
        if actual_nanos < self.until_nanos {
            self.interval(actual_nanos).departed += copies;
        }
    }

    /// A distinct message arrived intact.
    pub(crate) fn delivered(&mut self, intended_nanos: u64, delivered_nanos: u64, cluster: usize) {
        let interval = self.interval(intended_nanos);
        interval.flow.delivered += 1;
        interval.e2e.saturating_record(delivered_nanos.saturating_sub(intended_nanos));
        if let Some(delivered) = interval.delivered_by_cluster.get_mut(cluster) {
            *delivered += 1;
        }
        if delivered_nanos < self.until_nanos {
            self.interval(delivered_nanos).arrived += 1;
        } else {
            self.arrived_late += 1;
        }
    }

    /// Something that was intended at this time took so long.
    pub(crate) fn timed(&mut self, what: Timed, intended_nanos: u64, nanos: u64) {
        let others = &mut self.interval(intended_nanos).others;
        let carried = others[what as usize].get_or_insert_with(|| Carried(interval_histogram()));
        carried.0.saturating_record(nanos);
    }

    /// All that was recorded so far was of this shard, counted over all processes.
    pub(crate) fn label(&mut self, shard: usize) {
        self.by_shard =
            BTreeMap::from([(shard, self.intervals.iter().map(|interval| interval.flow).collect())]);
    }

    /// Adds what another shard or process of the same run saw; intervals that only one of them has are
    /// left out.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            ours.flow.add(theirs.flow);
            ours.departed += theirs.departed;
            ours.arrived += theirs.arrived;
            merge(&mut ours.e2e, &theirs.e2e);
            for (ours, theirs) in ours.others.iter_mut().zip(&theirs.others) {
                match (ours, theirs) {
                    (Some(ours), Some(theirs)) => merge(&mut ours.0, &theirs.0),
                    (ours, Some(theirs)) => *ours = Some(theirs.clone()),
                    (_, None) => {}
                }
            }
            for (ours, theirs) in ours.delivered_by_cluster.iter_mut().zip(&theirs.delivered_by_cluster) {
                *ours += theirs;
            }
        }
        self.arrived_late += other.arrived_late;
        for (shard, theirs) in &other.by_shard {
            let empty = || vec![Flow::default(); self.intervals.len()];
            let ours = self.by_shard.entry(*shard).or_insert_with(empty);
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| ours.add(*theirs));
        }
    }

    /// The length of an interval.
    pub(crate) fn interval_nanos(&self) -> u64 {
        self.interval_nanos
    }

    /// From the start of the warm-up; the last one may be shorter than the others.
    pub(crate) fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Where the schedule ends.
    pub(crate) fn until_nanos(&self) -> u64 {
        self.until_nanos
    }

    /// Arrivals after the end of the schedule.
    pub(crate) fn arrived_late(&self) -> u64 {
        self.arrived_late
    }

    /// By the shard's number: what it sent and delivered in each interval.
    pub(crate) fn by_shard(&self) -> &BTreeMap<usize, Vec<Flow>> {
        &self.by_shard
    }

    /// Times after the end belong to the last interval.
    fn interval(&mut self, at_nanos: u64) -> &mut Interval {
        let place = (at_nanos / self.interval_nanos) as usize;
        let last = self.intervals.len() - 1;
        &mut self.intervals[place.min(last)]
    }
}

impl Interval {
    /// In nanoseconds, to two digits; none when there was nothing to time.
    pub(crate) fn latency(&self, what: Timed) -> Option<&Histogram<u64>> {
        self.others[what as usize].as_ref().map(|carried| &carried.0)
    }
}

impl Timed {
    pub(crate) const ALL: [Self; 5] = [Self::Lag, Self::Wire, Self::Service, Self::First, Self::Failed];

    /// As in a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Wire => "wire",
            Self::Service => "service",
            Self::First => "first",
            Self::Failed => "failed",
        }
    }
}

impl Flow {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
    }
}

fn interval_nanos(until_nanos: u64) -> u64 {
    if until_nanos <= SHORT_NANOS * INTERVALS_MAX {
        return SHORT_NANOS;
    }
    until_nanos.div_ceil(SECOND_NANOS * INTERVALS_MAX) * SECOND_NANOS
}

/// An empty histogram of nanoseconds to two digits, of some 26 KB.
pub(crate) fn interval_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS)
        .expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = SECOND_NANOS;

    fn window(until_nanos: u64) -> Window {
        Window { from_nanos: 0, early_until_nanos: 0, until_nanos }
    }

    #[test]
    fn intervals_are_short_in_a_short_run_and_never_too_many() {
        for (until_nanos, interval, count) in [
            (1, SECOND / 10, 1),
            (12 * SECOND, SECOND / 10, 120),
            (60 * SECOND, SECOND / 10, 600),
            (60 * SECOND + 1, SECOND, 61),
            (600 * SECOND, SECOND, 600),
            (601 * SECOND, 2 * SECOND, 301),
            (86_400 * SECOND, 144 * SECOND, 600),
        ] {
            let series = Series::new(window(until_nanos), 0);
            assert_eq!(
                (series.interval_nanos(), series.intervals().len()),
                (interval, count),
                "{until_nanos}"
            );
        }
    }

    #[test]
    fn a_message_belongs_where_it_was_intended_and_its_way_where_it_went() {
        let mut series = Series::new(window(SECOND), 2);
        series.sent(1, 150_000_000, 250_000_000);
        series.delivered(150_000_000, 450_000_000, 1);
        let intervals = series.intervals();
        assert_eq!(intervals[1].flow, Flow { sent: 1, delivered: 1 });
        assert_eq!(intervals[1].delivered_by_cluster, [0, 1]);
        assert!(intervals[1].e2e.max() >= 300_000_000 && intervals[1].e2e.max() < 303_000_000);
        assert_eq!((intervals[1].departed, intervals[2].departed), (0, 1));
        assert_eq!((intervals[1].arrived, intervals[4].arrived), (0, 1));
    }

    #[test]
    fn what_comes_after_the_end_is_in_the_last_interval_and_arrived_late() {
        let mut series = Series::new(window(SECOND), 1);
        series.sent(1, 5 * SECOND, 5 * SECOND);
        series.delivered(SECOND - 1, 2 * SECOND, 0);
        assert_eq!(series.intervals()[9].flow, Flow { sent: 1, delivered: 1 });
        assert_eq!(series.arrived_late(), 1);
        assert!(series.intervals().iter().all(|interval| interval.departed + interval.arrived == 0));
    }

    #[test]
    fn merged_shards_keep_their_rows_and_survive_the_way_to_another_process() {
        let mut whole = Series::new(window(SECOND), 1);
        for shard in 0..3_u64 {
            let mut series = Series::new(window(SECOND), 1);
            for _ in 0..=shard {
                series.sent(1, shard * 100_000_000, 300_000_000);
                series.delivered(shard * 100_000_000, shard * 100_000_000 + 5_000, 0);
                series.timed(Timed::Wire, 300_000_000, 4_000);
            }
            series.label(shard as usize);
            let text = serde_json::to_string(&series).expect("serialisable");
            let back: Series = serde_json::from_str(&text).expect("readable");
            assert_eq!(back, series);
            whole.merge(&back);
        }
        let delivered = |flows: &[Flow]| flows.iter().map(|flow| flow.delivered).sum::<u64>();
        let rows: Vec<_> = whole.by_shard().iter().map(|(shard, flows)| (*shard, delivered(flows))).collect();
        assert_eq!(rows, [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(whole.intervals()[2].e2e.len(), 3);
        assert_eq!((whole.intervals()[2].arrived, whole.intervals()[3].departed), (3, 6));
        let wire = whole.intervals()[3].latency(Timed::Wire).expect("timed");
        assert_eq!((wire.len(), whole.intervals()[3].latency(Timed::Lag)), (6, None));
    }
}
