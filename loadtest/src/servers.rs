//! The servers of a run: own ones, which end with it, or those of a configuration, which run already.

use std::path::{Path, PathBuf};

use croupier::testing::{LocalCluster, LocalClusterError};
use croupier::{Builder, ClusterName, Config, Node, dial};

use crate::console::Console;
use crate::fault::{Detour, Routes, Timeline};
use crate::options::RunOptions;
use crate::quantity::counted;
use crate::scenario::RunError;

/// Where the clusters of a run come from.
#[derive(Debug)]
pub(crate) enum Servers {
    Own(LocalCluster),
    /// Of this configuration.
    Existing(PathBuf),
}

impl Servers {
    /// Starts those that the options ask for, whose own ones reach each other by `routes`; of each cluster of a
    /// configuration one at least has to be there.
    pub(crate) fn start(options: &RunOptions, routes: &Routes, console: Console) -> Result<Self, RunError> {
        if let Some(path) = &options.config {
            console.line(format_args!("servers     those of {}", path.display()));
            reach(existing(path)?.config_mut())?;
            return Ok(Self::Existing(path.clone()));
        }
        let mut own = routes.start(options.clusters, options.nodes)?;
        if let Some(folder) = &options.output.folder {
            own.copy_logs_to(folder);
        }
        let version = own.server_version();
        console.line(match options.nodes {
            1 => format!("servers     {} x nats-server {version}", options.clusters),
            nodes => {
                format!(
                    "servers     {} of {nodes} x nats-server {version}",
                    counted(options.clusters, "cluster")
                )
            }
        });
        Ok(Self::Own(own))
    }

    /// What own servers say of themselves.
    pub(crate) fn version(&self) -> Option<String> {
        match self {
            Self::Own(own) => Some(own.server_version().to_owned()),
            Self::Existing(_) => None,
        }
    }

    /// A builder of a node that knows the clusters, and is nothing but a load: of a configuration only what is
    /// said of clusters, connections, the ring and limits holds.
    pub(crate) fn builder(&self) -> Result<Builder, croupier::Error> {
        match self {
            Self::Own(own) => Ok(own.builder()),
            Self::Existing(path) => existing(path),
        }
    }

    /// The way to own servers that faults need.
    pub(crate) fn detour(&self, faults: &Timeline) -> Result<Detour, LocalClusterError> {
        let Self::Own(own) = self else { return Ok(Detour::default()) };
        Detour::new(faults, own)
            .map_err(|source| LocalClusterError::System { doing: "start the proxy".to_owned(), source })
    }

    /// As [`builder`](Self::builder), with the way to own servers that faults need.
    pub(crate) fn builder_by(&self, detour: &Detour) -> Result<Builder, croupier::Error> {
        match self {
            Self::Own(own) => Ok(detour.builder(own)),
            Self::Existing(_) => self.builder(),
        }
    }

    pub(crate) fn own(&mut self) -> Option<&mut LocalCluster> {
        match self {
            Self::Own(own) => Some(own),
            Self::Existing(_) => None,
        }
    }
}

/// A builder of a node that knows the clusters of this configuration, and nothing else of it but what is said of
/// connections, the ring and limits.
pub(crate) fn existing(path: &Path) -> Result<Builder, croupier::Error> {
    let mut builder = Node::from_toml(path)?.admin_listen("");
    let config = builder.config_mut();
    // The node that the configuration is for may run beside this one.
    config.registry = None;
    config.shards.pin = false;
    Ok(builder)
}

/// Whether of each cluster a server can be reached: a run would wait for it, and not know why it is not there.
fn reach(config: &Config) -> Result<(), RunError> {
    let dialled = dial::servers(config)?;
    for cluster in &config.clusters {
        let of_cluster = dialled.iter().filter(|one| one.cluster == *cluster.name.as_str());
        let failures: Option<Vec<String>> = of_cluster
            .map(|one| {
                // Some of it may be what a stranger said.
                let told = |error: &dial::DialError| error.to_string().replace(char::is_control, " ");
                one.outcome.as_ref().err().map(|error| format!("{}: {}", one.server, told(error)))
            })
            .collect();
        if let Some(failures) = failures {
            return Err(RunError::Unreachable {
                cluster: cluster.name.clone(),
                failures: failures.join("; "),
            });
        }
    }
    Ok(())
}

/// The names of the clusters that a node will know.
pub(crate) fn clusters(builder: &mut Builder) -> Vec<ClusterName> {
    builder.config_mut().clusters.iter().map(|cluster| cluster.name.as_str().into()).collect()
}

/// The processes that run.
pub(crate) fn pids(servers: &mut LocalCluster) -> Result<Vec<u32>, LocalClusterError> {
    let mut pids = Vec::new();
    for cluster in 0..servers.clusters() {
        for node in 0..servers.servers(cluster).len() {
            pids.extend(servers.pid(cluster, node)?);
        }
    }
    Ok(pids)
}
