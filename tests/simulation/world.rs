//! All processes, and what happens to them one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use croupier_registry::wire::v1::Frame;
use croupier_registry::{DialResult, NodeKey};
use fastrand::Rng;

use crate::network::{Arrival, Event, Network};
use crate::node::{Context, Process};
use crate::oracle::{Counts, Oracle};
use crate::plan::{MS, Micros, Plan, SECOND};

/// A machine: at most one process at a time, and a clock.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) process: Option<Process>,
    pub(crate) stopped: bool,
    /// What its wall clock shows beyond the time that really passed.
    pub(crate) clock_ms: i64,
    /// The name of the process that it starts.
    pub(crate) name: String,
}

/// All there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: Network,
    pub(crate) oracle: Oracle,
    pub(crate) random: Rng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) archive: VecDeque<(NodeKey, Arc<Frame>, usize)>,
    /// From the end of the acts on, everything gets well.
    pub(crate) settling: bool,
    pub(crate) written: u64,
    processes: u32,
    /// Who dialled whom in the last second.
    dials: VecDeque<(Micros, (u32, String))>,
}

/// Runs a plan to its end: how much happened, and the sum of it; or which invariant broke, and when.
pub(crate) fn run(plan: Plan) -> Result<(Counts, u64), String> {
    let mut world = World::new(plan);
    world.begin();
    let result = world.act_until_the_end().and_then(|()| world.settle());
    let now = world.network.now;
    world.oracle.counts.micros = now;
    match result {
        Ok(()) => Ok((world.oracle.counts, world.oracle.trace)),
        Err(failure) => Err(format!("at {} ms: {failure}", now / MS)),
    }
}

impl World {
    fn new(plan: Plan) -> Self {
        let host =
            |host: usize| Host { process: None, stopped: false, clock_ms: 0, name: format!("node-{host}") };
        Self {
            network: Network::new(&plan),
            oracle: Oracle::new(plan.is_told),
            random: Rng::with_seed(plan.seed),
            hosts: (0..=plan.shards.len()).map(host).collect(),
            archive: VecDeque::new(),
            settling: false,
            written: 0,
            processes: 0,
            dials: VecDeque::new(),
            plan,
        }
    }

    fn begin(&mut self) {
        for host in 0..self.plan.shards.len() {
            let at = self.random.u64(..300 * MS);
            self.network.at(at, Event::Start { host });
        }
        if let Some((one, other)) = self.plan.broken {
            self.network.at(BREAK_AT, Event::Break { directions: vec![(one, other), (other, one)] });
        }
        self.network.at(0, Event::Act);
        self.network.at(0, Event::Check);
    }

    fn act_until_the_end(&mut self) -> Result<(), String> {
        self.run_until(self.plan.duration)
    }

    /// Lets everything happen that happens until then.
    pub(crate) fn run_until(&mut self, end: Micros) -> Result<(), String> {
        self.network.at(end, Event::Check);
        while self.network.now < end {
            let Some(event) = self.network.next() else { return Err("nothing happens any more".to_owned()) };
            self.oracle.counts.events += 1;
            if self.oracle.counts.events > EVENTS_MAX {
                return Err(format!("more than {EVENTS_MAX} events"));
            }
            self.oracle.mix(self.network.now);
            self.oracle.now = self.network.now;
            self.handle(event);
            if let Some(failure) = self.oracle.failure.take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Timer { host, process } => {
                if self.is_running(host, process) {
                    self.with(host, |process, cx| process.handle_timer(cx));
                }
            }
            Event::Pump { connection, end } => self.pump(connection, end),
            Event::Established { connection, end, dialled } => {
                let (host, process) = self.network.owner(connection, end);
                if self.is_alive(host, process) && self.hosts[host].stopped {
                    return self.later(Event::Established { connection, end, dialled });
                }
                self.network.establish(connection, end);
                if !self.is_alive(host, process) {
                    self.network.forget(connection, end);
                } else if self.network.is_open(connection, end) {
                    self.with(host, |process, cx| process.handle_established(connection, end, dialled, cx));
                }
            }
            Event::DialFailed { host, process, address, result } => {
                if self.is_running(host, process) {
                    self.with(host, |process, cx| process.handle_dial_failed(&address, result, cx));
                } else if self.is_alive(host, process) {
                    self.later(Event::DialFailed { host, process, address, result });
                }
            }
            Event::Gone { connection, end } => {
                let (host, process) = self.network.owner(connection, end);
                if self.is_running(host, process) {
                    self.with(host, |process, cx| process.handle_gone(connection, cx));
                } else if self.is_alive(host, process) {
                    return self.later(Event::Gone { connection, end });
                }
                self.network.forget(connection, end);
            }
            Event::Inbox { host, process } => {
                if self.is_running(host, process) {
                    self.with(host, |process, cx| process.settle(cx));
                }
            }
            Event::Late { host, from, frame, bytes } => {
                if !self.hosts[host].stopped && self.hosts[host].process.is_some() {
                    self.with(host, |process, cx| process.handle_stray(from, &frame, bytes, cx));
                }
            }
            Event::Act => {
                if !self.settling {
                    self.act();
                    let at = self.network.now + self.random.u64(1..2 * self.plan.gap);
                    self.network.at(at, Event::Act);
                }
            }
            Event::Check => {
                self.check_all();
                self.network.at(self.network.now + CHECK_INTERVAL, Event::Check);
            }
            Event::Start { host } => {
                if !self.settling {
                    self.start(host, None);
                }
            }
            Event::Resume { host } => {
                self.oracle.tell(|| format!("host {host} goes on"));
                self.resume(host);
            }
            Event::Break { directions } => self.network.cut(&directions),
            Event::Heal { directions } => {
                if !self.settling {
                    self.oracle.tell(|| format!("{directions:?} heal"));
                    self.network.heal(&directions);
                }
            }
        }
    }

    fn pump(&mut self, connection: usize, end: usize) {
        let (from, sender) = self.network.owner(connection, end);
        let (to, receiver) = self.network.owner(connection, 1 - end);
        let stopped = self.hosts[to].stopped;
        for arrival in self.network.pump(connection, end, stopped) {
            if !self.is_alive(to, receiver) {
                break;
            }
            match arrival {
                Arrival::Bytes { bytes, corrupted } => {
                    self.oracle.mix(bytes.len() as u64);
                    self.with(to, |process, cx| process.handle_bytes(connection, &bytes, corrupted, cx));
                }
                Arrival::End => self.with(to, |process, cx| process.handle_end(connection, cx)),
            }
        }
        if self.is_running(from, sender) {
            self.with(from, |process, cx| process.handle_writable(connection, cx));
        }
    }

    /// Does something with the process of a host, and then what it asks for.
    pub(crate) fn with<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Process, &mut Context<'_>) -> R,
    ) -> R {
        let mut process = self.hosts[host].process.take().expect("the caller made sure that there is one");
        let result = act(&mut process, &mut self.context());
        let number = process.number;
        let dials = std::mem::take(&mut process.dials);
        self.hosts[host].process = Some(process);
        for (address, deadline) in dials {
            self.dial(host, number, &address, deadline);
        }
        result
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            network: &mut self.network,
            oracle: &mut self.oracle,
            random: &mut self.random,
            plan: &self.plan,
            hostile: !self.settling,
            archive: &mut self.archive,
        }
    }

    fn dial(&mut self, from: usize, process: u32, address: &str, deadline: Micros) {
        let recent = &mut self.dials;
        recent.retain(|(at, ..)| at + SECOND > self.network.now);
        let dial = (process, address.to_owned());
        let count = recent.iter().filter(|(_, before)| *before == dial).count();
        self.oracle.require(count < DIALS_MAX, || format!("process {process} dials {address} without end"));
        recent.push_back((self.network.now, dial));
        let to = address.trim_start_matches("host-").parse().unwrap_or(usize::MAX);
        if self.network.is_blocked(from, to) || self.network.is_blocked(to, from) {
            return self.network.dial_fails(from, process, address, DialResult::Unreachable, deadline);
        }
        match self.hosts.get(to).and_then(|host| host.process.as_ref()) {
            Some(there) => self.network.connect((from, process), (to, there.number), address, deadline),
            None => {
                let after = self.network.delay();
                let (result, after) = if after < deadline {
                    (DialResult::Refused, after)
                } else {
                    (DialResult::Unreachable, deadline)
                };
                self.network.dial_fails(from, process, address, result, after);
            }
        }
    }

    pub(crate) fn start(&mut self, host: usize, twin_of: Option<usize>) {
        if self.hosts[host].process.is_some() {
            return;
        }
        if let Some(other) = twin_of {
            self.hosts[host].name = self.hosts[other].name.clone();
        }
        self.network.dark.remove(&host);
        self.hosts[host].stopped = false;
        self.processes += 1;
        let (number, name) = (self.processes, self.hosts[host].name.clone());
        let passed = i64::try_from(self.network.now / MS).unwrap_or(0);
        let unix_ms = CLOCK_BEGIN_MS + passed + self.hosts[host].clock_ms;
        self.oracle.tell(|| format!("host {host} starts process {number}, {name}"));
        let process =
            Process::start(number, host, &name, u64::try_from(unix_ms).unwrap_or(0), &mut self.context());
        self.hosts[host].process = Some(process);
        self.with(host, |_, _| {});
    }

    /// The process of a host is gone without a word.
    pub(crate) fn kill(&mut self, host: usize) {
        if let Some(process) = self.hosts[host].process.take() {
            self.hosts[host].stopped = false;
            self.network.abandon(process.number);
        }
    }

    pub(crate) fn resume(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].stopped)
            && let Some(process) = &self.hosts[host].process
        {
            // Whether bytes or timers come first is a matter of luck.
            let at = self.network.now + self.random.u64(..60 * MS);
            let number = process.number;
            self.network.at(at, Event::Timer { host, process: number });
        }
    }

    pub(crate) fn check_all(&mut self) {
        for host in &mut self.hosts {
            if let Some(process) = &mut host.process {
                process.check(&mut self.oracle);
            }
        }
    }

    /// Hosts with a process that is not stopped.
    pub(crate) fn running(&self) -> Vec<usize> {
        let hosts = self.hosts.iter().enumerate();
        hosts.filter(|(_, host)| host.process.is_some() && !host.stopped).map(|(at, _)| at).collect()
    }

    fn is_alive(&self, host: usize, process: u32) -> bool {
        self.hosts[host].process.as_ref().is_some_and(|there| there.number == process)
    }

    fn is_running(&self, host: usize, process: u32) -> bool {
        !self.hosts[host].stopped && self.is_alive(host, process)
    }

    /// The process of a stopped host will see it when it goes on.
    fn later(&mut self, event: Event) {
        self.network.at(self.network.now + 20 * MS, event);
    }
}

/// How often a process may dial an address in a second, whatever happens: a few times at once, a few more when that
/// which answers there has changed.
const DIALS_MAX: usize = 12;
/// The wall clock when a simulation begins, in Unix milliseconds.
const CLOCK_BEGIN_MS: i64 = 1_700_000_000_000;
/// When a pair loses each other for good.
const BREAK_AT: Micros = 2000 * MS;
/// How often everything is checked; what is touched is checked at once.
const CHECK_INTERVAL: Micros = 100 * MS;
/// Far more than any run takes.
const EVENTS_MAX: u64 = 2_000_000;
