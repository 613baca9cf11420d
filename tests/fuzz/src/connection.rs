//! The state machine keeps its accounts whatever a server and time do: every PONG has a PING, every
//! PING its PONG, the handshake ends once, and nothing happens after the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use croupier_protocol::limits::PONGS_OWED_MAX;
use croupier_protocol::{
    ClientOperationKind, Connection, ConnectionConfig, ConnectionError, ConnectionState, Event, PingId,
    Progress, next_client_operation,
};

use super::recipe::Recipe;

/// The bytes are a recipe of what the server sends, how time passes and what callers do.
pub fn check(data: &[u8]) {
    let mut recipe = Recipe::new(data);
    let mut model = Model::new();
    while !recipe.is_empty() && !model.over {
        match recipe.byte() {
            0 => model.feed(recipe.piece()),
            1 => model.feed(b"INFO {\"headers\":true,\"max_payload\":1024} \r\n"),
            2 => model.feed(b"PONG\r\n"),
            3 => model.feed(b"PING\r\n"),
            4 => model.feed(b"+OK\r\n"),
            5 => model.feed(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n"),
            6 => model.feed(b"-ERR 'Stale Connection'\r\n"),
            7 => model.feed(b"MSG a 1 2\r\nhi\r\n"),
            8 => model.feed(b"INFO {\r\n"),
            9 => model.ping(),
            10 => model.transmit(),
            11 => model.pass(Duration::from_millis(recipe.number() % 10_000)),
            12 => model.pass_to_timeout(),
            13 => model.connect(),
            other => model.feed(&[other]),
        }
        model.check();
    }
    model.transmit();
    model.check();
}

/// What must be true of a connection, kept apart from it.
struct Model {
    connection: Connection,
    now: Instant,
    input: Vec<u8>,
    pings: VecDeque<PingId>,
    last_ping: u64,
    last_pong: u64,
    pongs_owed: u32,
    infos: u32,
    readies: u32,
    over: bool,
}

impl Model {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(ConnectionConfig::default(), now),
            now,
            input: Vec::new(),
            pings: VecDeque::new(),
            last_ping: 0,
            last_pong: 0,
            pongs_owed: 0,
            infos: 0,
            readies: 0,
            over: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        loop {
            let before = self.connection.state();
            match self.connection.handle_input(&input[at..], self.now) {
                Ok(Progress::Event { event, consumed }) => {
                    at += consumed;
                    self.apply(&event, before);
                }
                Ok(Progress::Incomplete { needed }) => {
                    assert!(needed > input.len() - at);
                    break;
                }
                Err(error) => {
                    assert_eq!(error == ConnectionError::Closed, before == ConnectionState::Closed);
                    self.over = true;
                    break;
                }
            }
        }
        self.input = input[at..].to_vec();
    }

    fn apply(&mut self, event: &Event<'_>, before: ConnectionState) {
        match event {
            Event::ServerInfo { first } => {
                self.infos += 1;
                assert_eq!(*first, self.infos == 1);
                assert_eq!(*first, before == ConnectionState::AwaitingInfo);
                assert!(self.connection.info().is_some());
            }
            Event::InvalidInfo(_) => assert!(self.connection.info().is_some()),
            Event::Ready(ping) => {
                self.readies += 1;
                assert_eq!(before, ConnectionState::AwaitingPong);
                self.pong(*ping);
            }
            Event::Pong(ping) => {
                assert_ne!(before, ConnectionState::AwaitingPong);
                self.pong(*ping);
            }
            Event::UnaskedPong => assert!(self.pings.is_empty()),
            Event::Ping => self.pongs_owed = (self.pongs_owed + 1).min(PONGS_OWED_MAX),
            Event::ServerError(error) => {
                assert_eq!(error.is_fatal(), self.connection.state() == ConnectionState::Closed);
            }
            _ => {}
        }
    }

    fn pong(&mut self, ping: PingId) {
        assert_eq!(self.pings.pop_front(), Some(ping));
        self.last_pong = ping.0;
    }

    fn ping(&mut self) {
        let mut out = Vec::new();
        let ping = self.connection.ping(&mut out, self.now);
        assert_eq!(out, b"PING\r\n");
        self.sent(ping.0);
    }

    fn sent(&mut self, ping: u64) {
        self.last_ping += 1;
        assert_eq!(ping, self.last_ping);
        self.pings.push_back(PingId(ping));
    }

    fn connect(&mut self) {
        let mut out = Vec::new();
        self.connection.connect(&mut out);
        let operation = next_client_operation(&out).expect("an operation");
        assert_eq!((operation.kind, operation.line_bytes), (ClientOperationKind::Connect, out.len()));
    }

    fn transmit(&mut self) {
        let mut out = Vec::new();
        self.connection.poll_transmit(&mut out, self.now);
        let mut at = 0;
        while let Some(operation) = next_client_operation(&out[at..]) {
            match operation.kind {
                ClientOperationKind::Pong => {
                    self.pongs_owed = self.pongs_owed.checked_sub(1).expect("an owed PONG");
                }
                ClientOperationKind::Ping => self.sent(self.last_ping + 1),
                other => panic!("{other:?} transmitted"),
            }
            at += operation.line_bytes;
        }
        assert_eq!(at, out.len());
        assert_eq!(self.pongs_owed, 0);
        self.connection.poll_transmit(&mut out, self.now);
        assert_eq!(at, out.len(), "nothing is owed twice");
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let due = self.connection.poll_timeout();
        let before = self.connection.state();
        match self.connection.handle_timeout(self.now) {
            Ok(()) => {
                if let Some((due, _)) = self.connection.poll_timeout() {
                    assert!(due > self.now, "what was due is dealt with");
                }
            }
            Err(error) => {
                assert!(due.is_some_and(|(due, _)| due <= self.now));
                let expected = match before {
                    ConnectionState::Ready => {
                        ConnectionError::StaleConnection { pings_out: self.pings.len() as u32 }
                    }
                    state => ConnectionError::HandshakeTimeout { state },
                };
                assert_eq!(error, expected);
                self.over = true;
            }
        }
    }

    fn pass_to_timeout(&mut self) {
        if let Some((due, _)) = self.connection.poll_timeout() {
            self.pass(due.saturating_duration_since(self.now));
        }
    }

    fn check(&self) {
        let state = self.connection.state();
        assert_eq!(self.connection.pings_outstanding() as usize, self.pings.len());
        assert_eq!(self.connection.last_pong(), PingId(self.last_pong));
        assert_eq!(self.connection.poll_timeout().is_none(), state == ConnectionState::Closed);
        assert!(self.readies <= 1);
        assert!(!self.over || state == ConnectionState::Closed);
        match state {
            ConnectionState::AwaitingInfo => assert_eq!((self.infos, self.readies), (0, 0)),
            ConnectionState::AwaitingPong => assert_eq!((self.infos > 0, self.readies), (true, 0)),
            ConnectionState::Ready => assert_eq!((self.infos > 0, self.readies), (true, 1)),
            _ => {}
        }
    }
}
