//! The answering side of one shard: every request is read, checked, recorded and answered in its handler.

use std::cell::RefCell;
use std::sync::Arc;

use croupier::MessageView;

use crate::checker::Checker;
use crate::control::Control;
use crate::payload::Stamp;
use crate::receiver::Handler;
use crate::recorder::{Delivery, Recorder};
use crate::worker::Assignment;

/// Shared by the handlers of all the topics of a shard.
#[derive(Debug)]
pub(crate) struct Responder {
    control: Arc<Control>,
    run: u64,
    /// By place among the shard's own topics.
    cluster_of: Vec<usize>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    checker: Checker,
    recorder: Recorder,
}

impl Responder {
    /// For a shard whose own topics belong to the clusters `cluster_of`.
    pub(crate) fn new(control: &Arc<Control>, assignment: &Assignment, cluster_of: Vec<usize>) -> Self {
        let checker = Checker::new(cluster_of.len(), assignment.roles.publishers);
        Self {
            control: Arc::clone(control),
            run: assignment.run,
            cluster_of,
            state: RefCell::new(State { checker, recorder: assignment.recorder() }),
        }
    }

    /// Records the request; whether it is one of this run.
    fn take(&self, place: usize, number: usize, payload: &[u8]) -> Option<Stamp> {
        let now_nanos = self.control.now_nanos();
        let mut state = self.state.borrow_mut();
        let State { checker, recorder } = &mut *state;
        let is_ours = |stamp: &Stamp| stamp.run == self.run && stamp.topic as usize == number;
        let judged = Stamp::read(payload).filter(is_ours).and_then(|stamp| {
            let arrival = checker.arrive(place, stamp.publisher as usize, stamp.sequence)?;
            Some((stamp, arrival))
        });
        let Some((stamp, arrival)) = judged else {
            recorder.corrupt(now_nanos);
            return None;
        };
        recorder.executed(&Delivery {
            arrival,
            cluster: self.cluster_of[place],
            intended_nanos: stamp.intended_nanos,
            actual_nanos: stamp.actual_nanos,
            delivered_nanos: now_nanos,
        });
        Some(stamp)
    }
}

impl Handler for Responder {
    /// The answer is the request's own bytes.
    fn handle(&self, place: usize, number: usize, message: &MessageView<'_>) {
        let Some(stamp) = self.take(place, number, message.payload()) else { return };
        if message.respond(message.payload()).is_err() {
            let mut state = self.state.borrow_mut();
            state.recorder.unanswered(stamp.intended_nanos, |fates| fates.unsent_answers += 1);
        }
    }

    fn merge_into(&self, recorder: &mut Recorder) {
        recorder.merge(&self.state.borrow().recorder);
    }
}
