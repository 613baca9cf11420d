//! `[registry]`: how this node finds the others, and what they must know to get in.

use std::{
    fmt,
    fs::File,
    io::Read,
    net::{AddrParseError, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::warn;
use zeroize::Zeroizing;

use super::{
    error::ConfigError,
    peer_address::{InvalidPeerAddress, PeerAddress},
    quantity, schema,
    validate::NAME_BYTES_MAX,
};
use crate::secret::{KeyRing, SECRET_BYTES_MAX, Secret};

/// A secret below this many bytes is warned about at the start.
const SECRET_BYTES_ADVISED: usize = 16;

/// The permission bit that lets every user of the machine read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// `[registry]`: how this node finds the others, and what they must know to get in.
///
/// A node without it has a registry of its own services only. With it, the node needs a
/// [name](super::NodeConfig::name).
///
/// ```
/// use croupier::{Node, RegistryConfig};
///
/// let registry = RegistryConfig::new("prod")
///     .bind("10.0.0.1:7946")
///     .seed("n2.example:7946")
///     .secret("4f1c0a7be2d95d38");
/// let node = Node::builder().name("n1").cluster("c1", ["nats://127.0.0.1:4222"]).registry(registry);
/// # drop(node);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [registry]")]
#[schemars(extend("required" = ["cluster"]))]
pub struct RegistryConfig {
    /// The name of the registry's own cluster: nodes of another name are refused. Printable, without
    /// blanks, at most [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX) bytes.
    #[schemars(length(min = 1, max = NAME_BYTES_MAX))]
    pub cluster: String,
    /// Where this node listens for the others, `ip:port`; default `127.0.0.1:7946`. Port 0 takes any free
    /// one. Off loopback it needs a secret, or [`insecure`](Self::insecure).
    #[schemars(schema_with = "schema::socket_address")]
    pub bind: String,
    /// Where the others reach this node, `ip:port`. `None`: the address that it listens on, which must
    /// then be one that others can dial, not `0.0.0.0` or `[::]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::socket_address")]
    pub advertise: Option<String>,
    /// Other nodes to ask for the members, each `host:port`, addresses or DNS names; at most
    /// [`SEEDS_MAX`](super::SEEDS_MAX). They are resolved and dialled again for ever; this node's own
    /// address among them does no harm.
    #[schemars(schema_with = "schema::seeds")]
    pub seeds: Vec<String>,
    /// Time between two heartbeats on a link; default 250 ms, at least
    /// [`HEARTBEAT_MIN`](super::HEARTBEAT_MIN). With more than 100 nodes it grows by itself.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::heartbeat")]
    pub heartbeat: Duration,
    /// Silence after which a node is suspected; default 1 s, at least four heartbeats. Its services are
    /// still served; they are hidden when it is found to be down.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub suspect_after: Duration,
    /// How long a node that is down is remembered with its services; default 20 min, longer than
    /// `suspect_after`. If it comes back earlier, only what has changed is sent.
    #[serde(with = "quantity::duration")]
    #[schemars(schema_with = "schema::wait")]
    pub forget_after: Duration,
    /// Files with one secret each, a line break at the end apart; read at the start. With
    /// [`secrets`](Self::secrets), which come first, at most [`SECRETS_MAX`](super::SECRETS_MAX): the
    /// first of all encrypts the links that this node dials, each of them is accepted. To change a secret,
    /// add the new one as the last everywhere, then make it the first everywhere, then remove the old one.
    #[serde(serialize_with = "quantity::paths")]
    #[schemars(schema_with = "schema::secret_files")]
    pub secret_files: Vec<PathBuf>,
    /// Whether a node off loopback may do without a secret; default `false`. Its links are then neither
    /// encrypted nor authenticated: whoever reaches the port can change what is offered where.
    pub insecure: bool,
    /// Secrets given in code; a file cannot hold them.
    #[serde(skip)]
    pub secrets: Vec<Secret>,
}

impl Default for RegistryConfig {
    /// Without the name of the cluster, which validation demands.
    fn default() -> Self {
        Self {
            cluster: String::new(),
            bind: "127.0.0.1:7946".to_owned(),
            advertise: None,
            seeds: Vec::new(),
            heartbeat: Duration::from_millis(250),
            suspect_after: Duration::from_secs(1),
            forget_after: Duration::from_secs(20 * 60),
            secret_files: Vec::new(),
            insecure: false,
            secrets: Vec::new(),
        }
    }
}

impl RegistryConfig {
    /// The defaults, for a registry of this name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), ..Self::default() }
    }

    /// Sets where this node listens, `ip:port`.
    #[must_use]
    pub fn bind(self, address: impl fmt::Display) -> Self {
        Self { bind: address.to_string(), ..self }
    }

    /// Sets where the others reach this node, `ip:port`.
    #[must_use]
    pub fn advertise(self, address: impl fmt::Display) -> Self {
        Self { advertise: Some(address.to_string()), ..self }
    }

    /// Adds a node to ask for the members, `host:port`.
    #[must_use]
    pub fn seed(mut self, address: impl fmt::Display) -> Self {
        self.seeds.push(address.to_string());
        self
    }

    /// Adds a secret: the first one sends, all are accepted.
    #[must_use]
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secrets.push(Secret::new(secret));
        self
    }

    /// Adds a file with a secret, which comes after those given as bytes.
    #[must_use]
    pub fn secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret_files.push(path.into());
        self
    }

    /// Sets the time between two heartbeats.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }

    /// Sets the silence after which a node is suspected.
    #[must_use]
    pub fn suspect_after(self, suspect_after: Duration) -> Self {
        Self { suspect_after, ..self }
    }

    /// Sets how long a node that is down is remembered.
    #[must_use]
    pub fn forget_after(self, forget_after: Duration) -> Self {
        Self { forget_after, ..self }
    }

    /// Sets whether a node off loopback may do without a secret.
    #[must_use]
    pub fn insecure(self, insecure: bool) -> Self {
        Self { insecure, ..self }
    }

    /// The address to listen on.
    ///
    /// # Errors
    ///
    /// When `bind` is not `ip:port`.
    pub fn bind_address(&self) -> Result<SocketAddr, AddrParseError> {
        self.bind.trim().parse()
    }

    /// The address that the others dial, if one is set.
    ///
    /// # Errors
    ///
    /// When `advertise` is not `ip:port`.
    pub fn advertise_address(&self) -> Result<Option<SocketAddr>, AddrParseError> {
        self.advertise.as_deref().map(|address| address.trim().parse()).transpose()
    }

    /// The seeds as addresses.
    ///
    /// # Errors
    ///
    /// The first that is none.
    pub fn seed_addresses(&self) -> Result<Vec<PeerAddress>, InvalidPeerAddress> {
        self.seeds.iter().map(|seed| seed.parse()).collect()
    }

    /// Reads the files and makes the keys: first those of `secrets`, then those of the files.
    ///
    /// A file that every user of the machine may read and a short secret are warned about.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Read`], [`ConfigError::EmptySecret`] or [`ConfigError::LongSecret`] for the first
    /// file that holds no secret.
    pub(crate) fn key_ring(&self) -> Result<KeyRing, ConfigError> {
        let mut secrets = self.secrets.clone();
        for path in &self.secret_files {
            secrets.push(read_secret(path)?);
        }
        for (position, secret) in secrets.iter().enumerate() {
            let bytes = secret.bytes().len();
            if bytes < SECRET_BYTES_ADVISED {
                warn!(
                    position,
                    bytes, "a registry secret is short; use at least {SECRET_BYTES_ADVISED} random bytes"
                );
            }
        }
        Ok(KeyRing::new(&secrets))
    }
}

fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let mode = file.metadata().map_err(read_error)?.permissions().mode();
    if mode & READABLE_BY_ALL != 0 {
        warn!(path = %path.display(), "every user of this machine can read a registry secret: chmod o-r");
    }
    // One byte more than a secret and its line break may have, and so much room that the vector does not move.
    let limit = SECRET_BYTES_MAX + "\r\n".len() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * limit));
    file.take(limit as u64).read_to_end(&mut bytes).map_err(read_error)?;
    let secret =
        bytes.strip_suffix(b"\n").map_or(&bytes[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    if secret.is_empty() {
        return Err(ConfigError::EmptySecret { path: path.to_owned() });
    }
    if secret.len() > SECRET_BYTES_MAX {
        return Err(ConfigError::LongSecret { path: path.to_owned(), bytes_max: SECRET_BYTES_MAX });
    }
    Ok(Secret::new(secret))
}
