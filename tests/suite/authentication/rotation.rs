//! A secret that is changed by changing its file.

use std::fs;

use croupier::{config::AuthConfig, testing::LocalCluster};
use tempfile::TempDir;

use crate::{
    access_rig::{cluster, end_of_tries, round_trip, start},
    log_lines::CANARY,
    support::{permit, wait_for},
};

fn server_config(password: &str) -> String {
    format!("authorization {{ user: app, password: {password:?}, timeout: 20 }}")
}

#[test]
fn a_password_that_was_changed_in_its_file_is_used_at_the_next_connect() {
    let _permit = permit(1);
    let passwords = ["first", "second"].map(|word| format!("{CANARY}-{word}"));
    let mut servers = LocalCluster::with_config(1, 1, server_config(&passwords[0])).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, &passwords[0]).unwrap();
    let node = start(cluster("acc-rotated", &servers).auth(AuthConfig::password_file("app", &path)));
    round_trip(&node);
    fs::write(&path, &passwords[1]).unwrap();
    servers.configure(0, 0, server_config(&passwords[1])).unwrap();
    // The server throws out who came in with the old one.
    servers.signal(0, 0, libc::SIGHUP).unwrap();
    wait_for("the second connection", || (node.link(0, "acc-rotated").connects == 2).then_some(()));
    round_trip(&node);
    node.end();
}

#[test]
fn a_password_that_was_changed_only_at_the_server_ends_the_tries() {
    let _permit = permit(1);
    let mut servers = LocalCluster::with_config(1, 1, server_config(CANARY)).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, CANARY).unwrap();
    let node = start(cluster("acc-stale", &servers).auth(AuthConfig::password_file("app", &path)));
    round_trip(&node);
    servers.configure(0, 0, server_config("another")).unwrap();
    servers.signal(0, 0, libc::SIGHUP).unwrap();
    end_of_tries(&node);
    assert_eq!(node.link(0, "acc-stale").connects, 1);
    node.end();
}
