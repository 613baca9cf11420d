//! `croupier top`, as it is written.

use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::{UsageError, too_many};
use super::nearest::{Asked, asked, value};
use super::topic::Topic;
use crate::quantity::parse_duration;
use crate::top::TopOptions;

/// Between two looks.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Reads what stands after `croupier top`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut options = TopOptions::default();
    let mut has_address = false;
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            if has_address {
                return Err(too_many(&word, "top", "one address"));
            }
            let given = word.string()?;
            options.address = given.parse().map_err(|_| UsageError::BadAddress { given })?;
            has_address = true;
            continue;
        }
        match asked(&argument, topic)? {
            Asked::Instead(command) => return Ok(*command),
            Asked::Option("--once") => options.once = true,
            Asked::Option(option @ "--interval") => {
                let given = value(parser, option, "TIME")?.string()?;
                options.interval = parse_duration(&given, INTERVALS)
                    .map_err(|reason| UsageError::BadValue { option, given, reason })?;
            }
            Asked::Option(option) => return Err(UsageError::other(option, "top")),
        }
    }
    Ok(Command::Top(options))
}
