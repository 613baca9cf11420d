//! How often a node knocks at a cluster that does not answer, counted over all its shards.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use atomic_waker::AtomicWaker;

use super::fault::{self, Fault};

/// Tries that may come at once. With [`TRY_INTERVAL`] it makes at most ten in any second.
const TRIES_BURST: u32 = 3;
/// Time between tries in the long run.
const TRY_INTERVAL: Duration = Duration::from_millis(143);

/// One for each cluster and node. While a shard is connected the cluster is not dead, and nobody waits.
pub(crate) struct ReconnectGate {
    /// When the next try after the burst would be due (the generic cell rate algorithm of ATM's
    /// traffic management: one instant is the whole state).
    next_due: Mutex<Option<Instant>>,
    connected: AtomicUsize,
    /// Links accepted so far, by which a waiting one sees that the cluster has come back.
    accepted: AtomicU64,
    waiting: Box<[AtomicWaker]>,
}

impl ReconnectGate {
    pub(crate) fn new(shards: usize) -> Self {
        ReconnectGate {
            next_due: Mutex::new(None),
            connected: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            waiting: (0..shards).map(|_| AtomicWaker::new()).collect(),
        }
    }

    /// Takes the next place in the row of tries: when that try may be made.
    pub(crate) fn reserve(&self, now: Instant) -> Instant {
        if self.connected.load(Ordering::Acquire) > 0 || fault::is_built_in(Fault::GateIgnored) {
            return now;
        }
        let mut next_due = self.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        let burst = TRY_INTERVAL * (TRIES_BURST - 1);
        let earliest = now.checked_sub(burst).unwrap_or(now);
        let due = next_due.map_or(earliest, |due| due.max(earliest));
        *next_due = Some(due + TRY_INTERVAL);
        due.max(now)
    }

    /// Links of the node that were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// A shard's link is accepted: the others need not wait.
    pub(crate) fn connected(&self) {
        // Whoever had a place in the row goes at once, and leaves it: if it were kept, a cluster that comes and goes
        // would be waited for ever longer.
        *self.next_due.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.connected.fetch_add(1, Ordering::AcqRel);
        self.accepted.fetch_add(1, Ordering::AcqRel);
        for waker in &self.waiting {
            waker.wake();
        }
    }

    /// A link that was accepted is gone.
    pub(crate) fn disconnected(&self) {
        self.connected.fetch_sub(1, Ordering::AcqRel);
    }

    /// Has the shard's waiting link woken when another one is accepted.
    pub(crate) fn register(&self, shard: usize, waker: &Waker) {
        self.waiting[shard].register(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_no_second_are_there_more_than_ten_tries() {
        let gate = ReconnectGate::new(2);
        let begin = Instant::now();
        let mut now = begin;
        let mut tries = Vec::new();
        for round in 0..200_u64 {
            now += Duration::from_millis(round * 37 % 50);
            tries.push(gate.reserve(now));
        }
        assert!(tries.is_sorted());
        for (index, first) in tries.iter().enumerate() {
            let within = tries[index..].iter().filter(|at| **at - *first < Duration::from_secs(1)).count();
            assert!(within <= 10, "{within} tries within a second from try {index}");
        }
    }

    #[test]
    fn who_got_in_leaves_no_row_behind() {
        let gate = ReconnectGate::new(64);
        let now = Instant::now();
        for _ in 0..64 {
            gate.reserve(now);
        }
        gate.connected();
        gate.disconnected();
        assert_eq!(gate.reserve(now), now);
    }

    #[test]
    fn the_first_tries_do_not_wait() {
        let gate = ReconnectGate::new(1);
        let now = Instant::now();
        assert_eq!([gate.reserve(now), gate.reserve(now), gate.reserve(now)], [now; 3]);
        assert!(gate.reserve(now) > now);
    }
}
