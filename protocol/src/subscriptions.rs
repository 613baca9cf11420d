//! The subscriptions of one link: a slab whose keys are the ids on the wire.

use crate::encode;
use crate::error::SubscriptionsFull;
use crate::sid::Sid;
use crate::slab::Slab;
use crate::subject::{QueueGroup, Subject};

/// Subscriptions by [`Sid`]. They outlive connections: [`Subscriptions::resubscribe`] announces
/// them to the next one.
#[derive(Clone, Debug)]
pub struct Subscriptions<T> {
    slab: Slab<Subscribed<T>>,
}

/// A subscription and what the caller keeps with it.
#[derive(Clone, Debug)]
pub struct Subscribed<T> {
    /// Subject or pattern.
    pub subject: Subject,
    /// Queue group.
    pub queue: Option<QueueGroup>,
    /// The caller's value.
    pub value: T,
    received: u64,
    max: Option<u64>,
}

impl<T> Subscribed<T> {
    /// Messages delivered so far, on all connections.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Messages after which it ends, counted from its beginning.
    pub fn max(&self) -> Option<u64> {
        self.max
    }

    fn is_over(&self) -> bool {
        self.max.is_some_and(|max| self.received >= max)
    }
}

/// Where a message goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<'s, T> {
    /// Nowhere: never given out, removed, or past its last message. Normal after an `UNSUB`.
    Unknown,
    /// To this subscription.
    Live(&'s mut T),
    /// To this subscription, for the last time: its maximum is reached. Remove it.
    Last(&'s mut T),
}

impl<T> Subscriptions<T> {
    /// No subscriptions.
    pub fn new() -> Self {
        Self { slab: Slab::new(usize::MAX) }
    }

    /// Adds a subscription. The caller encodes its `SUB`.
    ///
    /// # Errors
    /// There are [`SLOTS_MAX`](crate::limits::SLOTS_MAX) of them; the value is dropped.
    pub fn insert(
        &mut self,
        subject: Subject,
        queue: Option<QueueGroup>,
        value: T,
    ) -> Result<Sid, SubscriptionsFull> {
        let max = self.slab.max();
        let subscribed = Subscribed { subject, queue, value, received: 0, max: None };
        self.slab.insert(subscribed).map(Sid).ok_or(SubscriptionsFull { max })
    }

    /// The subscription with this id.
    pub fn get(&self, sid: Sid) -> Option<&Subscribed<T>> {
        self.slab.get(sid.0)
    }

    /// The subscription with this id.
    pub fn get_mut(&mut self, sid: Sid) -> Option<&mut Subscribed<T>> {
        self.slab.get_mut(sid.0)
    }

    /// Removes a subscription. Its id finds nothing from then on, even when its place is taken.
    pub fn remove(&mut self, sid: Sid) -> Option<Subscribed<T>> {
        self.slab.remove(sid.0)
    }

    /// Counts a message for this id and says where it goes.
    #[inline]
    pub fn deliver(&mut self, sid: Sid) -> Delivery<'_, T> {
        let Some(subscribed) = self.slab.get_mut(sid.0) else { return Delivery::Unknown };
        if subscribed.is_over() {
            return Delivery::Unknown;
        }
        subscribed.received += 1;
        if subscribed.is_over() {
            Delivery::Last(&mut subscribed.value)
        } else {
            Delivery::Live(&mut subscribed.value)
        }
    }

    /// Ends a subscription after `max` messages in all, those before this call included. Returns
    /// whether more are to come; if not, remove it. The caller encodes its `UNSUB`.
    pub fn set_max(&mut self, sid: Sid, max: u64) -> bool {
        match self.slab.get_mut(sid.0) {
            Some(subscribed) => {
                subscribed.max = Some(max);
                !subscribed.is_over()
            }
            None => false,
        }
    }

    /// Appends a `SUB` for each live subscription and, where a maximum is set, an `UNSUB` with what
    /// is left of it: a new connection counts from 0.
    pub fn resubscribe(&self, out: &mut Vec<u8>) {
        for (sid, subscribed) in self.iter().filter(|(_, subscribed)| !subscribed.is_over()) {
            let queue = subscribed.queue.as_ref().map(QueueGroup::as_bytes);
            encode::subscribe(out, subscribed.subject.as_bytes(), queue, sid);
            if let Some(max) = subscribed.max {
                encode::unsubscribe(out, sid, Some(max - subscribed.received));
            }
        }
    }

    /// All subscriptions, in no meaningful order, but the same each time.
    pub fn iter(&self) -> impl Iterator<Item = (Sid, &Subscribed<T>)> {
        self.slab.iter().map(|(key, subscribed)| (Sid(key), subscribed))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Default for Subscriptions<T> {
    fn default() -> Self {
        Self::new()
    }
}
