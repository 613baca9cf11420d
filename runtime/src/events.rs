//! What happens to a node and its links, told to whoever listens.

mod hub;
mod words;

use std::fmt;

use croupier_protocol::{PermissionAction, ServerError};

pub use self::hub::{EVENTS_MAX, Events};
pub(crate) use self::hub::{EventCallback, EventHub};
use crate::{ClusterName, LinkEnd, config::redacted, stats::LinkCounters};

/// Something that happened to a node, mostly on one of its shards.
///
/// [`NodeHandle::events`](crate::NodeHandle::events) gives a stream of them,
/// [`Builder::on_event`](crate::Builder::on_event) calls back. Servers are named as `host:port`. No event
/// holds a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A shard's link to a cluster was accepted for the first time.
    Connected {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
    },
    /// A link that had been down is accepted again. What was queued goes out, and all is subscribed again.
    Reconnected {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
    },
    /// A link has moved to another connection before it let go of the old one: nothing is in doubt.
    Moved {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server that it was connected to.
        from: String,
        /// The server that it is connected to; it may be the same one.
        to: String,
    },
    /// A link's connection has ended. The link tries to connect again, unless the node drains.
    Disconnected {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
        /// Why.
        reason: DisconnectReason,
        /// Messages that had been written to this connection and were not confirmed. They are not sent
        /// again.
        in_doubt: u64,
        /// Messages that wait for the next connection.
        queued: u64,
        /// All fates of the link's messages, since its start and including these.
        fates: Fates,
    },
    /// A try to connect came to nothing. There are at most ten tries a second for each cluster.
    ConnectFailed {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
        /// Why.
        reason: DisconnectReason,
    },
    /// A server refused this node's credentials for the second time in a row. It is not tried again.
    ServerRefused {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
        /// What the server said.
        text: String,
    },
    /// A link has ended for good and takes no more messages.
    LinkEnded {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// Why.
        reason: LinkEnd,
        /// Messages that were still queued, and are discarded.
        discarded: u64,
    },
    /// The server is going away. The link moves as soon as another server takes it.
    LameDuck {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
    },
    /// A server has named others of its cluster, or names some no more.
    DiscoveredServers {
        /// The cluster.
        cluster: ClusterName,
        /// The shard, whose link heard of it.
        shard: usize,
        /// Servers that may be connected to from here on.
        added: Vec<String>,
        /// Servers that are not tried any more.
        removed: Vec<String>,
    },
    /// A subscription's queue is full, and messages are dropped as its policy says; or replies to a request that many
    /// answer are. Told once, until its reader has emptied the queue.
    SlowSubscriber {
        /// The cluster that the messages came from.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The topic as it was subscribed to, or asked on.
        topic: String,
        /// Messages that this subscription, or this request, has lost so far.
        lagged: u64,
    },
    /// The server forbids a subject. A subscription to it has ended; a publish to it was dropped by the
    /// server.
    PermissionDenied {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// What is forbidden.
        action: DeniedAction,
        /// The subject, lossily as text.
        subject: String,
    },
    /// The server complains of something else (`-ERR`).
    ServerError {
        /// The cluster.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The server.
        server: String,
        /// What it said, with whatever looks like a credential replaced.
        text: String,
    },
    /// A handler panicked. Its subscription has ended.
    HandlerPanicked {
        /// The cluster that the message came from.
        cluster: ClusterName,
        /// The shard.
        shard: usize,
        /// The topic as it was subscribed to.
        topic: String,
    },
    /// A reload was applied: every shard works by the new configuration.
    Reloaded {
        /// The keys that changed, such as `limits.request_timeout`; none if all was as before.
        changed: Vec<String>,
    },
    /// A reload was refused, at SIGHUP or by the handle: the configuration stays as it was.
    ReloadRefused {
        /// Why, over several lines where a file is shown.
        reason: String,
    },
    /// The node drains: it was asked to, its applications have returned, or it has failed.
    Draining,
}

/// What a server may forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeniedAction {
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
}

impl From<PermissionAction> for DeniedAction {
    fn from(action: PermissionAction) -> Self {
        match action {
            PermissionAction::Publish => DeniedAction::Publish,
            PermissionAction::Subscribe => DeniedAction::Subscribe,
        }
    }
}

/// Why a connection ended, or did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server closed the stream without a word.
    EndOfStream,
    /// The kernel says that the connection is broken, or cannot be made.
    Socket(String),
    /// Silence, or bytes that are no NATS.
    Protocol(String),
    /// The server said why it ends.
    Server(String),
    /// There are no credentials to show.
    Credentials(String),
    /// There is no TLS where there must be, or the other way round, or it failed.
    Tls(String),
    /// The server is going away itself.
    LameDuck,
    /// The node is draining.
    Draining,
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DisconnectReason::EndOfStream => f.write_str("the server closed the stream"),
            DisconnectReason::Socket(text)
            | DisconnectReason::Protocol(text)
            | DisconnectReason::Credentials(text)
            | DisconnectReason::Tls(text) => f.write_str(text),
            DisconnectReason::Server(text) => write!(f, "the server says: {text}"),
            DisconnectReason::LameDuck => f.write_str("the server is in lame duck mode"),
            DisconnectReason::Draining => f.write_str("the node drains"),
        }
    }
}

/// What has become of all messages that were published to a link. They balance:
/// `accepted = queued + written + processed + in_doubt + discarded_oversized + discarded_unsent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fates {
    /// Messages that a publish took.
    pub accepted: u64,
    /// Messages that a publish refused: no room, or too large.
    pub rejected: u64,
    /// Accepted messages of which no byte was sent yet.
    pub queued: u64,
    /// Messages handed to the kernel, for which no PONG has come. None after a disconnect.
    pub written: u64,
    /// Messages that the server has processed.
    pub processed: u64,
    /// Messages written to a connection that was cut before a PONG.
    pub in_doubt: u64,
    /// Messages larger than a new connection's server takes.
    pub discarded_oversized: u64,
    /// Messages that were still queued when the link ended.
    pub discarded_unsent: u64,
}

impl Fates {
    /// From a link's counters as they stand, with what the shard alone can tell apart.
    pub(crate) fn new(counters: &LinkCounters, queued: u64, written: u64) -> Self {
        let load =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        Fates {
            accepted: load(&counters.accepted),
            rejected: load(&counters.rejected),
            queued,
            written,
            processed: load(&counters.processed),
            in_doubt: load(&counters.in_doubt),
            discarded_oversized: load(&counters.discarded_oversized),
            discarded_unsent: load(&counters.discarded_unsent),
        }
    }
}

/// A server's complaint as an event may show it.
pub(crate) fn shown(error: &ServerError) -> String {
    redacted(&error.to_string())
}
