//! A run over several processes: each has a node with its shards, and this one holds them together.

mod protocol;
mod worker;

use std::time::{Duration, Instant};

use self::protocol::{Home, News, Order, Setup};
pub(crate) use self::worker::work;
use crate::cli::WorkerOf;
use crate::clock::monotonic_nanos;
use crate::console::Console;
use crate::control::Totals;
use crate::cpu::CpuTimes;
use crate::crew::Crew;
use crate::findings::Findings;
use crate::interrupt::{Interrupt, Interruption};
use crate::options::RunOptions;
use crate::plan::{OVERRUN_MAX, Plan};
use crate::quantity::grouped;
use crate::report::Report;
use crate::scenario::{ARRIVAL_MAX, LINGER, QUIET_MAX, ROUTES_DELAY, RunError, SEND_GRACE, announce};
use crate::servers::{self, Servers};
use crate::surroundings::{self, Surroundings};
use crate::worker::{Assignment, Outcome};

/// From the last order to the first message, so that every process has taken it.
const START_DELAY: Duration = Duration::from_millis(300);

/// Between two looks at the counters of the processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Runs the scenario over its processes and weighs it. They and the servers have ended when it returns.
pub(crate) fn run(options: &RunOptions, console: Console, interrupt: &Interrupt) -> Result<Report, RunError> {
    let mut surroundings = Surroundings::before_run();
    announce(options, console);
    let mut servers = Servers::start(options, console)?;
    surroundings.nats_server = servers.version();
    let plan = Plan::of(options);
    let assignment = plan.assignment(servers::clusters(&mut servers.builder()?), 0);
    let home = Home::of(&mut servers);
    let pids = servers.own().map(servers::pids).transpose()?.unwrap_or_default();

    let mut course = Course {
        crew: Crew::start(WorkerOf::Load, options.processes, interrupt)?,
        console,
        assignment: &assignment,
        all: (0..options.processes).collect(),
        pids,
        start_nanos: 0,
        interrupted: None,
        shown: (0, Totals::default()),
    };
    let asked = Instant::now();
    for process in 0..options.processes {
        let setup = Setup { process, shards: options.shards, plan: plan.clone(), home: home.clone() };
        course.crew.ask(process, &Order::Start(Box::new(setup)))?;
    }
    console.line(format_args!(
        "subscribed  {} topics in {} processes in {:.2} s",
        grouped(assignment.traffic.topics() as u64),
        options.processes,
        asked.elapsed().as_secs_f64()
    ));
    let has_routes = options.nodes > 1 || options.config.is_some();
    let cpu = course.send(if has_routes { ROUTES_DELAY } else { START_DELAY })?;
    let outcomes = course.hand_in()?;
    let interrupted = course.interrupted;
    surroundings.pressure_after_percent = surroundings::pressure_percent();
    let findings = Findings {
        options,
        assignment: &assignment,
        outcomes,
        cpu,
        surroundings,
        witness: None,
        interrupted,
        beside: None,
    };
    Ok(findings.report())
}

/// The main thread's part of a run.
struct Course<'a> {
    crew: Crew<'a, News>,
    console: Console,
    assignment: &'a Assignment,
    /// The processes.
    all: Vec<usize>,
    /// Of the servers.
    pids: Vec<u32>,
    /// On the machine's monotonic clock.
    start_nanos: u64,
    interrupted: Option<Interruption>,
    /// The second of the last progress line, and what it showed.
    shown: (u64, Totals),
}

impl Course<'_> {
    /// Has everything sent; returns, when everything has arrived or nothing more does, the processor time of
    /// the measured phase.
    fn send(&mut self, delay: Duration) -> Result<CpuTimes, RunError> {
        let start = Instant::now() + delay;
        self.start_nanos = monotonic_nanos() + crate::clock::nanos(delay);
        self.crew.ask_all(&self.all, &Order::Go { start_nanos: self.start_nanos })?;
        self.crew.begin();
        let schedule = &self.assignment.schedule;
        let measured_from = start + Duration::from_nanos(schedule.measured_from_nanos());
        let give_up = start + Duration::from_nanos(schedule.end_nanos()) + OVERRUN_MAX + SEND_GRACE;
        while Instant::now() < measured_from && self.interrupted.is_none() {
            self.pause((measured_from - Instant::now()).min(LOOK_EVERY))?;
            self.look()?;
        }
        let before = self.crew.cpu(&self.pids);
        while !self.look()?.1 {
            if Instant::now() >= give_up {
                return Err(RunError::Silent { what: "send", waited: OVERRUN_MAX + SEND_GRACE });
            }
            self.pause(LOOK_EVERY)?;
        }
        self.await_arrival()?;
        let cpu = self.crew.cpu(&self.pids).since(&before);
        self.pause(LINGER)?;
        Ok(cpu)
    }

    fn await_arrival(&mut self) -> Result<(), RunError> {
        let began = Instant::now();
        let (mut delivered, mut changed) = (0, began);
        loop {
            let (totals, _) = self.look()?;
            let now = Instant::now();
            if totals.delivered != delivered {
                (delivered, changed) = (totals.delivered, now);
            }
            let is_quiet = now - changed >= QUIET_MAX || now - began >= ARRIVAL_MAX;
            if delivered >= totals.sent || is_quiet {
                return Ok(());
            }
            self.pause(LOOK_EVERY)?;
        }
    }

    /// The counters of all processes, and whether all have sent their parts.
    fn look(&mut self) -> Result<(Totals, bool), RunError> {
        if let Some(signal) = self.crew.interrupted() {
            let at_nanos = monotonic_nanos().saturating_sub(self.start_nanos);
            self.interrupted = Some(Interruption { signal, at_nanos });
            self.crew.collect();
            self.crew.ask_all(&self.all, &Order::Stop)?;
            self.console.line(format_args!("interrupted after {:.1} s; collecting", at_nanos as f64 / 1e9));
        }
        let (mut sum, mut have_all_sent) = (Totals::default(), true);
        for (process, news) in self.crew.ask_all(&self.all, &Order::Look)?.into_iter().enumerate() {
            let News::Totals { totals, has_sent_all } = news else {
                return Err(RunError::Process { process, reason: "an answer to another order".to_owned() });
            };
            sum.add(totals);
            have_all_sent &= has_sent_all;
        }
        self.show_progress(sum);
        Ok((sum, have_all_sent))
    }

    fn hand_in(&mut self) -> Result<Vec<Outcome>, RunError> {
        self.crew.collect();
        let mut outcomes = Vec::new();
        for (process, news) in self.crew.ask_all(&self.all, &Order::End)?.into_iter().enumerate() {
            let News::Outcomes(of_process) = news else {
                return Err(RunError::Process { process, reason: "an answer to another order".to_owned() });
            };
            outcomes.extend(of_process);
        }
        Ok(outcomes)
    }

    fn pause(&mut self, pause: Duration) -> Result<(), RunError> {
        self.crew.wait_until(Instant::now() + pause)
    }

    fn show_progress(&mut self, totals: Totals) {
        let passed = Duration::from_nanos(monotonic_nanos().saturating_sub(self.start_nanos));
        let second = passed.as_secs() / PROGRESS_EVERY.as_secs();
        let (shown_second, shown) = self.shown;
        if second <= shown_second {
            return;
        }
        let seconds = second - shown_second;
        self.console.line(format_args!(
            "{second:>5} s  sent {:>10}/s  delivered {:>10}/s  in flight {:>8}  busy {:>6}",
            grouped((totals.sent - shown.sent) / seconds),
            grouped((totals.delivered - shown.delivered) / seconds),
            grouped(totals.sent.saturating_sub(totals.delivered)),
            grouped(totals.busy),
        ));
        self.shown = (second, totals);
    }
}
