//! From two looks at a node to what happened between them.

use std::time::Instant;

use serde_json::Value;

/// The last look.
#[derive(Default)]
pub(crate) struct Rates {
    last: Option<(Instant, Value)>,
    events: Vec<String>,
}

/// Changes that are remembered.
const EVENTS_MAX: usize = 100;

/// A look, and the one before it.
pub(crate) struct Shown {
    pub(crate) now: Value,
    before: Option<(f64, Value)>,
    /// What changed from look to look, the newest last.
    pub(crate) events: Vec<String>,
}

impl Rates {
    /// Takes what the node says now.
    pub(crate) fn take(&mut self, now: Value) -> Shown {
        let at = Instant::now();
        let before = self.last.replace((at, now.clone())).map(|(then, status)| {
            let seconds = (at - then).as_secs_f64();
            (seconds, status)
        });
        // Another process, whose counters begin anew.
        let before = before.filter(|(seconds, status)| *seconds > 0.0 && status["process"] == now["process"]);
        if let Some((_, then)) = &before {
            let news = changes(then, &now);
            self.events.extend(news.into_iter().map(|event| format!("{} {event}", uptime(&now))));
            let beyond = self.events.len().saturating_sub(EVENTS_MAX);
            self.events.drain(..beyond);
        }
        Shown { now, before, events: self.events.clone() }
    }
}

impl Shown {
    /// How fast the counter at a JSON pointer grows, a second; `None` before the second look.
    pub(crate) fn rate(&self, pointer: &str) -> Option<f64> {
        let (seconds, before) = self.before.as_ref()?;
        let before = before.pointer(pointer)?.as_u64()?;
        let now = self.now.pointer(pointer)?.as_u64()?;
        Some(now.saturating_sub(before) as f64 / seconds)
    }
}

/// The time of a look, as the node's own age.
fn uptime(status: &Value) -> String {
    let seconds = status["uptime_seconds"].as_f64().unwrap_or_default() as u64;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What is worth a line: links that come and go, shards that stall, what is lost.
fn changes(then: &Value, now: &Value) -> Vec<String> {
    let mut events = Vec::new();
    if then["state"] != now["state"] {
        events.push(format!("the node is {}", text(&now["state"])));
    }
    if then["ready"] != now["ready"] {
        events.push(if now["ready"] == true { "ready" } else { "not ready" }.to_owned());
    }
    let grown = |pointer: &str| {
        let number = |status: &Value| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        number(now).saturating_sub(number(then))
    };
    for (shard, status) in list(&now["shards"]).iter().enumerate() {
        for (link, status) in list(&status["links"]).iter().enumerate() {
            let cluster = text(&status["cluster"]);
            for (counter, told) in [
                ("connects", "connected"),
                ("disconnects", "disconnected"),
                ("in_doubt", "messages in doubt"),
                ("discarded", "messages discarded"),
                ("lagged", "messages dropped for slow subscribers"),
                ("server_errors", "complaints of the server"),
                ("handler_panics", "handlers panicked"),
            ] {
                match grown(&format!("/shards/{shard}/links/{link}/{counter}")) {
                    0 => {}
                    1 => events.push(format!("shard {shard}, {cluster}: {told}")),
                    times => events.push(format!("shard {shard}, {cluster}: {told} ({times})")),
                }
            }
        }
        for (counter, told) in [
            ("stalls", "slept over work and was woken"),
            ("blocks", "was kept by a task"),
            ("task_panics", "had a task that panicked"),
        ] {
            if grown(&format!("/shards/{shard}/{counter}")) > 0 {
                events.push(format!("shard {shard} {told}"));
            }
        }
    }
    for node in list(&now["registry"]["nodes"]) {
        let before = list(&then["registry"]["nodes"]).iter().find(|known| known["name"] == node["name"]);
        if before.is_none_or(|before| before["standing"] != node["standing"]) {
            events.push(format!("node {} is {}", text(&node["name"]), text(&node["standing"])));
        }
    }
    events
}

/// A list, or an empty one.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text, or an empty one. What could steer a terminal is replaced.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace(|c: char| c.is_control(), "?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(process: u32, connects: u64, standing: &str) -> Value {
        json!({
            "process": process, "uptime_seconds": 3_725.5, "state": "running", "ready": connects > 1,
            "shards": [{"stalls": 0, "links": [{"cluster": "c1", "connects": connects, "in_doubt": 7 * (connects - 1)}]}],
            "registry": {"nodes": [{"name": "n2", "standing": standing}]},
        })
    }

    #[test]
    fn rates_and_events_are_what_lies_between_two_looks_at_one_process() {
        let mut rates = Rates::default();
        let first = rates.take(status(1, 1, "up"));
        assert_eq!(first.rate("/shards/0/links/0/connects"), None);
        assert!(first.events.is_empty());
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = rates.take(status(1, 2, "down"));
        assert!(second.rate("/shards/0/links/0/connects").is_some_and(|rate| rate > 0.0));
        assert_eq!(second.rate("/shards/0/links/0/nothing"), None);
        assert_eq!(
            second.events,
            [
                "01:02:05 ready",
                "01:02:05 shard 0, c1: connected",
                "01:02:05 shard 0, c1: messages in doubt (7)",
                "01:02:05 node n2 is down"
            ]
        );
        let restarted = rates.take(status(2, 9, "up"));
        assert_eq!(restarted.rate("/shards/0/links/0/connects"), None);
        assert_eq!(restarted.events.len(), 4);
    }

    #[test]
    fn events_are_bounded_and_texts_cannot_steer_a_terminal() {
        let mut rates = Rates::default();
        rates.take(status(1, 1, "up"));
        for round in 0..200 {
            std::thread::sleep(std::time::Duration::from_micros(10));
            let shown = rates.take(status(1, 2, if round % 2 == 0 { "down" } else { "up" }));
            assert!(shown.events.len() <= EVENTS_MAX);
        }
        assert_eq!(text(&json!("a\u{1b}[2Jb")), "a?[2Jb");
        assert_eq!((list(&json!(5)).len(), text(&json!(5))), (0, String::new()));
    }
}
