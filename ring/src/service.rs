//! Which instance of a service type serves a key.

use crate::cell_ring::CellRing;
use crate::cells::{CellOwners, CellTable};
use crate::distinct::SlotOwners;
use crate::error::RingError;
use crate::hash::hash_key;
use crate::member::{Member, Members};
use crate::slots::{FirstOwners, SlotRing, SlotTable};

/// Units that one instance may have at most; its weight is its units.
pub const SERVICE_UNITS_MAX: u32 = 8;

/// The size of a service type's table. Another class moves nearly all keys of the type. The order is that of size:
/// a type's class is the largest among its live entries.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RingClass {
    /// 2^12 slots, 8 KiB, with rows 40 KiB: by advice up to 256 units.
    #[default]
    Small,
    /// 2^16 slots, 128 KiB, with rows 640 KiB: by advice up to 4096 units.
    Medium,
    /// 2^14 cells, 64 KiB: 4096 to 13 926 units.
    Large14,
    /// 2^17 cells, 512 KiB: 32 768 to 111 411 units.
    Large17,
    /// 2^20 cells, 4 MiB: 262 144 to 891 289 units.
    Large20,
}

impl RingClass {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Small, Self::Medium, Self::Large14, Self::Large17, Self::Large20];

    /// The number that stands for the class on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Small => 0,
            Self::Medium => 1,
            Self::Large14 => 2,
            Self::Large17 => 3,
            Self::Large20 => 4,
        }
    }

    /// The class that such a number stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Whether a table of this class can be built for so many members with so many units in all.
    #[must_use]
    pub fn holds(self, members: usize, units: u64) -> bool {
        match self {
            Self::Small => members <= SMALL_SLOTS,
            Self::Medium => members <= MEDIUM_SLOTS,
            Self::Large14 | Self::Large17 | Self::Large20 => units <= self.units_advised(),
        }
    }

    /// Up to how many units shares stay even (slots), or a table can be built at all (cells).
    #[must_use]
    pub fn units_advised(self) -> u64 {
        match self {
            Self::Small => 256,
            Self::Medium => 4096,
            Self::Large14 => CellRing::<CELLS_14>::UNITS_MAX,
            Self::Large17 => CellRing::<CELLS_17>::UNITS_MAX,
            Self::Large20 => CellRing::<CELLS_20>::UNITS_MAX,
        }
    }
}

/// A ring of service instances, with what it takes to change it. Lookups elsewhere read a [`ServiceTable`] of it.
///
/// An instance is named by its index, as in a [`ClusterRing`](crate::ClusterRing).
///
/// ```
/// use croupier_ring::{RingClass, ServiceRing};
///
/// let mut ring = ServiceRing::builder(RingClass::Small).member(b"node1/a", 1).member(b"node2/b", 4).build()?;
/// let table = ring.table();
/// ring.leave(table.owner(b"user 7"))?;
/// assert_ne!(ring.owner(b"user 7"), table.owner(b"user 7"));
/// # Ok::<(), croupier_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServiceRing {
    kind: RingKind,
}

#[derive(Clone, Debug)]
enum RingKind {
    Small(SlotRing<u16, SMALL_SLOTS>),
    Medium(SlotRing<u16, MEDIUM_SLOTS>),
    Large14(CellRing<CELLS_14>),
    Large17(CellRing<CELLS_17>),
    Large20(CellRing<CELLS_20>),
}

/// The same expression for each class, of a ring, a table or an iterator.
macro_rules! on_class {
    ($enum:ident, $kind:expr, $class:ident => $answer:expr) => {
        match $kind {
            $enum::Small($class) => $answer,
            $enum::Medium($class) => $answer,
            $enum::Large14($class) => $answer,
            $enum::Large17($class) => $answer,
            $enum::Large20($class) => $answer,
        }
    };
}

impl ServiceRing {
    /// A builder without members, seed 0.
    pub fn builder(class: RingClass) -> ServiceRingBuilder {
        ServiceRingBuilder { class, seed: 0, list: Vec::new() }
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> RingClass {
        match self.kind {
            RingKind::Small(_) => RingClass::Small,
            RingKind::Medium(_) => RingClass::Medium,
            RingKind::Large14(_) => RingClass::Large14,
            RingKind::Large17(_) => RingClass::Large17,
            RingKind::Large20(_) => RingClass::Large20,
        }
    }

    /// The index of the instance that serves a key.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> usize {
        self.owner_of_hash(hash_key(key))
    }

    /// The same for who has the [`hash_key`] already.
    #[inline]
    #[must_use]
    pub fn owner_of_hash(&self, key_hash: u64) -> usize {
        on_class!(RingKind, &self.kind, ring => ring.table().owner_of_hash(key_hash))
    }

    /// As [`ServiceTable::owners`], of the ring as it is now.
    #[inline]
    #[must_use]
    pub fn owners(&self, key: &[u8], count: usize) -> ServiceOwners<'_> {
        let key_hash = hash_key(key);
        ServiceOwners(match &self.kind {
            RingKind::Small(ring) => OwnersKind::Slots(ring.table().owners_of_hash(key_hash, count)),
            RingKind::Medium(ring) => OwnersKind::Slots(ring.table().owners_of_hash(key_hash, count)),
            RingKind::Large14(ring) => OwnersKind::Large14(ring.table().owners_of_hash(key_hash, count)),
            RingKind::Large17(ring) => OwnersKind::Large17(ring.table().owners_of_hash(key_hash, count)),
            RingKind::Large20(ring) => OwnersKind::Large20(ring.table().owners_of_hash(key_hash, count)),
        })
    }

    /// Instances in the ring.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a ring is never empty")]
    pub fn len(&self) -> usize {
        self.members_inner().len()
    }

    /// The instances with their indexes, in order of index.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members_inner().iter()
    }

    /// The instance of this index.
    #[must_use]
    pub fn member(&self, index: usize) -> Option<&Member> {
        self.members_inner().get(index)
    }

    /// The index of the instance of this identity.
    #[must_use]
    pub fn index_of(&self, identity: &[u8]) -> Option<usize> {
        self.members_inner().find(identity)
    }

    /// Takes an instance in. In the slot classes only keys that it will own move; in the large ones about as many
    /// again. Returns its index.
    ///
    /// # Errors
    ///
    /// The identity is empty or taken, the weight is not 1 to 8, or the class is full. Nothing has changed.
    pub fn join(&mut self, identity: impl AsRef<[u8]>, units: u32) -> Result<usize, RingError> {
        on_class!(RingKind, &mut self.kind, ring => ring.join(identity.as_ref(), units))
    }

    /// Lets an instance go; what moves is as in [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// Nobody has this index, or it is the last instance. Nothing has changed.
    pub fn leave(&mut self, index: usize) -> Result<(), RingError> {
        on_class!(RingKind, &mut self.kind, ring => ring.leave(index))
    }

    /// Gives an instance another weight.
    ///
    /// # Errors
    ///
    /// Nobody has this index, the weight is not 1 to 8, or the class is full. Nothing has changed.
    pub fn reweight(&mut self, index: usize, units: u32) -> Result<(), RingError> {
        on_class!(RingKind, &mut self.kind, ring => ring.reweight(index, units))
    }

    /// A number that two rings share if all slots or cells have the same owners, whatever the indexes.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        match &self.kind {
            RingKind::Small(ring) => ring.table().fingerprint(),
            RingKind::Medium(ring) => ring.table().fingerprint(),
            RingKind::Large14(ring) => ring.fingerprint(),
            RingKind::Large17(ring) => ring.fingerprint(),
            RingKind::Large20(ring) => ring.fingerprint(),
        }
    }

    /// The table as it is, to be published to readers.
    #[must_use]
    pub fn table(&self) -> ServiceTable {
        ServiceTable {
            kind: match &self.kind {
                RingKind::Small(ring) => TableKind::Small(ring.table().clone()),
                RingKind::Medium(ring) => TableKind::Medium(ring.table().clone()),
                RingKind::Large14(ring) => TableKind::Large14(ring.table().clone()),
                RingKind::Large17(ring) => TableKind::Large17(ring.table().clone()),
                RingKind::Large20(ring) => TableKind::Large20(ring.table().clone()),
            },
        }
    }

    /// The table as it is for readers that want one owner of a key, and never several.
    #[must_use]
    pub fn owner_table(&self) -> ServiceOwnerTable {
        ServiceOwnerTable {
            kind: match &self.kind {
                RingKind::Small(ring) => OwnerTableKind::Small(ring.table().first_owners()),
                RingKind::Medium(ring) => OwnerTableKind::Medium(ring.table().first_owners()),
                RingKind::Large14(ring) => OwnerTableKind::Large14(ring.table().clone()),
                RingKind::Large17(ring) => OwnerTableKind::Large17(ring.table().clone()),
                RingKind::Large20(ring) => OwnerTableKind::Large20(ring.table().clone()),
            },
        }
    }

    fn members_inner(&self) -> &Members {
        on_class!(RingKind, &self.kind, ring => ring.members())
    }
}

/// Collects the instances of a ring.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServiceRingBuilder {
    class: RingClass,
    seed: u64,
    list: Vec<(Box<[u8]>, u32)>,
}

impl ServiceRingBuilder {
    /// The seed that identities are hashed with, default 0. All nodes need the same.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds an instance. The identity is a stable name, never an address or a process id; weight 1 is one unit.
    pub fn member(mut self, identity: impl AsRef<[u8]>, units: u32) -> Self {
        self.list.push((identity.as_ref().into(), units));
        self
    }

    /// Builds the ring.
    ///
    /// # Errors
    ///
    /// No member or more than the class holds, two of one identity or one without, a weight that is not 1 to 8.
    pub fn build(self) -> Result<ServiceRing, RingError> {
        let ServiceRingBuilder { class, seed, list } = self;
        let kind = match class {
            RingClass::Small => RingKind::Small(SlotRing::new(seed, SERVICE_UNITS_MAX, &list)?),
            RingClass::Medium => RingKind::Medium(SlotRing::new(seed, SERVICE_UNITS_MAX, &list)?),
            RingClass::Large14 => RingKind::Large14(CellRing::new(seed, SERVICE_UNITS_MAX, &list)?),
            RingClass::Large17 => RingKind::Large17(CellRing::new(seed, SERVICE_UNITS_MAX, &list)?),
            RingClass::Large20 => RingKind::Large20(CellRing::new(seed, SERVICE_UNITS_MAX, &list)?),
        };
        Ok(ServiceRing { kind })
    }
}

/// An immutable table of service instances: what every shard reads.
#[derive(Clone, Debug)]
pub struct ServiceTable {
    kind: TableKind,
}

#[derive(Clone, Debug)]
enum TableKind {
    Small(SlotTable<u16, SMALL_SLOTS>),
    Medium(SlotTable<u16, MEDIUM_SLOTS>),
    Large14(CellTable<CELLS_14>),
    Large17(CellTable<CELLS_17>),
    Large20(CellTable<CELLS_20>),
}

impl ServiceTable {
    /// The index of the instance that serves a key. Never allocates.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> usize {
        self.owner_of_hash(hash_key(key))
    }

    /// The same for who has the [`hash_key`] already.
    #[inline(always)] // Else the five classes make it look too large to inline.
    #[must_use]
    pub fn owner_of_hash(&self, key_hash: u64) -> usize {
        on_class!(TableKind, &self.kind, table => table.owner_of_hash(key_hash))
    }

    /// Exactly min(`count`, instances) distinct owners of a key, the owner first. Never allocates.
    ///
    /// The list for n is the beginning of the list for n + 1. If an instance leaves that is among the n, one other
    /// comes in and the rest stay; in the large classes the shift of another instance may change a second one.
    #[inline(always)] // As `owner_of_hash`.
    #[must_use]
    pub fn owners(&self, key: &[u8], count: usize) -> ServiceOwners<'_> {
        let key_hash = hash_key(key);
        ServiceOwners(match &self.kind {
            TableKind::Small(table) => OwnersKind::Slots(table.owners_of_hash(key_hash, count)),
            TableKind::Medium(table) => OwnersKind::Slots(table.owners_of_hash(key_hash, count)),
            TableKind::Large14(table) => OwnersKind::Large14(table.owners_of_hash(key_hash, count)),
            TableKind::Large17(table) => OwnersKind::Large17(table.owners_of_hash(key_hash, count)),
            TableKind::Large20(table) => OwnersKind::Large20(table.owners_of_hash(key_hash, count)),
        })
    }

    /// Instances in the table.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a table is never empty")]
    pub fn len(&self) -> usize {
        on_class!(TableKind, &self.kind, table => table.members())
    }
}

/// An immutable table that says which instance serves a key, and no further ones. In the slot classes it takes a fifth
/// of the memory of a [`ServiceTable`], and of the time to copy it.
#[derive(Clone, Debug)]
pub struct ServiceOwnerTable {
    kind: OwnerTableKind,
}

#[derive(Clone, Debug)]
enum OwnerTableKind {
    Small(FirstOwners<u16, SMALL_SLOTS>),
    Medium(FirstOwners<u16, MEDIUM_SLOTS>),
    Large14(CellTable<CELLS_14>),
    Large17(CellTable<CELLS_17>),
    Large20(CellTable<CELLS_20>),
}

impl ServiceOwnerTable {
    /// The index of the instance that serves a key. Never allocates.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> usize {
        let key_hash = hash_key(key);
        on_class!(OwnerTableKind, &self.kind, table => table.owner_of_hash(key_hash))
    }
}

/// Distinct owners of one key, as indexes.
#[derive(Clone, Debug)]
pub struct ServiceOwners<'a>(OwnersKind<'a>);

#[derive(Clone, Debug)]
enum OwnersKind<'a> {
    Slots(SlotOwners<'a, u16>),
    Large14(CellOwners<'a, CELLS_14>),
    Large17(CellOwners<'a, CELLS_17>),
    Large20(CellOwners<'a, CELLS_20>),
}

macro_rules! on_owners {
    ($kind:expr, $owners:ident => $answer:expr) => {
        match $kind {
            OwnersKind::Slots($owners) => $answer,
            OwnersKind::Large14($owners) => $answer,
            OwnersKind::Large17($owners) => $answer,
            OwnersKind::Large20($owners) => $answer,
        }
    };
}

impl Iterator for ServiceOwners<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        on_owners!(&mut self.0, owners => owners.next())
    }

    #[inline]
    fn fold<B, F: FnMut(B, usize) -> B>(self, init: B, f: F) -> B {
        on_owners!(self.0, owners => owners.fold(init, f))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        on_owners!(&self.0, owners => owners.size_hint())
    }
}

impl ExactSizeIterator for ServiceOwners<'_> {}

const SMALL_SLOTS: usize = 1 << 12;
const MEDIUM_SLOTS: usize = 1 << 16;
const CELLS_14: usize = 1 << 14;
const CELLS_17: usize = 1 << 17;
const CELLS_20: usize = 1 << 20;
