//! One entry of a cluster's `servers`: where the server is, and what its URL says beside.

use std::{fmt, str::FromStr};

use super::{InvalidServerAddress, ServerAddress, error::redacted_value};
use crate::credentials::Credentials;

/// The URL of a server: `nats://host:port` or `tls://host:port`, in code also with credentials before an
/// `@`, percent-encoded as in any URL: `nats://user:password@host`, `nats://token@host`.
///
/// A file names its secrets by path, so that a configuration read from TOML refuses credentials here.
/// `Display` and `Debug` replace them.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Host and port.
    pub address: ServerAddress,
    /// Whether the scheme is `tls`. One such server makes its whole cluster require TLS.
    pub requires_tls: bool,
    /// What stands before the `@`.
    pub credentials: Option<Credentials>,
}

/// The scheme of a server that requires TLS.
const TLS_SCHEME: &str = "tls";

impl FromStr for ServerUrl {
    type Err = InvalidServerAddress;

    fn from_str(text: &str) -> Result<Self, InvalidServerAddress> {
        let trimmed = text.trim();
        let (scheme, rest) = match trimmed.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, trimmed),
        };
        let (user_info, plain) = match rest.rsplit_once('@') {
            Some((user_info, plain)) => (Some(user_info), plain),
            None => (None, rest),
        };
        let requires_tls = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(TLS_SCHEME));
        let address = match scheme {
            // An `@` before the `://` makes this no scheme, and perhaps half a password.
            Some(scheme) if scheme.contains('@') => return Err(malformed(trimmed)),
            Some(_) if requires_tls => format!("nats://{plain}"),
            Some(scheme) => format!("{scheme}://{plain}"),
            None => plain.to_owned(),
        };
        let address = address.parse().map_err(|error: InvalidServerAddress| match user_info {
            // Where the host begins is in doubt then, and the message may show what it takes for one.
            Some(_) => malformed(trimmed),
            None => error,
        })?;
        let credentials =
            user_info.map(|text| read_user_info(text).ok_or_else(|| malformed(trimmed))).transpose()?;
        Ok(Self { address, requires_tls, credentials })
    }
}

fn malformed(text: &str) -> InvalidServerAddress {
    InvalidServerAddress::Credentials { redacted: redacted_value(text) }
}

/// `user:password` or `token`.
fn read_user_info(text: &str) -> Option<Credentials> {
    // A URL has none of these there; who writes them means one character of a password.
    if text.contains(['/', '?', '#', '@', '[', ']']) {
        return None;
    }
    match text.split_once(':') {
        Some((user, password)) => {
            let user = percent_decoded(user).filter(|user| !user.is_empty())?;
            Some(Credentials::user_password(user, percent_decoded(password)?))
        }
        None => Some(Credentials::token(percent_decoded(text).filter(|token| !token.is_empty())?)),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            decoded.push((digit()? << 4 | digit()?) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.requires_tls { TLS_SCHEME } else { "nats" };
        let user_info = if self.credentials.is_some() { "***@" } else { "" };
        write!(f, "{scheme}://{user_info}{}", self.address)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> ServerAddress {
        ServerAddress { host: host.to_owned(), port }
    }

    #[test]
    fn scheme_and_credentials_are_read() {
        let password = |user: &str, password: &str| Some(Credentials::user_password(user, password));
        let token = |token: &str| Some(Credentials::token(token));
        for (text, at, requires_tls, credentials) in [
            ("nats://a:1", address("a", 1), false, None),
            (" a ", address("a", 4222), false, None),
            ("TLS://a", address("a", 4222), true, None),
            ("tls://[::1]:7", address("::1", 7), true, None),
            ("nats://u:p@a:1", address("a", 1), false, password("u", "p")),
            ("u:p:q@a", address("a", 4222), false, password("u", "p:q")),
            ("tls://u:@a", address("a", 4222), true, password("u", "")),
            ("nats://t@a", address("a", 4222), false, token("t")),
            ("nats://%40%2f%C3%A9:%25@[::1]:2", address("::1", 2), false, password("@/é", "%")),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url, ServerUrl { address: at, requires_tls, credentials }, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_no_secret_is_shown() {
        for text in [
            "nats://app:s3cret/x@host",
            "nats://app:s3cret@more-s3cret@host",
            "app:s3cret@host://x",
            "ws://app:s3cret@host",
            "nats://app:s3cret@ho st",
            "nats://app:s3cret@host:0",
            "nats://app:s3cret%2@host",
            "nats://app:s3cret%ff@host",
            "nats://:s3cret@host",
            "nats://@host",
            "tls://app:s3cret@host/path",
            "tls://app:s3cret@nats://host",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(matches!(error, InvalidServerAddress::Credentials { .. }), "{text}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        let refused = "ws://a".parse::<ServerUrl>();
        assert_eq!(refused, Err(InvalidServerAddress::Scheme { scheme: "ws".to_owned() }));
        assert_eq!("tls://".parse::<ServerUrl>(), Err(InvalidServerAddress::Empty));
        assert!("tls://nats://a".parse::<ServerUrl>().is_err());
    }

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        for (text, shown) in [
            ("nats://u:s3cret@a", "nats://***@a:4222"),
            ("tls://s3cret@[::1]", "tls://***@[::1]:4222"),
            ("a:1", "nats://a:1"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("ServerUrl({shown})"));
        }
    }
}
