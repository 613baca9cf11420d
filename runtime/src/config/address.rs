//! The address of one gnatsd server, as users and servers write it.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use super::error::redacted_value;

/// Host and port of a server, not resolved.
///
/// Read from `nats://host:port`, `host:port` or `host` (port [`ServerAddress::DEFAULT_PORT`]), an
/// IPv6 address in brackets. Displayed as `host:port`, which reads back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddress {
    /// A DNS name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// The TCP port, not 0.
    pub port: u16,
}

impl ServerAddress {
    /// The port of an address that names none.
    pub const DEFAULT_PORT: u16 = 4222;
}

/// The longest host name that is read: DNS allows 253 characters, a zone needs a few more.
const HOST_BYTES_MAX: usize = 280;

/// Why a text is no server address. No variant holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidServerAddress {
    /// Nothing there.
    #[error("the server address is empty: write nats://host:port")]
    Empty,
    /// A scheme that means nothing here.
    #[error("`{scheme}://` is not supported: write nats://host:port or tls://host:port")]
    Scheme {
        /// The scheme, without `://`.
        scheme: String,
    },
    /// User, password or token before an `@`, malformed, or where none may stand.
    #[error(
        "`{redacted}`: credentials before `@` are malformed, or stand where none may: write nats://user:password@host:port or nats://token@host:port, special characters as %40"
    )]
    Credentials {
        /// The address with everything secret replaced.
        redacted: String,
    },
    /// A path, query or fragment after the host.
    #[error("`{text}` goes on after host and port: write nats://host:port, one address an entry")]
    Trailing {
        /// What was given.
        text: String,
    },
    /// An IPv6 address without brackets.
    #[error("`{text}` looks like an IPv6 address: put it into brackets, as in nats://[::1]:4222")]
    Brackets {
        /// What was given.
        text: String,
    },
    /// A host with characters that no host name has.
    #[error("`{text}` is no host name or address")]
    Host {
        /// What was given as host.
        text: String,
    },
    /// A port that is no number from 1 to 65535.
    #[error("`{text}` is no port: write a number from 1 to 65535")]
    Port {
        /// What was given as port.
        text: String,
    },
}

impl ServerAddress {
    /// Whether both lead to the same server, as far as their text tells: names of hosts come in any case.
    pub(crate) fn is_same_place(&self, other: &ServerAddress) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl FromStr for ServerAddress {
    type Err = InvalidServerAddress;

    fn from_str(text: &str) -> Result<Self, InvalidServerAddress> {
        let trimmed = text.trim();
        // Before anything else, so that no other message repeats a password.
        if trimmed.contains('@') {
            return Err(InvalidServerAddress::Credentials { redacted: redacted_value(trimmed) });
        }
        let rest = match trimmed.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("nats") => rest,
            Some((scheme, _)) => return Err(InvalidServerAddress::Scheme { scheme: scheme.to_owned() }),
            None => trimmed,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Err(InvalidServerAddress::Empty);
        }
        if rest.contains(['/', '?', '#', ',', ';']) {
            return Err(InvalidServerAddress::Trailing { text: trimmed.to_owned() });
        }
        if let Some(bracketed) = rest.strip_prefix('[') {
            let Some((host, after)) = bracketed.split_once(']') else {
                return Err(InvalidServerAddress::Host { text: rest.to_owned() });
            };
            check_ipv6(host)?;
            let port = match after.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if after.is_empty() => Self::DEFAULT_PORT,
                None => return Err(InvalidServerAddress::Trailing { text: trimmed.to_owned() }),
            };
            return Ok(Self { host: host.to_owned(), port });
        }
        let (host, port) = match rest.split_once(':') {
            Some((_, after)) if after.contains(':') => {
                return Err(InvalidServerAddress::Brackets { text: rest.to_owned() });
            }
            Some((host, port)) => (host, parse_port(port)?),
            None => (rest, Self::DEFAULT_PORT),
        };
        check_name(host)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidServerAddress> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(InvalidServerAddress::Port { text: text.to_owned() }),
    }
}

/// Names are checked loosely: the resolver has the last word, but nothing odd may reach a log line.
fn check_name(host: &str) -> Result<(), InvalidServerAddress> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(plain) {
        return Err(InvalidServerAddress::Host { text: host.to_owned() });
    }
    Ok(())
}

fn check_ipv6(host: &str) -> Result<(), InvalidServerAddress> {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let is_address = address.parse::<Ipv6Addr>().is_ok();
    if !is_address || zone.is_some_and(|zone| check_name(zone).is_err()) {
        return Err(InvalidServerAddress::Host { text: host.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_displayed_as_host_and_port() {
        for (text, host, port, shown) in [
            ("nats://127.0.0.1:4223", "127.0.0.1", 4223, "127.0.0.1:4223"),
            ("NATS://a.example:1/", "a.example", 1, "a.example:1"),
            ("nats://a", "a", 4222, "a:4222"),
            ("a_b-c.d:65535", "a_b-c.d", 65_535, "a_b-c.d:65535"),
            ("localhost", "localhost", 4222, "localhost:4222"),
            (" localhost ", "localhost", 4222, "localhost:4222"),
            ("[::1]", "::1", 4222, "[::1]:4222"),
            ("nats://[fe80::1%eth0]:4223", "fe80::1%eth0", 4223, "[fe80::1%eth0]:4223"),
        ] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address, ServerAddress { host: host.to_owned(), port }, "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        use InvalidServerAddress as E;
        let text = |text: &str| text.to_owned();
        for (given, expected) in [
            ("", E::Empty),
            ("nats://", E::Empty),
            ("tls://a:4222", E::Scheme { scheme: text("tls") }),
            ("ws://a", E::Scheme { scheme: text("ws") }),
            ("nats://a:4222/path", E::Trailing { text: text("nats://a:4222/path") }),
            ("nats://a,nats://b", E::Trailing { text: text("nats://a,nats://b") }),
            ("[::1]4222", E::Trailing { text: text("[::1]4222") }),
            ("::1", E::Brackets { text: text("::1") }),
            ("nats://::1:4222", E::Brackets { text: text("::1:4222") }),
            ("[::1", E::Host { text: text("[::1") }),
            ("[1.2.3.4]", E::Host { text: text("1.2.3.4") }),
            ("[::1%]", E::Host { text: text("::1%") }),
            ("a b", E::Host { text: text("a b") }),
            ("a\r\nb", E::Host { text: text("a\r\nb") }),
            (":4222", E::Host { text: text("") }),
            ("a:", E::Port { text: text("") }),
            ("a:0", E::Port { text: text("0") }),
            ("a:+1", E::Port { text: text("+1") }),
            ("a:65536", E::Port { text: text("65536") }),
        ] {
            assert_eq!(given.parse::<ServerAddress>(), Err(expected), "{given}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for given in [
            "nats://app:s3cret@host:4222",
            "app:s3cret@host",
            "nats://s3cret@host",
            "nats://app:s3cret@more-s3cret@host",
            "tls://app:s3cret@host",
            "nats://app:s3cret/x@host",
        ] {
            let error = given.parse::<ServerAddress>().unwrap_err();
            assert!(matches!(error, InvalidServerAddress::Credentials { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }
}
