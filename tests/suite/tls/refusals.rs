//! Certificates that will not do, and ends that do not fit each other: each has a reason of its own.

use croupier::{config::TlsConfig, testing::LocalCluster};

use crate::{
    access_rig::{cluster, fails_with, trusting},
    certificates::{Authority, server_tls},
    support::permit,
};

#[test]
fn a_certificate_for_somebody_else() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["other.example"]);
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    let expected = "not for 127.0.0.1, but for other.example";
    fails_with(cluster("acc-wrong-name", &servers).tls(trusting(&authority)), expected);
    let named = trusting(&authority).server_name("nats.example");
    fails_with(cluster("acc-wrong-override", &servers).tls(named), "not for nats.example");
}

#[test]
fn an_issuer_that_nobody_knows() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    let other = Authority::new();
    fails_with(cluster("acc-unknown-issuer", &servers).tls(trusting(&other)), "from an unknown issuer");
}

#[test]
fn a_certificate_that_has_expired() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue_until(&["127.0.0.1"], 2000);
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    fails_with(cluster("acc-old", &servers).tls(trusting(&authority)), "has expired");
}

#[test]
fn a_server_that_demands_a_certificate() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let demands = format!("ca_file: {:?}, verify: true", authority.ca_file());
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, &demands)).unwrap();
    let expected = "the server demands a certificate: set tls.cert_file";
    fails_with(cluster("acc-demanded", &servers).tls(trusting(&authority)), expected);
}

#[test]
fn a_server_that_requires_tls_of_a_node_without() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    fails_with(cluster("acc-off", &servers), "requires TLS: set tls = {}");
}

#[test]
fn a_server_without_tls_for_a_node_that_requires_it() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let authority = Authority::new();
    fails_with(cluster("acc-not-offered", &servers).tls(trusting(&authority)), "offers no TLS");
    let first = trusting(&authority).first(true);
    fails_with(cluster("acc-not-first", &servers).tls(first), "does not speak TLS at this point");
}

#[test]
fn files_that_hold_nothing_of_use() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let (issued, other) = (authority.issue(&["127.0.0.1"]), authority.issue(&["127.0.0.1"]));
    let servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    for (name, tls, expected) in [
        ("acc-no-ca", TlsConfig::default().ca_file("/no/such/ca.pem"), "/no/such/ca.pem: cannot be read"),
        ("acc-key-ca", TlsConfig::default().ca_file(&issued.key_file), "holds no certificate"),
        (
            "acc-cert-key",
            trusting(&authority).client_certificate(&issued.cert_file, &issued.cert_file),
            "holds no private key",
        ),
        (
            "acc-other-key",
            trusting(&authority).client_certificate(&issued.cert_file, &other.key_file),
            "keys may not be consistent",
        ),
    ] {
        fails_with(cluster(name, &servers).tls(tls), expected);
    }
}
