//! The open-loop schedule: when each message is due, whatever became of those before it.
//!
//! Message `i` of a run is due `i / rate` after the start. That time is fixed before the
//! run: a generator or a server that falls behind finds the next messages already overdue,
//! and the wait shows in the latencies instead of thinning the load. Shard `s` of `n`
//! sends the messages with `i % n == s`, so that together they keep the rate.

use std::sync::Arc;
use std::time::Duration;

use crate::pace::{Pace, Ramp};
use crate::quantity::Rate;
use crate::recorder::Window;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Which messages a run has and when they are due, in nanoseconds since its start.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// In the order of their times, the first from zero.
    segments: Arc<[Segment]>,
    warmup_messages: u64,
    messages: u64,
    measured_from_nanos: u64,
    end_nanos: u64,
    /// Of a ramp.
    steps: Arc<[Step]>,
}

/// A time of one rate.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Its first message.
    first: u64,
    from_nanos: u64,
    per_second: u64,
}

/// A part of the measured phase that has figures of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) rate: Rate,
    /// From the start of the run.
    pub(crate) from_nanos: u64,
    pub(crate) until_nanos: u64,
}

/// One shard's part of a [`Schedule`], in the order in which it is due.
#[derive(Clone, Debug)]
pub(crate) struct ShardSchedule {
    schedule: Schedule,
    /// That of `next`.
    segment: Segment,
    /// How many have been entered, and where the next one begins.
    entered: usize,
    segment_end: u64,
    next: u64,
    step: u64,
}

/// A message that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The message's number in the whole run, over all shards.
    pub(crate) index: u64,
    /// When it is due, in nanoseconds since the start of the run.
    pub(crate) offset_nanos: u64,
    /// Whether it belongs to the warm-up.
    pub(crate) is_warmup: bool,
}

impl Schedule {
    /// A warm-up of `warmup`, followed by `duration` that counts.
    ///
    /// In a closed loop nothing is due at any time; the phases are the same.
    pub(crate) fn of(pace: Pace, warmup: Duration, duration: Duration) -> Self {
        match pace {
            Pace::Steady(rate) => Self::new(rate, warmup, duration),
            Pace::Ramp(ramp) => Self::ramp(ramp, warmup, duration),
            Pace::Closed { .. } => Self {
                segments: [].into(),
                warmup_messages: 0,
                messages: 0,
                measured_from_nanos: nanos(warmup),
                end_nanos: nanos(warmup).saturating_add(nanos(duration)),
                steps: [].into(),
            },
        }
    }

    /// A warm-up of `warmup`, followed by `duration` that counts, both at `rate`.
    ///
    /// A duration too short for one message still has one.
    pub(crate) fn new(rate: Rate, warmup: Duration, duration: Duration) -> Self {
        let per_second = rate.per_second();
        let warmup_messages = messages_within(nanos(warmup), per_second);
        let messages = warmup_messages + messages_within(nanos(duration), per_second).max(1);
        let segment = Segment { first: 0, from_nanos: 0, per_second };
        Self {
            segments: [segment].into(),
            warmup_messages,
            messages,
            measured_from_nanos: segment.offset_nanos(warmup_messages),
            end_nanos: segment.offset_nanos(messages),
            steps: [].into(),
        }
    }

    /// A warm-up at the first of the rates, then each of them for its part of `duration`.
    fn ramp(ramp: Ramp, warmup: Duration, duration: Duration) -> Self {
        let measured_from_nanos = nanos(warmup);
        let rates = ramp.rates();
        let step_nanos = (nanos(duration) / rates.len() as u64).max(1);
        let mut segments = Vec::new();
        let mut steps = Vec::new();
        let (mut messages, mut from_nanos) = (0, 0);
        let mut add = |rate: Rate, span_nanos: u64| {
            segments.push(Segment { first: messages, from_nanos, per_second: rate.per_second() });
            messages += messages_within(span_nanos, rate.per_second()).max(1);
            from_nanos += span_nanos;
            (from_nanos, messages)
        };
        let mut warmup_messages = 0;
        if let Some(first) = ramp.rates().next().filter(|_| measured_from_nanos > 0) {
            (_, warmup_messages) = add(first, measured_from_nanos);
        }
        for rate in rates {
            let (until_nanos, _) = add(rate, step_nanos);
            steps.push(Step { rate, from_nanos: until_nanos - step_nanos, until_nanos });
        }
        Self {
            segments: segments.into(),
            warmup_messages,
            messages,
            measured_from_nanos,
            end_nanos: from_nanos,
            steps: steps.into(),
        }
    }

    /// When the first message that counts is due, in nanoseconds since the start.
    pub(crate) fn measured_from_nanos(&self) -> u64 {
        self.measured_from_nanos
    }

    /// When the schedule ends: where the message after the last would be due.
    pub(crate) fn end_nanos(&self) -> u64 {
        self.end_nanos
    }

    /// The steps of a ramp; none otherwise.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Messages a second that a ramp asks for at that time; none of another pace.
    pub(crate) fn step_rate(&self, at_nanos: u64) -> Option<u64> {
        let step = self.steps.iter().find(|step| at_nanos < step.until_nanos).or(self.steps.last());
        step.map(|step| step.rate.per_second())
    }

    /// How the time of the run is divided.
    pub(crate) fn window(&self) -> Window {
        let (from_nanos, until_nanos) = (self.measured_from_nanos(), self.end_nanos());
        let quarter = (until_nanos - from_nanos) / 4;
        Window { from_nanos, early_until_nanos: from_nanos + quarter, until_nanos }
    }

    /// The part of `shard`, one of `shards`.
    pub(crate) fn of_shard(&self, shard: usize, shards: usize) -> ShardSchedule {
        let nothing = Segment { first: 0, from_nanos: 0, per_second: 1 };
        let mut part = ShardSchedule {
            schedule: self.clone(),
            segment: nothing,
            entered: 0,
            segment_end: 0,
            next: shard as u64,
            step: shards.max(1) as u64,
        };
        part.enter_segments();
        part
    }
}

impl Segment {
    /// When a message of it is due. Whole seconds and the rest apart, so that no product leaves 64 bits.
    fn offset_nanos(&self, index: u64) -> u64 {
        let place = index - self.first;
        let seconds = place / self.per_second;
        let rest = place % self.per_second;
        self.from_nanos + seconds * NANOS_PER_SECOND + rest * NANOS_PER_SECOND / self.per_second
    }
}

impl ShardSchedule {
    /// The message to send next, without taking it; none when all have been taken.
    pub(crate) fn peek(&self) -> Option<Due> {
        let index = self.next;
        (index < self.schedule.messages).then(|| Due {
            index,
            offset_nanos: self.segment.offset_nanos(index),
            is_warmup: index < self.schedule.warmup_messages,
        })
    }

    /// Takes the message that [`peek`](Self::peek) showed: it has been sent.
    pub(crate) fn advance(&mut self) {
        self.next = self.next.saturating_add(self.step);
        if self.next >= self.segment_end {
            self.enter_segments();
        }
    }

    /// How many messages have not been taken.
    pub(crate) fn remaining(&self) -> u64 {
        self.schedule.messages.saturating_sub(self.next).div_ceil(self.step)
    }

    /// Goes on to the segment that the next message belongs to.
    fn enter_segments(&mut self) {
        while self.next >= self.segment_end
            && let Some(segment) = self.schedule.segments.get(self.entered)
        {
            self.segment = *segment;
            self.entered += 1;
            self.segment_end = self.schedule.segments.get(self.entered).map_or(u64::MAX, |next| next.first);
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn messages_within(span_nanos: u64, per_second: u64) -> u64 {
    let messages = u128::from(span_nanos) * u128::from(per_second) / u128::from(NANOS_PER_SECOND);
    u64::try_from(messages).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: &str, warmup_ms: u64, duration_ms: u64) -> Schedule {
        let rate = Rate::parse(rate).expect("a rate");
        Schedule::new(rate, Duration::from_millis(warmup_ms), Duration::from_millis(duration_ms))
    }

    fn collect(mut part: ShardSchedule) -> Vec<Due> {
        let mut all = Vec::new();
        while let Some(due) = part.peek() {
            all.push(due);
            part.advance();
        }
        all
    }

    #[test]
    fn shards_share_every_message_exactly_once() {
        let schedule = schedule("3k", 10, 90);
        for shards in [1, 2, 3, 7] {
            let mut all: Vec<Due> =
                (0..shards).flat_map(|shard| collect(schedule.of_shard(shard, shards))).collect();
            all.sort_by_key(|due| due.index);
            let indices: Vec<u64> = all.iter().map(|due| due.index).collect();
            assert_eq!(indices, (0..300).collect::<Vec<_>>(), "{shards} shards");
            assert_eq!(all.iter().filter(|due| due.is_warmup).count(), 30);
        }
    }

    #[test]
    fn message_i_is_due_at_i_over_rate() {
        let schedule = schedule("3", 0, 7_000);
        for due in collect(schedule.of_shard(0, 1)) {
            let exact = u128::from(due.index) * 1_000_000_000 / 3;
            assert_eq!(u128::from(due.offset_nanos), exact);
        }
        assert_eq!(schedule.end_nanos(), 7_000_000_000);
    }

    #[test]
    fn times_never_go_back_and_do_not_drift_over_a_long_run() {
        let schedule = schedule("7777", 0, 3_600_000);
        let mut part = schedule.of_shard(0, 1);
        part.next = schedule.messages - 1_000;
        let tail = collect(part);
        assert!(tail.is_sorted_by_key(|due| due.offset_nanos));
        assert_eq!(schedule.end_nanos(), 3_600_000_000_000);
    }

    #[test]
    fn the_highest_rate_has_times_too_at_the_end_of_a_day() {
        let schedule = schedule("10000M", 0, 86_400_000);
        assert_eq!((schedule.messages, schedule.end_nanos()), (864_000_000_000_000, 86_400_000_000_000));
        let mut part = schedule.of_shard(0, 1);
        part.next = schedule.messages - 1;
        assert_eq!(part.peek().map(|due| due.offset_nanos), Some(86_399_999_999_999));
    }

    #[test]
    fn a_taken_message_does_not_come_back_and_a_peeked_one_stays() {
        let mut part = schedule("1k", 0, 10).of_shard(1, 2);
        assert_eq!(part.peek(), part.peek());
        assert_eq!(part.peek().map(|due| due.index), Some(1));
        part.advance();
        assert_eq!(part.peek().map(|due| due.index), Some(3));
    }

    #[test]
    fn what_remains_is_what_can_still_be_taken() {
        for (shard, shards) in [(0, 1), (0, 3), (1, 3), (2, 3), (15, 16)] {
            let mut part = schedule("1k", 3, 7).of_shard(shard, shards);
            for left in (0..=part.remaining()).rev() {
                assert_eq!((part.remaining(), part.peek().is_some()), (left, left > 0), "{shard}/{shards}");
                part.advance();
            }
        }
    }

    #[test]
    fn a_run_too_short_for_a_message_has_one() {
        let schedule = schedule("1", 0, 1);
        assert_eq!(schedule.messages, 1);
        assert_eq!(schedule.measured_from_nanos(), 0);
    }

    #[test]
    fn a_ramp_keeps_each_rate_for_its_step_and_every_message_has_one_time() {
        let ramp = Ramp::parse("1k..3k/3").expect("a ramp");
        let second = Duration::from_secs;
        let schedule = Schedule::of(Pace::Ramp(ramp), second(1), second(6));
        assert_eq!((schedule.measured_from_nanos(), schedule.end_nanos()), (1_000_000_000, 7_000_000_000));
        let all = collect(schedule.of_shard(0, 1));
        assert_eq!(all.len(), 13_000);
        assert!(all.is_sorted_by_key(|due| due.offset_nanos));
        for step in schedule.steps() {
            let within = step.from_nanos..step.until_nanos;
            let count = all.iter().filter(|due| within.contains(&due.offset_nanos)).count() as u64;
            assert_eq!(count, 2 * step.rate.per_second(), "{step:?}");
            assert_eq!(schedule.step_rate(step.from_nanos), Some(step.rate.per_second()));
        }
        assert!(all.iter().all(|due| due.is_warmup == (due.offset_nanos < 1_000_000_000)));
        assert_eq!([0, u64::MAX].map(|at| schedule.step_rate(at)), [Some(1_000), Some(3_000)]);
    }

    #[test]
    fn shards_share_a_ramp_whatever_their_number() {
        let ramp = Ramp::parse("100..300/3").expect("a ramp");
        let schedule = Schedule::of(Pace::Ramp(ramp), Duration::ZERO, Duration::from_millis(300));
        let whole = collect(schedule.of_shard(0, 1));
        for shards in [2, 3, 7, 100] {
            let mut all: Vec<Due> =
                (0..shards).flat_map(|shard| collect(schedule.of_shard(shard, shards))).collect();
            all.sort_by_key(|due| due.index);
            assert_eq!(all, whole, "{shards} shards");
        }
    }

    #[test]
    fn a_closed_loop_has_phases_and_nothing_due() {
        let second = Duration::from_secs;
        let schedule = Schedule::of(Pace::Closed { concurrency: 3 }, second(2), second(5));
        assert_eq!((schedule.measured_from_nanos(), schedule.end_nanos()), (2_000_000_000, 7_000_000_000));
        let part = schedule.of_shard(0, 2);
        assert_eq!((part.peek(), part.remaining()), (None, 0));
        assert_eq!(schedule.step_rate(0), None);
    }
}
