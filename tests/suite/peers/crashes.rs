//! Processes that die, stop and come back: how soon the others know, and what they show.

use std::{
    thread,
    time::{Duration, Instant},
};

use croupier::{NodeStanding, testing::LocalCluster};

use super::{
    child::{ChildNode, listed, now_us},
    peer::{Peer, registry, until_agreed},
};
use crate::support::{GUARD, permit, wait_for};

const KIND: &str = "dealer";
/// Instances of each node.
const INSTANCES: usize = 8;
/// Keys that are looked up.
const KEYS: usize = 1000;
/// How often a killed process's peers are looked at.
const LOOK: Duration = Duration::from_micros(100);

/// What a round of a kill took, in microseconds.
struct Round {
    /// From the kill until the last of the others hid the services.
    hidden_us: u64,
    /// From the new node's readiness until the first of the others showed its services.
    back_us: u64,
    /// The same, from the start of the process.
    started_us: u64,
}

/// Kills a process under `beside + 1` others, and starts it again under its name.
fn kill_and_restart(beside: usize, rounds: usize) -> Vec<Round> {
    let _permit = permit(2 + beside);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    stays.offer(KIND, 0..INSTANCES);
    let start = |name: &str| ChildNode::start(&servers, name, 1, Some(stays.address()));
    let mut others: Vec<ChildNode> = (0..beside).map(|other| start(&format!("beside{other}"))).collect();
    let mut falls = start("falls");
    falls.offer(KIND, INSTANCES);
    stays.until_shown(KIND, "falls", INSTANCES);
    others.iter_mut().for_each(|other| other.until_shown(KIND, "falls", INSTANCES));
    let kinds = [KIND.to_owned()];
    let lookups = stays.lookups(&kinds, KEYS);
    let fingerprint = stays.fingerprint(KIND);
    let mut found = Vec::new();
    for _ in 0..rounds {
        others.iter_mut().for_each(|other| other.order(&format!("until {KIND} falls 0")));
        let killed_us = now_us();
        falls.signal(libc::SIGKILL);
        let mut hidden_us = until_count(&stays, "falls", 0);
        for other in &others {
            let told = other.answer();
            hidden_us = hidden_us.max(told.strip_prefix("at ").expect("a time").parse().unwrap());
        }
        assert_ne!(stays.lookups(&kinds, KEYS), lookups, "the keys of the dead lead elsewhere");

        let started_us = now_us();
        falls = start("falls");
        let ready_us = now_us();
        falls.offer(KIND, INSTANCES);
        let back_us = until_count(&stays, "falls", INSTANCES);
        others.iter_mut().for_each(|other| other.until_shown(KIND, "falls", INSTANCES));
        // The same instances under the same names: every key is where it was, on all nodes.
        wait_for("the same keys", || (stays.lookups(&kinds, KEYS) == lookups).then_some(()));
        for other in &mut others {
            assert_eq!(other.ask(&format!("fingerprint {KIND}")), listed(&[fingerprint]));
        }
        found.push(Round {
            hidden_us: hidden_us - killed_us,
            back_us: back_us.saturating_sub(ready_us),
            started_us: back_us - started_us,
        });
    }
    let stats = stays.stats();
    assert_eq!((stats.name_conflicts, stats.refused_violation, stats.refused_frame), (0, 0, 0), "{stats:?}");
    falls.leave();
    stays.end();
    found
}

/// Waits until a node has so many instances, and tells when it was so.
fn until_count(peer: &Peer, node: &str, count: usize) -> u64 {
    let deadline = Instant::now() + GUARD;
    while peer.count_of(KIND, node) != count {
        assert!(Instant::now() < deadline, "waited {GUARD:?} for {count} instances of {node}");
        thread::sleep(LOOK);
    }
    now_us()
}

fn report(what: &str, rounds: &[Round]) {
    let figures = |of: fn(&Round) -> u64| {
        let mut all: Vec<u64> = rounds.iter().map(of).collect();
        all.sort_unstable();
        format!(
            "p50 {:.1} ms, max {:.1} ms",
            all[all.len() / 2] as f64 / 1e3,
            all[all.len() - 1] as f64 / 1e3
        )
    };
    println!("{what}, {} rounds", rounds.len());
    println!("  kill -9 until hidden on all: {}", figures(|round| round.hidden_us));
    println!("  restarted node ready until shown: {}", figures(|round| round.back_us));
    println!("  process start until shown: {}", figures(|round| round.started_us));
}

#[test]
fn the_services_of_a_killed_process_are_gone_and_come_back_with_it_between_two() {
    report("two processes", &kill_and_restart(0, 3));
}

#[test]
fn the_services_of_a_killed_process_are_gone_and_come_back_with_it_among_three() {
    report("three processes", &kill_and_restart(1, 3));
}

#[test]
#[ignore = "a campaign whose figures are for a report"]
fn twenty_kills_between_two_and_among_three() {
    report("two processes", &kill_and_restart(0, 20));
    report("three processes", &kill_and_restart(1, 20));
}

/// Stops a process, changes things meanwhile, and lets it go on. Returns how long it took until it was
/// hidden, and until it was back.
fn stop_and_go_on() -> (Duration, Duration) {
    let _permit = permit(3);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    stays.offer(KIND, 0..INSTANCES);
    let seed = Some(stays.address());
    let mut beside = ChildNode::start(&servers, "beside", 1, seed);
    let mut sleeps = ChildNode::start(&servers, "sleeps", 1, seed);
    sleeps.offer(KIND, INSTANCES);
    let record = stays.record(KIND);
    stays.until_shown(KIND, "sleeps", INSTANCES);
    beside.until_shown(KIND, "sleeps", INSTANCES);
    sleeps.until_shown(KIND, "stays", INSTANCES);
    assert_eq!(sleeps.ask(&format!("record {KIND}")), "done");

    // Removed at the last moment: it depends on the kernel whether the others still hear of it.
    assert_eq!(sleeps.ask(&format!("remove {KIND} sleeps i0")), "done");
    sleeps.signal(libc::SIGSTOP);
    let stopped = Instant::now();
    stays.until_shown(KIND, "sleeps", 0);
    let hidden = stopped.elapsed();
    beside.until_shown(KIND, "sleeps", 0);
    stays.until_standing("sleeps", Some(NodeStanding::Down));
    assert_eq!(stays.standing("beside"), Some(NodeStanding::Up));
    let seen_before = record.notes().len();
    stays.remove(KIND, "stays", "i1");
    stays.offer(KIND, INSTANCES..INSTANCES + 1);

    let goes_on = Instant::now();
    sleeps.signal(libc::SIGCONT);
    stays.until_shown(KIND, "sleeps", INSTANCES - 1);
    let back = goes_on.elapsed();
    beside.until_shown(KIND, "sleeps", INSTANCES - 1);
    sleeps.until_shown(KIND, "stays", INSTANCES);
    let fingerprint = listed(&[stays.fingerprint(KIND)]);
    for other in [&mut beside, &mut sleeps] {
        let order = format!("fingerprint {KIND}");
        wait_for("the same keys", || (other.ask(&order) == fingerprint).then_some(()));
    }
    // Nothing that was removed was seen again by anybody who knew.
    let notes = record.notes().split_off(seen_before);
    assert!(notes.iter().all(|note| note.id != "i0" || note.node != "sleeps"), "{notes:?}");
    assert!(notes.iter().any(|note| note.what == "joined" && note.node == "sleeps" && note.id == "i1"));
    let seen_there = sleeps.ask("recorded");
    let ends = seen_there.rfind("left stays i1").expect("it learns of the removal");
    assert!(!seen_there[ends..].contains("joined stays i1"), "{seen_there}");
    assert!(seen_there.contains(&format!("joined stays i{INSTANCES}")), "{seen_there}");
    assert!(!seen_there.contains("joined sleeps i0"), "{seen_there}");
    sleeps.leave();
    stays.until_standing("sleeps", None);
    stays.end();
    (hidden, back)
}

#[test]
fn a_stopped_process_is_hidden_and_comes_back_without_what_was_removed() {
    let (hidden, back) = stop_and_go_on();
    println!("SIGSTOP until hidden: {hidden:?}; SIGCONT until shown: {back:?}");
}

#[test]
#[ignore = "a campaign whose figures are for a report"]
fn twenty_stops() {
    let mut times: Vec<_> = (0..20).map(|_| stop_and_go_on()).collect();
    times.sort_unstable();
    println!("SIGSTOP until hidden: p50 {:?}, max {:?}", times[10].0, times[19].0);
    times.sort_unstable_by_key(|(_, back)| *back);
    println!("SIGCONT until shown: p50 {:?}, max {:?}", times[10].1, times[19].1);
}

#[test]
fn a_process_that_stops_for_less_than_the_suspicion_lasts_is_never_hidden() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    let mut sleeps = ChildNode::start(&servers, "sleeps", 1, Some(stays.address()));
    sleeps.offer(KIND, INSTANCES);
    stays.until_shown(KIND, "sleeps", INSTANCES);
    let record = stays.record(KIND);
    for _ in 0..3 {
        sleeps.signal(libc::SIGSTOP);
        // Long enough to be suspected after a second at times, too short to be found gone after two.
        thread::sleep(Duration::from_millis(400));
        sleeps.signal(libc::SIGCONT);
        // It lives: it answers.
        sleeps.until_shown(KIND, "sleeps", INSTANCES);
    }
    assert_eq!(record.count("left", "sleeps"), 0, "{:?}", record.notes());
    assert_eq!(stays.count_of(KIND, "sleeps"), INSTANCES);
    sleeps.leave();
    stays.end();
}

#[test]
fn a_process_that_is_killed_while_it_adds_leaves_nothing_and_its_next_life_everything() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    let other = Peer::start(servers.builder(), "other", 1, registry().seed(stays.address()));
    for life in 0..3 {
        let mut falls = ChildNode::start(&servers, "falls", 1, Some(stays.address()));
        falls.order(&format!("offer {KIND} 5000"));
        wait_for("the first of them", || (stays.count_of(KIND, "falls") > life * 50).then_some(()));
        falls.signal(libc::SIGKILL);
        stays.until_shown(KIND, "falls", 0);
        other.until_shown(KIND, "falls", 0);
    }
    let mut falls = ChildNode::start(&servers, "falls", 1, Some(stays.address()));
    falls.offer(KIND, 20);
    stays.until_shown(KIND, "falls", 20);
    until_agreed(&[&stays, &other], &[KIND]);
    falls.leave();
    stays.end();
    other.end();
}
