//! `auth` of a cluster: who this node is to its servers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{USER_BYTES_MAX, quantity, schema};
use crate::credentials::Credentials;

/// `clusters.auth`: who this node is to a cluster's servers. Exactly one kind.
///
/// The files are read again at each connect, so that a secret is changed by changing its file. A line
/// break at the end does not count. A relative path is relative to the configuration's file, and in a
/// configuration made otherwise to the working directory.
///
/// ```toml
/// auth = { user = "app", password_file = "/run/secrets/c1" }
/// auth = { token_file = "/run/secrets/c1" }
/// auth = { nkey_seed_file = "app.nk" }
/// auth = { creds_file = "app.creds" }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { user = \"app\", password_file = \"/run/secrets/c1\" }"
)]
pub struct AuthConfig {
    /// The user's name, at most [`USER_BYTES_MAX`](super::USER_BYTES_MAX) bytes; with `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = USER_BYTES_MAX))]
    pub user: Option<String>,
    /// A file with the user's password, at most [`SECRET_BYTES_MAX`](super::SECRET_BYTES_MAX) long.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::secret_file")]
    pub password_file: Option<PathBuf>,
    /// A file with a token, at most [`SECRET_BYTES_MAX`](super::SECRET_BYTES_MAX) long.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::secret_file")]
    pub token_file: Option<PathBuf>,
    /// A file with the seed of a user's NKey, `SU..`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::secret_file")]
    pub nkey_seed_file: Option<PathBuf>,
    /// A file with a user's JWT and seed, as `nsc` writes it; at most
    /// [`CREDS_BYTES_MAX`](super::CREDS_BYTES_MAX) long.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::secret_file")]
    pub creds_file: Option<PathBuf>,
    /// Credentials given in code; a file cannot hold them.
    #[serde(skip)]
    pub credentials: Option<Credentials>,
}

impl AuthConfig {
    /// A user whose password is in a file.
    pub fn password_file(user: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { user: Some(user.into()), password_file: Some(path.into()), ..Self::default() }
    }

    /// A token in a file.
    pub fn token_file(path: impl Into<PathBuf>) -> Self {
        Self { token_file: Some(path.into()), ..Self::default() }
    }

    /// The seed of a user's NKey in a file.
    pub fn nkey_seed_file(path: impl Into<PathBuf>) -> Self {
        Self { nkey_seed_file: Some(path.into()), ..Self::default() }
    }

    /// A user's JWT and seed in a file.
    pub fn creds_file(path: impl Into<PathBuf>) -> Self {
        Self { creds_file: Some(path.into()), ..Self::default() }
    }

    /// The files that are named.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [
            ("password_file", self.password_file.as_ref()),
            ("token_file", self.token_file.as_ref()),
            ("nkey_seed_file", self.nkey_seed_file.as_ref()),
            ("creds_file", self.creds_file.as_ref()),
        ]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
    }
}

impl From<Credentials> for AuthConfig {
    fn from(credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..Self::default() }
    }
}
