//! Whether the servers of a configuration take a node: each is dialled once, the way a link dials it.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc, sync::Arc, thread, time::Duration};

use futures_channel::oneshot;
use futures_lite::future::block_on;

use crate::{
    ClusterName, Error, Result,
    cluster_link::{Link, Trial},
    config::{Config, Cpus, ServerAddress},
    latency::Recorder,
    node::ring,
    node_shared::{NodeShared, ShardPort},
    probe::{self, Demand},
    registry_start::RegistryStart,
    transport::{self, ExecutorSettings, run_executor},
};
pub use crate::{
    cluster_link::{Accepted, DialError},
    transport::AcceptedTls,
};

/// Servers that are dialled at the same time, at most.
pub const DIALS_MAX: usize = 16;
/// What one server may take, in multiples of `connection.connect_timeout`: files and names, the connect, the handshake.
pub const DIAL_STEPS: u32 = 3;

/// A configured server, and what came of dialling it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Dialled {
    /// The cluster that it is configured for.
    pub cluster: ClusterName,
    /// The server.
    pub server: ServerAddress,
    /// What it says of itself once it has taken us, or why it has not.
    pub outcome: std::result::Result<Accepted, DialError>,
}

/// Connects to every configured server of every cluster as a link of a node does (names, TLS, credentials, and a PING
/// that comes back), and leaves again. Nothing is published or subscribed.
///
/// At most [`DIALS_MAX`] at a time, each within [`DIAL_STEPS`] times `connection.connect_timeout`. The answers are in
/// the order of the configuration. Servers that are only named by others are not dialled. It blocks, and takes a thread
/// and an executor of its own; nothing else of the node is started, and its registry and admin server do not listen.
///
/// ```no_run
/// use croupier::{Config, dial};
///
/// let config = Config::from_path("node.toml")?;
/// for dialled in dial::servers(&config)? {
///     match dialled.outcome {
///         Ok(accepted) => println!("{} {}: {}", dialled.cluster, dialled.server, accepted.version),
///         Err(error) => println!("{} {}: {error}", dialled.cluster, dialled.server),
///     }
/// }
/// # Ok::<(), croupier::Error>(())
/// ```
///
/// # Errors
///
/// The configuration is refused, or the machine allows no executor. What a single server does wrong is in its
/// [`Dialled::outcome`].
pub fn servers(config: &Config) -> Result<Vec<Dialled>> {
    config.validate()?;
    let mut config = config.clone();
    // One shard somewhere, without peers; and in the order of the configuration.
    (config.shards.cpus, config.shards.pin, config.registry) = (Cpus::Count(1), false, None);
    config.connection.randomize = false;
    let demand = Demand::of(&config);
    probe::check(&demand)?;
    let settings = ExecutorSettings {
        name: "croupier-dial".to_owned(),
        cpu: None,
        spin: Duration::ZERO,
        preempt_timer: None,
    };
    let (answer, answered) = oneshot::channel();
    let dialling = thread::Builder::new().name(settings.name.clone()).spawn(move || -> Result<()> {
        let mut refusal = None;
        let (node, recorder) = node(config)?;
        let dialled = run_executor(&settings, |made| refusal = made.err(), all(&node, Rc::new(recorder)));
        match (dialled, refusal) {
            (Some(dialled), _) => {
                // The caller waits.
                let _heard = answer.send(dialled);
                Ok(())
            }
            (None, refusal) => {
                let source = refusal.unwrap_or_else(|| io::Error::other("the executor gave no reason"));
                Err(crate::node::start_error(0, source, &demand))
            }
        }
    });
    let dialling = dialling.map_err(|source| Error::Start { shard: 0, source })?;
    let dialled = block_on(answered);
    match dialling.join() {
        Ok(outcome) => outcome?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(dialled.expect("a thread that ends well has answered"))
}

/// What links want of a node, and of its only shard.
fn node(config: Config) -> Result<(Arc<NodeShared>, Recorder)> {
    let ring = ring(&config);
    let providers = vec![None; config.clusters.len()];
    // Nobody sends to the shard, so that its ends may go.
    let (port, ends) = ShardPort::new(config.clusters.len(), config.shards.inbox);
    let registry = RegistryStart::new(&config, 1)?.shared;
    let node = NodeShared::new(config, ring, providers, vec![port], registry, None, false);
    Ok((Arc::new(node), ends.recorder))
}

async fn all(node: &Arc<NodeShared>, latencies: Rc<Recorder>) -> Vec<Dialled> {
    let links = (0..node.clusters.len()).map(|index| Link::new(index, 0, node, Rc::clone(&latencies)));
    let trials: Vec<Trial> = links.flat_map(|link| Trial::of_each_server(&link)).collect();
    let waiting: Rc<RefCell<VecDeque<_>>> = Rc::new(RefCell::new(trials.into_iter().enumerate().collect()));
    let limit = node.config.connection.connect_timeout * DIAL_STEPS;
    let ended = Rc::new(RefCell::new(Vec::new()));
    let dials = (0..DIALS_MAX).map(|_| {
        let (waiting, ended) = (Rc::clone(&waiting), Rc::clone(&ended));
        transport::spawn(async move {
            loop {
                let Some((number, trial)) = waiting.borrow_mut().pop_front() else { return };
                let outcome = trial.run(limit).await;
                let (cluster, server) = (trial.cluster().clone(), trial.address().clone());
                ended.borrow_mut().push((number, Dialled { cluster, server, outcome }));
            }
        })
    });
    for dial in dials.collect::<Vec<_>>() {
        dial.join().await;
    }
    let mut ended = ended.take();
    ended.sort_by_key(|(number, _)| *number);
    ended.into_iter().map(|(_, dialled)| dialled).collect()
}
