//! The receiving side of a flood: counts, and keeps the flood coming until there is enough.

use std::fmt;
use std::time::{Duration, Instant};

use crate::traffic::{FloodOrder, Tally};

/// How long a measured section goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Exactly this many messages.
    Messages(u64),
    /// At least this long: what has been begun by then is finished.
    Time(Duration),
}

/// As a worker is told it: `7m`, or `1500000us`.
impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(messages) => write!(f, "{messages}m"),
            Self::Time(time) => write!(f, "{}us", time.as_micros()),
        }
    }
}

/// A [`Length`] with its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    length: Length,
    start: Instant,
}

impl Quota {
    /// Begins.
    pub fn start(length: Length) -> Self {
        Self { length, start: Instant::now() }
    }

    /// How many messages to begin next, at most `batch`, when `begun` have been begun; 0 if that is enough.
    /// Looks at the clock, so it is asked once a batch.
    pub fn next(&self, begun: u64, batch: u64) -> u64 {
        match self.length {
            Length::Messages(messages) => batch.min(messages.saturating_sub(begun)),
            Length::Time(time) if begun == 0 || self.start.elapsed() < time => batch,
            Length::Time(_) => 0,
        }
    }
}

/// The bytes of payload and control line that one order asks for. Two orders are out at a time, so that the
/// flood never pauses, and this bounds what a client that queues has to queue. Measured from 64 KiB to 8 MiB
/// with async-nats, this costs it the least.
pub(crate) const ORDER_BYTES: u64 = 2 * 1024 * 1024;
/// About what a control line adds to a payload.
pub(crate) const CONTROL_LINE_BYTES: u64 = 20;
/// How many orders are out at a time.
pub(crate) const ORDERS_OUT: u64 = 2;

/// What to do after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for the next one.
    More,
    /// Publish this order, then wait for the next message.
    Order(FloodOrder),
    /// Everything ordered has come.
    Done,
}

/// Receives one flood from its first order to its last message.
#[derive(Debug)]
pub struct Receiving {
    quota: Quota,
    batch: u64,
    payload_bytes: usize,
    ordered: u64,
    /// Messages until the next look at the quota.
    until_look: u64,
    tally: Tally,
}

impl Receiving {
    /// Begins, and tells the orders to publish first.
    pub fn start(length: Length, payload_bytes: usize) -> (Self, Vec<FloodOrder>) {
        let batch = Self::batch(payload_bytes);
        let mut receiving = Self {
            quota: Quota::start(length),
            batch,
            payload_bytes,
            ordered: 0,
            until_look: 0,
            tally: Tally::default(),
        };
        let orders: Vec<FloodOrder> = (0..ORDERS_OUT).map_while(|_| receiving.order()).collect();
        receiving.until_look = orders.first().map_or(0, |order| order.messages);
        (receiving, orders)
    }

    /// How many messages can be on their way at once.
    pub fn outstanding_max(payload_bytes: usize) -> usize {
        (ORDERS_OUT * Self::batch(payload_bytes)) as usize
    }

    fn batch(payload_bytes: usize) -> u64 {
        ORDER_BYTES / (payload_bytes as u64 + CONTROL_LINE_BYTES)
    }

    /// Takes one message.
    #[inline]
    pub fn take(&mut self, payload: &[u8]) -> Step {
        self.tally.add(payload);
        self.until_look = self.until_look.wrapping_sub(1);
        if self.until_look == 0 { self.look() } else { Step::More }
    }

    #[cold]
    fn look(&mut self) -> Step {
        let next = self.order();
        let outstanding = self.ordered - self.tally.messages;
        self.until_look = outstanding.min(self.batch);
        match next {
            Some(order) => Step::Order(order),
            None if outstanding == 0 => Step::Done,
            None => Step::More,
        }
    }

    fn order(&mut self) -> Option<FloodOrder> {
        let messages = self.quota.next(self.ordered, self.batch);
        self.ordered += messages;
        (messages > 0).then_some(FloodOrder { messages, payload_bytes: self.payload_bytes })
    }

    /// What has come so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Payloads;

    /// Plays the other end: delivers what is ordered, in order, until the receiver is done.
    fn check(length: Length, expected_messages: Option<u64>) {
        let payloads = Payloads::new(4096);
        let (mut receiving, orders) = Receiving::start(length, 4096);
        let mut orders = std::collections::VecDeque::from(orders);
        let mut expected = Tally::default();
        let mut done = false;
        while let Some(order) = orders.pop_front() {
            expected = expected.plus(Tally::of_first(order.messages, order.payload_bytes));
            for number in 0..order.messages {
                assert!(!done, "a message after the last");
                match receiving.take(payloads.at(number)) {
                    Step::More => {}
                    Step::Order(order) => orders.push_back(order),
                    Step::Done => done = true,
                }
            }
        }
        assert!(done, "{length:?} did not end");
        assert_eq!(receiving.tally(), expected);
        if let Some(messages) = expected_messages {
            assert_eq!(expected.messages, messages);
        }
    }

    #[test]
    fn as_many_messages_are_ordered_and_received_as_wanted() {
        let batch = Receiving::batch(4096);
        for messages in [1, batch - 1, batch, batch + 1, 2 * batch, 2 * batch + 1, 7 * batch + 3] {
            check(Length::Messages(messages), Some(messages));
        }
    }

    #[test]
    fn a_length_in_time_ends_too() {
        check(Length::Time(Duration::ZERO), None);
        check(Length::Time(Duration::from_millis(5)), None);
    }
}
