//! `croupier show`, as it is written.

use lexopt::{Arg, Parser};

use super::Command;
use super::error::{UsageError, too_many};
use super::nearest::{Asked, asked};
use super::topic::Topic;
use crate::show::ShowOptions;

/// Reads what stands after `croupier show`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut options = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if options.is_none() && !path.is_empty() => {
                options = Some(ShowOptions::Run(path.into()));
            }
            Arg::Value(word) => return Err(too_many(&word, "show", "one run, or --schema")),
            argument => match asked(&argument, topic)? {
                Asked::Instead(command) => return Ok(*command),
                Asked::Option(option @ "--schema") if options.is_some() => {
                    return Err(too_many(option.as_ref(), "show", "one run, or --schema"));
                }
                Asked::Option("--schema") => options = Some(ShowOptions::Schema),
                Asked::Option(option) => return Err(UsageError::other(option, "show")),
            },
        }
    }
    options.map(Command::Show).ok_or(UsageError::Missing {
        what: "the folder of a run",
        command: "show",
        example: "results/20261122T074503Z-pubsub",
    })
}
