//! Somebody between node and server who wants the credentials: not one byte of them leaves.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use croupier::{
    Credentials, Shard,
    config::{ClusterConfig, TlsConfig},
};
use nkeys::KeyPair;

use crate::{
    access_rig::{builder, trusting},
    certificates::Authority,
    log_lines::{CANARY, wait_for_line},
    scripted::ScriptedServer,
    support::{TestNode, permit, wait_for},
};

/// How long a scripted server listens on after its last word.
const LISTENED: Duration = Duration::from_millis(300);
/// Connections after which a test is content.
const CONNECTIONS: u64 = 3;

/// Greets with these bytes, and keeps all that a client sends.
fn server(greeting: &'static str) -> (ScriptedServer, Arc<Mutex<Vec<u8>>>) {
    let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&sent);
    let server = ScriptedServer::start(move |_, mut stream: TcpStream| {
        stream.write_all(greeting.as_bytes())?;
        stream.set_read_timeout(Some(LISTENED))?;
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            kept.lock().unwrap().extend_from_slice(&buffer[..bytes]);
        }
        Ok(())
    });
    (server, sent)
}

/// What nodes with each kind of credential send to a server that greets like this, one after the other.
fn sent_to(name: &str, greeting: &'static str, tls: &TlsConfig, line: &str) -> Vec<Vec<u8>> {
    let seed = KeyPair::new_user().seed().unwrap();
    [
        Credentials::user_password("app", CANARY),
        Credentials::token(CANARY),
        Credentials::nkey_seed(seed.as_str()).unwrap(),
        Credentials::jwt(CANARY, seed.as_str()).unwrap(),
    ]
    .into_iter()
    .map(|credentials| {
        let (server, sent) = server(greeting);
        let cluster = ClusterConfig::new(name, [server.url()]).auth(credentials).tls(tls.clone());
        let node = TestNode::start(builder(cluster), 1);
        node.on(0, async |shard: Shard| drop(shard.subscribe_unconfirmed("a").unwrap()));
        wait_for("connections", || (server.accepted() >= CONNECTIONS).then_some(()));
        wait_for_line(name, line);
        assert_eq!(node.handle.stats()[0].links[0].connects, 0);
        node.end();
        sent.lock().unwrap().clone()
    })
    .collect()
}

#[test]
fn a_greeting_that_drops_tls_gets_not_one_byte() {
    let _permit = permit(1);
    let authority = Authority::new();
    let tls = trusting(&authority);
    for greeting in [
        "INFO {\"server_id\":\"X\",\"max_payload\":1048576,\"nonce\":\"abc\",\"auth_required\":true}\r\n",
        "INFO {\"server_id\":\"X\",\"tls_required\":false,\"tls_available\":false,\"nonce\":\"abc\"}\r\nPING\r\n",
    ] {
        for sent in sent_to("acc-dropped", greeting, &tls, "offers no TLS") {
            assert_eq!(String::from_utf8_lossy(&sent), "");
        }
    }
}

#[test]
fn bytes_between_the_greeting_and_the_handshake_are_refused() {
    let _permit = permit(1);
    let authority = Authority::new();
    let tls = trusting(&authority);
    let greeting = "INFO {\"server_id\":\"X\",\"tls_required\":true,\"nonce\":\"abc\"}\r\n+OK\r\nPING\r\n";
    for sent in sent_to("acc-between", greeting, &tls, "after the server's greeting and before the handshake")
    {
        assert_eq!(String::from_utf8_lossy(&sent), "");
    }
}

#[test]
fn an_error_instead_of_a_handshake_gets_no_credentials() {
    let _permit = permit(1);
    let authority = Authority::new();
    let tls = trusting(&authority).first(true);
    let greeting = "INFO {\"server_id\":\"X\",\"max_payload\":1048576,\"nonce\":\"abc\"}\r\n";
    for sent in sent_to("acc-no-handshake", greeting, &tls, "does not speak TLS at this point") {
        // A handshake's first message begins like this, and names nothing but the versions it speaks.
        assert_eq!(sent[0], 0x16, "{sent:?}");
        let text = String::from_utf8_lossy(&sent);
        assert!(!text.contains(CANARY) && !text.contains("CONNECT"), "{text}");
    }
}
