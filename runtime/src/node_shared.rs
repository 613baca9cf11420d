//! What all shards of a node, and the threads beside them, share: immutable tables, counters, and the
//! ways into each shard.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use atomic_waker::AtomicWaker;
use croupier_protocol::ServerInfo;
use croupier_ring::ClusterTable;
use futures_channel::oneshot;

use crate::{
    ClusterName, Error, Event,
    admin::AdminShared,
    blocks::Blocks,
    cluster_link::{Link, ReconnectGate},
    config::Config,
    credentials::Provider,
    error::LinkEnd,
    events::{EventCallback, EventHub},
    identities::Identities,
    latency::{Latencies, Recorder},
    live_limits::LiveLimits,
    mesh::{Job, Parking},
    registry_shard::Shared,
    reload::{Running, Settings},
    secret::KeyRing,
    stats::{LinkCounters, LinkStats, ShardStats, add},
};

pub(crate) struct NodeShared {
    pub(crate) name: String,
    pub(crate) config: Arc<Config>,
    pub(crate) ring: ClusterTable,
    pub(crate) clusters: Vec<ClusterName>,
    /// The application's callbacks for credentials, by cluster.
    pub(crate) providers: Vec<Option<Provider>>,
    pub(crate) gates: Vec<ReconnectGate>,
    pub(crate) ports: Vec<ShardPort>,
    pub(crate) registry: Shared,
    /// What a reload changes, as it is now; the rest is in `config`.
    pub(crate) limits: LiveLimits,
    pub(crate) running: Running,
    pub(crate) events: Arc<EventHub>,
    /// The admin server, if the node has one.
    pub(crate) admin: Option<AdminShared>,
    pub(crate) started: Instant,
    /// Who servers are is told by their ids, and by the addresses that their cluster gives out.
    identities: Mutex<Identities>,
    failure: Mutex<Option<Error>>,
    /// Shards whose application has returned Ok, and whether the last of them ends the node.
    returned: AtomicUsize,
    drains_when_all_returned: bool,
    drain_requested: AtomicBool,
    stopped: AtomicUsize,
    waiting_for_stop: Mutex<Vec<oneshot::Sender<()>>>,
}

/// The ways into one shard, and what it counts.
pub(crate) struct ShardPort {
    pub(crate) links: Vec<Arc<LinkCounters>>,
    pub(crate) task_panics: AtomicU64,
    /// Work from other threads, bounded.
    pub(crate) inbox: async_channel::Sender<Job>,
    /// Word that the node drains, never full: at most one for each call.
    pub(crate) drain: async_channel::Sender<Instant>,
    /// One place, of which a newer word takes possession.
    pub(crate) settings: async_channel::Sender<Settings>,
    pub(crate) parking: Parking,
    /// Turns that its tasks have taken; the watchdog looks whether it moves.
    progress: AtomicU64,
    pub(crate) beat: AtomicWaker,
    /// The progress at the watchdog's last wake; `u64::MAX` when none is under way.
    pub(crate) woken_at: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) blocks: Blocks,
    pub(crate) latencies: Latencies,
    stopped: AtomicBool,
}

/// What moves into the shard's thread.
pub(crate) struct ShardEnds {
    pub(crate) lanes: ShardLanes,
    pub(crate) recorder: Recorder,
}

/// The receiving ends.
pub(crate) struct ShardLanes {
    pub(crate) inbox: async_channel::Receiver<Job>,
    pub(crate) drain: async_channel::Receiver<Instant>,
    pub(crate) settings: async_channel::Receiver<Settings>,
}

impl ShardPort {
    pub(crate) fn new(clusters: usize, inbox: usize) -> (ShardPort, ShardEnds) {
        let (inbox_in, inbox_out) = async_channel::bounded(inbox);
        let (drain_in, drain_out) = async_channel::unbounded();
        let (settings_in, settings_out) = async_channel::bounded(1);
        let (latencies, recorder) = Latencies::new(clusters);
        let port = ShardPort {
            links: (0..clusters).map(|_| Arc::default()).collect(),
            task_panics: AtomicU64::new(0),
            inbox: inbox_in,
            drain: drain_in,
            settings: settings_in,
            parking: Parking::default(),
            progress: AtomicU64::new(0),
            beat: AtomicWaker::new(),
            woken_at: AtomicU64::new(u64::MAX),
            stalls: AtomicU64::new(0),
            blocks: Blocks::default(),
            latencies,
            stopped: AtomicBool::new(false),
        };
        let lanes = ShardLanes { inbox: inbox_out, drain: drain_out, settings: settings_out };
        (port, ShardEnds { lanes, recorder })
    }

    /// Says that a task of the shard has run.
    #[inline]
    pub(crate) fn progressed(&self) {
        add(&self.progress, 1);
    }

    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn stats(&self, shard: usize, clusters: &[ClusterName]) -> ShardStats {
        let links: Vec<LinkStats> = self
            .links
            .iter()
            .zip(clusters)
            .enumerate()
            .filter(|(_, (counters, _))| {
                counters.tries.load(Ordering::Relaxed) > 0 || counters.accepted.load(Ordering::Relaxed) > 0
            })
            .map(|(index, (counters, cluster))| counters.stats(cluster, self.latencies.round_trip(index)))
            .collect();
        ShardStats {
            shard,
            links,
            stalls: self.stalls.load(Ordering::Relaxed),
            blocks: self.blocks.count(),
            longest_block: self.blocks.longest(),
            task_panics: self.task_panics.load(Ordering::Relaxed),
            requests: self.latencies.requests(),
        }
    }
}

impl NodeShared {
    pub(crate) fn new(
        config: Config,
        ring: ClusterTable,
        providers: Vec<Option<Provider>>,
        ports: Vec<ShardPort>,
        registry: Shared,
        keys: Option<KeyRing>,
        drains_when_all_returned: bool,
    ) -> Self {
        NodeShared {
            name: config.node.name_or_host(),
            clusters: config
                .clusters
                .iter()
                .map(|cluster| ClusterName::from(cluster.name.as_str()))
                .collect(),
            gates: config.clusters.iter().map(|_| ReconnectGate::new(ports.len())).collect(),
            limits: LiveLimits::new(&config.limits),
            running: Running::new(config.clone(), keys),
            config: Arc::new(config),
            ring,
            providers,
            ports,
            registry,
            events: Arc::new(EventHub::new(None, false)),
            admin: None,
            started: Instant::now(),
            identities: Mutex::default(),
            failure: Mutex::default(),
            returned: AtomicUsize::new(0),
            drains_when_all_returned,
            drain_requested: AtomicBool::new(false),
            stopped: AtomicUsize::new(0),
            waiting_for_stop: Mutex::default(),
        }
    }

    /// The same, with those who look on from outside.
    pub(crate) fn watched_by(self, on_event: Option<EventCallback>, admin: Option<AdminShared>) -> Self {
        let events = EventHub::new(on_event, admin.is_some());
        NodeShared { events: Arc::new(events), admin, ..self }
    }

    pub(crate) fn shards(&self) -> usize {
        self.ports.len()
    }

    /// Adds up the latencies that shards have handed over.
    pub(crate) fn collect_latencies(&self) {
        let now = Instant::now();
        self.ports.iter().for_each(|port| port.latencies.collect(now));
    }

    /// Takes note of who a link's server is. A server that belongs to another configured cluster ends
    /// the link and the node: topics would be delivered twice, or to the wrong half of the app.
    pub(crate) fn identify(&self, link: &Link, info: &ServerInfo) {
        let index = self.clusters.iter().position(|name| name == link.cluster()).unwrap_or_default();
        let mut marks = vec![format!("server id {}", info.server_id)];
        if let Some(cluster) = info.cluster.as_ref().filter(|_| !info.connect_urls.is_empty()) {
            // Addresses alone may be private ones that two clusters both use.
            marks.extend(info.connect_urls.iter().map(|url| format!("address {url} of cluster {cluster:?}")));
        }
        let seen = self.identities.lock().unwrap_or_else(PoisonError::into_inner).see(index, marks);
        if let Err((first, mark)) = seen {
            link.end_for(LinkEnd::SameCluster);
            self.fail(Error::SameCluster {
                first: self.clusters[first].clone(),
                second: self.clusters[index].clone(),
                evidence: format!("both have {mark}"),
            });
        }
    }

    /// Takes back what the servers of a cluster were seen as: some of them may come to belong to another one. Those
    /// that stay are seen again with what they say next.
    pub(crate) fn forget_identities(&self, index: usize) {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner).forget(index);
    }

    /// Ends the node with an error; the first one is kept.
    pub(crate) fn fail(&self, error: Error) {
        tracing::error!(node = self.name, %error, "the node ends");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.request_drain(self.limits.get().drain_timeout);
    }

    /// Whether a fault of Croupier itself ends the node.
    pub(crate) fn has_died(&self) -> bool {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*failure, Some(Error::ShardDied { .. }))
    }

    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A shard's application has returned Ok.
    pub(crate) fn app_returned(&self) {
        let returned = self.returned.fetch_add(1, Ordering::AcqRel) + 1;
        if self.drains_when_all_returned && returned == self.shards() {
            self.request_drain(self.limits.get().drain_timeout);
        }
    }

    /// Has every shard drain within the time. A later call can only shorten it.
    pub(crate) fn request_drain(&self, within: Duration) {
        if !self.drain_requested.swap(true, Ordering::AcqRel) {
            self.events.emit(|| Event::Draining);
        }
        let deadline = Instant::now() + within;
        for port in &self.ports {
            // A shard that has stopped needs no word.
            let _stopped = port.drain.try_send(deadline);
        }
    }

    pub(crate) fn shard_stopped(&self, shard: usize) {
        let port = &self.ports[shard];
        port.stopped.store(true, Ordering::Release);
        port.inbox.close();
        port.drain.close();
        port.settings.close();
        if self.stopped.fetch_add(1, Ordering::AcqRel) + 1 == self.shards() {
            self.events.close();
            for waiting in self.waiting_for_stop.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                // Whoever gave up waiting needs no word.
                let _gone = waiting.send(());
            }
            if let Some(admin) = &self.admin {
                admin.stop();
            }
        }
    }

    /// Whether a drain has begun; it is also the answer when it has ended.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain_requested.load(Ordering::Acquire)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) == self.shards()
    }

    /// Resolves when all shards have stopped.
    pub(crate) fn stopped(&self) -> oneshot::Receiver<()> {
        let (stopped, wait) = oneshot::channel();
        let mut waiting = self.waiting_for_stop.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopped() {
            let _received = stopped.send(());
        } else {
            waiting.push(stopped);
        }
        wait
    }
}
