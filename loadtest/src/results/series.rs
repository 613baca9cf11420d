//! The series of a run as `run.json` has it.

use serde::{Deserialize, Serialize};

use crate::report::{Percentiles, rounded};
use crate::series::Series;

/// The run in intervals, the warm-up included. All messages are counted where they were intended, but for
/// `departed` and `arrived`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SeriesReport {
    /// The length of an interval, in seconds; the last one may be shorter.
    pub(crate) interval_s: f64,
    /// Where the measured phase begins, in seconds from the start of the warm-up.
    pub(crate) measured_from_s: f64,
    /// Where the schedule ends, in seconds from the start of the warm-up.
    pub(crate) until_s: f64,
    /// Where the sending was broken off, in seconds from the start of the warm-up: because the rate was given up, or by
    /// a signal. None where the schedule was kept to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stopped_s: Option<f64>,
    /// What `delivered_by_cluster` is about, in its order.
    pub(crate) clusters: Vec<String>,
    /// What `delivered_by_shard` is about, in its order.
    pub(crate) shards: Vec<usize>,
    /// Arrivals after the end of the schedule, which are in no interval's `arrived`.
    pub(crate) arrived_late: u64,
    pub(crate) intervals: Vec<IntervalReport>,
}

/// One interval of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct IntervalReport {
    /// Where it begins, in seconds from the start of the warm-up.
    pub(crate) at_s: f64,
    pub(crate) is_warmup: bool,
    /// Deliveries that are due: of a fan-out each message as often as its topic has subscribers.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// The same, of messages that were sent within the interval, whenever they were intended.
    #[serde(default)]
    pub(crate) departed: u64,
    /// Messages that arrived within the interval, whenever they were intended.
    pub(crate) arrived: u64,
    /// From the intended send to the delivery, in microseconds, to two digits.
    pub(crate) e2e_us: Percentiles,
    pub(crate) delivered_by_cluster: Vec<u64>,
    pub(crate) delivered_by_shard: Vec<u64>,
}

impl SeriesReport {
    /// The series of a run over these clusters, whose measured phase began at the first of these times, and whose
    /// sending was broken off at the other; on the run's clock.
    pub(crate) fn of(
        series: &Series,
        (measured_from_nanos, stopped_nanos): (u64, Option<u64>),
        clusters: Vec<String>,
    ) -> Self {
        let seconds = |nanos: u64| rounded(nanos as f64 / 1e9, 6);
        let interval = |(place, interval): (usize, &crate::series::Interval)| {
            let at_nanos = place as u64 * series.interval_nanos();
            let row = series.by_shard().values();
            IntervalReport {
                at_s: seconds(at_nanos),
                is_warmup: at_nanos < measured_from_nanos,
                sent: interval.flow.sent,
                delivered: interval.flow.delivered,
                lost: interval.flow.sent.saturating_sub(interval.flow.delivered),
                departed: interval.departed,
                arrived: interval.arrived,
                e2e_us: Percentiles::of_nanos(&interval.e2e),
                delivered_by_cluster: interval.delivered_by_cluster.clone(),
                delivered_by_shard: row.filter_map(|flows| Some(flows.get(place)?.delivered)).collect(),
            }
        };
        Self {
            interval_s: seconds(series.interval_nanos()),
            measured_from_s: seconds(measured_from_nanos),
            until_s: seconds(series.until_nanos()),
            stopped_s: stopped_nanos.filter(|at| *at < series.until_nanos()).map(seconds),
            clusters,
            shards: series.by_shard().keys().copied().collect(),
            arrived_late: series.arrived_late(),
            intervals: series.intervals().iter().enumerate().map(interval).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Window;

    #[test]
    fn an_interval_tells_its_losses_and_the_shards_that_did_the_work() {
        let window =
            Window { from_nanos: 200_000_000, early_until_nanos: 250_000_000, until_nanos: 400_000_000 };
        let mut whole = Series::new(window, 1);
        for shard in [3, 1] {
            let mut series = Series::new(window, 1);
            series.sent(1, 250_000_000, 310_000_000);
            if shard == 3 {
                series.delivered(250_000_000, 351_000_000, 0);
            }
            series.label(shard);
            whole.merge(&series);
        }
        let report = SeriesReport::of(&whole, (window.from_nanos, Some(350_000_000)), vec!["c1".to_owned()]);
        assert_eq!((report.interval_s, report.measured_from_s, report.until_s), (0.1, 0.2, 0.4));
        assert_eq!(report.stopped_s, Some(0.35));
        assert_eq!(report.shards, [1, 3]);
        assert_eq!(
            report.intervals.iter().map(|it| it.is_warmup).collect::<Vec<_>>(),
            [true, true, false, false]
        );
        let third = &report.intervals[2];
        assert_eq!((third.at_s, third.sent, third.delivered, third.lost), (0.2, 2, 1, 1));
        assert_eq!(
            (third.delivered_by_cluster.as_slice(), third.delivered_by_shard.as_slice()),
            (&[1][..], &[0, 1][..])
        );
        assert_eq!((third.arrived, report.intervals[3].arrived), (0, 1));
        assert_eq!((third.departed, report.intervals[3].departed), (0, 2));
        assert!((third.e2e_us.max - 101_000.0).abs() < 1_100.0, "{third:?}");
    }
}
