//! A histogram as the text that HdrHistogram's plotters read: value, percentile, count so far, and 1/(1-percentile).

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Lines for each halving of the distance to 100 %, as the plotters expect them.
const TICKS_PER_HALF: u32 = 5;

const NANOS_PER_MICRO: f64 = 1_000.0;

/// The text for a histogram of nanoseconds, in microseconds; of an empty one only head and foot.
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut so_far = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        so_far += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / NANOS_PER_MICRO;
        let quantile = step.quantile_iterated_to().min(1.0);
        // A line of three columns is the last one: there is no 1/(1-1).
        let written = if quantile < 1.0 {
            let inverse = 1.0 / (1.0 - quantile);
            writeln!(text, "{value:>12.3} {quantile:.12} {so_far:>10} {inverse:>14.2}")
        } else {
            writeln!(text, "{value:>12.3} {quantile:.12} {so_far:>10}")
        };
        debug_assert!(written.is_ok(), "a string takes all");
    }
    let _ = write!(
        text,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]\n",
        histogram.mean() / NANOS_PER_MICRO,
        histogram.stdev() / NANOS_PER_MICRO,
        histogram.max() as f64 / NANOS_PER_MICRO,
        histogram.len(),
        histogram.buckets(),
        sub_buckets(histogram.sigfig()),
    );
    text
}

/// The least power of two that holds twice as many values as the digits ask for.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;

    #[test]
    fn every_line_but_the_last_has_the_four_columns_that_plotters_read() {
        let mut values = histogram();
        for micros in 1..=10_000_u64 {
            values.record(micros * 1_000).expect("within the bounds");
        }
        let text = hgrm(&values);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_ascii_whitespace().map(|word| word.parse().expect("a number")).collect())
            .collect();
        let (last, before) = rows.split_last().expect("rows");
        assert_eq!(last.len(), 3, "{text}");
        assert_eq!((last[1], last[2]), (1.0, 10_000.0));
        assert!((last[0] - 10_000.0).abs() < 10.0, "{last:?}");
        for row in before {
            let [value, quantile, count, inverse] = row[..] else { panic!("{row:?}") };
            assert!((value - quantile * 10_000.0).abs() <= 10_000.0 * 0.05 + 20.0, "{row:?}");
            assert!(count <= 10_000.0 && (inverse * (1.0 - quantile) - 1.0).abs() < 0.01, "{row:?}");
        }
        let sorted = |column: usize| rows.is_sorted_by(|a, b| a[column] <= b[column]);
        assert!(sorted(0) && sorted(1) && sorted(2), "{text}");
        assert!(text.contains("Total count    =        10000]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn an_empty_histogram_has_no_rows() {
        let text = hgrm(&histogram());
        assert!(
            text.lines()
                .skip(2)
                .all(|line| line.starts_with('#') || line.contains("1.000000000000          0")),
            "{text}"
        );
    }
}
