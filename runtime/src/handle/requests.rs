//! What the handle waits for: requests, flush, barrier, round trip. Each is made on a shard.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use croupier_protocol::Headers;
use futures_channel::oneshot;
use futures_lite::{FutureExt, future::Boxed};

use super::{HANDOVER_MESSAGES, HandleReplies, NodeHandle};
use crate::{
    ClusterName, FlushError, OwnedMessage, Payload, RequestError, RequestManyOptions, RoundTripError, Shard,
};

impl NodeHandle {
    /// Sends a request by way of the topic's home shard, and waits for the first reply.
    ///
    /// # Errors
    ///
    /// As [`Shard::request`]; `Disconnected` with nothing sent when the shard has stopped.
    pub fn request<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
    ) -> Boxed<Result<OwnedMessage, RequestError>> {
        let timeout = self.0.limits.get().request_timeout;
        self.request_any(topic.as_ref(), None, payload.into(), timeout)
    }

    /// As [`NodeHandle::request`], with headers.
    ///
    /// # Errors
    ///
    /// As [`NodeHandle::request`].
    pub fn request_with_headers<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        headers: &Headers,
        payload: impl Into<Payload<'a>>,
    ) -> Boxed<Result<OwnedMessage, RequestError>> {
        let timeout = self.0.limits.get().request_timeout;
        self.request_any(topic.as_ref(), Some(headers), payload.into(), timeout)
    }

    /// As [`NodeHandle::request`], with a timeout of its own.
    ///
    /// # Errors
    ///
    /// As [`NodeHandle::request`].
    pub fn request_with_timeout<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
        timeout: Duration,
    ) -> Boxed<Result<OwnedMessage, RequestError>> {
        self.request_any(topic.as_ref(), None, payload.into(), timeout)
    }

    fn request_any(
        &self,
        topic: &[u8],
        headers: Option<&Headers>,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Boxed<Result<OwnedMessage, RequestError>> {
        let (topic, headers, payload) = (topic.to_vec(), headers.cloned(), payload.into_bytes());
        let handle = self.clone();
        Box::pin(async move {
            let cluster = handle.cluster_of(&topic);
            let asked = handle.submit_to(handle.shard_of(&topic), async move |shard: Shard| {
                let reply = shard.request_any(&topic, headers.as_ref(), payload.into(), timeout).await;
                reply.map(OwnedMessage::from)
            });
            match asked.await {
                Ok(outcome) => outcome,
                Err(_) => Err(RequestError::Disconnected { cluster, sent: false }),
            }
        })
    }

    /// Sends a request that several may answer by way of the topic's home shard, and returns their replies as
    /// a stream that any thread may hold.
    ///
    /// # Errors
    ///
    /// As [`Shard::request_many`]; `Disconnected` with nothing sent when the shard has stopped.
    pub fn request_many<'a>(
        &self,
        topic: impl AsRef<[u8]>,
        payload: impl Into<Payload<'a>>,
        options: &RequestManyOptions,
    ) -> Boxed<Result<HandleReplies, RequestError>> {
        let (topic, payload) = (topic.as_ref().to_vec(), payload.into().into_bytes());
        let (options, handle) = (options.clone(), self.clone());
        Box::pin(async move {
            let cluster = handle.cluster_of(&topic);
            let (sender, receiver) = async_channel::bounded(HANDOVER_MESSAGES);
            let (held, dropped) = oneshot::channel::<()>();
            let end = Arc::new(OnceLock::new());
            let ended = Arc::clone(&end);
            let asked = handle.submit_to(handle.shard_of(&topic), async move |shard: Shard| {
                let mut replies = shard.request_many(&topic, payload, &options).await?;
                shard.spawn(async move {
                    let forward = async {
                        while let Some(reply) = replies.next().await {
                            if sender.send(reply.map(OwnedMessage::from)).await.is_err() {
                                return;
                            }
                        }
                        if let Some(end) = replies.end() {
                            // Told once, before the stream ends.
                            let _first = ended.set(end);
                        }
                    };
                    // Resolves when the holder is dropped, with or without another reply.
                    let gone = async {
                        let _holder_is_gone = dropped.await;
                    };
                    forward.or(gone).await;
                });
                Ok(())
            });
            match asked.await {
                Ok(outcome) => outcome.map(|()| HandleReplies::new(receiver, end, held)),
                Err(_) => Err(RequestError::Disconnected { cluster, sent: false }),
            }
        })
    }

    /// Waits until the servers have processed all that was published through this node before, as
    /// [`Shard::flush`] does, on every shard.
    ///
    /// # Errors
    ///
    /// [`FlushError`] names the clusters that failed on any shard; all of them when a shard has stopped.
    pub fn flush(&self) -> impl Future<Output = Result<(), FlushError>> + Send + use<> {
        self.of_every_shard(async |shard: Shard| shard.flush().await)
    }

    /// Waits until every connected cluster has processed all subscribes and unsubscribes of every shard, as
    /// [`Shard::barrier`] does.
    ///
    /// # Errors
    ///
    /// As [`NodeHandle::flush`].
    pub fn barrier(&self) -> impl Future<Output = Result<(), FlushError>> + Send + use<> {
        self.of_every_shard(async |shard: Shard| shard.barrier().await)
    }

    /// How long a PING of shard 0 takes to a cluster's server and back, as [`Shard::rtt`].
    ///
    /// # Errors
    ///
    /// As [`Shard::rtt`]; `Disconnected` when the shard has stopped.
    pub fn rtt(
        &self,
        cluster: &ClusterName,
    ) -> impl Future<Output = Result<Duration, RoundTripError>> + Send + use<> {
        let (asked, cluster) = (cluster.clone(), cluster.clone());
        let measured = self.submit_to(0, async move |shard: Shard| shard.rtt(&asked).await);
        async move { measured.await.unwrap_or(Err(RoundTripError::Disconnected { cluster })) }
    }

    fn of_every_shard<F>(&self, wait: F) -> impl Future<Output = Result<(), FlushError>> + Send + use<F>
    where
        F: AsyncFnOnce(Shard) -> Result<(), FlushError> + Clone + Send + 'static,
    {
        let handle = self.clone();
        async move {
            let mut failed = vec![false; handle.0.clusters.len()];
            let waiting: Vec<_> = (0..handle.shards())
                .map(|shard| {
                    let wait = wait.clone();
                    handle.submit_to(shard, async move |shard: Shard| wait(shard).await)
                })
                .collect();
            for outcome in waiting {
                match outcome.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        for (cluster, failed) in handle.0.clusters.iter().zip(&mut failed) {
                            *failed |= error.failed.contains(cluster);
                        }
                    }
                    Err(_) => failed.fill(true),
                }
            }
            if !failed.contains(&true) {
                return Ok(());
            }
            let failed = handle.0.clusters.iter().zip(failed).filter(|(_, failed)| *failed);
            Err(FlushError {
                failed: failed.map(|(cluster, _)| cluster.clone()).collect(),
                waited: handle.0.config.connection.subscribe_timeout,
            })
        }
    }
}
