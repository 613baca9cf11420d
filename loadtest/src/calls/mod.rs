//! The calls scenario: instances in several processes answer by key, come and go, and one process dies.

mod caller;
mod judge;
mod look;
mod protocol;
mod report;
mod worker;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use croupier::testing::LocalCluster;
use croupier::{Node, RegistryConfig, Shard};
use futures_lite::future::block_on;

use self::caller::{Assignment, Call, Caller, End};
use self::judge::{Judgement, Outage, Phase};
use self::look::Look;
use self::protocol::{CLUSTER, Counted, KIND, News, Order, Setup};
pub(crate) use self::report::{ArgumentsReport, CallsReport, MEASURES};
use self::report::{FaultReport, Findings};
pub(crate) use self::worker::work;
use crate::backlog;
use crate::cli::WorkerOf;
use crate::clock::{measured_s, monotonic_nanos, nanos, next_second_nanos};
use crate::console::Console;
use crate::crew::Crew;
use crate::fault::{Act, Fault};
use crate::interrupt::{Interrupt, Interruption};
use crate::keys::{KeyChoice, Keys};
use crate::options::CallsOptions;
use crate::quantity::{counted, grouped, with_warmup};
use crate::scenario::RunError;
use crate::schedule::Schedule;
use crate::series::{Series, Timed};
use crate::surroundings::{self, Surroundings};
use crate::traffic::{Traffic, mix};

/// From the last preparation to the first call.
const START_DELAY: Duration = Duration::from_millis(200);

/// After the last instance was seen, for the servers to know its inbox everywhere.
const SETTLE: Duration = Duration::from_millis(200);

/// How long after the end of the schedule a caller that is behind may still call.
const OVERRUN_MAX: Duration = Duration::from_secs(5);

/// How long after its timeout a call may still be under way before it counts as one that never ends.
const END_MAX: Duration = Duration::from_secs(5);

/// Nothing that is to be seen takes so long.
const SEEN_MAX: Duration = Duration::from_secs(30);

/// Between a crash that was seen and the restart: calls go on without the process for so long.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// For the caller's drain: by then every call has ended.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Between two looks at what is awaited.
const TICK: Duration = Duration::from_millis(10);

/// Runs the scenario and weighs it. The workers and the servers have ended when it returns.
pub(crate) fn run(
    options: &CallsOptions,
    console: Console,
    interrupt: &Interrupt,
) -> Result<CallsReport, RunError> {
    let mut surroundings = Surroundings::before_run();
    console.line(format_args!(
        "croupier {}: calls, {} for {}, {} in {}, {} {}, {}, {}, seed {}",
        env!("CARGO_PKG_VERSION"),
        options.rate,
        with_warmup(options.duration, options.warmup),
        counted(options.workers, "worker"),
        counted(options.processes, "process"),
        counted(options.key_count, "key"),
        options.keys.name(),
        options.size,
        counted(options.faults.len(), "fault"),
        options.seed,
    ));
    let mut servers = LocalCluster::start(options.clusters)?;
    if let Some(folder) = &options.output.folder {
        servers.copy_logs_to(folder);
    }
    let pids = (0..options.clusters).map(|cluster| servers.pid(cluster, 0)).collect::<Result<Vec<_>, _>>()?;
    let pids: Vec<u32> = pids.into_iter().flatten().collect();
    surroundings.nats_server = Some(servers.server_version().to_owned());
    console.line(format_args!("servers     {} x nats-server {}", pids.len(), servers.server_version()));

    let run = mix(monotonic_nanos() ^ mix(u64::from(std::process::id())));
    let schedule = Schedule::new(options.rate, options.warmup, options.duration);
    let caller = Caller::new(Assignment {
        run,
        schedule: schedule.clone(),
        keys: Keys::new(options.keys, options.key_count, options.seed),
        traffic: Traffic::new(options.seed, KeyChoice::Uniform, 1, options.size),
        timeout: options.timeout,
        overrun_nanos: nanos(OVERRUN_MAX),
        // A fault that strikes so early may leave a backlog of any size.
        is_patient: options.faults.iter().any(|fault| fault.at < backlog::DECIDED_WITHIN),
    });
    let caller = if console.is_screen() { caller.watched(options.processes) } else { caller };
    let caller = Arc::new(caller);
    let node = start_caller(&servers)?;
    let handle = node.handle();
    let address = handle.registry_addr().map(|address| address.to_string()).unwrap_or_default();
    on_shard(&node, {
        let caller = Arc::clone(&caller);
        async move |shard: Shard| caller.watch(&shard)
    })?;

    let crew = Crew::start(WorkerOf::Calls, options.processes, interrupt)?;
    let mut course = Course {
        crew,
        console,
        options,
        run,
        seed: address,
        clusters: (0..options.clusters).map(|index| servers.servers(index)).collect(),
        caller: Arc::clone(&caller),
        lives: vec![0; options.processes],
        journals: Vec::new(),
        begun: None,
        shown: (0, 0, 0),
        look: Look::new(console, options.rate.per_second()),
    };
    for process in 0..options.processes {
        course.start(process)?;
    }
    course.await_workers(&node)?;

    let start = Instant::now() + START_DELAY;
    let start_nanos = monotonic_nanos() + nanos(START_DELAY);
    course.begun = Some(start);
    course.crew.begin();
    on_shard(&node, {
        let caller = Arc::clone(&caller);
        async move |shard: Shard| {
            let of_task = shard.clone();
            shard.spawn(caller.call_all(of_task, start_nanos));
        }
    })?;
    let all = course.crew.fleet.running();
    course.crew.ask_all(&all, &Order::Churn)?;

    let measured_from = start + Duration::from_nanos(schedule.measured_from_nanos());
    course.wait_until(measured_from)?;
    let cpu_before = course.crew.cpu(&pids);
    let mut outages = Vec::new();
    for fault in &options.faults {
        course.wait_while(measured_from + fault.at, |caller| caller.gave_up_nanos().is_none())?;
        if course.crew.interrupted().is_some() || caller.gave_up_nanos().is_some() {
            break;
        }
        outages.push((fault, course.suffer(fault)?));
    }
    let end = start + Duration::from_nanos(schedule.end_nanos());
    course.wait_while(end, |caller| caller.gave_up_nanos().is_none())?;
    let gave_up_nanos = caller.gave_up_nanos();
    if let Some(gave_up_nanos) = gave_up_nanos {
        console.line(backlog::given_up(gave_up_nanos, schedule.measured_from_nanos()));
    }
    let interrupted = course
        .crew
        .interrupted()
        .map(|signal| Interruption { signal, at_nanos: monotonic_nanos().saturating_sub(start_nanos) });
    if let Some(interruption) = interrupted {
        console.line(interruption.told(schedule.measured_from_nanos()));
        caller.stop();
    }
    course.crew.collect();
    let last_end = Instant::now() + OVERRUN_MAX + options.timeout + END_MAX;
    course.wait_while(last_end, |caller| {
        let (made, ended, _) = caller.progress();
        !caller.has_called_all() || ended < made
    })?;
    let cpu = course.crew.cpu(&pids).since(&cpu_before);

    let counted = course.hand_in()?;
    let executions = course.executions()?;
    let disconnects = handle.stats().iter().flat_map(|shard| &shard.links).map(|link| link.disconnects).sum();
    drop(course);
    block_on(handle.drain())?;
    node.join()?;

    let calls = std::mem::take(&mut *caller.calls());
    let measured_from_nanos = start_nanos + schedule.measured_from_nanos();
    let quarter = (schedule.end_nanos() - schedule.measured_from_nanos()) / 4;
    let phase = Phase {
        from_nanos: measured_from_nanos,
        early_until_nanos: measured_from_nanos + quarter,
        timeout_nanos: nanos(options.timeout),
    };
    let known: Vec<Outage> = outages.iter().map(|(_, seen)| seen.outage).collect();
    let judgement = Judgement::of(&calls, &executions, &known, phase);
    let series = series_of(&calls, &schedule, start_nanos);
    let part = caller.assignment().schedule.of_shard(0, 1);
    let stopped_nanos = interrupted.map(|interruption| interruption.at_nanos).or(gave_up_nanos);
    surroundings.pressure_after_percent = surroundings::pressure_percent();
    Ok(Findings {
        options,
        unsent: part.remaining().saturating_sub(calls.len() as u64),
        gave_up_nanos: gave_up_nanos.map(|at| at.saturating_sub(schedule.measured_from_nanos())),
        stopped_nanos,
        asked_nanos: stopped_nanos
            .unwrap_or(schedule.end_nanos())
            .saturating_sub(schedule.measured_from_nanos()),
        interruption: interrupted.map(|interruption| interruption.reason(schedule.measured_from_nanos())),
        measured_from_nanos,
        judgement,
        series,
        measured_from_offset_nanos: schedule.measured_from_nanos(),
        counted,
        disconnects,
        faults: outages
            .iter()
            .map(|(fault, seen)| FaultReport::of(fault, seen, measured_from_nanos))
            .collect(),
        cpu,
        surroundings,
    }
    .report())
}

/// The calls in intervals: those that were made as sent, those that were answered as delivered.
fn series_of(calls: &[Call], schedule: &Schedule, start_nanos: u64) -> Series {
    let mut series = Series::new(schedule.window(), 0);
    for call in calls {
        let due = call.intended_nanos.saturating_sub(start_nanos);
        series.sent(1, due, call.actual_nanos.saturating_sub(start_nanos));
        series.timed(Timed::Lag, due, call.actual_nanos.saturating_sub(call.intended_nanos));
        match call.end {
            End::Answered { .. } => {
                series.delivered(due, call.ended_nanos.saturating_sub(start_nanos), 0);
                series.timed(Timed::Service, due, call.ended_nanos.saturating_sub(call.actual_nanos));
            }
            End::Pending => {}
            _ => series.timed(Timed::Failed, due, call.ended_nanos.saturating_sub(call.intended_nanos)),
        }
    }
    series
}

fn start_caller(servers: &LocalCluster) -> Result<Node, RunError> {
    let registry = RegistryConfig::new(CLUSTER).bind("127.0.0.1:0");
    let mut builder = servers.builder().name("caller").shards(1).registry(registry);
    builder.config_mut().limits.drain_timeout = DRAIN_MAX;
    Ok(builder.start(async |_| Ok(()))?)
}

fn on_shard<F: AsyncFnOnce(Shard) + Send + 'static>(node: &Node, work: F) -> Result<(), RunError> {
    block_on(node.handle().submit_to(0, work)).map_err(|error| RunError::Node(error.into()))
}

/// What was seen of a fault.
struct Seen {
    outage: Outage,
    /// When the first of its instances was seen again.
    back_nanos: Option<u64>,
}

/// The main thread's part of a run.
struct Course<'a> {
    crew: Crew<'a, News>,
    console: Console,
    options: &'a CallsOptions,
    run: u64,
    /// Where the caller's node listens.
    seed: String,
    clusters: Vec<Vec<String>>,
    caller: Arc<Caller>,
    /// By process.
    lives: Vec<u64>,
    /// Of every life; their names are gone already, so that nothing is left behind.
    journals: Vec<File>,
    begun: Option<Instant>,
    /// Time since the start, in nanoseconds, calls made and calls answered as of the last progress line.
    shown: (u64, u64, u64),
    look: Look,
}

impl Course<'_> {
    /// Starts the node of a process that runs, for its next life.
    fn start(&mut self, process: usize) -> Result<(), RunError> {
        self.lives[process] += 1;
        let life = self.lives[process];
        let journal_error =
            |error: io::Error| RunError::Process { process, reason: format!("its journal: {error}") };
        let path = Journal::new(process, life);
        let file = File::options().read(true).append(true).create_new(true).open(&path.0);
        self.journals.push(file.map_err(journal_error)?);
        let share = self.options.workers / self.options.processes;
        let has_one_more = process < self.options.workers % self.options.processes;
        let setup = Setup {
            process,
            life,
            run: self.run,
            seed: self.seed.clone(),
            clusters: self.clusters.clone(),
            instances: share + usize::from(has_one_more),
            churn_nanos: nanos(self.options.churn),
            journal: path.0.clone(),
        };
        self.crew.ask(process, &Order::Start(setup))?;
        Ok(())
    }

    /// Waits until the caller sees every instance.
    fn await_workers(&mut self, node: &Node) -> Result<(), RunError> {
        let (handle, workers) = (node.handle(), self.options.workers);
        let until = Instant::now() + SEEN_MAX;
        self.wait_while(until, |_| handle.get_online_services(KIND).len() < workers)?;
        if handle.get_online_services(KIND).len() < workers {
            return Err(RunError::Silent { what: "register all their workers", waited: SEEN_MAX });
        }
        let (workers, processes) = (counted(workers, "worker"), counted(self.options.processes, "process"));
        self.console.line(format_args!("registered  {workers} in {processes}"));
        self.wait_until(Instant::now() + SETTLE)
    }

    fn suffer(&mut self, fault: &Fault) -> Result<Seen, RunError> {
        let process = fault.node - 1;
        let life = self.lives[process];
        let (signal_nanos, detected_nanos, revived_nanos) = match fault.act {
            Act::Kill => {
                let signal_nanos = self.crew.fleet.kill(process)?;
                let detected_nanos = self.await_presence(process, false, signal_nanos, SEEN_MAX)?;
                self.wait_until(Instant::now() + RESTART_AFTER)?;
                let revived_nanos = monotonic_nanos();
                self.crew.fleet.restart(process)?;
                self.start(process)?;
                self.crew.ask(process, &Order::Churn)?;
                (signal_nanos, detected_nanos, revived_nanos)
            }
            Act::Freeze(length) => {
                let signal_nanos = self.crew.fleet.signal(process, libc::SIGSTOP)?;
                let until = Instant::now() + length;
                let detected_nanos = self.await_presence(process, false, signal_nanos, length)?;
                self.wait_until(until)?;
                (signal_nanos, detected_nanos, self.crew.fleet.signal(process, libc::SIGCONT)?)
            }
        };
        let back_nanos = match detected_nanos {
            Some(_) => self.await_presence(process, true, revived_nanos, SEEN_MAX)?,
            None => None,
        };
        let outage = Outage { process, life, signal_nanos, detected_nanos, revived_nanos };
        let seen = Seen { outage, back_nanos };
        let millis = |at: Option<u64>, since: u64| {
            at.map_or_else(
                || "not seen".to_owned(),
                |at| format!("{:.1} ms", at.saturating_sub(since) as f64 / 1e6),
            )
        };
        self.console.line(format_args!(
            "fault       {}: gone for the caller after {}, back after {}",
            fault.name('w'),
            millis(detected_nanos, signal_nanos),
            millis(back_nanos, revived_nanos)
        ));
        Ok(seen)
    }

    /// When the caller saw a process's instances come or go, after `since_nanos` and within `wait`.
    fn await_presence(
        &mut self,
        process: usize,
        is_there: bool,
        since_nanos: u64,
        wait: Duration,
    ) -> Result<Option<u64>, RunError> {
        let find = |caller: &Caller| {
            let is_it = |presence: &&caller::Presence| {
                (presence.process, presence.is_there) == (process, is_there)
                    && presence.at_nanos >= since_nanos
            };
            caller.presences().iter().find(is_it).map(|presence| presence.at_nanos)
        };
        self.wait_while(Instant::now() + wait, |caller| find(caller).is_none())?;
        Ok(find(&self.caller))
    }

    fn hand_in(&mut self) -> Result<Counted, RunError> {
        let all = self.crew.fleet.running();
        let mut sum = Counted::default();
        for (process, news) in self.crew.ask_all(&all, &Order::HandIn)?.into_iter().enumerate() {
            let News::Counted(counted) = news else {
                return Err(RunError::Process { process, reason: "an answer to another order".to_owned() });
            };
            sum.added += counted.added;
            sum.removed += counted.removed;
            sum.corrupt += counted.corrupt;
            sum.unanswered += counted.unanswered;
        }
        Ok(sum)
    }

    /// The number of the call for each execution, of every life of every process.
    fn executions(&mut self) -> Result<Vec<u64>, RunError> {
        let mut numbers = Vec::new();
        for journal in &mut self.journals {
            let mut bytes = Vec::new();
            journal.read_to_end(&mut bytes).map_err(|error| RunError::Process {
                process: 0,
                reason: format!("a journal cannot be read: {error}"),
            })?;
            numbers.extend(bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)));
        }
        Ok(numbers)
    }

    fn wait_until(&mut self, time: Instant) -> Result<(), RunError> {
        self.wait_while(time, |_| true)
    }

    /// Waits while `is_awaited`, until `until` at most, and looks after the workers and the progress.
    fn wait_while(&mut self, until: Instant, is_awaited: impl Fn(&Caller) -> bool) -> Result<(), RunError> {
        while is_awaited(&self.caller) && Instant::now() < until && self.crew.interrupted().is_none() {
            let next = Instant::now() + TICK;
            self.crew.wait_until(next.min(until))?;
            self.show_progress();
        }
        Ok(())
    }

    fn show_progress(&mut self) {
        let Some(begun) = self.begun else { return };
        self.look.look(&self.caller, Instant::now().saturating_duration_since(begun));
        let now = nanos(Instant::now().saturating_duration_since(begun));
        let measured_from_nanos = self.caller.assignment().schedule.measured_from_nanos();
        if now < next_second_nanos(self.shown.0, measured_from_nanos) {
            return;
        }
        let (made, ended, answered) = self.caller.progress();
        self.console.line(format_args!(
            "{:>5.0} s  calls {:>9}  answered {:>9}  under way {:>6}  failed {:>6}",
            // Never "-0".
            measured_s(now, measured_from_nanos).round() + 0.0,
            grouped(made - self.shown.1),
            grouped(answered - self.shown.2),
            grouped(made - ended),
            grouped(ended - answered),
        ));
        self.shown = (now, made, answered);
    }
}

/// The name of a journal, which is taken away when the worker has opened it.
struct Journal(PathBuf);

impl Journal {
    fn new(process: usize, life: u64) -> Self {
        let name = format!("croupier-calls-{}-{process}-{life}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It is gone already when it could not be made.
        drop(std::fs::remove_file(&self.0));
    }
}
