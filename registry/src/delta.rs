//! What travels of a log: puts and removals of a range of versions.

use crate::limits::{PUTS_PER_DELTA_MAX, VERSION_MAX};
use crate::{MalformedChunk, Partition, Service, ServiceKey};

/// The number of an event in a log: its owner counts them from 1, without gaps. 0 is before the first.
pub type Version = u64;

/// An entry as of the version that wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Put {
    /// The event that wrote it.
    pub version: Version,
    /// What it wrote.
    pub service: Service,
}

/// The removal of whatever the key was before.
///
/// By key and version, never by the version that was removed: a receiver that skipped part of a chain of updates
/// holds another one, and would keep it for ever.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removal {
    /// The event that removed it.
    pub version: Version,
    /// What it removed.
    pub key: ServiceKey,
}

/// The events of the versions in (`from`, `to`] that still matter to the sender.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delta {
    /// The version before the first that it covers.
    pub from: Version,
    /// The last version that it covers.
    pub to: Version,
    /// The latest version of which the sender's state may show effects. An entry written in (`from`, `to`] and
    /// changed until then is not among the puts, so a receiver is exact only once it knows this version.
    pub horizon: Version,
    /// The sender remembers all removals above this version. If the receiver knows less, what was removed in
    /// between is missing here, and a [`Seal`](crate::Seal) has to follow.
    pub removals_from: Version,
    /// Live entries, by ascending version.
    pub puts: Vec<Put>,
    /// Removals, by ascending version.
    pub removals: Vec<Removal>,
}

impl Delta {
    /// Checks the meaning of a delta that came from outside.
    ///
    /// # Errors
    ///
    /// If it is none that a log of this partition can have sent.
    pub fn check(&self, partition: Partition) -> Result<(), MalformedChunk> {
        let Self { from, to, horizon, removals_from, .. } = *self;
        if from > to || to > horizon || removals_from > horizon || horizon > VERSION_MAX {
            return Err(MalformedChunk::Range { from, to, horizon });
        }
        let events = self.puts.len().max(self.removals.len());
        if events > PUTS_PER_DELTA_MAX {
            return Err(MalformedChunk::TooManyEvents { events });
        }
        let mut removals = self.removals.iter().map(|removal| removal.version).peekable();
        let mut previous = from;
        for version in self.puts.iter().map(|put| put.version) {
            while let Some(removal) = removals.next_if(|removal| *removal <= version) {
                ascend(&mut previous, removal, to)?;
            }
            ascend(&mut previous, version, to)?;
        }
        for removal in removals {
            ascend(&mut previous, removal, to)?;
        }
        let kinds = self.puts.iter().map(|put| put.service.kind());
        // Most deltas are of one type, whose hash is not taken again and again.
        let mut checked: &[u8] = &[];
        for kind in kinds.chain(self.removals.iter().map(|removal| removal.key.kind())) {
            if kind != checked {
                let theirs = Partition::of_kind(kind);
                if theirs != partition {
                    return Err(MalformedChunk::Partition { expected: partition, found: theirs });
                }
                checked = kind;
            }
        }
        Ok(())
    }
}

/// Requires `version` to lie in (`previous`, `to`], and takes it as the next `previous`.
pub(crate) fn ascend(previous: &mut Version, version: Version, to: Version) -> Result<(), MalformedChunk> {
    if version <= *previous || version > to {
        return Err(MalformedChunk::Version { version, previous: *previous, to });
    }
    *previous = version;
    Ok(())
}
