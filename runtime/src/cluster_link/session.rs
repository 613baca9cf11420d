//! One connection of a link, from the socket's connect to its end: one task, one `poll`, both
//! directions.
//!
//! A connection arrives, is the link's current one, and may leave while the next one is current. The
//! current one sends the link's [`Outbox`]; one that arrives or leaves has little to say, and has a
//! buffer of its own for it. The two never mix: a connection becomes the current one when its own
//! buffer is empty.

use std::{
    fmt, io,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use croupier_protocol::{
    Connection, ConnectionError, Event, MessageFrame, PermissionAction, PingId, Progress, ServerError,
    ServerInfo,
};

use super::{
    Link,
    access::{Access, AccessError, Introduction, TlsSetup, request},
    crossing::LEAVE_AFTER,
    fault::{self, Fault},
    outbox::{Outbox, Sent},
    pool::ServerId,
    read_buffer::ReadBuffer,
};
use crate::{
    CredentialsError, DisconnectReason,
    config::ServerAddress,
    credentials::{Asked, Credentials},
    events::shown,
    stats::add,
    time,
    tls::TlsError,
    transport::{AcceptedTls, Alarm, Socket},
};

/// Work of one wake, after which the reactor gets a turn.
const TURN_MAX: Duration = Duration::from_micros(150);
/// A message waits at most this long, or this many bytes, for a PING to follow it.
const MARK_AFTER: Duration = Duration::from_millis(10);
const MARK_AFTER_BYTES: u64 = 256 << 10;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// The server closed the stream.
    EndOfStream,
    /// The kernel says that the connection is broken.
    Socket(io::Error),
    /// Silence, or bytes that are no NATS.
    Protocol(ConnectionError),
    /// The server said why it ends.
    Server(ServerError),
    /// There are no credentials to show.
    Credentials(CredentialsError),
    /// There is no TLS where there must be, or the other way round, or it failed.
    Tls(TlsError),
    /// The node is stopping.
    Closing,
    /// It was moved away from, and all that it had was taken.
    Left,
    /// The server is going away itself, so that nobody should move to it.
    LameDuck,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionEnd::EndOfStream => f.write_str("the server closed the stream"),
            SessionEnd::Socket(error) => write!(f, "{error}"),
            SessionEnd::Protocol(error) => write!(f, "{error}"),
            SessionEnd::Server(error) => write!(f, "the server says: {error}"),
            SessionEnd::Credentials(error) => write!(f, "{error}"),
            SessionEnd::Tls(error) => write!(f, "{error}"),
            SessionEnd::Closing => f.write_str("the node stops"),
            SessionEnd::Left => f.write_str("the link has moved to another connection"),
            SessionEnd::LameDuck => f.write_str("the server is in lame duck mode"),
        }
    }
}

impl SessionEnd {
    /// As an event tells it.
    pub(super) fn reason(&self) -> DisconnectReason {
        match self {
            SessionEnd::EndOfStream => DisconnectReason::EndOfStream,
            SessionEnd::Socket(error) => DisconnectReason::Socket(error.to_string()),
            SessionEnd::Protocol(error) => DisconnectReason::Protocol(error.to_string()),
            SessionEnd::Server(error) => DisconnectReason::Server(shown(error)),
            SessionEnd::Credentials(error) => DisconnectReason::Credentials(error.to_string()),
            SessionEnd::Tls(error) => DisconnectReason::Tls(error.to_string()),
            SessionEnd::LameDuck => DisconnectReason::LameDuck,
            SessionEnd::Closing | SessionEnd::Left => DisconnectReason::Draining,
        }
    }
}

impl From<AccessError> for SessionEnd {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Credentials(error) => SessionEnd::Credentials(error),
            AccessError::Tls(error) => SessionEnd::Tls(error),
            AccessError::Thread(error) => SessionEnd::Socket(error),
        }
    }
}

/// An error of the stream, which under TLS may be one of TLS.
fn broken(error: io::Error) -> SessionEnd {
    match TlsError::from_io(&error) {
        Some(error) => SessionEnd::Tls(error),
        None => SessionEnd::Socket(error),
    }
}

/// How far the opening of a connection has come. Nothing but a handshake is sent before [`Opening::Done`].
enum Opening {
    /// The server's greeting is awaited.
    Greeting,
    /// The TLS handshake is under way; before the greeting or after it, as the setup says.
    Securing { is_greeted: bool },
    /// The application looks for credentials.
    Asking(Asked),
    /// CONNECT is on its way, or was.
    Done,
}

/// Which part a connection plays for its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Before it is the current one: handshake, and in a move the subscriptions.
    Arriving,
    /// The one that sends what the link has to say.
    Current,
    /// Another one is current; this one still gives what it has.
    Leaving,
}

/// Until when what comes may have come over another connection, too.
#[derive(Clone, Copy, Debug)]
enum OverlapEnd {
    /// The move goes on, or there is none.
    Unknown,
    /// A PING is sent then, or later.
    PingAt(Instant),
    /// With the answer to this PING.
    Pong(PingId),
}

/// What a connection says while it is not the current one.
#[derive(Default)]
struct OwnBytes {
    bytes: Vec<u8>,
    sent: usize,
}

impl OwnBytes {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }
}

pub(super) struct Session<'l> {
    link: &'l Rc<Link>,
    server: ServerId,
    address: ServerAddress,
    socket: Socket,
    connection: Connection,
    buffer: ReadBuffer,
    alarm: Alarm,
    part: Part,
    opening: Opening,
    tls: Option<TlsSetup>,
    introduction: Introduction,
    own: OwnBytes,
    /// The PING behind all SUBs of one that arrives, or behind all UNSUBs of one that leaves.
    last_own_ping: Option<PingId>,
    is_own_ping_answered: bool,
    /// Whether another connection of the link is subscribed to the same, or what it brought may still come here.
    is_overlapped: bool,
    /// How the overlap with a connection that did not take over after all comes to its end.
    overlap_end: OverlapEnd,
    /// When the oldest message was seen that no PING follows.
    unmarked_since: Option<Instant>,
    /// The PING that is being measured, and when it was written.
    timed_ping: Option<(PingId, Instant)>,
    is_ready: bool,
}

impl<'l> Session<'l> {
    pub(super) fn new(
        link: &'l Rc<Link>,
        server: ServerId,
        address: ServerAddress,
        socket: Socket,
        connection: Connection,
        access: Access,
    ) -> Self {
        let Access { tls, introduction } = access;
        Session {
            opening: match &tls {
                Some(TlsSetup { first: true, .. }) => Opening::Securing { is_greeted: false },
                _ => Opening::Greeting,
            },
            tls,
            introduction,
            link,
            server,
            address,
            socket,
            connection,
            buffer: ReadBuffer::new(),
            alarm: Alarm::default(),
            part: Part::Arriving,
            own: OwnBytes::default(),
            last_own_ping: None,
            is_own_ping_answered: false,
            is_overlapped: false,
            overlap_end: OverlapEnd::Unknown,
            unmarked_since: None,
            timed_ping: None,
            is_ready: false,
        }
    }

    /// Whether the server accepted the connection.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// What the server says of itself.
    pub(super) fn info(&self) -> Option<&ServerInfo> {
        self.connection.info()
    }

    pub(super) fn tls(&self) -> Option<AcceptedTls> {
        self.socket.tls()
    }

    pub(super) fn server(&self) -> ServerId {
        self.server
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Whether all it had to say for itself was sent.
    pub(super) fn has_said_all(&self) -> bool {
        self.own.is_empty()
    }

    /// Whether the server has processed the SUBs of [`Session::subscribe_all`].
    pub(super) fn is_subscribed(&self) -> bool {
        self.is_own_ping_answered
    }

    /// Subscribes this connection to all that the link is subscribed to, beside the current one.
    pub(super) fn subscribe_all(&mut self, now: Instant) {
        let subscribing = self.link.resubscribe(&self.link.subscriptions.borrow());
        self.own.bytes.extend_from_slice(&subscribing);
        self.last_own_ping = Some(self.connection.ping(&mut self.own.bytes, now));
    }

    /// Holds back what the link has to say from here on, for the connection that takes over.
    pub(super) fn raise_fence(&mut self, now: Instant) {
        let mut outbox = self.link.outbox.borrow_mut();
        let ping = self.connection.ping(outbox.control(), now);
        outbox.mark(ping);
        self.link.barriers.borrow_mut().pinged(ping);
        self.unmarked_since = None;
        self.is_overlapped = true;
        self.overlap_end = OverlapEnd::Unknown;
        outbox.raise_fence(ping);
    }

    /// Nobody takes over from this connection. What the other one has brought may be on its way here: it counts
    /// as coming twice until the servers of the cluster have had their time, and this one has answered a PING.
    pub(super) fn stays(&mut self, now: Instant) {
        self.overlap_end = OverlapEnd::PingAt(now + LEAVE_AFTER);
        if fault::is_built_in(Fault::FailedMoveNotCounted) {
            self.is_overlapped = false;
        }
    }

    /// Becomes the current connection of a link that has none. `is_subscribed`: its SUBs were sent, and
    /// what changed since is queued.
    pub(super) fn take_over(&mut self, is_subscribed: bool) {
        let link = self.link;
        self.become_current();
        let ahead = (!is_subscribed).then(|| link.resubscribe(&link.subscriptions.borrow()));
        let payload_bytes_max = payload_bytes_max(link, &self.connection);
        let mut outbox = link.outbox.borrow_mut();
        let discarded = outbox.open(self.socket.send_half(), ahead.as_deref(), payload_bytes_max);
        let now = time::now();
        let settings = &link.config.connection;
        // A PING waits behind the backlog, and must not look unanswered for it.
        let longest = settings.catch_up.min(settings.ping_interval);
        let outage = now.saturating_duration_since(link.down_since.get());
        outbox.begin_catch_up(ahead.map_or(0, |ahead| ahead.len()), outage, longest, now);
        drop(outbox);
        link.discarded_oversized(discarded);
    }

    /// Becomes the current connection in the place of one that has passed its fence.
    pub(super) fn take_over_from(&mut self, old: &mut Session<'_>) {
        let link = self.link;
        old.part = Part::Leaving;
        old.last_own_ping = None;
        self.become_current();
        let payload_bytes_max = payload_bytes_max(link, &self.connection);
        let discarded = link.outbox.borrow_mut().hand_over(self.socket.send_half(), payload_bytes_max);
        link.discarded_oversized(discarded);
    }

    fn become_current(&mut self) {
        debug_assert!(self.is_ready && self.own.is_empty());
        self.part = Part::Current;
        self.unmarked_since = None;
        self.link.move_wanted.set(None);
        if self.connection.info().is_some_and(|info| info.lame_duck_mode) {
            self.link.lame_duck(self.server, &self.address);
        }
    }

    /// Tells the server that nothing more is wanted. The connection ends with the answer.
    pub(super) fn leave(&mut self, now: Instant) {
        self.link.unsubscribe_all(&mut self.own.bytes);
        self.last_own_ping = Some(self.connection.ping(&mut self.own.bytes, now));
        self.is_own_ping_answered = false;
    }

    /// One turn: reads and dispatches what is there, sends what has gathered, and has the task woken for
    /// more.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let begun = time::now();
        let mut now = begun;
        loop {
            if self.link.closing.get() {
                return Err(SessionEnd::Closing);
            }
            let read = if self.is_ready || self.open(now, cx)? { self.read(cx)? } else { None };
            if let Some(bytes) = read {
                self.buffer.filled(bytes);
                add(&self.link.counters.reads, 1);
                add(&self.link.counters.received_bytes, bytes as u64);
                self.dispatch(now, cx)?;
            }
            self.handle_timeouts(now)?;
            self.transmit(now, cx)?;
            if read.is_none() {
                break;
            }
            now = time::now();
            if now - begun >= TURN_MAX {
                // There may be more to read, and no readiness is awaited: come back by way of the reactor.
                self.alarm.arm(now, now, cx);
                return Ok(());
            }
        }
        if let Some(deadline) = self.next_deadline() {
            self.alarm.arm(deadline, now, cx);
        }
        Ok(())
    }

    /// Reads what is there; `None` when that is nothing.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Option<usize>, SessionEnd> {
        match self.socket.poll_read(cx, self.buffer.unfilled()) {
            Poll::Ready(Ok(0)) => Err(SessionEnd::EndOfStream),
            Poll::Ready(Ok(bytes)) => Ok(Some(bytes)),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
            Poll::Ready(Err(error)) => Err(broken(error)),
            Poll::Pending => Ok(None),
        }
    }

    /// Decodes and hands out everything that was read.
    fn dispatch(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let lent = self.buffer.lend();
        let mut at = lent.start;
        let mut messages = 0;
        let outcome = loop {
            while let Some((frame, consumed)) = self.connection.handle_message(&lent.chunk[at..lent.end]) {
                at += consumed;
                messages += 1;
                self.hand_out(frame, &lent.chunk);
            }
            match self.connection.handle_input(&lent.chunk[at..lent.end], now) {
                Ok(Progress::Event { event: Event::Message(frame), consumed }) => {
                    at += consumed;
                    messages += 1;
                    self.hand_out(frame, &lent.chunk);
                }
                Ok(Progress::Event { event: Event::ServerInfo { first: true }, consumed }) => {
                    at += consumed;
                    if let Err(end) = self.greeted(lent.end - at, now, cx) {
                        break Err(end);
                    }
                }
                Ok(Progress::Event { event, consumed }) => {
                    at += consumed;
                    if let Err(end) = self.handle_event(event) {
                        break Err(end);
                    }
                }
                Ok(Progress::Incomplete { needed }) => break Ok(needed),
                Err(error) => break Err(SessionEnd::Protocol(error)),
            }
        };
        add(&self.link.counters.received, messages);
        self.buffer.give_back(lent, at, *outcome.as_ref().unwrap_or(&0));
        outcome.map(drop)
    }

    fn handle_timeouts(&mut self, now: Instant) -> Result<(), SessionEnd> {
        if self.connection.poll_timeout().is_some_and(|(due, _)| due <= now)
            && let Err(error) = self.connection.handle_timeout(now)
            && !fault::is_built_in(Fault::SilenceIgnored)
        {
            return Err(SessionEnd::Protocol(error));
        }
        let mut requests = self.link.requests.borrow_mut();
        if requests.next_deadline().is_some_and(|due| due <= now) {
            while let Some(asker) = requests.expire(now) {
                asker.expire(self.link);
            }
        }
        Ok(())
    }

    #[inline]
    fn hand_out(&self, frame: MessageFrame<'_>, chunk: &Bytes) {
        if self.is_overlapped {
            self.link.count_overlap(&frame);
        }
        self.link.dispatch(frame, chunk);
    }

    /// Appends what the connection owes, and sends.
    fn transmit(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        if self.part != Part::Current {
            if matches!(self.opening, Opening::Securing { .. }) {
                return Ok(());
            }
            self.connection.poll_transmit(&mut self.own.bytes, now);
            return self.send_own(cx);
        }
        let mut outbox = self.link.outbox.borrow_mut();
        let outbox = &mut *outbox;
        outbox.catch_up(now);
        if outbox.is_fenced() {
            // What is appended now goes over another connection; the PING at the fence is a sign of life.
            if outbox.is_sent_to_fence() {
                self.connection.poll_transmit(&mut self.own.bytes, now);
                return self.send_own(cx);
            }
        } else if outbox.has_room_for_control() {
            let pinged_before = self.connection.last_ping();
            // A PONG or keepalive PING is whole in itself, and needs no checkpoint of its own.
            if !fault::is_built_in(Fault::PongsForgotten) {
                self.connection.poll_transmit(outbox.control(), now);
            }
            if let OverlapEnd::PingAt(due) = self.overlap_end
                && due <= now
            {
                self.overlap_end = OverlapEnd::Pong(self.connection.ping(outbox.control(), now));
            }
            let mut barriers = self.link.barriers.borrow_mut();
            if barriers.wants_ping() || self.is_mark_due(outbox, now) {
                let ping = self.connection.ping(outbox.control(), now);
                outbox.mark(ping);
                barriers.pinged(ping);
                self.unmarked_since = None;
            }
            let pinged = self.connection.last_ping();
            if pinged > pinged_before && self.timed_ping.is_none() {
                self.timed_ping = Some((pinged, time::now()));
            }
        }
        loop {
            if outbox.is_blocked() {
                match self.socket.poll_write(cx, outbox.unsent_front()) {
                    Poll::Ready(Ok(bytes)) => outbox.unblocked(bytes),
                    Poll::Ready(Err(error)) => return Err(broken(error)),
                    Poll::Pending => break,
                }
            }
            match outbox.send() {
                Sent::All => break,
                Sent::Blocked => {}
                Sent::Failed(error) => return Err(broken(error)),
            }
        }
        if outbox.queued_bytes() <= outbox.limit_bytes() / 2 {
            self.link.room.notify();
        }
        Ok(())
    }

    fn measure_round_trip(&mut self, answered: PingId) {
        if let Some((ping, at)) = self.timed_ping
            && ping <= answered
        {
            self.timed_ping = None;
            if ping == answered {
                self.link.latencies.round_trip(self.link.index, time::now() - at);
            }
        }
    }

    fn send_own(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        while !self.own.is_empty() {
            match self.socket.poll_write(cx, &self.own.bytes[self.own.sent..]) {
                Poll::Ready(Ok(bytes)) => self.own.sent += bytes,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(broken(error)),
                Poll::Pending => return Ok(()),
            }
        }
        self.own.bytes.clear();
        self.own.sent = 0;
        if self.socket.is_under_tls()
            && let Poll::Ready(Err(error)) = self.socket.poll_write(cx, &[])
        {
            return Err(broken(error));
        }
        Ok(())
    }

    fn is_mark_due(&mut self, outbox: &Outbox, now: Instant) -> bool {
        if !outbox.has_unmarked() {
            self.unmarked_since = None;
            return false;
        }
        let since = *self.unmarked_since.get_or_insert(now);
        !outbox.is_mark_pending()
            && (now >= since + MARK_AFTER || outbox.unmarked_bytes() >= MARK_AFTER_BYTES)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let keepalive = self.connection.poll_timeout().map(|(due, _)| due);
        let request = self.link.requests.borrow_mut().next_deadline();
        let outbox = self.link.outbox.borrow();
        let may_mark = self.part == Part::Current && !outbox.is_mark_pending() && !outbox.is_fenced();
        let mark = self.unmarked_since.filter(|_| may_mark).map(|since| since + MARK_AFTER);
        let portion = outbox.catch_up_due().filter(|_| self.part == Part::Current);
        [keepalive, request, mark, portion].into_iter().flatten().min()
    }
}

impl Session<'_> {
    /// Acts on everything but a message.
    fn handle_event(&mut self, event: Event<'_>) -> Result<(), SessionEnd> {
        let link = self.link;
        match event {
            Event::ServerInfo { .. } => self.handle_info()?,
            Event::Ready(_) => self.is_ready = true,
            Event::Pong(ping) if self.part == Part::Current => {
                link.outbox.borrow_mut().pong(ping);
                link.barriers.borrow_mut().pong(ping);
                self.measure_round_trip(ping);
                if let OverlapEnd::Pong(last) = self.overlap_end
                    && last <= ping
                {
                    self.is_overlapped = false;
                    self.overlap_end = OverlapEnd::Unknown;
                }
            }
            Event::Pong(ping) if self.last_own_ping == Some(ping) => {
                self.is_own_ping_answered = true;
                if self.part == Part::Leaving {
                    return Err(SessionEnd::Left);
                }
            }
            Event::InvalidInfo(error) => {
                tracing::warn!(cluster = %link.cluster, shard = link.shard, %error, "an INFO is broken; the last one stays");
            }
            Event::ServerError(error) => {
                add(&link.counters.server_errors, 1);
                tracing::warn!(cluster = %link.cluster, shard = link.shard, %error, "the server complains");
                if error.is_fatal() {
                    return Err(SessionEnd::Server(error));
                }
                link.complained(&self.address, &error);
                if let ServerError::PermissionsViolation {
                    action: PermissionAction::Subscribe,
                    subject,
                    queue,
                } = error
                {
                    link.deny(&subject, queue.as_deref());
                }
            }
            // The first is answered by `poll_transmit`; the others mean nothing.
            _ => {}
        }
        Ok(())
    }

    /// Takes note of what the server says of itself and its cluster.
    fn handle_info(&mut self) -> Result<(), SessionEnd> {
        let link = self.link;
        let Some(info) = self.connection.info() else { return Ok(()) };
        // A server that is being left may be one of another cluster by then.
        if self.part != Part::Leaving && !link.pool.borrow().is_withdrawn(self.server) {
            link.node.identify(link, info);
            link.discover(&info.connect_urls, self.server);
        }
        if info.lame_duck_mode {
            match self.part {
                Part::Arriving if link.move_wanted.get().is_some() => return Err(SessionEnd::LameDuck),
                Part::Current => link.lame_duck(self.server, &self.address),
                _ => {}
            }
        }
        if self.part == Part::Current {
            let payload_bytes_max = payload_bytes_max(link, &self.connection);
            link.outbox.borrow_mut().set_payload_bytes_max(payload_bytes_max);
        }
        Ok(())
    }
}

/// What comes before CONNECT.
impl Session<'_> {
    /// Goes on with the handshake, or with the question to the application. Whether there may be something
    /// to read for the protocol.
    #[cold]
    fn open(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, SessionEnd> {
        match &mut self.opening {
            Opening::Securing { is_greeted } => {
                let is_greeted = *is_greeted;
                if let Some(TlsSetup { config, name, .. }) = &self.tls
                    && !self.socket.is_under_tls()
                {
                    self.socket
                        .start_tls(config.clone(), name.clone())
                        .map_err(|error| SessionEnd::Tls(TlsError::from_rustls(&error)))?;
                }
                match self.socket.poll_handshake(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(SessionEnd::EndOfStream);
                    }
                    Poll::Ready(Err(error)) => return Err(broken(error)),
                    Poll::Pending => return Ok(false),
                }
                self.opening = Opening::Greeting;
                if is_greeted {
                    self.introduce(now, cx)?;
                }
                Ok(true)
            }
            Opening::Asking(asked) => {
                if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                    self.connect(Some(&answer.map_err(SessionEnd::Credentials)?), now)?;
                }
                Ok(true)
            }
            Opening::Greeting | Opening::Done => Ok(true),
        }
    }

    /// The server's first INFO is here. `unread_bytes` came with it.
    fn greeted(&mut self, unread_bytes: usize, now: Instant, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let Some(info) = self.connection.info() else { return Ok(()) };
        let is_offered = info.tls_required || info.tls_available;
        if self.tls.is_none() && info.tls_required {
            return Err(SessionEnd::Tls(TlsError::Required));
        }
        if self.tls.is_some() && !self.socket.is_under_tls() {
            if !is_offered {
                return Err(SessionEnd::Tls(TlsError::NotOffered));
            }
            if unread_bytes > 0 {
                return Err(SessionEnd::Tls(TlsError::BytesBeforeHandshake { bytes: unread_bytes }));
            }
            // Anybody on the way may have said the rest of this INFO. Another one follows under TLS.
            self.own = OwnBytes::default();
            self.opening = Opening::Securing { is_greeted: true };
            return self.open(now, cx).map(drop);
        }
        self.handle_info()?;
        self.introduce(now, cx)
    }

    /// Says who we are, or has the application asked for it.
    fn introduce(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        match std::mem::replace(&mut self.introduction, Introduction::Known(None)) {
            Introduction::Known(credentials) => self.connect(credentials.as_ref(), now),
            Introduction::Asked { provider, server } => {
                let nonce = self.connection.info().and_then(|info| info.nonce.clone());
                self.opening = Opening::Asking(provider.ask(request(self.link, server, nonce)));
                self.open(now, cx).map(drop)
            }
        }
    }

    fn connect(&mut self, credentials: Option<&Credentials>, now: Instant) -> Result<(), SessionEnd> {
        let nonce = self.connection.info().and_then(|info| info.nonce.clone());
        let options = self.connection.connect_options_mut();
        options.tls_required = self.tls.is_some();
        if let Some(credentials) = credentials {
            credentials.fill(nonce.as_deref(), options).map_err(SessionEnd::Credentials)?;
        }
        self.connection.connect(&mut self.own.bytes);
        self.connection.ping(&mut self.own.bytes, now);
        self.connection.connect_options_mut().forget_credentials();
        self.opening = Opening::Done;
        Ok(())
    }
}

fn payload_bytes_max(link: &Link, connection: &Connection) -> usize {
    if let Some(info) = connection.info() {
        link.server_payload_bytes_max.set(info.max_payload);
    }
    link.payload_bytes_max(&link.node.limits.get())
}
