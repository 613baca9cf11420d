//! Why a command line is refused, in words that say what to write instead.

use std::ffi::OsStr;

use super::nearest::nearest;
use super::topic::Topic;
use crate::quantity::QuantityError;

/// The command line cannot be obeyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UsageError {
    #[error("unknown option {given}{}", meant(*nearest))]
    UnknownOption { given: String, nearest: Option<&'static str> },
    #[error("unknown option {given}; an option has two dashes, as in {example}")]
    OneDash { given: String, example: &'static str },
    #[error("unknown {what} {given:?}{}", or_one_of(given, known))]
    UnknownWord { what: &'static str, given: String, known: &'static str },
    #[error("{}: `croupier {command}` takes {takes}", surplus(given))]
    TooMany { given: String, command: &'static str, takes: &'static str },
    #[error("{option} is no option of {scenario}; it is one of {}", of.join(", "))]
    OtherScenario { option: &'static str, scenario: &'static str, of: Vec<&'static str> },
    #[error("{option} belongs after a command, as in `croupier {command} {option} ..`")]
    OptionBeforeCommand { option: &'static str, command: &'static str },
    #[error("{option} has no value; write {option} {value}")]
    NoValue { option: &'static str, value: &'static str },
    #[error("{option} takes no value, and was given {given:?}")]
    NeedlessValue { option: String, given: String },
    #[error("{given:?} is no address of a node's admin server; write ip:port, as node.admin_listen has it")]
    BadAddress { given: String },
    #[error("{what} is missing, as in `croupier {command} {example}`")]
    Missing { what: &'static str, command: &'static str, example: &'static str },
    #[error("{option}{}{given}: {reason}", if given.is_empty() { "" } else { " " })]
    BadValue { option: &'static str, given: String, reason: QuantityError },
    #[error("{0}")]
    Malformed(lexopt::Error),
}

impl UsageError {
    /// Of an option that other commands know.
    pub(crate) fn other(option: &'static str, scenario: &'static str) -> Self {
        Self::OtherScenario { option, scenario, of: Topic::commands_of(option) }
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        match error {
            lexopt::Error::UnexpectedValue { option, value } => {
                Self::NeedlessValue { option, given: value.to_string_lossy().into_owned() }
            }
            error => Self::Malformed(error),
        }
    }
}

/// The question whether this was meant.
fn meant(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

/// Which of these words was meant, and what they are.
pub(crate) fn or_one_of(given: &str, known: &str) -> String {
    match nearest(given, known.split(", ")) {
        Some(nearest) => format!("; did you mean {nearest}? known: {known}"),
        None => format!("; known: {known}"),
    }
}

fn surplus(given: &str) -> String {
    if given.is_empty() { "an argument is empty".to_owned() } else { format!("{given:?} is too many") }
}

pub(crate) fn unknown_word(what: &'static str, given: &OsStr, known: &'static str) -> UsageError {
    UsageError::UnknownWord { what, given: given.to_string_lossy().into_owned(), known }
}

pub(crate) fn too_many(given: &OsStr, command: &'static str, takes: &'static str) -> UsageError {
    UsageError::TooMany { given: given.to_string_lossy().into_owned(), command, takes }
}
