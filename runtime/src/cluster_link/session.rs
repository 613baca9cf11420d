//! One connection of a link, from the socket's connect to its end: one task, one `poll`, both
//! directions.

use std::{
    fmt, io,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use croupier_protocol::{Connection, ConnectionError, Event, PermissionAction, Progress, ServerError};

use super::{
    Link, LinkStatus,
    access::{Access, AccessError, Introduction, TlsSetup, request},
    outbox::Sent,
    read_buffer::ReadBuffer,
};
use crate::{
    CredentialsError, RequestError,
    credentials::{Asked, Credentials},
    stats::{add, store},
    tls::TlsError,
    transport::{Alarm, Socket},
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
    /// There is no TLS where there must be, or the other way round.
    Tls(TlsError),
    /// The node is stopping.
    Closing,
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

pub(super) struct Session<'l> {
    link: &'l Rc<Link>,
    socket: Socket,
    connection: Connection,
    buffer: ReadBuffer,
    alarm: Alarm,
    /// When the oldest message was seen that no PING follows.
    unmarked_since: Option<Instant>,
    opening: Opening,
    tls: Option<TlsSetup>,
    introduction: Introduction,
    is_ready: bool,
}

impl<'l> Session<'l> {
    pub(super) fn new(link: &'l Rc<Link>, socket: Socket, connection: Connection, access: Access) -> Self {
        link.outbox.borrow_mut().attach(socket.send_half());
        let Access { tls, introduction } = access;
        Session {
            link,
            opening: match &tls {
                Some(TlsSetup { first: true, .. }) => Opening::Securing { is_greeted: false },
                _ => Opening::Greeting,
            },
            tls,
            introduction,
            socket,
            connection,
            buffer: ReadBuffer::new(),
            alarm: Alarm::default(),
            unmarked_since: None,
            is_ready: false,
        }
    }

    /// Whether the server accepted the connection.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// One turn: reads and dispatches what is there, sends what has gathered, and waits.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        self.link.turn_begins(cx);
        match self.turn(cx) {
            Ok(()) => {
                self.link.turn_ends();
                Poll::Pending
            }
            Err(end) => Poll::Ready(end),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let begun = Instant::now();
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
            now = Instant::now();
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

    /// Goes on with what comes before CONNECT. Whether there may be something to read for the protocol.
    #[cold]
    fn open(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, SessionEnd> {
        match &mut self.opening {
            Opening::Securing { is_greeted } => {
                let is_greeted = *is_greeted;
                if !self.socket.is_under_tls() {
                    let TlsSetup { config, name, .. } = self.tls.clone().ok_or(SessionEnd::EndOfStream)?;
                    self.socket
                        .start_tls(config, name)
                        .map_err(|error| SessionEnd::Tls(TlsError::from_rustls(&error)))?;
                    self.link.outbox.borrow_mut().attach(self.socket.send_half());
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

    /// The server's first INFO is here.
    fn greeted(&mut self, unread_bytes: usize, now: Instant, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let offers =
            self.connection.info().map_or((false, false), |info| (info.tls_required, info.tls_available));
        match (&self.tls, offers) {
            (Some(_), _) if self.socket.is_under_tls() => self.introduce(now, cx),
            (Some(_), (false, false)) => Err(SessionEnd::Tls(TlsError::NotOffered)),
            (Some(_), _) if unread_bytes > 0 => {
                Err(SessionEnd::Tls(TlsError::BytesBeforeHandshake { bytes: unread_bytes }))
            }
            (Some(_), _) => {
                self.opening = Opening::Securing { is_greeted: true };
                // The handshake's own polls are what waits from here on.
                self.open(now, cx).map(drop)
            }
            (None, (true, _)) => Err(SessionEnd::Tls(TlsError::Required)),
            (None, _) => self.introduce(now, cx),
        }
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
        let mut outbox = self.link.outbox.borrow_mut();
        self.connection.connect(outbox.handshake());
        self.connection.ping(outbox.handshake(), now);
        self.connection.connect_options_mut().forget_credentials();
        self.opening = Opening::Done;
        Ok(())
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
                self.link.dispatch(frame, &lent.chunk);
            }
            match self.connection.handle_input(&lent.chunk[at..lent.end], now) {
                Ok(Progress::Event { event: Event::Message(frame), consumed }) => {
                    at += consumed;
                    messages += 1;
                    self.link.dispatch(frame, &lent.chunk);
                }
                Ok(Progress::Event { event: Event::ServerInfo { first: true }, consumed }) => {
                    at += consumed;
                    if let Err(end) = self.greeted(lent.end - at, now, cx) {
                        break Err(end);
                    }
                    self.identify();
                }
                Ok(Progress::Event { event, consumed }) => {
                    at += consumed;
                    if let Err(end) = handle_event(self.link, &mut self.connection, &mut self.is_ready, event)
                    {
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

    /// Takes note of who the server is, unless anybody on the way may have said it.
    fn identify(&self) {
        if let Some(info) = self.connection.info()
            && matches!(self.opening, Opening::Asking(_) | Opening::Done)
        {
            self.link.node.identify(self.link, info);
        }
    }

    fn handle_timeouts(&mut self, now: Instant) -> Result<(), SessionEnd> {
        if self.connection.poll_timeout().is_some_and(|(due, _)| due <= now) {
            self.connection.handle_timeout(now).map_err(SessionEnd::Protocol)?;
        }
        let mut requests = self.link.requests.borrow_mut();
        if requests.next_deadline().is_some_and(|due| due <= now) {
            while let Some(reply) = requests.expire(now) {
                // The caller knows how long it waited.
                reply.finish(Err(RequestError::Timeout {
                    cluster: self.link.cluster.clone(),
                    waited: Duration::ZERO,
                }));
            }
        }
        Ok(())
    }

    /// Appends what the connection owes, and sends.
    fn transmit(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let mut outbox = self.link.outbox.borrow_mut();
        let outbox = &mut *outbox;
        if self.is_ready {
            // A PONG or keepalive PING is whole in itself, and needs no checkpoint of its own.
            self.connection.poll_transmit(outbox.control(), now);
            let mut barriers = self.link.barriers.borrow_mut();
            if barriers.wants_ping() || self.is_mark_due(outbox, now) {
                let ping = self.connection.ping(outbox.control(), now);
                outbox.mark(ping);
                barriers.pinged(ping);
                self.unmarked_since = None;
            }
        } else {
            self.connection.poll_transmit(outbox.handshake(), now);
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
                Sent::Failed(error) => return Err(SessionEnd::Socket(error)),
            }
        }
        if outbox.queued_bytes() <= outbox.limit_bytes() / 2 {
            self.link.room.notify();
        }
        Ok(())
    }

    fn is_mark_due(&mut self, outbox: &super::outbox::Outbox, now: Instant) -> bool {
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
        let is_mark_pending = self.link.outbox.borrow().is_mark_pending();
        let mark = self.unmarked_since.filter(|_| !is_mark_pending).map(|since| since + MARK_AFTER);
        [keepalive, request, mark].into_iter().flatten().min()
    }
}

/// Acts on everything but a message.
fn handle_event(
    link: &Rc<Link>,
    connection: &mut Connection,
    is_ready: &mut bool,
    event: Event<'_>,
) -> Result<(), SessionEnd> {
    match event {
        Event::ServerInfo { .. } => {
            if let Some(info) = connection.info() {
                link.node.identify(link, info);
            }
            if *is_ready {
                link.outbox.borrow_mut().set_payload_bytes_max(payload_bytes_max(link, connection));
            }
        }
        Event::Ready(_) => {
            *is_ready = true;
            let ahead = link.resubscribe(&link.subscriptions.borrow());
            let discarded = link.outbox.borrow_mut().open(&ahead, payload_bytes_max(link, connection));
            if discarded > 0 {
                tracing::warn!(cluster = %link.cluster, shard = link.shard, discarded,
                    "queued messages are larger than the server takes");
            }
            link.connected();
        }
        Event::Pong(ping) => {
            link.outbox.borrow_mut().pong(ping);
            link.barriers.borrow_mut().pong(ping);
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
            if let ServerError::PermissionsViolation { action: PermissionAction::Subscribe, subject, queue } =
                error
            {
                link.deny(&subject, queue.as_deref());
            }
        }
        // The first is answered by `poll_transmit`; the others mean nothing.
        _ => {}
    }
    Ok(())
}

fn payload_bytes_max(link: &Link, connection: &Connection) -> usize {
    if let Some(info) = connection.info() {
        link.server_payload_bytes_max.set(info.max_payload);
    }
    link.payload_bytes_max(&link.node.limits.get())
}

impl Link {
    /// From here on nobody needs to wake the task: the turn sees what comes up.
    pub(super) fn turn_begins(&self, cx: &mut Context<'_>) {
        self.scheduled.set(true);
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        self.node.ports[self.shard].progressed();
    }

    pub(super) fn turn_ends(&self) {
        self.scheduled.set(false);
        self.refresh_counters();
    }

    fn connected(&self) {
        add(&self.counters.connects, 1);
        self.set_status(LinkStatus::Connected);
        self.node.gates[self.index].connected();
        tracing::info!(cluster = %self.cluster, shard = self.shard, "connected");
    }

    /// Settles what a connection leaves behind.
    pub(super) fn session_ended(self: &Rc<Self>, was_ready: bool, end: &SessionEnd) {
        let cut = self.outbox.borrow_mut().cut();
        self.barriers.borrow_mut().cut();
        let cut_off: Vec<_> = self.requests.borrow_mut().drain().collect();
        for reply in cut_off {
            reply.finish(Err(RequestError::Disconnected { cluster: self.cluster.clone(), sent: true }));
        }
        if was_ready {
            add(&self.counters.disconnects, 1);
            self.node.gates[self.index].disconnected();
            self.set_status(LinkStatus::Down);
            if !matches!(end, SessionEnd::Closing) {
                tracing::warn!(cluster = %self.cluster, shard = self.shard, %end,
                    in_doubt = cut.in_doubt, queued = cut.requeued, "disconnected");
            }
        }
        store(&self.counters.connected, 0);
        self.refresh_counters();
    }
}
