//! Names to addresses, away from the shard: the resolver blocks.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    thread,
};

use futures_channel::oneshot;

/// Addresses of one name that are tried, at most.
const ADDRESSES_MAX: usize = 16;

/// All addresses of a host. A literal address takes no thread.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (answer, answered) = oneshot::channel();
    let host = host.to_owned();
    thread::Builder::new().name("croupier-resolve".to_owned()).spawn(move || {
        let addresses = (host.as_str(), port)
            .to_socket_addrs()
            .map(|addresses| addresses.take(ADDRESSES_MAX).collect::<Vec<_>>());
        // Nobody listens when the link was closed meanwhile.
        let _unheard = answer.send(addresses);
    })?;
    answered.await.map_err(|_| io::Error::other("the resolver's thread died"))?
}
