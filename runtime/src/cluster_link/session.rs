//! One connection of a link, from the socket's connect to its end: one task, one `poll`, both
//! directions.

use std::{
    fmt, io,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use croupier_protocol::{Connection, ConnectionError, Event, PermissionAction, Progress, ServerError};

use super::{Link, LinkStatus, outbox::Sent, read_buffer::ReadBuffer};
use crate::{
    RequestError,
    stats::{add, store},
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
            SessionEnd::Closing => f.write_str("the node stops"),
        }
    }
}

pub(super) struct Session<'l> {
    link: &'l Rc<Link>,
    socket: Socket,
    connection: Connection,
    buffer: ReadBuffer,
    alarm: Alarm,
    /// When the oldest message was seen that no PING follows.
    unmarked_since: Option<Instant>,
    is_ready: bool,
}

impl<'l> Session<'l> {
    pub(super) fn new(link: &'l Rc<Link>, socket: Socket, connection: Connection) -> Self {
        link.outbox.borrow_mut().attach(socket.send_half());
        Session {
            link,
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
            let read = match self.socket.poll_read(cx, self.buffer.unfilled()) {
                Poll::Ready(Ok(0)) => return Err(SessionEnd::EndOfStream),
                Poll::Ready(Ok(bytes)) => Some(bytes),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Some(0),
                Poll::Ready(Err(error)) => return Err(SessionEnd::Socket(error)),
                Poll::Pending => None,
            };
            if let Some(bytes) = read {
                self.buffer.filled(bytes);
                add(&self.link.counters.reads, 1);
                add(&self.link.counters.received_bytes, bytes as u64);
                self.dispatch(now)?;
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

    /// Decodes and hands out everything that was read.
    fn dispatch(&mut self, now: Instant) -> Result<(), SessionEnd> {
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
                Ok(Progress::Event { event, consumed }) => {
                    at += consumed;
                    if let Err(end) =
                        handle_event(self.link, &mut self.connection, &mut self.is_ready, event, now)
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
                    Poll::Ready(Err(error)) => return Err(SessionEnd::Socket(error)),
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
    now: Instant,
) -> Result<(), SessionEnd> {
    match event {
        Event::ServerInfo { first } => {
            let payload_bytes_max = payload_bytes_max(link, connection);
            if let Some(info) = connection.info() {
                link.node.identify(link, info);
            }
            let mut outbox = link.outbox.borrow_mut();
            if first {
                connection.connect(outbox.handshake());
                connection.ping(outbox.handshake(), now);
            } else if *is_ready {
                outbox.set_payload_bytes_max(payload_bytes_max);
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
