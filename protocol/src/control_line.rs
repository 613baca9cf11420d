//! The grammar of a server's control lines, over one whole line; the reference for all else here.
//!
//! ```text
//! sp  = 1*( SP / HT )        eol = [CR] LF        names of operations in any case
//! INFO sp json *sp eol
//! MSG  sp subject sp sid [sp reply] sp size *sp eol
//! HMSG sp subject sp sid [sp reply] sp header_size sp total_size *sp eol
//! PING *any eol | PONG *any eol | +OK *any eol | -ERR [sp text] *sp eol
//! ```

use std::fmt;

use nom::branch::alt;
use nom::bytes::complete::{tag_no_case, take_while, take_while1};
use nom::combinator::{eof, opt, peek, rest, value, verify};
use nom::error::{ErrorKind, ParseError};
use nom::sequence::{preceded, terminated};
use nom::{Err, IResult, Parser};

use crate::error::DecodeError;
use crate::limits::{SID_DIGITS_MAX, SIZE_DIGITS_MAX};
use crate::sid::Sid;

/// One control line of a server, as slices of it. A message's payload is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlLine<'b> {
    /// `MSG` or `HMSG`.
    Message {
        /// Subject as relayed; any bytes but blanks.
        subject: &'b [u8],
        /// Subscription.
        sid: Sid,
        /// Subject to answer to.
        reply: Option<&'b [u8]>,
        /// Size of the headers; `None` in a `MSG`.
        header_bytes: Option<usize>,
        /// Size of headers and payload together.
        total_bytes: usize,
    },
    /// `INFO`: its JSON, unread.
    Info(&'b [u8]),
    /// `PING`
    Ping,
    /// `PONG`
    Pong,
    /// `+OK`
    Ok,
    /// `-ERR`: its text without quotes, perhaps empty.
    Error(&'b [u8]),
}

/// What the grammar wanted where a line broke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// The name of an operation.
    Operation,
    /// A blank or tab.
    Blank,
    /// A subject.
    Subject,
    /// A subscription id: 1 to 20 digits.
    Sid,
    /// A size: 1 to 9 digits.
    Size,
    /// Text, such as the JSON of an INFO.
    Text,
    /// The end of the line.
    EndOfLine,
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Operation => "an operation",
            Self::Blank => "a blank",
            Self::Subject => "a subject",
            Self::Sid => "a subscription id of 1 to 20 digits",
            Self::Size => "a size of 1 to 9 digits",
            Self::Text => "text",
            Self::EndOfLine => "the end of the line",
        })
    }
}

impl<'b> ControlLine<'b> {
    /// Parses one line, which ends with its LF, or CR LF.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOperation`], [`DecodeError::MalformedLine`] or
    /// [`DecodeError::HeadersLargerThanMessage`]. No size is compared with a limit here.
    pub fn parse(line: &'b [u8]) -> Result<Self, DecodeError> {
        check_operation(line)?;
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let parsed = match control_line(content) {
            Ok((_, parsed)) => parsed,
            Err(Err::Error(error) | Err::Failure(error)) => {
                let offset = content.len() - error.at.len();
                return Err(DecodeError::MalformedLine { offset, expected: error.expected });
            }
            // Complete parsers never ask for more; the whole line stands here.
            Err(Err::Incomplete(_)) => {
                return Err(DecodeError::MalformedLine {
                    offset: content.len(),
                    expected: Expected::EndOfLine,
                });
            }
        };
        if let ControlLine::Message { header_bytes: Some(header_bytes), total_bytes, .. } = parsed
            && header_bytes > total_bytes
        {
            return Err(DecodeError::HeadersLargerThanMessage { header_bytes, total_bytes });
        }
        Ok(parsed)
    }
}

/// Whether an operation begins with these bytes, as far as they go; more may follow.
///
/// # Errors
/// [`DecodeError::UnknownOperation`] with the first byte that fits none.
pub(crate) fn check_operation(line: &[u8]) -> Result<(), DecodeError> {
    let fitting = OPERATIONS.iter().map(|name| {
        let same = name.iter().zip(line).take_while(|(name, byte)| name.eq_ignore_ascii_case(byte)).count();
        (same, same == name.len().min(line.len()))
    });
    let (offset, fits) = fitting.max().unwrap_or((0, false));
    match line.get(offset) {
        Some(&byte) if !fits => Err(DecodeError::UnknownOperation { offset, byte }),
        _ => Ok(()),
    }
}

/// Whether an INFO begins with these bytes; no other operation begins with an I.
pub(crate) fn begins_info(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'I' | b'i'))
}

const OPERATIONS: [&[u8]; 7] = [b"MSG", b"HMSG", b"INFO", b"PING", b"PONG", b"+OK", b"-ERR"];

fn control_line(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    alt((message, message_with_headers, info, error, ping, pong, ok)).parse(line)
}

fn message(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    let (line, _) = tag_no_case("MSG").parse(line)?;
    committed(
        (
            preceded(blanks, subject),
            preceded(blanks, sid),
            // What another argument follows is a reply: the size stands last.
            opt(preceded(blanks, terminated(subject, peek((blanks, subject))))),
            preceded(blanks, size),
            end,
        ),
        line,
    )
    .map(|(line, (subject, sid, reply, total_bytes, ()))| {
        (line, ControlLine::Message { subject, sid, reply, header_bytes: None, total_bytes })
    })
}

fn message_with_headers(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    let (line, _) = tag_no_case("HMSG").parse(line)?;
    committed(
        (
            preceded(blanks, subject),
            preceded(blanks, sid),
            opt(preceded(blanks, terminated(subject, peek((blanks, subject, blanks, subject))))),
            preceded(blanks, size),
            preceded(blanks, size),
            end,
        ),
        line,
    )
    .map(|(line, (subject, sid, reply, header_bytes, total_bytes, ()))| {
        (line, ControlLine::Message { subject, sid, reply, header_bytes: Some(header_bytes), total_bytes })
    })
}

fn info(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    let (line, _) = tag_no_case("INFO").parse(line)?;
    committed((blanks, expect(Expected::Text, verify(rest, |text: &[u8]| !text.is_empty()))), line)
        .map(|(line, (_, text))| (line, ControlLine::Info(without_trailing_blanks(text))))
}

fn error(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    let (line, _) = tag_no_case("-ERR").parse(line)?;
    committed(alt((value(&b""[..], end), preceded(blanks, rest))), line)
        .map(|(line, text)| (line, ControlLine::Error(without_quotes(without_trailing_blanks(text)))))
}

fn ping(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    value(ControlLine::Ping, (tag_no_case("PING"), rest)).parse(line)
}

fn pong(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    value(ControlLine::Pong, (tag_no_case("PONG"), rest)).parse(line)
}

fn ok(line: &[u8]) -> Parsed<'_, ControlLine<'_>> {
    value(ControlLine::Ok, (tag_no_case("+OK"), rest)).parse(line)
}

fn subject(line: &[u8]) -> Parsed<'_, &[u8]> {
    expect(Expected::Subject, take_while1(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))).parse(line)
}

fn sid(line: &[u8]) -> Parsed<'_, Sid> {
    digits(Expected::Sid, SID_DIGITS_MAX).map(Sid).parse(line)
}

fn size(line: &[u8]) -> Parsed<'_, usize> {
    // Nine digits fit into 32 bits, hence into any usize that this crate is built for.
    digits(Expected::Size, SIZE_DIGITS_MAX).map(|size| size as usize).parse(line)
}

/// A whole argument of 1 to `count_max` digits; its value stops at `u64::MAX`.
fn digits<'b>(
    expected: Expected,
    count_max: usize,
) -> impl Parser<&'b [u8], Output = u64, Error = LineError<'b>> {
    let token =
        verify(subject, move |token: &[u8]| token.len() <= count_max && token.iter().all(u8::is_ascii_digit));
    expect(expected, token).map(|token: &[u8]| {
        token
            .iter()
            .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

fn blanks(line: &[u8]) -> Parsed<'_, &[u8]> {
    expect(Expected::Blank, take_while1(is_blank)).parse(line)
}

fn end(line: &[u8]) -> Parsed<'_, ()> {
    expect(Expected::EndOfLine, value((), (take_while(is_blank), eof))).parse(line)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn without_trailing_blanks(mut text: &[u8]) -> &[u8] {
    while let [before @ .., b' ' | b'\t'] = text {
        text = before;
    }
    text
}

fn without_quotes(text: &[u8]) -> &[u8] {
    match text {
        [b'\'', within @ .., b'\''] => within,
        text => text,
    }
}

type Parsed<'b, T> = IResult<&'b [u8], T, LineError<'b>>;

/// Where a line broke the grammar, and what was expected there.
#[derive(Debug)]
struct LineError<'b> {
    at: &'b [u8],
    expected: Expected,
}

impl<'b> ParseError<&'b [u8]> for LineError<'b> {
    fn from_error_kind(at: &'b [u8], _: ErrorKind) -> Self {
        Self { at, expected: Expected::Operation }
    }

    fn append(_: &'b [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Names what `parser` looks for, at the place where it began to look.
fn expect<'b, P: Parser<&'b [u8], Error = LineError<'b>>>(
    expected: Expected,
    mut parser: P,
) -> impl Parser<&'b [u8], Output = P::Output, Error = LineError<'b>> {
    move |line: &'b [u8]| {
        parser
            .parse(line)
            .map_err(|error: Err<LineError<'b>>| error.map(|_| LineError { at: line, expected }))
    }
}

/// After its name an operation is settled: `alt` need not try the others.
fn committed<'b, P: Parser<&'b [u8], Error = LineError<'b>>>(
    mut parser: P,
    line: &'b [u8],
) -> Parsed<'b, P::Output> {
    nom::combinator::cut(|line| parser.parse(line)).parse(line)
}
