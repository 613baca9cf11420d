//! The status page: one JSON object with what a node is and has counted.

use std::time::{Duration, UNIX_EPOCH};

use croupier_registry::NodeStanding;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    ClusterName, LatencyStats, LinkStats, RegistryStats,
    config::{Config, RingMode},
    node_shared::NodeShared,
};

/// Nodes and types of services that the page lists; of the others it tells the number.
const LISTED_MAX: usize = 1000;

#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    version: &'static str,
    node: &'a str,
    process: u32,
    uptime_seconds: f64,
    /// `running`, `draining` or `stopped`.
    state: &'static str,
    ready: bool,
    /// What keeps the node from being ready.
    unready: Vec<String>,
    /// Two nodes of one version with the same one were told the same. Secrets are not part of it.
    configuration_hash: String,
    ring: Ring,
    clusters: Vec<Cluster<'a>>,
    shards: Vec<Shard>,
    registry: Registry,
    events: Events,
}

#[derive(Debug, Serialize)]
struct Ring {
    mode: &'static str,
    seed: u64,
    /// All nodes must have the same one, or they disagree on where topics live.
    fingerprint: String,
}

#[derive(Debug, Serialize)]
struct Cluster<'a> {
    name: &'a ClusterName,
    weight: f64,
    servers: Vec<String>,
    /// Shards that use it, and of these the connected ones.
    links: usize,
    links_connected: usize,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: usize,
    stopped: bool,
    /// Work of other threads that waits for it.
    inbox: usize,
    stalls: u64,
    blocks: u64,
    blocked_seconds: f64,
    longest_block_seconds: f64,
    task_panics: u64,
    requests: LatencyStats,
    links: Vec<LinkStats>,
}

#[derive(Debug, Serialize)]
struct Registry {
    /// Where the node listens for its peers; nothing without a `[registry]`.
    address: Option<String>,
    syncing: bool,
    nodes: Vec<Node>,
    nodes_not_listed: usize,
    types: Vec<Type>,
    types_not_listed: usize,
    counters: RegistryStats,
}

#[derive(Debug, Serialize)]
struct Events {
    /// The last ones, the newest last.
    recent: Vec<RecentEvent>,
    /// How many wait for the listener that lags most, and how many were dropped for such.
    waiting: usize,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct RecentEvent {
    /// Since 1970, by the clock of this machine.
    at_unix_seconds: f64,
    name: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    address: String,
    /// One life of the node; a restart has a higher one. Text, since it is larger than JSON's numbers.
    epoch: String,
    standing: &'static str,
}

#[derive(Debug, Serialize)]
struct Type {
    name: String,
    services: usize,
    online: usize,
}

impl<'a> Status<'a> {
    pub(super) fn of(node: &'a NodeShared) -> Self {
        node.collect_latencies();
        let unready: Vec<String> = node.unready().iter().map(ToString::to_string).collect();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            node: &node.name,
            process: std::process::id(),
            uptime_seconds: seconds(node.started.elapsed()),
            state: match () {
                () if node.is_stopped() => "stopped",
                () if node.is_draining() => "draining",
                () => "running",
            },
            ready: unready.is_empty(),
            unready,
            configuration_hash: hash(&node.running.config()),
            ring: Ring {
                mode: match node.config.ring.mode {
                    RingMode::Croupier => "croupier",
                    RingMode::Roulette => "roulette",
                },
                seed: node.config.ring.seed,
                fingerprint: format!("{:016x}", node.ring.fingerprint()),
            },
            clusters: clusters(node),
            shards: shards(node),
            registry: registry(node),
            events: events(node),
        }
    }
}

fn clusters(node: &NodeShared) -> Vec<Cluster<'_>> {
    let servers = node.running.servers();
    let parts = node.clusters.iter().zip(&node.config.clusters).zip(&*servers).enumerate();
    parts
        .map(|(index, ((name, config), servers))| {
            let links = node.ports.iter().map(|port| &port.links[index]);
            Cluster {
                name,
                weight: config.weight,
                // Addresses alone: what else stands in a URL is nobody's business.
                servers: servers.iter().map(|server| server.address.to_string()).collect(),
                links: links.clone().filter(|link| link.is_used()).count(),
                links_connected: links.filter(|link| link.is_connected()).count(),
            }
        })
        .collect()
}

fn shards(node: &NodeShared) -> Vec<Shard> {
    node.ports
        .iter()
        .enumerate()
        .map(|(shard, port)| {
            let stats = port.stats(shard, &node.clusters);
            Shard {
                shard,
                stopped: port.is_stopped(),
                inbox: port.inbox.len(),
                stalls: stats.stalls,
                blocks: stats.blocks,
                blocked_seconds: seconds(port.blocks.now()),
                longest_block_seconds: seconds(stats.longest_block),
                task_panics: stats.task_panics,
                requests: stats.requests,
                links: stats.links,
            }
        })
        .collect()
}

fn registry(node: &NodeShared) -> Registry {
    let shared = &node.registry;
    let mut nodes: Vec<Node> = shared
        .mirror
        .nodes()
        .into_iter()
        .map(|node| Node {
            name: node.name.to_string(),
            address: node.address,
            epoch: node.epoch.to_string(),
            standing: standing(node.standing),
        })
        .collect();
    let mut types: Vec<Type> = shared
        .mirror
        .kinds()
        .into_iter()
        .map(|kind| Type {
            name: String::from_utf8_lossy(&kind.kind).into_owned(),
            services: kind.services,
            online: kind.online,
        })
        .collect();
    types.sort_by(|one, other| one.name.cmp(&other.name));
    let nodes_not_listed = nodes.len().saturating_sub(LISTED_MAX);
    let types_not_listed = types.len().saturating_sub(LISTED_MAX);
    nodes.truncate(LISTED_MAX);
    types.truncate(LISTED_MAX);
    Registry {
        address: shared.address.map(|address| address.to_string()),
        syncing: shared.is_syncing(),
        nodes,
        nodes_not_listed,
        types,
        types_not_listed,
        counters: shared.counters.stats(),
    }
}

fn events(node: &NodeShared) -> Events {
    let recent = node.events.recent();
    let recent = recent.iter().map(|recent| RecentEvent {
        at_unix_seconds: seconds(recent.at.duration_since(UNIX_EPOCH).unwrap_or_default()),
        name: recent.event.name(),
        text: recent.event.to_string(),
    });
    Events { recent: recent.collect(), waiting: node.events.waiting_max(), dropped: node.events.dropped() }
}

/// What a node is held to be, as labels and pages have it.
pub(crate) fn standing(standing: NodeStanding) -> &'static str {
    match standing {
        NodeStanding::Candidate => "candidate",
        NodeStanding::Up => "up",
        NodeStanding::Suspect => "suspect",
        NodeStanding::Down => "down",
    }
}

fn seconds(duration: Duration) -> f64 {
    // Microseconds suffice, and read better.
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// Of what the configuration shows of itself, which leaves secrets out.
fn hash(config: &Config) -> String {
    let hash = Sha256::digest(format!("{config:?}"));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
