//! Measuring Croupier beside its peers: the figures, the other end of the wire, the workers, the arithmetic.
//!
//! A figure is one kind of work ([`figure::Figure`]). It is done by one client in a process of its own
//! ([`worker`], [`nats_c`]), against a peer that the measuring process plays: either a server made of nothing but
//! sockets ([`stub`]), or a real nats-server with a bare connection behind it ([`driver`]). Both ends
//! count and sum what passed ([`traffic::Tally`]); a figure whose ends disagree is not a figure.
//!
//! The hot paths of the pure rooms are also counted in instructions ([`instructions`]), which needs none of the peers:
//! without the feature `peers` this crate is that alone, and is built in seconds.

#[cfg(feature = "peers")]
pub mod async_nats_client;
#[cfg(feature = "peers")]
pub mod croupier_client;
#[cfg(feature = "peers")]
pub mod driver;
#[cfg(feature = "peers")]
pub mod error;
#[cfg(feature = "peers")]
pub mod figure;
#[cfg(feature = "peers")]
pub mod inbound;
pub mod instructions;
#[cfg(feature = "peers")]
pub mod markdown;
#[cfg(feature = "peers")]
pub mod nats_c;
#[cfg(feature = "peers")]
pub mod nats_server;
#[cfg(feature = "peers")]
pub mod output;
#[cfg(feature = "peers")]
pub mod receiving;
pub mod registry;
#[cfg(feature = "peers")]
pub mod report;
#[cfg(feature = "peers")]
pub mod results;
#[cfg(feature = "peers")]
pub mod ring_peers;
#[cfg(feature = "peers")]
pub mod shard_bench;
#[cfg(feature = "peers")]
pub mod side_by_side;
#[cfg(feature = "peers")]
pub mod statistics;
#[cfg(feature = "peers")]
pub mod stub;
#[cfg(feature = "peers")]
pub mod subprocess;
#[cfg(feature = "peers")]
pub mod traffic;
#[cfg(feature = "peers")]
pub mod usage;
#[cfg(feature = "peers")]
pub mod wire;
#[cfg(feature = "peers")]
pub mod worker;
