//! Nodes that leave by themselves or by a fault of their application, and those that never come up.

use std::{
    net::TcpListener,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use croupier::{BoxError, Error, NodeStanding, RegistryConfig, ServiceSpec, Shard, testing::LocalCluster};

use super::peer::{Peer, registry};
use crate::support::{permit, wait_for};

const KIND: &str = "dealer";

#[test]
fn a_node_that_drains_is_gone_at_once_and_never_suspected() {
    let _permit = permit(4);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    let beside = Peer::start(servers.builder(), "beside", 1, registry().seed(stays.address()));
    for round in 0..5 {
        let leaves = Peer::start(servers.builder(), "leaves", 2, registry().seed(stays.address()));
        leaves.offer(KIND, 0..40);
        for peer in [&stays, &beside] {
            peer.until_shown(KIND, "leaves", 40);
            peer.until_standing("leaves", Some(NodeStanding::Up));
        }
        let records = [stays.record(KIND), beside.record(KIND)];
        leaves.end();
        for (peer, record) in [&stays, &beside].into_iter().zip(&records) {
            peer.until_shown(KIND, "leaves", 0);
            wait_for("all events", || (record.count("left", "leaves") == 40).then_some(()));
            // To be suspected is to be updated.
            assert_eq!(record.count("updated", "leaves"), 0, "round {round}: {:?}", record.notes());
            peer.until_standing("leaves", None);
        }
    }
    assert_eq!(stays.standing("beside"), Some(NodeStanding::Up));
    assert_eq!(stays.stats().dials_failed, 0, "nobody looks for who has left");
    beside.end();
    stays.end();
}

/// Starts a node whose application offers a service and ends by `fails` when it is told to. Returns why the
/// node ended.
fn fault_of(fails: fn() -> Result<(), BoxError>) -> Error {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    let builder = servers.builder().name("fails").registry(registry().seed(stays.address())).shards(1);
    let is_told = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_told);
    let node = builder
        .start(async move |shard: Shard| {
            let _service = shard.registry().add_service(ServiceSpec::new(KIND).id("only")).await?;
            while !told.load(Ordering::Acquire) {
                shard.sleep(Duration::from_millis(1)).await;
            }
            fails()
        })
        .unwrap();
    stays.until_shown(KIND, "fails", 1);
    let record = stays.record(KIND);
    is_told.store(true, Ordering::Release);
    let error = node.join().unwrap_err();
    stays.until_shown(KIND, "fails", 0);
    wait_for("the event", || (record.count("left", "fails") == 1).then_some(()));
    assert_eq!(record.count("updated", "fails"), 0, "{:?}", record.notes());
    // It said Bye: it is not held to be down, it is no member.
    stays.until_standing("fails", None);
    stays.end();
    error
}

#[test]
fn a_node_whose_application_fails_or_panics_says_bye() {
    let error = fault_of(|| Err("the bank is broke".into()));
    assert!(matches!(error, Error::App(_)), "{error:?}");
    // The hook of a panic may write a backtrace for longer than it takes to be suspected.
    let error = fault_of(|| resume_unwind(Box::new("this panic is part of the test")));
    assert!(matches!(error, Error::AppPanicked { shard: 0, .. }), "{error:?}");
}

#[test]
fn a_node_does_not_start_on_an_address_that_is_taken_or_without_a_name() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let start = |builder: croupier::Builder| builder.shards(1).start(async |_| Ok(())).map(drop).unwrap_err();
    let error = start(servers.builder().name("late").registry(RegistryConfig::new("casino").bind(address)));
    match error {
        Error::RegistryBind { address: told, source } => {
            assert_eq!(told, address.to_string());
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
    let error = start(servers.builder().registry(registry()));
    match &error {
        Error::Config(refused) => assert_eq!(refused.problems()[0].key, "node.name", "{error}"),
        other => panic!("{other:?}"),
    }
    // Other machines could reach it.
    let error = start(servers.builder().name("open").registry(registry().bind("0.0.0.0:0")));
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    // Freed, the address serves.
    drop(taken);
    let builder = servers.builder();
    let node = Peer::start(builder, "late", 1, RegistryConfig::new("casino").bind(address));
    assert_eq!(node.address(), address);
    node.end();
}

#[test]
fn nodes_that_leave_and_come_in_turn_never_show_what_is_gone() {
    let _permit = permit(3);
    let servers = LocalCluster::start(1).unwrap();
    let stays = Peer::start(servers.builder(), "stays", 1, registry());
    let record = stays.record(KIND);
    for life in 0..8 {
        let comes = Peer::start(servers.builder(), "comes", 2, registry().seed(stays.address()));
        comes.offer_each(KIND, (0..5).map(|id| (format!("{life}.{id}"), 1)).collect());
        stays.until_shown(KIND, "comes", 5);
        let own = format!("{life}.");
        assert!(
            stays.instances(KIND).iter().all(|(_, id)| id.starts_with(&own)),
            "{:?}",
            stays.instances(KIND)
        );
        comes.end();
        stays.until_shown(KIND, "comes", 0);
    }
    wait_for("the last event", || (record.count("left", "comes") == 40).then_some(()));
    assert_eq!(record.count("joined", "comes"), 40, "{:?}", record.notes());
    assert_eq!(stays.stats().stale_epochs + stays.stats().name_conflicts, 0);
    stays.end();
}
