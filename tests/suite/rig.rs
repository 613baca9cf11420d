//! A node that a test drives from its own thread, and async-nats as the other client beside it.

use std::{fmt::Display, future::Future};

use croupier::{Builder, Node, NodeHandle, OwnedMessage, Shard, config::Config};
use futures_lite::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{GUARD, Permit, permit};

/// Runs a test on a tokio executor of its own thread; panics when it hangs.
pub(crate) fn guarded<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, test).await.expect("the test hangs") })
}

/// The builder with its configuration changed.
pub(crate) fn configured(mut builder: Builder, change: impl FnOnce(&mut Config)) -> Builder {
    change(builder.config_mut());
    builder
}

/// A started node whose applications have returned, and the right to run its shards.
pub(crate) struct Rig {
    handle: NodeHandle,
    node: Option<Node>,
    _permit: Option<Permit>,
}

impl Rig {
    /// Starts the node, when its shards may run. For tests with one node.
    pub(crate) fn start(builder: Builder, shards: usize) -> Rig {
        let permit = permit(shards);
        Rig { _permit: Some(permit), ..Rig::beside(builder, shards) }
    }

    /// Starts one node of several; the test holds the permit for them all.
    pub(crate) fn beside(builder: Builder, shards: usize) -> Rig {
        let node = builder.shards(shards).start(async |_| Ok(())).unwrap();
        Rig { handle: node.handle(), node: Some(node), _permit: None }
    }

    pub(crate) fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Runs `work` on a shard. A panic there is one here, with its message.
    pub(crate) async fn on<F, T>(&self, shard: usize, work: F) -> T
    where
        F: AsyncFnOnce(Shard) -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.handle.submit_to(shard, work).await {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// A confirmed subscription on a shard; what it gets comes out here, in order.
    pub(crate) async fn subscribe(&self, shard: usize, topic: impl Display) -> Inlet {
        let topic = topic.to_string();
        let (sender, receiver) = unbounded_channel();
        self.on(shard, async move |shard| {
            let mut subscription = shard.subscribe(&topic).await.unwrap();
            shard.spawn(async move {
                while let Some(message) = subscription.next().await {
                    if sender.send(OwnedMessage::from(message)).is_err() {
                        break;
                    }
                }
            });
        })
        .await;
        Inlet(receiver)
    }

    /// Topics `<stem>.<n>` that live on this cluster.
    pub(crate) fn topics_on(&self, cluster: &str, stem: &str, count: usize) -> Vec<String> {
        let named = (0..).map(|number| format!("{stem}.{number}"));
        named.filter(|topic| self.handle.cluster_of(topic) == cluster).take(count).collect()
    }

    /// Whether a shard's link to a cluster is connected.
    pub(crate) fn is_connected(&self, shard: usize, cluster: &str) -> bool {
        self.handle.stats()[shard].link(cluster).is_some_and(|link| link.connected)
    }

    /// Waits for a link to be connected, or not to be.
    pub(crate) async fn until_connected(&self, shard: usize, cluster: &str, wanted: bool) {
        while self.is_connected(shard, cluster) != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Drains the node and answers what ended it.
    pub(crate) async fn stop(mut self) -> croupier::Result<()> {
        self.handle.drain().await?;
        self.node.take().expect("a node is stopped once").join()
    }
}

/// What a subscription on a shard got.
pub(crate) struct Inlet(UnboundedReceiver<OwnedMessage>);

impl Inlet {
    pub(crate) async fn next(&mut self) -> OwnedMessage {
        self.0.recv().await.expect("the subscription goes on")
    }

    /// The next payloads, as text.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            texts.push(text(self.next().await.payload()));
        }
        texts
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A client of another make.
pub(crate) async fn peer(servers: &[String]) -> async_nats::Client {
    async_nats::connect(servers.to_vec()).await.unwrap()
}

/// Waits until the peer's server has processed all that the peer sent before: it answers in order that
/// nobody listens here.
pub(crate) async fn settle(peer: &async_nats::Client) {
    let error = peer.request("settle.nobody.listens", "".into()).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

/// A subscription of the peer that its server knows of.
pub(crate) async fn peer_subscribe(peer: &async_nats::Client, topic: &str) -> async_nats::Subscriber {
    let subscriber = peer.subscribe(topic.to_owned()).await.unwrap();
    settle(peer).await;
    subscriber
}

/// Has the peer answer `count` requests on a topic with their payload in capitals.
pub(crate) fn answer_in_capitals(
    peer: &async_nats::Client,
    mut requests: async_nats::Subscriber,
    count: usize,
) {
    let peer = peer.clone();
    tokio::spawn(async move {
        for _ in 0..count {
            let request = requests.next().await.expect("a request");
            let answer = request.payload.to_ascii_uppercase();
            peer.publish(request.reply.expect("a reply subject"), answer.into()).await.unwrap();
        }
        peer.flush().await.unwrap();
    });
}
