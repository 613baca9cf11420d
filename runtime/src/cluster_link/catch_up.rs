//! How what gathered during an outage leaves: not at once, but evenly over a short time.
//!
//! A server that comes back is met by all of its clients, each with what waited. Sent at once, that is a burst which
//! takes the processors that the server and this node share with others, and what of it arrives before the
//! subscribers are back finds nobody. So the subscriptions go first, and the messages follow within a tenth
//! of the time that they waited.

use std::time::{Duration, Instant};

/// Less than this leaves at once.
const BYTES_MIN: usize = 64 << 10;
/// Time between two portions. One system call sends many messages then, and few bring them to the server, which keeps
/// the work beside them small.
const STEP: Duration = Duration::from_millis(4);
/// The part of the outage that the backlog takes to leave.
const PART_OF_OUTAGE: u32 = 10;
/// The part of that time which passes before the first portion: the other shards and nodes subscribe meanwhile.
const QUIET_PART: u32 = 4;

/// A backlog that is leaving.
#[derive(Clone, Copy, Debug)]
pub(super) struct CatchUp {
    backlog_bytes: usize,
    /// When the first portion leaves, and over which time the others follow.
    from: Instant,
    over: Duration,
    next: Instant,
}

impl CatchUp {
    /// For what gathered during an outage; `None` when it is so little, or was so short, that all of it may leave at
    /// once. It never takes longer than `longest`.
    pub(super) fn begin(
        backlog_bytes: usize,
        outage: Duration,
        longest: Duration,
        now: Instant,
    ) -> Option<CatchUp> {
        let whole = (outage / PART_OF_OUTAGE).min(longest);
        let quiet = whole / QUIET_PART;
        let from = now + quiet;
        (backlog_bytes >= BYTES_MIN && whole >= STEP).then_some(CatchUp {
            backlog_bytes,
            from,
            over: whole - quiet,
            next: from,
        })
    }

    /// When the next portion is due.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// A portion may leave: how many bytes may still wait, if any.
    pub(super) fn step(&mut self, now: Instant) -> Option<usize> {
        self.next = now + STEP;
        let left = self.over.saturating_sub((now + STEP).saturating_duration_since(self.from));
        // In whole numbers, for which no backlog is too large: 2^64 bytes times a second are below 2^128.
        let waiting = self.backlog_bytes as u128 * left.as_nanos() / self.over.as_nanos().max(1);
        usize::try_from(waiting).ok().filter(|waiting| *waiting > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn little_or_after_a_short_outage_leaves_at_once() {
        let begin = |bytes, outage, longest| {
            let millis = Duration::from_millis;
            CatchUp::begin(bytes, millis(outage), millis(longest), Instant::now()).is_some()
        };
        assert!(begin(BYTES_MIN, 2000, 200));
        assert!(begin(BYTES_MIN, 40, 200));
        assert!(!begin(BYTES_MIN - 1, 2000, 200), "little");
        assert!(!begin(BYTES_MIN, 39, 200), "a short outage");
        assert!(!begin(BYTES_MIN, 2000, 0), "turned off");
    }

    #[test]
    fn nothing_leaves_while_others_subscribe_and_then_as_much_in_each_portion() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let (outage, longest) = (Duration::from_secs(2), Duration::from_secs(1));
        let mut catch_up = CatchUp::begin(1_500_000, outage, longest, now).unwrap();
        assert_eq!(catch_up.due(), at(50));
        assert_eq!(catch_up.step(at(50)), Some(1_460_000));
        assert_eq!(catch_up.due(), at(54));
        assert_eq!(catch_up.step(at(54)), Some(1_420_000));
        // Late is caught up with.
        assert_eq!(catch_up.step(at(126)), Some(700_000));
        assert_eq!(catch_up.step(at(194)), Some(20_000));
        assert_eq!(catch_up.step(at(198)), None);
    }

    proptest! {
        #[test]
        fn it_ends_in_time_and_never_takes_anything_back(
            backlog_bytes in BYTES_MIN..usize::MAX,
            outage_millis in 0..100_000_000_u64,
            longest_millis in 0..1000_u64,
            late_millis in prop::collection::vec(0..20_u64, 300),
        ) {
            let now = Instant::now();
            let longest = Duration::from_millis(longest_millis);
            let outage = Duration::from_millis(outage_millis);
            let Some(mut catch_up) = CatchUp::begin(backlog_bytes, outage, longest, now) else { return Ok(()) };
            let mut waiting_bytes = backlog_bytes;
            for late in late_millis {
                let at = catch_up.due() + Duration::from_millis(late);
                let Some(waiting) = catch_up.step(at) else {
                    // Less than a byte is nothing.
                    let end = now + longest.min(outage / PART_OF_OUTAGE);
                    prop_assert!(at + STEP + Duration::from_millis(1) >= end);
                    return Ok(());
                };
                prop_assert!(waiting <= waiting_bytes);
                prop_assert!(at < now + longest);
                waiting_bytes = waiting;
            }
            prop_assert!(false, "it does not end");
        }
    }
}
