//! `croupier top`, as it is written.

use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::UsageError;
use super::nearest::option_name;
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
            let given = word.string()?;
            options.address = match given.parse() {
                Ok(address) if !has_address => address,
                _ => return Err(UsageError::BadAddress { given }),
            };
            has_address = true;
            continue;
        }
        match option_name(&argument, topic)? {
            "--help" => return Ok(Command::Help(topic)),
            "--once" => options.once = true,
            option @ "--interval" => {
                let given = parser.value()?.string()?;
                options.interval = parse_duration(&given, INTERVALS)
                    .map_err(|reason| UsageError::BadValue { option, given, reason })?;
            }
            option => return Err(UsageError::OtherScenario { option, scenario: "top" }),
        }
    }
    Ok(Command::Top(options))
}
