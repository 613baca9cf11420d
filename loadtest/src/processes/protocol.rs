//! What the processes of a run tell each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::Totals;
use crate::crew::Reply;
use crate::fault::{Detour, Pages};
use crate::live::Seen;
use crate::plan::Plan;
use crate::servers::Servers;
use crate::worker::Outcome;

/// From the main process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Start a node and subscribe; done when all is confirmed.
    Start(Box<Setup>),
    /// The first message is due at this time of the monotonic clock.
    Go { start_nanos: u64 },
    /// Tell the counters, and to `is_watching` also what the live view shows.
    Look { is_watching: bool },
    /// A fault strikes this cluster.
    Strike { cluster: usize },
    /// Send nothing more.
    Stop,
    /// Hand in what was recorded, and end the node.
    End,
}

/// What a process is to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// From 0.
    pub(crate) process: usize,
    /// Of each process.
    pub(crate) shards: usize,
    /// Whether there is a live view.
    pub(crate) is_watched: bool,
    pub(crate) plan: Plan,
    pub(crate) home: Home,
}

/// Where the clusters are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Home {
    /// The client URLs of `c1`, `c2`, and so on.
    Own(Vec<Vec<String>>),
    Config(PathBuf),
}

/// From a worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    Done,
    Totals {
        totals: Totals,
        has_sent_all: bool,
        /// When a shard found the schedule beyond hope, on the run's clock.
        gave_up_nanos: Option<u64>,
        /// Clusters to which some shard has no connection; told in a run with faults.
        cut_off: Vec<usize>,
        /// For the live view.
        seen: Option<Box<Seen>>,
    },
    HandedIn {
        /// Of each shard.
        outcomes: Vec<Outcome>,
        /// What the links told, in a run with faults.
        pages: Pages,
    },
    Failed(String),
}

impl Home {
    /// Of servers to which this way leads.
    pub(crate) fn of(servers: &Servers, detour: &Detour) -> Self {
        match servers {
            Servers::Own(own) => Self::Own(detour.urls(own)),
            Servers::Existing(path) => Self::Config(path.clone()),
        }
    }
}

impl Reply for News {
    fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    fn is_event(&self) -> bool {
        false
    }
}
