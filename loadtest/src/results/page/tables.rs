//! The lower half of the page: balance, counts, and all that a reader may want to look up.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::escape::escaped;
use super::facts::ALARMING;
use super::{plain, section, whole};
use crate::results::run_file::RunFile;
use crate::shell;
use crate::slo::micros;

/// More bars than this are no picture any more.
const BARS_MAX: usize = 64;

/// The order of the counts that people look for first.
const COUNTS_FIRST: [&str; 17] = [
    "published",
    "sent",
    "delivered",
    "lost",
    "calls",
    "answered",
    "executed",
    "changes",
    "adds",
    "updates",
    "removals",
    "to_be_seen",
    "seen",
    "missing",
    "duplicate",
    "reordered",
    "corrupt",
];

/// A number that is a name: it is given as it is, to be given again.
const RAW: [&str; 1] = ["seed"];

/// What has a section of its own.
const SHOWN_ELSEWHERE: [&str; 1] = ["beside"];

struct Bar {
    name: String,
    amount: f64,
    /// The part of the whole that was to be expected, from 0 to 1.
    expected: f64,
}

/// Who did how much of the work.
pub(super) fn balance(run: &RunFile) -> String {
    let topics: f64 = run.clusters.iter().map(|cluster| cluster.topics as f64).sum();
    let clusters: Vec<Bar> = run
        .clusters
        .iter()
        .map(|cluster| Bar {
            name: cluster.name.clone(),
            amount: cluster.delivered as f64,
            expected: if topics > 0.0 {
                cluster.topics as f64 / topics
            } else {
                1.0 / run.clusters.len() as f64
            },
        })
        .collect();
    let mut shards = Vec::new();
    if let Some(series) = &run.series {
        for (place, shard) in series.shards.iter().enumerate() {
            let measured = series.intervals.iter().filter(|interval| !interval.is_warmup);
            let amount: u64 = measured.filter_map(|interval| interval.delivered_by_shard.get(place)).sum();
            let expected = 1.0 / series.shards.len() as f64;
            shards.push(Bar { name: format!("shard {shard}"), amount: amount as f64, expected });
        }
    }
    let mut content = String::new();
    for (title, bars) in [("Clusters", clusters), ("Shards", shards)] {
        if !bars.is_empty() {
            let _ = write!(content, "<div><h3>{title}</h3>{}</div>", bars_of(&bars));
        }
    }
    if content.is_empty() {
        return content;
    }
    section(
        "Balance",
        "Messages of the measured phase that each one delivered. The upright line is the share to be expected: for a \
         cluster that of its topics, for a shard an equal one.",
        &format!("<div class=\"columns\">{content}</div>"),
    )
}

fn bars_of(bars: &[Bar]) -> String {
    let all: f64 = bars.iter().map(|bar| bar.amount).sum::<f64>().max(1.0);
    // Room for the largest, so that small differences are seen.
    let widest = bars.iter().map(|bar| (bar.amount / all).max(bar.expected)).fold(0.01, f64::max) * 1.08;
    let mut text = String::from("<div class=\"bars\">");
    for bar in bars.iter().take(BARS_MAX) {
        let share = bar.amount / all;
        let _ = write!(
            text,
            "<span>{}</span><span class=\"track\"><span class=\"even\" style=\"left:{:.2}%\"></span><span class=\"bar\" \
             style=\"display:block;width:{:.2}%\"></span></span><span class=\"amount\">{:.1} % <small>{}</small></span>",
            escaped(&bar.name),
            bar.expected / widest * 100.0,
            share / widest * 100.0,
            share * 100.0,
            whole(bar.amount)
        );
    }
    text.push_str("</div>");
    if bars.len() > BARS_MAX {
        let _ = write!(text, "<p class=\"note\">and {} more</p>", bars.len() - BARS_MAX);
    }
    text
}

/// The steps of a ramp: what was asked for, what was sent, and how long it took.
pub(super) fn ramp(run: &RunFile) -> String {
    let steps = run.rest.get("steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let row = |step: &Value| {
        let number = |key: &str| step[key].as_f64().map_or("\u{2013}".to_owned(), plain);
        let time = |point: &str| step["e2e"][point].as_f64().map_or("\u{2013}".to_owned(), micros);
        let lost = step["lost"].as_f64().unwrap_or(0.0);
        if step["sent"].as_u64() == Some(0) {
            return format!(
                "<tr><th scope=\"row\">{} to {} s</th><td class=\"n\">{}/s</td>\
                 <td colspan=\"4\">not come to: the run ended before</td></tr>",
                number("from_s"),
                number("until_s"),
                number("asked")
            );
        }
        format!(
            "<tr><th scope=\"row\">{} to {} s</th><td class=\"n\">{}/s</td><td class=\"n\">{}/s</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n{}\">{}</td></tr>",
            number("from_s"),
            number("until_s"),
            number("asked"),
            number("achieved"),
            time("p50"),
            time("p99"),
            if lost > 0.0 { " alarm" } else { "" },
            whole(lost)
        )
    };
    let rows: String = steps.iter().map(row).collect();
    if rows.is_empty() {
        return rows;
    }
    section(
        "Ramp",
        "Each step of the rate in its turn; latencies from the intended send.",
        &format!(
            "<div class=\"scroll tight\"><table><thead><tr><th></th><th class=\"n\">asked</th>\
             <th class=\"n\">sent</th><th class=\"n\">p50</th><th class=\"n\">p99</th><th class=\"n\">lost</th></tr>\
             </thead><tbody>{rows}</tbody></table></div>"
        ),
    )
}

/// Every message by its fate, in the measured phase and in the warm-up.
pub(super) fn counts(run: &RunFile) -> String {
    let is_fanout = run.scenario == "fanout";
    // Elsewhere that is what was sent.
    let is_shown = |key: &&str| run.counts.contains_key(*key) && (is_fanout || *key != "published");
    let first = COUNTS_FIRST.iter().copied().filter(is_shown);
    let others = run.counts.keys().map(String::as_str).filter(|key| !COUNTS_FIRST.contains(key));
    let name = |key: &str| match key {
        "published" => "messages published".to_owned(),
        "sent" if is_fanout => "copies due".to_owned(),
        "delivered" if is_fanout => "copies delivered".to_owned(),
        key => words(key),
    };
    let rows: String = first
        .chain(others)
        .map(|key| {
            let cell = |counts: &Map<String, Value>, name: &str| {
                let count = counts.get(key).and_then(Value::as_f64);
                let alarm = if ALARMING.contains(&key) && count.unwrap_or(0.0) > 0.0 { " alarm" } else { "" };
                let text = count.map_or("\u{2013}".to_owned(), whole);
                format!("<td class=\"n{alarm}\" data-name=\"{name}\">{text}</td>")
            };
            let measured = cell(&run.counts, "measured phase");
            let warmup = cell(&run.warmup_counts, "warm-up");
            format!("<tr><th scope=\"row\">{}</th>{measured}{warmup}</tr>", escaped(&name(key)))
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    section(
        "Counts",
        match run.scenario.as_str() {
            "pubsub" | "fanout" => {
                "Every message is checked: who sent it, where it belongs, its place in the order, and its bytes."
            }
            "calls" => {
                "Every call is checked against what was executed, and against who was there to execute it."
            }
            "registry" => "Every change is looked for on every other node.",
            _ => "",
        },
        &format!(
            "<table class=\"long\"><thead><tr><th></th><th class=\"n\">measured phase</th><th class=\"n\">warm-up</th></tr></thead>\
             <tbody>{rows}</tbody></table>"
        ),
    )
}

fn unknown(value: Option<f64>) -> Value {
    value.map_or_else(|| "unknown".into(), Value::from)
}

/// What only this scenario measures.
pub(super) fn others(run: &RunFile) -> String {
    let mut content = String::new();
    let mut groups: Vec<(String, Map<String, Value>)> = Vec::new();
    let mut cpu = Map::new();
    if let Some(used) = run.cpu_s {
        cpu.insert("client, in seconds".to_owned(), used.client.into());
        cpu.insert("servers, in seconds".to_owned(), unknown(used.servers));
    }
    if let Some((unit, each)) = run.cpu_us_each() {
        cpu.insert(format!("client, in us a {unit}"), each.client.into());
        cpu.insert(format!("servers, in us a {unit}"), unknown(each.servers));
    }
    groups.push(("Processor time of the measured phase".to_owned(), cpu));
    groups.push(("Rate".to_owned(), run.rate.clone()));
    for (key, value) in &run.rest {
        if let Value::Object(group) = value
            && !key.starts_with("cpu_us_per_")
            && !SHOWN_ELSEWHERE.contains(&key.as_str())
        {
            groups.push((capital(&words(key)), group.clone()));
        }
    }
    for (title, group) in groups.iter().filter(|(_, group)| !group.is_empty()) {
        let _ = write!(content, "<div><h3>{}</h3>{}</div>", escaped(title), list(group));
    }
    section("More figures", "", &format!("<div class=\"columns\">{content}</div>"))
}

/// Where it ran, and what it was told.
pub(super) fn surroundings(run: &RunFile) -> String {
    let mut arguments = run.arguments.clone();
    arguments.remove("command_line");
    arguments.remove("program");
    let mut content = String::new();
    for (title, group) in [("Surroundings", &run.surroundings), ("Arguments, defaults included", &arguments)]
    {
        if !group.is_empty() {
            let _ = write!(content, "<div><h3>{title}</h3>{}</div>", list(group));
        }
    }
    if content.is_empty() {
        return content;
    }
    section("Surroundings and arguments", "", &format!("<div class=\"columns\">{content}</div>"))
}

/// The command, as a shell takes it.
pub(super) fn reproduction(run: &RunFile) -> String {
    let words = run.arguments.get("command_line").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let program = run.arguments.get("program").and_then(Value::as_str).unwrap_or("croupier");
    let command = shell::command(program, words.iter().filter_map(Value::as_str));
    let text = |key: &str| run.surroundings.get(key).and_then(Value::as_str);
    let mut note =
        "The seed makes topics, keys, sizes and their order the same again; the machine is yours.".to_owned();
    if let Some(commit) = text("commit") {
        let _ = write!(note, " Commit {commit}.");
    }
    if let Some(server) = text("nats_server") {
        let _ = write!(note, " nats-server {server}.");
    }
    section("How to do it again", &note, &format!("<pre>{}</pre>", escaped(&command)))
}

fn list(group: &Map<String, Value>) -> String {
    let mut text = String::from("<dl>");
    for (key, value) in group {
        let shown = match value {
            Value::Array(entries) if entries.iter().any(Value::is_object) => table(entries),
            value if RAW.contains(&key.as_str()) => escaped(&value.to_string()),
            // Limits are told as the system has them, in text.
            Value::String(text) if key.contains("_max") => {
                escaped(&text.parse().map_or_else(|_| text.clone(), whole))
            }
            value => escaped(&told(value)),
        };
        let _ = write!(text, "<dt>{}</dt><dd>{shown}</dd>", escaped(&words(key)));
    }
    text.push_str("</dl>");
    text
}

/// Things of one kind, a row each.
fn table(entries: &[Value]) -> String {
    let objects = || entries.iter().filter_map(Value::as_object);
    let keys: Vec<&String> = objects().next().into_iter().flat_map(Map::keys).collect();
    let head: String = keys.iter().map(|key| format!("<th>{}</th>", escaped(&words(key)))).collect();
    let row = |object: &Map<String, Value>| {
        let cell =
            |key: &&String| format!("<td>{}</td>", escaped(&object.get(*key).map_or_else(String::new, told)));
        format!("<tr>{}</tr>", keys.iter().map(cell).collect::<String>())
    };
    let rows: String = objects().map(row).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")
}

fn told(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => plain(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => all.iter().map(told).collect::<Vec<_>>().join(", "),
        Value::Object(group) => group
            .iter()
            .map(|(key, value)| format!("{} {}", words(key), told(value)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// `warmup_s` as people would say it.
fn words(key: &str) -> String {
    for (end, unit) in [("_s", "s"), ("_ms", "ms"), ("_us", "us"), ("_percent", "%")] {
        if let Some(name) = key.strip_suffix(end) {
            return format!("{}, {unit}", name.replace('_', " "));
        }
    }
    key.replace('_', " ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
