//! Jobs for a pool: one worker on each shard, each job to one of them. `worker_pool [SERVER]`
//!
//! Workers of any number of processes may join the group; the servers spread the jobs. Publishing is at most once, so
//! each job is a request, and who sends it knows that it was done.

use croupier::{Node, RequestError, Result, Shard};
use futures_lite::future::try_zip;

const JOBS: u32 = 20;

fn main() -> Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    Node::builder().cluster("c1", [server]).run(async |shard| {
        // Subscribed before anybody sends: the await ends when the server has confirmed.
        let mut jobs = shard.queue_subscribe("jobs.resize", "resizers").await?;
        let worker = shard.clone();
        shard.spawn(async move {
            while let Some(job) = jobs.next().await {
                let done = format!("{} by shard {}", String::from_utf8_lossy(job.payload()), worker.id());
                if let Err(error) = job.respond(done) {
                    eprintln!("the answer is lost: {error}");
                }
            }
        });
        if shard.id() == 0 {
            send_jobs(&shard).await?;
        }
        Ok(())
    })
}

async fn send_jobs(shard: &Shard) -> Result<(), RequestError> {
    for number in (0..JOBS).step_by(2) {
        // Two at a time: a future of a request does nothing until it is polled.
        let first = shard.request("jobs.resize", format!("picture {number}"));
        let second = shard.request("jobs.resize", format!("picture {}", number + 1));
        let (first, second) = try_zip(first, second).await?;
        for done in [first, second] {
            println!("{}", String::from_utf8_lossy(done.payload()));
        }
    }
    println!("{JOBS} jobs done");
    Ok(())
}
