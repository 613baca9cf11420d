//! A subscriber that does not keep up loses what its bounds say, counted exactly, and nobody else notices.

use std::time::Duration;

use croupier::{
    Builder, Shard, Subscription,
    config::{QueueLimits, SlowSubscriberPolicy},
    testing::LocalCluster,
};
use futures_lite::{StreamExt, future};

use crate::support::{on_one_shard, permit};

/// Messages that a queue holds in these tests.
const QUEUE: usize = 100;
/// Messages that are published while nobody takes any.
const MESSAGES: usize = 1000;

fn with_queue(mut builder: Builder, messages: usize, bytes: usize, policy: SlowSubscriberPolicy) -> Builder {
    builder.config_mut().limits.subscriber_queue = QueueLimits { messages, bytes };
    builder.config_mut().limits.on_slow_subscriber = policy;
    builder
}

fn test<F>(messages: usize, bytes: usize, policy: SlowSubscriberPolicy, test: F)
where
    F: AsyncFnOnce(Shard) + Clone + Send + 'static,
{
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(with_queue(servers.builder(), messages, bytes, policy), test);
}

/// Publishes numbers, padded with blanks; on one connection all of them are delivered before the flush is
/// answered.
async fn publish(shard: &Shard, topic: &str, numbers: std::ops::Range<usize>, payload_bytes: usize) {
    for number in numbers {
        let mut payload = number.to_string().into_bytes();
        payload.resize(payload_bytes, b' ');
        shard.publish_wait(topic, payload).await.unwrap();
    }
    shard.flush().await.unwrap();
}

/// Everything that can be taken without waiting, and whether the stream has ended.
async fn waiting(subscription: &mut Subscription) -> (Vec<usize>, bool) {
    let mut numbers = Vec::new();
    loop {
        match future::poll_once(subscription.next()).await {
            Some(Some(message)) => {
                numbers.push(str::from_utf8(message.payload()).unwrap().trim_end().parse().unwrap());
            }
            Some(None) => return (numbers, true),
            None => return (numbers, false),
        }
    }
}

#[test]
fn drop_newest_keeps_the_oldest_and_counts_the_rest() {
    test(QUEUE, 64 << 20, SlowSubscriberPolicy::DropNewest, async |shard: Shard| {
        let mut slow = shard.subscribe("flood").await.unwrap();
        publish(&shard, "flood", 0..MESSAGES, 16).await;
        assert_eq!(slow.lagged(), (MESSAGES - QUEUE) as u64);
        assert_eq!(waiting(&mut slow).await, ((0..QUEUE).collect(), false));
        publish(&shard, "flood", 0..QUEUE, 16).await;
        assert_eq!(slow.lagged(), (MESSAGES - QUEUE) as u64, "what fits again is not dropped");
        assert_eq!(waiting(&mut slow).await, ((0..QUEUE).collect(), false));
        assert_eq!(shard.stats().links[0].lagged, (MESSAGES - QUEUE) as u64);
    });
}

#[test]
fn drop_oldest_keeps_the_newest_and_counts_the_rest() {
    test(QUEUE, 64 << 20, SlowSubscriberPolicy::DropOldest, async |shard: Shard| {
        let mut slow = shard.subscribe("flood").await.unwrap();
        publish(&shard, "flood", 0..MESSAGES, 16).await;
        assert_eq!(slow.lagged(), (MESSAGES - QUEUE) as u64);
        assert_eq!(waiting(&mut slow).await, ((MESSAGES - QUEUE..MESSAGES).collect(), false));
        assert_eq!(shard.stats().links[0].lagged, (MESSAGES - QUEUE) as u64);
    });
}

#[test]
fn close_ends_the_subscription_after_what_waits() {
    test(QUEUE, 64 << 20, SlowSubscriberPolicy::Close, async |shard: Shard| {
        let mut slow = shard.subscribe("flood").await.unwrap();
        let mut other = shard.subscribe("other").await.unwrap();
        publish(&shard, "flood", 0..MESSAGES, 16).await;
        assert_eq!(slow.lagged(), 1, "the message that did not fit; later ones found nobody");
        assert_eq!(shard.stats().links[0].lagged, 1);
        assert_eq!(waiting(&mut slow).await, ((0..QUEUE).collect(), true));
        publish(&shard, "other", 0..10, 16).await;
        assert_eq!(waiting(&mut other).await, ((0..10).collect(), false));
        let mut again = shard.subscribe("flood").await.unwrap();
        publish(&shard, "flood", 0..10, 16).await;
        assert_eq!(waiting(&mut again).await, ((0..10).collect(), false));
        assert_eq!(shard.stats().links[0].disconnects, 0);
    });
}

#[test]
fn a_queue_is_bounded_by_bytes_whatever_the_policy() {
    for policy in [SlowSubscriberPolicy::DropNewest, SlowSubscriberPolicy::DropOldest] {
        let bytes = 256 << 10;
        test(65_536, bytes, policy, async move |shard: Shard| {
            let mut slow = shard.subscribe("flood").await.unwrap();
            for payload_bytes in [16, 1000, 50_000] {
                let before = slow.lagged();
                publish(&shard, "flood", 0..MESSAGES * 10 / (1 + payload_bytes / 1000), payload_bytes).await;
                let published = MESSAGES * 10 / (1 + payload_bytes / 1000);
                let (numbers, ended) = waiting(&mut slow).await;
                let lagged = (slow.lagged() - before) as usize;
                println!(
                    "{policy:?}: of {published} messages of {payload_bytes} bytes {} were kept",
                    numbers.len()
                );
                assert!(!ended && !numbers.is_empty());
                assert!(numbers.len() * payload_bytes <= bytes, "{} of {payload_bytes} bytes", numbers.len());
                assert_eq!(numbers.len() + lagged, published, "{policy:?} {payload_bytes}");
                let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
                assert!(numbers.is_sorted_by(|a, b| a < b));
                match policy {
                    SlowSubscriberPolicy::DropOldest => assert_eq!(last, published - 1),
                    _ => assert_eq!(first, 0),
                }
            }
            assert_eq!(shard.stats().links[0].lagged, slow.lagged(), "the link counts the same");
        });
    }
}

#[test]
fn a_message_larger_than_the_queue_is_dropped_and_counted() {
    for policy in [SlowSubscriberPolicy::DropNewest, SlowSubscriberPolicy::DropOldest] {
        test(QUEUE, 64 << 10, policy, async |shard: Shard| {
            let mut slow = shard.subscribe("flood").await.unwrap();
            publish(&shard, "flood", 0..1, 200_000).await;
            assert_eq!((waiting(&mut slow).await.0.len(), slow.lagged()), (0, 1));
            publish(&shard, "flood", 0..10, 16).await;
            assert_eq!(waiting(&mut slow).await, ((0..10).collect(), false));
            assert_eq!(slow.lagged(), 1);
        });
    }
}

#[test]
fn a_waiting_reader_sees_the_end_when_a_message_closes_its_queue() {
    test(QUEUE, 64 << 10, SlowSubscriberPolicy::Close, async |shard: Shard| {
        let mut slow = shard.subscribe("flood").await.unwrap();
        shard.publish("flood", vec![b'7'; 200_000]).unwrap();
        assert!(slow.next().await.is_none());
        assert_eq!(slow.lagged(), 1);
    });
}

#[test]
fn a_slow_subscriber_costs_another_one_nothing() {
    for policy in
        [SlowSubscriberPolicy::DropNewest, SlowSubscriberPolicy::DropOldest, SlowSubscriberPolicy::Close]
    {
        test(QUEUE, 64 << 20, policy, async move |shard: Shard| {
            let slow = shard.subscribe("flood").await.unwrap();
            let mut quick = shard.subscribe("flood").await.unwrap();
            let mut wild = shard.subscribe("*").await.unwrap();
            let mut handled = 0;
            let counted = std::rc::Rc::new(std::cell::Cell::new(0));
            let count = std::rc::Rc::clone(&counted);
            let _guard = shard.subscribe_with("flood", move |_| count.set(count.get() + 1)).await.unwrap();
            for begin in (0..MESSAGES).step_by(50) {
                publish(&shard, "flood", begin..begin + 50, 16).await;
                assert_eq!(waiting(&mut quick).await.0, (begin..begin + 50).collect::<Vec<_>>());
                assert_eq!(waiting(&mut wild).await.0, (begin..begin + 50).collect::<Vec<_>>());
                handled += 50;
                assert_eq!(counted.get(), handled);
            }
            assert_eq!((quick.lagged(), wild.lagged()), (0, 0));
            assert!(slow.lagged() > 0);
        });
    }
}

#[test]
fn a_small_message_that_is_kept_does_not_pin_the_memory_that_was_read_with_it() {
    test(QUEUE, 256 << 10, SlowSubscriberPolicy::DropNewest, async |shard: Shard| {
        let mut rare = shard.subscribe("rare").await.unwrap();
        let mut often = shard.subscribe("often").await.unwrap();
        // One small message in each 100 KiB: pinning a chunk for each would fill the queue with a handful.
        for round in 0..QUEUE {
            shard.publish("rare", round.to_string()).unwrap();
            for _ in 0..10 {
                shard.publish("often", vec![b'7'; 10_000]).unwrap();
            }
            shard.flush().await.unwrap();
            while future::poll_once(often.next()).await.is_some() {}
        }
        assert_eq!(rare.lagged(), 0);
        assert_eq!(waiting(&mut rare).await, ((0..QUEUE).collect(), false));
    });
}

#[test]
fn a_handle_counts_what_its_thread_takes_too_slowly() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let builder = with_queue(servers.builder(), QUEUE, 64 << 20, SlowSubscriberPolicy::DropNewest);
    let node = crate::support::TestNode::start(builder, 1);
    let mut slow = future::block_on(node.handle.subscribe("flood")).unwrap();
    node.on(0, async |shard: Shard| publish(&shard, "flood", 0..20_000, 16).await);
    future::block_on(
        node.handle.submit_to(0, async |shard: Shard| shard.sleep(Duration::from_millis(20)).await),
    )
    .unwrap();
    node.on(0, async |shard: Shard| publish(&shard, "flood", 20_000..20_001, 16).await);
    let mut taken = 0;
    let stats = || node.link(0, "c1");
    let lagged = stats().lagged;
    assert!(lagged > 0);
    while taken + lagged < 20_001 {
        let message = future::block_on(StreamExt::next(&mut slow));
        message.expect("what was not dropped");
        taken += 1;
    }
    assert_eq!(stats().lagged, lagged);
    drop(slow);
    node.end();
}
