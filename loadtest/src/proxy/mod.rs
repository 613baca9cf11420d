//! Between the clients and the servers of a run, or between its nodes: a thread that passes bytes on, late, not at
//! all, or never again.
//!
//! One thread serves all servers that have a fault of this kind, and polls its sockets. What it has read and may
//! not pass yet waits in a bounded queue; behind that it reads no more, so that the sender's own buffers fill as
//! they would on a network that stalls.

mod owner;
mod pipe;
mod relay;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use self::relay::Relay;

/// The proxy of a run; its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    addresses: Vec<SocketAddr>,
    orders: mpsc::Sender<Order>,
    /// A byte here wakes the thread.
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// How the bytes of a server pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Open,
    /// Each byte so much later, in each direction.
    Late(Duration),
    /// Nothing passes, and nobody is told. New connections are accepted.
    Held,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// In order, as by a process that closes them (FIN). What was on its way is lost.
    Cut,
    /// As by a machine that does not know them (RST).
    Reset,
}

/// A server that a process does not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parted {
    pub(crate) server: usize,
    /// The number of the process whose connections are meant: one that its user may look into.
    pub(crate) process: u32,
}

/// To the thread.
#[derive(Debug)]
enum Order {
    Aim(usize, SocketAddr, mpsc::Sender<()>),
    Pass(usize, Passage, mpsc::Sender<()>),
    Break(usize, Break, mpsc::Sender<()>),
    Part(Vec<Parted>, mpsc::Sender<()>),
    Join(mpsc::Sender<()>),
    Stop,
}

impl Proxy {
    /// Listens on a port of loopback for each of the servers.
    ///
    /// # Errors
    ///
    /// What the system says: no port, no thread.
    pub(crate) fn start(servers: &[SocketAddr]) -> io::Result<Self> {
        Self::start_for(servers.iter().copied().map(Some))
    }

    /// The same for so many servers that are not there yet. What comes for one ends at once until the proxy was
    /// told where it is, by [`aim`](Self::aim).
    ///
    /// # Errors
    ///
    /// What the system says: no port, no thread.
    pub(crate) fn listen(servers: usize) -> io::Result<Self> {
        Self::start_for((0..servers).map(|_| None))
    }

    fn start_for(servers: impl Iterator<Item = Option<SocketAddr>>) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for server in servers {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            listeners.push((listener, server));
        }
        let addresses =
            listeners.iter().map(|(listener, _)| listener.local_addr()).collect::<io::Result<Vec<_>>>()?;
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let (orders, ordered) = mpsc::channel();
        let relay = Relay::new(listeners, woken, ordered);
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || relay.run())?;
        Ok(Self { addresses, orders, wake, thread: Some(thread) })
    }

    /// Where the server of this number is reached through the proxy.
    pub(crate) fn address(&self, server: usize) -> SocketAddr {
        self.addresses[server]
    }

    /// Says where a server is; connections that it has stay where they are.
    ///
    /// # Errors
    ///
    /// When the thread has ended, which it does not by itself.
    pub(crate) fn aim(&self, server: usize, target: SocketAddr) -> io::Result<()> {
        self.order(|done| Order::Aim(server, target, done))
    }

    /// Lets nothing pass any more, and tells nobody, between each of these processes and its server, over the
    /// connections that there are and those that come. Returns when it is done.
    ///
    /// # Errors
    ///
    /// When the thread has ended, which it does not by itself.
    pub(crate) fn part(&self, parted: Vec<Parted>) -> io::Result<()> {
        self.order(|done| Order::Part(parted, done))
    }

    /// Lets everything pass again that [`part`](Self::part) has held. Returns when it is done.
    ///
    /// # Errors
    ///
    /// When the thread has ended, which it does not by itself.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.order(Order::Join)
    }

    /// Lets the bytes of a server pass so from here on; returns when it is done.
    ///
    /// # Errors
    ///
    /// When the thread has ended, which it does not by itself.
    pub(crate) fn pass(&self, server: usize, passage: Passage) -> io::Result<()> {
        self.order(|done| Order::Pass(server, passage, done))
    }

    /// Ends the connections that a server has; those that come later pass. Returns when it is done.
    ///
    /// # Errors
    ///
    /// When the thread has ended, which it does not by itself.
    pub(crate) fn end(&self, server: usize, how: Break) -> io::Result<()> {
        self.order(|done| Order::Break(server, how, done))
    }

    fn order(&self, order: impl FnOnce(mpsc::Sender<()>) -> Order) -> io::Result<()> {
        let gone = || io::Error::other("the proxy has ended");
        let (done, is_done) = mpsc::channel();
        self.orders.send(order(done)).map_err(|_| gone())?;
        (&self.wake).write_all(&[0])?;
        is_done.recv().map_err(|_| gone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A thread that is gone needs no order, and a panic in it is of no use any more.
        drop(self.orders.send(Order::Stop));
        drop((&self.wake).write_all(&[0]));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::{Shutdown, TcpStream};
    use std::time::Instant;

    /// Against hanging only.
    const GUARD: Duration = Duration::from_secs(60);

    /// A proxy, and the two ends of a connection through it.
    fn connected() -> (Proxy, TcpListener, TcpStream, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = Proxy::start(&[server.local_addr().expect("bound")]).expect("a proxy");
        let (client, accepted) = connect(&proxy, &server);
        (proxy, server, client, accepted)
    }

    fn connect(proxy: &Proxy, server: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(proxy.address(0)).expect("the proxy listens");
        let (accepted, _) = server.accept().expect("the proxy connects");
        for stream in [&client, &accepted] {
            stream.set_read_timeout(Some(GUARD)).expect("a timeout");
        }
        (client, accepted)
    }

    fn check_passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
        from.write_all(bytes).expect("written");
        let mut read = vec![0; bytes.len()];
        to.read_exact(&mut read).expect("passed on");
        assert_eq!(read, bytes);
    }

    #[test]
    fn bytes_pass_both_ways_and_so_does_the_end() {
        let (_proxy, _server, mut client, mut accepted) = connected();
        check_passes(&mut client, &mut accepted, b"there");
        check_passes(&mut accepted, &mut client, b"and back");
        client.shutdown(Shutdown::Write).expect("open");
        assert_eq!(accepted.read(&mut [0; 8]).expect("an end"), 0);
        check_passes(&mut accepted, &mut client, b"still");
        drop(accepted);
        assert_eq!(client.read(&mut [0; 8]).expect("an end"), 0);
    }

    #[test]
    fn more_than_the_queue_holds_passes_whole() {
        let (_proxy, _server, client, mut accepted) = connected();
        let sent: Vec<u8> =
            (0..16 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let to_send = sent.clone();
        let writer = std::thread::spawn(move || {
            let mut client = client;
            client.write_all(&to_send).expect("written");
        });
        let mut read = Vec::new();
        accepted.read_to_end(&mut read).expect("all of it, and the end");
        writer.join().expect("the writer is done");
        assert!(read == sent, "{} of {} bytes, or others", read.len(), sent.len());
    }

    #[test]
    fn what_is_late_is_late_by_so_much_and_in_order() {
        let (proxy, _server, mut client, mut accepted) = connected();
        let late = Duration::from_millis(50);
        proxy.pass(0, Passage::Late(late)).expect("a proxy that runs");
        let began = Instant::now();
        check_passes(&mut client, &mut accepted, b"one");
        assert!(began.elapsed() >= late);
        check_passes(&mut accepted, &mut client, b"two");
        assert!(began.elapsed() >= late * 2);
        client.write_all(b"three").expect("written");
        proxy.pass(0, Passage::Open).expect("a proxy that runs");
        client.write_all(b"four").expect("written");
        let mut read = [0; 9];
        accepted.read_exact(&mut read).expect("passed on");
        assert_eq!(&read, b"threefour");
    }

    #[test]
    fn nothing_passes_while_it_is_held_and_all_of_it_afterwards() {
        let (proxy, server, mut client, mut accepted) = connected();
        proxy.pass(0, Passage::Held).expect("a proxy that runs");
        client.write_all(b"held").expect("written");
        accepted.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let error = accepted.read(&mut [0; 8]).expect_err("nothing passes");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        let (mut second, mut second_accepted) = connect(&proxy, &server);
        second.write_all(b"too").expect("written");
        proxy.pass(0, Passage::Open).expect("a proxy that runs");
        accepted.set_read_timeout(Some(GUARD)).expect("a timeout");
        let mut read = [0; 4];
        accepted.read_exact(&mut read).expect("passed on");
        assert_eq!(&read, b"held");
        let mut read = [0; 3];
        second_accepted.read_exact(&mut read).expect("passed on");
        assert_eq!(&read, b"too");
    }

    #[test]
    fn a_cut_is_an_end_and_a_reset_an_error_and_new_connections_pass() {
        let (proxy, server, mut client, mut accepted) = connected();
        proxy.end(0, Break::Cut).expect("a proxy that runs");
        for stream in [&mut client, &mut accepted] {
            assert_eq!(stream.read(&mut [0; 8]).expect("an end, and no error"), 0);
        }
        let (mut client, mut accepted) = connect(&proxy, &server);
        check_passes(&mut client, &mut accepted, b"again");
        proxy.end(0, Break::Reset).expect("a proxy that runs");
        for stream in [&mut client, &mut accepted] {
            let error = stream.read(&mut [0; 8]).expect_err("no orderly end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        let (mut client, mut accepted) = connect(&proxy, &server);
        check_passes(&mut client, &mut accepted, b"and again");
    }

    #[test]
    fn a_process_is_parted_from_one_server_alone_and_joined_again() {
        let servers = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let proxy = Proxy::listen(2).expect("a proxy");
        let mut early = TcpStream::connect(proxy.address(0)).expect("the proxy listens");
        early.set_read_timeout(Some(GUARD)).expect("a timeout");
        assert!(matches!(early.read(&mut [0; 8]), Ok(0) | Err(_)), "nobody knows where it is");
        for (number, server) in servers.iter().enumerate() {
            proxy.aim(number, server.local_addr().expect("bound")).expect("a proxy that runs");
        }
        let connect_to = |number: usize| {
            let client = TcpStream::connect(proxy.address(number)).expect("the proxy listens");
            let (accepted, _) = servers[number].accept().expect("the proxy connects");
            accepted.set_read_timeout(Some(GUARD)).expect("a timeout");
            (client, accepted)
        };
        let (mut first, mut at_first) = connect_to(0);
        let (mut second, mut at_second) = connect_to(1);
        let us = std::process::id();
        // No process has this number: it is above the kernel's highest.
        let nobody = Parted { server: 1, process: u32::MAX };
        proxy.part(vec![Parted { server: 0, process: us }, nobody]).expect("a proxy that runs");
        let (mut later, mut at_first_later) = connect_to(0);
        for (client, accepted) in [(&mut first, &mut at_first), (&mut later, &mut at_first_later)] {
            client.write_all(b"held").expect("written");
            accepted.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            let error = accepted.read(&mut [0; 8]).expect_err("nothing passes");
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            accepted.set_read_timeout(Some(GUARD)).expect("a timeout");
        }
        check_passes(&mut second, &mut at_second, b"passed");
        proxy.join().expect("a proxy that runs");
        for accepted in [&mut at_first, &mut at_first_later] {
            let mut read = [0; 4];
            accepted.read_exact(&mut read).expect("passed on");
            assert_eq!(&read, b"held");
        }
        check_passes(&mut first, &mut at_first, b"again");
    }

    #[test]
    fn where_nobody_listens_the_connection_ends() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("bound");
        drop(server);
        let proxy = Proxy::start(&[address]).expect("a proxy");
        let mut client = TcpStream::connect(proxy.address(0)).expect("the proxy listens");
        client.set_read_timeout(Some(GUARD)).expect("a timeout");
        assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    }
}
