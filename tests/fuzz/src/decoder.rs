//! The decoder says the same however its input is cut, and whether or not the fast scan runs; it
//! asks for no more than line, limit and line end.

use croupier_protocol::{DecodeError, Decoded, Decoder, DecoderLimits, Operation};

use super::recipe::Recipe;

/// The first bytes choose the limits and where the rest is cut; the rest is the stream.
pub fn check(data: &[u8]) {
    let mut recipe = Recipe::new(data);
    let limits = match recipe.byte() % 4 {
        0 => DecoderLimits { control_line_bytes_max: 32, info_bytes_max: 64, payload_bytes_max: 20 },
        1 => DecoderLimits { payload_bytes_max: 64, ..DecoderLimits::default() },
        _ => DecoderLimits::default(),
    };
    let steps = [recipe.byte(), recipe.byte(), recipe.byte()];
    check_stream(recipe.rest(), limits, &steps);
}

/// Decodes `stream` whole, by the grammar alone, byte by byte and in pieces of these lengths, over
/// and over; all must agree.
pub fn check_stream(stream: &[u8], limits: DecoderLimits, pieces: &[u8]) {
    let whole = run(stream, limits, [stream.len()].into_iter().cycle(), Decoder::decode);
    let by_grammar = run(stream, limits, [stream.len()].into_iter().cycle(), Decoder::decode_slowly);
    assert_eq!(whole, by_grammar, "the scan and the grammar");
    let byte_by_byte = run(stream, limits, [1].into_iter().cycle(), Decoder::decode);
    assert_eq!(whole, byte_by_byte, "byte by byte");
    let lengths = pieces.iter().map(|&length| usize::from(length).max(1));
    let in_pieces = run(stream, limits, lengths.chain([1]).cycle(), Decoder::decode);
    assert_eq!(whole, in_pieces, "in pieces of {pieces:?}");
    let mixed = run(stream, limits, [3, 14].into_iter().cycle(), |decoder, input| {
        if input.len() % 2 == 0 { decoder.decode(input) } else { decoder.decode_slowly(input) }
    });
    assert_eq!(whole, mixed, "the scan and the grammar in turns");
}

/// Where each operation begins and what it is, and how the stream ends.
type Outcome<'s> = (Vec<(usize, Operation<'s>)>, Result<(), DecodeError>);

fn run<'s>(
    stream: &'s [u8],
    limits: DecoderLimits,
    mut lengths: impl Iterator<Item = usize>,
    decode: impl for<'b> Fn(&mut Decoder, &'b [u8]) -> Result<Decoded<'b>, DecodeError>,
) -> Outcome<'s> {
    let mut decoder = Decoder::new(limits);
    let (mut operations, mut at, mut have) = (Vec::new(), 0, 0);
    loop {
        match decode(&mut decoder, &stream[at..have]) {
            Ok(Decoded::Operation { operation, consumed }) => {
                assert!((1..=have - at).contains(&consumed), "{consumed} consumed of {}", have - at);
                check_limits(&operation, consumed, limits);
                operations.push((at, operation));
                at += consumed;
            }
            Ok(Decoded::Incomplete { needed }) => {
                let line_bytes_max = limits.control_line_bytes_max.max(limits.info_bytes_max);
                assert!(needed > have - at, "{needed} needed, {} there", have - at);
                assert!(needed <= line_bytes_max + limits.payload_bytes_max + 2, "{needed} needed");
                if have == stream.len() {
                    return (operations, Ok(()));
                }
                have += lengths.next().unwrap_or(usize::MAX).min(stream.len() - have);
            }
            Err(error) => return (operations, Err(error)),
        }
    }
}

fn check_limits(operation: &Operation<'_>, consumed: usize, limits: DecoderLimits) {
    match operation {
        Operation::Message(message) => {
            let size = message.payload.len() + message.headers.map_or(0, <[u8]>::len);
            assert!(size <= limits.payload_bytes_max);
            assert!(consumed - size - 2 <= limits.control_line_bytes_max);
            assert!(!message.subject.is_empty() && message.reply != Some(b""));
        }
        Operation::Info(_) => assert!(consumed <= limits.info_bytes_max),
        _ => assert!(consumed <= limits.control_line_bytes_max),
    }
}
