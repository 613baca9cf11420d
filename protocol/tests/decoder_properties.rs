//! The decoder over streams that nobody thought of: same answers however they are cut, and whether
//! the fast scan or the grammar reads them.

#[path = "../../tests/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
#[allow(dead_code, reason = "of its properties, this test calls the decoder's")]
mod properties;

use croupier_protocol::{Decoded, Decoder, DecoderLimits, MessageFrame, Operation, Sid};
use properties::decoder::check_stream;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_decode_alike_however_they_are_cut(
        stream in vec(any::<u8>(), 0..300),
        pieces in vec(1_u8.., 1..5),
    ) {
        check_stream(&stream, small(), &pieces);
    }

    #[test]
    fn lines_decode_alike_however_they_are_cut(
        stream in vec(piece(), 0..12),
        pieces in vec(1_u8.., 1..5),
    ) {
        check_stream(&stream.concat(), DecoderLimits::default(), &pieces);
        check_stream(&stream.concat(), small(), &pieces);
    }

    #[test]
    fn a_line_with_a_byte_changed_decodes_alike_however_it_is_cut(
        stream in vec(operation(), 1..5),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        pieces in vec(1_u8.., 1..5),
    ) {
        let mut stream = stream.concat();
        let place = place.index(stream.len());
        stream[place] = byte;
        check_stream(&stream, DecoderLimits::default(), &pieces);
    }

    #[test]
    fn a_message_is_what_was_written(
        subject in token(),
        reply in proptest::option::of(token()),
        sid in any::<u64>(),
        headers in proptest::option::of(vec(any::<u8>(), 1..40)),
        payload in vec(any::<u8>(), 0..100),
    ) {
        let wire = message(&subject, sid, reply.as_deref(), headers.as_deref(), &payload);
        let mut decoder = Decoder::new(DecoderLimits::default());
        let wanted = Operation::Message(MessageFrame {
            subject: &subject,
            sid: Sid::from_raw(sid),
            reply: reply.as_deref(),
            headers: headers.as_deref(),
            payload: &payload,
        });
        prop_assert_eq!(
            decoder.decode(&wire),
            Ok(Decoded::Operation { operation: wanted, consumed: wire.len() })
        );
    }
}

fn small() -> DecoderLimits {
    DecoderLimits { control_line_bytes_max: 40, info_bytes_max: 60, payload_bytes_max: 30 }
}

/// Whole operations, and pieces of them that make odd ones.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop::sample::select(&SCRAPS[..]).prop_map(|scrap| scrap.to_vec());
    prop_oneof![2 => operation(), 1 => scrap]
}

const SCRAPS: [&[u8]; 24] = [
    b"MSG",
    b"HMSG",
    b"msg ",
    b"INFO ",
    b"PING",
    b"PONG",
    b"+OK",
    b"-ERR ",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"a ",
    b"1 ",
    b"0 ",
    b"5 ",
    b"007",
    b"-1",
    b"999999999",
    b"18446744073709551616",
    b"'",
    b"{}",
    b"\xff",
];

fn operation() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (token(), 0..1_000_000_u64, proptest::option::of(token()), vec(any::<u8>(), 0..20))
            .prop_map(|(subject, sid, reply, payload)| message(&subject, sid, reply.as_deref(), None, &payload)),
        2 => (token(), 0..100_u64, proptest::option::of(token()), vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9))
            .prop_map(|(subject, sid, reply, headers, payload)| {
                message(&subject, sid, reply.as_deref(), Some(&headers), &payload)
            }),
        1 => Just(b"PING\r\n".to_vec()),
        1 => Just(b"pong \n".to_vec()),
        1 => Just(b"+OK\r\n".to_vec()),
        1 => Just(b"-ERR 'Stale Connection'\r\n".to_vec()),
        1 => Just(b"INFO {\"port\":4222} \r\n".to_vec()),
    ]
}

/// Digits alone are likely: they look like sizes.
fn token() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof!["[0-9]{1,20}", "[a-z0-9.]{1,40}", "[!-~]{1,12}"].prop_map(String::into_bytes);
    let bytes = vec(any::<u8>().prop_filter("no blank", |byte| !b" \t\r\n".contains(byte)), 1..20);
    prop_oneof![3 => text, 1 => bytes]
}

fn message(
    subject: &[u8],
    sid: u64,
    reply: Option<&[u8]>,
    headers: Option<&[u8]>,
    payload: &[u8],
) -> Vec<u8> {
    let name = if headers.is_some() { "HMSG" } else { "MSG" };
    let mut line = vec![name.as_bytes().to_vec(), subject.to_vec(), sid.to_string().into_bytes()];
    line.extend(reply.map(<[u8]>::to_vec));
    line.extend(headers.map(|headers| headers.len().to_string().into_bytes()));
    line.push((headers.map_or(0, <[u8]>::len) + payload.len()).to_string().into_bytes());
    [&line.join(&b' ')[..], b"\r\n", headers.unwrap_or_default(), payload, b"\r\n"].concat()
}
