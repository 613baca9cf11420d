//! Who listens to a node's events, and what waits for each.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::SystemTime,
};

use atomic_waker::AtomicWaker;
use futures_core::Stream;

use super::{Event, words::NAMES};
use crate::error::panic_message;

/// Events that wait for one listener, at most. Later ones are dropped and counted.
pub const EVENTS_MAX: usize = 1024;

/// Events that are remembered for the pages of the admin server; the oldest makes room.
const RECENT_MAX: usize = 64;

/// Where the shards tell what happens. While nobody listens, an event is not even made.
#[derive(Default)]
pub(crate) struct EventHub {
    is_heard: AtomicBool,
    callback: Option<EventCallback>,
    /// Whether events are remembered, and so always made.
    remembers: bool,
    listeners: Mutex<Listeners>,
    /// How many were made, by their number.
    made: [AtomicU64; NAMES.len()],
    /// Dropped for listeners that did not keep up, those that have gone included.
    dropped: AtomicU64,
}

/// An event and when it happened.
pub(crate) struct RecentEvent {
    pub(crate) at: SystemTime,
    pub(crate) event: Event,
}

#[derive(Default)]
struct Listeners {
    queues: Vec<Arc<Queue>>,
    /// The newest last.
    recent: VecDeque<Arc<RecentEvent>>,
    is_closed: bool,
}

/// What waits for one listener.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
    lagged: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    is_closed: bool,
}

/// The application's own function for events.
#[derive(Clone)]
pub(crate) struct EventCallback(Arc<dyn Fn(&Event) + Send + Sync>);

impl EventCallback {
    pub(crate) fn new(callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        EventCallback(Arc::new(callback))
    }
}

impl fmt::Debug for EventCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventCallback")
    }
}

impl EventHub {
    /// `remembers`: whether the last events can be asked for afterwards.
    pub(crate) fn new(callback: Option<EventCallback>, remembers: bool) -> Self {
        EventHub {
            is_heard: AtomicBool::new(callback.is_some() || remembers),
            callback,
            remembers,
            ..EventHub::default()
        }
    }

    /// Tells all who listen. `event` is called only if somebody does.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if !self.is_heard.load(Ordering::Acquire) {
            return;
        }
        let event = event();
        self.made[event.number()].fetch_add(1, Ordering::Relaxed);
        let mut listeners = self.listeners();
        for queue in &listeners.queues {
            if !queue.push(&event) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.remembers {
            if listeners.recent.len() == RECENT_MAX {
                listeners.recent.pop_front();
            }
            let recent = RecentEvent { at: SystemTime::now(), event: event.clone() };
            listeners.recent.push_back(Arc::new(recent));
        }
        drop(listeners);
        if let Some(EventCallback(callback)) = &self.callback
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(&event)))
        {
            tracing::error!(message = panic_message(&*panic), "the callback for events panicked");
        }
    }

    pub(crate) fn listen(self: &Arc<Self>) -> Events {
        let queue = Arc::new(Queue::default());
        let mut listeners = self.listeners();
        if listeners.is_closed {
            queue.waiting().is_closed = true;
        } else {
            listeners.queues.push(Arc::clone(&queue));
            self.is_heard.store(true, Ordering::Release);
        }
        drop(listeners);
        Events { hub: Arc::clone(self), queue }
    }

    /// The last events, the newest last; none unless the hub remembers.
    pub(crate) fn recent(&self) -> Vec<Arc<RecentEvent>> {
        self.listeners().recent.iter().cloned().collect()
    }

    /// How many events of each name were made. While nobody listened, none was.
    pub(crate) fn made(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(&self.made).map(|(name, made)| (name, made.load(Ordering::Relaxed)))
    }

    /// Events that were dropped because a listener did not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Events that wait for the listener that lags most.
    pub(crate) fn waiting_max(&self) -> usize {
        self.listeners().queues.iter().map(|queue| queue.waiting().events.len()).max().unwrap_or(0)
    }

    /// Nothing happens any more: every stream ends after what waits.
    pub(crate) fn close(&self) {
        let mut listeners = self.listeners();
        listeners.is_closed = true;
        for queue in listeners.queues.drain(..) {
            queue.waiting().is_closed = true;
            queue.waker.wake();
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether there was room.
    fn push(&self, event: &Event) -> bool {
        let mut waiting = self.waiting();
        if waiting.events.len() >= EVENTS_MAX {
            self.lagged.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        waiting.events.push_back(event.clone());
        drop(waiting);
        self.waker.wake();
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node's events from the moment it was asked for, on any thread and any executor. At most
/// [`EVENTS_MAX`] wait in it; it ends when the node has stopped.
#[must_use = "a stream that is dropped hears nothing"]
pub struct Events {
    hub: Arc<EventHub>,
    queue: Arc<Queue>,
}

impl Events {
    /// Events that were dropped because [`EVENTS_MAX`] were waiting. Exact.
    pub fn lagged(&self) -> u64 {
        self.queue.lagged.load(Ordering::Relaxed)
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        self.queue.waiting().events.pop_front()
    }

    /// The next event, or `None` when the node has stopped.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.waker.register(cx.waker());
        let mut waiting = self.queue.waiting();
        match waiting.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if waiting.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut listeners = self.hub.listeners();
        listeners.queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        if listeners.queues.is_empty() && self.hub.callback.is_none() && !self.hub.remembers {
            self.hub.is_heard.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.queue.waiting().events.len())
            .field("lagged", &self.lagged())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn nothing_is_made_while_nobody_listens() {
        let hub = Arc::new(EventHub::default());
        hub.emit(|| panic!("nobody listens"));
        drop(hub.listen());
        hub.emit(|| panic!("nobody listens any more"));
    }

    #[test]
    fn each_listener_gets_each_event_and_the_end() {
        let hub = Arc::new(EventHub::default());
        let (mut one, mut other) = (hub.listen(), hub.listen());
        hub.emit(|| Event::Draining);
        hub.close();
        for events in [&mut one, &mut other] {
            assert_eq!(block_on(events.next()), Some(Event::Draining));
            assert_eq!(block_on(events.next()), None);
        }
        assert_eq!(block_on(hub.listen().next()), None, "a stopped node has no more events");
    }

    #[test]
    fn a_listener_that_does_not_listen_costs_no_more_than_the_bound() {
        let hub = Arc::new(EventHub::default());
        let (mut slow, mut quick) = (hub.listen(), hub.listen());
        for _ in 0..EVENTS_MAX + 5 {
            hub.emit(|| Event::Draining);
            assert_eq!(quick.try_next(), Some(Event::Draining));
        }
        assert_eq!((slow.lagged(), quick.lagged()), (5, 0));
        assert_eq!((hub.dropped(), hub.waiting_max()), (5, EVENTS_MAX));
        assert_eq!(std::iter::from_fn(|| slow.try_next()).count(), EVENTS_MAX);
    }

    #[test]
    fn the_last_events_are_remembered_with_or_without_a_listener() {
        let hub = Arc::new(EventHub::new(None, true));
        drop(hub.listen());
        let refused = |number: usize| Event::ReloadRefused { reason: format!("{number}\nline") };
        for number in 0..RECENT_MAX + 7 {
            hub.emit(|| refused(number));
        }
        let recent = hub.recent();
        let found: Vec<&Event> = recent.iter().map(|recent| &recent.event).collect();
        let expected: Vec<Event> = (7..RECENT_MAX + 7).map(refused).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>());
        let made: Vec<_> = hub.made().filter(|(_, made)| *made > 0).collect();
        assert_eq!(made, [("reload_refused", RECENT_MAX as u64 + 7)]);
        assert_eq!(expected[0].to_string(), "the configuration stays as it was: 7; line");
    }

    #[test]
    fn a_callback_that_panics_hurts_nobody() {
        let hub = Arc::new(EventHub::new(Some(EventCallback::new(|_| panic!("in the callback"))), false));
        let mut events = hub.listen();
        hub.emit(|| Event::Draining);
        assert_eq!(events.try_next(), Some(Event::Draining));
    }
}
