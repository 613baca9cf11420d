//! Several distinct owners of one key, without allocation.
//!
//! The order of all members that a key has is made of two orders. First come the owners of its slot's row, nearest
//! first; then the others as they follow on a circle of member seeds, from a point that the key's hash chooses. In
//! each of the two a member's place depends on no other member. So the list for n is the beginning of the list for
//! n + 1, and if somebody leaves, all others keep their order but for one, who moves up into the row: one goes out
//! of the first n, and one comes in.

use crate::hash::mix;
use crate::member::OwnerIndex;
use crate::slots::NEAREST;

/// Distinct owners from a slot table.
#[derive(Clone, Debug)]
pub(crate) struct SlotOwners<'a, O> {
    /// The row's owners not yet yielded, the next one lowest: one register, shifted at each step.
    packed: u64,
    /// How many of the row, and how many of all, are still to be yielded.
    row_left: usize,
    left: usize,
    row: &'a [O; NEAREST],
    circle: &'a [(u64, O)],
    key_hash: u64,
    /// Where on the circle to look next, plus one; 0 before the first look.
    next: usize,
}

impl<'a, O: RowOwner> SlotOwners<'a, O> {
    #[inline]
    pub(crate) fn new(row: &'a [O; NEAREST], circle: &'a [(u64, O)], key_hash: u64, count: usize) -> Self {
        let left = count.min(circle.len());
        SlotOwners { packed: O::pack(row), row_left: left.min(NEAREST), left, row, circle, key_hash, next: 0 }
    }
}

impl<O: RowOwner> Iterator for SlotOwners<'_, O> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.row_left > 0 {
            let owner = self.packed & O::PACKED_MASK;
            self.packed >>= O::PACKED_MASK.count_ones();
            self.row_left -= 1;
            self.left -= 1;
            return Some(owner as usize);
        }
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // By value, so that the iterator can stay in registers.
        let (owner, next) = follow_circle(self.row, self.circle, self.key_hash, self.next);
        self.next = next;
        Some(owner.index())
    }

    /// The row without a loop: three or four owners cost little more than one.
    #[inline(always)]
    fn fold<B, F: FnMut(B, usize) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        for place in 0..NEAREST as u32 {
            if place as usize == self.row_left {
                break;
            }
            let owner = (self.packed >> (place * O::PACKED_MASK.count_ones())) & O::PACKED_MASK;
            folded = f(folded, owner as usize);
        }
        if self.left > self.row_left {
            self.left -= std::mem::take(&mut self.row_left);
            folded = fold_circle(self, folded, f);
        }
        folded
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<O: RowOwner> ExactSizeIterator for SlotOwners<'_, O> {}

/// The rest of a fold, out of the way of the row's.
#[cold]
#[inline(never)]
fn fold_circle<O: RowOwner, B, F: FnMut(B, usize) -> B>(rest: SlotOwners<'_, O>, init: B, mut f: F) -> B {
    let mut folded = init;
    for owner in rest {
        folded = f(folded, owner);
    }
    folded
}

/// The next on the circle who is not in the row. There is one: fewer than all have been yielded, and the row is
/// full, as the circle comes into play only behind a full one.
#[cold]
#[inline(never)]
fn follow_circle<O: OwnerIndex>(
    row: &[O; NEAREST],
    circle: &[(u64, O)],
    key_hash: u64,
    next: usize,
) -> (O, usize) {
    let start = mix(key_hash);
    let mut at = match next {
        0 => circle.partition_point(|&(seed, _)| seed < start),
        next => next - 1,
    };
    loop {
        let (_, owner) = circle[at % circle.len()];
        at = at % circle.len() + 1;
        if !row.contains(&owner) {
            return (owner, at + 1);
        }
    }
}

/// An owner so small that a row fits into one register.
pub(crate) trait RowOwner: OwnerIndex {
    /// The bits of one owner.
    const PACKED_MASK: u64;
    /// The row, its first owner lowest.
    fn pack(row: &[Self; NEAREST]) -> u64;
}

impl RowOwner for u8 {
    const PACKED_MASK: u64 = 0xFF;

    #[inline]
    fn pack(row: &[u8; NEAREST]) -> u64 {
        u64::from(u32::from_le_bytes(*row))
    }
}

impl RowOwner for u16 {
    const PACKED_MASK: u64 = 0xFFFF;

    #[inline]
    fn pack(row: &[u16; NEAREST]) -> u64 {
        row.iter().rev().fold(0, |packed, &owner| (packed << 16) | u64::from(owner))
    }
}
