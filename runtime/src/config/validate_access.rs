//! What a cluster's `auth` and `tls` may not say.

use super::{AuthConfig, ClusterConfig, Config, ServerUrl, TlsConfig, error::Problem};
use crate::cluster_link::tls_name;

/// Longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 1024;

pub(super) fn check_access(problems: &mut Vec<Problem>, index: usize, cluster: &ClusterConfig) {
    if let Some(auth) = &cluster.auth {
        check_auth(problems, index, auth);
        let has_credentials = |server: &String| {
            server.parse::<ServerUrl>().is_ok_and(|url: ServerUrl| url.credentials.is_some())
        };
        if let Some(position) = cluster.servers.iter().position(has_credentials) {
            let key = format!("clusters[{index}].servers[{position}]");
            problems.push(Problem::new(key, "carries credentials, and there is also auth", "remove one"));
        }
    }
    if let Some(tls) = &cluster.tls {
        check_tls(problems, index, tls);
    }
    let has_name = cluster.tls.as_ref().is_some_and(|tls| tls.server_name.is_some());
    if cluster.requires_tls() && !has_name {
        for (position, server) in cluster.servers.iter().enumerate() {
            let Ok(ServerUrl { address, .. }) = server.parse() else { continue };
            if tls_name(&address.host).is_none() {
                let key = format!("clusters[{index}].servers[{position}]");
                let message = format!("`{}` is no name that a certificate may bear", address.host);
                problems.push(Problem::new(key, message, "set tls.server_name to the one that it bears"));
            }
        }
    }
}

fn check_auth(problems: &mut Vec<Problem>, index: usize, auth: &AuthConfig) {
    let key = |field: &str| format!("clusters[{index}].auth{field}");
    let AuthConfig { user, password_file, token_file, nkey_seed_file, creds_file, credentials } = auth;
    let kinds = [
        ("user", user.is_some() || password_file.is_some()),
        ("token_file", token_file.is_some()),
        ("nkey_seed_file", nkey_seed_file.is_some()),
        ("creds_file", creds_file.is_some()),
        ("credentials", credentials.is_some()),
    ];
    let given: Vec<&str> = kinds.into_iter().filter_map(|(kind, given)| given.then_some(kind)).collect();
    const KINDS: &str = "user with password_file, token_file, nkey_seed_file or creds_file";
    match given.as_slice() {
        [] => problems.push(Problem::new(key(""), "says nothing", format!("set one of {KINDS}"))),
        [_] => {}
        several => {
            let message = format!("says who this node is in {} ways: {}", several.len(), several.join(", "));
            problems.push(Problem::new(key(""), message, format!("keep one of {KINDS}")));
        }
    }
    match (user, password_file) {
        (Some(user), _) if user.is_empty() || user.len() > USER_BYTES_MAX => {
            let message = format!("has {} bytes", user.len());
            problems.push(Problem::new(key(".user"), message, format!("use 1 to {USER_BYTES_MAX}")));
        }
        (Some(_), None) => {
            let remedy = "add password_file = \"/run/secrets/c1\"";
            problems.push(Problem::new(key(".user"), "has no password", remedy));
        }
        (None, Some(_)) => {
            let remedy = "add user = \"app\", or use token_file";
            problems.push(Problem::new(key(".password_file"), "belongs to no user", remedy));
        }
        _ => {}
    }
    for (field, path) in auth.files() {
        if path.as_os_str().is_empty() {
            problems.push(empty_path(key(&format!(".{field}"))));
        }
    }
}

fn check_tls(problems: &mut Vec<Problem>, index: usize, tls: &TlsConfig) {
    let key = |field: &str| format!("clusters[{index}].tls.{field}");
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => {
            let remedy = "add key_file, the certificate's private key";
            problems.push(Problem::new(key("cert_file"), "is a certificate without its key", remedy));
        }
        (None, Some(_)) => {
            let remedy = "add cert_file, the key's certificate";
            problems.push(Problem::new(key("key_file"), "is a key without its certificate", remedy));
        }
        _ => {}
    }
    for (field, path) in tls.files() {
        if path.as_os_str().is_empty() {
            problems.push(empty_path(key(field)));
        }
    }
    if let Some(name) = &tls.server_name
        && tls_name(name).is_none()
    {
        let message = format!("{name:?} is no name that a certificate may bear");
        problems.push(Problem::new(key("server_name"), message, "use a DNS name or an IP address"));
    }
}

fn empty_path(key: String) -> Problem {
    Problem::new(key, "is empty", "write the path of a file")
}

/// Credentials in the URLs of a configuration that is a text: secrets stand in files of their own.
pub(super) fn secrets_in_urls(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, cluster) in config.clusters.iter().enumerate() {
        for (position, server) in cluster.servers.iter().enumerate() {
            let Ok(url) = server.parse::<ServerUrl>() else { continue };
            if url.credentials.is_some() {
                let key = format!("clusters[{index}].servers[{position}]");
                let remedy = "secrets are read from files: auth = { user = \"app\", password_file = \
                              \"/run/secrets/c1\" }, or { token_file = \"/run/secrets/c1\" }";
                problems.push(Problem::new(key, format!("`{url}` carries credentials"), remedy));
            }
        }
    }
    problems
}
