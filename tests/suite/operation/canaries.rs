//! Secrets of every kind in a running node show on no page, in no event, and in no word of its handle.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use croupier::{
    Credentials, RegistryConfig,
    config::{AuthConfig, ClusterConfig, TlsConfig},
    testing::LocalCluster,
};
use futures_lite::future::block_on;
use nkeys::KeyPair;
use tempfile::TempDir;

use super::client::get;
use crate::{
    access_rig::{builder, trusting},
    authentication::Accounts,
    certificates::{Authority, server_tls},
    log_lines::{CANARY, keep, with_secrets},
    support::{TestNode, permit, wait_for},
};

#[test]
fn no_page_and_no_event_shows_a_secret_of_any_kind() {
    let _permit = permit(1);
    keep();
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let password = format!("authorization {{ user: app, password: {CANARY:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(5, 1, &password).unwrap();
    let encrypted = LocalCluster::with_config(1, 1, server_tls(&issued, "") + &password).unwrap();

    let seed = KeyPair::new_user().seed().unwrap();
    let user = Accounts::new().user(None);
    let key = fs::read_to_string(&issued.key_file).unwrap();
    let key_line = key.lines().nth(1).expect("a line of the key").to_owned();
    let secrets = [CANARY, &seed, &user.seed, &user.jwt, &key_line].map(str::to_owned);

    // One gets in by its password, one over TLS with a client's key; the others show what they have in vain.
    let right = Credentials::user_password("app", CANARY);
    let on = |number: usize| ClusterConfig::new(format!("canaries-{number}"), servers.servers(number));
    let url = servers.servers(1)[0].replace("://", &format!("://app:{CANARY}x@"));
    let tls: TlsConfig = trusting(&authority).client_certificate(&issued.cert_file, &issued.key_file);
    let mut node = builder(on(0).auth(right.clone())).name("canaries").admin_listen("127.0.0.1:0");
    let refused = [
        ClusterConfig::new("canaries-1", [url]),
        on(2).auth(AuthConfig::token_file(file("token", CANARY))),
        on(3).auth(AuthConfig::nkey_seed_file(file("seed", &seed))),
        on(4).auth(AuthConfig::creds_file(file("creds", &user.creds()))),
    ];
    node.config_mut().clusters.extend(refused);
    node.config_mut()
        .clusters
        .push(ClusterConfig::new("canaries-tls", encrypted.servers(0)).auth(right).tls(tls));
    node = node
        .registry(RegistryConfig::new("canaries").bind("127.0.0.1:0").secret(format!("{CANARY}-registry")));
    let mut reloaded = node.config_mut().clone();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let node = node.on_event(move |event| telling.lock().unwrap().push(format!("{event} {event:?}")));
    let node = TestNode::start(node, 1);
    let address = node.handle.admin_addr().expect("an admin server");
    let mut shown = Vec::new();

    node.connected(0, "canaries-0");
    node.connected(0, "canaries-tls");
    wait_for("the servers to have heard the others twice", || {
        let stats = node.handle.stats().remove(0);
        let tries =
            (1..=4).map(|number| stats.link(&format!("canaries-{number}")).map_or(0, |link| link.tries));
        tries.min().filter(|tries| *tries >= 2)
    });
    wait_for("a refusal for good", || {
        let told = told.lock().unwrap();
        told.iter().any(|told| told.contains("refuses this node")).then_some(())
    });
    // Other credentials cannot be had by a reload, which says so.
    reloaded.clusters[0].auth = Some(AuthConfig::from(Credentials::token(format!("{CANARY}-other"))));
    shown.push(format!("{:?}", block_on(node.handle.reload(reloaded)).unwrap_err()));
    for path in ["/metrics", "/statusz", "/healthz", "/readyz", "/nowhere"] {
        shown.push(get(address, path).body);
    }
    shown.push(format!("{:?} {:?} {:?}", node.handle, node.handle.stats(), node.handle.unready()));
    node.end();
    shown.append(&mut told.lock().unwrap());
    for told in ["the configuration stays as it was", "the node drains", "canaries-tls, shard 0: connected"] {
        assert!(shown.iter().any(|text| text.contains(told)), "{told}: {shown:#?}");
    }
    for text in &shown {
        for secret in &secrets {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(with_secrets(), Vec::<String>::new());
}
