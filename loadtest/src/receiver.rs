//! The receiving side of one shard: every message is read, checked and recorded in its handler.

use std::cell::RefCell;
use std::sync::Arc;

use crate::checker::{Arrival, Checker};
use crate::control::Control;
use crate::payload::Stamp;
use crate::recorder::{Delivery, Recorder, Window};
use crate::worker::Assignment;

/// Shared by the handlers of all the topics of a shard.
#[derive(Debug)]
pub(crate) struct Receiver {
    control: Arc<Control>,
    shard: usize,
    run: u64,
    window: Window,
    clusters: usize,
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
    /// For a shard whose own topics belong to the clusters `cluster_of`, and to which `publishers` shards
    /// publish.
    pub(crate) fn new(
        shard: usize,
        publishers: usize,
        control: &Arc<Control>,
        assignment: &Assignment,
        cluster_of: Vec<usize>,
    ) -> Self {
        let (window, clusters) = (assignment.window(), assignment.clusters.len());
        let checker = Checker::new(cluster_of.len(), publishers);
        Self {
            control: Arc::clone(control),
            shard,
            run: assignment.run,
            window,
            clusters,
            cluster_of,
            state: RefCell::new(State { checker, recorder: assignment.recorder() }),
        }
    }

    /// Takes a message of topic `number`, which has this `place` among the shard's own.
    pub(crate) fn receive(&self, place: usize, number: usize, payload: &[u8]) {
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
        }
    }

    /// What has been recorded; a message that arrives after this is in no report.
    pub(crate) fn take_recorder(&self) -> Recorder {
        let empty = Recorder::new(self.window, self.clusters);
        std::mem::replace(&mut self.state.borrow_mut().recorder, empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyChoice;
    use crate::payload::PayloadBuffer;
    use crate::quantity::{Rate, Size};
    use crate::recorder::Counts;
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
        let recorder = receiver.take_recorder();
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
        assert_eq!(receiver.take_recorder().measured, Counts { corrupt: 6, ..Counts::default() });
        assert_eq!(control.totals().delivered, 0);
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_and_no_progress() {
        let (receiver, control) = receiver();
        receiver.receive(0, 4, &payload(&STAMP));
        receiver.receive(0, 4, &payload(&STAMP));
        let expected = Counts { delivered: 1, duplicate: 1, ..Counts::default() };
        assert_eq!(receiver.take_recorder().measured, expected);
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
        let recorder = receiver.take_recorder();
        // No less than what had passed; how much more is the machine's affair.
        assert!(recorder.e2e().max() >= 90 * second && recorder.wire.max() >= 60 * second);
        assert!(recorder.e2e().max() - recorder.wire.max() >= 29 * second);
    }

    fn receiver() -> (Receiver, Arc<Control>) {
        let rate = Rate::parse("1k").expect("a rate");
        let size = Size { smallest_bytes: 64, largest_bytes: 64 };
        let assignment = Assignment {
            run: RUN,
            schedule: Schedule::new(rate, Duration::ZERO, Duration::from_secs(1)),
            traffic: Traffic::new(1, KeyChoice::Uniform, 10, size),
            clusters: ["c1", "c2"].map(Into::into).into(),
            overrun: Duration::ZERO,
            has_faults: false,
        };
        let control = Arc::new(Control::new(2));
        (Receiver::new(1, 2, &control, &assignment, vec![1]), control)
    }

    fn payload(stamp: &Stamp) -> Vec<u8> {
        PayloadBuffer::new(64, 3).stamped(64, stamp).to_vec()
    }
}
