//! Who stands still beside others: a consumer that takes nothing, and a server that reads nothing.

use std::{
    cell::Cell,
    io::{BufReader, Write},
    net::TcpStream,
    rc::Rc,
    time::{Duration, Instant},
};

use croupier::{
    Node, PublishError, Shard, SubscribeOptions, Subscription, config::SlowSubscriberPolicy,
    testing::LocalCluster,
};

use crate::{
    scripted::{ScriptedServer, Sent, info, read_operation},
    support::{GUARD, TestNode, assert_balanced, on_one_shard, permit, wait_for, wait_on},
};

/// Messages for each consumer in one run.
const MESSAGES: usize = 50_000;
/// Consumers that take what comes.
const BUSY: usize = 4;
/// What the stopped one may hold.
const QUEUE_MESSAGES: usize = 1000;
/// Beside its messages a queue may hold on to some chunks that it shares with others.
const QUEUE_BYTES: usize = 2 << 20;
/// The rate that the others keep beside one that has stopped.
const RATE_KEPT: f64 = 0.9;

/// Publishes to a topic that all consumers share, takes everything at the busy ones, and returns the messages
/// each second that they got.
async fn run(shard: &Shard, stopped: Option<&Subscription>) -> f64 {
    let mut busy = Vec::new();
    for _ in 0..BUSY {
        busy.push(shard.subscribe("beside").await.unwrap());
    }
    let done = Rc::new(Cell::new(0));
    let begun = Instant::now();
    for mut consumer in busy {
        let done = Rc::clone(&done);
        shard.spawn(async move {
            for number in 0..MESSAGES {
                let message = consumer.next().await.unwrap();
                assert_eq!(message.payload(), number.to_string().as_bytes());
            }
            assert_eq!(consumer.lagged(), 0);
            done.set(done.get() + 1);
        });
    }
    for number in 0..MESSAGES {
        shard.publish_wait("beside", number.to_string()).await.unwrap();
        // The consumers run on this shard, and share it.
        if number % 1000 == 0 {
            shard.sleep(Duration::from_micros(1)).await;
        }
        if let Some(stopped) = stopped {
            assert!(stopped.queued_bytes() <= QUEUE_BYTES, "{}", stopped.queued_bytes());
        }
    }
    wait_on(shard, "all messages at all that take them", || (done.get() == BUSY).then_some(())).await;
    (BUSY * MESSAGES) as f64 / begun.elapsed().as_secs_f64()
}

/// The rates of the busy ones without and with a stopped one beside them.
async fn rates(shard: &Shard, policy: SlowSubscriberPolicy) -> (f64, f64) {
    let alone = run(shard, None).await;
    let options = SubscribeOptions::new()
        .queue_messages(QUEUE_MESSAGES)
        .queue_bytes(QUEUE_BYTES)
        .on_slow_subscriber(policy);
    let mut stopped = shard.subscribe_with_options("beside", &options).await.unwrap();
    let beside = run(shard, Some(&stopped)).await;
    let lagged = (MESSAGES - QUEUE_MESSAGES) as u64;
    assert_eq!((stopped.lagged(), stopped.queued_messages()), (lagged, QUEUE_MESSAGES));
    assert_eq!(stopped.delivered(), MESSAGES as u64);
    let first = stopped.next().await.unwrap();
    let expected = if policy == SlowSubscriberPolicy::DropOldest { MESSAGES - QUEUE_MESSAGES } else { 0 };
    assert_eq!(first.payload(), expected.to_string().as_bytes());
    (alone, beside)
}

#[test]
fn one_that_takes_nothing_costs_the_others_no_message_and_holds_no_more_than_it_may() {
    for policy in [SlowSubscriberPolicy::DropNewest, SlowSubscriberPolicy::DropOldest] {
        let _permit = permit(1);
        let servers = LocalCluster::start(1).unwrap();
        on_one_shard(servers.builder(), async move |shard: Shard| {
            let (alone, beside) = rates(&shard, policy).await;
            println!("{policy:?}: {alone:.0} messages a second alone, {beside:.0} beside a stopped one");
            let link = &shard.stats().links[0];
            assert_eq!(link.lagged, (MESSAGES - QUEUE_MESSAGES) as u64, "the link counts the same");
            assert_balanced(link);
        });
    }
}

/// `cargo test --release -p croupier-tests --test suite -- --ignored others_keep --nocapture`, on a calm machine.
#[test]
#[ignore = "compares rates, which takes a machine of its own"]
fn the_others_keep_their_rate_beside_one_that_takes_nothing() {
    const ROUNDS: usize = 9;
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        let mut kept = Vec::new();
        for _ in 0..ROUNDS {
            let (alone, beside) = rates(&shard, SlowSubscriberPolicy::DropNewest).await;
            println!("{alone:.0} messages a second alone, {beside:.0} beside a stopped one");
            kept.push(beside / alone);
        }
        kept.sort_by(f64::total_cmp);
        let median = kept[ROUNDS / 2];
        println!("{:.0} % kept, the median of {ROUNDS}", 100.0 * median);
        assert!(median >= RATE_KEPT, "{median}");
    });
}

#[test]
fn a_server_that_reads_nothing_is_read_all_the_same() {
    let _permit = permit(1);
    let server = ScriptedServer::start(|_, stream| {
        let mut to: TcpStream = stream.try_clone()?;
        to.write_all(info(1 << 20).as_bytes())?;
        let mut from = BufReader::with_capacity(64, stream);
        let mut sid = String::new();
        // Reads up to the first message, and nothing from there on.
        loop {
            match read_operation(&mut from)? {
                Sent::Ping => to.write_all(b"PONG\r\n")?,
                Sent::Subscribe { sid: new } => sid = new,
                Sent::Publish { .. } => break,
                _ => {}
            }
        }
        for _ in 0..MESSAGES / 100 {
            to.write_all(format!("MSG read {sid} 2\r\nok\r\n").repeat(100).as_bytes())?;
        }
        // Until the client goes.
        loop {
            std::thread::sleep(Duration::from_millis(10));
            to.write_all(b"PING\r\n")?;
        }
    });
    let mut builder = Node::builder().cluster("c1", [server.url()]);
    let config = builder.config_mut();
    config.shards.pin = false;
    config.limits.publish_buffer = 32 << 20;
    config.limits.drain_timeout = Duration::from_millis(200);
    // It answers no PING.
    config.connection.ping_interval = GUARD;
    // Nor does the kernel give it up meanwhile.
    config.connection.user_timeout = GUARD;
    let node = TestNode::start(builder, 1);
    let received = node.on(0, async |shard: Shard| {
        let received = Rc::new(Cell::new(0));
        let count = Rc::clone(&received);
        let _guard = shard.subscribe_with("read", move |_| count.set(count.get() + 1)).await.unwrap();
        // More than the kernel takes, so that the send stands still for the whole time.
        loop {
            match shard.publish("stuck", vec![b'x'; 100_000]) {
                Ok(()) => {}
                Err(PublishError::Busy { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        wait_on(&shard, "all that it sent", || (received.get() == MESSAGES).then_some(())).await;
        received.get()
    });
    let link = wait_for("a send that stands still", || {
        let link = node.link(0, "c1");
        (link.queued > 0).then_some(link)
    });
    assert_eq!((received, link.disconnects), (MESSAGES, 0));
    assert_balanced(&link);
    println!("{received} messages read while {} waited to be sent", link.queued);
    node.end();
}
