//! `croupier doctor`, as it is written.

use lexopt::{Arg, Parser};

use super::Command;
use super::error::{UsageError, too_many};
use super::nearest::{Asked, asked};
use super::topic::Topic;
use crate::doctor::DoctorOptions;

/// Reads what stands after `croupier doctor`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut options = DoctorOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if options.config.is_none() && !path.is_empty() => {
                options.config = Some(path.into());
            }
            Arg::Value(word) => return Err(too_many(&word, "doctor", "one file at most")),
            argument => match asked(&argument, topic)? {
                Asked::Instead(command) => return Ok(*command),
                Asked::Option(option) => return Err(UsageError::other(option, "doctor")),
            },
        }
    }
    Ok(Command::Doctor(options))
}
