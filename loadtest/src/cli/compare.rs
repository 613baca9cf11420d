//! `croupier compare`, as it is written.

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::{UsageError, too_many};
use super::nearest::{Asked, asked, value};
use super::topic::Topic;
use crate::compare::CompareOptions;
use crate::quantity::parse_percent;

/// Reads what stands after `croupier compare`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut paths = Vec::new();
    let mut fail_on_regression = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if paths.len() < 2 && !path.is_empty() => paths.push(path.into()),
            Arg::Value(word) => return Err(too_many(&word, "compare", "two folders")),
            argument => match asked(&argument, topic)? {
                Asked::Instead(command) => return Ok(*command),
                Asked::Option(option @ "--fail-on-regression") => {
                    let given = value(parser, option, "PERCENT")?.string()?;
                    let limit = parse_percent(&given);
                    fail_on_regression =
                        Some(limit.map_err(|reason| UsageError::BadValue { option, given, reason })?);
                }
                Asked::Option(option) => return Err(UsageError::other(option, "compare")),
            },
        }
    }
    let mut paths = paths.into_iter();
    match (paths.next(), paths.next()) {
        (Some(a), Some(b)) => Ok(Command::Compare(CompareOptions { a, b, fail_on_regression })),
        _ => Err(UsageError::Missing {
            what: "a folder of runs",
            command: "compare",
            example: "results/main results/new",
        }),
    }
}
