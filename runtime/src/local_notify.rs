//! Waiting, within a shard, for something that another task brings about.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};

/// Tasks that wait for a condition to become true.
#[derive(Default)]
pub(crate) struct LocalNotify {
    /// One for each waiting task, cleared at each notification.
    waiting: RefCell<Vec<Waker>>,
}

impl LocalNotify {
    /// Lets every waiting task look again.
    pub(crate) fn notify(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }

    /// Registers the polling task for the next notification.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Waits until `ready` gives something; it is asked at once and after each notification.
    pub(crate) async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| match ready() {
            Some(value) => Poll::Ready(value),
            None => {
                self.register(cx.waker());
                Poll::Pending
            }
        })
        .await
    }
}
