//! Two live nodes of one name: the one that began first stays, the other waits until it may have the name.

use croupier::{NodeStanding, testing::LocalCluster};

use super::{
    child::ChildNode,
    peer::{Peer, registry},
    peer_proxy::PeerProxy,
};
use crate::support::{permit, wait_for};

const KIND: &str = "dealer";

#[test]
fn of_two_nodes_with_one_name_the_first_stays_and_the_other_gets_in_when_it_leaves() {
    let _permit = permit(4);
    let servers = LocalCluster::start(1).unwrap();
    let watches = Peer::start(servers.builder(), "watches", 1, registry());
    let seeded = || registry().seed(watches.address());
    let first = Peer::start(servers.builder(), "twin", 1, seeded());
    first.offer_each(KIND, vec![("first".to_owned(), 1)]);
    watches.until_shown(KIND, "twin", 1);
    let record = watches.record(KIND);

    let second = Peer::start(servers.builder(), "twin", 1, seeded());
    second.offer_each(KIND, vec![("second".to_owned(), 1)]);
    wait_for("the conflict", || (second.stats().name_conflicts == 1).then_some(()));
    // A third one learns of the first only.
    let later = Peer::start(servers.builder(), "later", 1, seeded());
    later.until_shown(KIND, "twin", 1);
    let only = |id: &str| vec![("twin".to_owned(), id.to_owned())];
    assert_eq!(later.instances(KIND), only("first"));
    // It tries again, and is sent away again.
    wait_for("the second conflict", || (second.stats().name_conflicts >= 2).then_some(()));
    assert_eq!(watches.instances(KIND), only("first"));
    assert_eq!(later.instances(KIND), only("first"));
    assert_eq!(second.instances(KIND), only("second"), "it offers to itself what it has");
    assert_eq!((first.stats().name_conflicts, watches.stats().name_conflicts), (0, 0));
    assert_eq!(watches.standing("twin"), Some(NodeStanding::Up));
    assert!(
        record.notes().iter().all(|note| note.id != "second" && note.what != "left"),
        "{:?}",
        record.notes()
    );

    first.end();
    wait_for("the second in the first's place", || (watches.instances(KIND) == only("second")).then_some(()));
    wait_for("the third to see it", || (later.instances(KIND) == only("second")).then_some(()));
    assert_eq!(second.standing("watches"), Some(NodeStanding::Up));
    second.offer_each(KIND, vec![("third".to_owned(), 1)]);
    watches.until_shown(KIND, "twin", 2);
    for peer in [second, later, watches] {
        peer.end();
    }
}

#[test]
fn the_node_that_began_first_gets_its_name_even_if_it_joins_last() {
    let _permit = permit(3);
    let servers = LocalCluster::start(1).unwrap();
    let door = PeerProxy::start();
    let watches = Peer::start(servers.builder(), "watches", 1, registry());
    let elder = Peer::start(servers.builder(), "twin", 1, registry().seed(door.address()));
    elder.offer_each(KIND, vec![("elder".to_owned(), 1)]);
    // Epochs are milliseconds and chance: a whole one has to lie between the two.
    std::thread::sleep(std::time::Duration::from_millis(5));
    let younger = Peer::start(servers.builder(), "twin", 1, registry().seed(watches.address()));
    younger.offer_each(KIND, vec![("younger".to_owned(), 1)]);
    watches.until_shown(KIND, "twin", 1);
    door.leads_to(watches.address());
    let elders = vec![("twin".to_owned(), "elder".to_owned())];
    wait_for("the elder in its place", || (watches.instances(KIND) == elders).then_some(()));
    wait_for("the younger's conflict", || (younger.stats().name_conflicts > 0).then_some(()));
    assert_eq!(elder.stats().name_conflicts, 0);
    for peer in [younger, elder, watches] {
        peer.end();
    }
}

#[test]
fn a_stopped_process_gives_its_name_to_the_next_and_gets_no_other_when_it_wakes() {
    let _permit = permit(3);
    let servers = LocalCluster::start(1).unwrap();
    let watches = Peer::start(servers.builder(), "watches", 1, registry());
    let mut sleeps = ChildNode::start(&servers, "twin", 1, Some(watches.address()));
    sleeps.offer(KIND, 3);
    watches.until_shown(KIND, "twin", 3);
    sleeps.signal(libc::SIGSTOP);
    // Its stream is open, but it does not answer: who comes under its name is let in.
    let next = Peer::start(servers.builder(), "twin", 1, registry().seed(watches.address()));
    next.offer_each(KIND, vec![("next".to_owned(), 1)]);
    let nexts = vec![("twin".to_owned(), "next".to_owned())];
    wait_for("the next in its place", || (watches.instances(KIND) == nexts).then_some(()));
    let record = watches.record(KIND);
    sleeps.signal(libc::SIGCONT);
    // Both live now, and the sleeper is the elder. Whoever wins, it is one of them, and whole.
    wait_for("one of them to find its name taken", || {
        let conflicts = next.stats().name_conflicts + sleeps.stat("name_conflicts");
        (conflicts > 0).then_some(())
    });
    let sleepers: Vec<_> = (0..3).map(|id| ("twin".to_owned(), format!("i{id}"))).collect();
    wait_for("one of them in its place", || {
        let shown = watches.instances(KIND);
        let is_mixed =
            shown.iter().any(|one| nexts.contains(one)) && shown.iter().any(|one| sleepers.contains(one));
        assert!(!is_mixed, "two nodes of one name are shown as one: {shown:?}, {:?}", record.notes());
        (shown == nexts || shown == sleepers).then_some(())
    });
    drop(sleeps);
    next.end();
    watches.end();
}
