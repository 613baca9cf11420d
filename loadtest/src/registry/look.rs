//! The main thread's look at a registry run, for the live view: the nodes, and how long a sample of the changes took.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::plan::node_name;
use super::protocol::{News, NodeNow, Order};
use super::{Cluster, unexpected};
use crate::clock::monotonic_nanos;
use crate::live::{Latencies, Pulse, Row, Screen, Snapshot, Table, Words, phase};
use crate::quantity::grouped;
use crate::scenario::RunError;
use crate::schedule::{Schedule, ShardSchedule};
use crate::series::interval_histogram;

/// Looks from time to time, when there is a screen to show it on.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) pulse: Pulse,
    schedule: Schedule,
    start_nanos: u64,
    latencies: Latencies,
    sample: Sample,
    /// What each node was like when it answered last, and whether it did so now.
    known: BTreeMap<usize, (NodeNow, bool)>,
}

/// Some of the changes, from when they were due until every node has seen them.
#[derive(Debug)]
struct Sample {
    /// All changes, from the next one on that is not due.
    due: ShardSchedule,
    nodes: u64,
    /// One of so many is taken.
    every: u64,
    pending: VecDeque<Pending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    node: usize,
    /// Among the node's own.
    number: u64,
    intended_nanos: u64,
}

const WORDS: Words = Words {
    things: "changes",
    sent: "made",
    delivered: "seen",
    under_way: "to be seen",
    latency: "converge",
};

/// Changes a second that are asked for; each order and answer has a few bytes for each.
const SAMPLE_PER_SECOND: u64 = 400;

/// What was not seen everywhere after so long is given up, as are the oldest beyond this number.
const PENDING_MAX: Duration = Duration::from_secs(5);
const PENDING_COUNT_MAX: usize = 2_000;

impl Look {
    /// Of `nodes` nodes, whose changes begin at this time.
    pub(super) fn new(pulse: Pulse, schedule: &Schedule, start_nanos: u64, nodes: usize, rate: u64) -> Self {
        Self {
            pulse,
            schedule: schedule.clone(),
            start_nanos,
            latencies: Latencies::default(),
            sample: Sample::new(schedule, nodes, rate),
            known: BTreeMap::new(),
        }
    }

    /// Takes what these nodes are like; of the others it is known what they were.
    fn heard(&mut self, nodes: Vec<NodeNow>) {
        self.known.values_mut().for_each(|(_, has_answered)| *has_answered = false);
        self.known.extend(nodes.into_iter().map(|node| (node.number, (node, true))));
    }

    fn show(&mut self, screen: &Screen, cluster: &Cluster<'_>, recent: &Histogram<u64>) {
        let elapsed_nanos = monotonic_nanos().saturating_sub(self.start_nanos);
        self.latencies.add(recent, elapsed_nanos >= self.schedule.measured_from_nanos());
        let all = cluster.options.nodes as u64;
        let sum = |of: fn(&NodeNow) -> u64| self.known.values().map(|(node, _)| of(node)).sum::<u64>();
        let (made, seen) = (sum(|node| node.made), sum(|node| node.seen));
        let rate_asked = cluster.options.rate.per_second();
        let row = |(node, has_answered): &(NodeNow, bool)| Row {
            name: node_name(node.number),
            count: node.seen,
            note: match has_answered {
                true => format!(
                    "{} of {all} up  {} services  {} made",
                    node.up,
                    grouped(node.listed),
                    grouped(node.made)
                ),
                false => "no answer".to_owned(),
            },
        };
        let is_in_faults = cluster.is_in_faults;
        screen.update(Snapshot {
            words: WORDS,
            phase: if is_in_faults { "faults" } else { phase(&self.schedule, elapsed_nanos) },
            elapsed: Duration::from_nanos(elapsed_nanos),
            whole: Duration::from_nanos(self.schedule.end_nanos()),
            measured_from: Duration::from_nanos(self.schedule.measured_from_nanos()),
            rate_asked,
            sent: made,
            delivered: seen,
            under_way: (made * (all - 1)).saturating_sub(seen),
            // More than those of a second.
            under_way_max: rate_asked.saturating_mul(all - 1),
            others: [
                ("false alarms", cluster.false_alarms),
                ("nodes", self.known.values().filter(|(_, has_answered)| *has_answered).count() as u64),
            ],
            recent: self.latencies.recent(),
            so_far: self.latencies.so_far(),
            tables: vec![Table {
                title: "nodes, and what each has seen",
                rows: self.known.values().map(row).collect(),
            }],
        });
    }
}

impl Sample {
    fn new(schedule: &Schedule, nodes: usize, rate: u64) -> Self {
        Self {
            due: schedule.of_shard(0, 1),
            nodes: nodes as u64,
            every: rate.div_ceil(SAMPLE_PER_SECOND).max(1),
            pending: VecDeque::new(),
        }
    }

    /// Takes what has become due by `now_nanos` of a run that began at `start_nanos`; gives up what is too old.
    fn advance(&mut self, start_nanos: u64, now_nanos: u64) {
        while let Some(due) = self.due.peek().filter(|due| start_nanos + due.offset_nanos <= now_nanos) {
            self.due.advance();
            // Every so many of each node's own, so that all nodes are in it.
            let number = due.index / self.nodes;
            if number.is_multiple_of(self.every) {
                let node = (due.index % self.nodes) as usize;
                let intended_nanos = start_nanos + due.offset_nanos;
                self.pending.push_back(Pending { node, number, intended_nanos });
            }
        }
        let oldest_nanos = now_nanos.saturating_sub(PENDING_MAX.as_nanos() as u64);
        while self.pending.len() > PENDING_COUNT_MAX
            || self.pending.front().is_some_and(|pending| pending.intended_nanos < oldest_nanos)
        {
            self.pending.pop_front();
        }
    }

    fn asked(&self) -> Vec<(usize, u64)> {
        self.pending.iter().map(|pending| (pending.node, pending.number)).collect()
    }

    /// Takes the answers, by process, and answers how long those took that every node has seen.
    fn answered(&mut self, seen_nanos: &[Vec<u64>]) -> Histogram<u64> {
        let mut converged = interval_histogram();
        let mut place = 0;
        self.pending.retain(|pending| {
            let times = seen_nanos.iter().map(|process| process.get(place).copied().unwrap_or(0));
            let last = times.map(|at| (at > 0).then_some(at)).try_fold(0, |last, at| Some(at?.max(last)));
            place += 1;
            if let Some(last) = last {
                converged.saturating_record(last.saturating_sub(pending.intended_nanos));
            }
            last.is_none()
        });
        converged
    }
}

impl Cluster<'_> {
    /// Looks at the nodes and shows them, whether it is time to or not.
    pub(super) fn look_now(&mut self) -> Result<(), RunError> {
        if let Some(look) = &mut self.look {
            look.pulse.hasten();
        }
        self.look()
    }

    /// Looks at the nodes and shows them, if it is time to. A process that stands still is not asked.
    pub(super) fn look(&mut self) -> Result<(), RunError> {
        let Some(mut look) = self.look.take_if(|look| look.pulse.is_due()) else { return Ok(()) };
        let Some(screen) = look.pulse.beat() else { return Ok(()) };
        look.sample.advance(look.start_nanos, monotonic_nanos());
        let asked: Vec<usize> =
            self.crew.fleet.running().into_iter().filter(|process| self.held != Some(*process)).collect();
        // In the faults there are no changes, and not everybody is there to see them.
        let changes = if self.is_in_faults { Vec::new() } else { look.sample.asked() };
        let answers = self.crew.ask_all(&asked, &Order::Look { changes })?;
        let (mut nodes, mut seen_nanos) = (Vec::new(), Vec::new());
        for (process, news) in asked.into_iter().zip(answers) {
            let News::Looked { nodes: of_process, seen_nanos: seen } = news else {
                return Err(unexpected(process));
            };
            nodes.extend(of_process);
            seen_nanos.push(seen);
        }
        look.heard(nodes);
        let recent = if self.is_in_faults { interval_histogram() } else { look.sample.answered(&seen_nanos) };
        look.show(screen, self, &recent);
        self.look = Some(look);
        Ok(())
    }

    /// Waits until `time`, and looks meanwhile.
    pub(super) fn look_until(&mut self, time: Instant) -> Result<(), RunError> {
        while Instant::now() < time && self.crew.interrupted().is_none() {
            let due = self.look.as_ref().and_then(|look| look.pulse.due());
            self.crew.wait_until(due.map_or(time, |due| due.min(time)))?;
            self.look()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Rate;

    const SECOND: u64 = 1_000_000_000;

    fn sample(rate: u64) -> Sample {
        let schedule = Schedule::new(Rate::of(rate), Duration::ZERO, Duration::from_secs(60));
        Sample::new(&schedule, 3, rate)
    }

    #[test]
    fn a_change_has_converged_when_the_last_process_has_seen_it() {
        let mut sample = sample(30);
        sample.advance(SECOND, SECOND + SECOND / 10);
        assert_eq!(sample.asked(), [(0, 0), (1, 0), (2, 0), (0, 1)]);
        // The second process has not seen the change of the third node; those of the first it saw last.
        let at = |millis: u64| SECOND + millis * 1_000_000;
        let converged =
            sample.answered(&[vec![at(1), at(41), at(90), at(103)], vec![at(2), at(50), 0, at(107)]]);
        assert_eq!(converged.len(), 3);
        // The second change, which was due after a thirtieth of a second.
        let longest = 50_000_000 - SECOND / 30;
        assert!(converged.max().abs_diff(longest) < longest / 50, "{}", converged.max());
        assert_eq!(sample.asked(), [(2, 0)]);
        assert_eq!(sample.answered(&[vec![], vec![]]).len(), 0, "an answer that is too short");
        assert_eq!(sample.asked().len(), 1);
    }

    #[test]
    fn the_sample_is_bounded_in_rate_in_number_and_in_time() {
        let mut sample = sample(120_000);
        for tenth in 1..=20 {
            sample.advance(0, tenth * SECOND / 10);
        }
        let taken = sample.pending.len() as u64;
        assert!((SAMPLE_PER_SECOND * 3 / 2..=SAMPLE_PER_SECOND * 5 / 2).contains(&taken), "{taken}");
        for node in 0..3 {
            assert!(sample.pending.iter().any(|pending| pending.node == node), "node {node}");
        }
        sample.advance(0, 20 * SECOND);
        let oldest = sample.pending.front().map(|pending| pending.intended_nanos);
        assert!(oldest >= Some(15 * SECOND), "{oldest:?}");
        assert!(sample.pending.len() <= PENDING_COUNT_MAX);
    }
}
