//! What a client says of itself in its CONNECT.

use std::fmt;

use serde::Serialize;

/// The body of a CONNECT. Its `Debug` shows no credential, only whether there is one.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ConnectOptions {
    /// Whether the server answers each operation with `+OK`. Default false, and always sent: a
    /// CONNECT without it means true.
    pub verbose: bool,
    /// Whether the server checks subjects more strictly. Default false: they are checked here.
    pub pedantic: bool,
    /// Whether the client wants TLS. Default false.
    pub tls_required: bool,
    /// Name that the server shows for this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Language of the client.
    pub lang: String,
    /// Version of the client.
    pub version: String,
    /// 1: the server may send INFO at any time. Default 1.
    pub protocol: u8,
    /// Whether the server sends a client's messages back to its own subscriptions. Default true.
    pub echo: bool,
    /// Whether the client understands headers. Default true.
    pub headers: bool,
    /// Whether the server answers a request that nobody listens for. Default true; needs `headers`.
    pub no_responders: bool,
    /// User name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<String>,
    /// Token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<String>,
    /// User JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<String>,
    /// Public NKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    /// Signature of the server's nonce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

impl ConnectOptions {
    /// Takes every credential out.
    pub fn forget_credentials(&mut self) {
        let Self { user, pass, auth_token, jwt, nkey, sig, .. } = self;
        for credential in [user, pass, auth_token, jwt, nkey, sig] {
            *credential = None;
        }
    }

    /// Appends the JSON object, on one line.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let written = serde_json::to_writer(out, self);
        // Only a failing writer or a map with odd keys could fail; here are a Vec and plain fields.
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            verbose: false,
            pedantic: false,
            tls_required: false,
            name: None,
            lang: "rust-croupier".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: 1,
            echo: true,
            headers: true,
            no_responders: true,
            user: None,
            pass: None,
            auth_token: None,
            jwt: None,
            nkey: None,
            sig: None,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = [
            ("user", &self.user),
            ("pass", &self.pass),
            ("auth_token", &self.auth_token),
            ("jwt", &self.jwt),
            ("nkey", &self.nkey),
            ("sig", &self.sig),
        ];
        let given: Vec<_> =
            credentials.iter().filter(|(_, secret)| secret.is_some()).map(|(name, _)| name).collect();
        formatter
            .debug_struct("ConnectOptions")
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("tls_required", &self.tls_required)
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .field("protocol", &self.protocol)
            .field("echo", &self.echo)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .field("credentials_given", &given)
            .finish()
    }
}
