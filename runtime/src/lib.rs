//! A thread-per-core runtime for latency-critical applications over hash-ringed gnatsd clusters.
//!
//! A process is a [`Node`]; a node has one [`Shard`] per core; shards share nothing but immutable
//! tables and messages. A topic hashes to one cluster of NATS servers, and each shard speaks to the
//! clusters that it uses over a link of its own.
//!
//! ```no_run
//! use croupier::{Node, Result};
//! use futures_lite::StreamExt;
//!
//! fn main() -> Result<()> {
//!     Node::builder().cluster("c1", ["nats://127.0.0.1:4222"]).run(async |shard| {
//!         let mut greetings = shard.subscribe("hello").await?;
//!         shard.publish("hello", format!("hi from shard {}", shard.id()))?;
//!         if let Some(msg) = greetings.next().await {
//!             println!("{}: {:?}", msg.topic(), msg.payload());
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Where to read on: [`Shard`] for the verbs and their guarantees, [`LinkStats`] for the fates of a
//! publish, [`config::Config`] for what a node is told, [`testing::LocalCluster`] for real servers in
//! tests.

mod admin;
mod blocks;
mod cluster_link;
mod cluster_name;
pub mod config;
mod credentials;
pub mod dial;
mod error;
mod events;
mod handle;
mod identities;
mod latency;
mod live_limits;
mod local_notify;
pub mod logging;
mod mesh;
mod message;
mod metrics;
mod node;
mod node_shared;
mod payload;
mod peer_link;
pub mod probe;
mod readiness;
mod receiver;
mod reconnect;
mod registry_shard;
mod registry_start;
mod reload;
mod request_many;
mod secret;
mod services;
mod shard;
mod shard_life;
mod stats;
mod subscribe_options;
mod subscription;
pub mod testing;
mod time;
mod tls;
mod topic;
mod transport;
mod watchdog;

pub use croupier_protocol::{HeaderError, Headers, Status, Subject, SubjectError};
pub use croupier_registry::{Epoch, InvalidService, NodeStanding, NodeStatus};
pub use croupier_ring::RingClass;

pub use self::{
    cluster_link::RepliesEnd,
    cluster_name::ClusterName,
    config::{Config, RegistryConfig},
    credentials::{Credentials, CredentialsError, CredentialsRequest},
    error::{
        BoxError, Elapsed, Error, FailedTry, FlushError, InvalidTopic, LinkEnd, PublishError, RequestError,
        Result, RoundTripError, SubmitError, SubscribeError,
    },
    events::{DeniedAction, DisconnectReason, EVENTS_MAX, Event, Events, Fates},
    handle::{HandleCall, HandleReplies, HandleSubscription, NodeHandle},
    latency::LatencyStats,
    message::{Message, MessageView, OwnedMessage},
    node::{Builder, Node},
    payload::Payload,
    readiness::Unready,
    reconnect::ReconnectError,
    registry_shard::RegistryStats,
    reload::{ReloadError, Reloaded},
    request_many::{Replies, RequestManyOptions},
    services::{
        Call, CallError, Registry, RegistryError, Service, ServiceEvent, ServiceHandle, ServiceRef,
        ServiceSpec, ServiceType, Services, Watch,
    },
    shard::Shard,
    stats::{LinkStats, ShardStats},
    subscribe_options::SubscribeOptions,
    subscription::{HandlerGuard, Subscription},
    tls::TlsError,
    topic::Topic,
};
