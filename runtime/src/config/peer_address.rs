//! The address of another node of the registry, as a user writes it.

use std::{fmt, str::FromStr};

use super::{
    address::{InvalidServerAddress, ServerAddress},
    error::redacted_value,
};

/// Host and port of another node, not resolved.
///
/// Read from `host:port`, an IPv6 address in brackets; there is no usual port. Displayed in the same form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// A DNS name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// The TCP port, not 0.
    pub port: u16,
}

/// Why a text is no address of a node. No variant holds what stands before an `@`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPeerAddress {
    /// Nothing there.
    #[error("the address is empty: write host:port")]
    Empty,
    /// A scheme, which only servers of the clusters have.
    #[error("`{text}` is not host:port: leave out what ends in `://`")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// No port.
    #[error("`{text}` has no port: write host:port")]
    NoPort {
        /// What was given.
        text: String,
    },
    /// Not a host, or not a port.
    #[error("`{text}` is not host:port with a port from 1 to 65535, an IPv6 address in brackets")]
    Form {
        /// What was given.
        text: String,
    },
}

impl FromStr for PeerAddress {
    type Err = InvalidPeerAddress;

    fn from_str(text: &str) -> Result<Self, InvalidPeerAddress> {
        let trimmed = text.trim();
        let shown = || redacted_value(trimmed);
        if trimmed.contains("://") {
            return Err(InvalidPeerAddress::Scheme { text: shown() });
        }
        let form = |_| InvalidPeerAddress::Form { text: shown() };
        // A host alone reads with the port of a NATS server, which no node has by default.
        let after_host = trimmed.rfind(']').map_or(0, |at| at + 1);
        match trimmed.parse() {
            Err(InvalidServerAddress::Empty) => Err(InvalidPeerAddress::Empty),
            Ok(ServerAddress { .. }) if !trimmed[after_host..].contains(':') => {
                Err(InvalidPeerAddress::NoPort { text: shown() })
            }
            Ok(ServerAddress { .. }) if trimmed.ends_with('/') => {
                Err(InvalidPeerAddress::Form { text: shown() })
            }
            parsed => parsed.map(|ServerAddress { host, port }| Self { host, port }).map_err(form),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_read_and_displayed() {
        for (text, host, port, shown) in [
            ("127.0.0.1:7946", "127.0.0.1", 7946, "127.0.0.1:7946"),
            (" n2.example:1 ", "n2.example", 1, "n2.example:1"),
            ("[::1]:65535", "::1", 65_535, "[::1]:65535"),
            ("[fe80::1%eth0]:7946", "fe80::1%eth0", 7946, "[fe80::1%eth0]:7946"),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address, PeerAddress { host: host.to_owned(), port }, "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        use InvalidPeerAddress as E;
        let text = |text: &str| text.to_owned();
        for (given, expected) in [
            ("", E::Empty),
            ("  ", E::Empty),
            ("n2", E::NoPort { text: text("n2") }),
            ("127.0.0.1", E::NoPort { text: text("127.0.0.1") }),
            ("[::1]", E::NoPort { text: text("[::1]") }),
            ("nats://n2:7946", E::Scheme { text: text("nats://n2:7946") }),
            ("::1:7946", E::Form { text: text("::1:7946") }),
            ("n2:0", E::Form { text: text("n2:0") }),
            ("n2:65536", E::Form { text: text("n2:65536") }),
            ("n2:", E::Form { text: text("n2:") }),
            ("n2:7946/", E::Form { text: text("n2:7946/") }),
            (":7946", E::Form { text: text(":7946") }),
            ("n 2:7946", E::Form { text: text("n 2:7946") }),
            ("user:canary@n2:7946", E::Form { text: text("***@n2:7946") }),
        ] {
            assert_eq!(given.parse::<PeerAddress>(), Err(expected), "{given}");
        }
    }
}
