//! What a node is told: one struct per section of `node.toml`, its defaults, and what it refuses.

mod address;
mod admin;
mod auth;
mod changes;
mod cpus;
mod error;
mod file_check;
mod form;
mod layers;
#[cfg(test)]
mod layers_tests;
mod log;
mod origin;
mod overrides;
#[cfg(test)]
mod page;
mod parse;
mod peer_address;
mod quantity;
#[cfg(test)]
mod refusals_tests;
mod registry;
#[cfg(test)]
mod registry_tests;
mod schema;
mod section;
mod server_url;
mod show;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
mod validate;
mod validate_access;
mod validate_registry;

pub use self::{
    address::{InvalidServerAddress, ServerAddress},
    admin::{ADMIN_ADDRESS_USUAL, AdminListen},
    auth::AuthConfig,
    cpus::{CPU_MAX, Cpus, InvalidCpus},
    error::{ConfigError, Place, Problem},
    file_check::{FileFault, FileFinding},
    log::{LogConfig, LogFormat, LogLevel},
    origin::{Origin, Origins},
    overrides::{OVERRIDE_BYTES_MAX, OVERRIDES_MAX},
    peer_address::{InvalidPeerAddress, PeerAddress},
    quantity::shown_size,
    registry::RegistryConfig,
    section::{
        ClusterConfig, ConnectionConfig, LimitsConfig, NodeConfig, QueueLimits, ReconnectConfig, RingConfig,
        RingMode, Role, ShardsConfig, SlowSubscriberPolicy,
    },
    server_url::ServerUrl,
    sources::{Loaded, Sources},
    tls::TlsConfig,
    validate::{
        BLOCKED_AFTER_MIN, CATCH_UP_MAX, CLUSTERS_MAX, INBOX_MAX, INBOX_PREFIX_BYTES_MAX, NAME_BYTES_MAX,
        PAYLOAD_BYTES_MAX, PINGS_OUT_MAX, SERVERS_MAX, SPIN_MAX, WAIT_MAX, WEIGHT_MAX, WEIGHT_MIN,
    },
    validate_access::USER_BYTES_MAX,
    validate_registry::{HEARTBEAT_MIN, SECRETS_MAX, SEEDS_MAX},
};
pub(crate) use self::{changes::changed_keys, error::CODE_SOURCE};

pub(crate) use self::error::redacted;

use std::{path::Path, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::{
    credentials::CREDS_BYTES_MAX,
    secret::{SECRET_BYTES_MAX, Secret},
    tls::PEM_BYTES_MAX,
};

/// Everything that a node is told at its start: `node.toml` as a value.
///
/// [`Config::default`] is what an empty file means, but for two things: a node needs at least one
/// cluster, so the default alone does not pass [`Config::validate`], and in code the admin server is off, where a
/// file that does not say means [`AdminListen::Usual`].
///
/// ```
/// use croupier::config::Config;
///
/// let config: Config = r#"
///     version = 1
///     [[clusters]]
///     servers = ["nats://127.0.0.1:4222"]
/// "#
/// .parse()?;
/// assert_eq!(config.clusters[0].name, "c1");
/// # Ok::<(), croupier::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[node]`: who this process is.
    pub node: NodeConfig,
    /// `[shards]`: on which cores it works.
    pub shards: ShardsConfig,
    /// `[ring]`: how topics are spread over the clusters.
    pub ring: RingConfig,
    /// `[[clusters]]`: the NATS clusters, 1 to [`CLUSTERS_MAX`]. The ring goes by their names and
    /// weights; only [`RingMode::Roulette`] goes by their order.
    pub clusters: Vec<ClusterConfig>,
    /// `[connection]`: how links to the clusters are opened and watched.
    pub connection: ConnectionConfig,
    /// `[limits]`: the bound of every buffer and wait.
    pub limits: LimitsConfig,
    /// `[registry]`: how nodes find each other and offer services. `None`: the registry is this node alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryConfig>,
    /// `[log]`: which events are written, and how.
    pub log: LogConfig,
}

impl Config {
    /// Reads and checks a TOML file, and nothing else; [`Sources`] has the environment and `--set` as well.
    ///
    /// Relative paths in the file are relative to its folder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the file cannot be read or is not TOML; or, with all of them at once, when it holds
    /// unknown keys, values of the wrong kind, or what [`Config::validate`] does not let pass.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        parse::from_path(path.as_ref())
    }

    /// The JSON Schema of `node.toml`: every key with its meaning, unit, default and limits. Editors use it.
    ///
    /// Beside the words of JSON Schema it has some of its own: `x-unit` says what a quantity is (`bytes` or
    /// `duration`), `x-minimum` and `x-maximum` limit one, and `x-file` marks the name of a file, `secret` of
    /// one that only the node should be able to read. `x-reloadable` marks what a running node can change.
    #[must_use]
    pub fn schema_json() -> String {
        schema::schema_json()
    }

    /// Checks what the types cannot say: names, ranges, server addresses, cores.
    ///
    /// A parsed configuration has passed it; one built in code is checked by the builder of the node.
    /// It asks the kernel for the set of allowed CPUs and does nothing else outside the value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with every problem found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        validate::validate(self)
    }
}

impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        parse::from_text(text)
    }
}
