//! `peers`: Croupier and async-nats side by side, CPU time per message.

use std::env;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use croupier_bench::croupier_client::nats_server_binary;
use croupier_bench::error::BenchError;
use croupier_bench::figure::{Figure, Via};
use croupier_bench::nats_server::NatsServer;
use croupier_bench::output;
use croupier_bench::receiving::Length;
use croupier_bench::report::HEADING;
use croupier_bench::side_by_side::{Comparison, OtherEnd};
use croupier_bench::worker::{self, Assignment, Client, WORKER_COMMAND};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
Croupier beside async-nats: the same work in turn, each in a process of its own, several rounds, medians.

usage: peers [FIGURE..] [OPTION..]

figures (none named: all)
  publish_16 publish_128 publish_4096     publish as fast as the other end takes it
  receive_16 receive_128 receive_4096     receive a flood
  request_1 request_64                    request and reply, one at a time, 64 in flight

options
  --via stub|server|both    a peer of bare sockets, or a real nats-server (both)
  --rounds N                how often each side is measured (5)
  --seconds S               length of each measured section (0.5)
  --messages N              or exactly so many messages
  --peer-threads 1|2        tokio's current-thread runtime, or two worker threads (1)
  --json FILE               write the rows as JSON; - is standard output, and the table then goes to
                            standard error
  --help

CPU time is that of the measured process alone, user and system. What one end sent and the other received
is counted and summed, and a difference fails the run. Exit: 0, 1 failed, 2 usage.";

/// Longer sections or more rounds than these are a slip of the finger.
const SECONDS_MAX: f64 = 3600.0;
const ROUNDS_MAX: usize = 1000;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    if arguments.next_if(|first| first == WORKER_COMMAND).is_some() {
        return work(arguments);
    }
    match Options::parse(Parser::from_env()) {
        Ok(Wish::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Wish::Measure(options)) => match measure(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("peers: {error}");
                ExitCode::from(FAILED)
            }
        },
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn work(arguments: impl Iterator<Item = String>) -> ExitCode {
    let assignment = match Assignment::from_arguments(arguments) {
        Ok(assignment) => assignment,
        Err(error) => {
            eprintln!("peers: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let report = worker::run(assignment).map_err(|error| error.to_string());
    match report.and_then(|outcome| serde_json::to_string(&outcome).map_err(|error| error.to_string())) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(FAILED)
        }
    }
}

enum Wish {
    Help,
    Measure(Options),
}

struct Options {
    figures: Vec<Figure>,
    ways: Vec<Via>,
    comparison: Comparison,
    json: Option<String>,
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Wish, lexopt::Error> {
        let comparison = Comparison {
            peer: Client::AsyncNats,
            rounds: 5,
            length: Length::Time(Duration::from_millis(500)),
        };
        let mut options = Self { figures: Vec::new(), ways: Via::ALL.to_vec(), comparison, json: None };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Help),
                Arg::Long("via") => options.ways = parser.value()?.parse_with(ways)?,
                Arg::Long("rounds") => options.comparison.rounds = parser.value()?.parse_with(rounds)?,
                Arg::Long("seconds") => options.comparison.length = parser.value()?.parse_with(seconds)?,
                Arg::Long("messages") => options.comparison.length = parser.value()?.parse_with(messages)?,
                Arg::Long("peer-threads") => options.comparison.peer = parser.value()?.parse_with(peer)?,
                Arg::Long("json") => options.json = Some(parser.value()?.string()?),
                Arg::Value(name) => {
                    let figure = name.string()?.parse::<Figure>().map_err(|error| error.to_string())?;
                    if !options.figures.contains(&figure) {
                        options.figures.push(figure);
                    }
                }
                other => return Err(other.unexpected()),
            }
        }
        if options.figures.is_empty() {
            options.figures = Figure::ALL.to_vec();
        }
        Ok(Wish::Measure(options))
    }
}

fn ways(text: &str) -> Result<Vec<Via>, String> {
    match text {
        "both" => Ok(Via::ALL.to_vec()),
        name => Via::ALL
            .into_iter()
            .find(|via| via.name() == name)
            .map(|via| vec![via])
            .ok_or_else(|| "stub, server or both".to_owned()),
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    let rounds = text.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds));
    rounds.ok_or_else(|| format!("a number from 1 to {ROUNDS_MAX}"))
}

fn seconds(text: &str) -> Result<Length, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= SECONDS_MAX);
    let seconds = seconds.ok_or_else(|| format!("more than 0, at most {SECONDS_MAX}"))?;
    Ok(Length::Time(Duration::from_secs_f64(seconds)))
}

fn messages(text: &str) -> Result<Length, String> {
    let messages = text.parse().ok().filter(|messages| *messages > 0);
    messages.map(Length::Messages).ok_or_else(|| "a number, at least 1".to_owned())
}

fn peer(text: &str) -> Result<Client, String> {
    match text {
        "1" => Ok(Client::AsyncNats),
        "2" => Ok(Client::AsyncNatsTwoThreads),
        _ => Err("1 or 2".to_owned()),
    }
}

fn measure(options: &Options) -> Result<(), BenchError> {
    if cfg!(debug_assertions) {
        eprintln!("peers: this is a debug build; its figures say nothing");
    }
    // A server that is missing is better known before the minutes that the stub takes.
    let other_ends = options.ways.iter().map(other_end).collect::<Result<Vec<_>, _>>()?;
    let json = options.json.as_deref();
    let mut table = output::table(json);
    let print = BenchError::io;
    writeln!(table, "{HEADING}").map_err(print("print the table"))?;
    let mut rows = Vec::new();
    for other_end in &other_ends {
        for &figure in &options.figures {
            let row = options.comparison.measure(figure, other_end)?;
            writeln!(table, "{row}").map_err(print("print the table"))?;
            rows.push(row);
        }
    }
    output::write_rows(&rows, json)
}

fn other_end(via: &Via) -> Result<OtherEnd, BenchError> {
    Ok(match via {
        Via::Stub => OtherEnd::Stub,
        Via::Server => OtherEnd::Server(NatsServer::start(&nats_server_binary()?)?),
    })
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
    fn without_names_every_figure_is_measured_both_ways() {
        let options = options(&[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(options.figures, Figure::ALL);
        assert_eq!(options.ways, Via::ALL);
        assert_eq!(options.json, None);
    }

    #[test]
    fn what_is_named_is_what_is_measured() {
        let arguments = [
            "request_64",
            "publish_16",
            "request_64",
            "--via",
            "stub",
            "--json",
            "x",
            "--messages=7",
            "--rounds",
            "2",
        ];
        let options = options(&arguments).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            options.figures.iter().map(|figure| figure.name()).collect::<Vec<_>>(),
            ["request_64", "publish_16"]
        );
        assert_eq!(options.ways, [Via::Stub]);
        assert_eq!(options.json.as_deref(), Some("x"));
        assert_eq!((options.comparison.length, options.comparison.rounds), (Length::Messages(7), 2));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in [
            &["publish_17"][..],
            &["--via", "pigeon"],
            &["--rounds", "0"],
            &["--seconds", "-1"],
            &["--seconds", "NaN"],
            &["--messages", "0"],
            &["--peer-threads", "3"],
            &["--json"],
            &["--fast"],
        ] {
            assert!(options(arguments).is_err(), "{arguments:?} was understood");
        }
    }
}
