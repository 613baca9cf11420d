//! The faults of a run: where they are marked, and what each of them cost.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::escape::{escaped, sentence};
use super::{plain, section, whole};
use crate::results::run_file::RunFile;
use crate::slo::micros;

/// A fault on the time axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FaultMark {
    /// As in the table, from 1.
    pub(super) number: usize,
    pub(super) name: String,
    /// From the strike, in seconds since the measured phase began.
    pub(super) from_s: f64,
    /// Until all was well again; none when that was not seen.
    pub(super) until_s: Option<f64>,
}

impl FaultMark {
    /// The faults that struck within the schedule, by their number.
    pub(super) fn of(run: &RunFile) -> Vec<Self> {
        let Some(series) = &run.series else { return Vec::new() };
        let end = series.until_s - series.measured_from_s;
        let mark = |(place, fault): (usize, &Map<String, Value>)| {
            let from_s = struck_at_s(fault)?;
            // Those of the registry scenario strike after the schedule; there is no line to mark them on.
            let is_within = run.scenario != "registry" && (-series.measured_from_s..=end).contains(&from_s);
            let recovered = number(fault, "recovered_ms").map(|ms| from_s + ms / 1e3);
            is_within.then(|| Self {
                number: place + 1,
                name: name_of(fault),
                from_s,
                until_s: recovered.or_else(|| number(fault, "back_at_s")),
            })
        };
        run.faults.iter().enumerate().filter_map(mark).collect()
    }
}

/// A table of all faults, and how the clusters fared that they did not strike.
pub(super) fn table(run: &RunFile) -> String {
    if run.faults.is_empty() {
        return String::new();
    }
    // What no fault of this scenario has is no column.
    let has = |key: &str| run.faults.iter().any(|fault| fault.get(key).is_some_and(|value| !value.is_null()));
    let counts: Vec<(&str, &str)> =
        [("lost", "lost"), ("in_doubt", "in doubt")].into_iter().filter(|(key, _)| has(key)).collect();
    let has_others = has("clusters");
    let mut head = String::from(
        "<th>fault</th><th class=\"n\">struck</th><th class=\"n\">noticed after</th>\
         <th class=\"n\">recovered</th>",
    );
    for (_, name) in &counts {
        let _ = write!(head, "<th class=\"n\">{name}</th>");
    }
    if has_others {
        head.push_str("<th class=\"words\">the others</th>");
    }
    let has_notes = run.faults.iter().any(|fault| notes(fault).is_some());
    if has_notes {
        head.push_str("<th class=\"words\">why</th>");
    }
    let rows = run
        .faults
        .iter()
        .enumerate()
        .map(|(place, fault)| row(place + 1, fault, &counts, (has_others, has_notes)));
    let content = format!(
        "<div class=\"scroll stack\"><table><thead><tr>{head}</tr></thead><tbody>{}</tbody></table></div>",
        rows.collect::<String>()
    );
    let since = match run.scenario.as_str() {
        "registry" => "Times are in seconds since the end of the measured phase.",
        _ => "Times are in seconds since the measured phase began.",
    };
    section("Faults", since, &content)
}

fn row(
    number_of: usize,
    fault: &Map<String, Value>,
    counts: &[(&str, &str)],
    (has_others, has_notes): (bool, bool),
) -> String {
    let mut cells = String::new();
    let mut cell = |name: &str, class: &str, text: &str| {
        let _ = write!(cells, "<td class=\"{class}\" data-name=\"{name}\">{text}</td>");
    };
    let struck = struck_at_s(fault).map_or("did not strike".to_owned(), |at| format!("{} s", plain(at)));
    cell("struck", "n", &struck);
    let detected = time(fault, "detected_ms", 1e3).or_else(|| time(fault, "detect_us", 1.0));
    cell("noticed after", "n", detected.as_deref().unwrap_or("not seen"));
    let from_strike = time(fault, "recovered_ms", 1e3).or_else(|| time(fault, "back_us", 1.0));
    let recovered = after_end(fault).or_else(|| from_strike.map(|time| format!("after {time}")));
    cell(
        "recovered",
        if recovered.is_some() { "n" } else { "n alarm" },
        recovered.as_deref().unwrap_or("not seen"),
    );
    for (key, name) in counts {
        let count = number(fault, key).map_or("\u{2013}".to_owned(), whole);
        cell(name, "n", &count);
    }
    if has_others {
        cell("the others", "words", &others(fault));
    }
    if has_notes {
        cell("why", "words", &notes(fault).unwrap_or_else(|| "\u{2013}".to_owned()));
    }
    format!("<tr><th scope=\"row\">{number_of}\u{2002}{}</th>{cells}</tr>", escaped(&name_of(fault)))
}

/// How long after its end a fault that goes on for a time was recovered from; none of others.
fn after_end(fault: &Map<String, Value>) -> Option<String> {
    match number(fault, "recovered_after_end_ms")? {
        0.0 => Some("when it ended".to_owned()),
        millis => Some(format!("{} after its end", micros(millis * 1e3))),
    }
}

/// What is known of a fault beside its figures; none where there is nothing.
fn notes(fault: &Map<String, Value>) -> Option<String> {
    let notes = fault.get("notes")?.as_array()?.iter().filter_map(Value::as_str);
    let told: Vec<String> =
        notes.map(sentence).map(|note| format!("<span class=\"under\">{note}</span>")).collect();
    (!told.is_empty()).then(|| format!("<span>{}</span>", told.concat()))
}

/// What the clusters noticed that were not struck.
fn others(fault: &Map<String, Value>) -> String {
    let clusters = fault.get("clusters").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if clusters.is_empty() {
        return "\u{2013}".to_owned();
    }
    let told: Vec<String> = clusters
        .iter()
        .map(|cluster| {
            let name = escaped(cluster["name"].as_str().unwrap_or("?"));
            let lost = cluster["lost"].as_f64().unwrap_or(0.0);
            let noticed = cluster["noticed"] == true || lost > 0.0;
            let p99 = match (cluster["p99_before_us"].as_f64(), cluster["p99_during_us"].as_f64()) {
                (Some(before), Some(during)) => format!("p99 {} \u{2192} {}", micros(before), micros(during)),
                _ => String::new(),
            };
            let word = match (noticed, lost > 0.0) {
                (false, _) => "did not notice".to_owned(),
                (true, true) => format!("lost {}", whole(lost)),
                (true, false) => "noticed".to_owned(),
            };
            format!("{name} {word}<span class=\"under\">{}</span>", sentence(&p99))
        })
        .collect();
    format!("<span>{}</span>", told.join(" "))
}

fn name_of(fault: &Map<String, Value>) -> String {
    let name = fault.get("name").or_else(|| fault.get("fault"));
    name.and_then(Value::as_str).unwrap_or("fault").to_owned()
}

fn struck_at_s(fault: &Map<String, Value>) -> Option<f64> {
    number(fault, "struck_at_s").or_else(|| number(fault, "at_s"))
}

fn number(fault: &Map<String, Value>, key: &str) -> Option<f64> {
    fault.get(key).and_then(Value::as_f64)
}

/// A time in words; the longest where there are several, none where one of them is missing.
fn time(fault: &Map<String, Value>, key: &str, micros_of_unit: f64) -> Option<String> {
    let longest = match fault.get(key)? {
        Value::Array(all) => {
            let all: Option<Vec<f64>> = all.iter().map(Value::as_f64).collect();
            all?.into_iter().reduce(f64::max)?
        }
        value => value.as_f64()?,
    };
    Some(micros(longest * micros_of_unit))
}
