//! The open-loop schedule: when each message is due, whatever became of those before it.
//!
//! Message `i` of a run is due `i / rate` after the start. That time is fixed before the
//! run: a generator or a server that falls behind finds the next messages already overdue,
//! and the wait shows in the latencies instead of thinning the load. Shard `s` of `n`
//! sends the messages with `i % n == s`, so that together they keep the rate.

use std::time::Duration;

use crate::quantity::Rate;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Which messages a run has and when they are due, in nanoseconds since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    per_second: u64,
    warmup_messages: u64,
    messages: u64,
}

/// One shard's part of a [`Schedule`], in the order in which it is due.
#[derive(Clone, Debug)]
pub(crate) struct ShardSchedule {
    schedule: Schedule,
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
    /// A warm-up of `warmup`, followed by `duration` that counts, both at `rate`.
    ///
    /// A duration too short for one message still has one.
    pub(crate) fn new(rate: Rate, warmup: Duration, duration: Duration) -> Self {
        let per_second = rate.per_second();
        let within = |span: Duration| {
            let messages = span.as_nanos() * u128::from(per_second) / u128::from(NANOS_PER_SECOND);
            u64::try_from(messages).unwrap_or(u64::MAX / 4)
        };
        let warmup_messages = within(warmup);
        Self { per_second, warmup_messages, messages: warmup_messages + within(duration).max(1) }
    }

    /// When the first message that counts is due, in nanoseconds since the start.
    pub(crate) fn measured_from_nanos(&self) -> u64 {
        self.offset_nanos(self.warmup_messages)
    }

    /// When the schedule ends: where the message after the last would be due.
    pub(crate) fn end_nanos(&self) -> u64 {
        self.offset_nanos(self.messages)
    }

    /// The part of `shard`, one of `shards`.
    pub(crate) fn of_shard(&self, shard: usize, shards: usize) -> ShardSchedule {
        ShardSchedule { schedule: *self, next: shard as u64, step: shards.max(1) as u64 }
    }

    /// Whole seconds and the rest apart, so that no product leaves 64 bits.
    fn offset_nanos(&self, index: u64) -> u64 {
        let seconds = index / self.per_second;
        let rest = index % self.per_second;
        seconds * NANOS_PER_SECOND + rest * NANOS_PER_SECOND / self.per_second
    }
}

impl ShardSchedule {
    /// The message to send next, without taking it; none when all have been taken.
    pub(crate) fn peek(&self) -> Option<Due> {
        let index = self.next;
        (index < self.schedule.messages).then(|| Due {
            index,
            offset_nanos: self.schedule.offset_nanos(index),
            is_warmup: index < self.schedule.warmup_messages,
        })
    }

    /// Takes the message that [`peek`](Self::peek) showed: it has been sent.
    pub(crate) fn advance(&mut self) {
        self.next = self.next.saturating_add(self.step);
    }

    /// How many messages have not been taken.
    pub(crate) fn remaining(&self) -> u64 {
        self.schedule.messages.saturating_sub(self.next).div_ceil(self.step)
    }
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
}
