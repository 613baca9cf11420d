//! A walk over client operations: which of them lie whole in a piece of the outgoing stream.
//!
//! Strict and written apart from the encoder, so that one can be tested against the other: names in
//! upper case, single blanks, CR LF, numbers without leading zeros.

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOperationKind {
    /// `CONNECT`
    Connect,
    /// `PUB` or `HPUB`
    Publish,
    /// `SUB`
    Subscribe,
    /// `UNSUB`
    Unsubscribe,
    /// `PING`
    Ping,
    /// `PONG`
    Pong,
}

/// An operation at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOperation {
    /// Which operation.
    pub kind: ClientOperationKind,
    /// Length of its line with CR LF.
    pub line_bytes: usize,
    /// Length of headers, payload and CR LF after the line; 0 for all but publishes.
    pub body_bytes: usize,
}

/// The operation at the front of `bytes`; its body may lie beyond them. `None`: no whole line, or
/// nothing that a client sends.
pub fn next_client_operation(bytes: &[u8]) -> Option<ClientOperation> {
    let line_bytes = memchr::memchr(b'\n', bytes)? + 1;
    let line = bytes[..line_bytes].strip_suffix(b"\r\n")?;
    let name_bytes = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (name, arguments) = line.split_at(name_bytes);
    let (kind, body_bytes) = match name {
        b"PUB" => (ClientOperationKind::Publish, publish(arguments)?),
        b"HPUB" => (ClientOperationKind::Publish, publish_with_headers(arguments)?),
        b"SUB" => (ClientOperationKind::Subscribe, subscribe(arguments)?),
        b"UNSUB" => (ClientOperationKind::Unsubscribe, unsubscribe(arguments)?),
        b"PING" if arguments.is_empty() => (ClientOperationKind::Ping, 0),
        b"PONG" if arguments.is_empty() => (ClientOperationKind::Pong, 0),
        b"CONNECT" => (ClientOperationKind::Connect, connect(arguments)?),
        _ => return None,
    };
    Some(ClientOperation { kind, line_bytes, body_bytes })
}

fn publish(arguments: &[u8]) -> Option<usize> {
    let size = match Arguments::of(arguments)?.as_slice() {
        [_subject, size] | [_subject, _, size] => number(size)?,
        _ => return None,
    };
    usize::try_from(size).ok()?.checked_add(2)
}

fn publish_with_headers(arguments: &[u8]) -> Option<usize> {
    let (header, total) = match Arguments::of(arguments)?.as_slice() {
        [_subject, header, total] | [_subject, _, header, total] => (number(header)?, number(total)?),
        _ => return None,
    };
    if header > total {
        return None;
    }
    usize::try_from(total).ok()?.checked_add(2)
}

fn subscribe(arguments: &[u8]) -> Option<usize> {
    match Arguments::of(arguments)?.as_slice() {
        [_subject, sid] | [_subject, _, sid] => number(sid).map(|_| 0),
        _ => None,
    }
}

fn unsubscribe(arguments: &[u8]) -> Option<usize> {
    match Arguments::of(arguments)?.as_slice() {
        [sid] => number(sid).map(|_| 0),
        [sid, max] => number(sid).and(number(max)).map(|_| 0),
        _ => None,
    }
}

fn connect(arguments: &[u8]) -> Option<usize> {
    let json = arguments.strip_prefix(b" ")?;
    (json.starts_with(b"{") && json.ends_with(b"}")).then_some(0)
}

/// Arguments of a line, each after one blank; none has one of its own.
struct Arguments<'b> {
    tokens: [&'b [u8]; ARGUMENTS_MAX],
    count: usize,
}

const ARGUMENTS_MAX: usize = 4;

impl<'b> Arguments<'b> {
    fn of(line: &'b [u8]) -> Option<Self> {
        let mut arguments = Self { tokens: [b""; ARGUMENTS_MAX], count: 0 };
        for token in line.strip_prefix(b" ")?.split(|&byte| byte == b' ') {
            let odd = token.iter().any(|byte| matches!(byte, b'\t' | b'\r' | 0));
            if token.is_empty() || odd {
                return None;
            }
            *arguments.tokens.get_mut(arguments.count)? = token;
            arguments.count += 1;
        }
        Some(arguments)
    }

    fn as_slice(&self) -> &[&'b [u8]] {
        &self.tokens[..self.count]
    }
}

fn number(token: &[u8]) -> Option<u64> {
    let leading_zero = token.len() > 1 && token[0] == b'0';
    if leading_zero || !token.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(token).ok()?.parse().ok()
}
