//! Tests of several parts together.

mod admission;
mod link;
mod log_model;
mod log_properties;
mod membership;
mod partitions;
mod wire;

use std::time::Instant;

/// Where simulated time begins. Only distances to it count.
#[allow(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
