//! `registry_peers`: how long a change takes until every node has it, beside chitchat.

use std::env;
use std::io::Write;
use std::process::ExitCode;

use croupier_bench::error::BenchError;
use croupier_bench::output;
use croupier_bench::registry::convergence::{Assignment, NODES_MAX, Side};
use croupier_bench::registry::side_by_side::{HEADING, Row, WORKER_COMMAND, compare, work};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
A change of the registry until every node has it, beside chitchat: in turn, each run in a process of its own,
several rounds, medians. All nodes of a run are in one process, on loopback.

usage: registry_peers [OPTION..]

options
  --nodes N,N..       sizes of the cluster (3,10,50)
  --gossip-ms N,N..   chitchat's gossip intervals (1000,100: what it is used with, and what 50 nodes bear here)
  --changes N         changes of each round (100)
  --every-ms N        time between two of them (50)
  --rounds N          how often each side is measured (3)
  --json FILE         write the rows as JSON; - is standard output, and the table then goes to standard
                      error
  --help

chitchat's bytes are those of its transport in memory, without UDP's headers. Every node says which changes it
saw, and one that is missing or comes twice fails the run. Exit: 0, 1 failed, 2 usage.";

const CHANGES_MAX: usize = 100_000;
const ROUNDS_MAX: usize = 1000;
const MILLISECONDS_MAX: u64 = 60_000;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    if arguments.next_if(|first| first == WORKER_COMMAND).is_some() {
        return run_as_worker(&arguments.next().unwrap_or_default());
    }
    match Options::parse(Parser::from_env()) {
        Ok(Wish::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Wish::Measure(options)) => match measure(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("registry_peers: {error}");
                ExitCode::from(FAILED)
            }
        },
        Err(error) => {
            eprintln!("registry_peers: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn run_as_worker(order: &str) -> ExitCode {
    let assignment: Assignment = match serde_json::from_str(order) {
        Ok(assignment) => assignment,
        Err(error) => {
            eprintln!("registry_peers: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let report = work(&assignment).map_err(|error| error.to_string());
    match report.and_then(|outcome| serde_json::to_string(&outcome).map_err(|error| error.to_string())) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("registry_peers: {error}");
            ExitCode::from(FAILED)
        }
    }
}

enum Wish {
    Help,
    Measure(Options),
}

struct Options {
    nodes: Vec<u64>,
    gossip_ms: Vec<u64>,
    changes: usize,
    every_ms: u64,
    rounds: usize,
    json: Option<String>,
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Wish, lexopt::Error> {
        let mut options = Self {
            nodes: vec![3, 10, 50],
            gossip_ms: vec![1000, 100],
            changes: 100,
            every_ms: 50,
            rounds: 3,
            json: None,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Help),
                Arg::Long("nodes") => {
                    options.nodes = parser.value()?.parse_with(|text| numbers(text, 2, NODES_MAX as u64))?;
                }
                Arg::Long("gossip-ms") => {
                    options.gossip_ms =
                        parser.value()?.parse_with(|text| numbers(text, 1, MILLISECONDS_MAX))?;
                }
                Arg::Long("changes") => {
                    let changes = parser.value()?.parse_with(|text| number(text, 1, CHANGES_MAX as u64))?;
                    options.changes = changes as usize;
                }
                Arg::Long("every-ms") => {
                    options.every_ms =
                        parser.value()?.parse_with(|text| number(text, 1, MILLISECONDS_MAX))?;
                }
                Arg::Long("rounds") => {
                    let rounds = parser.value()?.parse_with(|text| number(text, 1, ROUNDS_MAX as u64))?;
                    options.rounds = rounds as usize;
                }
                Arg::Long("json") => options.json = Some(parser.value()?.string()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Wish::Measure(options))
    }

    fn sides(&self) -> Vec<Side> {
        let chitchat = self.gossip_ms.iter().flat_map(|gossip_ms| {
            let gossip_ms = *gossip_ms;
            [Side::ChitchatUdp { gossip_ms }, Side::ChitchatChannel { gossip_ms }]
        });
        std::iter::once(Side::Croupier).chain(chitchat).collect()
    }
}

fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("a number from {least} to {most}"))
}

fn numbers(text: &str, least: u64, most: u64) -> Result<Vec<u64>, String> {
    text.split(',').map(|one| number(one, least, most)).collect()
}

fn measure(options: &Options) -> Result<(), BenchError> {
    if cfg!(debug_assertions) {
        eprintln!("registry_peers: this is a debug build; its figures say nothing");
    }
    let json = options.json.as_deref();
    let mut table = output::table(json);
    let print = BenchError::io;
    writeln!(table, "{HEADING}").map_err(print("print the table"))?;
    let mut rows: Vec<Row> = Vec::new();
    for nodes in &options.nodes {
        let sides = options.sides();
        let compared = compare(&sides, *nodes as usize, options.changes, options.every_ms, options.rounds)?;
        for row in compared {
            writeln!(table, "{row}").map_err(print("print the table"))?;
            rows.push(row);
        }
    }
    output::write_rows(&rows, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        match Options::parse(Parser::from_args(arguments)) {
            Ok(Wish::Measure(options)) => Ok(options),
            Ok(Wish::Help) => Err("help".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_is_named_is_what_is_measured() {
        let arguments =
            ["--nodes", "3,5", "--gossip-ms=20", "--changes", "7", "--rounds", "2", "--json", "x"];
        let options = options(&arguments).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((options.nodes.as_slice(), options.gossip_ms.as_slice()), (&[3, 5][..], &[20][..]));
        assert_eq!((options.changes, options.rounds, options.json.as_deref()), (7, 2, Some("x")));
        assert_eq!(options.sides()[..2], [Side::Croupier, Side::ChitchatUdp { gossip_ms: 20 }]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in [
            &["--nodes", "1"][..],
            &["--nodes", "65"],
            &["--nodes", "3,x"],
            &["--gossip-ms", "0"],
            &["--changes", "0"],
            &["--rounds"],
            &["--fast"],
            &["more"],
        ] {
            assert!(options(arguments).is_err(), "{arguments:?} was understood");
        }
    }
}
