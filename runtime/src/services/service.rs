//! An instance of a service, as lookups give it out, and a name for it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use croupier_protocol::Subject;
use croupier_registry::ServiceKey;

/// Instances that [`Services`] holds without an allocation.
const INLINE_MAX: usize = 8;

/// An instance as all shards share it.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) node: Arc<str>,
    pub(crate) service: croupier_registry::Service,
    pub(crate) suspect: bool,
    /// Made at the first use; most instances are never called from here.
    inbox: OnceLock<Subject>,
}

impl Instance {
    pub(crate) fn new(node: Arc<str>, service: croupier_registry::Service, suspect: bool) -> Self {
        Instance { node, service, suspect, inbox: OnceLock::new() }
    }
}

/// An instance of a service, as it was when it was looked up.
///
/// Cheap to clone: its parts are shared, and the count of who shares them is this shard's own.
#[derive(Clone)]
pub struct Service(Arc<Shown>);

/// A shard's own hold on an instance.
struct Shown {
    instance: Arc<Instance>,
    /// When this shard first saw it.
    appeared: Instant,
}

impl Service {
    pub(crate) fn new(instance: Arc<Instance>, appeared: Instant) -> Self {
        Service(Arc::new(Shown { instance, appeared }))
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.0.instance
    }

    pub(crate) fn appeared(&self) -> Instant {
        self.0.appeared
    }

    /// Whether both are the same state of the same instance.
    pub(crate) fn is_same(&self, other: &Service) -> bool {
        Arc::ptr_eq(&self.0.instance, &other.0.instance)
    }

    /// Whether both are states of one life of an instance: each life has an inbox of its own.
    pub(crate) fn is_same_life(&self, other: &Instance) -> bool {
        let own = &self.0.instance;
        own.service.inbox() == other.service.inbox()
            && own.service.id() == other.service.id()
            && own.node == other.node
    }

    /// The name of the node that offers it.
    pub fn node(&self) -> &str {
        &self.0.instance.node
    }

    /// Its id, unique within its node and type.
    pub fn id(&self) -> &[u8] {
        self.0.instance.service.id()
    }

    /// The type of service.
    pub fn kind(&self) -> &[u8] {
        self.0.instance.service.kind()
    }

    /// The value of one key of its metadata.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.0.instance.service.meta(key)
    }

    /// All of its metadata, by ascending key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.instance.service.metadata()
    }

    /// Its share of the keys, relative to the others of its type: 1 to 8.
    pub fn weight(&self) -> u8 {
        self.0.instance.service.weight()
    }

    /// Whether lookups may choose it.
    pub fn is_online(&self) -> bool {
        self.0.instance.service.is_online()
    }

    /// Whether its node is suspected to be gone: it was silent, or cut off, and is being asked.
    pub fn is_suspect(&self) -> bool {
        self.0.instance.suspect
    }

    /// The subject that its requests come to.
    pub fn inbox(&self) -> &Subject {
        let instance = &self.0.instance;
        instance.inbox.get_or_init(|| Subject::from_wire(Bytes::copy_from_slice(instance.service.inbox())))
    }

    /// A name for it that outlives it.
    pub fn service_ref(&self) -> ServiceRef {
        ServiceRef { node: Arc::clone(&self.0.instance.node), key: self.0.instance.service.key() }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("kind", &String::from_utf8_lossy(self.kind()))
            .field("node", &self.node())
            .field("id", &String::from_utf8_lossy(self.id()))
            .field("is_online", &self.is_online())
            .field("is_suspect", &self.is_suspect())
            .finish_non_exhaustive()
    }
}

/// Which instance: a node, a type and an id. It stays valid when the instance goes and comes again.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct ServiceRef {
    pub(crate) node: Arc<str>,
    pub(crate) key: ServiceKey,
}

impl ServiceRef {
    /// The name of the node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The type of service.
    pub fn kind(&self) -> &[u8] {
        self.key.kind()
    }

    /// The id within node and type.
    pub fn id(&self) -> &[u8] {
        self.key.id()
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = (String::from_utf8_lossy(self.kind()), String::from_utf8_lossy(self.id()));
        write!(f, "{kind} {id} of node {}", self.node)
    }
}

impl fmt::Debug for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceRef({self})")
    }
}

/// Distinct instances, the owner of the key first. Up to eight take no allocation.
#[derive(Clone, Debug, Default)]
pub struct Services {
    inline: [Option<Service>; INLINE_MAX],
    /// Only what found no place inline.
    spilled: Vec<Service>,
    len: usize,
    at: usize,
}

impl Services {
    fn push(&mut self, service: Service) {
        match self.inline.get_mut(self.len) {
            Some(place) => *place = Some(service),
            None => self.spilled.push(service),
        }
        self.len += 1;
    }
}

impl Extend<Service> for Services {
    fn extend<I: IntoIterator<Item = Service>>(&mut self, services: I) {
        services.into_iter().for_each(|service| self.push(service));
    }
}

impl Iterator for Services {
    type Item = Service;

    fn next(&mut self) -> Option<Service> {
        let at = self.at;
        self.at = (at + 1).min(self.len);
        match self.inline.get_mut(at) {
            Some(place) => place.take(),
            None => self.spilled.get(at - INLINE_MAX).cloned(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.at;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Services {}
