//! Subjects, patterns and queue groups: checked once, when they are made.

use std::borrow::Borrow;
use std::fmt;
use std::str::Utf8Error;

use bytes::Bytes;

use crate::error::SubjectError;
use crate::limits::SUBJECT_BYTES_MAX;

/// A subject or a pattern: tokens of bytes with dots between them. Not necessarily UTF-8, for a
/// server relays any byte from 0x80 on. A clone counts a reference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Bytes);

impl Subject {
    /// A subject to publish to: no wildcards.
    ///
    /// # Errors
    /// What [`Subject::check_literal`] finds.
    pub fn literal(bytes: impl AsRef<[u8]>) -> Result<Self, SubjectError> {
        Self::check_literal(bytes.as_ref())?;
        Ok(Self(Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// A subject to subscribe to: `*` may stand for a token, `>` for all the last ones.
    ///
    /// # Errors
    /// What [`Subject::check_pattern`] finds.
    pub fn pattern(bytes: impl AsRef<[u8]>) -> Result<Self, SubjectError> {
        Self::check_pattern(bytes.as_ref())?;
        Ok(Self(Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// Whether these bytes may be published to. Allocates nothing.
    ///
    /// # Errors
    /// Empty, longer than [`SUBJECT_BYTES_MAX`], a blank, tab, CR, LF or NUL, an empty token, a
    /// wildcard character anywhere.
    pub fn check_literal(bytes: &[u8]) -> Result<(), SubjectError> {
        check(bytes, Wildcards::Refused)
    }

    /// Whether these bytes may be subscribed to. Allocates nothing.
    ///
    /// # Errors
    /// As [`Subject::check_literal`], but for a `*` that is a whole token and a `>` that is a whole
    /// last token.
    pub fn check_pattern(bytes: &[u8]) -> Result<(), SubjectError> {
        check(bytes, Wildcards::WholeTokens)
    }

    /// A subject that a server relayed. Nothing is checked: check it before sending it anywhere.
    pub fn from_wire(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The subject as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// Whether a token is a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.0.split(|&byte| byte == b'.').any(|token| matches!(token, b"*" | b">"))
    }

    /// Whether a message published to `literal` reaches a subscription of this subject or pattern.
    pub fn matches(&self, literal: &[u8]) -> bool {
        let mut tokens = literal.split(|&byte| byte == b'.');
        for wanted in self.0.split(|&byte| byte == b'.') {
            match (wanted, tokens.next()) {
                (b">", Some(token)) => return !token.is_empty(),
                (b"*", Some(token)) if !token.is_empty() => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// The bytes, as one handle on what holds them.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl AsRef<[u8]> for Subject {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Subject {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<[u8]> for Subject {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl PartialEq<str> for Subject {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Subject {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), formatter)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&String::from_utf8_lossy(&self.0))
    }
}

/// The name of a group of subscribers of which each message reaches one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueGroup(Bytes);

impl QueueGroup {
    /// A queue group of this name.
    ///
    /// # Errors
    /// Empty, longer than [`SUBJECT_BYTES_MAX`], a blank, tab, CR, LF or NUL.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, SubjectError> {
        check_bytes(bytes.as_ref())?;
        Ok(Self(Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// The bytes as they stand on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for QueueGroup {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for QueueGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), formatter)
    }
}

impl fmt::Display for QueueGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&String::from_utf8_lossy(&self.0))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    Refused,
    WholeTokens,
}

fn check(bytes: &[u8], wildcards: Wildcards) -> Result<(), SubjectError> {
    check_bytes(bytes)?;
    let mut offset = 0;
    for token in bytes.split(|&byte| byte == b'.') {
        if token.is_empty() {
            return Err(SubjectError::EmptyToken { offset });
        }
        if let Some(within) = token.iter().position(|byte| matches!(byte, b'*' | b'>')) {
            let last = offset + token.len() == bytes.len();
            let stands = token == b"*" || (token == b">" && last);
            if wildcards == Wildcards::Refused || !stands {
                return Err(SubjectError::Wildcard { offset: offset + within });
            }
        }
        offset += token.len() + 1;
    }
    Ok(())
}

fn check_bytes(bytes: &[u8]) -> Result<(), SubjectError> {
    if bytes.is_empty() {
        return Err(SubjectError::Empty);
    }
    if bytes.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::TooLong { had: bytes.len(), max: SUBJECT_BYTES_MAX });
    }
    match bytes.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0)) {
        Some(offset) => Err(SubjectError::ForbiddenByte { offset, byte: bytes[offset] }),
        None => Ok(()),
    }
}
