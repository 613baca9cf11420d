//! What an event says in words, for people and for the pages of the admin server.

use std::fmt;

use super::{DeniedAction, Event};

/// The name of every event, as metrics and pages have it.
pub(crate) const NAMES: [&str; 16] = [
    "connected",
    "reconnected",
    "moved",
    "disconnected",
    "connect_failed",
    "server_refused",
    "link_ended",
    "lame_duck",
    "discovered_servers",
    "slow_subscriber",
    "permission_denied",
    "server_error",
    "handler_panicked",
    "reloaded",
    "reload_refused",
    "draining",
];

impl Event {
    /// What it is, in one word such as `connect_failed`: the label of `croupier_events_total`.
    pub fn name(&self) -> &'static str {
        NAMES[self.number()]
    }

    /// The place of its name.
    pub(super) fn number(&self) -> usize {
        match self {
            Event::Connected { .. } => 0,
            Event::Reconnected { .. } => 1,
            Event::Moved { .. } => 2,
            Event::Disconnected { .. } => 3,
            Event::ConnectFailed { .. } => 4,
            Event::ServerRefused { .. } => 5,
            Event::LinkEnded { .. } => 6,
            Event::LameDuck { .. } => 7,
            Event::DiscoveredServers { .. } => 8,
            Event::SlowSubscriber { .. } => 9,
            Event::PermissionDenied { .. } => 10,
            Event::ServerError { .. } => 11,
            Event::HandlerPanicked { .. } => 12,
            Event::Reloaded { .. } => 13,
            Event::ReloadRefused { .. } => 14,
            Event::Draining => 15,
        }
    }
}

/// One line.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Connected { cluster, shard, server } => {
                write!(f, "{cluster}, shard {shard}: connected to {server}")
            }
            Event::Reconnected { cluster, shard, server } => {
                write!(f, "{cluster}, shard {shard}: connected again, to {server}")
            }
            Event::Moved { cluster, shard, from, to } => {
                write!(f, "{cluster}, shard {shard}: moved from {from} to {to}")
            }
            Event::Disconnected { cluster, shard, server, reason, in_doubt, queued, .. } => write!(
                f,
                "{cluster}, shard {shard}: cut off from {server}: {reason}; {in_doubt} in doubt, {queued} queued"
            ),
            Event::ConnectFailed { cluster, shard, server, reason } => {
                write!(f, "{cluster}, shard {shard}: no connection to {server}: {reason}")
            }
            Event::ServerRefused { cluster, shard, server, text } => {
                write!(
                    f,
                    "{cluster}, shard {shard}: {server} refuses this node, and is not tried again: {text}"
                )
            }
            Event::LinkEnded { cluster, shard, reason, discarded } => {
                write!(f, "{cluster}, shard {shard}: the link has ended: {reason}; {discarded} discarded")
            }
            Event::LameDuck { cluster, shard, server } => {
                write!(f, "{cluster}, shard {shard}: {server} is going away")
            }
            Event::DiscoveredServers { cluster, shard, added, removed } => {
                write!(f, "{cluster}, shard {shard}: servers")?;
                added.iter().try_for_each(|server| write!(f, " +{server}"))?;
                removed.iter().try_for_each(|server| write!(f, " -{server}"))
            }
            Event::SlowSubscriber { cluster, shard, topic, lagged } => {
                write!(f, "{cluster}, shard {shard}: the subscriber of {topic} is slow; {lagged} dropped")
            }
            Event::PermissionDenied { cluster, shard, action, subject } => {
                let action = match action {
                    DeniedAction::Publish => "publishing to",
                    DeniedAction::Subscribe => "subscribing to",
                };
                write!(f, "{cluster}, shard {shard}: the server forbids {action} {subject}")
            }
            Event::ServerError { cluster, shard, server, text } => {
                write!(f, "{cluster}, shard {shard}: {server} complains: {text}")
            }
            Event::HandlerPanicked { cluster, shard, topic } => {
                write!(f, "{cluster}, shard {shard}: the handler of {topic} panicked")
            }
            Event::Reloaded { changed } if changed.is_empty() => {
                f.write_str("the configuration was read again, and is as before")
            }
            Event::Reloaded { changed } => write!(f, "the configuration has changed: {}", changed.join(", ")),
            Event::ReloadRefused { reason } => {
                write!(f, "the configuration stays as it was: ")?;
                // Reasons of a file show its lines.
                for (number, line) in reason.lines().enumerate() {
                    write!(f, "{}{}", if number == 0 { "" } else { "; " }, line.trim())?;
                }
                Ok(())
            }
            Event::Draining => f.write_str("the node drains"),
        }
    }
}
