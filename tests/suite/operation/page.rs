//! A page of metrics, read by a parser of another make.

use std::{collections::BTreeMap, net::SocketAddr};

use openmetrics_parser::{MetricNumber, MetricsExposition, OpenMetricsType, OpenMetricsValue, openmetrics};

use super::client::get;

/// The page.
pub(super) struct Page(MetricsExposition<OpenMetricsType, OpenMetricsValue>);

impl Page {
    /// Scrapes a node, and panics when what it says is not OpenMetrics.
    pub(super) fn scrape(address: SocketAddr) -> Page {
        let answer = get(address, "/metrics");
        assert_eq!(answer.code, 200);
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(answer.body.ends_with("# EOF\n"));
        Page(
            openmetrics::parse_openmetrics(&answer.body)
                .unwrap_or_else(|error| panic!("{error}\n{}", answer.body)),
        )
    }

    /// The help of every family.
    pub(super) fn families(&self) -> BTreeMap<&str, &str> {
        self.0.families.iter().map(|(name, family)| (name.as_str(), family.help.as_str())).collect()
    }

    /// The one sample of a histogram that has these labels.
    pub(super) fn histogram(&self, family: &str, labels: &[(&str, &str)]) -> Histogram {
        let family = self.0.families.get(family).unwrap_or_else(|| panic!("no family {family}"));
        let mut samples = family.iter_samples().filter(|sample| {
            let own = sample.get_labelset().unwrap();
            labels.iter().all(|(name, value)| own.get_label_value(name) == Some(*value))
        });
        let (Some(sample), None) = (samples.next(), samples.next()) else { panic!("not one of {labels:?}") };
        let OpenMetricsValue::Histogram(value) = &sample.value else { panic!("no histogram: {sample:?}") };
        Histogram {
            count: value.count.expect("a count"),
            sum_seconds: plain(value.sum.as_ref().expect("a sum")),
            buckets: value.buckets.iter().map(|bucket| (bucket.upper_bound, plain(&bucket.count))).collect(),
        }
    }

    /// The sum of a family's samples that have these labels.
    pub(super) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self.0.families.get(family).unwrap_or_else(|| panic!("no family {family}"));
        let samples = family.iter_samples().filter(|sample| {
            let own = sample.get_labelset().unwrap();
            labels.iter().all(|(name, value)| own.get_label_value(name) == Some(*value))
        });
        samples.map(|sample| number(&sample.value)).sum()
    }
}

/// What a histogram has counted.
#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) count: u64,
    pub(super) sum_seconds: f64,
    /// Upper bounds, and how many were no larger.
    pub(super) buckets: Vec<(f64, f64)>,
}

fn number(value: &OpenMetricsValue) -> f64 {
    plain(match value {
        OpenMetricsValue::Gauge(number) | OpenMetricsValue::Unknown(number) => number,
        OpenMetricsValue::Counter(counter) => &counter.value,
        other => panic!("{other:?} is no single number"),
    })
}

fn plain(number: &MetricNumber) -> f64 {
    match number {
        MetricNumber::Float(float) => *float,
        MetricNumber::Int(int) => *int as f64,
    }
}
