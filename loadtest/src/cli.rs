//! The command line: what may be asked for, and what to say about the rest; each command has a file below.

mod compare;
mod doctor;
mod error;
mod help;
mod local;
mod nearest;
mod run;
mod show;
mod top;
mod topic;

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) use self::error::{UsageError, unknown_word};
pub(crate) use self::help::OptionRow;
pub(crate) use self::nearest::{nearest, option_name};
pub(crate) use self::topic::Topic;
use crate::compare::CompareOptions;
use crate::config_command::{self, ConfigCommand};
use crate::doctor::DoctorOptions;
use crate::local::LocalOptions;
use crate::options::{CallsOptions, RegistryOptions, RunOptions};
use crate::show::ShowOptions;
use crate::top::TopOptions;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Help(Topic),
    Version,
    Run(Box<RunOptions>),
    RunRegistry(RegistryOptions),
    RunCalls(CallsOptions),
    Config(ConfigCommand),
    Top(TopOptions),
    Doctor(DoctorOptions),
    Show(ShowOptions),
    Compare(CompareOptions),
    Local(LocalOptions),
    /// What this program starts itself as, for a process of a scenario; people have no use for it.
    Worker(WorkerOf),
}

/// The scenario that a worker process belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WorkerOf {
    Load,
    Registry,
    Calls,
}

/// The hidden command of a worker process.
pub(crate) const WORKER_COMMAND: &str = "worker";

impl WorkerOf {
    const ALL: [Self; 3] = [Self::Load, Self::Registry, Self::Calls];

    /// The word after [`WORKER_COMMAND`].
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Registry => RegistryOptions::SCENARIO,
            Self::Calls => CallsOptions::SCENARIO,
        }
    }
}

const COMMANDS: &str = "run, show, compare, local, check, config, top, doctor";

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let topic = Topic::of_line(&arguments);
    let mut parser = Parser::from_args(arguments);
    match parser.next()? {
        None => Ok(Command::Run(Box::default())),
        Some(Arg::Value(word)) if word == "run" => run::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == "local" => local::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == "config" => config_command::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == "check" => config_command::parse_check(&mut parser, topic),
        Some(Arg::Value(word)) if word == "top" => top::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == "doctor" => doctor::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == "show" => show::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == "compare" => compare::parse(&mut parser, topic),
        Some(Arg::Value(word)) if word == WORKER_COMMAND => parse_worker(&mut parser),
        Some(Arg::Value(word)) => Err(unknown_word("command", &word, COMMANDS)),
        Some(argument) => match option_name(&argument, topic)? {
            "--help" => Ok(Command::Help(topic)),
            "--version" => Ok(Command::Version),
            option => Err(UsageError::OptionBeforeCommand { option }),
        },
    }
}

fn parse_worker(parser: &mut Parser) -> Result<Command, UsageError> {
    let word = parser.value()?.string()?;
    let scenario = WorkerOf::ALL.into_iter().find(|scenario| scenario.word() == word);
    scenario
        .map(Command::Worker)
        .ok_or_else(|| unknown_word("worker", word.as_ref(), "load, registry, calls"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_worker_is_of_a_scenario_that_has_them() {
        assert_eq!(parse_line("worker registry").expect("known"), Command::Worker(WorkerOf::Registry));
        assert_eq!(parse_line("worker calls").expect("known"), Command::Worker(WorkerOf::Calls));
        complaint("worker pubsub");
        complaint("worker");
    }

    #[test]
    fn help_and_version_are_answered_everywhere() {
        for (line, topic) in [
            ("--help", Topic::Overview),
            ("-h", Topic::Overview),
            ("run --help", Topic::Run),
            ("run pubsub --rate 5k -h", Topic::Run),
            ("run registry --rate 5k -h", Topic::Registry),
            ("run --help calls", Topic::Calls),
            ("show --help", Topic::Show),
            ("compare a --help", Topic::Compare),
            ("local --help", Topic::Local),
            ("local up --help", Topic::Local),
            ("check --help", Topic::Check),
            ("config --help", Topic::Config),
            ("config schema --help", Topic::Config),
            ("top --help", Topic::Top),
            ("doctor --help", Topic::Doctor),
        ] {
            assert_eq!(parse_line(line).expect(line), Command::Help(topic), "{line}");
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
        for (line, nearest) in [
            ("local up --cluster 2", "--clusters"),
            ("local up --prot 2", "--port"),
            ("check node.toml --conect", "--connect"),
            ("top --intervall 1s", "--interval"),
            ("compare a b --fail-on-regresion 5%", "--fail-on-regression"),
        ] {
            let text = complaint(line);
            assert!(text.ends_with(&format!("did you mean {nearest}?")), "{text}");
        }
    }

    #[test]
    fn an_option_before_the_command_is_told_its_place() {
        assert!(complaint("--rate 5k").contains("croupier run --rate"));
    }

    #[test]
    fn unknown_words_are_told_the_known_ones() {
        assert!(complaint("walk").contains("known: run, show, compare, local, check"));
        assert!(complaint("run pubsubs").contains("known: pubsub"));
        assert!(complaint("run registry calls").contains("known: pubsub, fanout, reqrep, registry, calls"));
        assert!(complaint("run pubsub pubsub").contains("known: pubsub"));
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
            ("tip", "run, show, compare, local, check, config, top, doctor"),
        ] {
            assert!(complaint(line).contains(part), "{line}: {}", complaint(line));
        }
    }

    pub(crate) fn parse_line(line: &str) -> Result<Command, UsageError> {
        parse(line.split_ascii_whitespace().map(OsString::from))
    }

    pub(crate) fn complaint(line: &str) -> String {
        parse_line(line).expect_err(line).to_string()
    }
}
