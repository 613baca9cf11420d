//! The life of a link: connect, drive, wait, again.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use croupier_protocol::{ConnectOptions, Connection, ConnectionConfig, DecoderLimits, ServerError};
use futures_lite::future;

use super::{
    Link, LinkStatus, ServerEntry,
    access::Access,
    session::{Session, SessionEnd},
};
use crate::{
    error::LinkEnd,
    stats::add,
    transport::{Alarm, Socket, SocketSettings, resolve, sleep},
};

/// Doublings of the back-off, after which only its maximum counts.
const BACKOFF_DOUBLINGS_MAX: u32 = 16;
/// The same refusal by the same server, after which it is not tried again.
const REFUSALS_MAX: u32 = 2;

/// Keeps the link connected until it is closed, or until every server has refused it for good.
pub(crate) async fn run(link: Rc<Link>) {
    let mut servers: Vec<Server> = link.node.servers[link.index]
        .iter()
        .cloned()
        .map(|entry| Server { entry, refusal: None, refusals: 0 })
        .collect();
    fastrand::shuffle(&mut servers);
    let mut failed_rounds = 0;
    'link: while !link.closing.get() {
        let mut is_any_left = false;
        for server in &mut servers {
            if server.refusals >= REFUSALS_MAX {
                continue;
            }
            is_any_left = true;
            let slot = link.node.gates[link.index].reserve(Instant::now());
            wait_for_slot(&link, slot).await;
            if link.closing.get() {
                break 'link;
            }
            add(&link.counters.tries, 1);
            let ended = future::or(try_server(&link, &server.entry), closed(&link)).await;
            server.note(&ended);
            if ended.was_ready {
                failed_rounds = 0;
            }
            match &ended.end {
                SessionEnd::Credentials(_) | SessionEnd::Tls(_) => {
                    tracing::warn!(cluster = %link.cluster, shard = link.shard, server = %server.entry.address,
                        end = %ended.end, "a try to connect failed");
                }
                SessionEnd::Closing => {}
                _ if ended.was_ready => {}
                _ => {
                    tracing::debug!(cluster = %link.cluster, shard = link.shard, server = %server.entry.address,
                        end = %ended.end, "a try to connect failed");
                }
            }
        }
        if !is_any_left {
            tracing::error!(cluster = %link.cluster, shard = link.shard, "every server refuses this node");
            link.end_for(LinkEnd::Refused);
            break;
        }
        link.set_status(LinkStatus::Down);
        let settings = &link.config.connection.reconnect;
        wait_for_slot(&link, Instant::now() + backoff(settings.base, settings.max, failed_rounds)).await;
        failed_rounds += 1;
    }
    link.set_status(LinkStatus::Down);
    link.barriers.borrow_mut().end();
    let discarded = link.outbox.borrow_mut().discard();
    if discarded > 0 {
        tracing::warn!(cluster = %link.cluster, shard = link.shard, discarded, "messages are left unsent");
    }
    link.room.notify();
    link.refresh_counters();
}

struct Server {
    entry: ServerEntry,
    /// How it refused us last, and how often in a row.
    refusal: Option<ServerError>,
    refusals: u32,
}

impl Server {
    /// Counts the same refusal in a row. A connection that was accepted ends the row, also when the server
    /// ends it because credentials have expired: new ones may be there by now.
    fn note(&mut self, ended: &Ended) {
        if ended.was_ready {
            (self.refusal, self.refusals) = (None, 0);
        } else if let SessionEnd::Server(error) = &ended.end
            && error.is_authentication()
        {
            self.refusals = if self.refusal.as_ref() == Some(error) { self.refusals + 1 } else { 1 };
            self.refusal = Some(error.clone());
        }
    }
}

struct Ended {
    end: SessionEnd,
    was_ready: bool,
}

impl Ended {
    fn unconnected(error: io::Error) -> Self {
        Ended::of_no_session(SessionEnd::Socket(error))
    }

    fn of_no_session(end: SessionEnd) -> Self {
        Ended { end, was_ready: false }
    }
}

/// Full jitter: anything between nothing and the exponential bound, so that the clients of a cluster
/// that comes back do not come all at once.
fn backoff(base: Duration, max: Duration, failed_rounds: u32) -> Duration {
    let bound = base.saturating_mul(1 << failed_rounds.min(BACKOFF_DOUBLINGS_MAX)).min(max);
    bound.mul_f64(fastrand::f64())
}

/// Tries all addresses of a server, and drives the first connection that comes about to its end.
async fn try_server(link: &Rc<Link>, server: &ServerEntry) -> Ended {
    let connection = &link.config.connection;
    let settings = SocketSettings {
        connect_timeout: connection.connect_timeout,
        user_timeout: connection.user_timeout,
        keepalive: connection.user_timeout,
    };
    let prepared = async {
        let access = Access::prepare(link, server).await?;
        let addresses = resolve(&server.address.host, server.address.port).await;
        Ok((access, addresses.map_err(SessionEnd::Socket)?))
    };
    let (access, addresses) = match crate::time::timeout(settings.connect_timeout, prepared).await {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(end)) => return Ended::of_no_session(end),
        Err(elapsed) => return Ended::unconnected(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match Socket::connect(address, &settings).await {
            Ok(socket) => return drive(link, socket, access).await,
            Err(error) => last = error,
        }
    }
    Ended::unconnected(last)
}

async fn drive(link: &Rc<Link>, socket: Socket, access: Access) -> Ended {
    let settings = &link.config.connection;
    let config = ConnectionConfig {
        connect: ConnectOptions { name: Some(link.node.name.clone()), ..ConnectOptions::default() },
        ping_interval: settings.ping_interval,
        pings_out_max: settings.max_pings_out,
        handshake_timeout: settings.connect_timeout,
        decoder: DecoderLimits::default(),
    };
    let mut session = Session::new(link, socket, Connection::new(config, Instant::now()), access);
    let end = poll_fn(|cx| session.poll(cx)).await;
    let was_ready = session.is_ready();
    drop(session);
    link.session_ended(was_ready, &end);
    Ended { end, was_ready }
}

/// Resolves when the link is closed while no session is there to notice; a session ends by itself, and
/// gets a moment to do so.
async fn closed(link: &Rc<Link>) -> Ended {
    link.status_changed.until(|| link.closing.get().then_some(())).await;
    while link.status.get() == LinkStatus::Connected {
        sleep(Duration::from_millis(1)).await;
    }
    Ended { end: SessionEnd::Closing, was_ready: false }
}

/// Waits until `due`, or until another shard of the node gets through, or the link is closed.
async fn wait_for_slot(link: &Rc<Link>, due: Instant) {
    let gate = &link.node.gates[link.index];
    let accepted = gate.accepted();
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        link.turn_begins(cx);
        gate.register(link.shard, cx.waker());
        let now = Instant::now();
        if due <= now || gate.accepted() != accepted || link.closing.get() {
            return Poll::Ready(());
        }
        alarm.arm(due, now, cx);
        link.turn_ends();
        Poll::Pending
    })
    .await;
}
