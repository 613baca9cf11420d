//! A histogram as it travels between processes: its bounds, and each value that it holds with its count.

use hdrhistogram::Histogram;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
struct Sparse {
    least: u64,
    most: u64,
    digits: u8,
    values: Vec<(u64, u64)>,
}

/// The most that a process may make this one reserve: a histogram of this range takes 270 KB.
const MOST_NANOS: u64 = crate::recorder::LATENCY_NANOS_MAX;
const DIGITS_MAX: u8 = 3;

/// For `#[serde(with = "sparse")]`.
pub(crate) fn serialize<S: Serializer>(histogram: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
    Sparse {
        least: histogram.low(),
        most: histogram.high(),
        digits: histogram.sigfig(),
        values: histogram
            .iter_recorded()
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect(),
    }
    .serialize(to)
}

/// For `#[serde(with = "sparse")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Histogram<u64>, D::Error> {
    let sparse = Sparse::deserialize(from)?;
    if sparse.most > MOST_NANOS || sparse.digits > DIGITS_MAX {
        return Err(D::Error::custom("a histogram that no process of this program has"));
    }
    let made = Histogram::new_with_bounds(sparse.least, sparse.most, sparse.digits);
    let mut histogram = made.map_err(D::Error::custom)?;
    for (value, count) in sparse.values {
        histogram.saturating_record_n(value, count);
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;

    #[derive(Debug, Serialize, Deserialize)]
    struct Carrier(#[serde(with = "super")] Histogram<u64>);

    #[test]
    fn a_histogram_comes_back_as_it_went() {
        let mut values = histogram();
        for exponent in 0..41 {
            values.record_n(1 << exponent, exponent + 1).expect("within the bounds");
            values.record_n((1 << exponent) * 5 / 3, 1).expect("within the bounds");
        }
        let text = serde_json::to_string(&Carrier(values.clone())).expect("serialisable");
        let Carrier(back) = serde_json::from_str(&text).expect("readable");
        assert_eq!(back, values);
    }

    #[test]
    fn bounds_that_would_take_much_memory_are_refused() {
        for text in [
            r#"{"least":1,"most":3600000000000,"digits":5,"values":[]}"#,
            r#"{"least":1,"most":18446744073709551615,"digits":3,"values":[]}"#,
            r#"{"least":9,"most":8,"digits":3,"values":[]}"#,
        ] {
            assert!(serde_json::from_str::<Carrier>(text).is_err(), "{text}");
        }
    }
}
