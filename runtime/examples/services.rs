//! A worker on every shard, and calls to them by key. Needs a nats-server on port 4222.

use croupier::{Node, Result, ServiceSpec, Shard};

fn main() -> Result<()> {
    Node::builder().cluster("c1", ["nats://127.0.0.1:4222"]).run(async |shard| {
        let mut worker = shard.registry().add_service(ServiceSpec::new("upper")).await?;
        let on = shard.id();
        shard.spawn(async move {
            while let Some(request) = worker.next_request().await {
                let answer = String::from_utf8_lossy(request.payload()).to_uppercase();
                if let Err(error) = request.respond(format!("{answer}, says the worker on shard {on}")) {
                    eprintln!("no answer: {error}");
                }
            }
        });
        if shard.id() == 0 {
            ask(&shard).await?;
        }
        Ok(())
    })
}

/// The same key always reaches the same worker.
async fn ask(shard: &Shard) -> Result<()> {
    for key in ["alice", "bob", "carol", "alice"] {
        let answer = shard.registry().call("upper", key, format!("hello from {key}")).await?;
        println!("{}", String::from_utf8_lossy(answer.payload()));
    }
    Ok(())
}
