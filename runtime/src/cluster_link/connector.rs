//! The life of a link: connect, drive, wait, again.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use croupier_protocol::{ConnectOptions, Connection, ConnectionConfig, DecoderLimits};
use futures_lite::future;

use super::{
    Link, LinkStatus, ServerEntry,
    access::Access,
    crossing::Crossing,
    fault::{self, Fault},
    pool::{Next, ServerId},
    session::{Session, SessionEnd},
};
use crate::{
    error::LinkEnd,
    stats::add,
    time,
    transport::{Alarm, Socket, SocketSettings, resolve},
};

/// Doublings of the back-off, after which only its maximum counts.
const BACKOFF_DOUBLINGS_MAX: u32 = 16;

/// Keeps the link connected until it is closed, or until every server has refused it for good.
pub(crate) async fn run(link: Rc<Link>) {
    let mut failed_rounds = 0;
    while !link.closing.get() {
        let next = link.pool.borrow_mut().next();
        let (server, entry) = match next {
            Next::Try(server, entry) => (server, entry),
            Next::RoundOver => {
                link.set_status(LinkStatus::Down);
                let pause = backoff(&link, failed_rounds);
                failed_rounds += 1;
                wait_until(&link, time::now() + pause, Wait::Pause).await;
                continue;
            }
            Next::AllRefuse => {
                tracing::error!(cluster = %link.cluster, shard = link.shard, "every server refuses this node");
                link.end_for(LinkEnd::Refused);
                break;
            }
        };
        let slot = link.node.gates[link.index].reserve(time::now());
        wait_until(&link, slot, Wait::Slot).await;
        if link.closing.get() {
            break;
        }
        match future::or(connect(&link, server, &entry), closed(&link)).await {
            Ok(session) => {
                if Crossing::new(&link, session).run().await {
                    failed_rounds = 0;
                }
            }
            Err(end) => link.try_failed(server, &entry.address, &end),
        }
    }
    link.set_status(LinkStatus::Down);
    link.barriers.borrow_mut().end();
    let discarded = link.outbox.borrow_mut().discard();
    link.room.notify();
    link.ended(discarded);
}

/// Full jitter: anything between nothing and the exponential bound, so that the clients of a cluster
/// that comes back do not come all at once.
pub(super) fn backoff(link: &Link, failed_rounds: u32) -> Duration {
    let settings = &link.config.connection.reconnect;
    let doubled = settings.base.saturating_mul(1 << failed_rounds.min(BACKOFF_DOUBLINGS_MAX));
    let max = if fault::is_built_in(Fault::BackoffUnbounded) { Duration::MAX } else { settings.max };
    doubled.min(max).mul_f64(fastrand::f64())
}

/// Tries all addresses of a server, up to the first that takes a connection.
pub(super) async fn connect<'l>(
    link: &'l Rc<Link>,
    server: ServerId,
    entry: &ServerEntry,
) -> Result<Session<'l>, SessionEnd> {
    add(&link.counters.tries, 1);
    let settings = &link.config.connection;
    let (socket, access) = connect_socket(link, entry).await?;
    let config = ConnectionConfig {
        connect: ConnectOptions {
            name: Some(settings.client_name.as_ref().unwrap_or(&link.node.name).clone()),
            echo: settings.echo,
            ..ConnectOptions::default()
        },
        ping_interval: settings.ping_interval,
        pings_out_max: settings.max_pings_out,
        handshake_timeout: settings.connect_timeout,
        decoder: DecoderLimits::default(),
    };
    let connection = Connection::new(config, time::now());
    Ok(Session::new(link, server, entry.address.clone(), socket, connection, access))
}

async fn connect_socket(link: &Link, server: &ServerEntry) -> Result<(Socket, Access), SessionEnd> {
    let connection = &link.config.connection;
    let settings = SocketSettings {
        connect_timeout: connection.connect_timeout,
        user_timeout: connection.user_timeout,
        keepalive: connection.user_timeout,
    };
    let prepared = async {
        let access = Access::prepare(link, server).await?;
        let addresses = resolve(&server.address.host, server.address.port).await;
        Ok::<_, SessionEnd>((access, addresses.map_err(SessionEnd::Socket)?))
    };
    let timed_out = |elapsed| SessionEnd::Socket(io::Error::new(io::ErrorKind::TimedOut, elapsed));
    let (access, addresses) =
        time::timeout(settings.connect_timeout, prepared).await.map_err(timed_out)??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match Socket::connect(address, &settings).await {
            Ok(socket) => return Ok((socket, access)),
            Err(error) => last = error,
        }
    }
    Err(SessionEnd::Socket(last))
}

/// Resolves when the link is closed.
async fn closed<'l>(link: &Link) -> Result<Session<'l>, SessionEnd> {
    link.status_changed.until(|| link.closing.get().then_some(())).await;
    Err(SessionEnd::Closing)
}

/// What a link waits for.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// The next round: a server that has come in need not wait for it.
    Pause,
    /// Its place in the row of the node's tries.
    Slot,
}

/// Waits until `due`, or until another shard of the node gets through, somebody wants the link to be
/// connected anew, or the link is closed.
async fn wait_until(link: &Rc<Link>, due: Instant, wait: Wait) {
    let gate = &link.node.gates[link.index];
    let accepted = gate.accepted();
    let generation = link.pool.borrow().generation();
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        link.turn_begins(cx);
        gate.register(link.shard, cx.waker());
        let now = time::now();
        let has_more_servers = wait == Wait::Pause && link.pool.borrow().generation() != generation;
        if due <= now || has_more_servers || gate.accepted() != accepted || link.closing.get() {
            return Poll::Ready(());
        }
        alarm.arm(due, now, cx);
        link.turn_ends();
        Poll::Pending
    })
    .await;
}
