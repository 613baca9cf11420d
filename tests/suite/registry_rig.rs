//! Several nodes of one registry on real servers, which all see each other.

use croupier::{Builder, NodeHandle, NodeStanding, Registry, RegistryConfig, testing::LocalCluster};

use crate::{
    rig::Rig,
    support::{Permit, permit, wait_for, wait_on},
};

/// The name of the registry.
pub(crate) const REGISTRY: &str = "suite";
/// What its nodes share.
pub(crate) const SECRET: &str = "a secret of the suite";

/// Nodes `a`, `b`, `c`, .. of one registry. They end before the servers do.
pub(crate) struct RegistryRig {
    nodes: Vec<Option<Rig>>,
    shards: Vec<usize>,
    pub(crate) servers: LocalCluster,
    _permit: Permit,
}

impl RegistryRig {
    /// Starts one node for each count of shards, over so many clusters of one server, and waits until
    /// every node sees all the others.
    pub(crate) fn start(clusters: usize, shards: &[usize]) -> RegistryRig {
        RegistryRig::configured(clusters, shards, |_, builder| builder)
    }

    /// As [`RegistryRig::configured`], but does not wait until the nodes see each other.
    pub(crate) fn unjoined(
        clusters: usize,
        shards: &[usize],
        change: impl FnMut(usize, Builder) -> Builder,
    ) -> RegistryRig {
        RegistryRig::launch(clusters, shards, 0, change)
    }

    /// As [`RegistryRig::start`], with room for a node of one shard in another process.
    pub(crate) fn with_guest(clusters: usize, shards: &[usize]) -> RegistryRig {
        RegistryRig::with_guest_beside(clusters, shards, |builder| builder)
    }

    /// As [`RegistryRig::with_guest`], with each own node's builder changed.
    pub(crate) fn with_guest_beside(
        clusters: usize,
        shards: &[usize],
        mut change: impl FnMut(Builder) -> Builder,
    ) -> RegistryRig {
        let rig = RegistryRig::launch(clusters, shards, 1, |_, builder| change(builder));
        rig.until_complete();
        rig
    }

    /// As [`RegistryRig::start`], with each node's builder changed by its index.
    pub(crate) fn configured(
        clusters: usize,
        shards: &[usize],
        change: impl FnMut(usize, Builder) -> Builder,
    ) -> RegistryRig {
        let rig = RegistryRig::launch(clusters, shards, 0, change);
        rig.until_complete();
        rig
    }

    fn launch(
        clusters: usize,
        shards: &[usize],
        guest_shards: usize,
        mut change: impl FnMut(usize, Builder) -> Builder,
    ) -> RegistryRig {
        let permit = permit(shards.iter().sum::<usize>() + guest_shards);
        let servers = LocalCluster::start(clusters).unwrap();
        let mut rig = RegistryRig { nodes: Vec::new(), shards: shards.to_vec(), servers, _permit: permit };
        for (index, shards) in shards.iter().enumerate() {
            let builder = change(index, rig.builder(index));
            rig.nodes.push(Some(Rig::beside(builder, *shards)));
        }
        rig
    }

    /// A builder of a node as it is at the start: its name, and as its seeds the nodes that run.
    pub(crate) fn builder(&self, index: usize) -> Builder {
        let seeds = self.running().filter_map(NodeHandle::registry_addr);
        let registry = RegistryConfig::new(REGISTRY).bind("127.0.0.1:0").secret(SECRET);
        let registry = seeds.fold(registry, RegistryConfig::seed);
        self.servers.builder().name(name(index)).registry(registry)
    }

    /// A node that runs.
    pub(crate) fn node(&self, index: usize) -> &Rig {
        self.nodes[index].as_ref().expect("the node runs")
    }

    /// The handles of all nodes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &NodeHandle> {
        self.nodes.iter().flatten().map(Rig::handle)
    }

    /// Drains a node. The others learn of it by its Bye.
    pub(crate) async fn stop(&mut self, index: usize) {
        let node = self.nodes[index].take().expect("the node runs");
        node.stop().await.unwrap();
    }

    /// Starts a node again under its name, and waits until every node sees all the others.
    pub(crate) fn start_again(&mut self, index: usize) {
        assert!(self.nodes[index].is_none(), "the node runs");
        self.nodes[index] = Some(Rig::beside(self.builder(index), self.shards[index]));
        self.until_complete();
    }

    /// Waits until every node that runs has reached all the others and has what they advertised.
    pub(crate) fn until_complete(&self) {
        let is_running = |index: &usize| self.nodes[*index].is_some();
        let names: Vec<String> = (0..self.nodes.len()).filter(is_running).map(name).collect();
        for handle in self.running() {
            wait_for("the nodes to see each other", || sees_all(handle, &names).then_some(()));
        }
    }
}

/// Whether a node sees so many nodes up, itself included, and waits for nothing of theirs.
pub(crate) fn sees(handle: &NodeHandle, nodes: usize) -> bool {
    let known = handle.nodes();
    let up = known.iter().filter(|node| node.standing == NodeStanding::Up).count();
    up == nodes && !handle.is_syncing()
}

/// Whether a node sees all of these up, whoever else there is, and waits for nothing of theirs.
fn sees_all(handle: &NodeHandle, names: &[String]) -> bool {
    let known = handle.nodes();
    let is_up =
        |name: &String| known.iter().any(|node| *node.name == **name && node.standing == NodeStanding::Up);
    names.iter().all(is_up) && !handle.is_syncing()
}

/// The name of a node, by its index.
pub(crate) fn name(index: usize) -> String {
    char::from(b"abcdefgh"[index]).to_string()
}

/// Waits until a shard sees what `ready` looks for.
pub(crate) async fn until_seen<T>(
    node: &Rig,
    shard: usize,
    what: &'static str,
    mut ready: impl FnMut(&Registry) -> Option<T> + Send + 'static,
) -> T
where
    T: Send + 'static,
{
    node.on(shard, async move |shard| {
        let registry = shard.registry();
        wait_on(&shard, what, || ready(&registry)).await
    })
    .await
}

/// Waits until every shard of a node sees so many instances of a type, and so many of them online.
pub(crate) async fn until_counted(node: &Rig, kind: &'static str, all: usize, online: usize) {
    for shard in 0..node.handle().shards() {
        until_seen(node, shard, "as many instances", move |registry| {
            let services = registry.get_services(kind);
            let now_online = services.iter().filter(|service| service.is_online()).count();
            (services.len() == all && now_online == online).then_some(())
        })
        .await;
    }
}
