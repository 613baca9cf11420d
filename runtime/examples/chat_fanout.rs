//! Chat rooms: what is said in one reaches all who are in it, on whatever shard. `chat_fanout [SERVER ..]`
//!
//! With several servers each is a cluster of its own, and the rooms are spread over them.

use std::{cell::Cell, rc::Rc, time::Duration};

use croupier::{Node, Result, Shard};

const ROOMS: usize = 8;
const LINES: usize = 5;

fn main() -> Result<()> {
    let mut servers: Vec<String> = std::env::args().skip(1).collect();
    if servers.is_empty() {
        servers.push("nats://127.0.0.1:4222".to_owned());
    }
    let mut node = Node::builder();
    for (number, server) in servers.into_iter().enumerate() {
        node = node.cluster(format!("c{}", number + 1), [server]);
    }
    node.run(async |shard| {
        let heard = Rc::new(Cell::new(0));
        let mut members = Vec::new();
        for room in 0..ROOMS {
            let heard = Rc::clone(&heard);
            // Called in the read loop for each line, without a copy.
            let member =
                shard.subscribe_with(format!("chat.{room}"), move |_line| heard.set(heard.get() + 1));
            members.push(member.await?);
        }
        everybody_is_here(&shard).await?;
        for room in 0..ROOMS {
            // A topic that is used often is checked and hashed once.
            let room = shard.topic(format!("chat.{room}"))?;
            for line in 0..LINES {
                room.publish(format!("shard {} says {line}", shard.id()))?;
            }
        }
        let expected = ROOMS * LINES * shard.shards();
        while heard.get() < expected {
            shard.sleep(Duration::from_millis(1)).await;
        }
        println!("shard {} heard {} lines in {ROOMS} rooms", shard.id(), heard.get());
        Ok(())
    })
}

/// Returns when every shard has said that it is subscribed.
async fn everybody_is_here(shard: &Shard) -> Result<()> {
    let mut calls = shard.subscribe("chat.present").await?;
    let mut is_here = vec![false; shard.shards()];
    while is_here.contains(&false) {
        shard.publish("chat.present", [shard.id() as u8])?;
        while let Ok(Some(call)) = shard.timeout(Duration::from_millis(20), calls.next()).await {
            if let Some(is_here) = call.payload().first().and_then(|id| is_here.get_mut(usize::from(*id))) {
                *is_here = true;
            }
        }
    }
    // For who came last and has not heard the calls before.
    shard.publish("chat.present", [shard.id() as u8])?;
    Ok(())
}
