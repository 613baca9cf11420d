//! The shard's side: what it records into, and how it gives that away.

use std::{cell::RefCell, mem, rc::Rc, time::Duration};

use rtrb::{Consumer, Producer};

use super::Recorded;
use crate::transport;

/// How often a shard hands over what it has recorded.
const HAND_OVER_PERIOD: Duration = Duration::from_secs(1);

/// Where a shard records. Moved into its thread once, and shared by its links there.
pub(crate) struct Recorder {
    current: RefCell<Box<Recorded>>,
    full: RefCell<Producer<Box<Recorded>>>,
    empty: RefCell<Consumer<Box<Recorded>>>,
}

impl Recorder {
    pub(super) fn new(
        current: Box<Recorded>,
        full: Producer<Box<Recorded>>,
        empty: Consumer<Box<Recorded>>,
    ) -> Self {
        Recorder { current: RefCell::new(current), full: RefCell::new(full), empty: RefCell::new(empty) }
    }

    /// A request was answered.
    #[inline]
    pub(crate) fn request(&self, took: Duration) {
        self.current.borrow_mut().requests.record(took);
    }

    /// A PING on the link to a cluster was answered.
    #[inline]
    pub(crate) fn round_trip(&self, cluster: usize, took: Duration) {
        self.current.borrow_mut().round_trips[cluster].record(took);
    }

    /// Gives away what was recorded, if somebody has emptied a buffer for what follows.
    pub(super) fn hand_over(&self) {
        if !self.current.borrow().is_empty()
            && let Ok(empty) = self.empty.borrow_mut().pop()
        {
            self.exchange(empty);
        }
    }

    /// Gives away all that was recorded: the shard is at its end.
    pub(crate) fn hand_over_last(&self) {
        let spare = self.empty.borrow_mut().pop();
        let clusters = self.current.borrow().round_trips.len();
        self.exchange(spare.unwrap_or_else(|_| Recorded::new(clusters)));
    }

    fn exchange(&self, empty: Box<Recorded>) {
        let full = mem::replace(&mut *self.current.borrow_mut(), empty);
        // There are no more buffers than the ring has places.
        let _fits = self.full.borrow_mut().push(full);
    }
}

/// Hands over again and again, until the task is cancelled.
pub(crate) async fn hand_over_always(recorder: Rc<Recorder>) {
    loop {
        transport::sleep(HAND_OVER_PERIOD).await;
        recorder.hand_over();
    }
}
