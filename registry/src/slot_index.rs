//! A hash index from keys to slots that stores neither: 8 bytes a cell, open addressing, no order.

/// Cells hold the upper half of a key's hash and a slot. Linear probing; a removal shifts back what follows, so that
/// no tombstones gather. Load stays between 1/8 (above the least size) and 3/4.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotIndex {
    cells: Vec<Cell>,
    len: usize,
}

impl SlotIndex {
    /// The slot under this hash that `is_it` accepts.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.cells.len().checked_sub(1)?;
        let tag = tag_of(hash);
        let mut at = home(tag, mask);
        loop {
            let cell = self.cells[at];
            if cell.slot == EMPTY {
                return None;
            }
            if cell.tag == tag && is_it(cell.slot) {
                return Some(cell.slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a slot, which is not in the index yet.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) {
        debug_assert_ne!(slot, EMPTY);
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.resize((self.cells.len() * 2).max(CELLS_LEAST));
        }
        self.place(Cell { tag: tag_of(hash), slot });
        self.len += 1;
    }

    /// Takes a slot out; does nothing if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        let Some(mask) = self.cells.len().checked_sub(1) else { return };
        let mut hole = home(tag_of(hash), mask);
        while self.cells[hole].slot != slot {
            if self.cells[hole].slot == EMPTY {
                return;
            }
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.slot == EMPTY {
                break;
            }
            // A cell may fill the hole unless its home lies behind the hole, on the way to where it is.
            let distance_home = at.wrapping_sub(home(cell.tag, mask)) & mask;
            let distance_hole = at.wrapping_sub(hole) & mask;
            if distance_home >= distance_hole {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = Cell { tag: 0, slot: EMPTY };
        self.len -= 1;
        if self.cells.len() > CELLS_LEAST && self.len * 8 < self.cells.len() {
            self.resize(self.cells.len() / 2);
        }
    }

    /// What it takes of memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>()
    }

    fn place(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = home(cell.tag, mask);
        while self.cells[at].slot != EMPTY {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }

    fn resize(&mut self, cells: usize) {
        let old = std::mem::replace(&mut self.cells, vec![Cell { tag: 0, slot: EMPTY }; cells]);
        for cell in old.into_iter().filter(|cell| cell.slot != EMPTY) {
            self.place(cell);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    tag: u32,
    slot: u32,
}

fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn home(tag: u32, mask: usize) -> usize {
    tag as usize & mask
}

/// The slot that no entry has.
pub(crate) const EMPTY: u32 = u32::MAX;
/// Size of the smallest index, a power of two.
const CELLS_LEAST: usize = 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(steps in prop::collection::vec((0_u32..200, any::<bool>()), 0..2000)) {
            let mut index = SlotIndex::default();
            let mut model = BTreeMap::new();
            for (key, insert) in steps {
                if insert {
                    if model.insert(key, key + 1000).is_none() {
                        index.insert(clashing_hash(key), key + 1000);
                    }
                } else if let Some(slot) = model.remove(&key) {
                    index.remove(clashing_hash(key), slot);
                } else {
                    index.remove(clashing_hash(key), key + 1000);
                }
                prop_assert_eq!(index.len, model.len());
            }
            for key in 0..200 {
                let found = index.find(clashing_hash(key), |slot| slot == key + 1000);
                prop_assert_eq!(found, model.get(&key).copied());
            }
        }
    }

    /// Ten keys on each tag, and tags beside each other, also at the end of the table.
    fn clashing_hash(key: u32) -> u64 {
        u64::from((key / 10).wrapping_sub(7)) << 32
    }
}
