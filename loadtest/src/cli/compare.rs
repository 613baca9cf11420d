//! `croupier compare`, as it is written.

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::{UsageError, unknown_word};
use super::nearest::option_name;
use super::topic::Topic;
use crate::compare::CompareOptions;
use crate::quantity::parse_percent;

/// Reads what stands after `croupier compare`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut paths = Vec::new();
    let mut fail_on_regression = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(path) if paths.len() < 2 => paths.push(path.into()),
            Arg::Value(word) => return Err(unknown_word("argument", &word, "two folders")),
            argument => match option_name(&argument, topic)? {
                "--help" => return Ok(Command::Help(topic)),
                option @ "--fail-on-regression" => {
                    let given = parser.value()?.string()?;
                    let limit = parse_percent(&given);
                    fail_on_regression =
                        Some(limit.map_err(|reason| UsageError::BadValue { option, given, reason })?);
                }
                option => return Err(UsageError::OtherScenario { option, scenario: "compare" }),
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
