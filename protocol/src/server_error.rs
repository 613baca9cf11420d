//! What a server complains about with `-ERR`.

use bytes::Bytes;

use crate::limits::SERVER_ERROR_TEXT_BYTES_MAX;

/// An error that a server sent. Its text is compared in lower case, without quotes, by prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It could not read what we sent.
    #[error("unknown protocol operation")]
    UnknownProtocolOperation,
    /// A line of ours was too long for it.
    #[error("maximum control line exceeded")]
    MaximumControlLine,
    /// A payload of ours was too large for it.
    #[error("maximum payload violation")]
    MaximumPayload,
    /// It does not know our credentials.
    #[error("authorization violation")]
    AuthorizationViolation,
    /// Our CONNECT came too late.
    #[error("authentication timeout")]
    AuthenticationTimeout,
    /// Our credentials are no longer valid.
    #[error("authentication expired")]
    AuthenticationExpired,
    /// Our credentials were taken back.
    #[error("authentication revoked")]
    AuthenticationRevoked,
    /// It, or our account, has too many connections.
    #[error("maximum connections exceeded")]
    MaximumConnections,
    /// It takes no more connections at the moment.
    #[error("connection throttling is active")]
    ConnectionThrottling,
    /// It does not know our version of the protocol.
    #[error("invalid client protocol")]
    InvalidClientProtocol,
    /// Our CONNECT asked for `no_responders` without `headers`.
    #[error("no responders requires headers")]
    NoRespondersRequiresHeaders,
    /// It wants TLS.
    #[error("secure connection required")]
    SecureConnectionRequired,
    /// We left its PINGs unanswered.
    #[error("stale connection")]
    StaleConnection,
    /// It could not assign us to our account.
    #[error("failed account registration")]
    FailedAccountRegistration,
    /// The port is one for other servers, not for clients.
    #[error("attempted to connect to a port that is not for clients")]
    WrongPort,
    /// We may not publish or subscribe there. The connection goes on.
    #[error("permissions violation for {action} to {:?}", String::from_utf8_lossy(.subject))]
    PermissionsViolation {
        /// What we may not do.
        action: PermissionAction,
        /// The subject, pattern or reply.
        subject: Bytes,
        /// The queue group of the subscription.
        queue: Option<Bytes>,
    },
    /// A subject of ours is malformed. The connection goes on.
    #[error("invalid subject")]
    InvalidSubject,
    /// We have too many subscriptions. The connection goes on.
    #[error("maximum subscriptions exceeded")]
    MaximumSubscriptions,
    /// Anything else: its text, as far as [`SERVER_ERROR_TEXT_BYTES_MAX`] goes. The server ends the
    /// stream if it was fatal.
    #[error("{0:?}")]
    Unknown(String),
}

/// What a client may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionAction {
    /// Publish to the subject, or with the subject as the reply.
    Publish,
    /// Subscribe to the subject.
    Subscribe,
}

impl std::fmt::Display for PermissionAction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscription",
        })
    }
}

impl ServerError {
    /// Reads the text of a `-ERR`, with or without the quotes around it.
    pub fn parse(text: &[u8]) -> Self {
        let text = text.trim_ascii();
        let text = match text {
            [b'\'', within @ .., b'\''] => within,
            text => text,
        };
        if let Some(error) = permissions_violation(text) {
            return error;
        }
        PREFIXES
            .iter()
            .find(|(prefix, _)| starts_with(text, prefix))
            .map_or_else(|| Self::Unknown(bounded(text)), |(_, error)| error.clone())
    }

    /// Whether the server closes the connection with it.
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::PermissionsViolation { .. }
                | Self::InvalidSubject
                | Self::MaximumSubscriptions
                | Self::Unknown(_)
        )
    }

    /// Whether it is about our credentials: after the same one twice, trying again is in vain.
    pub fn is_authentication(&self) -> bool {
        matches!(
            self,
            Self::AuthorizationViolation
                | Self::AuthenticationTimeout
                | Self::AuthenticationExpired
                | Self::AuthenticationRevoked
        )
    }
}

/// Texts as nats-server 2.9 to 2.15 writes them, in lower case.
const PREFIXES: [(&str, ServerError); 30] = [
    ("unknown protocol operation", ServerError::UnknownProtocolOperation),
    ("maximum control line", ServerError::MaximumControlLine),
    ("maximum payload", ServerError::MaximumPayload),
    ("authorization violation", ServerError::AuthorizationViolation),
    ("authentication timeout", ServerError::AuthenticationTimeout),
    ("authorization timeout", ServerError::AuthenticationTimeout),
    ("authentication expired", ServerError::AuthenticationExpired),
    ("user authentication expired", ServerError::AuthenticationExpired),
    ("account authentication expired", ServerError::AuthenticationExpired),
    ("authentication revoked", ServerError::AuthenticationRevoked),
    ("user authentication revoked", ServerError::AuthenticationRevoked),
    ("account authentication revoked", ServerError::AuthenticationRevoked),
    ("credentials have been revoked", ServerError::AuthenticationRevoked),
    ("maximum connections", ServerError::MaximumConnections),
    ("maximum account active connections", ServerError::MaximumConnections),
    ("connection throttling", ServerError::ConnectionThrottling),
    ("invalid client protocol", ServerError::InvalidClientProtocol),
    ("no responders requires headers", ServerError::NoRespondersRequiresHeaders),
    ("secure connection", ServerError::SecureConnectionRequired),
    ("stale connection", ServerError::StaleConnection),
    ("failed account registration", ServerError::FailedAccountRegistration),
    ("wrong port", ServerError::WrongPort),
    ("attempted to connect to route port", ServerError::WrongPort),
    ("attempted to connect to gateway port", ServerError::WrongPort),
    ("attempted to connect to leaf node port", ServerError::WrongPort),
    ("attempted to connect to leafnode port", ServerError::WrongPort),
    ("invalid subject", ServerError::InvalidSubject),
    ("invalid publish subject", ServerError::InvalidSubject),
    ("maximum subscriptions", ServerError::MaximumSubscriptions),
    ("subject has exceeded number of tokens", ServerError::InvalidSubject),
];

fn starts_with(text: &[u8], prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn bounded(text: &[u8]) -> String {
    let mut bounded =
        String::from_utf8_lossy(&text[..text.len().min(SERVER_ERROR_TEXT_BYTES_MAX)]).into_owned();
    // A replacement character is longer than the byte that it stands for.
    bounded.truncate(bounded.floor_char_boundary(SERVER_ERROR_TEXT_BYTES_MAX));
    bounded
}

/// `Permissions Violation for Publish to "subject"` and its relatives; the quoted parts are as Go
/// quotes them.
fn permissions_violation(text: &[u8]) -> Option<ServerError> {
    const ACTIONS: [(&str, PermissionAction); 3] = [
        ("permissions violation for publish to ", PermissionAction::Publish),
        ("permissions violation for publish with reply of ", PermissionAction::Publish),
        ("permissions violation for subscription to ", PermissionAction::Subscribe),
    ];
    const QUEUE: &str = " using queue ";
    let (prefix, action) = *ACTIONS.iter().find(|(prefix, _)| starts_with(text, prefix))?;
    let (subject, rest) = unquote(&text[prefix.len()..])?;
    let queue =
        if starts_with(rest, QUEUE) { unquote(&rest[QUEUE.len()..]).map(|(queue, _)| queue) } else { None };
    Some(ServerError::PermissionsViolation { action, subject: subject.into(), queue: queue.map(Bytes::from) })
}

/// What stands in double quotes at the front, with Go's escapes undone, and what follows it.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut unquoted = Vec::new();
    loop {
        match rest {
            [b'"', after @ ..] => return Some((unquoted, after)),
            [b'\\', kind @ (b'x' | b'u' | b'U'), after @ ..] => {
                let digits = match kind {
                    b'x' => 2,
                    b'u' => 4,
                    _ => 8,
                };
                let (hex, after) = after.split_at_checked(digits)?;
                let number = u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
                if *kind == b'x' {
                    unquoted.push(number as u8);
                } else {
                    let character = char::from_u32(number)?;
                    unquoted.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                unquoted.push(match escaped {
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 0x0b,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                unquoted.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}
