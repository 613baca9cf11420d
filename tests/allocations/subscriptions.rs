//! What a subscription costs while it lives, and that it leaves nothing behind.

use std::time::Instant;

use croupier::{BoxError, Shard, Subscription, testing::LocalCluster};

use crate::{alone, counting::held_bytes};

/// Subscriptions of one node at one time.
const SUBSCRIPTIONS: usize = 100_000;
/// Subscriptions that come and go.
const CYCLES: usize = 1_000_000;
/// Cycles between two barriers, so that the server is never far behind.
const BATCH: usize = 1000;
/// Memory that may be left of a hundred thousand: some buffer that was larger this time.
const SLACK_BYTES: i64 = 1 << 20;

fn on_one_shard<F>(servers: &LocalCluster, test: F)
where
    F: AsyncFnOnce(Shard) + Clone + Send + 'static,
{
    let mut builder = servers.builder();
    builder.config_mut().shards.pin = false;
    let app = async |shard: Shard| -> Result<(), BoxError> {
        test(shard).await;
        Ok(())
    };
    builder.shards(1).run(app).unwrap();
}

/// Subscribes to so many topics, each of its own.
async fn subscribe_all(shard: &Shard) -> Vec<Subscription> {
    let mut all = Vec::with_capacity(SUBSCRIPTIONS);
    for number in 0..SUBSCRIPTIONS {
        all.push(shard.subscribe_unconfirmed(format!("many.topics.{number}")).unwrap());
        if number % BATCH == 0 {
            shard.barrier().await.unwrap();
        }
    }
    shard.barrier().await.unwrap();
    all
}

#[test]
fn a_hundred_thousand_subscriptions_of_a_node_work_and_leave_nothing() {
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(&servers, async |shard: Shard| {
        let mut first = shard.subscribe("many").await.unwrap();
        let mut left = Vec::new();
        for round in 0..3 {
            let (begun, before) = (Instant::now(), held_bytes());
            let mut all = subscribe_all(&shard).await;
            let took = begun.elapsed();
            let each = (held_bytes() - before) / SUBSCRIPTIONS as i64;
            println!("{SUBSCRIPTIONS} subscriptions in {took:?}, {each} bytes each");
            for number in [0, 1, SUBSCRIPTIONS / 2, SUBSCRIPTIONS - 1] {
                shard.publish(format!("many.topics.{number}"), number.to_string()).unwrap();
                let message = all[number].next().await.unwrap();
                assert_eq!(message.payload(), number.to_string().as_bytes(), "round {round}");
            }
            drop(all);
            shard.barrier().await.unwrap();
            left.push(held_bytes());
        }
        // The first two rounds make the tables, which the last one finds.
        let grown = left[2] - left[1];
        println!("{grown} bytes more after {SUBSCRIPTIONS} more subscriptions");
        assert!(grown.abs() < SLACK_BYTES, "{left:?}");
        shard.publish("many", "still").unwrap();
        assert_eq!(first.next().await.unwrap().payload(), b"still");
        assert_eq!(shard.stats().links[0].disconnects, 0);
    });
}

#[test]
fn a_million_subscriptions_that_come_and_go_leave_nothing() {
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(&servers, async move |shard: Shard| {
        cycle(&shard, 10 * BATCH).await;
        let (begun, before) = (Instant::now(), held_bytes());
        cycle(&shard, CYCLES).await;
        let grown = held_bytes() - before;
        println!("{CYCLES} subscriptions came and went in {:?}: {grown} bytes more", begun.elapsed());
        assert!(grown.abs() < SLACK_BYTES, "{grown} bytes more");
        let mut one = shard.subscribe("cycle.1").await.unwrap();
        shard.publish("cycle.1", "x").unwrap();
        assert_eq!(one.next().await.unwrap().payload(), b"x");
        assert_eq!(one.delivered(), 1);
        assert_eq!(shard.stats().links[0].disconnects, 0);
    });
}

async fn cycle(shard: &Shard, cycles: usize) {
    for number in 0..cycles {
        let subscription = shard.subscribe_unconfirmed(format!("cycle.{}", number % BATCH)).unwrap();
        drop(subscription);
        if number % BATCH == BATCH - 1 {
            shard.barrier().await.unwrap();
        }
    }
}
