//! How a link comes about: dialled, or accepted.

use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use croupier_registry::{DialResult, LinkId};

use super::{PeerLink, Registry, channel::Side, session};
use crate::{
    config::PeerAddress,
    registry_shard::{ToShard, count},
    time,
    transport::{Accepted, Listener, Socket, SocketSettings, resolve, sleep},
};

/// Connections accepted before other tasks get a turn.
const ACCEPTS_IN_A_ROW_MAX: u32 = 16;
/// Pause after the kernel could not accept, as when all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Dials within the deadline, and drives the link to its end.
pub(crate) async fn dial(registry: Registry, id: LinkId, address: String, deadline: Duration) {
    let Some(context) = registry.peer_context() else { return };
    let settings = SocketSettings { connect_timeout: deadline, ..context.socket.clone() };
    let connected = match time::timeout(deadline, connect(&address, &settings)).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
    };
    match connected {
        Ok(socket) => {
            let link = PeerLink::new(id, Some(address), Rc::clone(&registry), Instant::now());
            registry.link_begins(id, &link);
            session::run(link, socket, &context, Side::Dialler).await;
        }
        Err(error) => {
            let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
            tracing::debug!(%address, %error, "a node cannot be reached");
            let result = if is_refused { DialResult::Refused } else { DialResult::Unreachable };
            registry.post_to_hub(ToShard::DialFailed { address, result });
        }
    }
}

async fn connect(address: &str, settings: &SocketSettings) -> io::Result<Socket> {
    let address = address.parse::<PeerAddress>();
    let PeerAddress { host, port } =
        address.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve(&host, port).await? {
        match Socket::connect(address, settings).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Takes over a connection that shard 0 accepted, and drives the link to its end.
pub(crate) fn take_over(registry: Registry, id: LinkId, accepted: Accepted) -> impl Future<Output = ()> {
    // Before the task runs: it may be told to close at once.
    let link = PeerLink::new(id, None, Rc::clone(&registry), Instant::now());
    registry.link_begins(id, &link);
    async move {
        let Some(context) = registry.peer_context() else { return };
        match Socket::from_accepted(accepted, &context.socket) {
            Ok(socket) => session::run(link, socket, &context, Side::Acceptor).await,
            Err(error) => {
                tracing::debug!(%error, "a connection was gone when it was taken over");
                registry.link_ends(id);
                registry.post_to_hub(ToShard::Introduced { link: id });
            }
        }
    }
}

/// Accepts peers until the task is cancelled; each goes to the shard of its link.
pub(crate) async fn accept(registry: Registry, listener: Listener) {
    let mut in_a_row = 0;
    loop {
        match listener.accept().await {
            Ok(connection) => {
                in_a_row += 1;
                if in_a_row >= ACCEPTS_IN_A_ROW_MAX {
                    // A crowd at the door must not stop the shard.
                    in_a_row = 0;
                    sleep(Duration::from_nanos(100)).await;
                }
                count(&registry.shared().counters.connections_accepted, 1);
                if let Some(link) = registry.accept_link() {
                    let shard = registry.shared().shard_of(link);
                    registry.post(shard, ToShard::Accepted { link, connection });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted at present");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
