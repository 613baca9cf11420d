//! Every line that a server may send, and those it may not, split at every position.

use croupier_protocol::limits::{CONTROL_LINE_BYTES_MAX, INFO_BYTES_MAX, PAYLOAD_BYTES_MAX};
use croupier_protocol::{DecodeError, Decoded, Decoder, DecoderLimits, Expected, Operation};

#[test]
fn what_a_server_sends_is_accepted() {
    for (wire, expected) in accepted() {
        check(wire, &[expected], None);
    }
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    for (wire, error) in refused() {
        check(wire, &[], Some(error));
    }
}

#[test]
fn an_operation_leaves_the_next_one_alone() {
    let vectors = accepted();
    for (middle, expected) in &vectors {
        for (name, (before, first)) in vectors.iter().enumerate().filter(|(index, _)| index % 3 == 0) {
            let (after, last) = &vectors[(name + 7) % vectors.len()];
            let wire = [before, middle, after].map(|wire| wire.to_vec()).concat();
            check(&wire, &[first.clone(), expected.clone(), last.clone()], None);
        }
    }
}

#[test]
fn an_error_comes_after_all_that_was_good() {
    for (good, expected) in accepted() {
        for (bad, error) in refused() {
            let wire = [good, bad].concat();
            assert_eq!(decode(&wire, &[]), (vec![expected.clone()], End::Error(error)));
        }
    }
}

#[test]
fn a_size_is_refused_before_its_payload_is_awaited() {
    let at_limit = format!("MSG a 1 {PAYLOAD_BYTES_MAX}\r\n");
    let needed = at_limit.len() + PAYLOAD_BYTES_MAX + 2;
    assert_eq!(decode(at_limit.as_bytes(), &[]), (vec![], End::Incomplete { needed }));

    let total_bytes = PAYLOAD_BYTES_MAX + 1;
    let error = DecodeError::PayloadTooLarge { total_bytes, max: PAYLOAD_BYTES_MAX };
    for wire in [format!("MSG a 1 {total_bytes}\r\n"), format!("HMSG a 1 12 {total_bytes}\r\n")] {
        assert_eq!(decode(wire.as_bytes(), &[]), (vec![], End::Error(error)));
    }
}

#[test]
fn what_is_needed_is_the_whole_frame() {
    let wire = b"MSG a.b 12 5\r\nhello\r\n";
    for have in 14..wire.len() {
        assert_eq!(decode(&wire[..have], &[]), (vec![], End::Incomplete { needed: wire.len() }));
    }
    for have in 0..14 {
        assert_eq!(decode(&wire[..have], &[]), (vec![], End::Incomplete { needed: have + 1 }));
    }
}

#[test]
fn a_line_ends_within_its_limit_and_an_info_within_another() {
    for (head, max) in
        [("MSG ", CONTROL_LINE_BYTES_MAX), ("-ERR ", CONTROL_LINE_BYTES_MAX), ("INFO ", INFO_BYTES_MAX)]
    {
        let fits = [head.as_bytes(), &vec![b'x'; max - head.len() - 2], b"\r\n"].concat();
        let (_, end) = decode(&fits, &[]);
        assert_ne!(end, End::Error(DecodeError::LineTooLong { max }), "{head}");

        let too_long = [head.as_bytes(), &vec![b'x'; max - head.len() - 1], b"\r\n"].concat();
        let error = End::Error(DecodeError::LineTooLong { max });
        assert_eq!(decode(&too_long, &[]), (vec![], error.clone()), "{head} whole");
        assert_eq!(decode(&too_long, &[max - 1]), (vec![], error.clone()), "{head} split");
        assert_eq!(decode(&too_long[..max], &[7]), (vec![], error), "{head} without its end");
    }
}

#[test]
fn a_message_of_a_long_line_is_judged_by_its_length() {
    let limits = DecoderLimits { control_line_bytes_max: 20, ..DecoderLimits::default() };
    let fits = b"MSG aaaaaaaaa 1 01\r\nx\r\n";
    let too_long = b"MSG aaaaaaaaaa 1 01\r\nx\r\n";
    assert!(matches!(Decoder::new(limits).decode(fits), Ok(Decoded::Operation { .. })));
    assert_eq!(Decoder::new(limits).decode(too_long), Err(DecodeError::LineTooLong { max: 20 }));
}

#[test]
fn an_error_is_said_again() {
    for (wire, error) in refused() {
        let mut decoder = Decoder::new(DecoderLimits::default());
        assert_eq!(decoder.decode(wire), Err(error));
        assert_eq!(decoder.decode(wire), Err(error));
        decoder.reset();
        assert!(matches!(
            decoder.decode(b"PING\r\n"),
            Ok(Decoded::Operation { operation: Operation::Ping, .. })
        ));
    }
}

#[test]
fn a_reset_forgets_a_half_read_message() {
    let mut decoder = Decoder::new(DecoderLimits::default());
    assert_eq!(decoder.decode(b"MSG a 1 5\r\nhe"), Ok(Decoded::Incomplete { needed: 18 }));
    decoder.reset();
    assert!(matches!(decoder.decode(b"PONG\r\n"), Ok(Decoded::Operation { operation: Operation::Pong, .. })));
}

/// Lines of a real server, and the odd ones that are to be taken.
fn accepted() -> Vec<(&'static [u8], Owned)> {
    let u64_max = u64::MAX;
    vec![
        (b"MSG a 1 5\r\nhello\r\n", message("a", 1, None, None, "hello")),
        (b"MSG a.b.c 12 reply.to 5\r\nhello\r\n", message("a.b.c", 12, Some("reply.to"), None, "hello")),
        (b"MSG a 1 0\r\n\r\n", message("a", 1, None, None, "")),
        (b"MSG a 1 2\r\n\r\n\r\n", message("a", 1, None, None, "\r\n")),
        (b"MSG a 1 6\r\nPING\r\n\r\n", message("a", 1, None, None, "PING\r\n")),
        (b"MSG a.very.long.subject.of.some.length 1234567 _INBOX.abcdefghijklmnopqrstuvwxyz.12 16\r\n0123456789abcdef\r\n",
            message("a.very.long.subject.of.some.length", 1_234_567, Some("_INBOX.abcdefghijklmnopqrstuvwxyz.12"), None, "0123456789abcdef")),
        (b"MSG 12345678 1 87654321 2\r\nhi\r\n", message("12345678", 1, Some("87654321"), None, "hi")),
        (b"MSG a 1 1 2\r\nhi\r\n", message("a", 1, Some("1"), None, "hi")),
        (b"MSG a 1 -1 2\r\nhi\r\n", message("a", 1, Some("-1"), None, "hi")),
        (b"MSG a 1 1x 2\r\nhi\r\n", message("a", 1, Some("1x"), None, "hi")),
        // Bytes that are not UTF-8.
        (b"MSG \xff\xfe.\x80 1 \xc0 2\r\nhi\r\n",
            Owned::Message { subject: b"\xff\xfe.\x80".to_vec(), sid: 1, reply: Some(b"\xc0".to_vec()), headers: None, payload: b"hi".to_vec() }),
        (b"MSG a\x01b 1 2\r\nhi\r\n", message("a\x01b", 1, None, None, "hi")),
        // Lower case, tabs, several blanks, trailing blanks, bare LF, leading zeros.
        (b"msg a 1 5\r\nhello\r\n", message("a", 1, None, None, "hello")),
        (b"MsG\ta\t1\tr\t5\r\nhello\r\n", message("a", 1, Some("r"), None, "hello")),
        (b"MSG   a  1 \t r   5\r\nhello\r\n", message("a", 1, Some("r"), None, "hello")),
        (b"MSG a 1 5 \t \r\nhello\r\n", message("a", 1, None, None, "hello")),
        (b"MSG a 1 5\nhello\r\n", message("a", 1, None, None, "hello")),
        (b"MSG a 007 000000005\r\nhello\r\n", message("a", 7, None, None, "hello")),
        // Sids that we never gave out, one of them beyond 64 bits.
        (b"MSG a 0 2\r\nhi\r\n", message("a", 0, None, None, "hi")),
        (b"MSG a 18446744073709551615 2\r\nhi\r\n", message("a", u64_max, None, None, "hi")),
        (b"MSG a 18446744073709551616 2\r\nhi\r\n", message("a", u64_max, None, None, "hi")),
        (b"MSG a 99999999999999999999 2\r\nhi\r\n", message("a", u64_max, None, None, "hi")),
        (b"MSG a 00000000000000000001 2\r\nhi\r\n", message("a", 1, None, None, "hi")),
        (b"MSG a 1000000000000000000 2\r\nhi\r\n", message("a", 1_000_000_000_000_000_000, None, None, "hi")),
        // Headers, empty ones among them, and malformed ones.
        (b"HMSG a 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n", message("a", 1, None, Some("NATS/1.0\r\n\r\n"), "hello")),
        (b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n", message("a", 1, None, Some("NATS/1.0\r\n\r\n"), "")),
        (b"HMSG a 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n", message("a", 1, Some("r"), Some("NATS/1.0\r\nA: b\r\n\r\n"), "hi")),
        (b"HMSG i.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", message("i.1", 1, None, Some("NATS/1.0 503\r\n\r\n"), "")),
        (b"HMSG i.1 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: x\r\n\r\n\r\n",
            message("i.1", 1, None, Some("NATS/1.0 503\r\nNats-Subject: x\r\n\r\n"), "")),
        (b"HMSG i.1 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: x.abcd\r\n\r\n\r\n",
            message("i.1", 1, None, Some("NATS/1.0 503\r\nNats-Subject: x.abcd\r\n\r\n"), "")),
        (b"hmsg  a\t1  1  3 5 \nbadhi\r\n", message("a", 1, Some("1"), Some("bad"), "hi")),
        (b"HMSG a 1 0 2\r\nhi\r\n", message("a", 1, None, None, "hi")),
        (b"HMSG a 1 2 2\r\n\xff\xff\r\n",
            Owned::Message { subject: b"a".to_vec(), sid: 1, reply: None, headers: Some(b"\xff\xff".to_vec()), payload: vec![] }),
        // INFO, with its blank at the end, and with what is not JSON: that is for its reader.
        (b"INFO {\"port\":4222} \r\n", Owned::Info(b"{\"port\":4222}".to_vec())),
        (b"INFO {}\r\n", Owned::Info(b"{}".to_vec())),
        (b"info\t {} \t \n", Owned::Info(b"{}".to_vec())),
        (b"INFO {broken\r\n", Owned::Info(b"{broken".to_vec())),
        (b"PING\r\n", Owned::Ping),
        (b"ping\n", Owned::Ping),
        (b"PING  anything \t at all\r\n", Owned::Ping),
        (b"PONG\r\n", Owned::Pong),
        (b"Pong \r\n", Owned::Pong),
        (b"+OK\r\n", Owned::Ok),
        (b"+ok fine\n", Owned::Ok),
        // -ERR in every form.
        (b"-ERR 'Stale Connection'\r\n", Owned::Error(b"Stale Connection".to_vec())),
        (b"-ERR\r\n", Owned::Error(vec![])),
        (b"-ERR \r\n", Owned::Error(vec![])),
        (b"-ERR\n", Owned::Error(vec![])),
        (b"-err  \t 'x' \t\r\n", Owned::Error(b"x".to_vec())),
        (b"-ERR unquoted text\r\n", Owned::Error(b"unquoted text".to_vec())),
        (b"-ERR 'half\r\n", Owned::Error(b"'half".to_vec())),
        (b"-ERR '\r\n", Owned::Error(b"'".to_vec())),
        (b"-ERR ''\r\n", Owned::Error(vec![])),
        (b"-ERR 'it's'\r\n", Owned::Error(b"it's".to_vec())),
        (b"-ERR '\xff'\r\n", Owned::Error(b"\xff".to_vec())),
    ]
}

/// Lines after which the stream cannot be followed.
fn refused() -> Vec<(&'static [u8], DecodeError)> {
    use Expected::{Blank, EndOfLine, Sid, Size, Subject, Text};
    let malformed = |offset, expected| DecodeError::MalformedLine { offset, expected };
    let unknown = |offset, byte| DecodeError::UnknownOperation { offset, byte };
    vec![
        (b"MSG a 1 5\r\nhelloXX", DecodeError::PayloadNotTerminated { total_bytes: 5 }),
        (b"MSG a 1 5\r\nhello\n\r", DecodeError::PayloadNotTerminated { total_bytes: 5 }),
        (b"MSG a 1 4\r\nhello\r\n", DecodeError::PayloadNotTerminated { total_bytes: 4 }),
        (b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\nPI", DecodeError::PayloadNotTerminated { total_bytes: 12 }),
        (b"MSG a 1 -1\r\n", malformed(8, Size)),
        (b"MSG a 1 +2\r\n", malformed(8, Size)),
        (b"MSG a 1 abc\r\n", malformed(8, Size)),
        (b"MSG a 1 1x\r\n", malformed(8, Size)),
        (b"MSG a 1 9223372036854775808\r\n", malformed(8, Size)),
        (b"MSG a 1 18446744073709551615\r\n", malformed(8, Size)),
        (b"MSG a 1 4294967298\r\n", malformed(8, Size)),
        (b"MSG a 1 0000000005\r\n", malformed(8, Size)),
        (b"MSG a 1 r 4294967298\r\n", malformed(10, Size)),
        (
            b"MSG a 1 67108865\r\n",
            DecodeError::PayloadTooLarge { total_bytes: 67_108_865, max: PAYLOAD_BYTES_MAX },
        ),
        (
            b"MSG a 1 999999999\r\n",
            DecodeError::PayloadTooLarge { total_bytes: 999_999_999, max: PAYLOAD_BYTES_MAX },
        ),
        (b"HMSG a 1 13 12\r\n", DecodeError::HeadersLargerThanMessage { header_bytes: 13, total_bytes: 12 }),
        (b"hmsg a 1  13 12\n", DecodeError::HeadersLargerThanMessage { header_bytes: 13, total_bytes: 12 }),
        (b"HMSG a 1 -1 12\r\n", malformed(9, Size)),
        (b"HMSG a 1 12 -1\r\n", malformed(12, Size)),
        (b"HMSG a 1 4294967298 4294967298\r\n", malformed(9, Size)),
        // Too few and too many arguments.
        (b"MSG\r\n", malformed(3, Blank)),
        (b"MSG \r\n", malformed(4, Subject)),
        (b"MSG a\r\n", malformed(5, Blank)),
        (b"MSG a 1\r\n", malformed(7, Blank)),
        (b"MSG a 1 \r\n", malformed(8, Size)),
        (b"MSG a 1 r 5 6\r\n", malformed(11, EndOfLine)),
        (b"MSG a 1 r s 5 6\r\n", malformed(10, Size)),
        (b"HMSG a 1 12\r\n", malformed(11, Blank)),
        (b"HMSG a 1 r 12 17 18\r\n", malformed(16, EndOfLine)),
        (b"MSGa 1 5\r\n", malformed(3, Blank)),
        (b"MSG a b 5\r\n", malformed(6, Sid)),
        (b"MSG a -1 5\r\n", malformed(6, Sid)),
        (b"MSG a 100000000000000000000 5\r\n", malformed(6, Sid)),
        (b"MSG a 000000000000000000001 5\r\n", malformed(6, Sid)),
        (b"MSG a\rb 1 5\r\n", malformed(5, Blank)),
        (b"MSG a 1 5\r\r\n", malformed(9, EndOfLine)),
        (b"MSG a 1 5\rPING\r\n", malformed(9, EndOfLine)),
        (b"INFO\r\n", malformed(4, Blank)),
        (b"INFO \r\n", malformed(5, Text)),
        (b"INFO{}\r\n", malformed(4, Blank)),
        (b"-ERRtext\r\n", malformed(4, Blank)),
        (b"FOO\r\n", unknown(0, b'F')),
        (b"\r\n", unknown(0, b'\r')),
        (b"\n", unknown(0, b'\n')),
        (b" PING\r\n", unknown(0, b' ')),
        (b"\0", unknown(0, 0)),
        (b"PUB a 5\r\n", unknown(1, b'U')),
        (b"PIN\r\n", unknown(3, b'\r')),
        (b"MS\r\n", unknown(2, b'\r')),
        (b"HMSX", unknown(3, b'X')),
        (b"-ER\n", unknown(3, b'\n')),
        (b"+O\xff", unknown(2, 0xff)),
    ]
}

/// Checks what `wire` decodes to: whole, split in two everywhere, and byte by byte; by the fast way
/// and by the grammar alone.
fn check(wire: &[u8], operations: &[Owned], error: Option<DecodeError>) {
    let expected = (operations.to_vec(), error.map_or(End::Incomplete { needed: 1 }, End::Error));
    let text = String::from_utf8_lossy(wire);
    for split in 0..=wire.len() {
        assert_eq!(decode(wire, &[split]), expected, "{text:?} split at {split}");
    }
    let every: Vec<_> = (0..=wire.len()).collect();
    assert_eq!(decode(wire, &every), expected, "{text:?} byte by byte");
    let mut decoder = Decoder::new(DecoderLimits::default());
    assert_eq!(drain(&mut decoder, wire, Decoder::decode_slowly).0, expected, "{text:?} by the grammar");
}

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Message { subject: Vec<u8>, sid: u64, reply: Option<Vec<u8>>, headers: Option<Vec<u8>>, payload: Vec<u8> },
    Info(Vec<u8>),
    Ping,
    Pong,
    Ok,
    Error(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Incomplete { needed: usize },
    Error(DecodeError),
}

fn message(subject: &str, sid: u64, reply: Option<&str>, headers: Option<&str>, payload: &str) -> Owned {
    Owned::Message {
        subject: subject.into(),
        sid,
        reply: reply.map(Into::into),
        headers: headers.map(Into::into),
        payload: payload.into(),
    }
}

/// Decodes `wire`, of which more and more is there: up to each of `splits`, then all.
fn decode(wire: &[u8], splits: &[usize]) -> (Vec<Owned>, End) {
    let mut decoder = Decoder::new(DecoderLimits::default());
    let (mut operations, mut consumed) = (Vec::new(), 0);
    for &have in splits.iter().chain([&wire.len()]) {
        let ((more, end), taken) = drain(&mut decoder, &wire[consumed..have.max(consumed)], Decoder::decode);
        operations.extend(more);
        consumed += taken;
        if have == wire.len() || matches!(end, End::Error(_)) {
            return (operations, end);
        }
    }
    unreachable!("the last split is the end")
}

type Decode = for<'b> fn(&mut Decoder, &'b [u8]) -> Result<Decoded<'b>, DecodeError>;

fn drain(decoder: &mut Decoder, input: &[u8], decode: Decode) -> ((Vec<Owned>, End), usize) {
    let (mut operations, mut at) = (Vec::new(), 0);
    loop {
        match decode(decoder, &input[at..]) {
            Ok(Decoded::Operation { operation, consumed }) => {
                assert!(consumed > 0);
                at += consumed;
                operations.push(own(operation));
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > input.len() - at);
                return ((operations, End::Incomplete { needed }), at);
            }
            Err(error) => return ((operations, End::Error(error)), at),
        }
    }
}

fn own(operation: Operation<'_>) -> Owned {
    match operation {
        Operation::Message(message) => Owned::Message {
            subject: message.subject.to_vec(),
            sid: message.sid.raw(),
            reply: message.reply.map(Into::into),
            headers: message.headers.map(Into::into),
            payload: message.payload.to_vec(),
        },
        Operation::Info(json) => Owned::Info(json.to_vec()),
        Operation::Ping => Owned::Ping,
        Operation::Pong => Owned::Pong,
        Operation::Ok => Owned::Ok,
        Operation::Error(text) => Owned::Error(text.to_vec()),
    }
}
