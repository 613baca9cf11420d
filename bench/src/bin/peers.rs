//! `peers`: Croupier beside other clients, CPU time per message.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use croupier_bench::croupier_client::nats_server_binary;
use croupier_bench::error::BenchError;
use croupier_bench::figure::{Figure, Via};
use croupier_bench::nats_c::NatsC;
use croupier_bench::nats_server::NatsServer;
use croupier_bench::output;
use croupier_bench::receiving::Length;
use croupier_bench::report::HEADING;
use croupier_bench::side_by_side::{Comparison, OtherEnd};
use croupier_bench::worker::{self, Assignment, Client, WORKER_COMMAND};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
Croupier beside other clients: the same work in turn, each in a process of its own, several rounds, medians.

usage: peers [FIGURE..] [OPTION..]

figures (none named: all), each with the size of its payload
  publish_16 publish_128 publish_4096              publish as fast as the other end takes it
  receive_16 receive_128 receive_4096              receive a flood
  request_1_16 request_1_128 request_1_4096        request and reply, one at a time
  request_64_16 request_64_128 request_64_4096     64 in flight

options
  --via WAY,..          stub: a peer of bare sockets; server: a real nats-server; tls: the same, encrypted
                        (stub,server)
  --peers CLIENT,..     croupier-spin: ours, polling before it parks, for single requests; async-nats: on tokio's
                        current-thread runtime; async-nats-two-threads; nats.c, compiled by `cc` if libnats-dev is
                        installed (croupier-spin,async-nats, and nats.c where it is there)
  --beside PROGRAM      another build of this program, whose Croupier is one more peer
  --rounds N            how often each side is measured (5)
  --seconds S           length of each measured section (0.5)
  --messages N          or exactly so many messages
  --json FILE           write the rows as JSON; - is standard output, and the table then goes to standard error
  --help

CPU time is that of the measured process alone, user and system. What one end sent and the other received
is counted and summed, and a difference fails the run. Exit: 0, 1 failed, 2 usage.";

/// What `--peers` can name.
const NAMED_PEERS: [Client; 4] =
    [Client::CroupierSpinning, Client::AsyncNats, Client::AsyncNatsTwoThreads, Client::NatsC];

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
        Ok(Wish::Measure(options)) => match measure(options) {
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
    /// All that there are here, if none is named.
    peers: Option<Vec<Client>>,
    other_build: Option<PathBuf>,
    rounds: usize,
    length: Length,
    json: Option<String>,
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Wish, lexopt::Error> {
        let mut options = Self {
            figures: Vec::new(),
            ways: vec![Via::Stub, Via::Server],
            peers: None,
            other_build: None,
            rounds: 5,
            length: Length::Time(Duration::from_millis(500)),
            json: None,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Help),
                Arg::Long("via") => {
                    options.ways =
                        parser.value()?.parse_with(|text| named(text, &Via::ALL, |via| via.name()))?;
                }
                Arg::Long("peers") => {
                    let peers = |text: &str| named(text, &NAMED_PEERS, |client| client.name());
                    options.peers = Some(parser.value()?.parse_with(peers)?);
                }
                Arg::Long("beside") => options.other_build = Some(parser.value()?.into()),
                Arg::Long("rounds") => options.rounds = parser.value()?.parse_with(rounds)?,
                Arg::Long("seconds") => options.length = parser.value()?.parse_with(seconds)?,
                Arg::Long("messages") => options.length = parser.value()?.parse_with(messages)?,
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

/// What a list with commas names, each once, in the order of the list.
fn named<T: Copy + PartialEq>(
    text: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    for wanted in text.split(',') {
        let known = all.iter().copied().find(|one| name(*one) == wanted);
        let names = || all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
        let one = known.ok_or_else(|| format!("some of {}", names()))?;
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(found)
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

fn measure(options: Options) -> Result<(), BenchError> {
    if cfg!(debug_assertions) {
        eprintln!("peers: this is a debug build; its figures say nothing");
    }
    let Options { figures, ways, peers, other_build, rounds, length, json } = options;
    let json = json.as_deref();
    let mut table = output::table(json);
    let print = BenchError::io;
    let (mut peers, nats_c) = match peers {
        Some(peers) if peers.contains(&Client::NatsC) => (peers, Some(NatsC::compile()?)),
        Some(peers) => (peers, None),
        None => {
            let mut peers = vec![Client::CroupierSpinning, Client::AsyncNats];
            let nats_c = NatsC::compile();
            match &nats_c {
                Ok(nats_c) => {
                    peers.push(Client::NatsC);
                    writeln!(table, "nats.c {}", nats_c.version()).map_err(print("print the table"))?;
                }
                Err(missing) => {
                    writeln!(table, "without nats.c: {missing}").map_err(print("print the table"))?;
                }
            }
            (peers, nats_c.ok())
        }
    };
    peers.extend(other_build.as_ref().map(|_| Client::OtherBuild));
    let comparison = Comparison { peers, nats_c, other_build, rounds, length };
    // A server that is missing is better known before the minutes that the stub takes.
    let other_ends = ways.iter().map(other_end).collect::<Result<Vec<_>, _>>()?;
    writeln!(table, "{HEADING}").map_err(print("print the table"))?;
    let mut rows = Vec::new();
    for other_end in &other_ends {
        for &figure in &figures {
            let row = comparison.measure(figure, other_end)?;
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
        Via::Tls => OtherEnd::Server(NatsServer::start_with_certificate(&nats_server_binary()?)?),
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
    fn without_names_every_figure_is_measured_in_the_clear_beside_all_there_are() {
        let options = options(&[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(options.figures, Figure::ALL);
        assert_eq!(options.ways, [Via::Stub, Via::Server]);
        assert_eq!((options.peers, options.json), (None, None));
    }

    #[test]
    fn what_is_named_is_what_is_measured() {
        let arguments = [
            "request_64_16",
            "publish_16",
            "request_64_16",
            "--via",
            "tls,stub,tls",
            "--peers=nats.c,async-nats",
            "--beside=old/peers",
            "--json",
            "x",
            "--messages=7",
            "--rounds",
            "2",
        ];
        let options = options(&arguments).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            options.figures.iter().map(|figure| figure.name()).collect::<Vec<_>>(),
            ["request_64_16", "publish_16"]
        );
        assert_eq!(options.ways, [Via::Tls, Via::Stub]);
        assert_eq!(options.peers, Some(vec![Client::NatsC, Client::AsyncNats]));
        assert_eq!(options.other_build, Some(PathBuf::from("old/peers")));
        assert_eq!(options.json.as_deref(), Some("x"));
        assert_eq!((options.length, options.rounds), (Length::Messages(7), 2));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in [
            &["publish_17"][..],
            &["--via", "pigeon"],
            &["--via", ""],
            &["--peers", "croupier"],
            &["--beside"],
            &["--rounds", "0"],
            &["--seconds", "-1"],
            &["--seconds", "NaN"],
            &["--messages", "0"],
            &["--json"],
            &["--fast"],
        ] {
            assert!(options(arguments).is_err(), "{arguments:?} was understood");
        }
    }
}
