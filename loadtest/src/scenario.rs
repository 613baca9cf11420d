//! The pubsub scenario: servers, shards, and the course of the run from the first subscription to the report.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use croupier::testing::{LocalCluster, LocalClusterError};
use croupier::{BoxError, Builder, ClusterName, Node, NodeHandle, Shard};

use crate::backlog;
use crate::beside::Beside;
use crate::clock;
use crate::console::Console;
use crate::control::{Control, Totals};
use crate::cpu::CpuTimes;
use crate::fault::{Injector, Journal, Routes, Witness, monotonic_of};
use crate::find_max;
use crate::findings::Findings;
use crate::fleet::FleetError;
use crate::interrupt::{Interrupt, Interruption};
use crate::live::{Watch, phase};
use crate::options::RunOptions;
use crate::pace::Pace;
use crate::plan::{OVERRUN_MAX, Plan};
use crate::processes;
use crate::quantity::{counted, grouped, with_warmup};
use crate::report::Report;
use crate::servers::{self, Servers};
use crate::surroundings::{self, Surroundings};
use crate::worker::{self, Assignment, Outcome, WorkerError};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RunError {
    #[error(transparent)]
    Servers(#[from] LocalClusterError),
    #[error("no server of cluster {cluster} takes the run: {failures}")]
    Unreachable { cluster: String, failures: String },
    #[error(transparent)]
    Node(#[from] croupier::Error),
    #[error("shard {shard}: {error}")]
    Worker { shard: usize, error: WorkerError },
    #[error("shard {shard} ended without a result")]
    Vanished { shard: usize },
    #[error("the shards did not {what} within {waited:?}")]
    Stuck { what: &'static str, waited: Duration },
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("worker process {process}: {reason}")]
    Process { process: usize, reason: String },
    #[error("the worker processes did not {what} within {waited:?}")]
    Silent { what: &'static str, waited: Duration },
    #[error("stopped by signal {signal}")]
    Interrupted { signal: usize },
    #[error("the proxy: {0}")]
    Proxy(#[source] std::io::Error),
    #[error("the report cannot be written: {0}")]
    Report(#[from] serde_json::Error),
}

/// Between two looks of the main thread at signals and counters.
const TICK: Duration = Duration::from_millis(20);

/// From the last confirmed subscription to the first message, so that every shard is waiting for it.
const START_DELAY: Duration = Duration::from_millis(100);

/// Every wait inside the runtime has its own limit; these are here for what has none.
pub(crate) const SETUP_MAX: Duration = Duration::from_secs(180);
pub(crate) const SEND_GRACE: Duration = Duration::from_secs(10);
pub(crate) const HAND_IN_MAX: Duration = Duration::from_secs(10);

/// What has not arrived when nothing at all has arrived for so long is lost.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(2);

/// The longest wait for the last messages, even while some still arrive.
pub(crate) const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// After the last expected message, for duplicates on their way.
pub(crate) const LINGER: Duration = Duration::from_millis(100);

/// For the node's drain: by then every message has arrived or counts as lost.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// From the last confirmed subscription to the first message where servers are joined by routes, which tell
/// each other of subscriptions without saying when they have.
pub(crate) const ROUTES_DELAY: Duration = Duration::from_secs(1);

/// Runs the scenario, as often as its options ask for, and weighs it. The servers have ended when it returns.
pub(crate) fn run(options: &RunOptions, console: Console, interrupt: &Interrupt) -> Result<Report, RunError> {
    announce(options, console);
    match &options.find_max {
        Some(objective) => find_max::run(options, objective, console, interrupt),
        None => run_once(options, console, interrupt),
    }
}

/// Runs the scenario once.
pub(crate) fn run_once(
    options: &RunOptions,
    console: Console,
    interrupt: &Interrupt,
) -> Result<Report, RunError> {
    if options.processes > 1 {
        return processes::run(options, console, interrupt);
    }
    let mut surroundings = Surroundings::before_run();

    // The servers outlive the node: a node that drains still needs them.
    let routes = Routes::new(&options.faults)?;
    let mut servers = Servers::start(options, &routes, console)?;
    surroundings.nats_server = servers.version();
    let control = Control::new(options.shards);
    let control = Arc::new(if console.is_screen() { control.watched() } else { control });
    let detour = servers.detour(&options.faults)?;
    let mut builder = servers.builder_by(&detour)?.name("loadtest").shards(options.shards);
    let assignment = Plan::of(options).assignment(servers::clusters(&mut builder), 0);
    let urls = servers.own().map(|own| detour.urls(own)).unwrap_or_default();
    let journal = Journal::new(&assignment.clusters, urls, assignment.first_shard);
    if !options.faults.is_empty() {
        builder = journal.listen(builder);
    }
    let (node, handed_in) = start_node(builder, &control, &assignment)?;

    let beside = match options.beside {
        None => None,
        Some(concurrency) => {
            let mut builder = servers.builder_by(&detour)?;
            builder.config_mut().limits.drain_timeout = DRAIN_MAX;
            Some(Beside::start(options, &assignment, concurrency, builder)?)
        }
    };

    let mut course = Course {
        console,
        interrupt,
        control: &control,
        assignment: &assignment,
        handed_in,
        outcomes: Vec::new(),
        servers: servers.own(),
        start_delay: if options.nodes > 1 || options.config.is_some() { ROUTES_DELAY } else { START_DELAY },
        handle: node.handle(),
        injector: Injector::new(options.faults.clone(), detour, routes),
        beside: beside.as_ref().map(|beside| Arc::clone(beside.control())),
        interrupted: None,
        has_told_end: false,
        watch: Watch::new(
            console,
            options.shards,
            assignment.clusters.iter().map(ToString::to_string).collect(),
            options.pace.per_second().round() as u64,
            assignment.roles.copies(),
        ),
        shown: Shown::default(),
    };
    let cpu = course.run();
    // Also after an error, so that no shard goes on publishing while the node drains.
    control.end();
    let cpu = cpu?;
    course.collect(options.shards)?;
    let Course { outcomes, injector, interrupted, .. } = course;
    // Before the drain, which ends the links too.
    let witness = control.start().filter(|_| assignment.has_faults);
    let witness = witness.map(|start| Witness::new(&injector, journal.pages(), monotonic_of(start)));
    stop(node)?;
    let measured_from_nanos = assignment.schedule.measured_from_nanos();
    let until_nanos =
        interrupted.map_or(assignment.schedule.end_nanos(), |interruption| interruption.at_nanos);
    let measured = Duration::from_nanos(until_nanos.saturating_sub(measured_from_nanos));
    let beside = beside.map(|beside| beside.finish(measured)).transpose()?;

    surroundings.pressure_after_percent = surroundings::pressure_percent();
    Ok(Findings {
        options,
        assignment: &assignment,
        outcomes,
        cpu,
        surroundings,
        witness,
        interrupted,
        beside,
    }
    .report())
}

/// Tells what is to be run, once for all the tries of a search.
fn announce(options: &RunOptions, console: Console) {
    console.line(format_args!(
        "croupier {}: {}, {}, {}, {}, {}, seed {}",
        env!("CARGO_PKG_VERSION"),
        options.pattern.name(),
        course_of(options),
        options.size,
        counted(options.topics, "topic"),
        counted(options.shards, "shard"),
        options.seed
    ));
}

/// What is asked for: rates and times.
fn course_of(options: &RunOptions) -> String {
    let times = with_warmup(options.duration, options.warmup);
    match (&options.find_max, options.pace) {
        (Some(objective), _) => {
            format!(
                "looking for the highest rate with {objective} from {} on, each try for {times}",
                options.rate
            )
        }
        (None, Pace::Ramp(_)) => format!("a ramp of {}, together for {times}", options.pace),
        (None, pace) => format!("{pace} for {times}"),
    }
}

/// Starts a node whose shards do what they are assigned, and hand in what came of it.
pub(crate) fn start_node(
    mut builder: Builder,
    control: &Arc<Control>,
    assignment: &Assignment,
) -> Result<(Node, mpsc::Receiver<HandedIn>), croupier::Error> {
    let (hand_in, handed_in) = mpsc::channel();
    let (control, assignment) = (Arc::clone(control), assignment.clone());
    let app = async move |shard: Shard| -> Result<(), BoxError> {
        let mut hand_in = HandIn::new(shard.id(), hand_in);
        let result = worker::work(&shard, &control, &assignment).await;
        hand_in.hand_in(Some(result));
        Ok(())
    };
    builder.config_mut().limits.drain_timeout = DRAIN_MAX;
    Ok((builder.start(app)?, handed_in))
}

/// Drains a node that is done with, and waits for its end.
pub(crate) fn stop(node: Node) -> Result<(), RunError> {
    futures_lite::future::block_on(node.handle().drain())?;
    node.join()?;
    Ok(())
}

/// A shard's number and how it ended; none when its application panicked.
pub(crate) type HandedIn = (usize, Option<Result<Outcome, WorkerError>>);

/// Tells the main thread how a shard ended, also when its app panics.
#[derive(Debug)]
pub(crate) struct HandIn {
    shard: usize,
    to: Option<mpsc::Sender<HandedIn>>,
}

impl HandIn {
    pub(crate) fn new(shard: usize, to: mpsc::Sender<HandedIn>) -> Self {
        Self { shard, to: Some(to) }
    }

    pub(crate) fn hand_in(&mut self, result: Option<Result<Outcome, WorkerError>>) {
        if let Some(to) = self.to.take() {
            // The main thread is gone only when the run has failed already.
            drop(to.send((self.shard, result)));
        }
    }
}

impl Drop for HandIn {
    fn drop(&mut self) {
        self.hand_in(None);
    }
}

/// The main thread's part of a run.
struct Course<'a> {
    console: Console,
    interrupt: &'a Interrupt,
    control: &'a Control,
    assignment: &'a Assignment,
    handed_in: mpsc::Receiver<HandedIn>,
    outcomes: Vec<Outcome>,
    /// Own ones.
    servers: Option<&'a mut LocalCluster>,
    /// From the last confirmed subscription to the first message.
    start_delay: Duration,
    handle: NodeHandle,
    injector: Injector,
    /// Of the closed loop beside this one.
    beside: Option<Arc<Control>>,
    /// When a signal has ended the sending, and which.
    interrupted: Option<Interruption>,
    /// Whether it was told that a shard has given up.
    has_told_end: bool,
    watch: Watch,
    shown: Shown,
}

/// What the last progress line showed.
#[derive(Default)]
struct Shown {
    at: Duration,
    totals: Totals,
}

impl Course<'_> {
    /// Starts the clock when all shards are ready and returns, when everything has arrived or nothing
    /// more does, the processor time of the measured phase.
    fn run(&mut self) -> Result<CpuTimes, RunError> {
        let asked = Instant::now();
        let beside = self.beside.clone();
        self.wait("subscribe", asked + SETUP_MAX, |control| {
            control.all_ready() && beside.as_ref().is_none_or(|beside| beside.all_ready())
        })?;
        self.console.line(format_args!(
            "subscribed  {} in {:.2} s",
            counted(self.assignment.traffic.topics(), "topic"),
            asked.elapsed().as_secs_f64()
        ));

        let start = Instant::now() + self.start_delay;
        self.control.start_at(start);
        if let Some(beside) = &self.beside {
            beside.start_at(start);
        }
        let schedule = &self.assignment.schedule;
        let measured_from = start + Duration::from_nanos(schedule.measured_from_nanos());
        let end = start + Duration::from_nanos(schedule.end_nanos());
        self.wait_until(measured_from)?;
        let cpu_before = self.cpu()?;
        self.wait("send", end + OVERRUN_MAX + SEND_GRACE, |control| control.all_sent())?;
        self.wait_for_arrival()?;
        let cpu = self.cpu()?.since(&cpu_before);
        self.wait_until(Instant::now() + LINGER)?;
        self.relent();
        Ok(cpu)
    }

    /// Processor time so far, of servers that were killed too.
    fn cpu(&mut self) -> Result<CpuTimes, RunError> {
        let pids = self.servers.as_deref_mut().map(servers::pids).transpose()?.unwrap_or_default();
        let running = CpuTimes::sample(&pids);
        Ok(CpuTimes { servers: running.servers + self.injector.ended_servers(), ..running })
    }

    /// Collects what every shard hands in after the end.
    fn collect(&mut self, shards: usize) -> Result<(), RunError> {
        let until = Instant::now() + HAND_IN_MAX;
        while self.outcomes.len() < shards {
            if Instant::now() >= until {
                return Err(RunError::Stuck { what: "hand in their results", waited: HAND_IN_MAX });
            }
            self.tick(TICK)?;
        }
        Ok(())
    }

    fn wait(
        &mut self,
        what: &'static str,
        until: Instant,
        is_done: impl Fn(&Control) -> bool,
    ) -> Result<(), RunError> {
        let began = Instant::now();
        while !is_done(self.control) {
            if Instant::now() >= until {
                return Err(RunError::Stuck { what, waited: began.elapsed() });
            }
            self.tick(TICK)?;
        }
        Ok(())
    }

    /// Returns early when the run is interrupted.
    fn wait_until(&mut self, time: Instant) -> Result<(), RunError> {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() || self.interrupted.is_some() {
                return Ok(());
            }
            self.tick(left.min(TICK))?;
        }
    }

    fn wait_for_arrival(&mut self) -> Result<(), RunError> {
        let began = Instant::now();
        let (mut delivered, mut changed) = (self.control.totals().delivered, began);
        loop {
            let totals = self.control.totals();
            let now = Instant::now();
            if totals.delivered != delivered {
                (delivered, changed) = (totals.delivered, now);
            }
            // What waits for a link arrives when the link is back.
            let is_quiet = now - changed >= QUIET_MAX && !self.awaits_link();
            if delivered >= totals.sent || is_quiet || now - began >= ARRIVAL_MAX {
                return Ok(());
            }
            self.tick(TICK)?;
        }
    }

    /// Whether a fault has cut a link that may come back.
    fn awaits_link(&self) -> bool {
        if !self.assignment.has_faults || self.interrupted.is_some() {
            return false;
        }
        let Some(servers) = self.servers.as_deref() else { return false };
        let may_return = |name: &ClusterName| {
            let cluster = self.assignment.clusters.iter().position(|known| known == name);
            cluster.is_some_and(|cluster| !self.injector.is_down(cluster, servers.servers(cluster).len()))
        };
        let stats = self.handle.stats();
        stats.iter().flat_map(|shard| &shard.links).any(|link| !link.connected && may_return(&link.cluster))
    }

    /// Waits for at most `pause`, takes what a shard hands in, and looks after signals and progress.
    fn tick(&mut self, pause: Duration) -> Result<(), RunError> {
        let pause = pause.min(self.until_progress()).min(self.until_fault());
        match self.handed_in.recv_timeout(pause) {
            Ok((_, Some(Ok(outcome)))) => self.outcomes.push(outcome),
            Ok((shard, Some(Err(error)))) => return Err(RunError::Worker { shard, error }),
            Ok((shard, None)) => return Err(RunError::Vanished { shard }),
            Err(RecvTimeoutError::Timeout) => {}
            // Every shard has ended; without this the wait would be none at all.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(pause),
        }
        self.heed_signal()?;
        self.heed_end();
        self.strike()?;
        self.watch.look(self.control, &self.assignment.schedule);
        self.show_progress();
        Ok(())
    }

    /// A signal ends the sending; before the first message it ends the run.
    fn heed_signal(&mut self) -> Result<(), RunError> {
        let Some(signal) = self.interrupt.signal().filter(|_| self.interrupted.is_none()) else {
            return Ok(());
        };
        let at_nanos = self.control.now_nanos();
        if at_nanos == 0 {
            return Err(RunError::Interrupted { signal });
        }
        self.control.stop_sending();
        if let Some(beside) = &self.beside {
            beside.stop_sending();
        }
        self.relent();
        let interruption = Interruption { signal, at_nanos };
        self.interrupted = Some(interruption);
        let told = interruption.told(self.assignment.schedule.measured_from_nanos());
        self.console.line(told);
        Ok(())
    }

    /// Tells at once when a shard has given the schedule up.
    fn heed_end(&mut self) {
        let Some(gave_up_nanos) = self.control.gave_up_nanos().filter(|_| !self.has_told_end) else { return };
        self.has_told_end = true;
        if let Some(beside) = &self.beside {
            beside.stop_sending();
        }
        self.console.line(backlog::given_up(gave_up_nanos, self.assignment.schedule.measured_from_nanos()));
    }

    /// Ends what faults still do to the servers.
    fn relent(&mut self) {
        if let Some(servers) = self.servers.as_deref_mut() {
            self.injector.relent(servers);
        }
    }

    /// Where the faults' times count from, once it is known.
    fn measured_from(&self) -> Option<Instant> {
        let measured_from_nanos = self.assignment.schedule.measured_from_nanos();
        self.control.start().map(|start| start + Duration::from_nanos(measured_from_nanos))
    }

    fn until_fault(&self) -> Duration {
        self.measured_from().map_or(Duration::MAX, |from| self.injector.until_next(from))
    }

    fn strike(&mut self) -> Result<(), RunError> {
        let (Some(from), Some(servers)) = (self.measured_from(), self.servers.as_deref_mut()) else {
            return Ok(());
        };
        let (console, control) = (self.console, self.control);
        self.injector.strike(servers, from, |fault| {
            control.strike(fault.server.cluster);
            console.line(format_args!("fault       {:.3} s  {fault}", from.elapsed().as_secs_f64()));
        })?;
        Ok(())
    }

    /// How long until the next progress line.
    fn until_progress(&self) -> Duration {
        if self.control.start().is_none() || self.control.is_over() {
            return Duration::MAX;
        }
        let measured_from_nanos = self.assignment.schedule.measured_from_nanos();
        let next = clock::next_second_nanos(clock::nanos(self.shown.at), measured_from_nanos);
        Duration::from_nanos(next.saturating_sub(self.control.now_nanos()))
    }

    fn show_progress(&mut self) {
        if !self.until_progress().is_zero() {
            return;
        }
        let now = Duration::from_nanos(self.control.now_nanos());
        let totals = self.control.totals();
        let seconds = (now - self.shown.at).as_secs_f64();
        let per_second = |now: u64, before: u64| grouped(((now - before) as f64 / seconds).round() as u64);
        let schedule = &self.assignment.schedule;
        // By where the second began.
        let phase = phase(schedule, clock::nanos(self.shown.at));
        self.console.line(format_args!(
            "{:>5.0} s  {phase:<8}  {} {:>10}/s  delivered {:>10}/s  in flight {:>8}  busy {:>6}",
            // Never "-0".
            clock::measured_s(clock::nanos(now), schedule.measured_from_nanos()).round() + 0.0,
            // What a message of a fan-out brings about is counted by the copies.
            if self.assignment.roles.copies() > 1 { "due" } else { "sent" },
            per_second(totals.sent, self.shown.totals.sent),
            per_second(totals.delivered, self.shown.totals.delivered),
            grouped(totals.sent.saturating_sub(totals.delivered)),
            grouped(totals.busy),
        ));
        self.shown = Shown { at: now, totals };
    }
}
