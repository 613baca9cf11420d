//! One client of the admin server: what it has sent, what it still gets, and how long it may take.

use std::{
    io::{self, Read, Write},
    mem,
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use super::{
    counters::{AdminCounters, Dropped},
    pages::Pages,
    poll::Interest,
    request::{Parsed, REQUEST_BYTES_MAX, Refusal, parse},
    response::Response,
};

/// From the first byte of a request, or the connect, to the end of its head.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// Between two requests.
const IDLE_TIME: Duration = Duration::from_secs(75);
/// How long a client may take to read an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long what a client still sends is read after the last answer, so that the kernel does not take that back.
const LINGER_TIME: Duration = Duration::from_millis(500);
/// Reads of one turn of what nobody wants, after which others get theirs.
const READS_PER_TURN: usize = 4;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Goes,
    Ends,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first request, or the rest of one, is to come.
    Requesting,
    /// A request was answered, and nothing of the next one has come.
    Idle,
    /// An answer is being written; afterwards the connection goes on or is closed.
    Answering { keeps_alive: bool },
    /// The last answer is written, and the client is to close.
    Lingering,
}

pub(super) struct Connection {
    stream: TcpStream,
    phase: Phase,
    deadline: Instant,
    /// Whether there is something to do though the socket says nothing.
    is_due: bool,
    is_refused: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> Self {
        let deadline = now + REQUEST_TIME;
        Self {
            stream,
            phase: Phase::Requesting,
            deadline,
            is_due: false,
            is_refused: false,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
        }
    }

    /// When it has to be looked at, whatever its socket says.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn interest(&self) -> Interest {
        match self.phase {
            Phase::Answering { .. } => Interest::Write,
            _ => Interest::Read,
        }
    }

    /// Whether it only waits between two requests.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether it was told that there is no room, and is not one of those that are served.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Has it told that there is no room, whatever it asks for.
    pub(super) fn refuse_busy(&mut self, now: Instant, counters: &AdminCounters) {
        self.is_refused = true;
        self.refuse(Refusal::Busy, now, counters);
    }

    /// Does what can be done without waiting: at most one request.
    pub(super) fn advance(&mut self, now: Instant, pages: &Pages, counters: &AdminCounters) -> Turn {
        if mem::take(&mut self.is_due) {
            self.deadline = now + REQUEST_TIME;
        }
        let advanced = match self.phase {
            Phase::Requesting | Phase::Idle => self.read_request(now, pages, counters),
            Phase::Answering { .. } => Ok(Turn::Goes),
            Phase::Lingering => self.read_rest(now),
        };
        let advanced = match advanced {
            Ok(Turn::Goes) => self.write(now, counters),
            other => other,
        };
        // A client that resets its connection is its own affair.
        advanced.unwrap_or(Turn::Ends)
    }

    fn read_request(&mut self, now: Instant, pages: &Pages, counters: &AdminCounters) -> io::Result<Turn> {
        // It ends, since what it reads is bounded.
        loop {
            match parse(&self.input) {
                Parsed::Request { request, consumed } => {
                    self.input.drain(..consumed);
                    let response = pages.answer(&request.path, counters);
                    let bytes = response.into_bytes(request.is_head, request.keeps_alive);
                    self.answer(bytes, request.keeps_alive, now);
                    return Ok(Turn::Goes);
                }
                Parsed::Refused(refusal) => {
                    self.refuse(refusal, now, counters);
                    return Ok(Turn::Goes);
                }
                Parsed::Incomplete => {}
            }
            let mut chunk = [0; 2048];
            let room = (REQUEST_BYTES_MAX - self.input.len()).min(chunk.len());
            match self.stream.read(&mut chunk[..room]) {
                Ok(0) => return Ok(Turn::Ends),
                Ok(bytes) => {
                    if self.phase == Phase::Idle {
                        self.phase = Phase::Requesting;
                        self.deadline = now + REQUEST_TIME;
                    }
                    self.input.extend_from_slice(&chunk[..bytes]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.deadline > now {
            return Ok(Turn::Goes);
        }
        if self.input.is_empty() {
            // Nothing was asked, so that nothing is owed.
            return Ok(Turn::Ends);
        }
        self.refuse(Refusal::Timeout, now, counters);
        Ok(Turn::Goes)
    }

    fn refuse(&mut self, refusal: Refusal, now: Instant, counters: &AdminCounters) {
        counters.refused(refusal);
        self.answer(Response::refusal(refusal).into_bytes(false, false), false, now);
    }

    fn answer(&mut self, bytes: Vec<u8>, keeps_alive: bool, now: Instant) {
        self.output = bytes;
        self.written = 0;
        self.phase = Phase::Answering { keeps_alive };
        self.deadline = now + ANSWER_TIME;
    }

    fn write(&mut self, now: Instant, counters: &AdminCounters) -> io::Result<Turn> {
        let Phase::Answering { keeps_alive } = self.phase else { return Ok(Turn::Goes) };
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.deadline > now => {
                    return Ok(Turn::Goes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    counters.dropped(Dropped::SlowReader);
                    return Ok(Turn::Ends);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        if keeps_alive {
            // Of what has come already the next turn is made, so that others get theirs.
            self.is_due = !self.input.is_empty();
            self.phase = if self.is_due { Phase::Requesting } else { Phase::Idle };
            self.deadline = if self.is_due { now } else { now + IDLE_TIME };
        } else {
            self.stream.shutdown(Shutdown::Write)?;
            self.phase = Phase::Lingering;
            self.deadline = now + LINGER_TIME;
        }
        Ok(Turn::Goes)
    }

    /// Reads and forgets what comes after the last answer.
    fn read_rest(&mut self, now: Instant) -> io::Result<Turn> {
        for _ in 0..READS_PER_TURN {
            match self.stream.read(&mut [0; 2048]) {
                Ok(0) => return Ok(Turn::Ends),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if self.deadline > now { Turn::Goes } else { Turn::Ends })
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
