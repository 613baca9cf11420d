//! Properties of rings of clusters: shares, moves, faults of the ancestor, errors.

use proptest::prelude::*;

use super::{List, key_hashes, list, play, strategy};
use crate::{
    CLUSTER_UNITS, CLUSTER_UNITS_MAX, CLUSTERS_MAX, ClusterRing, ClusterRingBuilder, ClusterSlots, RingError,
    RingMode, cluster_units, hash_key,
};

fn builder(list: &List) -> ClusterRingBuilder {
    list.iter().fold(ClusterRing::builder(), |builder, (identity, units)| builder.member(identity, *units))
}

fn ring(list: &List) -> ClusterRing {
    builder(list).build().unwrap()
}

/// The slots of each member, by a key for each slot of the wide table.
fn slots_of(ring: &ClusterRing) -> Vec<u32> {
    let mut counts = vec![0; ring.len()];
    for slot in 0..1_u64 << 16 {
        counts[ring.owner_of_hash(slot << 48)] += 1;
    }
    counts
}

/// Root mean square of the members' deviations from their share, relative to it.
fn deviation(ring: &ClusterRing) -> f64 {
    let units: u32 = ring.members().map(|(_, member)| member.units()).sum();
    let squares = slots_of(ring).into_iter().zip(ring.members()).map(|(slots, (_, member))| {
        let share = f64::from(member.units()) / f64::from(units);
        (f64::from(slots) / f64::from(1 << 16) / share - 1.0).powi(2)
    });
    (squares.sum::<f64>() / ring.len() as f64).sqrt()
}

/// `sqrt(N / 2S)` holds for members of one weight. The mean is over seeds, so that one lucky ring proves nothing.
#[test]
fn shares_deviate_by_at_most_1_15_of_the_expected() {
    for (members, slots, slots_count) in [
        (3, ClusterSlots::Narrow, 1 << 14),
        (16, ClusterSlots::Narrow, 1 << 14),
        (64, ClusterSlots::Narrow, 1 << 14),
        (256, ClusterSlots::Narrow, 1 << 14),
        (256, ClusterSlots::Wide, 1 << 16),
    ] {
        let seeds = if members < 16 { 40 } else { 8 };
        let squares = (0..seeds).map(|seed| {
            let builder = builder(&list("cluster", members, CLUSTER_UNITS)).slots(slots).seed(seed);
            deviation(&builder.build().unwrap()).powi(2)
        });
        let measured = (squares.sum::<f64>() / seeds as f64).sqrt();
        let expected = (members as f64 / (2.0 * f64::from(slots_count))).sqrt();
        assert!(measured <= 1.15 * expected, "{members} members: {measured} against {expected}");
    }
}

#[test]
fn shares_follow_weights() {
    let mut members = list("light", 10, 8);
    members.extend(list("plain", 10, 16));
    members.extend(list("heavy", 10, 64));
    let slots = slots_of(&ring(&members));
    let total = f64::from(10 * (8 + 16 + 64));
    for (group, units) in slots.chunks(10).zip([8.0, 16.0, 64.0]) {
        let share = f64::from(group.iter().sum::<u32>()) / 65536.0;
        let expected = 10.0 * units / total;
        assert!((share / expected - 1.0).abs() < 0.05, "{share} against {expected}");
    }
}

/// R8: there, one of 20 clusters gets 11 % of its share.
#[test]
fn of_twenty_clusters_named_by_numbers_none_is_far_below_its_share() {
    let members: List = (0..20).map(|name: u32| (name.to_string().into_bytes().into(), 16)).collect();
    let share = 65536 / 20;
    for slots in slots_of(&ring(&members)) {
        assert!((share * 9 / 10..=share * 11 / 10).contains(&slots), "{slots} against {share}");
    }
}

/// R18: there, nearly all topics move.
#[test]
fn a_cluster_put_in_at_the_front_moves_only_what_it_takes() {
    let behind = list("cluster", 4, CLUSTER_UNITS);
    let mut all: List = vec![(Box::from(*b"front"), CLUSTER_UNITS)];
    all.extend(behind.iter().cloned());
    let (before, after) = (ring(&behind), ring(&all));
    let mut moved = 0;
    for hash in key_hashes(50_000) {
        let owner = after.owner_of_hash(hash);
        if owner == 0 {
            moved += 1;
        } else {
            assert_eq!(owner, before.owner_of_hash(hash) + 1);
        }
    }
    // A fifth.
    assert!((9_000..11_000).contains(&moved), "{moved}");
}

#[test]
fn one_and_two_clusters_work() {
    let one = ring(&list("cluster", 1, 1));
    let two = ring(&list("cluster", 2, CLUSTER_UNITS));
    let mut counts = [0; 2];
    for hash in key_hashes(10_000) {
        assert_eq!(one.owner_of_hash(hash), 0);
        counts[two.owner_of_hash(hash)] += 1;
    }
    assert_eq!(one.owners(b"key", 3).collect::<Vec<_>>(), [0]);
    assert_eq!(two.owners(b"key", 3).count(), 2);
    assert!(counts.iter().all(|count| (4_600..5_400).contains(count)), "{counts:?}");
}

#[test]
fn the_table_answers_as_the_ring() {
    for members in [1, 3, 64, 65, 256] {
        let ring = ring(&list("cluster", members, CLUSTER_UNITS));
        let table = ring.table();
        assert_eq!((table.len(), table.mode()), (members, RingMode::Croupier));
        assert_eq!(table.fingerprint(), ring.fingerprint());
        for key in 0_u32..2000 {
            let key = key.to_le_bytes();
            let owner = ring.owner(&key);
            assert_eq!(table.owner(&key), owner);
            assert_eq!(table.owner_hashed(&key, hash_key(&key)), owner);
            assert!(table.owners(&key, 6).eq(ring.owners(&key, 6)));
            assert_eq!(table.owners(&key, 1).next(), Some(owner));
        }
    }
}

#[test]
fn the_65th_cluster_brings_the_wide_table_and_keeps_the_indexes() {
    let mut ring = ring(&list("cluster", 64, CLUSTER_UNITS));
    ring.leave(5).unwrap();
    let narrow = ring.clone();
    assert_eq!(ring.join("late", CLUSTER_UNITS), Ok(5));
    assert_eq!(ring.join("later", CLUSTER_UNITS), Ok(64));
    let mut members = list("cluster", 64, CLUSTER_UNITS);
    members.extend([(Box::from(*b"later"), CLUSTER_UNITS), (Box::from(*b"late"), CLUSTER_UNITS)]);
    members.remove(5);
    assert_eq!(ring.fingerprint(), self::ring(&members).fingerprint());
    assert_eq!(ring.index_of(b"later"), Some(64));
    ring.leave(64).unwrap();
    ring.leave(5).unwrap();
    assert_eq!(ring.fingerprint(), narrow.fingerprint());
}

#[test]
fn roulette_mode_is_chosen_at_build() {
    let three = list("cluster", 3, CLUSTER_UNITS);
    let table = builder(&three).mode(RingMode::Roulette).build_table().unwrap();
    let owners: Vec<usize> = (1..=7).map(|number| table.owner(format!("topic{number}").as_bytes())).collect();
    assert_eq!(owners, [0, 2, 2, 1, 1, 1, 0]);
    assert_eq!(table.owner_hashed(b"topic2", hash_key(b"topic2")), 2);
    assert_eq!(table.owners(b"topic1", 5).count(), 3);
    assert_eq!((table.mode(), table.len()), (RingMode::Roulette, 3));
    let error = builder(&three).member("heavy", 32).mode(RingMode::Roulette).build_table().unwrap_err();
    assert_eq!(error, RingError::RouletteWeight { identity: Box::from(*b"heavy"), units: 32 });
}

#[test]
fn what_cannot_be_a_ring_is_refused_with_its_numbers() {
    let check = |list: &List, expected: RingError| assert_eq!(builder(list).build().unwrap_err(), expected);
    let three = list("cluster", 3, CLUSTER_UNITS);
    let with = |identity: &[u8], units| {
        let mut members = three.clone();
        members.push((identity.into(), units));
        members
    };
    let identity = || Box::from(*b"cluster-1");
    check(&List::new(), RingError::NoMembers);
    check(&with(b"cluster-1", 1), RingError::DuplicateIdentity { identity: identity() });
    check(&with(b"", 1), RingError::EmptyIdentity);
    check(&with(b"x", 0), RingError::ZeroWeight { identity: Box::from(*b"x") });
    let (units, units_max) = (CLUSTER_UNITS_MAX + 1, CLUSTER_UNITS_MAX);
    check(&with(b"x", units), RingError::WeightTooLarge { identity: Box::from(*b"x"), units, units_max });
    check(&list("c", 257, 1), RingError::TooManyMembers { members: 257, members_max: CLUSTERS_MAX });

    let mut ring = ring(&three);
    let before = ring.fingerprint();
    assert_eq!(ring.join(b"cluster-1", 1), Err(RingError::DuplicateIdentity { identity: identity() }));
    assert_eq!(ring.join(b"x", 0), Err(RingError::ZeroWeight { identity: Box::from(*b"x") }));
    assert_eq!(ring.leave(3), Err(RingError::UnknownMember { index: 3 }));
    assert_eq!(ring.reweight(3, 1), Err(RingError::UnknownMember { index: 3 }));
    assert_eq!(ring.reweight(1, 0), Err(RingError::ZeroWeight { identity: identity() }));
    assert_eq!(ring.fingerprint(), before);
    ring.leave(0).unwrap();
    ring.leave(1).unwrap();
    assert_eq!(ring.leave(2), Err(RingError::NoMembers));
}

#[test]
fn weights_become_sixteenths() {
    for (weight, units) in [
        (1.0, Some(16)),
        (0.5, Some(8)),
        (0.0625, Some(1)),
        (1.51, Some(24)),
        (64.0, Some(1024)),
        (0.0, None),
        (0.03, None),
        (64.1, None),
        (-1.0, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ] {
        assert_eq!(cluster_units(weight), units, "{weight}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn incremental_equals_full(
        start in strategy::members(1..8, 64),
        history in strategy::history(8, 64),
    ) {
        let mut ring = ring(&start);
        let join = |ring: &mut ClusterRing, identity: &[u8], units| ring.join(identity, units);
        let end = play(&mut ring, &start, &history, join, ClusterRing::leave, ClusterRing::reweight);
        let built = self::ring(&end);
        prop_assert_eq!(ring.fingerprint(), built.fingerprint());
        prop_assert_eq!(ring.len(), built.len());
        for (index, member) in ring.members() {
            prop_assert_eq!(ring.index_of(member.identity()), Some(index));
        }
    }
}
