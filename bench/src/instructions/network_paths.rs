//! Hot paths of the ring and of the protocol: owners, messages in, messages out, requests.

use std::hint::black_box;
use std::time::{Duration, Instant};

use croupier_protocol::{
    Connection, ConnectionConfig, Decoded, Decoder, DecoderLimits, Event, Headers, Operation, Progress,
    Requests, Subject, Subscriptions, encode,
};
use croupier_ring::{CLUSTER_UNITS, ClusterRing, ClusterTable, RingClass, ServiceRing, ServiceTable};

use super::Path;

/// The paths.
pub const PATHS: [Path; 18] = [
    Path { name: "ring.owner of 16 clusters", go: cluster_owner, times: 20_000 },
    Path { name: "ring.three owners of 16 clusters", go: three_clusters, times: 20_000 },
    Path {
        name: "ring.owner of 100 instances",
        go: |times| service_owner(RingClass::Small, 100, times),
        times: 20_000,
    },
    Path {
        name: "ring.owner of 4000 instances",
        go: |times| service_owner(RingClass::Medium, 4000, times),
        times: 20_000,
    },
    Path {
        name: "ring.owner of 10000 instances",
        go: |times| service_owner(RingClass::Large14, 10_000, times),
        times: 20_000,
    },
    Path { name: "ring.join among 100 instances and more", go: joins, times: 100 },
    Path { name: "ring.join and leave among 100 instances", go: join_and_leave, times: 100 },
    Path {
        name: "protocol.decode MSG, subject of 5",
        go: |times| decode(SHORT, None, false, times),
        times: 20_000,
    },
    Path {
        name: "protocol.decode MSG, subject of 28",
        go: |times| decode(LONG, None, false, times),
        times: 20_000,
    },
    Path {
        name: "protocol.decode MSG, subject of 28, reply of 32",
        go: |times| decode(LONG, Some(REPLY), false, times),
        times: 20_000,
    },
    Path {
        name: "protocol.decode HMSG, subject of 28, reply of 32",
        go: |times| decode(LONG, Some(REPLY), true, times),
        times: 20_000,
    },
    Path { name: "protocol.read one header of an HMSG", go: read_header, times: 20_000 },
    Path { name: "protocol.dispatch MSG to its subscription", go: dispatch, times: 20_000 },
    Path {
        name: "protocol.encode PUB with a prefix, subject of 5",
        go: |times| encode_prefixed(SHORT, times),
        times: 20_000,
    },
    Path {
        name: "protocol.encode PUB with a prefix, subject of 28",
        go: |times| encode_prefixed(LONG, times),
        times: 20_000,
    },
    Path { name: "protocol.encode PUB with a subject", go: encode_subject, times: 20_000 },
    Path { name: "protocol.encode HPUB", go: encode_headers, times: 20_000 },
    Path { name: "protocol.request and its token back", go: request, times: 20_000 },
];

const SHORT: &str = "a.b.c";
const LONG: &str = "orders.europe.1234567.placed";
const REPLY: &str = "_INBOX.abcdefghijklmnopq.1234567";
const PAYLOAD: &[u8; 16] = b"0123456789abcdef";
/// Messages of a buffer, and keys, before they come again. Not so many that preparing takes longer than counting.
const DISTINCT: u64 = 1024;

// Ring.

fn keys() -> Vec<String> {
    (0..DISTINCT).map(|key| format!("room.{key:08}.chat")).collect()
}

fn clusters() -> ClusterTable {
    let builder = (0..16).fold(ClusterRing::builder(), |builder, number| {
        builder.member(format!("cluster-{number}"), CLUSTER_UNITS)
    });
    builder.build().expect("16 clusters are a ring").table()
}

fn ring(class: RingClass, members: usize) -> ServiceRing {
    let builder = (0..members)
        .fold(ServiceRing::builder(class), |builder, number| builder.member(format!("instance-{number}"), 1));
    builder.build().expect("the members are a ring")
}

fn instances(class: RingClass, members: usize) -> ServiceTable {
    ring(class, members).table()
}

/// Sums what is answered for each key, and holds it below what all could be.
fn look_up(members: usize, times: u64, answer: impl Fn(&[u8]) -> usize) {
    let keys = keys();
    let sum: usize =
        (0..times).map(|number| answer(black_box(keys[(number % DISTINCT) as usize].as_bytes()))).sum();
    assert!(sum <= (members - 1) * times as usize * 3);
    black_box(sum);
}

fn cluster_owner(times: u64) {
    let table = clusters();
    look_up(16, times, |key| table.owner(key));
}

fn three_clusters(times: u64) {
    let table = clusters();
    look_up(16, times, |key| table.owners(key, 3).sum());
}

fn service_owner(class: RingClass, members: usize, times: u64) {
    let table = instances(class, members);
    look_up(members, times, |key| table.owner(key));
}

fn joins(times: u64) {
    let mut ring = ring(RingClass::Small, 100);
    for number in 0..times {
        ring.join(format!("newcomer-{number}"), 1).expect("there is room");
    }
    assert_eq!(ring.len() as u64, 100 + times);
}

fn join_and_leave(times: u64) {
    let mut ring = ring(RingClass::Small, 100);
    let before = ring.fingerprint();
    for number in 0..times {
        let index = ring.join(format!("newcomer-{number}"), 1).expect("there is room");
        assert_eq!(index, 100, "the one before has left");
        ring.leave(index).expect("others are left");
    }
    assert_eq!(ring.fingerprint(), before, "who joined and left has changed nothing");
}

// Messages in.

fn block() -> Vec<u8> {
    let mut headers = Headers::new();
    headers.insert("Trace", "0af7651916cd43dd8448eb211c80319c").expect("a header");
    let mut block = Vec::new();
    headers.encode(&mut block);
    block
}

fn messages(subject: &str, reply: Option<&str>, with_headers: bool) -> Vec<u8> {
    let block = block();
    let mut buffer = Vec::new();
    for sid in 1..=DISTINCT {
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

fn decode(subject: &str, reply: Option<&str>, with_headers: bool, times: u64) {
    let buffer = messages(subject, reply, with_headers);
    let mut decoder = Decoder::new(DecoderLimits::default());
    let mut rest: &[u8] = &[];
    let mut bytes = 0;
    for _ in 0..times {
        if rest.is_empty() {
            rest = black_box(&buffer);
        }
        match decoder.decode(rest).expect("valid operations") {
            Decoded::Operation { operation: Operation::Message(message), consumed } => {
                bytes += message.subject.len() + message.reply.map_or(0, <[u8]>::len) + message.payload.len();
                rest = &rest[consumed..];
            }
            other => panic!("a message expected, not {other:?}"),
        }
    }
    assert_eq!(bytes as u64, times * (subject.len() + reply.map_or(0, str::len) + PAYLOAD.len()) as u64);
}

fn read_header(times: u64) {
    let block = block();
    let mut found = 0;
    for _ in 0..times {
        let headers = Headers::parse(black_box(&block)).expect("good headers");
        found += headers.get("Trace").map_or(0, str::len) as u64;
    }
    assert_eq!(found, times * 32);
}

fn dispatch(times: u64) {
    let now = Instant::now();
    let mut connection = Connection::new(ConnectionConfig::default(), now);
    let mut subscriptions = Subscriptions::new();
    let mut sids = Vec::new();
    for _ in 0..DISTINCT {
        sids.push(
            subscriptions
                .insert(Subject::literal(LONG).expect("a subject"), None, 0_u64)
                .expect("room")
                .raw(),
        );
    }
    let mut buffer = Vec::new();
    for sid in sids {
        buffer.extend_from_slice(format!("MSG {LONG} {sid} {}\r\n", PAYLOAD.len()).as_bytes());
        buffer.extend_from_slice(PAYLOAD);
        buffer.extend_from_slice(b"\r\n");
    }
    let info = b"INFO {} \r\n";
    match connection.handle_input(info, now).expect("a good INFO") {
        Progress::Event { event: Event::ServerInfo { .. }, consumed } => assert_eq!(consumed, info.len()),
        other => panic!("INFO expected, not {other:?}"),
    }
    connection.connect(&mut Vec::new());
    let mut rest: &[u8] = &[];
    // As a session of the runtime does it.
    for _ in 0..times {
        if rest.is_empty() {
            rest = black_box(&buffer);
        }
        let (message, consumed) = connection.handle_message(rest).expect("a message");
        subscriptions.get_mut(message.sid).expect("its subscription").value += message.payload.len() as u64;
        rest = &rest[consumed..];
    }
    let bytes: u64 = subscriptions.iter().map(|(_, subscribed)| subscribed.value).sum();
    assert_eq!(bytes, times * PAYLOAD.len() as u64);
}

// Messages out.

/// Appends so many messages; the buffer is emptied as a socket would empty it.
fn append(times: u64, whole: usize, mut one: impl FnMut(&mut Vec<u8>)) {
    let mut out = Vec::with_capacity(DISTINCT as usize * whole);
    let mut bytes = 0;
    for number in 0..times {
        if number % DISTINCT == 0 {
            bytes += out.len();
            out.clear();
        }
        one(black_box(&mut out));
    }
    assert_eq!(bytes + out.len(), times as usize * whole);
}

fn encode_prefixed(subject: &str, times: u64) {
    let prefix = encode::PublishPrefix::new(&Subject::literal(subject).expect("a subject"));
    let whole = format!("PUB {subject} 16\r\n").len() + PAYLOAD.len() + 2;
    append(times, whole, |out| encode::publish_prefixed(out, black_box(&prefix), black_box(PAYLOAD)));
}

fn encode_subject(times: u64) {
    let whole = format!("PUB {LONG} {REPLY} 16\r\n").len() + PAYLOAD.len() + 2;
    append(times, whole, |out| {
        encode::publish(
            out,
            black_box(LONG.as_bytes()),
            black_box(Some(REPLY.as_bytes())),
            black_box(PAYLOAD),
        );
    });
}

fn encode_headers(times: u64) {
    let mut headers = Headers::new();
    headers.insert("Trace", "0af7651916cd43dd8448eb211c80319c").expect("a header");
    let (block, subject) = (block().len(), LONG.as_bytes());
    let line = format!("HPUB {LONG} {block} {}\r\n", block + PAYLOAD.len());
    append(times, line.len() + block + PAYLOAD.len() + 2, |out| {
        encode::publish_with_headers(out, black_box(subject), None, black_box(&headers), black_box(PAYLOAD));
    });
}

fn request(times: u64) {
    let start = Instant::now();
    let mut requests = Requests::new(64);
    let mut text = Vec::new();
    let mut sum = 0;
    for number in 0..times {
        let deadline = start + Duration::from_micros(number);
        let token = requests.insert(deadline, number).expect("room for 64");
        text.clear();
        token.write_to(&mut text);
        sum += requests.take(black_box(&text)).expect("it is in flight");
    }
    assert_eq!(sum, (0..times).sum::<u64>());
    assert!(requests.is_empty());
}
