//! The bounded memory of a log's removals.

use std::collections::VecDeque;

use crate::{Removal, Version};

/// The latest removals by ascending version, complete above [`Removals::complete_from`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Removals {
    ring: VecDeque<Removal>,
    complete_from: Version,
}

impl Removals {
    /// All removals above this version are remembered.
    pub(crate) fn complete_from(&self) -> Version {
        self.complete_from
    }

    /// Remembers a removal above all others, and forgets the oldest beyond `most`.
    pub(crate) fn push(&mut self, removal: Removal, most: usize) {
        debug_assert!(self.ring.back().is_none_or(|last| last.version < removal.version));
        self.ring.push_back(removal);
        while self.ring.len() > most {
            if let Some(forgotten) = self.ring.pop_front() {
                self.complete_from = forgotten.version;
            }
        }
    }

    /// Forgets all, and knows only what comes after this version.
    pub(crate) fn restart_from(&mut self, version: Version) {
        self.ring.clear();
        self.complete_from = version;
    }

    /// The remembered removals above a version.
    pub(crate) fn after(&self, version: Version) -> impl Iterator<Item = &Removal> {
        let start = self.ring.partition_point(|removal| removal.version <= version);
        self.ring.range(start..)
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }
}
