//! Publishing and answering through the handle: jobs for a shard, which nobody waits for.

use croupier_protocol::{Headers, Subject};

use super::NodeHandle;
use crate::{ClusterName, InvalidTopic, OwnedMessage, Payload, PublishError, error::LinkEnd, mesh::Job};

impl NodeHandle {
    /// Hands one message to the topic's home shard, which publishes it. One topic from one thread keeps
    /// its order.
    ///
    /// # Errors
    ///
    /// [`PublishError`], for what can be told before the hop: `Busy` when the shard's inbox is full,
    /// `InvalidTopic`, `PayloadTooLarge` over the configured limit, `Disconnected` when the shard has
    /// stopped. What the shard itself refuses is counted in its statistics as rejected.
    pub fn publish<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        self.publish_any(topic.as_ref(), None, payload.into())
    }

    /// As [`NodeHandle::publish`], with headers.
    ///
    /// # Errors
    ///
    /// As [`NodeHandle::publish`].
    pub fn publish_with_headers<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        self.publish_any(topic.as_ref(), Some(headers), payload.into())
    }

    /// Answers a message on the cluster that it came from, whatever its reply subject hashes to. Does nothing
    /// when no answer is expected. As [`Message::respond`](crate::Message::respond), which an `OwnedMessage`
    /// cannot do by itself.
    ///
    /// # Errors
    ///
    /// As [`NodeHandle::publish`].
    pub fn respond<'a>(
        &self,
        to: &OwnedMessage,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        self.respond_any(to, None, payload.into())
    }

    /// As [`NodeHandle::respond`], with headers.
    ///
    /// # Errors
    ///
    /// As [`NodeHandle::respond`].
    pub fn respond_with_headers<'a>(
        &self,
        to: &OwnedMessage,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        self.respond_any(to, Some(headers), payload.into())
    }

    fn publish_any(
        &self,
        topic: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<(), PublishError> {
        if !self.0.config.connection.role.publishes() {
            return Err(PublishError::Role);
        }
        let subject = Subject::literal(topic).map_err(|reason| InvalidTopic::new(topic, reason))?;
        let cluster = || self.cluster_of(topic);
        self.check_size(cluster, headers, &payload)?;
        let payload = payload.into_bytes();
        let (needed_bytes, headers) = (payload.len(), headers.cloned());
        let job: Job = Box::new(move |shard| {
            // The link counts what it refuses.
            let _counted = shard.publish_any(subject.as_bytes(), headers.as_ref(), payload.into());
        });
        self.post(self.shard_of(topic), cluster, needed_bytes, job)
    }

    fn respond_any(
        &self,
        to: &OwnedMessage,
        headers: Option<&Headers>,
        payload: Payload<'_>,
    ) -> Result<(), PublishError> {
        let Some(reply) = to.reply() else { return Ok(()) };
        let cluster = || to.cluster();
        self.check_size(cluster, headers, &payload)?;
        let (reply, payload) = (reply.clone(), payload.into_bytes());
        let (needed_bytes, headers, from) = (payload.len(), headers.cloned(), to.cluster());
        let home = self.shard_of(to.topic());
        let job: Job = Box::new(move |shard| {
            // As above; who asks has a timeout.
            let _counted = shard.respond(&from, reply.as_bytes(), headers.as_ref(), payload.into());
        });
        self.post(home, cluster, needed_bytes, job)
    }

    fn check_size(
        &self,
        cluster: impl Fn() -> ClusterName,
        headers: Option<&Headers>,
        payload: &Payload<'_>,
    ) -> Result<(), PublishError> {
        let limit_bytes = self.0.limits.get().max_payload;
        let payload_bytes = payload.len() + headers.map_or(0, Headers::encoded_len);
        if payload_bytes > limit_bytes {
            return Err(PublishError::PayloadTooLarge { cluster: cluster(), payload_bytes, limit_bytes });
        }
        Ok(())
    }

    /// Puts a job in a shard's inbox, if there is room.
    pub(super) fn post(
        &self,
        shard: usize,
        cluster: impl Fn() -> ClusterName,
        needed_bytes: usize,
        job: Job,
    ) -> Result<(), PublishError> {
        let inbox = &self.0.ports[shard].inbox;
        inbox.try_send(job).map_err(|error| match error {
            async_channel::TrySendError::Full(_) => PublishError::Busy {
                cluster: cluster(),
                queued_bytes: inbox.len(),
                limit_bytes: self.0.config.shards.inbox,
                needed_bytes,
            },
            async_channel::TrySendError::Closed(_) => {
                PublishError::Disconnected { cluster: cluster(), reason: LinkEnd::ShardStopped }
            }
        })
    }
}
