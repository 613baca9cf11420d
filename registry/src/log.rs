//! One writer's versioned log of one partition: the owner extends it, replicas follow.
//!
//! The owner numbers its events from 1. A log keeps the live entries, chained by the version that wrote them, and the
//! latest removals; it is its own delta buffer. A replica's causal context is one number, `known`: every event up to
//! it is reflected. `horizon` is the latest event of which effects may show. For a key without an event in (`known`,
//! `horizon`] the replica holds exactly what the owner held at `known`; so once `known` has reached `horizon`, the
//! whole log is what the owner had at `known`: it is exact.
//!
//! Why this holds after each chunk (`from`, `to`] of a sender with its own `horizon`, if `from <= known <= to`: take
//! a key without an event in (`to`, `max(both horizons)`]. If its last event is in (`known`, `to`], the sender holds
//! it rightly, and the chunk has it. If it is older, the log held it rightly before, and the chunk has nothing newer.
//!
//! If the sender has forgotten removals that the receiver needs, chunks are only filled in: entries arrive, up to
//! `content`, while `known` stays. A Seal then deletes what is no longer live, and `known` jumps to its target.

use std::collections::BTreeMap;

use crate::fault::{self, Fault};
use crate::limits::LogLimits;
use crate::removals::Removals;
use crate::service::hash_of_key;
use crate::slot_index::{EMPTY, SlotIndex};
use crate::{ChunkError, Delta, Put, QuotaExceeded, Removal, Seal, Service, ServiceKey, Version};

/// What a chunk did to a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// The log knows more than before.
    Advanced,
    /// Entries were filled in, or part of a Seal was carried out; `known` waits for the rest of the Seal.
    Filled,
    /// Nothing in it was new.
    Nothing,
}

/// What happened to an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// An entry came, or replaced an older one of its key.
    Put {
        /// What it is.
        service: Service,
        /// What it was.
        previous: Option<Service>,
    },
    /// An entry is gone.
    Removed {
        /// What it was.
        service: Service,
    },
}

impl Change {
    /// The entry that came or went.
    #[must_use]
    pub fn service(&self) -> &Service {
        match self {
            Self::Put { service, .. } | Self::Removed { service } => service,
        }
    }
}

/// The log. Cost: applying, looking up and removing are independent of how many entries there are.
#[derive(Clone, Debug)]
pub struct Log {
    known: Version,
    horizon: Version,
    content: Version,
    slots: Vec<Slot>,
    free: u32,
    by_version: Chain,
    by_kind: BTreeMap<Box<[u8]>, Chain>,
    index: SlotIndex,
    len: usize,
    removals: Removals,
    sealing: Option<Sealing>,
    seal_failures: u8,
    services_bytes: usize,
    limits: LogLimits,
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new(limits: LogLimits) -> Self {
        Self {
            known: 0,
            horizon: 0,
            content: 0,
            slots: Vec::new(),
            free: EMPTY,
            by_version: Chain::default(),
            by_kind: BTreeMap::new(),
            index: SlotIndex::default(),
            len: 0,
            removals: Removals::default(),
            sealing: None,
            seal_failures: 0,
            services_bytes: 0,
            limits,
        }
    }

    /// Every event up to this version is reflected.
    #[must_use]
    pub fn known(&self) -> Version {
        self.known
    }

    /// The latest event of which effects may show; at least [`Log::known`].
    #[must_use]
    pub fn horizon(&self) -> Version {
        self.horizon
    }

    /// Every entry up to this version that was live at its sending is here; at least [`Log::known`].
    #[must_use]
    pub fn content(&self) -> Version {
        self.content
    }

    /// Whether the entries are exactly the owner's at [`Log::known`].
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.known >= self.horizon
    }

    /// All removals above this version are remembered.
    #[must_use]
    pub fn removals_from(&self) -> Version {
        self.removals.complete_from()
    }

    /// How many removals are remembered.
    #[must_use]
    pub fn removals_len(&self) -> usize {
        self.removals.len()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a key and its version.
    #[must_use]
    pub fn get(&self, kind: &[u8], id: &[u8]) -> Option<(Version, &Service)> {
        let slot = &self.slots[self.find(kind, id)? as usize];
        slot.service.as_ref().map(|service| (slot.version, service))
    }

    /// All entries, by ascending version.
    pub fn entries(&self) -> impl Iterator<Item = (Version, &Service)> {
        self.chain_from(self.by_version.head)
    }

    /// The entries of one type, in no meaningful order.
    pub fn entries_of_kind(&self, kind: &[u8]) -> impl Iterator<Item = (Version, &Service)> {
        let mut at = self.by_kind.get(kind).map_or(EMPTY, |chain| chain.head);
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.kind_next;
            slot.service.as_ref().map(|service| (slot.version, service))
        })
    }

    /// The types that have entries, ascending.
    pub fn kinds(&self) -> impl Iterator<Item = &[u8]> {
        self.by_kind.keys().map(AsRef::as_ref)
    }

    /// What it takes of memory, in bytes, without the allocator's own.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.index.memory_bytes() + self.services_bytes
    }

    // The owner's side.

    /// Adds or replaces an entry as its owner, and returns the event's version.
    ///
    /// # Errors
    ///
    /// If a new entry would be beyond the quota; nothing was changed.
    pub fn put(&mut self, service: Service) -> Result<Version, QuotaExceeded> {
        let is_new = self.find(service.kind(), service.id()).is_none();
        if is_new && self.len >= self.limits.entries_max {
            return Err(QuotaExceeded { entries: self.len + 1, entries_max: self.limits.entries_max });
        }
        let version = self.next_version();
        self.store(version, service, self.by_version.tail);
        Ok(version)
    }

    /// Removes an entry as its owner. Returns the event's version and what was removed.
    pub fn remove(&mut self, key: &ServiceKey) -> Option<(Version, Service)> {
        let at = self.find(key.kind(), key.id())?;
        #[cfg(any(test, feature = "deliberate-faults"))]
        fault::was_removed(key, self.known + 1, self.slots[at as usize].version);
        let service = self.take(at)?;
        let version = self.next_version();
        self.removals.push(Removal { version, key: key.clone() }, self.removals_most());
        Some((version, service))
    }

    fn next_version(&mut self) -> Version {
        self.known += 1;
        self.horizon = self.known;
        self.content = self.known;
        self.known
    }

    // A replica's side.

    /// Takes a delta that passed [`Delta::check`], and appends what it changed to `changes`.
    ///
    /// # Errors
    ///
    /// [`ChunkError::Gap`] and [`ChunkError::Quota`]; nothing was changed.
    pub fn apply_delta(&mut self, delta: &Delta, changes: &mut Vec<Change>) -> Result<Applied, ChunkError> {
        let whole = delta.removals_from <= self.known;
        let have = if whole { self.known } else { self.content };
        if delta.to <= have {
            return Ok(Applied::Nothing);
        }
        if delta.from > have && !fault::is_built_in(Fault::GapsAccepted) {
            return Err(ChunkError::Gap { from: delta.from, have });
        }
        let horizon = self.horizon.max(delta.horizon);
        self.check_quota(delta, whole && delta.to >= horizon)?;
        let known = self.known;
        let mut hint = EMPTY;
        for put in &delta.puts {
            if put.version > known {
                hint = self.put_newer(put, hint, changes);
            }
        }
        self.horizon = horizon;
        self.content = self.content.max(delta.to);
        if !whole {
            return Ok(Applied::Filled);
        }
        for removal in delta.removals.iter().filter(|removal| removal.version > known) {
            self.remove_older(removal, changes);
            self.removals.push(removal.clone(), self.removals_most());
        }
        self.known = delta.to;
        if fault::is_built_in(Fault::ContextAheadOfContent) {
            self.known = delta.horizon;
        }
        self.content = self.content.max(self.known);
        self.sealing = None;
        Ok(Applied::Advanced)
    }

    /// Takes a part of a Seal that passed [`Seal::check`], and appends what it deleted to `changes`.
    ///
    /// # Errors
    ///
    /// [`ChunkError::Gap`] if entries or parts before it are missing, and [`ChunkError::SealMissing`].
    pub fn apply_seal(&mut self, seal: &Seal, changes: &mut Vec<Change>) -> Result<Applied, ChunkError> {
        if seal.target <= self.known {
            return Ok(Applied::Nothing);
        }
        if seal.target > self.content && !fault::is_built_in(Fault::SealIgnoresMissing) {
            return Err(ChunkError::Gap { from: seal.target, have: self.content });
        }
        let done =
            self.sealing.filter(|sealing| sealing.target == seal.target).map_or(0, |sealing| sealing.done);
        if seal.high <= done && seal.high < seal.target {
            return Ok(Applied::Nothing);
        }
        if seal.low > done {
            return Err(ChunkError::Gap { from: seal.low, have: done });
        }
        let dead = match self.dead_under(seal) {
            Ok(dead) => dead,
            Err(version) => {
                self.sealing = None;
                self.seal_failures += 1;
                let restarted = self.seal_failures >= SEAL_FAILURES_MAX;
                if restarted {
                    self.clear(changes);
                }
                return Err(ChunkError::SealMissing { version, restarted });
            }
        };
        for at in dead {
            if let Some(service) = self.take(at) {
                changes.push(Change::Removed { service });
            }
        }
        self.horizon = self.horizon.max(seal.horizon);
        if seal.high < seal.target {
            self.sealing = Some(Sealing { target: seal.target, done: seal.high });
            return Ok(Applied::Filled);
        }
        self.sealing = None;
        self.seal_failures = 0;
        self.known = seal.target;
        self.content = self.content.max(self.known);
        self.removals.restart_from(seal.target);
        Ok(Applied::Advanced)
    }

    /// Empties the log, as if nothing had ever come, and appends what went to `changes`.
    pub fn clear(&mut self, changes: &mut Vec<Change>) {
        let mut old = std::mem::replace(self, Self::new(self.limits));
        let mut at = old.by_version.head;
        while let Some(slot) = old.slots.get_mut(at as usize) {
            at = slot.next;
            changes.extend(slot.service.take().map(|service| Change::Removed { service }));
        }
    }

    /// What the sender of a chunk needs: the events in (`from`, ...] up to the limits, without the removals that were
    /// forgotten. `hint` is what the call that ended at `from` returned, and saves the search for it.
    pub(crate) fn delta_after(
        &self,
        from: Version,
        removals_from: Version,
        limits: &crate::limits::ChunkLimits,
        hint: u32,
    ) -> (Delta, u32) {
        let mut delta = Delta {
            from,
            to: from,
            horizon: self.horizon,
            removals_from,
            puts: Vec::new(),
            removals: Vec::new(),
        };
        let mut removals =
            self.removals.after(from).take_while(|removal| removal.version <= self.known).peekable();
        let mut at = self.first_after(from, hint);
        let mut bytes = 0;
        let mut last = hint;
        let mut events = 0;
        loop {
            if events >= limits.events_max || (events > 0 && bytes >= limits.bytes) {
                return (delta, last);
            }
            let put = self.slots.get(at as usize).filter(|slot| slot.version <= self.known);
            let before = put.map_or(Version::MAX, |slot| slot.version);
            if let Some(removal) = removals.next_if(|removal| removal.version < before) {
                bytes += EVENT_BYTES + removal.key.kind().len() + removal.key.id().len();
                delta.to = removal.version;
                delta.removals.push(removal.clone());
            } else if let Some((slot, service)) = put.and_then(|slot| Some((slot, slot.service.as_ref()?))) {
                bytes += EVENT_BYTES + service.memory_bytes();
                delta.to = slot.version;
                delta.puts.push(Put { version: slot.version, service: service.clone() });
                last = at;
                at = slot.next;
            } else {
                delta.to = self.known;
                return (delta, last);
            }
            events += 1;
        }
    }

    /// The part after `low` of a Seal up to `target`, with at most `events_max` versions.
    pub(crate) fn seal_after(
        &self,
        low: Version,
        target: Version,
        events_max: usize,
        hint: u32,
    ) -> (Seal, u32) {
        let mut seal = Seal { target, low, high: target, horizon: self.horizon, live: Vec::new() };
        let mut at = self.first_after(low, hint);
        let mut last = hint;
        while let Some(slot) = self.slots.get(at as usize).filter(|slot| slot.version <= target) {
            if seal.live.len() >= events_max.max(1) {
                seal.high = seal.live.last().copied().unwrap_or(low);
                break;
            }
            seal.live.push(slot.version);
            last = at;
            at = slot.next;
        }
        (seal, last)
    }

    // Applying.

    /// Stores a put above the local version of its key. Returns its slot, the hint for the next one.
    fn put_newer(&mut self, put: &Put, hint: u32, changes: &mut Vec<Change>) -> u32 {
        let local = self.find(put.service.kind(), put.service.id());
        if local.is_some_and(|at| self.slots[at as usize].version >= put.version) {
            return hint;
        }
        // Only after a fill are there newer entries; then the place is near that of the put before.
        let mut after = self.by_version.tail;
        if self.slots.get(after as usize).is_some_and(|slot| slot.version > put.version) {
            let start = self.slots.get(hint as usize).filter(|slot| slot.service.is_some());
            if start.is_some_and(|slot| slot.version < put.version) {
                after = hint;
                while let Some(next) =
                    self.next_of(after).filter(|next| self.slots[*next as usize].version < put.version)
                {
                    after = next;
                }
            } else {
                while self.slots.get(after as usize).is_some_and(|slot| slot.version > put.version) {
                    after = self.slots[after as usize].previous;
                }
            }
        }
        let (at, previous) = self.store(put.version, put.service.clone(), after);
        changes.push(Change::Put { service: put.service.clone(), previous });
        at
    }

    fn next_of(&self, at: u32) -> Option<u32> {
        self.slots.get(at as usize).map(|slot| slot.next).filter(|next| *next != EMPTY)
    }

    fn remove_older(&mut self, removal: &Removal, changes: &mut Vec<Change>) {
        let Some(at) = self.find(removal.key.kind(), removal.key.id()) else { return };
        let local = self.slots[at as usize].version;
        if local >= removal.version {
            return;
        }
        #[cfg(any(test, feature = "deliberate-faults"))]
        if fault::removed_version(&removal.key, removal.version).is_some_and(|removed| removed != local) {
            return;
        }
        if let Some(service) = self.take(at) {
            changes.push(Change::Removed { service });
        }
    }

    /// The slots in the range of a Seal that it does not list; or the first version that it lists and is not here.
    fn dead_under(&self, seal: &Seal) -> Result<Vec<u32>, Version> {
        let mut dead = Vec::new();
        let mut live = seal.live.iter().copied().peekable();
        let mut at = self.first_after(seal.low, EMPTY);
        while let Some(slot) = self.slots.get(at as usize).filter(|slot| slot.version <= seal.high) {
            if fault::is_built_in(Fault::SealIgnoresMissing) {
                while live.next_if(|version| *version < slot.version).is_some() {}
            }
            match live.peek() {
                Some(version) if *version < slot.version => break,
                Some(version) if *version == slot.version => {
                    live.next();
                }
                _ => dead.push(at),
            }
            at = slot.next;
        }
        match live.next() {
            Some(version) if !fault::is_built_in(Fault::SealIgnoresMissing) => Err(version),
            _ => Ok(dead),
        }
    }

    /// A transfer may for a while hold twice the quota: what came, and what it does not yet know to be gone.
    fn check_quota(&self, delta: &Delta, exact: bool) -> Result<(), ChunkError> {
        let entries_max =
            if exact { self.limits.entries_max } else { self.limits.entries_max.saturating_mul(2) };
        if self.len + delta.puts.len() <= entries_max {
            return Ok(());
        }
        let is_new = |put: &&Put| self.find(put.service.kind(), put.service.id()).is_none();
        let is_here = |removal: &&Removal| self.find(removal.key.kind(), removal.key.id()).is_some();
        let added = delta.puts.iter().filter(is_new).count();
        let removed = delta.removals.iter().filter(is_here).count();
        let entries = (self.len + added).saturating_sub(removed);
        if entries > entries_max { Err(ChunkError::Quota { entries, entries_max }) } else { Ok(()) }
    }

    fn removals_most(&self) -> usize {
        (self.len / 4).clamp(self.limits.removals_least, self.limits.removals_most)
    }

    // The slots.

    fn find(&self, kind: &[u8], id: &[u8]) -> Option<u32> {
        self.index.find(hash_of_key(kind, id), |at| {
            let service = self.slots[at as usize].service.as_ref();
            service.is_some_and(|service| service.kind() == kind && service.id() == id)
        })
    }

    fn chain_from(&self, mut at: u32) -> impl Iterator<Item = (Version, &Service)> {
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.next;
            slot.service.as_ref().map(|service| (slot.version, service))
        })
    }

    /// The first slot above a version: behind the hint if that still is the version, else near an end of the chain.
    fn first_after(&self, version: Version, hint: u32) -> u32 {
        let hinted =
            self.slots.get(hint as usize).filter(|slot| slot.service.is_some() && slot.version == version);
        if let Some(slot) = hinted {
            return slot.next;
        }
        let head = self.slots.get(self.by_version.head as usize);
        if head.is_none_or(|slot| slot.version > version) {
            return self.by_version.head;
        }
        let mut first = EMPTY;
        let mut at = self.by_version.tail;
        while let Some(slot) = self.slots.get(at as usize).filter(|slot| slot.version > version) {
            first = at;
            at = slot.previous;
        }
        first
    }

    /// Stores an entry behind the slot `after` in the order of versions, in place of an older one of its key.
    fn store(&mut self, version: Version, service: Service, after: u32) -> (u32, Option<Service>) {
        self.services_bytes += service.memory_bytes();
        let hash = hash_of_key(service.kind(), service.id());
        if let Some(at) = self.find(service.kind(), service.id()) {
            let after = if after == at { self.slots[at as usize].previous } else { after };
            self.unlink_version(at);
            let slot = &mut self.slots[at as usize];
            slot.version = version;
            let previous = slot.service.replace(service);
            self.services_bytes -= previous.as_ref().map_or(0, Service::memory_bytes);
            self.link_version(at, after);
            return (at, previous);
        }
        let slot = Slot { service: Some(service), version, ..Slot::VACANT };
        let at = if self.free == EMPTY {
            // A log holds at most twice its quota, and the index of a slot has 32 bits.
            let at = u32::try_from(self.slots.len()).unwrap_or(EMPTY);
            assert!(at != EMPTY, "a log's quota is below 2^31");
            self.slots.push(slot);
            at
        } else {
            let at = self.free;
            self.free = self.slots[at as usize].next;
            self.slots[at as usize] = slot;
            at
        };
        self.index.insert(hash, at);
        self.link_version(at, after);
        self.link_kind(at);
        self.len += 1;
        (at, None)
    }

    /// Takes an entry out of everything.
    fn take(&mut self, at: u32) -> Option<Service> {
        let service = self.slots[at as usize].service.clone()?;
        self.unlink_version(at);
        self.unlink_kind(at, service.kind());
        self.index.remove(hash_of_key(service.kind(), service.id()), at);
        self.slots[at as usize] = Slot { next: self.free, ..Slot::VACANT };
        self.free = at;
        self.len -= 1;
        self.services_bytes -= service.memory_bytes();
        if self.len == 0 {
            self.slots = Vec::new();
            self.free = EMPTY;
        }
        Some(service)
    }

    fn link_version(&mut self, at: u32, after: u32) {
        let before = match self.slots.get_mut(after as usize) {
            Some(slot) => std::mem::replace(&mut slot.next, at),
            None => std::mem::replace(&mut self.by_version.head, at),
        };
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.previous = at,
            None => self.by_version.tail = at,
        }
        let slot = &mut self.slots[at as usize];
        slot.previous = after;
        slot.next = before;
    }

    fn unlink_version(&mut self, at: u32) {
        let Slot { previous, next, .. } = self.slots[at as usize];
        match self.slots.get_mut(previous as usize) {
            Some(slot) => slot.next = next,
            None => self.by_version.head = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.previous = previous,
            None => self.by_version.tail = previous,
        }
    }

    fn link_kind(&mut self, at: u32) {
        let Some(service) = self.slots[at as usize].service.clone() else { return };
        if !self.by_kind.contains_key(service.kind()) {
            self.by_kind.insert(service.kind().into(), Chain::default());
        }
        let Some(chain) = self.by_kind.get_mut(service.kind()) else { return };
        let head = std::mem::replace(&mut chain.head, at);
        if let Some(slot) = self.slots.get_mut(head as usize) {
            slot.kind_previous = at;
        }
        let slot = &mut self.slots[at as usize];
        slot.kind_previous = EMPTY;
        slot.kind_next = head;
    }

    fn unlink_kind(&mut self, at: u32, kind: &[u8]) {
        let Slot { kind_previous, kind_next, .. } = self.slots[at as usize];
        if let Some(slot) = self.slots.get_mut(kind_next as usize) {
            slot.kind_previous = kind_previous;
        }
        if let Some(slot) = self.slots.get_mut(kind_previous as usize) {
            slot.kind_next = kind_next;
        } else if kind_next == EMPTY {
            self.by_kind.remove(kind);
        } else if let Some(chain) = self.by_kind.get_mut(kind) {
            chain.head = kind_next;
        }
    }
}

/// An entry, or a link in the list of free slots (by `next`).
#[derive(Clone, Debug)]
struct Slot {
    service: Option<Service>,
    version: Version,
    previous: u32,
    next: u32,
    kind_previous: u32,
    kind_next: u32,
}

impl Slot {
    const VACANT: Self = Self {
        service: None,
        version: 0,
        previous: EMPTY,
        next: EMPTY,
        kind_previous: EMPTY,
        kind_next: EMPTY,
    };
}

#[derive(Clone, Copy, Debug)]
struct Chain {
    head: u32,
    tail: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: EMPTY, tail: EMPTY }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sealing {
    target: Version,
    done: Version,
}

/// After so many Seals in a row that list what is not here, the log starts anew.
const SEAL_FAILURES_MAX: u8 = 2;
/// What an event takes in a frame beyond its texts.
const EVENT_BYTES: usize = 48;
