//! The command line: what may be asked for, its limits, and what to say about the rest.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::payload::{HEAD_BYTES, PAYLOAD_BYTES_MAX};
use crate::quantity::{QuantityError, Rate, Size, parse_count, parse_duration};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Version,
    RunPubsub(RunOptions),
}

/// How a run is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunOptions {
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) size: Size,
    pub(crate) topics: usize,
    pub(crate) clusters: usize,
    pub(crate) shards: usize,
    pub(crate) seed: u64,
    pub(crate) json: Option<JsonTarget>,
}

/// Where the JSON report goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonTarget {
    /// Alone on standard output; everything else goes to standard error.
    Stdout,
    File(PathBuf),
}

/// The command line cannot be obeyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UsageError {
    #[error("unknown option {given}; did you mean {nearest}?")]
    UnknownOption { given: String, nearest: &'static str },
    #[error("unknown {what} {given:?}; known: {known}")]
    UnknownWord { what: &'static str, given: String, known: &'static str },
    #[error("{option} belongs after a command, as in `croupier run {option} ..`")]
    OptionBeforeCommand { option: &'static str },
    #[error("{option} {given}: {reason}")]
    BadValue { option: &'static str, given: String, reason: QuantityError },
    #[error("{0}")]
    Malformed(#[from] lexopt::Error),
}

/// The text of `--help`.
pub(crate) const HELP: &str = "\
croupier: the load test of Croupier

usage: croupier [run [pubsub]] [options]

Without arguments it starts three local gnatsd clusters, publishes to many topics at a
fixed rate from two shards, checks every message and prints a verdict.

options of run
  --rate RATE          messages a second, all shards together: 20k, 1M   [20k]
  --warmup TIME        load before the figures count: 2s, 500ms, 0s      [2s]
  --duration TIME      load that counts                                  [10s]
  --size BYTES         payload, or a range: 128, 64..1024; least 48      [128]
  --topics COUNT       topics, all equally likely: 10k                   [10k]
  --clusters COUNT     local gnatsd clusters, one server each            [3]
  --shards COUNT       shards, each publisher and subscriber             [2]
  --seed NUMBER        topics, order and sizes follow from it            [42]
  --json PATH          the report as JSON; - for standard output alone

  --help, --version

nats-server is looked for in $NATS_SERVER, in PATH, in /usr/sbin and in
target/nats-server/; if there is none, it is fetched with pip.

exit codes
  0  the run is VALID or DEGRADED     2   the command line is wrong
  1  the run failed                   78  the configuration or the machine is not fit
  97 the run is INVALID
";

const OPTIONS: [&str; 11] = [
    "--rate",
    "--warmup",
    "--duration",
    "--size",
    "--topics",
    "--clusters",
    "--shards",
    "--seed",
    "--json",
    "--help",
    "--version",
];

const COMMANDS: &str = "run";
const SCENARIOS: &str = "pubsub";

/// A day: beyond it the histograms' range and a person's patience end.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Each pair of topic and shard takes 32 bytes, and each topic a subscription.
const TOPICS_MAX: u64 = 1_000_000;
/// Each is a server process with its threads.
const CLUSTERS_MAX: u64 = 32;
const SHARDS_MAX: u64 = 64;
const SIZE_BYTES: RangeInclusive<usize> = HEAD_BYTES..=PAYLOAD_BYTES_MAX;

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            rate: Rate::DEFAULT,
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            size: Size { smallest_bytes: 128, largest_bytes: 128 },
            topics: 10_000,
            clusters: 3,
            shards: 2,
            seed: 42,
            json: None,
        }
    }
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(arguments);
    match parser.next()? {
        None => Ok(Command::RunPubsub(RunOptions::default())),
        Some(Arg::Value(word)) if word == "run" => parse_run(&mut parser),
        Some(Arg::Value(word)) => Err(unknown_word("command", &word, COMMANDS)),
        Some(argument) => match option_name(&argument)? {
            "--help" => Ok(Command::Help),
            "--version" => Ok(Command::Version),
            option => Err(UsageError::OptionBeforeCommand { option }),
        },
    }
}

fn parse_run(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut options = RunOptions::default();
    let mut scenario_given = false;
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            if scenario_given || word != "pubsub" {
                return Err(unknown_word("scenario", &word, SCENARIOS));
            }
            scenario_given = true;
            continue;
        }
        let option = option_name(&argument)?;
        match option {
            "--help" => return Ok(Command::Help),
            "--version" => return Ok(Command::Version),
            "--json" => options.json = Some(json_target(parser.value()?)),
            _ => {
                let given = parser.value()?.string()?;
                options.set(option, &given).map_err(|reason| UsageError::BadValue {
                    option,
                    given,
                    reason,
                })?;
            }
        }
    }
    Ok(Command::RunPubsub(options))
}

impl RunOptions {
    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError> {
        match option {
            "--rate" => self.rate = Rate::parse(given)?,
            "--warmup" => self.warmup = parse_duration(given, Duration::ZERO..=DURATION_MAX)?,
            "--duration" => self.duration = parse_duration(given, Duration::from_millis(1)..=DURATION_MAX)?,
            "--size" => self.size = Size::parse(given, SIZE_BYTES)?,
            "--topics" => self.topics = parse_count(given, 1..=TOPICS_MAX)? as usize,
            "--clusters" => self.clusters = parse_count(given, 1..=CLUSTERS_MAX)? as usize,
            "--shards" => self.shards = parse_count(given, 1..=SHARDS_MAX)? as usize,
            "--seed" => self.seed = parse_count(given, 0..=u64::MAX)?,
            other => unreachable!("{other} is among the known options and takes no quantity"),
        }
        Ok(())
    }
}

fn json_target(given: OsString) -> JsonTarget {
    if given == "-" { JsonTarget::Stdout } else { JsonTarget::File(given.into()) }
}

fn option_name(argument: &Arg<'_>) -> Result<&'static str, UsageError> {
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

fn unknown_word(what: &'static str, given: &OsStr, known: &'static str) -> UsageError {
    UsageError::UnknownWord { what, given: given.to_string_lossy().into_owned(), known }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(complaint("walk").contains("known: run"));
        assert!(complaint("run pubsubs").contains("known: pubsub"));
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
