//! The errors of the public API: one enum for each area, each with its numbers.

use std::{fmt, io, net::SocketAddr, time::Duration};

use croupier_protocol::SubjectError;

use crate::{
    CallError, ClusterName, DisconnectReason, ReconnectError, RegistryError, ReloadError,
    config::ConfigError, logging::LoggingError, probe::ProbeError, testing::LocalClusterError,
};

/// An error of the application, as its closure returns it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of what concerns a whole node.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Bytes of a refused topic that an error shows.
const TOPIC_BYTES_SHOWN: usize = 64;

/// A topic that cannot be a NATS subject. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic:?} is refused: {reason}")]
pub struct InvalidTopic {
    /// The beginning of the topic, at most 64 bytes, lossily as text.
    pub topic: String,
    /// What is wrong with it.
    #[source]
    pub reason: SubjectError,
}

impl InvalidTopic {
    pub(crate) fn new(topic: &[u8], reason: SubjectError) -> Self {
        let shown = &topic[..topic.len().min(TOPIC_BYTES_SHOWN)];
        InvalidTopic { topic: String::from_utf8_lossy(shown).into_owned(), reason }
    }
}

/// Why a publish was refused. The message was neither sent nor queued.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The publish buffer of the topic's link is full: the server, or the way to it, is slower than
    /// the publisher, or it is down. Try again later, or wait with `publish_wait`.
    #[error(
        "publish buffer of cluster {cluster} is full: {queued_bytes} of {limit_bytes} bytes are queued, {needed_bytes} more asked"
    )]
    Busy {
        /// The cluster of the topic.
        cluster: ClusterName,
        /// Bytes that wait to be sent.
        queued_bytes: usize,
        /// The limit, `limits.publish_buffer`.
        limit_bytes: usize,
        /// Bytes that this message would have added.
        needed_bytes: usize,
    },
    /// The message is larger than its cluster accepts.
    #[error("payload of {payload_bytes} bytes is over the {limit_bytes} that cluster {cluster} accepts")]
    PayloadTooLarge {
        /// The cluster of the topic.
        cluster: ClusterName,
        /// Bytes of headers and payload.
        payload_bytes: usize,
        /// The least of `limits.max_payload` and the server's `max_payload`.
        limit_bytes: usize,
    },
    /// The topic is no subject, or a wildcard.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// The node is draining, or the tries to reach this cluster have ended for good.
    #[error("cluster {cluster} takes no more messages: {reason}")]
    Disconnected {
        /// The cluster of the topic.
        cluster: ClusterName,
        /// Why.
        reason: LinkEnd,
    },
    /// No cluster of this name is configured.
    #[error("no cluster is named {cluster}")]
    UnknownCluster {
        /// The name.
        cluster: ClusterName,
    },
    /// The node's role is `"subscriber"`.
    #[error("the node's role is \"subscriber\", it does not publish")]
    Role,
}

impl PublishError {
    /// Whether the same publish may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, PublishError::Busy { .. })
    }
}

/// Why a link takes no more messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEnd {
    /// The node is draining or has stopped.
    Draining,
    /// Every server refused this node's credentials twice.
    Refused,
    /// The cluster turned out to be another one under a second name.
    SameCluster,
    /// The shard is not reached any more.
    ShardStopped,
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkEnd::Draining => "the node is draining",
            LinkEnd::Refused => "its servers refuse this node",
            LinkEnd::SameCluster => "its servers belong to another configured cluster",
            LinkEnd::ShardStopped => "the shard has stopped",
        })
    }
}

/// A try to connect that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedTry {
    /// The server's address.
    pub server: String,
    /// Why.
    pub reason: DisconnectReason,
}

impl fmt::Display for FailedTry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}: {}", self.server, self.reason)
    }
}

/// Why a subscribe failed. Nothing stays subscribed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The cluster did not confirm within `connection.subscribe_timeout`.
    #[error(
        "cluster {cluster} did not confirm the subscription within {waited:?}{}",
        .failed_try.as_ref().map(|failed| format!(": {failed}")).unwrap_or_default()
    )]
    Unconfirmed {
        /// The topic's cluster; for a wildcard the first of all, none of which answered.
        cluster: ClusterName,
        /// How long was waited.
        waited: Duration,
        /// The last try to connect, if the link is down and one has failed.
        failed_try: Option<FailedTry>,
    },
    /// The topic is no subject, or has a wildcard where none may stand.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// The server forbids this subscription.
    #[error("cluster {cluster} forbids the subscription")]
    PermissionDenied {
        /// The cluster that forbids it.
        cluster: ClusterName,
    },
    /// The server does not take what is sent, and too much waits already. Nothing was added to it.
    #[error(
        "cluster {cluster} takes nothing more: {queued_bytes} bytes wait on its link, which may hold {limit_bytes}"
    )]
    Busy {
        /// The cluster.
        cluster: ClusterName,
        /// Bytes that wait to be sent.
        queued_bytes: usize,
        /// `limits.publish_buffer` and 64 MiB.
        limit_bytes: usize,
    },
    /// The shard or the link holds as many subscriptions as it may.
    #[error("the link to cluster {cluster} holds {limit} subscriptions, its limit")]
    TooMany {
        /// The cluster.
        cluster: ClusterName,
        /// The limit.
        limit: usize,
    },
    /// The node is draining, or the tries to reach this cluster have ended for good.
    #[error("cluster {cluster} takes no more subscriptions: {reason}")]
    Disconnected {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        reason: LinkEnd,
    },
    /// The node's role is `"publisher"`.
    #[error("the node's role is \"publisher\", it does not subscribe")]
    Role,
}

impl SubscribeError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            SubscribeError::Unconfirmed { .. } | SubscribeError::Busy { .. } | SubscribeError::TooMany { .. }
        )
    }
}

/// Why a request has no reply.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody subscribes to the topic, says the server. The request reached no one.
    #[error("nobody answers on this topic in cluster {cluster}")]
    NoResponders {
        /// The topic's cluster.
        cluster: ClusterName,
    },
    /// No reply came in time. Whether anybody acted on the request is unknown.
    #[error("no reply from cluster {cluster} within {waited:?}")]
    Timeout {
        /// The topic's cluster.
        cluster: ClusterName,
        /// How long was waited.
        waited: Duration,
    },
    /// The link was down, and nothing was sent; or it was cut while the request was under way, as
    /// `sent` says.
    #[error("cluster {cluster} is not connected ({})", if *.sent { "cut after the request was written" } else { "nothing was sent" })]
    Disconnected {
        /// The topic's cluster.
        cluster: ClusterName,
        /// Whether the request may have reached somebody.
        sent: bool,
    },
    /// The topic is no subject, or a wildcard.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// The request was refused before it was sent.
    #[error(transparent)]
    Publish(PublishError),
    /// As many requests are in flight on this link as may be.
    #[error("{limit} requests are in flight to cluster {cluster}, the limit")]
    TooMany {
        /// The topic's cluster.
        cluster: ClusterName,
        /// The limit.
        limit: usize,
    },
}

impl RequestError {
    /// Whether the same request may succeed later, and certainly was not acted upon.
    pub fn is_retryable(&self) -> bool {
        match self {
            RequestError::NoResponders { .. } | RequestError::TooMany { .. } => true,
            RequestError::Disconnected { sent, .. } => !sent,
            RequestError::Publish(error) => error.is_retryable(),
            RequestError::Timeout { .. } | RequestError::InvalidTopic(_) => false,
        }
    }
}

impl From<PublishError> for RequestError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::InvalidTopic(error) => RequestError::InvalidTopic(error),
            error => RequestError::Publish(error),
        }
    }
}

/// Clusters that did not answer a flush: what was published to them may still be on its way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not flushed within {waited:?}: cluster {}", .failed.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", "))]
pub struct FlushError {
    /// The clusters, in the order of the configuration.
    pub failed: Vec<ClusterName>,
    /// How long was waited at most.
    pub waited: Duration,
}

impl FlushError {
    /// A later flush may succeed.
    pub fn is_retryable(&self) -> bool {
        true
    }
}

/// Why a round trip to a cluster was not measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoundTripError {
    /// No cluster of this name is configured.
    #[error("no cluster is named {cluster}")]
    UnknownCluster {
        /// The name.
        cluster: ClusterName,
    },
    /// The link is down, or was cut before the answer.
    #[error("cluster {cluster} is not connected")]
    Disconnected {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The server did not answer in time.
    #[error("cluster {cluster} did not answer a PING within {waited:?}")]
    Timeout {
        /// The cluster.
        cluster: ClusterName,
        /// How long was waited.
        waited: Duration,
    },
}

impl RoundTripError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, RoundTripError::UnknownCluster { .. })
    }
}

/// Why work handed to another shard has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No such shard.
    #[error("shard {shard} is asked for, but the node has {shards}")]
    UnknownShard {
        /// The one asked for.
        shard: usize,
        /// How many there are.
        shards: usize,
    },
    /// The shard has stopped, or stopped before the work was done.
    #[error("shard {shard} has stopped")]
    Stopped {
        /// The shard.
        shard: usize,
    },
    /// The work panicked; its shard goes on.
    #[error("the work panicked on shard {shard}: {message}")]
    Panicked {
        /// The shard.
        shard: usize,
        /// The panic's message.
        message: String,
    },
}

impl SubmitError {
    /// Never: the work may have begun.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A future was not ready in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not ready within {waited:?}")]
pub struct Elapsed {
    /// How long was waited.
    pub waited: Duration,
}

/// What ends or refuses a whole node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel lacks or refuses what a node needs; the message says what to do.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A thread or an executor could not be made.
    #[error(
        "shard {shard} cannot start: {source}\n  \
         to look the machine over:  croupier doctor   (in code: croupier::probe::Checkup::of)"
    )]
    Start {
        /// The shard.
        shard: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The application returned an error, which is this one's source.
    #[error("the application failed: {0}")]
    App(#[source] BoxError),
    /// The application panicked.
    #[error("the application panicked on shard {shard}: {message}")]
    AppPanicked {
        /// The shard.
        shard: usize,
        /// The panic's message.
        message: String,
    },
    /// A shard's thread died of a fault of Croupier itself.
    #[error("shard {shard} died: {message}")]
    ShardDied {
        /// The shard.
        shard: usize,
        /// The panic's message.
        message: String,
    },
    /// Two configured clusters are one.
    #[error("clusters {first} and {second} are the same NATS cluster: {evidence}")]
    SameCluster {
        /// The name seen first.
        first: ClusterName,
        /// The name seen second.
        second: ClusterName,
        /// What showed it.
        evidence: String,
    },
    /// Signals could not be caught.
    #[error("signal handlers cannot be installed: {0}")]
    Signals(#[source] io::Error),
    /// See [`InvalidTopic`].
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// See [`PublishError`].
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// See [`SubscribeError`].
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// See [`RequestError`].
    #[error(transparent)]
    Request(#[from] RequestError),
    /// See [`ReconnectError`](crate::ReconnectError).
    #[error(transparent)]
    Reconnect(#[from] ReconnectError),
    /// See [`FlushError`].
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// See [`RoundTripError`].
    #[error(transparent)]
    RoundTrip(#[from] RoundTripError),
    /// See [`SubmitError`].
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// See [`Elapsed`].
    #[error(transparent)]
    Elapsed(#[from] Elapsed),
    /// See [`RegistryError`].
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// See [`CallError`].
    #[error(transparent)]
    Call(#[from] CallError),
    /// The address for peers cannot be listened on.
    #[error("peers cannot be listened for on {address}: {source}")]
    RegistryBind {
        /// The address.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// See [`ReloadError`].
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// The address for the admin server cannot be listened on.
    #[error(
        "the admin server cannot listen on {address}: {source}\n  \
         choose another address by `node.admin_listen`, or turn it off with \"\""
    )]
    AdminBind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// See [`LoggingError`].
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// See [`LocalClusterError`].
    #[error(transparent)]
    LocalCluster(#[from] LocalClusterError),
}

impl Error {
    /// Whether the node could not start for want of something that this machine has not, or does not allow.
    ///
    /// The error tells the first obstacle and what to do about it. The log then has all that is amiss, as
    /// `croupier doctor` prints it; [`Checkup::of`](crate::probe::Checkup::of) gives it to a program.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Error::Probe(_) | Error::Start { .. })
    }

    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Publish(error) => error.is_retryable(),
            Error::Subscribe(error) => error.is_retryable(),
            Error::Request(error) => error.is_retryable(),
            Error::Flush(error) => error.is_retryable(),
            Error::RoundTrip(error) => error.is_retryable(),
            Error::Registry(error) => error.is_retryable(),
            Error::Call(error) => error.is_retryable(),
            Error::Elapsed(_) => true,
            _ => false,
        }
    }
}

/// The message of a caught panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
