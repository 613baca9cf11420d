//! One topic, one subscription and one publish on each shard, against a nats-server on port 4222.

use std::process::ExitCode;

use croupier::Node;

fn main() -> ExitCode {
    let ended = Node::builder().cluster("c1", ["nats://127.0.0.1:4222"]).run(async |shard| {
        let mut greetings = shard.subscribe("hello").await?;
        shard.publish("hello", format!("hi from shard {}", shard.id()))?;
        if let Some(msg) = greetings.next().await {
            println!("{}: {}", msg.topic(), String::from_utf8_lossy(msg.payload()));
        }
        Ok(())
    });
    let Err(error) = ended else { return ExitCode::SUCCESS };
    eprintln!("hello: {error}"); // with what caused it; `{error:?}` is for developers
    ExitCode::FAILURE
}
