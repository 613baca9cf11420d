//! Tests of several parts together.

mod log_model;
mod log_properties;
mod partitions;
mod wire;
