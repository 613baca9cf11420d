//! Local NATS clusters: real servers on loopback that a test starts, breaks and leaves behind nothing of.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    folder::Folder,
    nats_server::{NatsServerBinary, NatsServerError},
    port::ReservedPort,
    readiness::{self, READY_WITHIN},
    server::Server,
};
use crate::config::{CLUSTERS_MAX, ClusterConfig};

/// Most servers of one local cluster.
pub const NODES_MAX: usize = 16;

/// Real nats-servers on free ports of 127.0.0.1: clusters `c1`, `c2`, .. at index 0, 1, ..
///
/// Calls take indexes. Names, in errors, in logs and as the servers tell them, count from 1: the server at index 1 of
/// the cluster at index 0 is `c1/2`, and its log `c1-2.log`.
///
/// Each keeps its port over a restart. All are killed, and their logs removed, when the value is
/// dropped; the kernel kills them when this process ends in any other way. Several may run at once, in
/// one process or in many. Every call blocks: it is for tests and tools, not for a shard.
///
/// ```no_run
/// use croupier::testing::LocalCluster;
///
/// let mut gnatsd = LocalCluster::start(3)?;
/// println!("{:?}", gnatsd.servers(0)); // ["nats://127.0.0.1:40123"]
/// gnatsd.kill(0, 0)?;
/// gnatsd.restart(0, 0)?;
/// # Ok::<(), croupier::testing::LocalClusterError>(())
/// ```
#[derive(Debug)]
pub struct LocalCluster {
    // The servers go before the folder that holds their logs.
    clusters: Vec<Vec<Server>>,
    version: String,
    logs: Folder,
}

/// A route of a local cluster: one of its servers dials another. Both count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The index of the cluster.
    pub cluster: usize,
    /// The index of the server that dials.
    pub from: usize,
    /// The index of the server that is dialled, always the lower one.
    pub to: usize,
    /// Where that one takes routes.
    pub address: SocketAddr,
}

/// Where a server dials another.
type Way<'a> = &'a mut dyn FnMut(Route) -> io::Result<SocketAddr>;

/// Why local servers did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalClusterError {
    /// There is no nats-server to start.
    #[error(transparent)]
    Binary(#[from] NatsServerError),
    /// A number of clusters or servers that cannot be.
    #[error(
        "{clusters} clusters of {nodes_each} servers: there are 1 to {} clusters of 1 to {NODES_MAX} servers",
        CLUSTERS_MAX
    )]
    Size {
        /// Clusters asked for.
        clusters: usize,
        /// Servers asked for in each.
        nodes_each: usize,
    },
    /// No such server in this value.
    #[error("there is no server {node} of cluster {cluster}: both count from 0")]
    NoSuchServer {
        /// The index of the cluster.
        cluster: usize,
        /// The index of the server in it.
        node: usize,
    },
    /// The server is not running.
    #[error("{} is not running", server_name(*cluster, *node))]
    NotRunning {
        /// The index of the cluster.
        cluster: usize,
        /// The index of the server in it.
        node: usize,
    },
    /// The server is running already.
    #[error("{} is running: kill it before a restart", server_name(*cluster, *node))]
    Running {
        /// The index of the cluster.
        cluster: usize,
        /// The index of the server in it.
        node: usize,
    },
    /// The server has ended, or does not answer, or its routes do not come up. What was started stays
    /// as it is.
    #[error("{} {what}; the end of its log:\n{log_tail}", server_name(*cluster, *node))]
    NotReady {
        /// The index of the cluster.
        cluster: usize,
        /// The index of the server in it.
        node: usize,
        /// What happened.
        what: String,
        /// The last lines that it wrote.
        log_tail: String,
    },
    /// A port that was asked for cannot be had: somebody listens on it, or only root may.
    #[error("port {port} of 127.0.0.1, for {}, cannot be had: {source}", server_name(*cluster, *node))]
    Port {
        /// The port.
        port: u16,
        /// The index of the cluster.
        cluster: usize,
        /// The index of the server in it.
        node: usize,
        /// What the system said.
        source: io::Error,
    },
    /// There are not so many ports.
    #[error("{servers} servers cannot have the ports from {first} on: there are those from 1 to 65535")]
    NoSuchPorts {
        /// The first of them.
        first: u16,
        /// Servers of all clusters.
        servers: usize,
    },
    /// The system refused something: a process, a port, a folder, a signal.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LocalCluster {
    /// So many clusters of one server each; returns when all of them answer.
    ///
    /// # Errors
    ///
    /// Any of [`LocalClusterError`]; whatever had been started is gone then.
    pub fn start(clusters: usize) -> Result<Self, LocalClusterError> {
        Self::with_nodes(clusters, 1)
    }

    /// So many clusters, each of so many servers joined by routes; returns when all of them answer and
    /// a message from each server arrives at every other server of its cluster.
    ///
    /// # Errors
    ///
    /// Any of [`LocalClusterError`]; whatever had been started is gone then.
    pub fn with_nodes(clusters: usize, nodes_each: usize) -> Result<Self, LocalClusterError> {
        check_size(clusters, nodes_each)?;
        Self::of_binary(&NatsServerBinary::find()?, clusters, nodes_each)
    }

    /// As [`LocalCluster::with_nodes`], on these ports instead of free ones: the first server of the first cluster
    /// has `first_port`, each further one the next, cluster by cluster. Routes take free ports.
    ///
    /// # Errors
    ///
    /// Any of [`LocalClusterError`]; [`LocalClusterError::Port`] names a port that is taken, before any server has
    /// started.
    pub fn with_ports(
        clusters: usize,
        nodes_each: usize,
        first_port: u16,
    ) -> Result<Self, LocalClusterError> {
        check_size(clusters, nodes_each)?;
        let binary = NatsServerBinary::find()?;
        Self::start_all(&binary, ports_from(clusters, nodes_each, first_port)?, None, None)
    }

    /// As [`LocalCluster::with_nodes`], for who stands between the servers, or before them: each dials the others where
    /// `way` says, and none tells its clients of the others (`--no_advertise`), so that these stay on the way that they
    /// were given. `way` is asked once for each route, before any server has started. With more than two servers each
    /// tells the other servers where the rest is, and they may also dial each other there.
    ///
    /// ```no_run
    /// use croupier::testing::LocalCluster;
    ///
    /// let gnatsd = LocalCluster::with_routes(1, 2, |route| {
    ///     println!("server {} dials server {} at {}", route.from, route.to, route.address);
    ///     Ok(route.address)
    /// })?;
    /// # Ok::<(), croupier::testing::LocalClusterError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any of [`LocalClusterError`]; when `way` fails [`LocalClusterError::System`].
    pub fn with_routes(
        clusters: usize,
        nodes_each: usize,
        mut way: impl FnMut(Route) -> io::Result<SocketAddr>,
    ) -> Result<Self, LocalClusterError> {
        check_size(clusters, nodes_each)?;
        let binary = NatsServerBinary::find()?;
        Self::start_all(&binary, free_ports(clusters, nodes_each)?, None, Some(&mut way))
    }

    /// As [`LocalCluster::with_nodes`], but each server also reads this configuration, in nats-server's own
    /// form: accounts, TLS, limits. Its listen address, name and routes stay what they are.
    ///
    /// Returns when the servers answer, and when each names the others in its
    /// greeting: it does not try whether messages pass, for which it would need credentials. One with
    /// `handshake_first` has no plain greeting: its log tells that it is ready, and its routes are not waited for.
    ///
    /// ```no_run
    /// use croupier::testing::LocalCluster;
    ///
    /// let gnatsd = LocalCluster::with_config(1, 1, "authorization { token: s3cret }")?;
    /// # Ok::<(), croupier::testing::LocalClusterError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any of [`LocalClusterError`]; with a configuration that nats-server refuses
    /// [`LocalClusterError::NotReady`], with what it says of it.
    pub fn with_config(
        clusters: usize,
        nodes_each: usize,
        config: impl AsRef<str>,
    ) -> Result<Self, LocalClusterError> {
        check_size(clusters, nodes_each)?;
        let binary = NatsServerBinary::find()?;
        Self::start_all(&binary, free_ports(clusters, nodes_each)?, Some(config.as_ref()), None)
    }

    /// Replaces a server's configuration, which counts from its next restart on, or from a reload:
    /// `signal(cluster, node, SIGHUP)`.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NoSuchServer`], or [`LocalClusterError::System`] when the file cannot be written.
    pub fn configure(
        &mut self,
        cluster: usize,
        node: usize,
        config: impl AsRef<str>,
    ) -> Result<(), LocalClusterError> {
        self.server(cluster, node)?.configure(config.as_ref()).map_err(system("write a configuration"))
    }

    fn of_binary(binary: &Path, clusters: usize, nodes_each: usize) -> Result<Self, LocalClusterError> {
        Self::start_all(binary, free_ports(clusters, nodes_each)?, None, None)
    }

    /// Servers with these ports for their clients, by cluster.
    fn start_all(
        binary: &Path,
        ports: Vec<Vec<ReservedPort>>,
        config: Option<&str>,
        mut way: Option<Way<'_>>,
    ) -> Result<Self, LocalClusterError> {
        let logs = Folder::new("croupier-gnatsd").map_err(system("make a folder for the logs"))?;
        let mut local = Self { clusters: Vec::new(), version: String::new(), logs };
        for (index, ports) in ports.into_iter().enumerate() {
            local.add_cluster(binary, index, ports, &mut way)?;
        }
        for (cluster, node) in local.indexes() {
            if let Some(config) = config {
                local.configure(cluster, node, config)?;
            }
        }
        for (cluster, node) in local.indexes() {
            local.launch(cluster, node)?;
        }
        let deadline = Instant::now() + READY_WITHIN;
        for (cluster, node) in local.indexes() {
            local.wait_for_answer(cluster, node, deadline)?;
        }
        for cluster in 0..local.clusters() {
            local.wait_for_routes(cluster, deadline)?;
        }
        Ok(local)
    }

    /// The client URLs of a cluster's servers, running or not, as `nats://127.0.0.1:port`.
    ///
    /// # Panics
    ///
    /// When there is no such cluster.
    #[must_use]
    pub fn servers(&self, cluster: usize) -> Vec<String> {
        self.clusters[cluster].iter().map(|server| format!("nats://{}", server.address())).collect()
    }

    /// How many clusters there are.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.clusters.len()
    }

    /// All clusters, as a node's configuration names them.
    #[must_use]
    pub fn cluster_configs(&self) -> Vec<ClusterConfig> {
        (0..self.clusters.len())
            .map(|index| ClusterConfig::new(cluster_name(index), self.servers(index)))
            .collect()
    }

    /// The version that the servers tell, such as `2.15.1`.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.version
    }

    /// The process of a server; `None` when it is not running.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NoSuchServer`].
    pub fn pid(&mut self, cluster: usize, node: usize) -> Result<Option<u32>, LocalClusterError> {
        Ok(self.server(cluster, node)?.pid())
    }

    /// The log of a server, over all its restarts. It is removed with this value unless
    /// [`LocalCluster::keep_logs`] was called.
    ///
    /// # Panics
    ///
    /// When there is no such server.
    #[must_use]
    pub fn log_path(&self, cluster: usize, node: usize) -> &Path {
        self.clusters[cluster][node].log_path()
    }

    /// Leaves the logs where they are when this value is dropped; answers in which folder.
    pub fn keep_logs(&mut self) -> &Path {
        self.logs.keep();
        self.logs.path()
    }

    /// Copies the logs of all servers to this folder, which must exist, when they have ended with this value.
    /// What cannot be copied is told on standard error.
    pub fn copy_logs_to(&mut self, folder: impl Into<PathBuf>) {
        self.logs.copy_logs_to(folder.into());
    }

    /// Kills a server (SIGKILL) and waits for its end. It may be paused. Its port stays reserved, so
    /// that connecting is refused until the restart.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NotRunning`] when it is dead already.
    pub fn kill(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        let killed = self.server(cluster, node)?.kill().map_err(system("kill a server"))?;
        running(killed, cluster, node)
    }

    /// Starts a killed server again on the same port; returns when it answers and has joined those
    /// servers of its cluster that run and are not paused. (The others dial it about once a second.)
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::Running`] when it runs; [`LocalClusterError::NotReady`] when it does not
    /// come up.
    pub fn restart(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        self.start_again(cluster, node)?;
        let deadline = Instant::now() + READY_WITHIN;
        self.wait_for_answer(cluster, node, deadline)?;
        self.wait_for_routes(cluster, deadline)
    }

    /// As [`LocalCluster::restart`], but waits for nothing: the server answers some time later, or not at
    /// all. For who measures how long that takes.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::Running`] when it runs.
    pub fn start_again(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        if self.server(cluster, node)?.pid().is_some() {
            return Err(LocalClusterError::Running { cluster, node });
        }
        self.launch(cluster, node)
    }

    /// Stops a server (SIGSTOP); returns when all its threads stand still. Its connections stay open and
    /// the kernel still accepts new ones, but nobody answers.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NotRunning`].
    pub fn pause(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        let paused = self.server(cluster, node)?.pause().map_err(system("pause a server"))?;
        running(paused, cluster, node)
    }

    /// Lets a paused server go on (SIGCONT). Nothing happens to one that is not paused.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NotRunning`].
    pub fn resume(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        let resumed = self.server(cluster, node)?.resume().map_err(system("resume a server"))?;
        running(resumed, cluster, node)
    }

    /// Puts a server into lame duck mode (SIGUSR2): it takes no new clients, tells its clients so, closes
    /// them after some seconds, and ends.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NotRunning`].
    pub fn lame_duck(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        self.signal(cluster, node, libc::SIGUSR2)
    }

    /// Sends any signal, by its number, and waits for nothing. For SIGSTOP and SIGKILL see
    /// [`LocalCluster::pause`] and [`LocalCluster::kill`], which know what follows.
    ///
    /// # Errors
    ///
    /// [`LocalClusterError::NotRunning`].
    pub fn signal(&mut self, cluster: usize, node: usize, signal: i32) -> Result<(), LocalClusterError> {
        let sent = self.server(cluster, node)?.signal(signal).map_err(system("signal a server"))?;
        running(sent, cluster, node)
    }

    fn add_cluster(
        &mut self,
        binary: &Path,
        cluster: usize,
        ports: Vec<ReservedPort>,
        way: &mut Option<Way<'_>>,
    ) -> Result<(), LocalClusterError> {
        let name = cluster_name(cluster);
        let mut servers: Vec<Server> = Vec::new();
        let nodes = ports.len();
        for (from, port) in ports.into_iter().enumerate() {
            // Each dials those before it: no pair dials each other at once and has to give one route up.
            let before = servers.iter().filter_map(Server::route_address).enumerate();
            let dials = before.map(|(to, address)| match way {
                Some(way) => way(Route { cluster, from, to, address }),
                None => Ok(address),
            });
            let dials = dials.collect::<io::Result<_>>().map_err(system("find the way of a route"))?;
            let dials = (nodes > 1).then_some(dials);
            let server = Server::new(binary, &name, from, port, dials, way.is_none(), self.logs.path());
            servers.push(server.map_err(system("reserve a port"))?);
        }
        self.clusters.push(servers);
        Ok(())
    }

    fn indexes(&self) -> Vec<(usize, usize)> {
        let nodes =
            |(cluster, servers): (usize, &Vec<Server>)| (0..servers.len()).map(move |node| (cluster, node));
        self.clusters.iter().enumerate().flat_map(nodes).collect()
    }

    fn server(&mut self, cluster: usize, node: usize) -> Result<&mut Server, LocalClusterError> {
        let server = self.clusters.get_mut(cluster).and_then(|servers| servers.get_mut(node));
        server.ok_or(LocalClusterError::NoSuchServer { cluster, node })
    }

    fn launch(&mut self, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
        self.server(cluster, node)?.start().map_err(system("start nats-server"))
    }

    fn wait_for_answer(
        &mut self,
        cluster: usize,
        node: usize,
        deadline: Instant,
    ) -> Result<(), LocalClusterError> {
        loop {
            let server = self.server(cluster, node)?;
            if let Some(status) = server.exited() {
                return Err(self.not_ready(cluster, node, format!("has ended with {status}")));
            }
            if !server.greets() {
                if server.says_ready() {
                    return Ok(());
                }
            } else if let Ok(info) = readiness::info(server.address()) {
                if let Some(version) = readiness::text_field(&info, "version") {
                    self.version = version.to_owned();
                }
                return Ok(());
            }
            if readiness::pause_until(deadline).is_err() {
                return Err(self.not_ready(
                    cluster,
                    node,
                    format!("does not answer within {READY_WITHIN:?}"),
                ));
            }
        }
    }

    /// Waits for the routes among those servers of a cluster that can answer.
    fn wait_for_routes(&mut self, cluster: usize, deadline: Instant) -> Result<(), LocalClusterError> {
        let is_configured = self.clusters[cluster].iter().any(Server::is_configured);
        let answering = self.clusters[cluster].iter_mut().filter_map(|server| {
            let address = server.address();
            (server.is_answering() && server.greets()).then_some(address)
        });
        let addresses: Vec<SocketAddr> = answering.collect();
        if addresses.len() < 2 {
            return Ok(());
        }
        let named = match self.clusters[cluster].iter().all(Server::advertises) {
            true => readiness::wait_for_names(&addresses, deadline),
            false => Ok(()),
        };
        let waited = match is_configured {
            true => named,
            false => named.and_then(|()| readiness::wait_for_messages(&addresses, deadline)),
        };
        waited.map_err(|error| {
            let what = format!("and the others of its cluster do not hear each other: {error}");
            self.not_ready(cluster, 0, what)
        })
    }

    fn not_ready(&self, cluster: usize, node: usize, what: String) -> LocalClusterError {
        let log_tail = self.clusters[cluster][node].log_tail();
        LocalClusterError::NotReady { cluster, node, what, log_tail }
    }
}

fn check_size(clusters: usize, nodes_each: usize) -> Result<(), LocalClusterError> {
    let is_possible = (1..=CLUSTERS_MAX).contains(&clusters) && (1..=NODES_MAX).contains(&nodes_each);
    if is_possible { Ok(()) } else { Err(LocalClusterError::Size { clusters, nodes_each }) }
}

fn free_ports(clusters: usize, nodes_each: usize) -> Result<Vec<Vec<ReservedPort>>, LocalClusterError> {
    let of_cluster = |_| (0..nodes_each).map(|_| ReservedPort::new()).collect::<io::Result<_>>();
    (0..clusters).map(of_cluster).collect::<io::Result<_>>().map_err(system("reserve a port"))
}

/// One after the other. Before any other port is taken, which may be one of these.
fn ports_from(
    clusters: usize,
    nodes_each: usize,
    first: u16,
) -> Result<Vec<Vec<ReservedPort>>, LocalClusterError> {
    let servers = clusters * nodes_each;
    if first == 0 || usize::from(first) + servers - 1 > usize::from(u16::MAX) {
        return Err(LocalClusterError::NoSuchPorts { first, servers });
    }
    let mut next = first..=u16::MAX;
    let mut port_of = |cluster, node| {
        let port = next.next().ok_or(LocalClusterError::NoSuchPorts { first, servers })?;
        ReservedPort::at(port).map_err(|source| LocalClusterError::Port { port, cluster, node, source })
    };
    (0..clusters).map(|cluster| (0..nodes_each).map(|node| port_of(cluster, node)).collect()).collect()
}

fn cluster_name(index: usize) -> String {
    format!("c{}", index + 1)
}

/// As people call a server, and as `croupier run --fault` does.
fn server_name(cluster: usize, node: usize) -> String {
    format!("{}/{}", cluster_name(cluster), node + 1)
}

fn running(was_running: bool, cluster: usize, node: usize) -> Result<(), LocalClusterError> {
    if was_running { Ok(()) } else { Err(LocalClusterError::NotRunning { cluster, node }) }
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> LocalClusterError {
    move |source| LocalClusterError::System { doing: doing.to_owned(), source }
}

#[cfg(test)]
#[path = "local_cluster_tests.rs"]
mod tests;
