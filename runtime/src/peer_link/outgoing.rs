//! What waits to be written to a peer: the membership's frames first, live changes before transfers.

use std::collections::VecDeque;

use croupier_registry::{PARTITIONS, wire::Encoded};

/// The queues. What the shards put here is bounded by the windows of their partitions.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Frames that have their place on the link already: the membership's, ahead of all that waits.
    plain: Vec<u8>,
    live: VecDeque<Encoded>,
    /// Transfers, and what must not overtake them.
    behind: VecDeque<Encoded>,
    /// How many frames of each partition are in `behind`.
    behind_of: Option<Box<[u32; PARTITIONS]>>,
}

impl Outgoing {
    /// Bytes that are next, for who appends a frame at its place.
    pub(super) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    pub(super) fn push(&mut self, frame: Encoded) {
        let partition = usize::from(frame.partition());
        let behind_of = self.behind_of.get_or_insert_with(|| Box::new([0; PARTITIONS]));
        // The chunks of a log keep their order; a live change of another log goes ahead.
        if frame.is_transfer() || (frame.is_live() && behind_of[partition] > 0) {
            behind_of[partition] += 1;
            self.behind.push_back(frame);
        } else {
            self.live.push_back(frame);
        }
    }

    pub(super) fn has_transfers(&self) -> bool {
        !self.behind.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Encoded> {
        if let Some(frame) = self.live.pop_front() {
            return Some(frame);
        }
        let frame = self.behind.pop_front()?;
        if let Some(behind_of) = &mut self.behind_of {
            behind_of[usize::from(frame.partition())] -= 1;
        }
        Some(frame)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.live.is_empty() && self.behind.is_empty()
    }
}
