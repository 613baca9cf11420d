//! A node that can be watched: `metrics [SERVER [LISTEN]]`
//!
//! ```text
//! curl http://127.0.0.1:9464/metrics      # OpenMetrics, for Prometheus
//! curl http://127.0.0.1:9464/readyz       # whether to send it work, and if not, why
//! curl http://127.0.0.1:9464/statusz      # all of it, as JSON
//! ```
//! A thread of its own answers; no shard is woken.

use std::time::Duration;

use croupier::Node;

fn main() -> Result<(), croupier::BoxError> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:9464".to_owned());
    let node =
        Node::builder().cluster("c1", [server]).shards(1).admin_listen(listen).start(async |shard| {
            let mut ticks = shard.subscribe("ticks").await?;
            for tick in 0..10_u32 {
                shard.publish("ticks", tick.to_le_bytes())?;
                ticks.next().await;
                shard.sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })?;
    if let Some(address) = node.handle().admin_addr() {
        println!("listening on {address}");
    }
    // It runs until somebody ends the process.
    node.join()?;
    Ok(())
}
