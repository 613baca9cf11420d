//! `node.admin_listen`: where the admin server listens, if anywhere.

use std::{
    fmt,
    net::{AddrParseError, Ipv4Addr, SocketAddr, SocketAddrV4},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the admin server of a node listens that is built from a file which does not say.
pub const ADMIN_ADDRESS_USUAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9464));

/// Where `/metrics`, `/healthz`, `/readyz` and `/statusz` are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere: no thread, no socket. The default in code; `""` in a file.
    #[default]
    Off,
    /// On [`ADMIN_ADDRESS_USUAL`], unless another process has it: then the node starts without an admin
    /// server, and warns. What a file means that does not say, so that two nodes can run on one machine.
    Usual,
    /// On this `ip:port`, or the node does not start. Port 0 takes a free one.
    At(String),
}

impl AdminListen {
    /// The address to listen on; `None` when it is off.
    ///
    /// # Errors
    ///
    /// When it is not `ip:port`.
    pub fn address(&self) -> Result<Option<SocketAddr>, AddrParseError> {
        match self {
            AdminListen::Off => Ok(None),
            AdminListen::Usual => Ok(Some(ADMIN_ADDRESS_USUAL)),
            AdminListen::At(address) => address.trim().parse().map(Some),
        }
    }
}

impl From<String> for AdminListen {
    /// As in a file: nothing turns it off.
    fn from(address: String) -> Self {
        if address.is_empty() { AdminListen::Off } else { AdminListen::At(address) }
    }
}

/// As it would stand in a file.
impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Off => Ok(()),
            AdminListen::Usual => write!(f, "{ADMIN_ADDRESS_USUAL}"),
            AdminListen::At(address) => f.write_str(address),
        }
    }
}

impl<'de> Deserialize<'de> for AdminListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for AdminListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
