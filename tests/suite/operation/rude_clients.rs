//! Clients of the admin server that are slow, greedy, or speak something else.

use croupier::testing::LocalCluster;

use super::{
    client::{Client, get},
    page::Page,
};
use crate::support::{TestNode, permit, wait_for};

/// Connections that the server has at one time.
const CONNECTIONS_MAX: usize = 32;

fn node(servers: &LocalCluster) -> (TestNode, std::net::SocketAddr) {
    let node = TestNode::start(servers.builder().admin_listen("127.0.0.1:0"), 1);
    let address = node.handle.admin_addr().expect("an admin server");
    (node, address)
}

fn refused(address: std::net::SocketAddr, reason: &str) -> f64 {
    Page::scrape(address).sum("croupier_admin_refused", &[("reason", reason)])
}

#[test]
fn what_is_no_proper_request_is_refused_with_its_code_and_counted() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let (node, address) = node(&servers);
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n", "x".repeat(20_000));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    for (bytes, code, reason) in [
        ("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405, "method"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400, "bad_request"),
        ("\u{16}\u{3}\u{1}\u{0}\u{5}hello", 400, "bad_request"),
        ("GET /metrics HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (&long, 431, "too_large"),
        (&many, 431, "too_large"),
    ] {
        let before = refused(address, reason);
        let mut client = Client::connect(address);
        client.send(bytes.as_bytes());
        let answer = client.answer();
        assert_eq!(answer.code, code, "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.header("allow"), (code == 405).then_some("GET, HEAD"));
        assert_eq!(client.until_closed(), 0);
        assert_eq!(refused(address, reason), before + 1.0, "{reason}");
    }
    assert_eq!(get(address, "/metric").code, 404);
    assert_eq!(get(address, "/").code, 404);
    assert_eq!(get(address, "/healthz?verbose=1").code, 200);
    node.end();
}

#[test]
fn head_has_no_body_and_requests_may_follow_each_other_in_one_write() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let (node, address) = node(&servers);
    let mut client = Client::connect(address);
    client.send(b"HEAD /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\nGET /readyz HT");
    let (head, length) = client.head();
    assert_eq!((head.code, length), (200, "ok\n".len()));
    assert_eq!(client.answer().body, "ok\n");
    client.send(b"TP/1.1\r\n\r\n");
    assert!([200, 503].contains(&client.answer().code));
    // Byte by byte, as somebody types.
    for byte in b"GET /healthz HTTP/1.0\r\n\r\n" {
        client.send(&[*byte]);
    }
    let last = client.answer();
    assert_eq!((last.code, last.header("connection")), (200, Some("close")));
    assert_eq!(client.until_closed(), 0);
    node.end();
}

#[test]
fn who_takes_too_long_is_told_and_closed_while_others_are_answered() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let (node, address) = node(&servers);
    let silent = Client::connect(address);
    let mut slow = Client::connect(address);
    slow.send(b"GET /metrics HTTP/1.1\r\nHost: ");
    // One that asks for much and reads nothing.
    let mut greedy = Client::connect(address);
    greedy.send("GET /metrics HTTP/1.1\r\n\r\n".repeat(300).as_bytes());
    assert_eq!(get(address, "/healthz").code, 200);
    let answer = slow.answer();
    assert_eq!(answer.code, 408, "{answer:?}");
    assert_eq!(slow.until_closed(), 0);
    assert_eq!(silent.until_closed(), 0, "who has asked nothing is told nothing");
    assert_eq!(refused(address, "timeout"), 1.0);
    drop(greedy);
    node.end();
}

#[test]
fn when_all_connections_are_in_use_one_more_is_told_so_and_idle_ones_make_room() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let (node, address) = node(&servers);
    // All of them wait between two requests, and the one that waits longest makes room.
    let mut idle: Vec<Client> = (0..CONNECTIONS_MAX)
        .map(|_| {
            let mut client = Client::connect(address);
            assert_eq!(client.get("/healthz").code, 200);
            client
        })
        .collect();
    assert_eq!(get(address, "/healthz").code, 200);
    let first = idle.remove(0);
    assert_eq!(first.until_closed(), 0);
    // All of them are in the middle of a request.
    wait_for("a round in which the busy ones are not too slow", || {
        let mut busy: Vec<Client> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let mut client = Client::connect(address);
                client.send(b"GET /healthz HTTP/1.1\r\n");
                client
            })
            .collect();
        let mut one_more = Client::connect(address);
        let answer = one_more.get("/healthz");
        let is_refused = answer.code == 503 && answer.header("retry-after") == Some("1");
        for client in &mut busy {
            client.send(b"\r\n");
        }
        is_refused.then_some(())
    });
    wait_for("room again", || (get(address, "/healthz").code == 200).then_some(()));
    assert!(refused(address, "busy") >= 1.0);
    assert!(refused(address, "idle") >= 1.0);
    node.end();
}
