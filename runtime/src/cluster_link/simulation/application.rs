//! The application: what it does with its links, and what must be true of what it gets.

use std::{
    collections::BTreeSet,
    rc::Rc,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use croupier_protocol::{Headers, QueueGroup, Subject};

use super::{
    cluster::{Message, matches},
    oracle::{Fate, HEADERS},
    plan::Micros,
    world::World,
};
use crate::{
    Payload, PublishError, RequestError, RequestManyOptions, Subscription,
    cluster_link::{Destination, LinkStatus},
    config::{QueueLimits, SlowSubscriberPolicy},
    receiver::Receiver,
    subscription::Attached,
};

/// A subscription of the application.
pub(super) struct AppSub {
    pub(super) link: usize,
    pub(super) sid: u64,
    subject: Vec<u8>,
    queue: Option<Vec<u8>>,
    pub(super) receiver: Rc<Receiver>,
    holder: Option<Subscription>,
    is_handler: bool,
    max: Option<u64>,
    /// The first that it was told.
    first_max: Option<u64>,
    /// When a server had confirmed it.
    confirmed_at: Option<Micros>,
    got: u64,
    numbers: BTreeSet<u64>,
}

/// A message that a handler was called with.
pub(super) struct Got {
    sub: usize,
    number: Option<u64>,
}

/// Something that was waited for.
pub(super) enum Done {
    Confirmed {
        link: usize,
        sids: Vec<u64>,
        sub: usize,
        passed: bool,
    },
    Flushed {
        link: usize,
        pending: Vec<u64>,
        was_connected: bool,
        disconnects: u64,
        passed: bool,
    },
    Answered {
        link: usize,
        number: u64,
        begun: Micros,
        timeout: Micros,
        outcome: Result<Bytes, RequestError>,
    },
    Published {
        link: usize,
        outcome: Result<(), PublishError>,
    },
}

impl World {
    /// One message over a link, in any of the ways that there are.
    pub(super) fn publish_one(&mut self, link: usize) {
        let subject = format!("t.{}", self.random.u8(..3)).into_bytes();
        let bytes = self.some_bytes();
        let number = self.oracle().message(Some(link), &subject, bytes);
        let (with_headers, with_reply) = (self.random.u8(..8) == 0, self.random.u8(..8) == 0);
        {
            let mut oracle = self.oracle();
            let message = &mut oracle.messages[number as usize];
            (message.headers, message.reply) = (with_headers, with_reply);
        }
        let payload = self.oracle().payload(number);
        let headers = with_headers.then(|| Headers::parse(HEADERS).expect("they are headers"));
        let reply = with_reply.then_some(&b"nobody.waits"[..]);
        let to = Destination::Subject { subject: &subject, reply, headers: headers.as_ref() };
        let payload = match self.random.u8(..3) {
            0 => Payload::from(&payload),
            1 => Payload::from(Bytes::from(payload.clone())),
            _ => Payload::from(payload.clone()),
        };
        let outcome = self.links[link].publish(&to, payload);
        self.published(link, number, &outcome);
    }

    fn some_bytes(&mut self) -> usize {
        let most = self.plan.payload_bytes;
        if self.random.u8(..4) == 0 { self.random.usize(..=most) } else { self.random.usize(..=most.min(60)) }
    }

    fn published(&mut self, link: usize, number: u64, outcome: &Result<(), PublishError>) {
        let has_ended = self.links[link].end.get().is_some();
        let mut oracle = self.oracle();
        match outcome {
            Ok(()) => oracle.accepted(number),
            Err(PublishError::Busy { .. } | PublishError::PayloadTooLarge { .. }) => {
                oracle.accounts[link].rejected += 1;
            }
            Err(PublishError::Disconnected { .. }) if has_ended => {}
            Err(error) => oracle.fail(|| format!("a publish fails: {error}")),
        }
    }

    pub(super) fn publish_and_wait(&mut self, link: usize) {
        let bytes = self.some_bytes();
        let number = self.oracle().message(Some(link), b"t.0", bytes);
        let payload = self.oracle().payload(number);
        let (over, done) = (Rc::clone(&self.links[link]), Rc::clone(&self.done));
        self.spawn(link, Some(number), async move {
            let to = Destination::Subject { subject: b"t.0", reply: None, headers: None };
            let outcome = over.publish_wait(&to, payload.into()).await;
            done.borrow_mut().push(Done::Published { link, outcome });
        });
    }

    /// Another client publishes, at any server that is there.
    pub(super) fn publish_outside(&mut self) {
        let up = (0..self.servers.len()).filter(|server| self.is_well(*server)).collect::<Vec<_>>();
        let Some(server) = self.random.choice(up) else { return };
        for _ in 0..self.random.usize(1..=6) {
            let subject = format!("t.{}", self.random.u8(..3)).into_bytes();
            let bytes = self.some_bytes();
            self.outside(server, &subject, bytes);
        }
    }

    pub(super) fn is_well(&self, server: usize) -> bool {
        let it = &self.servers[server];
        it.is_up && !it.is_dark && !it.is_paused
    }

    fn outside(&mut self, server: usize, subject: &[u8], bytes: usize) -> u64 {
        let headers = self.random.u8(..8) == 0;
        let number = self.oracle().message(None, subject, bytes);
        let payload = self.oracle().payload(number);
        let (subject, number, at) = (subject.to_vec(), Some(number), self.now());
        self.publish(server, &Message { number, subject, reply: None, headers, payload, from: None, at });
        number.unwrap_or_default()
    }

    pub(super) fn subscribe(&mut self, link: usize) {
        if self.links[link].end.get().is_some()
            || self.subs.iter().filter(|sub| sub.is_held()).count() > SUBS_MAX
        {
            return;
        }
        let subject = match self.random.u8(..20) {
            0..4 => b"t.*".to_vec(),
            4 => b"denied.x".to_vec(),
            _ => format!("t.{}", self.random.u8(..3)).into_bytes(),
        };
        let queue = (self.random.u8(..4) == 0).then(|| b"group".to_vec());
        let topic = Subject::pattern(&subject).expect("it is a subject");
        let sub = self.subs.len();
        let is_handler = self.random.bool();
        let receiver = if is_handler {
            let (got, over, oracle) =
                (Rc::clone(&self.got), Rc::clone(&self.links[link]), self.share_oracle());
            Receiver::handler(topic, move |view| {
                let number = oracle.borrow_mut().number_of(view.payload());
                got.borrow_mut().push(Got { sub, number });
                // A handler may publish where it stands.
                if number.is_some_and(|number| number % 8 == 0) {
                    let mut oracle = oracle.borrow_mut();
                    let number = oracle.message(Some(link), b"from.handler", 20);
                    let payload = oracle.payload(number);
                    let to = Destination::Subject { subject: b"from.handler", reply: None, headers: None };
                    match over.publish(&to, payload.into()) {
                        Ok(()) => oracle.accepted(number),
                        Err(PublishError::Disconnected { .. }) => {}
                        Err(_) => oracle.accounts[link].rejected += 1,
                    }
                }
            })
        } else {
            Receiver::queue(topic, QueueLimits::default(), SlowSubscriberPolicy::DropNewest)
        };
        let max = (self.random.u8(..6) == 0).then(|| self.random.u64(1..40));
        if let Some(max) = max {
            receiver.set_delivered_max(max);
        }
        let attached = Attached { receiver: Rc::new(receiver), links: vec![Rc::clone(&self.links[link])] };
        let receiver = Rc::clone(&attached.receiver);
        let group = queue.as_ref().map(|queue| QueueGroup::new(queue).expect("it is a group"));
        if let Err(error) = self.links[link].attach(&receiver, group.as_ref()) {
            return self.oracle().fail(|| format!("a subscribe fails: {error}"));
        }
        let sid = receiver.place(0).map_or(0, |sid| sid.raw());
        self.oracle().tell(|| {
            let subject = String::from_utf8_lossy(&subject);
            format!("receiver {sub} of link {link}: SUB {subject} {queue:?} {sid}, at most {max:?}")
        });
        if self.subs.iter().any(|other| other.link == link && other.sid == sid) {
            for peer in (0..self.peers.len()).filter(|peer| self.peers[*peer].link == link) {
                self.oracle().joined(sub, peer);
            }
        }
        self.subs.push(AppSub {
            link,
            sid,
            subject,
            queue,
            receiver,
            holder: Some(Subscription::new(attached, Vec::new())),
            is_handler,
            max,
            first_max: max,
            confirmed_at: None,
            got: 0,
            numbers: BTreeSet::new(),
        });
        self.confirm(link, sub);
    }

    /// Waits for the server's word that it knows all that is subscribed.
    fn confirm(&mut self, link: usize, sub: usize) {
        let of_link = self.subs.iter().filter(|sub| sub.link == link && sub.is_held());
        let sids = of_link.map(|sub| sub.sid).collect();
        let (barrier, done) = (self.links[link].barrier(true), Rc::clone(&self.done));
        self.spawn(link, None, async move {
            let passed = barrier.passed().await;
            done.borrow_mut().push(Done::Confirmed { link, sids, sub, passed });
        });
    }

    pub(super) fn unsubscribe(&mut self) {
        let held: Vec<usize> = (0..self.subs.len()).filter(|sub| self.subs[*sub].is_held()).collect();
        let Some(sub) = self.random.choice(held) else { return };
        self.oracle().tell(|| format!("receiver {sub} is let go"));
        let (link, holder) = (self.subs[sub].link, self.subs[sub].holder.take());
        let Some(mut holder) = holder else { return };
        match self.random.u8(..3) {
            0 => drop(holder),
            1 => self.spawn(link, None, async move {
                // A server that does not answer in time is no fault of the link's.
                let _answered = holder.unsubscribe().await;
            }),
            _ => self.spawn(link, None, async move {
                let _answered = holder.drain().await;
                drop(holder);
            }),
        }
    }

    pub(super) fn unsubscribe_after(&mut self) {
        let held: Vec<usize> = (0..self.subs.len()).filter(|sub| self.subs[*sub].is_held()).collect();
        let Some(sub) = self.random.choice(held) else { return };
        let more = self.random.u64(..20);
        let sub = &mut self.subs[sub];
        let max = sub.receiver.delivered() + more;
        sub.max = Some(sub.max.map_or(max, |known| known.min(max)));
        sub.first_max.get_or_insert(max);
        if let Some(holder) = &mut sub.holder {
            holder.unsubscribe_after(max);
        }
    }

    pub(super) fn flush(&mut self, link: usize) {
        let was_connected = self.is_connected(link);
        let (pending, disconnects) = (self.oracle().unsettled(link), self.trying[link].disconnects);
        let (barrier, done) = (self.links[link].barrier(false), Rc::clone(&self.done));
        self.spawn(link, None, async move {
            let passed = barrier.passed().await;
            done.borrow_mut().push(Done::Flushed { link, pending, was_connected, disconnects, passed });
        });
    }

    pub(super) fn request(&mut self, link: usize) {
        let subject =
            [&b"svc.echo"[..], b"svc.echo", b"svc.none", b"svc.silent", b"svc.late"][self.random.usize(..5)];
        let bytes = self.some_bytes().min(200);
        let number = self.oracle().message(Some(link), subject, bytes);
        let payload = self.oracle().payload(number);
        let (over, done, begun) = (Rc::clone(&self.links[link]), Rc::clone(&self.done), self.now());
        let limit = Duration::from_millis(self.random.u64(10..600));
        let timeout = limit.as_micros() as Micros;
        self.spawn(link, Some(number), async move {
            let outcome = over.request(subject, None, payload.into(), limit).await;
            let outcome = outcome.map(crate::Message::into_bytes);
            done.borrow_mut().push(Done::Answered { link, number, begun, timeout, outcome });
        });
    }

    pub(super) fn request_many(&mut self, link: usize) {
        let number = self.oracle().message(Some(link), b"svc.many", 30);
        let payload = self.oracle().payload(number);
        let over = Rc::clone(&self.links[link]);
        let options = RequestManyOptions::new()
            .replies(self.random.u64(1..5))
            .silence(Duration::from_millis(self.random.u64(5..100)));
        let limits = options.limits(&self.plan.configuration.limits);
        self.spawn(link, Some(number), async move {
            let Ok(mut awaited) = over.request_many(b"svc.many", None, payload.into(), limits).await else {
                return;
            };
            while std::future::poll_fn(|cx| awaited.poll_next(cx)).await.is_some() {}
        });
    }

    /// Takes what waits in the queues, sometimes.
    pub(super) fn take_from_queues(&mut self) {
        for sub in 0..self.subs.len() {
            if self.subs[sub].is_handler || (!self.is_settling && self.random.u8(..8) > 0) {
                continue;
            }
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(message)) = self.subs[sub].receiver.poll_next(&mut cx) {
                let number = self.oracle().number_of(message.payload());
                self.got.borrow_mut().push(Got { sub, number });
            }
        }
        self.handle_got();
    }

    pub(super) fn handle_got(&mut self) {
        let got = std::mem::take(&mut *self.got.borrow_mut());
        for Got { sub, number } in got {
            let Some(number) = number else { continue };
            let it = &mut self.subs[sub];
            it.got += 1;
            let (link, sid, count, max) = (it.link, it.sid, it.got, it.max);
            let is_again = !it.numbers.insert(number);
            let group = it.queue.as_ref().map(|queue| [queue.as_slice(), b" ", &it.subject].concat());
            let pattern = it.subject.clone();
            let is_asked_for = matches(&pattern, &self.oracle().messages[number as usize].subject);
            let mut oracle = self.oracle();
            oracle
                .require(is_asked_for, || format!("receiver {sub} got message {number}, of another subject"));
            oracle.require(max.is_none_or(|max| count <= max.max(1)), || {
                format!("receiver {sub} got {count} messages, of at most {max:?}")
            });
            let of_link = self.peers.iter().enumerate().rev().filter(|(_, peer)| peer.link == link);
            let sent = of_link.filter_map(|(at, peer)| Some((at, peer.sent.get(&sid)?.as_slice())));
            oracle.delivered(sub, number, sent);
            match group {
                Some(group) => oracle.delivered_to_group(group, number),
                None if is_again => oracle.delivered_again(link, sid, number),
                None => {}
            }
        }
    }

    /// The number of messages that a server is told to send at most must be what is left of it.
    pub(super) fn check_max(&mut self, peer: usize, sid: u64, max: u64) {
        let link = self.peers[peer].link;
        let of_sid = self.subs.iter().enumerate().filter(|(_, sub)| sub.link == link && sub.sid == sid);
        // It may have been less strict when it was written to the buffer.
        let bounds: Vec<(u64, u64)> = of_sid
            .filter_map(|(at, sub)| {
                let before = self.peers[peer].delivered_before.get(&at).copied().unwrap_or(0);
                let least = sub.max?.saturating_sub(sub.receiver.delivered()).max(1);
                Some((least, sub.first_max?.saturating_sub(before).max(1)))
            })
            .collect();
        let is_right = bounds.iter().any(|(least, most)| (*least..=*most).contains(&max));
        self.oracle().require(is_right, || {
            format!("{sid} has one of {bounds:?} messages to come, and connection {peer} is told {max}")
        });
    }

    pub(super) fn handle_done(&mut self, done: Done) {
        match done {
            Done::Confirmed { link, sids, sub, passed } => {
                let now = self.now();
                if !passed {
                    let has_ended = self.links[link].end.get().is_some();
                    return self.oracle().require(has_ended, || "a subscribe is not confirmed".to_owned());
                }
                self.subs[sub].confirmed_at.get_or_insert(now);
                let held: Vec<u64> = self
                    .subs
                    .iter()
                    .filter(|sub| sub.link == link && sub.is_held())
                    .map(|sub| sub.sid)
                    .collect();
                let of_link = || {
                    self.peers.iter().filter(|peer| peer.link == link && (peer.is_held() || peer.was_held))
                };
                let is_known = |sid: &&u64| of_link().any(|peer| peer.known.contains(sid));
                let lost: Vec<u64> = sids
                    .iter()
                    .filter(|sid| held.contains(sid))
                    .filter(|sid| !is_known(sid))
                    .copied()
                    .collect();
                self.oracle().require(lost.is_empty(), || {
                    format!("link {link} is told to be subscribed, and no server knows of {lost:?}")
                });
            }
            Done::Flushed { link, pending, was_connected, disconnects, passed } => {
                let was_cut = self.trying[link].disconnects > disconnects;
                let has_ended = self.links[link].end.get().is_some();
                let mut oracle = self.oracle();
                oracle.counts.flushes += u64::from(passed);
                if passed {
                    let missing: Vec<u64> = pending
                        .into_iter()
                        .filter(|number| {
                            let message = &oracle.messages[*number as usize];
                            !message.is_received && message.fate != Fate::Discarded
                        })
                        .collect();
                    oracle.require(missing.is_empty(), || {
                        format!("a flush passes before messages {missing:?}")
                    });
                } else {
                    oracle.require(!was_connected || was_cut || has_ended, || {
                        "a flush fails without a cut".to_owned()
                    });
                }
            }
            Done::Answered { link, number, begun, timeout, outcome } => {
                let now = self.now();
                let is_connected = self.is_connected(link);
                let mut oracle = self.oracle();
                oracle.counts.requests += 1;
                let subject = oracle.messages[number as usize].subject.clone();
                let payload = oracle.payload(number);
                let is_right = match &outcome {
                    Ok(answer) => *answer == payload && (subject == b"svc.echo" || subject == b"svc.late"),
                    Err(RequestError::NoResponders { .. }) => subject == b"svc.none",
                    Err(RequestError::Timeout { .. }) => now + 1 >= begun + timeout,
                    Err(RequestError::Disconnected { sent: false, .. }) => {
                        !is_connected || now + 1 >= begun + timeout
                    }
                    _ => true,
                };
                oracle.require(is_right, || {
                    format!("a request for {} ends with {outcome:?}", String::from_utf8_lossy(&subject))
                });
                oracle.require(now <= begun + timeout + LATE, || {
                    format!("a request takes {} us longer than it may", now - begun - timeout)
                });
            }
            Done::Published { link, outcome } => {
                let has_ended = self.links[link].end.get().is_some();
                let is_right = match &outcome {
                    Err(PublishError::Disconnected { .. }) => has_ended,
                    Err(PublishError::Busy { limit_bytes, needed_bytes, .. }) => needed_bytes > limit_bytes,
                    _ => true,
                };
                self.oracle().require(is_right, || format!("a publish that waits ends with {outcome:?}"));
            }
        }
    }

    /// All gets well; then all that was promised must be there.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.is_settling = true;
        self.oracle().tell(|| "all gets well".to_owned());
        for server in 0..self.servers.len() {
            let it = &mut self.servers[server];
            (it.is_dark, it.is_paused, it.refusals) = (false, false, 0);
            if it.is_lame && !self.plan.is_calm {
                self.kill(server, false);
            }
            self.start(server);
        }
        for peer in &mut self.peers {
            (peer.stalled_in, peer.stalled_out) = (0, 0);
        }
        let end = self.now() + self.plan.settling_max();
        self.run_until(end, |world| {
            (0..world.links.len()).all(|link| world.is_settled(link)) && world.waiting() == 0
        })?;
        for link in 0..self.links.len() {
            let (link_stats, waiting) = (self.links[link].stats(), self.waiting());
            let settled = self.is_settled(link) && waiting == 0;
            self.oracle().require(settled, || {
                format!("link {link} does not get well: {waiting} wait, {link_stats:?}")
            });
        }
        self.probe()?;
        self.check_tables();
        self.check_calm();
        for link in &self.links {
            link.close();
        }
        let end = self.now() + SECOND_PROBE;
        self.run_until(end, |world| (0..world.links.len()).all(|link| !world.is_running(link)))?;
        for link in 0..self.links.len() {
            let is_running = self.is_running(link);
            let requests = self.links[link].requests.borrow().len();
            let unsettled = self.oracle().unsettled(link).len();
            self.oracle().require(!is_running && requests == 0 && unsettled == 0, || {
                format!("link {link} is closed: running {is_running}, {requests} requests, {unsettled} messages without a fate")
            });
        }
        self.oracle().failure.take().map_or(Ok(()), Err)
    }

    /// Whether a link is connected and has nothing to say, or has ended. The move off a lame server comes first.
    fn is_settled(&self, link: usize) -> bool {
        let it = &self.links[link];
        let connections =
            self.peers.iter().filter(|peer| peer.link == link && (peer.is_held() || peer.is_open)).count();
        let is_quiet =
            it.outbox.borrow().pending() == 0 && it.move_wanted.get().is_none() && connections == 1;
        it.end.get().is_some() || (it.status() == LinkStatus::Connected && is_quiet)
    }

    /// Everybody who is subscribed gets what is published now, once.
    fn probe(&mut self) -> Result<(), String> {
        let end = self.now() + self.plan.interest_delay + 50_000;
        self.run_until(end, |_| false)?;
        let mut probes = Vec::new();
        for server in (0..self.servers.len()).filter(|server| self.is_well(*server)).collect::<Vec<_>>() {
            for subject in [&b"t.0"[..], b"t.1", b"t.2"] {
                probes.push(self.outside(server, subject, 20));
            }
        }
        let end = self.now() + SECOND_PROBE;
        self.run_until(end, |_| false)?;
        for (sub, it) in self.subs.iter().enumerate() {
            let has_ended = self.links[it.link].end.get().is_some();
            if !it.is_held() || has_ended || it.receiver.denied().is_some() || it.subject == b"denied.x" {
                continue;
            }
            let asked_for =
                |number: &&u64| matches(&it.subject, &self.oracle().messages[**number as usize].subject);
            let mine: Vec<u64> = probes.iter().filter(asked_for).copied().collect();
            match &it.queue {
                None => {
                    let missing: Vec<&u64> =
                        mine.iter().filter(|number| !it.numbers.contains(number)).collect();
                    self.oracle().require(missing.is_empty(), || {
                        format!("receiver {sub} did not get {missing:?} after all is well")
                    });
                }
                Some(queue) => {
                    let members = || {
                        self.subs.iter().filter(|other| {
                            other.queue.as_ref() == Some(queue) && other.subject == it.subject
                        })
                    };
                    // Who has had enough may have been chosen for the last time before its server knew.
                    if members().any(|member| member.max.is_some() || !member.is_held()) {
                        continue;
                    }
                    let missing: Vec<&u64> = mine
                        .iter()
                        .filter(|number| !members().any(|member| member.numbers.contains(number)))
                        .collect();
                    self.oracle().require(missing.is_empty(), || {
                        format!("the queue group of receiver {sub} did not get {missing:?} after all is well")
                    });
                }
            }
        }
        Ok(())
    }

    /// What a server knows of a link's subscriptions is what the link has.
    fn check_tables(&mut self) {
        for (index, link) in self.links.iter().enumerate().filter(|(_, link)| link.end.get().is_none()) {
            let held: Vec<_> =
                self.peers.iter().filter(|peer| peer.link == index && peer.is_held()).collect();
            let [peer] = held.as_slice() else {
                return self.oracle().fail(|| format!("link {index} has {} connections", held.len()));
            };
            let subscriptions = link.subscriptions.borrow();
            let inbox = link.inbox.sid;
            for (sid, subscribed) in subscriptions.iter() {
                let is_live = sid != inbox || link.inbox.is_live.get();
                let is_there = peer.subs.contains_key(&sid.raw());
                self.oracle().require(is_there || !is_live, || {
                    format!("the server of link {index} does not know {sid}, {}", subscribed.subject)
                });
            }
            for sid in peer.subs.keys() {
                let is_there = subscriptions.iter().any(|(known, _)| known.raw() == *sid);
                self.oracle()
                    .require(is_there, || format!("the server of link {index} knows {sid}, which is gone"));
            }
        }
    }

    /// Where nothing was cut, nothing is lost.
    fn check_calm(&mut self) {
        if !self.plan.is_calm {
            return;
        }
        for link in &self.links {
            let in_doubt = link.counters.in_doubt.load(Ordering::Relaxed);
            self.oracle().require(in_doubt == 0, || format!("{in_doubt} in doubt where nothing was cut"));
        }
        for (sub, it) in self
            .subs
            .iter()
            .enumerate()
            .filter(|(_, it)| it.is_held() && it.queue.is_none() && it.max.is_none())
        {
            let Some(since) = it.confirmed_at else { continue };
            let oracle = self.oracle();
            let mut lost = Vec::new();
            for (number, message) in oracle.messages.iter().enumerate() {
                let is_due = message.link.is_none() && message.at > since + self.plan.interest_delay;
                if is_due && matches(&it.subject, &message.subject) && !it.numbers.contains(&(number as u64))
                {
                    lost.push(number);
                }
            }
            drop(oracle);
            self.oracle()
                .require(lost.is_empty(), || format!("receiver {sub} did not get {lost:?} in a move"));
        }
    }
}

impl AppSub {
    /// Whether the application still wants it.
    pub(super) fn is_held(&self) -> bool {
        self.holder.is_some() && !self.receiver.is_closed()
    }
}

/// Subscriptions that the application has at a time, about.
const SUBS_MAX: usize = 12;
/// How much later than its time a request may end: turns of other tasks.
const LATE: Micros = 100_000;
/// How long a probe may take, and a close.
const SECOND_PROBE: Micros = 1_000_000;
