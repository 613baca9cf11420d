//! Tests of several parts together.

mod link;
mod log_model;
mod log_properties;
mod membership;
mod partitions;
mod wire;
