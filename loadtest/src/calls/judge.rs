//! Whether every call ended as it may: against what was executed, and against who was there.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::caller::{Call, End};
use crate::recorder::{histogram, medians, merge};

/// A process that was killed or stood still, as the caller saw it. All times are monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) process: usize,
    /// The life that ended or stood still.
    pub(crate) life: u64,
    pub(crate) signal_nanos: u64,
    /// When the caller saw none of its instances any more; none when it always saw some.
    pub(crate) detected_nanos: Option<u64>,
    /// When it was started again or went on: from here on it may be called again.
    pub(crate) revived_nanos: u64,
}

/// The calls of one phase, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(crate) struct CallCounts {
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    pub(crate) no_service: u64,
    pub(crate) no_responders: u64,
    pub(crate) timeout: u64,
    pub(crate) in_doubt: u64,
    pub(crate) disconnected: u64,
    pub(crate) too_many: u64,
    pub(crate) other: u64,
    /// Calls that were executed, at least once.
    pub(crate) executed: u64,
    pub(crate) executed_twice: u64,
    /// Executed, though the error said that nobody had got it.
    pub(crate) executed_though_refused: u64,
    pub(crate) answered_without_execution: u64,
    pub(crate) corrupt: u64,
    pub(crate) never_ended: u64,
    /// Ended later than their timeout, with some allowance for a machine that is late.
    pub(crate) overdue: u64,
    /// Begun after the caller had seen that a process was gone, and sent to it nevertheless.
    pub(crate) to_dead_after_detection: u64,
    /// Errors for which no fault can be blamed.
    pub(crate) unexplained: u64,
}

/// All that the calls and the executions say.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) warmup: CallCounts,
    pub(crate) measured: CallCounts,
    /// Executions of no call of the run.
    pub(crate) executions_of_nothing: u64,
    /// From the intended time to the answer, in the first quarter of the measured phase and after it.
    early: Histogram<u64>,
    late: Histogram<u64>,
    /// From the actual time to the answer.
    pub(crate) service: Histogram<u64>,
    /// From the intended to the actual time.
    pub(crate) lag: Histogram<u64>,
    /// From the intended time to the error.
    pub(crate) failed: Histogram<u64>,
    /// Calls of the warm-up that were made when it was over.
    pub(crate) backlog: u64,
    /// When the last call was made that is measured, or of that backlog.
    pub(crate) last_made_nanos: u64,
}

/// The measured phase, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) from_nanos: u64,
    pub(crate) early_until_nanos: u64,
    pub(crate) timeout_nanos: u64,
}

/// How much later than its timeout a call may end when its shard has to wait for a core.
const OVERDUE_NANOS: u64 = 250_000_000;

impl Judgement {
    /// Judges the calls, by number, against the numbers of the calls that were executed, one for each
    /// execution.
    pub(crate) fn of(calls: &[Call], executions: &[u64], outages: &[Outage], phase: Phase) -> Self {
        let mut judged = Self {
            warmup: CallCounts::default(),
            measured: CallCounts::default(),
            executions_of_nothing: 0,
            early: histogram(),
            late: histogram(),
            service: histogram(),
            lag: histogram(),
            failed: histogram(),
            backlog: 0,
            last_made_nanos: 0,
        };
        let mut executed = vec![0_u32; calls.len()];
        for number in executions {
            match executed.get_mut(*number as usize) {
                Some(times) => *times += 1,
                None => judged.executions_of_nothing += 1,
            }
        }
        for (call, executed) in calls.iter().zip(executed) {
            let is_measured = call.intended_nanos >= phase.from_nanos;
            let counts = if is_measured { &mut judged.measured } else { &mut judged.warmup };
            counts.count(call, executed, outages, phase.timeout_nanos);
            if is_measured {
                judged.time(call, phase);
            } else if call.actual_nanos >= phase.from_nanos {
                judged.backlog += 1;
                judged.last_made_nanos = judged.last_made_nanos.max(call.actual_nanos);
            }
        }
        judged
    }

    /// From the intended time to the answer, over the whole measured phase.
    pub(crate) fn e2e(&self) -> Histogram<u64> {
        let mut all = self.early.clone();
        merge(&mut all, &self.late);
        all
    }

    /// The medians of the first quarter and of the rest.
    pub(crate) fn medians(&self) -> Option<(u64, u64)> {
        medians(&self.early, &self.late)
    }

    fn time(&mut self, call: &Call, phase: Phase) {
        self.lag.saturating_record(call.actual_nanos.saturating_sub(call.intended_nanos));
        self.last_made_nanos = self.last_made_nanos.max(call.actual_nanos);
        let e2e = call.ended_nanos.saturating_sub(call.intended_nanos);
        match call.end {
            End::Answered { .. } => {
                let of_phase = if call.intended_nanos < phase.early_until_nanos {
                    &mut self.early
                } else {
                    &mut self.late
                };
                of_phase.saturating_record(e2e);
                self.service.saturating_record(call.ended_nanos.saturating_sub(call.actual_nanos));
            }
            End::Pending => {}
            _ => self.failed.saturating_record(e2e),
        }
    }
}

impl CallCounts {
    fn count(&mut self, call: &Call, executed: u32, outages: &[Outage], timeout_nanos: u64) {
        self.calls += 1;
        self.executed += u64::from(executed > 0);
        self.executed_twice += u64::from(executed > 1);
        let (counter, was_surely_not_sent) = match call.end {
            End::Pending => (&mut self.never_ended, false),
            End::Answered { .. } => (&mut self.answered, false),
            End::Corrupt => (&mut self.corrupt, false),
            End::NoService => (&mut self.no_service, true),
            End::NoResponders => (&mut self.no_responders, true),
            End::Timeout { sent } => (&mut self.timeout, !sent),
            End::InDoubt { .. } => (&mut self.in_doubt, false),
            End::Disconnected => (&mut self.disconnected, true),
            End::TooMany => (&mut self.too_many, true),
            End::Other => (&mut self.other, true),
        };
        *counter += 1;
        self.executed_though_refused += u64::from(was_surely_not_sent && executed > 0);
        let is_answered = matches!(call.end, End::Answered { .. });
        self.answered_without_execution += u64::from(is_answered && executed == 0);
        let took_nanos = call.ended_nanos.saturating_sub(call.actual_nanos);
        let is_ended = call.end != End::Pending;
        self.overdue += u64::from(is_ended && took_nanos > timeout_nanos + OVERDUE_NANOS);
        self.to_dead_after_detection +=
            u64::from(outages.iter().any(|outage| outage.is_called_when_known(call)));
        let may_be = is_answered || matches!(call.end, End::Pending | End::Corrupt);
        self.unexplained += u64::from(!may_be && !outages.iter().any(|outage| outage.explains(call)));
    }
}

impl Outage {
    /// The call began when the caller knew, and went to the process nevertheless.
    fn is_called_when_known(&self, call: &Call) -> bool {
        let was_known = self
            .detected_nanos
            .is_some_and(|detected| (detected..self.revived_nanos).contains(&call.actual_nanos));
        let was_sent = match call.end {
            End::Answered { process, life } => (process, life) == (self.process, self.life),
            End::InDoubt { process } => process == Some(self.process),
            _ => false,
        };
        was_known && (was_sent || call.looked_up == Some(self.process))
    }

    /// A call that was under way between the signal and the detection may be in doubt, when it was sent to
    /// this process, or get no answer. A refusal that was certain is never explained: others were there.
    fn explains(&self, call: &Call) -> bool {
        let until = self.detected_nanos.unwrap_or(self.revived_nanos);
        let is_within = call.ended_nanos >= self.signal_nanos && call.actual_nanos <= until;
        match call.end {
            End::InDoubt { process } => is_within && process == Some(self.process),
            End::Timeout { .. } => is_within,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const PHASE: Phase =
        Phase { from_nanos: 0, early_until_nanos: 250 * MILLI, timeout_nanos: 1_000 * MILLI };

    /// Process 1, life 7, gone from 400 ms on, known at 410 ms, restarted at 900 ms.
    const OUTAGE: Outage = Outage {
        process: 1,
        life: 7,
        signal_nanos: 400 * MILLI,
        detected_nanos: Some(410 * MILLI),
        revived_nanos: 900 * MILLI,
    };

    const ANSWERED: End = End::Answered { process: 0, life: 5 };

    fn call(at_ms: u64, took_ms: u64, end: End) -> Call {
        let actual_nanos = at_ms * MILLI;
        Call {
            intended_nanos: actual_nanos,
            actual_nanos,
            ended_nanos: actual_nanos + took_ms * MILLI,
            looked_up: Some(0),
            end,
        }
    }

    /// The counts of one call that was executed so often.
    fn judge(call: Call, executed: usize) -> CallCounts {
        let judged = Judgement::of(&[call], &vec![0; executed], &[OUTAGE], PHASE);
        assert_eq!((judged.measured.calls, judged.executions_of_nothing), (1, 0));
        judged.measured
    }

    /// What must not happen.
    fn faults(counts: &CallCounts) -> u64 {
        counts.executed_twice
            + counts.executed_though_refused
            + counts.answered_without_execution
            + counts.corrupt
            + counts.never_ended
            + counts.overdue
            + counts.to_dead_after_detection
            + counts.unexplained
    }

    /// Typed errors.
    fn errors(counts: &CallCounts) -> u64 {
        counts.no_service
            + counts.no_responders
            + counts.timeout
            + counts.in_doubt
            + counts.disconnected
            + counts.too_many
            + counts.other
    }

    #[test]
    fn an_answer_to_a_call_that_was_executed_once_is_right() {
        let counts = judge(call(100, 2, ANSWERED), 1);
        assert_eq!((counts.answered, counts.executed, faults(&counts), errors(&counts)), (1, 1, 0, 0));
    }

    #[test]
    fn executions_must_fit_the_end_of_their_call() {
        assert_eq!(judge(call(100, 2, ANSWERED), 2).executed_twice, 1);
        assert_eq!(judge(call(100, 2, ANSWERED), 0).answered_without_execution, 1);
        for end in
            [End::NoService, End::NoResponders, End::Disconnected, End::TooMany, End::Timeout { sent: false }]
        {
            assert_eq!(judge(call(100, 2, end), 1).executed_though_refused, 1, "{end:?}");
            assert_eq!(judge(call(100, 2, end), 0).executed_though_refused, 0, "{end:?}");
        }
        let in_doubt = call(399, 5, End::InDoubt { process: Some(1) });
        assert_eq!((faults(&judge(in_doubt, 0)), faults(&judge(in_doubt, 1))), (0, 0));
        assert_eq!(faults(&judge(in_doubt, 2)), 1);
        let judged = Judgement::of(&[call(1, 1, ANSWERED)], &[0, 1], &[], PHASE);
        assert_eq!(judged.executions_of_nothing, 1);
    }

    #[test]
    fn every_call_ends_and_within_its_timeout() {
        assert_eq!(judge(call(100, 0, End::Pending), 1).never_ended, 1);
        assert_eq!(judge(call(100, 1_251, ANSWERED), 1).overdue, 1);
        assert_eq!(judge(call(100, 1_249, ANSWERED), 1).overdue, 0);
    }

    #[test]
    fn an_error_needs_a_fault_to_blame() {
        let in_doubt = End::InDoubt { process: Some(1) };
        for (at_ms, took_ms, end, explained) in [
            (399, 5, in_doubt, true),
            (100, 5, in_doubt, false),
            (500, 5, in_doubt, false),
            (405, 5, End::InDoubt { process: Some(0) }, false),
            (405, 1_000, End::Timeout { sent: true }, true),
            (500, 1_000, End::Timeout { sent: true }, false),
            (405, 1, End::NoResponders, false),
            (405, 1, End::NoService, false),
        ] {
            let counts = judge(call(at_ms, took_ms, end), 0);
            assert_eq!(counts.unexplained, u64::from(!explained), "{end:?} at {at_ms} ms");
            assert_eq!(errors(&counts), 1);
        }
    }

    #[test]
    fn a_dead_process_is_not_called_once_that_is_known() {
        let to_dead = |at_ms, looked_up, end| {
            let call = Call { looked_up: Some(looked_up), ..call(at_ms, 1, end) };
            judge(call, 1).to_dead_after_detection
        };
        let of_dead = End::Answered { process: 1, life: 7 };
        assert_eq!(to_dead(405, 1, of_dead), 0);
        assert_eq!(to_dead(500, 1, ANSWERED), 1);
        assert_eq!(to_dead(500, 0, of_dead), 1);
        assert_eq!(to_dead(500, 0, End::InDoubt { process: Some(1) }), 1);
        assert_eq!(to_dead(500, 0, ANSWERED), 0);
        assert_eq!(to_dead(950, 1, End::Answered { process: 1, life: 8 }), 0);
    }

    #[test]
    fn latencies_are_those_of_the_measured_phase_from_both_times() {
        let phase = Phase { from_nanos: 50 * MILLI, ..PHASE };
        let late = Call { actual_nanos: 103 * MILLI, ..call(100, 10, ANSWERED) };
        let calls = [call(10, 500, ANSWERED), late, call(405, 700, End::Timeout { sent: true })];
        let judged = Judgement::of(&calls, &[0, 1], &[OUTAGE], phase);
        assert_eq!((judged.warmup.calls, judged.measured.calls), (1, 2));
        let close = |nanos: u64, millis: u64| nanos.abs_diff(millis * MILLI) <= millis * MILLI / 1_000;
        assert!(close(judged.e2e().max(), 10) && close(judged.service.max(), 7));
        assert!(close(judged.lag.max(), 3) && close(judged.failed.max(), 700));
        assert_eq!((judged.e2e().len(), judged.failed.len(), judged.lag.len()), (1, 1, 2));
        assert_eq!(judged.last_made_nanos, 405 * MILLI);
    }
}
