//! The faults of a registry run: a process is killed, stands still, or does not reach another, and those that are
//! left are asked when they saw it.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Cluster;
use super::plan::node_name;
use super::protocol::{News, Order};
use crate::clock::monotonic_nanos;
use crate::fault::{Act, Fault, NodeFault, Partition};
use crate::report::rounded;
use crate::scenario::RunError;

/// What a fault did.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct FaultReport {
    /// As it was asked for.
    pub(crate) fault: String,
    /// Seconds from the end of the measured phase.
    pub(crate) at_s: f64,
    /// The nodes of the process, or of both.
    pub(crate) nodes: Vec<String>,
    #[serde(skip)]
    pub(crate) kind: Kind,
    /// Whether it lasted long enough to be noticed for certain.
    #[serde(skip)]
    pub(crate) must_be_detected: bool,
    /// For each of them: from the signal until its services were gone on every other node; from a partition, on every
    /// node on the other side of it.
    #[serde(skip)]
    pub(crate) detect_nanos: Vec<Option<u64>>,
    /// For each of them: from the restart, or the end of standing still or of the partition, until every node had its
    /// services again that had found them gone.
    #[serde(skip)]
    pub(crate) back_nanos: Vec<Option<u64>>,
    pub(crate) detect_us: Vec<Option<f64>>,
    pub(crate) back_us: Vec<Option<f64>>,
}

/// What a fault was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    Freeze,
    Partition,
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

/// Who found nobody gone in a silence that was short may still do so for so long after it: what was suspected last
/// has its time to be heard.
const LATE_FINDINGS: Duration = Duration::from_secs(2);

/// Between a crash that was seen and the restart, so that the two do not mix.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// Between two faults, so that all is quiet again.
const QUIET: Duration = Duration::from_millis(500);

impl Cluster<'_> {
    /// Lets all faults happen, one after the other.
    pub(super) fn suffer(&mut self, faults: &[NodeFault]) -> Result<Vec<FaultReport>, RunError> {
        self.count_unexpected()?;
        let began = Instant::now();
        let mut reports = Vec::new();
        for fault in faults {
            self.look_until(began + fault.at())?;
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
            self.look_until(Instant::now() + QUIET)?;
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

    fn suffer_one(&mut self, fault: &NodeFault, at_s: f64) -> Result<FaultReport, RunError> {
        let mut watched = match fault {
            NodeFault::OfProcess(fault) => {
                Watched::of_process(self.nodes_of(self.process_of(fault.node - 1)), self.nodes_in_all())
            }
            NodeFault::Partition(partition) => {
                let sides = self.sides(partition).map(|process| self.nodes_of(process));
                Watched::of_sides(&sides, self.nodes_in_all())
            }
        };
        let (kind, detect, back, must_be_detected) = match fault {
            NodeFault::OfProcess(Fault { node, act: Act::Kill, .. }) => {
                let (detect, back) = self.kill(self.process_of(node - 1), &mut watched)?;
                (Kind::Kill, detect, back, true)
            }
            NodeFault::OfProcess(Fault { node, act: Act::Freeze(length), .. }) => {
                let process = self.process_of(node - 1);
                self.held = Some(process);
                let frozen = self.crew.fleet.signal(process, libc::SIGSTOP)?;
                let detect = self.await_silence(&mut watched, frozen, *length)?;
                let resumed = self.crew.fleet.signal(process, libc::SIGCONT)?;
                self.held = None;
                let back = self.await_return(&mut watched, resumed)?;
                (Kind::Freeze, detect, back, *length >= SILENCE_SEEN_FOR_CERTAIN)
            }
            NodeFault::Partition(partition) => {
                let sides = self.sides(partition);
                let parted = monotonic_nanos();
                self.part(sides)?;
                let detect = self.await_silence(&mut watched, parted, partition.length)?;
                let joined = monotonic_nanos();
                self.join()?;
                let back = self.await_return(&mut watched, joined)?;
                // Nodes of a third process reach both sides, and say so: then nobody is gone.
                let is_whole = self.crew.fleet.processes() == sides.len();
                let is_long = partition.length >= SILENCE_SEEN_FOR_CERTAIN;
                (Kind::Partition, detect, back, is_whole && is_long)
            }
        };
        self.false_alarms += watched.false_alarms;
        let micros = |nanos: &Option<u64>| nanos.map(|nanos| rounded(nanos as f64 / 1_000.0, 1));
        Ok(FaultReport {
            fault: fault.name(),
            at_s,
            nodes: watched.victims.iter().map(|node| node_name(*node)).collect(),
            kind,
            must_be_detected,
            detect_us: detect.iter().map(micros).collect(),
            back_us: back.iter().map(micros).collect(),
            detect_nanos: detect,
            back_nanos: back,
        })
    }

    /// Kills a process and starts it again; returns when it was seen to be gone, and to be back.
    fn kill(&mut self, process: usize, watched: &mut Watched) -> Result<(Times, Times), RunError> {
        let killed = self.crew.fleet.kill(process)?;
        let detect = self.await_turns(watched, Awaited::Gone, killed, SEEN_MAX)?;
        self.look_until(Instant::now() + RESTART_AFTER)?;
        self.count_strays(watched)?;
        let restarted = monotonic_nanos();
        self.crew.fleet.restart(process)?;
        self.revive(process)?;
        for node in self.nodes_of(process) {
            self.made[node] = 0;
        }
        Ok((detect, self.await_turns(watched, Awaited::Back, restarted, SEEN_MAX)?))
    }

    /// Watches for `length` who is found gone.
    fn await_silence(
        &mut self,
        watched: &mut Watched,
        since_nanos: u64,
        length: Duration,
    ) -> Result<Times, RunError> {
        let until = Instant::now() + length;
        self.await_turns(watched, Awaited::Gone, since_nanos, length)?;
        self.look_until(until)?;
        self.count_strays(watched)?;
        Ok(watched.times())
    }

    /// Waits until those are seen again that were found gone.
    fn await_return(&mut self, watched: &mut Watched, since_nanos: u64) -> Result<Times, RunError> {
        let began = Instant::now();
        let least = if watched.is_complete() { Duration::ZERO } else { LATE_FINDINGS };
        watched.begin(Awaited::BackWhereGone, since_nanos);
        let is_over = |watched: &Watched| watched.is_complete() && began.elapsed() >= least;
        self.follow(watched, began + SEEN_MAX, is_over)?;
        Ok(watched.times())
    }

    /// The processes on both sides of a partition.
    fn sides(&self, partition: &Partition) -> [usize; 2] {
        partition.nodes.map(|node| self.process_of(node - 1))
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
        awaited: Awaited,
        since_nanos: u64,
        wait: Duration,
    ) -> Result<Times, RunError> {
        let until = Instant::now() + wait;
        watched.begin(awaited, since_nanos);
        self.follow(watched, until, Watched::is_complete)?;
        Ok(watched.times())
    }

    /// Takes what the observers tell until it is over, or until that time.
    fn follow(
        &mut self,
        watched: &mut Watched,
        until: Instant,
        is_over: impl Fn(&Watched) -> bool,
    ) -> Result<(), RunError> {
        while !is_over(watched) && Instant::now() < until && self.crew.interrupted().is_none() {
            let pause = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
            for event in self.crew.events(pause)?.iter().filter_map(turned) {
                watched.take(event);
            }
            self.look()?;
        }
        Ok(())
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

/// For each victim, how long it took until its observers had turned; none when not all did.
type Times = Vec<Option<u64>>;

/// What the observers are to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Gone,
    Back,
    /// By those alone that had seen it go, or see it go yet.
    BackWhereGone,
}

/// Which observers have seen which victims turn.
#[derive(Debug)]
struct Watched {
    victims: Vec<usize>,
    /// By victim: those that are to see it.
    observers: Vec<Vec<usize>>,
    /// Nodes that may find others gone, for they were gone themselves.
    excused: Vec<usize>,
    awaited: Awaited,
    since_nanos: u64,
    /// By victim: who is awaited, and when it turned.
    turned: Vec<Vec<(usize, Option<u64>)>>,
    /// Observers that found a node gone that was not.
    false_alarms: u64,
}

impl Watched {
    /// All others observe the nodes of a process.
    fn of_process(victims: Vec<usize>, nodes: usize) -> Self {
        let others: Vec<usize> = (0..nodes).filter(|node| !victims.contains(node)).collect();
        let observers = vec![others; victims.len()];
        Self::new(victims.clone(), observers, victims)
    }

    /// Each side observes the other; nobody else has a reason to find anybody gone.
    fn of_sides(sides: &[Vec<usize>; 2], nodes: usize) -> Self {
        let [one, other] = sides;
        let side_of = |node: usize| {
            if one.contains(&node) { Some(other) } else { other.contains(&node).then_some(one) }
        };
        let seen = (0..nodes).filter_map(|node| Some((node, side_of(node)?.clone())));
        let (victims, observers) = seen.unzip();
        Self::new(victims, observers, Vec::new())
    }

    fn new(victims: Vec<usize>, observers: Vec<Vec<usize>>, excused: Vec<usize>) -> Self {
        let (awaited, since_nanos, turned) = (Awaited::Gone, 0, Vec::new());
        let mut watched = Self { victims, observers, excused, awaited, since_nanos, turned, false_alarms: 0 };
        watched.begin(Awaited::Gone, 0);
        watched
    }

    fn begin(&mut self, awaited: Awaited, since_nanos: u64) {
        (self.awaited, self.since_nanos) = (awaited, since_nanos);
        let afresh = |nodes: &[usize]| nodes.iter().map(|node| (*node, None)).collect();
        self.turned = match awaited {
            Awaited::Gone | Awaited::Back => self.observers.iter().map(|all| afresh(all)).collect(),
            Awaited::BackWhereGone => {
                let of_victim = |turned: &Vec<(usize, Option<u64>)>| {
                    let gone = turned.iter().filter(|(_, at)| at.is_some());
                    afresh(&gone.map(|(node, _)| *node).collect::<Vec<_>>())
                };
                self.turned.iter().map(of_victim).collect()
            }
        };
    }

    fn take(&mut self, event: Turned) {
        let place = self.victims.iter().position(|victim| *victim == event.origin);
        match place.filter(|place| self.observers[*place].contains(&event.node)) {
            Some(place) if event.is_filled == (self.awaited != Awaited::Gone) => {
                let awaited = self.turned[place].iter_mut().find(|(node, _)| *node == event.node);
                if let Some((_, at)) = awaited {
                    *at = Some(event.at_nanos);
                }
            }
            // Found late, and to be seen again like the others.
            Some(place) if self.awaited == Awaited::BackWhereGone => {
                self.turned[place].retain(|(node, _)| *node != event.node);
                self.turned[place].push((event.node, None));
            }
            Some(_) => {}
            // What a victim sees of the others when it is back is no alarm of theirs.
            None if self.excused.contains(&event.node) => {}
            None => self.false_alarms += u64::from(!event.is_filled),
        }
    }

    fn is_complete(&self) -> bool {
        self.turned.iter().flatten().all(|(_, at)| at.is_some())
    }

    /// For each victim: until the last observer, if all have turned.
    fn times(&self) -> Times {
        let last = |turned: &Vec<(usize, Option<u64>)>| {
            let times: Option<Vec<u64>> = turned.iter().map(|(_, at)| *at).collect();
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
        let mut watched = Watched::of_process(vec![1], 4);
        watched.begin(Awaited::Gone, 100);
        for (node, at) in [(0, 150), (3, 190), (2, 170)] {
            assert!(!watched.is_complete());
            assert_eq!(watched.times(), [None]);
            watched.take(event(node, 1, false, at));
        }
        assert!(watched.is_complete());
        assert_eq!((watched.times(), watched.false_alarms), (vec![Some(90)], 0));
        watched.begin(Awaited::Back, 200);
        assert!(!watched.is_complete());
    }

    #[test]
    fn only_what_observers_say_of_others_than_the_victims_is_a_false_alarm() {
        let mut watched = Watched::of_process(vec![1], 4);
        watched.begin(Awaited::Gone, 100);
        watched.take(event(1, 0, false, 120));
        watched.take(event(2, 0, true, 130));
        assert_eq!(watched.false_alarms, 0);
        watched.take(event(2, 0, false, 140));
        assert_eq!(watched.false_alarms, 1);
    }

    #[test]
    fn the_sides_of_a_partition_see_each_other_go_and_nobody_else_does() {
        let mut watched = Watched::of_sides(&[vec![0, 3], vec![1]], 4);
        assert_eq!(watched.victims, [0, 1, 3]);
        watched.begin(Awaited::Gone, 100);
        watched.take(event(1, 0, false, 150));
        watched.take(event(0, 1, false, 160));
        watched.take(event(3, 1, false, 180));
        assert_eq!((watched.times(), watched.false_alarms), (vec![Some(50), Some(80), None], 0));
        for (node, origin) in [(2, 1), (0, 2), (0, 3)] {
            watched.take(event(node, origin, false, 190));
        }
        assert_eq!(watched.false_alarms, 3, "they reach each other");
    }

    #[test]
    fn only_who_was_found_gone_is_awaited_after_a_silence() {
        let mut watched = Watched::of_sides(&[vec![0, 2], vec![1]], 3);
        watched.begin(Awaited::Gone, 100);
        watched.take(event(2, 1, false, 150));
        watched.begin(Awaited::BackWhereGone, 200);
        assert!(!watched.is_complete());
        watched.take(event(0, 1, true, 220));
        assert!(!watched.is_complete());
        watched.take(event(2, 1, true, 230));
        assert!(watched.is_complete());
        assert_eq!(watched.times(), [None, Some(30), None]);
        watched.begin(Awaited::Gone, 300);
        watched.begin(Awaited::BackWhereGone, 400);
        assert!(watched.is_complete(), "nobody was found gone");
        watched.take(event(0, 1, false, 410));
        assert!(!watched.is_complete(), "somebody was, when it was over");
        watched.take(event(0, 1, true, 450));
        assert_eq!((watched.times(), watched.false_alarms), (vec![None, Some(50), None], 0));
    }
}
