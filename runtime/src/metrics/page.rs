//! The page of metrics as it is written: families one after the other, each with its samples.

use std::{fmt::Error, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::latency::Totals;

/// A label and its value.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// The page, family after family.
pub(super) struct Page<'e>(pub(super) DescriptorEncoder<'e>);

impl Page<'_> {
    pub(super) fn counter<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: &'static str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> Result<(), Error> {
        // Some parsers take a family without samples for the beginning of the next.
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let unit = unit_of(unit);
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn gauge<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: &'static str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> Result<(), Error> {
        // Some parsers take a family without samples for the beginning of the next.
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let unit = unit_of(unit);
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Times in seconds, in buckets that say how many were no longer than a bound. `name` ends in the unit.
    pub(super) fn histogram<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, Totals)>,
    ) -> Result<(), Error> {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        // Some parsers refuse a histogram that names its unit; the metric's name bears it.
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, totals) in samples {
            let buckets: Vec<(f64, u64)> = totals.buckets().collect();
            let sum_seconds = Duration::from_nanos(totals.sum_nanos).as_secs_f64();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                sum_seconds,
                totals.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    pub(super) fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> Result<(), Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }
}

fn unit_of(unit: &'static str) -> Option<Unit> {
    match unit {
        "" => None,
        "bytes" => Some(Unit::Bytes),
        "seconds" => Some(Unit::Seconds),
        other => Some(Unit::Other(other.to_owned())),
    }
}
