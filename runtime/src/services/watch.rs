//! A stream of what becomes of one type of service.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::{Service, view::KindView};

/// Events that may wait for a reader; one who is further behind starts over.
pub(crate) const WATCH_EVENTS_MAX: usize = 65_536;

/// What became of a type's instances.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServiceEvent {
    /// An instance was there when the watch began, or began again.
    Present(Service),
    /// All that were there have been named.
    Synced,
    /// An instance came.
    Joined(Service),
    /// An instance changed: its state, its metadata, or whether its node is suspected.
    Updated(Service),
    /// An instance went: as it was last.
    Left(Service),
}

/// What waits for one watch.
#[derive(Default)]
pub(crate) struct WatchQueue {
    events: RefCell<VecDeque<ServiceEvent>>,
    overrun: Cell<bool>,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl WatchQueue {
    pub(crate) fn push_all(&self, news: &VecDeque<ServiceEvent>) {
        if self.overrun.get() || news.is_empty() {
            return;
        }
        let mut events = self.events.borrow_mut();
        if events.len() + news.len() > WATCH_EVENTS_MAX {
            events.clear();
            self.overrun.set(true);
        } else {
            events.extend(news.iter().cloned());
        }
        drop(events);
        self.wake();
    }

    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn begin(&self, present: Vec<Service>) {
        let mut events = self.events.borrow_mut();
        events.extend(present.into_iter().map(ServiceEvent::Present));
        events.push_back(ServiceEvent::Synced);
        self.overrun.set(false);
    }
}

/// A stream of what becomes of one type of service: [`ServiceEvent::Present`] for each instance that this
/// shard sees, [`ServiceEvent::Synced`], then each change in order. It ends when the node has drained.
///
/// Who falls 65 536 events behind gets no more of them, but starts over with `Present` and `Synced`; what
/// is not named then is gone.
#[must_use = "a watch does nothing until it is polled"]
pub struct Watch {
    view: Rc<KindView>,
    queue: Rc<WatchQueue>,
}

impl Watch {
    pub(crate) fn new(view: Rc<KindView>) -> Self {
        let queue = Rc::new(WatchQueue::default());
        queue.begin(view.all());
        view.watch(&queue);
        Watch { view, queue }
    }

    pub(crate) fn queue(&self) -> &Rc<WatchQueue> {
        &self.queue
    }

    /// The type of service.
    pub fn kind(&self) -> &[u8] {
        self.view.kind()
    }

    /// The next event, or `None` when the node has drained.
    pub async fn next(&mut self) -> Option<ServiceEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServiceEvent>> {
        if self.queue.overrun.get() {
            self.queue.begin(self.view.all());
        }
        if let Some(event) = self.queue.events.borrow_mut().pop_front() {
            return Poll::Ready(Some(event));
        }
        if self.queue.closed.get() {
            return Poll::Ready(None);
        }
        *self.queue.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Stream for Watch {
    type Item = ServiceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServiceEvent>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("kind", &String::from_utf8_lossy(self.kind())).finish_non_exhaustive()
    }
}
