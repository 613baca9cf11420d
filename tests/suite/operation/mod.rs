//! What an operator sees and does: the admin pages, clients that misbehave, shards that do not yield.

mod blocks;
mod client;
mod endpoints;
mod page;
mod published;
mod readiness;
mod rude_clients;
