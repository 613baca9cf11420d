//! Waiting for a server to have processed what was written before.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use croupier_protocol::PingId;

use super::fault::{self, Fault};

/// One waiting caller.
pub(crate) struct Barrier {
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
    /// Whether a reconnect, with all subscriptions made again, serves as well.
    survives_cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Passed,
    Broken,
}

impl Barrier {
    /// Whether the server's PONG came; false if the connection was cut before.
    pub(crate) async fn passed(&self) -> bool {
        poll_fn(|cx| match self.state.get() {
            State::Passed => Poll::Ready(true),
            State::Broken => Poll::Ready(false),
            State::Waiting => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn end(&self, state: State) {
        self.state.set(state);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// All waiting callers of a link. Those of one turn share a PING.
#[derive(Default)]
pub(crate) struct Barriers {
    /// Waiting for the next PING to be written.
    next: Vec<Rc<Barrier>>,
    pending: VecDeque<(PingId, Vec<Rc<Barrier>>)>,
}

impl Barriers {
    pub(crate) fn add(&mut self, survives_cut: bool) -> Rc<Barrier> {
        let barrier =
            Rc::new(Barrier { state: Cell::new(State::Waiting), waker: RefCell::new(None), survives_cut });
        self.next.push(Rc::clone(&barrier));
        barrier
    }

    /// Whether a PING is wanted. Callers that gave up do not count.
    pub(crate) fn wants_ping(&mut self) -> bool {
        if !self.next.is_empty() {
            self.next.retain(|barrier| Rc::strong_count(barrier) > 1);
        }
        !self.next.is_empty()
    }

    pub(crate) fn pinged(&mut self, ping: PingId) {
        if !self.next.is_empty() {
            self.pending.push_back((ping, std::mem::take(&mut self.next)));
        }
    }

    pub(crate) fn pong(&mut self, ping: PingId) {
        let early = fault::is_built_in(Fault::BarrierPassesEarly);
        while self.pending.front().is_some_and(|(id, _)| *id <= ping || early) {
            for barrier in self.pending.pop_front().into_iter().flat_map(|(_, barriers)| barriers) {
                barrier.end(State::Passed);
            }
        }
    }

    pub(crate) fn cut(&mut self) {
        let all = self.pending.drain(..).flat_map(|(_, barriers)| barriers).chain(self.next.drain(..));
        let (surviving, broken): (Vec<_>, Vec<_>) = all.partition(|barrier| barrier.survives_cut);
        for barrier in broken {
            barrier.end(State::Broken);
        }
        self.next = surviving;
    }

    /// The link is over for good.
    pub(crate) fn end(&mut self) {
        let pending = self.pending.drain(..).flat_map(|(_, barriers)| barriers);
        for barrier in pending.chain(self.next.drain(..)) {
            barrier.end(State::Broken);
        }
    }
}
