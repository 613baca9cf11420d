//! Measuring the registry: what is registered, memory, nodes in memory, and how fast a change is seen everywhere.

#[cfg(feature = "peers")]
pub mod allocation;
#[cfg(feature = "peers")]
pub mod chitchat_nodes;
#[cfg(feature = "peers")]
pub mod cluster;
#[cfg(feature = "peers")]
pub mod convergence;
#[cfg(feature = "peers")]
pub mod cpu;
#[cfg(feature = "peers")]
pub mod croupier_nodes;
#[cfg(feature = "peers")]
pub mod figures;
#[cfg(feature = "peers")]
pub mod side_by_side;
pub mod workload;
