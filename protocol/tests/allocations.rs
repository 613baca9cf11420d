//! No message in or out allocates: counted by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use croupier_protocol::{
    Connection, ConnectionConfig, Decoded, Decoder, DecoderLimits, Delivery, Event, Headers, Progress,
    Requests, Subject, Subscriptions, encode, status_code,
};

const MESSAGES: &[u8] = b"MSG a.b.c 1 16\r\n0123456789abcdef\r\n\
    MSG a.b.c 1 _INBOX.abc.1 16\r\n0123456789abcdef\r\n\
    HMSG a.b.c 1 16 32\r\nNATS/1.0 503\r\n\r\n0123456789abcdef\r\n\
    msg  a.b.c\t1 0016 \n0123456789abcdef\r\n";

#[test]
fn decoding_allocates_nothing() {
    for cut in [MESSAGES.len(), 1, 7] {
        let (allocations, count) = counted(|| {
            let mut decoder = Decoder::new(DecoderLimits::default());
            let (mut at, mut have, mut count) = (0, 0, 0);
            while at < MESSAGES.len() {
                match decoder.decode(&MESSAGES[at..have]).expect("good bytes") {
                    Decoded::Operation { consumed, .. } => {
                        at += consumed;
                        count += 1;
                    }
                    Decoded::Incomplete { .. } => have = (have + cut).min(MESSAGES.len()),
                }
            }
            count
        });
        assert_eq!((allocations, count), (0, 4), "in pieces of {cut}");
    }
}

#[test]
fn a_connection_s_messages_and_pings_allocate_nothing() {
    let now = Instant::now();
    let mut connection = Connection::new(ConnectionConfig::default(), now);
    connection.handle_input(b"INFO {}\r\n", now).expect("an INFO");
    let mut table = Subscriptions::new();
    table.insert(Subject::literal("a.b.c").expect("a subject"), None, 0).expect("room");
    let mut out = Vec::with_capacity(1024);
    let wire = [MESSAGES, b"PING\r\nPONG\r\n+OK\r\n"].concat();
    let (allocations, delivered) = counted(|| {
        connection.ping(&mut out, now);
        let (mut at, mut delivered) = (0, 0);
        while at < wire.len() {
            let Ok(Progress::Event { event, consumed }) = connection.handle_input(&wire[at..], now) else {
                break;
            };
            at += consumed;
            if let Event::Message(message) = event {
                assert_ne!(message.headers.and_then(status_code), Some(404));
                if let Delivery::Live(count) = table.deliver(message.sid) {
                    *count += 1;
                    delivered += 1;
                }
            }
        }
        connection.poll_transmit(&mut out, now);
        delivered
    });
    assert_eq!((allocations, delivered), (0, 4));
    assert_eq!(out, b"PING\r\nPONG\r\n");
}

#[test]
fn encoding_into_a_buffer_with_room_allocates_nothing() {
    let prefix = encode::PublishPrefix::new(&Subject::literal("a.b.c").expect("a subject"));
    let mut headers = Headers::new();
    headers.append("A", "b").expect("a header");
    let mut out = Vec::with_capacity(4096);
    let (allocations, ()) = counted(|| {
        for _ in 0..10 {
            assert_eq!(Subject::check_literal(b"a.b.c"), Ok(()));
            encode::publish_prefixed(&mut out, &prefix, b"0123456789abcdef");
            encode::publish(&mut out, b"a.b.c", Some(b"r"), b"0123456789abcdef");
            encode::publish_with_headers(&mut out, b"a.b.c", None, &headers, b"0123456789abcdef");
        }
    });
    assert_eq!(allocations, 0);
}

#[test]
fn requests_of_a_steady_stream_allocate_nothing() {
    let now = Instant::now();
    let mut requests = Requests::new(100);
    let mut token = Vec::with_capacity(16);
    let mut turn = |requests: &mut Requests<u64>| {
        for value in 0..10_000 {
            token.clear();
            requests.insert(now, value).expect("room").write_to(&mut token);
            assert_eq!(requests.take(&token), Some(value));
        }
    };
    turn(&mut requests);
    let (allocations, ()) = counted(|| turn(&mut requests));
    assert_eq!(allocations, 0);
}

#[test]
fn the_counter_counts() {
    let (allocations, text) = counted(|| String::from("text"));
    assert_eq!((allocations, text.len()), (1, 4));
}

/// How often `run` allocates on this thread, and what it returns.
fn counted<T>(run: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let result = run();
    (ALLOCATIONS.get() - before, result)
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it is; the count is a plain thread-local
// number without a destructor, so that counting never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc`, for that is where `alloc` gets it.
        unsafe { System.dealloc(pointer, layout) }
    }
}
