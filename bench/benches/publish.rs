//! Publish: nanoseconds to append one message to a connection's buffer, sends not counted.
//!
//! Messages are appended in bursts that stay below what is sent at once; between two bursts the buffer is
//! flushed, off the clock. What the stub at the other end counted and summed must be what was appended.

use std::cell::Cell;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use croupier::{PublishError, Shard};
use croupier_bench::error::BenchError;
use croupier_bench::shard_bench::ShardBench;
use croupier_bench::traffic::{DATA_SUBJECT, Payloads, Tally};

criterion_group! {
    name = benches;
    // Most of the wall time goes into flushes, which are not counted.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(500));
    targets = publish
}
criterion_main!(benches);

/// Below the 64 KiB at which a publish sends for itself.
const BURST_BYTES: usize = 48 * 1024;
/// At least what a control line adds to a payload.
const CONTROL_LINE_BYTES: usize = 24;

#[derive(Clone, Copy)]
enum By {
    Topic,
    Shard,
}

fn publish(criterion: &mut Criterion) {
    let bench = ShardBench::start().expect("a shard and its stub");
    let published = Cell::new(Tally::default());
    let mut group = criterion.benchmark_group("publish");
    group.sampling_mode(SamplingMode::Flat);
    for (by, name) in [(By::Topic, "through a topic"), (By::Shard, "through the shard")] {
        for payload_bytes in [16, 128, 4096] {
            group.bench_function(format!("{name}, {payload_bytes} bytes"), |bencher| {
                bencher.iter_custom(|messages| {
                    let run = bench.run(async move |shard| bursts(&shard, by, payload_bytes, messages).await);
                    published.set(published.get().plus(Tally::of_first(messages, payload_bytes)));
                    run.expect("every publish is accepted")
                });
            });
        }
    }
    group.finish();
    let account = bench.finish().expect("the stub's account");
    assert_eq!(account.swallowed, published.get(), "the stub received what was published");
}

/// Publishes so many messages and tells how long the appending took.
async fn bursts(shard: &Shard, by: By, payload_bytes: usize, messages: u64) -> Result<Duration, BenchError> {
    let payloads = Payloads::new(payload_bytes);
    let topic = shard.topic(DATA_SUBJECT).map_err(BenchError::client("croupier"))?;
    let burst = (BURST_BYTES / (payload_bytes + CONTROL_LINE_BYTES)) as u64;
    let mut spent = Duration::ZERO;
    let mut published = 0;
    while published < messages {
        let numbers = published..(published + burst).min(messages);
        published = numbers.end;
        let start = Instant::now();
        match by {
            By::Topic => append(numbers, |number| topic.publish(payloads.at(number))),
            By::Shard => append(numbers, |number| shard.publish(DATA_SUBJECT, payloads.at(number))),
        }
        .map_err(BenchError::client("croupier"))?;
        spent += start.elapsed();
        shard.flush().await.map_err(BenchError::client("croupier"))?;
    }
    Ok(spent)
}

#[inline]
fn append(
    mut numbers: std::ops::Range<u64>,
    publish: impl FnMut(u64) -> Result<(), PublishError>,
) -> Result<(), PublishError> {
    numbers.try_for_each(publish)
}
