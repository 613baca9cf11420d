//! Why a fault as it was written cannot be obeyed, in words that say what to write instead.

use std::time::Duration;

use crate::cli::or_one_of;

/// The text completes "`--fault '3s kil c2/1'`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FaultError {
    #[error("begins with the time at which it strikes, as in '3s {given}'")]
    NoTime { given: String },
    #[error("unknown fault {given:?}{}", or_one_of(given, known))]
    UnknownAct { given: String, known: &'static str },
    #[error("{act} is written as '{form}'")]
    Form { act: &'static str, form: &'static str },
    #[error("there is no server {given}; there are c1/1 to c{clusters}/{nodes}")]
    NoSuchServer { given: String, clusters: usize, nodes: usize },
    #[error(
        "{fault} needs clusters of two servers joined by routes (--nodes 2): with one there is nothing to part, \
         and more tell each other of ways around it"
    )]
    Routes { fault: String },
    #[error("there is nothing between {server} and itself, nor between servers of two clusters")]
    NotApart { server: String },
    #[error(
        "a partition is between nodes of run registry ('9s partition n1|n2 2s'), or between the servers of a cluster \
         of two ('9s partition c1/1|c1/2 2s', with --nodes 2)"
    )]
    PartitionElsewhere,
    #[error("strikes at {at:?}, after the end of the measured phase of {duration:?}")]
    AfterEnd { at: Duration, duration: Duration },
    #[error("at {at:?} {server} is dead already, by an earlier fault")]
    Dead { server: String, at: Duration },
    #[error("at {at:?} an earlier fault of {server} is not over")]
    Paused { server: String, at: Duration },
    #[error("at {at:?} {server} is going away already, by an earlier fault")]
    Leaving { server: String, at: Duration },
}
