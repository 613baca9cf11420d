//! What a run is held to: `e2e.p99.9<2ms`, `lost=0`, `recovery<1s`, `rate>=19k`.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::quantity::{QuantityError, Rate, parse_count, parse_duration, whole};
use crate::report::rounded;
use crate::results::Histograms;

/// One goal, which was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slo {
    text: String,
    measure: Measure,
    comparison: Comparison,
    /// In microseconds for times; plain for numbers and rates.
    limit: f64,
}

/// What a goal is about.
#[derive(Clone, Debug, PartialEq)]
enum Measure {
    Latency { name: &'static str, quantile: f64 },
    Count(&'static str),
    Fault(FaultTime),
    Rate,
}

/// From a fault that goes on for a time, a cluster recovers from its end on.
const AFTER_END: &str = "recovered_after_end_ms";

/// Times that faults have; the worst fault is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultTime {
    Recovery,
    Detection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Equal,
    AtLeast,
    Above,
}

/// What the goals of a scenario can be about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measures {
    /// The one that the run is about comes first; it is meant where no name is given.
    pub(crate) latencies: &'static [&'static str],
    pub(crate) counts: &'static [&'static str],
}

/// A goal was not understood; the column is where, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at column {column}: {reason}")]
pub(crate) struct SloError {
    pub(crate) column: usize,
    pub(crate) reason: String,
}

/// What became of a goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SloReport {
    /// As it was asked for.
    pub(crate) slo: String,
    pub(crate) met: bool,
    /// In microseconds for times; absent when there was nothing to measure.
    pub(crate) measured: Option<f64>,
    /// The same in words.
    pub(crate) told: String,
}

/// What a run's goals are judged by.
pub(crate) struct Measured<'a> {
    pub(crate) histograms: &'a Histograms,
    /// The run's report as JSON.
    pub(crate) report: &'a Value,
}

const MICROS_A_SECOND: f64 = 1e6;
const COUNT_MAX: u64 = u64::MAX / 1_000_000;
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
const EXAMPLES: &str = "'e2e.p99.9<2ms', 'lost=0', 'recovery<1s' or 'rate>=19k'";

impl Slo {
    /// Reads `MEASURE COMPARISON LIMIT`, where the comparison is one of `<`, `<=`, `=`, `>=` and `>`.
    pub(crate) fn parse(text: &str, measures: &Measures) -> Result<Self, SloError> {
        let at = |column: usize, reason: String| SloError { column: column + 1, reason };
        let Some(place) = text.find(['<', '=', '>']) else {
            let reason = format!("no comparison; write for example {EXAMPLES}");
            return Err(at(text.chars().count(), reason));
        };
        let (left, right) = text.split_at(place);
        let (comparison, length) = match right.as_bytes() {
            [b'<', b'=', ..] => (Comparison::AtMost, 2),
            [b'<', ..] => (Comparison::Below, 1),
            [b'>', b'=', ..] => (Comparison::AtLeast, 2),
            [b'>', ..] => (Comparison::Above, 1),
            [b'=', b'=', ..] => (Comparison::Equal, 2),
            _ => (Comparison::Equal, 1),
        };
        let column_of_left = column(left, left.trim_start());
        let measure = Measure::parse(left.trim(), measures)
            .map_err(|error| at(column_of_left + error.column, error.reason))?;
        let right = &right[length..];
        let column_of_right = text[..place].chars().count() + length + column(right, right.trim_start());
        let limit = measure.limit(right.trim()).map_err(|reason| at(column_of_right, reason))?;
        Ok(Self { text: text.trim().to_owned(), measure, comparison, limit })
    }

    /// Reads what a rate is searched for by, which is the limit of a latency.
    pub(crate) fn parse_objective(text: &str, measures: &Measures) -> Result<Self, QuantityError> {
        let form = QuantityError::Form {
            form: "LATENCY.POINT<TIME",
            example: "'p99.9<2ms', 'e2e.max<20ms' or 'wire.p50<300us'",
        };
        let about = text.split(['<', '=', '>']).next().unwrap_or_default().trim();
        let latency = about.split_once('.').map_or(about, |(latency, _)| latency);
        if !text.contains('<') || !(is_point(about) || measures.latencies.contains(&latency)) {
            return Err(form);
        }
        let objective = Self::parse(text, measures)?;
        objective.limited_latency().map(|_| objective.clone()).ok_or(form)
    }

    /// The latency that it holds below a limit; none when it is about anything else.
    pub(crate) fn limited_latency(&self) -> Option<&'static str> {
        match (&self.measure, self.comparison) {
            (Measure::Latency { name, .. }, Comparison::Below | Comparison::AtMost) => Some(name),
            _ => None,
        }
    }

    /// Whether the run meets it.
    pub(crate) fn judge(&self, run: &Measured<'_>) -> SloReport {
        let measured = self.measure.of(run);
        let met = matches!(measured, Ok(value) if self.comparison.holds(value, self.limit));
        let told = match &measured {
            Ok(value) => self.measure.told(*value),
            Err(reason) => reason.clone(),
        };
        SloReport {
            slo: self.text.clone(),
            met,
            measured: measured.ok().map(|value| rounded(value, 1)),
            told,
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Measure {
    /// The column of an error is from the start of the text, from 0.
    fn parse(text: &str, measures: &Measures) -> Result<Self, SloError> {
        let (name, point) = match text.split_once('.') {
            // A percentile alone has a point of its own: p99.9.
            _ if is_point(text) => ("", Some((0, text))),
            Some((name, point)) => (name, Some((name.chars().count() + 1, point))),
            None => (text, None),
        };
        let Some((column, point)) = point else {
            return Self::without_point(text, measures).ok_or_else(|| SloError {
                column: 0,
                reason: match text {
                    "" => format!("nothing to measure; write for example {EXAMPLES}"),
                    _ => unknown_measure(text, measures),
                },
            });
        };
        let name = match name {
            "" => measures.latencies.first(),
            name => measures.latencies.iter().find(|known| **known == name),
        };
        let Some(name) = name else {
            return Err(SloError { column: 0, reason: unknown_measure(text, measures) });
        };
        let quantile = quantile(point).map_err(|reason| SloError { column, reason })?;
        Ok(Self::Latency { name, quantile })
    }

    fn without_point(text: &str, measures: &Measures) -> Option<Self> {
        match text {
            "recovery" => Some(Self::Fault(FaultTime::Recovery)),
            "detection" => Some(Self::Fault(FaultTime::Detection)),
            "rate" => Some(Self::Rate),
            name => measures.counts.iter().find(|known| **known == name).map(|known| Self::Count(known)),
        }
    }

    fn limit(&self, text: &str) -> Result<f64, String> {
        if text.is_empty() {
            return Err("the limit is missing".to_owned());
        }
        match self {
            Self::Latency { .. } | Self::Fault(_) => parse_duration(text, Duration::ZERO..=TIME_MAX)
                .map(|limit| limit.as_secs_f64() * MICROS_A_SECOND)
                .map_err(|error| error.to_string()),
            Self::Count(_) => {
                parse_count(text, 0..=COUNT_MAX).map(|limit| limit as f64).map_err(|error| error.to_string())
            }
            Self::Rate => {
                Rate::parse(text).map(|limit| limit.per_second() as f64).map_err(|error| error.to_string())
            }
        }
    }

    fn of(&self, run: &Measured<'_>) -> Result<f64, String> {
        match self {
            Self::Latency { name, quantile } => {
                let filled = run.histograms.named(name).filter(|histogram| !histogram.is_empty());
                let histogram = filled.ok_or_else(|| format!("there is no {name} latency"))?;
                Ok(histogram.value_at_quantile(*quantile) as f64 / 1_000.0)
            }
            Self::Count(name) => {
                run.report["counts"][*name].as_f64().ok_or_else(|| format!("{name} was not counted"))
            }
            Self::Rate => {
                run.report["rate"]["achieved"].as_f64().ok_or_else(|| "there is no rate".to_owned())
            }
            Self::Fault(time) => time.worst(run.report),
        }
    }

    fn told(&self, value: f64) -> String {
        match self {
            Self::Latency { .. } | Self::Fault(_) => micros(value),
            Self::Count(_) => whole(value),
            Self::Rate => format!("{}/s", whole(value)),
        }
    }
}

impl FaultTime {
    /// The longest time of all faults, in microseconds.
    fn worst(self, report: &Value) -> Result<f64, String> {
        // Of servers in milliseconds; of processes in microseconds, of each of their nodes.
        let (of_servers, of_processes, what) = match self {
            Self::Recovery => ("recovered_ms", "back_us", "recovered from"),
            Self::Detection => ("detected_ms", "detect_us", "detected"),
        };
        let faults = report["faults"].as_array().map_or(&[][..], Vec::as_slice);
        let mut worst: Option<f64> = None;
        for fault in faults {
            let (key, scale) = match () {
                () if self == Self::Recovery && fault.get(AFTER_END).is_some() => (AFTER_END, 1e3),
                () if fault.get(of_servers).is_some() => (of_servers, 1e3),
                () => (of_processes, 1.0),
            };
            let values = match &fault[key] {
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            for value in values {
                let Some(value) = value.as_f64() else {
                    let name =
                        fault["name"].as_str().or_else(|| fault["fault"].as_str()).unwrap_or("a fault");
                    return Err(format!("{name} was not {what}"));
                };
                worst = Some(worst.unwrap_or(0.0).max(value * scale));
            }
        }
        worst.ok_or_else(|| "no fault struck".to_owned())
    }
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Equal => value == limit,
            Self::AtLeast => value >= limit,
            Self::Above => value > limit,
        }
    }
}

/// Microseconds for people: `182 us`, `2.1 ms`, `1.25 s`.
pub(crate) fn micros(value: f64) -> String {
    match value {
        0.0 => "0 us".to_owned(),
        value if value < 1_000.0 => format!("{} us", significant(value)),
        value if value < 1_000_000.0 => format!("{} ms", significant(value / 1e3)),
        value => format!("{} s", significant(value / 1e6)),
    }
}

/// Three digits. Halves are rounded up, as everywhere; by itself a format takes them to the even digit.
fn significant(value: f64) -> String {
    let up = |scale: f64| (value * scale).round() / scale;
    match value {
        value if value < 9.995 => format!("{:.2}", up(100.0)),
        value if value < 99.95 => format!("{:.1}", up(10.0)),
        _ => format!("{:.0}", up(1.0)),
    }
}

/// The characters before `rest`, which is an end of `text`.
fn column(text: &str, rest: &str) -> usize {
    text.chars().count() - rest.chars().count()
}

/// Whether it looks like a percentile, or the largest value.
fn is_point(text: &str) -> bool {
    text == "max"
        || text
            .strip_prefix('p')
            .is_some_and(|digits| digits.starts_with(|first: char| first.is_ascii_digit()))
}

fn quantile(point: &str) -> Result<f64, String> {
    let percent = match point {
        "max" => Some(100.0),
        point => {
            point.strip_prefix('p').filter(|_| is_point(point)).and_then(|digits| digits.parse::<f64>().ok())
        }
    };
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        Some(percent) => Err(format!("there is no percentile {percent}; allowed is p0 to p100")),
        None => Err(format!("{point:?} is no point of a latency; write for example p50, p99.9 or max")),
    }
}

fn unknown_measure(text: &str, measures: &Measures) -> String {
    let latencies = measures.latencies.iter().map(|name| format!("{name}.p99"));
    let counts = measures.counts.iter().map(|name| (*name).to_owned());
    let known: Vec<String> =
        latencies.chain(counts).chain(["recovery", "detection", "rate"].map(str::to_owned)).collect();
    format!("nothing here is called {text:?}; known: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;
    use serde_json::json;

    const MEASURES: Measures =
        Measures { latencies: &["e2e", "lag", "wire"], counts: &["lost", "duplicate", "sent"] };

    /// Whether a run of latencies from 1 to 1000 us, and of this report, meets a goal; and what is told.
    fn judge(slo: &str) -> (bool, String) {
        let mut values = histogram();
        (1..=1_000_u64).for_each(|micros| values.saturating_record(micros * 1_000));
        let histograms = Histograms(vec![("e2e", values), ("lag", histogram())]);
        let report = json!({
            "counts": {"lost": 3, "duplicate": 0},
            "rate": {"achieved": 19_950.5},
            "faults": [
                {"name": "kill c2/1", "recovered_ms": 2_100.0, "detected_ms": 1.5},
                {"name": "pause c1/1 3500ms", "recovered_ms": 3_510.0, "recovered_after_end_ms": 10.0, "detected_ms": null},
            ],
        });
        let slo = Slo::parse(slo, &MEASURES).unwrap_or_else(|error| panic!("{slo}: {error}"));
        let report = slo.judge(&Measured { histograms: &histograms, report: &report });
        (report.met, report.told)
    }

    #[test]
    fn goals_are_met_or_missed() {
        for (slo, met, told) in [
            ("e2e.p99.9<2ms", true, "1.00 ms"),
            ("e2e.p50 < 500us", false, "500 us"),
            ("p50<=501us", true, "500 us"),
            ("e2e.max<1us", false, "1.00 ms"),
            ("max>900us", true, "1.00 ms"),
            ("lost=0", false, "3"),
            ("lost<=3", true, "3"),
            ("duplicate==0", true, "0"),
            ("rate>=19k", true, "19 951/s"),
            ("rate > 20k", false, "19 951/s"),
            ("recovery<1s", false, "2.10 s"),
            ("recovery<3s", true, "2.10 s"),
            ("detection<1s", false, "pause c1/1 3500ms was not detected"),
            ("lag.p50<1s", false, "there is no lag latency"),
            ("sent>0", false, "sent was not counted"),
        ] {
            assert_eq!(judge(slo), (met, told.to_owned()), "{slo}");
        }
    }

    #[test]
    fn a_latency_is_rounded_as_in_the_tables() {
        for (value, told) in
            [(576.5, "577 us"), (577.5, "578 us"), (12.25, "12.3 us"), (2_100.0, "2.10 ms"), (0.0, "0 us")]
        {
            assert_eq!(micros(value), told);
        }
        for tenths in (0..10_000).map(f64::from) {
            let value = 100.0 + tenths / 10.0;
            if value < 999.5 {
                assert_eq!(micros(value), format!("{} us", whole(value)));
            }
        }
    }

    #[test]
    fn what_limits_a_latency_is_told_from_the_rest() {
        let limited = |slo: &str| Slo::parse(slo, &MEASURES).expect(slo).limited_latency();
        assert_eq!(limited("p99.9<2ms"), Some("e2e"));
        assert_eq!(limited("wire.max<=2ms"), Some("wire"));
        for other in ["p99>2ms", "p99=2ms", "lost<3", "rate<3k", "recovery<1s"] {
            assert_eq!(limited(other), None, "{other}");
        }
    }

    #[test]
    fn faults_of_processes_have_their_times_by_node() {
        let histograms = Histograms::default();
        let judge = |slo: &str, report: &Value| {
            Slo::parse(slo, &MEASURES).expect("a goal").judge(&Measured { histograms: &histograms, report })
        };
        let report =
            json!({"faults": [{"fault": "kill n2", "back_us": [900.0, 2_500_000.0], "detect_us": 40.0}]});
        assert_eq!(judge("recovery<1s", &report).told, "2.50 s");
        assert_eq!(judge("detection<1s", &report).measured, Some(40.0));
        assert_eq!(judge("recovery<1s", &json!({"faults": []})).told, "no fault struck");
        assert!(!judge("recovery<1s", &json!({})).met);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_column() {
        for (slo, column, part) in [
            ("", 1, "no comparison"),
            ("lost", 5, "no comparison"),
            ("<2ms", 1, "nothing to measure"),
            ("loss=0", 1, "known: e2e.p99, lag.p99, wire.p99, lost"),
            ("e2d.p99<1ms", 1, "\"e2d.p99\""),
            ("e2e.q99<1ms", 5, "no point of a latency"),
            ("  e2e.p101<1ms", 7, "p0 to p100"),
            ("e2e.p99.9<2", 11, "unit is missing"),
            ("e2e.p99.9 <  2x", 14, "unknown unit"),
            ("lost=", 6, "limit is missing"),
            ("lost=few", 6, "not a number"),
            ("e2e<1ms", 1, "known:"),
            ("rate>fast", 6, "not a number"),
        ] {
            let error = Slo::parse(slo, &MEASURES).expect_err(slo);
            assert_eq!(error.column, column, "{slo:?}: {error}");
            assert!(error.reason.contains(part), "{slo:?}: {error}");
        }
    }
}
