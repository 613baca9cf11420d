//! Protocol: nanoseconds per message decoded and encoded, in memory, 16-byte payloads.
//!
//! One iteration is one message of a buffer of thousands, so the printed time is per message. It is
//! time on a processor, so that a busy machine, where the thread has to wait, tells the same. Each
//! pass checks its answer: how many messages, and the sum of what they carry.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use croupier_protocol::{Decoded, Decoder, DecoderLimits, Headers, Operation, Subject, encode};

criterion_group!(benches, decode, encode_publish);
criterion_main!(benches);

const MESSAGES: u64 = 4096;
const SUBJECT_SHORT: &str = "a.b.c";
const SUBJECT_LONG: &str = "orders.europe.1234567.placed";
const REPLY: &str = "_INBOX.abcdefghijklmnopq.1234567";
const PAYLOAD: &[u8; 16] = b"0123456789abcdef";

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol/decode");
    for (name, subject, reply) in [
        ("subject of 5 bytes", SUBJECT_SHORT, None),
        ("subject of 28 bytes", SUBJECT_LONG, None),
        ("subject of 28 bytes, reply of 32", SUBJECT_LONG, Some(REPLY)),
    ] {
        let buffer = messages(subject, reply, false);
        group.bench_function(name, |bencher| per_message(bencher, || decode_all(&buffer, subject, reply)));
    }
    let buffer = messages(SUBJECT_LONG, Some(REPLY), true);
    group.bench_function("subject of 28 bytes, reply of 32, headers", |bencher| {
        per_message(bencher, || decode_all(&buffer, SUBJECT_LONG, Some(REPLY)));
    });
    group.finish();
}

fn encode_publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol/encode");
    for (name, subject) in [("prefix of 5 bytes", SUBJECT_SHORT), ("prefix of 28 bytes", SUBJECT_LONG)] {
        let prefix = encode::PublishPrefix::new(&Subject::literal(subject).expect("a subject"));
        let whole = format!("PUB {subject} 16\r\n0123456789abcdef\r\n");
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            per_message(bencher, || {
                out.clear();
                for _ in 0..MESSAGES {
                    encode::publish_prefixed(&mut out, black_box(&prefix), black_box(PAYLOAD));
                }
                assert_eq!(out.len(), MESSAGES as usize * whole.len());
                assert!(out.ends_with(whole.as_bytes()));
            });
        });
        assert!(out.chunks(whole.len()).all(|message| message == whole.as_bytes()));
    }
    group.finish();
}

/// Times passes over a buffer of [`MESSAGES`] and gives each iteration the share of one message.
fn per_message(bencher: &mut Bencher<'_>, mut pass: impl FnMut()) {
    bencher.iter_custom(|messages| {
        let passes = messages.div_ceil(MESSAGES);
        let start = processor_time();
        for _ in 0..passes {
            pass();
        }
        let elapsed = processor_time() - start;
        let nanoseconds = elapsed.as_nanos() * u128::from(messages) / u128::from(passes * MESSAGES);
        Duration::from_nanos(nanoseconds as u64)
    });
}

/// Time that this thread has spent on a processor.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours, and the call writes nothing else.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "a thread has a clock of its own");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn decode_all(buffer: &[u8], subject: &str, reply: Option<&str>) {
    let mut decoder = Decoder::new(DecoderLimits::default());
    let mut rest = black_box(buffer);
    let (mut count, mut sids, mut bytes) = (0, 0, 0);
    while !rest.is_empty() {
        match decoder.decode(rest).expect("valid operations") {
            Decoded::Operation { operation: Operation::Message(message), consumed } => {
                count += 1;
                sids += message.sid.raw();
                bytes += message.subject.len() + message.reply.map_or(0, <[u8]>::len) + message.payload.len();
                rest = &rest[consumed..];
            }
            other => panic!("a message expected, not {other:?}"),
        }
    }
    let each = subject.len() + reply.map_or(0, str::len) + PAYLOAD.len();
    assert_eq!((count, sids, bytes), (MESSAGES, (1..=MESSAGES).sum(), MESSAGES as usize * each));
}

fn messages(subject: &str, reply: Option<&str>, with_headers: bool) -> Vec<u8> {
    let mut headers = Headers::new();
    headers.insert("Trace", "0af7651916cd43dd8448eb211c80319c").expect("a header");
    let mut block = Vec::new();
    headers.encode(&mut block);
    let mut buffer = Vec::new();
    for sid in 1..=MESSAGES {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let line = if with_headers {
            format!("HMSG {subject} {sid} {reply}{} {}\r\n", block.len(), block.len() + PAYLOAD.len())
        } else {
            format!("MSG {subject} {sid} {reply}{}\r\n", PAYLOAD.len())
        };
        buffer.extend_from_slice(line.as_bytes());
        if with_headers {
            buffer.extend_from_slice(&block);
        }
        buffer.extend_from_slice(PAYLOAD);
        buffer.extend_from_slice(b"\r\n");
    }
    buffer
}
