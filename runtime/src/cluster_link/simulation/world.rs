//! Links, servers and the network between them, and what happens to them one after the other.

use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use fastrand::Rng;

use super::{
    application::{AppSub, Done, Got},
    cluster::{Message, Peer, Server},
    operation::Operation,
    oracle::{Counts, Oracle, SERVER_LIMITS},
    plan::{MS, Micros, Plan, SECOND, host_of},
};
use crate::{
    Event,
    cluster_link::{Link, LinkStatus, run as run_link},
    events::EventCallback,
    latency::Latencies,
    node,
    node_shared::{NodeShared, ShardPort},
    registry_shard::RegistryShared,
    transport::simulated::{Dial, End, Host, Wire},
};

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Happening {
    Act,
    Check,
    /// Bytes come to a server.
    PumpOut {
        peer: usize,
    },
    /// Bytes come to a client.
    PumpIn {
        peer: usize,
    },
    /// What was dialled answers, or not.
    Dialled {
        dial: usize,
    },
    ServerPing {
        peer: usize,
    },
    Route {
        server: usize,
        message: Message,
        members: Vec<(usize, u64)>,
    },
    Reply {
        server: usize,
        message: Message,
    },
    /// A server that said so goes away.
    Gone {
        server: usize,
    },
    Start {
        server: usize,
    },
    /// A server that was unreachable, or stood still, is well again.
    Heal {
        server: usize,
    },
}

/// Whom a task belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The link's own task.
    Link(usize),
    /// The application's, which may publish this message.
    Application { link: usize, message: Option<u64> },
}

struct Task {
    owner: Owner,
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

/// Whether a task is to be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a link stands with its tries to connect.
#[derive(Clone, Debug, Default)]
pub(super) struct Trying {
    /// Connects that are under way.
    pub(super) dials: usize,
    /// Since when nothing has been tried.
    idle_since: Micros,
    /// Refusals in a row of the credentials, by server.
    refusals: BTreeMap<usize, u32>,
    pub(super) disconnects: u64,
    pub(super) is_connected: bool,
    is_ended: bool,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Rng,
    pub(super) host: Rc<Host>,
    happenings: BTreeMap<(Micros, u64), Happening>,
    scheduled: u64,
    pub(super) links: Vec<Rc<Link>>,
    pub(super) node: Arc<NodeShared>,
    events: Arc<Mutex<Vec<Event>>>,
    tasks: BTreeMap<u64, Task>,
    tasks_made: u64,
    pub(super) trying: Vec<Trying>,
    dials: Vec<(Dial, Micros)>,
    /// When tries were made since the node was last connected.
    tries: Vec<Micros>,
    pub(super) servers: Vec<Server>,
    pub(super) peers: Vec<Peer>,
    /// Those of which either side is still there.
    pub(super) live: Vec<usize>,
    shared_oracle: Rc<RefCell<Oracle>>,
    pub(super) subs: Vec<AppSub>,
    pub(super) got: Rc<RefCell<Vec<Got>>>,
    pub(super) done: Rc<RefCell<Vec<Done>>>,
    /// From the end of the acts on, everything gets well.
    pub(super) is_settling: bool,
}

/// Runs a plan to its end: how much happened, and the sum of it; or which invariant broke, and when.
pub(super) fn run(plan: Plan) -> Result<(Counts, u64), String> {
    let host = Host::new(plan.seed, plan.tick_max);
    let _installed = host.install();
    // Back-off, jitter and inbox come from the thread's own generator.
    fastrand::seed(plan.seed);
    let mut world = World::new(plan, host);
    let result = world.live();
    for link in &world.links {
        // Handlers hold on to their link.
        link.close_receivers();
    }
    world.tasks.clear();
    let now = world.now();
    let mut oracle = world.shared_oracle.borrow_mut();
    oracle.counts.micros = now;
    oracle.counts.twice = oracle.twice();
    match result.and_then(|()| oracle.failure.take().map_or(Ok(()), Err)) {
        Ok(()) => Ok((oracle.counts, oracle.trace)),
        Err(failure) => Err(format!("at {} ms: {failure}", now / MS)),
    }
}

impl World {
    fn new(plan: Plan, host: Rc<Host>) -> Self {
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let heard = Arc::clone(&events);
        let callback = EventCallback::new(move |event: &Event| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        });
        let node = Arc::new(shared(&plan).watched_by(Some(callback), None));
        let recorder = || Rc::new(Latencies::new(1).1);
        let links = (0..plan.links).map(|shard| Link::new(0, shard, &node, recorder())).collect();
        let server = |_| Server {
            life: 1,
            is_up: true,
            is_dark: false,
            is_paused: false,
            is_lame: false,
            max_payload: 1 << 20,
            refusals: 0,
        };
        let mut world = World {
            random: Rng::with_seed(plan.seed),
            host,
            happenings: BTreeMap::new(),
            scheduled: 0,
            links,
            node,
            events,
            tasks: BTreeMap::new(),
            tasks_made: 0,
            trying: vec![Trying::default(); plan.links],
            dials: Vec::new(),
            tries: Vec::new(),
            servers: (0..plan.servers).map(server).collect(),
            peers: Vec::new(),
            live: Vec::new(),
            shared_oracle: Rc::new(RefCell::new(Oracle::new(plan.links, plan.is_told))),
            subs: Vec::new(),
            got: Rc::default(),
            done: Rc::default(),
            is_settling: false,
            plan,
        };
        for link in 0..world.links.len() {
            let running = Box::pin(run_link(Rc::clone(&world.links[link])));
            world.spawn_as(Owner::Link(link), running);
        }
        world.at(0, Happening::Act);
        world.at(0, Happening::Check);
        world
    }

    pub(super) fn now(&self) -> Micros {
        self.host.elapsed().as_micros() as Micros
    }

    pub(super) fn oracle(&self) -> RefMut<'_, Oracle> {
        self.shared_oracle.borrow_mut()
    }

    pub(super) fn share_oracle(&self) -> Rc<RefCell<Oracle>> {
        Rc::clone(&self.shared_oracle)
    }

    /// Has something happen then.
    pub(super) fn at(&mut self, at: Micros, happening: Happening) {
        self.scheduled += 1;
        self.happenings.insert((at, self.scheduled), happening);
    }

    fn spawn_as(&mut self, owner: Owner, future: Pin<Box<dyn Future<Output = ()>>>) -> u64 {
        self.tasks_made += 1;
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.tasks.insert(self.tasks_made, Task { owner, future, woken });
        self.tasks_made
    }

    /// Starts a task of the application, which may publish a message over the link.
    pub(super) fn spawn(
        &mut self,
        link: usize,
        message: Option<u64>,
        future: impl Future<Output = ()> + 'static,
    ) {
        self.spawn_as(Owner::Application { link, message }, Box::pin(future));
    }

    /// Somebody who waits gives up.
    pub(super) fn give_up(&mut self) {
        let applications = self.tasks.iter().filter(|(_, task)| !matches!(task.owner, Owner::Link(_)));
        let tasks: Vec<u64> = applications.map(|(id, _)| *id).collect();
        if let Some(id) = self.random.choice(tasks) {
            self.tasks.remove(&id);
        }
    }

    /// Tasks of the application that have not ended.
    pub(super) fn waiting(&self) -> usize {
        self.tasks.values().filter(|task| !matches!(task.owner, Owner::Link(_))).count()
    }

    /// Whether the link's own task runs.
    pub(super) fn is_running(&self, link: usize) -> bool {
        self.tasks.values().any(|task| task.owner == Owner::Link(link))
    }

    fn live(&mut self) -> Result<(), String> {
        self.run_until(self.plan.duration, |_| false)?;
        self.settle()
    }

    /// Lets everything happen that happens until then, or until it is enough.
    pub(super) fn run_until(
        &mut self,
        end: Micros,
        enough: impl Fn(&mut Self) -> bool,
    ) -> Result<(), String> {
        loop {
            self.run_tasks()?;
            self.after_step();
            if let Some(failure) = self.oracle().failure.take() {
                return Err(failure);
            }
            if self.now() >= end || enough(self) {
                return Ok(());
            }
            self.step();
            if self.oracle().counts.steps > STEPS_MAX {
                return Err(format!("more than {STEPS_MAX} steps"));
            }
        }
    }

    /// The next thing happens.
    fn step(&mut self) {
        let timer = self.host.next_timer();
        let next = self.happenings.first_key_value().map(|((at, _), _)| Duration::from_micros(*at));
        let is_timer = match (timer, next) {
            (Some(timer), Some(next)) => timer < next,
            (timer, _) => timer.is_some(),
        };
        self.host.advance_to(if is_timer { timer } else { next }.unwrap_or_default());
        let now = self.now();
        {
            let mut oracle = self.oracle();
            oracle.now = now;
            oracle.counts.steps += 1;
            oracle.mix(now);
        }
        if is_timer {
            self.host.fire_timers();
        } else if let Some((_, happening)) = self.happenings.pop_first() {
            self.handle(happening);
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Act => {
                if !self.is_settling {
                    self.act();
                    let at = self.now() + self.random.u64(1..2 * self.plan.gap);
                    self.at(at, Happening::Act);
                }
            }
            Happening::Check => {
                self.check_wires();
                let at = self.now() + CHECK_INTERVAL;
                self.at(at, Happening::Check);
            }
            Happening::PumpOut { peer } => self.handle_pump_out(peer),
            Happening::PumpIn { peer } => self.handle_pump_in(peer),
            Happening::Dialled { dial } => self.handle_dialled(dial),
            Happening::ServerPing { peer } => self.handle_server_ping(peer),
            Happening::Route { server, message, members } => self.deliver(server, &message, &members),
            Happening::Reply { server, message } => {
                if self.servers[server].is_up {
                    self.publish(server, &message);
                }
            }
            Happening::Gone { server } => {
                if self.servers[server].is_lame {
                    self.kill(server, true);
                }
            }
            Happening::Start { server } => self.start(server),
            Happening::Heal { server } => {
                self.servers[server].is_dark = false;
                self.servers[server].is_paused = false;
            }
        }
    }

    /// Lets every task run that was woken, in any order.
    fn run_tasks(&mut self) -> Result<(), String> {
        let mut polls = 0;
        loop {
            let woken = self.tasks.iter().filter(|(_, task)| task.woken.0.load(Ordering::Relaxed));
            let woken: Vec<u64> = woken.map(|(id, _)| *id).collect();
            let Some(id) = self.random.choice(woken) else { return Ok(()) };
            self.poll(id);
            self.after_poll();
            polls += 1;
            if polls > POLLS_MAX {
                return Err(format!("tasks wake each other {POLLS_MAX} times, and nothing happens"));
            }
        }
    }

    fn poll(&mut self, id: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let owner = task.owner;
        let (Owner::Link(link) | Owner::Application { link, .. }) = owner;
        let before = self.links[link].outbox.borrow().totals();
        self.host.set_actor(link);
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            self.tasks.remove(&id);
        }
        if let Owner::Application { message: Some(message), .. } = owner {
            let after = self.links[link].outbox.borrow().totals();
            let mut oracle = self.oracle();
            if after.accepted > before.accepted {
                oracle.accepted(message);
            }
            oracle.accounts[link].rejected += after.rejected - before.rejected;
        }
    }

    /// Takes note of what a task has done.
    fn after_poll(&mut self) {
        self.take_written();
        for dial in self.host.take_dials() {
            self.handle_dial(dial);
        }
        let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
        for event in events {
            self.hear_event(&event);
        }
        self.handle_got();
        let done = std::mem::take(&mut *self.done.borrow_mut());
        for done in done {
            self.handle_done(done);
        }
        for link in 0..self.links.len() {
            self.settle_link(link);
        }
    }

    fn take_written(&mut self) {
        for at in 0..self.live.len() {
            let peer = self.live[at];
            let written = self.peers[peer].wire.take_written();
            if !written.is_empty() {
                self.handle_written(peer, &written);
            }
        }
    }

    /// What a client has just handed to its kernel.
    fn handle_written(&mut self, peer: usize, written: &[u8]) {
        let it = &mut self.peers[peer];
        let is_greeted = it.last_arrival > it.opened;
        let link = it.link;
        self.shared_oracle.borrow_mut().require(is_greeted, || "it speaks before the server does".to_owned());
        match it.tap.feed(written) {
            Ok(operations) => {
                for (end, operation) in operations {
                    match &operation {
                        Operation::Publish { payload, .. } => {
                            let mut oracle = self.oracle();
                            if let Some(number) = oracle.number_of(payload) {
                                oracle.written(number, link, peer);
                            }
                        }
                        Operation::Unsubscribe { sid, max: Some(max) } => self.check_max(peer, *sid, *max),
                        _ => {}
                    }
                    self.peers[peer].coming.push_back((end, operation));
                }
            }
            Err(reason) => self.oracle().fail(|| format!("connection {peer} gets what is no NATS: {reason}")),
        }
        self.pump_out(peer);
    }

    /// The fates that a link counts, against what is known.
    fn settle_link(&mut self, link: usize) {
        let outbox = self.links[link].outbox.borrow();
        let (totals, pending, queued) = (outbox.totals(), outbox.pending(), outbox.queued());
        let (held, queued_bytes) = (outbox.held_bytes(), outbox.queued_bytes());
        let max = outbox.payload_bytes_max();
        drop(outbox);
        let mut oracle = self.shared_oracle.borrow_mut();
        oracle.settle(link, totals, max, self.trying[link].is_connected);
        let settled =
            totals.processed + totals.in_doubt + totals.discarded_oversized + totals.discarded_unsent;
        oracle.require(totals.accepted == settled + pending, || {
            format!("link {link}: {totals:?} and {pending} pending do not balance")
        });
        // Written are those of which a byte was handed to a connection, and that have no fate yet.
        let of_link = self.peers.iter().filter(|peer| peer.link == link);
        let (least, most) = of_link.fold((0, 0), |(least, most), peer| {
            let begun = peer.tap.begun();
            (least + begun.0, most + begun.1)
        });
        let written = pending - queued;
        let told = totals.processed + totals.in_doubt + written;
        oracle.require((least..=most).contains(&told), || {
            format!(
                "link {link} has written {least} messages, and counts {told}: {totals:?}, {written} written"
            )
        });
        let bound = QUEUED_BEYOND_BYTES + self.queue_bound();
        oracle
            .require(queued_bytes <= bound, || format!("link {link} queues {queued_bytes} of {bound} bytes"));
        oracle.require(held <= 4 * bound + HELD_BYTES, || format!("link {link} holds {held} bytes"));
    }

    /// The limit of what may wait, the largest that held in this run.
    fn queue_bound(&self) -> usize {
        self.plan.configuration.limits.publish_buffer
    }

    /// Somebody wants to connect.
    fn handle_dial(&mut self, dial: Dial) {
        let now = self.now();
        let server = (0..self.servers.len()).find(|server| host_of(*server) == dial.address.ip().to_string());
        let link = dial.actor;
        self.oracle().mix(server.unwrap_or(99) as u64);
        self.oracle().tell(|| format!("link {link} dials {}", dial.address));
        let refusals = server.and_then(|server| self.trying[link].refusals.get(&server).copied());
        let configured = server.is_some_and(|server| server < self.plan.configured);
        self.oracle().require(!configured || refusals.unwrap_or(0) < 2, || {
            format!("{} has refused link {link} twice, and is tried again", dial.address)
        });
        self.trying[link].dials += 1;
        if self.trying.iter().any(|trying| trying.is_connected) {
            self.tries.clear();
        } else {
            self.tries.retain(|at| at + SECOND > now);
            self.tries.push(now);
            // A link may have reserved its place while another one was connected.
            let most = TRIES_PER_SECOND + self.links.len() - 1;
            let tries = self.tries.len();
            self.oracle().require(tries <= most, || format!("{tries} tries in a second at a dead cluster"));
        }
        let is_reachable = server.is_some_and(|server| !self.servers[server].is_dark);
        let after = if is_reachable {
            self.random.u64(20..=self.plan.delay_max)
        } else {
            dial.timeout.as_micros() as Micros
        };
        let after = after.min(dial.timeout.as_micros() as Micros);
        self.dials.push((dial, now));
        let dial = self.dials.len() - 1;
        self.at(now + after, Happening::Dialled { dial });
    }

    fn handle_dialled(&mut self, dial: usize) {
        let (link, address) = (self.dials[dial].0.actor, self.dials[dial].0.address);
        let now = self.now();
        self.trying[link].dials -= 1;
        self.trying[link].idle_since = now;
        let server = (0..self.servers.len()).find(|server| host_of(*server) == address.ip().to_string());
        let Some(server) = server.filter(|server| !self.servers[*server].is_dark) else {
            self.dials[dial].0.answer(Err(io::ErrorKind::TimedOut.into()));
            return;
        };
        let it = &self.servers[server];
        // A server in lame duck mode takes nobody, but for one who was about to come in.
        if !it.is_up || (it.is_lame && self.random.u8(..100) < 80) {
            self.dials[dial].0.answer(Err(io::ErrorKind::ConnectionRefused.into()));
            return;
        }
        let life = it.life;
        let wire = Wire::new(self.random.u64(..), self.plan.send_room_bytes, self.plan.split_percent);
        if !self.dials[dial].0.answer(Ok(Rc::clone(&wire))) {
            return;
        }
        let peer = self.peers.len();
        let mut new = Peer::new(wire, link, server, life, now);
        for (at, sub) in self.subs.iter().enumerate().filter(|(_, sub)| sub.link == link) {
            new.delivered_before.insert(at, sub.receiver.delivered());
        }
        self.peers.push(new);
        self.live.push(peer);
        self.oracle().tell(|| format!("connection {peer} of link {link} to server {server}"));
        self.greet(peer);
    }

    /// The server refuses who is at this connection.
    pub(super) fn refused(&mut self, peer: usize) {
        let (link, server) = (self.peers[peer].link, self.peers[peer].server);
        // Whether the client hears of it, nobody knows before its event.
        self.oracle().tell(|| format!("server {server} refuses link {link}"));
    }

    fn hear_event(&mut self, event: &Event) {
        self.oracle().tell(|| format!("{event:?}"));
        match event {
            Event::Connected { shard, server, .. } | Event::Reconnected { shard, server, .. } => {
                self.trying[*shard].is_connected = true;
                self.accepted_by(*shard, server);
                self.oracle().counts.connects += 1;
            }
            Event::Moved { shard, to, .. } => {
                self.accepted_by(*shard, to);
                self.oracle().counts.moves += 1;
            }
            Event::ConnectFailed { shard, server, reason, .. } => {
                let at = self.server_at(server);
                let refused = reason.to_string().contains("authorization violation");
                if refused && let Some(at) = at {
                    *self.trying[*shard].refusals.entry(at).or_default() += 1;
                }
                self.trying[*shard].idle_since = self.now();
            }
            Event::Disconnected { shard, in_doubt, queued, fates, .. } => {
                let now = self.now();
                let trying = &mut self.trying[*shard];
                trying.is_connected = false;
                trying.idle_since = now;
                trying.disconnects += 1;
                let kept = self.links[*shard].requests.borrow().len();
                let mut oracle = self.oracle();
                oracle.counts.disconnects += 1;
                oracle.require(kept == 0, || format!("{kept} requests outlive their connection"));
                let sum = fates.queued
                    + fates.written
                    + fates.processed
                    + fates.in_doubt
                    + fates.discarded_oversized
                    + fates.discarded_unsent;
                let balances = fates.accepted == sum && fates.queued == *queued && fates.written == 0;
                oracle.require(balances, || format!("the event does not balance: {fates:?}"));
                let is_calm = self.plan.is_calm && !self.is_settling;
                oracle.require(!is_calm || *in_doubt == 0, || format!("a move leaves {in_doubt} in doubt"));
            }
            Event::LinkEnded { shard, .. } => {
                self.trying[*shard].is_ended = true;
                self.trying[*shard].is_connected = false;
            }
            _ => {}
        }
    }

    fn accepted_by(&mut self, link: usize, server: &str) {
        if let Some(server) = self.server_at(server) {
            self.trying[link].refusals.remove(&server);
        }
        self.tries.clear();
    }

    fn server_at(&self, address: &str) -> Option<usize> {
        (0..self.servers.len()).find(|server| address == format!("{}:4222", host_of(*server)))
    }

    /// What time alone shows: the kernel's own timeouts, silence, idleness.
    fn check_wires(&mut self) {
        let now = self.now();
        let connection = self.plan.configuration.connection.clone();
        let micros = |time: Duration| time.as_micros() as Micros;
        for at in 0..self.live.len() {
            let it = &mut self.peers[self.live[at]];
            if it.wire.outgoing_bytes() > 0 && !it.wire.has_ended() {
                let since = *it.stuck_since.get_or_insert(now);
                if it.is_held() && now - since >= micros(connection.user_timeout) {
                    it.wire.end(End::TimedOut);
                }
            }
            let silence = micros(connection.ping_interval) * Micros::from(connection.max_pings_out + 3);
            let longest = silence.max(micros(connection.connect_timeout)) + SLACK;
            let silent = now - it.last_arrival;
            let is_held = it.is_held();
            self.shared_oracle.borrow_mut().require(!is_held || silent <= longest, || {
                format!("a connection of link {} is silent for {} ms, and is kept", it.link, silent / MS)
            });
            // What the client has closed is at its end when the server has read all, or cannot.
            if !is_held && it.is_open && it.wire.outgoing_bytes() == 0 {
                it.is_open = false;
                it.subs.clear();
            }
        }
        let peers = &mut self.peers;
        self.live.retain(|peer| {
            let is_over = peers[*peer].is_over();
            peers[*peer].was_held &= !is_over;
            !is_over
        });
        for link in 0..self.links.len() {
            let Trying { dials, idle_since, is_connected, is_ended, .. } = self.trying[link].clone();
            let has_connection = self.peers.iter().any(|peer| peer.link == link && peer.is_held());
            let is_idle = dials == 0 && !is_connected && !is_ended && !has_connection;
            let longest =
                micros(connection.reconnect.max) + (self.links.len() as Micros + 1) * GATE_INTERVAL + SLACK;
            self.oracle().require(!is_idle || now - idle_since <= longest, || {
                format!("link {link} has tried nothing for {} ms", (now - idle_since) / MS)
            });
            if !is_idle {
                self.trying[link].idle_since = now;
            }
        }
    }

    /// What must hold between any two happenings.
    fn after_step(&mut self) {
        self.after_poll();
        self.take_from_queues();
        for peer in &self.live {
            self.peers[*peer].was_held = self.peers[*peer].is_held();
        }
        for link in 0..self.links.len() {
            let overlap = self.links[link].counters.overlap.load(Ordering::Relaxed);
            let requests = self.links[link].requests.borrow().len();
            let waiting = self.tasks.values().filter(
                |task| matches!(task.owner, Owner::Application { link: of, message: Some(_) } if of == link),
            );
            let waiting = waiting.count();
            let mut oracle = self.shared_oracle.borrow_mut();
            oracle.check_overlap(link, overlap);
            oracle.require(requests <= waiting, || {
                format!("{requests} requests are kept, {waiting} callers wait")
            });
        }
    }

    /// A server is gone, with all its connections.
    pub(super) fn kill(&mut self, server: usize, comes_back: bool) {
        self.oracle().tell(|| format!("server {server} is gone"));
        self.servers[server].is_up = false;
        let of_server = self.live.iter().copied().filter(|peer| self.peers[*peer].server == server);
        for peer in of_server.collect::<Vec<_>>() {
            let end = if self.random.bool() { End::Orderly } else { End::Reset };
            if self.servers[server].is_dark {
                // Its last words do not come through.
                self.peers[peer].is_open = false;
                self.peers[peer].subs.clear();
            } else {
                self.cut(peer, end);
            }
        }
        if comes_back {
            let at = self.now() + self.random.u64(MS..2 * SECOND);
            self.at(at, Happening::Start { server });
        }
    }

    /// A server starts anew.
    pub(super) fn start(&mut self, server: usize) {
        let takes = if self.plan.is_calm || self.is_settling || self.random.bool() {
            1 << 20
        } else {
            SERVER_LIMITS[self.random.usize(..3)]
        };
        let it = &mut self.servers[server];
        if !it.is_up {
            *it = Server {
                life: it.life + 1,
                is_up: true,
                is_dark: false,
                is_paused: false,
                is_lame: false,
                max_payload: takes,
                refusals: 0,
            };
            self.oracle().tell(|| format!("server {server} starts, and takes {takes} bytes"));
        }
    }

    /// Whether a link has a current connection.
    pub(super) fn is_connected(&self, link: usize) -> bool {
        self.links[link].status() == LinkStatus::Connected
    }
}

/// What the shards of a node share, without its threads.
fn shared(plan: &Plan) -> NodeShared {
    let config = plan.configuration.clone();
    let ports = (0..plan.links).map(|_| ShardPort::new(1, 1).0).collect();
    let registry = Arc::new(RegistryShared::new(plan.links, None, false).0);
    let ring = node::ring(&config);
    NodeShared::new(config, ring, vec![None], ports, registry, None, false)
}

/// What a node may try in a second at a dead cluster.
const TRIES_PER_SECOND: usize = 10;
/// Between two tries of the node, in the long run.
const GATE_INTERVAL: Micros = 143 * MS;
/// What turns of tasks, and looking now and then, add to a wait.
const SLACK: Micros = 120 * MS;
const CHECK_INTERVAL: Micros = 20 * MS;
/// SUBs, UNSUBs, PINGs and PONGs, which no limit holds back.
const QUEUED_BEYOND_BYTES: usize = 16 << 10;
/// What a buffer may hold beside what is queued: sent bytes that are not cut off yet.
const HELD_BYTES: usize = 600 << 10;
/// Far more than any run takes.
const STEPS_MAX: u64 = 200_000;
const POLLS_MAX: u32 = 100_000;
