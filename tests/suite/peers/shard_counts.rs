//! Nodes with one, two and four shards: the same services and the same keys, on every shard.

use std::collections::BTreeSet;

use croupier::testing::LocalCluster;

use super::{
    child::{ChildNode, kinds, listed},
    peer::{Peer, registry},
};
use crate::support::{permit, wait_for};

const STEM: &str = "kind";
const KINDS: usize = 300;
const KEYS: usize = 1000;
/// All shards that tests may have: the third node has as many beside them, in a process of its own.
const ALL: usize = 6;

/// Waits until all three show the same of every type, and compares what becomes of the keys on every shard.
fn agree(one: &Peer, two: &Peer, four: &mut ChildNode, names: &[String]) {
    wait_for("the fingerprints to be the same", || {
        let first: Vec<u64> = names.iter().map(|kind| one.fingerprint(kind)).collect();
        let second: Vec<u64> = names.iter().map(|kind| two.fingerprint(kind)).collect();
        (first == second && four.ask(&format!("fingerprints {STEM} {KINDS}")) == listed(&first)).then_some(())
    });
    // Every shard has its own copy, and gets it by itself.
    wait_for("the keys to be the same", || {
        let mut lookups = one.lookups(names, KEYS);
        lookups.extend(two.lookups(names, KEYS));
        let mut found: BTreeSet<String> = lookups.iter().map(|hash| format!("{hash:x}")).collect();
        let there = four.ask(&format!("lookups {STEM} {KINDS} {KEYS}"));
        assert_eq!(there.split(',').count(), 4, "{there}");
        found.extend(there.split(',').map(str::to_owned));
        (found.len() == 1).then_some(())
    });
}

#[test]
fn nodes_with_one_two_and_four_shards_show_the_same_and_choose_the_same() {
    let _permit = permit(ALL);
    let servers = LocalCluster::start(1).unwrap();
    let names = kinds(STEM, KINDS);
    let one = Peer::start(servers.builder(), "one", 1, registry());
    for (number, kind) in names.iter().enumerate() {
        one.offer_each(kind, (0..2).map(|id| (format!("i{id}"), 1 + (number + id) as u8 % 8)).collect());
    }
    let two = Peer::start(servers.builder(), "two", 2, registry().seed(one.address()));
    let mut four = ChildNode::start(&servers, "four", 4, Some(two.address()));
    // Some come while the others join, some before, some after.
    assert_eq!(four.ask(&format!("offer-kinds {STEM} {KINDS} 3")), "done");
    for kind in names.iter().step_by(3) {
        two.offer(kind, 0..4);
    }
    for (at, kind) in names.iter().enumerate() {
        let of_two = if at % 3 == 0 { 4 } else { 0 };
        for peer in [&one, &two] {
            peer.until_shown(kind, "one", 2);
            peer.until_shown(kind, "two", of_two);
            peer.until_shown(kind, "four", 3);
        }
    }
    agree(&one, &two, &mut four, &names);

    // By command, from every node, and by the owner.
    for kind in names.iter().step_by(5) {
        one.remove(kind, "four", "i1");
        two.remove(kind, "one", "i0");
    }
    for kind in names.iter().step_by(9) {
        assert_eq!(four.ask(&format!("remove {kind} two i3")), "done");
        two.remove(kind, "two", "i0");
    }
    for (at, kind) in names.iter().enumerate() {
        for peer in [&one, &two] {
            peer.until_shown(kind, "one", if at % 5 == 0 { 1 } else { 2 });
            peer.until_shown(kind, "four", if at % 5 == 0 { 2 } else { 3 });
            peer.until_shown(
                kind,
                "two",
                if at % 9 == 0 {
                    2
                } else if at % 3 == 0 {
                    4
                } else {
                    0
                },
            );
        }
    }
    agree(&one, &two, &mut four, &names);

    // A node that leaves takes its own with it, and no others.
    two.end();
    for (at, kind) in names.iter().enumerate() {
        one.until_shown(kind, "two", 0);
        assert_eq!(one.count_of(kind, "one"), if at % 5 == 0 { 1 } else { 2 });
    }
    let prints: Vec<u64> = names.iter().map(|kind| one.fingerprint(kind)).collect();
    wait_for("the fingerprints to be the same", || {
        (four.ask(&format!("fingerprints {STEM} {KINDS}")) == listed(&prints)).then_some(())
    });
    four.leave();
    one.end();
}
