//! The top of the page: what ran, the verdict with its reasons, and the figures that matter most.

use serde_json::{Map, Value};

use super::escape::{escaped, sentence};
use super::{plain, whole};
use crate::results::run_file::RunFile;
use crate::slo::micros;
use crate::verdict::Status;

/// Counts of which any is a fault of the run.
pub(super) const ALARMING: [&str; 14] = [
    "lost",
    "duplicate",
    "reordered",
    "corrupt",
    "missing",
    "impossible",
    "executed_twice",
    "executed_though_refused",
    "answered_without_execution",
    "never_ended",
    "overdue",
    "to_dead_after_detection",
    "unexplained",
    "unanswered",
];

/// How a verdict begins its reason when what is wrong is more than the faults explain.
const WRONG_COUNTS: &str = "wrong counts";

/// What was done, and what came of it: the keys of a count and of what it is out of.
const ACHIEVEMENTS: [(&str, &str, &str); 4] = [
    ("delivered", "sent", "delivered"),
    ("answered", "calls", "answered"),
    ("seen", "to_be_seen", "sightings"),
    ("answered", "requests", "answered"),
];

/// VALID, DEGRADED or INVALID.
pub(super) fn status_word(run: &RunFile) -> &'static str {
    run.verdict.status.word()
}

/// What ran, and when.
pub(super) fn head(run: &RunFile) -> String {
    let mut parts = Vec::new();
    let number = |key: &str| run.arguments.get(key).and_then(Value::as_f64);
    let find_max = run.rest.get("find_max");
    parts.extend(pace(run));
    if let Some(duration) = number("duration_s") {
        let each = if find_max.is_some() { "each try " } else { "" };
        parts.push(format!("{each}for {} s", plain(duration)));
    }
    if let Some(warmup) = number("warmup_s") {
        parts.push(format!("after {} s of warm-up", plain(warmup)));
    }
    let mut over: Vec<String> = Vec::new();
    for (key, one, many) in [
        ("topics", "topic", "topics"),
        ("key_count", "key", "keys"),
        ("clusters", "cluster", "clusters"),
        ("registry_nodes", "node", "nodes"),
        ("workers", "worker", "workers"),
        ("processes", "process", "processes"),
        ("shards", "shard", "shards"),
    ] {
        if let Some(count) = number(key) {
            over.push(format!("{} {}", whole(count), if count == 1.0 { one } else { many }));
        }
    }
    if !over.is_empty() {
        parts.push(format!("\u{b7} {}", over.join(", ")));
    }
    format!(
        "<header>\n<p class=\"kicker\">croupier load test{}</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n</header>\n",
        if run.started_at.is_empty() {
            String::new()
        } else {
            format!(" \u{b7} {}", escaped(&when(&run.started_at)))
        },
        escaped(&run.scenario),
        escaped(&parts.join(" "))
    )
}

/// What was asked for: a rate, several, or the highest.
fn pace(run: &RunFile) -> Option<String> {
    if let Some(find_max) = run.rest.get("find_max") {
        let objective = find_max["objective"].as_str().unwrap_or("its objective");
        return Some(match find_max["best"].as_f64() {
            Some(best) => format!("the highest rate with {objective}, {}/s,", whole(best)),
            None => format!("no rate with {objective},"),
        });
    }
    if let Some(steps) = run.rest.get("steps").and_then(Value::as_array).filter(|steps| steps.len() > 1) {
        let asked =
            |step: Option<&Value>| whole(step.map_or(0.0, |step| step["asked"].as_f64().unwrap_or(0.0)));
        let (first, last) = (asked(steps.first()), asked(steps.last()));
        return Some(format!("{first}/s to {last}/s in {} steps", steps.len()));
    }
    if let Some(concurrency) = run.arguments.get("concurrency").and_then(Value::as_f64) {
        return Some(format!("a closed loop of {} under way", whole(concurrency)));
    }
    Some(format!("{}/s", whole(number(&run.rate, "asked")?)))
}

/// The verdict with all its reasons, and the goals.
pub(super) fn verdict(run: &RunFile) -> String {
    let missed = run.slos.iter().filter(|slo| !slo.met).count();
    let (class, words) = match run.verdict.status {
        Status::Invalid => ("bad", "The run proves nothing, or proves a fault."),
        _ if missed > 0 => ("bad", "What the run was held to, it missed."),
        Status::Degraded => (
            "warn",
            "The counts are right; the latencies say as much about the surroundings as about what was measured.",
        ),
        Status::Valid => ("good", "The figures say what they seem to say."),
    };
    let reasons: String =
        run.verdict.reasons.iter().map(|reason| format!("<li>{}</li>", sentence(reason))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!("<ul>{reasons}</ul>") };
    let goals: String = run
        .slos
        .iter()
        .map(|slo| {
            format!(
                "<li class=\"{}\"><span class=\"mark-of\">{}</span><code>{}</code><span>{}</span></li>",
                if slo.met { "good" } else { "bad" },
                if slo.met { "met" } else { "missed" },
                escaped(&slo.slo),
                sentence(&slo.told)
            )
        })
        .collect();
    let goals = if goals.is_empty() { String::new() } else { format!("<ul class=\"goals\">{goals}</ul>") };
    format!(
        "<div class=\"verdict {class}\">\n<p><span class=\"status\">{}</span>{}</p>\n{reasons}{goals}</div>\n",
        status_word(run),
        escaped(words)
    )
}

/// The figures that matter most, as cards.
pub(super) fn figures(run: &RunFile) -> String {
    let mut cards = String::new();
    let mut card = |class: &str, name: &str, value: &str, more: &str| {
        cards.push_str(&format!(
            "<div class=\"figure{class}\"><div class=\"name\">{}</div><div class=\"value\">{}</div>\
             <div class=\"more\">{}</div></div>\n",
            escaped(name),
            with_unit(value),
            escaped(more)
        ));
    };
    let count = |key: &str| run.counts.get(key).and_then(Value::as_f64);
    for (done, of, name) in ACHIEVEMENTS {
        if let (Some(done), Some(of)) = (count(done), count(of)) {
            card("", name, &whole(done), &format!("of {}", whole(of)));
            break;
        }
    }
    let alarming: Vec<(&str, f64)> = ALARMING
        .iter()
        .filter_map(|key| Some((*key, count(key)?)))
        .filter(|(_, count)| *count > 0.0)
        .collect();
    let wrong: f64 = alarming.iter().map(|(_, count)| count).sum();
    let named: Vec<String> =
        alarming.iter().map(|(key, count)| format!("{} {}", whole(*count), key.replace('_', " "))).collect();
    let named = if named.is_empty() { "none lost, double or damaged".to_owned() } else { named.join(", ") };
    // What a fault did to its own cluster does not speak against the run.
    let excused: f64 = run.faults.iter().map(cost_of).sum();
    let is_explained = wrong <= excused && !run.verdict.reasons.iter().any(|it| it.starts_with(WRONG_COUNTS));
    let (name, class) = match wrong {
        0.0 => ("wrong", ""),
        _ if is_explained => ("wrong, by faults", ""),
        _ => ("wrong", " bad"),
    };
    card(class, name, &whole(wrong), &named);
    if let (Some(achieved), Some(asked)) = (number(&run.rate, "achieved"), number(&run.rate, "asked")) {
        let more = match () {
            () if run.arguments.contains_key("concurrency") => "in a closed loop".to_owned(),
            () if run.rest.contains_key("steps") => {
                format!("of {}/s asked, the mean of the ramp", whole(asked))
            }
            () => format!("of {}/s asked", whole(asked)),
        };
        card("", "rate", &format!("{} /s", whole(achieved)), &more);
    }
    if let Some((name, points)) = run.headline().filter(|(_, points)| points.count > 0) {
        for (point, value) in [("p50", points.p50), ("p99", points.p99), ("p99.9", points.p999)] {
            card("", &format!("{name} {point}"), &micros(value), meaning_of(name));
        }
    }
    // Of no message there is no share.
    if let Some((unit, cpu)) = run.cpu_us_each().filter(|(_, cpu)| cpu.client > 0.0) {
        let more = cpu
            .servers
            .map_or("servers unknown".to_owned(), |servers| format!("servers {} us", plain(servers)));
        card("", &format!("CPU a {unit}"), &format!("{} us", plain(cpu.client)), &more);
    }
    format!("<div class=\"figures\">\n{cards}</div>\n")
}

/// Messages that a fault of a server cost, or put out of their order.
fn cost_of(fault: &Map<String, Value>) -> f64 {
    ["lost", "duplicates", "reordered"].iter().filter_map(|key| number(fault, key)).sum()
}

/// What a latency is from and to.
pub(super) fn meaning_of(latency: &str) -> &'static str {
    match latency {
        "e2e" => "from the intended send",
        "lag" => "intended to actual send",
        "wire" => "from the actual send",
        "service" => "from the actual send to the answer",
        "converge" => "intended change to the last node",
        "first" => "intended change to the first node",
        "failed" => "intended call to its error",
        "closed_loop" => "the loop beside it, from its own send",
        _ => "",
    }
}

fn number(map: &Map<String, Value>, key: &str) -> Option<f64> {
    map.get(key).and_then(Value::as_f64)
}

/// The unit after the last space in smaller letters.
fn with_unit(value: &str) -> String {
    match value.rsplit_once(' ') {
        Some((number, unit)) => format!("{} <small>{}</small>", escaped(number), escaped(unit)),
        None => escaped(value),
    }
}

/// `2026-11-22T07:45:03Z` for people.
fn when(stamp: &str) -> String {
    stamp.replace('T', " ").replace('Z', " UTC")
}
