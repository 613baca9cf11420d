//! How to test an application against real servers: `cargo test -p croupier --example test_your_app`
//!
//! `LocalCluster` starts nats-servers on free ports, kills, pauses and restarts them, and takes them along when it is
//! dropped. There is no mock: what passes here passes with the servers of production.

use croupier::{BoxError, Message, Node, Result, Shard};

fn main() -> Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    Node::builder().cluster("c1", [server]).run(app)
}

/// The application: it answers each order with its price.
async fn app(shard: Shard) -> Result<(), BoxError> {
    let mut orders = shard.queue_subscribe("orders", "pricing").await?;
    while let Some(order) = orders.next().await {
        order.respond(price(&order))?;
    }
    Ok(())
}

fn price(order: &Message) -> String {
    match order.payload() {
        b"tea" => "2.50".to_owned(),
        b"coffee" => "3.00".to_owned(),
        _ => "not on the menu".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use croupier::{Node, RequestError, testing::LocalCluster};
    use futures_lite::future::block_on;

    #[test]
    fn orders_have_a_price() {
        let servers = LocalCluster::start(1).expect("a nats-server");
        let node = servers.builder().shards(1).start(super::app).expect("a node");
        assert_eq!(ask(&node, "tea"), "2.50");
        assert_eq!(ask(&node, "soup"), "not on the menu");
    }

    #[test]
    fn orders_have_a_price_again_after_the_servers_are_back() {
        let mut servers = LocalCluster::start(1).expect("a nats-server");
        let node = servers.builder().shards(1).start(super::app).expect("a node");
        assert_eq!(ask(&node, "coffee"), "3.00");
        servers.kill(0, 0).expect("killed");
        servers.restart(0, 0).expect("restarted");
        assert_eq!(ask(&node, "coffee"), "3.00");
    }

    /// A request is never queued, so it fails until the application has subscribed.
    fn ask(node: &Node, order: &str) -> String {
        let guard = Instant::now() + Duration::from_secs(60);
        loop {
            match block_on(node.handle().request("orders", order)) {
                Ok(answer) => return String::from_utf8_lossy(answer.payload()).into_owned(),
                Err(
                    RequestError::NoResponders { .. }
                    | RequestError::Disconnected { .. }
                    | RequestError::Timeout { .. },
                ) if Instant::now() < guard => thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
