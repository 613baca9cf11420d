//! What each fault of a run cost, and whom: from the ledger of the messages and the journal of the links.
//!
//! A fault owns what happens to the cluster that it strikes from a second before the strike (a message that was
//! due then may still be on its way) until the cluster has recovered, or until the next fault strikes it. The
//! cluster has recovered when, for a tenth of a second, no link was down, and all messages that were due arrived
//! without delay; not before a fault has ended that goes on for a time. What is lost anywhere else is nobody's, and
//! makes a run invalid.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;

use super::injector::{Strike, on_run_clock};
use super::journal::{Entry, Happened};
use super::ledger::Ledger;
use super::notes::{self, LostWhen};
use super::report::{FaultReport, OtherCluster};
use super::{ServerAct, ServerFault, ServerId};
use crate::quantity::counted;
use crate::report::rounded;

/// What a run's faults are judged by. Times are on the run's clock unless they say otherwise.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    /// The names of the clusters.
    pub(crate) clusters: &'a [String],
    /// In the order in which they strike.
    pub(crate) faults: &'a [ServerFault],
    /// By fault; none where it did not come to that. On the monotonic clock.
    pub(crate) strikes: &'a [Option<Strike>],
    /// By time, on the monotonic clock; none from after the end of the run.
    pub(crate) entries: &'a [Entry],
    pub(crate) ledger: &'a Ledger,
    /// The start of the run on the monotonic clock.
    pub(crate) start_nanos: u64,
    pub(crate) measured_from_nanos: u64,
    /// Where the schedule ends.
    pub(crate) end_nanos: u64,
}

/// What the faults explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excused {
    pub(crate) lost: u64,
    pub(crate) duplicate: u64,
    pub(crate) reordered: u64,
    pub(crate) disconnects: u64,
}

/// The outcome: a report for each fault, what is explained by them, and what speaks against the run.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) reports: Vec<FaultReport>,
    pub(crate) excused: Excused,
    pub(crate) reasons: Vec<String>,
}

/// A fault that has struck, with its time on the run's clock.
#[derive(Clone, Debug)]
struct Struck {
    /// Its place in [`Scene::faults`].
    fault: usize,
    cluster: usize,
    at_nanos: u64,
    /// When the next fault strikes its cluster; the end of time when none does.
    next_nanos: u64,
    recovered_nanos: Option<u64>,
    /// Until when a fault goes on that strikes the cluster: itself, or one before it; the end of time where that was
    /// not seen.
    lasts_until: u64,
    /// Until when links still leave a server that is in lame duck mode.
    leaves_until: u64,
    /// Whether messages may arrive twice: it is a lame duck, or struck while one was not over.
    may_double: bool,
    /// The due times of the messages that it may have cost.
    due: Range<u64>,
}

/// A message that was due so long before a strike may still have been on its way.
pub(super) const REACH_BACK_NANOS: u64 = 1_000_000_000;

/// A cluster that was calm for so long has recovered.
const CALM_NANOS: u64 = 100_000_000;

/// A link that has moved stays subscribed where it was for a quarter of a second, or somewhat longer where a server is
/// slow to answer.
const STAY_NANOS: u64 = 1_000_000_000;

/// A link that is back is subscribed within this: each shard asks for itself, and the server answers in its own time.
const RESUBSCRIBE_NANOS: u64 = 500_000_000;

/// A message is late when it took longer than this, and than [`LATE_FACTOR`] times the p99 before the faults.
const LATE_NANOS_MIN: u64 = 100_000_000;
const LATE_FACTOR: u64 = 4;

/// Another cluster has noticed a fault when its p99 rose above so many times that of before, by more than
/// [`NOTICED_MICROS_MIN`], and above that of any second of before.
const NOTICED_FACTOR: f64 = 2.0;

/// Over no shorter time than this.
const NOTICED_NANOS_MIN: u64 = 1_000_000_000;

/// Less is what other processes of the same cores do to a p99 at any time.
const NOTICED_MICROS_MIN: f64 = 1_000.0;

/// Fewer values say nothing about a p99.
const VALUES_MIN: u64 = 100;

impl Scene<'_> {
    /// Weighs all of it.
    pub(crate) fn account(&self) -> Account {
        let struck = self.struck();
        let mut account = Account::default();
        for (number, fault) in self.faults.iter().enumerate() {
            let Some(of_fault) = struck.iter().find(|struck| struck.fault == number) else {
                account.reports.push(FaultReport::not_struck(fault));
                continue;
            };
            let report = self.report(of_fault, &struck);
            if of_fault.recovered_nanos.is_none() {
                let name = &self.clusters[of_fault.cluster];
                let went_on = of_fault.lasts_until >= self.end_nanos;
                account.reasons.push(format!(
                    "{fault} at {:?}: {name} had not recovered when the schedule ended{}",
                    fault.at,
                    if went_on { ", and could not: a fault of it went on" } else { "" }
                ));
            }
            for other in report.clusters.iter().filter(|other| other.lost > 0) {
                account.reasons.push(format!(
                    "{fault} at {:?} struck {}, and {} lost {}",
                    fault.at,
                    self.clusters[of_fault.cluster],
                    other.name,
                    counted(other.lost, "message")
                ));
            }
            self.excuse(of_fault, &mut account.excused);
            account.reports.push(report);
        }
        account
    }

    fn excuse(&self, struck: &Struck, excused: &mut Excused) {
        let cost = self.ledger.sum(struck.cluster, struck.due.clone());
        excused.lost += cost.lost();
        excused.reordered += cost.reordered;
        if struck.may_double {
            excused.duplicate += cost.duplicate;
        }
        let ends = |entry: &&Entry| matches!(entry.what, Happened::Lost { .. } | Happened::Moved);
        let until = struck.recovered_nanos.unwrap_or(u64::MAX).min(struck.next_nanos);
        excused.disconnects +=
            self.entries_of(struck.cluster, struck.at_nanos..until).filter(ends).count() as u64;
    }

    fn report(&self, of: &Struck, all: &[Struck]) -> FaultReport {
        let fault = &self.faults[of.fault];
        let cost = self.ledger.sum(of.cluster, of.due.clone());
        let own = || self.entries_of(of.cluster, of.at_nanos..of.next_nanos);
        // A link that moves while another fault strikes does so for a lame duck.
        let detected = own().find(|entry| match entry.what {
            Happened::Lost { .. } => true,
            Happened::LameDuck | Happened::Moved => fault.act == ServerAct::LameDuck,
            Happened::Connected | Happened::Back | Happened::Ended => false,
        });
        let in_doubt = |entry: &Entry| match entry.what {
            Happened::Lost { in_doubt } => in_doubt,
            _ => 0,
        };
        let ended = self.strikes[of.fault].and_then(|strike| strike.ended_nanos);
        let over_nanos = ended.map_or(of.at_nanos, |at| on_run_clock(at, self.start_nanos));
        let during = of.at_nanos..of.recovered_nanos.unwrap_or(self.end_nanos).max(over_nanos);
        let since = |from: u64, nanos: u64| rounded(nanos.saturating_sub(from) as f64 / 1e6, 3);
        let since_strike = |nanos: u64| since(of.at_nanos, nanos);
        let since_end = |nanos: u64| since(over_nanos, nanos);
        let mut report = FaultReport {
            name: fault.to_string(),
            cluster: self.clusters[of.cluster].clone(),
            asked_at_s: fault.at.as_secs_f64(),
            struck_at_s: Some(self.measured_s(of.at_nanos)),
            ended_at_s: ended.map(|at| self.measured_s(on_run_clock(at, self.start_nanos))),
            links: self.links_at(of.cluster, of.at_nanos),
            detected_ms: detected.map(|entry| since_strike(self.on_clock(entry))),
            reconnected_ms: self.reconnected(of).map(since_strike),
            recovered_ms: of.recovered_nanos.map(since_strike),
            recovered_after_end_ms: of.recovered_nanos.filter(|_| fault.lasts()).map(since_end),
            lost: cost.lost(),
            refused: cost.refused,
            in_doubt: own().map(in_doubt).sum(),
            duplicates: cost.duplicate,
            reordered: cost.reordered,
            p99_before_us: p99_micros(&self.before(of.cluster)),
            p99_during_us: p99_micros(&self.ledger.latency(of.cluster, during.clone())),
            clusters: self.others(of, all, &during),
            notes: Vec::new(),
        };
        report.notes = notes::of(fault, &report, self.lost_when(of));
        report
    }

    /// Where the links of a cluster were at that time.
    fn links_at(&self, cluster: usize, at_nanos: u64) -> BTreeMap<String, usize> {
        let mut by_shard: BTreeMap<usize, Option<usize>> = BTreeMap::new();
        for entry in self.entries_of(cluster, 0..at_nanos).filter(|entry| entry.what != Happened::LameDuck) {
            by_shard.insert(entry.shard, entry.node);
        }
        let mut links = BTreeMap::new();
        for node in by_shard.into_values().flatten() {
            *links.entry(ServerId { cluster, node }.to_string()).or_insert(0) += 1;
        }
        links
    }

    /// The lost messages of a fault, by how the links to its cluster were when they were due.
    fn lost_when(&self, of: &Struck) -> LostWhen {
        let (outages, cell_nanos) = (self.outages(of.cluster), self.ledger.cell_nanos());
        let mut lost = LostWhen::default();
        for (begin, cell) in self.ledger.cells(of.cluster, of.due.clone()).filter(|(_, cell)| cell.lost() > 0)
        {
            let any = |is_so: &dyn Fn(&Range<u64>) -> bool| outages.iter().any(is_so);
            // A cell in which a link is lost is one before that, for most of it was due before it was noticed.
            let soon = begin..begin + cell_nanos + REACH_BACK_NANOS;
            let part = if any(&|outage| outage.contains(&begin)) {
                &mut lost.down
            } else if any(&|outage| soon.contains(&outage.start)) {
                &mut lost.before
            } else if any(&|outage| outage.end <= begin && begin - outage.end < RESUBSCRIBE_NANOS) {
                &mut lost.after
            } else {
                &mut lost.up
            };
            *part += cell.lost();
        }
        lost
    }

    /// How those clusters fared that no fault had struck meanwhile.
    fn others(&self, of: &Struck, all: &[Struck], during: &Range<u64>) -> Vec<OtherCluster> {
        let is_struck = |cluster: usize| {
            let overlaps = |other: &&Struck| {
                let until = other.recovered_nanos.unwrap_or(u64::MAX);
                other.at_nanos.saturating_sub(REACH_BACK_NANOS) < during.end && until >= during.start
            };
            all.iter().filter(|other| other.cluster == cluster).any(|other| overlaps(&other))
        };
        // What an earlier fault of its own has cost a cluster is no sign that it noticed this one.
        let owned_until = |cluster: usize| {
            let own = all.iter().filter(|other| other.cluster == cluster);
            own.map(|other| other.due.end).filter(|end| *end <= during.start).max().unwrap_or(0)
        };
        let other = |cluster: usize| {
            let from = during.start.saturating_sub(REACH_BACK_NANOS).max(owned_until(cluster));
            let cost = self.ledger.sum(cluster, from..during.end);
            let lost_links = self.entries_of(cluster, during.clone());
            let disconnects =
                lost_links.filter(|entry| matches!(entry.what, Happened::Lost { .. })).count() as u64;
            let before = p99_micros(&self.before(cluster));
            // Few messages have a p99 that is the latency of one of them.
            let until = during.end.max(during.start + NOTICED_NANOS_MIN).min(self.end_nanos);
            let now = p99_micros(&self.ledger.latency(cluster, during.start..until));
            let usual = self.highest_p99_before(cluster, NOTICED_NANOS_MIN);
            let is_slower = before.zip(now).is_some_and(|(before, now)| {
                now > (before * NOTICED_FACTOR).max(before + NOTICED_MICROS_MIN)
                    && usual.is_none_or(|usual| now > usual)
            });
            OtherCluster {
                name: self.clusters[cluster].clone(),
                lost: cost.lost() + cost.refused,
                disconnects,
                p99_before_us: before,
                p99_during_us: now,
                noticed: cost.lost() + cost.refused > 0 || disconnects > 0 || is_slower,
            }
        };
        (0..self.clusters.len())
            .filter(|cluster| *cluster != of.cluster && !is_struck(*cluster))
            .map(other)
            .collect()
    }

    /// The faults that have struck, each with its window.
    fn struck(&self) -> Vec<Struck> {
        let mut all = Vec::new();
        for cluster in 0..self.clusters.len() {
            let strikes = self.faults.iter().zip(self.strikes).enumerate();
            let times: Vec<(usize, u64)> = strikes
                .filter(|(_, (fault, _))| fault.server.cluster == cluster)
                .filter_map(|(number, (_, strike))| {
                    Some((number, on_run_clock(strike.as_ref()?.struck_nanos, self.start_nanos)))
                })
                .collect();
            let (mut owned_until, mut doubled_until) = (0, 0);
            let (mut leaves_until, mut lasts_until) = (0, 0);
            for (place, (fault, at_nanos)) in times.iter().copied().enumerate() {
                let next_nanos = times.get(place + 1).map_or(u64::MAX, |(_, at)| *at);
                let is_slow = self.faults[fault].act == ServerAct::LameDuck;
                if is_slow {
                    leaves_until = leaves_until.max(self.leaves_until(cluster, at_nanos));
                }
                if self.faults[fault].lasts() {
                    let ended_nanos = self.strikes[fault].and_then(|strike| strike.ended_nanos);
                    let ended_nanos = ended_nanos.map_or(u64::MAX, |at| on_run_clock(at, self.start_nanos));
                    lasts_until = lasts_until.max(ended_nanos);
                }
                let may_double = is_slow || at_nanos < doubled_until.max(leaves_until);
                let mut of_fault = Struck {
                    fault,
                    cluster,
                    at_nanos,
                    next_nanos,
                    recovered_nanos: None,
                    lasts_until,
                    leaves_until,
                    may_double,
                    due: 0..0,
                };
                let recovered_nanos = self.recovered(&of_fault, is_slow);
                if may_double {
                    doubled_until = recovered_nanos.unwrap_or(u64::MAX);
                }
                let until = recovered_nanos.unwrap_or(u64::MAX).min(next_nanos);
                let from = at_nanos.saturating_sub(REACH_BACK_NANOS).max(owned_until);
                (of_fault.recovered_nanos, of_fault.due) = (recovered_nanos, from..until);
                all.push(of_fault);
                owned_until = until;
            }
        }
        all
    }

    /// When the cluster of a fault was calm again, and since when nothing was missing.
    ///
    /// Clients leave a server in lame duck mode one after the other, each stays subscribed there until the others know
    /// of its new place, and the server closes those that stay when it likes. Such a fault is slow: it counts from its
    /// last sign, of which a message that arrived by both ways is one. What strikes the cluster before it is over ends
    /// with it. Nor is a cluster calm while a fault goes on that strikes it, however little that does.
    fn recovered(&self, of: &Struck, mut is_slow: bool) -> Option<u64> {
        let Struck { cluster, at_nanos, next_nanos, .. } = *of;
        let late_nanos = (self.before(cluster).value_at_quantile(0.99) * LATE_FACTOR).max(LATE_NANOS_MIN);
        let outages = self.outages(cluster);
        let cell_nanos = self.ledger.cell_nanos();
        let (mut disturbed_until, mut calm_from, mut messages) = (at_nanos.max(of.lasts_until), None, 0);
        let mut is_calm = false;
        // From the cell of the strike on: a link may be lost and back within it.
        let from = at_nanos - at_nanos % cell_nanos;
        for (begin, cell) in self.ledger.cells(cluster, from..self.end_nanos) {
            let end = begin + cell_nanos;
            if is_slow && end > next_nanos.max(of.leaves_until) {
                if is_calm {
                    break;
                }
                is_slow = false;
            }
            let is_down = outages.iter().any(|outage| outage.start < end && begin < outage.end);
            let is_late = cell.last_arrival_nanos > end + late_nanos;
            let is_doubled = of.may_double && cell.duplicate > 0;
            if cell.lost() > 0 || cell.refused > 0 || is_late || is_down || is_doubled {
                disturbed_until = disturbed_until.max(end).max(cell.last_arrival_nanos);
                (calm_from, messages, is_calm) = (None, 0, false);
                continue;
            }
            if begin < of.lasts_until {
                (calm_from, messages, is_calm) = (None, 0, false);
                continue;
            }
            messages += cell.sent;
            is_calm |= end - *calm_from.get_or_insert(begin) >= CALM_NANOS && messages > 0;
            if is_calm && !is_slow && (!of.may_double || end >= of.leaves_until) {
                break;
            }
        }
        // Nothing need be disturbed by a move.
        let moves = self.entries_of(cluster, at_nanos..next_nanos.max(of.leaves_until));
        let moved = moves.filter(|entry| of.may_double && entry.what == Happened::Moved).last();
        is_calm.then(|| disturbed_until.max(moved.map_or(0, |entry| self.on_clock(entry) + 1)))
    }

    /// Until when links leave a server that went into lame duck mode then: until the last of those that heard of it has
    /// gone, and is not subscribed in both places any more.
    fn leaves_until(&self, cluster: usize, at_nanos: u64) -> u64 {
        let entries = || self.entries_of(cluster, at_nanos..u64::MAX);
        let left = |heard: &Entry| {
            let is_gone = |entry: &&Entry| {
                let has_gone =
                    matches!(entry.what, Happened::Moved | Happened::Lost { .. } | Happened::Ended);
                entry.shard == heard.shard && entry.at_nanos >= heard.at_nanos && has_gone
            };
            entries().find(is_gone).map_or(u64::MAX, |entry| self.on_clock(entry).saturating_add(STAY_NANOS))
        };
        entries().filter(|entry| entry.what == Happened::LameDuck).map(left).max().unwrap_or(at_nanos)
    }

    /// When any link of a cluster was down.
    fn outages(&self, cluster: usize) -> Vec<Range<u64>> {
        let mut outages: Vec<Range<u64>> = Vec::new();
        let mut down: Vec<(usize, u64)> = Vec::new();
        for entry in self.entries_of(cluster, 0..u64::MAX) {
            let at = self.on_clock(entry);
            match entry.what {
                Happened::Lost { .. } => down.push((entry.shard, at)),
                Happened::Back => {
                    if let Some(place) = down.iter().position(|(shard, _)| *shard == entry.shard) {
                        outages.push(down.swap_remove(place).1..at);
                    }
                }
                Happened::Connected | Happened::LameDuck | Happened::Moved | Happened::Ended => {}
            }
        }
        outages.extend(down.into_iter().map(|(_, since)| since..u64::MAX));
        outages
    }

    /// When every link was connected again that was down at a strike or was lost after it, or when the last one
    /// had moved.
    fn reconnected(&self, of: &Struck) -> Option<u64> {
        let is_lame_duck = self.faults[of.fault].act == ServerAct::LameDuck;
        let until = if is_lame_duck { of.next_nanos.max(of.leaves_until) } else { of.next_nanos };
        let own = || self.entries_of(of.cluster, of.at_nanos..until);
        let outages = self.outages(of.cluster);
        let lost = own().find(|entry| matches!(entry.what, Happened::Lost { .. }));
        let is_down = outages.iter().any(|outage| outage.contains(&of.at_nanos));
        let Some(mut up) = lost.map(|entry| self.on_clock(entry)).or(is_down.then_some(of.at_nanos)) else {
            return own()
                .filter(|entry| is_lame_duck && entry.what == Happened::Moved)
                .last()
                .map(|entry| self.on_clock(entry));
        };
        while let Some(outage) = outages.iter().find(|outage| outage.contains(&up)) {
            up = outage.end;
        }
        (up < u64::MAX).then_some(up)
    }

    /// The latencies of a cluster before the first fault: of the measured phase, or of all where that is too
    /// little.
    fn before(&self, cluster: usize) -> Histogram<u64> {
        let before = self.measured_before();
        let until = before.end;
        let measured = self.ledger.latency(cluster, before);
        if measured.len() >= VALUES_MIN { measured } else { self.ledger.latency(cluster, 0..until) }
    }

    /// The part of the measured phase before the first fault.
    fn measured_before(&self) -> Range<u64> {
        let first = self.strikes.iter().flatten().map(|strike| strike.struck_nanos).min();
        let until = first.map_or(self.end_nanos, |at| on_run_clock(at, self.start_nanos));
        // Whole slots are taken: what the first fault delayed is in the slot of its strike.
        let until = until.saturating_sub(until % self.ledger.slot_nanos());
        self.measured_from_nanos.min(until)..until
    }

    /// The highest p99 of the spans of this length before the first fault, in microseconds.
    fn highest_p99_before(&self, cluster: usize, span_nanos: u64) -> Option<f64> {
        let before = self.measured_before();
        let spans = (before.end - before.start) / span_nanos.max(1);
        let p99_of = |number: u64| {
            let from = before.end - (number + 1) * span_nanos;
            p99_micros(&self.ledger.latency(cluster, from..from + span_nanos))
        };
        (0..spans).filter_map(p99_of).max_by(f64::total_cmp)
    }

    fn entries_of(&self, cluster: usize, within: Range<u64>) -> impl Iterator<Item = &Entry> {
        let is_within = move |entry: &&Entry| within.contains(&self.on_clock(entry));
        self.entries.iter().filter(move |entry| entry.cluster == cluster).filter(is_within)
    }

    fn on_clock(&self, entry: &Entry) -> u64 {
        on_run_clock(entry.at_nanos, self.start_nanos)
    }

    fn measured_s(&self, run_nanos: u64) -> f64 {
        rounded((run_nanos as f64 - self.measured_from_nanos as f64) / 1e9, 6)
    }
}

fn p99_micros(latencies: &Histogram<u64>) -> Option<f64> {
    (latencies.len() >= VALUES_MIN).then(|| rounded(latencies.value_at_quantile(0.99) as f64 / 1e3, 1))
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
