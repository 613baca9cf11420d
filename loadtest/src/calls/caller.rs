//! The calling side: each call as soon as it is due, whatever became of those before it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use croupier::{CallError, Message, Service, ServiceEvent, ServiceType, Shard};
use hdrhistogram::Histogram;

use super::protocol::{KIND, process_of};
use crate::backlog::Backlog;
use crate::clock::monotonic_nanos;
use crate::keys::Keys;
use crate::payload::{PayloadBuffer, Stamp};
use crate::schedule::Schedule;
use crate::series::interval_histogram;
use crate::traffic::Traffic;

/// What became of one call. All times are monotonic, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) intended_nanos: u64,
    pub(crate) actual_nanos: u64,
    pub(crate) ended_nanos: u64,
    /// The process of the instance that the key led to when the call was made.
    pub(crate) looked_up: Option<usize>,
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not.
    Pending,
    /// By this life of this process.
    Answered {
        process: usize,
        life: u64,
    },
    /// With an answer to another call, or one that was damaged.
    Corrupt,
    NoService,
    NoResponders,
    Timeout {
        sent: bool,
    },
    /// After it was sent to an instance of this process.
    InDoubt {
        process: Option<usize>,
    },
    Disconnected,
    /// As many calls as may be were in flight.
    TooMany,
    /// Any other error.
    Other,
}

/// When a process's instances went or came, as the caller's shard saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) process: usize,
    pub(crate) is_there: bool,
    pub(crate) at_nanos: u64,
}

/// What the caller is told.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) run: u64,
    pub(crate) schedule: Schedule,
    pub(crate) keys: Keys,
    /// The sizes of the payloads.
    pub(crate) traffic: Traffic,
    pub(crate) timeout: Duration,
    /// How long after the end of the schedule a caller that is behind may still call.
    pub(crate) overrun_nanos: u64,
    /// Whether the schedule is kept however late it is.
    pub(crate) is_patient: bool,
}

/// Shared by the shard and the main thread.
#[derive(Debug)]
pub(crate) struct Caller {
    assignment: Assignment,
    /// By the number of the call.
    calls: Mutex<Vec<Call>>,
    presences: Mutex<Vec<Presence>>,
    ended: AtomicU64,
    answered: AtomicU64,
    /// What the live view shows; while nobody looks, nothing is kept for it.
    watched: Option<Mutex<Watched>>,
    has_called_all: AtomicBool,
    has_stopped: AtomicBool,
    /// When the schedule was beyond hope, since its start.
    gave_up_nanos: OnceLock<u64>,
}

/// What the live view shows of the calls.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// From the intended time to the answer, since the last look, in nanoseconds.
    pub(crate) recent: Histogram<u64>,
    /// By process: calls answered, since the start.
    pub(crate) answered: Vec<u64>,
    /// By process: instances that the caller sees.
    pub(crate) instances: Vec<u64>,
}

/// The longest pause, so that a slow rate does not delay the end.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Calling pauses after this long, so that what was asked leaves and answers arrive.
const BURST_NANOS_MAX: u64 = 100_000;
const BURST_PAUSE: Duration = Duration::from_nanos(100);

impl Caller {
    pub(crate) fn new(assignment: Assignment) -> Self {
        Self {
            assignment,
            calls: Mutex::default(),
            presences: Mutex::default(),
            ended: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            watched: None,
            has_called_all: AtomicBool::new(false),
            has_stopped: AtomicBool::new(false),
            gave_up_nanos: OnceLock::new(),
        }
    }

    /// Keeps also what the live view shows of so many processes.
    pub(crate) fn watched(self, processes: usize) -> Self {
        let watched = Watched {
            recent: interval_histogram(),
            answered: vec![0; processes],
            instances: vec![0; processes],
        };
        Self { watched: Some(Mutex::new(watched)), ..self }
    }

    /// What there is for the live view; the latencies are then taken.
    pub(crate) fn look(&self) -> Option<Watched> {
        let mut watched = locked(self.watched.as_ref()?);
        let looked = watched.clone();
        watched.recent.reset();
        Some(looked)
    }

    /// Asks for no more calls to be made; those that were made still end.
    pub(crate) fn stop(&self) {
        self.has_stopped.store(true, Ordering::Release);
    }

    /// When the schedule was found to be beyond hope, since its start; no more calls are made then.
    pub(crate) fn gave_up_nanos(&self) -> Option<u64> {
        self.gave_up_nanos.get().copied()
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        locked(&self.calls)
    }

    /// Every coming and going so far.
    pub(crate) fn presences(&self) -> Vec<Presence> {
        locked(&self.presences).clone()
    }

    /// Calls that were made, that have ended, and that were answered.
    pub(crate) fn progress(&self) -> (u64, u64, u64) {
        // Backwards, so that no call has ended that is not among those made, however many are made meanwhile.
        let answered = self.answered.load(Ordering::Relaxed);
        let ended = self.ended.load(Ordering::Relaxed).max(answered);
        let made = (self.calls().len() as u64).max(ended);
        (made, ended, answered)
    }

    pub(crate) fn has_called_all(&self) -> bool {
        self.has_called_all.load(Ordering::Acquire)
    }

    /// Notes which processes have instances, on `shard`, until the node drains.
    pub(crate) fn watch(self: &Arc<Self>, shard: &Shard) {
        let caller = Arc::clone(self);
        let mut watch = shard.registry().watch(KIND);
        shard.spawn(async move {
            let mut instances = BTreeMap::new();
            while let Some(event) = watch.next().await {
                caller.note(&mut instances, &event, monotonic_nanos());
            }
        });
    }

    fn note(&self, instances: &mut BTreeMap<usize, u64>, event: &ServiceEvent, at_nanos: u64) {
        let of = |service: &Service| process_of(service.node());
        let (process, is_there) = match event {
            ServiceEvent::Present(service) | ServiceEvent::Joined(service) => (of(service), true),
            ServiceEvent::Left(service) => (of(service), false),
            _ => return,
        };
        let Some(process) = process else { return };
        let count = instances.entry(process).or_insert(0);
        let before = *count;
        *count = if is_there { before + 1 } else { before.saturating_sub(1) };
        if let Some(watched) = &self.watched
            && let Some(instances) = locked(watched).instances.get_mut(process)
        {
            *instances = *count;
        }
        if (before == 0) != (*count == 0) {
            locked(&self.presences).push(Presence { process, is_there, at_nanos });
        }
    }

    /// Makes every call of the schedule, which begins at `start_nanos`.
    pub(crate) async fn call_all(self: Arc<Self>, shard: Shard, start_nanos: u64) {
        let assignment = &self.assignment;
        let kind = shard.registry().service_type(KIND);
        let mut payloads = PayloadBuffer::new(assignment.traffic.size_bytes_max(), assignment.run);
        let mut part = assignment.schedule.of_shard(0, 1);
        let give_up_nanos = start_nanos + assignment.schedule.end_nanos() + assignment.overrun_nanos;
        let mut backlog = if assignment.is_patient {
            Backlog::of_patience()
        } else {
            Backlog::new(assignment.schedule.measured_from_nanos())
        };
        let mut burst_from_nanos = monotonic_nanos();
        while let Some(due) = part.peek() {
            let intended_nanos = start_nanos + due.offset_nanos;
            let now = monotonic_nanos();
            if backlog.is_beyond_hope(now.saturating_sub(start_nanos), due.offset_nanos) {
                self.gave_up_nanos.get_or_init(|| now.saturating_sub(start_nanos));
                break;
            }
            if now >= give_up_nanos || self.has_stopped.load(Ordering::Acquire) {
                break;
            }
            if now < intended_nanos {
                shard.sleep(Duration::from_nanos(intended_nanos - now).min(PAUSE_MAX)).await;
                burst_from_nanos = monotonic_nanos();
                continue;
            }
            if now - burst_from_nanos >= BURST_NANOS_MAX {
                shard.sleep(BURST_PAUSE).await;
                burst_from_nanos = monotonic_nanos();
                continue;
            }
            let key = assignment.keys.key_of(due.index);
            let stamp = Stamp {
                run: assignment.run,
                publisher: u32::MAX,
                topic: key as u32,
                sequence: due.index,
                intended_nanos,
                actual_nanos: now,
            };
            let payload = payloads.stamped(assignment.traffic.size_bytes_of(due.index), &stamp).to_vec();
            let number = self.begin(intended_nanos, now);
            part.advance();
            shard.spawn(Arc::clone(&self).call_one(kind.clone(), number, stamp, payload));
        }
        self.has_called_all.store(true, Ordering::Release);
    }

    async fn call_one(self: Arc<Self>, kind: ServiceType, number: usize, stamp: Stamp, payload: Vec<u8>) {
        let key = stamp.topic.to_le_bytes();
        let looked_up = kind.find(key).and_then(|service| process_of(service.node()));
        let answer = kind.call(key, payload).timeout(self.assignment.timeout).await;
        let ended_nanos = monotonic_nanos();
        let end = end_of(answer, &stamp);
        if let End::Answered { process, .. } = end {
            self.answered.fetch_add(1, Ordering::Relaxed);
            if let Some(watched) = &self.watched {
                locked(watched).answered_by(process, ended_nanos.saturating_sub(stamp.intended_nanos));
            }
        }
        if let Some(call) = self.calls().get_mut(number) {
            *call = Call { ended_nanos, looked_up, end, ..*call };
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// The place of a call that begins.
    fn begin(&self, intended_nanos: u64, actual_nanos: u64) -> usize {
        let mut calls = self.calls();
        calls.push(Call { intended_nanos, actual_nanos, ended_nanos: 0, looked_up: None, end: End::Pending });
        calls.len() - 1
    }
}

impl Watched {
    fn answered_by(&mut self, process: usize, e2e_nanos: u64) {
        self.recent.saturating_record(e2e_nanos);
        if let Some(answered) = self.answered.get_mut(process) {
            *answered += 1;
        }
    }
}

fn end_of(answer: Result<Message, CallError>, asked: &Stamp) -> End {
    match answer {
        Ok(message) => match Stamp::read(message.payload()) {
            Some(stamp) if is_answer(&stamp, asked) => {
                End::Answered { process: stamp.publisher as usize, life: stamp.actual_nanos }
            }
            _ => End::Corrupt,
        },
        Err(CallError::NoService { .. }) => End::NoService,
        Err(CallError::NoResponders { .. }) => End::NoResponders,
        Err(CallError::Timeout { sent, .. }) => End::Timeout { sent },
        Err(CallError::InDoubt { service }) => End::InDoubt { process: process_of(service.node()) },
        Err(CallError::Disconnected { .. }) => End::Disconnected,
        Err(CallError::TooMany { .. }) => End::TooMany,
        Err(_) => End::Other,
    }
}

fn is_answer(stamp: &Stamp, asked: &Stamp) -> bool {
    (stamp.run, stamp.topic, stamp.sequence, stamp.intended_nanos)
        == (asked.run, asked.topic, asked.sequence, asked.intended_nanos)
}

/// What another thread left behind when it panicked is still worth counting.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
