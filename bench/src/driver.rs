//! The other end of a measurement through a real server: a bare connection that floods and echoes.
//!
//! It is a client of the server as the measured one is, in a thread of the measuring process, and does for
//! a client behind a server what [`crate::stub`] does for one in front of it.

use std::io::{BufWriter, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::BenchError;
use crate::inbound::Inbound;
use crate::stub::{is_hang_up, senseless};
use crate::traffic::{
    Account, DATA_SUBJECT, ECHO_SUBJECT, FLOOD_SUBJECT, Flood, FloodOrder, STAMP_BYTES, Tally,
};
use crate::wire::{self, Frame, PAYLOAD_BYTES_MAX, WireError, first_frame};

/// Answers are gathered up to this size within one turn.
const ANSWER_BYTES: usize = 64 * 1024;

const GREETING: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"none\",\"version\":\"1\",\
                        \"name\":\"bench driver\",\"protocol\":1,\"headers\":false}\r\n";

/// A connected driver. Ends with [`Driver::finish`]; a dropped one hangs up.
#[derive(Debug)]
pub struct Driver {
    stream: TcpStream,
    account: Arc<Mutex<Account>>,
    thread: Option<JoinHandle<Result<(), BenchError>>>,
}

impl Driver {
    /// Connects and waits until the server has its subscriptions.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses.
    pub fn connect(server: SocketAddr) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(server).map_err(BenchError::io("connect to the server"))?;
        stream.set_nodelay(true).map_err(BenchError::io("set the driver's socket"))?;
        let greeting = format!("{GREETING}SUB {FLOOD_SUBJECT} 1\r\nSUB {ECHO_SUBJECT} 2\r\nPING\r\n");
        (&stream).write_all(greeting.as_bytes()).map_err(BenchError::io("greet the server"))?;

        let account = Arc::new(Mutex::new(Account::default()));
        let mut session = Session { account: Arc::clone(&account), confirmed: false, flood: None };
        let mut inbound = Inbound::default();
        while !session.confirmed {
            if !turn(&stream, &mut inbound, &mut session)? {
                return Err(BenchError::Server { reason: "hung up on the driver".to_owned() });
            }
        }
        let for_thread = stream.try_clone().map_err(BenchError::io("share the driver's socket"))?;
        let thread = thread::spawn(move || drive(&for_thread, &mut inbound, &mut session));
        Ok(Self { stream, account, thread: Some(thread) })
    }

    /// What it has flooded and echoed so far. An echo or a flood that a client has received is in it.
    pub fn account(&self) -> Account {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hangs up.
    ///
    /// # Errors
    /// What the driver met on its way.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.hang_up()
    }

    fn hang_up(&mut self) -> Result<(), BenchError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        // The server may have hung up first, which the thread reports.
        let _ = self.stream.shutdown(Shutdown::Both);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Whoever wanted the error has called `finish`.
        let _ = self.hang_up();
    }
}

fn drive(stream: &TcpStream, inbound: &mut Inbound, session: &mut Session) -> Result<(), BenchError> {
    loop {
        match turn(stream, inbound, session) {
            Ok(true) => continue,
            Ok(false) => return Ok(()),
            Err(BenchError::Io { source, .. }) if is_hang_up(&source) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads once and answers; false at the end of the stream.
fn turn(stream: &TcpStream, inbound: &mut Inbound, session: &mut Session) -> Result<bool, BenchError> {
    if inbound.fill(&mut &*stream).map_err(BenchError::io("read from the server"))? == 0 {
        return Ok(false);
    }
    let mut output = BufWriter::with_capacity(ANSWER_BYTES, stream);
    let used = session.take(inbound.unread(), &mut output)?;
    inbound.consume(used);
    Ok(true)
}

#[derive(Debug)]
struct Session {
    account: Arc<Mutex<Account>>,
    confirmed: bool,
    flood: Option<(usize, Flood)>,
}

impl Session {
    fn take(&mut self, input: &[u8], output: &mut impl Write) -> Result<usize, BenchError> {
        let mut used = 0;
        while let Some((frame, frame_bytes)) = first_frame(&input[used..])? {
            match frame {
                Frame::Ping => output.write_all(b"PONG\r\n").map_err(BenchError::io("answer a PING"))?,
                Frame::Pong => self.confirmed = true,
                Frame::Deliver { subject, reply, payload, .. } => {
                    self.deliver(subject, reply, payload, output)?;
                }
                Frame::Refused { text } => return Err(WireError::Refused { text: wire::shown(text) }.into()),
                Frame::Aside => {}
                Frame::Publish { subject, .. } | Frame::Subscribe { subject, .. } => {
                    return Err(senseless(subject, "a server neither publishes nor subscribes"));
                }
                Frame::Unsubscribe { sid, .. } => {
                    return Err(senseless(sid, "a server does not unsubscribe"));
                }
            }
            used += frame_bytes;
        }
        output.flush().map_err(BenchError::io("answer through the server"))?;
        Ok(used)
    }

    fn deliver(
        &mut self,
        subject: &[u8],
        reply: Option<&[u8]>,
        payload: &[u8],
        output: &mut impl Write,
    ) -> Result<(), BenchError> {
        if subject == FLOOD_SUBJECT.as_bytes() {
            let order =
                FloodOrder::from_payload(payload).ok_or_else(|| senseless(subject, "not a flood order"))?;
            return self.pour(order, output);
        }
        let reply = reply.ok_or_else(|| senseless(subject, "no reply subject"))?;
        // Counted before it is written: whoever has the answer can find it in the account.
        self.account.lock().unwrap_or_else(PoisonError::into_inner).echoed.add(payload);
        let size = payload.len().to_string();
        for piece in [b"PUB ", reply, b" ", size.as_bytes(), b"\r\n", payload, b"\r\n"] {
            output.write_all(piece).map_err(BenchError::io("echo a request"))?;
        }
        Ok(())
    }

    fn pour(&mut self, order: FloodOrder, output: &mut impl Write) -> Result<(), BenchError> {
        let size = order.payload_bytes;
        if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&size) {
            return Err(senseless(FLOOD_SUBJECT.as_bytes(), "a flood of that payload size is not for sale"));
        }
        let make = || (size, Flood::new(&format!("PUB {DATA_SUBJECT} {size}"), size));
        let (_, flood) = match &mut self.flood {
            Some(ready) if ready.0 == size => ready,
            other => other.insert(make()),
        };
        let expected = Tally::of_first(order.messages, size);
        {
            let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
            account.flooded = account.flooded.plus(expected);
        }
        flood.write(order.messages, output).map_err(BenchError::io("flood through the server"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Payloads;

    fn check(input: &[u8], expected: &[u8], expected_account: Account) {
        let account = Arc::new(Mutex::new(Account::default()));
        let mut session = Session { account: Arc::clone(&account), confirmed: false, flood: None };
        let mut output = Vec::new();
        assert_eq!(session.take(input, &mut output).unwrap(), input.len());
        assert_eq!(String::from_utf8_lossy(&output), String::from_utf8_lossy(expected));
        assert_eq!(*account.lock().unwrap(), expected_account);
        assert!(session.confirmed);
    }

    #[test]
    fn a_flood_is_published_to_order() {
        let mut expected = b"PONG\r\n".to_vec();
        for number in 0..2 {
            expected.extend_from_slice(b"PUB bench 16\r\n");
            expected.extend_from_slice(Payloads::new(16).at(number));
            expected.extend_from_slice(b"\r\n");
        }
        let input = b"INFO {} \r\nPONG\r\nPING\r\nMSG bench.flood 1 4\r\n2 16\r\n";
        check(input, &expected, Account { flooded: Tally::of_first(2, 16), ..Account::default() });
    }

    #[test]
    fn a_request_is_answered() {
        let echoed = Tally { messages: 1, bytes: 2, stamps: 0 };
        let input = b"PONG\r\nMSG bench.echo 2 _INBOX.a.1 2\r\nhi\r\n";
        check(input, b"PUB _INBOX.a.1 2\r\nhi\r\n", Account { echoed, ..Account::default() });
    }

    #[test]
    fn a_refusal_is_an_error() {
        let account = Arc::new(Mutex::new(Account::default()));
        let mut session = Session { account, confirmed: false, flood: None };
        assert!(session.take(b"-ERR 'Authorization Violation'\r\n", &mut Vec::new()).is_err());
    }
}
