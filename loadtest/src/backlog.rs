//! Whether a schedule that is behind can still be kept, so that a run at a rate far beyond the machine ends when that is
//! known.
//!
//! A stall leaves a backlog too, but what sends faster than it falls due catches up. So two spans are looked at, once the
//! measured phase has begun: it is beyond hope when in each of them messages left, but less than half of what fell due,
//! and less than half was sent of all that had fallen due by then.

use std::time::Duration;

use crate::clock::measured_s;

/// Whoever sends tells it how far it is; once it has decided, it says no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    look: Look,
}

#[derive(Clone, Copy, Debug)]
enum Look {
    /// The first one, at this time or later.
    From {
        nanos: u64,
    },
    /// After one at this time, when a message was the next that was due then; so many spans were slow.
    After {
        nanos: u64,
        due_nanos: u64,
        slow: u32,
    },
    Decided,
}

/// In this time from the start of the measured phase it is decided, with some to spare: what happens later to a run is no
/// reason for patience.
pub(crate) const DECIDED_WITHIN: Duration = Duration::from_secs(3);

/// A line for people, told at once.
pub(crate) fn given_up(gave_up_nanos: u64, measured_from_nanos: u64) -> String {
    let seconds = measured_s(gave_up_nanos, measured_from_nanos);
    format!(
        "given up    after {seconds:.1} s of the measured phase: the machine cannot keep the rate; collecting"
    )
}

/// Before this nothing is said of a run.
const FIRST_NANOS: u64 = 1_000_000_000;

/// From one look to the next. A stall that ends in one span is no reason for the other to be slow.
const SPAN_NANOS: u64 = 500_000_000;
const SPANS: u32 = 2;

impl Backlog {
    /// Of a run whose measured phase begins at this time, on its clock.
    pub(crate) fn new(measured_from_nanos: u64) -> Self {
        Self { look: Look::From { nanos: measured_from_nanos.max(FIRST_NANOS) } }
    }

    /// Of a run that goes on however late it is.
    pub(crate) fn of_patience() -> Self {
        Self { look: Look::Decided }
    }

    /// Whether it is, when the message to send next was due at `due_nanos`; true at most once.
    pub(crate) fn is_beyond_hope(&mut self, now_nanos: u64, due_nanos: u64) -> bool {
        let slow = match self.look {
            Look::From { nanos } if now_nanos >= nanos => 0,
            Look::After { nanos, due_nanos: before, slow } if now_nanos >= nanos + SPAN_NANOS => {
                let passed = due_nanos.saturating_sub(before);
                let is_slow = passed > 0 && passed < (now_nanos - nanos) / 2 && due_nanos < now_nanos / 2;
                if is_slow { slow + 1 } else { u32::MAX }
            }
            _ => return false,
        };
        self.look = match slow {
            ..SPANS => Look::After { nanos: now_nanos, due_nanos, slow },
            SPANS.. => Look::Decided,
        };
        slow == SPANS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MILLI;

    /// When it is beyond hope, in milliseconds, where `due` says which message is next; looked at for ten seconds.
    fn check(measured_from_nanos: u64, due: impl Fn(u64) -> u64, expected: Option<u64>) {
        let mut backlog = Backlog::new(measured_from_nanos);
        let told: Vec<u64> =
            (0..10_000).filter(|ms| backlog.is_beyond_hope(ms * MILLI, due(ms * MILLI))).collect();
        assert_eq!(told, Vec::from_iter(expected));
    }

    #[test]
    fn a_rate_far_beyond_the_machine_is_told_a_second_after_the_first_look() {
        check(0, |now| now / 3, Some(2_000));
        check(3 * SECOND, |now| now / 10, Some(4_000));
        // On time, nearly, and at half the rate.
        check(0, |now| now + MILLI, None);
        check(0, |now| now / 10 * 9, None);
        check(0, |now| now / 2, None);
    }

    #[test]
    fn a_stall_is_no_rate_beyond_the_machine() {
        // All stands still until it is over, then what has waited is sent three times as fast as it was due.
        for (from, until) in [(0, 1_900), (0, 5_000), (1_200, 1_500), (900, 4_000)] {
            let (from, until) = (from * MILLI, until * MILLI);
            let due = |now: u64| match now {
                now if now < from => now,
                now if now < until => from,
                now => (from + (now - until) * 3).min(now),
            };
            check(SECOND, due, None);
        }
    }

    #[test]
    fn patience_has_no_end() {
        let mut backlog = Backlog::of_patience();
        assert!(!(0..100).any(|second| backlog.is_beyond_hope(second * SECOND, second)));
    }
}
