//! What a run is, in a form that its processes can tell each other.

use std::time::{Duration, SystemTime};

use croupier::ClusterName;
use serde::{Deserialize, Serialize};

use crate::keys::KeyChoice;
use crate::options::RunOptions;
use crate::pace::Pace;
use crate::quantity::Size;
use crate::roles::Roles;
use crate::schedule::Schedule;
use crate::traffic::{Traffic, mix};
use crate::worker::Assignment;

/// All that the messages of a run follow from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Tells this run's messages from any other's.
    run: u64,
    roles: Roles,
    pace: Pace,
    warmup: Duration,
    duration: Duration,
    seed: u64,
    keys: KeyChoice,
    topics: usize,
    size: Size,
    timeout: Duration,
    has_faults: bool,
}

/// How long after the end of the schedule a shard that is behind may still send.
pub(crate) const OVERRUN_MAX: Duration = Duration::from_secs(5);

impl Plan {
    pub(crate) fn of(options: &RunOptions) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            run: mix(since_epoch.as_nanos() as u64 ^ mix(u64::from(std::process::id()))),
            roles: Roles {
                pattern: options.pattern,
                shards: options.shards * options.processes,
                publishers: options.publishers,
                subscribers: options.subscribers,
            },
            pace: options.pace,
            warmup: options.warmup,
            duration: options.duration,
            seed: options.seed,
            keys: options.keys,
            topics: options.topics,
            size: options.size,
            timeout: options.timeout,
            has_faults: !options.faults.is_empty(),
        }
    }

    /// For the shards of a process, which begin at `first_shard` among those of all.
    pub(crate) fn assignment(&self, clusters: Vec<ClusterName>, first_shard: usize) -> Assignment {
        Assignment {
            run: self.run,
            roles: self.roles,
            pace: self.pace,
            schedule: Schedule::of(self.pace, self.warmup, self.duration),
            traffic: Traffic::new(self.seed, self.keys, self.topics, self.size),
            clusters,
            overrun: OVERRUN_MAX,
            timeout: self.timeout,
            first_shard,
            has_faults: self.has_faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_way_to_another_process() {
        let plan = Plan::of(&RunOptions::default());
        let text = serde_json::to_string(&plan).expect("serialisable");
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("readable"), plan);
    }
}
