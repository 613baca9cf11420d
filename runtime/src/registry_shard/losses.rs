//! Nodes that were lost, for the calls that wait for one of them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Names of lost nodes that are remembered.
const NODES_MAX: usize = 8192;

/// How often each node was lost, and who waits for the next time.
#[derive(Default)]
pub(crate) struct Losses(RefCell<State>);

#[derive(Default)]
struct State {
    times: HashMap<Arc<str>, u64>,
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

impl Losses {
    /// A node was lost.
    pub(crate) fn add(&self, node: Arc<str>) {
        let mut state = self.0.borrow_mut();
        if state.times.len() >= NODES_MAX {
            // Calls that wait for one of them run into their timeouts instead.
            state.times.clear();
        }
        *state.times.entry(node).or_default() += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    fn times(&self, node: &str) -> u64 {
        self.0.borrow().times.get(node).copied().unwrap_or_default()
    }

    /// Resolves when the node is lost, from now on.
    pub(crate) fn next<'a>(&'a self, node: &'a str) -> NextLoss<'a> {
        NextLoss { losses: self, node, times_before: self.times(node), place: None }
    }
}

/// Waits for a node to be lost; leaves nothing behind when it is dropped.
pub(crate) struct NextLoss<'a> {
    losses: &'a Losses,
    node: &'a str,
    times_before: u64,
    place: Option<u64>,
}

impl Future for NextLoss<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.losses.times(self.node) > self.times_before {
            return Poll::Ready(());
        }
        let mut state = self.losses.0.borrow_mut();
        let place = self.place.unwrap_or(state.next);
        if self.place.is_none() {
            state.next += 1;
        }
        state.waiting.insert(place, cx.waker().clone());
        drop(state);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for NextLoss<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.losses.0.borrow_mut().waiting.remove(&place);
            drop(waker);
        }
    }
}
