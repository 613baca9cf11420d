//! How many messages of a publisher are under way, where the next one waits for one of them to arrive.

/// One publisher's count. A message that is to arrive several times is under way until all its copies have.
#[derive(Clone, Debug)]
pub(crate) struct ClosedLoop {
    concurrency: u64,
    copies: u64,
    sent: u64,
    /// Copies that are waited for no more.
    written_off: u64,
    /// Copies that had arrived when it was last looked, and when that number last changed.
    arrived: u64,
    changed_nanos: u64,
}

/// What has not arrived when nothing at all has arrived for so long is waited for no more: the loop would
/// stand still for ever after a loss.
const PATIENCE_NANOS: u64 = 1_000_000_000;

impl ClosedLoop {
    pub(crate) fn new(concurrency: usize, copies: usize) -> Self {
        let (concurrency, copies) = (concurrency as u64, copies.max(1) as u64);
        Self { concurrency, copies, sent: 0, written_off: 0, arrived: 0, changed_nanos: 0 }
    }

    pub(crate) fn sent(&mut self) {
        self.sent += 1;
    }

    /// Whether one more may be sent, when so many copies have `arrived` in all.
    pub(crate) fn has_room(&mut self, arrived: u64, now_nanos: u64) -> bool {
        // What arrives after it was written off makes room for one more than it should, once.
        let expected = (self.sent * self.copies).saturating_sub(self.written_off);
        let under_way = expected.saturating_sub(arrived);
        if arrived != self.arrived || under_way == 0 {
            (self.arrived, self.changed_nanos) = (arrived, now_nanos);
        } else if now_nanos.saturating_sub(self.changed_nanos) >= PATIENCE_NANOS {
            self.written_off += under_way;
            self.changed_nanos = now_nanos;
            return self.concurrency > 0;
        }
        under_way.div_ceil(self.copies) < self.concurrency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_waits_for_one_of_those_under_way() {
        let mut closed = ClosedLoop::new(2, 1);
        for _ in 0..2 {
            assert!(closed.has_room(0, 5));
            closed.sent();
        }
        assert!(!closed.has_room(0, 6));
        assert!(closed.has_room(1, 7));
        closed.sent();
        assert!(!closed.has_room(1, 8));
        assert!(closed.has_room(3, 9));
    }

    #[test]
    fn a_message_is_under_way_until_all_its_copies_have_arrived() {
        let mut closed = ClosedLoop::new(1, 3);
        assert!(closed.has_room(0, 0));
        closed.sent();
        for arrived in 0..3 {
            assert!(!closed.has_room(arrived, 1), "{arrived}");
        }
        assert!(closed.has_room(3, 2));
    }

    #[test]
    fn what_is_lost_does_not_hold_up_the_loop_for_ever() {
        let mut closed = ClosedLoop::new(2, 1);
        assert!(closed.has_room(0, 0));
        closed.sent();
        closed.sent();
        assert!(!closed.has_room(0, PATIENCE_NANOS - 1));
        assert!(closed.has_room(0, PATIENCE_NANOS));
        closed.sent();
        assert!(closed.has_room(0, PATIENCE_NANOS + 1));
        closed.sent();
        assert!(!closed.has_room(0, PATIENCE_NANOS + 2));
        assert!(closed.has_room(1, PATIENCE_NANOS + 3));
    }

    #[test]
    fn a_publisher_without_a_share_sends_nothing() {
        let mut closed = ClosedLoop::new(0, 1);
        for now in [0, 1, PATIENCE_NANOS, 5 * PATIENCE_NANOS] {
            assert!(!closed.has_room(0, now));
        }
    }
}
