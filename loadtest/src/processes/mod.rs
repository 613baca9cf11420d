//! A run over several processes: each has a node with its shards, and this one holds them together.

mod protocol;
mod worker;

use std::time::{Duration, Instant};

use self::protocol::{Home, News, Order, Setup};
pub(crate) use self::worker::work;
use crate::backlog;
use crate::cli::WorkerOf;
use crate::clock::{measured_s, monotonic_nanos, next_second_nanos};
use crate::console::Console;
use crate::control::Totals;
use crate::cpu::CpuTimes;
use crate::crew::Crew;
use crate::fault::{Injector, Pages, Routes, Witness};
use crate::findings::Findings;
use crate::interrupt::{Interrupt, Interruption};
use crate::live::{self, Row, Sight, Table, Watch};
use crate::options::RunOptions;
use crate::plan::{OVERRUN_MAX, Plan};
use crate::quantity::{counted, grouped};
use crate::report::Report;
use crate::scenario::{ARRIVAL_MAX, LINGER, QUIET_MAX, ROUTES_DELAY, RunError, SEND_GRACE};
use crate::servers::{self, Servers};
use crate::surroundings::{self, Surroundings};
use crate::worker::{Assignment, Outcome};

/// From the last order to the first message, so that every process has taken it.
const START_DELAY: Duration = Duration::from_millis(300);

/// Between two looks at the counters of the processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the scenario over its processes and weighs it. They and the servers have ended when it returns.
pub(crate) fn run(options: &RunOptions, console: Console, interrupt: &Interrupt) -> Result<Report, RunError> {
    let mut surroundings = Surroundings::before_run();
    let routes = Routes::new(&options.faults)?;
    let mut servers = Servers::start(options, &routes, console)?;
    surroundings.nats_server = servers.version();
    let plan = Plan::of(options);
    let assignment = plan.assignment(servers::clusters(&mut servers.builder()?), 0);
    let detour = servers.detour(&options.faults)?;
    let home = Home::of(&servers, &detour);

    let mut course = Course {
        crew: Crew::start(WorkerOf::Load, options.processes, interrupt)?,
        console,
        assignment: &assignment,
        all: (0..options.processes).collect(),
        nodes: options.nodes,
        servers: &mut servers,
        injector: Injector::new(options.faults.clone(), detour, routes),
        start_nanos: 0,
        measured_from: None,
        interrupted: None,
        has_told_end: false,
        shown: (0, Totals::default()),
        watch: Watch::new(
            console,
            0,
            assignment.clusters.iter().map(ToString::to_string).collect(),
            options.pace.per_second().round() as u64,
            assignment.roles.copies(),
        ),
    };
    let asked = Instant::now();
    for process in 0..options.processes {
        let setup = Setup {
            process,
            shards: options.shards,
            is_watched: console.is_screen(),
            plan: plan.clone(),
            home: home.clone(),
        };
        course.crew.ask(process, &Order::Start(Box::new(setup)))?;
    }
    console.line(format_args!(
        "subscribed  {} in {} in {:.2} s",
        counted(assignment.traffic.topics(), "topic"),
        counted(options.processes, "process"),
        asked.elapsed().as_secs_f64()
    ));
    let has_routes = options.nodes > 1 || options.config.is_some();
    let cpu = course.send(if has_routes { ROUTES_DELAY } else { START_DELAY })?;
    let (outcomes, pages) = course.hand_in()?;
    let interrupted = course.interrupted;
    let witness = assignment.has_faults.then(|| Witness::new(&course.injector, pages, course.start_nanos));
    surroundings.pressure_after_percent = surroundings::pressure_percent();
    let findings = Findings {
        options,
        assignment: &assignment,
        outcomes,
        cpu,
        surroundings,
        witness,
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
    /// Servers of each cluster.
    nodes: usize,
    servers: &'a mut Servers,
    injector: Injector,
    /// On the machine's monotonic clock.
    start_nanos: u64,
    /// Where the faults' times count from, once it is known.
    measured_from: Option<Instant>,
    interrupted: Option<Interruption>,
    /// Whether the others were told that one has given up.
    has_told_end: bool,
    /// When the last progress line was shown, on the run's clock, and what it showed.
    shown: (u64, Totals),
    watch: Watch,
}

/// What all processes together have done.
struct Seen {
    totals: Totals,
    have_all_sent: bool,
    /// Whether some shard has lost a link that may come back.
    awaits_link: bool,
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
        self.measured_from = Some(measured_from);
        let give_up = start + Duration::from_nanos(schedule.end_nanos()) + OVERRUN_MAX + SEND_GRACE;
        while Instant::now() < measured_from && self.interrupted.is_none() {
            self.pause((measured_from - Instant::now()).min(LOOK_EVERY))?;
            self.look()?;
        }
        let before = self.cpu()?;
        while !self.look()?.have_all_sent {
            if Instant::now() >= give_up {
                return Err(RunError::Silent { what: "send", waited: OVERRUN_MAX + SEND_GRACE });
            }
            self.pause(LOOK_EVERY)?;
        }
        self.await_arrival()?;
        let cpu = self.cpu()?.since(&before);
        self.pause(LINGER)?;
        self.relent();
        Ok(cpu)
    }

    /// Processor time so far, of servers that were killed too.
    fn cpu(&mut self) -> Result<CpuTimes, RunError> {
        let pids = self.servers.own().map(servers::pids).transpose()?.unwrap_or_default();
        let running = self.crew.cpu(&pids);
        Ok(CpuTimes { servers: running.servers + self.injector.ended_servers(), ..running })
    }

    fn await_arrival(&mut self) -> Result<(), RunError> {
        let began = Instant::now();
        let (mut delivered, mut changed) = (0, began);
        loop {
            let Seen { totals, awaits_link, .. } = self.look()?;
            let now = Instant::now();
            if totals.delivered != delivered {
                (delivered, changed) = (totals.delivered, now);
            }
            // What waits for a link arrives when the link is back.
            let is_quiet = now - changed >= QUIET_MAX && !awaits_link;
            if delivered >= totals.sent || is_quiet || now - began >= ARRIVAL_MAX {
                return Ok(());
            }
            self.pause(LOOK_EVERY)?;
        }
    }

    /// Heeds a signal, and asks all processes how far they are.
    fn look(&mut self) -> Result<Seen, RunError> {
        if let Some(signal) = self.crew.interrupted() {
            let at_nanos = monotonic_nanos().saturating_sub(self.start_nanos);
            let interruption = Interruption { signal, at_nanos };
            self.interrupted = Some(interruption);
            self.crew.collect();
            self.crew.ask_all(&self.all, &Order::Stop)?;
            self.relent();
            let told = interruption.told(self.assignment.schedule.measured_from_nanos());
            self.console.line(told);
        }
        let mut seen = Seen { totals: Totals::default(), have_all_sent: true, awaits_link: false };
        let is_watching = self.watch.is_due();
        let mut shown = live::Seen::nothing(self.assignment.clusters.len());
        let mut workers = Table { title: "processes", rows: Vec::new() };
        let mut gave_up = None;
        let answers = self.crew.ask_all(&self.all, &Order::Look { is_watching })?;
        for (process, news) in answers.into_iter().enumerate() {
            let News::Totals { totals, has_sent_all, gave_up_nanos, cut_off, seen: to_show } = news else {
                return Err(RunError::Process { process, reason: "an answer to another order".to_owned() });
            };
            gave_up = gave_up.or(gave_up_nanos);
            seen.totals.add(totals);
            seen.have_all_sent &= has_sent_all;
            let may_return = |cluster: &usize| !self.injector.is_down(*cluster, self.nodes);
            seen.awaits_link |= self.interrupted.is_none() && cut_off.iter().any(may_return);
            to_show.iter().for_each(|of_process| shown.add(of_process));
            let name = format!("w{}", process + 1);
            workers.rows.push(Row { name, count: totals.delivered, note: String::new() });
        }
        if let Some(gave_up_nanos) = gave_up.filter(|_| !self.has_told_end) {
            self.has_told_end = true;
            self.crew.ask_all(&self.all, &Order::Stop)?;
            self.console
                .line(backlog::given_up(gave_up_nanos, self.assignment.schedule.measured_from_nanos()));
        }
        if is_watching {
            let elapsed_nanos = monotonic_nanos().saturating_sub(self.start_nanos);
            let sight = Sight { elapsed_nanos, totals: seen.totals, seen: shown, workers };
            self.watch.show(sight, &self.assignment.schedule);
        }
        self.show_progress(seen.totals);
        Ok(seen)
    }

    /// Does to the servers what is due, of which all processes are told before.
    fn strike(&mut self) -> Result<(), RunError> {
        let (Some(from), Some(servers)) = (self.measured_from, self.servers.own()) else { return Ok(()) };
        let (crew, all, console) = (&mut self.crew, &self.all, self.console);
        let mut told = Ok(Vec::new());
        self.injector.strike(servers, from, |fault| {
            if told.is_ok() {
                told = crew.ask_all(all, &Order::Strike { cluster: fault.server.cluster });
            }
            console.line(format_args!("fault       {:.3} s  {fault}", from.elapsed().as_secs_f64()));
        })?;
        told.map(drop)
    }

    /// Ends what faults still do to the servers.
    fn relent(&mut self) {
        if let Some(servers) = self.servers.own() {
            self.injector.relent(servers);
        }
    }

    /// What the shards of all processes recorded, and what their links told.
    fn hand_in(&mut self) -> Result<(Vec<Outcome>, Pages), RunError> {
        self.crew.collect();
        let (mut outcomes, mut all_pages) = (Vec::new(), Pages::default());
        for (process, news) in self.crew.ask_all(&self.all, &Order::End)?.into_iter().enumerate() {
            let News::HandedIn { outcomes: of_process, pages } = news else {
                return Err(RunError::Process { process, reason: "an answer to another order".to_owned() });
            };
            outcomes.extend(of_process);
            all_pages.add(pages);
        }
        Ok((outcomes, all_pages))
    }

    /// Waits for so long, or until a signal, and does what is due meanwhile.
    fn pause(&mut self, pause: Duration) -> Result<(), RunError> {
        let until = Instant::now() + pause;
        loop {
            self.strike()?;
            let now = Instant::now();
            if now >= until || self.crew.interrupted().is_some() {
                return Ok(());
            }
            let due = self.measured_from.map_or(Duration::MAX, |from| self.injector.until_next(from));
            self.crew.wait_until(now + due.min(until - now))?;
        }
    }

    fn show_progress(&mut self, totals: Totals) {
        let now = monotonic_nanos().saturating_sub(self.start_nanos);
        let measured_from_nanos = self.assignment.schedule.measured_from_nanos();
        let (shown_at, shown) = self.shown;
        if now < next_second_nanos(shown_at, measured_from_nanos) {
            return;
        }
        let seconds = (now - shown_at) as f64 / 1e9;
        let per_second = |now: u64, before: u64| grouped(((now - before) as f64 / seconds).round() as u64);
        self.console.line(format_args!(
            "{:>5.0} s  {:<8}  sent {:>10}/s  delivered {:>10}/s  in flight {:>8}  busy {:>6}",
            // Never "-0".
            measured_s(now, measured_from_nanos).round() + 0.0,
            // By where the second began.
            live::phase(&self.assignment.schedule, shown_at),
            per_second(totals.sent, shown.sent),
            per_second(totals.delivered, shown.delivered),
            grouped(totals.sent.saturating_sub(totals.delivered)),
            grouped(totals.busy),
        ));
        self.shown = (now, totals);
    }
}
