//! How long requests and round trips take: recorded by each shard for itself, and handed over to be added up.
//!
//! A shard writes to buffers that nobody else sees. At its own tick it hands the full buffer over and takes an
//! empty one, which moves two pointers; whoever looks adds up what was handed over, on a thread that is no shard.
//! A shard that finds no empty buffer, because nobody has collected the last one yet, goes on in the one that it has.

mod collector;
mod recorder;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rtrb::RingBuffer;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use self::collector::Collector;
pub(crate) use self::{
    collector::Totals,
    recorder::{Recorder, hand_over_always},
};

/// Times below this are told apart roughly.
const NANOS_MIN: u64 = 1_000;
/// Longer times are recorded as this one.
const NANOS_MAX: u64 = 60_000_000_000;
/// Of each time two digits are kept: an error below 1 %. One histogram takes 11 KiB.
const SIGNIFICANT_DIGITS: u8 = 2;
/// Buffers of one shard: the one that it writes to and the one under way. The end makes a third.
const BUFFERS_MAX: usize = 3;

/// How long something took, many times over.
///
/// `count` and `sum` are those since the start of the shard. The others are those of the last 10 to 20 s, with
/// an error below 1 %, no finer than 1 us and at most 60 s; zero if nothing was measured in that time.
/// All are at most about a second old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// How many times were measured.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// Half of the recent ones were no longer than this.
    pub p50: Duration,
    /// 99 of 100 recent ones were no longer than this.
    pub p99: Duration,
    /// The longest of the recent ones.
    pub max: Duration,
}

impl Serialize for LatencyStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("LatencyStats", 5)?;
        fields.serialize_field("count", &self.count)?;
        for (name, duration) in [
            ("sum_seconds", self.sum),
            ("p50_seconds", self.p50),
            ("p99_seconds", self.p99),
            ("max_seconds", self.max),
        ] {
            fields.serialize_field(name, &duration.as_secs_f64())?;
        }
        fields.end()
    }
}

/// What a shard records into, of every kind of time.
struct Recorded {
    requests: Series,
    /// By cluster.
    round_trips: Vec<Series>,
}

/// Times of one kind.
struct Series {
    histogram: Histogram<u32>,
    sum_nanos: u64,
}

impl Recorded {
    fn new(clusters: usize) -> Box<Self> {
        let round_trips = (0..clusters).map(|_| Series::new()).collect();
        Box::new(Recorded { requests: Series::new(), round_trips })
    }

    fn is_empty(&self) -> bool {
        self.requests.histogram.is_empty() && self.round_trips.iter().all(|each| each.histogram.is_empty())
    }
}

impl Series {
    fn new() -> Self {
        Series { histogram: histogram(), sum_nanos: 0 }
    }

    #[inline]
    fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
    }

    fn reset(&mut self) {
        self.histogram.reset();
        self.sum_nanos = 0;
    }
}

fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(NANOS_MIN, NANOS_MAX, SIGNIFICANT_DIGITS).expect("constant bounds that fit")
}

/// What is known of one shard's times outside of it.
pub(crate) struct Latencies {
    requests: Summary,
    round_trips: Vec<Summary>,
    /// No shard waits for this lock.
    collector: Mutex<Collector>,
}

impl Latencies {
    /// For a shard of a node with so many clusters, and what that shard records with.
    pub(crate) fn new(clusters: usize) -> (Latencies, Recorder) {
        let (full_in, full_out) = RingBuffer::new(BUFFERS_MAX);
        let (mut empty_in, empty_out) = RingBuffer::new(BUFFERS_MAX);
        let _fits = empty_in.push(Recorded::new(clusters));
        let recorder = Recorder::new(Recorded::new(clusters), full_in, empty_out);
        let latencies = Latencies {
            requests: Summary::default(),
            round_trips: (0..clusters).map(|_| Summary::default()).collect(),
            collector: Mutex::new(Collector::new(clusters, full_out, empty_in, Instant::now())),
        };
        (latencies, recorder)
    }

    /// Adds up what the shard has handed over, unless another thread does so at this moment.
    pub(crate) fn collect(&self, now: Instant) {
        let collector = match self.collector.try_lock() {
            Ok(collector) => collector,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.collect_into(collector, now);
    }

    fn collect_into(&self, mut collector: MutexGuard<'_, Collector>, now: Instant) {
        if collector.collect(now) {
            self.requests.store(&collector.requests);
            for (summary, sum) in self.round_trips.iter().zip(&collector.round_trips) {
                summary.store(sum);
            }
        }
    }

    /// The times from requests to their replies.
    pub(crate) fn requests(&self) -> LatencyStats {
        self.requests.stats()
    }

    /// The times from PINGs to their PONGs, on the link to one cluster.
    pub(crate) fn round_trip(&self, cluster: usize) -> LatencyStats {
        self.round_trips[cluster].stats()
    }

    /// What was added up of the requests, and of the round trips by cluster.
    pub(crate) fn totals(&self) -> (Totals, Vec<Totals>) {
        let collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
        let round_trips = collector.round_trips.iter().map(|sum| sum.totals.clone()).collect();
        (collector.requests.totals.clone(), round_trips)
    }
}

/// The figures of one kind of time, written by who collects, and read from any thread.
#[derive(Default)]
struct Summary {
    count: AtomicU64,
    sum_nanos: AtomicU64,
    p50_nanos: AtomicU64,
    p99_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl Summary {
    fn store(&self, sum: &collector::Sum) {
        let recent = sum.recent();
        for (figure, value) in [
            (&self.count, sum.totals.count()),
            (&self.sum_nanos, sum.totals.sum_nanos),
            (&self.p50_nanos, recent.p50_nanos),
            (&self.p99_nanos, recent.p99_nanos),
            (&self.max_nanos, recent.max_nanos),
        ] {
            figure.store(value, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> LatencyStats {
        let nanos = |figure: &AtomicU64| Duration::from_nanos(figure.load(Ordering::Relaxed));
        LatencyStats {
            count: self.count.load(Ordering::Relaxed),
            sum: nanos(&self.sum_nanos),
            p50: nanos(&self.p50_nanos),
            p99: nanos(&self.p99_nanos),
            max: nanos(&self.max_nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{collector::BOUNDS_SECONDS, *};

    const MS: Duration = Duration::from_millis(1);

    fn is_near(found: Duration, expected: Duration) -> bool {
        found >= expected && found <= expected + expected / 50
    }

    #[test]
    fn what_is_handed_over_is_added_up_and_nothing_before() {
        let (latencies, recorder) = Latencies::new(2);
        let now = Instant::now();
        for millis in 1..=100 {
            recorder.request(millis * MS);
        }
        recorder.round_trip(1, MS);
        latencies.collect(now);
        assert_eq!(latencies.requests(), LatencyStats::default());
        recorder.hand_over();
        latencies.collect(now);
        let requests = latencies.requests();
        assert_eq!((requests.count, requests.sum), (100, 5050 * MS));
        assert!(is_near(requests.p50, 50 * MS), "{requests:?}");
        assert!(is_near(requests.p99, 99 * MS), "{requests:?}");
        assert!(is_near(requests.max, 100 * MS), "{requests:?}");
        assert_eq!((latencies.round_trip(0).count, latencies.round_trip(1).count), (0, 1));
    }

    #[test]
    fn nothing_is_lost_while_nobody_collects() {
        let (latencies, recorder) = Latencies::new(1);
        for _ in 0..50 {
            recorder.request(MS);
            recorder.hand_over();
        }
        latencies.collect(Instant::now());
        assert_eq!(latencies.requests().count, 1, "the first buffer was under way, the other one filled");
        recorder.hand_over();
        latencies.collect(Instant::now());
        assert_eq!(latencies.requests().count, 50);
        // The end of a shard waits for nobody.
        recorder.request(MS);
        recorder.hand_over();
        recorder.request(MS);
        recorder.hand_over_last();
        latencies.collect(Instant::now());
        assert_eq!(latencies.requests().count, 52);
    }

    #[test]
    fn percentiles_are_those_of_the_last_seconds_and_counts_are_for_ever() {
        let (latencies, recorder) = Latencies::new(0);
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        recorder.request(500 * MS);
        recorder.hand_over();
        latencies.collect(begun);
        recorder.request(MS);
        recorder.hand_over();
        latencies.collect(after(11));
        assert!(is_near(latencies.requests().max, 500 * MS), "of the window before");
        latencies.collect(after(22));
        assert!(is_near(latencies.requests().max, MS), "{:?}", latencies.requests());
        latencies.collect(after(60));
        assert_eq!(latencies.requests(), LatencyStats { count: 2, sum: 501 * MS, ..LatencyStats::default() });
    }

    #[test]
    fn each_time_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let (latencies, recorder) = Latencies::new(0);
        let times =
            [Duration::ZERO, Duration::from_nanos(1), MS, 3 * MS, Duration::from_secs(3600), Duration::MAX];
        times.into_iter().for_each(|took| recorder.request(took));
        recorder.hand_over();
        latencies.collect(Instant::now());
        let (totals, _) = latencies.totals();
        let buckets: Vec<(f64, u64)> = totals.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets[0], (BOUNDS_SECONDS[0], 2));
        // What fills a bound exactly may be counted above it, being kept with two digits.
        assert!(buckets[1] == (0.001, 1) || buckets[1] == (0.0025, 1), "{buckets:?}");
        assert_eq!(buckets[2..], [(0.005, 1), (f64::INFINITY, 2)]);
        assert_eq!(latencies.requests().max, Duration::from_nanos(NANOS_MAX), "no time is longer");
        assert_eq!(totals.count(), 6);
    }

    #[test]
    fn a_panic_beside_the_collector_costs_no_figures() {
        let (latencies, recorder) = Latencies::new(0);
        std::thread::scope(|scope| {
            let poisoning = scope.spawn(|| {
                let _held = latencies.collector.lock();
                panic!("beside it");
            });
            assert!(poisoning.join().is_err());
        });
        recorder.request(MS);
        recorder.hand_over();
        latencies.collect(Instant::now());
        assert_eq!((latencies.requests().count, latencies.totals().0.count()), (1, 1));
    }
}
