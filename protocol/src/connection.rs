//! The life of one transport connection: handshake, PINGs and PONGs, silence, end.

use std::time::{Duration, Instant};

use crate::connect_options::ConnectOptions;
use crate::decoder::{Decoded, Decoder, MessageFrame, Operation};
use crate::encode;
use crate::error::{ConnectionError, InfoError};
use crate::info::ServerInfo;
use crate::limits::{DecoderLimits, PONGS_OWED_MAX, TALKING_SERVER_GRACE};
use crate::server_error::ServerError;

/// How a connection behaves.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// What its CONNECT says.
    pub connect: ConnectOptions,
    /// Time between keepalive PINGs. Default 2 s. With `pings_out_max` it sets how late a silent
    /// cut is noticed; each costs the server an answer.
    pub ping_interval: Duration,
    /// PINGs that may be unanswered when the next keepalive is due. Default 2: a silent server is
    /// given up after at most three intervals. 0 counts as 1.
    pub pings_out_max: u32,
    /// Time from the beginning to the first PONG. Default 2 s, TLS included.
    pub handshake_timeout: Duration,
    /// What is taken from the server.
    pub decoder: DecoderLimits,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            ping_interval: Duration::from_secs(2),
            pings_out_max: 2,
            handshake_timeout: Duration::from_secs(2),
            decoder: DecoderLimits::default(),
        }
    }
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The server speaks first.
    AwaitingInfo,
    /// Its INFO is here; CONNECT and a PING go out, or went, and their PONG ends the handshake.
    AwaitingPong,
    /// The server has processed CONNECT.
    Ready,
    /// Over: broken bytes, silence or a fatal error of the server.
    Closed,
}

/// Numbers the PINGs of a connection, from 1. PONGs come in the order of their PINGs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PingId(pub u64);

/// Why [`Connection::handle_timeout`] wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// The handshake has taken too long.
    Handshake,
    /// A keepalive PING is due, or the connection is stale.
    Keepalive,
}

/// What [`Connection::handle_input`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'b> {
    /// An operation, already applied.
    Event {
        /// What it means to the caller.
        event: Event<'b>,
        /// Bytes that it took from the front of the input.
        consumed: usize,
    },
    /// The bytes end before the operation does.
    Incomplete {
        /// As in [`Decoded::Incomplete`].
        needed: usize,
    },
}

/// What a server's operation means to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'b> {
    /// A message.
    Message(MessageFrame<'b>),
    /// [`Connection::info`] is new. After the first one, call [`Connection::connect`], append what
    /// else belongs to the handshake, and call [`Connection::ping`].
    ServerInfo {
        /// Whether it is the first of this connection.
        first: bool,
    },
    /// An INFO in mid-stream cannot be used; the last good one is kept.
    InvalidInfo(InfoError),
    /// The first PONG: the handshake is over.
    Ready(PingId),
    /// The PONG for this PING.
    Pong(PingId),
    /// A PONG without a PING. Harmless.
    UnaskedPong,
    /// The server's PING; a PONG is owed.
    Ping,
    /// `+OK`. Only a server that was told `verbose` sends it.
    Ok,
    /// The server complains. After a fatal complaint the connection is closed.
    ServerError(ServerError),
}

/// One transport connection, from "the socket is connected" to its end. A reconnect makes a new one.
#[derive(Clone, Debug)]
pub struct Connection {
    config: ConnectionConfig,
    decoder: Decoder,
    state: ConnectionState,
    info: Option<ServerInfo>,
    handshake_deadline: Instant,
    keepalive_due: Instant,
    keepalive_owed: bool,
    /// PINGs since the last PONG, of which those of callers count only if none was out.
    keepalives_unanswered: u32,
    /// Whether the server sent any operation since the last keepalive was due.
    heard: bool,
    pings: u64,
    pongs: u64,
    pongs_owed: u32,
}

impl Connection {
    /// A connection whose socket is connected; the server's INFO is awaited from `now` on.
    pub fn new(config: ConnectionConfig, now: Instant) -> Self {
        Self {
            decoder: Decoder::new(config.decoder),
            state: ConnectionState::AwaitingInfo,
            info: None,
            handshake_deadline: now + config.handshake_timeout,
            keepalive_due: now + config.ping_interval,
            keepalive_owed: false,
            keepalives_unanswered: 0,
            heard: false,
            pings: 0,
            pongs: 0,
            pongs_owed: 0,
            config,
        }
    }

    /// The message at the front of `input` and its length, if the next operation is one that is whole:
    /// the way of nearly all input. After `None`, [`Connection::handle_input`] decides what it is.
    #[inline(always)]
    pub fn handle_message<'b>(&mut self, input: &'b [u8]) -> Option<(MessageFrame<'b>, usize)> {
        if self.state == ConnectionState::Closed {
            return None;
        }
        let message = self.decoder.decode_message(input)?;
        self.heard = true;
        Some(message)
    }

    /// Decodes one operation at the front of `input` and applies it. The input obeys the contract
    /// of [`Decoder`].
    ///
    /// # Errors
    /// The bytes break the protocol, the first INFO cannot be used, or the connection has ended. It
    /// is closed after any of them.
    #[inline]
    pub fn handle_input<'b>(
        &mut self,
        input: &'b [u8],
        now: Instant,
    ) -> Result<Progress<'b>, ConnectionError> {
        if self.state == ConnectionState::Closed {
            return Err(ConnectionError::Closed);
        }
        match self.decoder.decode(input) {
            Ok(Decoded::Operation { operation: Operation::Message(message), consumed }) => {
                self.heard = true;
                Ok(Progress::Event { event: Event::Message(message), consumed })
            }
            Ok(Decoded::Operation { operation, consumed }) => {
                let event = self.apply(operation, now)?;
                Ok(Progress::Event { event, consumed })
            }
            Ok(Decoded::Incomplete { needed }) => Ok(Progress::Incomplete { needed }),
            Err(error) => {
                self.state = ConnectionState::Closed;
                Err(error.into())
            }
        }
    }

    /// Tells that `now` is as late as [`Connection::poll_timeout`] said, or later; earlier calls do
    /// nothing. A keepalive PING may be owed afterwards. However late the call is, it counts as one:
    /// our own standstill is no silence of the server. Feed bytes that are already there first.
    ///
    /// # Errors
    /// The handshake took too long, or the connection is stale. It is closed then.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        match self.poll_timeout() {
            Some((due, reason)) if due <= now => match reason {
                TimeoutReason::Handshake => {
                    let state = self.state;
                    self.state = ConnectionState::Closed;
                    Err(ConnectionError::HandshakeTimeout { state })
                }
                TimeoutReason::Keepalive => self.keepalive(now),
            },
            _ => Ok(()),
        }
    }

    /// When to call [`Connection::handle_timeout`], and why. `None` once it is closed.
    pub fn poll_timeout(&self) -> Option<(Instant, TimeoutReason)> {
        match self.state {
            ConnectionState::AwaitingInfo | ConnectionState::AwaitingPong => {
                Some((self.handshake_deadline, TimeoutReason::Handshake))
            }
            ConnectionState::Ready => Some((self.keepalive_due, TimeoutReason::Keepalive)),
            ConnectionState::Closed => None,
        }
    }

    /// Appends the PONGs and the keepalive PING that are owed.
    #[inline]
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, now: Instant) {
        if self.pongs_owed > 0 || self.keepalive_owed {
            self.transmit(out, now);
        }
    }

    /// Appends CONNECT. What the server does not offer, headers and with them the answer that nobody
    /// listens, is not asked for.
    pub fn connect(&mut self, out: &mut Vec<u8>) {
        let offered = self.info.as_ref().is_some_and(|info| info.headers);
        let mut options = self.config.connect.clone();
        options.headers &= offered;
        options.no_responders &= options.headers;
        encode::connect(out, &options);
    }

    /// What CONNECT will say; for credentials that depend on the server's nonce.
    pub fn connect_options_mut(&mut self) -> &mut ConnectOptions {
        &mut self.config.connect
    }

    /// Appends a PING. Its PONG says that the server has processed all that was sent before it. A
    /// PING while no other is out serves as a keepalive and puts the next one off.
    pub fn ping(&mut self, out: &mut Vec<u8>, now: Instant) -> PingId {
        encode::ping(out);
        if self.pings == self.pongs {
            self.keepalives_unanswered = 1;
            self.keepalive_due = now + self.config.ping_interval;
        }
        self.pings += 1;
        PingId(self.pings)
    }

    /// PINGs without a PONG.
    pub fn pings_outstanding(&self) -> u32 {
        u32::try_from(self.pings - self.pongs).unwrap_or(u32::MAX)
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> ConnectionState {
        self.state
    }

    /// The last good INFO.
    pub fn info(&self) -> Option<&ServerInfo> {
        self.info.as_ref()
    }

    /// The last PING that was written; `PingId(0)` before the first.
    pub fn last_ping(&self) -> PingId {
        PingId(self.pings)
    }

    /// The last PING that was answered; `PingId(0)` before the first.
    pub fn last_pong(&self) -> PingId {
        PingId(self.pongs)
    }

    #[cold]
    fn apply<'b>(&mut self, operation: Operation<'b>, now: Instant) -> Result<Event<'b>, ConnectionError> {
        self.heard = true;
        Ok(match operation {
            Operation::Message(message) => Event::Message(message),
            Operation::Info(json) => self.apply_info(json)?,
            Operation::Ping => {
                self.pongs_owed = (self.pongs_owed + 1).min(PONGS_OWED_MAX);
                Event::Ping
            }
            Operation::Pong => self.apply_pong(now),
            Operation::Ok => Event::Ok,
            Operation::Error(text) => {
                let error = ServerError::parse(text);
                if error.is_fatal() {
                    self.state = ConnectionState::Closed;
                }
                Event::ServerError(error)
            }
        })
    }

    fn apply_info(&mut self, json: &[u8]) -> Result<Event<'static>, ConnectionError> {
        let first = self.state == ConnectionState::AwaitingInfo;
        match ServerInfo::parse(json) {
            Ok(info) => {
                self.info = Some(info);
                if first {
                    self.state = ConnectionState::AwaitingPong;
                }
                Ok(Event::ServerInfo { first })
            }
            Err(error) if first => {
                self.state = ConnectionState::Closed;
                Err(ConnectionError::FirstInfo(error))
            }
            Err(error) => Ok(Event::InvalidInfo(error)),
        }
    }

    fn apply_pong(&mut self, now: Instant) -> Event<'static> {
        if self.pongs == self.pings {
            return Event::UnaskedPong;
        }
        self.pongs += 1;
        self.keepalives_unanswered = 0;
        let ping = PingId(self.pongs);
        if self.state != ConnectionState::AwaitingPong {
            return Event::Pong(ping);
        }
        self.state = ConnectionState::Ready;
        self.keepalive_due = now + self.config.ping_interval;
        Event::Ready(ping)
    }

    fn keepalive(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let silent_max = self.config.pings_out_max.max(1);
        let unanswered_max =
            if self.heard { silent_max.saturating_mul(TALKING_SERVER_GRACE) } else { silent_max };
        if self.keepalives_unanswered >= unanswered_max {
            self.state = ConnectionState::Closed;
            return Err(ConnectionError::StaleConnection { pings_out: self.pings_outstanding() });
        }
        self.heard = false;
        self.keepalives_unanswered += 1;
        self.keepalive_owed = true;
        self.keepalive_due = now + self.config.ping_interval;
        Ok(())
    }

    #[cold]
    fn transmit(&mut self, out: &mut Vec<u8>, now: Instant) {
        for _ in 0..std::mem::take(&mut self.pongs_owed) {
            encode::pong(out);
        }
        if std::mem::take(&mut self.keepalive_owed) {
            self.ping(out, now);
        }
    }
}
