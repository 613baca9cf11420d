//! Dispatch: CPU time of the shard for one received message, from the socket to the handler or out of a queue.
//!
//! A stub floods the shard; the time is that of the shard's thread alone, so the stub costs nothing. What was
//! received is counted and summed, and must be what the stub sent.

use std::cell::Cell;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use croupier::Shard;
use croupier_bench::croupier_client::{HandlerFlood, receive_from_queue};
use croupier_bench::error::BenchError;
use croupier_bench::receiving::Length;
use croupier_bench::shard_bench::ShardBench;
use croupier_bench::traffic::{DATA_SUBJECT, Tally};
use croupier_bench::usage::Meter;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = dispatch
}
criterion_main!(benches);

/// An order and the wake-up at its end are shared by at least so many messages.
const MESSAGES_MIN: u64 = 10_000;

#[derive(Clone, Copy)]
enum To {
    Handler,
    Queue,
}

fn dispatch(criterion: &mut Criterion) {
    let bench = ShardBench::start().expect("a shard and its stub");
    let received = Cell::new(Tally::default());
    let mut group = criterion.benchmark_group("dispatch");
    group.sampling_mode(SamplingMode::Flat);
    for (to, name) in [(To::Handler, "to a handler"), (To::Queue, "to a subscription")] {
        for payload_bytes in [16, 128, 4096] {
            group.bench_function(format!("{name}, {payload_bytes} bytes"), |bencher| {
                bencher.iter_custom(|messages| {
                    let wanted = messages.max(MESSAGES_MIN);
                    let run = bench.run(async move |shard| receive(&shard, to, payload_bytes, wanted).await);
                    let (tally, cpu) = run.expect("the whole flood");
                    assert_eq!(tally.messages, wanted, "the whole flood and no more");
                    received.set(received.get().plus(tally));
                    cpu.mul_f64(messages as f64 / wanted as f64)
                });
            });
        }
    }
    group.finish();
    let account = bench.finish().expect("the stub's account");
    assert_eq!(account.flooded, received.get(), "what the stub sent was received");
}

async fn receive(
    shard: &Shard,
    to: To,
    payload_bytes: usize,
    messages: u64,
) -> Result<(Tally, Duration), BenchError> {
    let length = Length::Messages(messages);
    match to {
        To::Handler => {
            let flood = HandlerFlood::subscribe(shard).await?;
            let meter = Meter::start_on_thread();
            Ok((flood.receive(payload_bytes, length).await?, meter.cpu()))
        }
        To::Queue => {
            let subscribed = shard.subscribe(DATA_SUBJECT).await;
            let mut subscription = subscribed.map_err(BenchError::client("croupier"))?;
            let meter = Meter::start_on_thread();
            let tally = receive_from_queue(shard, &mut subscription, payload_bytes, length).await?;
            Ok((tally, meter.cpu()))
        }
    }
}
