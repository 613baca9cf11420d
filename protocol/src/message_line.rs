//! A hand-written scan of a `MSG` or `HMSG` line in one pass, in front of the grammar.
//!
//! It takes the lines that servers write: upper case, one blank, CR LF. Whatever else it meets it
//! declines, and the grammar decides. Where it accepts, it says what the grammar says.
//!
//! Tokens are searched eight bytes at a time: for `b <= 0x20` in each byte of a word,
//! `(w - 0x21..) & !w & 0x80..` marks the lowest such byte exactly ("Bit Twiddling Hacks", Sean
//! Eron Anderson, `hasless`); bytes from 0x80 on are masked out by `!w`.

use crate::limits::{SID_DIGITS_MAX, SIZE_DIGITS_MAX};
use crate::sid::Sid;

/// A message's control line: offsets in the frame that it begins, so that it can be kept while the
/// payload arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageLine {
    pub(crate) subject: (usize, usize),
    pub(crate) sid: Sid,
    pub(crate) reply: Option<(usize, usize)>,
    pub(crate) header_bytes: Option<usize>,
    pub(crate) total_bytes: usize,
    /// Length of the line with its end.
    pub(crate) line_bytes: usize,
}

impl MessageLine {
    /// The line at the front of `input`, as slices of it. `None` if `input` is not what it was.
    pub(crate) fn scanned<'b>(&self, input: &'b [u8]) -> Option<Scanned<'b>> {
        Some(Scanned {
            subject: input.get(self.subject.0..self.subject.1)?,
            sid: self.sid,
            reply: match self.reply {
                Some((start, end)) => Some(input.get(start..end)?),
                None => None,
            },
            header_bytes: self.header_bytes,
            total_bytes: self.total_bytes,
            rest: input.get(self.line_bytes..)?,
        })
    }
}

/// What [`scan`] found: the same as slices of its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned<'b> {
    pub(crate) subject: &'b [u8],
    pub(crate) sid: Sid,
    pub(crate) reply: Option<&'b [u8]>,
    pub(crate) header_bytes: Option<usize>,
    pub(crate) total_bytes: usize,
    /// All of the input after the line.
    pub(crate) rest: &'b [u8],
}

#[cfg(test)]
impl Scanned<'_> {
    /// The line in a form that outlives `input`, which it was scanned from.
    pub(crate) fn line(&self, input: &[u8]) -> MessageLine {
        MessageLine {
            subject: offsets(input, self.subject),
            sid: self.sid,
            reply: self.reply.map(|reply| offsets(input, reply)),
            header_bytes: self.header_bytes,
            total_bytes: self.total_bytes,
            line_bytes: input.len() - self.rest.len(),
        }
    }
}

/// Where `part`, a slice of `whole`, lies in it.
pub(crate) fn offsets(whole: &[u8], part: &[u8]) -> (usize, usize) {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    (start, start + part.len())
}

/// Scans the line at the front of `input`. `None`: not a message, not whole, or not in the form
/// that servers write.
#[inline]
pub(crate) fn scan(input: &[u8]) -> Option<Scanned<'_>> {
    if let Some(arguments) = input.strip_prefix(b"MSG ") {
        scan_arguments::<false>(arguments)
    } else {
        scan_arguments::<true>(input.strip_prefix(b"HMSG ")?)
    }
}

#[inline(always)]
fn scan_arguments<const HEADERS: bool>(arguments: &[u8]) -> Option<Scanned<'_>> {
    let (subject, rest) = token(arguments, 0)?;
    let (sid, after, rest) = number::<SID_DIGITS>(rest)?;
    if after != b' ' {
        return None;
    }
    let mut reply = None;
    // A number ends at a blank or CR; what ends elsewhere is a reply. One of digits alone looks like
    // a size that another argument follows: the grammar tells them apart.
    let (mut first, mut after, mut rest) = match number::<SIZE_DIGITS>(rest) {
        Some(size @ (_, b' ' | b'\r', _)) => size,
        _ => {
            let (token, rest) = token(rest, 0)?;
            reply = Some(token);
            number::<SIZE_DIGITS>(rest)?
        }
    };
    let mut header_bytes = None;
    if HEADERS {
        if after != b' ' {
            return None;
        }
        let header = first;
        (first, after, rest) = number::<SIZE_DIGITS>(rest)?;
        if header > first {
            return None;
        }
        header_bytes = Some(header as usize);
    }
    let (b'\n', rest) = rest.split_first()? else { return None };
    if after != b'\r' {
        return None;
    }
    Some(Scanned { subject, sid: Sid(sid), reply, header_bytes, total_bytes: first as usize, rest })
}

/// The token at the front, and what follows the blank after it.
#[inline(always)]
fn token(input: &[u8], mut end: usize) -> Option<(&[u8], &[u8])> {
    const ONES: u64 = u64::MAX / 0xff;
    loop {
        let Some(word) = input.get(end..)?.first_chunk::<8>() else {
            end += input[end..].iter().position(|&byte| byte <= b' ')?;
            break;
        };
        let word = u64::from_le_bytes(*word);
        let low = word.wrapping_sub(ONES * 0x21) & !word & (ONES * 0x80);
        if low != 0 {
            end += low.trailing_zeros() as usize / 8;
            break;
        }
        end += 8;
    }
    let (token, rest) = input.split_at_checked(end)?;
    let (b' ', rest) = rest.split_first()? else { return None };
    (!token.is_empty()).then_some((token, rest))
}

/// The number at the front, the byte that ends it, and what follows that. At most `DIGITS` digits.
#[inline(always)]
fn number<const DIGITS: usize>(input: &[u8]) -> Option<(u64, u8, &[u8])> {
    let mut value = 0_u64;
    // Few numbers are longer, and an array of known length needs no check for its end.
    if let Some(window) = input.first_chunk::<8>() {
        for (count, &byte) in window.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return (count > 0).then(|| (value, byte, &input[count + 1..]));
            }
            value = value * 10 + u64::from(digit);
        }
        value = 0;
    }
    for (count, &byte) in input.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (count > 0).then(|| (value, byte, &input[count + 1..]));
        }
        if count == DIGITS {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    None
}

/// Twenty digits could overflow; the grammar knows what that means.
const SID_DIGITS: usize = SID_DIGITS_MAX - 1;
const SIZE_DIGITS: usize = SIZE_DIGITS_MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::scan;
    use crate::control_line::ControlLine;

    #[test]
    fn the_scan_takes_what_servers_write() {
        for line in [
            "MSG a 1 0\r\n",
            "MSG a.b.c 1234567 16\r\n",
            "MSG orders.europe.1234567.placed 16777217 _INBOX.abcdefghijklmnopq.1234567 16\r\n",
            "MSG 12345678 1 a 67108864\r\n",
            "MSG a 1 1a 5\r\n",
            "MSG a 1 1234567890 5\r\n",
            "HMSG a 1 12 17\r\n",
            "HMSG a.b.c.d.e.f.g 1234567890 _INBOX.a 38 38\r\n",
        ] {
            assert!(scan(line.as_bytes()).is_some(), "{line}");
            agree(line.as_bytes());
        }
    }

    #[test]
    fn the_scan_leaves_the_rest_to_the_grammar() {
        for line in [
            "MSG a 1 5\n",
            "msg a 1 5\r\n",
            "MSG  a 1 5\r\n",
            "MSG a\t1 5\r\n",
            "MSG a 1 5 \r\n",
            "MSG a 1 2 5\r\n",
            "HMSG a 1 2 5 6\r\n",
            "HMSG a 1 6 5\r\n",
            "MSG a 99999999999999999999 5\r\n",
            "MSG a 1 0000000005\r\n",
            "MSG a 1 5 6 7\r\n",
            "MSG a 1 r\r\n",
            "MSG a 1 5",
            "MSG a 1 5\r",
            "PING\r\n",
            "",
        ] {
            assert!(scan(line.as_bytes()).is_none(), "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn the_scan_says_what_the_grammar_says(
            line in "H?MSG( [0-9]{1,21}| [a-z.]{1,20}| [!-~]{0,9}|[ \t]){2,6}\r?\n(PING\r\n)?"
        ) {
            agree(line.as_bytes());
        }

        #[test]
        fn the_scan_says_what_the_grammar_says_of_any_bytes(rest in proptest::collection::vec(any::<u8>(), 0..60)) {
            agree(&[b"MSG ", &rest[..], b"\r\n"].concat());
            agree(&[b"MSG a 1 ", &rest[..], b" 1\r\n"].concat());
        }
    }

    /// If the scan takes the line at the front of `input`, the grammar reads the same from it.
    fn agree(input: &[u8]) {
        let Some(scanned) = scan(input) else { return };
        let line = input.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        let read = ControlLine::Message {
            subject: scanned.subject,
            sid: scanned.sid,
            reply: scanned.reply,
            header_bytes: scanned.header_bytes,
            total_bytes: scanned.total_bytes,
        };
        assert_eq!(ControlLine::parse(line), Ok(read));
        assert_eq!(scanned.rest, &input[line.len()..]);
        let kept = scanned.line(input);
        let again = kept.scanned(input).map(|again| again.line(input));
        assert_eq!(again, Some(kept));
        assert_eq!(kept.line_bytes, line.len());
    }
}
