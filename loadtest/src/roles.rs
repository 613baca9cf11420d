//! Which shards publish, and which receive which topics: the same answer on every shard of every process.

use serde::{Deserialize, Serialize};

use crate::traffic::{below, mix};

/// What is sent, and who takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pattern {
    /// Many topics, each with one subscriber.
    Pubsub,
    /// Few topics, each with many subscribers.
    Fanout,
    /// Requests, each answered by the one who serves its topic.
    Reqrep,
}

/// The parts of the shards, which are numbered through all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Roles {
    pub(crate) pattern: Pattern,
    /// Of all processes together.
    pub(crate) shards: usize,
    /// The first so many shards publish.
    pub(crate) publishers: usize,
    /// The last so many shards receive; of a fan-out the subscribers of each topic, over all shards.
    pub(crate) subscribers: usize,
}

impl Pattern {
    /// As the scenario is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pubsub => "pubsub",
            Self::Fanout => "fanout",
            Self::Reqrep => "reqrep",
        }
    }

    /// What is sent is called.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Pubsub | Self::Fanout => "messages",
            Self::Reqrep => "requests",
        }
    }
}

impl Roles {
    /// How often each message is to arrive.
    pub(crate) fn copies(&self) -> usize {
        match self.pattern {
            Pattern::Pubsub | Pattern::Reqrep => 1,
            Pattern::Fanout => self.subscribers,
        }
    }

    /// How many subscriptions to topic `number` a shard has; `home` is the shard that the runtime would give
    /// the topic to, if there is only one process.
    pub(crate) fn subscriptions(&self, number: usize, home: Option<usize>, shard: usize) -> usize {
        match self.pattern {
            Pattern::Fanout => {
                let place = (shard + self.shards - number % self.shards) % self.shards;
                self.subscribers / self.shards + usize::from(place < self.subscribers % self.shards)
            }
            Pattern::Pubsub | Pattern::Reqrep => usize::from(self.receiver(number, home) == shard),
        }
    }

    /// The shard that receives a topic which has one subscriber.
    fn receiver(&self, number: usize, home: Option<usize>) -> usize {
        match home {
            Some(home) if self.subscribers == self.shards => home,
            _ => {
                let place = below(mix(number as u64), self.subscribers as u64) as usize;
                self.shards - self.subscribers + place
            }
        }
    }

    /// How many messages of a closed loop of `concurrency` a publisher has under way at most.
    pub(crate) fn share_of(&self, concurrency: usize, publisher: usize) -> usize {
        concurrency / self.publishers + usize::from(publisher < concurrency % self.publishers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(pattern: Pattern, shards: usize, subscribers: usize) -> Roles {
        Roles { pattern, shards, publishers: shards, subscribers }
    }

    fn all(roles: &Roles, number: usize, home: Option<usize>) -> Vec<usize> {
        (0..roles.shards).map(|shard| roles.subscriptions(number, home, shard)).collect()
    }

    #[test]
    fn a_topic_has_one_subscriber_among_those_that_receive() {
        for pattern in [Pattern::Pubsub, Pattern::Reqrep] {
            for subscribers in 1..=4 {
                let roles = roles(pattern, 4, subscribers);
                let mut hits = [0; 4];
                for number in 0..1_000 {
                    let at = all(&roles, number, None);
                    assert_eq!(at.iter().sum::<usize>(), 1);
                    (0..4).for_each(|shard| hits[shard] += at[shard]);
                }
                assert!(hits[..4 - subscribers].iter().all(|hits| *hits == 0), "{hits:?}");
                assert!(hits[4 - subscribers..].iter().all(|hits| *hits > 150), "{hits:?}");
            }
        }
    }

    #[test]
    fn where_all_receive_a_topic_is_received_at_its_home() {
        assert_eq!(all(&roles(Pattern::Pubsub, 3, 3), 7, Some(1)), [0, 1, 0]);
        assert_eq!(all(&roles(Pattern::Pubsub, 3, 1), 7, Some(1)), [0, 0, 1]);
    }

    #[test]
    fn the_subscribers_of_a_fan_out_are_spread_and_none_is_missing() {
        for subscribers in [1, 2, 3, 8, 10] {
            let roles = roles(Pattern::Fanout, 3, subscribers);
            assert_eq!(roles.copies(), subscribers);
            for number in 0..7 {
                let at = all(&roles, number, Some(0));
                assert_eq!(at.iter().sum::<usize>(), subscribers);
                assert!(at.iter().max().unwrap_or(&0) - at.iter().min().unwrap_or(&0) <= 1, "{at:?}");
            }
        }
    }

    #[test]
    fn a_closed_loop_is_shared_out_whole() {
        let roles = Roles { publishers: 3, ..roles(Pattern::Pubsub, 4, 4) };
        for concurrency in 1..20 {
            let sum: usize = (0..3).map(|publisher| roles.share_of(concurrency, publisher)).sum();
            assert_eq!(sum, concurrency);
        }
    }
}
