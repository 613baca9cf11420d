//! The verbs of a shard that wait for an answer: requests, flush, barrier, round trip.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use croupier_protocol::Headers;

use super::Shard;
use crate::{
    ClusterName, FlushError, Message, Payload, Replies, RequestError, RequestManyOptions, RoundTripError,
    cluster_link::{Barrier, Link, LinkStatus},
    time,
};

impl Shard {
    /// Sends a request and waits for the first reply, for `limits.request_timeout` at most.
    ///
    /// A request is never queued: on a link that is down it fails at once, with nothing sent.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which says whether anybody may have got the request.
    pub async fn request<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Message, RequestError> {
        let timeout = self.0.node.limits.get().request_timeout;
        self.request_any(topic.as_ref(), None, payload.into(), timeout).await
    }

    /// As [`Shard::request`], with headers.
    ///
    /// # Errors
    ///
    /// As [`Shard::request`].
    pub async fn request_with_headers<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Message, RequestError> {
        let timeout = self.0.node.limits.get().request_timeout;
        self.request_any(topic.as_ref(), Some(headers), payload.into(), timeout).await
    }

    /// As [`Shard::request`], with a timeout of its own.
    ///
    /// # Errors
    ///
    /// As [`Shard::request`].
    pub async fn request_with_timeout<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.request_any(topic.as_ref(), None, payload.into(), timeout).await
    }

    /// Sends a request that several may answer, and returns their replies as a stream, which ends as
    /// `options` say.
    ///
    /// ```no_run
    /// # async fn ask(shard: croupier::Shard) -> croupier::Result<(), croupier::BoxError> {
    /// use croupier::RequestManyOptions;
    ///
    /// let mut replies = shard.request_many("who.is.there", "", &RequestManyOptions::new().replies(3)).await?;
    /// while let Some(reply) = replies.next().await {
    ///     println!("{:?}", reply?.payload());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Shard::request`], for what can be told before a reply: the link is down, or the request is
    /// refused. `NoResponders` and a cut come as the last item of the stream; a timeout only ends it.
    pub async fn request_many<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
        options: &RequestManyOptions,
    ) -> Result<Replies, RequestError> {
        let topic = topic.as_ref();
        self.check_publish(topic)?;
        let link = Rc::clone(self.link(self.0.node.ring.owner(topic)));
        let limits = options.limits(&self.0.node.limits.get());
        let awaited = link.request_many(topic, options.request_headers(), payload.into(), limits).await?;
        Ok(Replies::new(awaited))
    }

    pub(crate) async fn request_any(
        &self,
        topic: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.check_publish(topic)?;
        let link = Rc::clone(self.link(self.0.node.ring.owner(topic)));
        link.request(topic, headers, payload, timeout).await
    }

    /// Waits until the servers have processed all that was published, subscribed and unsubscribed from this
    /// shard before: a PING and its PONG on every cluster in use. As for what was published, a cluster that
    /// is down fails it while messages wait there; [`Shard::barrier`] asks only for subscriptions.
    ///
    /// # Errors
    ///
    /// [`FlushError`] names the clusters that did not answer within `connection.subscribe_timeout`,
    /// among them those that are down while messages wait for them, and those whose connection was cut
    /// meanwhile.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.flush_within(self.0.node.config.connection.subscribe_timeout).await
    }

    pub(crate) async fn flush_within(&self, limit: Duration) -> Result<(), FlushError> {
        let waiting = self.links().filter_map(|link| {
            let is_connected = link.status() == LinkStatus::Connected;
            // A cut connection loses what was in flight, which a reconnect cannot make good.
            (is_connected || link.has_pending()).then(|| (Rc::clone(link), link.barrier(!is_connected)))
        });
        all_passed(waiting.collect(), limit).await
    }

    /// Waits until every connected cluster has processed all subscribes and unsubscribes of this shard so far,
    /// confirmed or not.
    ///
    /// A cluster that is down is not waited for: it has forgotten all of them, and is told what is subscribed
    /// when it comes back. If one is cut meanwhile, its reconnect serves as well. So unlike [`Shard::flush`]
    /// this says nothing of messages, and they cannot fail it.
    ///
    /// # Errors
    ///
    /// [`FlushError`] names the clusters that did not answer within `connection.subscribe_timeout`.
    pub async fn barrier(&self) -> Result<(), FlushError> {
        let connected = self.links().filter(|link| link.status() == LinkStatus::Connected);
        let waiting = connected.map(|link| (Rc::clone(link), link.barrier(true)));
        all_passed(waiting.collect(), self.0.node.config.connection.subscribe_timeout).await
    }

    /// How long a PING takes to a cluster's server and back, the turns of this shard included. The first use
    /// of a cluster connects to it.
    ///
    /// # Errors
    ///
    /// [`RoundTripError`].
    pub async fn rtt(&self, cluster: &ClusterName) -> Result<Duration, RoundTripError> {
        let named = || cluster.clone();
        let index = self.0.node.clusters.iter().position(|name| name == cluster);
        let index = index.ok_or_else(|| RoundTripError::UnknownCluster { cluster: named() })?;
        let link = Rc::clone(self.link(index));
        let waited = self.0.node.config.connection.subscribe_timeout;
        let measured = time::timeout(waited, async {
            match link.first_try().await {
                LinkStatus::Connected => link.round_trip().await,
                _ => None,
            }
        });
        match measured.await {
            Ok(Some(round_trip)) => Ok(round_trip),
            Ok(None) => Err(RoundTripError::Disconnected { cluster: named() }),
            Err(_) => Err(RoundTripError::Timeout { cluster: named(), waited }),
        }
    }
}

/// Waits for all barriers, and names the clusters of those that did not pass.
async fn all_passed(waiting: Vec<(Rc<Link>, Rc<Barrier>)>, limit: Duration) -> Result<(), FlushError> {
    let deadline = Instant::now() + limit;
    let mut failed = Vec::new();
    for (link, barrier) in waiting {
        let left = deadline.saturating_duration_since(Instant::now());
        if !time::timeout(left, barrier.passed()).await.unwrap_or(false) {
            failed.push(link.cluster().clone());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(FlushError { failed, waited: limit }) }
}
