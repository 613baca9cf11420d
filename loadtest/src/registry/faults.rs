//! The faults of a registry run: a process is killed or stands still, and the others are asked when they saw it.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Cluster;
use super::plan::node_name;
use super::protocol::{News, Order};
use crate::clock::monotonic_nanos;
use crate::fault::{Act, Fault};
use crate::report::rounded;
use crate::scenario::RunError;

/// What a fault did.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct FaultReport {
    /// As it was asked for.
    pub(crate) fault: String,
    /// Seconds from the end of the measured phase.
    pub(crate) at_s: f64,
    /// The nodes of the process.
    pub(crate) nodes: Vec<String>,
    #[serde(skip)]
    pub(crate) is_kill: bool,
    /// Whether it lasted long enough to be noticed for certain.
    #[serde(skip)]
    pub(crate) must_be_detected: bool,
    /// For each of them: from the signal until its services were gone on every other node.
    #[serde(skip)]
    pub(crate) detect_nanos: Vec<Option<u64>>,
    /// For each of them: from the restart, or the end of standing still, until every other node had its
    /// services again.
    #[serde(skip)]
    pub(crate) back_nanos: Vec<Option<u64>>,
    pub(crate) detect_us: Vec<Option<f64>>,
    pub(crate) back_us: Vec<Option<f64>>,
}

/// One node saw another's services go, or come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turned {
    node: usize,
    origin: usize,
    is_filled: bool,
    at_nanos: u64,
}

/// A node that is silent for so long must have been found.
const SILENCE_SEEN_FOR_CERTAIN: Duration = Duration::from_secs(5);

/// Nothing that is to be seen takes so long.
const SEEN_MAX: Duration = Duration::from_secs(30);

/// Between a crash that was seen and the restart, so that the two do not mix.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// Between two faults, so that all is quiet again.
const QUIET: Duration = Duration::from_millis(500);

impl Cluster<'_> {
    /// Lets all faults happen, one after the other.
    pub(super) fn suffer(&mut self, faults: &[Fault]) -> Result<Vec<FaultReport>, RunError> {
        self.count_unexpected()?;
        let began = Instant::now();
        let mut reports = Vec::new();
        for fault in faults {
            self.crew.wait_until(began + fault.at)?;
            if self.crew.interrupted().is_some() {
                break;
            }
            self.count_unexpected()?;
            let at_s = rounded(began.elapsed().as_secs_f64(), 3);
            let report = self.suffer_one(fault, at_s)?;
            let shown = |times: &[Option<u64>]| match times.iter().copied().collect::<Option<Vec<u64>>>() {
                Some(times) => format!("{:.1} ms", times.iter().max().map_or(0.0, |max| *max as f64 / 1e6)),
                None => "not seen".to_owned(),
            };
            self.console.line(format_args!(
                "fault       {}: gone everywhere after {}, back after {}",
                report.fault,
                shown(&report.detect_nanos),
                shown(&report.back_nanos)
            ));
            reports.push(report);
            self.crew.wait_until(Instant::now() + QUIET)?;
        }
        Ok(reports)
    }

    /// Events outside a fault in which a node found another one gone, which was not.
    pub(super) fn count_unexpected(&mut self) -> Result<(), RunError> {
        let events = self.crew.events(Duration::ZERO)?;
        self.false_alarms +=
            events.iter().filter_map(turned).filter(|turned| !turned.is_filled).count() as u64;
        Ok(())
    }

    fn suffer_one(&mut self, fault: &Fault, at_s: f64) -> Result<FaultReport, RunError> {
        let process = self.process_of(fault.node - 1);
        let victims = self.nodes_of(process);
        let mut watched = Watched::new(victims.clone(), self.nodes_in_all());
        let (detect, back, must_be_detected) = match fault.act {
            Act::Kill => {
                let killed = self.crew.fleet.kill(process)?;
                let detect = self.await_turns(&mut watched, false, killed, SEEN_MAX)?;
                self.crew.wait_until(Instant::now() + RESTART_AFTER)?;
                self.count_strays(&mut watched)?;
                let restarted = monotonic_nanos();
                self.crew.fleet.restart(process)?;
                self.revive(process)?;
                for node in &victims {
                    self.made[*node] = 0;
                }
                (detect, self.await_turns(&mut watched, true, restarted, SEEN_MAX)?, true)
            }
            Act::Freeze(length) => {
                let frozen = self.crew.fleet.signal(process, libc::SIGSTOP)?;
                let until = Instant::now() + length;
                let detect = self.await_turns(&mut watched, false, frozen, length)?;
                self.crew.wait_until(until)?;
                self.count_strays(&mut watched)?;
                let resumed = self.crew.fleet.signal(process, libc::SIGCONT)?;
                let was_detected = detect.iter().any(Option::is_some);
                let back = match was_detected {
                    true => self.await_turns(&mut watched, true, resumed, SEEN_MAX)?,
                    false => vec![None; victims.len()],
                };
                (detect, back, length >= SILENCE_SEEN_FOR_CERTAIN)
            }
        };
        self.false_alarms += watched.false_alarms;
        let micros = |nanos: &Option<u64>| nanos.map(|nanos| rounded(nanos as f64 / 1_000.0, 1));
        Ok(FaultReport {
            fault: fault.name('n'),
            at_s,
            nodes: victims.iter().map(|node| node_name(*node)).collect(),
            is_kill: fault.act == Act::Kill,
            must_be_detected,
            detect_us: detect.iter().map(micros).collect(),
            back_us: back.iter().map(micros).collect(),
            detect_nanos: detect,
            back_nanos: back,
        })
    }

    /// Starts the nodes of a process again, where they were, with their first services.
    fn revive(&mut self, process: usize) -> Result<(), RunError> {
        let order = Order::Start(self.setup_of(process));
        self.crew.ask(process, &order)?;
        for order in [Order::Watch, Order::Load, Order::Link] {
            self.crew.ask(process, &order)?;
        }
        Ok(())
    }

    /// For each victim: from `since_nanos` until every observer has turned, or none when that takes longer
    /// than `wait`.
    fn await_turns(
        &mut self,
        watched: &mut Watched,
        is_filled: bool,
        since_nanos: u64,
        wait: Duration,
    ) -> Result<Vec<Option<u64>>, RunError> {
        let until = Instant::now() + wait;
        watched.begin(is_filled, since_nanos);
        while !watched.is_complete() && Instant::now() < until && self.crew.interrupted().is_none() {
            let pause = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
            for event in self.crew.events(pause)?.iter().filter_map(turned) {
                watched.take(event);
            }
        }
        Ok(watched.times())
    }

    fn count_strays(&mut self, watched: &mut Watched) -> Result<(), RunError> {
        for event in self.crew.events(Duration::ZERO)?.iter().filter_map(turned) {
            watched.take(event);
        }
        Ok(())
    }
}

fn turned(news: &News) -> Option<Turned> {
    match news {
        News::Turned { node, origin, is_filled, at_nanos } => {
            Some(Turned { node: *node, origin: *origin, is_filled: *is_filled, at_nanos: *at_nanos })
        }
        _ => None,
    }
}

/// Which observers have seen which victims turn.
#[derive(Debug)]
struct Watched {
    victims: Vec<usize>,
    nodes: usize,
    is_filled: bool,
    since_nanos: u64,
    /// By victim and node: when it turned.
    turned: Vec<Vec<Option<u64>>>,
    /// Observers that found a node gone that was not.
    false_alarms: u64,
}

impl Watched {
    fn new(victims: Vec<usize>, nodes: usize) -> Self {
        let turned = vec![vec![None; nodes]; victims.len()];
        Self { victims, nodes, is_filled: false, since_nanos: 0, turned, false_alarms: 0 }
    }

    fn begin(&mut self, is_filled: bool, since_nanos: u64) {
        (self.is_filled, self.since_nanos) = (is_filled, since_nanos);
        self.turned = vec![vec![None; self.nodes]; self.victims.len()];
    }

    fn take(&mut self, event: Turned) {
        // What a victim sees of the others when it is back is no alarm of theirs.
        if self.victims.contains(&event.node) {
            return;
        }
        match self.victims.iter().position(|victim| *victim == event.origin) {
            Some(place) if event.is_filled == self.is_filled => {
                if let Some(at) = self.turned[place].get_mut(event.node) {
                    *at = Some(event.at_nanos);
                }
            }
            Some(_) => {}
            None => self.false_alarms += u64::from(!event.is_filled),
        }
    }

    fn observers(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes).filter(|node| !self.victims.contains(node))
    }

    fn is_complete(&self) -> bool {
        self.turned.iter().all(|turned| self.observers().all(|node| turned[node].is_some()))
    }

    /// For each victim: until the last observer, if all have turned.
    fn times(&self) -> Vec<Option<u64>> {
        let last = |turned: &Vec<Option<u64>>| {
            let times: Option<Vec<u64>> = self.observers().map(|node| turned[node]).collect();
            times?.into_iter().max().map(|at| at.saturating_sub(self.since_nanos))
        };
        self.turned.iter().map(last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: usize, origin: usize, is_filled: bool, at_nanos: u64) -> Turned {
        Turned { node, origin, is_filled, at_nanos }
    }

    #[test]
    fn a_victim_is_gone_when_the_last_observer_has_seen_it() {
        let mut watched = Watched::new(vec![1], 4);
        watched.begin(false, 100);
        for (node, at) in [(0, 150), (3, 190), (2, 170)] {
            assert!(!watched.is_complete());
            assert_eq!(watched.times(), [None]);
            watched.take(event(node, 1, false, at));
        }
        assert!(watched.is_complete());
        assert_eq!((watched.times(), watched.false_alarms), (vec![Some(90)], 0));
        watched.begin(true, 200);
        assert!(!watched.is_complete());
    }

    #[test]
    fn only_what_observers_say_of_others_than_the_victims_is_a_false_alarm() {
        let mut watched = Watched::new(vec![1], 4);
        watched.begin(false, 100);
        watched.take(event(1, 0, false, 120));
        watched.take(event(2, 0, true, 130));
        assert_eq!(watched.false_alarms, 0);
        watched.take(event(2, 0, false, 140));
        assert_eq!(watched.false_alarms, 1);
    }
}
