//! The headers of a message: an ordered multimap, read only when someone asks.
//!
//! ```text
//! headers = "NATS/1.0" [ SP code [ SP text ] ] CRLF *( name ":" [OWS] value [OWS] CRLF ) CRLF
//! ```

use crate::error::HeaderError;
use crate::limits::HEADER_COUNT_MAX;

/// Names and values in the order they came, a name perhaps several times. Names are compared
/// byte by byte: case matters, as it does to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    status: Option<(u16, Box<str>)>,
    entries: Vec<(Box<str>, Box<str>)>,
}

/// What a server says in the first line of the headers, such as 503: nobody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'h> {
    /// Three digits.
    pub code: u16,
    /// What follows them, without blanks around it; perhaps empty.
    pub text: &'h str,
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a header block, from `NATS/1.0` to its empty line.
    ///
    /// # Errors
    /// The block does not follow the grammar, is not UTF-8, or has more than
    /// [`HEADER_COUNT_MAX`] headers.
    pub fn parse(block: &[u8]) -> Result<Self, HeaderError> {
        let unended = HeaderError::End { had: block.len() };
        let mut lines = Lines { block, at: 0 };
        let (_, first) =
            lines.next().ok_or(if block.starts_with(VERSION) { unended } else { HeaderError::Version })?;
        let mut headers = Self { status: status(first)?, entries: Vec::new() };
        loop {
            let (offset, line) = lines.next().ok_or(unended)?;
            if line.is_empty() {
                break;
            }
            let colon = memchr::memchr(b':', line).unwrap_or(line.len());
            check_name(&line[..colon]).map_err(|within| HeaderError::Name { offset: offset + within })?;
            let value_offset = offset + colon + 1;
            let value = line.get(colon + 1..).ok_or(HeaderError::Name { offset: offset + colon })?;
            check_value(value).map_err(|within| HeaderError::Value { offset: value_offset + within })?;
            let value = utf8(value, value_offset)?;
            headers.push(utf8(&line[..colon], offset)?, value)?;
        }
        if lines.at == block.len() { Ok(headers) } else { Err(unended) }
    }

    /// Sets `name` to `value` alone. Its first place is kept; a new name goes to the end. Blanks
    /// around the value carry no meaning and are dropped.
    ///
    /// # Errors
    /// A name that is empty or has a byte that is not visible ASCII, or a colon; a value with CR, LF
    /// or NUL; too many headers. Nothing is changed then.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        check(name, value)?;
        let Some(place) = self.entries.iter().position(|(had, _)| **had == *name) else {
            return self.push(name, value);
        };
        self.entries[place].1 = without_blanks(value).into();
        let mut index = 0;
        self.entries.retain(|(had, _)| {
            index += 1;
            index - 1 <= place || **had != *name
        });
        Ok(())
    }

    /// Adds `name` with `value` at the end, whether or not the name is there.
    ///
    /// # Errors
    /// As [`Headers::insert`].
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        check(name, value)?;
        self.push(name, value)
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// All values of `name`, in order.
    pub fn get_all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        self.entries.iter().filter(move |(had, _)| **had == *name).map(|(_, value)| &**value)
    }

    /// Removes all values of `name`; returns how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.entries.len();
        self.entries.retain(|(had, _)| **had != *name);
        before - self.entries.len()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many headers there are; a name counts as often as it has values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is neither a header nor a status.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.status.is_none()
    }

    /// The status, if a server set one.
    pub fn status(&self) -> Option<Status<'_>> {
        self.status.as_ref().map(|(code, text)| Status { code: *code, text })
    }

    /// Length of what [`Headers::encode`] appends, in bytes.
    pub fn encoded_len(&self) -> usize {
        let status = self.status.as_ref().map_or(0, |(_, text)| {
            let text = if text.is_empty() { 0 } else { 1 + text.len() };
            " 503".len() + text
        });
        let entries: usize = self.entries.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        VERSION.len() + status + 2 + entries + 2
    }

    /// Appends the header block, its empty line included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.extend_from_slice(VERSION);
        if let Some((code, text)) = &self.status {
            // A status is only ever read from a block, where it had three digits.
            let digits = [code / 100 % 10, code / 10 % 10, code % 10].map(|digit| b'0' + digit as u8);
            out.push(b' ');
            out.extend_from_slice(&digits);
            if !text.is_empty() {
                out.push(b' ');
                out.extend_from_slice(text.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.entries {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn push(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        if self.entries.len() == HEADER_COUNT_MAX {
            return Err(HeaderError::TooMany { max: HEADER_COUNT_MAX });
        }
        self.entries.push((name.into(), without_blanks(value).into()));
        Ok(())
    }
}

/// The status code of a raw header block, without reading the rest: 503 when nobody listens.
/// The code that [`Headers::parse`] would find, but a block that breaks off later still has one.
pub fn status_code(raw_headers: &[u8]) -> Option<u16> {
    let rest = raw_headers.strip_prefix(VERSION)?;
    let line = &rest[..memchr::memchr(b'\r', rest)?];
    code_and_text(line).map(|(code, _)| code)
}

const VERSION: &[u8] = b"NATS/1.0";

/// Lines up to CR LF, with their offsets; what follows the last one is not a line.
struct Lines<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Iterator for Lines<'b> {
    type Item = (usize, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.block.get(self.at..)?;
        let line = rest[..memchr::memchr(b'\n', rest)?].strip_suffix(b"\r")?;
        let offset = self.at;
        self.at += line.len() + 2;
        Some((offset, line))
    }
}

/// The status of a block's first line.
fn status(line: &[u8]) -> Result<Option<(u16, Box<str>)>, HeaderError> {
    let rest = line.strip_prefix(VERSION).ok_or(HeaderError::Version)?;
    if rest.iter().all(|&byte| is_blank(byte)) {
        return Ok(None);
    }
    let (code, text) = code_and_text(rest).ok_or(HeaderError::Status)?;
    let offset = line.len() - text.len();
    check_value(text).map_err(|within| HeaderError::Value { offset: offset + within })?;
    Ok(Some((code, without_blanks(utf8(text, offset)?).into())))
}

/// Blanks, three digits, and either nothing or a blank and a text.
fn code_and_text(line: &[u8]) -> Option<(u16, &[u8])> {
    let blanks = line.iter().take_while(|&&byte| is_blank(byte)).count();
    let (digits, text) = line.get(blanks..)?.split_first_chunk::<3>()?;
    let separated = text.first().is_none_or(|&byte| is_blank(byte));
    if blanks == 0 || !separated || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')), text))
}

fn check(name: &str, value: &str) -> Result<(), HeaderError> {
    check_name(name.as_bytes()).map_err(|offset| HeaderError::Name { offset })?;
    check_value(value.as_bytes()).map_err(|offset| HeaderError::Value { offset })
}

fn check_name(name: &[u8]) -> Result<(), usize> {
    let odd = name.iter().position(|&byte| !byte.is_ascii_graphic() || byte == b':');
    odd.or(name.is_empty().then_some(0)).map_or(Ok(()), Err)
}

fn check_value(value: &[u8]) -> Result<(), usize> {
    value.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)).map_or(Ok(()), Err)
}

fn utf8(bytes: &[u8], offset: usize) -> Result<&str, HeaderError> {
    std::str::from_utf8(bytes).map_err(|error| HeaderError::NotUtf8 { offset: offset + error.valid_up_to() })
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn without_blanks(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
