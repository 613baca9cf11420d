//! Nothing is lost on SIGTERM: what has arrived is worked off, then the process ends. `graceful_drain [SERVER]`
//!
//! Send it messages on `work`, and SIGTERM in the middle. A second signal stops at once.

use std::{cell::Cell, rc::Rc, time::Duration};

use croupier::{Node, Result};

fn main() -> Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    Node::builder().cluster("c1", [server]).shards(1).run(async |shard| {
        let done = Rc::new(Cell::new(0_u64));
        let total = Rc::clone(&done);
        // Runs when the drain begins, beside what is still at work.
        shard.on_drain(async move || println!("draining, {} done so far", total.get()));
        let mut work = shard.subscribe("work").await?;
        println!("ready");
        // The drain unsubscribes; the stream ends after what had arrived.
        while let Some(job) = work.next().await {
            shard.sleep(Duration::from_millis(1)).await;
            done.set(done.get() + 1);
            if job.reply().is_some() {
                job.respond(format!("job {}", done.get()))?;
            }
        }
        println!("{} done, nothing left", done.get());
        Ok(())
    })
}
