//! Header blocks: what is read, what is refused, what callers may put in.

#[path = "../../tests/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
#[allow(dead_code, reason = "of its properties, this test calls the headers'")]
mod properties;

use croupier_protocol::limits::HEADER_COUNT_MAX;
use croupier_protocol::{HeaderError, Headers, Status, status_code};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn a_block_is_read_in_order() {
    let headers = Headers::parse(b"NATS/1.0\r\nA: b\r\nC:d\r\nA:\t e f \t\r\nEmpty:\r\nX:a:b\r\n\r\n")
        .expect("headers");
    let all: Vec<_> = headers.iter().collect();
    assert_eq!(all, [("A", "b"), ("C", "d"), ("A", "e f"), ("Empty", ""), ("X", "a:b")]);
    assert_eq!(headers.get("A"), Some("b"));
    assert_eq!(headers.get_all("A").collect::<Vec<_>>(), ["b", "e f"]);
    assert_eq!(headers.get("a"), None, "case matters");
    assert_eq!((headers.len(), headers.is_empty(), headers.status()), (5, false, None));
}

#[test]
fn an_empty_block_has_no_headers() {
    let headers = Headers::parse(b"NATS/1.0\r\n\r\n").expect("headers");
    assert!(headers.is_empty());
    assert_eq!(headers, Headers::new());
    assert_eq!(headers.encoded_len(), 12);
}

#[test]
fn a_status_is_read_with_and_without_text() {
    for (block, expected) in [
        ("NATS/1.0 503\r\n\r\n", Some((503, ""))),
        ("NATS/1.0 503\r\nNats-Subject: x\r\n\r\n", Some((503, ""))),
        ("NATS/1.0 503\r\nNats-Subject: x.abcd\r\n\r\n", Some((503, ""))),
        ("NATS/1.0 503 No Responders\r\n\r\n", Some((503, "No Responders"))),
        ("NATS/1.0  100 \t Idle Heartbeat \r\n\r\n", Some((100, "Idle Heartbeat"))),
        ("NATS/1.0\t408\r\n\r\n", Some((408, ""))),
        ("NATS/1.0 000\r\n\r\n", Some((0, ""))),
        ("NATS/1.0\r\n\r\n", None),
        ("NATS/1.0 \t\r\n\r\n", None),
    ] {
        let headers = Headers::parse(block.as_bytes()).expect(block);
        assert_eq!(headers.status(), expected.map(|(code, text)| Status { code, text }), "{block}");
        assert_eq!(status_code(block.as_bytes()), expected.map(|(code, _)| code), "{block}");
        assert_eq!(headers.is_empty(), expected.is_none() && headers.iter().next().is_none());
        let mut again = Vec::new();
        headers.encode(&mut again);
        assert_eq!(again.len(), headers.encoded_len());
        assert_eq!(Headers::parse(&again), Ok(headers));
    }
    assert_eq!("NATS/1.0 503\r\n\r\n".len(), 16);
    assert_eq!("NATS/1.0 503\r\nNats-Subject: x.abcd\r\n\r\n".len(), 38);
}

#[test]
fn a_status_code_is_found_without_the_rest() {
    for (block, expected) in [
        ("NATS/1.0 503\r\nbroken", Some(503)),
        ("NATS/1.0 503", None),
        ("NATS/1.0 50\r\n\r\n", None),
        ("NATS/1.0 5033\r\n\r\n", None),
        ("NATS/1.0503\r\n\r\n", None),
        ("NATS/1.1 503\r\n\r\n", None),
        ("NATS/1.0 abc\r\n\r\n", None),
        ("", None),
    ] {
        assert_eq!(status_code(block.as_bytes()), expected, "{block}");
    }
}

#[test]
fn a_malformed_block_is_refused_with_the_place() {
    use HeaderError::{End, Name, NotUtf8, Status, Value, Version};
    for (block, expected) in [
        (&b""[..], Version),
        (b"garbage", Version),
        (b"NATS/1.1\r\n\r\n", Version),
        (b"nats/1.0\r\n\r\n", Version),
        (b"NATS/1.0", End { had: 8 }),
        (b"NATS/1.0\r\n", End { had: 10 }),
        (b"NATS/1.0\n\n", End { had: 10 }),
        (b"NATS/1.0\r\nA: b\r\n", End { had: 16 }),
        (b"NATS/1.0\r\n\r\nA: b\r\n\r\n", End { had: 20 }),
        (b"NATS/1.0\r\n\r\n ", End { had: 13 }),
        (b"NATS/1.0 x\r\n\r\n", Status),
        (b"NATS/1.0x\r\n\r\n", Status),
        (b"NATS/1.0 5033\r\n\r\n", Status),
        (b"NATS/1.0\r\nno colon\r\n\r\n", Name { offset: 12 }),
        (b"NATS/1.0\r\nnocolon\r\n\r\n", Name { offset: 17 }),
        (b"NATS/1.0\r\n: b\r\n\r\n", Name { offset: 10 }),
        (b"NATS/1.0\r\n folded\r\n\r\n", Name { offset: 10 }),
        (b"NATS/1.0\r\nA : b\r\n\r\n", Name { offset: 11 }),
        (b"NATS/1.0\r\n\xc3\xa9: b\r\n\r\n", Name { offset: 10 }),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", NotUtf8 { offset: 13 }),
        (b"NATS/1.0 503 \xff\r\n\r\n", NotUtf8 { offset: 13 }),
        (b"NATS/1.0\r\nA: b\rc\r\n\r\n", Value { offset: 14 }),
        (b"NATS/1.0\r\nA: b\0\r\n\r\n", Value { offset: 14 }),
    ] {
        assert_eq!(Headers::parse(block), Err(expected), "{}", String::from_utf8_lossy(block));
    }
}

#[test]
fn insert_replaces_and_append_adds() {
    let mut headers = Headers::new();
    for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
        headers.append(name, value).expect("a header");
    }
    headers.insert("A", " 4 ").expect("a header");
    headers.insert("C", "5").expect("a header");
    assert_eq!(headers.iter().collect::<Vec<_>>(), [("A", "4"), ("B", "2"), ("C", "5")]);
    assert_eq!((headers.remove("A"), headers.remove("A")), (1, 0));
    assert_eq!(headers.iter().collect::<Vec<_>>(), [("B", "2"), ("C", "5")]);
}

#[test]
fn nothing_that_is_put_in_can_end_a_line() {
    let mut headers = Headers::new();
    for (name, value, expected) in [
        ("", "b", HeaderError::Name { offset: 0 }),
        ("A:B", "b", HeaderError::Name { offset: 1 }),
        ("A B", "b", HeaderError::Name { offset: 1 }),
        ("A\r\nB", "b", HeaderError::Name { offset: 1 }),
        ("é", "b", HeaderError::Name { offset: 0 }),
        ("A", "b\r\nC: d", HeaderError::Value { offset: 1 }),
        ("A", "\n", HeaderError::Value { offset: 0 }),
        ("A", "b\0", HeaderError::Value { offset: 1 }),
    ] {
        assert_eq!(headers.insert(name, value), Err(expected));
        assert_eq!(headers.append(name, value), Err(expected));
        assert!(headers.is_empty());
    }
}

#[test]
fn there_are_only_so_many_headers() {
    let too_many = HeaderError::TooMany { max: HEADER_COUNT_MAX };
    let mut headers = Headers::new();
    for _ in 0..HEADER_COUNT_MAX {
        headers.append("A", "b").expect("room");
    }
    assert_eq!(headers.append("A", "b"), Err(too_many));
    assert_eq!(headers.insert("B", "b"), Err(too_many));
    assert_eq!(headers.insert("A", "c"), Ok(()));
    assert_eq!(headers.len(), 1);

    let block = |count| [b"NATS/1.0\r\n", &b"A:\r\n".repeat(count)[..], b"\r\n"].concat();
    assert_eq!(Headers::parse(&block(HEADER_COUNT_MAX)).map(|headers| headers.len()), Ok(HEADER_COUNT_MAX));
    assert_eq!(Headers::parse(&block(HEADER_COUNT_MAX + 1)), Err(too_many));
}

proptest! {
    #[test]
    fn what_is_put_in_is_read_back(entries in vec(("[!-9;-~]{1,20}", "[^\r\n\0]{0,40}"), 0..20)) {
        let mut headers = Headers::new();
        for (name, value) in &entries {
            prop_assert_eq!(headers.append(name, value), Ok(()));
        }
        let mut block = b"before".to_vec();
        headers.encode(&mut block);
        let block = &block[b"before".len()..];
        prop_assert_eq!(block.len(), headers.encoded_len());
        prop_assert_eq!(Headers::parse(block), Ok(headers));
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in vec(any::<u8>(), 0..200)) {
        properties::headers::check(&data);
    }

    #[test]
    fn near_blocks_are_read_or_refused(
        block in "NATS/1\\.0( [0-9]{0,4}[ a-z]{0,5})?\r\n([A-C]{0,2}:?[ a-z\t]{0,5}\r?\n){0,5}\r\n"
    ) {
        properties::headers::check(block.as_bytes());
    }
}
