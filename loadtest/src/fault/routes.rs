//! Servers that stay out of the way of the faults: the routes between those that are to be parted go through the proxy,
//! and clients that reach one through a proxy hear of no other way.

use std::io;

use croupier::testing::{LocalCluster, LocalClusterError};

use super::{ServerAct, ServerFault, Timeline};
use crate::proxy::{Passage, Proxy};

/// The proxy, and which of its servers is which pair; nothing is on the way where no fault asks for it.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    proxy: Option<Proxy>,
    /// By their numbers in the proxy.
    pairs: Vec<Pair>,
    /// Whether a fault is on the way between clients and servers.
    has_detour: bool,
}

/// Two servers of a cluster, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    cluster: usize,
    nodes: [usize; 2],
}

impl Routes {
    /// Of the faults of a run.
    ///
    /// # Errors
    ///
    /// When the proxy cannot be started.
    pub(crate) fn new(timeline: &Timeline) -> Result<Self, LocalClusterError> {
        let mut pairs: Vec<Pair> = Vec::new();
        for fault in timeline.faults() {
            let ServerAct::Partition { other, .. } = fault.act else { continue };
            let pair = Pair::of(fault.server.cluster, [fault.server.node, other]);
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        let proxy = (!pairs.is_empty()).then(|| Proxy::listen(pairs.len())).transpose();
        let proxy = proxy
            .map_err(|source| LocalClusterError::System { doing: "start the proxy".to_owned(), source })?;
        let has_detour = timeline.faults().iter().any(ServerFault::is_on_the_way);
        Ok(Self { proxy, pairs, has_detour })
    }

    /// Starts servers whose routes go this way.
    ///
    /// # Errors
    ///
    /// Those of [`LocalCluster::with_nodes`].
    pub(crate) fn start(&self, clusters: usize, nodes: usize) -> Result<LocalCluster, LocalClusterError> {
        if self.proxy.is_none() && !self.has_detour {
            return LocalCluster::with_nodes(clusters, nodes);
        }
        LocalCluster::with_routes(clusters, nodes, |route| {
            let number = self.find(Pair::of(route.cluster, [route.from, route.to]));
            match self.proxy.as_ref().zip(number) {
                None => Ok(route.address),
                Some((proxy, number)) => proxy.aim(number, route.address).map(|()| proxy.address(number)),
            }
        })
    }

    /// Lets the bytes between two servers of a cluster pass so from here on.
    pub(super) fn pass(&self, cluster: usize, nodes: [usize; 2], passage: Passage) -> io::Result<()> {
        let number = self.find(Pair::of(cluster, nodes));
        let missing = || io::Error::other("the servers reach each other directly");
        let (proxy, number) = self.proxy.as_ref().zip(number).ok_or_else(missing)?;
        proxy.pass(number, passage)
    }

    fn find(&self, pair: Pair) -> Option<usize> {
        self.pairs.iter().position(|known| *known == pair)
    }
}

impl Pair {
    fn of(cluster: usize, nodes: [usize; 2]) -> Self {
        let [one, other] = nodes;
        Self { cluster, nodes: [one.min(other), one.max(other)] }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, ErrorKind, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    /// Against hanging only.
    const GUARD: Duration = Duration::from_secs(60);

    /// A client of a server, which has answered all that was said so far.
    fn client(url: &str, said: &str) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(url.trim_start_matches("nats://")).expect("a server");
        stream.set_read_timeout(Some(GUARD)).expect("a timeout");
        let mut client = BufReader::new(stream);
        say(&mut client, &format!("CONNECT {{\"verbose\":false}}\r\n{said}PING\r\n"));
        while next(&mut client).expect("an answer") != "PONG\r\n" {}
        client
    }

    fn say(client: &mut BufReader<TcpStream>, words: &str) {
        client.get_mut().write_all(words.as_bytes()).expect("a server that reads");
    }

    fn next(client: &mut BufReader<TcpStream>) -> io::Result<String> {
        let mut line = String::new();
        client.read_line(&mut line).map(|_| line)
    }

    #[test]
    fn nothing_passes_between_two_servers_while_they_are_parted_and_all_of_it_afterwards() {
        let fault = ServerFault::parse("0s partition c1/2|c1/1 1s", 1, 2).expect("a fault");
        let timeline = Timeline::new(vec![fault], Duration::from_secs(1)).expect("possible");
        let routes = Routes::new(&timeline).expect("a proxy");
        let servers = routes.start(1, 2).expect("servers that hear each other");
        let urls = servers.servers(0);
        let mut subscriber = client(&urls[0], "SUB parted.* 1\r\n");
        let mut publisher = client(&urls[1], "");
        // Until the other server knows of the subscription nothing arrives, and later more than once.
        subscriber.get_ref().set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        loop {
            say(&mut publisher, "PUB parted.try 0\r\n\r\n");
            if next(&mut subscriber).is_ok_and(|line| line.starts_with("MSG parted.try")) {
                break;
            }
        }
        routes.pass(0, [0, 1], Passage::Held).expect("a proxy that runs");
        say(&mut publisher, "PUB parted.held 0\r\n\r\nPING\r\n");
        while next(&mut publisher).expect("the publisher's own server answers") != "PONG\r\n" {}
        loop {
            match next(&mut subscriber) {
                Ok(line) => assert!(!line.contains("parted.held"), "{line}"),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                    break;
                }
            }
        }
        routes.pass(0, [1, 0], Passage::Open).expect("a proxy that runs");
        subscriber.get_ref().set_read_timeout(Some(GUARD)).expect("a timeout");
        while !next(&mut subscriber).expect("it arrives").contains("parted.held") {}
    }
}
