//! What a server says of itself.

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::InfoError;
use crate::limits::CONNECT_URLS_MAX;

/// The body of an INFO. Fields that a server leaves out, or sends as null, have their defaults;
/// fields that are unknown here are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Unique id of the server.
    #[serde(deserialize_with = "null_is_default")]
    pub server_id: String,
    /// Name of the server.
    #[serde(deserialize_with = "null_is_default")]
    pub server_name: String,
    /// Version of the server.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
    /// Version of Go that it was built with.
    #[serde(deserialize_with = "null_is_default")]
    pub go: String,
    /// Address that it listens on.
    #[serde(deserialize_with = "null_is_default")]
    pub host: String,
    /// Port that it listens on.
    #[serde(deserialize_with = "null_is_default")]
    pub port: u16,
    /// Whether it relays headers.
    #[serde(deserialize_with = "null_is_default")]
    pub headers: bool,
    /// Largest message that it takes, in bytes. Default 1 MiB, a server's own default.
    pub max_payload: usize,
    /// Version of the protocol; 1 means INFO at any time.
    #[serde(deserialize_with = "null_is_default")]
    pub proto: i64,
    /// Number of this connection.
    pub client_id: Option<u64>,
    /// Our address as the server sees it.
    pub client_ip: Option<String>,
    /// Whether it wants credentials.
    #[serde(deserialize_with = "null_is_default")]
    pub auth_required: bool,
    /// Whether it wants TLS.
    #[serde(deserialize_with = "null_is_default")]
    pub tls_required: bool,
    /// Whether it takes TLS.
    #[serde(deserialize_with = "null_is_default")]
    pub tls_available: bool,
    /// Whether it wants a certificate of the client.
    #[serde(deserialize_with = "null_is_default")]
    pub tls_verify: bool,
    /// What to sign for NKey authentication.
    pub nonce: Option<String>,
    /// Name of its cluster.
    pub cluster: Option<String>,
    /// JetStream domain.
    pub domain: Option<String>,
    /// Addresses of the cluster's servers, `host:port`; the first 256 of them.
    #[serde(deserialize_with = "first_urls")]
    pub connect_urls: Vec<String>,
    /// Lame duck mode: the server is about to go away.
    #[serde(rename = "ldm", deserialize_with = "null_is_default")]
    pub lame_duck_mode: bool,
    /// Whether JetStream is on.
    #[serde(deserialize_with = "null_is_default")]
    pub jetstream: bool,
    /// Whether this INFO answers our CONNECT: sent after the first PONG.
    #[serde(deserialize_with = "null_is_default")]
    pub connect_info: bool,
}

impl ServerInfo {
    /// Reads the JSON of an INFO.
    ///
    /// # Errors
    /// Not a JSON object, or a field of the wrong type.
    pub fn parse(json: &[u8]) -> Result<Self, InfoError> {
        // A derived reader would take the fields from an array, too.
        if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(InfoError::NotAnObject);
        }
        serde_json::from_slice(json).map_err(|error| InfoError::Json {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        })
    }
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            go: String::new(),
            host: String::new(),
            port: 0,
            headers: false,
            max_payload: MAX_PAYLOAD_DEFAULT,
            proto: 0,
            client_id: None,
            client_ip: None,
            auth_required: false,
            tls_required: false,
            tls_available: false,
            tls_verify: false,
            nonce: None,
            cluster: None,
            domain: None,
            connect_urls: Vec::new(),
            lame_duck_mode: false,
            jetstream: false,
            connect_info: false,
        }
    }
}

/// What a server takes that does not say what it takes.
const MAX_PAYLOAD_DEFAULT: usize = 1024 * 1024;

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(json: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}

/// The first [`CONNECT_URLS_MAX`] texts of a list; the rest is read and dropped one by one.
fn first_urls<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<String>, D::Error> {
    struct Urls;

    impl<'de> Visitor<'de> for Urls {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of addresses")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut urls = Vec::new();
            while urls.len() < CONNECT_URLS_MAX {
                match list.next_element()? {
                    Some(url) => urls.push(url),
                    None => return Ok(urls),
                }
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(urls)
        }
    }

    json.deserialize_any(Urls)
}
