//! The sending side of one shard: each message as soon as it is due, whatever became of those before it; or in
//! a closed loop, as soon as one of those before it has arrived.

use std::cell::RefCell;

use croupier::{PublishError, Shard};

use crate::closed_loop::ClosedLoop;
use crate::control::Control;
use crate::pacer::{Next, Offer, Pacer};
use crate::recorder::Recorder;
use crate::worker::{Assignment, Route};

/// Sends a shard's part of the schedule.
#[derive(Debug)]
pub(crate) struct Publisher<'a> {
    shard: &'a Shard,
    control: &'a Control,
    routes: &'a [Route],
    pacer: Pacer,
    /// How often each message is to arrive.
    copies: u64,
    closed: Option<RefCell<ClosedLoop>>,
    end_nanos: u64,
    /// When a shard that is behind gives up, on the run's clock.
    give_up_nanos: u64,
}

impl<'a> Publisher<'a> {
    /// In a closed loop with `concurrency` messages under way.
    pub(crate) fn new(
        shard: &'a Shard,
        control: &'a Control,
        assignment: &Assignment,
        routes: &'a [Route],
        pacer: Pacer,
        concurrency: Option<usize>,
    ) -> Self {
        let copies = assignment.roles.copies();
        Self {
            shard,
            control,
            routes,
            pacer,
            copies: copies as u64,
            closed: concurrency.map(|concurrency| RefCell::new(ClosedLoop::new(concurrency, copies))),
            end_nanos: assignment.schedule.end_nanos(),
            give_up_nanos: assignment.give_up_nanos(),
        }
    }

    /// Sends until nothing is left, the run is over, or the shard is too far behind.
    pub(crate) async fn send_all(&mut self) -> Result<(), PublishError> {
        while self.control.may_send() && self.control.now_nanos() < self.give_up_nanos {
            match self.burst()? {
                Next::Pause(pause) => self.shard.sleep(pause).await,
                Next::Done => break,
                Next::BeyondHope => self.control.give_up(),
            }
        }
        Ok(())
    }

    /// Messages of this shard's part that were not sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.pacer.unsent()
    }

    pub(crate) fn merge_into(&self, recorder: &mut Recorder) {
        recorder.merge(self.pacer.recorder());
    }

    fn burst(&mut self) -> Result<Next, PublishError> {
        let (control, routes, copies) = (self.control, self.routes, self.copies);
        let progress = control.shard(self.shard.id());
        let now = || control.now_nanos();
        let publish = |number: usize, payload: &[u8]| {
            let cluster = routes[number].cluster;
            match routes[number].topic.publish(payload) {
                Ok(()) => {
                    progress.sent_copies(copies);
                    Ok(Offer::Taken { cluster })
                }
                Err(PublishError::Busy { .. }) if control.is_struck(cluster) => {
                    Ok(Offer::Refused { cluster })
                }
                Err(PublishError::Busy { .. }) => {
                    progress.busy_once();
                    Ok(Offer::Busy)
                }
                Err(error) => Err(error),
            }
        };
        let Some(closed) = &self.closed else {
            return self.pacer.burst(now, |stamp, payload| publish(stamp.topic as usize, payload));
        };
        let room = || closed.borrow_mut().has_room(progress.credits(), now());
        self.pacer.burst_closed(self.end_nanos, now, room, |stamp, payload| {
            let offer = publish(stamp.topic as usize, payload)?;
            if matches!(offer, Offer::Taken { .. }) {
                closed.borrow_mut().sent();
            }
            Ok(offer)
        })
    }
}
