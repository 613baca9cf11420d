//! The buffer against a model: whatever is sent in whatever pieces, and wherever the cut comes.

use std::io::Read;

use croupier_protocol::Subject;
use proptest::prelude::*;
use socket2::{Domain, Socket, Type};

use super::*;

/// Room in the kernel, small, so that sends are cut into pieces.
const KERNEL_BYTES: usize = 4096;
/// The subscriptions of a connection.
const AHEAD: &[u8] = b"SUB a 1\r\n";
/// How long each cut lasts, and over which time at most what waits then leaves.
const OUTAGE: Duration = Duration::from_secs(1);
const CATCH_UP: Duration = Duration::from_millis(60);

#[derive(Clone, Debug)]
enum Step {
    Publish {
        payload_bytes: usize,
        owned: bool,
        prefixed: bool,
        headers: bool,
    },
    Control,
    Ping,
    Send,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The peer takes at most this many bytes.
    Read(usize),
    Pong,
    Cut,
    /// What follows is held back for another connection.
    Fence,
    /// The other connection takes over, if the fence is passed.
    Move,
    /// There is no other connection after all.
    Lift,
}

fn step() -> impl Strategy<Value = Step> {
    let payload_bytes = prop_oneof![0..40_usize, 1000..9000_usize, Just(70_000)];
    prop_oneof![
        12 => (payload_bytes, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(payload_bytes, owned, prefixed, headers)| Step::Publish { payload_bytes, owned, prefixed, headers }),
        2 => Just(Step::Control),
        2 => Just(Step::Ping),
        6 => Just(Step::Send),
        3 => (1..30_u64).prop_map(Step::Wait),
        6 => prop_oneof![1..200_usize, 1000..20_000_usize].prop_map(Step::Read),
        4 => Just(Step::Pong),
        1 => Just(Step::Cut),
        1 => Just(Step::Fence),
        3 => Just(Step::Move),
        1 => Just(Step::Lift),
    ]
}

/// One connection as its peer sees it.
struct Peer {
    socket: Socket,
    received: Vec<u8>,
    pings: u64,
    ponged: u64,
}

impl Peer {
    fn connect(outbox: &mut Outbox) -> Peer {
        let (ours, peer) = Peer::new();
        outbox.open(ours, Some(AHEAD), usize::MAX);
        peer
    }

    fn new() -> (SendHalf, Peer) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        ours.set_send_buffer_size(KERNEL_BYTES).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (SendHalf::from_socket(ours), Peer { socket: theirs, received: Vec::new(), pings: 0, ponged: 0 })
    }

    fn read_all(&mut self) {
        loop {
            let before = self.received.len();
            self.read(1 << 20);
            if self.received.len() == before {
                return;
            }
        }
    }

    fn read(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes];
        if let Ok(read) = self.socket.read(&mut buffer) {
            self.received.extend_from_slice(&buffer[..read]);
        }
    }

    /// The numbers of the messages that came whole, and the PINGs among them.
    fn messages(&self) -> (Vec<u64>, u64) {
        let (mut at, mut messages, mut pings) = (0, Vec::new(), 0);
        while let Some(operation) = next_client_operation(&self.received[at..]) {
            let end = at + operation.line_bytes + operation.body_bytes;
            if end > self.received.len() {
                break;
            }
            let body = &self.received[at + operation.line_bytes..end];
            at = end;
            match operation.kind {
                ClientOperationKind::Publish => messages.push(number(body)),
                ClientOperationKind::Ping => pings += 1,
                _ => {}
            }
        }
        (messages, pings)
    }
}

/// UNSUBs in a buffer.
fn unsubscribed(bytes: &[u8]) -> u64 {
    bytes.windows(9).filter(|window| window == b"UNSUB 7\r\n").count() as u64
}

/// Headers come first, if there are any; then eight digits, and bytes that follow from them.
fn number(body: &[u8]) -> u64 {
    let body = body.strip_prefix(b"NATS/1.0\r\nA: b\r\n\r\n").unwrap_or(body);
    let payload = body.strip_suffix(b"\r\n").expect("a message ends with CRLF");
    let number = std::str::from_utf8(&payload[..8]).unwrap().parse().unwrap();
    assert_eq!(payload, content(number, payload.len() - 8), "message {number} is not as it was");
    number
}

fn content(number: u64, more_bytes: usize) -> Vec<u8> {
    let mut payload = format!("{number:08}").into_bytes();
    payload.extend((0..more_bytes).map(|index| (index as u64 * 31 + number) as u8));
    payload
}

fn run(steps: Vec<Step>) {
    let subject = Subject::literal("a.topic").unwrap();
    let prefix = PublishPrefix::new(&subject);
    let mut headers = Headers::new();
    headers.insert("A", "b").unwrap();
    let mut outbox = Outbox::new(256 << 10, usize::MAX);
    let mut peer = Peer::connect(&mut outbox);
    let (mut accepted, mut refused, mut delivered) = (Vec::new(), 0, Vec::new());
    let mut next = 0;
    let mut pings = 0;
    let mut now = Instant::now();
    // UNSUBs that were held back for the next connection, and what it has got of them.
    let mut held = 0;
    for step in steps {
        match step {
            Step::Publish { payload_bytes, owned, prefixed, headers: with_headers } => {
                let payload = content(next, payload_bytes);
                let to = match (prefixed, with_headers) {
                    (true, _) => Destination::Prefix(&prefix),
                    (_, true) => {
                        Destination::Subject { subject: b"b", reply: Some(b"r"), headers: Some(&headers) }
                    }
                    _ => Destination::Subject { subject: b"b", reply: None, headers: None },
                };
                let payload =
                    if owned { Payload::from(payload) } else { Payload::from(Bytes::from(payload)) };
                match outbox.publish(&to, payload) {
                    Ok(()) => accepted.push(next),
                    Err(_) => refused += 1,
                }
                next += 1;
            }
            Step::Control => {
                outbox.control().extend_from_slice(b"UNSUB 7\r\n");
                held += u64::from(outbox.is_fenced());
            }
            Step::Ping if outbox.is_fenced() => {}
            Step::Ping => {
                outbox.control().extend_from_slice(b"PING\r\n");
                pings += 1;
                peer.pings += 1;
                outbox.mark(PingId(pings));
            }
            Step::Send => {
                outbox.blocked = false;
                assert!(!matches!(outbox.send(), Sent::Failed(_)));
            }
            Step::Wait(millis) => {
                now += Duration::from_millis(millis);
                outbox.catch_up(now);
            }
            Step::Read(bytes) => peer.read(bytes),
            Step::Pong => {
                let (_, answered) = peer.messages();
                if answered > peer.ponged {
                    peer.ponged += 1;
                    outbox.pong(PingId(pings - peer.pings + peer.ponged));
                }
            }
            Step::Cut => {
                let was_fenced = outbox.is_fenced();
                peer.read_all();
                delivered.extend(peer.messages().0);
                let before = outbox.totals();
                let cut = outbox.cut();
                assert_eq!(outbox.totals().in_doubt, before.in_doubt + cut.in_doubt);
                assert_eq!(outbox.pending(), cut.requeued);
                assert_eq!(unsubscribed(&outbox.inline), held, "behind a fence nothing is lost");
                if was_fenced {
                    let (ours, next) = Peer::new();
                    outbox.open(ours, None, usize::MAX);
                    peer = next;
                } else {
                    peer = Peer::connect(&mut outbox);
                }
                let ahead_bytes = if was_fenced { 0 } else { AHEAD.len() };
                outbox.begin_catch_up(ahead_bytes, OUTAGE, CATCH_UP, now);
                held = 0;
            }
            Step::Fence if !outbox.is_fenced() => {
                outbox.control().extend_from_slice(b"PING\r\n");
                pings += 1;
                peer.pings += 1;
                outbox.mark(PingId(pings));
                outbox.raise_fence(PingId(pings));
            }
            Step::Lift => {
                outbox.lift_fence();
                held = 0;
            }
            Step::Move if outbox.has_passed_fence() => {
                assert!(outbox.is_sent_to_fence());
                peer.read_all();
                let (messages, answered) = peer.messages();
                assert_eq!(answered, peer.pings, "nothing is sent behind the fence");
                delivered.extend(messages);
                let in_doubt = outbox.totals().in_doubt;
                let (ours, next) = Peer::new();
                assert_eq!(outbox.hand_over(ours, usize::MAX), 0);
                assert_eq!(outbox.totals().in_doubt, in_doubt, "a move leaves nothing in doubt");
                assert_eq!(unsubscribed(&outbox.inline[outbox.head..]), held);
                held = 0;
                peer = next;
            }
            Step::Fence | Step::Move => {}
        }
        let totals = outbox.totals();
        assert_eq!(totals.accepted, accepted.len() as u64);
        assert_eq!(totals.rejected, refused);
        assert_eq!(
            totals.accepted,
            totals.processed + totals.in_doubt + totals.discarded() + outbox.pending()
        );
        assert!(outbox.queued() <= outbox.pending());
    }
    // The last connection gets all that is left.
    outbox.lift_fence();
    outbox.catch_up(now + CATCH_UP);
    assert!(outbox.catch_up_due().is_none());
    loop {
        outbox.blocked = false;
        let sent = outbox.send();
        let before = peer.received.len();
        peer.read(1 << 20);
        if matches!(sent, Sent::All) && peer.received.len() == before {
            break;
        }
    }
    assert_eq!(outbox.queued_bytes(), 0);
    assert_eq!(outbox.queued(), 0);
    delivered.extend(peer.messages().0);
    // In order, none twice, none that was not accepted; and what is missing was in doubt.
    assert!(delivered.is_sorted_by(|a, b| a < b), "{delivered:?}");
    assert!(delivered.iter().all(|number| accepted.binary_search(number).is_ok()));
    let missing = (accepted.len() - delivered.len()) as u64;
    assert!(missing <= outbox.totals().in_doubt, "{missing} missing, {:?}", outbox.totals());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn messages_arrive_whole_in_order_and_at_most_once(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps);
    }
}

#[test]
fn a_smaller_limit_discards_what_is_queued_and_too_large() {
    let mut outbox = Outbox::new(1 << 20, 1 << 20);
    for bytes in [10, 3000, 20, 5000] {
        let to = Destination::Subject { subject: b"a", reply: None, headers: None };
        assert!(outbox.publish(&to, Payload::from(vec![b'x'; bytes])).is_ok());
    }
    let (ours, mut theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    assert_eq!(outbox.open(SendHalf::from_socket(ours), Some(b""), 1000), 2);
    assert_eq!((outbox.totals().discarded_oversized, outbox.totals().discarded_unsent), (2, 0));
    assert_eq!(outbox.pending(), 2);
    assert!(matches!(outbox.send(), Sent::All));
    let mut received = vec![0; 10_000];
    let read = theirs.read(&mut received).unwrap();
    assert_eq!(received[..read], *b"PUB a 10\r\nxxxxxxxxxx\r\nPUB a 20\r\nxxxxxxxxxxxxxxxxxxxx\r\n");
}

#[test]
fn a_full_buffer_refuses_and_stays_as_it_was() {
    let mut outbox = Outbox::new(200, 1 << 20);
    let to = Destination::Subject { subject: b"a", reply: None, headers: None };
    assert!(outbox.publish(&to, Payload::from(&[0_u8; 100])).is_ok());
    let queued = outbox.queued_bytes();
    assert!(matches!(
        outbox.publish(&to, Payload::from(&[0_u8; 100])),
        Err(Refused::Full { limit_bytes: 200, .. })
    ));
    assert_eq!(outbox.queued_bytes(), queued);
    assert_eq!(outbox.totals().rejected, 1);
}

#[test]
fn after_an_outage_the_subscriptions_go_first_and_what_waited_follows_in_portions() {
    let (subscriptions, message) = (b"SUB a 1\r\n", b"PUB a 1000\r\n".len() + 1000 + 2);
    let (count, now) = (100, Instant::now());
    let mut outbox = Outbox::new(1 << 20, 1 << 20);
    let to = Destination::Subject { subject: b"a", reply: None, headers: None };
    let publish = |outbox: &mut Outbox| assert!(outbox.publish(&to, Payload::from(&[b'x'; 1000])).is_ok());
    (0..count).for_each(|_| publish(&mut outbox));
    let (ours, mut theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    outbox.open(SendHalf::from_socket(ours), Some(subscriptions), 1 << 20);
    outbox.begin_catch_up(subscriptions.len(), Duration::from_secs(2), Duration::from_millis(80), now);
    let mut send = |outbox: &mut Outbox| {
        assert!(matches!(outbox.send(), Sent::All));
        theirs.set_nonblocking(true).unwrap();
        let mut received = vec![0; 200_000];
        theirs.read(&mut received).unwrap_or(0)
    };
    assert_eq!(send(&mut outbox), subscriptions.len());
    // What is published meanwhile waits behind it, and does not push it.
    publish(&mut outbox);
    assert_eq!(send(&mut outbox), 0);
    assert_eq!(outbox.catch_up_due(), Some(now + Duration::from_millis(20)));
    outbox.catch_up(now + Duration::from_millis(19));
    assert_eq!(send(&mut outbox), 0, "others subscribe");
    // Sixty milliseconds are left for the hundred, and the portion is of four; the one behind them makes room.
    outbox.catch_up(now + Duration::from_millis(20));
    assert_eq!(send(&mut outbox), message * count * 4 / 60 + message);
    outbox.catch_up(now + Duration::from_millis(48));
    assert_eq!(send(&mut outbox), message * count * 28 / 60);
    outbox.catch_up(now + Duration::from_millis(76));
    assert_eq!(outbox.catch_up_due(), None);
    publish(&mut outbox);
    assert_eq!(send(&mut outbox), message * count * 28 / 60 + message);
    assert_eq!(outbox.queued_bytes(), 0);
}
