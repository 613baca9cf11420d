//! One million lookups or bare hashes, to be counted by callgrind or `perf stat`.
//!
//! `instructions bare|cluster|distinct|service [rounds]`; subtract the count of 0 rounds and divide by the lookups.

use std::hint::black_box;

use croupier_ring::{CLUSTER_UNITS, ClusterRing, RingClass, ServiceRing, hash_key};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "cluster".to_owned());
    let rounds: usize = arguments.next().map_or(100, |rounds| rounds.parse().expect("rounds are a number"));
    let keys: Vec<[u8; 18]> = (0..10_000)
        .map(|key| format!("room.{key:08}.chat").into_bytes().try_into().expect("the key has 18 bytes"))
        .collect();
    let clusters = (0..16).fold(ClusterRing::builder(), |builder, number| {
        builder.member(format!("cluster-{number}"), CLUSTER_UNITS)
    });
    let clusters = clusters.build().expect("the members are a ring").table();
    let instances = (0..100).fold(ServiceRing::builder(RingClass::Small), |builder, number| {
        builder.member(format!("instance-{number}"), 1)
    });
    let instances = instances.build().expect("the members are a ring").table();
    let sum = match what.as_str() {
        "bare" => run(&keys, rounds, |key| hash_key(key) as usize),
        "cluster" => run(&keys, rounds, |key| clusters.owner(key)),
        "distinct" => run(&keys, rounds, |key| clusters.owners(key, 3).sum()),
        "service" => run(&keys, rounds, |key| instances.owner(key)),
        other => panic!("{other} is not bare, cluster, distinct or service"),
    };
    println!("{what}: {} lookups, sum {sum}", rounds * keys.len());
}

#[inline(never)]
fn run(keys: &[[u8; 18]], rounds: usize, answer: impl Fn(&[u8]) -> usize) -> usize {
    let mut sum = 0_usize;
    for _ in 0..rounds {
        for key in keys {
            sum = sum.wrapping_add(answer(black_box(&key[..])));
        }
    }
    sum
}
