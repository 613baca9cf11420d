//! The intervals of a run as HdrHistogram's interval log, which its log processor and analysers read.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::series::{Interval, Series, Timed};

/// Nanoseconds to milliseconds, in which the log tells each interval's largest value.
const MAX_DIVISOR: f64 = 1e6;

/// A log for each latency of which there is a value, by its name; `headline` is that of the series' `e2e`.
///
/// It has an interval for each of the series that has a value, so that there are at most as many. Times are seconds
/// since the start of the warm-up; values are nanoseconds to two digits.
pub(super) fn hlogs(series: &Series, headline: &'static str) -> Vec<(&'static str, String)> {
    let log = |name, of: &dyn Fn(&Interval) -> Option<&Histogram<u64>>| Some((name, hlog(series, name, of)?));
    let others = Timed::ALL.iter().filter_map(|what| log(what.name(), &|interval| interval.latency(*what)));
    log(headline, &|interval| Some(&interval.e2e)).into_iter().chain(others).collect()
}

/// None when no interval has a value.
fn hlog(series: &Series, name: &str, of: &dyn Fn(&Interval) -> Option<&Histogram<u64>>) -> Option<String> {
    let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&format!("{name} of croupier {}: nanoseconds to two digits", env!("CARGO_PKG_VERSION")))
        .add_comment("times are seconds since the start of the warm-up; the maximum is in ms")
        .with_max_value_divisor(MAX_DIVISOR)
        .begin_log_with(&mut text, &mut serializer)
        .ok()?;
    let mut has_any = false;
    for (place, interval) in series.intervals().iter().enumerate() {
        let Some(histogram) = of(interval).filter(|histogram| !histogram.is_empty()) else { continue };
        let from_nanos = place as u64 * series.interval_nanos();
        let length_nanos = series.until_nanos().saturating_sub(from_nanos).min(series.interval_nanos());
        let (from, length) = (Duration::from_nanos(from_nanos), Duration::from_nanos(length_nanos));
        let written = writer.write_histogram(histogram, from, length, None);
        debug_assert!(written.is_ok(), "a vector takes all: {written:?}");
        has_any = true;
    }
    has_any.then(|| String::from_utf8(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Window;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_a_reader_of_logs_finds_is_what_was_recorded() {
        let window = Window { from_nanos: 0, early_until_nanos: 0, until_nanos: 450_000_000 };
        let mut series = Series::new(window, 1);
        for nanos in 1..=1_000_u64 {
            series.delivered(100_000_000, 100_000_000 + nanos * 10_000, 0);
        }
        series.delivered(420_000_000, 700_000_000, 0);
        series.timed(Timed::Lag, 420_000_000, 77_000_000);

        let logs = hlogs(&series, "converge");
        assert_eq!(logs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["converge", "lag"]);
        let found = read(&logs[0].1);
        let times: Vec<_> =
            found.iter().map(|(from, length, _)| (from.as_millis(), length.as_millis())).collect();
        assert_eq!(
            times,
            [(100, 100), (400, 50)],
            "of five intervals two have a value, and the last is shorter"
        );
        let expected: Vec<_> =
            series.intervals().iter().map(|it| &it.e2e).filter(|it| !it.is_empty()).collect();
        assert_eq!(found.iter().map(|(_, _, histogram)| histogram).collect::<Vec<_>>(), expected);
        let lag = &read(&logs[1].1)[0].2;
        assert!(lag.len() == 1 && lag.max().abs_diff(77_000_000) < 770_000, "{}", lag.max());
    }

    #[test]
    fn a_log_has_no_more_intervals_than_a_series_may_have() {
        let hour = 3_600_000_000_000;
        let window = Window { from_nanos: 0, early_until_nanos: 0, until_nanos: hour };
        let mut series = Series::new(window, 0);
        (0..hour / 1_000_000_000).for_each(|second| series.timed(Timed::Wire, second * 1_000_000_000, 5_000));
        let logs = hlogs(&series, "e2e");
        assert_eq!(logs.len(), 1, "there is no e2e");
        assert_eq!(read(&logs[0].1).len() as u64, crate::series::INTERVALS_MAX);
    }

    /// From, length and values of each interval.
    fn read(log: &str) -> Vec<(Duration, Duration, Histogram<u64>)> {
        let entries = IntervalLogIterator::new(log.as_bytes()).map(|entry| entry.expect("a log"));
        let interval = |entry| match entry {
            LogEntry::Interval(interval) => {
                let bytes = decoded(interval.encoded_histogram());
                let histogram = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
                Some((interval.start_timestamp(), interval.duration(), histogram))
            }
            _ => None,
        };
        entries.filter_map(interval).collect()
    }

    /// From base64, with padding.
    fn decoded(text: &str) -> Vec<u8> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sextet = |letter: u8| LETTERS.iter().position(|it| *it == letter).expect("base64") as u32;
        let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
        let quartet = |letters: &[u8]| {
            let bits = letters
                .iter()
                .enumerate()
                .fold(0, |bits, (place, it)| bits | sextet(*it) << (18 - 6 * place));
            bits.to_be_bytes()[1..letters.len()].to_vec()
        };
        letters.chunks(4).flat_map(quartet).collect()
    }
}
