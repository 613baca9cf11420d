//! How requests ended, counted.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quantity::grouped;

/// The requests of the measured phase by their end; each that was sent has one, and was executed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct RequestFates {
    /// Requests that arrived where they are answered, each counted once.
    pub(crate) executed: u64,
    pub(crate) answered: u64,
    /// No answer came in time.
    pub(crate) timeouts: u64,
    /// The server said that nobody answers on the topic.
    pub(crate) no_responders: u64,
    /// The link was down, or was cut while the request was under way.
    pub(crate) disconnected: u64,
    /// There was no room for the request, or as many were under way as may be.
    pub(crate) refused: u64,
    /// What came was not the answer.
    pub(crate) corrupt: u64,
    /// Answers that the one who answers could not send.
    pub(crate) unsent_answers: u64,
}

impl RequestFates {
    pub(crate) fn add(&mut self, other: &Self) {
        self.executed += other.executed;
        self.answered += other.answered;
        self.timeouts += other.timeouts;
        self.no_responders += other.no_responders;
        self.disconnected += other.disconnected;
        self.refused += other.refused;
        self.corrupt += other.corrupt;
        self.unsent_answers += other.unsent_answers;
    }
}

impl fmt::Display for RequestFates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "executed {}, answered {}, timeouts {}, no responders {}, disconnected {}, refused {}, corrupt {}",
            grouped(self.executed),
            grouped(self.answered),
            grouped(self.timeouts),
            grouped(self.no_responders),
            grouped(self.disconnected),
            grouped(self.refused),
            grouped(self.corrupt)
        )
    }
}
