//! The errors of the registry and of calls.

use std::{sync::Arc, time::Duration};

use croupier_registry::{InvalidService, QuotaExceeded};

use super::ServiceRef;
use crate::{ClusterName, InvalidTopic, PublishError, SubscribeError};

/// Why the registry did not do what was asked. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The type, the id, the metadata or another value is refused.
    #[error("the service is refused: {0}")]
    Invalid(#[from] InvalidService),
    /// This node offers a service of this type and id already.
    #[error("this node offers {service} already")]
    AlreadyRegistered {
        /// Which.
        service: ServiceRef,
    },
    /// There is no such service.
    #[error("there is no {service}")]
    NotFound {
        /// Which.
        service: ServiceRef,
    },
    /// The node that offers the service is not reached; its services are hidden, or soon will be.
    #[error("node {node} is not reached")]
    OwnerDown {
        /// Its name.
        node: Arc<str>,
    },
    /// The owner did not answer in time, or its link was cut: it may have done what was asked.
    #[error("node {node} did not answer; it may have done what was asked")]
    InDoubt {
        /// Its name.
        node: Arc<str>,
    },
    /// Too much is under way, here or at the owner.
    #[error("too many commands are under way")]
    Busy,
    /// One node offers as many services in one partition as it may.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The inbox for its requests cannot be subscribed.
    #[error("no inbox for requests: {0}")]
    Inbox(#[from] SubscribeError),
    /// The node is draining.
    #[error("the node is draining")]
    Draining,
}

impl RegistryError {
    /// Whether the same call may succeed later, and certainly was not carried out.
    pub fn is_retryable(&self) -> bool {
        match self {
            RegistryError::OwnerDown { .. } | RegistryError::Busy => true,
            RegistryError::Inbox(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No instance of this type is online. Nothing was sent.
    #[error("no service of type {kind:?} is online")]
    NoService {
        /// The type, lossily as text.
        kind: String,
    },
    /// None of the instances that were tried is there any more. None of them got the call.
    #[error("none of the {tried} instances tried is there")]
    NoResponders {
        /// How many were tried.
        tried: usize,
    },
    /// No answer came in time. If the call was sent, it may have been carried out.
    #[error("no answer within {waited:?}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
        /// Whether it was sent to an instance.
        sent: bool,
    },
    /// The instance's node, or the link that the call went over, was lost after it was sent: it may have
    /// been carried out.
    #[error("{service} was lost after the call was sent; it may have been carried out")]
    InDoubt {
        /// Who got it.
        service: ServiceRef,
    },
    /// No cluster is connected. Nothing was sent.
    #[error("no cluster is connected, not even {cluster}")]
    Disconnected {
        /// The cluster of the instance's inbox.
        cluster: ClusterName,
    },
    /// As many requests are in flight as may be. Nothing was sent.
    #[error("{limit} requests are in flight to cluster {cluster}, the limit")]
    TooMany {
        /// The cluster.
        cluster: ClusterName,
        /// The limit.
        limit: usize,
    },
    /// The instance's inbox is no subject: its node is at fault.
    #[error(transparent)]
    InvalidInbox(#[from] InvalidTopic),
    /// The call was refused before it was sent.
    #[error(transparent)]
    Publish(PublishError),
}

impl CallError {
    /// Whether the same call may succeed later, and certainly was not carried out.
    pub fn is_retryable(&self) -> bool {
        match self {
            CallError::NoService { .. }
            | CallError::NoResponders { .. }
            | CallError::Disconnected { .. }
            | CallError::TooMany { .. } => true,
            CallError::Timeout { sent, .. } => !sent,
            CallError::Publish(error) => error.is_retryable(),
            CallError::InDoubt { .. } | CallError::InvalidInbox(_) => false,
        }
    }
}

impl From<PublishError> for CallError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::InvalidTopic(error) => CallError::InvalidInbox(error),
            error => CallError::Publish(error),
        }
    }
}
