//! A node in a registry, in this process or as the heart of another, and what a test asks of it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use croupier::{
    Builder, NodeHandle, NodeStanding, RegistryConfig, RegistryStats, ServiceEvent, ServiceSpec, Shard,
};

use crate::support::{TestNode, wait_for};

/// The registry's cluster in these tests.
pub(super) const CLUSTER: &str = "casino";

/// A registry on a free port of loopback, without a secret.
pub(super) fn registry() -> RegistryConfig {
    RegistryConfig::new(CLUSTER).bind("127.0.0.1:0")
}

/// A node of a registry.
pub(super) struct Peer {
    node: TestNode,
    name: String,
}

/// What a node shows of some types: the number that goes with their keys, and the instances.
pub(super) type Shown = Vec<(u64, Vec<(String, String)>)>;

impl Peer {
    /// Starts a node; the test holds the permit.
    pub(super) fn start(builder: Builder, name: &str, shards: usize, registry: RegistryConfig) -> Peer {
        let node = TestNode::start(builder.name(name).registry(registry), shards);
        Peer { node, name: name.to_owned() }
    }

    pub(super) fn handle(&self) -> &NodeHandle {
        &self.node.handle
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.handle().registry_addr().expect("a node of a registry listens")
    }

    pub(super) fn stats(&self) -> RegistryStats {
        self.handle().registry_stats()
    }

    /// Runs `work` on a shard.
    pub(super) fn on<F, T>(&self, shard: usize, work: F) -> T
    where
        F: AsyncFnOnce(Shard) -> T + Send + 'static,
        T: Send + 'static,
    {
        self.node.on(shard, work)
    }

    /// Offers instances `<from>` to below `<to>` of a type, until the node drains or somebody removes them.
    pub(super) fn offer(&self, kind: &str, ids: std::ops::Range<usize>) {
        self.offer_each(kind, ids.map(|id| (format!("i{id}"), 1)).collect());
    }

    /// Offers instances with these ids and weights, spread over the shards.
    pub(super) fn offer_each(&self, kind: &str, instances: Vec<(String, u8)>) {
        let shards = self.handle().shards();
        let mut of_shards = vec![Vec::new(); shards];
        for (number, instance) in instances.into_iter().enumerate() {
            of_shards[number % shards].push(instance);
        }
        for (shard, instances) in of_shards.into_iter().enumerate().filter(|(_, some)| !some.is_empty()) {
            let kind = kind.to_owned();
            self.on(shard, async move |shard: Shard| {
                for (id, weight) in instances {
                    let spec = ServiceSpec::new(&kind).id(&id).weight(weight);
                    let mut service = shard.registry().add_service(spec).await.unwrap();
                    shard.spawn(async move { while service.next_request().await.is_some() {} });
                }
            });
        }
    }

    /// Removes an instance, of this node or of another.
    pub(super) fn remove(&self, kind: &str, node: &str, id: &str) {
        let mut services = self.handle().get_services(kind).into_iter();
        let found = services.find(|service| service.node() == node && service.id() == id.as_bytes());
        let service =
            found.unwrap_or_else(|| panic!("{} shows no {kind} {id} of {node}", self.name)).service_ref();
        self.on(0, async move |shard: Shard| shard.registry().remove_service(&service).await.unwrap());
    }

    /// The instances of a type, by node and id.
    pub(super) fn instances(&self, kind: &str) -> Vec<(String, String)> {
        let services = self.handle().get_services(kind);
        let text = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
        services.iter().map(|service| (service.node().to_owned(), text(service.id()))).collect()
    }

    /// How many instances of a type a node has, as this one sees it.
    pub(super) fn count_of(&self, kind: &str, node: &str) -> usize {
        self.handle().get_services(kind).iter().filter(|service| service.node() == node).count()
    }

    /// Waits until so many instances of a node are shown here.
    pub(super) fn until_shown(&self, kind: &str, node: &str, count: usize) {
        let what = format!("{count} {kind} of {node} on {}", self.name);
        wait_for(&what, || (self.count_of(kind, node) == count).then_some(()));
    }

    pub(super) fn fingerprint(&self, kind: &str) -> u64 {
        let kind = kind.to_owned();
        self.on(0, async move |shard: Shard| shard.registry().fingerprint(kind).await.unwrap())
    }

    pub(super) fn shown(&self, kinds: &[&str]) -> Shown {
        kinds.iter().map(|kind| (self.fingerprint(kind), self.instances(kind))).collect()
    }

    /// What becomes of `keys` keys of each type, as one number for each shard. Nodes that agree have the same.
    pub(super) fn lookups(&self, kinds: &[String], keys: usize) -> Vec<u64> {
        let of_shard = |shard| {
            let kinds = kinds.to_vec();
            self.on(shard, async move |shard: Shard| lookups_on(&shard, &kinds, keys))
        };
        (0..self.handle().shards()).map(of_shard).collect()
    }

    pub(super) fn standing(&self, node: &str) -> Option<NodeStanding> {
        self.handle().nodes().iter().find(|known| &*known.name == node).map(|known| known.standing)
    }

    pub(super) fn until_standing(&self, node: &str, standing: Option<NodeStanding>) {
        let what = format!("{node} to be {standing:?} on {}", self.name);
        wait_for(&what, || (self.standing(node) == standing).then_some(()));
    }

    /// Notes from now on what becomes of a type here.
    pub(super) fn record(&self, kind: &str) -> Record {
        let record = Record::default();
        let (notes, kind) = (record.clone(), kind.to_owned());
        self.on(0, async move |shard: Shard| {
            let mut watch = shard.registry().watch(kind);
            shard.spawn(async move {
                while let Some(event) = watch.next().await {
                    notes.note(&event);
                }
            });
        });
        record
    }

    /// Drains the node and waits for its end.
    pub(super) fn end(self) {
        self.node.end();
    }
}

fn lookups_on(shard: &Shard, kinds: &[String], keys: usize) -> u64 {
    let registry = shard.registry();
    let mut hasher = DefaultHasher::new();
    for kind in kinds {
        for key in 0..keys {
            let found = registry.find_service(kind, format!("key.{key}"));
            found.map(|service| (service.node().to_owned(), service.id().to_vec())).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// What a watch has told.
#[derive(Clone, Default)]
pub(super) struct Record(Arc<Mutex<Vec<Note>>>);

/// One event: what happened, and to which instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) what: &'static str,
    pub(super) node: String,
    pub(super) id: String,
}

impl Record {
    fn note(&self, event: &ServiceEvent) {
        let (what, service) = match event {
            ServiceEvent::Present(service) => ("present", service),
            ServiceEvent::Joined(service) => ("joined", service),
            ServiceEvent::Updated(service) => ("updated", service),
            ServiceEvent::Left(service) => ("left", service),
            _ => return,
        };
        let id = String::from_utf8_lossy(service.id()).into_owned();
        let note = Note { what, node: service.node().to_owned(), id };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// All so far.
    pub(super) fn notes(&self) -> Vec<Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often that happened to instances of a node.
    pub(super) fn count(&self, what: &str, node: &str) -> usize {
        self.notes().iter().filter(|note| note.what == what && note.node == node).count()
    }
}

/// Waits until all nodes show the same of these types.
pub(super) fn until_agreed(peers: &[&Peer], kinds: &[&str]) {
    wait_for("the nodes to agree", || {
        let first = peers[0].shown(kinds);
        peers[1..].iter().all(|peer| peer.shown(kinds) == first).then_some(())
    });
}
