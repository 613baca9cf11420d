//! Measuring the registry: what is registered, memory, nodes in memory, and how fast a change is seen everywhere.

pub mod allocation;
pub mod chitchat_nodes;
pub mod cluster;
pub mod convergence;
pub mod cpu;
pub mod croupier_nodes;
pub mod figures;
pub mod side_by_side;
pub mod workload;
