//! The way between the nodes of a run that are to be parted: through the proxy, which stands before each of them.

use std::io;

use super::Cluster;
use crate::fault::NodeFault;
use crate::proxy::{Parted, Proxy};
use crate::scenario::RunError;

/// Where the nodes reach each other; directly where no partition is asked for.
#[derive(Debug)]
pub(super) struct Passages {
    /// Its servers are the nodes, by their numbers.
    proxy: Option<Proxy>,
}

impl Passages {
    /// For `nodes` nodes.
    ///
    /// # Errors
    ///
    /// When the proxy cannot be started.
    pub(super) fn new(faults: &[NodeFault], nodes: usize) -> io::Result<Self> {
        let has_partition = faults.iter().any(|fault| matches!(fault, NodeFault::Partition(_)));
        Ok(Self { proxy: has_partition.then(|| Proxy::listen(nodes)).transpose()? })
    }

    /// Where the others reach a node, when that is not where it listens.
    pub(super) fn address(&self, node: usize) -> Option<String> {
        self.proxy.as_ref().map(|proxy| proxy.address(node).to_string())
    }

    /// A node listens there.
    pub(super) fn aim(&self, node: usize, address: &str) -> io::Result<()> {
        let Some(proxy) = &self.proxy else { return Ok(()) };
        proxy.aim(node, address.parse().map_err(io::Error::other)?)
    }

    fn proxy(&self) -> io::Result<&Proxy> {
        self.proxy.as_ref().ok_or_else(|| io::Error::other("the nodes reach each other directly"))
    }
}

impl Cluster<'_> {
    /// Lets nothing pass between the nodes of two processes.
    pub(super) fn part(&mut self, processes: [usize; 2]) -> Result<(), RunError> {
        let mut parted = Vec::new();
        for [from, to] in [processes, [processes[1], processes[0]]] {
            let process = self.crew.fleet.pid(from)?;
            parted.extend(self.nodes_of(to).into_iter().map(|server| Parted { server, process }));
        }
        self.passages.proxy().and_then(|proxy| proxy.part(parted)).map_err(RunError::Proxy)
    }

    /// Lets everything pass again.
    pub(super) fn join(&self) -> Result<(), RunError> {
        self.passages.proxy().and_then(Proxy::join).map_err(RunError::Proxy)
    }
}
