//! Links between live nodes that are cut: they open again, nothing is lost, and nobody is hidden.

use std::{collections::HashMap, thread, time::Duration};

use croupier::{NodeStanding, testing::LocalCluster};

use super::{
    peer::{Peer, Record, registry, until_agreed},
    peer_proxy::PeerProxy,
};
use crate::support::{permit, wait_for};

const KIND: &str = "dealer";

/// Two nodes that reach each other only by way of proxies.
struct Pair {
    proxies: [PeerProxy; 2],
    peers: [Peer; 2],
    records: [Record; 2],
}

impl Pair {
    fn start(servers: &LocalCluster, shards: usize) -> Pair {
        let proxies = [PeerProxy::start(), PeerProxy::start()];
        let left = Peer::start(servers.builder(), "left", shards, registry().advertise(proxies[0].address()));
        proxies[0].leads_to(left.address());
        let seeded = registry().advertise(proxies[1].address()).seed(proxies[0].address());
        let right = Peer::start(servers.builder(), "right", shards, seeded);
        proxies[1].leads_to(right.address());
        left.offer(KIND, 0..20);
        right.offer(KIND, 0..20);
        left.until_shown(KIND, "right", 20);
        right.until_shown(KIND, "left", 20);
        let records = [left.record(KIND), right.record(KIND)];
        Pair { proxies, peers: [left, right], records }
    }

    fn until_up(&self) {
        self.peers[0].until_standing("right", Some(NodeStanding::Up));
        self.peers[1].until_standing("left", Some(NodeStanding::Up));
    }

    /// Links that closed, as both count them.
    fn closed(&self) -> u64 {
        self.peers.iter().map(|peer| peer.stats().links_closed).sum()
    }

    /// Asserts that nobody's services were ever hidden.
    fn nobody_was_hidden(&self) {
        for (record, node) in self.records.iter().zip(["right", "left"]) {
            assert_eq!(record.count("left", node), 0, "{:?}", record.notes());
        }
    }

    fn end(self) {
        let counts = self.peers.each_ref().map(Peer::stats);
        println!(
            "links opened {} and {}, closed {} and {}",
            counts[0].links_opened, counts[1].links_opened, counts[0].links_closed, counts[1].links_closed
        );
        for stats in counts {
            assert_eq!((stats.refused_frame, stats.refused_violation), (0, 0), "{stats:?}");
            assert_eq!((stats.refused_channel, stats.name_conflicts), (0, 0), "{stats:?}");
        }
        self.peers.into_iter().for_each(Peer::end);
    }
}

#[test]
fn a_link_that_is_cut_opens_again_and_nobody_is_hidden() {
    let _permit = permit(4);
    let servers = LocalCluster::start(1).unwrap();
    let pair = Pair::start(&servers, 2);
    for round in 1..=5 {
        let before = pair.peers.each_ref().map(Peer::stats);
        pair.proxies.iter().for_each(PeerProxy::cut);
        for (peer, before) in pair.peers.iter().zip(&before) {
            wait_for("the cut to be seen and mended", || {
                let now = peer.stats();
                let is_mended =
                    now.links_opened > before.links_opened && now.links_opened - now.links_closed == 1;
                (now.links_closed > before.links_closed && is_mended).then_some(())
            });
        }
        pair.until_up();
        pair.peers[0].offer(KIND, 20 * round..20 * (round + 1));
        pair.peers[1].until_shown(KIND, "left", 20 * (round + 1));
        assert!(pair.peers[1].handle().get_services(KIND).iter().all(|service| service.is_online()));
    }
    wait_for("nobody to be suspected", || {
        let mut services = pair.peers.iter().flat_map(|peer| peer.handle().get_services(KIND));
        services.all(|service| !service.is_suspect()).then_some(())
    });
    until_agreed(&[&pair.peers[0], &pair.peers[1]], &[KIND]);
    pair.nobody_was_hidden();
    pair.end();
}

#[test]
fn cuts_at_any_byte_lose_nothing_and_repeat_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let pair = Pair::start(&servers, 1);
    let [left, right] = &pair.peers;
    for round in 1..=12 {
        // Within the frames of the changes below, or within what follows an earlier cut.
        for proxy in &pair.proxies {
            proxy.cut_after(chance.u32(1..4000));
        }
        left.offer(KIND, 20 * round..20 * (round + 1));
        right.offer(KIND, 20 * round..20 * (round + 1));
        left.remove(KIND, "left", &format!("i{}", 20 * round - 1));
        // It may fall into a greeting, so that no open link is counted as closed.
        wait_for("a cut", || pair.proxies.iter().any(|proxy| !proxy.is_to_cut()).then_some(()));
        left.until_shown(KIND, "right", 20 * (round + 1));
        right.until_shown(KIND, "left", 20 * (round + 1) - round);
    }
    pair.until_up();
    assert!(pair.closed() >= 2, "no open link was cut");
    until_agreed(&[left, right], &[KIND]);
    // A cut in each greeting of a second hides a node for a moment, and that is told, too: of each service in turn.
    assert_eq!(told_in_turn(&pair.records[1], "left"), (248, 12));
    assert_eq!(told_in_turn(&pair.records[0], "right"), (260, 0));
    pair.end();
}

/// How many services of a node that came are there at the end, and how many are not. Asserts that none is told to have
/// come while it was there, or to have gone while it was not.
fn told_in_turn(record: &Record, node: &str) -> (usize, usize) {
    let mut is_there: HashMap<String, bool> = (0..20).map(|old| (format!("i{old}"), true)).collect();
    let notes = record.notes();
    for note in notes.iter().filter(|note| note.node == node) {
        let is_there = is_there.entry(note.id.clone()).or_default();
        match note.what {
            "joined" | "left" => {
                assert_ne!(*is_there, note.what == "joined", "{}: {notes:?}", note.id);
                *is_there = note.what == "joined";
            }
            _ => {}
        }
    }
    let there = is_there.values().filter(|is_there| **is_there).count();
    (there, is_there.len() - there)
}

#[test]
fn a_split_hides_both_sides_and_its_end_shows_them_with_what_changed_meanwhile() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let pair = Pair::start(&servers, 1);
    let [left, right] = &pair.peers;
    // Connections still open, and end at once.
    let nowhere = "127.0.0.1:9".parse().unwrap();
    pair.proxies.iter().for_each(|proxy| proxy.leads_to(nowhere));
    pair.proxies.iter().for_each(PeerProxy::cut);
    left.until_shown(KIND, "right", 0);
    right.until_shown(KIND, "left", 0);
    assert_eq!((left.count_of(KIND, "left"), right.count_of(KIND, "right")), (20, 20));
    left.remove(KIND, "left", "i3");
    right.offer(KIND, 20..30);
    let seen = [pair.records[0].notes().len(), pair.records[1].notes().len()];
    // Long enough for some dials that lead nowhere.
    let failed = left.stats().dials_failed;
    wait_for("dials to fail", || (left.stats().dials_failed > failed + 1).then_some(()));
    for (proxy, peer) in pair.proxies.iter().zip(&pair.peers) {
        proxy.leads_to(peer.address());
    }
    left.until_shown(KIND, "right", 30);
    right.until_shown(KIND, "left", 19);
    until_agreed(&[left, right], &[KIND]);
    // What was removed was not shown for a moment either.
    let after = pair.records[1].notes().split_off(seen[1]);
    assert!(after.iter().all(|note| note.node != "left" || note.id != "i3"), "{after:?}");
    pair.until_up();
    pair.end();
}

#[test]
fn a_proxy_that_cuts_every_link_at_once_for_a_while_lets_go_in_the_end() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let pair = Pair::start(&servers, 1);
    for _ in 0..40 {
        pair.proxies.iter().for_each(PeerProxy::cut);
        thread::sleep(Duration::from_millis(10));
    }
    pair.until_up();
    pair.peers[0].offer(KIND, 20..25);
    pair.peers[1].until_shown(KIND, "left", 25);
    pair.peers[0].until_shown(KIND, "right", 20);
    let dialled: usize = pair.proxies.iter().map(PeerProxy::connections).sum();
    println!("{dialled} connections for 40 cuts");
    until_agreed(&[&pair.peers[0], &pair.peers[1]], &[KIND]);
    pair.end();
}
