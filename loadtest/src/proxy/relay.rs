//! The proxy's thread: it accepts, connects, and moves bytes as each server's passage allows.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::owner::owner_of;
use super::pipe::Pipe;
use super::{Break, Order, Parted, Passage};

/// All that the thread owns.
pub(super) struct Relay {
    servers: Vec<Server>,
    connections: Vec<Connection>,
    woken: UnixStream,
    orders: mpsc::Receiver<Order>,
    parted: Vec<Parted>,
}

struct Server {
    listener: TcpListener,
    /// None until it is known.
    target: Option<SocketAddr>,
    passage: Passage,
}

struct Connection {
    server: usize,
    /// Its client does not reach its server, whatever the server's passage.
    is_parted: bool,
    client: TcpStream,
    target: TcpStream,
    to_target: Pipe,
    to_client: Pipe,
    has_failed: bool,
}

/// While there are so many, others wait in the listeners' queues.
const CONNECTIONS_MAX: usize = 1_024;

/// The server is on this machine: it answers at once, or it does not listen.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The longest poll without an order.
const POLL_MAX: Duration = Duration::from_secs(1);

impl Relay {
    pub(super) fn new(
        listeners: Vec<(TcpListener, Option<SocketAddr>)>,
        woken: UnixStream,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let servers = listeners
            .into_iter()
            .map(|(listener, target)| Server { listener, target, passage: Passage::Open })
            .collect();
        Self { servers, connections: Vec::new(), woken, orders, parted: Vec::new() }
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            self.poll();
            if self.obey() {
                return;
            }
            self.accept();
            let now = Instant::now();
            for connection in &mut self.connections {
                let passage = connection.passage(&self.servers);
                connection.has_failed |= connection.turn(passage, now).is_err();
            }
            self.connections.retain(|connection| !connection.is_done());
        }
    }

    /// Waits until something can be done.
    fn poll(&self) {
        let now = Instant::now();
        let mut polled = vec![poll_of(self.woken.as_raw_fd(), true, false)];
        if self.connections.len() < CONNECTIONS_MAX {
            let listeners = self.servers.iter().map(|server| server.listener.as_raw_fd());
            polled.extend(listeners.map(|listener| poll_of(listener, true, false)));
        }
        let mut until = now + POLL_MAX;
        for connection in &self.connections {
            let passage = connection.passage(&self.servers);
            let (there, back) = (&connection.to_target, &connection.to_client);
            let of_side = |fd: RawFd, from: &Pipe, to: &Pipe| {
                poll_of(fd, from.wants_read(), to.wants_write(passage, now))
            };
            // A side of which nothing is wanted is not polled: its end would be told again and again.
            let sides = [
                of_side(connection.client.as_raw_fd(), there, back),
                of_side(connection.target.as_raw_fd(), back, there),
            ];
            polled.extend(sides.into_iter().filter(|side| side.events != 0));
            for due in [there.due(passage), back.due(passage)].into_iter().flatten() {
                // What is due and cannot be written waits for its socket.
                until = if due > now { until.min(due) } else { until };
            }
        }
        let nanos = until.saturating_duration_since(now).as_nanos();
        let millis = nanos.div_ceil(1_000_000) as libc::c_int;
        // SAFETY: the pointer and the length are of one vector, which lives through the call.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
        // Whatever it says, each socket is tried: none of them blocks.
    }

    /// Whether it is time to stop.
    fn obey(&mut self) -> bool {
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(count) if count > 0) {}
        while let Ok(order) = self.orders.try_recv() {
            let done = match order {
                Order::Stop => return true,
                Order::Pass(server, passage, done) => {
                    if let Some(server) = self.servers.get_mut(server) {
                        server.passage = passage;
                    }
                    done
                }
                Order::Aim(server, target, done) => {
                    if let Some(server) = self.servers.get_mut(server) {
                        server.target = Some(target);
                    }
                    done
                }
                Order::Part(parted, done) => {
                    self.parted.extend(parted);
                    self.part();
                    done
                }
                Order::Join(done) => {
                    self.parted.clear();
                    self.connections.iter_mut().for_each(|connection| connection.is_parted = false);
                    done
                }
                Order::Break(server, how, done) => {
                    self.end(server, how);
                    done
                }
            };
            // Whoever asked may be gone.
            let _gone = done.send(());
        }
        false
    }

    /// Finds the connections that are parted.
    fn part(&mut self) {
        for connection in &mut self.connections {
            connection.is_parted = is_parted(&self.parted, connection.server, &connection.client);
        }
    }

    fn end(&mut self, server: usize, how: Break) {
        let ours = self.connections.iter_mut().filter(|connection| connection.server == server);
        match how {
            Break::Cut => ours.for_each(Connection::cut),
            Break::Reset => {
                ours.for_each(|connection| connection.abort_on_close());
                self.connections.retain(|connection| connection.server != server);
            }
        }
    }

    fn accept(&mut self) {
        for (number, server) in self.servers.iter().enumerate() {
            while self.connections.len() < CONNECTIONS_MAX {
                let Ok((client, _)) = server.listener.accept() else { break };
                // Where nobody listens the client is closed: it tries again, as it would without a proxy.
                let Some(target) = server.target else { continue };
                if let Ok(mut connection) = Connection::new(number, client, target) {
                    connection.is_parted = is_parted(&self.parted, number, &connection.client);
                    self.connections.push(connection);
                }
            }
        }
    }
}

impl Connection {
    fn new(server: usize, client: TcpStream, target: SocketAddr) -> io::Result<Self> {
        let target = TcpStream::connect_timeout(&target, CONNECT_WITHIN)?;
        for stream in [&client, &target] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        let (to_target, to_client) = (Pipe::default(), Pipe::default());
        Ok(Self { server, is_parted: false, client, target, to_target, to_client, has_failed: false })
    }

    fn passage(&self, servers: &[Server]) -> Passage {
        if self.is_parted { Passage::Held } else { servers[self.server].passage }
    }

    /// Moves what can be moved.
    fn turn(&mut self, passage: Passage, now: Instant) -> io::Result<()> {
        let Self { client, target, to_target, to_client, .. } = self;
        for (pipe, from, to) in [(to_target, &*client, &*target), (to_client, &*target, &*client)] {
            if pipe.wants_read() {
                pipe.read(from, passage)?;
            }
            if pipe.wants_write(passage, now) || pipe.wants_write(passage, Instant::now()) {
                pipe.write(to, Instant::now())?;
            }
        }
        Ok(())
    }

    fn cut(&mut self) {
        self.to_target.cut(&self.target);
        self.to_client.cut(&self.client);
    }

    /// Has the kernel send a reset to both sides when they are closed.
    fn abort_on_close(&self) {
        for stream in [&self.client, &self.target] {
            // One that is gone already cannot be reset.
            drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }

    fn is_done(&self) -> bool {
        self.has_failed || (self.to_target.is_done() && self.to_client.is_done())
    }
}

/// Whether the process behind `client` is parted from a server.
fn is_parted(parted: &[Parted], server: usize, client: &TcpStream) -> bool {
    let processes: Vec<u32> =
        parted.iter().filter(|parted| parted.server == server).map(|parted| parted.process).collect();
    if processes.is_empty() {
        return false;
    }
    let ends = client.peer_addr().ok().zip(client.local_addr().ok());
    ends.is_some_and(|(client, proxy)| owner_of(client, proxy, &processes).is_some())
}

fn poll_of(fd: RawFd, reads: bool, writes: bool) -> libc::pollfd {
    let wanted = [(reads, libc::POLLIN), (writes, libc::POLLOUT)];
    let events = wanted.iter().filter(|(is_wanted, _)| *is_wanted).fold(0, |all, (_, event)| all | event);
    libc::pollfd { fd, events, revents: 0 }
}
