//! Just enough of the NATS protocol to stand at the other end of a client, or behind a server.
//!
//! Written apart from `croupier-protocol` on purpose: what measures must not share its mistakes.

/// The longest control line that is read, for INFO and CONNECT the most.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// The largest payload that is read.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Room that the longest frame needs.
pub const FRAME_BYTES_MAX: usize = LINE_BYTES_MAX + PAYLOAD_BYTES_MAX + 4;

/// One operation, of a client or of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `PUB`
    Publish {
        /// Where to.
        subject: &'a [u8],
        /// Where an answer goes.
        reply: Option<&'a [u8]>,
        /// The payload without its CRLF.
        payload: &'a [u8],
    },
    /// `MSG`
    Deliver {
        /// Where to.
        subject: &'a [u8],
        /// The subscription it is for.
        sid: &'a [u8],
        /// Where an answer goes.
        reply: Option<&'a [u8]>,
        /// The payload without its CRLF.
        payload: &'a [u8],
    },
    /// `SUB`, with or without a queue group.
    Subscribe {
        /// What to, perhaps with wildcards.
        subject: &'a [u8],
        /// The subscription's name.
        sid: &'a [u8],
    },
    /// `UNSUB`
    Unsubscribe {
        /// Which.
        sid: &'a [u8],
        /// After how many messages; at once without.
        after: Option<u64>,
    },
    /// `PING`
    Ping,
    /// `PONG`
    Pong,
    /// `INFO`, `CONNECT` or `+OK`: nothing to do.
    Aside,
    /// `-ERR` and its text.
    Refused {
        /// The text with its quotes.
        text: &'a [u8],
    },
}

/// What cannot be read. The connection it came from is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// An operation that this peer does not play.
    #[error("cannot play the operation {line:?}")]
    UnknownOperation {
        /// The control line, cut to [`SHOWN_BYTES_MAX`].
        line: String,
    },
    /// A control line with too few or too many words, or with a word that is no number where one belongs.
    #[error("malformed control line {line:?}")]
    Malformed {
        /// The control line, cut to [`SHOWN_BYTES_MAX`].
        line: String,
    },
    /// A control line without an end.
    #[error("a control line of over {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A payload that this peer does not take.
    #[error("a payload of {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are taken")]
    PayloadTooLarge {
        /// As announced.
        bytes: usize,
    },
    /// A payload that goes on where its CRLF belongs.
    #[error("a payload of {bytes} bytes does not end there")]
    PayloadUnended {
        /// As announced.
        bytes: usize,
    },
    /// The other side said `-ERR`.
    #[error("the other side refuses: {text}")]
    Refused {
        /// Its text.
        text: String,
    },
    /// A message that cannot be carried out: an order that is none, or an answer that nobody waits for.
    #[error("cannot carry out a message to {subject:?}: {reason}")]
    Senseless {
        /// The message's subject.
        subject: String,
        /// What is the matter.
        reason: &'static str,
    },
    /// More subscriptions than this peer keeps.
    #[error("more than {max} subscriptions")]
    TooManySubscriptions {
        /// The limit.
        max: usize,
    },
}

/// How much of a line is shown in an error.
pub const SHOWN_BYTES_MAX: usize = 80;

/// More words than any control line has.
const WORDS_MAX: usize = 6;

/// The first operation in `bytes` and how many bytes it takes, or `None` if it is not there in full.
///
/// # Errors
/// If what is there can never become an operation.
pub fn first_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
        return if bytes.len() >= LINE_BYTES_MAX { Err(WireError::LineTooLong) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let after_line = end + 1;
    let operation = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    if let Some(frame) = without_arguments(operation, line) {
        return Ok(Some((frame, after_line)));
    }

    let malformed = || WireError::Malformed { line: shown(line) };
    let (words, count) = words(line).ok_or_else(malformed)?;
    let payload = |size: &[u8]| payload_at(bytes, after_line, number(size).ok_or_else(malformed)?);
    match (operation, words.get(1..count).unwrap_or_default()) {
        (b"PUB", &[subject, size]) => {
            let publish = |payload| Frame::Publish { subject, reply: None, payload };
            Ok(payload(size)?.map(|(payload, end)| (publish(payload), end)))
        }
        (b"PUB", &[subject, reply, size]) => {
            let publish = |payload| Frame::Publish { subject, reply: Some(reply), payload };
            Ok(payload(size)?.map(|(payload, end)| (publish(payload), end)))
        }
        (b"MSG", &[subject, sid, size]) => {
            let deliver = |payload| Frame::Deliver { subject, sid, reply: None, payload };
            Ok(payload(size)?.map(|(payload, end)| (deliver(payload), end)))
        }
        (b"MSG", &[subject, sid, reply, size]) => {
            let deliver = |payload| Frame::Deliver { subject, sid, reply: Some(reply), payload };
            Ok(payload(size)?.map(|(payload, end)| (deliver(payload), end)))
        }
        (b"SUB", &[subject, sid] | &[subject, _, sid]) => {
            Ok(Some((Frame::Subscribe { subject, sid }, after_line)))
        }
        (b"UNSUB", &[sid]) => Ok(Some((Frame::Unsubscribe { sid, after: None }, after_line))),
        (b"UNSUB", &[sid, after]) => {
            let after = number(after).ok_or_else(malformed)? as u64;
            Ok(Some((Frame::Unsubscribe { sid, after: Some(after) }, after_line)))
        }
        (b"PUB" | b"MSG" | b"SUB" | b"UNSUB", _) => Err(malformed()),
        _ => Err(WireError::UnknownOperation { line: shown(line) }),
    }
}

/// INFO and CONNECT carry JSON, whose blanks part no words.
fn without_arguments<'a>(operation: &[u8], line: &'a [u8]) -> Option<Frame<'a>> {
    match operation {
        b"PING" => Some(Frame::Ping),
        b"PONG" => Some(Frame::Pong),
        b"INFO" | b"CONNECT" | b"+OK" => Some(Frame::Aside),
        b"-ERR" => Some(Frame::Refused { text: line.get(5..).unwrap_or_default() }),
        _ => None,
    }
}

fn words(line: &[u8]) -> Option<([&[u8]; WORDS_MAX], usize)> {
    let mut words = [&line[..0]; WORDS_MAX];
    let mut count = 0;
    for word in line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
        *words.get_mut(count)? = word;
        count += 1;
    }
    Some((words, count))
}

fn number(word: &[u8]) -> Option<usize> {
    str::from_utf8(word).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// The payload that begins at `start`, and where the frame ends.
fn payload_at(bytes: &[u8], start: usize, size: usize) -> Result<Option<(&[u8], usize)>, WireError> {
    if size > PAYLOAD_BYTES_MAX {
        return Err(WireError::PayloadTooLarge { bytes: size });
    }
    let end = start + size;
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some((&bytes[start..end], end + 2))),
        Some(_) => Err(WireError::PayloadUnended { bytes: size }),
    }
}

pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned()
}

/// Whether a subscription to `pattern`, which may hold `*` and `>`, gets messages to `subject`.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut wanted = pattern.split(|&byte| byte == b'.');
    let mut tokens = subject.split(|&byte| byte == b'.');
    loop {
        match (wanted.next(), tokens.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Frame<'_>) {
        assert_eq!(first_frame(bytes), Ok(Some((expected, bytes.len()))), "{}", shown(bytes));
        for cut in 0..bytes.len() {
            assert_eq!(first_frame(&bytes[..cut]), Ok(None), "{} cut at {cut}", shown(bytes));
        }
        let mut followed = bytes.to_vec();
        followed.extend_from_slice(b"PING\r\n");
        assert_eq!(first_frame(&followed), Ok(Some((expected, bytes.len()))), "{} followed", shown(bytes));
    }

    #[test]
    fn every_operation_is_read_whole_or_not_at_all() {
        check(b"PUB a.b 5\r\nhello\r\n", Frame::Publish { subject: b"a.b", reply: None, payload: b"hello" });
        check(
            b"PUB a r 2\r\n\r\n\r\n",
            Frame::Publish { subject: b"a", reply: Some(b"r"), payload: b"\r\n" },
        );
        check(b"PUB a 0\r\n\r\n", Frame::Publish { subject: b"a", reply: None, payload: b"" });
        check(b"MSG a 7 1\r\nx\r\n", Frame::Deliver { subject: b"a", sid: b"7", reply: None, payload: b"x" });
        check(
            b"MSG a 7 r.1 1\r\nx\r\n",
            Frame::Deliver { subject: b"a", sid: b"7", reply: Some(b"r.1"), payload: b"x" },
        );
        check(b"SUB a.* 1\r\n", Frame::Subscribe { subject: b"a.*", sid: b"1" });
        check(b"SUB a group 1\r\n", Frame::Subscribe { subject: b"a", sid: b"1" });
        check(b"UNSUB 1\r\n", Frame::Unsubscribe { sid: b"1", after: None });
        check(b"UNSUB 1 5\r\n", Frame::Unsubscribe { sid: b"1", after: Some(5) });
        check(b"PING\r\n", Frame::Ping);
        check(b"PONG\r\n", Frame::Pong);
        check(b"+OK\r\n", Frame::Aside);
        check(b"INFO {\"a\": 1, \"b\": \"c d e f g h\"} \r\n", Frame::Aside);
        check(b"CONNECT {\"verbose\":false}\r\n", Frame::Aside);
        check(b"-ERR 'Stale Connection'\r\n", Frame::Refused { text: b"'Stale Connection'" });
        check(b"-ERR\r\n", Frame::Refused { text: b"" });
    }

    #[test]
    fn what_can_never_become_an_operation_is_an_error() {
        let malformed = |line: &str| Err(WireError::Malformed { line: line.into() });
        assert_eq!(first_frame(b"PUB a\r\n"), malformed("PUB a"));
        assert_eq!(first_frame(b"PUB a b c 1\r\nx\r\n"), malformed("PUB a b c 1"));
        assert_eq!(first_frame(b"PUB a -1\r\n"), malformed("PUB a -1"));
        assert_eq!(first_frame(b"PUB a +1\r\n"), malformed("PUB a +1"));
        assert_eq!(first_frame(b"MSG a b c d e f g\r\n"), malformed("MSG a b c d e f g"));
        assert_eq!(
            first_frame(b"HPUB a 1 2\r\n"),
            Err(WireError::UnknownOperation { line: "HPUB a 1 2".into() })
        );
        assert_eq!(first_frame(b"\r\n"), Err(WireError::UnknownOperation { line: String::new() }));
        assert_eq!(first_frame(b" \r\n"), Err(WireError::UnknownOperation { line: " ".into() }));
        assert_eq!(first_frame(b"PUB a 65537\r\n"), Err(WireError::PayloadTooLarge { bytes: 65_537 }));
        assert_eq!(first_frame(b"PUB a 1\r\nxyz"), Err(WireError::PayloadUnended { bytes: 1 }));
        assert_eq!(first_frame(&[b'A'; LINE_BYTES_MAX]), Err(WireError::LineTooLong));
    }

    #[test]
    fn wildcards_match_as_the_server_has_it() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a", "a.b", false),
            ("a.b", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("*.b", "a.b", true),
            (">", "a.b", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), subject.as_bytes()), expected, "{pattern} and {subject}");
        }
    }
}
