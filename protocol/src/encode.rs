//! Client operations into bytes, appended to the caller's buffer.
//!
//! Nothing is checked here: subjects and groups come checked by their type or by
//! [`Subject::check_literal`], so that nothing a caller passes can inject a line.

use crate::connect_options::ConnectOptions;
use crate::headers::Headers;
use crate::sid::Sid;
use crate::subject::Subject;

/// The ready-made `PUB subject ` of a subject that is published to again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishPrefix(Box<[u8]>);

impl PublishPrefix {
    /// The prefix for this subject.
    pub fn new(subject: &Subject) -> Self {
        Self([b"PUB ", subject.as_bytes(), b" "].concat().into())
    }

    /// The bytes, the last of them a blank.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Appends a whole `PUB`.
pub fn publish(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    publish_line(out, subject, reply, payload.len());
    body(out, payload);
}

/// Appends `PUB subject [reply] size` and CR LF; the payload and its CR LF follow elsewhere.
pub fn publish_line(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload_bytes: usize) {
    out.reserve(subject.len() + reply.map_or(0, <[u8]>::len) + NUMBERS_AND_BLANKS_BYTES_MAX);
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    number(out, payload_bytes as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole `PUB` with a ready-made prefix.
#[inline]
pub fn publish_prefixed(out: &mut Vec<u8>, prefix: &PublishPrefix, payload: &[u8]) {
    out.reserve(prefix.0.len() + payload.len() + NUMBERS_AND_BLANKS_BYTES_MAX);
    out.extend_from_slice(&prefix.0);
    number_and_line_end(out, payload.len() as u64);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line of a `PUB` with a ready-made prefix; the payload and its CR LF follow elsewhere.
#[inline]
pub fn publish_prefixed_line(out: &mut Vec<u8>, prefix: &PublishPrefix, payload_bytes: usize) {
    out.reserve(prefix.0.len() + NUMBERS_AND_BLANKS_BYTES_MAX);
    out.extend_from_slice(&prefix.0);
    number_and_line_end(out, payload_bytes as u64);
}

/// Appends a whole `HPUB`.
pub fn publish_with_headers(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<&[u8]>,
    headers: &Headers,
    payload: &[u8],
) {
    publish_with_headers_line(out, subject, reply, headers, payload.len());
    body(out, payload);
}

/// Appends the line of an `HPUB` and its headers; the payload of `payload_bytes` and its CR LF
/// follow elsewhere.
pub fn publish_with_headers_line(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<&[u8]>,
    headers: &Headers,
    payload_bytes: usize,
) {
    let header_bytes = headers.encoded_len();
    out.reserve(
        subject.len() + reply.map_or(0, <[u8]>::len) + header_bytes + 2 * NUMBERS_AND_BLANKS_BYTES_MAX,
    );
    out.extend_from_slice(b"HPUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    number(out, header_bytes as u64);
    out.push(b' ');
    number(out, (header_bytes + payload_bytes) as u64);
    out.extend_from_slice(b"\r\n");
    headers.encode(out);
}

/// Appends a `SUB`.
pub fn subscribe(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>, sid: Sid) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(queue) = queue {
        out.extend_from_slice(queue);
        out.push(b' ');
    }
    number(out, sid.raw());
    out.extend_from_slice(b"\r\n");
}

/// Appends an `UNSUB`: at once, or after `max` messages in all.
pub fn unsubscribe(out: &mut Vec<u8>, sid: Sid, max: Option<u64>) {
    out.extend_from_slice(b"UNSUB ");
    number(out, sid.raw());
    if let Some(max) = max {
        out.push(b' ');
        number(out, max);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a `PING`.
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\r\n");
}

/// Appends a `PONG`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PONG\r\n");
}

/// Appends a `CONNECT`. JSON escapes line ends, so no option can inject a line.
pub fn connect(out: &mut Vec<u8>, options: &ConnectOptions) {
    out.extend_from_slice(b"CONNECT ");
    options.write_json(out);
    out.extend_from_slice(b"\r\n");
}

/// `PUB`, blanks, the digits of a size and two line ends.
const NUMBERS_AND_BLANKS_BYTES_MAX: usize = 32;

fn body(out: &mut Vec<u8>, payload: &[u8]) {
    out.reserve(payload.len() + 2);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A number of up to six digits and the line's end are put together in one word. It is appended whole, which is a store,
/// and what is not of it is cut off again.
#[inline]
fn number_and_line_end(out: &mut Vec<u8>, value: u64) {
    if value >= 1_000_000 {
        number(out, value);
        out.extend_from_slice(b"\r\n");
        return;
    }
    let mut word = u64::from_le_bytes(*b"\r\n\0\0\0\0\0\0");
    let (mut rest, mut end) = (value as u32, out.len() + 2);
    loop {
        word = word << 8 | u64::from(b'0' + (rest % 10) as u8);
        end += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(end);
}

/// Digit by digit: a copy of unknown length is a call, which takes longer than a few digits.
#[inline]
fn number(out: &mut Vec<u8>, number: u64) {
    for &digit in itoa::Buffer::new().format(number).as_bytes() {
        out.push(digit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_any_length_is_written_as_it_is_read() {
        let prefix = PublishPrefix::new(&Subject::literal("a").expect("a subject"));
        let powers = (0..=9).map(|digits| 10_usize.pow(digits));
        let around = powers.flat_map(|power| [power - 1, power, power + 1]);
        for size in [42, 4096, 65_536, 1_048_576].into_iter().chain(around) {
            let mut out = b"before".to_vec();
            publish_prefixed_line(&mut out, &prefix, size);
            assert_eq!(String::from_utf8_lossy(&out), format!("beforePUB a {size}\r\n"));
        }
    }
}
