//! Rates, durations and sizes as a person writes them: `50k`, `500ms`, `64..1024`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::FaultError;
use crate::report::rounded;

/// Messages a second, from 1 to [`Rate::MAX_PER_SECOND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rate(u64);

/// The bytes of a payload: one size, or any size of a range with equal probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) smallest_bytes: usize,
    pub(crate) largest_bytes: usize,
}

/// Why a value was refused; the text completes "`--rate abc`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum QuantityError {
    #[error("not a number; write for example {example}")]
    NotANumber { example: &'static str },
    #[error("not a whole number; write for example {example}")]
    NotWhole { example: &'static str },
    #[error("not a whole number a second")]
    Fraction,
    #[error("the form is {form}, as in {example}")]
    Form { form: &'static str, example: &'static str },
    #[error("the unit is missing; write for example 10s or 500ms")]
    UnitMissing,
    #[error("unknown unit {unit:?}; known are {known}")]
    UnitUnknown { unit: String, known: &'static str },
    #[error("out of range; allowed is {least} to {most}")]
    OutOfRange { least: String, most: String },
    #[error("not a fault; write for example {example}")]
    NotAFault { example: &'static str },
    #[error("there is no node {given}; there are {first} to {last}")]
    NoSuchNode { given: String, first: String, last: String },
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error("{0}")]
    NotASlo(#[from] crate::slo::SloError),
    #[error("{reason}")]
    NotTogether { reason: String },
    #[error("the range is empty: {smallest} is above {largest}")]
    RangeEmpty { smallest: usize, largest: usize },
}

impl Rate {
    /// Ten messages a nanosecond: whether a machine can do it is for the run to tell, and up to here the arithmetic of the
    /// schedule, which multiplies a rate with the nanoseconds of a second, stays within 64 bits.
    pub(crate) const MAX_PER_SECOND: u64 = 10_000_000_000;

    /// Reads `20000`, `20k`, `2.5k` or `1M`.
    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split_unit(text);
        let scale = match unit {
            "" => 1,
            "k" | "K" => 1_000,
            "m" | "M" => 1_000_000,
            _ if number.is_empty() => return Err(QuantityError::NotANumber { example: RATES }),
            _ => return Err(QuantityError::UnitUnknown { unit: unit.to_owned(), known: "k and M" }),
        };
        let micro = scaled_to_millionths(number, RATES)?.checked_mul(scale);
        let per_second = match micro {
            Some(micro) if micro % MILLION != 0 => return Err(QuantityError::Fraction),
            Some(micro) => micro / MILLION,
            None => u64::MAX,
        };
        within(per_second, 1..=Self::MAX_PER_SECOND).map(Self)
    }

    /// So many a second.
    pub(crate) const fn of(per_second: u64) -> Self {
        Self(per_second)
    }

    pub(crate) fn per_second(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", grouped(self.0))
    }
}

impl Size {
    /// Reads `128` or `64..1024` (both ends included), within `allowed`.
    pub(crate) fn parse(text: &str, allowed: RangeInclusive<usize>) -> Result<Self, QuantityError> {
        let number = |text: &str| -> Result<usize, QuantityError> {
            let bytes = text
                .parse::<u64>()
                .map_err(|_| QuantityError::NotANumber { example: "128 or 64..1024 (bytes)" })?;
            let bytes = within(bytes, *allowed.start() as u64..=*allowed.end() as u64)?;
            Ok(bytes as usize)
        };
        let (smallest_bytes, largest_bytes) = match text.split_once("..") {
            None => (number(text)?, number(text)?),
            Some((low, high)) => (number(low)?, number(high.strip_prefix('=').unwrap_or(high))?),
        };
        if smallest_bytes > largest_bytes {
            return Err(QuantityError::RangeEmpty { smallest: smallest_bytes, largest: largest_bytes });
        }
        Ok(Self { smallest_bytes, largest_bytes })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.smallest_bytes == self.largest_bytes {
            write!(f, "{} B", self.smallest_bytes)
        } else {
            write!(f, "{}..{} B", self.smallest_bytes, self.largest_bytes)
        }
    }
}

/// Reads `5s`, `500ms`, `1.5s`, `200us` or `2m`, within `allowed`.
pub(crate) fn parse_duration(
    text: &str,
    allowed: RangeInclusive<Duration>,
) -> Result<Duration, QuantityError> {
    let (number, unit) = split_unit(text);
    let nanos_of_unit: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "" if number.is_empty() => return Err(QuantityError::NotANumber { example: "10s or 500ms" }),
        "" => return Err(QuantityError::UnitMissing),
        _ if number.is_empty() => return Err(QuantityError::NotANumber { example: "10s or 500ms" }),
        _ => return Err(QuantityError::UnitUnknown { unit: unit.to_owned(), known: "us, ms, s and m" }),
    };
    let millionths = scaled_to_millionths(number, "10s or 500ms")?;
    let nanos = millionths.checked_mul(nanos_of_unit / 1_000).map_or(u64::MAX, |scaled| scaled / 1_000);
    let duration = Duration::from_nanos(nanos);
    if !allowed.contains(&duration) {
        let bound = |duration: &Duration| format!("{duration:?}");
        return Err(QuantityError::OutOfRange { least: bound(allowed.start()), most: bound(allowed.end()) });
    }
    Ok(duration)
}

/// Reads `5%` or `2.5 %`, as a part of one: from 0 to 10.
pub(crate) fn parse_percent(text: &str) -> Result<f64, QuantityError> {
    let number = text.strip_suffix('%').map(str::trim_end);
    let number = number.ok_or(QuantityError::Form { form: "PERCENT%", example: "5%" })?;
    let millionths = scaled_to_millionths(number, "5%")?;
    let millionths = within(millionths, 0..=1_000 * MILLION)
        .map_err(|_| QuantityError::OutOfRange { least: "0%".to_owned(), most: "1000%".to_owned() })?;
    Ok(millionths as f64 / MILLION as f64 / 100.0)
}

/// Reads a whole number, with `k` and `M` for thousands and millions, within `allowed`.
pub(crate) fn parse_count(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, QuantityError> {
    let (number, unit) = split_unit(text);
    let example = if *allowed.end() < 10_000 { "3" } else { "3 or 10k" };
    let scale = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        _ if number.is_empty() => return Err(QuantityError::NotANumber { example }),
        _ => return Err(QuantityError::UnitUnknown { unit: unit.to_owned(), known: "k and M" }),
    };
    if number.contains('.') {
        return Err(QuantityError::NotWhole { example });
    }
    let count = number.parse::<u64>().map_err(|_| match number {
        "" => QuantityError::NotANumber { example },
        _ => out_of(&allowed),
    })?;
    within(count.saturating_mul(scale), allowed)
}

/// Digits in groups of three, for people.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// How long a run takes, for its head: `8s after 1s of warm-up`, or `8s` alone.
pub(crate) fn with_warmup(duration: Duration, warmup: Duration) -> String {
    if warmup.is_zero() {
        format!("{duration:?}")
    } else {
        format!("{duration:?} after {warmup:?} of warm-up")
    }
}

/// So many of something that `one` is the name of: `1 shard`, `2 processes`, `1 000 entries`.
pub(crate) fn counted(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let digits = grouped(number);
    match one.strip_suffix('y') {
        _ if number == 1 => format!("{digits} {one}"),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{digits} {stem}ies"),
        _ if one.ends_with('s') => format!("{digits} {one}es"),
        _ => format!("{digits} {one}s"),
    }
}

/// Nanoseconds in whole microseconds, as tables show the points of a distribution: rounded as the report has them.
pub(crate) fn whole_micros(nanos: u64) -> String {
    whole(rounded(nanos as f64 / 1_000.0, 1))
}

/// A figure that is not negative, without its decimals.
pub(crate) fn whole(number: f64) -> String {
    grouped(number.round() as u64)
}

/// A figure that is not negative: with two decimals below a thousand, where they matter.
pub(crate) fn figure(number: f64) -> String {
    if number < 999.995 { format!("{number:.2}") } else { whole(number) }
}

const MILLION: u64 = 1_000_000;

/// Examples of rates.
const RATES: &str = "50000, 50k or 1M";

/// Digits after the point that count; more are refused rather than rounded.
const FRACTION_DIGITS_MAX: usize = 6;

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

fn scaled_to_millionths(number: &str, example: &'static str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError::NotANumber { example };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let places = 10_u64.pow((FRACTION_DIGITS_MAX - fraction.len()) as u32);
    let fraction: u64 = fraction.parse::<u64>().map_err(|_| wrong())? * places;
    Ok(whole.saturating_mul(MILLION).saturating_add(fraction))
}

fn within(number: u64, allowed: RangeInclusive<u64>) -> Result<u64, QuantityError> {
    if allowed.contains(&number) {
        return Ok(number);
    }
    Err(out_of(&allowed))
}

fn out_of(allowed: &RangeInclusive<u64>) -> QuantityError {
    QuantityError::OutOfRange { least: allowed.start().to_string(), most: allowed.end().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_warm_up_does_not_speak_of_one() {
        let seconds = Duration::from_secs;
        assert_eq!(with_warmup(seconds(8), seconds(1)), "8s after 1s of warm-up");
        assert_eq!(with_warmup(seconds(8), Duration::ZERO), "8s");
    }

    #[test]
    fn rates_are_read_with_their_suffixes() {
        for (text, per_second) in [
            ("1", 1),
            ("20000", 20_000),
            ("20k", 20_000),
            ("2.5k", 2_500),
            ("1M", 1_000_000),
            ("10000M", 10_000_000_000),
        ] {
            assert_eq!(Rate::parse(text).map(Rate::per_second), Ok(per_second), "{text}");
        }
    }

    #[test]
    fn a_rate_beyond_the_arithmetic_is_told_the_bound() {
        for text in ["10001M", "99999999999M"] {
            let error = Rate::parse(text).expect_err(text).to_string();
            assert!(error.contains("1 to 10000000000"), "{error}");
        }
    }

    #[test]
    fn percents_are_parts_of_one() {
        for (text, part) in [("5%", 0.05), ("2.5 %", 0.025), ("0%", 0.0), ("1000%", 10.0)] {
            assert_eq!(parse_percent(text), Ok(part), "{text}");
        }
        for text in ["5", "%", "-5%", "1001%", "five%", ""] {
            assert!(parse_percent(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn rates_that_mean_nothing_are_refused() {
        for text in
            ["", "k", "0", "-5", "20x", "1.5", "0.0001k", "1..2", "10001M", "99999999999999999999", "5 k"]
        {
            assert!(Rate::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let all = Duration::ZERO..=Duration::from_secs(3600);
        for (text, millis) in
            [("5s", 5_000), ("500ms", 500), ("1.5s", 1_500), ("2m", 120_000), ("0s", 0), ("2000us", 2)]
        {
            assert_eq!(parse_duration(text, all.clone()), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_says_so() {
        let all = Duration::ZERO..=Duration::from_secs(3600);
        assert_eq!(parse_duration("10", all.clone()), Err(QuantityError::UnitMissing));
        for text in ["", "s", "10h", "1.0000001s", "61m", "-1s"] {
            assert!(parse_duration(text, all.clone()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_one_number_or_a_range() {
        let allowed = 48..=1024;
        assert_eq!(Size::parse("128", allowed.clone()), Ok(Size { smallest_bytes: 128, largest_bytes: 128 }));
        assert_eq!(
            Size::parse("64..1024", allowed.clone()),
            Ok(Size { smallest_bytes: 64, largest_bytes: 1024 })
        );
        assert_eq!(
            Size::parse("512..64", allowed.clone()),
            Err(QuantityError::RangeEmpty { smallest: 512, largest: 64 })
        );
        for text in ["47", "1025", "", "..", "64..", "a", "64...128", "-64"] {
            assert!(Size::parse(text, allowed.clone()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn counts_have_bounds() {
        assert_eq!(parse_count("10k", 1..=10_000), Ok(10_000));
        for text in ["0", "10001", "1.5", "k", "3x"] {
            assert!(parse_count(text, 1..=10_000).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn what_is_no_number_has_no_unknown_unit() {
        for (text, answer) in [
            ("two", "not a number; write for example 3"),
            ("-1", "not a number; write for example 3"),
            ("1.5", "not a whole number"),
            ("3x", "unknown unit \"x\""),
            ("99999999999999999999", "allowed is 1 to 64"),
        ] {
            let error = parse_count(text, 1..=64).expect_err(text).to_string();
            assert!(error.contains(answer), "{text}: {error}");
        }
        assert_eq!(Rate::parse("fast"), Err(QuantityError::NotANumber { example: RATES }));
        assert_eq!(parse_percent("5").expect_err("no %").to_string(), "the form is PERCENT%, as in 5%");
    }

    #[test]
    fn one_is_no_plural() {
        for (number, one, text) in [
            (0_usize, "fault", "0 faults"),
            (1, "shard", "1 shard"),
            (2, "process", "2 processes"),
            (1, "entry", "1 entry"),
            (1_000, "entry", "1 000 entries"),
            (5_000, "key", "5 000 keys"),
            (11, "day", "11 days"),
        ] {
            assert_eq!(counted(number, one), text);
        }
    }

    #[test]
    fn a_verdict_rounds_as_a_table_does() {
        for nanos in [0, 499, 500, 1_499, 1_500, 100_449, 100_450, 100_460, 999_500, 1_234_567_890] {
            let of_table = whole(rounded(nanos as f64 / 1_000.0, 1));
            assert_eq!(whole_micros(nanos), of_table, "{nanos}");
        }
        assert_eq!((whole(2_500.5), whole(1_499.4)), ("2 501".to_owned(), "1 499".to_owned()));
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1 000"), (12_345_678, "12 345 678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
