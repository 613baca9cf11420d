//! A closed loop beside the open loop of a run: the same servers, the same stalls, and times that hide them.
//!
//! It has a node of its own with one shard, and topics of its own, so that neither loop counts what is the other's.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use croupier::{BoxError, Builder, Node, Shard};
use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

use crate::control::Control;
use crate::options::RunOptions;
use crate::pace::Pace;
use crate::report::{Percentiles, rounded};
use crate::roles::Roles;
use crate::scenario::{HandIn, HandedIn, RunError, stop};
use crate::schedule::Schedule;
use crate::traffic::{Traffic, mix};
use crate::worker::{self, Assignment};

/// The closed loop while it runs.
#[derive(Debug)]
pub(crate) struct Beside {
    control: Arc<Control>,
    assignment: Assignment,
    concurrency: usize,
    handed_in: mpsc::Receiver<HandedIn>,
    /// Taken when it ends in order.
    node: Option<Node>,
}

/// What the closed loop saw.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct BesideReport {
    /// Under way at one time.
    pub(crate) concurrency: usize,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Messages a second that it came to.
    pub(crate) rate: f64,
    /// In microseconds, from its own send to the delivery: what a stall would have delayed was not sent.
    pub(crate) e2e_us: Percentiles,
    /// The same, whole.
    #[serde(skip)]
    pub(crate) e2e: Histogram<u64>,
}

/// By then the shard has handed in what it has.
const HAND_IN_MAX: Duration = Duration::from_secs(10);

impl Beside {
    /// Starts the node, of which `builder` knows the clusters, for a run of `options`.
    ///
    /// # Errors
    ///
    /// When the node does not start.
    pub(crate) fn start(
        options: &RunOptions,
        open: &Assignment,
        concurrency: usize,
        builder: Builder,
    ) -> Result<Self, RunError> {
        let pace = Pace::Closed { concurrency };
        let roles = Roles { shards: 1, publishers: 1, subscribers: 1, ..open.roles };
        let assignment = Assignment {
            run: mix(open.run),
            roles,
            pace,
            schedule: Schedule::of(pace, options.warmup, options.duration),
            traffic: Traffic::new(mix(options.seed), options.keys, options.topics, options.size),
            has_faults: false,
            ..open.clone()
        };
        let control = Arc::new(Control::new(1));
        let (hand_in, handed_in) = mpsc::channel();
        let node = {
            let (control, assignment) = (Arc::clone(&control), assignment.clone());
            builder.name("beside").shards(1).start(async move |shard: Shard| -> Result<(), BoxError> {
                let mut hand_in = HandIn::new(shard.id(), hand_in);
                let result = worker::work(&shard, &control, &assignment).await;
                hand_in.hand_in(Some(result));
                Ok(())
            })?
        };
        Ok(Self { control, assignment, concurrency, handed_in, node: Some(node) })
    }

    /// By which it is started and stopped.
    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Ends it and tells what it saw in a measured phase of this length.
    ///
    /// # Errors
    ///
    /// When its shard failed, or does not answer.
    pub(crate) fn finish(mut self, measured: Duration) -> Result<BesideReport, RunError> {
        self.control.end();
        let until = Instant::now() + HAND_IN_MAX;
        let outcome = match self.handed_in.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((_, Some(Ok(outcome)))) => outcome,
            Ok((shard, Some(Err(error)))) => return Err(RunError::Worker { shard, error }),
            Ok((shard, None)) => return Err(RunError::Vanished { shard }),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(RunError::Stuck { what: "hand in their results", waited: HAND_IN_MAX });
            }
        };
        if let Some(node) = self.node.take() {
            stop(node)?;
        }
        let counts = outcome.recorder.measured;
        let copies = self.assignment.roles.copies().max(1) as u64;
        let e2e = outcome.recorder.e2e();
        let seconds = measured.as_secs_f64().max(1e-9);
        Ok(BesideReport {
            concurrency: self.concurrency,
            sent: counts.sent,
            delivered: counts.delivered,
            rate: rounded((counts.sent / copies) as f64 / seconds, 1),
            e2e_us: Percentiles::of_nanos(&e2e),
            e2e,
        })
    }
}

impl Drop for Beside {
    /// The shard's loop ends, so that the node may.
    fn drop(&mut self) {
        self.control.end();
    }
}
