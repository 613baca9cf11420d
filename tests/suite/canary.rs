//! A secret in every place that a secret may have shows nowhere.

use std::fs;

use croupier::{
    Credentials, Node, RegistryConfig,
    config::{AuthConfig, ClusterConfig, Config, TlsConfig},
    testing::LocalCluster,
};
use nkeys::KeyPair;
use tempfile::TempDir;

use crate::{
    access_rig::{
        builder, cluster, end_of_tries, fails_with, gets_in, is_refused, round_trip, start, trusting,
    },
    certificates::{Authority, server_tls},
    log_lines::{CANARY, keep, with_secrets},
    support::permit,
};

fn assert_hidden(shown: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn no_configuration_builder_or_error_shows_a_secret() {
    let seed = KeyPair::new_user().seed().unwrap();
    let credentials = [
        Credentials::user_password("app", CANARY),
        Credentials::token(CANARY),
        Credentials::nkey_seed(seed.as_str()).unwrap(),
        Credentials::jwt(CANARY, seed.as_str()).unwrap(),
        Credentials::signed_jwt(CANARY, CANARY),
    ];
    let mut config = Config::default();
    for (number, credentials) in credentials.into_iter().enumerate() {
        config.clusters.push(ClusterConfig::new(format!("c{number}"), ["a"]).auth(credentials));
    }
    let urls = [format!("nats://app:{CANARY}@a"), format!("tls://{CANARY}@b"), format!("{CANARY}@c d")];
    config.clusters.push(ClusterConfig::new("urls", urls));
    config.registry = Some(RegistryConfig::new("r").secret(CANARY));
    let shown = format!(
        "{config:?} {:#?} {:?} {:?}",
        config.clusters[5].urls(),
        Node::builder().config(config.clone()).credentials("c0", async |_| Ok(Credentials::token(CANARY))),
        config.validate(),
    );
    assert_hidden(&shown, &[CANARY, &seed]);
    let started = Node::builder().config(config).start(async |_| Ok(())).unwrap_err();
    assert_hidden(&format!("{started} {started:?}"), &[CANARY, &seed]);
}

#[test]
fn no_error_of_a_file_shows_a_secret_that_does_not_belong_there() {
    let seed = KeyPair::new_user().seed().unwrap();
    for cluster in [
        format!("servers = [\"nats://app:{CANARY}@a\"]"),
        format!("servers = [\"nats://{CANARY}@a\"]"),
        format!("servers = [\"tls://app:{CANARY}@a:0\"]"),
        format!("servers = [\"a\"]\nauth = \"{CANARY}\""),
        format!("servers = [\"a\"]\nauth = {{ user = \"app\", password = \"{CANARY}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ token = \"{CANARY}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ pass = \"{CANARY}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ seed = \"{seed}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ nkey_seed = \"{seed}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ nkey = \"{seed}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ creds = \"{CANARY}\" }}"),
        format!("servers = [\"a\"]\nauth = {{ jwt = \"{CANARY}\" }}"),
        format!("servers = [\"a\"]\ntls = {{ key = \"{CANARY}\" }}"),
        format!("servers = [\"a\"]\npassword = \"{CANARY}\""),
    ] {
        let text = format!("version = 1\n[[clusters]]\n{cluster}\n");
        let error = text.parse::<Config>().unwrap_err();
        assert_hidden(&format!("{error}\n{error:?}"), &[CANARY, &seed]);
    }
}

#[test]
fn no_log_line_shows_a_secret_whatever_goes_wrong() {
    let _permit = permit(1);
    keep();
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let password = format!("authorization {{ user: app, password: {CANARY:?}, timeout: 20 }}");
    let plain = LocalCluster::with_config(1, 1, &password).unwrap();
    let tls = LocalCluster::with_config(1, 1, server_tls(&issued, "") + &password).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    let right = Credentials::user_password("app", CANARY);
    let wrong = Credentials::user_password("app", format!("{CANARY}x"));

    gets_in(cluster("acc-canary-1", &plain).auth(right.clone()));
    gets_in(cluster("acc-canary-2", &tls).auth(right.clone()).tls(trusting(&authority)));
    is_refused(cluster("acc-canary-3", &plain).auth(wrong.clone()));
    is_refused(cluster("acc-canary-4", &tls).auth(wrong).tls(trusting(&authority)));
    let url = plain.servers(0)[0].replace("://", &format!("://app:{CANARY}@"));
    gets_in(ClusterConfig::new("acc-canary-5", [&url]));
    is_refused(ClusterConfig::new("acc-canary-6", [url.replace(CANARY, &format!("{CANARY}x"))]));
    fails_with(
        ClusterConfig::new("acc-canary-7", [&url]).tls(TlsConfig::default().ca_file(authority.ca_file())),
        "offers no TLS",
    );
    // Secrets where something else is looked for.
    fs::write(&path, format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n")).unwrap();
    let key = trusting(&authority).client_certificate(&issued.cert_file, &path);
    fails_with(cluster("acc-canary-8", &tls).auth(right.clone()).tls(key), "a try to connect failed");
    fails_with(cluster("acc-canary-9", &plain).auth(AuthConfig::creds_file(&path)), "no JWT");
    fs::write(&path, CANARY).unwrap();
    fails_with(cluster("acc-canary-10", &plain).auth(AuthConfig::nkey_seed_file(&path)), "not the seed");
    is_refused(cluster("acc-canary-11", &plain).auth(AuthConfig::token_file(&path)));

    // One that has got in, and whose node ends for another reason, with a registry beside.
    let mut with_registry = builder(cluster("acc-canary-12", &plain).auth(right)).name("canary");
    with_registry = with_registry
        .registry(RegistryConfig::new("canaries").bind("127.0.0.1:0").secret(format!("{CANARY}-registry")));
    let node = crate::support::TestNode::start(with_registry, 1);
    round_trip(&node);
    node.end();
    let node = start(cluster("acc-canary-13", &plain));
    end_of_tries(&node);
    node.end();
    assert_eq!(with_secrets(), Vec::<String>::new());
}
