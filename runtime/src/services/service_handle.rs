//! The holder of a service that this shard offers.

use std::{cell::Cell, fmt, rc::Rc};

use croupier_protocol::Subject;
use croupier_registry::{ServiceKey, wire::v1};

use super::{ServiceRef, inboxes::Inbox};
use crate::{
    Message, RegistryError,
    registry_shard::{Operation, RegistryShard},
};

/// A service that this shard offers, and the requests that come for it. Dropping it removes the service;
/// requests that wait, or come later, are answered with "no responders", so that their callers ask the
/// next instance.
///
/// Requests wait in a queue with the bounds of `limits.subscriber_queue`. What does not fit is answered
/// with "no responders" as well.
#[must_use = "dropping the handle removes the service"]
pub struct ServiceHandle {
    registry: Rc<RegistryShard>,
    key: ServiceKey,
    inbox: Inbox,
    is_removed: Cell<bool>,
}

impl ServiceHandle {
    /// A handle of a service that is about to be announced.
    pub(crate) fn new(registry: Rc<RegistryShard>, key: ServiceKey, inbox: Inbox) -> Self {
        registry.inboxes().assign(&inbox, &key);
        ServiceHandle { registry, key, inbox, is_removed: Cell::new(false) }
    }

    /// The name of the instance, by which any node may enable, disable or remove it.
    pub fn service_ref(&self) -> ServiceRef {
        ServiceRef { node: self.registry.node().name.as_str().into(), key: self.key.clone() }
    }

    /// The subject that its requests come to.
    pub fn inbox(&self) -> &Subject {
        &self.inbox.subject
    }

    /// The next request, or `None` when the service was removed, from here or by another node, or the node
    /// drains; before, everything that came can be taken.
    pub async fn next_request(&mut self) -> Option<Message> {
        self.inbox.next().await
    }

    /// Requests that found its queue full, and were refused.
    pub fn refused(&self) -> u64 {
        self.inbox.receiver.lagged()
    }

    /// Has lookups choose it no more; it stays listed. Idempotent.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] when it was removed meanwhile.
    pub async fn disable(&self) -> Result<(), RegistryError> {
        self.command(v1::Operation::Disable).await
    }

    /// Has lookups choose it again. Idempotent.
    ///
    /// # Errors
    ///
    /// As [`disable`](Self::disable).
    pub async fn enable(&self) -> Result<(), RegistryError> {
        self.command(v1::Operation::Enable).await
    }

    /// Sets one pair of its metadata. Its keys stay with it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Invalid`] when the metadata would be too long, [`RegistryError::NotFound`] when the
    /// service was removed meanwhile.
    pub async fn update_meta(
        &self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), RegistryError> {
        let operation = Operation::SetMeta { key: self.key.clone(), name: key.into(), value: value.into() };
        self.registry.operate(self.key.kind(), operation).await.map(drop)
    }

    /// Removes it, and waits until this shard sees that.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Draining`]; then the drain removes it.
    pub async fn remove(self) -> Result<(), RegistryError> {
        self.is_removed.set(true);
        let operation = self.removal();
        self.registry.operate(self.key.kind(), operation).await.map(drop)
    }

    async fn command(&self, operation: v1::Operation) -> Result<(), RegistryError> {
        let operation = Operation::Command { service: self.service_ref(), operation };
        self.registry.operate(self.key.kind(), operation).await.map(drop)
    }

    /// Only the instance with this inbox: another one may have been added under its id meanwhile.
    fn removal(&self) -> Operation {
        Operation::Withdraw { key: self.key.clone(), inbox: self.inbox.subject.clone() }
    }
}

impl Drop for ServiceHandle {
    fn drop(&mut self) {
        if !self.is_removed.get() {
            self.registry.operate_unheard(self.key.kind(), self.removal());
        }
        self.registry.inboxes().close(&self.inbox);
    }
}

impl fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle").field("service", &self.service_ref()).finish_non_exhaustive()
    }
}
