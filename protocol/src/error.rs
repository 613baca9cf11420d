//! What can go wrong, sorted by whose fault it is: the peer's bytes, the peer, our caller.

use crate::connection::ConnectionState;
use crate::control_line::Expected;

/// The peer's bytes break the protocol. The stream cannot be followed any further: end it.
/// The decoder's state is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No operation begins like this.
    #[error("byte {byte:#04x} at offset {offset} of a line begins no operation")]
    UnknownOperation {
        /// Offset in the line of the first byte that fits no operation's name.
        offset: usize,
        /// That byte.
        byte: u8,
    },
    /// The operation is known, but the line does not follow its grammar.
    #[error("expected {expected} at offset {offset} of a line")]
    MalformedLine {
        /// Offset in the line.
        offset: usize,
        /// What the grammar wants there.
        expected: Expected,
    },
    /// No end of line within the limit.
    #[error("line longer than {max} bytes")]
    LineTooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// A message's headers are said to be larger than all of it.
    #[error("{header_bytes} bytes of headers in a message of {total_bytes} bytes")]
    HeadersLargerThanMessage {
        /// Announced size of the headers.
        header_bytes: usize,
        /// Announced size of headers and payload.
        total_bytes: usize,
    },
    /// A message is announced that is larger than the limit. None of it was awaited.
    #[error("message of {total_bytes} bytes announced, limit {max}")]
    PayloadTooLarge {
        /// Announced size of headers and payload.
        total_bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A message's payload is not followed by CR LF: its size was wrong.
    #[error("payload of {total_bytes} bytes is not followed by CR LF")]
    PayloadNotTerminated {
        /// Announced size of headers and payload.
        total_bytes: usize,
    },
}

/// The body of an INFO cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InfoError {
    /// Not a JSON object.
    #[error("INFO is not a JSON object")]
    NotAnObject,
    /// Broken JSON, or a field of the wrong type.
    #[error("INFO is broken at line {line} column {column}: {reason}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the JSON parser says.
        reason: String,
    },
}

/// Why a connection ended. All of them are final: make a new [`Connection`](crate::Connection).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer's bytes break the protocol.
    #[error("protocol error: {0}")]
    Decode(#[from] DecodeError),
    /// The first INFO cannot be used, so there is nothing to connect to.
    #[error("the first INFO cannot be used: {0}")]
    FirstInfo(InfoError),
    /// The server answered no PING and sent nothing else.
    #[error("stale connection: {pings_out} PINGs without an answer")]
    StaleConnection {
        /// PINGs without a PONG, those of callers included.
        pings_out: u32,
    },
    /// The handshake did not end in time.
    #[error("handshake timed out in state {state:?}")]
    HandshakeTimeout {
        /// What was awaited.
        state: ConnectionState,
    },
    /// The connection had ended before this call.
    #[error("the connection has ended")]
    Closed,
}

/// A subject, pattern, reply or queue group that would not be sent as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// Nothing in it.
    #[error("empty subject")]
    Empty,
    /// Longer than [`SUBJECT_BYTES_MAX`](crate::limits::SUBJECT_BYTES_MAX).
    #[error("subject of {had} bytes, limit {max}")]
    TooLong {
        /// Its length in bytes.
        had: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A blank, tab, CR, LF or NUL.
    #[error("byte {byte:#04x} at offset {offset} may not stand in a subject")]
    ForbiddenByte {
        /// Where it stands.
        offset: usize,
        /// The byte.
        byte: u8,
    },
    /// A dot at the front, at the end, or beside another one.
    #[error("empty token at offset {offset} of a subject")]
    EmptyToken {
        /// Where the token would stand.
        offset: usize,
    },
    /// `*` or `>` in a subject to publish to, or where they may not stand in a pattern: `*` must
    /// be a whole token, `>` a whole last one.
    #[error("wildcard at offset {offset} may not stand there")]
    Wildcard {
        /// Where it stands.
        offset: usize,
    },
}

/// Headers that cannot be sent, or that a peer sent and nobody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The block does not begin with `NATS/1.0`.
    #[error("headers do not begin with NATS/1.0")]
    Version,
    /// Something other than a status of three digits follows the version.
    #[error("malformed status after NATS/1.0")]
    Status,
    /// A name is empty or has a byte that is not visible ASCII, or a colon.
    #[error("malformed header name at offset {offset}")]
    Name {
        /// Offset in the block, or in the name that was passed.
        offset: usize,
    },
    /// A value has CR, LF or NUL in it.
    #[error("malformed header value at offset {offset}")]
    Value {
        /// Offset in the block, or in the value that was passed.
        offset: usize,
    },
    /// A value or status is not UTF-8.
    #[error("header not UTF-8 at offset {offset}")]
    NotUtf8 {
        /// Offset in the block.
        offset: usize,
    },
    /// The block does not end with an empty line, or goes on after it.
    #[error("headers of {had} bytes do not end where their empty line stands")]
    End {
        /// Length of the block in bytes.
        had: usize,
    },
    /// More than [`HEADER_COUNT_MAX`](crate::limits::HEADER_COUNT_MAX) headers.
    #[error("more than {max} headers")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// No place for another subscription. The table is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {max} subscriptions are taken")]
pub struct SubscriptionsFull {
    /// How many there may be.
    pub max: usize,
}

/// No place for another request in flight. The table is as it was; normal under overload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{max} requests are in flight")]
pub struct RequestsFull {
    /// How many there may be.
    pub max: usize,
}
