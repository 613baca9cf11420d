//! Why a command line is refused, in words that say what to write instead.

use std::ffi::OsStr;

use crate::quantity::QuantityError;

/// The command line cannot be obeyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UsageError {
    #[error("unknown option {given}; did you mean {nearest}?")]
    UnknownOption { given: String, nearest: &'static str },
    #[error("unknown {what} {given:?}; known: {known}")]
    UnknownWord { what: &'static str, given: String, known: &'static str },
    #[error("{option} is no option of {scenario}")]
    OtherScenario { option: &'static str, scenario: &'static str },
    #[error("{option} belongs after a command, as in `croupier run {option} ..`")]
    OptionBeforeCommand { option: &'static str },
    #[error("{given:?} is no address of a node's admin server; write ip:port, as node.admin_listen has it")]
    BadAddress { given: String },
    #[error("{what} is missing, as in `croupier {command} {example}`")]
    Missing { what: &'static str, command: &'static str, example: &'static str },
    #[error("{option} {given}: {reason}")]
    BadValue { option: &'static str, given: String, reason: QuantityError },
    #[error("{0}")]
    Malformed(#[from] lexopt::Error),
}

pub(crate) fn unknown_word(what: &'static str, given: &OsStr, known: &'static str) -> UsageError {
    UsageError::UnknownWord { what, given: given.to_string_lossy().into_owned(), known }
}
