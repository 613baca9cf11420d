//! A subscription in the hands of another thread.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use croupier_protocol::Subject;
use futures_channel::oneshot;
use futures_core::Stream;
use futures_lite::future::{self, Boxed};

use super::{HANDOVER_MESSAGES, NodeHandle};
use crate::{
    ClusterName, OwnedMessage, Shard, SubscribeError, SubscribeOptions, Subscription, error::LinkEnd,
};

impl NodeHandle {
    /// Subscribes on the topic's home shard (a wildcard: on shard 0), and returns when the server has
    /// confirmed. The messages come as a stream that any thread may hold.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe`].
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Boxed<Result<HandleSubscription, SubscribeError>> {
        self.subscribe_with_options(topic, &SubscribeOptions::new())
    }

    /// As [`NodeHandle::subscribe`], as a member of a queue group.
    ///
    /// # Errors
    ///
    /// As [`Shard::queue_subscribe`].
    pub fn queue_subscribe(
        &self,
        topic: impl AsRef<[u8]>,
        group: impl AsRef<[u8]>,
    ) -> Boxed<Result<HandleSubscription, SubscribeError>> {
        self.subscribe_with_options(topic, &SubscribeOptions::new().queue_group(group))
    }

    /// As [`NodeHandle::subscribe`], with a queue, a queue group or an end of its own.
    ///
    /// # Errors
    ///
    /// As [`Shard::subscribe_with_options`].
    pub fn subscribe_with_options(
        &self,
        topic: impl AsRef<[u8]>,
        options: &SubscribeOptions,
    ) -> Boxed<Result<HandleSubscription, SubscribeError>> {
        let topic = topic.as_ref().to_vec();
        let (options, handle) = (options.clone(), self.clone());
        Box::pin(async move {
            let cluster = handle.cluster_of(&topic);
            let home = match Subject::pattern(&topic) {
                Ok(subject) if !subject.is_wildcard() => handle.shard_of(&topic),
                _ => 0,
            };
            let (sender, receiver) = async_channel::bounded(HANDOVER_MESSAGES);
            let (control, controlled) = oneshot::channel();
            let lagged = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&lagged);
            let subscribed = handle.submit_to(home, async move |shard: Shard| {
                let subscription = shard.subscribe_with_options(&topic, &options).await?;
                let subject = subscription.topic().clone();
                let unconfirmed = subscription.unconfirmed().to_vec();
                shard.spawn(forward(subscription, sender, counted, controlled));
                Ok::<_, SubscribeError>((subject, unconfirmed))
            });
            let (topic, unconfirmed) = match subscribed.await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    return Err(SubscribeError::Disconnected { cluster, reason: LinkEnd::ShardStopped });
                }
            };
            Ok(HandleSubscription {
                topic,
                unconfirmed,
                receiver: Box::pin(receiver),
                lagged,
                control: Some(control),
            })
        })
    }
}

/// Asks for a drain, and where to say what it came to.
type Drain = oneshot::Sender<Result<(), SubscribeError>>;

/// What comes up while something is awaited.
enum Step<T> {
    Done(T),
    Drain(Drain),
    /// The holder is gone.
    Gone,
}

/// Waits for `work`, or for word from the holder.
async fn or_control<T>(
    work: impl Future<Output = T>,
    control: &mut Option<oneshot::Receiver<Drain>>,
) -> Step<T> {
    let told = async {
        match control {
            Some(receiver) => receiver.await.map_or(Step::Gone, Step::Drain),
            None => std::future::pending().await,
        }
    };
    let step = future::or(async { Step::Done(work.await) }, told).await;
    if matches!(step, Step::Drain(_)) {
        *control = None;
    }
    step
}

/// Hands messages over until the subscription ends or its holder is gone.
async fn forward(
    mut subscription: Subscription,
    sender: async_channel::Sender<OwnedMessage>,
    lagged: Arc<AtomicU64>,
    controlled: oneshot::Receiver<Drain>,
) {
    let mut control = Some(controlled);
    loop {
        let message = match or_control(subscription.next(), &mut control).await {
            Step::Done(Some(message)) => message,
            Step::Drain(answer) => {
                let _unheard = answer.send(subscription.drain().await);
                continue;
            }
            Step::Done(None) | Step::Gone => return,
        };
        lagged.store(subscription.lagged(), Ordering::Relaxed);
        let mut sending = pin!(sender.send(OwnedMessage::from(message)));
        let sent = match or_control(sending.as_mut(), &mut control).await {
            Step::Done(sent) => sent,
            Step::Drain(answer) => {
                let _unheard = answer.send(subscription.drain().await);
                sending.await
            }
            Step::Gone => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A subscription in the hands of another thread. Dropping it unsubscribes.
#[must_use = "dropping a subscription ends it"]
pub struct HandleSubscription {
    topic: Subject,
    unconfirmed: Vec<ClusterName>,
    receiver: Pin<Box<async_channel::Receiver<OwnedMessage>>>,
    lagged: Arc<AtomicU64>,
    /// Its drop tells the shard, and can neither fail nor be full.
    control: Option<oneshot::Sender<Drain>>,
}

impl HandleSubscription {
    /// The topic as it was asked for.
    pub fn topic(&self) -> &Subject {
        &self.topic
    }

    /// As [`Subscription::unconfirmed`].
    pub fn unconfirmed(&self) -> &[ClusterName] {
        &self.unconfirmed
    }

    /// Messages dropped because this thread took them too slowly, as of the last one handed over.
    pub fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }

    /// The next message, or `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.recv().await.ok()
    }

    /// As [`Subscription::drain`]: unsubscribes; what the servers had sent before they knew can still be taken,
    /// and then the stream ends. Does nothing for one that has ended.
    ///
    /// # Errors
    ///
    /// As [`Subscription::drain`].
    pub async fn drain(&mut self) -> Result<(), SubscribeError> {
        let Some(control) = self.control.take() else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        // Of one that had ended, by itself or with its shard, the request comes back: it is dropped at once,
        // or its answer would be waited for.
        drop(control.send(answer));
        answered.await.unwrap_or(Ok(()))
    }
}

impl Stream for HandleSubscription {
    type Item = OwnedMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OwnedMessage>> {
        self.receiver.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for HandleSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleSubscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}
