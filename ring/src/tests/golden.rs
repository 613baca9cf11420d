//! Values that no version may change: they would move every topic.

use xxhash_rust::xxh3::xxh3_64;

use super::{list, service_ring};
use crate::distinct::RowOwner;
use crate::slots::SlotRing;
use crate::{CLUSTER_UNITS, ClusterRing, ClusterSlots, RingClass};

/// Hash of the owner indexes as little-endian u16, in order of slot.
fn owners_hash<O: RowOwner, const SLOTS: usize>(members: usize) -> u64 {
    let ring = SlotRing::<O, SLOTS>::new(0, CLUSTER_UNITS, &list("cluster", members, CLUSTER_UNITS)).unwrap();
    let bits = SLOTS.trailing_zeros();
    let owners = (0..SLOTS as u64).map(|slot| ring.table().owner_of_hash(slot << (64 - bits)) as u16);
    xxh3_64(&owners.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
}

#[test]
fn three_clusters_in_2_to_12_slots() {
    assert_eq!(owners_hash::<u16, { 1 << 12 }>(3), 0x83ea_2b34_e881_b05c);
}

#[test]
fn five_clusters_in_2_to_12_slots() {
    assert_eq!(owners_hash::<u16, { 1 << 12 }>(5), 0xc560_74cb_aee0_7c07);
}

#[test]
fn sixteen_clusters_in_2_to_14_slots() {
    assert_eq!(owners_hash::<u8, { 1 << 14 }>(16), 0xf42a_d0fa_064c_8d27);
}

#[test]
fn two_hundred_and_fifty_six_clusters_in_2_to_16_slots() {
    assert_eq!(owners_hash::<u8, { 1 << 16 }>(256), 0x5bc6_3a58_3724_9e1a);
}

#[test]
fn fingerprints_of_each_class() {
    let clusters = |members, slots| {
        let builder = ClusterRing::builder().slots(slots).seed(7);
        let members = list("cluster", members, CLUSTER_UNITS);
        members.iter().fold(builder, |builder, (name, units)| builder.member(name, *units)).build().unwrap()
    };
    let service = |class| service_ring(class, &list("instance", 3000, 1)).unwrap().fingerprint();
    let fingerprints = [
        clusters(3, ClusterSlots::ByMembers).fingerprint(),
        clusters(100, ClusterSlots::ByMembers).fingerprint(),
        service(RingClass::Small),
        service(RingClass::Medium),
        service(RingClass::Large14),
        service(RingClass::Large17),
        service(RingClass::Large20),
    ];
    assert_eq!(fingerprints.map(|fingerprint| format!("{fingerprint:016x}")), FINGERPRINTS);
}

/// Frozen with the first version of this crate.
const FINGERPRINTS: [&str; 7] = [
    "a7e64e7193bba5a4",
    "71d4e9ccb06c019b",
    "d7b9de9f8e5f3645",
    "113d386f2d2b68c4",
    "5f0fe72b749210fa",
    "cdabfc6f8000a97b",
    "a99e3952cd497974",
];
