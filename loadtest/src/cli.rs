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

pub(crate) use self::error::{UsageError, or_one_of, too_many, unknown_word};
pub(crate) use self::help::OptionRow;
pub(crate) use self::nearest::{Asked, asked, value};
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
        Some(argument) => match asked(&argument, topic)? {
            Asked::Instead(command) => Ok(*command),
            Asked::Option(option) => {
                let command = Topic::commands_of(option).first().copied().unwrap_or("run");
                Err(UsageError::OptionBeforeCommand { option, command })
            }
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
        for line in [
            "--version",
            "-V",
            "run --version",
            "run calls --rate 5k -V",
            "show --version",
            "compare a --version",
            "local --version",
            "local up --version",
            "check --version",
            "config --version",
            "config show --version",
            "top --version",
            "doctor -V",
        ] {
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
    fn nothing_is_suggested_that_is_not_near() {
        for line in ["doctor --foo", "--foo", "run --verbose", "top --quiet"] {
            let text = complaint(line);
            assert!(
                text.starts_with("unknown option --") && !text.contains("did you mean"),
                "{line}: {text}"
            );
        }
        assert_eq!(complaint("run -rate 5k"), "unknown option -r; an option has two dashes, as in --rate");
        assert_eq!(complaint("run --conc 5"), "unknown option --conc; did you mean --concurrency?");
    }

    #[test]
    fn an_option_before_the_command_is_told_its_place() {
        assert!(complaint("--rate 5k").contains("croupier run --rate"));
        assert!(complaint("--connect").contains("croupier check --connect"));
        assert!(complaint("--workers 5").contains("croupier run calls --workers"));
    }

    #[test]
    fn an_option_of_another_command_is_told_that_command() {
        assert_eq!(complaint("doctor --rate 5k"), "--rate is no option of doctor; it is one of run");
        assert_eq!(
            complaint("run --entries 5"),
            "--entries is no option of pubsub; it is one of run registry"
        );
        assert!(complaint("config show --connect").ends_with("it is one of check"));
    }

    #[test]
    fn a_value_that_is_missing_or_empty_is_told_what_it_is() {
        for line in ["run --rate", "run --rate --duration 5s", "run --rate= --duration 5s"] {
            assert_eq!(complaint(line), "--rate has no value; write --rate RATE", "{line}");
        }
        assert_eq!(complaint("run --out --json -"), "--out has no value; write --out FOLDER");
        assert_eq!(complaint("run --closed=5"), "--closed takes no value, and was given \"5\"");
        assert_eq!(
            complaint("run --fail-on-regression 5%"),
            "--fail-on-regression: there is no --baseline to be worse than"
        );
        for (command, part) in [
            ("check", "the file of a configuration is missing, as in `croupier check node.toml`"),
            ("doctor", "an argument is empty: `croupier doctor` takes one file at most"),
            ("show", "an argument is empty: `croupier show` takes one run"),
            ("compare", "an argument is empty: `croupier compare` takes two folders"),
            ("config", "what to do is missing, as in `croupier config show node.toml`"),
            ("local", "what to do is missing, as in `croupier local up`"),
            ("run", "unknown scenario \"\"; known: pubsub"),
        ] {
            let text = parse([command, ""].map(OsString::from)).expect_err(command).to_string();
            assert!(text.starts_with(part), "{text}");
        }
    }

    #[test]
    fn unknown_words_are_told_the_known_ones() {
        assert!(complaint("walk").contains("\"walk\"; known: run, show, compare, local, check"));
        assert!(complaint("rnu").contains("\"rnu\"; did you mean run? known: run, show, compare"));
        assert!(complaint("run pubsubs").contains("did you mean pubsub? known: pubsub, fanout"));
        assert_eq!(
            complaint("run registry calls"),
            "\"calls\" is too many: `croupier run` takes one scenario"
        );
        assert!(complaint("run pubsub pubsub").contains("takes one scenario"));
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
            ("top 127.0.0.1:5 127.0.0.1:6", "takes one address"),
            ("show --schema run", "takes one run, or --schema"),
            ("show run --schema", "takes one run, or --schema"),
            ("compare a b c", "takes two folders"),
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
