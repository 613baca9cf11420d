//! Sizes and durations as people write them: `8MiB`, `250ms`.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserializer, Serializer, de};

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

const DURATION_UNITS_NS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// Reads and writes a size in bytes, for `#[serde(with)]`.
pub(crate) mod size {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&shown_size(*bytes))
    }
}

/// Reads and writes a duration, for `#[serde(with)]`.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&shown_duration(*duration))
    }
}

/// Writes a whole number; one that TOML cannot hold, which only code can set, as text.
pub(crate) fn whole<N, S>(number: &N, serializer: S) -> Result<S::Ok, S::Error>
where
    N: fmt::Display + Copy + TryInto<i64>,
    S: Serializer,
{
    match (*number).try_into() {
        Ok(number) => serializer.serialize_i64(number),
        Err(_) => serializer.collect_str(number),
    }
}

/// Writes paths; what is not UTF-8 in them, which no file can hold, is replaced.
pub(crate) fn paths<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// The same of one path.
pub(crate) fn path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_some(&path.to_string_lossy()),
        None => serializer.serialize_none(),
    }
}

/// A size in the largest unit that makes it whole, as a configuration shows it: `1MiB`. It reads back.
#[must_use]
pub fn shown_size(bytes: usize) -> String {
    shown(bytes as u128, &SIZE_UNITS)
}

/// A duration in the largest unit that makes it whole; it reads back.
pub(crate) fn shown_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    shown(duration.as_nanos(), &DURATION_UNITS_NS)
}

fn shown(count: u128, units: &[(&str, u64)]) -> String {
    let fits = |factor: u64| count > 0 && count.is_multiple_of(u128::from(factor));
    let (unit, factor) = units.iter().rev().find(|(_, factor)| fits(*factor)).unwrap_or(&units[0]);
    format!("{}{unit}", count / u128::from(*factor))
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidQuantity {
    #[error("`{text}` is no {what}: write {example}")]
    Form { text: String, what: &'static str, example: &'static str },
    #[error("`{text}` has no unit: write {example}")]
    NoUnit { text: String, example: &'static str },
    #[error("`{unit}` is no unit of a {what}: use {units}")]
    Unit { unit: String, what: &'static str, units: String },
    #[error("`{text}` is not whole: write it in a smaller unit")]
    Fraction { text: String },
    #[error("`{text}` is too large")]
    TooLarge { text: String },
}

const SIZE_EXAMPLE: &str = "a size such as \"512B\", \"64KiB\" or \"8MiB\", or a whole number of bytes";
const DURATION_EXAMPLE: &str = "a duration such as \"50us\", \"100ms\", \"2s\" or \"20m\"";

pub(crate) fn parse_size(text: &str) -> Result<usize, InvalidQuantity> {
    let bytes = parse(text, "size", SIZE_EXAMPLE, &SIZE_UNITS)?;
    usize::try_from(bytes).map_err(|_| InvalidQuantity::TooLarge { text: text.to_owned() })
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    parse(text, "duration", DURATION_EXAMPLE, &DURATION_UNITS_NS).map(Duration::from_nanos)
}

fn parse(
    text: &str,
    what: &'static str,
    example: &'static str,
    units: &[(&'static str, u64)],
) -> Result<u64, InvalidQuantity> {
    let trimmed = text.trim();
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(digits_end);
    let unit = unit.trim_start();
    if digits.is_empty() {
        return Err(InvalidQuantity::Form { text: text.to_owned(), what, example });
    }
    if unit.starts_with(['.', ',']) {
        return Err(InvalidQuantity::Fraction { text: text.to_owned() });
    }
    if unit.is_empty() {
        return Err(InvalidQuantity::NoUnit { text: text.to_owned(), example });
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        return Err(InvalidQuantity::Unit { unit: unit.to_owned(), what, units: names.join(", ") });
    };
    let too_large = || InvalidQuantity::TooLarge { text: text.to_owned() };
    let count: u64 = digits.parse().map_err(|_| too_large())?;
    count.checked_mul(*factor).ok_or_else(too_large)
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE_EXAMPLE)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<usize, E> {
        usize::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<usize, E> {
        usize::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        parse_size(text).map_err(E::custom)
    }
}

struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DURATION_EXAMPLE)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("8MiB", 8 << 20),
            (" 8 MiB ", 8 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, nanoseconds) in [
            ("0us", 0),
            ("7ns", 7),
            ("50us", 50_000),
            ("100ms", 100_000_000),
            ("2s", 2_000_000_000),
            ("1m", 60_000_000_000),
            ("20m", 1_200_000_000_000),
            ("1h", 3_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_in_its_largest_whole_unit() {
        for (bytes, text) in [(0, "0B"), (1, "1B"), (1023, "1023B"), (1536, "1536B"), (65_536, "64KiB")] {
            assert_eq!(shown_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for (nanoseconds, text) in [
            (0, "0s"),
            (1_500, "1500ns"),
            (50_000, "50us"),
            (90_000_000_000, "90s"),
            (86_400_000_000_000, "24h"),
        ] {
            assert_eq!(shown_duration(Duration::from_nanos(nanoseconds)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)));
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_its_reason() {
        let refusal = |text| parse_duration(text).map_err(|error| error.to_string()).unwrap_err();
        for (text, part) in [
            ("", "is no duration"),
            ("soon", "is no duration"),
            ("-1s", "is no duration"),
            ("2", "has no unit"),
            ("2sec", "`sec` is no unit of a duration: use ns, us, ms, s, m, h"),
            ("2S", "`S` is no unit"),
            ("1.5s", "not whole"),
            ("99999999999999999999s", "too large"),
            ("18446744073709551615h", "too large"),
        ] {
            assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
        }
        let refusal = |text| parse_size(text).map_err(|error| error.to_string()).unwrap_err();
        for (text, part) in [
            ("8MB", "`MB` is no unit of a size: use B, KiB, MiB, GiB, TiB"),
            ("8", "has no unit"),
            ("1.5MiB", "not whole"),
            ("99999999999TiB", "too large"),
        ] {
            assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
        }
    }
}
