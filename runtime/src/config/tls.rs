//! `tls` of a cluster: that its links are encrypted, and who must be at the other end.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{quantity, schema};

/// `clusters.tls`: the cluster's links require TLS. An empty table takes the machine's own issuers and
/// verifies the host of each server's URL.
///
/// A server that offers no TLS is left before anything is sent to it. Certificate and name are always
/// verified. The files, PEM of at most [`PEM_BYTES_MAX`](super::PEM_BYTES_MAX)
/// bytes, are read again at each connect; a relative path is relative to the
/// configuration's file, and in a configuration made otherwise to the working directory.
///
/// ```toml
/// tls = { ca_file = "ca.pem", cert_file = "n1.pem", key_file = "n1.key" }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { ca_file = \"ca.pem\" }")]
pub struct TlsConfig {
    /// Certificates of the issuers to trust, instead of the machine's own.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::file")]
    pub ca_file: Option<PathBuf>,
    /// This node's certificate, then those between it and its issuer; with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::file")]
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "quantity::path")]
    #[schemars(schema_with = "schema::secret_file")]
    pub key_file: Option<PathBuf>,
    /// Whether the handshake comes before the server's greeting, for servers with `handshake_first`;
    /// default `false`. Then nothing at all passes in the clear.
    pub first: bool,
    /// The name, or address, that every server's certificate must bear. `None`: the host of the server's
    /// URL; a server that another one has named must bear what that other one must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl TlsConfig {
    /// Trusts the issuers in this file instead of the machine's own.
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca_file: Some(path.into()), ..self }
    }

    /// Shows this certificate to servers that ask for one.
    #[must_use]
    pub fn client_certificate(self, cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self { cert_file: Some(cert_file.into()), key_file: Some(key_file.into()), ..self }
    }

    /// Sets whether the handshake comes before the server's greeting.
    #[must_use]
    pub fn first(self, first: bool) -> Self {
        Self { first, ..self }
    }

    /// Sets the name that every server's certificate must bear.
    #[must_use]
    pub fn server_name(self, name: impl Into<String>) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// The files that are named.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [
            ("ca_file", self.ca_file.as_ref()),
            ("cert_file", self.cert_file.as_ref()),
            ("key_file", self.key_file.as_ref()),
        ]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
    }
}
