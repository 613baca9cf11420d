//! The way through the proxy to those servers that have a fault on their way.

use std::io;

use croupier::testing::LocalCluster;
use croupier::{Builder, Node};

use super::{ServerId, Timeline};
use crate::proxy::{Break, Passage, Proxy};

/// The proxy, and which of its servers is which; nothing is on the way where no fault asks for it.
#[derive(Debug, Default)]
pub(crate) struct Detour {
    proxy: Option<Proxy>,
    /// By their numbers in the proxy.
    servers: Vec<ServerId>,
}

impl Detour {
    /// Of the faults of a run over these servers.
    ///
    /// # Errors
    ///
    /// When the proxy cannot be started.
    pub(crate) fn new(timeline: &Timeline, servers: &LocalCluster) -> io::Result<Self> {
        let mut detour = Self::default();
        let mut addresses = Vec::new();
        for fault in timeline.faults().iter().filter(|fault| fault.is_on_the_way()) {
            if !detour.servers.contains(&fault.server) {
                let url = &servers.servers(fault.server.cluster)[fault.server.node];
                let address = url.trim_start_matches(SCHEME).parse().map_err(io::Error::other)?;
                addresses.push(address);
                detour.servers.push(fault.server);
            }
        }
        if !addresses.is_empty() {
            detour.proxy = Some(Proxy::start(&addresses)?);
        }
        Ok(detour)
    }

    /// Where the clients find the servers of each cluster.
    pub(crate) fn urls(&self, servers: &LocalCluster) -> Vec<Vec<String>> {
        let mut urls: Vec<Vec<String>> =
            (0..servers.clusters()).map(|cluster| servers.servers(cluster)).collect();
        if let Some(proxy) = &self.proxy {
            for (number, server) in self.servers.iter().enumerate() {
                urls[server.cluster][server.node] = format!("{SCHEME}{}", proxy.address(number));
            }
        }
        urls
    }

    /// A builder of a node that knows the clusters by this way, else as that of
    /// [`LocalCluster::builder`].
    pub(crate) fn builder(&self, servers: &LocalCluster) -> Builder {
        if self.proxy.is_none() {
            return servers.builder();
        }
        let mut builder = Node::builder();
        for (cluster, urls) in self.urls(servers).into_iter().enumerate() {
            builder = builder.cluster(format!("c{}", cluster + 1), urls);
        }
        builder.config_mut().shards.pin = false;
        builder
    }

    /// Lets the bytes of a server pass so from here on.
    pub(super) fn pass(&self, server: ServerId, passage: Passage) -> io::Result<()> {
        let (proxy, number) = self.find(server)?;
        proxy.pass(number, passage)
    }

    /// Ends the connections of a server.
    pub(super) fn end(&self, server: ServerId, how: Break) -> io::Result<()> {
        let (proxy, number) = self.find(server)?;
        proxy.end(number, how)
    }

    fn find(&self, server: ServerId) -> io::Result<(&Proxy, usize)> {
        let number = self.servers.iter().position(|known| *known == server);
        let missing = || io::Error::other(format!("{server} is not behind the proxy"));
        self.proxy.as_ref().zip(number).ok_or_else(missing)
    }
}

const SCHEME: &str = "nats://";
