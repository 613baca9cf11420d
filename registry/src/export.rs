//! What one peer has been sent of one log, and what it is to get next.

use crate::fault::{self, Fault};
use crate::limits::{ChunkLimits, PUTS_PER_DELTA_MAX, SEAL_VERSIONS_MAX};
use crate::slot_index::EMPTY;
use crate::{Delta, Log, Seal, Version};

/// A piece of a log, ready to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chunk {
    /// Entries and removals.
    Delta(Delta),
    /// Which versions are live.
    Seal(Seal),
}

/// A peer's place in a log. The stream to it loses nothing, so what was sent counts as there until it pulls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor {
    known: Version,
    content: Version,
    sealing: Option<Sealing>,
    /// The slot of the last entry sent: where the search for the next begins.
    hint: u32,
}

impl Cursor {
    /// The place of a peer that said what it knows, and how far it was filled in.
    #[must_use]
    pub fn new(known: Version, content: Version) -> Self {
        Self { known, content: content.max(known), sealing: None, hint: EMPTY }
    }

    /// What the peer will know when all that was sent has arrived.
    #[must_use]
    pub fn known(&self) -> Version {
        self.known
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_done(&self, log: &Log) -> bool {
        self.known >= log.known()
    }

    /// The next piece, or `None` if there is none, or none that may be sent: only an exact log can be sealed.
    #[must_use]
    pub fn next_chunk(&mut self, log: &Log, limits: &ChunkLimits) -> Option<Chunk> {
        if self.is_done(log) {
            return None;
        }
        if log.removals_from() <= self.known {
            self.sealing = None;
            let (delta, hint) = log.delta_after(self.known, log.removals_from(), limits, self.hint);
            self.known = delta.to;
            self.content = self.content.max(delta.to);
            self.hint = hint;
            return Some(Chunk::Delta(delta));
        }
        if fault::is_built_in(Fault::NoSeal) {
            let (delta, hint) = log.delta_after(self.known, 0, limits, self.hint);
            self.known = delta.to;
            self.hint = hint;
            return Some(Chunk::Delta(delta));
        }
        if !log.is_exact() {
            return None;
        }
        if self.sealing.is_none() && self.content < log.known() {
            let (mut delta, hint) = log.delta_after(self.content, log.removals_from(), limits, self.hint);
            // What the removals say, the Seal will say. Without them the delta must not pass for a complete one, not
            // even where the receiver has learnt from somebody else what this log has forgotten.
            delta.removals.clear();
            delta.removals_from = delta.to;
            self.content = delta.to;
            self.hint = hint;
            return Some(Chunk::Delta(delta));
        }
        // Between the parts the log may change. A part then lacks what was changed since, and so its horizon is later.
        let sealing = self.sealing.unwrap_or(Sealing { target: log.known(), done: 0, hint: EMPTY });
        let (seal, hint) = log.seal_after(sealing.done, sealing.target, seal_versions(limits), sealing.hint);
        if seal.high < seal.target {
            self.sealing = Some(Sealing { target: seal.target, done: seal.high, hint });
        } else {
            self.sealing = None;
            self.known = seal.target;
            self.content = self.content.max(seal.target);
        }
        Some(Chunk::Seal(seal))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sealing {
    target: Version,
    done: Version,
    hint: u32,
}

/// Versions in one part of a Seal. In a busy log each takes two bytes, in the worst case nine.
fn seal_versions(limits: &ChunkLimits) -> usize {
    let versions = if limits.events_max < PUTS_PER_DELTA_MAX { limits.events_max } else { limits.bytes / 2 };
    versions.min(SEAL_VERSIONS_MAX)
}
