//! What `/metrics` says: every counter of a node, as OpenMetrics has it.
//!
//! Nothing is registered per message or per topic: a scrape reads the counters that shards write anyway.
//! Labels are few and bounded: the shard, the cluster, and the reason of what was refused.

mod families;
mod page;
mod process;

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode},
    registry::Registry,
};

use crate::node_shared::NodeShared;

/// What all names begin with.
const PREFIX: &str = "croupier";

/// The metrics of one node.
pub(crate) struct Metrics(Registry);

impl Metrics {
    pub(crate) fn new(node: &Arc<NodeShared>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(NodeCollector(Arc::clone(node))));
        Metrics(registry)
    }

    /// The page, `# EOF` included.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // A string takes all that is written.
        let _infallible = encode(&mut text, &self.0);
        text
    }
}

struct NodeCollector(Arc<NodeShared>);

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        families::encode(&self.0, encoder)
    }
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeCollector").field(&self.0.name).finish()
    }
}
