//! The first things that a user does.

use croupier::testing::LocalCluster;

#[test]
fn a_message_published_on_each_shard_arrives_on_each_shard() {
    let servers = LocalCluster::start(1).unwrap();
    servers
        .builder()
        .shards(2)
        .run(async |shard| {
            let mut greetings = shard.subscribe("hello").await?;
            shard.publish("hello", format!("hi from shard {}", shard.id()))?;
            let message = greetings.next().await.expect("a message");
            assert!(message.payload().starts_with(b"hi from shard "));
            Ok(())
        })
        .unwrap();
}
