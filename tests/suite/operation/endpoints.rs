//! What the pages say of a node that works.

use std::{collections::BTreeSet, net::TcpListener, thread};

use croupier::{Error, RegistryConfig, ServiceSpec, Shard, testing::LocalCluster};

use super::{
    client::{Client, get, status},
    page::Page,
};
use crate::support::{TestNode, permit, wait_for};

/// What must show up nowhere.
const CANARY: &str = "canary-7d1f0c";

#[test]
fn the_pages_tell_what_a_node_is_and_what_it_has_counted() {
    const MESSAGES: u64 = 500;
    let _permit = permit(2);
    let servers = LocalCluster::start(2).unwrap();
    let registry = RegistryConfig::new("casino").bind("127.0.0.1:0").secret(CANARY);
    let builder = servers.builder().name("n1").registry(registry).admin_listen("127.0.0.1:0");
    let node = TestNode::start(builder, 2);
    let address = node.handle.admin_addr().expect("an admin server");
    node.on(1, async |shard: Shard| {
        let service = shard.registry().add_service(ServiceSpec::new("dealer")).await.unwrap();
        shard.spawn(async move {
            let _offered = service;
            std::future::pending::<()>().await;
        });
        let mut all = shard.subscribe("page.*").await.unwrap();
        for number in 0..MESSAGES {
            shard.publish(format!("page.{number}"), "0123456789").unwrap();
        }
        for _ in 0..MESSAGES {
            all.next().await.expect("a message");
        }
        shard.flush().await.unwrap();
    });

    wait_for("the node to be ready", || (get(address, "/readyz").code == 200).then_some(()));
    assert_eq!(get(address, "/readyz").body, "ready\n");
    let health = get(address, "/healthz");
    assert_eq!((health.code, health.body.as_str()), (200, "ok\n"));
    assert_eq!(health.header("content-type"), Some("text/plain; charset=utf-8"));

    let page = wait_for("all to be processed", || {
        let page = Page::scrape(address);
        (page.sum("croupier_publish_processed_messages", &[]) >= MESSAGES as f64).then_some(page)
    });
    for (family, labels, expected) in [
        ("croupier_publish_accepted_messages", &[("shard", "1")][..], MESSAGES as f64),
        ("croupier_publish_rejected_messages", &[], 0.0),
        ("croupier_publish_in_doubt_messages", &[], 0.0),
        ("croupier_publish_pending_messages", &[], 0.0),
        ("croupier_link_received_messages", &[("shard", "1")], MESSAGES as f64),
        ("croupier_link_connected", &[("cluster", "c1")], 2.0),
        ("croupier_cluster_up", &[], 2.0),
        ("croupier_ready", &[], 1.0),
        ("croupier_draining", &[], 0.0),
        ("croupier_registry_nodes", &[("standing", "up")], 1.0),
        ("croupier_registry_services_online", &[], 1.0),
        ("croupier_registry_syncing", &[], 0.0),
        ("croupier_shard_blocked_seconds", &[("shard", "0")], 0.0),
    ] {
        assert_eq!(page.sum(family, labels), expected, "{family} {labels:?}");
    }
    assert!(page.sum("croupier_link_received_bytes", &[]) > 10.0 * MESSAGES as f64);
    assert!(page.sum("croupier_uptime_seconds", &[]) > 0.0);
    assert!(page.sum("croupier_admin_requests", &[("page", "/readyz")]) >= 2.0);
    for (family, help) in page.families() {
        assert!(family.starts_with("croupier_"), "{family}");
        assert!(help.len() > 10, "{family} says nothing of itself: {help:?}");
    }

    let status = status(address);
    assert_eq!(
        (&status["node"], &status["state"], &status["ready"]),
        (&"n1".into(), &"running".into(), &true.into())
    );
    let names: BTreeSet<_> =
        status["clusters"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c1", "c2"].into());
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
    assert_eq!(status["shards"][1]["links"][0]["connected"], true);
    let accepted: u64 =
        (0..2).map(|link| status["shards"][1]["links"][link]["accepted"].as_u64().unwrap()).sum();
    assert_eq!(accepted, MESSAGES);
    assert_eq!(status["registry"]["types"][0]["name"], "dealer");
    assert_eq!(status["registry"]["nodes"][0]["name"], "n1");
    for text in ["configuration_hash", "version"] {
        assert!(status[text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {status}");
    }
    assert_eq!(status["ring"]["fingerprint"].as_str().unwrap().len(), 16);

    for path in ["/metrics", "/statusz", "/healthz", "/readyz", "/nowhere"] {
        let body = get(address, path).body;
        assert!(!body.contains(CANARY), "{path}: {body}");
    }
    node.end();
    // The server ends with its node.
    wait_for("the port to be free", || TcpListener::bind(address).ok());
}

#[test]
fn many_clients_at_a_time_are_answered_while_the_node_works() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 50;
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(servers.builder().admin_listen("127.0.0.1:0"), 2);
    let address = node.handle.admin_addr().expect("an admin server");
    for shard in 0..2 {
        // Confirmed: from here on the shard is connected, and stays so.
        node.on(shard, async |shard: Shard| drop(shard.subscribe("busy.none").await.unwrap()));
    }
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut client_side = Client::connect(address);
                for round in 0..ROUNDS {
                    let path = ["/metrics", "/statusz", "/healthz", "/readyz"][(client + round) % 4];
                    assert_eq!(client_side.get(path).code, 200, "{path}");
                }
            });
        }
        let node = &node;
        scope.spawn(move || {
            for number in 0..20 {
                node.on(number % 2, async |shard: Shard| {
                    for _ in 0..100 {
                        shard.publish_wait("busy", "x").await.unwrap();
                    }
                    shard.flush().await.unwrap();
                });
            }
        });
    });
    let page = Page::scrape(address);
    assert_eq!(page.sum("croupier_publish_accepted_messages", &[]), 2000.0);
    let answered: f64 = page.sum("croupier_admin_requests", &[]);
    assert!(answered >= (CLIENTS * ROUNDS) as f64, "{answered}");
    node.end();
}

#[test]
fn an_address_that_is_taken_is_an_error_before_anything_runs() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let started = servers.builder().shards(1).admin_listen(address.to_string()).start(async |_| Ok(()));
    let error = started.expect_err("the address is taken");
    assert!(matches!(error, Error::AdminBind { address: told, .. } if told == address), "{error}");
    let told = error.to_string();
    assert!(told.contains(&address.to_string()) && told.contains("node.admin_listen"), "{told}");

    let unfit = servers.builder().shards(1).admin_listen("nowhere").start(async |_| Ok(()));
    let told = unfit.expect_err("no address").to_string();
    assert!(told.contains("node.admin_listen") && told.contains("ip:port"), "{told}");

    let without = TestNode::start(servers.builder(), 1);
    assert_eq!(without.handle.admin_addr(), None);
    without.end();
}
