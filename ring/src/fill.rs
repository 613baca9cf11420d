//! Algorithm 1: members throw darts at slots, and each slot goes to the earliest.
//!
//! In round r each unit throws one dart. A dart's *key* is its round, then 42 bits of its hash; the order of a
//! slot's owners is that of the least (key, unit, identity) each of them has there. That order involves no other
//! member, so a join can only take places and a leave only give them up. A slot keeps its first `WIDTH` owners
//! (its *row*). Filling stops after the first round that leaves no row short: a later dart has a greater key than
//! all that are kept, so rounds beyond change nothing. Hence the incremental changes equal a full build.

use std::iter;
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
    /// The round of each row's last key, as [`short_round`] says it: no later dart wins a place there. A newcomer's
    /// darts go all over the table and few win, so most need this alone, which takes a sixteenth of the keys' memory.
    limits: Box<[u16; SLOTS]>,
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
        let mut fill =
            Fill { keys: boxed([VACANT; WIDTH]), limits: boxed(u16::MAX), last_round: 0, rules: PhantomData };
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
            let thrower = Thrower::of(iter::once((newcomer, member)));
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
            self.limits[slot] = short_round(keys[row_len - 1]);
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
        let rounds = self.last_round.min(R::ROUNDS_MAX - 1) + 1;
        let mut thrown = 0;
        let mut hits = Hits::new();
        for unit in units {
            for round in 0..rounds {
                let dart = dart(unit, round);
                let wins = short(round) <= self.limits[Self::slot_of(dart)];
                if hits.push(wins, (dart, round)) {
                    self.offer_all(slots, members, last, O::from_index(owner), &mut hits);
                }
            }
            thrown += rounds as usize;
        }
        self.offer_all(slots, members, last, O::from_index(owner), &mut hits);
        if self.last_round == R::ROUNDS_MAX {
            self.sweep(slots, members, members.member(owner), owner, |_| true);
        }
        // The more members, the earlier all rows are full: who came to few left a bound that many need not keep to.
        // A look at all limits costs less than the darts that have been thrown up to it.
        if thrown >= SLOTS / LIMITS_PER_DART {
            self.last_round = self.latest(last);
        }
    }

    /// Lets darts that may win their places do so.
    fn offer_all<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        last: usize,
        owner: O,
        hits: &mut Hits<(u64, u32)>,
    ) {
        // Without a branch that waits for it, so that many keys are fetched at a time.
        let mut winners = Hits::new();
        for (dart, round) in hits.drain() {
            let (slot, key) = Self::place(dart, round);
            winners.push(key <= self.keys[slot][last], (slot, key));
        }
        for (slot, key) in winners.drain() {
            self.offer(slots, members, last, slot, key, owner);
        }
    }

    /// The latest round of all keys, of complete rows.
    fn latest(&self, last: usize) -> u32 {
        let latest = self.limits.iter().fold(0, |latest, limit| latest.max(*limit));
        if latest < u16::MAX {
            return u32::from(latest);
        }
        let latest = self.keys.iter().map(|keys| keys[last]).fold(0, u64::max);
        debug_assert_ne!(latest, VACANT, "every row is complete");
        round_of(latest)
    }

    /// Whether the limits are those of the keys, and no key is beyond the last round.
    #[cfg(test)]
    pub(crate) fn has_its_limits(&self, members: usize) -> bool {
        let last = WIDTH.min(members) - 1;
        let mut rows = self.keys.iter().zip(self.limits.iter());
        rows.all(|(keys, limit)| *limit == short_round(keys[last]) && round_of(keys[last]) <= self.last_round)
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
        let mut hits = Hits::new();
        let mut filled: Vec<usize> = Vec::new();
        let mut prune_at = PRUNE_FROM;
        let mut next = 0;
        while next < R::ROUNDS_MAX {
            // Of few units so many rounds at a time that what comes after them costs little beside them.
            let rounds = DARTS_BETWEEN_LOOKS.div_ceil(thrower.units.len()) as u32;
            let rounds = next..(next + rounds).min(R::ROUNDS_MAX);
            next = rounds.end;
            let mut offer_all = |hits: &mut Hits<(u64, u32, O)>| {
                for (dart, round, owner) in hits.drain() {
                    let (slot, key) = Self::place(dart, round);
                    let was_short = self.keys[slot][last] == VACANT;
                    self.offer(slots, members, last, slot, key, owner);
                    if was_short && self.keys[slot][last] != VACANT {
                        filled.push(slot);
                    }
                }
            };
            for round in rounds {
                for (unit, owner) in thrower.units.iter().zip(&thrower.owners) {
                    let dart = dart(*unit, round);
                    if hits.push(open[Self::slot_of(dart)], (dart, round, *owner)) {
                        offer_all(&mut hits);
                    }
                }
            }
            offer_all(&mut hits);
            // A rival of the same round may be nearer, so a row closes only with the round.
            open_count -= filled.len();
            for slot in filled.drain(..) {
                open[slot] = false;
            }
            self.last_round = self.last_round.max(next - 1);
            if open_count == 0 {
                return;
            }
            if next > prune_at {
                prune_at = prune_at.saturating_mul(2);
                let short: Vec<usize> = (0..SLOTS).filter(|&slot| open[slot]).collect();
                thrower.retain(|owner| !self.is_in_all(slots, &short, owner));
            }
        }
        for owner in thrower.members() {
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
        let last = WIDTH.min(members.len()) - 1;
        for slot in (0..SLOTS).filter(|&slot| open(slot)) {
            // One bit less than a dart's fraction, so that no key is `VACANT`.
            let fraction = mix(member.seed() ^ slot as u64) >> (u64::BITS - R::FRACTION_BITS + 1);
            let key = (u64::from(R::ROUNDS_MAX) << KEY_ROUND_SHIFT) | fraction;
            self.offer(slots, members, last, slot, key, O::from_index(owner));
        }
    }

    /// Whether a member stands in all these rows; further darts of his at them are void.
    fn is_in_all<O: OwnerIndex>(&self, slots: &Slots<O, SLOTS, WIDTH>, short: &[usize], owner: O) -> bool {
        short.iter().all(|&slot| {
            let mut places = slots.rows[slot].iter().zip(&self.keys[slot]);
            places.any(|(&other, &key)| other == owner && key != VACANT)
        })
    }

    /// Lets a dart compete for the row of its slot, whose last place is `last`.
    #[inline]
    fn offer<O: OwnerIndex>(
        &mut self,
        slots: &mut Slots<O, SLOTS, WIDTH>,
        members: &Members,
        last: usize,
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
            self.limits[slot] = short_round(keys[last]);
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
        let round = round_of(key);
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

/// Whose darts are thrown: units, and whose each is.
struct Thrower<O> {
    units: Vec<u64>,
    owners: Vec<O>,
}

impl<O: OwnerIndex> Thrower<O> {
    fn all(members: &Members) -> Self {
        Self::of(members.iter())
    }

    fn of<'a>(members: impl Iterator<Item = (usize, &'a Member)>) -> Self {
        let mut thrower = Thrower { units: Vec::new(), owners: Vec::new() };
        for (index, member) in members {
            thrower.units.extend(member.unit_hashes());
            thrower.owners.resize(thrower.units.len(), O::from_index(index));
        }
        thrower
    }

    /// Each member once.
    fn members(&self) -> Vec<O> {
        let mut members = self.owners.clone();
        members.dedup();
        members
    }

    fn retain(&mut self, keep: impl Fn(O) -> bool) {
        // A row has few places, so that few can stand in all rows.
        let gone: Vec<O> = self.members().into_iter().filter(|owner| !keep(*owner)).collect();
        let mut owners = self.owners.iter();
        self.units.retain(|_| owners.next().is_some_and(|owner| !gone.contains(owner)));
        self.owners.retain(|owner| !gone.contains(owner));
    }
}

/// Darts that have been sorted out and wait for the work. They are taken without a branch on whether they are wanted,
/// as that one could not be guessed.
struct Hits<T> {
    list: [T; HITS],
    count: usize,
}

impl<T: Copy + Default> Hits<T> {
    fn new() -> Self {
        Hits { list: [T::default(); HITS], count: 0 }
    }

    /// Takes one in if it is wanted. True: the list is full, and has to be drained before the next.
    #[inline]
    fn push(&mut self, is_wanted: bool, hit: T) -> bool {
        self.list[self.count % HITS] = hit;
        self.count += usize::from(is_wanted);
        self.count == HITS
    }

    fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.list[..std::mem::take(&mut self.count)].iter().copied()
    }
}

/// The round of a key.
fn round_of(key: u64) -> u32 {
    (key >> KEY_ROUND_SHIFT) as u32
}

/// A round in 16 bits: all that are too late for them are one.
#[inline]
fn short(round: u32) -> u16 {
    round.min(u32::from(u16::MAX)) as u16
}

#[inline]
fn short_round(key: u64) -> u16 {
    short(round_of(key))
}

/// An array on the heap that never was on the stack.
pub(crate) fn boxed<T: Clone, const LENGTH: usize>(value: T) -> Box<[T; LENGTH]> {
    let array: Result<Box<[T; LENGTH]>, _> = vec![value; LENGTH].into_boxed_slice().try_into();
    array.unwrap_or_else(|_| unreachable!("the length is the array's"))
}

/// Darts sorted out at one time.
const HITS: usize = 64;
/// Darts thrown between two looks at which rows are full, at least.
const DARTS_BETWEEN_LOOKS: usize = 128;
/// Limits that are looked at in the time of one dart.
const LIMITS_PER_DART: usize = 16;
/// Greater than every key.
const VACANT: u64 = u64::MAX;
/// A key is the round, then the fraction of the dart in these low bits.
const KEY_ROUND_SHIFT: u32 = 42;
/// Members that can win nothing more are looked for after rounds 32, 64, 128, ...: it matters when few members have
/// very different weights, and the light ones have to hit every slot.
const PRUNE_FROM: u32 = 32;
