//! `peers`: Croupier beside its peers, CPU time per message, and the pages that show it.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use croupier_bench::croupier_client::nats_server_binary;
use croupier_bench::error::BenchError;
use croupier_bench::figure::{Figure, Via, Work};
use croupier_bench::nats_c::NatsC;
use croupier_bench::nats_server::NatsServer;
use croupier_bench::receiving::Length;
use croupier_bench::registry::convergence::Side;
use croupier_bench::registry::side_by_side;
use croupier_bench::results::{Results, Surroundings, load, said};
use croupier_bench::side_by_side::{Comparison, OtherEnd};
use croupier_bench::worker::{self, Assignment, Client};
use croupier_bench::{markdown, output, report, ring_peers};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
Croupier beside its peers: the same work in turn, each in a process of its own, several rounds, medians.

usage: peers [FIGURE..] [OPTION..]

figures (none named: all of the messages)
  publish_16 publish_128 publish_4096              publish as fast as the other end takes it
  receive_16 receive_128 receive_4096              receive a flood
  request_1_16 request_1_128 request_1_4096        request and reply, one at a time
  request_64_16 request_64_128 request_64_4096     64 in flight
  ring                                             lookups beside other rings
  registry                                         a change until every node has it, beside chitchat; registry_peers
                                                   has more options

options
  --all                 every figure every way, but requests in the clear alone; the rings; the registries
  --via WAY,..          stub: a peer of bare sockets; server: a real nats-server; tls: the same, encrypted
                        (stub,server)
  --peers CLIENT,..     croupier-spin: ours, polling before it parks, for single requests; async-nats: on tokio's
                        current-thread runtime; async-nats-two-threads; nats.c, compiled by `cc` if libnats-dev is
                        installed (croupier-spin,async-nats, and nats.c where it is there)
  --beside PROGRAM      another build of this program, whose Croupier is one more peer
  --rounds N            how often each side is measured (5)
  --seconds S           length of each measured section (0.5)
  --messages N          or exactly so many messages
  --json FILE           write the results as JSON; - is standard output, and the table then goes to standard error
  --markdown FILE       write them as a page
  --readme FILE         write them between the two lines of this page that are for them
  --from FILE           measure nothing: the results are those of this JSON
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
    let worker = arguments.peek().and_then(|first| WORKERS.iter().find(|(command, _)| command == first));
    if let Some((_, work)) = worker {
        return report(work(arguments.skip(1).collect()));
    }
    match Options::parse(Parser::from_env()) {
        Ok(Wish::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Wish::Measure(options)) => match run(*options) {
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

/// What a worker says at its end: a line of JSON, or why there is none.
type Report = Result<String, Box<dyn Error>>;
/// A worker's work, from the arguments after the first.
type WorkerMain = fn(Vec<String>) -> Report;

/// The workers that this program can be, by their first argument.
const WORKERS: [(&str, WorkerMain); 3] = [
    (worker::WORKER_COMMAND, |arguments| {
        Ok(serde_json::to_string(&worker::run(Assignment::from_arguments(arguments)?)?)?)
    }),
    (ring_peers::WORKER_COMMAND, |arguments| {
        Ok(serde_json::to_string(&ring_peers::run(&serde_json::from_str(&arguments.concat())?)?)?)
    }),
    (side_by_side::WORKER_COMMAND, |arguments| {
        Ok(serde_json::to_string(&side_by_side::work(&serde_json::from_str(&arguments.concat())?)?)?)
    }),
];

fn report(report: Report) -> ExitCode {
    match report {
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
    Measure(Box<Options>),
}

struct Options {
    is_all: bool,
    figures: Vec<Figure>,
    rings: bool,
    registries: bool,
    ways: Vec<Via>,
    /// All that there are here, if none is named.
    peers: Option<Vec<Client>>,
    other_build: Option<PathBuf>,
    rounds: usize,
    length: Length,
    /// Nothing is measured, but read from here.
    from: Option<String>,
    json: Option<String>,
    markdown: Option<String>,
    readme: Option<String>,
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Wish, lexopt::Error> {
        let mut options = Self {
            is_all: false,
            figures: Vec::new(),
            rings: false,
            registries: false,
            ways: vec![Via::Stub, Via::Server],
            peers: None,
            other_build: None,
            rounds: 5,
            length: Length::Time(Duration::from_millis(500)),
            from: None,
            json: None,
            markdown: None,
            readme: None,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Help),
                Arg::Long("all") => options.is_all = true,
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
                Arg::Long("from") => options.from = Some(parser.value()?.string()?),
                Arg::Long("json") => options.json = Some(parser.value()?.string()?),
                Arg::Long("markdown") => options.markdown = Some(parser.value()?.string()?),
                Arg::Long("readme") => options.readme = Some(parser.value()?.string()?),
                Arg::Value(name) => options.name(&name.string()?)?,
                other => return Err(other.unexpected()),
            }
        }
        if options.is_all {
            options.ways = Via::ALL.to_vec();
            (options.rings, options.registries) = (true, true);
        }
        if options.is_all || options.figures.is_empty() && !options.rings && !options.registries {
            options.figures = Figure::ALL.to_vec();
        }
        Ok(Wish::Measure(Box::new(options)))
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        match name {
            "ring" => self.rings = true,
            "registry" => self.registries = true,
            name => {
                let figure = name.parse::<Figure>().map_err(|error| format!("{error} ring registry"))?;
                if !self.figures.contains(&figure) {
                    self.figures.push(figure);
                }
            }
        }
        Ok(())
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

fn run(options: Options) -> Result<(), BenchError> {
    let json = options.json.clone();
    let (markdown, readme) = (options.markdown.clone(), options.readme.clone());
    // What cannot be written is better known before the minutes that measuring takes.
    let readme = readme.map(|path| {
        let text = fs::read_to_string(&path).map_err(BenchError::io("read the page"))?;
        let has_lines = markdown::with_figures(&text, "").is_some();
        has_lines.then_some((path, text)).ok_or_else(|| BenchError::client("the page")("lacks the two lines"))
    });
    let readme = readme.transpose()?;
    let results = match &options.from {
        Some(path) => Results::read(path)?,
        None => measure(options)?,
    };
    let write = |path: &str, text: String| fs::write(path, text).map_err(BenchError::io("write the results"));
    match json.as_deref() {
        Some(output::STDOUT) => print!("{}", results.to_json()),
        Some(path) => write(path, results.to_json())?,
        None => {}
    }
    if let Some(path) = markdown {
        write(&path, markdown::page(&results))?;
    }
    if let Some((path, text)) = readme
        && let Some(text) = markdown::with_figures(&text, &markdown::readme(&results))
    {
        write(&path, text)?;
    }
    Ok(())
}

fn measure(options: Options) -> Result<Results, BenchError> {
    if cfg!(debug_assertions) {
        eprintln!("peers: this is a debug build; its figures say nothing");
    }
    let mut table = output::table(options.json.as_deref());
    let mut print = |line: &dyn Display| writeln!(table, "{line}").map_err(BenchError::io("print the table"));
    let mut results = Results { surroundings: Surroundings::here(&command()), ..Results::default() };
    let Options { is_all, figures, rings, registries, ways, peers, other_build, rounds, length, .. } =
        options;
    if !figures.is_empty() {
        let (mut peers, nats_c) = clients(peers, &mut results.surroundings)?;
        for (name, reason) in &results.surroundings.missing {
            print(&format!("without {name}: {reason}"))?;
        }
        peers.extend(other_build.as_ref().map(|_| Client::OtherBuild));
        let comparison = Comparison { peers, nats_c, other_build, rounds, length };
        // A server that is missing is better known before the minutes that the stub takes.
        let other_ends = ways.iter().map(other_end).collect::<Result<Vec<_>, _>>()?;
        if ways != [Via::Stub] {
            let version = said(&nats_server_binary()?.display().to_string(), &["--version"]);
            let version = version.rsplit([' ', 'v']).next().unwrap_or_default().to_owned();
            results.surroundings.versions.insert("nats-server".to_owned(), version);
        }
        print(&report::HEADING)?;
        for other_end in &other_ends {
            // An answer in the clear or not: the round trip hides what that costs.
            let is_meant = |figure: &&Figure| {
                !is_all || other_end.via() != Via::Tls || !matches!(figure.work(), Work::Request { .. })
            };
            for &figure in figures.iter().filter(is_meant) {
                let row = comparison.measure(figure, other_end)?;
                print(&row)?;
                results.messages.push(row);
            }
        }
    }
    if rings {
        print(&ring_peers::HEADING)?;
        for members in ring_peers::MEMBERS {
            let row = ring_peers::compare(members, RING_TIME, rounds)?;
            print(&row)?;
            results.ring.push(row);
        }
    }
    if registries {
        print(&side_by_side::HEADING)?;
        let rounds = rounds.min(REGISTRY_ROUNDS_MAX);
        for nodes in REGISTRY_NODES {
            for row in
                side_by_side::compare(&REGISTRY_SIDES, nodes, REGISTRY_CHANGES, REGISTRY_EVERY_MS, rounds)?
            {
                print(&row)?;
                results.registry.push(row);
            }
        }
    }
    results.surroundings.load[1] = load();
    Ok(results)
}

/// CPU time of a ring's measured section.
const RING_TIME: Duration = Duration::from_millis(300);
/// Of the registries, what is worth its time in a table with the rest; `registry_peers` has the whole.
const REGISTRY_NODES: [usize; 2] = [3, 10];
const REGISTRY_SIDES: [Side; 4] = [
    Side::Croupier,
    Side::ChitchatUdp { gossip_ms: 1000 },
    Side::ChitchatUdp { gossip_ms: 100 },
    Side::ChitchatChannel { gossip_ms: 100 },
];
const REGISTRY_CHANGES: usize = 100;
const REGISTRY_EVERY_MS: u64 = 50;
const REGISTRY_ROUNDS_MAX: usize = 3;

/// What was entered, as one would enter it with cargo.
fn command() -> String {
    let arguments: Vec<_> = env::args().skip(1).collect();
    format!("cargo run --release -p croupier-bench --bin peers -- {}", arguments.join(" "))
        .trim_end_matches([' ', '-'])
        .to_owned()
}

/// The clients beside ours, and what they need.
fn clients(
    named: Option<Vec<Client>>,
    surroundings: &mut Surroundings,
) -> Result<(Vec<Client>, Option<NatsC>), BenchError> {
    let is_named = named.is_some();
    let mut peers = named.unwrap_or_else(|| vec![Client::CroupierSpinning, Client::AsyncNats, Client::NatsC]);
    if !peers.contains(&Client::NatsC) {
        return Ok((peers, None));
    }
    match NatsC::compile() {
        Ok(nats_c) => {
            surroundings.versions.insert("nats.c".to_owned(), nats_c.version().to_owned());
            Ok((peers, Some(nats_c)))
        }
        Err(missing) if is_named => Err(missing.into()),
        Err(missing) => {
            peers.retain(|client| *client != Client::NatsC);
            surroundings.missing.insert("nats.c".to_owned(), missing.to_string());
            Ok((peers, None))
        }
    }
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
            Ok(Wish::Measure(options)) => Ok(*options),
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
        assert_eq!((options.rings, options.registries), (false, false));
    }

    #[test]
    fn rings_and_registries_are_figures_too_and_all_is_all() {
        let some = options(&["ring", "--markdown=x"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((some.rings, some.registries, some.figures), (true, false, vec![]));
        assert_eq!(some.markdown.as_deref(), Some("x"));
        let all = options(&["--all", "--readme", "y", "--from=z"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((all.rings, all.registries, all.figures.as_slice()), (true, true, &Figure::ALL[..]));
        assert_eq!(all.ways, Via::ALL);
        assert_eq!((all.readme.as_deref(), all.from.as_deref()), (Some("y"), Some("z")));
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
