//! What the registry counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection of a peer ended through its own fault, or was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// No key, another key, or bytes that are not of this protocol.
    Channel,
    /// No Hello within its time.
    HelloTimeout,
    /// Too many were half open, and this was the oldest.
    HalfOpen,
    /// A Hello of another cluster.
    OtherCluster,
    /// What is no frame, or must not come at this point.
    Frame,
    /// A frame that its sender has no right to send, or beyond a limit.
    Violation,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a node's registry has counted since its start.
        #[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        pub struct RegistryStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct RegistryCounters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl RegistryCounters {
            pub(crate) fn stats(&self) -> RegistryStats {
                RegistryStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Links to other nodes that opened.
    links_opened,
    /// Of them, those that ended.
    links_closed,
    /// Connections that were accepted.
    connections_accepted,
    /// Dials that led to no link.
    dials_failed,
    /// Refused: no key, another key, or bytes of another protocol.
    refused_channel,
    /// Refused: no Hello in time.
    refused_hello_timeout,
    /// Refused: the oldest of too many that were half open.
    refused_half_open,
    /// Refused: a node of another cluster.
    refused_other_cluster,
    /// Refused: what is no frame, or must not come at this point.
    refused_frame,
    /// Refused: a frame that its sender has no right to send, or beyond a limit.
    refused_violation,
    /// Frames that were sent to other nodes.
    frames_sent,
    /// Their bytes, as encrypted.
    bytes_sent,
    /// Frames that came from other nodes.
    frames_received,
    /// Bytes that came from other nodes.
    bytes_received,
    /// Changes to tables of services.
    table_changes,
    /// Pulls because a heartbeat showed that something was missing.
    repairs,
    /// Times that another live node had this node's name.
    name_conflicts,
    /// Times that this node took a higher epoch since the others remembered one.
    stale_epochs,
}

impl RegistryCounters {
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Channel => &self.refused_channel,
            Refusal::HelloTimeout => &self.refused_hello_timeout,
            Refusal::HalfOpen => &self.refused_half_open,
            Refusal::OtherCluster => &self.refused_other_cluster,
            Refusal::Frame => &self.refused_frame,
            Refusal::Violation => &self.refused_violation,
        };
        count(counter, 1);
    }
}

/// Several shards may count.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
