//! `croupier config`: what `node.toml` may say.

use std::process::ExitCode;

use lexopt::{Arg, Parser};

use crate::cli::{Command, UsageError, option_name, unknown_word};
use crate::console::Console;

/// What of the configuration is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConfigCommand {
    /// The JSON Schema of `node.toml`.
    Schema,
}

const COMMANDS: &str = "schema";

/// Reads what stands after `croupier config`.
pub(crate) fn parse(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(word) if word == "schema" && command.is_none() => {
                command = Some(ConfigCommand::Schema);
            }
            Arg::Value(word) => return Err(unknown_word("command after config", &word, COMMANDS)),
            option => match option_name(&option)? {
                "--help" => return Ok(Command::Help),
                "--version" => return Ok(Command::Version),
                option => return Err(UsageError::OtherScenario { option, scenario: "config" }),
            },
        }
    }
    command.map(Command::Config).ok_or_else(|| unknown_word("command after config", "".as_ref(), COMMANDS))
}

pub(crate) fn run(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Schema => Console::Stdout.write(croupier::Config::schema_json()),
    }
    ExitCode::SUCCESS
}
