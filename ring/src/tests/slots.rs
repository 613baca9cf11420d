//! Properties of slot tables, with the real rules and with rules coarse enough to force ties and the final sweep.

use proptest::prelude::*;

use super::{Change, List, key_hashes, list, play, strategy};
use crate::fill::{Algorithm1, Fill, Rules, Slots};
use crate::member::{Limits, Members};
use crate::slots::{NEAREST, SlotRing};

const SLOTS: usize = 1 << 6;
type Ring = SlotRing<u16, SLOTS>;

/// Ties in nearly every slot.
struct Ties;
impl Rules for Ties {
    const FRACTION_BITS: u32 = 1;
    const ROUNDS_MAX: u32 = Algorithm1::ROUNDS_MAX;
}

/// Too few rounds for light members, and ties in the sweep.
struct Sweeps;
impl Rules for Sweeps {
    const FRACTION_BITS: u32 = 2;
    const ROUNDS_MAX: u32 = 3;
}

/// The whole state of a fill, by identity.
fn rows<R: Rules>(members: &Members, slots: &Slots<u16, SLOTS, NEAREST>) -> Vec<Vec<Vec<u8>>> {
    let len = NEAREST.min(members.len());
    let name = |owner: &u16| members.member(usize::from(*owner)).identity().to_vec();
    for (owner, row) in slots.owners.iter().zip(slots.rows.iter()) {
        assert_eq!(*owner, row[0]);
    }
    slots.rows.iter().map(|row| row[..len].iter().map(name).collect()).collect()
}

fn members_of(list: &List) -> Members {
    let limits = Limits { members_max: 1 << 16, units_each_max: 100, units_max: u64::MAX };
    Members::new(0, limits, list).unwrap()
}

fn full<R: Rules>(list: &List) -> Vec<Vec<Vec<u8>>> {
    let members = members_of(list);
    let (_, slots) = Fill::<SLOTS, NEAREST, R>::build(&members);
    rows::<R>(&members, &slots)
}

/// The specification, said the slow way: each member's least (key, unit, identity) at each slot, sorted.
fn by_definition<R: Rules>(list: &List) -> Vec<Vec<Vec<u8>>> {
    let members = members_of(list);
    let bits = SLOTS.trailing_zeros();
    (0..SLOTS as u64)
        .map(|slot| {
            let mut row: Vec<(u64, u64, Vec<u8>)> = members
                .iter()
                .map(|(_, member)| {
                    let darts = (0..R::ROUNDS_MAX.min(4000)).flat_map(|round| {
                        member.unit_hashes().filter_map(move |unit| {
                            let dart = crate::hash::dart(unit, round);
                            let fraction = (dart << bits) >> (64 - R::FRACTION_BITS);
                            (dart >> (64 - bits) == slot)
                                .then_some(((u64::from(round) << 42) | fraction, unit))
                        })
                    });
                    let (key, unit) = darts.min().expect("4000 rounds hit each of 64 slots");
                    (key, unit, member.identity().to_vec())
                })
                .collect();
            row.sort();
            row.into_iter().take(NEAREST).map(|(_, _, identity)| identity).collect()
        })
        .collect()
}

/// Full build, and what a history of changes makes.
fn check_history<R: Rules>(start: &List, history: &[Change]) -> Result<(), TestCaseError> {
    struct State<R> {
        members: Members,
        fill: Fill<SLOTS, NEAREST, R>,
        slots: Slots<u16, SLOTS, NEAREST>,
    }
    let members = members_of(start);
    let (fill, slots) = Fill::<SLOTS, NEAREST, R>::build(&members);
    let mut state = State { members, fill, slots };
    let end = play(
        &mut state,
        start,
        history,
        |state, identity, units| {
            let index = state.members.join(identity, units)?;
            state.fill.join(&mut state.slots, &state.members, index);
            Ok(index)
        },
        |state, index| {
            state.members.leave(index)?;
            state.fill.leave(&mut state.slots, &state.members, index);
            Ok(())
        },
        |state, index, units| {
            let before = state.members.reweight(index, units)?;
            if units > before {
                state.fill.raise(&mut state.slots, &state.members, index, before);
            } else {
                // What `SlotRing` does is checked with the real rules.
                state.members.reweight(index, before)?;
                state.members.reweight(index, units)?;
                (state.fill, state.slots) = Fill::build(&state.members);
            }
            Ok(())
        },
    );
    prop_assert!(state.fill.has_its_limits(state.members.len()));
    prop_assert_eq!(rows::<R>(&state.members, &state.slots), full::<R>(&end));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_those_of_the_definition(list in strategy::members(1..12, 20)) {
        prop_assert_eq!(full::<Algorithm1>(&list), by_definition::<Algorithm1>(&list));
        prop_assert_eq!(full::<Ties>(&list), by_definition::<Ties>(&list));
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(list in strategy::members(1..40, 20).prop_shuffle()) {
        let mut sorted = list.clone();
        sorted.sort();
        prop_assert_eq!(full::<Algorithm1>(&list), full::<Algorithm1>(&sorted));
        prop_assert_eq!(full::<Ties>(&list), full::<Ties>(&sorted));
        prop_assert_eq!(full::<Sweeps>(&list), full::<Sweeps>(&sorted));
    }

    #[test]
    fn incremental_equals_full(
        start in strategy::members(1..20, 20),
        history in strategy::history(12, 20),
    ) {
        check_history::<Algorithm1>(&start, &history)?;
        check_history::<Ties>(&start, &history)?;
        check_history::<Sweeps>(&start, &history)?;

        let mut ring = Ring::new(3, 20, &start).unwrap();
        let end = play(&mut ring, &start, &history, Ring::join, Ring::leave, Ring::reweight);
        let built = Ring::new(3, 20, &end).unwrap();
        prop_assert_eq!(ring.table().fingerprint(), built.table().fingerprint());
        prop_assert_eq!(ring.members().units(), built.members().units());
        for hash in key_hashes(200) {
            prop_assert_eq!(names(&ring, hash, usize::MAX), names(&built, hash, usize::MAX));
        }
    }

    #[test]
    fn nothing_moves_between_members_that_stay(list in strategy::members(2..30, 20), leaver in any::<usize>()) {
        let with = Ring::new(0, 20, &list).unwrap();
        let mut without = with.clone();
        let leaver = leaver % list.len();
        without.leave(leaver).unwrap();
        for hash in key_hashes(500) {
            let (owner, heir) = (with.table().owner_of_hash(hash), without.table().owner_of_hash(hash));
            prop_assert!(owner == heir || owner == leaver);
        }
    }

    #[test]
    fn a_raised_weight_only_takes(list in strategy::members(2..30, 10), raised in any::<usize>(), by in 1_u32..10) {
        let before = Ring::new(0, 20, &list).unwrap();
        let raised = raised % list.len();
        let mut after = before.clone();
        after.reweight(raised, list[raised].1 + by).unwrap();
        for hash in key_hashes(500) {
            let owners = (before.table().owner_of_hash(hash), after.table().owner_of_hash(hash));
            prop_assert!(owners.0 == owners.1 || owners.1 == raised);
        }
    }

    #[test]
    fn distinct_owners_are_a_prefix_and_wrap(list in strategy::members(1..30, 20), key in any::<u64>(), count in 0_usize..40) {
        let ring = Ring::new(0, 20, &list).unwrap();
        let all = names(&ring, key, usize::MAX);
        prop_assert_eq!(all.len(), list.len());
        let mut distinct = all.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), list.len());
        prop_assert_eq!(&names(&ring, key, count)[..], &all[..count.min(list.len())]);
        prop_assert_eq!(&all[0], ring.members().member(ring.table().owner_of_hash(key)).identity());
    }

    #[test]
    fn of_distinct_owners_one_goes_and_one_comes(
        list in strategy::members(2..30, 20),
        leaver in any::<usize>(),
        key in any::<u64>(),
        count in 1_usize..12,
    ) {
        let with = Ring::new(0, 20, &list).unwrap();
        let mut without = with.clone();
        let leaver = leaver % list.len();
        without.leave(leaver).unwrap();
        let before = names(&with, key, count);
        let after = names(&without, key, count);
        let gone: Vec<_> = before.iter().filter(|name| !after.contains(name)).collect();
        let come: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
        let leaver = list[leaver].0.to_vec();
        if before.contains(&leaver) {
            prop_assert_eq!(gone, vec![&leaver]);
            prop_assert_eq!(come.len(), usize::from(count < list.len()));
        } else {
            prop_assert_eq!(&before, &after);
        }
    }
}

fn names(ring: &Ring, key: u64, count: usize) -> Vec<Vec<u8>> {
    let owners = ring.table().owners_of_hash(key, count);
    assert_eq!(owners.len(), count.min(ring.members().len()));
    owners.map(|owner| ring.members().member(owner).identity().to_vec()).collect()
}

#[test]
fn one_light_member_among_heavy_ones_still_stands_in_each_row() {
    let mut list = list("heavy", 3, 1000);
    list.push((Box::from(*b"light"), 1));
    let ring = SlotRing::<u8, { 1 << 14 }>::new(0, 1000, &list).unwrap();
    for hash in key_hashes(20_000) {
        assert_eq!(ring.table().owners_of_hash(hash, 4).count(), 4);
        assert!(ring.table().owners_of_hash(hash, 4).any(|owner| owner == 3));
    }
}

/// A limit has 16 bits, and few light members on a large table throw for longer.
#[test]
fn incremental_equals_full_in_rounds_beyond_16_bits() {
    const SLOTS: usize = 1 << 14;
    let members_of = |list: &List| {
        let limits = Limits { members_max: 256, units_each_max: 100, units_max: u64::MAX };
        Members::new(0, limits, list).unwrap()
    };
    let all = list("light", 7, 1);
    let mut members = members_of(&all[..1].to_vec());
    let (mut fill, mut slots) = Fill::<SLOTS, NEAREST>::build::<u8>(&members);
    let check = |members: &Members, fill: &Fill<SLOTS, NEAREST>, slots: &Slots<u8, SLOTS, NEAREST>| {
        let list: List =
            members.iter().map(|(_, member)| (member.identity().into(), member.units())).collect();
        let (_, built) = Fill::<SLOTS, NEAREST>::build::<u8>(&members_of(&list));
        let last = NEAREST.min(members.len());
        for (row, built) in slots.rows.iter().zip(built.rows.iter()) {
            assert_eq!(row[..last], built[..last], "nobody has another index in the built ring");
        }
        assert!(fill.has_its_limits(members.len()));
    };
    for (identity, units) in &all[1..] {
        let index = members.join(identity, *units).unwrap();
        fill.join(&mut slots, &members, index);
        check(&members, &fill, &slots);
    }
    members.reweight(2, 3).unwrap();
    fill.raise(&mut slots, &members, 2, 1);
    check(&members, &fill, &slots);
    for leaver in (0..all.len()).rev().take(4) {
        members.leave(leaver).unwrap();
        fill.leave(&mut slots, &members, leaver);
        check(&members, &fill, &slots);
    }
}

#[test]
fn the_slot_tells_nothing_of_the_shard() {
    let ring = SlotRing::<u8, { 1 << 14 }>::new(0, 16, &list("cluster", 4, 16)).unwrap();
    let mut counts = [[0_u32; 4]; 4];
    for hash in key_hashes(160_000) {
        counts[ring.table().owner_of_hash(hash)][crate::home_shard(hash, 4)] += 1;
    }
    for shards in counts {
        let sum: u32 = shards.iter().sum();
        // Standard deviation of each count: about 87.
        assert!(shards.iter().all(|count| count.abs_diff(sum / 4) < 450), "{counts:?}");
    }
}
