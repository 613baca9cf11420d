//! Passwords, tokens and NKeys, from code, from files and from URLs.

use std::{fs, path::PathBuf};

use croupier::{
    Credentials,
    config::{AuthConfig, ClusterConfig, Config},
    testing::LocalCluster,
};
use nkeys::KeyPair;
use tempfile::TempDir;

use crate::{
    access_rig::{cluster, fails_with, gets_in, is_refused},
    log_lines::CANARY,
    support::permit,
};

/// A folder with one file of this content.
fn file(content: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// The cluster with this before the `@` of each server.
fn with_user_info(cluster: ClusterConfig, user_info: &str) -> ClusterConfig {
    let at = |server: &String| server.replace("://", &format!("://{user_info}@"));
    ClusterConfig { servers: cluster.servers.iter().map(at).collect(), ..cluster }
}

#[test]
fn a_user_and_a_password() {
    let _permit = permit(1);
    let password = format!("{CANARY}:p/%@");
    let servers = LocalCluster::with_config(
        1,
        1,
        format!("authorization {{ user: app, password: {password:?}, timeout: 20 }}"),
    )
    .unwrap();
    let (_folder, path) = file(&format!("{password}\n"));
    gets_in(cluster("acc-user", &servers).auth(Credentials::user_password("app", &password)));
    gets_in(cluster("acc-user-file", &servers).auth(AuthConfig::password_file("app", path)));
    gets_in(with_user_info(cluster("acc-user-url", &servers), &format!("app:{CANARY}%3Ap%2F%25%40")));
    is_refused(cluster("acc-user-wrong", &servers).auth(Credentials::user_password("app", CANARY)));
    is_refused(with_user_info(cluster("acc-user-url-wrong", &servers), &format!("app:{CANARY}")));
    is_refused(cluster("acc-user-none", &servers));
}

#[test]
fn a_token() {
    let _permit = permit(1);
    let token = format!("{CANARY}-token");
    let config = format!("authorization {{ token: {token:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let (_folder, path) = file(&token);
    gets_in(cluster("acc-token", &servers).auth(Credentials::token(&token)));
    gets_in(cluster("acc-token-file", &servers).auth(AuthConfig::token_file(path)));
    gets_in(with_user_info(cluster("acc-token-url", &servers), &token));
    is_refused(cluster("acc-token-wrong", &servers).auth(Credentials::token(CANARY)));
}

#[test]
fn an_nkey() {
    let _permit = permit(1);
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let config = format!("authorization {{ timeout: 20, users: [ {{ nkey: {} }} ] }}", known.public_key());
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let (_folder, path) = file(&format!("{}\n", known.seed().unwrap()));
    let seed = |key: &KeyPair| Credentials::nkey_seed(key.seed().unwrap()).unwrap();
    gets_in(cluster("acc-nkey", &servers).auth(seed(&known)));
    gets_in(cluster("acc-nkey-file", &servers).auth(AuthConfig::nkey_seed_file(path)));
    is_refused(cluster("acc-nkey-wrong", &servers).auth(seed(&unknown)));
}

#[test]
fn a_seed_for_a_server_without_nkeys_has_nothing_to_sign() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let seed = Credentials::nkey_seed(KeyPair::new_user().seed().unwrap()).unwrap();
    fails_with(cluster("acc-nonce", &servers).auth(seed), "no nonce");
}

#[test]
fn a_file_of_the_configuration_counts_from_the_folder_of_that_file() {
    let _permit = permit(1);
    let config = format!("authorization {{ token: {CANARY:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let (folder, _) = file(CANARY);
    let node_toml = folder.path().join("node.toml");
    let text = format!(
        "version = 1\n[[clusters]]\nname = \"acc-toml\"\nservers = [{:?}]\nauth = {{ token_file = \"secret\" }}\n",
        servers.servers(0)[0]
    );
    fs::write(&node_toml, text).unwrap();
    let config = Config::from_path(&node_toml).unwrap();
    gets_in(config.clusters[0].clone());
}

#[test]
fn a_file_that_is_missing_fails_the_try_and_not_the_node() {
    let _permit = permit(1);
    let config = format!("authorization {{ token: {CANARY:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).unwrap();
    let auth = AuthConfig::token_file("/no/such/folder/token");
    fails_with(cluster("acc-missing", &servers).auth(auth), "/no/such/folder/token: cannot be read");
}
