//! One topic, one subscription and one publish on each shard, against a nats-server on port 4222.

use croupier::{Node, Result};

fn main() -> Result<()> {
    Node::builder().cluster("c1", ["nats://127.0.0.1:4222"]).run(async |shard| {
        let mut greetings = shard.subscribe("hello").await?;
        shard.publish("hello", format!("hi from shard {}", shard.id()))?;
        if let Some(msg) = greetings.next().await {
            println!("{}: {}", msg.topic(), String::from_utf8_lossy(msg.payload()));
        }
        Ok(())
    })
}
