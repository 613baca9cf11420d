//! What an application says of a service that it offers.

use croupier_registry::{InvalidService, Service, ServiceBuilder};
use croupier_ring::RingClass;

/// A service to be offered: its type, and what belongs to the instance. Values are checked when it is
/// added.
///
/// ```
/// use croupier::ServiceSpec;
///
/// let spec = ServiceSpec::new("uploader").id("eu-1a").meta("zone", "eu-1").weight(2);
/// # let _ = spec;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a service is offered by `Registry::add_service`"]
pub struct ServiceSpec {
    kind: Vec<u8>,
    id: Option<Vec<u8>>,
    builder: ServiceBuilder,
}

impl ServiceSpec {
    /// An online instance of weight 1 of a type, which is 1 to 128 bytes long.
    pub fn new(kind: impl AsRef<[u8]>) -> Self {
        let kind = kind.as_ref();
        ServiceSpec { kind: kind.to_vec(), id: None, builder: ServiceBuilder::new(kind, []) }
    }

    /// Its id, 1 to 256 bytes, unique within its node and type. Keys stay with the id: an instance that is
    /// added again under its id gets the same keys. The default is `<shard>.<n>`, n counted from 0 for each
    /// type and shard.
    pub fn id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.id = Some(id.as_ref().to_vec());
        self
    }

    /// One pair of metadata; the last value of a key counts. All pairs together take at most 4 KiB, with 4
    /// bytes for each.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.builder = self.builder.meta(key, value);
        self
    }

    /// Its share of the keys, relative to the others of its type: 1, the default, to 8.
    pub fn weight(mut self, weight: u8) -> Self {
        self.builder = self.builder.weight(weight);
        self
    }

    /// Listed, but chosen by no lookup until it is enabled.
    pub fn offline(mut self) -> Self {
        self.builder = self.builder.online(false);
        self
    }

    /// Of several nodes that offer this type and id, lookups choose only one, and all nodes the same.
    pub fn unique(mut self) -> Self {
        self.builder = self.builder.unique();
        self
    }

    /// The size of the type's table. The largest that an instance asks for counts; the default is for up to
    /// some hundred instances.
    pub fn ring_class(mut self, class: RingClass) -> Self {
        self.builder = self.builder.class(class.code());
        self
    }

    pub(crate) fn kind(&self) -> &[u8] {
        &self.kind
    }

    /// The service with this inbox, and this id unless it has one.
    pub(crate) fn build(
        &self,
        inbox: &[u8],
        default_id: impl FnOnce() -> Vec<u8>,
    ) -> Result<Service, InvalidService> {
        let id = self.id.clone().unwrap_or_else(default_id);
        self.builder.clone().id(id).inbox(inbox).build()
    }
}
