//! Which gnatsd cluster a topic lives on.

use crate::distinct::SlotOwners;
use crate::error::RingError;
use crate::hash::hash_key;
use crate::member::{Member, Members};
use crate::roulette::{RouletteOwners, RouletteTable};
use crate::slots::{SlotRing, SlotTable};

/// Units of a cluster of weight 1.0.
pub const CLUSTER_UNITS: u32 = 16;
/// Units that one cluster may have at most: weight 64.
pub const CLUSTER_UNITS_MAX: u32 = 64 * CLUSTER_UNITS;
/// Clusters that one ring may have at most.
pub const CLUSTERS_MAX: usize = 256;
/// Clusters up to which a ring has 2^14 slots, unless told otherwise.
pub const NARROW_CLUSTERS_MAX: usize = 64;

/// The units of a weight, to the nearest sixteenth; `None` if that is no unit at all, or more than
/// [`CLUSTER_UNITS_MAX`], or the weight is no number.
#[must_use]
pub fn cluster_units(weight: f64) -> Option<u32> {
    let units = (weight * f64::from(CLUSTER_UNITS)).round();
    (1.0..=f64::from(CLUSTER_UNITS_MAX)).contains(&units).then_some(units as u32)
}

/// How many slots a ring of clusters has. Another number of slots moves nearly all topics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClusterSlots {
    /// 2^14 up to [`NARROW_CLUSTERS_MAX`] clusters, 2^16 above.
    #[default]
    ByMembers,
    /// 2^14 (16 KiB): for who wants to grow beyond 64 clusters without that move.
    Narrow,
    /// 2^16 (64 KiB).
    Wide,
}

/// Which ring answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum RingMode {
    /// Slots filled by darts; a cluster is its name.
    #[default]
    Croupier,
    /// Roulette's md5 ring; a cluster is its position in the list. No weights, no seed; a lookup costs an md5 and a binary search.
    Roulette,
}

/// A ring of clusters, with what it takes to change it. Lookups elsewhere read a [`ClusterTable`] of it.
///
/// A cluster is named by its index: its place in the order of [`ClusterRingBuilder::member`]. It keeps the index
/// until it leaves; a newcomer takes the lowest free one. Who owns a key depends on identities, weights and the
/// seed only, never on indexes.
///
/// ```
/// use croupier_ring::{CLUSTER_UNITS, ClusterRing};
///
/// let mut ring = ClusterRing::builder().member(b"c1", CLUSTER_UNITS).member(b"c2", CLUSTER_UNITS).build()?;
/// let owner = ring.owner(b"orders.42");
/// let newcomer = ring.join(b"c3", 2 * CLUSTER_UNITS)?;
/// assert_eq!(newcomer, 2);
/// assert!([owner, newcomer].contains(&ring.owner(b"orders.42")));
/// # Ok::<(), croupier_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClusterRing {
    slots: ClusterSlots,
    kind: RingKind,
}

#[derive(Clone, Debug)]
enum RingKind {
    Narrow(SlotRing<u8, NARROW_SLOTS>),
    Wide(SlotRing<u8, WIDE_SLOTS>),
}

macro_rules! on_ring {
    ($kind:expr, $ring:ident => $answer:expr) => {
        match $kind {
            RingKind::Narrow($ring) => $answer,
            RingKind::Wide($ring) => $answer,
        }
    };
}

impl ClusterRing {
    /// A builder without members, seed 0.
    pub fn builder() -> ClusterRingBuilder {
        ClusterRingBuilder::default()
    }

    fn new(seed: u64, slots: ClusterSlots, list: &[(Box<[u8]>, u32)]) -> Result<Self, RingError> {
        let kind = match Self::is_narrow(slots, list.len()) {
            true => RingKind::Narrow(SlotRing::new(seed, CLUSTER_UNITS_MAX, list)?),
            false => RingKind::Wide(SlotRing::new(seed, CLUSTER_UNITS_MAX, list)?),
        };
        Ok(ClusterRing { slots, kind })
    }

    /// The index of the cluster that owns a key.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> usize {
        self.owner_of_hash(hash_key(key))
    }

    /// The same for who has the [`hash_key`] already.
    #[inline]
    #[must_use]
    pub fn owner_of_hash(&self, key_hash: u64) -> usize {
        on_ring!(&self.kind, ring => ring.table().owner_of_hash(key_hash))
    }

    /// Distinct owners of a key, see [`ClusterTable::owners`].
    #[inline]
    #[must_use]
    pub fn owners(&self, key: &[u8], count: usize) -> ClusterOwners<'_> {
        let key_hash = hash_key(key);
        let owners = on_ring!(&self.kind, ring => ring.table().owners_of_hash(key_hash, count));
        ClusterOwners(OwnersKind::Slots(owners))
    }

    /// Clusters in the ring.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a ring is never empty")]
    pub fn len(&self) -> usize {
        self.members_inner().len()
    }

    /// The clusters with their indexes, in order of index.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members_inner().iter()
    }

    /// The cluster of this index.
    #[must_use]
    pub fn member(&self, index: usize) -> Option<&Member> {
        self.members_inner().get(index)
    }

    /// The index of the cluster of this identity.
    #[must_use]
    pub fn index_of(&self, identity: &[u8]) -> Option<usize> {
        self.members_inner().find(identity)
    }

    /// Takes a cluster in; only keys that it will own move. Returns its index.
    ///
    /// With [`ClusterSlots::ByMembers`] the 65th cluster brings the wide table, and nearly all keys move.
    ///
    /// # Errors
    ///
    /// The identity is empty or taken, the weight is 0 or too large, or there are 256 clusters. Nothing has changed.
    pub fn join(&mut self, identity: impl AsRef<[u8]>, units: u32) -> Result<usize, RingError> {
        let identity = identity.as_ref();
        let narrow_after = Self::is_narrow(self.slots, self.len() + 1);
        if narrow_after == matches!(self.kind, RingKind::Narrow(_)) {
            return on_ring!(&mut self.kind, ring => ring.join(identity, units));
        }
        let mut members = self.members_inner().clone();
        let index = members.join(identity, units)?;
        self.rebuild(members);
        Ok(index)
    }

    /// Lets a cluster go; only keys that it owned move.
    ///
    /// With [`ClusterSlots::ByMembers`] the step from 65 clusters to 64 brings the narrow table, and nearly all
    /// keys move.
    ///
    /// # Errors
    ///
    /// Nobody has this index, or it is the last cluster. Nothing has changed.
    pub fn leave(&mut self, index: usize) -> Result<(), RingError> {
        let narrow_after = Self::is_narrow(self.slots, self.len() - 1);
        if narrow_after == matches!(self.kind, RingKind::Narrow(_)) {
            return on_ring!(&mut self.kind, ring => ring.leave(index));
        }
        let mut members = self.members_inner().clone();
        members.leave(index)?;
        self.rebuild(members);
        Ok(())
    }

    /// Gives a cluster another weight; only keys that it wins or loses by that move.
    ///
    /// # Errors
    ///
    /// Nobody has this index, or the weight is 0 or too large. Nothing has changed.
    pub fn reweight(&mut self, index: usize, units: u32) -> Result<(), RingError> {
        on_ring!(&mut self.kind, ring => ring.reweight(index, units))
    }

    /// A number that two rings share if all slots have the same owners, whatever the indexes.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        on_ring!(&self.kind, ring => ring.table().fingerprint())
    }

    /// The table as it is, to be published to readers.
    #[must_use]
    pub fn table(&self) -> ClusterTable {
        ClusterTable {
            kind: match &self.kind {
                RingKind::Narrow(ring) => TableKind::Narrow(ring.table().clone()),
                RingKind::Wide(ring) => TableKind::Wide(ring.table().clone()),
            },
        }
    }

    /// Builds the other width with the same indexes.
    fn rebuild(&mut self, members: Members) {
        self.kind = match Self::is_narrow(self.slots, members.len()) {
            true => RingKind::Narrow(SlotRing::of_members(members)),
            false => RingKind::Wide(SlotRing::of_members(members)),
        };
    }

    fn members_inner(&self) -> &Members {
        on_ring!(&self.kind, ring => ring.members())
    }

    fn is_narrow(slots: ClusterSlots, clusters: usize) -> bool {
        match slots {
            ClusterSlots::ByMembers => clusters <= NARROW_CLUSTERS_MAX,
            ClusterSlots::Narrow => true,
            ClusterSlots::Wide => false,
        }
    }
}

/// Collects the clusters of a ring.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClusterRingBuilder {
    seed: u64,
    slots: ClusterSlots,
    mode: RingMode,
    list: Vec<(Box<[u8]>, u32)>,
}

impl ClusterRingBuilder {
    /// The seed that identities are hashed with, default 0. All nodes need the same.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many slots, default by the number of members. All nodes need the same.
    pub fn slots(mut self, slots: ClusterSlots) -> Self {
        self.slots = slots;
        self
    }

    /// Which ring [`build_table`](Self::build_table) makes, default [`RingMode::Croupier`].
    pub fn mode(mut self, mode: RingMode) -> Self {
        self.mode = mode;
        self
    }

    /// Adds a cluster. The identity is a stable name, never an address; weight 1.0 is [`CLUSTER_UNITS`].
    pub fn member(mut self, identity: impl AsRef<[u8]>, units: u32) -> Self {
        self.list.push((identity.as_ref().into(), units));
        self
    }

    /// Builds the croupier ring, whatever the mode.
    ///
    /// # Errors
    ///
    /// No member or more than 256, two of one identity or one without, weight 0 or above [`CLUSTER_UNITS_MAX`].
    pub fn build(self) -> Result<ClusterRing, RingError> {
        ClusterRing::new(self.seed, self.slots, &self.list)
    }

    /// Builds the table of the chosen mode.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and in [`RingMode::Roulette`] also a weight other than 1.0.
    pub fn build_table(self) -> Result<ClusterTable, RingError> {
        let ring = ClusterRing::new(self.seed, self.slots, &self.list)?;
        if self.mode == RingMode::Croupier {
            return Ok(ring.table());
        }
        if let Some((identity, units)) = self.list.iter().find(|(_, units)| *units != CLUSTER_UNITS) {
            return Err(RingError::RouletteWeight { identity: identity.clone(), units: *units });
        }
        Ok(ClusterTable { kind: TableKind::Roulette(RouletteTable::new(self.list.len())) })
    }
}

/// An immutable table of clusters, the same for both modes: what every shard reads.
#[derive(Clone, Debug)]
pub struct ClusterTable {
    kind: TableKind,
}

#[derive(Clone, Debug)]
enum TableKind {
    Narrow(SlotTable<u8, NARROW_SLOTS>),
    Wide(SlotTable<u8, WIDE_SLOTS>),
    Roulette(RouletteTable),
}

impl ClusterTable {
    /// The index of the cluster that owns a key. Never allocates; roulette mode costs an md5 and a binary search.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> usize {
        self.owner_hashed(key, hash_key(key))
    }

    /// The same for who has the [`hash_key`] of this key already; roulette mode has a hash of its own and needs
    /// the key.
    #[inline]
    #[must_use]
    pub fn owner_hashed(&self, key: &[u8], key_hash: u64) -> usize {
        match &self.kind {
            TableKind::Narrow(table) => table.owner_of_hash(key_hash),
            TableKind::Wide(table) => table.owner_of_hash(key_hash),
            TableKind::Roulette(table) => table.owner(key),
        }
    }

    /// Exactly min(`count`, clusters) distinct owners of a key, the owner first. Never allocates.
    ///
    /// The list for n is the beginning of the list for n + 1. If a cluster leaves that is among the n, one other
    /// comes in and the rest stay (croupier mode).
    #[inline(always)] // Out of line, the iterator would go through memory: twice the time.
    #[must_use]
    pub fn owners(&self, key: &[u8], count: usize) -> ClusterOwners<'_> {
        let key_hash = hash_key(key);
        ClusterOwners(OwnersKind::Slots(match &self.kind {
            TableKind::Narrow(table) => table.owners_of_hash(key_hash, count),
            TableKind::Wide(table) => table.owners_of_hash(key_hash, count),
            TableKind::Roulette(table) => {
                return ClusterOwners(OwnersKind::Roulette(table.owners(key, count)));
            }
        }))
    }

    /// Which ring answers.
    #[must_use]
    pub fn mode(&self) -> RingMode {
        match self.kind {
            TableKind::Narrow(_) | TableKind::Wide(_) => RingMode::Croupier,
            TableKind::Roulette(_) => RingMode::Roulette,
        }
    }

    /// Clusters in the table.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a table is never empty")]
    pub fn len(&self) -> usize {
        match &self.kind {
            TableKind::Narrow(table) => table.members(),
            TableKind::Wide(table) => table.members(),
            TableKind::Roulette(table) => table.clusters(),
        }
    }

    /// A number that two tables share if they answer alike: over the owners' seeds, or over Roulette's points.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        match &self.kind {
            TableKind::Narrow(table) => table.fingerprint(),
            TableKind::Wide(table) => table.fingerprint(),
            TableKind::Roulette(table) => table.fingerprint(),
        }
    }
}

impl From<ClusterRing> for ClusterTable {
    fn from(ring: ClusterRing) -> Self {
        ring.table()
    }
}

/// Distinct owners of one key, as indexes.
#[derive(Clone, Debug)]
pub struct ClusterOwners<'a>(OwnersKind<'a>);

#[derive(Clone, Debug)]
enum OwnersKind<'a> {
    Slots(SlotOwners<'a, u8>),
    Roulette(RouletteOwners<'a>),
}

impl Iterator for ClusterOwners<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        match &mut self.0 {
            OwnersKind::Slots(owners) => owners.next(),
            OwnersKind::Roulette(owners) => owners.next(),
        }
    }

    #[inline(always)]
    fn fold<B, F: FnMut(B, usize) -> B>(self, init: B, f: F) -> B {
        match self.0 {
            OwnersKind::Slots(owners) => owners.fold(init, f),
            OwnersKind::Roulette(owners) => owners.fold(init, f),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            OwnersKind::Slots(owners) => owners.size_hint(),
            OwnersKind::Roulette(owners) => owners.size_hint(),
        }
    }
}

impl ExactSizeIterator for ClusterOwners<'_> {}

pub(crate) const NARROW_SLOTS: usize = 1 << 14;
pub(crate) const WIDE_SLOTS: usize = 1 << 16;
