//! Strangers at the door of a node with a secret: who lacks it is told nothing, and nothing plays again.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use croupier::{NodeStanding, RegistryConfig};

use super::{
    peer::{CLUSTER, Peer, registry, until_agreed},
    peer_proxy::PeerProxy,
    raw_peer::{RawPeer, hello},
    siege::{Refused, Siege},
};
use crate::support::{GUARD, permit, wait_for};
use croupier::testing::LocalCluster;

const SECRET: &str = "the house always wins";
const NOTHING: Refused = Refused { channel: 0, hello_timeout: 0, other_cluster: 0, frame: 0, violation: 0 };
const ONE_CHANNEL: Refused = Refused { channel: 1, ..NOTHING };
const ONE_TIMEOUT: Refused = Refused { hello_timeout: 1, ..NOTHING };
/// The first message of a handshake, with its length.
const HANDSHAKE_BYTES: usize = 50;

fn keyed() -> RegistryConfig {
    registry().secret(SECRET)
}

/// Sends bytes, and returns what the node says until it closes the connection.
fn play(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    // A node that has had enough may not take them all, and may end the connection by a reset.
    let _refused = stream.write_all(bytes);
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the node keeps the connection");
    }
    said
}

#[test]
fn who_has_no_secret_is_refused_and_told_nothing() {
    let siege = Siege::begin(keyed);
    let said = siege.withstands("a plain Hello", ONE_CHANNEL, 0, |address| {
        let mut stranger = RawPeer::connect(address);
        let bytes = stranger.frame_bytes(&croupier_registry::wire::v1::Frame::Hello(hello("friend")));
        play(address, &bytes)
    });
    assert!(said.is_empty(), "{} bytes were said to a stranger", said.len());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    for round in 0..20 {
        let mut noise: Vec<u8> = (0..4096).map(|_| chance.u8(..)).collect();
        if round % 2 == 0 {
            // It looks like a handshake.
            noise[..2].copy_from_slice(&[0, 48]);
        }
        let said = siege.withstands("noise", ONE_CHANNEL, 0, |address| play(address, &noise));
        assert!(said.is_empty(), "{} bytes were said to a stranger", said.len());
    }
    for bytes in [&[][..], &[0], &[0, 48], &[0, 48, 1, 2, 3]] {
        let said = siege.withstands("a part of a handshake", ONE_TIMEOUT, 0, |address| play(address, bytes));
        assert!(said.is_empty(), "{} bytes were said to a stranger", said.len());
    }
    siege.lifted();
}

#[test]
fn nodes_without_the_secret_or_of_another_cluster_never_join() {
    let siege = Siege::begin(keyed);
    let seeded = |registry: RegistryConfig| registry.bind("127.0.0.1:0").seed(siege.address());
    let strangers = [
        ("another secret", seeded(RegistryConfig::new(CLUSTER).secret("the house never wins"))),
        ("no secret", seeded(RegistryConfig::new(CLUSTER))),
        ("another cluster", seeded(RegistryConfig::new("roadhouse").secret(SECRET))),
    ];
    for (what, registry) in strangers {
        let before = siege.victim().stats();
        let stranger = Peer::start(siege.servers().builder(), "stranger", 1, registry);
        stranger.offer("dealer", 0..3);
        let refused = |stats: croupier::RegistryStats| (stats.refused_channel, stats.refused_other_cluster);
        // It tries again and again.
        wait_for(&format!("refusals of {what}"), || {
            let (channel, other_cluster) = refused(siege.victim().stats());
            let (channel_before, other_before) = refused(before.clone());
            let (channel, other) = (channel - channel_before, other_cluster - other_before);
            let is_other = what == "another cluster";
            assert!(if is_other { channel == 0 } else { other == 0 }, "{what}: {channel} {other}");
            (channel.max(other) >= 3).then_some(())
        });
        assert_eq!(siege.victim().standing("stranger"), None, "{what}");
        assert_eq!(stranger.standing("victim"), None, "{what}");
        assert_eq!(stranger.instances("dealer").len(), 3, "{what}: it sees itself only");
        siege.is_as_before(what);
        let after = siege.victim().stats();
        assert_eq!((after.links_opened, after.links_closed), (before.links_opened, before.links_closed));
        stranger.end();
    }
    siege.lifted();
}

#[test]
fn the_recording_of_a_link_plays_nothing_again() {
    let siege = Siege::begin(keyed);
    let proxy = PeerProxy::start();
    proxy.leads_to(siege.address());
    let registry = RegistryConfig::new(CLUSTER).bind("127.0.0.1:0").secret(SECRET).seed(proxy.address());
    let guest = Peer::start(siege.servers().builder(), "guest", 1, registry);
    guest.offer("dealer", 0..50);
    siege.victim().until_shown("dealer", "guest", 50);
    guest.remove("dealer", "guest", "i0");
    siege.victim().until_shown("dealer", "guest", 49);
    guest.end();
    siege.victim().until_shown("dealer", "guest", 0);
    siege.victim().until_standing("guest", None);
    siege.is_as_before("a guest");
    let recordings = proxy.records();
    drop(proxy);
    let recording = recordings.iter().max_by_key(|recording| recording.len()).expect("a link was recorded");
    assert!(recording.len() > 4096, "{} bytes are no link", recording.len());
    // The first record is a Hello: only a whole one can be told from a genuine one.
    for part in [recording.len(), recording.len() - 1, HANDSHAKE_BYTES + 2500] {
        siege.withstands("a recording", ONE_CHANNEL, 0, |address| play(address, &recording[..part]));
    }
    // Only the handshake: it is answered, in a way that the player cannot read, and nothing follows.
    siege.withstands("a recorded handshake", ONE_TIMEOUT, 0, |address| {
        play(address, &recording[..HANDSHAKE_BYTES])
    });
    // Without it, and one record put in the place of another.
    siege.withstands("records without a handshake", ONE_CHANNEL, 0, |address| {
        play(address, &recording[HANDSHAKE_BYTES..])
    });
    assert_eq!(siege.victim().standing("guest"), None);
    siege.lifted();
}

#[test]
fn a_bit_that_changes_on_the_way_closes_the_link_and_the_next_one_carries_all() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let (to_left, to_right) = (PeerProxy::start(), PeerProxy::start());
    let left = Peer::start(servers.builder(), "left", 1, keyed().advertise(to_left.address()));
    to_left.leads_to(left.address());
    let registry = keyed().advertise(to_right.address()).seed(to_left.address());
    let right = Peer::start(servers.builder(), "right", 1, registry);
    to_right.leads_to(right.address());
    left.offer("dealer", 0..10);
    right.offer("dealer", 0..10);
    left.until_shown("dealer", "right", 10);
    right.until_shown("dealer", "left", 10);
    for round in 1..=5 {
        let closed = left.stats().links_closed;
        // Only one of them carries the link.
        to_left.spoil();
        to_right.spoil();
        left.offer("dealer", 10 * round..10 * (round + 1));
        wait_for("the spoiled link's end", || (left.stats().links_closed > closed).then_some(()));
        right.until_shown("dealer", "left", 10 * (round + 1));
        wait_for("the link that follows", || {
            (left.standing("right") == Some(NodeStanding::Up)
                && right.standing("left") == Some(NodeStanding::Up)
                && !(to_left.is_to_spoil() && to_right.is_to_spoil()))
            .then_some(())
        });
    }
    until_agreed(&[&left, &right], &["dealer"]);
    let refused = |peer: &Peer| {
        let stats = peer.stats();
        assert_eq!((stats.refused_frame, stats.refused_violation), (0, 0), "{stats:?}");
        stats.refused_channel
    };
    assert!(refused(&left) + refused(&right) >= 5);
    left.end();
    right.end();
}

#[test]
fn nodes_with_a_secret_in_common_join_whichever_they_send_under() {
    let _permit = permit(5);
    let servers = LocalCluster::start(1).unwrap();
    let with = |secrets: &[&str], seeds: &[&Peer]| {
        let registry = secrets.iter().fold(registry(), |registry, secret| registry.secret(secret));
        seeds.iter().fold(registry, |registry, seed| registry.seed(seed.address()))
    };
    let start = |name: &str, registry| Peer::start(servers.builder(), name, 1, registry);
    // The steps of a change of secrets, all at one time.
    let old = start("old", with(&["before"], &[]));
    let learns = start("learns", with(&["before", "after"], &[&old]));
    let turns = start("turns", with(&["after", "before"], &[&learns]));
    let new = start("new", with(&["after"], &[&turns]));
    let all = [&old, &learns, &turns, &new];
    all.iter().for_each(|peer| peer.offer("dealer", 0..5));
    let sees =
        |peer: &Peer, nodes: &[&str]| nodes.iter().for_each(|node| peer.until_shown("dealer", node, 5));
    sees(&old, &["learns", "turns"]);
    sees(&learns, &["old", "turns", "new"]);
    sees(&turns, &["old", "learns", "new"]);
    sees(&new, &["learns", "turns"]);
    let apart = start("apart", with(&["other"], &all));
    apart.offer("dealer", 0..5);
    wait_for("its dials to fail", || (apart.stats().dials_failed >= 8).then_some(()));
    for peer in all {
        assert_eq!(peer.standing("apart"), None);
        assert_eq!(peer.count_of("dealer", "apart"), 0);
    }
    assert_eq!(apart.handle().nodes().len(), 1);
    // These two have no secret in common, and what they heard of each other does not make up for it.
    assert_eq!(old.count_of("dealer", "new") + new.count_of("dealer", "old"), 0);
    for peer in [apart, new, turns, learns, old] {
        peer.end();
    }
}
