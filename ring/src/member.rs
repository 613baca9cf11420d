//! Who takes part in a ring: identities, seeds, weights, and the index that each member keeps.

use crate::error::RingError;
use crate::hash::{member_seed, unit_hash};

/// One member of a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    identity: Box<[u8]>,
    seed: u64,
    units: u32,
}

impl Member {
    /// Its stable name.
    #[must_use]
    pub fn identity(&self) -> &[u8] {
        &self.identity
    }

    /// Hash of the identity under the ring's seed; it stands for the member in fingerprints.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Its weight in units.
    #[must_use]
    pub fn units(&self) -> u32 {
        self.units
    }

    /// The hash of each of its units, in order of number.
    pub(crate) fn unit_hashes(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.units).map(|number| unit_hash(self.seed, number))
    }
}

/// How many members a ring may have, and how heavy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) members_max: usize,
    pub(crate) units_each_max: u32,
    pub(crate) units_max: u64,
}

/// The members of one ring. A member keeps its index until it leaves; a newcomer takes the lowest free one.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    ring_seed: u64,
    limits: Limits,
    slab: Vec<Option<Member>>,
    /// Indexes of the members in order of (seed, identity): the same on every machine.
    circle: Vec<u32>,
    units: u64,
}

impl Members {
    /// All at once; the first gets index 0.
    pub(crate) fn new(ring_seed: u64, limits: Limits, list: &[(Box<[u8]>, u32)]) -> Result<Self, RingError> {
        if list.is_empty() {
            return Err(RingError::NoMembers);
        }
        let mut members = Members { ring_seed, limits, slab: Vec::new(), circle: Vec::new(), units: 0 };
        members.check_room(list.len(), list.iter().map(|(_, units)| u64::from(*units)).sum())?;
        for (identity, units) in list {
            members.check(identity, *units)?;
            members.slab.push(Some(Member {
                seed: member_seed(identity, ring_seed),
                identity: identity.clone(),
                units: *units,
            }));
            members.units += u64::from(*units);
        }
        let mut circle: Vec<u32> = (0..list.len() as u32).collect();
        circle.sort_unstable_by_key(|&index| members.rank(index as usize));
        for pair in circle.windows(2) {
            let identity = &members.member(pair[0] as usize).identity;
            if *identity == members.member(pair[1] as usize).identity {
                return Err(RingError::DuplicateIdentity { identity: identity.clone() });
            }
        }
        members.circle = circle;
        Ok(members)
    }

    pub(crate) fn len(&self) -> usize {
        self.circle.len()
    }

    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Member> {
        self.slab.get(index)?.as_ref()
    }

    /// For an index that a table of this ring holds.
    pub(crate) fn member(&self, index: usize) -> &Member {
        self.slab[index].as_ref().expect("a table names members only")
    }

    /// In order of index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.slab.iter().enumerate().filter_map(|(index, member)| Some((index, member.as_ref()?)))
    }

    /// (seed, index) in order of (seed, identity).
    pub(crate) fn circle(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.circle.iter().map(|&index| (self.member(index as usize).seed, index as usize))
    }

    /// The index of the member with this identity.
    pub(crate) fn find(&self, identity: &[u8]) -> Option<usize> {
        let at = self.search(member_seed(identity, self.ring_seed), identity).ok()?;
        Some(self.circle[at] as usize)
    }

    /// Takes a newcomer in, at the lowest free index.
    pub(crate) fn join(&mut self, identity: &[u8], units: u32) -> Result<usize, RingError> {
        let index = match self.slab.len() {
            all if all == self.len() => all,
            all => self.slab.iter().position(Option::is_none).unwrap_or(all),
        };
        self.join_at(index, identity, units)?;
        Ok(index)
    }

    /// Takes a newcomer in at an index that must be free.
    pub(crate) fn join_at(&mut self, index: usize, identity: &[u8], units: u32) -> Result<(), RingError> {
        self.check(identity, units)?;
        self.check_room(self.len() + 1, self.units + u64::from(units))?;
        let seed = member_seed(identity, self.ring_seed);
        let Err(at) = self.search(seed, identity) else {
            return Err(RingError::DuplicateIdentity { identity: identity.into() });
        };
        if index >= self.slab.len() {
            self.slab.resize(index + 1, None);
        }
        debug_assert!(self.slab[index].is_none());
        self.slab[index] = Some(Member { identity: identity.into(), seed, units });
        self.circle.insert(at, index as u32);
        self.units += u64::from(units);
        Ok(())
    }

    /// Lets a member go, unless it is the last.
    pub(crate) fn leave(&mut self, index: usize) -> Result<Member, RingError> {
        let member = self.get(index).ok_or(RingError::UnknownMember { index })?.clone();
        if self.len() == 1 {
            return Err(RingError::NoMembers);
        }
        let at = self.search(member.seed, &member.identity).expect("each member stands on the circle");
        self.circle.remove(at);
        self.slab[index] = None;
        while self.slab.last().is_some_and(Option::is_none) {
            self.slab.pop();
        }
        self.units -= u64::from(member.units);
        Ok(member)
    }

    /// Gives a member another weight and returns the one it had.
    pub(crate) fn reweight(&mut self, index: usize, units: u32) -> Result<u32, RingError> {
        let member = self.get(index).ok_or(RingError::UnknownMember { index })?;
        let before = member.units;
        self.check(&member.identity, units)?;
        let total = self.units - u64::from(before) + u64::from(units);
        self.check_room(self.len(), total)?;
        self.units = total;
        if let Some(member) = &mut self.slab[index] {
            member.units = units;
        }
        Ok(before)
    }

    fn rank(&self, index: usize) -> (u64, &[u8]) {
        let member = self.member(index);
        (member.seed, &member.identity)
    }

    fn search(&self, seed: u64, identity: &[u8]) -> Result<usize, usize> {
        self.circle.binary_search_by(|&index| self.rank(index as usize).cmp(&(seed, identity)))
    }

    fn check(&self, identity: &[u8], units: u32) -> Result<(), RingError> {
        if identity.is_empty() {
            return Err(RingError::EmptyIdentity);
        }
        if units == 0 {
            return Err(RingError::ZeroWeight { identity: identity.into() });
        }
        if units > self.limits.units_each_max {
            let units_max = self.limits.units_each_max;
            return Err(RingError::WeightTooLarge { identity: identity.into(), units, units_max });
        }
        Ok(())
    }

    fn check_room(&self, members: usize, units: u64) -> Result<(), RingError> {
        let Limits { members_max, units_max, .. } = self.limits;
        if members > members_max {
            return Err(RingError::TooManyMembers { members, members_max });
        }
        if units > units_max {
            return Err(RingError::TooManyUnits { units, units_max });
        }
        Ok(())
    }
}

/// An integer type that a table stores owners in.
pub(crate) trait OwnerIndex: Copy + Default + Eq {
    /// How many indexes it can tell apart.
    const INDEXES: u64;
    fn from_index(index: usize) -> Self;
    fn index(self) -> usize;
}

macro_rules! owner_index {
    ($($integer:ty),*) => {$(
        impl OwnerIndex for $integer {
            const INDEXES: u64 = 1 << <$integer>::BITS;
            fn from_index(index: usize) -> Self {
                debug_assert!((index as u64) < Self::INDEXES);
                index as Self
            }
            #[inline]
            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}
owner_index!(u8, u16, u32);
