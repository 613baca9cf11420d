//! Measuring Croupier beside its peers: the figures, the other end of the wire, the workers, the arithmetic.
//!
//! A figure is one kind of work ([`figure::Figure`]). It is done by one client in a process of its own
//! ([`worker`], [`nats_c`]), against a peer that the measuring process plays: either a server made of nothing but
//! sockets ([`stub`]), or a real nats-server with a bare connection behind it ([`driver`]). Both ends
//! count and sum what passed ([`traffic::Tally`]); a figure whose ends disagree is not a figure.

pub mod async_nats_client;
pub mod croupier_client;
pub mod driver;
pub mod error;
pub mod figure;
pub mod inbound;
pub mod nats_c;
pub mod nats_server;
pub mod output;
pub mod receiving;
pub mod registry;
pub mod report;
pub mod shard_bench;
pub mod side_by_side;
pub mod statistics;
pub mod stub;
pub mod subprocess;
pub mod traffic;
pub mod usage;
pub mod wire;
pub mod worker;
