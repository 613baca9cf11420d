//! Which messages arrived, by publisher and topic: new, late, or twice.
//!
//! For each publisher and topic the checker keeps the next sequence that it expects, a
//! window of the last 64 sequences, and how many sequences left that window unseen. One
//! message costs a load, a shift and a store; nothing is allocated after the start.
//!
//! A sequence that arrives after a higher one is *reordered*; one that arrives again is a
//! *duplicate*. Behind the window the two cannot be told apart by the bits: there a late
//! message counts as reordered while its stream has sequences that left the window
//! unseen, and as a duplicate when it has none, so that the number of distinct messages
//! never exceeds what the stream can have sent. What is lost is what was sent and never
//! became distinct, counted when the run has ended.

/// What an arrival means to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Seen for the first time, and above everything before it.
    InOrder,
    /// Seen for the first time, after a higher one.
    Reordered,
    /// Seen before.
    Duplicate,
}

/// The state of every stream that one subscriber receives.
#[derive(Debug)]
pub(crate) struct Checker {
    streams: Vec<Stream>,
    publishers: usize,
}

#[derive(Clone, Debug)]
struct Stream {
    next: u64,
    /// Bit k says that sequence `next - 1 - k` was seen. Sequences below zero count as seen.
    seen: u64,
    /// Sequences that left the window unseen.
    unseen_behind: u64,
}

const WINDOW: u64 = u64::BITS as u64;

impl Checker {
    /// A checker for `topics` topics, each with `publishers` publishers.
    ///
    /// It takes 24 bytes for each pair.
    pub(crate) fn new(topics: usize, publishers: usize) -> Self {
        let fresh = Stream { next: 0, seen: u64::MAX, unseen_behind: 0 };
        Self { streams: vec![fresh; topics * publishers], publishers }
    }

    /// Judges an arrival; none when there is no such topic, publisher or sequence.
    pub(crate) fn arrive(&mut self, topic: usize, publisher: usize, sequence: u64) -> Option<Arrival> {
        if publisher >= self.publishers || sequence == u64::MAX {
            return None;
        }
        self.streams.get_mut(topic * self.publishers + publisher).map(|stream| stream.arrive(sequence))
    }
}

impl Stream {
    fn arrive(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            self.move_window_to(sequence);
            return Arrival::InOrder;
        }
        let age = self.next - 1 - sequence;
        if age < WINDOW {
            let bit = 1 << age;
            if self.seen & bit != 0 {
                return Arrival::Duplicate;
            }
            self.seen |= bit;
            return Arrival::Reordered;
        }
        if self.unseen_behind == 0 {
            return Arrival::Duplicate;
        }
        self.unseen_behind -= 1;
        Arrival::Reordered
    }

    fn move_window_to(&mut self, sequence: u64) {
        let skipped = sequence - self.next;
        if skipped + 1 < WINDOW {
            let step = skipped + 1;
            let leaving = self.seen >> (WINDOW - step);
            self.unseen_behind += step - u64::from(leaving.count_ones());
            self.seen = (self.seen << step) | 1;
        } else {
            self.unseen_behind += u64::from(self.seen.count_zeros()) + (skipped + 1 - WINDOW);
            self.seen = 1;
        }
        self.next = sequence + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::mix;
    use std::collections::BTreeSet;

    /// (in order, reordered, duplicate) of one stream.
    fn tally(sequences: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut checker = Checker::new(1, 1);
        let mut counts = (0, 0, 0);
        for sequence in sequences {
            match checker.arrive(0, 0, sequence).expect("the stream exists") {
                Arrival::InOrder => counts.0 += 1,
                Arrival::Reordered => counts.1 += 1,
                Arrival::Duplicate => counts.2 += 1,
            }
        }
        counts
    }

    #[test]
    fn a_stream_in_order_is_all_in_order() {
        assert_eq!(tally(0..1_000), (1_000, 0, 0));
    }

    #[test]
    fn a_hole_is_neither_reordered_nor_duplicate() {
        assert_eq!(tally([0, 1, 3, 4]), (4, 0, 0));
        assert_eq!(tally((0..10).chain(500..510)), (20, 0, 0));
        assert_eq!(tally([5]), (1, 0, 0));
    }

    #[test]
    fn a_late_one_is_reordered_once_and_then_a_duplicate() {
        assert_eq!(tally([0, 2, 1]), (2, 1, 0));
        assert_eq!(tally([0, 2, 1, 1, 1]), (2, 1, 2));
        assert_eq!(tally([1, 0, 0]), (1, 1, 1));
    }

    #[test]
    fn what_repeats_at_once_is_a_duplicate() {
        assert_eq!(tally([0, 0, 1, 1, 1, 2]), (3, 0, 3));
    }

    #[test]
    fn behind_the_window_a_missing_one_is_reordered_and_a_full_stream_knows_its_duplicates() {
        assert_eq!(tally([0].into_iter().chain(2..500).chain([1])), (499, 1, 0));
        assert_eq!(tally([0].into_iter().chain(2..500).chain([1, 1])), (499, 1, 1));
        assert_eq!(tally((0..500).chain([1])), (500, 0, 1));
    }

    #[test]
    fn jumps_around_the_size_of_the_window_keep_the_count_of_the_unseen() {
        for jump in [62, 63, 64, 65, 127, 128, 129] {
            // 0, then `jump`, then everything between: each is late once, then twice.
            let between = || 1..jump;
            let (in_order, reordered, duplicate) =
                tally([0, jump].into_iter().chain(between()).chain(between()));
            assert_eq!((in_order, reordered, duplicate), (2, jump - 1, jump - 1), "jump {jump}");
        }
    }

    #[test]
    fn random_mischief_inside_the_window_is_counted_as_by_a_set() {
        for seed in 0..200_u64 {
            let mut arrivals: Vec<(u64, u64)> = Vec::new();
            for sequence in 0..2_000 {
                let random = mix(mix(seed) ^ sequence);
                // One of 16 is dropped, one of 16 comes twice; each is moved by up to 24 places.
                let copies = match random & 15 {
                    0 => 0,
                    1 => 2,
                    _ => 1,
                };
                for copy in 0..copies {
                    arrivals.push((sequence + (mix(random ^ copy) % 24), sequence));
                }
            }
            arrivals.sort_unstable();

            let mut expected = (0, 0, 0);
            let mut seen = BTreeSet::new();
            for (_, sequence) in &arrivals {
                let above_all = seen.last().is_none_or(|last| sequence > last);
                match (seen.insert(*sequence), above_all) {
                    (true, true) => expected.0 += 1,
                    (true, false) => expected.1 += 1,
                    (false, _) => expected.2 += 1,
                }
            }
            let counted = tally(arrivals.iter().map(|(_, sequence)| *sequence));
            assert_eq!(counted, expected, "seed {seed}");
        }
    }

    #[test]
    fn streams_do_not_mix() {
        let mut checker = Checker::new(3, 2);
        for topic in 0..3 {
            for publisher in 0..2 {
                assert_eq!(checker.arrive(topic, publisher, 0), Some(Arrival::InOrder));
            }
        }
        assert_eq!(checker.arrive(1, 1, 0), Some(Arrival::Duplicate));
        assert_eq!(checker.arrive(3, 0, 0), None);
        assert_eq!(checker.arrive(0, 2, 0), None);
    }

    #[test]
    fn no_sequence_can_panic() {
        assert_eq!(Checker::new(1, 1).arrive(0, 0, u64::MAX), None);
        assert_eq!(tally([u64::MAX - 1, 0, u64::MAX - 1, u64::MAX - 2]), (1, 2, 1));
    }
}
