//! The admin server: what an operator sees of a node, served by one thread that is no shard.
//!
//! The thread reads counters that the shards write, and copies that they have handed over; a request wakes no
//! shard and waits for none. All that a client may make it hold is bounded, by the limits in this file and in
//! `request`.

mod connection;
mod counters;
mod pages;
mod poll;
mod request;
mod response;
mod status;

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use self::{
    connection::{Connection, Turn},
    counters::Dropped,
    pages::Pages,
    poll::{Interest, poll},
};
pub(crate) use self::{counters::AdminCounters, status::standing};
use crate::{Error, Result, config::AdminListen, node_shared::NodeShared};

/// Connections at one time. One more takes the place of one that waits between two requests, or is refused.
const CONNECTIONS_MAX: usize = 32;
/// Connections beyond these that are being told that there is no room; more are closed without a word.
const REFUSED_MAX: usize = 16;
/// Connections that are accepted before those that are open get their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// How long nobody is accepted after the kernel had no file or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the rest of the node knows of its admin server.
#[derive(Debug)]
pub(crate) struct AdminShared {
    pub(crate) address: SocketAddr,
    pub(crate) counters: AdminCounters,
    stop: UnixStream,
}

impl AdminShared {
    /// Ends the server's thread.
    pub(crate) fn stop(&self) {
        // One byte fits into a new socket, and a thread that is gone needs none.
        let _gone = (&self.stop).write_all(&[0]);
    }
}

/// What the server's thread takes with it.
pub(crate) struct AdminSeed {
    listener: TcpListener,
    stopped: UnixStream,
}

/// Listens, if the configuration says so.
pub(crate) fn bind(listen: &AdminListen) -> Result<Option<(AdminShared, AdminSeed)>> {
    let Some(address) = listen.address().expect("validation refuses what is no address") else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = UnixStream::pair()?;
        let shared = AdminShared { address, counters: AdminCounters::default(), stop };
        Ok((shared, AdminSeed { listener, stopped }))
    });
    match bound {
        Ok(parts) => Ok(Some(parts)),
        Err(error) if *listen == AdminListen::Usual && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(%address, "another process has the usual address of the admin server; this node has none");
            Ok(None)
        }
        Err(source) => Err(Error::AdminBind { address, source }),
    }
}

/// Serves until the node has stopped.
pub(crate) fn serve(seed: &AdminSeed, node: &Arc<NodeShared>) {
    let Some(shared) = &node.admin else { return };
    let mut server = Server {
        seed,
        counters: &shared.counters,
        pages: Pages::new(node),
        connections: Vec::new(),
        accepts_from: None,
    };
    while !node.is_stopped() {
        if let Err(error) = server.turn() {
            tracing::error!(%error, "the admin server ends");
            return;
        }
    }
}

struct Server<'a> {
    seed: &'a AdminSeed,
    counters: &'a AdminCounters,
    pages: Pages,
    connections: Vec<Connection>,
    /// When connections are accepted again, after the kernel could not make one.
    accepts_from: Option<Instant>,
}

impl Server<'_> {
    /// Waits until something can be done, and does it.
    fn turn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.accepts_from = self.accepts_from.filter(|from| *from > now);
        let deadlines = self.connections.iter().map(Connection::deadline).chain(self.accepts_from);
        let timeout = deadlines.min().map(|due| due.saturating_duration_since(now));
        let accepting = if self.accepts_from.is_none() { Interest::Read } else { Interest::Nothing };
        let mut waiting =
            vec![(self.seed.stopped.as_fd(), Interest::Read), (self.seed.listener.as_fd(), accepting)];
        waiting.extend(self.connections.iter().map(|connection| (connection.as_fd(), connection.interest())));
        let ready = poll(&waiting, timeout)?;
        let now = Instant::now();
        let mut connection_ready = ready[2..].iter();
        let (pages, counters) = (&self.pages, self.counters);
        self.connections.retain_mut(|connection| {
            let is_ready = *connection_ready.next().unwrap_or(&false) || connection.deadline() <= now;
            !is_ready || connection.advance(now, pages, counters) == Turn::Goes
        });
        if ready[1] {
            self.accept(now);
        }
        self.counters.connections.store(self.connections.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let stream = match self.seed.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client has gone away meanwhile.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(_) => {
                    // No files or no memory: who waits stays in the kernel's queue, so asking at once would spin.
                    self.counters.dropped(Dropped::NoFiles);
                    self.accepts_from = Some(now + ACCEPT_PAUSE);
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut connection = Connection::new(stream, now);
            let refused = self.connections.iter().filter(|connection| connection.is_refused()).count();
            if self.connections.len() - refused >= CONNECTIONS_MAX && !self.make_room() {
                connection.refuse_busy(now, self.counters);
                if refused >= REFUSED_MAX {
                    continue;
                }
            }
            if connection.advance(now, &self.pages, self.counters) == Turn::Goes {
                self.connections.push(connection);
            }
        }
    }

    /// Closes the connection that has waited longest between two requests.
    fn make_room(&mut self) -> bool {
        let idle = self.connections.iter().enumerate().filter(|(_, connection)| connection.is_idle());
        let oldest = idle.min_by_key(|(_, connection)| connection.deadline()).map(|(index, _)| index);
        if let Some(index) = oldest {
            self.counters.dropped(Dropped::Idle);
            drop(self.connections.swap_remove(index));
        }
        oldest.is_some()
    }
}
