//! `croupier config` and `croupier check`: what `node.toml` may say, what it comes to, and whether a node can run so.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use croupier::config::{Config, ConfigError, Cpus, Loaded, Sources};
use croupier::probe;
use lexopt::{Arg, Parser, ValueExt};

use crate::cli::{Asked, Command, OptionRow, Topic, UsageError, asked, too_many, unknown_word, value};
use crate::connect_check::ServersChecked;
use crate::console::Console;
use crate::quantity::counted;

/// What of the configuration is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConfigCommand {
    /// The JSON Schema of `node.toml`.
    Schema,
    /// The configuration that a node would have, with the origin of each setting if asked for.
    Show { sources: GivenSources, origins: bool },
    /// Whether a node could run so; if asked for, also whether its servers would have it.
    Check { sources: GivenSources, connects: bool },
}

/// What the configuration is read from, beside the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GivenSources {
    pub(crate) file: Option<PathBuf>,
    pub(crate) assignments: Vec<String>,
}

impl GivenSources {
    /// Takes the value of `--set`.
    fn add(&mut self, parser: &mut Parser, option: &'static str) -> Result<(), UsageError> {
        self.assignments.push(value(parser, option, SET.value)?.string()?);
        Ok(())
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        let sources = self.file.iter().fold(Sources::new().environment(), Sources::file);
        self.assignments.iter().fold(sources, Sources::set).load()
    }
}

/// The status of a configuration that is refused, as sysexits.h has it.
const CONFIGURATION: u8 = 78;

const COMMANDS: &str = "show, schema";

const NO_FILE: UsageError =
    UsageError::Missing { what: "the file of a configuration", command: "check", example: "node.toml" };

/// What `--help` says above the options of `check`.
pub(crate) const CHECK_ABOUT: &str = "\
Whether a node can run so: the mistakes of the file, the environment and --set, each with its place
and remedy, and whether the files that are named can be read.";

/// The words after `config` that `--help` explains.
pub(crate) const WORDS: &[OptionRow] = &[
    OptionRow::new("show", "", "what the file, the environment and --set come to, defaults included", ""),
    OptionRow::new("schema", "", "the JSON Schema of node.toml, for editors", ""),
];

const SET: OptionRow = OptionRow::new(
    "--set",
    "KEY=VALUE",
    "over the file and the environment: registry.heartbeat=50ms,\nclusters.c1.weight=2; may be repeated",
    "",
);

pub(crate) const ROWS: &[OptionRow] =
    &[SET, OptionRow::new("--origin", "", "where each setting comes from", "")];

pub(crate) const CHECK_ROWS: &[OptionRow] = &[
    SET,
    OptionRow::new(
        "--connect",
        "",
        "also dials every server, and leaves again: version, credentials,\nmax_payload, TLS and until when the \
         certificates are good",
        "",
    ),
];

/// Reads what stands after `croupier config`.
pub(crate) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let word = match parser.next()? {
        Some(Arg::Value(word)) if !word.is_empty() => word,
        None | Some(Arg::Value(_)) => {
            let example = "show node.toml`, or `croupier config schema";
            return Err(UsageError::Missing { what: "what to do", command: "config", example });
        }
        Some(argument) => match asked(&argument, topic)? {
            Asked::Instead(command) => return Ok(*command),
            Asked::Option(option) if topic.option_names().contains(&option) => {
                return Err(UsageError::OptionBeforeCommand { option, command: "config show" });
            }
            Asked::Option(option) => return Err(UsageError::other(option, "config")),
        },
    };
    let is_show = word == "show";
    if !is_show && word != "schema" {
        return Err(unknown_word("command after config", &word, COMMANDS));
    }
    let mut sources = GivenSources::default();
    let mut origins = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if is_show && sources.file.is_none() && !path.is_empty() => {
                sources.file = Some(path.into());
            }
            Arg::Value(word) if is_show => return Err(too_many(&word, "config show", "one file at most")),
            Arg::Value(word) => return Err(too_many(&word, "config schema", "no file")),
            argument => match asked(&argument, topic)? {
                Asked::Instead(command) => return Ok(*command),
                Asked::Option(option @ "--set") if is_show => sources.add(parser, option)?,
                Asked::Option("--origin") if is_show => origins = true,
                Asked::Option(option) if is_show => return Err(UsageError::other(option, "config show")),
                Asked::Option(option) => return Err(UsageError::other(option, "config schema")),
            },
        }
    }
    Ok(Command::Config(if is_show {
        ConfigCommand::Show { sources, origins }
    } else {
        ConfigCommand::Schema
    }))
}

/// Reads what stands after `croupier check`.
pub(crate) fn parse_check(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut sources = GivenSources::default();
    let mut connects = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if sources.file.is_none() && !path.is_empty() => {
                sources.file = Some(path.into());
            }
            Arg::Value(word) if !word.is_empty() => return Err(too_many(&word, "check", "one file")),
            Arg::Value(_) => return Err(NO_FILE),
            argument => match asked(&argument, topic)? {
                Asked::Instead(command) => return Ok(*command),
                Asked::Option(option @ "--set") => sources.add(parser, option)?,
                Asked::Option("--connect") => connects = true,
                Asked::Option(option) => return Err(UsageError::other(option, "check")),
            },
        }
    }
    if sources.file.is_none() {
        return Err(NO_FILE);
    }
    Ok(Command::Config(ConfigCommand::Check { sources, connects }))
}

pub(crate) fn run(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Schema => Console::Stdout.write(Config::schema_json()),
        ConfigCommand::Show { sources, origins } => match sources.load() {
            Ok(loaded) if *origins => Console::Stdout.write(loaded.to_toml_with_origins()),
            Ok(loaded) => Console::Stdout.write(loaded.config.to_toml()),
            Err(error) => return refuse(&error),
        },
        ConfigCommand::Check { sources, connects } => return check(sources, *connects),
    }
    ExitCode::SUCCESS
}

fn check(sources: &GivenSources, connects: bool) -> ExitCode {
    let config = match sources.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return refuse(&error),
    };
    let mut is_fatal = false;
    for finding in config.check_files() {
        is_fatal |= finding.is_fatal();
        let weight = if finding.is_fatal() { "error" } else { "warning" };
        Console::Stderr.line(format_args!("croupier: {weight}: {finding}"));
    }
    if let Some(warning) = crowded(&config) {
        Console::Stderr.line(format_args!("croupier: warning: {warning}"));
    }
    if is_fatal {
        return ExitCode::from(CONFIGURATION);
    }
    if connects {
        match ServersChecked::of(&config) {
            Ok(checked) => {
                Console::Stdout.write(&checked);
                if let Some(verdict) = checked.obstacle() {
                    return refuse(&verdict);
                }
            }
            Err(error) => return refuse(&error),
        }
    }
    Console::Stdout.line(summary(&config));
    ExitCode::SUCCESS
}

/// What validation lets pass because tests want it, and a node in operation does not.
fn crowded(config: &Config) -> Option<String> {
    let allowed = probe::allowed_cpus().ok()?.len();
    let shards = config.shards.cpus.shards(allowed);
    let over = matches!(config.shards.cpus, Cpus::Count(_)) && shards > allowed;
    over.then(|| {
        format!(
            "shards.cpus: {} share the {} that this process may use",
            counted(shards, "shard"),
            counted(allowed, "CPU")
        )
    })
}

fn summary(config: &Config) -> String {
    let allowed = probe::allowed_cpus().map_or(1, |cpus| cpus.len());
    let servers: usize = config.clusters.iter().map(|cluster| cluster.servers.len()).sum();
    let registry = match &config.registry {
        Some(registry) => {
            format!("registry {:?}, {}", registry.cluster, counted(registry.seeds.len(), "seed"))
        }
        None => "no registry but its own".to_owned(),
    };
    format!(
        "fine: node {:?}, {}, {}, {}, {registry}",
        config.node.name_or_host(),
        counted(config.shards.cpus.shards(allowed), "shard"),
        counted(config.clusters.len(), "cluster"),
        counted(servers, "server"),
    )
}

fn refuse(error: &dyn Display) -> ExitCode {
    Console::Stderr.line(format_args!("croupier: {error}"));
    ExitCode::from(CONFIGURATION)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn parse_line(line: &str) -> Result<Command, UsageError> {
        crate::cli::parse(line.split_ascii_whitespace().map(OsString::from))
    }

    #[test]
    fn the_commands_hear_their_options() {
        let sources = |file: Option<&str>, assignments: &[&str]| GivenSources {
            file: file.map(PathBuf::from),
            assignments: assignments.iter().map(|&one| one.to_owned()).collect(),
        };
        for (line, expected) in [
            ("config schema", ConfigCommand::Schema),
            ("config show", ConfigCommand::Show { sources: sources(None, &[]), origins: false }),
            (
                "config show --set a.b=1 n.toml --origin --set=c.d=2",
                ConfigCommand::Show { sources: sources(Some("n.toml"), &["a.b=1", "c.d=2"]), origins: true },
            ),
            (
                "check n.toml --set a.b=1",
                ConfigCommand::Check { sources: sources(Some("n.toml"), &["a.b=1"]), connects: false },
            ),
            (
                "check --connect n.toml",
                ConfigCommand::Check { sources: sources(Some("n.toml"), &[]), connects: true },
            ),
        ] {
            assert_eq!(parse_line(line).expect(line), Command::Config(expected));
        }
        assert_eq!(parse_line("config show --help").expect("known"), Command::Help(Topic::Config));
        for (line, part) in [
            ("config", "as in `croupier config show node.toml`, or `croupier config schema`"),
            ("config shwo", "did you mean show? known: show, schema"),
            ("config --origin", "as in `croupier config show --origin ..`"),
            ("config schema n.toml", "takes no file"),
            ("check --set", "--set has no value; write --set KEY=VALUE"),
            ("check n.toml --set --connect", "--set has no value"),
            ("config --rate 5", "no option of config"),
            ("config schema --set a=1", "no option of config schema"),
            ("config show --orign", "did you mean --origin?"),
            ("config show a b", "one file"),
            ("check", "croupier check node.toml"),
            ("check n.toml --rate 5", "no option of check"),
            ("check n.toml --conect", "did you mean --connect?"),
            ("config show --connect", "no option of config show"),
            ("run --connect", "no option of run"),
            ("run --set a=1", "no option of run"),
        ] {
            let shown = parse_line(line).expect_err(line).to_string();
            assert!(shown.contains(part), "{line}: {shown}");
        }
    }
}
