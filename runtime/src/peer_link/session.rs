//! One connection to a peer, from its first byte to its last.

use std::{
    fmt,
    future::poll_fn,
    io, mem,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use croupier_registry::{
    LinkError, Next, Partition, Route,
    limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX},
    wire::{
        Encoded, HEADER_BYTES,
        v1::{ByeReason, Frame},
    },
};

use super::{
    Channel, PeerContext, PeerLink, SharedFrame,
    channel::{ChannelError, Side},
};
use crate::{
    registry_shard::{Burden, Refusal, ToShard, count},
    transport::{Alarm, Socket},
};

/// Bytes that are read at a time: few, as long as they suffice, and before the peer has introduced itself.
const READ_BYTES_FEW: usize = 4 << 10;
const READ_BYTES: usize = 64 << 10;
/// Bytes of frames that are sealed together.
const SEAL_BYTES: usize = 32 << 10;
/// Bytes that wait for the kernel to take them; only then is more sealed.
const WIRE_BYTES_MAX: usize = 256 << 10;
/// Bytes of frames that other shards have not taken, beyond which nothing is read.
const LOAD_BYTES_MAX: usize = 4 << 20;
/// How soon a link looks again whether they have.
const LOAD_WAIT: Duration = Duration::from_millis(1);
/// Work per wake, before other tasks get a turn.
const TURN_MAX: Duration = Duration::from_micros(200);
/// How long the last frames have to be written.
const CLOSE_TIME: Duration = Duration::from_millis(200);
/// How often the membership hears of frames that are not its own.
const HEARD_INTERVAL: Duration = Duration::from_millis(50);

/// Why a session ended.
enum SessionEnd {
    /// This node wanted it.
    Closed,
    EndOfStream,
    Socket(io::Error),
    Channel(ChannelError),
    Link(LinkError),
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionEnd::Closed => f.write_str("closed by this node"),
            SessionEnd::EndOfStream => f.write_str("the peer closed it"),
            SessionEnd::Socket(error) => error.fmt(f),
            SessionEnd::Channel(error) => error.fmt(f),
            SessionEnd::Link(error) => error.fmt(f),
        }
    }
}

impl From<ChannelError> for SessionEnd {
    fn from(error: ChannelError) -> Self {
        SessionEnd::Channel(error)
    }
}

impl From<LinkError> for SessionEnd {
    fn from(error: LinkError) -> Self {
        SessionEnd::Link(error)
    }
}

/// Drives a connection to its end, and settles what it leaves behind.
pub(super) async fn run(link: Rc<PeerLink>, socket: Socket, context: &PeerContext, side: Side) {
    let mut session = Session {
        link: &link,
        socket,
        channel: Channel::new(&context.keys, side),
        has_greeted: false,
        cipher: Vec::new(),
        has_filled: false,
        plain: Vec::new(),
        wire: Vec::new(),
        wire_at: 0,
        closing_until: None,
        heard_at: Instant::now(),
        alarm: Alarm::default(),
    };
    let end = poll_fn(|cx| session.poll(cx)).await;
    session.say_why(&end);
    drop(session);
    settle(&link, &end);
}

/// Tells everybody that the link is gone.
fn settle(link: &Rc<PeerLink>, end: &SessionEnd) {
    let counters = &link.registry.shared().counters;
    match end {
        SessionEnd::Channel(_) => counters.refuse(Refusal::Channel),
        SessionEnd::Link(LinkError::HelloTimeout) => counters.refuse(Refusal::HelloTimeout),
        SessionEnd::Link(_) => counters.refuse(Refusal::Frame),
        SessionEnd::Closed | SessionEnd::EndOfStream | SessionEnd::Socket(_) => {}
    }
    tracing::debug!(link = link.id.0, dialled = link.dialled.as_deref(), %end, "a link between nodes ended");
    link.tell_closed();
    // Whatever comes for it from now on is dropped.
    link.closing.set(Some(link.closing.get().unwrap_or(ByeReason::Duplicate)));
    link.introduced();
    if link.is_open.get()
        && let Some(peer) = link.peer()
    {
        count(&counters.links_closed, 1);
        let id = link.id;
        link.registry.post_all(|| ToShard::LinkDown { peer, link: id });
    }
    link.registry.link_ends(link.id);
}

struct Session<'a> {
    link: &'a Rc<PeerLink>,
    socket: Socket,
    channel: Channel,
    has_greeted: bool,
    /// Bytes as they were read.
    cipher: Vec<u8>,
    /// Whether the last read brought as many as were asked for.
    has_filled: bool,
    /// Bytes of frames.
    plain: Vec<u8>,
    /// Bytes as they are to be sent, from `wire_at` on.
    wire: Vec<u8>,
    wire_at: usize,
    closing_until: Option<Instant>,
    heard_at: Instant,
    alarm: Alarm,
}

impl Session<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        *self.link.waker.borrow_mut() = Some(cx.waker().clone());
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        let begun = Instant::now();
        let mut now = begun;
        loop {
            self.link.machine.borrow().handle_timeout(now)?;
            self.greet();
            self.begin_close(now);
            let has_read = self.closing_until.is_none() && self.read(now, cx)?;
            self.greet();
            self.transmit(cx)?;
            if let Some(until) = self.closing_until
                && (self.wire_at == self.wire.len() || now >= until)
            {
                return Err(SessionEnd::Closed);
            }
            if !has_read {
                break;
            }
            now = Instant::now();
            if now - begun >= TURN_MAX {
                // There may be more to read: come back by way of the reactor.
                self.alarm.arm(now, now, cx);
                return Ok(());
            }
        }
        let hello = self.link.machine.borrow().poll_timeout();
        let is_loaded = self.is_loaded().then(|| now + LOAD_WAIT);
        if let Some(due) = [hello, self.closing_until, is_loaded].into_iter().flatten().min() {
            self.alarm.arm(due, now, cx);
        }
        Ok(())
    }

    /// Introduces this node as soon as the channel is there; what it says is sealed to whoever has the key.
    fn greet(&mut self) {
        if !self.has_greeted && self.channel.is_ready() {
            self.has_greeted = true;
            self.link.registry.post_to_hub(ToShard::Greet { link: self.link.id });
        }
    }

    fn begin_close(&mut self, now: Instant) {
        if let (Some(reason), None) = (self.link.closing.get(), self.closing_until) {
            self.closing_until = Some(now + CLOSE_TIME);
            if self.has_greeted {
                self.link.send(&Frame::Bye(reason));
            }
        }
    }

    fn is_loaded(&self) -> bool {
        let loads = [&self.link.load, &self.link.hub_load];
        loads.iter().any(|load| load.0.load(Ordering::Acquire) > LOAD_BYTES_MAX)
    }

    /// Reads once, and hands out all frames that are whole. False: there is nothing to read.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, SessionEnd> {
        if self.is_loaded() {
            return Ok(false);
        }
        let is_open = self.link.is_open.get();
        let before = self.cipher.len();
        let asked = if is_open && self.has_filled { READ_BYTES } else { READ_BYTES_FEW };
        self.cipher.resize(before + asked, 0);
        let read = self.socket.poll_read(cx, &mut self.cipher[before..]);
        let bytes = match &read {
            Poll::Ready(Ok(bytes)) => *bytes,
            _ => 0,
        };
        self.cipher.truncate(before + bytes);
        self.has_filled = bytes == asked;
        match read {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err(SessionEnd::EndOfStream),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Poll::Ready(Err(error)) => return Err(SessionEnd::Socket(error)),
            Poll::Ready(Ok(bytes)) => {
                count(&self.link.registry.shared().counters.bytes_received, bytes as u64);
            }
        }
        let plain_bytes_max = if is_open { FRAME_BYTES_MAX } else { HELLO_BYTES_MAX } + HEADER_BYTES;
        let mut cipher = mem::take(&mut self.cipher);
        let mut taken = 0;
        let outcome = loop {
            let opened = match self.channel.open(&cipher[taken..], &mut self.plain, plain_bytes_max) {
                Ok(opened) => opened,
                Err(error) => break Err(error.into()),
            };
            taken += opened;
            // This node's Hello comes before its answer to the peer's.
            self.greet();
            match self.take_frames(now) {
                Ok(found) if found || opened > 0 => {}
                Ok(_) => break Ok(true),
                Err(end) => break Err(end),
            }
        };
        cipher.drain(..taken);
        if cipher.is_empty() && cipher.capacity() > 2 * READ_BYTES {
            cipher = Vec::new();
        }
        self.cipher = cipher;
        outcome
    }

    /// Hands out the frames at the front of the plain bytes. Whether there was one.
    fn take_frames(&mut self, now: Instant) -> Result<bool, SessionEnd> {
        let plain = mem::take(&mut self.plain);
        let mut at = 0;
        let outcome = loop {
            let next = self.link.machine.borrow_mut().next_frame(&plain[at..]);
            match next {
                Ok(Next::Frame { frame, route, bytes }) => {
                    at += bytes;
                    self.hand_out(frame, route, bytes, now);
                }
                Ok(Next::Skipped { bytes }) => at += bytes,
                Ok(Next::Incomplete { .. }) => break Ok(at > 0),
                Err(error) => break Err(error.into()),
            }
        };
        self.plain = plain;
        self.plain.drain(..at);
        if self.plain.is_empty() && self.plain.capacity() > 2 * READ_BYTES {
            self.plain = Vec::new();
        }
        outcome
    }

    fn hand_out(&mut self, frame: Frame, route: Route, frame_bytes: usize, now: Instant) {
        let link = self.link;
        let registry = &link.registry;
        let shards = registry.node().shards();
        count(&registry.shared().counters.frames_received, 1);
        match route {
            Route::Hello => {
                if let Frame::Hello(hello) = frame {
                    let dialled = link.dialled.is_some();
                    registry.post_to_hub(ToShard::Hello { link: link.id, hello, dialled });
                }
            }
            Route::Membership => {
                self.heard_at = now;
                if let Frame::Heartbeat { digest, .. } = &frame {
                    link.compare(*digest);
                }
                let burden = Some(Burden::new(&link.hub_load, frame_bytes));
                registry.post_to_hub(ToShard::MembershipFrame { link: link.id, frame, burden });
            }
            Route::Partition(partition) => {
                self.hand_to(partition.shard(shards), Arc::new(frame), frame_bytes);
                self.note_life(now);
            }
            Route::EveryShard => {
                let frame = Arc::new(frame);
                for shard in 0..shards {
                    self.hand_to(shard, Arc::clone(&frame), frame_bytes);
                }
                self.note_life(now);
            }
            Route::Repair => {
                if let (Frame::Digest(digests), Some(peer)) = (frame, link.peer()) {
                    let burden = Burden::new(&link.hub_load, frame_bytes);
                    registry.post_to_hub(ToShard::OriginDigests { peer, digests, burden });
                }
            }
            Route::Link => link.open_if_both_accepted(),
        }
    }

    fn hand_to(&self, shard: usize, frame: SharedFrame, frame_bytes: usize) {
        let link = self.link;
        let Some(peer) = link.peer() else { return };
        link.load.0.fetch_add(frame_bytes, Ordering::AcqRel);
        let load = link.load.clone();
        link.registry.post(shard, ToShard::Frame { link: link.id, peer, frame, frame_bytes, load });
    }

    /// Any frame shows that its sender lives; the membership need not hear of each.
    fn note_life(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard_at) >= HEARD_INTERVAL {
            self.heard_at = now;
            let frame = Frame::Heartbeat { counter: 0, digest: super::UNTOLD };
            let note = ToShard::MembershipFrame { link: self.link.id, frame, burden: None };
            self.link.registry.post_to_hub(note);
        }
    }

    /// Seals what waits, and sends what the kernel takes.
    fn transmit(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        loop {
            self.fill_wire()?;
            if self.wire_at == self.wire.len() {
                return Ok(());
            }
            match self.socket.send_half().send(&self.wire[self.wire_at..]) {
                Ok(bytes) => self.sent(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.poll_write(cx, &self.wire[self.wire_at..]) {
                        Poll::Ready(Ok(bytes)) => self.sent(bytes),
                        Poll::Ready(Err(error)) => return Err(SessionEnd::Socket(error)),
                        Poll::Pending => return Ok(()),
                    }
                }
                Err(error) => return Err(SessionEnd::Socket(error)),
            }
        }
    }

    fn sent(&mut self, bytes: usize) {
        count(&self.link.registry.shared().counters.bytes_sent, bytes as u64);
        self.wire_at += bytes;
        if self.wire_at == self.wire.len() {
            self.wire.clear();
            self.wire_at = 0;
            if self.wire.capacity() > 2 * WIRE_BYTES_MAX {
                self.wire = Vec::new();
            }
        }
    }

    fn fill_wire(&mut self) -> Result<(), SessionEnd> {
        self.channel.handshake_output(&mut self.wire);
        if !self.channel.is_ready() {
            return Ok(());
        }
        let link = self.link;
        let mut written = Vec::new();
        let mut outgoing = link.outgoing.borrow_mut();
        while self.wire.len() - self.wire_at < WIRE_BYTES_MAX && !outgoing.is_empty() {
            let mut plain = mem::take(outgoing.plain());
            let mut frames = 0;
            while plain.len() < SEAL_BYTES
                && let Some(frame) = outgoing.pop()
            {
                link.machine.borrow_mut().write(&frame, &mut plain);
                frames += 1;
                if frame.is_live() {
                    written.push(frame);
                }
            }
            count(&link.registry.shared().counters.frames_sent, frames);
            self.channel.seal(&plain, &mut self.wire)?;
            plain.clear();
            *outgoing.plain() = plain;
        }
        drop(outgoing);
        self.tell_written(written);
        Ok(())
    }

    /// The windows of live changes have room again.
    fn tell_written(&self, mut written: Vec<Encoded>) {
        let registry = &self.link.registry;
        let shards = registry.node().shards();
        let Some(peer) = self.link.peer() else { return };
        while let Some(last) = written.last() {
            let shard_of = |frame: &Encoded| {
                Partition::from_wire(u16::from(frame.partition()))
                    .map_or(0, |partition| partition.shard(shards))
            };
            let shard = shard_of(last);
            let frames = written.extract_if(.., |frame| shard_of(frame) == shard).collect();
            registry.post(shard, ToShard::Written { link: self.link.id, peer, frames });
        }
    }

    /// Tells the peer why, as far as the kernel takes it at once.
    fn say_why(&mut self, end: &SessionEnd) {
        if matches!(end, SessionEnd::Link(_)) && self.has_greeted {
            self.link.send(&Frame::Bye(ByeReason::BadFrame));
            if self.fill_wire().is_ok() {
                // It may not be there to hear it.
                let _unheard = self.socket.send_half().send(&self.wire[self.wire_at..]);
            }
        }
    }
}
