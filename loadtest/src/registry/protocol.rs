//! What the main process of a registry run and its workers tell each other.

use serde::{Deserialize, Serialize};

use super::tracker::Sightings;

/// To a worker. Each is answered by [`News::Done`] or by the news that it asks for, and taken up only after
/// the one before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Starts the nodes; answered by `Started`.
    Start(Setup),
    /// Waits until every node has every other one up.
    Link,
    /// Adds every node's own services.
    Load,
    /// Waits until every node lists the services of all; answered by `Memory`.
    AwaitAll,
    /// Answered by `Memory`.
    Memory,
    /// Follows the events of all services.
    Watch,
    /// Answered by `Traffic`.
    Traffic,
    /// Makes changes from this monotonic time on, and records what is seen of the others'.
    Begin { start_nanos: u64 },
    /// Makes no more changes.
    Stop,
    /// Answered by `Progress`.
    Progress,
    /// For the live view: when these changes, by node and number, were seen; answered by `Looked`.
    Look { changes: Vec<(usize, u64)> },
    /// Hands in what was recorded; answered by `Recorded`.
    HandIn,
    /// Answered by `Shown`.
    Show,
}

/// What the nodes of one process are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) nodes: Vec<NodeSetup>,
    /// The servers of each cluster.
    pub(crate) clusters: Vec<Vec<String>>,
    pub(crate) shards: usize,
    pub(crate) entries: u64,
    /// Nodes in the whole run.
    pub(crate) nodes_in_all: usize,
    /// The schedule, from which every process knows every node's changes.
    pub(crate) rate_per_second: u64,
    pub(crate) warmup_nanos: u64,
    pub(crate) duration_nanos: u64,
    /// How long after the end of the schedule a node that is behind may still make changes.
    pub(crate) overrun_nanos: u64,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeSetup {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) bind: String,
    /// Where the others reach it, when that is not where it listens.
    pub(crate) advertise: Option<String>,
    pub(crate) seeds: Vec<String>,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    Done,
    /// Where the nodes listen, in the order of the setup.
    Started {
        addresses: Vec<String>,
    },
    Memory {
        resident_bytes: u64,
    },
    Traffic(Traffic),
    Progress {
        made: u64,
        seen: u64,
        /// Nodes that have made all their changes, or given up.
        finished: usize,
    },
    Looked {
        nodes: Vec<NodeNow>,
        /// For each of the changes: when the last of this process's nodes saw it; 0 when one of them has not.
        seen_nanos: Vec<u64>,
    },
    Recorded(Vec<Record>),
    Shown(Vec<Shown>),
    /// The services of node `origin` are all gone, or all there again, for node `node`.
    Turned {
        node: usize,
        origin: usize,
        is_filled: bool,
        at_nanos: u64,
    },
    /// The run cannot go on.
    Failed(String),
}

/// Counters of a process's nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) bytes_sent: u64,
    pub(crate) frames_sent: u64,
    pub(crate) made: u64,
    pub(crate) links_closed: u64,
    pub(crate) repairs: u64,
    /// Frames and links that were refused.
    pub(crate) refused: u64,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeNow {
    /// From 0.
    pub(crate) number: usize,
    /// Changes of its own, and those of others that it saw.
    pub(crate) made: u64,
    pub(crate) seen: u64,
    /// Nodes that it holds to be up, itself among them.
    pub(crate) up: u64,
    /// Services that its watches have named.
    pub(crate) listed: u64,
}

/// What one node did and saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) node: usize,
    /// By the number of its changes: when it made them, in monotonic nanoseconds.
    pub(crate) made_nanos: Vec<u64>,
    /// By the number of the node: what it saw of that node's changes; its own are left out.
    pub(crate) sightings: Vec<Sightings>,
}

/// What one node lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) node: usize,
    /// Services by the number of their node; those of no node of the run in one more.
    pub(crate) services: Vec<u64>,
    /// Sum of the hashes of all of them.
    pub(crate) fingerprint: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, other: &Self) {
        self.bytes_sent += other.bytes_sent;
        self.frames_sent += other.frames_sent;
        self.made += other.made;
        self.links_closed += other.links_closed;
        self.repairs += other.repairs;
        self.refused += other.refused;
    }

    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            frames_sent: self.frames_sent.saturating_sub(earlier.frames_sent),
            made: self.made.saturating_sub(earlier.made),
            links_closed: self.links_closed.saturating_sub(earlier.links_closed),
            repairs: self.repairs.saturating_sub(earlier.repairs),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }
}
