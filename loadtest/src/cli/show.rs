//! `croupier show`, as it is written.

use lexopt::{Arg, Parser};

use super::Command;
use super::error::{UsageError, unknown_word};
use super::nearest::option_name;
use super::topic::Topic;
use crate::show::ShowOptions;

/// Reads what stands after `croupier show`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut options = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if options.is_none() => options = Some(ShowOptions::Run(path.into())),
            Arg::Value(word) => return Err(unknown_word("argument", &word, "one run")),
            argument => match option_name(&argument, topic)? {
                "--help" => return Ok(Command::Help(topic)),
                "--schema" if options.is_none() => options = Some(ShowOptions::Schema),
                option => return Err(UsageError::OtherScenario { option, scenario: "show" }),
            },
        }
    }
    options.map(Command::Show).ok_or(UsageError::Missing {
        what: "the folder of a run",
        command: "show",
        example: "results/20261122T074503Z-pubsub",
    })
}
