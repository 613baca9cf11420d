//! `croupier doctor`, as it is written.

use lexopt::{Arg, Parser};

use super::Command;
use super::error::{UsageError, unknown_word};
use super::nearest::option_name;
use super::topic::Topic;
use crate::doctor::DoctorOptions;

/// Reads what stands after `croupier doctor`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut options = DoctorOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if options.config.is_none() => options.config = Some(path.into()),
            Arg::Value(word) => return Err(unknown_word("argument", &word, "one file")),
            argument => match option_name(&argument, topic)? {
                "--help" => return Ok(Command::Help(topic)),
                option => return Err(UsageError::OtherScenario { option, scenario: "doctor" }),
            },
        }
    }
    Ok(Command::Doctor(options))
}
