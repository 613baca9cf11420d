//! A peer made of blocking sockets: it swallows and counts, floods when ordered, and echoes.
//!
//! It stands where a nats-server would, in a thread of the measuring process, and costs the measured
//! client nothing but the wire. It routes nothing: each connection is served as if it were alone.

use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::BenchError;
use crate::inbound::Inbound;
use crate::traffic::{Account, DATA_SUBJECT, ECHO_SUBJECT, FLOOD_SUBJECT, Flood, FloodOrder, STAMP_BYTES};
use crate::wire::{self, Frame, PAYLOAD_BYTES_MAX, WireError, first_frame, matches};

/// More connections than one client opens are turned away.
const CONNECTIONS_MAX: usize = 16;
/// More subscriptions than one connection of a measured client has.
const SUBSCRIPTIONS_MAX: usize = 64;
/// Answers are gathered up to this size within one turn.
const ANSWER_BYTES: usize = 64 * 1024;

/// A listening stub. Ends with [`Stub::finish`]; a dropped one stops listening and hangs up.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    connections: Mutex<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    thread: JoinHandle<Result<Account, BenchError>>,
}

impl Stub {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start() -> Result<Self, BenchError> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::io("listen for a client"))?;
        let address = listener.local_addr().map_err(BenchError::io("learn the stub's port"))?;
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hangs up and tells what passed. What a client sent and the stub has not read by then does not count,
    /// so the client must have had an answer to its last words.
    ///
    /// # Errors
    /// What any of the connections met: it counts for nothing then.
    pub fn finish(mut self) -> Result<Account, BenchError> {
        self.hang_up()
    }

    fn hang_up(&mut self) -> Result<Account, BenchError> {
        let Some(acceptor) = self.acceptor.take() else { return Ok(Account::default()) };
        self.shared.over.store(true, Ordering::Release);
        // The acceptor sits in accept(); a connection of our own makes it look at `over`.
        drop(TcpStream::connect(self.address).map_err(BenchError::io("wake the stub's listener"))?);
        acceptor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let connections =
            std::mem::take(&mut *self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner));
        let mut total = Account::default();
        for connection in connections {
            // It may have hung up already, which is as good.
            let _ = connection.stream.shutdown(Shutdown::Both);
            let account =
                connection.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            total = total.plus(account);
        }
        Ok(total)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // Whoever wanted the account, or the error, has called `finish`.
        let _ = self.hang_up();
    }
}

fn accept(listener: &TcpListener, shared: &Shared) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.over.load(Ordering::Acquire) {
            return;
        }
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.len() < CONNECTIONS_MAX
            && let Ok(for_thread) = stream.try_clone()
        {
            connections.push(Connection { stream, thread: thread::spawn(move || serve(&for_thread)) });
        }
    }
}

fn serve(stream: &TcpStream) -> Result<Account, BenchError> {
    stream.set_nodelay(true).map_err(BenchError::io("set the stub's socket"))?;
    let mut session = Session::default();
    let mut inbound = Inbound::default();
    let mut output = BufWriter::with_capacity(ANSWER_BYTES, stream);
    let outcome = session.greet(&mut output).and_then(|()| {
        while inbound.fill(&mut &*stream).map_err(BenchError::io("read from the client"))? > 0 {
            let used = session.take(inbound.unread(), &mut output)?;
            inbound.consume(used);
        }
        Ok(())
    });
    // The other handle on this socket would keep the client waiting for ever after an error.
    let _ = stream.shutdown(Shutdown::Both);
    match outcome {
        // A client that is done just goes; what is still on the way to it then is lost on nobody.
        Err(BenchError::Io { source, .. }) if is_hang_up(&source) => {}
        other => other?,
    }
    Ok(session.account)
}

pub(crate) fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

/// One connection without its socket: bytes in, bytes out.
#[derive(Debug, Default)]
struct Session {
    account: Account,
    subscriptions: Vec<Subscription>,
    repeated: Repeated,
    flood: Option<(Vec<u8>, FloodOrder, Flood)>,
}

#[derive(Debug)]
struct Subscription {
    subject: Vec<u8>,
    sid: Vec<u8>,
}

/// The last data message's control line. A flood repeats it byte for byte, which is quick to see.
#[derive(Debug, Default)]
struct Repeated {
    line: Vec<u8>,
    payload_bytes: usize,
}

impl Session {
    fn greet(&self, output: &mut impl Write) -> Result<(), BenchError> {
        let info = format!(
            concat!(
                r#"INFO {{"server_id":"STUB","server_name":"stub","version":"2.15.1","go":"none","host":"127.0.0.1","#,
                r#""port":4222,"headers":true,"max_payload":{},"proto":1,"client_id":1}} "#,
                "\r\n"
            ),
            PAYLOAD_BYTES_MAX
        );
        output
            .write_all(info.as_bytes())
            .and_then(|()| output.flush())
            .map_err(BenchError::io("greet the client"))
    }

    /// Takes every whole operation at the front of `input`, answers, and tells how much that was.
    fn take(&mut self, input: &[u8], output: &mut impl Write) -> Result<usize, BenchError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if let Some(payload) = self.repeated.payload(rest) {
                self.account.swallowed.add(payload);
                used += self.repeated.frame_bytes();
                continue;
            }
            let Some((frame, frame_bytes)) = first_frame(rest)? else { break };
            self.answer(frame, output)?;
            if let Frame::Publish { subject, reply: None, payload } = frame
                && subject == DATA_SUBJECT.as_bytes()
            {
                self.repeated.learn(&rest[..frame_bytes], payload.len());
            }
            used += frame_bytes;
        }
        output.flush().map_err(BenchError::io("answer the client"))?;
        Ok(used)
    }

    fn answer(&mut self, frame: Frame<'_>, output: &mut impl Write) -> Result<(), BenchError> {
        match frame {
            Frame::Ping => output.write_all(b"PONG\r\n").map_err(BenchError::io("answer a PING"))?,
            Frame::Subscribe { subject, sid } => self.subscribe(subject, sid)?,
            // One that ends by itself may still be waiting for its message.
            Frame::Unsubscribe { sid, after: None } => self.subscriptions.retain(|known| known.sid != sid),
            Frame::Publish { subject, reply, payload } => self.publish(subject, reply, payload, output)?,
            Frame::Refused { text } => return Err(WireError::Refused { text: wire::shown(text) }.into()),
            Frame::Deliver { subject, .. } => return Err(senseless(subject, "MSG comes from servers only")),
            Frame::Unsubscribe { after: Some(_), .. } | Frame::Pong | Frame::Aside => {}
        }
        Ok(())
    }

    fn subscribe(&mut self, subject: &[u8], sid: &[u8]) -> Result<(), WireError> {
        if self.subscriptions.len() == SUBSCRIPTIONS_MAX {
            return Err(WireError::TooManySubscriptions { max: SUBSCRIPTIONS_MAX });
        }
        self.subscriptions.push(Subscription { subject: subject.to_vec(), sid: sid.to_vec() });
        Ok(())
    }

    fn sid_for(&self, subject: &[u8]) -> Option<&[u8]> {
        let known = self.subscriptions.iter().find(|known| matches(&known.subject, subject))?;
        Some(&known.sid)
    }

    fn publish(
        &mut self,
        subject: &[u8],
        reply: Option<&[u8]>,
        payload: &[u8],
        output: &mut impl Write,
    ) -> Result<(), BenchError> {
        if subject == DATA_SUBJECT.as_bytes() {
            self.account.swallowed.add(payload);
            return Ok(());
        }
        if subject == FLOOD_SUBJECT.as_bytes() {
            let order =
                FloodOrder::from_payload(payload).ok_or_else(|| senseless(subject, "not a flood order"))?;
            return self.pour(order, output);
        }
        if subject == ECHO_SUBJECT.as_bytes() {
            let reply = reply.ok_or_else(|| senseless(subject, "no reply subject"))?;
            return self.echo(reply, payload, output);
        }
        Err(senseless(subject, "this stub routes nothing"))
    }

    fn pour(&mut self, order: FloodOrder, output: &mut impl Write) -> Result<(), BenchError> {
        let sid = self.sid_for(DATA_SUBJECT.as_bytes()).ok_or_else(|| {
            senseless(FLOOD_SUBJECT.as_bytes(), "a flood is wanted without a subscription to receive it")
        })?;
        let ready = matches!(&self.flood, Some((for_sid, for_order, _))
            if for_sid == sid && for_order.payload_bytes == order.payload_bytes);
        if !ready {
            let size = order.payload_bytes;
            if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&size) {
                return Err(senseless(
                    FLOOD_SUBJECT.as_bytes(),
                    "a flood of that payload size is not for sale",
                ));
            }
            let control_line = format!("MSG {DATA_SUBJECT} {} {size}", String::from_utf8_lossy(sid));
            self.flood = Some((sid.to_vec(), order, Flood::new(&control_line, size)));
        }
        if let Some((_, _, flood)) = &self.flood {
            let tally = flood.write(order.messages, output).map_err(BenchError::io("flood the client"))?;
            self.account.flooded = self.account.flooded.plus(tally);
        }
        Ok(())
    }

    fn echo(&mut self, reply: &[u8], payload: &[u8], output: &mut impl Write) -> Result<(), BenchError> {
        let sid = self
            .sid_for(reply)
            .ok_or_else(|| senseless(reply, "nobody is subscribed to the reply subject"))?;
        let size = payload.len().to_string();
        for piece in [b"MSG ", reply, b" ", sid, b" ", size.as_bytes(), b"\r\n", payload, b"\r\n"] {
            output.write_all(piece).map_err(BenchError::io("echo a request"))?;
        }
        self.account.echoed.add(payload);
        Ok(())
    }
}

impl Repeated {
    fn frame_bytes(&self) -> usize {
        self.line.len() + self.payload_bytes + 2
    }

    /// The payload, if `input` begins with a whole message of the known control line.
    fn payload<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let frame = input.get(..self.frame_bytes())?;
        let payload = frame.strip_prefix(self.line.as_slice())?.strip_suffix(b"\r\n")?;
        // Nothing is learned yet while the line is empty, and an empty line begins everything.
        (!self.line.is_empty()).then_some(payload)
    }

    fn learn(&mut self, frame: &[u8], payload_bytes: usize) {
        self.line.clear();
        self.line.extend_from_slice(&frame[..frame.len() - payload_bytes - 2]);
        self.payload_bytes = payload_bytes;
    }
}

pub(crate) fn senseless(subject: &[u8], reason: &'static str) -> BenchError {
    WireError::Senseless { subject: wire::shown(subject), reason }.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::traffic::{Payloads, Tally};

    /// Feeds `input` in pieces of `piece` bytes and returns what the stub answers.
    fn answers(session: &mut Session, input: &[u8], piece: usize) -> Result<Vec<u8>, BenchError> {
        let mut output = Vec::new();
        let mut inbound = Inbound::default();
        for mut piece in input.chunks(piece) {
            inbound.fill(&mut piece).unwrap();
            let used = session.take(inbound.unread(), &mut output)?;
            inbound.consume(used);
        }
        assert_eq!(inbound.unread(), b"", "everything was whole");
        Ok(output)
    }

    fn check(input: &[u8], expected: &[u8], account: Account) {
        for piece in [1, 2, 3, 7, 64, input.len()] {
            let mut session = Session::default();
            let answer = answers(&mut session, input, piece).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&answer),
                String::from_utf8_lossy(expected),
                "in pieces of {piece}"
            );
            assert_eq!(session.account, account, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_published_is_counted_and_summed() {
        let mut input = b"CONNECT {\"verbose\":false}\r\nPING\r\n".to_vec();
        let payloads = Payloads::new(16);
        for number in 0..1000 {
            input.extend_from_slice(b"PUB bench 16\r\n");
            input.extend_from_slice(payloads.at(number));
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"PING\r\n");
        let account = Account { swallowed: Tally::of_first(1000, 16), ..Account::default() };
        check(&input, b"PONG\r\nPONG\r\n", account);
    }

    #[test]
    fn messages_of_another_size_between_the_repeated_ones_are_counted_too() {
        let input = b"PUB bench 1\r\na\r\nPUB bench 2\r\nbc\r\nPUB bench 1\r\nd\r\nPUB bench 0\r\n\r\n";
        let swallowed = Tally { messages: 4, bytes: 4, stamps: 0 };
        check(input, b"", Account { swallowed, ..Account::default() });
    }

    #[test]
    fn a_flood_comes_to_order() {
        let input = b"SUB bench 7\r\nPUB bench.flood 4\r\n3 16\r\nPING\r\n";
        let mut expected = Vec::new();
        for number in 0..3 {
            expected.extend_from_slice(b"MSG bench 7 16\r\n");
            expected.extend_from_slice(Payloads::new(16).at(number));
            expected.extend_from_slice(b"\r\n");
        }
        expected.extend_from_slice(b"PONG\r\n");
        check(input, &expected, Account { flooded: Tally::of_first(3, 16), ..Account::default() });
    }

    #[test]
    fn a_request_is_echoed_to_its_inbox() {
        let input = b"SUB _INBOX.a.* 4\r\nPUB bench.echo _INBOX.a.x9 2\r\nhi\r\n";
        let echoed = Tally { messages: 1, bytes: 2, stamps: 0 };
        check(input, b"MSG _INBOX.a.x9 4 2\r\nhi\r\n", Account { echoed, ..Account::default() });
    }

    #[test]
    fn what_cannot_be_carried_out_is_an_error() {
        for input in [
            &b"PUB bench.flood 4\r\n3 16\r\n"[..],
            b"SUB bench 1\r\nUNSUB 1\r\nPUB bench.flood 4\r\n3 16\r\n",
            b"SUB bench 1\r\nPUB bench.flood 3\r\n3 7\r\n",
            b"SUB bench 1\r\nPUB bench.flood 1\r\nx\r\n",
            b"PUB bench.echo 2\r\nhi\r\n",
            b"PUB bench.echo _INBOX.a 2\r\nhi\r\n",
            b"PUB elsewhere 2\r\nhi\r\n",
            b"MSG bench 1 0\r\n\r\n",
            b"-ERR 'no'\r\n",
        ] {
            let outcome = answers(&mut Session::default(), input, input.len());
            assert!(matches!(outcome, Err(BenchError::Wire(_))), "{}: {outcome:?}", wire::shown(input));
        }
    }

    #[test]
    fn over_a_socket_the_account_is_the_same() {
        let stub = Stub::start().unwrap();
        let mut client = TcpStream::connect(stub.address()).unwrap();
        client
            .write_all(b"SUB bench 1\r\nPUB bench 3\r\nabc\r\nPUB bench.flood 4\r\n5 16\r\nPING\r\n")
            .unwrap();
        let mut heard = Vec::new();
        let mut inbound = Inbound::default();
        while !heard.ends_with(b"PONG\r\n") {
            assert!(inbound.fill(&mut client).unwrap() > 0);
            heard.extend_from_slice(inbound.unread());
            inbound.consume(inbound.unread().len());
        }
        assert!(heard.starts_with(b"INFO {"));
        let account = stub.finish().unwrap();
        let swallowed = Tally { messages: 1, bytes: 3, stamps: 0 };
        assert_eq!(account, Account { swallowed, flooded: Tally::of_first(5, 16), ..Account::default() });
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the stub has hung up");
    }
}
