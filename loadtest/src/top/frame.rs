//! What is shown of a node: titled blocks of lines, for the screen as for plain text.

use serde_json::Value;

use super::columns::{self, Column};
use super::rates::{Shown, list, text};

/// Nodes, types of services and events that are shown.
const ROWS_MAX: usize = 20;
/// Events that somebody should look into.
const TROUBLE: [&str; 6] = [
    "disconnected",
    "server_refused",
    "slow_subscriber",
    "permission_denied",
    "handler_panicked",
    "reload_refused",
];

/// A titled block: a table, or lines of text.
pub(crate) struct Block {
    pub(crate) title: &'static str,
    /// Of a table.
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
    /// Of a block that is no table.
    text: Vec<String>,
    /// Lines, by their index, that tell of trouble.
    pub(crate) troubled: Vec<usize>,
}

impl Block {
    fn new(title: &'static str) -> Self {
        Self::table(title, &[])
    }

    fn table(title: &'static str, columns: &'static [Column]) -> Self {
        Self { title, columns, rows: Vec::new(), text: Vec::new(), troubled: Vec::new() }
    }

    /// How many lines it has, whatever their width.
    pub(crate) fn height(&self) -> usize {
        if self.columns.is_empty() { self.text.len() } else { self.rows.len() + 1 }
    }

    /// Within so many letters; of a table those columns that have room there.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        if self.columns.is_empty() {
            return self.text.clone();
        }
        let (head, rows) = columns::lines(self.columns, &self.rows, width);
        [head].into_iter().chain(rows).collect()
    }

    fn line(&mut self, line: String, is_trouble: bool) {
        if is_trouble {
            self.troubled.push(self.text.len());
        }
        self.text.push(line);
    }

    /// A row of a table, below its head.
    fn row(&mut self, cells: Vec<String>, is_trouble: bool) {
        self.rows.push(cells);
        if is_trouble {
            self.troubled.push(self.rows.len());
        }
    }
}

/// What a screen of 80 columns leaves out can be reckoned from the rest, or is in the log as well.
const SHARD_COLUMNS: &[Column] = &[
    Column::right("shard", 5, 0),
    Column::right("inbox", 6, 1),
    Column::right("stalls", 7, 0),
    Column::right("blocks", 7, 3),
    Column::right("longest", 11, 0),
    Column::right("blocked", 9, 4),
    Column::right("panics", 7, 0),
    Column::right("answers/s", 10, 0),
    Column::right("p50", 9, 2),
    Column::right("p99", 9, 0),
    Column::left("", 0, 0),
];

const LINK_COLUMNS: &[Column] = &[
    Column::left("cluster", 16, 0),
    Column::right("shard", 5, 0),
    Column::left("", 4, 0),
    Column::right("publish/s", 10, 0),
    Column::right("receive/s", 10, 0),
    Column::right("receive", 11, 1),
    Column::right("queued", 10, 0),
    Column::right("conns", 6, 3),
    Column::right("cuts", 6, 0),
    Column::right("tries", 6, 4),
    Column::right("ping p50", 9, 2),
    Column::right("ping p99", 9, 0),
];

const FATE_COLUMNS: &[Column] = &[
    Column::left("cluster", 16, 0),
    Column::right("shard", 5, 0),
    Column::right("accepted", 12, 0),
    Column::right("rejected", 9, 0),
    Column::right("pending", 9, 2),
    Column::right("processed", 12, 3),
    Column::right("in doubt", 9, 0),
    Column::right("discarded", 9, 0),
    Column::right("lagged", 9, 0),
    Column::right("stray", 7, 1),
];

/// Everything, from top to bottom; what happened comes last.
pub(crate) fn frame(shown: &Shown) -> Vec<Block> {
    vec![
        node(shown),
        shards(shown),
        links(shown),
        fates(shown),
        registry(shown),
        recent_events(shown),
        changes(shown),
    ]
}

/// The blocks as plain text.
pub(crate) fn text_of(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks.iter().filter(|block| block.height() > 0) {
        text.push_str(block.title);
        text.push('\n');
        for line in block.lines(usize::MAX) {
            text.push_str("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn node(shown: &Shown) -> Block {
    let status = &shown.now;
    let mut block = Block::new("node");
    let seconds = number(&status["uptime_seconds"]) as u64;
    block.line(
        format!(
            "{}  croupier {}  process {}  up {}:{:02}:{:02}  {}{}",
            text(&status["node"]),
            text(&status["version"]),
            count(&status["process"]),
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            text(&status["state"]),
            if status["ready"] == true { ", ready" } else { ", not ready" },
        ),
        status["ready"] != true,
    );
    for obstacle in list(&status["unready"]) {
        block.line(format!("not ready: {}", text(obstacle)), true);
    }
    let ring = &status["ring"];
    block.line(
        format!(
            "ring {} {}  configuration {}",
            text(&ring["mode"]),
            text(&ring["fingerprint"]),
            text(&status["configuration_hash"])
        ),
        false,
    );
    block
}

fn shards(shown: &Shown) -> Block {
    let mut block = Block::table("shards", SHARD_COLUMNS);
    for (index, shard) in list(&shown.now["shards"]).iter().enumerate() {
        let requests = &shard["requests"];
        let blocked = number(&shard["blocked_seconds"]);
        block.row(
            vec![
                count(&shard["shard"]),
                count(&shard["inbox"]),
                count(&shard["stalls"]),
                count(&shard["blocks"]),
                format!("{:.0}ms", number(&shard["longest_block_seconds"]) * 1e3),
                format!("{:.0}ms", blocked * 1e3),
                count(&shard["task_panics"]),
                per_second(shown.rate(&format!("/shards/{index}/requests/count"))),
                latency(&requests["p50_seconds"]),
                latency(&requests["p99_seconds"]),
                if shard["stopped"] == true { "stopped".to_owned() } else { String::new() },
            ],
            blocked > 0.5 || shard["stopped"] == true,
        );
    }
    block
}

fn links(shown: &Shown) -> Block {
    let mut block = Block::table("links", LINK_COLUMNS);
    each_link(shown, |shard, at, link| {
        let is_connected = link["connected"] == true;
        block.row(
            vec![
                text(&link["cluster"]),
                count(shard),
                if is_connected { "up" } else { "DOWN" }.to_owned(),
                per_second(shown.rate(&format!("{at}/accepted"))),
                per_second(shown.rate(&format!("{at}/received"))),
                shown
                    .rate(&format!("{at}/received_bytes"))
                    .map_or_else(|| "-".to_owned(), |rate| format!("{}/s", bytes(rate))),
                bytes(number(&link["queued_bytes"])),
                count(&link["connects"]),
                count(&link["disconnects"]),
                count(&link["tries"]),
                latency(&link["round_trip"]["p50_seconds"]),
                latency(&link["round_trip"]["p99_seconds"]),
            ],
            !is_connected,
        );
    });
    block
}

fn fates(shown: &Shown) -> Block {
    let mut block = Block::table("fates of publishes, and what was dropped", FATE_COLUMNS);
    each_link(shown, |shard, _, link| {
        let is_lost = ["in_doubt", "discarded", "lagged"].iter().any(|count| number(&link[count]) > 0.0);
        block.row(
            vec![
                text(&link["cluster"]),
                count(shard),
                count(&link["accepted"]),
                count(&link["rejected"]),
                format!("{}", number(&link["queued"]) + number(&link["written"])),
                count(&link["processed"]),
                count(&link["in_doubt"]),
                count(&link["discarded"]),
                count(&link["lagged"]),
                count(&link["stray"]),
            ],
            is_lost,
        );
    });
    block
}

fn each_link(shown: &Shown, mut each: impl FnMut(&Value, String, &Value)) {
    for (index, shard) in list(&shown.now["shards"]).iter().enumerate() {
        for (place, link) in list(&shard["links"]).iter().enumerate() {
            each(&shard["shard"], format!("/shards/{index}/links/{place}"), link);
        }
    }
}

fn registry(shown: &Shown) -> Block {
    let mut block = Block::new("registry");
    let registry = &shown.now["registry"];
    let is_syncing = registry["syncing"] == true;
    let address =
        registry["address"].as_str().map_or("this node alone".to_owned(), |_| text(&registry["address"]));
    block.line(format!("{address}{}", if is_syncing { ", syncing" } else { "" }), is_syncing);
    let refused: u64 = registry["counters"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("refused"))
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    let frames = |counter: &str| per_second(shown.rate(&format!("/registry/counters/{counter}")));
    block.line(
        format!(
            "frames out {}/s, in {}/s  links opened {}, closed {}  repairs {}  refused {refused}",
            frames("frames_sent"),
            frames("frames_received"),
            count(&registry["counters"]["links_opened"]),
            count(&registry["counters"]["links_closed"]),
            count(&registry["counters"]["repairs"]),
        ),
        false,
    );
    let nodes = list(&registry["nodes"]);
    for node in nodes.iter().take(ROWS_MAX) {
        let standing = text(&node["standing"]);
        block.line(
            format!("node {:<20} {:<10} {}", text(&node["name"]), standing, text(&node["address"])),
            standing == "down" || standing == "suspect",
        );
    }
    let types = list(&registry["types"]);
    for kind in types.iter().take(ROWS_MAX) {
        let line = format!(
            "type {:<20} {} services, {} online",
            text(&kind["name"]),
            kind["services"],
            kind["online"]
        );
        block.line(line, kind["services"] != kind["online"]);
    }
    let more = nodes.len().saturating_sub(ROWS_MAX) + number(&registry["nodes_not_listed"]) as usize;
    let more_types = types.len().saturating_sub(ROWS_MAX) + number(&registry["types_not_listed"]) as usize;
    if more + more_types > 0 {
        block.line(format!("and {more} nodes, {more_types} types more"), false);
    }
    block
}

/// What the node itself remembers, the newest first.
fn recent_events(shown: &Shown) -> Block {
    let mut block = Block::new("events of the node, by its clock (UTC)");
    let events = &shown.now["events"];
    let dropped = number(&events["dropped"]);
    if dropped > 0.0 {
        block.line(format!("{dropped} dropped for listeners that do not keep up"), true);
    }
    for event in list(&events["recent"]).iter().rev().take(ROWS_MAX) {
        let seconds = number(&event["at_unix_seconds"]) as u64;
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        let is_trouble = TROUBLE.contains(&event["name"].as_str().unwrap_or_default());
        block.line(
            format!("{hours:02}:{minutes:02}:{:02} {}", seconds % 60, text(&event["text"])),
            is_trouble,
        );
    }
    block
}

fn changes(shown: &Shown) -> Block {
    let mut block = Block::new("changes from look to look, by the node's age");
    for event in shown.events.iter().rev() {
        block.line(event.clone(), false);
    }
    block
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// A count as text, which columns are padded with, where a JSON value would not be.
fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string())
}

/// A short time; nothing of the kind has happened lately when it is zero.
fn latency(seconds: &Value) -> String {
    match number(seconds) {
        0.0 => "-".to_owned(),
        short if short < 0.01 => format!("{:.0}us", short * 1e6),
        long => format!("{:.0}ms", long * 1e3),
    }
}

fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
}

/// With the unit that leaves at most four digits.
fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 10_000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.0}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rates::Rates;
    use super::*;

    #[test]
    fn a_node_in_trouble_is_shown_with_its_trouble_marked() {
        let events = json!({"waiting": 0, "dropped": 4, "recent": [
            {"at_unix_seconds": 3_725.5, "name": "connected", "text": "c1, shard 0: connected to a\u{1b}"},
            {"at_unix_seconds": 3_726.5, "name": "disconnected", "text": "c1, shard 0: cut off from a"},
        ]});
        let requests = json!({"count": 9, "p50_seconds": 0.000_25, "p99_seconds": 0.125});
        let round_trip = json!({"count": 0, "p50_seconds": 0.0, "p99_seconds": 0.0});
        let status = json!({
            "node": "n1", "version": "0.1.0", "process": 7, "uptime_seconds": 61.0, "state": "running",
            "ready": false, "unready": ["cluster c1 is down"],
            "ring": {"mode": "croupier", "fingerprint": "00ff"}, "configuration_hash": "abcd",
            "clusters": [],
            "shards": [{
                "shard": 0, "inbox": 0, "stalls": 0, "blocks": 2, "longest_block_seconds": 1.25,
                "blocked_seconds": 0.0, "task_panics": 0, "stopped": false,
                "requests": requests,
                "links": [{"cluster": "c1", "connected": false, "accepted": 10, "rejected": 0, "queued": 3,
                    "written": 0, "processed": 5, "in_doubt": 2, "discarded": 0, "lagged": 0, "stray": 0,
                    "queued_bytes": 20_000_000, "connects": 1, "disconnects": 1, "tries": 9,
                    "round_trip": round_trip}],
            }],
            "registry": {"address": null, "syncing": false, "counters": {"refused_frame": 2, "refused_channel": 1},
                "nodes": [{"name": "n1", "standing": "up", "address": ""}],
                "types": [{"name": "dealer", "services": 2, "online": 1}]},
            "events": events,
        });
        let blocks = frame(&Rates::default().take(status));
        let text = text_of(&blocks);
        for part in [
            "not ready: cluster c1 is down",
            "DOWN",
            "1250ms",
            "    0      0       0       2",
            "19MiB",
            "refused 3",
            "type dealer",
            "up 0:01:01",
            "250us     125ms",
            "4 dropped",
            "01:02:05 c1, shard 0: connected to a?",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains("look to look"), "nothing in it, no title:\n{text}");
        let troubled: Vec<usize> = blocks.iter().map(|block| block.troubled.len()).collect();
        assert_eq!(troubled, [2, 0, 1, 1, 1, 2, 0], "{text}");
    }

    #[test]
    fn an_answer_without_anything_is_shown_without_a_panic() {
        let blocks = frame(&Rates::default().take(json!({})));
        assert!(text_of(&blocks).contains("shard"));
    }
}
