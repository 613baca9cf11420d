//! The registry scenario: nodes in several processes change what they offer, and every other node watches.

mod convergence;
mod faults;
mod look;
mod member;
mod passages;
mod plan;
mod protocol;
mod report;
mod shown;
mod tracker;
mod worker;

use std::time::{Duration, Instant};

use croupier::testing::LocalCluster;

use self::convergence::Convergence;
use self::look::Look;
use self::passages::Passages;
use self::protocol::{News, NodeSetup, Order, Record, Setup, Shown, Traffic};
pub(crate) use self::report::{ArgumentsReport, MEASURES, RegistryReport};
use self::report::{BytesReport, Findings, MemoryReport};
use self::shown::services_of_node;
pub(crate) use self::worker::work;
use crate::cli::WorkerOf;
use crate::clock::{measured_s, monotonic_nanos, nanos, next_second_nanos};
use crate::console::Console;
use crate::crew::{Crew, Reply};
use crate::interrupt::{Interrupt, Interruption};
use crate::live::Pulse;
use crate::options::RegistryOptions;
use crate::quantity::{counted, grouped, whole, with_warmup};
use crate::report::rounded;
use crate::scenario::RunError;
use crate::schedule::Schedule;
use crate::surroundings::{self, Surroundings};

/// From the last preparation to the first change, so that every node is waiting for it.
const START_DELAY: Duration = Duration::from_millis(200);

/// How long nothing happens while the heartbeats alone are counted.
const IDLE: Duration = Duration::from_secs(2);

/// How long after the end of the schedule a node that is behind may still make changes.
const OVERRUN_MAX: Duration = Duration::from_secs(5);

/// What no node has seen when nothing at all has been seen for so long is missing.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// The longest wait for the last changes, even while some are still seen.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// By then all nodes list the same after a fault.
const AGREE_MAX: Duration = Duration::from_secs(15);

/// Between two looks at how far the nodes are.
/// Between two looks at what is awaited.
const POLL: Duration = Duration::from_millis(100);

/// Runs the scenario and weighs it. The workers and the servers have ended when it returns.
pub(crate) fn run(
    options: &RegistryOptions,
    console: Console,
    interrupt: &Interrupt,
) -> Result<RegistryReport, RunError> {
    let mut surroundings = Surroundings::before_run();
    console.line(format_args!(
        "croupier {}: registry, {} changes/s for {}, {} of {} in {}, {} each and {} that change, {}",
        env!("CARGO_PKG_VERSION"),
        grouped(options.rate.per_second()),
        with_warmup(options.duration, options.warmup),
        counted(options.nodes, "node"),
        counted(options.shards, "shard"),
        counted(options.processes, "process"),
        counted(options.entries, "service"),
        plan::POOL,
        counted(options.faults.len(), "fault"),
    ));
    let mut servers = LocalCluster::start(options.clusters)?;
    if let Some(folder) = &options.output.folder {
        servers.copy_logs_to(folder);
    }
    let pids = (0..options.clusters).map(|cluster| servers.pid(cluster, 0)).collect::<Result<Vec<_>, _>>()?;
    let pids: Vec<u32> = pids.into_iter().flatten().collect();
    surroundings.nats_server = Some(servers.server_version().to_owned());
    console.line(format_args!("servers     {} x nats-server {}", pids.len(), servers.server_version()));

    let crew = Crew::start(WorkerOf::Registry, options.processes, interrupt)?;
    let mut cluster = Cluster {
        crew,
        console,
        options,
        clusters: (0..options.clusters).map(|index| servers.servers(index)).collect(),
        addresses: vec![String::new(); options.nodes],
        passages: Passages::new(&options.faults, options.nodes).map_err(RunError::Proxy)?,
        made: vec![0; options.nodes],
        false_alarms: 0,
        look: None,
        told: (0, 0, 0),
        is_in_faults: false,
        held: None,
    };
    let memory = cluster.prepare()?;
    let (idle, idle_for) = cluster.idle()?;

    let schedule = Schedule::new(options.rate, options.warmup, options.duration);
    let begun = Instant::now() + START_DELAY;
    let start_nanos = monotonic_nanos() + nanos(START_DELAY);
    cluster.ask_all(&Order::Begin { start_nanos })?;
    cluster.crew.begin();
    let (nodes, rate) = (options.nodes, options.rate.per_second());
    cluster.look = Some(Look::new(Pulse::new(console), &schedule, start_nanos, nodes, rate));
    let measured_from_nanos = schedule.measured_from_nanos();
    cluster.show_until(begun, begun + Duration::from_nanos(measured_from_nanos), measured_from_nanos)?;
    let cpu_before = cluster.crew.cpu(&pids);
    let (before, since) = (cluster.traffic()?, Instant::now());
    cluster.show_until(begun, begun + Duration::from_nanos(schedule.end_nanos()), measured_from_nanos)?;
    let interrupted = cluster.stop_early(start_nanos, measured_from_nanos)?;
    cluster.await_convergence()?;
    let (traffic, lasted) = (cluster.traffic()?.since(&before), since.elapsed());
    let cpu = cluster.crew.cpu(&pids).since(&cpu_before);
    let records = cluster.records()?;
    let convergence = Convergence::of(&records, options.nodes, &schedule, start_nanos);
    drop(records);
    cluster.made.clone_from(&convergence.made);

    let agreed_before = cluster.agree()?;
    cluster.is_in_faults = !options.faults.is_empty();
    cluster.look_now()?;
    let faults = if interrupted.is_none() { cluster.suffer(&options.faults)? } else { Vec::new() };
    // In the faults there is nothing to stop.
    let interrupted = interrupted.or(cluster.interruption(start_nanos));
    cluster.crew.collect();
    let agreed_after = cluster.agree()?;
    cluster.look_now()?;
    cluster.count_unexpected()?;

    surroundings.pressure_after_percent = surroundings::pressure_percent();
    let others = options.nodes as u64 - 1;
    Ok(Findings {
        options,
        schedule: &schedule,
        interrupted,
        convergence,
        bytes: BytesReport::of(&traffic, lasted, &idle, idle_for, others),
        traffic,
        memory,
        faults,
        agreed: [agreed_before, agreed_after],
        services: cluster
            .made
            .iter()
            .map(|made| options.entries as u64 + plan::pool_after(*made).count() as u64)
            .sum(),
        false_alarms: cluster.false_alarms,
        cpu,
        surroundings,
    }
    .report())
}

impl Reply for News {
    fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    fn is_event(&self) -> bool {
        matches!(self, Self::Turned { .. })
    }
}

/// The nodes of a run as the main thread knows them.
struct Cluster<'a> {
    crew: Crew<'a, News>,
    console: Console,
    options: &'a RegistryOptions,
    /// The servers of each cluster.
    clusters: Vec<Vec<String>>,
    /// By node, where it listens; empty before its first start.
    addresses: Vec<String>,
    passages: Passages,
    /// Changes that each node has made in its life.
    made: Vec<u64>,
    /// Times that a node found another one gone that was not.
    false_alarms: u64,
    /// For the live view, once the changes have begun.
    look: Option<Look>,
    /// Time since the start, in nanoseconds, changes made and changes seen as of the last progress line.
    told: (u64, u64, u64),
    is_in_faults: bool,
    /// The process that stands still: it answers nobody.
    held: Option<usize>,
}

impl Cluster<'_> {
    fn nodes_in_all(&self) -> usize {
        self.options.nodes
    }

    fn process_of(&self, node: usize) -> usize {
        node % self.options.processes
    }

    fn nodes_of(&self, process: usize) -> Vec<usize> {
        (0..self.options.nodes).filter(|node| self.process_of(*node) == process).collect()
    }

    /// What the nodes of a process are told: to listen where they did before, and where to find the others.
    fn setup_of(&self, process: usize) -> Setup {
        let options = self.options;
        let node_setup = |number: usize| {
            let known = &self.addresses[number];
            let others = (0..options.nodes).filter(|other| *other != number);
            let started = others.filter(|other| !self.addresses[*other].is_empty());
            let reached =
                |other| self.passages.address(other).unwrap_or_else(|| self.addresses[other].clone());
            NodeSetup {
                number,
                bind: if known.is_empty() { "127.0.0.1:0".to_owned() } else { known.clone() },
                advertise: self.passages.address(number),
                seeds: started.map(reached).collect(),
            }
        };
        Setup {
            nodes: self.nodes_of(process).into_iter().map(node_setup).collect(),
            clusters: self.clusters.clone(),
            shards: options.shards,
            entries: options.entries as u64,
            nodes_in_all: options.nodes,
            rate_per_second: options.rate.per_second(),
            warmup_nanos: nanos(options.warmup),
            duration_nanos: nanos(options.duration),
            overrun_nanos: nanos(OVERRUN_MAX),
        }
    }

    fn ask_all(&mut self, order: &Order) -> Result<Vec<News>, RunError> {
        let all = self.crew.fleet.running();
        self.crew.ask_all(&all, order)
    }

    /// Starts and links the nodes, loads them, and has them watch each other.
    fn prepare(&mut self) -> Result<MemoryReport, RunError> {
        let began = Instant::now();
        for process in 0..self.crew.fleet.processes() {
            let order = Order::Start(self.setup_of(process));
            let News::Started { addresses } = self.crew.ask(process, &order)? else {
                return Err(unexpected(process));
            };
            for (node, address) in self.nodes_of(process).into_iter().zip(addresses) {
                self.passages.aim(node, &address).map_err(RunError::Proxy)?;
                self.addresses[node] = address;
            }
        }
        // Nodes that share a process do not know each other from their seeds, but from those that do.
        self.ask_all(&Order::Link)?;
        self.console.line(format_args!(
            "linked      {} in {:.2} s",
            counted(self.options.nodes, "node"),
            began.elapsed().as_secs_f64()
        ));
        let before = self.resident_bytes(&Order::Memory)?;
        let began = Instant::now();
        self.ask_all(&Order::Load)?;
        let after = self.resident_bytes(&Order::AwaitAll)?;
        let services = services_of_node(self.options.entries as u64) * self.options.nodes as u64;
        self.console.line(format_args!(
            "loaded      {} services, {} of each node, on every node within {:.2} s",
            grouped(services),
            grouped(services_of_node(self.options.entries as u64)),
            began.elapsed().as_secs_f64()
        ));
        self.ask_all(&Order::Watch)?;
        Ok(MemoryReport::of(before, after, services, self.options.nodes as u64))
    }

    fn resident_bytes(&mut self, order: &Order) -> Result<u64, RunError> {
        let answers = self.ask_all(order)?;
        let of_process = |(process, news)| match news {
            News::Memory { resident_bytes } => Ok(resident_bytes),
            _ => Err(unexpected(process)),
        };
        answers.into_iter().enumerate().map(of_process).sum()
    }

    /// What the nodes send while nothing changes, and for how long that was.
    fn idle(&mut self) -> Result<(Traffic, Duration), RunError> {
        let (before, since) = (self.traffic()?, Instant::now());
        self.crew.wait_until(since + IDLE)?;
        let idle = self.traffic()?.since(&before);
        Ok((idle, since.elapsed()))
    }

    fn traffic(&mut self) -> Result<Traffic, RunError> {
        let mut all = Traffic::default();
        for (process, news) in self.ask_all(&Order::Traffic)?.into_iter().enumerate() {
            let News::Traffic(traffic) = news else { return Err(unexpected(process)) };
            all.add(&traffic);
        }
        Ok(all)
    }

    /// Changes made, changes seen, and nodes that have made all of theirs.
    fn progress(&mut self) -> Result<(u64, u64, usize), RunError> {
        let mut all = (0, 0, 0);
        for (process, news) in self.ask_all(&Order::Progress)?.into_iter().enumerate() {
            let News::Progress { made, seen, finished } = news else { return Err(unexpected(process)) };
            all = (all.0 + made, all.1 + seen, all.2 + finished);
        }
        Ok(all)
    }

    /// Waits until `until`, with a line each second since `begun`.
    fn show_until(
        &mut self,
        begun: Instant,
        until: Instant,
        measured_from_nanos: u64,
    ) -> Result<(), RunError> {
        loop {
            let now = nanos(Instant::now().saturating_duration_since(begun));
            let next_nanos = next_second_nanos(now, measured_from_nanos);
            let next = begun + Duration::from_nanos(next_nanos);
            if next >= until {
                return self.look_until(until);
            }
            self.look_until(next)?;
            if self.crew.interrupted().is_some() {
                return Ok(());
            }
            let (made, seen, _) = self.progress()?;
            let others = self.options.nodes as u64 - 1;
            let (then_nanos, made_then, seen_then) = self.told;
            let at_nanos = nanos(Instant::now().saturating_duration_since(begun));
            let seconds = at_nanos.saturating_sub(then_nanos).max(1) as f64 / 1e9;
            let per_second = |now: u64, then: u64| whole(now.saturating_sub(then) as f64 / seconds);
            // The end of the warm-up has no line of its own: what comes after it does not wait for one.
            let phase = if next_nanos <= measured_from_nanos { "warm-up" } else { "measured" };
            self.console.line(format_args!(
                "{:>5.0} s  {phase:<8}  changes {:>8}/s  seen {:>8}/s  under way {:>6}",
                // Never "-0".
                measured_s(next_nanos, measured_from_nanos).round() + 0.0,
                per_second(made, made_then),
                per_second(seen, seen_then),
                grouped((made * others).saturating_sub(seen)),
            ));
            self.told = (at_nanos, made, seen);
        }
    }

    /// The signal that has cut the run short.
    fn interruption(&self, start_nanos: u64) -> Option<Interruption> {
        let at_nanos = monotonic_nanos().saturating_sub(start_nanos);
        self.crew.interrupted().map(|signal| Interruption { signal, at_nanos })
    }

    /// Has the changes end when a signal has cut the run short.
    fn stop_early(
        &mut self,
        start_nanos: u64,
        measured_from_nanos: u64,
    ) -> Result<Option<Interruption>, RunError> {
        let interrupted = self.interruption(start_nanos);
        if let Some(interruption) = interrupted {
            self.console.line(interruption.told(measured_from_nanos));
            self.crew.collect();
            self.ask_all(&Order::Stop)?;
        }
        Ok(interrupted)
    }

    /// Waits until every change was seen by every other node, or nothing more is seen.
    fn await_convergence(&mut self) -> Result<(), RunError> {
        let until = Instant::now() + OVERRUN_MAX + ARRIVAL_MAX;
        let (mut last, mut changed) = ((0, 0, 0), Instant::now());
        loop {
            let progress = self.progress()?;
            let now = Instant::now();
            if progress != last {
                (last, changed) = (progress, now);
            }
            let (made, seen, finished) = progress;
            let is_complete =
                finished == self.options.nodes && seen >= made * (self.options.nodes as u64 - 1);
            if is_complete || now - changed >= QUIET_MAX || now >= until {
                return Ok(());
            }
            self.look_until(now + POLL)?;
        }
    }

    fn records(&mut self) -> Result<Vec<Record>, RunError> {
        let mut all = Vec::new();
        for (process, news) in self.ask_all(&Order::HandIn)?.into_iter().enumerate() {
            let News::Recorded(records) = news else { return Err(unexpected(process)) };
            all.extend(records);
        }
        Ok(all)
    }

    /// Whether all nodes list exactly what they have to, at the latest after some seconds: if not, which of
    /// them list what.
    fn agree(&mut self) -> Result<Option<String>, RunError> {
        let until = Instant::now() + AGREE_MAX;
        let entries = self.options.entries as u64;
        let expected = Shown::expected(0, entries, &self.made);
        loop {
            let mut differing = None;
            for (process, news) in self.ask_all(&Order::Show)?.into_iter().enumerate() {
                let News::Shown(all) = news else { return Err(unexpected(process)) };
                for shown in all {
                    if (&shown.services, shown.fingerprint) != (&expected.services, expected.fingerprint) {
                        differing = Some(shown);
                    }
                }
            }
            let Some(shown) = differing else { return Ok(None) };
            if Instant::now() >= until {
                return Ok(Some(format!(
                    "node {} lists {:?} services by node where {:?} are right{}",
                    plan::node_name(shown.node),
                    shown.services,
                    expected.services,
                    if shown.services == expected.services { ", with other contents" } else { "" }
                )));
            }
            self.crew.wait_until(Instant::now() + POLL)?;
        }
    }
}

fn unexpected(process: usize) -> RunError {
    RunError::Process { process, reason: "an answer to another order".to_owned() }
}

/// A duration in seconds, to the millisecond.
fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64(), 3)
}
