//! What a rate must keep to be called sustained: `p99.9<2ms`, `wire.p50<=300us`.

use std::fmt;
use std::time::Duration;

use crate::quantity::{QuantityError, parse_duration};
use crate::report::{LatencyReport, Percentiles};

/// One latency, one of its points, and its limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objective {
    text: String,
    latency: Latency,
    point: Point,
    is_inclusive: bool,
    limit_us: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Latency {
    E2e,
    Wire,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    P50,
    P90,
    P99,
    P999,
    Max,
}

const EXAMPLE: &str = "p99.9<2ms, or wire.p50<=300us: e2e, wire or service; p50, p90, p99, p99.9 or max";
const LIMIT_MAX: Duration = Duration::from_secs(3600);

impl Objective {
    /// Reads `POINT<TIME` or `LATENCY.POINT<=TIME`; the latency is end to end where none is named.
    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError::NotANumber { example: EXAMPLE };
        let (left, right) = text.split_once('<').ok_or_else(wrong)?;
        let (is_inclusive, right) = match right.strip_prefix('=') {
            Some(right) => (true, right),
            None => (false, right),
        };
        let left = left.trim();
        let (latency, point) = match left.split_once('.') {
            Some(("e2e", point)) => (Latency::E2e, point),
            Some(("wire", point)) => (Latency::Wire, point),
            Some(("service", point)) => (Latency::Service, point),
            _ => (Latency::E2e, left),
        };
        let point = match point {
            "p50" => Point::P50,
            "p90" => Point::P90,
            "p99" => Point::P99,
            "p99.9" => Point::P999,
            "max" => Point::Max,
            _ => return Err(wrong()),
        };
        let limit = parse_duration(right.trim(), Duration::from_micros(1)..=LIMIT_MAX)?;
        let limit_us = limit.as_secs_f64() * 1e6;
        Ok(Self { text: text.trim().to_owned(), latency, point, is_inclusive, limit_us })
    }

    /// Whether it is about requests.
    pub(crate) fn is_of_requests(&self) -> bool {
        self.latency == Latency::Service
    }

    /// In microseconds; none where nothing was measured.
    pub(crate) fn measured_us(&self, latencies: &LatencyReport) -> Option<f64> {
        let percentiles = match self.latency {
            Latency::E2e => Some(latencies.e2e),
            Latency::Wire => Some(latencies.wire),
            Latency::Service => latencies.service,
        };
        let Percentiles { p50, p90, p99, p999, max, .. } = percentiles.filter(|of| of.count > 0)?;
        Some(match self.point {
            Point::P50 => p50,
            Point::P90 => p90,
            Point::P99 => p99,
            Point::P999 => p999,
            Point::Max => max,
        })
    }

    pub(crate) fn is_met(&self, latencies: &LatencyReport) -> bool {
        self.measured_us(latencies).is_some_and(|measured| {
            measured < self.limit_us || (self.is_inclusive && measured == self.limit_us)
        })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn objectives_are_met_or_missed() {
        // 182.4, 310.0, 905.1, 2100.0 and 12345.6 us, all three alike.
        let latencies = sample().latency_us;
        for (text, is_met) in [
            ("p50<183us", true),
            ("p50<182us", false),
            ("e2e.p99<1ms", true),
            ("p99.9<2ms", false),
            ("wire.p99.9 <= 2.1ms", true),
            ("wire.p99.9 < 2.1ms", false),
            ("max<12346us", true),
            ("p90<1s", true),
            ("service.p99<1s", false),
        ] {
            assert_eq!(Objective::parse(text).expect(text).is_met(&latencies), is_met, "{text}");
        }
    }

    #[test]
    fn what_is_no_objective_is_refused() {
        for text in ["", "p99", "p99>2ms", "p98<2ms", "lag.p99<2ms", "p99<2", "p99<0s", "<2ms", "e2e<2ms"] {
            assert!(Objective::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
