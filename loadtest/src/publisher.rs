//! The sending side of one shard: each message as soon as it is due, whatever became of those before it.

use std::time::{Duration, Instant};

use croupier::{PublishError, Shard};

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
    /// When a shard that is behind gives up, on the run's clock.
    give_up_nanos: u64,
}

/// Between two looks for the start.
const START_POLL: Duration = Duration::from_millis(1);

impl<'a> Publisher<'a> {
    pub(crate) fn new(
        shard: &'a Shard,
        control: &'a Control,
        assignment: &Assignment,
        routes: &'a [Route],
    ) -> Self {
        let part = assignment.schedule.of_shard(shard.id(), shard.shards());
        let overrun_nanos = u64::try_from(assignment.overrun.as_nanos()).unwrap_or(u64::MAX);
        Self {
            shard,
            control,
            routes,
            pacer: Pacer::new(
                assignment.run,
                shard.id(),
                assignment.traffic.clone(),
                part,
                assignment.recorder(),
            ),
            give_up_nanos: assignment.schedule.end_nanos().saturating_add(overrun_nanos),
        }
    }

    /// Waits for the start and sends until nothing is left, the run is over, or the shard is too far
    /// behind.
    pub(crate) async fn send_all(&mut self) -> Result<(), PublishError> {
        while self.control.start().is_none_or(|start| start > Instant::now()) {
            if !self.control.may_send() {
                return Ok(());
            }
            self.shard.sleep(START_POLL).await;
        }
        while self.control.may_send() && self.control.now_nanos() < self.give_up_nanos {
            match self.burst()? {
                Next::Pause(pause) => self.shard.sleep(pause).await,
                Next::Done => break,
            }
        }
        Ok(())
    }

    /// Messages of this shard's part that were not sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.pacer.unsent()
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        self.pacer.recorder()
    }

    fn burst(&mut self) -> Result<Next, PublishError> {
        let (control, routes) = (self.control, self.routes);
        let progress = control.shard(self.shard.id());
        self.pacer.burst(
            || control.now_nanos(),
            |number, payload| {
                let cluster = routes[number].cluster;
                match routes[number].topic.publish(payload) {
                    Ok(()) => {
                        progress.sent_one();
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
            },
        )
    }
}
