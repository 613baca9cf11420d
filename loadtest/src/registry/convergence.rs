//! From what every node did and saw to when each change had reached all of them.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::{Change, addition_of, change, removal_of, update_of};
use super::protocol::Record;
use crate::recorder::{histogram, medians, merge};
use crate::schedule::Schedule;
use crate::series::{Series, Timed};

/// The changes of one phase. Each is to be seen by every node but its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(crate) struct ChangeCounts {
    pub(crate) changes: u64,
    pub(crate) adds: u64,
    pub(crate) updates: u64,
    pub(crate) removals: u64,
    /// Changes times the nodes that had to see each.
    pub(crate) to_be_seen: u64,
    pub(crate) seen: u64,
    pub(crate) missing: u64,
    /// Of services that came and went while a node was so far behind that it was told neither.
    pub(crate) never_shown: u64,
    /// Seen before they were made.
    pub(crate) impossible: u64,
}

/// All that the records say.
#[derive(Debug)]
pub(crate) struct Convergence {
    pub(crate) warmup: ChangeCounts,
    pub(crate) measured: ChangeCounts,
    /// From the intended time to the last node, in the first quarter of the measured phase and after it.
    early: Histogram<u64>,
    late: Histogram<u64>,
    /// From the intended time to the first other node.
    pub(crate) first: Histogram<u64>,
    /// From the actual time to the last node.
    pub(crate) wire: Histogram<u64>,
    /// From the intended to the actual time.
    pub(crate) lag: Histogram<u64>,
    /// Changes that the schedule held and that were not made.
    pub(crate) unsent: u64,
    /// Sightings that a later change of the same service stands for.
    pub(crate) superseded: u64,
    /// Sightings that came again.
    pub(crate) repeated: u64,
    /// Events that no change explains.
    pub(crate) unexplained: u64,
    /// When the last measured change was made, in nanoseconds since the start.
    pub(crate) last_made_nanos: u64,
    /// Changes of each node.
    pub(crate) made: Vec<u64>,
    /// Made as sent, seen by the last node as delivered.
    pub(crate) series: Series,
}

impl Convergence {
    /// Reads the records of all `nodes` nodes, one each, whose schedule began at `start_nanos`.
    pub(crate) fn of(records: &[Record], nodes: usize, schedule: &Schedule, start_nanos: u64) -> Self {
        let mut found = Self {
            warmup: ChangeCounts::default(),
            measured: ChangeCounts::default(),
            early: histogram(),
            late: histogram(),
            first: histogram(),
            wire: histogram(),
            lag: histogram(),
            unsent: 0,
            superseded: 0,
            repeated: 0,
            unexplained: 0,
            last_made_nanos: 0,
            made: vec![0; nodes],
            series: Series::new(schedule.window(), 0),
        };
        let (from, end) = (schedule.measured_from_nanos(), schedule.end_nanos());
        let early_until = from + (end - from) / 4;
        for node in 0..nodes {
            let made_nanos = records.iter().find(|record| record.node == node);
            let made_nanos = made_nanos.map_or(&[][..], |record| &record.made_nanos);
            found.made[node] = made_nanos.len() as u64;
            let others = || records.iter().filter(|record| record.node != node);
            for seen in others().filter_map(|record| record.sightings.get(node)) {
                found.superseded += seen.superseded;
                found.repeated += seen.repeated;
                found.unexplained += seen.unexplained;
            }
            let mut part = schedule.of_shard(node, nodes);
            let mut number = 0;
            while let Some(due) = part.peek() {
                part.advance();
                let Some(made) = made_nanos.get(number) else {
                    found.unsent += 1;
                    continue;
                };
                let seen = |record: &Record| {
                    let at = record.sightings.get(node)?.seen_nanos.get(number).copied();
                    at.filter(|at| *at > 0)
                };
                let seen: Vec<Option<u64>> = others().map(seen).collect();
                let made_in_all = made_nanos.len() as u64;
                let is_never_shown = |record: &&Record| never_shown(record, node, number as u64, made_in_all);
                let never_shown = others().filter(is_never_shown).count() as u64;
                found.count(number as u64, due.is_warmup, *made, &seen, never_shown);
                number += 1;
                // A change that some node never saw has reached nobody last: it is told as missing.
                let all: Option<Vec<u64>> = seen.into_iter().collect();
                found.series.sent(1, due.offset_nanos, made.saturating_sub(start_nanos));
                let intended = start_nanos + due.offset_nanos;
                let lag = made.saturating_sub(intended);
                found.series.timed(Timed::Lag, due.offset_nanos, lag);
                let ends = all.and_then(|all| Some((*all.iter().min()?, *all.iter().max()?)));
                if let Some((first, last)) = ends {
                    found.series.delivered(due.offset_nanos, last.saturating_sub(start_nanos), 0);
                    found.series.timed(Timed::First, due.offset_nanos, first.saturating_sub(intended));
                    found.series.timed(Timed::Wire, due.offset_nanos, last.saturating_sub(*made));
                }
                if due.is_warmup {
                    continue;
                }
                found.lag.saturating_record(lag);
                found.last_made_nanos = found.last_made_nanos.max(made.saturating_sub(start_nanos));
                if let Some((first, last)) = ends {
                    let converge =
                        if due.offset_nanos < early_until { &mut found.early } else { &mut found.late };
                    converge.saturating_record(last.saturating_sub(intended));
                    found.first.saturating_record(first.saturating_sub(intended));
                    found.wire.saturating_record(last.saturating_sub(*made));
                }
            }
        }
        found
    }

    /// From the intended time to the last node, over the whole measured phase.
    pub(crate) fn converge(&self) -> Histogram<u64> {
        let mut all = self.early.clone();
        merge(&mut all, &self.late);
        all
    }

    /// The medians of the first quarter and of the rest.
    pub(crate) fn medians(&self) -> Option<(u64, u64)> {
        medians(&self.early, &self.late)
    }

    fn count(&mut self, number: u64, is_warmup: bool, made: u64, seen: &[Option<u64>], never_shown: u64) {
        let counts = if is_warmup { &mut self.warmup } else { &mut self.measured };
        counts.changes += 1;
        match change(number) {
            Change::Add { .. } => counts.adds += 1,
            Change::Update { .. } => counts.updates += 1,
            Change::Remove { .. } => counts.removals += 1,
        }
        let to_be_seen = seen.len() as u64;
        let times = || seen.iter().flatten();
        counts.to_be_seen += to_be_seen;
        counts.seen += times().count() as u64;
        counts.missing += to_be_seen.saturating_sub(times().count() as u64 + never_shown);
        counts.never_shown += never_shown;
        counts.impossible += times().filter(|at| **at < made).count() as u64;
    }
}

/// Whether change `number` of `node`, which made `made` of them, is of a service that was added and removed
/// again while the observer saw nothing of it. Nodes tell each other states: that is no fault of theirs.
fn never_shown(observer: &Record, node: usize, number: u64, made: u64) -> bool {
    let (Change::Add { serial } | Change::Update { serial } | Change::Remove { serial }) = change(number);
    let Some(addition) = addition_of(serial) else { return false };
    let Some(removal) = removal_of(serial).filter(|removal| *removal < made) else { return false };
    let is_unseen = |number: u64| {
        let seen = observer.sightings.get(node).and_then(|seen| seen.seen_nanos.get(number as usize));
        seen == Some(&0)
    };
    [Some(addition), update_of(serial), Some(removal)].into_iter().flatten().all(is_unseen)
}

#[cfg(test)]
mod tests {
    use super::super::tracker::Sightings;
    use super::*;
    use crate::quantity::Rate;
    use std::time::Duration;

    const START: u64 = 1_000_000_000_000;
    const MILLI: u64 = 1_000_000;

    /// Three nodes at 1000 changes a second: 30 in the warm-up, 300 that count. Each change is made 10 us
    /// late, and the m-th node sees it m x 100 us after it was made.
    fn records() -> (Vec<Record>, Schedule) {
        let schedule = Schedule::new(Rate::of(1_000), Duration::from_millis(30), Duration::from_millis(300));
        let made = |node: usize| -> Vec<u64> {
            let mut part = schedule.of_shard(node, 3);
            std::iter::from_fn(|| {
                let due = part.peek()?;
                part.advance();
                Some(START + due.offset_nanos + 10_000)
            })
            .collect()
        };
        let sightings = |observer: usize, origin: usize| {
            let times = made(origin).into_iter().map(|at| at + 100_000 * (observer as u64 + 1));
            let seen_nanos: Vec<u64> = if observer == origin { Vec::new() } else { times.collect() };
            Sightings { seen: seen_nanos.len() as u64, seen_nanos, ..Sightings::default() }
        };
        let record = |node| Record {
            node,
            made_nanos: made(node),
            sightings: (0..3).map(|origin| sightings(node, origin)).collect(),
        };
        ((0..3).map(record).collect(), schedule)
    }

    #[test]
    fn a_change_has_converged_when_the_last_node_has_seen_it() {
        let (records, schedule) = records();
        let found = Convergence::of(&records, 3, &schedule, START);
        let counts = found.measured;
        assert_eq!((counts.changes, counts.adds, counts.updates, counts.removals), (300, 99, 102, 99));
        assert_eq!((counts.to_be_seen, counts.seen, counts.missing, counts.impossible), (600, 600, 0, 0));
        assert_eq!((found.warmup.changes, found.warmup.seen, found.unsent), (30, 60, 0));
        assert_eq!(found.made, [110, 110, 110]);
        let close = |nanos: u64, exact: u64| nanos.abs_diff(exact) <= exact / 1_000;
        // The last of the three nodes takes 300 us, except for its own changes, where the second does.
        let converge = found.converge();
        assert!(close(converge.max(), 310_000) && close(converge.min(), 210_000));
        assert!(close(found.first.max(), 210_000) && close(found.first.min(), 110_000));
        assert!(close(found.wire.max(), 300_000) && close(found.lag.max(), 10_000));
        assert_eq!((converge.len(), found.wire.len(), found.lag.len()), (300, 300, 300));
        assert_eq!(found.last_made_nanos, 329 * MILLI + 10_000);
    }

    #[test]
    fn what_one_node_missed_is_missing_and_in_no_latency() {
        let (mut records, schedule) = records();
        records[2].sightings[0].seen_nanos[50] = 0;
        let found = Convergence::of(&records, 3, &schedule, START);
        assert_eq!((found.measured.seen, found.measured.missing), (599, 1));
        assert_eq!(found.converge().len(), 299);
    }

    #[test]
    fn a_service_that_came_and_went_unseen_is_not_missing() {
        let schedule = Schedule::new(Rate::of(1_000), Duration::ZERO, Duration::from_secs(1));
        let record = |node: usize| Record {
            node,
            made_nanos: vec![START; 500],
            sightings: vec![Sightings { seen_nanos: vec![START + 1; 500], ..Sightings::default() }; 2],
        };
        let mut records = [record(0), record(1)];
        let serial = crate::registry::plan::POOL;
        let (added, updated, removed) = (addition_of(serial), update_of(serial), removal_of(serial));
        for number in [added, updated, removed].into_iter().flatten() {
            records[1].sightings[0].seen_nanos[number as usize] = 0;
        }
        let counts = Convergence::of(&records, 2, &schedule, START).measured;
        assert_eq!((counts.missing, counts.never_shown, counts.seen), (0, 3, 997));
        // Seen to come, and not to go: that is missing.
        records[1].sightings[0].seen_nanos[added.expect("added") as usize] = START + 1;
        let counts = Convergence::of(&records, 2, &schedule, START).measured;
        assert_eq!((counts.missing, counts.never_shown), (2, 0));
    }

    #[test]
    fn what_was_not_made_is_unsent_and_what_was_seen_too_early_impossible() {
        let (mut records, schedule) = records();
        records[1].made_nanos.truncate(100);
        records[2].sightings[0].seen_nanos[50] = START;
        let found = Convergence::of(&records, 3, &schedule, START);
        assert_eq!((found.unsent, found.measured.changes, found.measured.impossible), (10, 290, 1));
    }
}
