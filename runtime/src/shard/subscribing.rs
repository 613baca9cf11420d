//! The verbs of a shard that subscribe.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use croupier_protocol::{QueueGroup, Subject};
use futures_lite::FutureExt;

use super::Shard;
use crate::{
    ClusterName, HandlerGuard, InvalidTopic, MessageView, SubscribeError, SubscribeOptions, Subscription,
    cluster_link::{Link, LinkStatus},
    receiver::Receiver,
    subscription::Attached,
    time,
};

impl Shard {
    /// Subscribes, and returns when the server has confirmed: what is published afterwards through that
    /// server arrives. The other servers of its cluster follow within milliseconds, which no client can
    /// confirm.
    ///
    /// A wildcard (`*`, `>`) subscribes on every cluster. It succeeds on those that are connected, and
    /// [`Subscription::unconfirmed`] lists the others.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; then nothing stays subscribed. A literal topic whose cluster is down waits up
    /// to `connection.subscribe_timeout`, and a wildcard as long for the first of all clusters.
    pub async fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<Subscription, SubscribeError> {
        self.subscribe_with_options(topic, &SubscribeOptions::new()).await
    }

    /// As [`Shard::subscribe`], with a queue, a queue group or an end of its own.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`], and never `Unconfirmed` with
    /// [`unconfirmed`](SubscribeOptions::unconfirmed); a queue group with a blank or a line break is an
    /// invalid topic.
    pub async fn subscribe_with_options(
        &self,
        topic: impl AsRef<[u8]>,
        options: &SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let attached = self.attach_queue(topic.as_ref(), options)?;
        let unconfirmed =
            if options.is_confirmed() { self.confirm(&attached).await? } else { attached.clusters() };
        Ok(Subscription::new(attached, unconfirmed))
    }

    /// Subscribes without waiting. The subscription is live as soon as its cluster is connected; all of
    /// its clusters are listed as unconfirmed.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`], but never `Unconfirmed`.
    pub fn subscribe_unconfirmed(&self, topic: impl AsRef<[u8]>) -> Result<Subscription, SubscribeError> {
        let attached = self.attach_queue(topic.as_ref(), &SubscribeOptions::new())?;
        let unconfirmed = attached.clusters();
        Ok(Subscription::new(attached, unconfirmed))
    }

    /// Subscribes as a member of a queue group: each message goes to one member. Each member has a SUB
    /// of its own.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`]; a group with a blank or a line break is an invalid topic.
    pub async fn queue_subscribe(
        &self,
        topic: impl AsRef<[u8]>,
        group: impl AsRef<[u8]>,
    ) -> Result<Subscription, SubscribeError> {
        self.subscribe_with_options(topic, &SubscribeOptions::new().queue_group(group)).await
    }

    /// Subscribes with a handler, which is called in the read loop with each message where it was read:
    /// no queue, no copy, no allocation.
    ///
    /// A handler may call every synchronous verb, also one that publishes on the same link, and may drop
    /// its own guard. One that panics ends its subscription and nothing else. While it runs, the shard
    /// does nothing else. The first messages may come before this returns.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`].
    pub async fn subscribe_with<F: FnMut(MessageView<'_>) + 'static>(
        &self,
        topic: impl AsRef<[u8]>,
        handler: F,
    ) -> Result<HandlerGuard, SubscribeError> {
        self.subscribe_handler(topic.as_ref(), &SubscribeOptions::new(), handler).await
    }

    /// As [`Shard::subscribe_with`], as a member of a queue group.
    ///
    /// # Errors
    ///
    /// As [`Shard::queue_subscribe`].
    pub async fn queue_subscribe_with<F: FnMut(MessageView<'_>) + 'static>(
        &self,
        topic: impl AsRef<[u8]>,
        group: impl AsRef<[u8]>,
        handler: F,
    ) -> Result<HandlerGuard, SubscribeError> {
        self.subscribe_handler(topic.as_ref(), &SubscribeOptions::new().queue_group(group), handler).await
    }

    async fn subscribe_handler(
        &self,
        topic: &[u8],
        options: &SubscribeOptions,
        handler: impl FnMut(MessageView<'_>) + 'static,
    ) -> Result<HandlerGuard, SubscribeError> {
        let subject = self.check_subscribe(topic)?;
        let attached = self.attach(Receiver::handler(subject, handler), options.group()?.as_ref())?;
        let unconfirmed = self.confirm(&attached).await?;
        Ok(HandlerGuard::new(attached, unconfirmed))
    }

    fn check_subscribe(&self, topic: &[u8]) -> Result<Subject, SubscribeError> {
        if !self.0.subscribes {
            return Err(SubscribeError::Role);
        }
        Ok(Subject::pattern(topic).map_err(|reason| InvalidTopic::new(topic, reason))?)
    }

    fn attach_queue(&self, topic: &[u8], options: &SubscribeOptions) -> Result<Attached, SubscribeError> {
        let subject = self.check_subscribe(topic)?;
        let group = options.group()?;
        let (limits, policy) = options.queue(&self.0.node.limits.get());
        let receiver = Receiver::queue(subject, limits, policy);
        if let Some(messages) = options.messages_max() {
            receiver.set_delivered_max(messages);
        }
        self.attach(receiver, group.as_ref())
    }

    fn attach(&self, receiver: Receiver, group: Option<&QueueGroup>) -> Result<Attached, SubscribeError> {
        let receiver = Rc::new(receiver);
        let links = if receiver.topic().is_wildcard() {
            (0..self.0.links.len()).map(|index| Rc::clone(self.link(index))).collect()
        } else {
            vec![Rc::clone(self.link(self.0.node.ring.owner(receiver.topic().as_bytes())))]
        };
        let attached = Attached { receiver, links };
        for link in &attached.links {
            link.attach(&attached.receiver, group)?;
        }
        Ok(attached)
    }

    /// Waits for the servers; returns the clusters that are down.
    async fn confirm(&self, attached: &Attached) -> Result<Vec<ClusterName>, SubscribeError> {
        let limit = self.0.node.config.connection.subscribe_timeout;
        let confirmed = if let [link] = attached.links.as_slice() {
            time::timeout(limit, link.barrier(true).passed()).await.unwrap_or(false)
        } else {
            false
        };
        let unconfirmed = if confirmed {
            Vec::new()
        } else if attached.links.len() == 1 {
            attached.clusters()
        } else {
            confirm_all(&attached.links, limit).await
        };
        if let Some(cluster) = attached.receiver.denied() {
            return Err(SubscribeError::PermissionDenied { cluster });
        }
        if unconfirmed.len() == attached.links.len()
            && let Some(link) = attached.links.first()
        {
            return Err(link.unconfirmed(limit));
        }
        Ok(unconfirmed)
    }
}

/// For each cluster of a wildcard: confirmed, or down. Waits for the first tries, and as long as none at
/// all is connected.
async fn confirm_all(links: &[Rc<Link>], limit: Duration) -> Vec<ClusterName> {
    let deadline = std::time::Instant::now() + limit;
    let left = || deadline.saturating_duration_since(std::time::Instant::now());
    let barriers: Vec<_> = links.iter().map(|link| link.barrier(true)).collect();
    let mut unconfirmed = Vec::new();
    for (link, barrier) in links.iter().zip(&barriers) {
        let tried = time::timeout(left(), link.first_try()).await;
        let is_connected = matches!(tried, Ok(LinkStatus::Connected));
        if !is_connected || !time::timeout(left(), barrier.passed()).await.unwrap_or(false) {
            unconfirmed.push(link.cluster().clone());
        }
    }
    if unconfirmed.len() < links.len() {
        return unconfirmed;
    }
    let mut any: Pin<Box<dyn Future<Output = Option<usize>>>> = Box::pin(std::future::pending());
    for (index, barrier) in barriers.iter().enumerate() {
        any = Box::pin(any.or(async move {
            if barrier.passed().await { Some(index) } else { std::future::pending().await }
        }));
    }
    match time::timeout(left(), any).await {
        Ok(Some(index)) => links
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index)
            .map(|(_, link)| link.cluster().clone())
            .collect(),
        _ => unconfirmed,
    }
}
