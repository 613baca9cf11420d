//! Results as a page, and as the part of the README that shows them.

use std::fmt::Write;

use crate::figure::{Figure, Via, Work};
use crate::registry;
use crate::report::{Row, Side};
use crate::results::Results;
use crate::ring_peers;
use crate::worker::Client;

/// In the README, what stands between these two lines is written by the program.
pub const README_START: &str = "<!-- figures: written by `peers` from bench/results.json -->";
/// The end of it.
pub const README_END: &str = "<!-- end of figures -->";

/// The clients that have columns, in their order.
const COLUMNS: [Client; 3] = [Client::Croupier, Client::AsyncNats, Client::NatsC];

/// The whole page.
#[must_use]
pub fn page(results: &Results) -> String {
    let mut page = String::from("# Croupier beside its peers\n\n");
    page += &surroundings(results);
    page += "\nEach client works in a process of its own, the sides in turn, and what is told is the median over the rounds. CPU\n\
        time is that of the client's process, user and system. The other end is a stub of bare sockets, or a real\n\
        nats-server; all run on the same cores. Both ends count and sum what passed, and a difference fails the run.\n";
    for via in Via::ALL {
        page += &messages(results, via);
    }
    page += &round_trips(results);
    page += &rings(results);
    page += &registries(results);
    page
}

/// What the README shows, without its two lines.
#[must_use]
pub fn readme(results: &Results) -> String {
    let mut part = surroundings(results);
    for via in [Via::Stub, Via::Server] {
        part += &messages(results, via);
    }
    part + &round_trips(results)
}

/// The README with its part replaced; `None` if its two lines are not there.
#[must_use]
pub fn with_figures(readme: &str, part: &str) -> Option<String> {
    let (before, rest) = readme.split_once(README_START)?;
    let (_, after) = rest.split_once(README_END)?;
    Some(format!("{before}{README_START}\n{part}{README_END}{after}"))
}

fn surroundings(results: &Results) -> String {
    let here = &results.surroundings;
    let mut text = format!(
        "Measured on {}: {}. Commit {}, {}.\nLoad of the machine before and after: {} and {}.\n",
        here.date, here.machine, here.commit, here.rustc, here.load[0], here.load[1]
    );
    let versions: Vec<_> = here.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(text, "Versions: {}.", versions.join(", "));
    for (name, reason) in &here.missing {
        let _ = writeln!(text, "Without {name}: {reason}.");
    }
    let _ = write!(text, "\n```\n{}\n```\n", here.command);
    text
}

fn messages(results: &Results, via: Via) -> String {
    let rows: Vec<_> = results.messages.iter().filter(|row| row.via == via.name()).collect();
    let Some(first) = rows.first() else { return String::new() };
    let columns: Vec<_> = COLUMNS.into_iter().filter(|client| first.side(*client).is_some()).collect();
    let heading = match via {
        Via::Stub => "Against a stub of bare sockets",
        Via::Server => "Through a nats-server",
        Via::Tls => "Through a nats-server, the client's connection encrypted",
    };
    let mut table = format!("\n{heading}, CPU time of a message in microseconds:\n\n| |");
    for client in &columns {
        let _ = write!(table, " {} |", title(*client));
        if *client != Client::Croupier {
            table += " times ours |";
        }
    }
    table += "\n|---|";
    table += &"---|".repeat(columns.len() * 2 - 1);
    table += "\n";
    for row in rows {
        let _ = write!(table, "| {} |", label(row));
        for client in &columns {
            match row.side(*client) {
                Some(side) if *client == Client::Croupier => {
                    let _ = write!(table, " {} |", digits(side.cpu_us));
                }
                Some(side) => {
                    let _ = write!(table, " {} | {} |", digits(side.cpu_us), times(side.ratio));
                }
                None => table += " - | - |",
            }
        }
        table += "\n";
    }
    table
}

/// Requests one at a time: how long they take, and what it costs to poll for the answer.
fn round_trips(results: &Results) -> String {
    let is_single =
        |row: &&Row| figure(row).is_some_and(|figure| figure.work() == Work::Request { in_flight: 1 });
    let rows: Vec<_> = results.messages.iter().filter(is_single).collect();
    let columns = [Client::Croupier, Client::CroupierSpinning, Client::AsyncNats, Client::NatsC];
    let is_there = |client: &Client| rows.first().is_some_and(|row| row.side(*client).is_some());
    let columns: Vec<_> = columns.into_iter().filter(is_there).collect();
    if columns.is_empty() {
        return String::new();
    }
    let mut table = "\nA request at a time, median round trip / CPU time in microseconds:\n\n| |".to_owned();
    for client in &columns {
        let _ = write!(table, " {} |", title(*client));
    }
    table += "\n|---|";
    table += &"---|".repeat(columns.len());
    table += "\n";
    for row in rows {
        let _ = write!(table, "| {}, {} |", label(row), row.via);
        for client in &columns {
            let cell = |side: &Side| {
                let round_trip = side.round_trip_p50_us.map_or("-".to_owned(), digits);
                format!("{round_trip} / {}", digits(side.cpu_us))
            };
            let _ = write!(table, " {} |", row.side(*client).map_or("-".to_owned(), cell));
        }
        table += "\n";
    }
    table
}

fn rings(results: &Results) -> String {
    if results.ring.is_empty() {
        return String::new();
    }
    let mut table = "\n## Rings\n\nCPU time of a lookup in nanoseconds, every ring with the same hash, keys and members.\n\n\
        | | members | lookup | least..most | times ours | fullest member, of its share |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for row in &results.ring {
        for ring_peers::Side { ring, lookup_ns, lookup_ns_range: [least, most], ratio, fullest } in &row.sides
        {
            let fullest = fullest.map_or("-".to_owned(), times);
            let _ = writeln!(
                table,
                "| {ring} | {} | {} | {}..{} | {} | {fullest} |",
                row.members,
                digits(*lookup_ns),
                digits(*least),
                digits(*most),
                times(*ratio),
            );
        }
    }
    table
}

fn registries(results: &Results) -> String {
    if results.registry.is_empty() {
        return String::new();
    }
    let mut table = "\n## Registries\n\nFrom a change until every node has it, milliseconds; all nodes in one process, on \
        loopback. CPU time and bytes are\nthose above what the nodes cost without changes; bytes are known where they \
        can be counted.\n\n\
        | | nodes | p50 | p99 | CPU us a change | CPU ms/s without | bytes a change and receiver |\n\
        |---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in &results.registry {
        let registry::side_by_side::Row { side, nodes, p50_ms, p99_ms, .. } = row;
        let bytes = row.bytes_per_change_and_receiver.map_or("-".to_owned(), |bytes| format!("{bytes:.0}"));
        let _ = writeln!(
            table,
            "| {side} | {nodes} | {} | {} | {:.0} | {} | {bytes} |",
            digits(*p50_ms),
            digits(*p99_ms),
            row.cpu_us_per_change,
            digits(row.idle_cpu_ms_per_second),
        );
    }
    table
}

fn figure(row: &Row) -> Option<Figure> {
    row.figure.parse().ok()
}

fn label(row: &Row) -> String {
    let Some(figure) = figure(row) else { return row.figure.clone() };
    let size = match figure.payload_bytes() {
        bytes if bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
    };
    match figure.work() {
        Work::Publish => format!("publish, {size}"),
        Work::Receive => format!("receive, {size}"),
        Work::Request { in_flight: 1 } => format!("request, one at a time, {size}"),
        Work::Request { in_flight } => format!("request, {in_flight} in flight, {size}"),
    }
}

fn title(client: Client) -> &'static str {
    match client {
        Client::Croupier => "Croupier",
        Client::CroupierSpinning => "Croupier with `spin`",
        other => other.name(),
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.4}"),
        0.1..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(path: &str) -> String {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn the_pages_show_what_the_results_hold() {
        let results = serde_json::from_str::<Results>(&read("results.json")).unwrap();
        assert!(!results.messages.is_empty() && !results.ring.is_empty() && !results.registry.is_empty());
        let hint = "peers --from bench/results.json --markdown bench/RESULTS.md --readme README.md";
        assert_eq!(read("RESULTS.md"), page(&results), "{hint}");
        let expected =
            with_figures(&read("../README.md"), &readme(&results)).expect("README has the two lines");
        assert_eq!(read("../README.md"), expected, "{hint}");
    }

    #[test]
    fn the_rest_of_the_readme_stays() {
        let readme = format!("a\n{README_START}\nold\n{README_END}\nb\n");
        let expected = format!("a\n{README_START}\nnew\n{README_END}\nb\n");
        assert_eq!(with_figures(&readme, "new\n"), Some(expected));
        assert_eq!(with_figures("a\n", "new\n"), None);
    }

    #[test]
    fn a_value_shows_three_digits_that_count() {
        let shown = [0.0321, 0.321, 3.21, 32.1, 321.4].map(digits);
        assert_eq!(shown, ["0.0321", "0.321", "3.21", "32.1", "321"]);
    }
}
