//! Names to addresses, away from the shard: the resolver blocks.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use super::off_shard;

/// Addresses of one name that are tried, at most.
const ADDRESSES_MAX: usize = 16;

/// All addresses of a host. A literal address takes no thread.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    off_shard("croupier-resolve", move || {
        let addresses = (host.as_str(), port).to_socket_addrs()?;
        Ok(addresses.take(ADDRESSES_MAX).collect())
    })
    .await?
}
