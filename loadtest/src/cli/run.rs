//! `croupier run`: the scenario, and its options, which may stand before its name.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use super::error::{UsageError, too_many, unknown_word};
use super::nearest::{Asked, asked, value};
use super::topic::Topic;
use super::{Command, help::OptionRow};
use crate::options::{CallsOptions, Options, OutputOptions, RegistryOptions, RunOptions, row_of};
use crate::roles::Pattern;

const SCENARIOS: &str = "pubsub, fanout, reqrep, registry, calls";

const PATTERNS: [Pattern; 3] = [Pattern::Pubsub, Pattern::Fanout, Pattern::Reqrep];

/// An option with its value, which is empty for one that takes none.
type Given = (OptionRow, OsString);

/// Reads what stands after `croupier run`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    let mut scenario = None;
    let mut given: Vec<Given> = Vec::new();
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            let known = PATTERNS.map(Pattern::name).into_iter();
            let mut known = known.chain([RegistryOptions::SCENARIO, CallsOptions::SCENARIO]);
            let found = known.find(|known| word == *known);
            let found = found.ok_or_else(|| unknown_word("scenario", &word, SCENARIOS))?;
            if scenario.replace(found).is_some() {
                return Err(too_many(&word, "run", "one scenario"));
            }
            continue;
        }
        match asked(&argument, topic)? {
            Asked::Instead(command) => return Ok(*command),
            Asked::Option(option) => {
                let row = row_of(option).ok_or_else(|| UsageError::other(option, "run"))?;
                let takes_none = row.value.is_empty();
                let value = if takes_none { OsString::new() } else { value(parser, option, row.value)? };
                given.push((row, value));
            }
        }
    }
    match scenario {
        Some(RegistryOptions::SCENARIO) => {
            Ok(Command::RunRegistry(options(RegistryOptions::default(), given)?))
        }
        Some(CallsOptions::SCENARIO) => Ok(Command::RunCalls(options(CallsOptions::default(), given)?)),
        other => {
            let pattern = PATTERNS.into_iter().find(|pattern| other == Some(pattern.name()));
            let options = options(RunOptions::of(pattern.unwrap_or(Pattern::Pubsub)), given)?;
            Ok(Command::Run(Box::new(options)))
        }
    }
}

fn options<O: Options>(mut options: O, given: Vec<Given>) -> Result<O, UsageError> {
    for (row, value) in given {
        let option = row.name;
        if OutputOptions::knows(option) {
            let measures = options.measures();
            options.output_mut().set(option, value, measures)?;
            continue;
        }
        if !options.knows(option) {
            return Err(UsageError::other(option, options.scenario()));
        }
        let given = value.string()?;
        let set = options.set(option, &given);
        set.map_err(|reason| UsageError::BadValue { option, given, reason })?;
    }
    let complete = options.output_mut().complete().and_then(|()| options.complete());
    complete.map_err(|(option, given, reason)| UsageError::BadValue { option, given, reason })?;
    Ok(options)
}
