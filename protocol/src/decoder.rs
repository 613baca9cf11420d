//! Bytes of a server into operations, resumed where the bytes ran out.
//!
//! A line is searched for its end from where the last search stopped, and parsed once it is whole.
//! A payload is counted, not read.

use crate::control_line::{ControlLine, begins_info, check_operation};
use crate::error::DecodeError;
use crate::limits::DecoderLimits;
use crate::message_line::{MessageLine, Scanned, offsets, scan};
use crate::sid::Sid;

/// A message, as slices of the buffer that it arrived in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageFrame<'b> {
    /// Subject as the server relayed it: any bytes but blanks, not necessarily UTF-8.
    pub subject: &'b [u8],
    /// Subscription that it was sent for; perhaps one that we do not have, or have no longer.
    pub sid: Sid,
    /// Subject to answer to.
    pub reply: Option<&'b [u8]>,
    /// The raw header block, unchecked; `None` if there is none or its size is 0.
    pub headers: Option<&'b [u8]>,
    /// Payload.
    pub payload: &'b [u8],
}

/// One operation of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'b> {
    /// `MSG` or `HMSG`.
    Message(MessageFrame<'b>),
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

/// What a call of [`Decoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'b> {
    /// A whole operation.
    Operation {
        /// The operation.
        operation: Operation<'b>,
        /// Bytes that it took from the front of the input.
        consumed: usize,
    },
    /// The bytes end before the operation does.
    Incomplete {
        /// The least total of bytes, from the front of this input, with which another call can
        /// find more. With a message's line at hand it is the length of the whole frame.
        needed: usize,
    },
}

/// Decodes a server's bytes, one operation a call.
///
/// The input of each call begins with the first byte not yet consumed. After
/// [`Decoded::Incomplete`] the next input begins with the same bytes and is at least as long.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: DecoderLimits,
    resume: Resume,
}

#[derive(Clone, Copy, Debug)]
enum Resume {
    /// Nothing of the operation was seen.
    Start,
    /// This many bytes of a line were seen; none ends it.
    Line { searched: usize },
    /// The line was parsed and lies at the front of the input; its payload is awaited.
    Payload(MessageLine),
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: DecoderLimits) -> Self {
        Self { limits, resume: Resume::Start }
    }

    /// Forgets a half-read operation: the next input begins a stream.
    pub fn reset(&mut self) {
        self.resume = Resume::Start;
    }

    /// Decodes the operation at the front of `input`.
    ///
    /// # Errors
    /// The bytes break the protocol; the same call would say so again. A message's size is judged
    /// by its line, before any of the payload is awaited.
    #[inline]
    pub fn decode<'b>(&mut self, input: &'b [u8]) -> Result<Decoded<'b>, DecodeError> {
        match self.decode_message(input) {
            Some((message, consumed)) => {
                Ok(Decoded::Operation { operation: Operation::Message(message), consumed })
            }
            None => self.decode_slowly(input),
        }
    }

    /// The message at the front of `input` and its length, if one is there, whole, and in the form
    /// that servers write; `None` says nothing, and is for [`Decoder::decode`] to decide.
    ///
    /// Inlined as a whole, a message stays in registers: one that is wrapped and unwrapped on its way
    /// costs three times as much.
    #[inline(always)]
    pub fn decode_message<'b>(&self, input: &'b [u8]) -> Option<(MessageFrame<'b>, usize)> {
        if !matches!(self.resume, Resume::Start) {
            return None;
        }
        let scanned = scan(input)?;
        let line_bytes = input.len() - scanned.rest.len();
        if line_bytes > self.limits.control_line_bytes_max
            || scanned.total_bytes > self.limits.payload_bytes_max
        {
            return None;
        }
        let (message, rest) = whole_frame(&scanned)?;
        Some((message, input.len() - rest.len()))
    }

    /// As [`Decoder::decode`], by the grammar alone: what the fast scan is compared with.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    #[cold]
    pub fn decode_slowly<'b>(&mut self, input: &'b [u8]) -> Result<Decoded<'b>, DecodeError> {
        let searched = match self.resume {
            Resume::Start => 0,
            Resume::Line { searched } => searched,
            Resume::Payload(line) => return self.payload(input, line),
        };
        let line_bytes_max =
            if begins_info(input) { self.limits.info_bytes_max } else { self.limits.control_line_bytes_max };
        let window = &input[..input.len().min(line_bytes_max)];
        if searched < OPERATION_BYTES_MAX {
            check_operation(&window[..window.len().min(OPERATION_BYTES_MAX)])?;
        }
        let unsearched = window.get(searched..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', unsearched) else {
            if input.len() >= line_bytes_max {
                return Err(DecodeError::LineTooLong { max: line_bytes_max });
            }
            self.resume = Resume::Line { searched: input.len() };
            return Ok(Decoded::Incomplete { needed: input.len() + 1 });
        };
        let line_bytes = searched + end + 1;
        let operation = match ControlLine::parse(&input[..line_bytes])? {
            ControlLine::Message { subject, sid, reply, header_bytes, total_bytes } => {
                if total_bytes > self.limits.payload_bytes_max {
                    let max = self.limits.payload_bytes_max;
                    return Err(DecodeError::PayloadTooLarge { total_bytes, max });
                }
                let subject = offsets(input, subject);
                let reply = reply.map(|reply| offsets(input, reply));
                return self.payload(
                    input,
                    MessageLine { subject, sid, reply, header_bytes, total_bytes, line_bytes },
                );
            }
            ControlLine::Info(json) => Operation::Info(json),
            ControlLine::Ping => Operation::Ping,
            ControlLine::Pong => Operation::Pong,
            ControlLine::Ok => Operation::Ok,
            ControlLine::Error(text) => Operation::Error(text),
        };
        self.resume = Resume::Start;
        Ok(Decoded::Operation { operation, consumed: line_bytes })
    }

    #[cold]
    fn payload<'b>(&mut self, input: &'b [u8], line: MessageLine) -> Result<Decoded<'b>, DecodeError> {
        self.resume = Resume::Payload(line);
        let needed = line.line_bytes + line.total_bytes + 2;
        if input.len() < needed {
            return Ok(Decoded::Incomplete { needed });
        }
        let (message, _) = line
            .scanned(input)
            .and_then(|scanned| whole_frame(&scanned))
            .ok_or(DecodeError::PayloadNotTerminated { total_bytes: line.total_bytes })?;
        self.resume = Resume::Start;
        Ok(Decoded::Operation { operation: Operation::Message(message), consumed: needed })
    }
}

/// Longest name of an operation.
const OPERATION_BYTES_MAX: usize = 4;

/// The message that a line begins, if all of it is there and CR LF ends it, and what follows it.
#[inline(always)]
fn whole_frame<'b>(line: &Scanned<'b>) -> Option<(MessageFrame<'b>, &'b [u8])> {
    let (body, rest) = line.rest.split_at_checked(line.total_bytes)?;
    let rest = rest.strip_prefix(b"\r\n")?;
    let (headers, payload) = match line.header_bytes {
        None | Some(0) => (None, body),
        Some(header_bytes) => {
            let (headers, payload) = body.split_at_checked(header_bytes)?;
            (Some(headers), payload)
        }
    };
    Some((MessageFrame { subject: line.subject, sid: line.sid, reply: line.reply, headers, payload }, rest))
}
