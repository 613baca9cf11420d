//! What the encoder writes, byte by byte, and what the strict reader makes of it.

use croupier_protocol::{
    ClientOperation, ClientOperationKind, ConnectOptions, Headers, Sid, Subject, encode,
    next_client_operation,
};

#[test]
fn operations_are_written_as_the_protocol_has_them() {
    let prefix = encode::PublishPrefix::new(&Subject::literal("a.b").expect("a subject"));
    assert_eq!(prefix.as_bytes(), b"PUB a.b ");
    let mut headers = Headers::new();
    headers.append("A", "b").expect("a header");
    let sid = Sid::from_raw(16_777_217);

    check(|out| encode::publish(out, b"a", None, b"hi"), "PUB a 2\r\nhi\r\n");
    check(|out| encode::publish(out, b"a", Some(b"r"), b""), "PUB a r 0\r\n\r\n");
    check(|out| encode::publish_line(out, b"a", Some(b"r"), 1_048_576), "PUB a r 1048576\r\n");
    check(|out| encode::publish_prefixed(out, &prefix, b"0123456789"), "PUB a.b 10\r\n0123456789\r\n");
    check(|out| encode::publish_prefixed(out, &prefix, b""), "PUB a.b 0\r\n\r\n");
    check(|out| encode::publish_prefixed_line(out, &prefix, 7), "PUB a.b 7\r\n");
    check(
        |out| encode::publish_with_headers(out, b"a", None, &headers, b"hi"),
        "HPUB a 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
    );
    check(
        |out| encode::publish_with_headers_line(out, b"a", Some(b"r"), &headers, 100),
        "HPUB a r 18 118\r\nNATS/1.0\r\nA: b\r\n\r\n",
    );
    check(
        |out| encode::publish_with_headers(out, b"a", None, &Headers::new(), b""),
        "HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    );
    check(|out| encode::subscribe(out, b"a.>", None, sid), "SUB a.> 16777217\r\n");
    check(|out| encode::subscribe(out, b"a.*", Some(b"q"), sid), "SUB a.* q 16777217\r\n");
    check(|out| encode::unsubscribe(out, sid, None), "UNSUB 16777217\r\n");
    check(|out| encode::unsubscribe(out, sid, Some(5)), "UNSUB 16777217 5\r\n");
    check(encode::ping, "PING\r\n");
    check(encode::pong, "PONG\r\n");
}

#[test]
fn connect_says_all_that_has_a_default_and_nothing_that_is_not_given() {
    let options = ConnectOptions { name: Some("a\r\nPING\r\n\"".to_owned()), ..ConnectOptions::default() };
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
         \"name\":\"a\\r\\nPING\\r\\n\\\"\",\"lang\":\"rust-croupier\",\"version\":\"{version}\",\"protocol\":1,\
         \"echo\":true,\"headers\":true,\"no_responders\":true}}\r\n"
    );
    check(|out| encode::connect(out, &options), &expected);
}

#[test]
fn every_size_is_written_in_full() {
    let mut out = Vec::new();
    for exponent in 0..9 {
        for size in [10_usize.pow(exponent) - 1, 10_usize.pow(exponent)] {
            out.clear();
            encode::publish_line(&mut out, b"a", None, size);
            assert_eq!(out, format!("PUB a {size}\r\n").into_bytes());
        }
    }
    for raw in [0, 9, 10, u64::from(u32::MAX), u64::MAX] {
        out.clear();
        encode::unsubscribe(&mut out, Sid::from_raw(raw), Some(raw));
        assert_eq!(out, format!("UNSUB {raw} {raw}\r\n").into_bytes());
    }
}

#[test]
fn the_reader_finds_whole_operations_and_the_length_of_their_bodies() {
    use ClientOperationKind::{Connect, Ping, Pong, Publish, Subscribe, Unsubscribe};
    for (wire, kind, body_bytes) in [
        ("PUB a 5\r\nhello\r\n", Publish, 7),
        ("PUB a r 0\r\n\r\n", Publish, 2),
        // The body may lie elsewhere.
        ("PUB a 1048576\r\n", Publish, 1_048_578),
        ("HPUB a 12 17\r\n", Publish, 19),
        ("HPUB a r 12 12\r\n", Publish, 14),
        ("SUB a 1\r\nPING\r\n", Subscribe, 0),
        ("SUB a.> q 1\r\n", Subscribe, 0),
        ("UNSUB 1\r\n", Unsubscribe, 0),
        ("UNSUB 1 5\r\n", Unsubscribe, 0),
        ("CONNECT {\"a b\":1}\r\n", Connect, 0),
        ("PING\r\n", Ping, 0),
        ("PONG\r\n", Pong, 0),
    ] {
        let line_bytes = wire.find('\n').expect("a line") + 1;
        let expected = ClientOperation { kind, line_bytes, body_bytes };
        assert_eq!(next_client_operation(wire.as_bytes()), Some(expected), "{wire}");
        for cut in 0..line_bytes {
            assert_eq!(next_client_operation(&wire.as_bytes()[..cut]), None, "{wire} cut at {cut}");
        }
    }
}

#[test]
fn the_reader_takes_nothing_that_a_client_would_not_send() {
    for wire in [
        "",
        "\r\n",
        "FOO\r\n",
        "ping\r\n",
        "PING\n",
        "PING \r\n",
        "PING x\r\n",
        "PUB\r\n",
        "PUB 5\r\n",
        "PUB a\r\n",
        "PUB a 05\r\n",
        "PUB a -1\r\n",
        "PUB a +1\r\n",
        "PUB a b c 5\r\n",
        "PUB  a 5\r\n",
        "PUB a 5 \r\n",
        "PUB a\t5\r\n",
        "PUB a 18446744073709551615\r\n",
        "PUB a 18446744073709551616\r\n",
        "HPUB a 12\r\n",
        "HPUB a 13 12\r\n",
        "HPUB a r s 1 2\r\n",
        "SUB a\r\n",
        "SUB a q 1 2\r\n",
        "SUB a x\r\n",
        "UNSUB\r\n",
        "UNSUB a\r\n",
        "UNSUB 1 x\r\n",
        "CONNECT\r\n",
        "CONNECT {\r\n",
        "CONNECT []\r\n",
        "PUB a\rb 5\r\n",
        "PUB a\0 5\r\n",
        "MSG a 1 5\r\n",
    ] {
        assert_eq!(next_client_operation(wire.as_bytes()), None, "{wire:?}");
    }
}

/// Checks what is appended, that it is appended, and that it is one operation.
fn check(encode: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let mut out = b"before".to_vec();
    encode(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), format!("before{expected}"));
    assert!(next_client_operation(expected.as_bytes()).is_some(), "{expected}");
}
