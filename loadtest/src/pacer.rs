//! The decisions of a publisher: which message is due, what it carries, and how long to pause.
//!
//! Pure: the time comes in, and what is sent goes out, through closures of the caller.

use std::time::Duration;

use crate::backlog::Backlog;
use crate::payload::{PayloadBuffer, Stamp};
use crate::recorder::Recorder;
use crate::schedule::ShardSchedule;
use crate::traffic::Traffic;

/// One shard's part of the schedule, on its way out.
#[derive(Debug)]
pub(crate) struct Pacer {
    run: u64,
    publisher: u32,
    traffic: Traffic,
    part: ShardSchedule,
    /// By topic: the sequence of its next message from this publisher.
    sequences: Vec<u64>,
    payloads: PayloadBuffer,
    recorder: Recorder,
    backlog: Backlog,
    /// Of a closed loop: the message to send next, and how far it is to the one after it.
    closed_next: u64,
    closed_step: u64,
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// By this cluster.
    Taken { cluster: usize },
    /// There is no room; it will be offered again.
    Busy,
    /// There is no room while a fault has this cluster; it is given up, so that those behind it go on.
    Refused { cluster: usize },
}

/// Whether a message that was offered is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Made,
    Held,
}

/// What to do after a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Pause(Duration),
    /// Everything has been sent.
    Done,
    /// So much is overdue that the schedule cannot be kept any more; told once.
    BeyondHope,
}

/// Publishing pauses after this long, so that the links can send what was appended: the runtime serves
/// its sockets when no task is ready.
const BURST_NANOS_MAX: u64 = 100_000;

/// The shortest pause that lets the sockets be served.
const PAUSE_NANOS_MIN: u64 = 100;

/// The longest pause, so that a slow rate does not delay an interrupt.
const PAUSE_NANOS_MAX: u64 = 20_000_000;

/// Between two offers of a message for which there was no room.
const BUSY_PAUSE: Duration = Duration::from_micros(100);

/// Between two looks of a closed loop at what has arrived.
const CLOSED_PAUSE: Duration = Duration::from_micros(10);

impl Pacer {
    /// Sends `part` as `publisher`, one of `publishers`, of `run`, recording in `recorder`.
    pub(crate) fn new(
        run: u64,
        (publisher, publishers): (usize, usize),
        traffic: Traffic,
        part: ShardSchedule,
        recorder: Recorder,
    ) -> Self {
        Self {
            run,
            publisher: publisher as u32,
            sequences: vec![0; traffic.topics()],
            payloads: PayloadBuffer::new(traffic.size_bytes_max(), run),
            traffic,
            part,
            recorder,
            backlog: Backlog::of_patience(),
            closed_next: publisher as u64,
            closed_step: publishers.max(1) as u64,
        }
    }

    /// Tells when the schedule cannot be kept any more, as `backlog` sees it.
    pub(crate) fn with_backlog(self, backlog: Backlog) -> Self {
        Self { backlog, ..self }
    }

    /// Offers every message that is due, for as long as one burst may last.
    ///
    /// `now_nanos` is the run's clock; `offer` takes a payload and what it says.
    ///
    /// # Errors
    ///
    /// The first error of `offer`; its message stays the next one.
    pub(crate) fn burst<E>(
        &mut self,
        now_nanos: impl Fn() -> u64,
        mut offer: impl FnMut(&Stamp, &[u8]) -> Result<Offer, E>,
    ) -> Result<Next, E> {
        let began_nanos = now_nanos();
        let mut now = began_nanos;
        if let Some(due) = self.part.peek()
            && self.backlog.is_beyond_hope(now, due.offset_nanos)
        {
            return Ok(Next::BeyondHope);
        }
        while let Some(due) = self.part.peek() {
            if due.offset_nanos > now {
                let early_nanos = due.offset_nanos - now;
                return Ok(pause(early_nanos.clamp(PAUSE_NANOS_MIN, PAUSE_NANOS_MAX)));
            }
            if now.saturating_sub(began_nanos) >= BURST_NANOS_MAX {
                return Ok(pause(PAUSE_NANOS_MIN));
            }
            if self.offer_one(due.index, due.offset_nanos, now, &mut offer)? == Progress::Held {
                return Ok(Next::Pause(BUSY_PAUSE));
            }
            self.part.advance();
            now = now_nanos();
        }
        Ok(Next::Done)
    }

    /// In a closed loop: offers messages while there is `room` for them, each stamped with the time at which
    /// it is offered, until `end_nanos`.
    ///
    /// # Errors
    ///
    /// The first error of `offer`; its message stays the next one.
    pub(crate) fn burst_closed<E>(
        &mut self,
        end_nanos: u64,
        now_nanos: impl Fn() -> u64,
        room: impl Fn() -> bool,
        mut offer: impl FnMut(&Stamp, &[u8]) -> Result<Offer, E>,
    ) -> Result<Next, E> {
        let began_nanos = now_nanos();
        let mut now = began_nanos;
        while now < end_nanos {
            if !room() {
                return Ok(Next::Pause(CLOSED_PAUSE));
            }
            if now.saturating_sub(began_nanos) >= BURST_NANOS_MAX {
                return Ok(pause(PAUSE_NANOS_MIN));
            }
            if self.offer_one(self.closed_next, now, now, &mut offer)? == Progress::Held {
                return Ok(Next::Pause(BUSY_PAUSE));
            }
            self.closed_next += self.closed_step;
            now = now_nanos();
        }
        Ok(Next::Done)
    }

    /// Offers message `index`, and records what became of it.
    fn offer_one<E>(
        &mut self,
        index: u64,
        intended_nanos: u64,
        now: u64,
        offer: &mut impl FnMut(&Stamp, &[u8]) -> Result<Offer, E>,
    ) -> Result<Progress, E> {
        let number = self.traffic.topic_of(index);
        let stamp = Stamp {
            run: self.run,
            publisher: self.publisher,
            topic: number as u32,
            sequence: self.sequences[number],
            intended_nanos,
            actual_nanos: now,
        };
        let payload = self.payloads.stamped(self.traffic.size_bytes_of(index), &stamp);
        match offer(&stamp, payload)? {
            Offer::Busy => {
                self.recorder.busy += 1;
                return Ok(Progress::Held);
            }
            Offer::Taken { cluster } => {
                self.sequences[number] += 1;
                self.recorder.sent(cluster, intended_nanos, now);
            }
            Offer::Refused { cluster } => self.recorder.refused(cluster, intended_nanos, now),
        }
        Ok(Progress::Made)
    }

    /// Messages that were not sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.part.remaining()
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

fn pause(nanos: u64) -> Next {
    Next::Pause(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyChoice;
    use crate::quantity::{Rate, Size};
    use crate::recorder::Window;
    use crate::schedule::Schedule;
    use std::cell::Cell;
    use std::convert::Infallible;

    const TOPICS: usize = 7;

    #[test]
    fn on_time_every_message_leaves_when_it_is_due() {
        let sent = drive(pacer("10k", 100), |_| Offer::Taken { cluster: 0 }, 0);
        assert_eq!(sent.stamps.len(), 1_000);
        assert!(sent.stamps.iter().all(|stamp| stamp.actual_nanos == stamp.intended_nanos));
        assert_eq!(sent.pacer.recorder().lag.max(), 0);
        assert_eq!((sent.pacer.unsent(), sent.pacer.recorder().busy), (0, 0));
    }

    #[test]
    fn a_stall_shows_as_lag_and_neither_shifts_nor_skips_what_follows() {
        const STALL: std::ops::Range<u64> = 100_000_000..600_000_000;
        let offer = |now: u64| if STALL.contains(&now) { Offer::Busy } else { Offer::Taken { cluster: 0 } };
        let sent = drive(pacer("1k", 1_000), offer, 1_000);
        let intended: Vec<u64> = sent.stamps.iter().map(|stamp| stamp.intended_nanos).collect();
        assert_eq!(intended, (0..1_000).map(|i| i * 1_000_000).collect::<Vec<_>>());

        let recorder = sent.pacer.recorder();
        // Half of the messages were due in the stall, so that half of them waited, evenly from 0 to 500 ms.
        assert!((495_000_000..505_000_000).contains(&recorder.lag.max()), "{}", recorder.lag.max());
        let p75 = recorder.lag.value_at_quantile(0.75);
        assert!((245_000_000..255_000_000).contains(&p75), "{p75}");
        assert_eq!(recorder.busy, 500_000_000 / BUSY_PAUSE.as_nanos() as u64);
        assert_eq!(recorder.measured.sent, 1_000);
    }

    #[test]
    fn a_refused_message_comes_again_with_the_same_sequence() {
        let refusals = Cell::new(0_u32);
        let offer = |_| {
            refusals.set(refusals.get() + 1);
            if refusals.get().is_multiple_of(3) { Offer::Taken { cluster: 0 } } else { Offer::Busy }
        };
        let sent = drive(pacer("1k", 50), offer, 0);
        let mut next = [0; TOPICS];
        for stamp in &sent.stamps {
            assert_eq!(stamp.sequence, next[stamp.topic as usize]);
            next[stamp.topic as usize] += 1;
        }
        assert_eq!((sent.stamps.len(), sent.pacer.recorder().busy), (50, 100));
    }

    #[test]
    fn a_backlog_is_sent_in_bursts_with_pauses_between() {
        let mut pacer = pacer("100k", 100);
        let clock = Cell::new(1_000_000_000_u64);
        let (mut bursts, mut longest) = (0, 0);
        loop {
            let began = clock.get();
            let offer = |_: &Stamp, _: &[u8]| -> Result<Offer, Infallible> {
                clock.set(clock.get() + 1_000);
                Ok(Offer::Taken { cluster: 0 })
            };
            let Ok(next) = pacer.burst(|| clock.get(), offer);
            bursts += 1;
            longest = longest.max(clock.get() - began);
            if next == Next::Done {
                break;
            }
            assert_eq!(next, pause(PAUSE_NANOS_MIN));
        }
        assert_eq!((bursts, longest), (100, BURST_NANOS_MAX));
    }

    #[test]
    fn an_error_ends_the_burst_and_loses_nothing() {
        let mut pacer = pacer("1k", 10);
        assert_eq!(pacer.burst(|| 0, |_, _| Err::<Offer, _>("gone")), Err("gone"));
        assert_eq!(pacer.unsent(), 10);
        assert_eq!(pacer.recorder().measured.sent, 0);
    }

    #[test]
    fn a_rate_that_cannot_be_kept_is_told_once_and_what_is_left_is_unsent() {
        let mut pacer = pacer("1k", 10_000).with_backlog(Backlog::new(0));
        let clock = Cell::new(0_u64);
        let mut told = Vec::new();
        while clock.get() < 5_000_000_000 {
            let offer = |_: &Stamp, _: &[u8]| -> Result<Offer, Infallible> {
                clock.set(clock.get() + 10_000_000);
                Ok(Offer::Taken { cluster: 0 })
            };
            let Ok(next) = pacer.burst(|| clock.get(), offer);
            if next == Next::BeyondHope {
                told.push(clock.get() / 1_000_000_000);
            }
            clock.set(clock.get() + PAUSE_NANOS_MIN);
        }
        assert_eq!(told, [2]);
        assert!((9_400..9_600).contains(&pacer.unsent()), "{}", pacer.unsent());
    }

    #[test]
    fn a_slow_rate_still_looks_up_often() {
        let mut pacer = pacer("1", 10_000);
        let next = pacer.burst(|| 1, |_, _| Ok::<_, Infallible>(Offer::Taken { cluster: 0 }));
        assert_eq!(next, Ok(pause(PAUSE_NANOS_MAX)));
    }

    fn pacer(rate: &str, duration_ms: u64) -> Pacer {
        let rate = Rate::parse(rate).expect("a rate");
        let schedule = Schedule::new(rate, Duration::ZERO, Duration::from_millis(duration_ms));
        let size = Size { smallest_bytes: 64, largest_bytes: 96 };
        let recorder =
            Recorder::new(Window { from_nanos: 0, early_until_nanos: 1, until_nanos: 1_000_000_000 }, 1);
        Pacer::new(
            11,
            (0, 1),
            Traffic::new(5, KeyChoice::Uniform, TOPICS, size),
            schedule.of_shard(0, 1),
            recorder,
        )
    }

    struct Sent {
        pacer: Pacer,
        stamps: Vec<Stamp>,
    }

    /// Runs to the end in virtual time, in which an offer takes `cost_nanos` and a pause its length.
    fn drive(mut pacer: Pacer, offer: impl Fn(u64) -> Offer, cost_nanos: u64) -> Sent {
        let clock = Cell::new(0_u64);
        let mut stamps = Vec::new();
        loop {
            let taken = |offered: &Stamp, payload: &[u8]| -> Result<Offer, Infallible> {
                let answer = offer(clock.get());
                if answer != Offer::Busy {
                    clock.set(clock.get() + cost_nanos);
                    let stamp = Stamp::read(payload).expect("a payload of ours");
                    assert_eq!(stamp, *offered);
                    stamps.push(stamp);
                }
                Ok(answer)
            };
            let Ok(next) = pacer.burst(|| clock.get(), taken);
            match next {
                Next::Done | Next::BeyondHope => return Sent { pacer, stamps },
                Next::Pause(pause) => clock.set(clock.get() + pause.as_nanos() as u64),
            }
        }
    }

    #[test]
    fn a_closed_loop_sends_while_there_is_room_and_stamps_what_it_does() {
        let mut pacer = pacer("1k", 1);
        let (clock, under_way) = (Cell::new(0_u64), Cell::new(0_u32));
        let mut stamps = Vec::new();
        let mut waited = 0;
        loop {
            let offer = |stamp: &Stamp, _: &[u8]| -> Result<Offer, Infallible> {
                under_way.set(under_way.get() + 1);
                stamps.push(*stamp);
                clock.set(clock.get() + 1_000);
                Ok(Offer::Taken { cluster: 0 })
            };
            let Ok(next) = pacer.burst_closed(1_000_000, || clock.get(), || under_way.get() < 3, offer);
            match next {
                Next::Done | Next::BeyondHope => break,
                Next::Pause(pause) => {
                    assert_eq!(pause, CLOSED_PAUSE);
                    clock.set(clock.get() + 50_000);
                    under_way.set(0);
                    waited += 1;
                }
            }
        }
        // Three take 3 us, the wait for them 50 us.
        assert_eq!((waited, stamps.len()), (19, 57));
        assert!(stamps.iter().all(|stamp| stamp.intended_nanos == stamp.actual_nanos));
        assert_eq!(pacer.recorder().measured.sent, 57);
        assert_eq!(pacer.recorder().lag.max(), 0);
    }
}
