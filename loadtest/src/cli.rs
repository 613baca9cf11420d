//! The command line: what may be asked for, its limits, and what to say about the rest.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::config_command::{self, ConfigCommand};
use crate::doctor::DoctorOptions;
use crate::options::{CallsOptions, JsonTarget, Options, RegistryOptions, RunOptions};
use crate::quantity::{QuantityError, parse_duration};
use crate::top::TopOptions;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Version,
    RunPubsub(RunOptions),
    RunRegistry(RegistryOptions),
    RunCalls(CallsOptions),
    Config(ConfigCommand),
    Top(TopOptions),
    Doctor(DoctorOptions),
    /// What this program starts itself as, for a process of a scenario; people have no use for it.
    Worker(WorkerOf),
}

/// The scenario that a worker process belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WorkerOf {
    Registry,
    Calls,
}

/// The hidden command of a worker process.
pub(crate) const WORKER_COMMAND: &str = "worker";

impl WorkerOf {
    const ALL: [Self; 2] = [Self::Registry, Self::Calls];

    /// The word after [`WORKER_COMMAND`].
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Registry => RegistryOptions::SCENARIO,
            Self::Calls => CallsOptions::SCENARIO,
        }
    }
}

/// The command line cannot be obeyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UsageError {
    #[error("unknown option {given}; did you mean {nearest}?")]
    UnknownOption { given: String, nearest: &'static str },
    #[error("unknown {what} {given:?}; known: {known}")]
    UnknownWord { what: &'static str, given: String, known: &'static str },
    #[error("{option} is no option of {scenario}; see --help for those that are")]
    OtherScenario { option: &'static str, scenario: &'static str },
    #[error("{option} belongs after a command, as in `croupier run {option} ..`")]
    OptionBeforeCommand { option: &'static str },
    #[error("{given:?} is no address of a node's admin server; write ip:port, as node.admin_listen has it")]
    BadAddress { given: String },
    #[error("{option} {given}: {reason}")]
    BadValue { option: &'static str, given: String, reason: QuantityError },
    #[error("{0}")]
    Malformed(#[from] lexopt::Error),
}

/// The text of `--help`.
pub(crate) const HELP: &str = "\
croupier: the load test of Croupier

usage: croupier [run [pubsub|registry|calls]] [options]
       croupier check NODE.TOML [--set KEY=VALUE ..]
       croupier config show [NODE.TOML] [--set KEY=VALUE ..] [--origin]
       croupier config schema
       croupier top [ADDRESS] [--once] [--interval TIME]
       croupier doctor [NODE.TOML]

pubsub, the default: starts three local gnatsd clusters, publishes to many topics at a fixed
rate from two shards, checks every message and prints a verdict.
  --rate RATE             messages a second, all shards together: 20k, 1M  [20k]
  --size BYTES            payload, or a range: 128, 64..1024; least 48     [128]
  --topics COUNT          topics, all equally likely: 10k                  [10k]
  --clusters COUNT        local gnatsd clusters, one server each           [3]
  --shards COUNT          shards, each publisher and subscriber            [2]
  --seed NUMBER           topics, order and sizes follow from it           [42]

registry: nodes in several processes add, update and remove services at a fixed rate, and each
watches all the others; then one process is killed and restarted, and one stands still.
  --rate RATE             changes a second, all nodes together             [500]
  --registry-nodes COUNT  nodes n1, n2, ..                                 [3]
  --processes COUNT       processes; node n is in number (n-1) mod COUNT   [2]
  --entries COUNT         services of each node before the first change    [1000]
  --clusters COUNT        local gnatsd clusters, one server each           [1]
  --shards COUNT          shards of each node                              [1]
  --fault 'TIME kill NODE', --fault 'TIME freeze NODE TIME', --fault none
                          to the process of a node, after the measured phase and from there on,
                          one after the other; may be repeated             [1s kill nP, 1s freeze nP 5s]

calls: instances of a service in several processes answer calls by key, come and go, and one
process is killed in the middle; every call is checked against what was executed.
  --rate RATE             calls a second                                   [1k]
  --workers COUNT         instances, all processes together                [4]
  --processes COUNT       processes w1, w2, ..                             [2]
  --keys CHOICE           uniform, or zipf:1.1                             [uniform]
  --key-count COUNT       keys                                             [10k]
  --size BYTES            payload, or a range                              [128]
  --churn TIME            between two comings or goings in each process; 0s: none [1s]
  --timeout TIME          of each call                                     [1s]
  --clusters COUNT        local gnatsd clusters, one server each           [1]
  --seed NUMBER           keys and sizes follow from it                    [42]
  --fault ..              as above, to w1, w2, ..; from the start of the measured phase
                                                                           [in its middle, kill wP]

all of them
  --warmup TIME           load before the figures count: 2s, 500ms, 0s     [2s]
  --duration TIME         load that counts                                 [10s]
  --json PATH             the report as JSON; - for standard output alone
  --help, --version

a node's configuration
  check                   whether a node can run so: every mistake with its place and remedy, and
                          whether the files that are named can be read
  config show             what the file, the environment and --set come to, defaults included
  config schema           the JSON Schema of node.toml, for editors
  --set KEY=VALUE         over the file and the environment: registry.heartbeat=50ms,
                          clusters.c1.weight=2; may be repeated
  --origin                where each setting comes from

top: what a running node is doing, from its admin server; q quits.
  ADDRESS                 its node.admin_listen                            [127.0.0.1:9464]
  --once                  one page of plain text, as without a terminal
  --interval TIME         between two looks                                [1s]

doctor: whether a node, or the one of NODE.TOML, can run on this machine, and what to do where
it cannot; exit code 1 then. A start that fails prints the same below its error.

nats-server is looked for in $NATS_SERVER, in PATH, in /usr/sbin and in
target/nats-server/; if there is none, it is fetched with pip.

exit codes
  0  the run is VALID or DEGRADED     2   the command line is wrong
  1  the run failed                   78  the configuration or the machine is not fit
  97 the run is INVALID
";

/// Every option of every scenario.
const OPTIONS: [&str; 24] = [
    "--rate",
    "--warmup",
    "--duration",
    "--size",
    "--topics",
    "--clusters",
    "--shards",
    "--seed",
    "--registry-nodes",
    "--processes",
    "--entries",
    "--workers",
    "--keys",
    "--key-count",
    "--churn",
    "--timeout",
    "--fault",
    "--json",
    "--set",
    "--origin",
    "--once",
    "--interval",
    "--help",
    "--version",
];

const COMMANDS: &str = "run, check, config, top, doctor";

/// Between two looks of `top`.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const SCENARIOS: &str = "pubsub, registry, calls";

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(arguments);
    match parser.next()? {
        None => Ok(Command::RunPubsub(RunOptions::default())),
        Some(Arg::Value(word)) if word == "run" => parse_run(&mut parser),
        Some(Arg::Value(word)) if word == "config" => config_command::parse(&mut parser),
        Some(Arg::Value(word)) if word == "check" => config_command::parse_check(&mut parser),
        Some(Arg::Value(word)) if word == "top" => parse_top(&mut parser),
        Some(Arg::Value(word)) if word == "doctor" => parse_doctor(&mut parser),
        Some(Arg::Value(word)) if word == WORKER_COMMAND => parse_worker(&mut parser),
        Some(Arg::Value(word)) => Err(unknown_word("command", &word, COMMANDS)),
        Some(argument) => match option_name(&argument)? {
            "--help" => Ok(Command::Help),
            "--version" => Ok(Command::Version),
            option => Err(UsageError::OptionBeforeCommand { option }),
        },
    }
}

fn parse_worker(parser: &mut Parser) -> Result<Command, UsageError> {
    let word = parser.value()?.string()?;
    let scenario = WorkerOf::ALL.into_iter().find(|scenario| scenario.word() == word);
    scenario.map(Command::Worker).ok_or_else(|| unknown_word("worker", word.as_ref(), "registry, calls"))
}

fn parse_top(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut options = TopOptions::default();
    let mut has_address = false;
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            let given = word.string()?;
            options.address = match given.parse() {
                Ok(address) if !has_address => address,
                _ => return Err(UsageError::BadAddress { given }),
            };
            has_address = true;
            continue;
        }
        match option_name(&argument)? {
            "--help" => return Ok(Command::Help),
            "--once" => options.once = true,
            option @ "--interval" => {
                let given = parser.value()?.string()?;
                options.interval = parse_duration(&given, INTERVALS)
                    .map_err(|reason| UsageError::BadValue { option, given, reason })?;
            }
            option => return Err(UsageError::OtherScenario { option, scenario: "top" }),
        }
    }
    Ok(Command::Top(options))
}

fn parse_doctor(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut options = DoctorOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if options.config.is_none() => options.config = Some(path.into()),
            Arg::Value(word) => return Err(unknown_word("argument", &word, "one file")),
            argument => match option_name(&argument)? {
                "--help" => return Ok(Command::Help),
                option => return Err(UsageError::OtherScenario { option, scenario: "doctor" }),
            },
        }
    }
    Ok(Command::Doctor(options))
}

fn parse_run(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut scenario = None;
    let mut given: Vec<(&'static str, OsString)> = Vec::new();
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            let known = [RunOptions::SCENARIO, RegistryOptions::SCENARIO, CallsOptions::SCENARIO];
            let found = known.into_iter().find(|known| word == *known).filter(|_| scenario.is_none());
            scenario = Some(found.ok_or_else(|| unknown_word("scenario", &word, SCENARIOS))?);
            continue;
        }
        match option_name(&argument)? {
            "--help" => return Ok(Command::Help),
            "--version" => return Ok(Command::Version),
            option @ ("--once" | "--interval") => {
                return Err(UsageError::OtherScenario { option, scenario: "run" });
            }
            option => given.push((option, parser.value()?)),
        }
    }
    match scenario {
        Some(RegistryOptions::SCENARIO) => Ok(Command::RunRegistry(options(given)?)),
        Some(CallsOptions::SCENARIO) => Ok(Command::RunCalls(options(given)?)),
        _ => Ok(Command::RunPubsub(options(given)?)),
    }
}

fn options<O: Options>(given: Vec<(&'static str, OsString)>) -> Result<O, UsageError> {
    let mut options = O::default();
    for (option, value) in given {
        if option == "--json" {
            options.set_json(json_target(value));
            continue;
        }
        if !O::KNOWN.contains(&option) {
            return Err(UsageError::OtherScenario { option, scenario: O::SCENARIO });
        }
        let given = value.string()?;
        let set = options.set(option, &given);
        set.map_err(|reason| UsageError::BadValue { option, given, reason })?;
    }
    options.complete().map_err(|(option, given, reason)| UsageError::BadValue { option, given, reason })?;
    Ok(options)
}

fn json_target(given: OsString) -> JsonTarget {
    if given == "-" { JsonTarget::Stdout } else { JsonTarget::File(given.into()) }
}

pub(crate) fn option_name(argument: &Arg<'_>) -> Result<&'static str, UsageError> {
    let given = match argument {
        Arg::Short('h') => return Ok("--help"),
        Arg::Short('V') => return Ok("--version"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(value) => value.to_string_lossy().into_owned(),
    };
    OPTIONS
        .into_iter()
        .find(|option| *option == given)
        .ok_or_else(|| UsageError::UnknownOption { nearest: nearest_option(&given), given })
}

fn nearest_option(given: &str) -> &'static str {
    let mut nearest = ("--help", usize::MAX);
    for option in OPTIONS {
        let distance = edit_distance(given, option);
        if distance < nearest.1 {
            nearest = (option, distance);
        }
    }
    nearest.0
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (the
/// optimal string alignment distance).
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut next = vec![i];
        for j in 1..=to.len() {
            let replaced = row[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

pub(crate) fn unknown_word(what: &'static str, given: &OsStr, known: &'static str) -> UsageError {
    UsageError::UnknownWord { what, given: given.to_string_lossy().into_owned(), known }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Act, Fault};
    use crate::keys::KeyChoice;
    use crate::payload::HEAD_BYTES;
    use crate::quantity::{Rate, Size};

    fn parse_line(line: &str) -> Result<Command, UsageError> {
        parse(line.split_ascii_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> RunOptions {
        match parse_line(line) {
            Ok(Command::RunPubsub(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    fn complaint(line: &str) -> String {
        parse_line(line).expect_err(line).to_string()
    }

    #[test]
    fn top_and_doctor_hear_their_arguments() {
        assert_eq!(parse_line("top").unwrap(), Command::Top(TopOptions::default()));
        let expected = TopOptions {
            address: "127.0.0.1:5".parse().expect("an address"),
            once: true,
            interval: Duration::from_millis(200),
        };
        assert_eq!(parse_line("top --once 127.0.0.1:5 --interval 200ms").unwrap(), Command::Top(expected));
        assert_eq!(parse_line("doctor").unwrap(), Command::Doctor(DoctorOptions::default()));
        let expected = DoctorOptions { config: Some("node.toml".into()) };
        assert_eq!(parse_line("doctor node.toml").unwrap(), Command::Doctor(expected));
        for (line, part) in [
            ("top here", "ip:port"),
            ("top 127.0.0.1:5 127.0.0.1:6", "ip:port"),
            ("top --interval 5ms", "100ms"),
            ("top --rate 5k", "no option of top"),
            ("doctor --once", "no option of doctor"),
            ("doctor a b", "one file"),
            ("run --once", "no option of run"),
            ("tip", "run, check, config, top, doctor"),
        ] {
            assert!(complaint(line).contains(part), "{line}: {}", complaint(line));
        }
    }

    #[test]
    fn nothing_run_and_run_pubsub_are_the_same() {
        for line in ["", "run", "run pubsub"] {
            assert_eq!(options(line), RunOptions::default(), "{line:?}");
        }
    }

    #[test]
    fn every_option_is_heard() {
        let given = options(
            "run pubsub --rate 50k --duration 5s --warmup 500ms --size 64..1024 --topics 1k --clusters 4 \
             --shards 3 --seed 7 --json out.json",
        );
        let expected = RunOptions {
            rate: Rate::parse("50000").expect("a rate"),
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(5),
            size: Size { smallest_bytes: 64, largest_bytes: 1024 },
            topics: 1_000,
            clusters: 4,
            shards: 3,
            seed: 7,
            json: Some(JsonTarget::File("out.json".into())),
        };
        assert_eq!(given, expected);
        assert_eq!(options("run --rate=1M --json -").json, Some(JsonTarget::Stdout));
    }

    fn registry(line: &str) -> RegistryOptions {
        match parse_line(line) {
            Ok(Command::RunRegistry(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    fn calls(line: &str) -> CallsOptions {
        match parse_line(line) {
            Ok(Command::RunCalls(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    #[test]
    fn the_registry_hears_its_options_and_has_its_faults() {
        let second = Duration::from_secs;
        let plain = registry("run registry");
        assert_eq!((plain.nodes, plain.processes, plain.entries), (3, 2, 1_000));
        let of_last = |act| Fault { at: second(1), act, node: 2 };
        assert_eq!(plain.faults, [of_last(Act::Kill), of_last(Act::Freeze(second(5)))]);
        let given = registry(
            "run registry --rate 2k --registry-nodes 5 --processes 4 --entries 10k --clusters 2 --shards 2 \
             --warmup 1s --duration 3s --fault none --json -",
        );
        assert_eq!((given.rate, given.nodes, given.processes), (Rate::of(2_000), 5, 4));
        assert_eq!((given.entries, given.clusters, given.shards), (10_000, 2, 2));
        assert_eq!((given.warmup, given.duration), (second(1), second(3)));
        assert_eq!((given.faults, given.json), (Vec::new(), Some(JsonTarget::Stdout)));
        assert_eq!(registry("run registry --processes 1").faults, []);
    }

    #[test]
    fn faults_may_be_repeated_and_come_in_the_order_of_their_times() {
        let words = ["run", "registry", "--fault", "6s freeze n3 5s", "--fault", "3s kill n2"];
        let Ok(Command::RunRegistry(options)) = parse(words.map(OsString::from)) else { panic!("refused") };
        let second = Duration::from_secs;
        let expected = [
            Fault { at: second(3), act: Act::Kill, node: 2 },
            Fault { at: second(6), act: Act::Freeze(second(5)), node: 3 },
        ];
        assert_eq!(options.faults, expected);
    }

    #[test]
    fn calls_hear_their_options_and_have_one_kill_in_the_middle() {
        let plain = calls("run calls");
        assert_eq!((plain.workers, plain.processes, plain.keys), (4, 2, KeyChoice::Uniform));
        let middle = Fault { at: Duration::from_secs(5), act: Act::Kill, node: 2 };
        assert_eq!(plain.faults, [middle]);
        let given = calls(
            "run calls --rate 5k --workers 9 --processes 3 --keys zipf:1.1 --key-count 1k --size 64..256 \
             --churn 0s --timeout 250ms --clusters 2 --seed 9 --fault none",
        );
        assert_eq!((given.rate, given.workers, given.processes), (Rate::of(5_000), 9, 3));
        assert_eq!((given.keys, given.key_count), (KeyChoice::Zipf(1.1), 1_000));
        assert_eq!(given.size, Size { smallest_bytes: 64, largest_bytes: 256 });
        assert_eq!((given.churn, given.timeout), (Duration::ZERO, Duration::from_millis(250)));
        assert_eq!((given.clusters, given.seed, given.faults), (2, 9, Vec::new()));
    }

    #[test]
    fn what_cannot_be_together_is_refused_and_says_why() {
        assert!(complaint("run registry --topics 5").contains("no option of registry"));
        assert!(complaint("run calls --entries 5").contains("no option of calls"));
        assert!(complaint("run --workers 5").contains("no option of pubsub"));
        assert!(complaint("run registry --processes 4").contains("more processes than the 3 nodes"));
        assert!(complaint("run calls --workers 1").contains("fewer than the 2 processes"));
        assert!(complaint("run registry --rate 1M --duration 10s").contains("remembered"));
        let fault = |fault: &str| {
            let words = ["run", "calls", "--fault", fault];
            parse(words.map(OsString::from)).expect_err(fault).to_string()
        };
        assert!(fault("3s kill n1").contains("w1 to w2"));
        assert!(fault("11s kill w1").contains("after the end"));
        assert!(complaint("run registry --registry-nodes 1").contains("2 to 64"));
    }

    #[test]
    fn a_worker_is_of_a_scenario_that_has_them() {
        assert_eq!(parse_line("worker registry").expect("known"), Command::Worker(WorkerOf::Registry));
        assert_eq!(parse_line("worker calls").expect("known"), Command::Worker(WorkerOf::Calls));
        complaint("worker pubsub");
        complaint("worker");
    }

    #[test]
    fn help_and_version_are_answered_everywhere() {
        for line in ["--help", "-h", "run --help", "run pubsub --rate 5k -h"] {
            assert_eq!(parse_line(line).expect(line), Command::Help, "{line}");
        }
        for line in ["--version", "-V", "run --version"] {
            assert_eq!(parse_line(line).expect(line), Command::Version, "{line}");
        }
    }

    #[test]
    fn a_wrong_option_is_answered_with_the_nearest_right_one() {
        for (given, nearest) in [
            ("--rtae", "--rate"),
            ("--rates", "--rate"),
            ("--duraton", "--duration"),
            ("--warm-up", "--warmup"),
            ("--topic", "--topics"),
            ("--registry-node", "--registry-nodes"),
            ("--worker", "--workers"),
            ("--faults", "--fault"),
            ("--shard", "--shards"),
            ("--cluster", "--clusters"),
            ("--jason", "--json"),
            ("--sed", "--seed"),
        ] {
            let text = complaint(&format!("run {given} 1"));
            assert!(text.ends_with(&format!("did you mean {nearest}?")), "{text}");
        }
        assert!(complaint("--rtae 5").contains("--rate"));
    }

    #[test]
    fn an_option_before_the_command_is_told_its_place() {
        assert!(complaint("--rate 5k").contains("croupier run --rate"));
    }

    #[test]
    fn unknown_words_are_told_the_known_ones() {
        assert!(complaint("walk").contains("known: run, check, config"));
        assert!(complaint("run pubsubs").contains("known: pubsub"));
        assert!(complaint("run registry calls").contains("known: pubsub, registry, calls"));
        assert!(complaint("run pubsub pubsub").contains("known: pubsub"));
    }

    #[test]
    fn bad_values_name_the_option_and_the_limit() {
        assert!(complaint("run --size 47").contains("48"));
        assert!(complaint("run --rate fast").starts_with("--rate fast: "));
        assert!(complaint("run --duration 10").contains("unit"));
        assert!(complaint("run --shards 0").contains("1 to 64"));
        for line in ["run --rate", "run --rate 0", "run --duration 0s", "run --clusters 33", "run --seed -1"]
        {
            complaint(line);
        }
    }

    #[test]
    fn the_help_names_every_option_and_the_least_size() {
        for option in OPTIONS {
            assert!(HELP.contains(option), "{option}");
        }
        assert!(HELP.contains(&format!("least {HEAD_BYTES}")));
    }
}
