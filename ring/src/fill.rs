//! Algorithm 1: members throw darts at slots, and each slot goes to the earliest.
//!
//! In round r each unit throws one dart. A dart's *key* is its round, then 42 bits of its hash; the order of a
//! slot's owners is that of the least (key, unit, identity) each of them has there. That order involves no other
//! member, so a join can only take places and a leave only give them up. A slot keeps its first `WIDTH` owners
//! (its *row*). Filling stops after the first round that leaves no row short: a later dart has a greater key than
//! all that are kept, so rounds beyond change nothing. Hence the incremental changes equal a full build.

use std::marker::PhantomData;

use crate::hash::{dart, mix, unit_hash};
use crate::member::{Member, Members, OwnerIndex};

/// The constants of the algorithm; tests use coarser ones to force ties and the final sweep.
pub(crate) trait Rules {
    /// Bits of a dart's hash that decide between darts of one round.
    const FRACTION_BITS: u32;
    /// Rounds of darts. A row still short after them is completed by [`Fill::sweep`]; with 2^22 - 1 rounds and at
    /// most 2^16 slots that has a chance below 10^-20.
    const ROUNDS_MAX: u32;
}

/// The rules that golden values and all machines agree on.
#[derive(Clone, Debug)]
pub(crate) struct Algorithm1;

impl Rules for Algorithm1 {
    const FRACTION_BITS: u32 = KEY_ROUND_SHIFT;
    const ROUNDS_MAX: u32 = (1 << (u64::BITS - KEY_ROUND_SHIFT)) - 1;
}

/// The owners of each slot: what lookups read.
#[derive(Clone, Debug)]
pub(crate) struct Slots<O, const SLOTS: usize, const WIDTH: usize> {
    /// The first of each row, by itself so that it stays in the first-level cache.
    pub(crate) owners: Box<[O; SLOTS]>,
    /// The nearest owners of each slot, nearest first; with fewer members than `WIDTH` the rest is unused.
    pub(crate) rows: Box<[[O; WIDTH]; SLOTS]>,
}

/// The keys by which the owners won their places: what changes need.
#[derive(Clone, Debug)]
pub(crate) struct Fill<const SLOTS: usize, const WIDTH: usize, R = Algorithm1> {
    /// Ascending in each row; `VACANT` where the row is short.
    keys: Box<[[u64; WIDTH]; SLOTS]>,
    /// No key has a later round.
    last_round: u32,
    rules: PhantomData<R>,
}

impl<const SLOTS: usize, const WIDTH: usize, R: Rules> Fill<SLOTS, WIDTH, R> {
    const SLOT_BITS: u32 = {
        assert!(SLOTS.is_power_of_two() && SLOTS > 1 && WIDTH > 0);
        SLOTS.trailing_zeros()
    };

    /// The full build.
    pub(crate) fn build<O: OwnerIndex>(members: &Members) -> (Self, Slots<O, SLOTS, WIDTH>) {
        let mut fill = Fill { keys: boxed([VACANT; WIDTH]), last_round: 0, rules: PhantomData };
        let mut slots = Slots { owners: boxed(O::default()), rows: boxed([O::default(); WIDTH]) };
        fill.complete(&mut slots, members, Thrower::all(members), &mut boxed(true), SLOTS);
        (fill, slots)
    }

    /// Gives the newcomer, who is among `members` by now, its places.
    pub(crate) fn join<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        newcomer: usize,
    ) {
        let member = members.member(newcomer);
        if members.len() <= WIDTH {
            // Every row holds everyone, so the newcomer has to hit each slot.
            let thrower = Thrower::of(newcomer, member.unit_hashes());
            self.complete(slots, members, thrower, &mut boxed(true), SLOTS);
        } else {
            self.throw(slots, members, newcomer, member.unit_hashes());
        }
    }

    /// Gives a member, whose weight has been raised from `units_before`, what its new units win.
    pub(crate) fn raise<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        index: usize,
        units_before: u32,
    ) {
        let member = members.member(index);
        let new_units = (units_before..member.units()).map(|number| unit_hash(member.seed(), number));
        self.throw(slots, members, index, new_units);
    }

    /// Takes the places of a leaver, who is not among `members` any more, and gives them to the next.
    pub(crate) fn leave<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        leaver: usize,
    ) {
        let leaver = O::from_index(leaver);
        let row_len = WIDTH.min(members.len());
        let mut open = boxed(false);
        let mut open_count = 0;
        for (slot, row) in slots.rows.iter_mut().enumerate() {
            if !row.contains(&leaver) {
                continue;
            }
            let keys = &mut self.keys[slot];
            let Some(place) = (0..WIDTH).find(|&place| row[place] == leaver && keys[place] != VACANT) else {
                continue;
            };
            row[place..].rotate_left(1);
            keys[place..].rotate_left(1);
            keys[WIDTH - 1] = VACANT;
            slots.owners[slot] = row[0];
            if keys[row_len - 1] == VACANT {
                open[slot] = true;
                open_count += 1;
            }
        }
        if open_count > 0 {
            self.complete(slots, members, Thrower::all(members), &mut open, open_count);
        }
    }

    /// Throws the darts of some units of one member at rows that are complete.
    fn throw<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        owner: usize,
        units: impl Iterator<Item = u64>,
    ) {
        let last = WIDTH.min(members.len()) - 1;
        let mut thrown = 0;
        for unit in units {
            for round in 0..=self.last_round.min(R::ROUNDS_MAX - 1) {
                let (slot, key) = Self::place(dart(unit, round), round);
                if key <= self.keys[slot][last] {
                    self.offer(slots, members, slot, key, O::from_index(owner));
                }
            }
            thrown += self.last_round as usize;
        }
        if self.last_round == R::ROUNDS_MAX {
            self.sweep(slots, members, members.member(owner), owner, |_| true);
        }
        // The more members, the earlier all rows are full: who came to few left a bound that many need not keep to.
        // A look at all rows costs less than the darts that have been thrown up to it.
        if thrown >= SLOTS {
            let latest = self.keys.iter().map(|keys| keys[last]).fold(0, u64::max);
            debug_assert_ne!(latest, VACANT, "every row is complete");
            self.last_round = (latest >> KEY_ROUND_SHIFT) as u32;
        }
    }

    /// Throws darts, round by round, until no row is short. `open` are the slots whose row is.
    fn complete<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        mut thrower: Thrower<O>,
        open: &mut [bool; SLOTS],
        mut open_count: usize,
    ) {
        let last = WIDTH.min(members.len()) - 1;
        let mut filled: Vec<usize> = Vec::new();
        for round in 0..R::ROUNDS_MAX {
            for (owner, units) in thrower.darts() {
                for units in units.chunks(CHUNK) {
                    let mut hits = [0_u64; CHUNK];
                    let mut hit_count = 0;
                    if open_count < SLOTS / SPARSE {
                        for &unit in units {
                            let dart = dart(unit, round);
                            if open[Self::slot_of(dart)] {
                                hits[hit_count % CHUNK] = dart;
                                hit_count += 1;
                            }
                        }
                    } else {
                        // Without a branch, as this one could not be guessed.
                        for &unit in units {
                            let dart = dart(unit, round);
                            hits[hit_count % CHUNK] = dart;
                            hit_count += usize::from(open[Self::slot_of(dart)]);
                        }
                    }
                    for &dart in &hits[..hit_count] {
                        let (slot, key) = Self::place(dart, round);
                        let was_short = self.keys[slot][last] == VACANT;
                        self.offer(slots, members, slot, key, owner);
                        if was_short && self.keys[slot][last] != VACANT {
                            filled.push(slot);
                        }
                    }
                }
            }
            // A rival of the same round may be nearer, so a row closes only with the round.
            open_count -= filled.len();
            for slot in filled.drain(..) {
                open[slot] = false;
            }
            self.last_round = self.last_round.max(round);
            if open_count == 0 {
                return;
            }
            if round >= PRUNE_FROM && round.is_power_of_two() {
                let short: Vec<usize> = (0..SLOTS).filter(|&slot| open[slot]).collect();
                thrower.retain(|owner| !self.is_in_all(slots, &short, owner));
            }
        }
        for &(owner, _) in &thrower.blocks {
            self.sweep(slots, members, members.member(owner.index()), owner.index(), |slot| open[slot]);
        }
        self.last_round = R::ROUNDS_MAX;
    }

    /// The round after the last: a member throws one dart at every slot.
    fn sweep<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        member: &Member,
        owner: usize,
        open: impl Fn(usize) -> bool,
    ) {
        for slot in (0..SLOTS).filter(|&slot| open(slot)) {
            // One bit less than a dart's fraction, so that no key is `VACANT`.
            let fraction = mix(member.seed() ^ slot as u64) >> (u64::BITS - R::FRACTION_BITS + 1);
            let key = (u64::from(R::ROUNDS_MAX) << KEY_ROUND_SHIFT) | fraction;
            self.offer(slots, members, slot, key, O::from_index(owner));
        }
    }

    /// Whether a member stands in all these rows; further darts of his at them are void.
    fn is_in_all<O: OwnerIndex>(&self, slots: &Slots<O, SLOTS, WIDTH>, short: &[usize], owner: O) -> bool {
        short.iter().all(|&slot| {
            let mut places = slots.rows[slot].iter().zip(&self.keys[slot]);
            places.any(|(&other, &key)| other == owner && key != VACANT)
        })
    }

    /// Lets a dart compete for the row of its slot.
    #[inline]
    fn offer<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        slot: usize,
        key: u64,
        owner: O,
    ) {
        let keys = &mut self.keys[slot];
        let row = &mut slots.rows[slot];
        // An owner that is in the row can only move up from its own place, by another unit even with the same key.
        let own_place = (0..WIDTH).find(|&place| row[place] == owner && keys[place] != VACANT);
        let mut place = match own_place {
            Some(place) if key > keys[place] => return,
            Some(place) => place,
            None => WIDTH,
        };
        while place > 0 && Self::is_before(members, slot, (key, owner), (keys[place - 1], row[place - 1])) {
            place -= 1;
            if place + 1 < WIDTH {
                // With an own place this closes its gap, else it drops the last of a full row.
                keys[place + 1] = keys[place];
                row[place + 1] = row[place];
            }
        }
        if place < WIDTH {
            keys[place] = key;
            row[place] = owner;
            if place == 0 {
                slots.owners[slot] = owner;
            }
        }
    }

    #[inline]
    fn is_before<O: OwnerIndex>(members: &Members, slot: usize, dart: (u64, O), other: (u64, O)) -> bool {
        dart.0 < other.0
            || (dart.0 == other.0 && Self::wins_tie(members, slot, dart.0, dart.1.index(), other.1.index()))
    }

    /// Between equal keys the lesser unit decides, then the identity.
    #[cold]
    fn wins_tie(members: &Members, slot: usize, key: u64, one: usize, other: usize) -> bool {
        let rank = |index: usize| {
            let member = members.member(index);
            (Self::least_unit(member, slot, key), member.identity())
        };
        rank(one) < rank(other)
    }

    /// The least unit of a member with such a dart at this slot; none has one in the final sweep.
    fn least_unit(member: &Member, slot: usize, key: u64) -> Option<u64> {
        let round = (key >> KEY_ROUND_SHIFT) as u32;
        if round == R::ROUNDS_MAX {
            return None;
        }
        member.unit_hashes().filter(|&unit| Self::place(dart(unit, round), round) == (slot, key)).min()
    }

    #[inline]
    fn slot_of(dart: u64) -> usize {
        (dart >> (u64::BITS - Self::SLOT_BITS)) as usize
    }

    /// Slot and key of a dart.
    #[inline]
    fn place(dart: u64, round: u32) -> (usize, u64) {
        let slot = Self::slot_of(dart);
        let fraction = (dart << Self::SLOT_BITS) >> (u64::BITS - R::FRACTION_BITS);
        (slot, (u64::from(round) << KEY_ROUND_SHIFT) | fraction)
    }
}

/// Whose darts are thrown: each member with its units.
struct Thrower<O> {
    /// Owner and end of its units.
    blocks: Vec<(O, usize)>,
    units: Vec<u64>,
}

impl<O: OwnerIndex> Thrower<O> {
    fn all(members: &Members) -> Self {
        let mut thrower = Thrower { blocks: Vec::new(), units: Vec::new() };
        for (index, member) in members.iter() {
            thrower.push(index, member.unit_hashes());
        }
        thrower
    }

    fn of(index: usize, units: impl Iterator<Item = u64>) -> Self {
        let mut thrower = Thrower { blocks: Vec::new(), units: Vec::new() };
        thrower.push(index, units);
        thrower
    }

    fn push(&mut self, index: usize, units: impl Iterator<Item = u64>) {
        self.units.extend(units);
        self.blocks.push((O::from_index(index), self.units.len()));
    }

    fn darts(&self) -> impl Iterator<Item = (O, &[u64])> {
        let mut start = 0;
        self.blocks
            .iter()
            .map(move |&(owner, end)| (owner, &self.units[std::mem::replace(&mut start, end)..end]))
    }

    fn retain(&mut self, mut keep: impl FnMut(O) -> bool) {
        let mut kept = Thrower { blocks: Vec::new(), units: Vec::new() };
        for (owner, units) in self.darts() {
            if keep(owner) {
                kept.push(owner.index(), units.iter().copied());
            }
        }
        *self = kept;
    }
}

/// An array on the heap that never was on the stack.
pub(crate) fn boxed<T: Clone, const LENGTH: usize>(value: T) -> Box<[T; LENGTH]> {
    let array: Result<Box<[T; LENGTH]>, _> = vec![value; LENGTH].into_boxed_slice().try_into();
    array.unwrap_or_else(|_| unreachable!("the length is the array's"))
}

/// Darts sorted out at one time; a cluster of weight 1.0 has so many units.
const CHUNK: usize = 16;
/// If fewer slots than one in so many are open, a dart is taken to miss them.
const SPARSE: usize = 16;
/// Greater than every key.
const VACANT: u64 = u64::MAX;
/// A key is the round, then the fraction of the dart in these low bits.
const KEY_ROUND_SHIFT: u32 = 42;
/// Members that can win nothing more are looked for in rounds 32, 64, 128, ...: it matters when few members have
/// very different weights, and the light ones have to hit every slot.
const PRUNE_FROM: u32 = 32;
