//! The asking side of one shard: each request as soon as it is due, or as soon as the one before is answered.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use croupier::{Message, RequestError, Shard};

use crate::checker::Arrival;
use crate::control::Control;
use crate::pacer::{Next, Offer, Pacer};
use crate::payload::Stamp;
use crate::recorder::{Delivery, Recorder};
use crate::worker::{Assignment, Route};

/// Asks a shard's part of the schedule, and waits for the answers.
#[derive(Debug)]
pub(crate) struct Requester<'a> {
    shard: &'a Shard,
    control: &'a Arc<Control>,
    routes: &'a Rc<[Route]>,
    pacer: Pacer,
    /// When a shard that is behind gives up, on the run's clock.
    give_up_nanos: u64,
    end_nanos: u64,
    /// Under way at one time, in a closed loop.
    concurrency: Option<usize>,
    asked: Rc<Asked>,
}

/// What the requests under way share.
#[derive(Debug)]
struct Asked {
    control: Arc<Control>,
    shard: usize,
    timeout: Duration,
    under_way: Cell<usize>,
    recorder: RefCell<Recorder>,
}

/// Each has a task and its payload; what is due beyond them waits, and its wait counts.
const UNDER_WAY_MAX: usize = 16_384;

/// Between two looks at whether the last answers have come.
const POLL: Duration = Duration::from_millis(1);

impl<'a> Requester<'a> {
    pub(crate) fn new(
        shard: &'a Shard,
        control: &'a Arc<Control>,
        assignment: &Assignment,
        routes: &'a Rc<[Route]>,
        pacer: Pacer,
        concurrency: Option<usize>,
    ) -> Self {
        let asked = Asked {
            control: Arc::clone(control),
            shard: shard.id(),
            timeout: assignment.timeout,
            under_way: Cell::new(0),
            recorder: RefCell::new(control.watch(shard.id(), assignment.recorder())),
        };
        Self {
            shard,
            control,
            routes,
            pacer,
            give_up_nanos: assignment.give_up_nanos(),
            end_nanos: assignment.schedule.end_nanos(),
            concurrency,
            asked: Rc::new(asked),
        }
    }

    /// Asks until nothing is left, the run is over, or the shard is too far behind; then waits until every
    /// request has ended.
    pub(crate) async fn ask_all(&mut self) {
        while self.control.may_send() && self.control.now_nanos() < self.give_up_nanos {
            let Ok(next) = self.burst();
            match next {
                Next::Pause(pause) => self.shard.sleep(pause).await,
                Next::Done => break,
                Next::BeyondHope => self.control.give_up(),
            }
        }
        // Each has its timeout.
        while self.asked.under_way.get() > 0 && !self.control.is_over() {
            self.shard.sleep(POLL).await;
        }
    }

    /// Requests of this shard's part that were not sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.pacer.unsent()
    }

    pub(crate) fn merge_into(&self, recorder: &mut Recorder) {
        recorder.merge(self.pacer.recorder());
        recorder.merge(&self.asked.recorder.borrow());
    }

    fn burst(&mut self) -> Result<Next, Infallible> {
        let (shard, control, routes, asked) = (self.shard, self.control, self.routes, &self.asked);
        let offer = |stamp: &Stamp, payload: &[u8]| {
            if asked.under_way.get() >= UNDER_WAY_MAX {
                control.shard(asked.shard).busy_once();
                return Ok(Offer::Busy);
            }
            asked.under_way.set(asked.under_way.get() + 1);
            control.shard(asked.shard).sent_copies(1);
            let cluster = routes[stamp.topic as usize].cluster;
            let (asked, routes) = (Rc::clone(asked), Rc::clone(routes));
            shard.spawn(ask(shard.clone(), asked, routes, *stamp, payload.to_vec()));
            Ok(Offer::Taken { cluster })
        };
        let now = || control.now_nanos();
        match self.concurrency {
            Some(concurrency) => {
                let room = || asked.under_way.get() < concurrency;
                self.pacer.burst_closed(self.end_nanos, now, room, offer)
            }
            None => self.pacer.burst(now, offer),
        }
    }
}

async fn ask(shard: Shard, asked: Rc<Asked>, routes: Rc<[Route]>, stamp: Stamp, payload: Vec<u8>) {
    let route = &routes[stamp.topic as usize];
    let answer = shard.request_with_timeout(route.topic.name(), &payload[..], asked.timeout).await;
    asked.ended(&stamp, route.cluster, &payload, answer);
}

impl Asked {
    fn ended(&self, stamp: &Stamp, cluster: usize, payload: &[u8], answer: Result<Message, RequestError>) {
        let delivered_nanos = self.control.now_nanos();
        self.under_way.set(self.under_way.get() - 1);
        let mut recorder = self.recorder.borrow_mut();
        let intended_nanos = stamp.intended_nanos;
        let fate = match answer {
            Ok(answer) if answer.payload() == payload => {
                recorder.answered(&Delivery {
                    arrival: Arrival::InOrder,
                    cluster,
                    intended_nanos,
                    actual_nanos: stamp.actual_nanos,
                    delivered_nanos,
                });
                self.control.shard(self.shard).delivered_one();
                return;
            }
            Ok(_) => {
                recorder.corrupt(delivered_nanos);
                recorder.unanswered(intended_nanos, |fates| fates.corrupt += 1);
                return;
            }
            Err(error) => error,
        };
        recorder.unanswered(intended_nanos, |fates| match fate {
            RequestError::NoResponders { .. } => fates.no_responders += 1,
            RequestError::Timeout { .. } => fates.timeouts += 1,
            RequestError::Disconnected { .. } => fates.disconnected += 1,
            _ => fates.refused += 1,
        });
    }
}
