//! The servers: small, strict, and written apart from what is tested.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use super::{
    operation::{Operation, Tap},
    oracle::HEADERS,
    plan::{Micros, host_of},
    world::{Happening, World},
};
use crate::transport::simulated::{End, Wire};

/// One server, through all its lives.
#[derive(Debug)]
pub(super) struct Server {
    /// Grows with each start.
    pub(super) life: u64,
    pub(super) is_up: bool,
    /// Nothing that is sent to it arrives, nor comes anything from it.
    pub(super) is_dark: bool,
    pub(super) is_paused: bool,
    pub(super) is_lame: bool,
    pub(super) max_payload: usize,
    /// How many of those who come next it refuses.
    pub(super) refusals: u32,
}

/// A subscription as its server has it.
#[derive(Clone, Debug)]
pub(super) struct Sub {
    subject: Vec<u8>,
    queue: Option<Vec<u8>>,
    max: Option<u64>,
    sent: u64,
    since: Micros,
}

/// The server's end of a connection, and what is known of both.
pub(super) struct Peer {
    pub(super) wire: Rc<Wire>,
    pub(super) link: usize,
    pub(super) server: usize,
    pub(super) life: u64,
    pub(super) opened: Micros,
    pub(super) tap: Tap,
    /// Written, and not with the server yet; each with its end in the stream.
    pub(super) coming: VecDeque<(u64, Operation)>,
    arrived: u64,
    output: VecDeque<u8>,
    pub(super) subs: BTreeMap<u64, Sub>,
    /// Every SUB that it has processed.
    pub(super) known: BTreeSet<u64>,
    pub(super) is_connected: bool,
    has_ponged: bool,
    is_refused: bool,
    /// Whether the server still has it.
    pub(super) is_open: bool,
    /// It ends after what it has to say.
    pub(super) is_closing: bool,
    pub(super) stalled_out: Micros,
    pub(super) stalled_in: Micros,
    pub(super) was_stalled: bool,
    /// Whether the client had it before what happens now.
    pub(super) was_held: bool,
    pub(super) pumps_out: bool,
    pub(super) pumps_in: bool,
    /// Since when nothing that was written has left.
    pub(super) stuck_since: Option<Micros>,
    pub(super) last_arrival: Micros,
    /// The most that the server has told it to take.
    pub(super) payload_told: usize,
    pings: u64,
    pongs: u64,
    /// What was sent for each SUB.
    pub(super) sent: BTreeMap<u64, Vec<u64>>,
    /// What each receiver had got when it was opened.
    pub(super) delivered_before: BTreeMap<usize, u64>,
}

/// A message on its way between servers.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) number: Option<u64>,
    pub(super) subject: Vec<u8>,
    pub(super) reply: Option<Vec<u8>>,
    pub(super) headers: bool,
    pub(super) payload: Vec<u8>,
    pub(super) from: Option<usize>,
    /// When it came to its first server.
    pub(super) at: Micros,
}

impl Peer {
    pub(super) fn new(wire: Rc<Wire>, link: usize, server: usize, life: u64, now: Micros) -> Self {
        Peer {
            wire,
            link,
            server,
            life,
            opened: now,
            tap: Tap::default(),
            coming: VecDeque::new(),
            arrived: 0,
            output: VecDeque::new(),
            subs: BTreeMap::new(),
            known: BTreeSet::new(),
            is_connected: false,
            has_ponged: false,
            is_refused: false,
            is_open: true,
            is_closing: false,
            stalled_out: 0,
            stalled_in: 0,
            was_stalled: false,
            was_held: true,
            pumps_out: false,
            pumps_in: false,
            stuck_since: None,
            last_arrival: now,
            payload_told: 0,
            pings: 0,
            pongs: 0,
            sent: BTreeMap::new(),
            delivered_before: BTreeMap::new(),
        }
    }

    /// Whether either side still has it.
    pub(super) fn is_over(&self) -> bool {
        !self.is_open && self.wire.is_closed()
    }

    /// Whether the client still has it.
    pub(super) fn is_held(&self) -> bool {
        !self.wire.is_closed()
    }
}

/// Whether a subject is what a SUB asks for.
pub(super) fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut subject = subject.split(|byte| *byte == b'.');
    let mut pattern = pattern.split(|byte| *byte == b'.');
    loop {
        match (pattern.next(), subject.next()) {
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

impl World {
    /// A server takes a connection.
    pub(super) fn greet(&mut self, peer: usize) {
        let server = self.peers[peer].server;
        if self.servers[server].refusals > 0 {
            self.servers[server].refusals -= 1;
            self.peers[peer].is_refused = true;
        }
        self.say_info(peer, false);
        let at = self.now() + self.plan.server_ping;
        self.at(at, Happening::ServerPing { peer });
    }

    /// Tells a client of the server and its cluster.
    pub(super) fn say_info(&mut self, peer: usize, connect_info: bool) {
        let (server, life) = (self.peers[peer].server, self.peers[peer].life);
        let urls: Vec<String> = (0..self.servers.len())
            .filter(|other| self.servers[*other].is_up && !self.servers[*other].is_lame)
            .map(|other| format!("\"{}:4222\"", host_of(other)))
            .collect();
        let rubbish = if self.random.u8(..100) < 5 { ",\"no address\",\"0.0.0.0:1\"" } else { "" };
        let urls = if urls.is_empty() { String::new() } else { urls.join(",") + rubbish };
        let Server { max_payload, is_lame, .. } = self.servers[server];
        let info = format!(
            "INFO {{\"server_id\":\"S{server}-{life}\",\"headers\":true,\"proto\":1,\"max_payload\":{max_payload},\
             \"connect_urls\":[{urls}],\"ldm\":{is_lame},\"connect_info\":{connect_info}}} \r\n"
        );
        self.peers[peer].payload_told = self.peers[peer].payload_told.max(max_payload);
        self.say(peer, info.as_bytes());
    }

    /// Sends to a client.
    pub(super) fn say(&mut self, peer: usize, bytes: &[u8]) {
        if self.peers[peer].is_open && !self.peers[peer].is_closing {
            self.peers[peer].output.extend(bytes);
            self.pump_in(peer);
        }
    }

    /// Says why, and closes.
    pub(super) fn say_error(&mut self, peer: usize, text: &str) {
        self.say(peer, format!("-ERR '{text}'\r\n").as_bytes());
        self.peers[peer].is_closing = true;
        self.pump_in(peer);
    }

    fn pump_in(&mut self, peer: usize) {
        if !std::mem::replace(&mut self.peers[peer].pumps_in, true) {
            let at = self.now() + self.delay();
            self.at(at, Happening::PumpIn { peer });
        }
    }

    pub(super) fn pump_out(&mut self, peer: usize) {
        if !std::mem::replace(&mut self.peers[peer].pumps_out, true) {
            let at = self.now() + self.delay();
            self.at(at, Happening::PumpOut { peer });
        }
    }

    fn delay(&mut self) -> Micros {
        self.random.u64(20..=self.plan.delay_max)
    }

    fn part(&mut self, bytes: usize) -> usize {
        let split = bytes > 1 && self.random.u8(..100) < self.plan.split_percent;
        if split { self.random.usize(1..=bytes) } else { bytes }
    }

    /// Until when nothing comes through, in one direction.
    fn held_until(&self, peer: usize, stalled: Micros) -> Option<Micros> {
        let server = &self.servers[self.peers[peer].server];
        let is_same = server.life == self.peers[peer].life;
        if server.is_dark || (is_same && server.is_paused) {
            return Some(self.now() + RETRY);
        }
        (stalled > self.now()).then(|| stalled.min(self.now() + RETRY))
    }

    /// Some of what a client has written comes to its server.
    pub(super) fn handle_pump_out(&mut self, peer: usize) {
        self.peers[peer].pumps_out = false;
        if self.peers[peer].wire.outgoing_bytes() == 0 {
            return;
        }
        if let Some(until) = self.held_until(peer, self.peers[peer].stalled_out) {
            self.peers[peer].was_stalled = true;
            self.peers[peer].pumps_out = true;
            return self.at(until, Happening::PumpOut { peer });
        }
        if !self.peers[peer].is_open {
            self.peers[peer].wire.end(End::Reset);
            return;
        }
        let bytes = self.part(self.peers[peer].wire.outgoing_bytes());
        self.peers[peer].wire.take_outgoing(bytes);
        self.peers[peer].stuck_since = None;
        self.hear(peer, bytes);
        if self.peers[peer].wire.outgoing_bytes() > 0 {
            self.pump_out(peer);
        }
    }

    /// So many bytes are with the server.
    pub(super) fn hear(&mut self, peer: usize, bytes: usize) {
        self.peers[peer].arrived += bytes as u64;
        while let Some((end, _)) = self.peers[peer].coming.front()
            && *end <= self.peers[peer].arrived
            && self.peers[peer].is_open
            && !self.peers[peer].is_closing
        {
            if let Some((_, operation)) = self.peers[peer].coming.pop_front() {
                self.handle_operation(peer, operation);
            }
        }
    }

    /// Some of what a server has said comes to its client.
    pub(super) fn handle_pump_in(&mut self, peer: usize) {
        self.peers[peer].pumps_in = false;
        if let Some(until) = self.held_until(peer, self.peers[peer].stalled_in) {
            self.peers[peer].was_stalled = true;
            self.peers[peer].pumps_in = true;
            return self.at(until, Happening::PumpIn { peer });
        }
        let bytes = self.part(self.peers[peer].output.len());
        let now = self.now();
        let it = &mut self.peers[peer];
        if bytes > 0 {
            it.last_arrival = now;
            if !it.wire.arrive(it.output.drain(..bytes)) {
                it.output.clear();
            }
        }
        if !it.output.is_empty() {
            self.pump_in(peer);
        } else if it.is_closing && it.is_open {
            let end = if self.random.bool() { End::Orderly } else { End::Reset };
            self.shut(peer, end);
        }
    }

    /// The server's end is gone, and the client's kernel knows.
    pub(super) fn shut(&mut self, peer: usize, end: End) {
        self.peers[peer].is_open = false;
        self.peers[peer].subs.clear();
        self.peers[peer].output.clear();
        self.peers[peer].wire.end(end);
    }

    /// A connection ends in the middle of anything: any part of what was under way still arrives.
    pub(super) fn cut(&mut self, peer: usize, end: End) {
        if !self.peers[peer].is_open {
            return;
        }
        let going = self.peers[peer].wire.outgoing_bytes();
        let some = self.random.usize(..=going);
        self.peers[peer].wire.take_outgoing(some);
        self.hear(peer, some);
        let coming = self.peers[peer].output.len();
        let some = self.random.usize(..=coming);
        let now = self.now();
        let it = &mut self.peers[peer];
        if some > 0 {
            it.last_arrival = now;
        }
        it.wire.arrive(it.output.drain(..some));
        self.shut(peer, end);
    }

    pub(super) fn handle_server_ping(&mut self, peer: usize) {
        let now = self.now();
        let it = &mut self.peers[peer];
        if !it.is_open || it.is_closing {
            return;
        }
        if it.pings >= it.pongs + 2 && it.is_connected {
            let excused =
                !it.is_held() || it.was_stalled || it.wire.outgoing_bytes() > 0 || !it.output.is_empty();
            self.oracle()
                .require(excused, || format!("connection {peer} does not answer its server's PINGs"));
            return self.say_error(peer, "Stale Connection");
        }
        if it.is_connected {
            it.pings += 1;
            self.say(peer, b"PING\r\n");
        } else if now > it.opened + 2 * self.plan.server_ping {
            return self.say_error(peer, "Authentication Timeout");
        }
        self.at(now + self.plan.server_ping, Happening::ServerPing { peer });
    }

    fn handle_operation(&mut self, peer: usize, operation: Operation) {
        let is_first = !self.peers[peer].is_connected;
        match operation {
            Operation::Connect(json) => {
                let options: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
                let is_right = ["headers", "no_responders", "echo"].iter().all(|key| options[*key] == true)
                    && options["verbose"] == false;
                self.oracle().require(is_first && is_right, || format!("CONNECT says {options}"));
                self.peers[peer].is_connected = true;
                if self.peers[peer].is_refused {
                    self.refused(peer);
                    self.say_error(peer, "Authorization Violation");
                }
            }
            _ if is_first => {
                return self.oracle().fail(|| format!("connection {peer} begins with {operation:?}"));
            }
            Operation::Ping => {
                self.say(peer, b"PONG\r\n");
                if !std::mem::replace(&mut self.peers[peer].has_ponged, true) {
                    self.say_info(peer, true);
                }
            }
            Operation::Pong => {
                self.peers[peer].pongs += 1;
                let it = &self.peers[peer];
                let (pings, pongs) = (it.pings, it.pongs);
                self.oracle().require(pongs <= pings, || format!("{pongs} PONGs for {pings} PINGs"));
            }
            Operation::Subscribe { subject, queue, sid } => self.handle_subscribe(peer, subject, queue, sid),
            Operation::Unsubscribe { sid, max } => {
                let it = &mut self.peers[peer];
                // One that leaves says it of whatever its link has, which does no harm.
                let is_known = max.is_none() || it.known.contains(&sid);
                match (it.subs.get_mut(&sid), max) {
                    (Some(sub), Some(max)) if sub.sent < max => sub.max = Some(max),
                    _ => drop(it.subs.remove(&sid)),
                }
                self.oracle().require(is_known, || format!("UNSUB of {sid}, which was not subscribed"));
            }
            Operation::Publish { subject, reply, headers, payload } => {
                let total = payload.len() + headers.as_ref().map_or(0, Vec::len);
                if total > self.servers[self.peers[peer].server].max_payload {
                    let told = self.peers[peer].payload_told;
                    self.oracle().require(total <= told, || {
                        format!("{total} bytes are sent to a server that takes {told}")
                    });
                    return self.say_error(peer, "Maximum Payload Violation");
                }
                let number = self.oracle().number_of(&payload);
                if let Some(number) = number {
                    self.oracle().received(number, peer);
                }
                let server = self.peers[peer].server;
                let headers = headers.is_some();
                let (from, at) = (Some(peer), self.now());
                self.publish(server, &Message { number, subject, reply, headers, payload, from, at });
            }
        }
    }

    fn handle_subscribe(&mut self, peer: usize, subject: Vec<u8>, queue: Option<Vec<u8>>, sid: u64) {
        let is_new = self.peers[peer].known.insert(sid);
        self.oracle().require(is_new, || format!("connection {peer} subscribes {sid} twice"));
        if subject.starts_with(DENIED) {
            let subject = String::from_utf8_lossy(&subject).into_owned();
            let queue = queue.map_or(String::new(), |queue| {
                format!(" using queue \"{}\"", String::from_utf8_lossy(&queue))
            });
            let text = format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"{queue}'\r\n");
            return self.say(peer, text.as_bytes());
        }
        let sub = Sub { subject, queue, max: None, sent: 0, since: self.now() };
        self.peers[peer].subs.insert(sid, sub);
    }

    /// A message comes to a server from a client, and goes to all who want it.
    pub(super) fn publish(&mut self, server: usize, message: &Message) {
        if let Some(reply) = message.reply.clone().filter(|_| message.subject.starts_with(SERVICE)) {
            return self.serve(server, message, &reply);
        }
        let mut any = false;
        // One member of each queue group, wherever it is.
        let mut groups: BTreeMap<Vec<u8>, Vec<(usize, usize, u64)>> = BTreeMap::new();
        let mut plain: BTreeMap<usize, ()> = BTreeMap::new();
        for (peer, it) in self.peers.iter().enumerate().filter(|(_, it)| it.is_open && it.is_connected) {
            for (sid, sub) in it.subs.iter().filter(|(_, sub)| matches(&sub.subject, &message.subject)) {
                if it.server != server && sub.since + self.plan.interest_delay > self.now() {
                    continue;
                }
                any = true;
                match &sub.queue {
                    Some(queue) => {
                        // Groups of the same name and another pattern are other groups.
                        let group = [queue.as_slice(), b" ", &sub.subject].concat();
                        groups.entry(group).or_default().push((it.server, peer, *sid));
                    }
                    None => drop(plain.insert(it.server, ())),
                }
            }
        }
        let mut chosen: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
        for members in groups.values() {
            let (at, peer, sid) = members[self.random.usize(..members.len())];
            chosen.entry(at).or_default().push((peer, sid));
        }
        for other in 0..self.servers.len() {
            let members = chosen.remove(&other).unwrap_or_default();
            if other == server {
                self.deliver(server, message, &members);
            } else if plain.contains_key(&other) || !members.is_empty() {
                let at = self.now() + self.plan.route_delay;
                self.at(at, Happening::Route { server: other, message: message.clone(), members });
            }
        }
        if !any
            && let Some(reply) = &message.reply
            && let Some(peer) = message.from
        {
            self.tell_nobody(peer, reply);
        }
    }

    /// Gives a message to all plain SUBs of a server's clients, and to the chosen members of queue groups.
    pub(super) fn deliver(&mut self, server: usize, message: &Message, members: &[(usize, u64)]) {
        if !self.servers[server].is_up {
            return;
        }
        let mut to: Vec<(usize, u64)> = members.to_vec();
        for (peer, it) in self.peers.iter().enumerate() {
            if it.server == server && it.is_open && it.life == self.servers[server].life {
                let subs = it.subs.iter();
                // A real server would give it to one who has subscribed meanwhile; whoever has reconnected quickly
                // might get it again, which no client could know.
                let plain = subs.filter(|(_, sub)| {
                    sub.queue.is_none() && sub.since <= message.at && matches(&sub.subject, &message.subject)
                });
                to.extend(plain.map(|(sid, _)| (peer, *sid)));
            }
        }
        for (peer, sid) in to {
            if self.peers[peer].is_open && !self.peers[peer].is_closing {
                self.send(peer, sid, message);
            }
        }
    }

    fn send(&mut self, peer: usize, sid: u64, message: &Message) {
        let Some(sub) = self.peers[peer].subs.get_mut(&sid) else { return };
        sub.sent += 1;
        if sub.max.is_some_and(|max| sub.sent >= max) {
            self.peers[peer].subs.remove(&sid);
        }
        // What is sent to a client that has gone arrives nowhere.
        if let Some(number) = message.number.filter(|_| self.peers[peer].is_held()) {
            self.peers[peer].sent.entry(sid).or_default().push(number);
        }
        let mut line = if message.headers { b"HMSG ".to_vec() } else { b"MSG ".to_vec() };
        line.extend_from_slice(&message.subject);
        line.extend_from_slice(format!(" {sid} ").as_bytes());
        if let Some(reply) = &message.reply {
            line.extend_from_slice(reply);
            line.push(b' ');
        }
        if message.headers {
            let total = HEADERS.len() + message.payload.len();
            line.extend_from_slice(format!("{} {total}\r\n", HEADERS.len()).as_bytes());
            line.extend_from_slice(HEADERS);
        } else {
            line.extend_from_slice(format!("{}\r\n", message.payload.len()).as_bytes());
        }
        line.extend_from_slice(&message.payload);
        line.extend_from_slice(b"\r\n");
        self.say(peer, &line);
    }

    fn tell_nobody(&mut self, peer: usize, reply: &[u8]) {
        let sid =
            self.peers[peer].subs.iter().find(|(_, sub)| matches(&sub.subject, reply)).map(|(sid, _)| *sid);
        if let Some(sid) = sid {
            let reply = String::from_utf8_lossy(reply).into_owned();
            self.say(peer, format!("HMSG {reply} {sid} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").as_bytes());
        }
    }

    /// Somebody elsewhere answers, as the subject says.
    fn serve(&mut self, server: usize, message: &Message, reply: &[u8]) {
        let replies = match message.subject.as_slice() {
            b"svc.none" => return self.tell_nobody(message.from.unwrap_or_default(), reply),
            b"svc.silent" => 0,
            b"svc.many" => 3,
            _ => 1,
        };
        for _ in 0..replies {
            let late = if message.subject == b"svc.late" { 900 } else { 0 };
            let at = self.now() + self.random.u64(100..30_000) + late * 1000;
            let answer =
                Message { subject: reply.to_owned(), reply: None, from: None, at, ..message.clone() };
            self.at(at, Happening::Reply { server, message: answer });
        }
    }
}

/// Subjects that a server of its own answers.
const SERVICE: &[u8] = b"svc.";
/// Subjects that nobody may subscribe to.
const DENIED: &[u8] = b"denied.";
/// How soon what cannot come through is tried again.
const RETRY: Micros = 5_000;
