//! Where an executor's thread waits while it is busy: one look at all its sockets, timers and wakes from elsewhere.
//!
//! A round of the executor's own reactor costs some eight system calls, for it serves three rings and two timers
//! each time. That is too much between a request and its answer. So one task of each executor, this one, runs behind
//! all others: when it finds that nobody else ran since its last turn, nobody is runnable, and it waits by itself,
//! with one system call, for a socket to become ready, for a timer, or for a wake from another thread. Only when
//! nothing has come for [`LINGER`] it lets the executor sleep in its reactor, which watches the same sockets.
//!
//! The reactor is looked at every [`REACTOR_PERIOD`] at the latest, for whatever else an app has there.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    fd::{BorrowedFd, OwnedFd},
};
use slab::Slab;

use super::bell::{Bell, TaskWaker};

/// How long a thread waits here for something to come before it sleeps in the reactor. Only the end of
/// a wait in vain costs processor time, and whoever hears of something every few milliseconds is spared the reactor's way
/// of waking.
const LINGER: Duration = Duration::from_millis(5);
/// How long the reactor goes without a look while the thread is busy.
const REACTOR_PERIOD: Duration = Duration::from_millis(5);
/// How long sockets go without a look while tasks are runnable all the time.
const LOOK_PERIOD: Duration = Duration::from_micros(50);
/// Sockets that one look finds, at most; the others are found by the next.
const EVENTS_MAX: usize = 64;
/// What the bell is called among the events; sockets are called by their place.
const BELL: u64 = u64::MAX;
/// The finest time that waiting without a timer's precision knows.
const MILLISECOND: Duration = Duration::from_millis(1);

thread_local! {
    static LOOKOUT: RefCell<Option<Rc<Lookout>>> = const { RefCell::new(None) };
}

/// One executor's lookout.
pub(super) struct Lookout {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    /// How long it looks without waiting after somebody ran.
    spin: Duration,
    watched: RefCell<Slab<Rc<Readiness>>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    timers_made: Cell<u64>,
    /// The wakers of the tasks that have run, by the place that each task keeps.
    tasks: RefCell<Slab<Arc<TaskWaker>>>,
    is_closed: Cell<bool>,
    /// Turns that tasks had, other than the lookout's own.
    turns: Cell<u64>,
    /// The lookout's own waker while it leaves the thread to the reactor.
    resting: RefCell<Option<Waker>>,
    /// Whether its waker is in `resting`, for a look at no cost.
    is_resting: Cell<bool>,
    /// Somebody waits for the reactor to tell of something that has come already.
    is_reactor_wanted: Cell<bool>,
    /// Operations under way that only the reactor knows of.
    reactor_uses: Cell<usize>,
    #[cfg(test)]
    rests: Cell<u64>,
}

/// What is known of one socket's readiness.
pub(super) struct Readiness {
    is_readable: Cell<bool>,
    /// The peer has ended its side, or there is an error: reading never waits again.
    is_ended: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
    /// Only the reactor can say what came.
    is_the_reactors: bool,
}

/// A socket under watch, until this is dropped.
pub(super) struct Watch {
    lookout: Rc<Lookout>,
    readiness: Rc<Readiness>,
    place: usize,
    descriptor: BorrowedFd<'static>,
}

/// A timer of this thread's executor. The first look at it is always too early, so that whoever awaits one of
/// no time lets others run, and sockets be looked at.
pub(crate) struct Timer {
    due: Instant,
    place: Option<(Rc<Lookout>, u64)>,
}

/// Keeps the reactor in the executor's sight while an operation is under way.
pub(super) struct ReactorUse(Rc<Lookout>);

/// This thread's lookout.
///
/// # Panics
///
/// When no executor of ours runs on this thread.
pub(super) fn lookout() -> Rc<Lookout> {
    LOOKOUT.with_borrow(|lookout| lookout.clone().expect("an executor runs on this thread"))
}

/// Until the guard is dropped the thread waits only in the reactor.
pub(super) fn use_reactor() -> ReactorUse {
    let lookout = lookout();
    lookout.reactor_uses.set(lookout.reactor_uses.get() + 1);
    ReactorUse(lookout)
}

impl Drop for ReactorUse {
    fn drop(&mut self) {
        self.0.reactor_uses.set(self.0.reactor_uses.get() - 1);
    }
}

impl Lookout {
    pub(super) fn new(spin: Duration) -> io::Result<Rc<Lookout>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = Bell::of_this_thread()?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, bell.descriptor(), epoll::EventData::new_u64(BELL), flags)?;
        Ok(Rc::new(Lookout {
            epoll,
            bell,
            spin,
            watched: RefCell::default(),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            tasks: RefCell::default(),
            is_closed: Cell::new(false),
            turns: Cell::new(0),
            resting: RefCell::default(),
            is_resting: Cell::new(false),
            is_reactor_wanted: Cell::new(false),
            reactor_uses: Cell::new(0),
            #[cfg(test)]
            rests: Cell::new(0),
        }))
    }

    /// Makes it this thread's.
    pub(super) fn install(self: &Rc<Self>) {
        LOOKOUT.set(Some(Rc::clone(self)));
    }

    /// Lets go of all that it holds of its executor's tasks. To be called on the executor.
    pub(super) fn close(&self) {
        LOOKOUT.set(None);
        self.is_closed.set(true);
        // Whoever is dropped with its waker may drop a timer or a socket.
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        let timers = std::mem::take(&mut *self.timers.borrow_mut());
        let watched: Vec<_> =
            self.watched.borrow().iter().map(|(_, readiness)| Rc::clone(readiness)).collect();
        for readiness in watched {
            drop((readiness.reader.take(), readiness.writer.take()));
        }
        drop((tasks, timers));
        // The lookout's own task ends: its executor would leave it, and what it holds, behind.
        if let Some(waker) = self.resting.take() {
            waker.wake();
        }
    }

    /// The future of a task, which tells the lookout of its turns and is woken by the bell as well.
    pub(super) async fn attend<T>(self: Rc<Self>, future: impl Future<Output = T>) -> T {
        let place = Place { lookout: self, key: Cell::new(None) };
        let mut future = pin!(future);
        poll_fn(move |cx| {
            let lookout = &place.lookout;
            lookout.turns.set(lookout.turns.get() + 1);
            if lookout.is_resting.get() {
                lookout.rouse();
            }
            let waker = place.waker(cx.waker());
            future.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }

    /// Watches a socket. `is_the_reactors`: whoever waits for it waits in the reactor.
    ///
    /// The caller keeps the descriptor open until the watch is dropped.
    pub(super) fn watch(descriptor: BorrowedFd<'static>, is_the_reactors: bool) -> io::Result<Watch> {
        let lookout = lookout();
        let readiness = Rc::new(Readiness {
            is_readable: Cell::new(true),
            is_ended: Cell::new(false),
            reader: Cell::default(),
            writer: Cell::default(),
            is_the_reactors,
        });
        let place = lookout.watched.borrow_mut().insert(Rc::clone(&readiness));
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let added = epoll::add(&lookout.epoll, descriptor, epoll::EventData::new_u64(place as u64), flags);
        if let Err(error) = added {
            lookout.watched.borrow_mut().remove(place);
            return Err(error.into());
        }
        Ok(Watch { lookout, readiness, place, descriptor })
    }

    /// Runs behind all other tasks, until it is closed.
    pub(super) async fn keep(self: Rc<Self>) {
        let mut keeper = Keeper {
            seen: 0,
            active_at: Instant::now(),
            looked_at: Instant::now(),
            has_looked: false,
            reactor_at: Instant::now(),
            is_resting: false,
            reactor_timer: None,
        };
        poll_fn(|cx| {
            if self.is_closed.get() {
                return Poll::Ready(());
            }
            self.turn(&mut keeper, cx);
            Poll::Pending
        })
        .await;
    }

    fn turn(&self, keeper: &mut Keeper, cx: &mut Context<'_>) {
        let now = Instant::now();
        if keeper.is_resting {
            keeper.is_resting = false;
            keeper.reactor_at = now;
            self.is_resting.set(false);
            self.resting.take();
        }
        if keeper.has_looked {
            keeper.has_looked = false;
            keeper.looked_at = now;
        }
        let turns = self.turns.get();
        let somebody_ran = turns != keeper.seen;
        keeper.seen = turns;
        if somebody_ran {
            keeper.active_at = now;
        }
        let mut somebody_runs = somebody_ran;
        let is_timer_due = self.next_timer().is_some_and(|due| due <= now);
        if is_timer_due || now - keeper.looked_at >= LOOK_PERIOD {
            keeper.looked_at = now;
            somebody_runs |= self.look(Look::Now);
            somebody_runs |= is_timer_due && self.fire_timers(now);
        }
        if somebody_runs {
            cx.waker().wake_by_ref();
            return;
        }
        // Nobody is runnable, so the executor comes to its reactor next if this task does not run again.
        let linger = LINGER.max(self.spin);
        let idle = now - keeper.active_at;
        let is_wanted = self.bell.take() | self.is_reactor_wanted.replace(false);
        if is_wanted || self.reactor_uses.get() > 0 || idle >= linger {
            return self.rest(keeper, now, cx);
        }
        if now - keeper.reactor_at >= REACTOR_PERIOD {
            // It comes back without a sleep.
            keeper.arm(now, now, cx);
            return self.rest(keeper, now, cx);
        }
        // The look ends when the next turn begins.
        keeper.has_looked = true;
        let look = if idle < self.spin {
            Look::Now
        } else {
            let until = keeper.active_at + linger;
            let timer = self.next_timer().filter(|due| *due < until);
            timer.map_or(Look::Linger(until - now), |due| Look::Until(due.saturating_duration_since(now)))
        };
        self.look(look);
        cx.waker().wake_by_ref();
    }

    /// Leaves the thread to the reactor until somebody runs or a timer is due.
    fn rest(&self, keeper: &mut Keeper, now: Instant, cx: &mut Context<'_>) {
        if let Some(due) = self.next_timer() {
            keeper.arm(due, now, cx);
        }
        keeper.is_resting = true;
        #[cfg(test)]
        self.rests.set(self.rests.get() + 1);
        *self.resting.borrow_mut() = Some(cx.waker().clone());
        self.is_resting.set(true);
    }

    #[cold]
    fn rouse(&self) {
        self.is_resting.set(false);
        if let Some(waker) = self.resting.take() {
            waker.wake();
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        self.timers.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// Wakes whoever waits for a time that has come.
    fn fire_timers(&self, now: Instant) -> bool {
        let mut has_fired = false;
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now) else {
                return has_fired;
            };
            let waker = first.remove();
            drop(timers);
            waker.wake();
            has_fired = true;
        }
    }

    /// Wakes whoever waits for a socket that has become ready.
    fn look(&self, look: Look) -> bool {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = match look {
            Look::Now => zero,
            _ if !self.bell.await_ring() => zero,
            Look::Linger(wait) => timespec(wait.max(MILLISECOND)),
            // Mostly a socket is ready before. If none is, the next look is for what is left of the wait.
            Look::Until(wait) if wait >= MILLISECOND => timespec(whole_milliseconds(wait)),
            // The finer wait takes a second call.
            Look::Until(wait) => {
                let mut descriptors = [PollFd::new(&self.epoll, PollFlags::IN)];
                // A signal ends it early, and the next turn waits again.
                let _interrupted = poll(&mut descriptors, Some(&timespec(wait)));
                zero
            }
        };
        let found = epoll::wait(&self.epoll, &mut events, Some(&timeout));
        self.bell.stop_awaiting();
        let Ok((found, _)) = found else { return false };
        let watched = self.watched.borrow();
        let mut has_woken = false;
        for event in found {
            if let Some(readiness) =
                usize::try_from(event.data.u64()).ok().and_then(|place| watched.get(place))
            {
                has_woken |= readiness.take(event.flags);
                if readiness.is_the_reactors {
                    self.is_reactor_wanted.set(true);
                }
            }
        }
        has_woken
    }
}

fn whole_milliseconds(wait: Duration) -> Duration {
    wait - Duration::from_nanos(u64::from(wait.subsec_nanos() % 1_000_000))
}

fn timespec(wait: Duration) -> Timespec {
    // Both fit: it waits for milliseconds at the most.
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
}

/// How long to look.
#[derive(Clone, Copy)]
enum Look {
    Now,
    /// About this long.
    Linger(Duration),
    /// Just this long.
    Until(Duration),
}

/// What the lookout's task remembers from turn to turn.
struct Keeper {
    /// Turns of others that it knows of.
    seen: u64,
    active_at: Instant,
    looked_at: Instant,
    /// Whether the last turn ended with a look.
    has_looked: bool,
    reactor_at: Instant,
    /// Whether the last turn left the thread to the reactor.
    is_resting: bool,
    /// What ends a rest, and when it is due.
    reactor_timer: Option<(Instant, glommio::timer::Timer)>,
}

impl Keeper {
    /// Makes sure that the reactor ends its sleep no later than `due`, and that it is looked at before.
    fn arm(&mut self, due: Instant, now: Instant, cx: &mut Context<'_>) {
        if let Some((armed, _)) = &self.reactor_timer
            && *armed <= due
            && *armed > now
        {
            return;
        }
        let mut wait = due.saturating_duration_since(now).max(REACTOR_WAIT_MIN);
        loop {
            let mut timer = glommio::timer::Timer::new(wait);
            // One that is due at its first poll is not with the reactor.
            if Pin::new(&mut timer).poll(cx).is_pending() {
                self.reactor_timer = Some((now + wait, timer));
                return;
            }
            wait *= 2;
        }
    }
}

/// The shortest timer that the reactor is given.
const REACTOR_WAIT_MIN: Duration = Duration::from_nanos(100);

/// Where a task keeps its waker. The lookout holds it, for a task that held its own waker would never be freed.
struct Place {
    lookout: Rc<Lookout>,
    key: Cell<Option<usize>>,
}

impl Place {
    /// The waker that is to be given out in the place of the executor's.
    fn waker(&self, task: &Waker) -> Waker {
        let mut tasks = self.lookout.tasks.borrow_mut();
        if self.lookout.is_closed.get() {
            return task.clone();
        }
        if let Some(kept) = self.key.get().and_then(|key| tasks.get_mut(key)) {
            if !kept.wakes(task) {
                *kept = Arc::new(TaskWaker::new(task.clone(), Arc::clone(&self.lookout.bell)));
            }
            return Waker::from(Arc::clone(kept));
        }
        let kept = Arc::new(TaskWaker::new(task.clone(), Arc::clone(&self.lookout.bell)));
        self.key.set(Some(tasks.insert(Arc::clone(&kept))));
        Waker::from(kept)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let kept = self.key.get().and_then(|key| self.lookout.tasks.borrow_mut().try_remove(key));
        drop(kept);
    }
}

impl Watch {
    pub(super) fn is_readable(&self) -> bool {
        self.readiness.is_readable.get()
    }

    /// All that was there has been read. An end that is known stays.
    pub(super) fn drained(&self) {
        self.readiness.is_readable.set(self.readiness.is_ended.get());
    }

    /// Has the task woken when there is something to read.
    pub(super) fn await_reading(&self, cx: &mut Context<'_>) {
        set_waker(&self.readiness.reader, cx.waker());
    }

    /// Has the task woken when there is room to write.
    pub(super) fn await_writing(&self, cx: &mut Context<'_>) {
        set_waker(&self.readiness.writer, cx.waker());
    }
}

fn set_waker(place: &Cell<Option<Waker>>, waker: &Waker) {
    let kept = place.take().filter(|kept| kept.will_wake(waker));
    place.set(Some(kept.unwrap_or_else(|| waker.clone())));
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _gone_already = epoll::delete(&self.lookout.epoll, self.descriptor);
        let readiness = self.lookout.watched.borrow_mut().try_remove(self.place);
        drop(readiness);
    }
}

impl Timer {
    pub(super) fn new(wait: Duration) -> Timer {
        Timer { due: Instant::now() + wait, place: None }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        let Some((lookout, number)) = &self.place else {
            let lookout = lookout();
            let number = lookout.timers_made.get();
            lookout.timers_made.set(number + 1);
            lookout.timers.borrow_mut().insert((due, number), cx.waker().clone());
            self.place = Some((lookout, number));
            return Poll::Pending;
        };
        match lookout.timers.borrow_mut().get_mut(&(due, *number)) {
            Some(waker) => {
                waker.clone_from(cx.waker());
                Poll::<()>::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((lookout, number)) = self.place.take() {
            let waker = lookout.timers.borrow_mut().remove(&(self.due, number));
            drop(waker);
        }
    }
}

impl Readiness {
    /// Takes what an event says, and tells whether somebody was woken.
    fn take(&self, flags: epoll::EventFlags) -> bool {
        let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if flags.intersects(ended) {
            self.is_ended.set(true);
        }
        let mut has_woken = false;
        if flags.intersects(ended | epoll::EventFlags::IN) {
            self.is_readable.set(true);
            if let Some(reader) = self.reader.take() {
                reader.wake();
                has_woken = true;
            }
        }
        if flags.intersects(ended | epoll::EventFlags::OUT)
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
            has_woken = true;
        }
        has_woken
    }
}

#[cfg(test)]
#[path = "lookout_tests.rs"]
mod tests;
