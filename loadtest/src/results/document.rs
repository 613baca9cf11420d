//! `run.json`: the scenario's own report, and what is told of every run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::rounded;
use crate::slo::SloReport;

/// The name of the file in a run's folder.
pub(crate) const RUN_JSON: &str = "run.json";

/// A run that has ended: the keys of its report, and those of [`Told`] beside them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Document<'a, R> {
    #[serde(flatten)]
    pub(crate) report: &'a R,
    #[serde(flatten)]
    pub(crate) told: Told,
}

/// What is told of a run of any scenario.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Told {
    /// When the run began, in UTC: `2026-11-22T07:45:03Z`.
    pub(crate) started_at: String,
    /// The report for people, as it was printed.
    pub(crate) summary: String,
    /// Each of `--slo`, in their order.
    pub(crate) slos: Vec<SloReport>,
    /// The distribution of each latency of the measured phase, in microseconds.
    pub(crate) curves_us: BTreeMap<String, Vec<CurvePoint>>,
}

/// So much of the values are at most this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CurvePoint {
    /// From 0 to 1.
    pub(crate) quantile: f64,
    pub(crate) us: f64,
}

/// The distributions of a run by their names, in nanoseconds; the one that the run is about comes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histograms(pub(crate) Vec<(&'static str, Histogram<u64>)>);

/// Points for each halving of the distance to 100 %.
const POINTS_PER_HALF: u32 = 4;

impl Histograms {
    pub(crate) fn named(&self, name: &str) -> Option<&Histogram<u64>> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, histogram)| histogram)
    }

    /// The distributions as points; those without a value are left out.
    pub(crate) fn curves_us(&self) -> BTreeMap<String, Vec<CurvePoint>> {
        let filled = self.0.iter().filter(|(_, histogram)| !histogram.is_empty());
        filled.map(|(name, histogram)| ((*name).to_owned(), curve(histogram))).collect()
    }
}

fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    let mut points: Vec<CurvePoint> = histogram
        .iter_quantiles(POINTS_PER_HALF)
        .map(|step| CurvePoint {
            quantile: rounded(step.quantile_iterated_to().min(1.0), 9),
            us: rounded(step.value_iterated_to() as f64 / 1_000.0, 1),
        })
        .collect();
    // Beyond the last value there is only the largest one, again and again.
    points.dedup_by_key(|point| point.quantile);
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;

    #[test]
    fn a_curve_rises_to_the_largest_value() {
        let mut values = histogram();
        (1..=10_000_u64).for_each(|micros| values.saturating_record(micros * 1_000));
        let histograms = Histograms(vec![("e2e", values), ("wire", histogram())]);
        let curves = histograms.curves_us();
        assert_eq!(curves.keys().collect::<Vec<_>>(), ["e2e"]);
        let curve = &curves["e2e"];
        assert!(curve.is_sorted_by(|a, b| a.quantile < b.quantile && a.us <= b.us), "{curve:?}");
        let last = curve.last().expect("points");
        assert!(last.quantile == 1.0 && (last.us - 10_000.0).abs() < 10.0, "{last:?}");
        assert!((10..200).contains(&curve.len()), "{}", curve.len());
        assert!(histograms.named("wire").is_some() && histograms.named("lag").is_none());
    }
}
