//! Simulated streams: in order and without loss until they are cut, however long that takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use croupier_registry::wire::v1::Frame;
use croupier_registry::{DialResult, NodeKey};
use fastrand::Rng;

use crate::plan::{MS, Micros, Plan, SECOND};

/// What is going to happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A process asked to be woken.
    Timer { host: usize, process: u32 },
    /// Segments of this end of a connection are due at the other one.
    Pump { connection: usize, end: usize },
    /// A connection is there, at this end.
    Established { connection: usize, end: usize, dialled: Option<String> },
    /// A dial led nowhere.
    DialFailed { host: usize, process: u32, address: String, result: DialResult },
    /// This end finds its connection gone.
    Gone { connection: usize, end: usize },
    /// Messages between the shards of a process are due.
    Inbox { host: usize, process: u32 },
    /// A frame that comes again or late, below the link.
    Late { host: usize, from: NodeKey, frame: Arc<Frame>, bytes: usize },
    /// Something happens to the cluster.
    Act,
    /// Everything is checked.
    Check,
    /// A host gets a process again.
    Start { host: usize },
    /// A stopped process goes on.
    Resume { host: usize },
    /// These directions are cut.
    Break { directions: Vec<(usize, usize)> },
    /// A cut is over.
    Heal { directions: Vec<(usize, usize)> },
}

/// One end of a connection, and what is on its way from there.
#[derive(Debug)]
struct End {
    host: usize,
    process: u32,
    /// Whether its process still holds the socket.
    open: bool,
    /// Whether its process has learnt of it.
    established: bool,
    segments: VecDeque<Segment>,
    bytes: usize,
    last_due: Micros,
    pumped: bool,
    /// Since when nothing of what was sent is acknowledged.
    unacknowledged: Option<Micros>,
    /// Whether what is still written arrives nowhere.
    lost: bool,
    /// Which of all Hellos its process said.
    hello: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    due: Micros,
    bytes: Vec<u8>,
    /// Whether it begins with the beginning of a frame.
    whole: bool,
    corrupted: bool,
    is_last: bool,
}

/// What came out of a connection.
#[derive(Debug)]
pub(crate) enum Arrival {
    Bytes { bytes: Vec<u8>, corrupted: bool },
    End,
}

/// What lies between the processes.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) now: Micros,
    begin: Instant,
    events: BTreeMap<(Micros, u64), Event>,
    next_event: u64,
    connections: Vec<[End; 2]>,
    hellos: u64,
    cut: BTreeMap<(usize, usize), u32>,
    pub(crate) dark: BTreeSet<usize>,
    random: Rng,
    delay_max: Micros,
    loss_percent: u32,
    socket_bytes: usize,
    give_up_after: Micros,
    cut_percent: u32,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            now: 0,
            begin: Instant::now(),
            events: BTreeMap::new(),
            next_event: 0,
            connections: Vec::new(),
            hellos: 0,
            cut: BTreeMap::new(),
            dark: BTreeSet::new(),
            random: Rng::with_seed(plan.seed ^ 0x6E65_7477),
            delay_max: plan.delay_max,
            loss_percent: plan.loss_percent,
            socket_bytes: plan.socket_bytes,
            give_up_after: plan.give_up_after,
            cut_percent: plan.cut_percent,
        }
    }

    /// The present, as the machines want it. Only distances count.
    pub(crate) fn instant(&self) -> Instant {
        self.begin + Duration::from_micros(self.now)
    }

    /// The moment of an instant that a machine named.
    pub(crate) fn micros(&self, instant: Instant) -> Micros {
        let since = instant.saturating_duration_since(self.begin);
        // A timer that is due within a microsecond would else be called too early.
        u64::try_from(since.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        self.next_event += 1;
        self.events.insert((at.max(self.now), self.next_event), event);
    }

    /// The next event; its time becomes the present.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    // Cuts.

    pub(crate) fn cut(&mut self, directions: &[(usize, usize)]) {
        for direction in directions {
            *self.cut.entry(*direction).or_default() += 1;
        }
    }

    pub(crate) fn heal(&mut self, directions: &[(usize, usize)]) {
        for direction in directions {
            if let Some(count) = self.cut.get_mut(direction) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(direction);
                }
            }
        }
    }

    /// All cuts are over, nothing is lost any more.
    pub(crate) fn become_good(&mut self) {
        self.cut.clear();
        self.loss_percent = 0;
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.cut.contains_key(&(from, to)) || self.dark.contains(&from) || self.dark.contains(&to)
    }

    // Connections.

    /// A connection whose ends learn of it after a while: first the dialled one.
    pub(crate) fn connect(
        &mut self,
        dialler: (usize, u32),
        dialled: (usize, u32),
        address: &str,
        deadline: Micros,
    ) {
        let there = self.now + self.delay();
        let back = there + self.delay();
        if back > self.now + deadline {
            let (host, process) = dialler;
            return self.dial_fails(host, process, address, DialResult::Unreachable, deadline);
        }
        let end = |(host, process)| End {
            host,
            process,
            open: true,
            established: false,
            segments: VecDeque::new(),
            bytes: 0,
            last_due: 0,
            pumped: false,
            unacknowledged: None,
            lost: false,
            hello: 0,
        };
        let connection = self.connections.len();
        self.connections.push([end(dialler), end(dialled)]);
        self.at(there, Event::Established { connection, end: 1, dialled: None });
        self.at(back, Event::Established { connection, end: 0, dialled: Some(address.to_owned()) });
    }

    /// A dial leads nowhere, as its dialler finds after a while.
    pub(crate) fn dial_fails(
        &mut self,
        host: usize,
        process: u32,
        address: &str,
        result: DialResult,
        after: Micros,
    ) {
        let event = Event::DialFailed { host, process, address: address.to_owned(), result };
        self.at(self.now + after, event);
    }

    /// The first that a process says on a connection.
    pub(crate) fn say_hello(&mut self, connection: usize, end: usize, bytes: Vec<u8>) {
        self.hellos += 1;
        self.connections[connection][end].hello = self.hellos;
        self.send(connection, end, bytes);
    }

    /// When that was, among all that was said by anybody.
    pub(crate) fn hello(&self, connection: usize, end: usize) -> u64 {
        self.connections[connection][end].hello
    }

    /// The process of this end learns of the connection, and what has come by then can be taken.
    pub(crate) fn establish(&mut self, connection: usize, end: usize) {
        self.connections[connection][end].established = true;
        self.pump_at(connection, 1 - end, self.now);
    }

    /// Host and process of an end.
    pub(crate) fn owner(&self, connection: usize, end: usize) -> (usize, u32) {
        let end = &self.connections[connection][end];
        (end.host, end.process)
    }

    pub(crate) fn is_open(&self, connection: usize, end: usize) -> bool {
        self.connections[connection][end].open
    }

    /// Whether the socket takes more.
    pub(crate) fn has_room(&self, connection: usize, end: usize) -> bool {
        self.connections[connection][end].bytes < self.socket_bytes
    }

    pub(crate) fn send(&mut self, connection: usize, end: usize, mut bytes: Vec<u8>) {
        if bytes.len() > 1 && self.random.u32(..100) < self.cut_percent {
            let tail = bytes.split_off(self.random.usize(1..bytes.len()));
            self.push(connection, end, bytes, true, false);
            self.push(connection, end, tail, false, false);
        } else {
            self.push(connection, end, bytes, true, false);
        }
    }

    /// The process closes its end; what it wrote still arrives.
    pub(crate) fn close(&mut self, connection: usize, end: usize) {
        if self.connections[connection][end].open {
            self.push(connection, end, Vec::new(), true, true);
            self.connections[connection][end].open = false;
        }
    }

    /// The process is gone: the other end learns of it, and perhaps loses what is under way.
    pub(crate) fn abandon(&mut self, process: u32) {
        for connection in 0..self.connections.len() {
            for end in 0..2 {
                let this = &self.connections[connection][end];
                if this.process == process && this.open {
                    if self.random.bool() {
                        self.close(connection, end);
                    } else {
                        self.reset_end(connection, end);
                    }
                }
            }
        }
    }

    /// Both ends find their connection gone, and part of what was under way is lost.
    pub(crate) fn reset(&mut self, connection: usize) {
        for end in 0..2 {
            self.lose(connection, end);
            let at = self.now + self.delay();
            self.at(at, Event::Gone { connection, end });
        }
    }

    /// A connection of which both ends are open, if there is one.
    pub(crate) fn any_connection(&mut self) -> Option<usize> {
        let open = |(at, ends): (usize, &[End; 2])| ends.iter().all(|end| end.open).then_some(at);
        let open: Vec<_> = self.connections.iter().enumerate().filter_map(open).collect();
        self.random.choice(open)
    }

    /// Spoils the first segment under way of a connection, if there is one.
    pub(crate) fn corrupt(&mut self, connection: usize) -> bool {
        let end = self.random.usize(..2);
        // Two faults together may make up for each other.
        let segments = &self.connections[connection][end].segments;
        if segments.iter().any(|segment| segment.corrupted) {
            return false;
        }
        let Some(first) = self.connections[connection][end].segments.front().filter(|first| first.whole)
        else {
            return false;
        };
        if first.bytes.len() < 24 {
            return false;
        }
        let mut spoilt = first.clone();
        let length =
            u32::from_le_bytes([spoilt.bytes[8], spoilt.bytes[9], spoilt.bytes[10], spoilt.bytes[11]]);
        let frame_bytes = (24 + length as usize).min(spoilt.bytes.len());
        spoilt.corrupted = true;
        let (choice, at) = (self.random.u32(..4), self.random.usize(..frame_bytes));
        let (bits, cut) = (self.random.u8(1..), self.random.usize(1..=8));
        let segments = &mut self.connections[connection][end].segments;
        match choice {
            0 => {
                spoilt.bytes[at] ^= bits;
                segments[0] = spoilt;
            }
            1 => {
                let until = (at + cut).min(frame_bytes);
                spoilt.bytes.drain(at..until);
                segments[0] = spoilt;
            }
            // Repeated: the second has a number that was there before.
            2 => segments.insert(1, spoilt),
            // Lost: what comes next has the wrong number.
            _ => {
                if segments.len() < 2 {
                    return false;
                }
                segments.pop_front();
                segments[0].corrupted = true;
            }
        }
        true
    }

    /// What has arrived from this end at the other one, which can take it unless its process is stopped.
    pub(crate) fn pump(&mut self, connection: usize, end: usize, stopped: bool) -> Vec<Arrival> {
        let now = self.now;
        let (here, there) =
            (self.connections[connection][end].host, self.connections[connection][1 - end].host);
        let (blocked, deaf) = (self.is_blocked(here, there), self.is_blocked(there, here));
        let End { open: receives, established, .. } = self.connections[connection][1 - end];
        let this = &mut self.connections[connection][end];
        this.pumped = false;
        if this.segments.is_empty() || !established {
            return Vec::new();
        }
        if blocked || deaf {
            let since = *this.unacknowledged.get_or_insert(now);
            if now >= since + self.give_up_after {
                if this.open {
                    self.at(now, Event::Gone { connection, end });
                } else {
                    this.segments.clear();
                    this.bytes = 0;
                    return Vec::new();
                }
            }
        } else {
            this.unacknowledged = None;
        }
        if blocked || stopped {
            self.pump_at(connection, end, now + RETRY);
            return Vec::new();
        }
        let this = &mut self.connections[connection][end];
        if !receives {
            // The host answers what nobody takes with a reset.
            this.segments.clear();
            this.bytes = 0;
            if this.open && !deaf {
                let at = now + self.delay();
                self.at(at, Event::Gone { connection, end });
            } else if this.open {
                self.at(now + RETRY, Event::Gone { connection, end });
            }
            return Vec::new();
        }
        let mut arrivals = Vec::new();
        while let Some(segment) = this.segments.pop_front_if(|segment| segment.due <= now) {
            this.bytes -= segment.bytes.len().min(this.bytes);
            if !segment.bytes.is_empty() {
                arrivals.push(Arrival::Bytes { bytes: segment.bytes, corrupted: segment.corrupted });
            }
            if segment.is_last {
                arrivals.push(Arrival::End);
            }
        }
        if let Some(due) = this.segments.front().map(|segment| segment.due) {
            self.pump_at(connection, end, due);
        }
        arrivals
    }

    /// The process no more holds this end, and nothing more is said on it.
    pub(crate) fn forget(&mut self, connection: usize, end: usize) {
        let this = &mut self.connections[connection][end];
        this.open = false;
        this.segments.clear();
        this.bytes = 0;
    }

    fn lose(&mut self, connection: usize, end: usize) {
        let this = &mut self.connections[connection][end];
        this.lost = true;
        let keep = self.random.usize(..=this.segments.len());
        this.segments.truncate(keep);
        this.bytes = this.segments.iter().map(|segment| segment.bytes.len()).sum();
    }

    fn reset_end(&mut self, connection: usize, end: usize) {
        self.lose(connection, end);
        let this = &mut self.connections[connection][end];
        let (here, other) = (this.host, 1 - end);
        this.open = false;
        let there = self.connections[connection][other].host;
        if !self.is_blocked(here, there) && self.connections[connection][other].open {
            let at = self.now + self.delay();
            self.at(at, Event::Gone { connection, end: other });
        }
    }

    fn push(&mut self, connection: usize, end: usize, bytes: Vec<u8>, whole: bool, is_last: bool) {
        let due = self.now + self.delay();
        let this = &mut self.connections[connection][end];
        if this.lost {
            return;
        }
        let due = due.max(this.last_due);
        this.last_due = due;
        this.bytes += bytes.len();
        this.segments.push_back(Segment { due, bytes, whole, corrupted: false, is_last });
        self.pump_at(connection, end, due);
    }

    fn pump_at(&mut self, connection: usize, end: usize, at: Micros) {
        let this = &mut self.connections[connection][end];
        if !this.pumped {
            this.pumped = true;
            self.at(at, Event::Pump { connection, end });
        }
    }

    /// How long a segment takes. One that is lost is sent again: at first soon, as a tail loss probe, then after the
    /// least retransmission timeout of 200 ms. That would double, but what is sent later, at least each heartbeat,
    /// shows the sender by its acknowledgement that this one is missing (RFC 8985).
    pub(crate) fn delay(&mut self) -> Micros {
        let mut delay = self.random.u64(50..=self.delay_max);
        let mut timeout = PROBE_TIMEOUT;
        while self.loss_percent > 0 && self.random.u32(..100) < self.loss_percent && delay < LATE_MAX {
            delay += timeout;
            timeout = if timeout == PROBE_TIMEOUT { 200 * MS } else { 250 * MS };
        }
        delay
    }
}

const PROBE_TIMEOUT: Micros = 10 * MS;
/// No segment takes much longer than this.
const LATE_MAX: Micros = 4 * SECOND;
/// How often the kernel tries again what is blocked.
const RETRY: Micros = 50 * MS;
