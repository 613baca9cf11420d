//! From one connection of a link to the next, without a gap where that can be: drives the connection that
//! is current, the one that arrives, and the one that leaves.
//!
//! A move begins when the server says that it is going away, when a reload takes it out of the configuration, or when
//! somebody asks for it:
//!
//! 1. another server of the pool is connected to, while the current connection goes on as ever;
//! 2. accepted, the new connection gets all SUBs, and a fence is raised: what the link has to say from
//!    there on is held back;
//! 3. when the old server has processed all that stood before the fence, and the new one all SUBs, the new
//!    connection is the current one, and what was held back goes over it: nothing is in doubt, nothing out
//!    of order;
//! 4. the old one stays subscribed for [`LEAVE_AFTER`], while its cluster's other servers learn of the new
//!    SUBs; then it unsubscribes, and ends with the server's answer. What both connections bring
//!    meanwhile is delivered twice, and counted.
//!
//! Whatever fails on the way leaves the old connection as it was. If that one ends meanwhile, the new one
//! takes its place as after any other cut.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    Link,
    connector::{backoff, connect},
    pool::{Next, ServerId},
    session::{Session, SessionEnd},
};
use crate::{config::ServerAddress, time, transport::Alarm};

/// How long the old connection stays subscribed beside the new one: until the other servers of the cluster
/// have heard of the new SUBs, which no client can confirm.
pub(super) const LEAVE_AFTER: Duration = Duration::from_millis(250);
/// After this long beside the new one, the old connection is closed, whatever its server does.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// The least pause between two rounds of tries to move, for each shard of the node.
const MOVE_PAUSE_MIN: Duration = Duration::from_millis(143);

/// A connection to the next server under way.
struct Dial<'l> {
    server: ServerId,
    address: ServerAddress,
    connecting: Pin<Box<dyn Future<Output = Result<Session<'l>, SessionEnd>> + 'l>>,
}

/// Between two rounds of tries to move.
struct Pause {
    until: Instant,
    /// The servers that were known, by [`Pool::generation`](super::pool::Pool::generation): another one is
    /// tried at once.
    generation: u64,
}

pub(super) struct Crossing<'l> {
    link: &'l Rc<Link>,
    current: Option<Session<'l>>,
    arriving: Option<Session<'l>>,
    leaving: Option<Leaving<'l>>,
    dial: Option<Dial<'l>>,
    pause: Option<Pause>,
    failed_rounds: u32,
    was_ready: bool,
    alarm: Alarm,
}

struct Leaving<'l> {
    session: Session<'l>,
    since: Instant,
    has_said_so: bool,
}

impl<'l> Crossing<'l> {
    pub(super) fn new(link: &'l Rc<Link>, session: Session<'l>) -> Self {
        Crossing {
            link,
            current: None,
            arriving: Some(session),
            leaving: None,
            dial: None,
            pause: None,
            failed_rounds: 0,
            was_ready: false,
            alarm: Alarm::default(),
        }
    }

    /// Drives the connections until none is left. Whether one of them was accepted.
    pub(super) async fn run(mut self) -> bool {
        poll_fn(|cx| {
            self.link.turn_begins(cx);
            self.turn(cx);
            self.link.turn_ends();
            if self.current.is_none() && self.arriving.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        if let Some(leaving) = self.leaving.take() {
            self.link.left(leaving.session.address());
        }
        self.was_ready
    }

    fn turn(&mut self, cx: &mut Context<'_>) {
        // Each step of a move is made once, so that this ends.
        loop {
            if let Some(current) = &mut self.current
                && let Err(end) = current.turn(cx)
            {
                self.lose_current(&end);
            }
            self.turn_leaving(cx);
            if let Some(arriving) = &mut self.arriving
                && let Err(end) = arriving.turn(cx)
            {
                self.lose_arriving(&end);
            }
            if !self.step() && !self.pursue_move(cx) {
                return;
            }
        }
    }

    /// Goes on with what the connections are ready for. Whether anything was done.
    fn step(&mut self) -> bool {
        let now = time::now();
        let link = self.link;
        let Some(arriving) = self.arriving.as_mut().filter(|arriving| arriving.is_ready()) else {
            return self.lift_fence();
        };
        let Some(current) = &mut self.current else {
            if !arriving.has_said_all() {
                return false;
            }
            arriving.take_over(false);
            link.connected(arriving.server(), arriving.address());
            self.was_ready = true;
            self.current = self.arriving.take();
            return true;
        };
        let is_fenced = link.outbox.borrow().is_fenced();
        if !is_fenced {
            arriving.subscribe_all(now);
            current.raise_fence(now);
            return true;
        }
        let is_handed_over = arriving.is_subscribed()
            && arriving.has_said_all()
            && current.has_said_all()
            && link.outbox.borrow().has_passed_fence();
        if !is_handed_over {
            return false;
        }
        arriving.take_over_from(current);
        link.moved(current.address(), arriving.server(), arriving.address());
        let session = std::mem::replace(&mut self.current, self.arriving.take());
        if let Some(before) = self.leaving.take() {
            link.left(before.session.address());
        }
        self.leaving = session.map(|session| Leaving { session, since: now, has_said_so: false });
        self.pause = None;
        self.failed_rounds = 0;
        true
    }

    /// Nobody takes over after all: what was held back goes over the current connection.
    fn lift_fence(&mut self) -> bool {
        let Some(current) = &mut self.current else { return false };
        let mut outbox = self.link.outbox.borrow_mut();
        // Its own bytes go first, or it would break into the middle of a line.
        if !outbox.is_fenced() || !current.has_said_all() {
            return false;
        }
        outbox.lift_fence();
        current.stays(time::now());
        true
    }

    fn lose_current(&mut self, end: &SessionEnd) {
        let Some(lost) = self.current.take() else { return };
        let was_fenced = self.link.outbox.borrow().is_fenced();
        self.link.connection_ended(lost.server(), lost.address(), end);
        drop(lost);
        self.dial = None;
        self.pause = None;
        let Some(arriving) = &mut self.arriving else { return };
        if matches!(end, SessionEnd::Closing) {
            self.arriving = None;
        } else if was_fenced {
            if arriving.has_said_all() {
                // It is subscribed, and what changed since is queued.
                arriving.take_over(true);
                self.link.connected(arriving.server(), arriving.address());
                self.current = self.arriving.take();
            } else {
                self.arriving = None;
            }
        }
    }

    fn lose_arriving(&mut self, end: &SessionEnd) {
        let Some(lost) = self.arriving.take() else { return };
        if lost.is_ready() && self.current.is_none() && !matches!(end, SessionEnd::Closing) {
            // Accepted and ended in one read.
            self.link.connected(lost.server(), lost.address());
            self.link.connection_ended(lost.server(), lost.address(), end);
            self.was_ready = true;
        } else {
            self.link.try_failed(lost.server(), lost.address(), end);
        }
    }

    fn turn_leaving(&mut self, cx: &mut Context<'_>) {
        let Some(leaving) = &mut self.leaving else { return };
        let now = time::now();
        if !leaving.has_said_so && now >= leaving.since + LEAVE_AFTER {
            leaving.has_said_so = true;
            leaving.session.leave(now);
        }
        let ended = leaving.session.turn(cx);
        if ended.is_err() || now >= leaving.since + LEAVE_WITHIN {
            self.link.left(leaving.session.address());
            self.leaving = None;
            return;
        }
        let due = leaving.since + if leaving.has_said_so { LEAVE_WITHIN } else { LEAVE_AFTER };
        self.alarm.arm(due, now, cx);
    }

    /// Connects to another server, if a move is wanted. Whether one has taken a connection.
    fn pursue_move(&mut self, cx: &mut Context<'_>) -> bool {
        let link = self.link;
        let Some(not_before) = link.move_wanted.get() else { return false };
        if self.current.is_none() || self.arriving.is_some() || self.leaving.is_some() {
            return false;
        }
        if self.dial.as_ref().is_some_and(|dial| link.pool.borrow().is_withdrawn(dial.server)) {
            self.dial = None;
        }
        loop {
            if let Some(dial) = &mut self.dial {
                let Poll::Ready(dialled) = dial.connecting.as_mut().poll(cx) else { return false };
                let dial = self.dial.take();
                match (dialled, dial) {
                    (Ok(session), _) => {
                        self.arriving = Some(session);
                        return true;
                    }
                    (Err(end), Some(dial)) => link.try_failed(dial.server, &dial.address, &end),
                    (Err(_), None) => {}
                }
            }
            let now = time::now();
            let generation = link.pool.borrow().generation();
            let pausing = self.pause.as_ref().filter(|pause| pause.generation == generation);
            let begins_at = pausing.map_or(not_before, |pause| pause.until.max(not_before));
            if begins_at > now {
                self.alarm.arm(begins_at, now, cx);
                return false;
            }
            let next = link.pool.borrow_mut().next();
            match next {
                Next::Try(server, entry) => {
                    let address = entry.address.clone();
                    let connecting = Box::pin(async move { connect(link, server, &entry).await });
                    self.dial = Some(Dial { server, address, connecting });
                }
                Next::RoundOver => {
                    let least = MOVE_PAUSE_MIN.mul_f64(link.node.shards() as f64);
                    let until = now + least + backoff(link, self.failed_rounds);
                    self.failed_rounds += 1;
                    self.pause = Some(Pause { until, generation });
                }
                Next::AllRefuse => return false,
            }
        }
    }
}
