//! An application that gives its credentials when it is asked.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use croupier::{Credentials, CredentialsRequest, Error, config::AuthConfig, testing::LocalCluster};
use nkeys::KeyPair;

use super::tokens::Accounts;
use crate::{
    access_rig::{builder, cluster, round_trip, start_asking},
    log_lines::{CANARY, wait_for_line},
    support::{permit, wait_for},
};

#[test]
fn the_callback_is_asked_at_each_connect_and_signs_what_the_server_wants_signed() {
    let _permit = permit(1);
    let key = KeyPair::new_user();
    let config = format!("authorization {{ timeout: 20, users: [ {{ nkey: {} }} ] }}", key.public_key());
    let mut servers = LocalCluster::with_config(1, 1, config).unwrap();
    let requests: Arc<Mutex<Vec<CredentialsRequest>>> = Arc::default();
    let seen = Arc::clone(&requests);
    let node = start_asking(cluster("acc-asked", &servers), async move |request| {
        let nonce = request.nonce.clone().expect("the server knows NKeys");
        seen.lock().unwrap().push(request);
        Ok(Credentials::signed_nkey(key.public_key(), key.sign(nonce.as_bytes())?))
    });
    round_trip(&node);
    servers.kill(0, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "acc-asked").connected).then_some(()));
    servers.restart(0, 0).unwrap();
    round_trip(&node);
    node.end();
    let requests = requests.lock().unwrap();
    assert!(requests.len() >= 2, "{requests:?}");
    assert!(requests.iter().all(|request| request.cluster == *"acc-asked"));
    assert_eq!(format!("nats://{}", requests[0].server), servers.servers(0)[0]);
    assert_ne!(requests[0].nonce, requests[1].nonce);
}

#[test]
fn a_jwt_is_signed_where_its_seed_is() {
    let _permit = permit(1);
    let accounts = Accounts::new();
    let servers = LocalCluster::with_config(1, 1, accounts.server_config()).unwrap();
    let user = accounts.user(None);
    let node = start_asking(cluster("acc-signed", &servers), async move |request| {
        let nonce = request.nonce.ok_or("no nonce")?;
        Ok(Credentials::signed_jwt(&user.jwt, user.key.sign(nonce.as_bytes())?))
    });
    round_trip(&node);
    node.end();
}

#[test]
fn an_error_or_a_panic_of_the_callback_fails_one_try() {
    let _permit = permit(1);
    let config = format!("authorization {{ token: {CANARY:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let calls = AtomicU64::new(0);
    let node = start_asking(cluster("acc-vault", &servers), async move |_| {
        match calls.fetch_add(1, Ordering::AcqRel) {
            0 => Err("the vault is closed".into()),
            1 => panic!("the vault is broken"),
            _ => Ok(Credentials::token(CANARY)),
        }
    });
    round_trip(&node);
    wait_for_line("acc-vault", "the vault is closed");
    wait_for_line("acc-vault", "the vault is broken");
    node.end();
}

#[test]
fn a_callback_for_an_unknown_cluster_or_beside_auth_is_refused_at_the_start() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let with_auth = cluster("acc-both", &servers).auth(AuthConfig::from(Credentials::token(CANARY)));
    for (cluster, name, expected) in
        [(cluster("acc-other", &servers), "acc-x", "\"acc-x\""), (with_auth, "acc-both", "clusters[0].auth")]
    {
        let builder = builder(cluster).credentials(name, async |_| Ok(Credentials::token(CANARY)));
        let error = builder.shards(1).start(async |_| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
