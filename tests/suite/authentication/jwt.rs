//! Users with JWTs, in files and in code, good, unknown and expired.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use croupier::{Credentials, config::AuthConfig, testing::LocalCluster};
use tempfile::TempDir;

use super::tokens::Accounts;
use crate::{
    access_rig::{cluster, fails_with, gets_in, is_refused, round_trip, start_asking},
    support::{permit, wait_for},
};

#[test]
fn a_creds_file_gets_in_and_what_is_none_does_not() {
    let _permit = permit(1);
    let accounts = Accounts::new();
    let servers = LocalCluster::with_config(1, 1, accounts.server_config()).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.creds");
    let user = accounts.user(None);
    fs::write(&path, user.creds()).unwrap();
    gets_in(cluster("acc-creds-file", &servers).auth(AuthConfig::creds_file(&path)));
    gets_in(cluster("acc-creds", &servers).auth(Credentials::creds(&user.creds()).unwrap()));
    gets_in(cluster("acc-jwt", &servers).auth(Credentials::jwt(user.jwt, user.seed).unwrap()));

    let stranger = Accounts::new().user(None);
    is_refused(cluster("acc-stranger", &servers).auth(Credentials::creds(&stranger.creds()).unwrap()));
    let expired = accounts.user(Some(-60));
    is_refused(cluster("acc-expired", &servers).auth(Credentials::creds(&expired.creds()).unwrap()));
    let (other, another) = (accounts.user(None), accounts.user(None));
    let mixed = Credentials::jwt(other.jwt, another.seed).unwrap();
    is_refused(cluster("acc-mixed", &servers).auth(mixed));
    fs::write(&path, "no creds at all").unwrap();
    fails_with(cluster("acc-bad-creds", &servers).auth(AuthConfig::creds_file(&path)), "no JWT");
}

#[test]
fn when_a_jwt_expires_the_next_one_is_asked_for() {
    let _permit = permit(1);
    let accounts = Accounts::new();
    let servers = LocalCluster::with_config(1, 1, accounts.server_config()).unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let node = start_asking(cluster("acc-expires", &servers), async move |_| {
        // The first one ends soon; on a slow machine it may have ended before it is looked at.
        let seconds = (counted.fetch_add(1, Ordering::AcqRel) == 0).then_some(2);
        Ok(Credentials::creds(&accounts.user(seconds).creds())?)
    });
    round_trip(&node);
    wait_for("the second JWT", || (calls.load(Ordering::Acquire) == 2).then_some(()));
    round_trip(&node);
    assert!(node.link(0, "acc-expires").server_errors > 0);
    node.end();
}
