//! Mesh: work that one shard has another one do, from the call to the answer.
//!
//! One at a time, the time is that of two wakes; with many in flight, what each costs when the shards do nothing
//! else. Every piece of work adds its number, and the sum must be that of all.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use croupier::Shard;
use croupier_bench::error::BenchError;
use croupier_bench::shard_bench::ShardBench;
use tokio::sync::oneshot;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = mesh
}
criterion_main!(benches);

/// The shard that is asked.
const OTHER: usize = 1;

fn mesh(criterion: &mut Criterion) {
    let bench = ShardBench::start_shards(2).expect("two shards and their stub");
    let mut group = criterion.benchmark_group("mesh");
    group.sampling_mode(SamplingMode::Flat);
    for (name, in_flight) in [("one at a time", 1), ("256 in flight", 256)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|jobs| {
                let run = bench.run(async move |shard| submit(&shard, jobs, in_flight).await);
                let (sum, spent) = run.expect("every piece of work is done");
                assert_eq!(sum, (0..jobs).sum::<u64>(), "each piece of work, once");
                spent
            });
        });
    }
    group.finish();
    bench.finish().expect("the shards end");
}

/// Has the other shard do so many pieces of work; their sum, and how long they took together.
async fn submit(shard: &Shard, jobs: u64, in_flight: u64) -> Result<(u64, Duration), BenchError> {
    let next = Rc::new(Cell::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut ends = Vec::new();
    for _ in 0..in_flight.min(jobs) {
        let (end, ended) = oneshot::channel();
        ends.push(ended);
        let (submitter, next, done) = (shard.clone(), Rc::clone(&next), Arc::clone(&done));
        shard.spawn(async move {
            while next.get() < jobs {
                let number = next.replace(next.get() + 1);
                let done = Arc::clone(&done);
                let work = async move |_| done.fetch_add(number, Ordering::Relaxed);
                if submitter.submit_to(OTHER, work).await.is_err() {
                    return;
                }
            }
            // The receiver waits for all of them, unless one has failed.
            let _ = end.send(());
        });
    }
    for ended in ends {
        ended.await.map_err(BenchError::client("croupier"))?;
    }
    Ok((done.load(Ordering::Relaxed), start.elapsed()))
}
