//! What the link's own code runs over in a simulation: a clock, timers and sockets that a test drives.
//!
//! A thread that [installs](Host::install) a host has its sockets, timers and time from there; every other thread has
//! the kernel's. Nothing of this is in a build that somebody runs.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::socket::SocketSettings;

thread_local! {
    static HOST: RefCell<Option<Rc<Host>>> = const { RefCell::new(None) };
}

fn host() -> Option<Rc<Host>> {
    HOST.with_borrow(Clone::clone)
}

/// The simulated time, where there is one.
pub(crate) fn now() -> Option<Instant> {
    host().map(|host| host.read_clock())
}

/// What a simulated machine has in the place of a kernel.
pub(crate) struct Host {
    begin: Instant,
    /// Since the beginning.
    clock: Cell<Duration>,
    /// The most that goes by between two looks at the clock.
    tick_max: Duration,
    random: RefCell<Rng>,
    timers: RefCell<BTreeMap<(Instant, u64), Weak<Waiting>>>,
    timers_made: Cell<u64>,
    dials: RefCell<Vec<Dial>>,
    /// Who runs at present, for whoever wants to know who dials.
    actor: Cell<usize>,
}

/// Keeps a host installed.
pub(crate) struct Installed(());

impl Drop for Installed {
    fn drop(&mut self) {
        HOST.set(None);
    }
}

impl Host {
    pub(crate) fn new(seed: u64, tick_max: Duration) -> Rc<Host> {
        Rc::new(Host {
            begin: Instant::now(),
            clock: Cell::new(Duration::ZERO),
            tick_max,
            random: RefCell::new(Rng::with_seed(seed)),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            dials: RefCell::default(),
            actor: Cell::new(0),
        })
    }

    /// Has this thread take its time, timers and sockets from here until the guard is dropped.
    pub(crate) fn install(self: &Rc<Self>) -> Installed {
        HOST.set(Some(Rc::clone(self)));
        Installed(())
    }

    /// Since the beginning, without moving on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.get()
    }

    /// Time goes by until then; it never goes back.
    pub(crate) fn advance_to(&self, at: Duration) {
        self.clock.set(self.clock.get().max(at));
    }

    pub(crate) fn set_actor(&self, actor: usize) {
        self.actor.set(actor);
    }

    /// Who wants to connect since the last call.
    pub(crate) fn take_dials(&self) -> Vec<Dial> {
        std::mem::take(&mut self.dials.borrow_mut())
    }

    /// When the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Duration> {
        self.timers.borrow().first_key_value().map(|((due, _), _)| *due - self.begin)
    }

    /// Wakes whoever waits for a time that has come.
    pub(crate) fn fire_timers(&self) {
        let now = self.begin + self.clock.get();
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now) else { return };
            let waiting = first.remove().upgrade();
            drop(timers);
            if let Some(waker) = waiting.and_then(|waiting| waiting.waker.take()) {
                waker.wake();
            }
        }
    }

    /// Looking takes time, so that work of one turn has a duration.
    fn read_clock(&self) -> Instant {
        let tick = self.tick_max.as_nanos() as u64;
        self.clock.set(self.clock.get() + Duration::from_nanos(self.random.borrow_mut().u64(..=tick)));
        self.begin + self.clock.get()
    }
}

/// A timer's place.
#[derive(Default)]
pub(crate) struct Waiting {
    waker: Cell<Option<Waker>>,
}

/// A timer of the executor, or a simulated one.
pub(crate) enum Timer {
    Kernel(super::lookout::Timer),
    Simulated { host: Rc<Host>, due: Instant, key: Option<(Instant, u64)>, waiting: Rc<Waiting> },
}

impl Timer {
    pub(crate) fn new(wait: Duration) -> Timer {
        match host() {
            Some(host) => {
                let due = host.begin + host.clock.get() + wait;
                Timer::Simulated { host, due, key: None, waiting: Rc::default() }
            }
            None => Timer::Kernel(super::lookout::Timer::new(wait)),
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Timer::Kernel(timer) => Pin::new(timer).poll(cx),
            Timer::Simulated { host, due, .. } if host.begin + host.clock.get() >= *due => Poll::Ready(()),
            Timer::Simulated { host, due, key, waiting } => {
                waiting.waker.set(Some(cx.waker().clone()));
                if key.is_none() {
                    host.timers_made.set(host.timers_made.get() + 1);
                    let new = (*due, host.timers_made.get());
                    host.timers.borrow_mut().insert(new, Rc::downgrade(waiting));
                    *key = Some(new);
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Timer::Simulated { host, key: Some(key), .. } = self {
            host.timers.borrow_mut().remove(key);
        }
    }
}

/// Somebody wants to connect.
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) actor: usize,
    pub(crate) timeout: Duration,
    answer: Weak<Answer>,
}

#[derive(Default)]
struct Answer {
    outcome: Cell<Option<io::Result<Rc<Wire>>>>,
    waker: Cell<Option<Waker>>,
}

impl Dial {
    /// Tells who dialled what came of it. False if nobody waits any more.
    pub(crate) fn answer(&self, outcome: io::Result<Rc<Wire>>) -> bool {
        let Some(answer) = self.answer.upgrade() else { return false };
        answer.outcome.set(Some(outcome));
        if let Some(waker) = answer.waker.take() {
            waker.wake();
        }
        true
    }
}

/// Connects over the simulated network, where there is one.
pub(super) fn connect(
    address: SocketAddr,
    settings: &SocketSettings,
) -> Option<impl Future<Output = io::Result<Rc<Wire>>> + use<>> {
    let host = host()?;
    let answer = Rc::<Answer>::default();
    let dial = Dial {
        address,
        actor: host.actor.get(),
        timeout: settings.connect_timeout,
        answer: Rc::downgrade(&answer),
    };
    host.dials.borrow_mut().push(dial);
    Some(poll_fn(move |cx| match answer.outcome.take() {
        Some(outcome) => Poll::Ready(outcome),
        None => {
            answer.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        }
    }))
}

/// How a connection ends for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After what has arrived, the end of the stream.
    Orderly,
    /// The kernel says so at once, after what has arrived.
    Reset,
    /// The kernel has waited too long for the server's.
    TimedOut,
}

impl End {
    fn error(self) -> io::Error {
        io::Error::from(match self {
            End::Orderly => io::ErrorKind::BrokenPipe,
            End::Reset => io::ErrorKind::ConnectionReset,
            End::TimedOut => io::ErrorKind::TimedOut,
        })
    }
}

/// The client's end of a simulated connection: its kernel's two buffers.
pub(crate) struct Wire {
    random: RefCell<Rng>,
    /// What the kernel takes before the writer must wait.
    send_room_bytes: usize,
    /// How many of a hundred reads and writes are of fewer bytes than there are.
    split_percent: u8,
    state: RefCell<WireState>,
}

#[derive(Default)]
struct WireState {
    /// Written, and not with the server yet.
    outgoing: VecDeque<u8>,
    /// Arrived, and not read yet.
    incoming: VecDeque<u8>,
    /// Everything that was written since it was last asked for.
    written: Vec<u8>,
    end: Option<End>,
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    pub(crate) fn new(seed: u64, send_room_bytes: usize, split_percent: u8) -> Rc<Wire> {
        let random = RefCell::new(Rng::with_seed(seed));
        Rc::new(Wire { random, send_room_bytes, split_percent, state: RefCell::default() })
    }

    /// Bytes that are on their way to the server.
    pub(crate) fn outgoing_bytes(&self) -> usize {
        self.state.borrow().outgoing.len()
    }

    /// So many of them are with the server now.
    pub(crate) fn take_outgoing(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        state.outgoing.drain(..bytes);
        if let Some(waker) = state.writer.take() {
            waker.wake();
        }
    }

    /// Everything that the client has written since the last call.
    pub(crate) fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.state.borrow_mut().written)
    }

    /// Bytes arrive. False if nobody reads them any more.
    pub(crate) fn arrive(&self, bytes: impl IntoIterator<Item = u8>) -> bool {
        let mut state = self.state.borrow_mut();
        if state.is_closed || state.end.is_some() {
            return false;
        }
        state.incoming.extend(bytes);
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
        true
    }

    /// The connection ends, as the client's kernel sees it.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(end);
        for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Whether its client has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.borrow().is_closed
    }

    /// Whether the client's kernel knows that it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.borrow().end.is_some()
    }

    /// Any number of those that there are, at least one; mostly all.
    fn part(&self, bytes: usize) -> usize {
        let mut random = self.random.borrow_mut();
        if bytes > 1 && random.u8(..100) < self.split_percent { random.usize(1..=bytes) } else { bytes }
    }

    /// A system call that a signal breaks off.
    fn is_interrupted(&self) -> bool {
        self.random.borrow_mut().u8(..100) == 0
    }

    fn read(&self, buffer: &mut [u8], waker: &Waker) -> Poll<io::Result<usize>> {
        let there = self.state.borrow().incoming.len().min(buffer.len());
        if there > 0 {
            if self.is_interrupted() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            let part = self.part(there);
            for (place, byte) in buffer.iter_mut().zip(self.state.borrow_mut().incoming.drain(..part)) {
                *place = byte;
            }
            return Poll::Ready(Ok(part));
        }
        let mut state = self.state.borrow_mut();
        match state.end {
            Some(End::Orderly) => Poll::Ready(Ok(0)),
            Some(end) => Poll::Ready(Err(end.error())),
            None => {
                state.reader = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let (room, end) = {
            let state = self.state.borrow();
            (self.send_room_bytes.saturating_sub(state.outgoing.len()), state.end)
        };
        match end {
            // The first bytes after the server's farewell are taken, and lost.
            Some(End::Orderly) if room > 0 => {}
            Some(end) => return Err(end.error()),
            None if room == 0 => return Err(io::ErrorKind::WouldBlock.into()),
            None => {}
        }
        let part = self.part(bytes.min(room));
        let mut state = self.state.borrow_mut();
        let mut left = part;
        for slice in slices {
            let piece = &slice[..slice.len().min(left)];
            left -= piece.len();
            state.outgoing.extend(piece);
            state.written.extend_from_slice(piece);
        }
        Ok(part)
    }

    fn poll_write(&self, bytes: &[u8], waker: &Waker) -> Poll<io::Result<usize>> {
        match self.write(&[IoSlice::new(bytes)]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.state.borrow_mut().writer = Some(waker.clone());
                Poll::Pending
            }
            outcome => Poll::Ready(outcome),
        }
    }

    fn close(&self) {
        self.state.borrow_mut().is_closed = true;
    }
}

/// The stream of a socket.
pub(super) enum Stream {
    Kernel(super::stream::Stream),
    Simulated(Rc<Wire>),
}

impl Stream {
    pub(super) fn new(stream: TcpStream) -> io::Result<Stream> {
        super::stream::Stream::new(stream).map(Stream::Kernel)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Kernel(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Simulated(wire) => wire.read(buffer, cx.waker()),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Kernel(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Simulated(wire) => wire.poll_write(bytes, cx.waker()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Kernel(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Simulated(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Kernel(stream) => Pin::new(stream).poll_close(cx),
            Stream::Simulated(wire) => {
                wire.close();
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Where sends go, without waiting.
pub(super) enum Outlet {
    Kernel(socket2::Socket),
    Simulated(Rc<Wire>),
}

impl Outlet {
    pub(super) fn send_with_flags(&self, bytes: &[u8], flags: i32) -> io::Result<usize> {
        match self {
            Outlet::Kernel(socket) => socket.send_with_flags(bytes, flags),
            Outlet::Simulated(_) => self.send_vectored_with_flags(&[IoSlice::new(bytes)], flags),
        }
    }

    pub(super) fn send_vectored_with_flags(&self, slices: &[IoSlice<'_>], flags: i32) -> io::Result<usize> {
        match self {
            Outlet::Kernel(socket) => socket.send_vectored_with_flags(slices, flags),
            Outlet::Simulated(wire) if wire.is_interrupted() => Err(io::ErrorKind::Interrupted.into()),
            Outlet::Simulated(wire) => wire.write(slices),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Outlet::Kernel(socket) => socket.shutdown(how),
            Outlet::Simulated(wire) => {
                wire.close();
                Ok(())
            }
        }
    }
}

impl From<socket2::Socket> for Outlet {
    fn from(socket: socket2::Socket) -> Self {
        Outlet::Kernel(socket)
    }
}
