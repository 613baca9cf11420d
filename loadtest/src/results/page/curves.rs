//! The distributions: by nines from left to right, and as a table.

use super::chart::{Mark, Plot, SIZES, Scale, decades, powers};
use super::escape::escaped;
use super::facts::meaning_of;
use super::{legend, section, whole};
use crate::report::Percentiles;
use crate::results::document::CurvePoint;
use crate::results::run_file::RunFile;
use crate::slo::micros;
use crate::summary::FAULT_TIMES;

/// What is drawn, the most important first, each in its colour.
const DRAWN: [(&str, &str); 7] = [
    ("e2e", "blue"),
    ("converge", "blue"),
    ("service", "violet"),
    ("wire", "teal"),
    ("first", "violet"),
    ("closed_loop", "orange"),
    ("lag", "grey"),
];

/// As many nines as a person can read an axis of.
const NINES_MAX: f64 = 7.0;

/// The percentile curve of every latency that has one, above the table of all.
pub(super) fn latencies(run: &RunFile) -> String {
    let drawn: Vec<(&str, &str, &[CurvePoint])> = DRAWN
        .iter()
        .filter_map(|(name, class)| Some((*name, *class, run.curves_us.get(*name)?.as_slice())))
        .filter(|(_, _, curve)| curve.len() > 1)
        .collect();
    let mut content = String::new();
    if !drawn.is_empty() {
        let words: Vec<(&str, String)> = drawn
            .iter()
            .map(|(name, class, _)| (*class, [&name.replace('_', " "), meaning_of(name)].join(": ")))
            .collect();
        let entries: Vec<(&str, &str)> =
            words.iter().map(|(class, words)| (*class, words.as_str())).collect();
        content.push_str(&legend(&entries));
        content.push_str(&plots(&drawn));
    }
    content.push_str(&table(run));
    section(
        "Latency",
        "Each percentile from left to right, every nine as wide as the one before; latency upwards, every factor of \
         ten as high.",
        &content,
    )
}

fn plots(drawn: &[(&str, &str, &[CurvePoint])]) -> String {
    let values = || drawn.iter().flat_map(|(_, _, curve)| curve.iter()).map(|point| point.us.max(1.0));
    let (low, high) = decades(values().fold(f64::INFINITY, f64::min), values().fold(1.0, f64::max));
    // 100 % is where the next nine would be.
    let last = |curve: &[CurvePoint]| {
        let below = curve.iter().map(|point| point.quantile).filter(|quantile| *quantile < 1.0);
        nines(below.fold(0.0, f64::max)) + 0.3
    };
    let most = drawn.iter().map(|(_, _, curve)| last(curve)).fold(1.0, f64::max).min(NINES_MAX);
    let y_marks: Vec<Mark> = powers(low, high).into_iter().map(|at| Mark { at, label: short(at) }).collect();
    let mut text = String::from("<div class=\"chart\">");
    for size in SIZES {
        let mut plot = Plot::new(size, Scale::linear(0.0, most), Scale::log(low, high), &[]);
        plot.y_axis(&y_marks);
        // Many nines have long names: on a narrow screen every second of them has to do.
        let step = (most as usize + 1).div_ceil(size.marks);
        let x_marks = (0..=most as usize).step_by(step);
        let x_marks: Vec<Mark> =
            x_marks.map(|count| Mark { at: count as f64, label: percent_of(count) }).collect();
        plot.x_axis(&x_marks);
        for (_, class, curve) in drawn.iter().rev() {
            let end = last(curve).min(most);
            let points = curve.iter().map(|point| {
                let place = if point.quantile < 1.0 { nines(point.quantile).min(end) } else { end };
                (place, Some(point.us.max(1.0)))
            });
            plot.line(class, points);
        }
        text.push_str(&plot.finish("latency by percentile"));
    }
    text.push_str("</div>");
    text
}

/// 0.9 is one, 0.99 is two.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn percent_of(nines: usize) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

/// A power of ten of microseconds.
pub(super) fn short(value: f64) -> String {
    let (number, unit) = match value {
        value if value < 1e3 => (value, "us"),
        value if value < 1e6 => (value / 1e3, "ms"),
        value => (value / 1e6, "s"),
    };
    format!("{} {unit}", (number * 100.0).round() / 100.0)
}

/// A latency as the terminal calls it; with its meaning where it is the time of a fault.
fn name_of(key: &str) -> String {
    match FAULT_TIMES.iter().find(|(known, ..)| *known == key) {
        Some((_, name, meaning)) => format!("{name}<span class=\"under\">{meaning}</span>"),
        None if key == "detect" => {
            "gone<span class=\"under\">any of the faults below until gone</span>".to_owned()
        }
        None => escaped(&key.replace('_', " ")),
    }
}

fn table(run: &RunFile) -> String {
    let order = |name: &str| {
        let drawn = DRAWN.iter().position(|(drawn, _)| *drawn == name);
        let of_fault = || FAULT_TIMES.iter().position(|(known, ..)| *known == name).map(|place| place + 1);
        (drawn.unwrap_or(DRAWN.len()), of_fault().unwrap_or(0))
    };
    let mut rows: Vec<(&String, &Percentiles)> =
        run.latency_us.iter().filter(|(_, points)| points.count > 0).collect();
    rows.sort_by_key(|(name, _)| order(name));
    if rows.is_empty() {
        return String::new();
    }
    let row = |(name, points): (&String, &Percentiles)| {
        let cells: String = [
            ("n", points.p50),
            ("n spare", points.p90),
            ("n", points.p99),
            ("n", points.p999),
            ("n", points.max),
        ]
        .iter()
        .map(|(class, value)| format!("<td class=\"{class}\">{}</td>", micros(*value)))
        .collect();
        format!(
            "<tr><th scope=\"row\">{}</th>{cells}<td class=\"n spare\">{}</td></tr>",
            name_of(name),
            whole(points.count as f64)
        )
    };
    let rows: String = rows.into_iter().map(row).collect();
    format!(
        "<div class=\"scroll tight\"><table><thead><tr><th></th><th class=\"n\">p50</th><th class=\"n spare\">p90</th>\
         <th class=\"n\">p99</th><th class=\"n\">p99.9</th><th class=\"n\">max</th><th class=\"n spare\">values</th></tr>\
         </thead><tbody>{rows}</tbody></table></div>"
    )
}
