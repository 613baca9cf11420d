//! The owner of the shards: builds, runs and drains them.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use croupier_ring::{ClusterRing, ClusterTable};
use futures_lite::future::block_on;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    BoxError, Credentials, CredentialsRequest, Error, Event, NodeHandle, Result, Shard, admin,
    cluster_link::ServerEntry,
    config::{
        AdminListen, CODE_SOURCE, ClusterConfig, Config, ConfigError, Cpus, Problem, RegistryConfig,
        RingMode, Sources,
    },
    credentials::Provider,
    events::EventCallback,
    logging,
    mesh::mesh,
    node_shared::{NodeShared, ShardPort},
    probe::{self, Demand},
    registry_start::RegistryStart,
    reload::carried,
    shard_life::{self, ShardSeed},
    stats::store,
    transport::{ExecutorSettings, run_executor},
    watchdog,
};

/// How long the drop of a node lets its shards drain.
const DROP_DRAIN: Duration = Duration::from_millis(200);
/// How long the end of a node waits for its log to be written.
const LOG_FLUSH: Duration = Duration::from_millis(200);
/// Exit status after a second signal, as a shell gives it for the signal's number.
const SIGNAL_STATUS: i32 = 128;

/// A running node: one thread and one executor for each shard.
///
/// Dropping it drains it, without waiting for long; [`Node::join`] waits.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// A builder of a node with the default configuration and no clusters yet.
    pub fn builder() -> Builder {
        Builder {
            config: Config::default(),
            providers: Vec::new(),
            read: None,
            on_event: None,
            preempt_timer: None,
        }
    }

    /// A builder of a node as a TOML file says, and over it the environment: `CROUPIER_REGISTRY__HEARTBEAT=50ms`
    /// sets `registry.heartbeat`. [`Config::from_path`] reads the file alone.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the file with line and column, or the variable.
    pub fn from_toml(path: impl AsRef<Path>) -> Result<Builder> {
        Node::from_sources(&Sources::new().file(path.as_ref()).environment())
    }

    /// A builder of a node as these sources say: a program with `--set` of its own has them in here.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the file with line and column, the variable or the `--set`.
    pub fn from_sources(sources: &Sources) -> Result<Builder> {
        let config = sources.load()?.config;
        let read = Read { sources: sources.clone(), read: config.clone(), told: config.clone() };
        Ok(Builder { read: Some(read), ..Node::builder().config(config) })
    }

    /// What other threads use.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Waits until the node has drained or failed.
    ///
    /// # Errors
    ///
    /// The first error of an application, or of the node itself.
    pub fn join(self) -> Result<()> {
        self.wait();
        match self.handle.shared().take_failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn wait(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            thread.thread().unpark();
            // A shard's panic was caught on its thread, and is the node's failure.
            let _caught_before = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let shared = self.handle.shared();
        if shared.is_stopped() {
            self.wait();
            return;
        }
        shared.request_drain(DROP_DRAIN);
        let deadline = Instant::now() + 2 * DROP_DRAIN;
        while !shared.is_stopped() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if shared.is_stopped() {
            self.wait();
        }
    }
}

/// Collects what a node is told, and starts it.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it runs or starts"]
pub struct Builder {
    config: Config,
    providers: Vec<(String, Provider)>,
    /// What the configuration was read from, if from anything.
    read: Option<Read>,
    on_event: Option<EventCallback>,
    preempt_timer: Option<Duration>,
}

impl Builder {
    /// Names the node, as its servers see it. The default is the host's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.node.name = Some(name.into());
        self
    }

    /// Adds a gnatsd cluster. Its name is its identity in the ring; any of its servers serves.
    pub fn cluster(
        mut self,
        name: impl Into<String>,
        servers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        self.config.clusters.push(ClusterConfig::new(name, servers));
        self
    }

    /// Asks for the credentials at each connect to a cluster, instead of its [`auth`](ClusterConfig::auth).
    ///
    /// The callback runs on the shard that connects, within `connection.connect_timeout`: what blocks
    /// belongs on a thread of its own. It is told the server's nonce, so that it may sign without giving
    /// the seed away. An error ends this try; the next one asks again.
    ///
    /// ```no_run
    /// use croupier::{Credentials, Node};
    ///
    /// Node::builder()
    ///     .cluster("c1", ["nats://127.0.0.1:4222"])
    ///     .credentials("c1", async |request| {
    ///         println!("{} of {} wants to know who we are", request.server, request.cluster);
    ///         Ok(Credentials::token(std::env::var("TOKEN")?))
    ///     })
    ///     .run(async |_shard| Ok(()))?;
    /// # Ok::<(), croupier::Error>(())
    /// ```
    pub fn credentials<F>(mut self, cluster: impl Into<String>, callback: F) -> Self
    where
        F: AsyncFn(CredentialsRequest) -> Result<Credentials, BoxError> + Send + Sync + 'static,
    {
        self.providers.push((cluster.into(), Provider::new(callback)));
        self
    }

    /// Joins the registry of other nodes. The node then needs a [name](Builder::name), unique in it. Without
    /// this, the registry is this node alone.
    pub fn registry(mut self, registry: RegistryConfig) -> Self {
        self.config.registry = Some(registry);
        self
    }

    /// How many shards the node has; each takes a core. The default is one for each allowed core.
    pub fn shards(mut self, count: usize) -> Self {
        self.config.shards.cpus = Cpus::Count(count);
        self
    }

    /// Replaces the whole configuration. Call it before the methods that change parts of it.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self.read = None;
        self
    }

    /// The configuration as it stands, to change what no method names.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Has `callback` called with each [`Event`]. It runs on the shard where the event happened, which does
    /// nothing else meanwhile: it is to be short and must not block. A panic in it is logged. The last
    /// callback counts; for more listeners, or slow ones, see [`NodeHandle::events`].
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(EventCallback::new(callback));
        self
    }

    /// The time slice of the executors' tasks. Only a test of the watchdog has a use for it.
    #[doc(hidden)]
    pub fn preempt_timer(mut self, slice: Duration) -> Self {
        self.preempt_timer = Some(slice);
        self
    }

    /// Has the admin server listen on `ip:port`, port 0 for a free one; `""` turns it off, which is the default in
    /// code. It serves `/metrics`, `/healthz`, `/readyz` and `/statusz` from a thread of its own.
    pub fn admin_listen(mut self, address: impl Into<String>) -> Self {
        self.config.node.admin_listen = AdminListen::from(address.into());
        self
    }

    /// Writes the events of this process to standard error, as the configuration's `[log]` says: see
    /// [`logging::install`].
    ///
    /// # Errors
    ///
    /// [`Error::Logging`] when the process has a subscriber of events already.
    pub fn install_log(self) -> Result<Self> {
        logging::install(&self.config.log)?;
        Ok(self)
    }

    /// Runs the node on threads of its own, calls a clone of `app` once on each shard, and blocks until
    /// all have returned and the node has drained. SIGTERM and SIGINT drain it, a second one ends the
    /// process at once. If the node was built from a file or other [`Sources`], SIGHUP has them read again
    /// and their changes applied, see [`NodeHandle::reload`]; what went wrong is logged, and then nothing is
    /// applied. Sections that were changed in code stay as they are.
    ///
    /// # Errors
    ///
    /// The first error of `app`, or why the node could not start.
    pub fn run<F>(self, app: F) -> Result<()>
    where
        F: AsyncFnOnce(Shard) -> Result<(), BoxError> + Clone + Send + 'static,
    {
        let read = self.read.clone().map(|read| Read { told: self.config.clone(), ..read });
        // Without sources there is nothing to read again, and the signal keeps its usual meaning.
        let caught = if read.is_some() { &[SIGTERM, SIGINT, SIGHUP][..] } else { &[SIGTERM, SIGINT] };
        let mut signals = Signals::new(caught).map_err(Error::Signals)?;
        let closer = signals.handle();
        let node = self.launch(app, true)?;
        let handle = node.handle();
        let reload =
            read.map(|read| read.again_when_told(handle.clone())).transpose().map_err(Error::Signals)?;
        let watching = thread::Builder::new()
            .name("croupier-signal".to_owned())
            .spawn(move || {
                let mut is_draining = false;
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        // If one waits already, it reads what there is to read.
                        let _waits = reload.as_ref().map(|reload| reload.try_send(()));
                        continue;
                    }
                    if is_draining {
                        flush_log();
                        std::process::exit(SIGNAL_STATUS + signal);
                    }
                    is_draining = true;
                    let shared = handle.shared();
                    shared.request_drain(shared.limits.get().drain_timeout);
                }
            })
            .map_err(Error::Signals);
        watching.and_then(|watching| {
            let outcome = node.join();
            closer.close();
            let _panicless = watching.join();
            flush_log();
            outcome
        })
    }

    /// As [`Builder::run`], but returns when the shards run, and leaves signals alone. The node runs on
    /// when the applications have returned, until it is drained or dropped.
    ///
    /// # Errors
    ///
    /// Why the node could not start.
    pub fn start<F>(self, app: F) -> Result<Node>
    where
        F: AsyncFnOnce(Shard) -> Result<(), BoxError> + Clone + Send + 'static,
    {
        self.launch(app, false)
    }

    fn launch<F>(self, app: F, drains_when_all_returned: bool) -> Result<Node>
    where
        F: AsyncFnOnce(Shard) -> Result<(), BoxError> + Clone + Send + 'static,
    {
        self.config.validate()?;
        let demand = Demand::of(&self.config);
        self.launch_with(&demand, app, drains_when_all_returned).inspect_err(|error| {
            if error.is_of_the_machine() {
                probe::log_what_is_amiss(&demand);
            }
        })
    }

    fn launch_with<F>(self, demand: &Demand, app: F, drains_when_all_returned: bool) -> Result<Node>
    where
        F: AsyncFnOnce(Shard) -> Result<(), BoxError> + Clone + Send + 'static,
    {
        let Builder { config, providers, on_event, preempt_timer, read: _ } = self;
        let providers = by_cluster(providers, &config)?;
        let allowed = probe::allowed_cpus().unwrap_or_default();
        let cpus = placement(&config, &allowed);
        probe::check(demand)?;
        let ring = ring(&config);
        let (ports, ends): (Vec<_>, Vec<_>) =
            cpus.iter().map(|_| ShardPort::new(config.clusters.len(), config.shards.inbox)).unzip();
        let spin = config.shards.spin;
        let mesh = mesh(cpus.len(), config.shards.inbox);
        let mut start = RegistryStart::new(&config, cpus.len())?;
        let (registry, keys) = (Arc::clone(&start.shared), start.keys());
        let (admin, admin_seed) = admin::bind(&config.node.admin_listen)?.unzip();
        let node = NodeShared::new(config, ring, providers, ports, registry, keys, drains_when_all_returned);
        let node = Arc::new(node.watched_by(on_event, admin));
        if node.admin.is_some() {
            // Shard 0 is going to use all of them, and nobody should find the node ready before it does.
            node.ports[0].links.iter().for_each(|link| store(&link.used, 1));
        }

        let (made, all_made) = mpsc::channel();
        let mut threads = Vec::new();
        let apps = std::iter::repeat_n(app, cpus.len());
        for (id, (((cpu, ends), mesh), app)) in cpus.iter().zip(ends).zip(mesh).zip(apps).enumerate() {
            let settings =
                ExecutorSettings { name: format!("croupier-{id}"), cpu: *cpu, spin, preempt_timer };
            let seed = ShardSeed { id, node: Arc::clone(&node), mesh, ends, registry: start.seed(id) };
            let (made, guarded) = (made.clone(), Arc::clone(&node));
            let thread = thread::Builder::new().name(settings.name.clone()).spawn(move || {
                shard_life::guard(&guarded, id, move || {
                    let report = move |outcome| {
                        // The launcher waits for every shard's word.
                        let _heard = made.send((id, outcome));
                    };
                    run_executor(&settings, report, shard_life::live(seed, app));
                });
            });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(source) => return Err(abandon(&node, threads, Error::Start { shard: id, source })),
            }
        }
        drop(made);
        for _ in 0..cpus.len() {
            let failure = match all_made.recv() {
                Ok((_, Ok(()))) => continue,
                Ok((shard, Err(source))) => start_error(shard, source, demand),
                Err(_) => Error::Start { shard: 0, source: io::Error::other("a shard's thread died") },
            };
            return Err(abandon(&node, threads, failure));
        }
        let watched = Arc::clone(&node);
        match thread::Builder::new()
            .name("croupier-watch".to_owned())
            .spawn(move || watchdog::watch(&watched))
        {
            Ok(thread) => threads.push(thread),
            Err(source) => return Err(abandon(&node, threads, Error::Start { shard: 0, source })),
        }
        if let Some(seed) = admin_seed {
            let served = Arc::clone(&node);
            let named = thread::Builder::new().name("croupier-admin".to_owned());
            match named.spawn(move || admin::serve(&seed, &served)) {
                Ok(thread) => threads.push(thread),
                Err(source) => return Err(abandon(&node, threads, Error::Start { shard: 0, source })),
            }
        }
        Ok(Node { handle: NodeHandle::new(node), threads: Mutex::new(threads) })
    }
}

/// What a node's configuration was read from.
#[derive(Clone, Debug)]
struct Read {
    sources: Sources,
    /// What they said.
    read: Config,
    /// What the node was told at its start.
    told: Config,
}

impl Read {
    /// A thread that reads the sources again and applies what they say, each time that it is told to, until
    /// the sender is dropped: a shard that is busy for long keeps no signal waiting.
    fn again_when_told(self, handle: NodeHandle) -> io::Result<mpsc::SyncSender<()>> {
        let (tell, told) = mpsc::sync_channel(1);
        let reload = move || -> Result<()> {
            let fresh = self.sources.load().inspect_err(|error| {
                handle.shared().events.emit(|| Event::ReloadRefused { reason: error.to_string() });
            });
            let fresh = fresh?.config;
            block_on(handle.reload(carried(&self.read, &self.told, fresh)))?;
            Ok(())
        };
        thread::Builder::new().name("croupier-reload".to_owned()).spawn(move || {
            for () in told {
                if let Err(error) = reload() {
                    tracing::error!(%error, "the configuration stays as it was");
                }
            }
        })?;
        Ok(tell)
    }
}

/// The callback of each cluster, the last one where there are several.
fn by_cluster(
    providers: Vec<(String, Provider)>,
    config: &Config,
) -> Result<Vec<Option<Provider>>, ConfigError> {
    let mut of_cluster = vec![None; config.clusters.len()];
    let mut problems = Vec::new();
    for (name, provider) in providers {
        match config.clusters.iter().position(|cluster| cluster.name == name) {
            Some(index) if config.clusters[index].auth.is_some() => {
                let key = format!("clusters[{index}].auth");
                problems.push(Problem::new(
                    key,
                    "is set, and there is also a callback",
                    "keep one of the two",
                ));
            }
            Some(index) => of_cluster[index] = Some(provider),
            None => {
                let message = format!("there is none named {name:?}, whose credentials a callback gives");
                problems.push(Problem::new("clusters", message, "name a cluster of the configuration"));
            }
        }
    }
    if problems.is_empty() {
        return Ok(of_cluster);
    }
    Err(ConfigError::Invalid { origin: CODE_SOURCE.to_owned(), problems })
}

/// Lets what was logged be written, since the process may end.
fn flush_log() {
    if let Some(log) = logging::installed() {
        // Who reads it may have stopped to; the end does not wait for long.
        let _unwritten = log.flush(LOG_FLUSH);
    }
}

/// The processor of each shard, or none for those that may run anywhere.
fn placement(config: &Config, allowed: &[usize]) -> Vec<Option<usize>> {
    let count = config.shards.cpus.shards(allowed.len().max(1));
    if !config.shards.pin {
        return vec![None; count];
    }
    match &config.shards.cpus {
        Cpus::List(list) => list.iter().copied().map(Some).collect(),
        _ => (0..count).map(|shard| allowed.get(shard).copied()).collect(),
    }
}

/// The servers of each cluster of a configuration that was validated.
pub(crate) fn configured_servers(config: &Config) -> Vec<Vec<ServerEntry>> {
    let clusters = config.clusters.iter();
    clusters
        .map(|cluster| ServerEntry::configured(cluster).expect("validation refuses what is no address"))
        .collect()
}

pub(crate) fn ring(config: &Config) -> ClusterTable {
    let mode = match config.ring.mode {
        RingMode::Croupier => croupier_ring::RingMode::Croupier,
        RingMode::Roulette => croupier_ring::RingMode::Roulette,
    };
    let builder = config
        .clusters
        .iter()
        .fold(ClusterRing::builder().seed(config.ring.seed).mode(mode), |builder, cluster| {
            builder.member(&cluster.name, u32::from(cluster.units()))
        });
    builder.build_table().expect("validation refuses what the ring would")
}

/// What the kernel refused, as advice where it can be given.
pub(crate) fn start_error(shard: usize, source: io::Error, demand: &Demand) -> Error {
    match probe::explain(&source.to_string(), demand) {
        Some(advice) => Error::Probe(advice),
        None => Error::Start { shard, source },
    }
}

/// Ends the shards that did start.
fn abandon(node: &Arc<NodeShared>, threads: Vec<JoinHandle<()>>, error: Error) -> Error {
    node.request_drain(Duration::ZERO);
    for thread in threads {
        let _caught_before = thread.join();
    }
    error
}
