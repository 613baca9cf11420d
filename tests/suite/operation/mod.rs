//! What an operator sees and does: the admin pages, clients that misbehave, shards that do not yield.

mod blocks;
mod canaries;
mod client;
mod endpoints;
mod happenings;
mod latencies;
mod page;
mod published;
mod readiness;
mod refused_start;
mod rude_clients;
mod termination;
