//! Real nats-servers for tests, examples and measurements: started, broken and cleared away from code.

mod builder;
mod folder;
mod local_cluster;
pub mod nats_server;
mod port;
mod readiness;
mod server;
mod spawner;

pub use self::local_cluster::{LocalCluster, LocalClusterError, NODES_MAX, Route};
