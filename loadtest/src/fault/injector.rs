//! Does to the servers of a run what its timeline says, when it is time.

use std::io;
use std::time::{Duration, Instant};

use croupier::testing::{LocalCluster, LocalClusterError};

use super::detour::Detour;
use super::routes::Routes;
use super::timeline::{Deed, Part, Step, Timeline};
use super::{ServerFault, ServerId};
use crate::clock::{monotonic_nanos, nanos};
use crate::cpu::process_time;
use crate::proxy::Passage;

/// Owned by the main thread, which calls it between its looks at the run.
#[derive(Debug)]
pub(crate) struct Injector {
    timeline: Timeline,
    detour: Detour,
    routes: Routes,
    next: usize,
    /// By fault; none until it has struck.
    strikes: Vec<Option<Strike>>,
    /// Servers that are meant to be down.
    down: Vec<ServerId>,
    /// Processor time of the servers that were killed.
    ended: Duration,
}

/// A fault that has struck. Times are monotonic, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    /// Just before it was done.
    pub(crate) struck_nanos: u64,
    /// When it was over: what was to be done was done, a paused server goes on.
    pub(crate) ended_nanos: Option<u64>,
}

impl Injector {
    /// Of faults whose servers are reached by `detour`, and reach each other by `routes`.
    pub(crate) fn new(timeline: Timeline, detour: Detour, routes: Routes) -> Self {
        let strikes = vec![None; timeline.faults().len()];
        Self { timeline, detour, routes, next: 0, strikes, down: Vec::new(), ended: Duration::ZERO }
    }

    /// How long until something is to be done, in a measured phase that began at `measured_from`.
    pub(crate) fn until_next(&self, measured_from: Instant) -> Duration {
        let next = self.timeline.steps().get(self.next);
        next.map_or(Duration::MAX, |step| (measured_from + step.at).saturating_duration_since(Instant::now()))
    }

    /// Does what is due, and tells of each fault that begins with it.
    ///
    /// # Errors
    ///
    /// What a server did not do; what is due after it is not done.
    pub(crate) fn strike(
        &mut self,
        servers: &mut LocalCluster,
        measured_from: Instant,
        mut tell: impl FnMut(&ServerFault),
    ) -> Result<(), LocalClusterError> {
        while self.until_next(measured_from).is_zero() {
            let step = self.timeline.steps()[self.next];
            self.next += 1;
            if step.part != Part::End {
                tell(&self.timeline.faults()[step.fault]);
            }
            self.step(servers, step)?;
        }
        Ok(())
    }

    /// Lets servers go on that stand still, so that a run that ends early leaves none behind so.
    pub(crate) fn relent(&mut self, servers: &mut LocalCluster) {
        for step in &self.timeline.steps()[self.next..] {
            match step.deed {
                // One that has ended meanwhile need not go on.
                Deed::Continue => drop(servers.resume(step.server.cluster, step.server.node)),
                // A proxy that has ended lets nothing pass any more.
                Deed::Pass(Passage::Open) => drop(self.detour.pass(step.server, Passage::Open)),
                Deed::PassRoute(other, Passage::Open) => {
                    drop(self.pass_route(step.server, other, Passage::Open));
                }
                _ => {}
            }
        }
        self.next = self.timeline.steps().len();
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// By fault, in the order of the timeline.
    pub(crate) fn strikes(&self) -> &[Option<Strike>] {
        &self.strikes
    }

    /// Whether every server of a cluster of `nodes` is meant to be down.
    pub(crate) fn is_down(&self, cluster: usize, nodes: usize) -> bool {
        self.down.iter().filter(|server| server.cluster == cluster).count() >= nodes
    }

    /// Processor time of the servers that were killed, up to their ends.
    pub(crate) fn ended_servers(&self) -> Duration {
        self.ended
    }

    fn step(&mut self, servers: &mut LocalCluster, step: Step) -> Result<(), LocalClusterError> {
        let (cluster, node) = (step.server.cluster, step.server.node);
        let begun_nanos = monotonic_nanos();
        match step.deed {
            Deed::Kill => self.kill(servers, step.server)?,
            Deed::Start => self.start(servers, step.server)?,
            Deed::KillAndStart => {
                self.kill(servers, step.server)?;
                self.start(servers, step.server)?;
            }
            Deed::Stop => servers.pause(cluster, node)?,
            Deed::Continue => servers.resume(cluster, node)?,
            Deed::LameDuck => servers.lame_duck(cluster, node)?,
            Deed::Pass(passage) => self.detour.pass(step.server, passage).map_err(of_proxy)?,
            Deed::Break(how) => self.detour.end(step.server, how).map_err(of_proxy)?,
            Deed::PassRoute(other, passage) => {
                self.pass_route(step.server, other, passage).map_err(of_proxy)?;
            }
        }
        let done_nanos = monotonic_nanos();
        let strike = &mut self.strikes[step.fault];
        match step.part {
            Part::All => {
                *strike = Some(Strike { struck_nanos: begun_nanos, ended_nanos: Some(done_nanos) });
            }
            Part::Begin => *strike = Some(Strike { struck_nanos: begun_nanos, ended_nanos: None }),
            Part::End => {
                if let Some(strike) = strike {
                    strike.ended_nanos = Some(done_nanos);
                }
            }
        }
        Ok(())
    }

    fn pass_route(&self, server: ServerId, other: usize, passage: Passage) -> io::Result<()> {
        self.routes.pass(server.cluster, [server.node, other], passage)
    }

    fn kill(&mut self, servers: &mut LocalCluster, server: ServerId) -> Result<(), LocalClusterError> {
        let ServerId { cluster, node } = server;
        // In lame duck mode it may have ended by itself.
        if let Some(pid) = servers.pid(cluster, node)? {
            self.ended += process_time(pid).unwrap_or_default();
            servers.kill(cluster, node)?;
        }
        self.down.push(server);
        Ok(())
    }

    fn start(&mut self, servers: &mut LocalCluster, server: ServerId) -> Result<(), LocalClusterError> {
        servers.start_again(server.cluster, server.node)?;
        self.down.retain(|down| *down != server);
        Ok(())
    }
}

fn of_proxy(source: io::Error) -> LocalClusterError {
    LocalClusterError::System { doing: "use the proxy".to_owned(), source }
}

/// On the run's clock, which began at the monotonic time `start_nanos`.
pub(crate) fn on_run_clock(at_nanos: u64, start_nanos: u64) -> u64 {
    at_nanos.saturating_sub(start_nanos)
}

/// The monotonic time of an instant that is not far away.
pub(crate) fn monotonic_of(time: Instant) -> u64 {
    let now = Instant::now();
    let now_nanos = monotonic_nanos();
    if time >= now { now_nanos + nanos(time - now) } else { now_nanos.saturating_sub(nanos(now - time)) }
}
