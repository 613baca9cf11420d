//! Commands to an entry's owner: carried out once, however often they arrive.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use thiserror::Error;

use crate::limits::{COMMAND_MEMORY, COMMANDS_MAX, COMMANDS_PENDING_MAX};
use crate::wire::v1::Outcome;
use crate::{NodeKey, ServiceKey};

/// What an owner answered to each command of the last [`COMMAND_MEMORY`].
#[derive(Clone, Debug, Default)]
pub struct CommandLedger {
    outcomes: BTreeMap<(NodeKey, u128), Outcome>,
    by_age: VecDeque<(Instant, (NodeKey, u128))>,
}

impl CommandLedger {
    /// Carries a command out with `act`, or gives the outcome that it had before.
    ///
    /// If [`COMMANDS_MAX`] are remembered, nothing is done and the outcome is [`Outcome::Busy`].
    pub fn once(
        &mut self,
        from: NodeKey,
        op_id: u128,
        now: Instant,
        act: impl FnOnce() -> Outcome,
    ) -> Outcome {
        while let Some((_, old)) =
            self.by_age.pop_front_if(|(at, _)| now.saturating_duration_since(*at) >= COMMAND_MEMORY)
        {
            self.outcomes.remove(&old);
        }
        if let Some(outcome) = self.outcomes.get(&(from, op_id)) {
            return *outcome;
        }
        if self.outcomes.len() >= COMMANDS_MAX {
            return Outcome::Busy;
        }
        let outcome = act();
        self.outcomes.insert((from, op_id), outcome);
        self.by_age.push_back((now, (from, op_id)));
        outcome
    }
}

/// Why a command was not sent. Nothing was changed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum CommandError {
    /// The owner is not a node that can be reached; its services are hidden anyway.
    #[error("node {owner} cannot be reached")]
    OwnerDown {
        /// Who owns the entry.
        owner: NodeKey,
    },
    /// Too many commands wait for their answers.
    #[error("{COMMANDS_PENDING_MAX} commands wait for their answers")]
    Busy,
    /// The owner has no such entry, as far as is known here.
    #[error("node {owner} has no service {key:?}")]
    NotFound {
        /// Who was asked for.
        owner: NodeKey,
        /// What was asked for.
        key: ServiceKey,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tests::start;

    #[test]
    fn a_command_is_carried_out_once_in_a_minute() {
        let (begin, node) = (start(), NodeKey::of_name("a"));
        let mut ledger = CommandLedger::default();
        let done = |version| Outcome::Done { version };
        let mut at = |seconds, op_id, version| {
            ledger.once(node, op_id, begin + Duration::from_secs(seconds), || done(version))
        };
        assert_eq!(at(0, 1, 1), done(1));
        assert_eq!(at(59, 1, 2), done(1));
        assert_eq!(at(59, 2, 3), done(3));
        assert_eq!(at(60, 1, 4), done(4));
        assert_eq!(at(61, 2, 5), done(3));
    }

    #[test]
    fn the_ledger_is_bounded() {
        let (now, node) = (start(), NodeKey::of_name("a"));
        let mut ledger = CommandLedger::default();
        for op_id in 0..COMMANDS_MAX as u128 {
            assert_eq!(ledger.once(node, op_id, now, || Outcome::NotFound), Outcome::NotFound);
        }
        let refused = ledger.once(node, u128::MAX, now, || unreachable!("beyond the bound"));
        assert_eq!(refused, Outcome::Busy);
        assert_eq!(
            ledger.once(node, u128::MAX, now + COMMAND_MEMORY, || Outcome::NotFound),
            Outcome::NotFound
        );
    }
}
