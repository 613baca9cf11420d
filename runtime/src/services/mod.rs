//! The registry as an application on a shard uses it.

mod calls;
mod error;
mod inboxes;
mod service;
mod service_handle;
mod service_type;
mod spec;
mod view;
mod watch;

use std::fmt;

use croupier_registry::{NodeStatus, wire::v1};

pub use self::{
    calls::Call,
    error::{CallError, RegistryError},
    service::{Service, ServiceRef, Services},
    service_handle::ServiceHandle,
    service_type::ServiceType,
    spec::ServiceSpec,
    watch::{ServiceEvent, Watch},
};
pub(crate) use self::{
    inboxes::{Inboxes, LINGER},
    service::Instance,
    view::{KindRing, KindUpdate, Views},
    watch::WatchQueue,
};
use crate::{
    Message, Payload, Shard,
    registry_shard::{Operated, Operation, RegistryStats},
};

/// Who offers what, on every node of the cluster.
///
/// Each node writes only of its own services; every other node follows within milliseconds. What is read
/// here is this core's own table: no lock, no hop to another core, and for lookups no allocation. Without
/// a `[registry]` section the registry is this node alone.
///
/// A node that is gone takes its services with it: after a crash within some ten milliseconds, after
/// silence within about three seconds. One that was only cut off comes back with what it has then; what
/// it removed meanwhile is never seen again.
#[derive(Clone)]
pub struct Registry {
    shard: Shard,
}

impl Registry {
    pub(crate) fn new(shard: Shard) -> Self {
        Registry { shard }
    }

    /// Offers a service for as long as the handle is held. When this returns, its inbox is subscribed on
    /// every cluster that is connected, this shard sees it, and the other nodes are being told.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; then nothing is offered.
    pub async fn add_service(&self, spec: ServiceSpec) -> Result<ServiceHandle, RegistryError> {
        let registry = self.shard.registry_shard();
        if registry.is_draining() {
            return Err(RegistryError::Draining);
        }
        // Before anything is awaited: a bad value is told whatever the clusters do.
        spec.build(&[], || b"0".to_vec())?;
        registry.inboxes().subscribe(&self.shard).await?;
        let inbox = registry.inboxes().open();
        let service = spec
            .build(inbox.subject.as_bytes(), || registry.inboxes().next_id(self.shard.id(), spec.kind()))?;
        let handle = ServiceHandle::new(registry.clone(), service.key(), inbox);
        if registry.is_draining() {
            return Err(RegistryError::Draining);
        }
        registry.operate(spec.kind(), Operation::Add(service)).await?;
        Ok(handle)
    }

    /// Removes an instance of any node. When this returns, this shard sees that.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::OwnerDown`], [`RegistryError::InDoubt`] when its node
    /// did not answer, [`RegistryError::Busy`].
    pub async fn remove_service(&self, service: &ServiceRef) -> Result<(), RegistryError> {
        self.command(service, v1::Operation::Remove).await
    }

    /// Has lookups choose an instance of any node. Idempotent.
    ///
    /// # Errors
    ///
    /// As [`remove_service`](Self::remove_service).
    pub async fn enable_service(&self, service: &ServiceRef) -> Result<(), RegistryError> {
        self.command(service, v1::Operation::Enable).await
    }

    /// Has lookups choose an instance of any node no more; it stays listed. Only its own node writes that
    /// down, so that the instance goes with its node, and only with it. Idempotent.
    ///
    /// # Errors
    ///
    /// As [`remove_service`](Self::remove_service).
    pub async fn disable_service(&self, service: &ServiceRef) -> Result<(), RegistryError> {
        self.command(service, v1::Operation::Disable).await
    }

    async fn command(&self, service: &ServiceRef, operation: v1::Operation) -> Result<(), RegistryError> {
        let operation = Operation::Command { service: service.clone(), operation };
        self.shard.registry_shard().operate(service.kind(), operation).await.map(drop)
    }

    /// The instance that serves a key: online, of a node that is not known to be gone. Stable until the
    /// set of instances changes, and then only keys move that have to. Allocates nothing.
    #[inline]
    pub fn find_service(&self, kind: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Option<Service> {
        self.shard.registry_shard().views().with(kind.as_ref(), |view| view.find(key.as_ref())).flatten()
    }

    /// Exactly min(`count`, online instances) distinct instances for a key, its owner first. Up to eight
    /// take no allocation.
    #[inline]
    pub fn find_multi_service(
        &self,
        count: usize,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Services {
        let views = self.shard.registry_shard().views();
        views.with(kind.as_ref(), |view| view.find_multi(count, key.as_ref())).unwrap_or_default()
    }

    /// A type of service, resolved once. It need not have instances yet.
    pub fn service_type(&self, kind: impl AsRef<[u8]>) -> ServiceType {
        let view = self.shard.registry_shard().views().get(kind.as_ref());
        ServiceType { shard: self.shard.clone(), view }
    }

    /// All instances of a type, those that are disabled too, by node and id.
    pub fn get_services(&self, kind: impl AsRef<[u8]>) -> Vec<Service> {
        self.shard.registry_shard().views().with(kind.as_ref(), |view| view.all()).unwrap_or_default()
    }

    /// The instances of a type that are online, by node and id.
    pub fn get_online_services(&self, kind: impl AsRef<[u8]>) -> Vec<Service> {
        let mut services = self.get_services(kind);
        services.retain(Service::is_online);
        services
    }

    /// What becomes of a type's instances, from what is there now on.
    pub fn watch(&self, kind: impl AsRef<[u8]>) -> Watch {
        self.service_type(kind).watch()
    }

    /// A request to the instance that a key leads to: it is made when it is awaited.
    ///
    /// It goes to the instance's inbox, on the cluster that the inbox hashes to, or on the next one that is
    /// connected. It is sent to the next instance only when the first certainly did not get it: nobody
    /// is there, or no link was up to write it. Once it was written, and the link or the instance's node is
    /// lost, it ends as [`CallError::InDoubt`], unless it is marked [`Call::idempotent`].
    pub fn call<'a>(
        &self,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Call<'a> {
        self.service_type(kind).call(key, payload)
    }

    /// Sends a message to the instance that a key leads to, at most once, and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`CallError`], for what is known at once; then nothing was sent.
    pub fn cast<'a>(
        &self,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), CallError> {
        self.service_type(kind).cast(key, payload)
    }

    /// Asks up to `count` distinct instances for a key at the same time, and waits for all of them, for
    /// `limits.request_timeout` at most. Each is asked for itself: none takes another's place.
    pub async fn multi_call<'a>(
        &self,
        count: usize,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Vec<(Service, Result<Message, CallError>)> {
        let kind = self.service_type(kind);
        let services = kind.find_multi(count, key).collect();
        let timeout = self.shard.registry_shard().node().limits.get().request_timeout;
        calls::call_each(&self.shard, &kind.view, services, payload.into(), timeout).await
    }

    /// Sends a message to up to `count` distinct instances for a key, and waits for nothing. Returns to how
    /// many it was sent.
    ///
    /// # Errors
    ///
    /// [`CallError`] when it was sent to none.
    pub fn multi_cast<'a>(
        &self,
        count: usize,
        kind: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<usize, CallError> {
        let kind = kind.as_ref();
        let payload = payload.into().into_cheap_to_clone();
        let (mut sent, mut last) = (0, None);
        for service in self.find_multi_service(count, kind, key) {
            match calls::cast(&self.shard, &service, payload.clone()) {
                Ok(()) => sent += 1,
                Err(error) => last = Some(error),
            }
        }
        if sent > 0 {
            return Ok(sent);
        }
        let kind = || String::from_utf8_lossy(kind).into_owned();
        Err(last.unwrap_or_else(|| CallError::NoService { kind: kind() }))
    }

    /// The nodes of the cluster that are known here, this one first.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.shard.registry_shard().nodes().nodes.clone()
    }

    /// Whether lookups may still miss something: nodes or seeds were heard of but not reached yet, or what
    /// a node advertised has not come yet.
    pub fn is_syncing(&self) -> bool {
        self.shard.registry_shard().shared().is_syncing()
    }

    /// What the node's registry has counted.
    pub fn stats(&self) -> RegistryStats {
        self.shard.registry_shard().shared().counters.stats()
    }

    /// A number that two nodes share if all keys of a type lead to the same instances on both; 0 while
    /// none is online. It is computed by the shard that builds the type's table.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Draining`].
    pub async fn fingerprint(&self, kind: impl AsRef<[u8]>) -> Result<u64, RegistryError> {
        let kind = kind.as_ref();
        let operation = Operation::Fingerprint { kind: kind.to_vec() };
        match self.shard.registry_shard().operate(kind, operation).await? {
            Operated::Fingerprint(fingerprint) => Ok(fingerprint),
            Operated::Done => Ok(0),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("shard", &self.shard.id()).finish_non_exhaustive()
    }
}
