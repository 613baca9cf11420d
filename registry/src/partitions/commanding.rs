//! Commands: asking an entry's owner, and being asked.

use std::time::{Duration, Instant};

use crate::limits::COMMANDS_PENDING_MAX;
use crate::partitions::{Event, Partitions};
use crate::wire::v1::{Frame, Operation, Outcome};
use crate::{CommandError, Epoch, NodeKey, Partition, ServiceKey, Version};

/// A command of this node without its outcome, or with one that is not visible here yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    owner: NodeKey,
    partition: Partition,
    deadline: Instant,
    /// Answered; waits until the owner's log has reached this version.
    answered: Option<(Version, Outcome)>,
}

impl Partitions {
    /// Enables, disables or removes an entry of any node. The outcome comes as [`Event::Commanded`]; until `timeout`,
    /// or else as [`Event::CommandInDoubt`]. The same `op_id`, 128 random bits, is carried out once.
    ///
    /// # Errors
    ///
    /// If the entry or its owner is not there, or too many commands wait. Nothing was sent.
    ///
    /// # Panics
    ///
    /// If the entry's partition is another shard's.
    #[allow(clippy::too_many_arguments, reason = "each of them is one field of the command")]
    pub fn command(
        &mut self,
        op_id: u128,
        owner: NodeKey,
        operation: Operation,
        key: &ServiceKey,
        expect_version: Option<Version>,
        timeout: Duration,
        now: Instant,
    ) -> Result<(), CommandError> {
        let partition = key.partition();
        self.assert_mine(partition);
        if owner == self.me {
            let outcome = self.carry_out(operation, key, expect_version, now);
            self.events.push_back(Event::Commanded { op_id, outcome });
            return Ok(());
        }
        let reachable = self.peers.contains_key(&owner);
        let epoch = self.origins.get(&owner).filter(|_| reachable).map(|origin| origin.epoch);
        let Some(epoch) = epoch else { return Err(CommandError::OwnerDown { owner }) };
        if self.find(owner, key).is_none() {
            return Err(CommandError::NotFound { owner, key: key.clone() });
        }
        if self.pending.len() >= COMMANDS_PENDING_MAX {
            return Err(CommandError::Busy);
        }
        self.pending.insert(op_id, Pending { owner, partition, deadline: now + timeout, answered: None });
        let (origin, key) = (self.me, key.clone());
        self.send(owner, &Frame::Command { op_id, origin, epoch, operation, key, expect_version });
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "each of them is one field of the frame")]
    pub(super) fn handle_command(
        &mut self,
        from: NodeKey,
        op_id: u128,
        epoch: Epoch,
        operation: Operation,
        key: &ServiceKey,
        expect_version: Option<Version>,
        now: Instant,
    ) {
        let mut ledger = std::mem::take(&mut self.ledger);
        let outcome = ledger.once(from, op_id, now, || {
            if epoch != self.config.epoch {
                return Outcome::OtherEpoch;
            }
            self.carry_out(operation, key, expect_version, now)
        });
        self.ledger = ledger;
        self.send(from, &Frame::CommandAck { op_id, outcome });
    }

    pub(super) fn handle_command_ack(&mut self, from: NodeKey, op_id: u128, outcome: Outcome) {
        let Some(pending) = self.pending.get_mut(&op_id).filter(|pending| pending.owner == from) else {
            return;
        };
        let partition = pending.partition;
        let version = match outcome {
            Outcome::Done { version } | Outcome::Unchanged { version } => version,
            Outcome::NotFound | Outcome::VersionMismatch { .. } | Outcome::OtherEpoch | Outcome::Busy => 0,
        };
        pending.answered = Some((version, outcome));
        self.answer_waiting(from, partition);
    }

    /// Gives out the outcomes whose change is visible here.
    pub(super) fn answer_waiting(&mut self, node: NodeKey, partition: Partition) {
        if self.pending.is_empty() {
            return;
        }
        let known = self.log(node, partition).map_or(0, crate::Log::known);
        let events = &mut self.events;
        self.pending.retain(|op_id, pending| match pending.answered {
            Some((version, outcome))
                if pending.owner == node && pending.partition == partition && known >= version =>
            {
                events.push_back(Event::Commanded { op_id: *op_id, outcome });
                false
            }
            _ => true,
        });
    }

    pub(super) fn command_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    pub(super) fn expire_commands(&mut self, now: Instant) {
        self.give_up(|pending| pending.deadline <= now);
    }

    pub(super) fn fail_commands_to(&mut self, node: NodeKey) {
        self.give_up(|pending| pending.owner == node);
    }

    fn give_up(&mut self, is_lost: impl Fn(&Pending) -> bool) {
        let events = &mut self.events;
        self.pending.retain(|op_id, pending| {
            let lost = is_lost(pending);
            if lost {
                events.push_back(Event::CommandInDoubt { op_id: *op_id });
            }
            !lost
        });
    }

    fn carry_out(
        &mut self,
        operation: Operation,
        key: &ServiceKey,
        expect_version: Option<Version>,
        now: Instant,
    ) -> Outcome {
        let Some((version, service)) = self.find(self.me, key) else { return Outcome::NotFound };
        if expect_version.is_some_and(|expected| expected != version) {
            return Outcome::VersionMismatch { version };
        }
        let online = match operation {
            Operation::Enable => true,
            Operation::Disable => false,
            Operation::Remove => {
                return self.remove(key, now).map_or(Outcome::NotFound, |version| Outcome::Done { version });
            }
        };
        if service.is_online() == online {
            return Outcome::Unchanged { version };
        }
        let changed = service.with_online(online);
        // An entry that is replaced is within the quota.
        self.put(&changed, now).map_or(Outcome::NotFound, |version| Outcome::Done { version })
    }
}
