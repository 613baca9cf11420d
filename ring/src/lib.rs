//! Which owner a key has: the gnatsd cluster of a topic, and the service instance of a key.
//!
//! The answer is one hash, one shift and one load from a table of constant size. It is the same on every machine
//! for the same identities, weights and seed, in whatever order they came, and a change of members moves only the
//! keys that must move.
//!
//! A ring ([`ClusterRing`], [`ServiceRing`]) holds what it takes to change; it lives off the hot path, and equals
//! after any changes the one built from the members that are left. A table ([`ClusterTable`], [`ServiceTable`]) is
//! an immutable copy of what lookups read, to be published to readers. The low 32 bits of a key's hash choose its
//! [`home_shard`], the top ones its slot.
//!
//! This crate is pure: no sockets, threads, clocks or randomness, no floats in a table, no order of a hash map.
#![forbid(unsafe_code)]

mod cell_ring;
mod cells;
mod cluster;
mod distinct;
mod error;
mod fill;
mod hash;
mod member;
mod roulette;
mod service;
mod slots;
#[cfg(test)]
mod tests;

pub use cluster::{
    CLUSTER_UNITS, CLUSTER_UNITS_MAX, CLUSTERS_MAX, ClusterOwners, ClusterRing, ClusterRingBuilder,
    ClusterSlots, ClusterTable, NARROW_CLUSTERS_MAX, RingMode, cluster_units,
};
pub use error::RingError;
pub use hash::{hash_key, home_shard};
pub use member::Member;
pub use service::{
    RingClass, SERVICE_UNITS_MAX, ServiceOwnerTable, ServiceOwners, ServiceRing, ServiceRingBuilder,
    ServiceTable,
};
