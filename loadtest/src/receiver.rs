//! The receiving side of one shard: every message is read, checked and recorded in its handler.

use std::cell::RefCell;
use std::sync::Arc;

use croupier::MessageView;

use crate::checker::{Arrival, Checker};
use crate::control::Control;
use crate::payload::Stamp;
use crate::recorder::{Delivery, Recorder};
use crate::worker::Assignment;

/// What a shard does with the messages of its topics.
pub(crate) trait Handler: 'static {
    /// Takes a message of topic `number`, which has this `place` among the shard's own.
    fn handle(&self, place: usize, number: usize, message: &MessageView<'_>);

    /// Adds what has been recorded; a message that arrives after this is in no report.
    fn merge_into(&self, recorder: &mut Recorder);
}

/// Shared by the handlers of all the topics of a shard.
#[derive(Debug)]
pub(crate) struct Receiver {
    control: Arc<Control>,
    shard: usize,
    run: u64,
    /// Whether the publishers wait for what arrives.
    is_closed: bool,
    /// By place among the shard's own topics.
    cluster_of: Vec<usize>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    checker: Checker,
    recorder: Recorder,
}

impl Receiver {
    /// For a shard of this process whose own topics belong to the clusters `cluster_of`.
    pub(crate) fn new(
        shard: usize,
        control: &Arc<Control>,
        assignment: &Assignment,
        cluster_of: Vec<usize>,
    ) -> Self {
        let checker = Checker::new(cluster_of.len(), assignment.roles.publishers);
        Self {
            control: Arc::clone(control),
            shard,
            run: assignment.run,
            is_closed: assignment.pace.is_closed(),
            cluster_of,
            state: RefCell::new(State { checker, recorder: control.watch(shard, assignment.recorder()) }),
        }
    }

    fn receive(&self, place: usize, number: usize, payload: &[u8]) {
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
            return;
        };
        recorder.delivered(Delivery {
            arrival,
            cluster: self.cluster_of[place],
            intended_nanos: stamp.intended_nanos,
            actual_nanos: stamp.actual_nanos,
            delivered_nanos: now_nanos,
        });
        if arrival != Arrival::Duplicate {
            self.control.shard(self.shard).delivered_one();
            if self.is_closed {
                self.control.shard(stamp.publisher as usize).credit_one();
            }
        }
    }
}

impl Handler for Receiver {
    fn handle(&self, place: usize, number: usize, message: &MessageView<'_>) {
        self.receive(place, number, message.payload());
    }

    fn merge_into(&self, recorder: &mut Recorder) {
        recorder.merge(&self.state.borrow().recorder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyChoice;
    use crate::pace::Pace;
    use crate::payload::PayloadBuffer;
    use crate::quantity::{Rate, Size};
    use crate::recorder::Counts;
    use crate::roles::{Pattern, Roles};
    use crate::schedule::Schedule;
    use crate::traffic::Traffic;
    use std::time::{Duration, Instant};

    const RUN: u64 = 77;

    /// The stamp of a message to the only topic of the receiver: place 0, number 4.
    const STAMP: Stamp =
        Stamp { run: RUN, publisher: 1, topic: 4, sequence: 0, intended_nanos: 0, actual_nanos: 0 };

    #[test]
    fn messages_of_the_run_are_delivered_and_counted_for_their_cluster() {
        let (receiver, control) = receiver();
        for sequence in 0..3 {
            receiver.receive(0, 4, &payload(&Stamp { sequence, ..STAMP }));
        }
        let recorder = recorded(&receiver);
        assert_eq!(recorder.measured, Counts { delivered: 3, ..Counts::default() });
        assert_eq!(recorder.delivered_by_cluster, [0, 3]);
        assert_eq!(control.totals().delivered, 3);
    }

    #[test]
    fn a_message_that_this_run_did_not_send_so_is_corrupt() {
        let (receiver, control) = receiver();
        let mut damaged = payload(&STAMP);
        damaged[60] ^= 1;
        receiver.receive(0, 4, &damaged);
        receiver.receive(0, 4, b"");
        for stamp in [
            Stamp { run: RUN + 1, ..STAMP },
            Stamp { topic: 5, ..STAMP },
            Stamp { publisher: 2, ..STAMP },
            Stamp { sequence: u64::MAX, ..STAMP },
        ] {
            receiver.receive(0, 4, &payload(&stamp));
        }
        assert_eq!(recorded(&receiver).measured, Counts { corrupt: 6, ..Counts::default() });
        assert_eq!(control.totals().delivered, 0);
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_and_no_progress() {
        let (receiver, control) = receiver();
        receiver.receive(0, 4, &payload(&STAMP));
        receiver.receive(0, 4, &payload(&STAMP));
        let expected = Counts { delivered: 1, duplicate: 1, ..Counts::default() };
        assert_eq!(recorded(&receiver).measured, expected);
        assert_eq!(control.totals().delivered, 1);
    }

    #[test]
    fn latencies_are_taken_on_the_clock_of_the_run() {
        let (receiver, control) = receiver();
        let start = Instant::now().checked_sub(Duration::from_secs(100)).expect("a machine up for so long");
        control.start_at(start);
        let second = 1_000_000_000;
        receiver.receive(
            0,
            4,
            &payload(&Stamp { intended_nanos: 10 * second, actual_nanos: 40 * second, ..STAMP }),
        );
        let recorder = recorded(&receiver);
        // No less than what had passed; how much more is the machine's affair.
        assert!(recorder.e2e().max() >= 90 * second && recorder.wire.max() >= 60 * second);
        assert!(recorder.e2e().max() - recorder.wire.max() >= 29 * second);
    }

    fn receiver() -> (Receiver, Arc<Control>) {
        let control = Arc::new(Control::new(2));
        (Receiver::new(1, &control, &assignment(), vec![1]), control)
    }

    fn assignment() -> Assignment {
        let pace = Pace::Steady(Rate::of(1_000));
        let size = Size { smallest_bytes: 64, largest_bytes: 64 };
        Assignment {
            run: RUN,
            roles: Roles { pattern: Pattern::Pubsub, shards: 2, publishers: 2, subscribers: 2 },
            pace,
            schedule: Schedule::of(pace, Duration::ZERO, Duration::from_secs(1)),
            traffic: Traffic::new(1, KeyChoice::Uniform, 10, size),
            clusters: ["c1", "c2"].map(Into::into).into(),
            overrun: Duration::ZERO,
            timeout: Duration::ZERO,
            first_shard: 0,
            has_faults: false,
        }
    }

    fn recorded(receiver: &Receiver) -> Recorder {
        let mut recorder = assignment().recorder();
        receiver.merge_into(&mut recorder);
        recorder
    }

    fn payload(stamp: &Stamp) -> Vec<u8> {
        PayloadBuffer::new(64, 3).stamped(64, stamp).to_vec()
    }
}
