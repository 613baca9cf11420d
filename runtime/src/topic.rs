//! A topic resolved once: its subject, its cluster, and what a publish to it begins with.

use std::{fmt, rc::Rc};

use croupier_protocol::{Subject, encode::PublishPrefix};

use crate::{
    ClusterName, Payload, PublishError,
    cluster_link::{Destination, Link},
};

/// A topic to publish to again and again: checked, hashed and routed once. It stays on its shard.
#[derive(Clone)]
pub struct Topic {
    name: Subject,
    prefix: Rc<PublishPrefix>,
    link: Rc<Link>,
    publishes: bool,
}

impl Topic {
    pub(crate) fn new(name: Subject, link: Rc<Link>, publishes: bool) -> Self {
        Topic { prefix: Rc::new(PublishPrefix::new(&name)), name, link, publishes }
    }

    /// Publishes one message: appends it to the buffer of the cluster's link, and returns.
    ///
    /// # Errors
    ///
    /// As [`Shard::publish`](crate::Shard::publish).
    #[inline]
    pub fn publish<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<(), PublishError> {
        if !self.publishes {
            return Err(PublishError::Role);
        }
        self.link.publish(&Destination::Prefix(&self.prefix), payload.into())
    }

    /// As [`Topic::publish`], but waits for room in the buffer instead of failing with
    /// [`PublishError::Busy`].
    ///
    /// # Errors
    ///
    /// As [`Shard::publish_wait`](crate::Shard::publish_wait).
    pub async fn publish_wait<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<(), PublishError> {
        if !self.publishes {
            return Err(PublishError::Role);
        }
        self.link.publish_wait(&Destination::Prefix(&self.prefix), payload.into()).await
    }

    /// The topic.
    pub fn name(&self) -> &Subject {
        &self.name
    }

    /// The cluster that it lives on.
    pub fn cluster(&self) -> ClusterName {
        self.link.cluster().clone()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name)
            .field("cluster", self.link.cluster())
            .finish_non_exhaustive()
    }
}
