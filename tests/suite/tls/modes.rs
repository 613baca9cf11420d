//! The ways into a server that speaks TLS: after its greeting, before it, with a certificate of our own.

use std::fs;

use croupier::{
    Credentials,
    config::{ClusterConfig, TlsConfig},
    testing::LocalCluster,
};

use crate::{
    access_rig::{cluster, gets_in, round_trip, start, start_asking, trusting},
    certificates::{Authority, server_tls},
    log_lines::CANARY,
    support::{permit, wait_for},
};

#[test]
fn after_the_greeting() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1", "localhost"]);
    let config = server_tls(&issued, "") + &format!("authorization {{ token: {CANARY:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let plain = cluster("acc-tls", &servers).auth(Credentials::token(CANARY));
    gets_in(plain.clone().tls(trusting(&authority)));
    // By the scheme of the URL, and by a name.
    let by_scheme = |from: &str, to: &str| ClusterConfig {
        servers: plain.servers.iter().map(|server| server.replace(from, to)).collect(),
        ..plain.clone().tls(trusting(&authority))
    };
    gets_in(by_scheme("nats://", "tls://"));
    gets_in(by_scheme("nats://127.0.0.1", "tls://localhost"));
}

#[test]
fn before_the_greeting() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let config = server_tls(&issued, "handshake_first: true");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    gets_in(cluster("acc-first", &servers).tls(trusting(&authority).first(true)));
}

#[test]
fn with_a_certificate_of_our_own() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let (server, client) = (authority.issue(&["127.0.0.1"]), authority.issue(&["app"]));
    let demands = format!("ca_file: {:?}, verify: true", authority.ca_file());
    let servers = LocalCluster::with_config(1, 1, server_tls(&server, &demands)).unwrap();
    let tls = trusting(&authority).client_certificate(&client.cert_file, &client.key_file);
    gets_in(cluster("acc-client", &servers).tls(tls));
}

#[test]
fn a_name_of_the_configuration_counts_instead_of_the_address() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["nats.example"]);
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    gets_in(cluster("acc-name", &servers).tls(trusting(&authority).server_name("nats.example")));
}

#[test]
fn a_server_that_only_allows_tls_is_plain_to_who_wants_none() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let config = server_tls(&issued, "") + "allow_non_tls: true\n";
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    gets_in(cluster("acc-allowed-plain", &servers));
    gets_in(cluster("acc-allowed-tls", &servers).tls(trusting(&authority)));
}

#[test]
fn certificates_that_were_changed_count_at_the_next_connect() {
    let _permit = permit(1);
    let (mut first, mut second) = (Authority::new(), Authority::new());
    let config = server_tls(&first.issue(&["127.0.0.1"]), "");
    let mut servers = LocalCluster::with_config(1, 1, config).unwrap();
    let node = start(cluster("acc-renewed", &servers).tls(TlsConfig::default().ca_file(first.ca_file())));
    round_trip(&node);
    servers.kill(0, 0).unwrap();
    fs::copy(second.ca_file(), first.ca_file()).unwrap();
    servers.configure(0, 0, server_tls(&second.issue(&["127.0.0.1"]), "")).unwrap();
    servers.restart(0, 0).unwrap();
    wait_for("the second connection", || (node.link(0, "acc-renewed").connects == 2).then_some(()));
    round_trip(&node);
    node.end();
}

#[test]
fn a_callback_is_asked_over_tls() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let config = server_tls(&issued, "handshake_first: true")
        + &format!("authorization {{ token: {CANARY:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let cluster = cluster("acc-tls-asked", &servers).tls(trusting(&authority).first(true));
    let node = start_asking(cluster, async |_| Ok(Credentials::token(CANARY)));
    round_trip(&node);
    node.end();
}
