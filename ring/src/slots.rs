//! Slot tables: what a lookup reads, and the ring that makes them.

use xxhash_rust::xxh3::Xxh3;

use crate::distinct::{RowOwner, SlotOwners};
use crate::error::RingError;
use crate::fill::{Fill, Slots};
use crate::member::{Limits, Members, OwnerIndex};

/// Distinct owners that a slot table holds ready for each slot.
pub(crate) const NEAREST: usize = 4;

/// An immutable table: hash, shift, load.
#[derive(Clone, Debug)]
pub(crate) struct SlotTable<O, const SLOTS: usize> {
    slots: Slots<O, SLOTS, NEAREST>,
    circle: Box<[(u64, O)]>,
}

impl<O: RowOwner, const SLOTS: usize> SlotTable<O, SLOTS> {
    #[inline]
    pub(crate) fn owner_of_hash(&self, key_hash: u64) -> usize {
        self.slots.owners[Self::slot_of(key_hash)].index()
    }

    #[inline]
    pub(crate) fn owners_of_hash(&self, key_hash: u64, count: usize) -> SlotOwners<'_, O> {
        SlotOwners::new(&self.slots.rows[Self::slot_of(key_hash)], &self.circle, key_hash, count)
    }

    /// The same without the further owners of each slot.
    pub(crate) fn first_owners(&self) -> FirstOwners<O, SLOTS> {
        FirstOwners { owners: self.slots.owners.clone() }
    }

    pub(crate) fn members(&self) -> usize {
        self.circle.len()
    }

    /// Over the owners' seeds in order of slot, so that it depends on no index.
    pub(crate) fn fingerprint(&self) -> u64 {
        fingerprint(&self.circle, self.slots.owners.iter().map(|owner| Some(*owner)))
    }

    #[inline]
    fn slot_of(key_hash: u64) -> usize {
        (key_hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize
    }
}

/// Of a slot table what it takes to find one owner.
#[derive(Clone, Debug)]
pub(crate) struct FirstOwners<O, const SLOTS: usize> {
    owners: Box<[O; SLOTS]>,
}

impl<O: RowOwner, const SLOTS: usize> FirstOwners<O, SLOTS> {
    #[inline]
    pub(crate) fn owner_of_hash(&self, key_hash: u64) -> usize {
        self.owners[SlotTable::<O, SLOTS>::slot_of(key_hash)].index()
    }
}

/// A slot table with what it takes to change it.
#[derive(Clone, Debug)]
pub(crate) struct SlotRing<O, const SLOTS: usize> {
    members: Members,
    table: SlotTable<O, SLOTS>,
    fill: Fill<SLOTS, NEAREST>,
}

impl<O: RowOwner, const SLOTS: usize> SlotRing<O, SLOTS> {
    pub(crate) fn new(
        ring_seed: u64,
        units_each_max: u32,
        list: &[(Box<[u8]>, u32)],
    ) -> Result<Self, RingError> {
        let members_max = O::INDEXES.min(SLOTS as u64) as usize;
        // The sum of the members' limits: the total has none of its own.
        let units_max = members_max as u64 * u64::from(units_each_max);
        let limits = Limits { members_max, units_each_max, units_max };
        Ok(Self::of_members(Members::new(ring_seed, limits, list)?))
    }

    /// Built in full, with the indexes that the members have.
    pub(crate) fn of_members(members: Members) -> Self {
        let (fill, slots) = Fill::build(&members);
        let circle = circle(&members);
        SlotRing { members, table: SlotTable { slots, circle }, fill }
    }

    pub(crate) fn table(&self) -> &SlotTable<O, SLOTS> {
        &self.table
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn join(&mut self, identity: &[u8], units: u32) -> Result<usize, RingError> {
        let index = self.members.join(identity, units)?;
        self.fill.join(&mut self.table.slots, &self.members, index);
        self.table.circle = circle(&self.members);
        Ok(index)
    }

    pub(crate) fn leave(&mut self, index: usize) -> Result<(), RingError> {
        self.members.leave(index)?;
        self.fill.leave(&mut self.table.slots, &self.members, index);
        self.table.circle = circle(&self.members);
        Ok(())
    }

    pub(crate) fn reweight(&mut self, index: usize, units: u32) -> Result<(), RingError> {
        let before = self.members.reweight(index, units)?;
        if units > before {
            self.fill.raise(&mut self.table.slots, &self.members, index, before);
        } else if units < before && self.members.len() > 1 {
            // The places of the units that went are known only by their keys, so the member leaves and comes back.
            let identity = self.members.leave(index)?.identity().to_vec();
            self.fill.leave(&mut self.table.slots, &self.members, index);
            self.members.join_at(index, &identity, units)?;
            self.fill.join(&mut self.table.slots, &self.members, index);
        } else if units < before {
            // Who is alone owns all, but his keys have to be those of the units that remain.
            (self.fill, self.table.slots) = Fill::build(&self.members);
        }
        Ok(())
    }
}

fn circle<O: OwnerIndex>(members: &Members) -> Box<[(u64, O)]> {
    members.circle().map(|(seed, index)| (seed, O::from_index(index))).collect()
}

/// xxh3 of the owners' seeds, little-endian, 0 where nobody owns.
pub(crate) fn fingerprint<O: OwnerIndex>(seeds: &[(u64, O)], owners: impl Iterator<Item = Option<O>>) -> u64 {
    let index_end = seeds.iter().map(|(_, owner)| owner.index() + 1).max().unwrap_or(0);
    let mut seed_of = vec![0_u64; index_end];
    for (seed, owner) in seeds {
        seed_of[owner.index()] = *seed;
    }
    let mut hasher = Xxh3::new();
    for owner in owners {
        hasher.update(&owner.map_or(0, |owner| seed_of[owner.index()]).to_le_bytes());
    }
    hasher.digest()
}
