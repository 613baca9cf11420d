//! Tables for large types: each unit owns one cell, and a lookup probes past empty ones.
//!
//! A key walks over the cells until it meets a unit. Its walk has three legs: `PROBES_MAX` steps from cell to cell
//! by a stride of its own; then one look at a small slot table, so that a type with few instances in a large class
//! is found in bounded time and still shared evenly; then all occupied cells in order, from a point of its own. The
//! first leg and the last meet every other member in an order that no leaver disturbs, the slot table replaces a
//! leaver by one other; so the distinct owners along the walk behave as those of slot tables do, except that a
//! join or leave may shift another unit from its cell (see `cell_ring`).

use crate::hash::mix;
use crate::member::OwnerIndex;
use crate::slots::fingerprint;

/// An immutable table of `CELLS` cells.
#[derive(Clone, Debug)]
pub(crate) struct CellTable<const CELLS: usize> {
    /// The owner of the unit in each cell, or `EMPTY`.
    pub(crate) owners: Box<[u32; CELLS]>,
    /// One bit a cell: occupied.
    pub(crate) occupied: Box<[u64]>,
    /// The second leg: owners of its slots.
    pub(crate) backstop: Box<[u32; BACKSTOP_SLOTS]>,
    pub(crate) members: usize,
    /// Each member has one unit, so no leg meets an owner twice.
    pub(crate) single_units: bool,
}

impl<const CELLS: usize> CellTable<CELLS> {
    #[inline]
    pub(crate) fn owner_of_hash(&self, key_hash: u64) -> usize {
        // Two cells at once: at a load of .76 the first alone would be guessed wrong for one key in four.
        let cell = Self::cell_of(key_hash);
        let first = self.owners[cell];
        let second = self.owners[(cell + Self::stride_of(key_hash)) % CELLS];
        let owner = if first != EMPTY { first } else { second };
        if owner != EMPTY { owner.index() } else { self.probe_on(key_hash) }
    }

    pub(crate) fn owners_of_hash(&self, key_hash: u64, count: usize) -> CellOwners<'_, CELLS> {
        CellOwners { walk: self.walk(key_hash), yielded: 0, end: count.min(self.members) }
    }

    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Over the owners' seeds in order of cell; `seeds` are those of all members.
    pub(crate) fn fingerprint(&self, seeds: &[(u64, u32)]) -> u64 {
        fingerprint(seeds, self.owners.iter().map(|owner| (*owner != EMPTY).then_some(*owner)))
    }

    #[cold]
    fn probe_on(&self, key_hash: u64) -> usize {
        let stride = Self::stride_of(key_hash);
        let mut cell = Self::cell_of(key_hash);
        for _ in 1..PROBES_MAX {
            cell = (cell + stride) % CELLS;
            if self.owners[cell] != EMPTY {
                return self.owners[cell].index();
            }
        }
        self.backstop_owner(key_hash).index()
    }

    fn walk(&self, key_hash: u64) -> Walk<'_, CELLS> {
        Walk { table: self, key_hash, step: 0, cell: Self::cell_of(key_hash) }
    }

    fn backstop_owner(&self, key_hash: u64) -> u32 {
        self.backstop[(key_hash >> (u64::BITS - BACKSTOP_SLOTS.trailing_zeros())) as usize]
    }

    #[inline]
    fn cell_of(key_hash: u64) -> usize {
        (key_hash >> (u64::BITS - CELLS.trailing_zeros())) as usize
    }

    /// Odd, so that the walk comes to every cell; from the bits between the cell's and the shard's.
    #[inline]
    fn stride_of(key_hash: u64) -> usize {
        ((key_hash >> 32) as usize % (1 << (32 - CELLS.trailing_zeros()))) | 1
    }

    /// The next occupied cell at or after this one, around the end. There is one: a ring has a member.
    fn next_occupied(&self, cell: usize) -> usize {
        let words = self.occupied.len();
        let first = self.occupied[cell / 64] & (u64::MAX << (cell % 64));
        if first != 0 {
            return cell / 64 * 64 + first.trailing_zeros() as usize;
        }
        let word =
            (1..=words).map(|ahead| (cell / 64 + ahead) % words).find(|&word| self.occupied[word] != 0);
        let word = word.expect("a ring has a member");
        word * 64 + self.occupied[word].trailing_zeros() as usize
    }
}

/// The walk of one key over all units, in the order in which it meets them; it has no end.
#[derive(Clone, Debug)]
struct Walk<'a, const CELLS: usize> {
    table: &'a CellTable<CELLS>,
    key_hash: u64,
    step: usize,
    cell: usize,
}

impl<const CELLS: usize> Walk<'_, CELLS> {
    /// What the next step meets: nobody, if its cell is empty.
    fn step(&mut self) -> Option<u32> {
        let table = self.table;
        let step = self.step;
        self.step += 1;
        if step < PROBES_MAX {
            if step > 0 {
                self.cell = (self.cell + CellTable::<CELLS>::stride_of(self.key_hash)) % CELLS;
            }
            return Some(table.owners[self.cell]).filter(|&owner| owner != EMPTY);
        }
        if step == PROBES_MAX {
            self.cell = CellTable::<CELLS>::cell_of(mix(!self.key_hash));
            return Some(table.backstop_owner(self.key_hash));
        }
        let cell = table.next_occupied(self.cell);
        self.cell = (cell + 1) % CELLS;
        Some(table.owners[cell])
    }
}

/// Distinct owners from a table of cells.
///
/// An owner is yielded at its first meeting; whether a meeting is the first is found by walking again from the
/// start, which needs no memory. If each member has one unit, a member costs a constant number of steps; with
/// heavier members the number of steps grows with the square of those yielded.
#[derive(Clone, Debug)]
pub(crate) struct CellOwners<'a, const CELLS: usize> {
    walk: Walk<'a, CELLS>,
    yielded: usize,
    end: usize,
}

impl<const CELLS: usize> CellOwners<'_, CELLS> {
    fn is_first_meeting(&self, owner: u32) -> bool {
        let steps_before = self.walk.step - 1;
        // The cells of one leg are all different, so single units are met again in a later leg only.
        let steps_to_check = match self.walk.table.single_units {
            true if steps_before < PROBES_MAX => 0,
            true => steps_before.min(PROBES_MAX + 1),
            false => steps_before,
        };
        let mut again = self.walk.table.walk(self.walk.key_hash);
        (0..steps_to_check).all(|_| again.step() != Some(owner))
    }
}

impl<const CELLS: usize> Iterator for CellOwners<'_, CELLS> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.yielded == self.end {
            return None;
        }
        // Ends: after the second leg each step meets a unit, and as many steps as there are units meet all members.
        loop {
            if let Some(owner) = self.walk.step()
                && self.is_first_meeting(owner)
            {
                self.yielded += 1;
                return Some(owner.index());
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.yielded, Some(self.end - self.yielded))
    }
}

impl<const CELLS: usize> ExactSizeIterator for CellOwners<'_, CELLS> {}

/// Nobody's cell.
pub(crate) const EMPTY: u32 = u32::MAX;
/// Steps of the first leg. At a load of .25 one key in 10^8 gets beyond it, at .1 one in 900.
pub(crate) const PROBES_MAX: usize = 64;
/// Slots of the second leg.
pub(crate) const BACKSTOP_SLOTS: usize = 1 << 12;
