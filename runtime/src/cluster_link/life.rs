//! What happens to a link: accepted, cut, moved, told of other servers. Each is counted and told here.

use std::{rc::Rc, task::Context, time::Duration};

use croupier_protocol::ServerError;

use super::{
    Link, LinkStatus, ServerEntry,
    fault::{self, Fault},
    pool::{Reconfigured, ServerId},
    session::SessionEnd,
};
use crate::{
    Event, FailedTry, Fates, LinkEnd,
    config::ServerAddress,
    events::shown,
    stats::{add, store},
    time,
};

/// The clients of a server in lame duck mode leave it over this time, not all at once. Servers give them
/// ten seconds by default.
const LEAVE_JITTER: Duration = Duration::from_millis(500);

impl Link {
    /// From here on nobody needs to wake the task: the turn sees what comes up.
    pub(super) fn turn_begins(&self, cx: &mut Context<'_>) {
        self.scheduled.set(true);
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        self.node.ports[self.shard].progressed();
    }

    pub(super) fn turn_ends(&self) {
        self.scheduled.set(false);
        self.refresh_counters();
    }

    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        self.node.events.emit(event);
    }

    /// A connection is the current one of a link that had none.
    pub(super) fn connected(&self, server: ServerId, address: &ServerAddress) {
        self.emit(|| {
            let (cluster, shard, server) = (self.cluster.clone(), self.shard, address.to_string());
            if self.current_server.get().is_some() {
                Event::Reconnected { cluster, shard, server }
            } else {
                Event::Connected { cluster, shard, server }
            }
        });
        self.accepted(server);
        self.set_status(LinkStatus::Connected);
        tracing::info!(cluster = %self.cluster, shard = self.shard, server = %address, "connected");
    }

    /// A connection is the current one in the place of another, which goes on for a while.
    pub(super) fn moved(&self, from: &ServerAddress, server: ServerId, address: &ServerAddress) {
        self.accepted(server);
        add(&self.counters.moves, 1);
        self.emit(|| Event::Moved {
            cluster: self.cluster.clone(),
            shard: self.shard,
            from: from.to_string(),
            to: address.to_string(),
        });
        tracing::info!(cluster = %self.cluster, shard = self.shard, %from, to = %address, "moved");
    }

    fn accepted(&self, server: ServerId) {
        add(&self.counters.connects, 1);
        self.current_server.set(Some(server));
        self.pool.borrow_mut().accepted(server);
        self.node.gates[self.index].connected();
        self.leave_if_withdrawn();
    }

    /// Works by other configured servers: new ones may be connected to at once, and a connection to one that is no
    /// more among them is moved away from.
    pub(crate) fn apply_servers(&self, configured: &[ServerEntry]) {
        let Reconfigured { added, removed } = self.pool.borrow_mut().reconfigure(configured);
        if !added.is_empty() || !removed.is_empty() {
            tracing::info!(cluster = %self.cluster, shard = self.shard, ?added, ?removed,
                "the configured servers have changed");
        }
        if !removed.is_empty() {
            self.node.forget_identities(self.index);
        }
        if self.status.get() == LinkStatus::Connected {
            self.leave_if_withdrawn();
        }
        self.schedule();
    }

    fn leave_if_withdrawn(&self) {
        let Some(server) = self.current_server.get() else { return };
        let mut pool = self.pool.borrow_mut();
        if pool.is_withdrawn(server) {
            // All that are left have a turn, whoever had his before.
            pool.begin_round(server, false);
            self.move_wanted.set(Some(time::now()));
        }
    }

    /// A connection that was moved away from has ended. Nothing was on it any more.
    pub(super) fn left(&self, address: &ServerAddress) {
        add(&self.counters.disconnects, 1);
        self.node.gates[self.index].disconnected();
        tracing::debug!(cluster = %self.cluster, shard = self.shard, server = %address, "left");
    }

    /// Settles what the current connection leaves behind.
    pub(super) fn connection_ended(&self, server: ServerId, address: &ServerAddress, end: &SessionEnd) {
        let cut = self.outbox.borrow_mut().cut();
        self.barriers.borrow_mut().cut();
        let cut_off: Vec<_> = if fault::is_built_in(Fault::RequestsOutliveCut) {
            Vec::new()
        } else {
            self.requests.borrow_mut().drain().collect()
        };
        for asker in cut_off {
            asker.cut_off(self);
        }
        add(&self.counters.disconnects, 1);
        self.pool.borrow_mut().begin_round(server, true);
        self.node.gates[self.index].disconnected();
        self.down_since.set(time::now());
        self.set_status(LinkStatus::Down);
        if !matches!(end, SessionEnd::Closing) {
            tracing::warn!(cluster = %self.cluster, shard = self.shard, server = %address, %end,
                in_doubt = cut.in_doubt, queued = cut.requeued, "disconnected");
        }
        store(&self.counters.connected, 0);
        self.refresh_counters();
        self.emit(|| Event::Disconnected {
            cluster: self.cluster.clone(),
            shard: self.shard,
            server: address.to_string(),
            reason: end.reason(),
            in_doubt: cut.in_doubt,
            queued: cut.requeued,
            fates: Fates::new(&self.counters, cut.requeued, 0),
        });
    }

    /// The link takes nothing any more; what was still queued is discarded.
    pub(super) fn ended(&self, discarded: u64) {
        if discarded > 0 {
            tracing::warn!(cluster = %self.cluster, shard = self.shard, discarded, "messages are left unsent");
        }
        self.refresh_counters();
        self.emit(|| Event::LinkEnded {
            cluster: self.cluster.clone(),
            shard: self.shard,
            reason: self.end.get().unwrap_or(LinkEnd::Draining),
            discarded,
        });
    }

    /// The server complains, and goes on.
    pub(super) fn complained(&self, address: &ServerAddress, error: &ServerError) {
        self.emit(|| {
            let (cluster, shard) = (self.cluster.clone(), self.shard);
            match error {
                ServerError::PermissionsViolation { action, subject, .. } => Event::PermissionDenied {
                    cluster,
                    shard,
                    action: (*action).into(),
                    subject: String::from_utf8_lossy(subject).into_owned(),
                },
                error => {
                    Event::ServerError { cluster, shard, server: address.to_string(), text: shown(error) }
                }
            }
        });
    }

    /// A try to connect came to nothing.
    pub(super) fn try_failed(&self, server: ServerId, address: &ServerAddress, end: &SessionEnd) {
        if matches!(end, SessionEnd::Closing) {
            return;
        }
        let failed = FailedTry { server: address.to_string(), reason: end.reason() };
        self.failed_try.borrow_mut().replace(failed);
        self.emit(|| Event::ConnectFailed {
            cluster: self.cluster.clone(),
            shard: self.shard,
            server: address.to_string(),
            reason: end.reason(),
        });
        if let SessionEnd::Server(error) = end
            && error.is_authentication()
            && self.pool.borrow_mut().refused(server, error)
        {
            tracing::error!(cluster = %self.cluster, shard = self.shard, server = %address, %error,
                "the server refuses this node again, and is not tried any more");
            self.emit(|| Event::ServerRefused {
                cluster: self.cluster.clone(),
                shard: self.shard,
                server: address.to_string(),
                text: shown(error),
            });
            return;
        }
        if matches!(end, SessionEnd::Credentials(_) | SessionEnd::Tls(_)) {
            tracing::warn!(cluster = %self.cluster, shard = self.shard, server = %address, %end,
                "a try to connect failed");
        } else {
            tracing::debug!(cluster = %self.cluster, shard = self.shard, server = %address, %end,
                "a try to connect failed");
        }
    }

    /// Applies the addresses that an INFO names.
    pub(super) fn discover(&self, urls: &[String], said_by: ServerId) {
        let discovered = self.pool.borrow_mut().discover(urls, said_by);
        add(&self.counters.bad_addresses, discovered.ignored);
        if !discovered.added.is_empty() || !discovered.removed.is_empty() {
            tracing::info!(cluster = %self.cluster, shard = self.shard, added = ?discovered.added,
                removed = ?discovered.removed, "the cluster's servers have changed");
            let names = |servers: &[ServerAddress]| servers.iter().map(ToString::to_string).collect();
            self.emit(|| Event::DiscoveredServers {
                cluster: self.cluster.clone(),
                shard: self.shard,
                added: names(&discovered.added),
                removed: names(&discovered.removed),
            });
        }
    }

    /// The current server says that it is going away.
    pub(super) fn lame_duck(&self, server: ServerId, address: &ServerAddress) {
        if !self.pool.borrow_mut().lame(server) {
            return;
        }
        tracing::info!(cluster = %self.cluster, shard = self.shard, server = %address,
            "the server is in lame duck mode");
        self.emit(|| Event::LameDuck {
            cluster: self.cluster.clone(),
            shard: self.shard,
            server: address.to_string(),
        });
        self.pool.borrow_mut().begin_round(server, false);
        self.move_wanted.set(Some(time::now() + LEAVE_JITTER.mul_f64(fastrand::f64())));
    }

    /// Has the link move to another connection, to another server if there is one; the present connection
    /// serves until then. A link that is down is connecting anyway.
    pub(crate) fn renew(self: &Rc<Self>) {
        if self.status.get() == LinkStatus::Connected && self.move_wanted.get().is_none() {
            self.move_wanted.set(Some(time::now()));
            if let Some(server) = self.current_server.get() {
                self.pool.borrow_mut().begin_round(server, false);
            }
            self.schedule();
        }
    }

    pub(super) fn discarded_oversized(&self, discarded: u64) {
        if discarded > 0 {
            tracing::warn!(cluster = %self.cluster, shard = self.shard, discarded,
                "queued messages are larger than the server takes");
        }
    }
}
