//! What one shard saw: counts and latency histograms, merged over the shards when the run has ended.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checker::Arrival;
use crate::fault::Ledger;
use crate::live::Reporter;
use crate::reqrep::RequestFates;
use crate::series::{Series, Timed};
use crate::sparse;
use crate::steps::Steps;

/// The messages of one phase of the run.
///
/// `delivered` counts distinct messages that arrived intact, so `sent` is `delivered` plus
/// `lost`. A message that arrives damaged is among the corrupt ones, and its original
/// among the lost. A message that is to arrive several times counts as often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) duplicate: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupt: u64,
}

/// Everything that one shard records, or after [`merge`](Self::merge) the whole run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recorder {
    pub(crate) warmup: Counts,
    pub(crate) measured: Counts,
    /// From the intended send to the delivery, in nanoseconds: the first quarter of the measured
    /// time, and the rest. Two, so that a run that is still settling can be told from a steady one.
    #[serde(with = "sparse")]
    early: Histogram<u64>,
    #[serde(with = "sparse")]
    late: Histogram<u64>,
    /// From the intended to the actual send: the generator's own lateness.
    #[serde(with = "sparse")]
    pub(crate) lag: Histogram<u64>,
    /// From the actual send to the delivery.
    #[serde(with = "sparse")]
    pub(crate) wire: Histogram<u64>,
    /// From the actual send of a request to its answer.
    #[serde(with = "sparse")]
    pub(crate) service: Histogram<u64>,
    /// What became of the requests of the measured phase; nothing where there are none.
    pub(crate) requests: RequestFates,
    /// Of a ramp.
    pub(crate) steps: Steps,
    /// How often each message is to arrive.
    copies: u64,
    /// Intact, distinct messages of the measured phase, by cluster.
    pub(crate) delivered_by_cluster: Vec<u64>,
    /// Publishes that were refused because a buffer was full, and tried again.
    pub(crate) busy: u64,
    /// When the last message that counts was sent, on the run's clock.
    pub(crate) last_sent_nanos: u64,
    /// The whole run in intervals.
    pub(crate) series: Series,
    /// Messages of the measured phase that were given up, because there was no room for them while a fault had
    /// their cluster.
    pub(crate) refused: u64,
    /// Messages of the warm-up that were sent when it was over: what the measured phase began with.
    pub(crate) backlog: u64,
    /// By cluster and due time; only in a run with faults.
    pub(crate) ledger: Option<Ledger>,
    /// To the live view.
    #[serde(skip)]
    reporter: Option<Reporter>,
    window: Window,
}

/// When the measured phase starts and how it is divided, on the run's clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    /// The first message that counts is intended at this time.
    pub(crate) from_nanos: u64,
    /// Where the first quarter of the measured phase ends.
    pub(crate) early_until_nanos: u64,
    /// Where the schedule ends.
    pub(crate) until_nanos: u64,
}

/// A message as it was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) arrival: Arrival,
    pub(crate) cluster: usize,
    pub(crate) intended_nanos: u64,
    pub(crate) actual_nanos: u64,
    pub(crate) delivered_nanos: u64,
}

/// Latencies above this are recorded as this: no run lasts so long.
pub(crate) const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;

/// Values keep three digits: an error below 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

impl Counts {
    /// Messages sent that never arrived intact.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.delivered)
    }

    /// Whether all that was sent arrived, once, in order and intact.
    pub(crate) fn is_exact(&self) -> bool {
        self.sent == self.delivered && self.duplicate == 0 && self.reordered == 0 && self.corrupt == 0
    }

    /// Those of both.
    fn and(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder => self.delivered += 1,
            Arrival::Reordered => {
                self.delivered += 1;
                self.reordered += 1;
            }
            Arrival::Duplicate => self.duplicate += 1,
        }
    }
}

impl Recorder {
    /// An empty recorder for `clusters` clusters.
    pub(crate) fn new(window: Window, clusters: usize) -> Self {
        Self {
            warmup: Counts::default(),
            measured: Counts::default(),
            early: histogram(),
            late: histogram(),
            lag: histogram(),
            wire: histogram(),
            service: histogram(),
            requests: RequestFates::default(),
            steps: Steps::default(),
            copies: 1,
            delivered_by_cluster: vec![0; clusters],
            busy: 0,
            last_sent_nanos: 0,
            series: Series::new(window, clusters),
            refused: 0,
            backlog: 0,
            ledger: None,
            reporter: None,
            window,
        }
    }

    /// Hands over what it sees, when there is somebody to hand it to.
    pub(crate) fn with_reporter(self, reporter: Option<Reporter>) -> Self {
        Self { reporter, ..self }
    }

    /// Keeps also what a fault's cost is known from.
    pub(crate) fn with_ledger(mut self, until_nanos: u64) -> Self {
        self.ledger = Some(Ledger::new(until_nanos, self.delivered_by_cluster.len()));
        self
    }

    /// Each message is to arrive so many times.
    pub(crate) fn expecting(mut self, copies: usize) -> Self {
        self.copies = copies as u64;
        self
    }

    /// Keeps also the figures of each step.
    pub(crate) fn with_steps(mut self, steps: Steps) -> Self {
        self.steps = steps;
        self
    }

    /// A message left for its cluster.
    pub(crate) fn sent(&mut self, cluster: usize, intended_nanos: u64, actual_nanos: u64) {
        let lag_nanos = actual_nanos.saturating_sub(intended_nanos);
        self.series.sent(self.copies, intended_nanos, actual_nanos);
        self.series.timed(Timed::Lag, intended_nanos, lag_nanos);
        if let Some(ledger) = &mut self.ledger {
            (0..self.copies).for_each(|_| ledger.sent(cluster, intended_nanos));
        }
        if intended_nanos < self.window.from_nanos {
            self.warmup.sent += self.copies;
            if actual_nanos >= self.window.from_nanos {
                self.backlog += self.copies;
                self.last_sent_nanos = actual_nanos;
            }
            return;
        }
        self.measured.sent += self.copies;
        self.steps.sent(self.copies, intended_nanos, actual_nanos);
        self.last_sent_nanos = actual_nanos;
        self.lag.saturating_record(lag_nanos);
    }

    /// A message was given up, because there was no room for it while a fault had its cluster.
    pub(crate) fn refused(&mut self, cluster: usize, intended_nanos: u64, actual_nanos: u64) {
        if let Some(ledger) = &mut self.ledger {
            (0..self.copies).for_each(|_| ledger.refused(cluster, intended_nanos));
        }
        if intended_nanos >= self.window.from_nanos {
            self.refused += self.copies;
            self.last_sent_nanos = actual_nanos;
        }
    }

    /// A message arrived intact.
    pub(crate) fn delivered(&mut self, delivery: Delivery) {
        self.completed(&delivery);
        let Delivery { arrival, intended_nanos, actual_nanos, delivered_nanos, .. } = delivery;
        if arrival != Arrival::Duplicate {
            self.on_wire(intended_nanos, delivered_nanos.saturating_sub(actual_nanos));
        }
    }

    /// A request arrived where it is answered.
    pub(crate) fn executed(&mut self, delivery: &Delivery) {
        let is_warmup = delivery.intended_nanos < self.window.from_nanos;
        let counts = if is_warmup { &mut self.warmup } else { &mut self.measured };
        match delivery.arrival {
            Arrival::InOrder => {}
            Arrival::Reordered => counts.reordered += 1,
            Arrival::Duplicate => {
                counts.duplicate += 1;
                return;
            }
        }
        if !is_warmup {
            self.requests.executed += 1;
        }
        let nanos = delivery.delivered_nanos.saturating_sub(delivery.actual_nanos);
        self.on_wire(delivery.intended_nanos, nanos);
    }

    /// From the actual send to where it is to go it took so long.
    fn on_wire(&mut self, intended_nanos: u64, nanos: u64) {
        self.series.timed(Timed::Wire, intended_nanos, nanos);
        if intended_nanos >= self.window.from_nanos {
            self.wire.saturating_record(nanos);
        }
    }

    /// The answer to a request arrived intact.
    pub(crate) fn answered(&mut self, delivery: &Delivery) {
        self.completed(delivery);
        let nanos = delivery.delivered_nanos.saturating_sub(delivery.actual_nanos);
        self.series.timed(Timed::Service, delivery.intended_nanos, nanos);
        if delivery.intended_nanos >= self.window.from_nanos {
            self.requests.answered += 1;
            self.service.saturating_record(nanos);
        }
    }

    /// A request ended otherwise, `fate` says how.
    pub(crate) fn unanswered(&mut self, intended_nanos: u64, fate: impl FnOnce(&mut RequestFates)) {
        if intended_nanos >= self.window.from_nanos {
            fate(&mut self.requests);
        }
    }

    /// What is sent has come to where it is counted.
    fn completed(&mut self, delivery: &Delivery) {
        if let Some(ledger) = &mut self.ledger {
            ledger.delivered(delivery);
        }
        let Delivery { arrival, cluster, intended_nanos, delivered_nanos, .. } = *delivery;
        if arrival != Arrival::Duplicate {
            self.series.delivered(intended_nanos, delivered_nanos, cluster);
            if let Some(reporter) = &mut self.reporter {
                let counts = || self.warmup.and(&self.measured);
                let e2e_nanos = delivered_nanos.saturating_sub(intended_nanos);
                reporter.delivered(cluster, e2e_nanos, delivered_nanos, counts);
            }
        }
        if intended_nanos < self.window.from_nanos {
            self.warmup.arrived(arrival);
            return;
        }
        self.measured.arrived(arrival);
        if arrival == Arrival::Duplicate {
            return;
        }
        let e2e =
            if intended_nanos < self.window.early_until_nanos { &mut self.early } else { &mut self.late };
        e2e.saturating_record(delivered_nanos.saturating_sub(intended_nanos));
        self.steps.delivered(intended_nanos, delivered_nanos);
        if let Some(delivered) = self.delivered_by_cluster.get_mut(cluster) {
            *delivered += 1;
        }
    }

    /// Something arrived that this run did not send so: a wrong hash, run, topic or publisher.
    pub(crate) fn corrupt(&mut self, delivered_nanos: u64) {
        let in_warmup = delivered_nanos < self.window.from_nanos;
        let counts = if in_warmup { &mut self.warmup } else { &mut self.measured };
        counts.corrupt += 1;
    }

    /// Adds what another shard of the same run saw.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.warmup.add(&other.warmup);
        self.measured.add(&other.measured);
        for (ours, theirs) in [
            (&mut self.early, &other.early),
            (&mut self.late, &other.late),
            (&mut self.lag, &other.lag),
            (&mut self.wire, &other.wire),
            (&mut self.service, &other.service),
        ] {
            merge(ours, theirs);
        }
        for (ours, theirs) in self.delivered_by_cluster.iter_mut().zip(&other.delivered_by_cluster) {
            *ours += theirs;
        }
        self.requests.add(&other.requests);
        self.steps.merge(&other.steps);
        self.busy += other.busy;
        self.refused += other.refused;
        self.backlog += other.backlog;
        if let (Some(ours), Some(theirs)) = (&mut self.ledger, &other.ledger) {
            ours.merge(theirs);
        }
        self.last_sent_nanos = self.last_sent_nanos.max(other.last_sent_nanos);
        self.series.merge(&other.series);
    }

    /// From the intended send to the delivery, over the whole measured phase.
    pub(crate) fn e2e(&self) -> Histogram<u64> {
        let mut all = self.early.clone();
        merge(&mut all, &self.late);
        all
    }

    /// The median of `e2e` in the first quarter and in the rest, in nanoseconds; none when one of the
    /// two has too few messages to say anything.
    pub(crate) fn e2e_medians(&self) -> Option<(u64, u64)> {
        medians(&self.early, &self.late)
    }
}

/// The medians of the first quarter of a phase and of the rest; none when one of the two has too few values
/// to say anything.
pub(crate) fn medians(early: &Histogram<u64>, late: &Histogram<u64>) -> Option<(u64, u64)> {
    const VALUES_MIN: u64 = 100;
    if early.len() < VALUES_MIN || late.len() < VALUES_MIN {
        return None;
    }
    Some((early.value_at_quantile(0.5), late.value_at_quantile(0.5)))
}

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are in order")
}

/// Adds what another histogram of [`histogram`] holds.
pub(crate) fn merge(ours: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    ours.add(theirs).expect("both have the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from_nanos: 1_000, early_until_nanos: 2_000, until_nanos: 5_000 };

    fn delivery(arrival: Arrival, intended_nanos: u64, cluster: usize) -> Delivery {
        Delivery {
            arrival,
            cluster,
            intended_nanos,
            actual_nanos: intended_nanos + 10,
            delivered_nanos: intended_nanos + 500,
        }
    }

    #[test]
    fn the_warm_up_is_counted_apart_and_not_in_the_histograms() {
        let mut recorder = Recorder::new(WINDOW, 1);
        recorder.sent(0, 998, 999);
        recorder.sent(0, 999, 1_500);
        recorder.delivered(delivery(Arrival::InOrder, 999, 0));
        assert_eq!(recorder.warmup, Counts { sent: 2, delivered: 1, ..Counts::default() });
        assert_eq!((recorder.backlog, recorder.last_sent_nanos), (1, 1_500), "one was sent late");
        assert_eq!(recorder.measured, Counts::default());
        assert_eq!((recorder.e2e().len(), recorder.lag.len(), recorder.wire.len()), (0, 0, 0));
        assert_eq!(recorder.delivered_by_cluster, [0]);
    }

    #[test]
    fn the_three_latencies_start_and_end_where_they_say() {
        let mut recorder = Recorder::new(WINDOW, 2);
        recorder.sent(0, 1_000, 1_010);
        recorder.delivered(delivery(Arrival::InOrder, 1_000, 1));
        assert_eq!(recorder.lag.max(), 10);
        assert_eq!(recorder.wire.max(), 490);
        assert_eq!(recorder.e2e().max(), 500);
        assert_eq!(recorder.delivered_by_cluster, [0, 1]);
        assert_eq!(recorder.last_sent_nanos, 1_010);
    }

    #[test]
    fn a_duplicate_has_no_latency_and_is_not_delivered_again() {
        let mut recorder = Recorder::new(WINDOW, 1);
        recorder.sent(0, 1_000, 1_010);
        recorder.delivered(delivery(Arrival::InOrder, 1_000, 0));
        recorder.delivered(delivery(Arrival::Duplicate, 1_000, 0));
        assert_eq!(recorder.measured, Counts { sent: 1, delivered: 1, duplicate: 1, ..Counts::default() });
        assert_eq!(recorder.e2e().len(), 1);
        assert!(!recorder.measured.is_exact());
        assert_eq!(recorder.measured.lost(), 0);
    }

    #[test]
    fn merged_shards_are_as_one_that_saw_everything() {
        let (mut a, mut b, mut whole) =
            (Recorder::new(WINDOW, 2), Recorder::new(WINDOW, 2), Recorder::new(WINDOW, 2));
        for i in 0..1_000_u64 {
            let part = if i % 3 == 0 { &mut a } else { &mut b };
            for recorder in [part, &mut whole] {
                recorder.sent((i % 2) as usize, i * 10, i * 10 + i);
                let arrival = if i % 7 == 0 { Arrival::Reordered } else { Arrival::InOrder };
                recorder.delivered(delivery(arrival, i * 10, (i % 2) as usize));
                if i % 100 == 0 {
                    recorder.corrupt(i * 10);
                    recorder.busy += 1;
                }
            }
        }
        let text = serde_json::to_string(&b).expect("a recorder is serialisable");
        a.merge(&serde_json::from_str(&text).expect("and readable in another process"));
        assert_eq!((a.warmup, a.measured), (whole.warmup, whole.measured));
        assert_eq!(a.e2e(), whole.e2e());
        assert_eq!((&a.lag, &a.wire), (&whole.lag, &whole.wire));
        assert_eq!(a.delivered_by_cluster, whole.delivered_by_cluster);
        assert_eq!((a.busy, a.last_sent_nanos), (whole.busy, whole.last_sent_nanos));
        assert_eq!(a.e2e_medians(), whole.e2e_medians());
        assert_eq!(a.series, whole.series);
    }

    #[test]
    fn a_message_with_copies_is_sent_as_often_as_it_is_to_arrive() {
        let mut recorder = Recorder::new(WINDOW, 1).expecting(3);
        recorder.sent(0, 999, 999);
        recorder.sent(0, 1_000, 1_010);
        for _ in 0..3 {
            recorder.delivered(delivery(Arrival::InOrder, 1_000, 0));
        }
        assert_eq!((recorder.warmup.sent, recorder.measured.sent, recorder.measured.lost()), (3, 3, 0));
        assert_eq!((recorder.lag.len(), recorder.e2e().len()), (1, 3));
    }

    #[test]
    fn a_request_is_counted_where_it_is_answered_and_executed_where_it_is_served() {
        let mut recorder = Recorder::new(WINDOW, 1);
        for intended in [999, 1_000, 1_100] {
            recorder.sent(0, intended, intended);
            recorder.executed(&delivery(Arrival::InOrder, intended, 0));
        }
        recorder.executed(&delivery(Arrival::Duplicate, 1_100, 0));
        recorder.answered(&delivery(Arrival::InOrder, 1_000, 0));
        recorder.unanswered(999, |fates| fates.timeouts += 1);
        recorder.unanswered(1_100, |fates| fates.timeouts += 1);
        let expected = Counts { sent: 2, delivered: 1, duplicate: 1, ..Counts::default() };
        assert_eq!((recorder.measured, recorder.measured.lost()), (expected, 1));
        let fates = RequestFates { executed: 2, answered: 1, timeouts: 1, ..RequestFates::default() };
        assert_eq!(recorder.requests, fates);
        assert_eq!((recorder.wire.len(), recorder.service.len(), recorder.e2e().len()), (2, 1, 1));
    }

    #[test]
    fn medians_are_silent_about_too_few_messages() {
        let mut recorder = Recorder::new(WINDOW, 1);
        for i in 0..99 {
            recorder.delivered(delivery(Arrival::InOrder, 1_000 + i, 0));
            recorder.delivered(delivery(Arrival::InOrder, 3_000 + i, 0));
        }
        assert_eq!(recorder.e2e_medians(), None);
    }

    #[test]
    fn what_is_given_up_is_not_sent_and_is_counted_where_it_was_due() {
        let mut recorder = Recorder::new(WINDOW, 2).with_ledger(5_000);
        recorder.refused(1, 999, 1_100);
        recorder.refused(1, 1_000, 1_200);
        recorder.sent(1, 1_001, 1_300);
        assert_eq!((recorder.refused, recorder.measured.sent, recorder.last_sent_nanos), (1, 1, 1_300));
        let sum = recorder.ledger.map(|ledger| ledger.sum(1, 0..5_000)).expect("it was asked for");
        assert_eq!((sum.refused, sum.sent), (2, 1));
    }

    #[test]
    fn what_was_sent_and_did_not_arrive_is_lost() {
        let counts = Counts { sent: 10, delivered: 7, ..Counts::default() };
        assert_eq!(counts.lost(), 3);
        assert!(!counts.is_exact());
    }
}
