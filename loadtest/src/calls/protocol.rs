//! What the main process of a calls run and its workers tell each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::crew::Reply;

/// The type of the service that is called.
pub(crate) const KIND: &str = "loadtest.calls";

/// The name of the registry's cluster.
pub(crate) const CLUSTER: &str = "loadtest";

/// To a worker; each is answered by [`News::Done`] or by the news that it asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Starts the node with its instances.
    Start(Setup),
    /// Instances come and go from here on.
    Churn,
    /// Answered by `Counted`; instances come and go no more.
    HandIn,
}

/// What the node of one process is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// From 0.
    pub(crate) process: usize,
    /// Tells the lives of a process that was restarted apart.
    pub(crate) life: u64,
    pub(crate) run: u64,
    pub(crate) seed: String,
    /// The servers of each cluster.
    pub(crate) clusters: Vec<Vec<String>>,
    pub(crate) instances: usize,
    /// Zero: none comes or goes.
    pub(crate) churn_nanos: u64,
    /// Where each execution is written down before it is answered.
    pub(crate) journal: PathBuf,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    Done,
    Counted(Counted),
    /// The run cannot go on.
    Failed(String),
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) added: u64,
    pub(crate) removed: u64,
    /// Requests that no caller of this run made so.
    pub(crate) corrupt: u64,
    /// Answers that could not be given.
    pub(crate) unanswered: u64,
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

/// The name of the node of a process, which counts from 0.
pub(crate) fn node_name(process: usize) -> String {
    format!("w{}", process + 1)
}

/// The process from the name of its node.
pub(crate) fn process_of(name: &str) -> Option<usize> {
    name.strip_prefix('w')?.parse::<usize>().ok()?.checked_sub(1)
}
