//! Tests of several parts together.

mod log_model;
mod log_properties;
mod membership;
mod partitions;
mod wire;
