//! The series as a table that every spreadsheet reads.

use std::fmt::Write;

use super::series::SeriesReport;
use crate::report::rounded;

/// One line for each interval, below one with the names of the columns. Where an interval begins is told in seconds since
/// the measured phase began, as everywhere.
pub(crate) fn csv(series: &SeriesReport) -> String {
    let mut text =
        "measured_s,phase,sent,delivered,lost,departed,arrived,e2e_p50_us,e2e_p90_us,e2e_p99_us,e2e_p999_us,e2e_max_us"
            .to_owned();
    // Names of clusters may hold what separates columns.
    series
        .clusters
        .iter()
        .for_each(|name| text.push_str(&format!(",{}", quoted(&format!("delivered_{name}")))));
    series.shards.iter().for_each(|shard| text.push_str(&format!(",delivered_shard_{shard}")));
    text.push('\n');
    for interval in &series.intervals {
        let e2e = &interval.e2e_us;
        let phase = if interval.is_warmup { "warm-up" } else { "measured" };
        let _ = write!(
            text,
            "{},{phase},{},{},{},{},{}",
            rounded(interval.at_s - series.measured_from_s, 6),
            interval.sent,
            interval.delivered,
            interval.lost,
            interval.departed,
            interval.arrived
        );
        for micros in [e2e.p50, e2e.p90, e2e.p99, e2e.p999, e2e.max] {
            // Nothing is no latency of zero.
            let _ = if e2e.count > 0 { write!(text, ",{micros}") } else { write!(text, ",") };
        }
        for delivered in interval.delivered_by_cluster.iter().chain(&interval.delivered_by_shard) {
            let _ = write!(text, ",{delivered}");
        }
        text.push('\n');
    }
    text
}

fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Window;
    use crate::series::Series;

    #[test]
    fn every_line_has_a_value_for_every_column() {
        let window = Window { from_nanos: 100_000_000, early_until_nanos: 0, until_nanos: 300_000_000 };
        let mut series = Series::new(window, 2);
        series.sent(1, 150_000_000, 150_000_000);
        series.delivered(150_000_000, 150_500_000, 1);
        series.label(0);
        let names = vec!["c1".to_owned(), "odd,\"name".to_owned()];
        let text = csv(&SeriesReport::of(&series, (window.from_nanos, None), names));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "measured_s,phase,sent,delivered,lost,departed,arrived,e2e_p50_us,e2e_p90_us,e2e_p99_us,e2e_p999_us,e2e_max_us,\
             delivered_c1,\"delivered_odd,\"\"name\",delivered_shard_0"
        );
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "-0.1,warm-up,0,0,0,0,0,,,,,,0,0,0");
        assert!(lines[2].starts_with("0,measured,1,1,0,1,1,50"), "{text}");
        assert!(lines[2].ends_with(",0,1,1"), "{text}");
        assert_eq!(lines[2].split(',').count(), 15);
    }
}
