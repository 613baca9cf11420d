//! Shard to shard: a wait-free ring for each pair, and a wake only for who sleeps.

use std::{
    cell::RefCell,
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering, fence},
    task::Poll,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::{Shard, transport};

/// Work for a shard.
pub(crate) type Job = Box<dyn FnOnce(&Shard) + Send>;

/// Jobs taken before other tasks get a turn.
const JOBS_PER_TURN: usize = 256;
/// How long a sender waits before it looks again whether a full ring has room.
const FULL_WAIT: Duration = Duration::from_micros(50);

/// Whether a shard's mesh task sleeps, and how to wake it.
#[derive(Default)]
pub(crate) struct Parking {
    parked: AtomicBool,
    waker: AtomicWaker,
}

impl Parking {
    /// Wakes the shard if it sleeps. To be called after the push that it is to see.
    fn unpark(&self) {
        // Pairs with the fence in `receive`: either the sleeper sees the push, or this sees it asleep.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// One shard's ends of the rings: to each other shard, and from each.
pub(crate) struct MeshEnds {
    senders: Vec<Option<RefCell<Producer<Job>>>>,
    receivers: Vec<Consumer<Job>>,
}

/// Rings of `jobs` places for all pairs of `shards`, sorted by who gets which ends.
pub(crate) fn mesh(shards: usize, jobs: usize) -> Vec<MeshEnds> {
    let mut ends: Vec<MeshEnds> =
        (0..shards).map(|_| MeshEnds { senders: Vec::new(), receivers: Vec::new() }).collect();
    for from in 0..shards {
        for to in 0..shards {
            if from == to {
                ends[from].senders.push(None);
                continue;
            }
            let (sender, receiver) = RingBuffer::new(jobs);
            ends[from].senders.push(Some(RefCell::new(sender)));
            ends[to].receivers.push(receiver);
        }
    }
    ends
}

/// The sending ends of one shard.
pub(crate) struct MeshSender {
    senders: Vec<Option<RefCell<Producer<Job>>>>,
}

impl MeshEnds {
    pub(crate) fn split(self) -> (MeshSender, Vec<Consumer<Job>>) {
        (MeshSender { senders: self.senders }, self.receivers)
    }
}

impl MeshSender {
    /// Puts a job into the ring to another shard, waiting while it is full. Gives the job back if that
    /// shard has stopped.
    pub(crate) async fn send(&self, shard: &Shard, to: usize, mut job: Job) -> Result<(), Job> {
        let port = shard.port(to);
        loop {
            if port.is_stopped() {
                return Err(job);
            }
            let Some(Some(sender)) = self.senders.get(to) else { return Err(job) };
            let pushed = sender.borrow_mut().push(job);
            match pushed {
                Ok(()) => {
                    port.parking.unpark();
                    return Ok(());
                }
                Err(rtrb::PushError::Full(back)) => job = back,
            }
            transport::sleep(FULL_WAIT).await;
        }
    }
}

/// Takes jobs as they come, for as long as the shard runs.
pub(crate) async fn receive(shard: Shard, mut receivers: Vec<Consumer<Job>>) {
    let port_of = shard.id();
    poll_fn(|cx| {
        let port = shard.port(port_of);
        let mut taken = 0;
        loop {
            let mut found = false;
            for receiver in &mut receivers {
                while taken < JOBS_PER_TURN
                    && let Ok(job) = receiver.pop()
                {
                    found = true;
                    taken += 1;
                    job(&shard);
                }
            }
            if taken >= JOBS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
            if found {
                continue;
            }
            port.parking.waker.register(cx.waker());
            port.parking.parked.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if receivers.iter().all(|receiver| receiver.is_empty()) {
                break;
            }
            port.parking.parked.store(false, Ordering::Relaxed);
        }
        if taken > 0 {
            port.progressed();
        }
        Poll::<()>::Pending
    })
    .await;
}
