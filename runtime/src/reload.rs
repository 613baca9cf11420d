//! A new configuration for a node that runs: what may change is changed on every shard, or nothing is.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures_lite::future;

use crate::{
    ClusterName, Event, NodeHandle, Shard,
    cluster_link::ServerEntry,
    config::{Config, ConfigError, LimitsConfig, ServerAddress, changed_keys},
    logging,
    node::configured_servers,
    node_shared::NodeShared,
    secret::KeyRing,
};

/// Why a node keeps the configuration that it has. Nothing of the new one was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new configuration is refused, or a file with a secret cannot be read.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// Keys that a running node cannot change: restart it, or set them back.
    #[error("a running node cannot change {}: restart it for that; nothing was applied", .keys.join(", "))]
    Fixed {
        /// All of them, such as `registry.heartbeat`.
        keys: Vec<String>,
    },
    /// A server would pass from one cluster to another, while links of both are connected to it.
    #[error(
        "{server} is a server of cluster {from}, and cannot become one of {to} in the same reload: take it out of {from} first; nothing was applied"
    )]
    ServerPasses {
        /// The server.
        server: ServerAddress,
        /// The cluster that it belongs to.
        from: ClusterName,
        /// The cluster that it would belong to.
        to: ClusterName,
    },
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl ReloadError {
    /// Never: somebody has to change something first.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// What a reload has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The keys, such as `limits.request_timeout`; none if the configuration was as before.
    pub changed: Vec<String>,
}

/// Whether a reload can change a setting.
pub(crate) fn is_reloadable(key: &str) -> bool {
    let is_servers = key.starts_with("clusters[") && key.ends_with("].servers");
    is_servers
        || key.starts_with("limits.")
        || matches!(key, "log.level" | "registry.seeds" | "registry.secret_files" | "registry.secrets")
}

/// What a node runs with, and whose turn it is to change it.
pub(crate) struct Running {
    now: Mutex<Now>,
    /// Apart from the rest, so that a shard which makes a link does not wait for a reload to be checked.
    servers: Mutex<Servers>,
    /// One place: whoever has filled it changes the configuration.
    turn: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

struct Now {
    config: Config,
    keys: Option<KeyRing>,
}

/// The configured servers of each cluster.
pub(crate) type Servers = Arc<Vec<Vec<ServerEntry>>>;

impl Running {
    pub(crate) fn new(config: Config, keys: Option<KeyRing>) -> Self {
        Running {
            servers: Mutex::new(Arc::new(configured_servers(&config))),
            now: Mutex::new(Now { config, keys }),
            turn: async_channel::bounded(1),
        }
    }

    /// Those that links may connect to.
    pub(crate) fn servers(&self) -> Servers {
        Arc::clone(&self.servers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration that the node works by.
    pub(crate) fn config(&self) -> Config {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).config.clone()
    }
}

/// Gives the turn back, also when the caller has gone.
struct Turn<'a>(&'a Running);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The place that was filled for it.
        let _freed = self.0.turn.1.try_recv();
    }
}

/// What a shard applies: the settings as they all are, so that only the last counts.
pub(crate) struct Settings {
    limits: LimitsConfig,
    servers: Servers,
    seeds: Vec<String>,
    keys: Option<KeyRing>,
    /// Closed when every shard has dropped its own.
    _applied: async_channel::Sender<()>,
}

impl NodeHandle {
    /// Has the running node work by another configuration: `limits`, `log.level`, the `servers` of its clusters, the
    /// registry's `seeds` and its secrets, whose files are read again. When it returns, every shard does.
    ///
    /// It loses no message. A link that is connected to a server which is no longer configured moves to another one as
    /// from a server in lame duck mode (see [`Event::Moved`](crate::Event::Moved)), and stays where it is until one
    /// takes it; so does one whose server is configured with another scheme or other credentials. Servers that other
    /// servers have named stay: whoever is still named by them may be connected to again. Topics stay on their
    /// cluster, whose name and place in the list cannot change. A link that every server has refused for good has
    /// ended, and stays so. Bounds of a subscription's queue and of a service's inbox count for those made
    /// afterwards; a request or a drain under way keeps its time. A smaller `publish_buffer` refuses new messages
    /// until what waits has become less. Links between nodes stay; new ones use the new secrets.
    ///
    /// # Errors
    ///
    /// [`ReloadError::Fixed`] with every other key that differs, [`ReloadError::Invalid`],
    /// [`ReloadError::ServerPasses`], [`ReloadError::Stopped`]; then nothing was applied.
    pub fn reload(
        &self,
        config: Config,
    ) -> impl Future<Output = Result<Reloaded, ReloadError>> + Send + use<> {
        let node = Arc::clone(self.shared());
        async move {
            // It is open as long as the node's own end is.
            let _open = node.running.turn.0.send(()).await;
            let _turn = Turn(&node.running);
            let outcome = apply(&node, config).await;
            match &outcome {
                Ok(Reloaded { changed }) => {
                    if changed.is_empty() {
                        tracing::info!(
                            node = node.name,
                            "the configuration was read again, and is as before"
                        );
                    } else {
                        tracing::info!(node = node.name, ?changed, "the configuration has changed");
                    }
                    node.events.emit(|| Event::Reloaded { changed: changed.clone() });
                }
                Err(error) => node.events.emit(|| Event::ReloadRefused { reason: error.to_string() }),
            }
            outcome
        }
    }
}

/// Applies the new configuration on every shard, or nothing anywhere.
async fn apply(node: &NodeShared, config: Config) -> Result<Reloaded, ReloadError> {
    let (changed, applied) = begin(node, config)?;
    // A shard that stops drops what it has not applied only with the node.
    let all_applied = async {
        let _closed = applied.recv().await;
    };
    future::or(all_applied, async {
        let _stopped = node.stopped().await;
    })
    .await;
    Ok(Reloaded { changed })
}

/// Checks the new configuration, takes it as the node's own and tells the shards.
fn begin(
    node: &NodeShared,
    config: Config,
) -> Result<(Vec<String>, async_channel::Receiver<()>), ReloadError> {
    if node.is_stopped() {
        return Err(ReloadError::Stopped);
    }
    config.validate()?;
    let keys = config.registry.as_ref().map(|registry| registry.key_ring()).transpose()?;
    let mut now = node.running.now.lock().unwrap_or_else(PoisonError::into_inner);
    let mut changed = changed_keys(&now.config, &config);
    let fixed: Vec<String> = changed.iter().filter(|key| !is_reloadable(key)).cloned().collect();
    if !fixed.is_empty() {
        return Err(ReloadError::Fixed { keys: fixed });
    }
    let servers = Arc::new(configured_servers(&config));
    refuse_passing_servers(node, &node.running.servers(), &servers)?;
    let names_secrets = |key: &String| matches!(key.as_str(), "registry.secret_files" | "registry.secrets");
    if keys != now.keys && !changed.iter().any(names_secrets) {
        // The files have the same names and another content.
        changed.push("registry.secret_files".to_owned());
    }
    node.limits.set(&config.limits);
    *node.running.servers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&servers);
    if changed.iter().any(|key| key == "log.level")
        && let Some(log) = logging::installed()
    {
        log.set_level(config.log.level);
    }
    let (applied, all_applied) = async_channel::bounded(1);
    for port in &node.ports {
        let settings = Settings {
            limits: config.limits.clone(),
            servers: Arc::clone(&servers),
            seeds: config.registry.as_ref().map(|registry| registry.seeds.clone()).unwrap_or_default(),
            keys: keys.clone(),
            _applied: applied.clone(),
        };
        // An earlier one that was not taken yet gives way; a shard that has stopped needs none.
        let _displaced = port.settings.force_send(settings);
    }
    *now = Now { config, keys };
    Ok((changed, all_applied))
}

/// Between the moves of two clusters' links one server would belong to both, and topics would be delivered twice.
fn refuse_passing_servers(
    node: &NodeShared,
    old: &[Vec<ServerEntry>],
    new: &[Vec<ServerEntry>],
) -> Result<(), ReloadError> {
    for (to, servers) in new.iter().enumerate() {
        for server in servers {
            let is_here = |known: &ServerEntry| known.is_same_place(&server.address);
            if let Some(from) = old.iter().position(|servers| servers.iter().any(is_here))
                && from != to
            {
                return Err(ReloadError::ServerPasses {
                    server: server.address.clone(),
                    from: node.clusters[from].clone(),
                    to: node.clusters[to].clone(),
                });
            }
        }
    }
    Ok(())
}

/// Applies on a shard what comes, until the shard ends.
pub(crate) async fn apply_all(shard: Shard, settings: async_channel::Receiver<Settings>) {
    while let Ok(settings) = settings.recv().await {
        for link in shard.links() {
            link.apply_limits(&settings.limits);
            link.apply_servers(&settings.servers[link.index()]);
        }
        let registry = shard.registry_shard();
        registry.inboxes().set_limits(&settings.limits);
        if let Some(keys) = &settings.keys {
            registry.set_keys(keys.clone());
            registry.set_seeds(&settings.seeds);
        }
    }
}

/// What a node that was built from sources is told when they are read again.
///
/// `read` is what they said at the start and `told` what the node was told then: a section that the program has
/// changed in code stays as the program has it.
pub(crate) fn carried(read: &Config, told: &Config, fresh: Config) -> Config {
    let Config { node, shards, ring, clusters, connection, limits, registry, log } = fresh;
    macro_rules! section {
        ($name:ident) => {
            if read.$name == told.$name { $name } else { told.$name.clone() }
        };
    }
    Config {
        node: section!(node),
        shards: section!(shards),
        ring: section!(ring),
        clusters: section!(clusters),
        connection: section!(connection),
        limits: section!(limits),
        registry: section!(registry),
        log: section!(log),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ClusterConfig;

    #[test]
    fn sections_that_code_has_changed_stay_as_they_are() {
        let read = Config { clusters: vec![ClusterConfig::new("c1", ["a"])], ..Config::default() };
        let mut told = read.clone();
        told.limits.max_payload = 7;
        let mut fresh = read.clone();
        fresh.limits.request_timeout = Duration::from_secs(9);
        fresh.shards.inbox = 9;
        let carried = carried(&read, &told, fresh);
        assert_eq!(carried.limits, told.limits);
        assert_eq!(carried.shards.inbox, 9);
        assert_eq!(carried.clusters, read.clusters);
    }
}
