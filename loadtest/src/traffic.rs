//! What each message is: its topic and its size, both a function of the seed and the message's number.

use crate::keys::{KeyChoice, Keys};
use crate::quantity::Size;

/// The traffic of a run. The same seed gives the same topics, in the same order, of the same sizes.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    seed: u64,
    topics: Keys,
    size: Size,
}

impl Traffic {
    /// Traffic over `topics` topics (at least one), as likely as `choice` says.
    pub(crate) fn new(seed: u64, choice: KeyChoice, topics: usize, size: Size) -> Self {
        Self { seed, topics: Keys::new(choice, topics, seed), size }
    }

    /// How many topics there are.
    pub(crate) fn topics(&self) -> usize {
        self.topics.count()
    }

    /// The name of a topic; the seed is part of it, so that another seed spreads differently.
    pub(crate) fn topic_name(&self, topic: usize) -> String {
        format!("loadtest.{:x}.{topic}", self.seed)
    }

    /// The topic of message `index`.
    pub(crate) fn topic_of(&self, index: u64) -> usize {
        self.topics.key_of(index) as usize
    }

    /// The payload bytes of message `index`.
    pub(crate) fn size_bytes_of(&self, index: u64) -> usize {
        let span = (self.size.largest_bytes - self.size.smallest_bytes) as u64 + 1;
        if span == 1 {
            return self.size.smallest_bytes;
        }
        self.size.smallest_bytes + below(mix(!self.seed ^ mix(index)), span) as usize
    }

    /// The most payload bytes that a message can have.
    pub(crate) fn size_bytes_max(&self) -> usize {
        self.size.largest_bytes
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `bound`, from 64 random bits, without a division (Lemire, 2016).
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(seed: u64, topics: usize, size: &str) -> Traffic {
        Traffic::new(seed, KeyChoice::Uniform, topics, Size::parse(size, 1..=4096).expect("a size"))
    }

    #[test]
    fn the_same_seed_gives_the_same_traffic_and_another_another() {
        let (a, b, c) =
            (traffic(42, 100, "64..128"), traffic(42, 100, "64..128"), traffic(43, 100, "64..128"));
        let of = |traffic: &Traffic| {
            (0..1_000).map(|i| (traffic.topic_of(i), traffic.size_bytes_of(i))).collect::<Vec<_>>()
        };
        assert_eq!(of(&a), of(&b));
        assert_ne!(of(&a), of(&c));
        assert_ne!(a.topic_name(7), c.topic_name(7));
    }

    #[test]
    fn every_topic_gets_its_share() {
        let traffic = traffic(1, 100, "64");
        let mut hits = vec![0_u32; traffic.topics()];
        for index in 0..100_000 {
            hits[traffic.topic_of(index)] += 1;
        }
        // 1000 each, standard deviation 31: eight of them either way.
        assert!(hits.iter().all(|hits| (750..1250).contains(hits)), "{hits:?}");
    }

    #[test]
    fn sizes_fill_their_range_and_never_leave_it() {
        let traffic = traffic(9, 10, "64..67");
        let mut seen = [0_u32; 4];
        for index in 0..10_000 {
            seen[traffic.size_bytes_of(index) - 64] += 1;
        }
        assert!(seen.iter().all(|seen| *seen > 2_000), "{seen:?}");
    }
}
