//! A server of requests, and a client that sees each kind of failure. `rpc_server [SERVER]`
//!
//! The handler runs in the read loop: no queue, no copy, and the answer leaves with the next send. Work that takes
//! longer than some microseconds belongs into a subscription or a service instead.

use std::time::Duration;

use croupier::{HandlerGuard, Node, RequestError, Result, Shard, SubscribeError};

fn main() -> Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    Node::builder().cluster("c1", [server]).shards(1).run(async |shard| {
        let serving = serve(&shard).await?;
        let answer = shard.request("rpc.upper", "abc").await?;
        println!("rpc.upper: {}", String::from_utf8_lossy(answer.payload()));

        // Nobody subscribes: the server says so at once.
        match shard.request("rpc.lower", "ABC").await {
            Err(RequestError::NoResponders { .. }) => println!("rpc.lower: nobody is there"),
            other => println!("rpc.lower: {other:?}"),
        }
        // Somebody subscribes and says nothing.
        let _silent = shard.subscribe("rpc.silent").await?;
        match shard.request_with_timeout("rpc.silent", "?", Duration::from_millis(100)).await {
            Err(RequestError::Timeout { .. }) => println!("rpc.silent: no answer in time"),
            other => println!("rpc.silent: {other:?}"),
        }
        serving.unsubscribe().await?;
        Ok(())
    })
}

async fn serve(shard: &Shard) -> Result<HandlerGuard, SubscribeError> {
    shard
        .subscribe_with("rpc.upper", |request| {
            // A message without a reply subject is no request; `respond` says so.
            if let Err(error) = request.respond(request.payload().to_ascii_uppercase()) {
                eprintln!("no answer: {error}");
            }
        })
        .await
}
