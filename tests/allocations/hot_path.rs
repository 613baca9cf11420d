//! Publishing, receiving and routing allocate nothing for a message.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    hint::black_box,
    io::Write,
    net::TcpStream,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use croupier::{BoxError, Builder, MessageView, Node, Shard, testing::LocalCluster};
use croupier_ring::{CLUSTER_UNITS, ClusterRing};

use crate::{
    alone,
    counting::allocations,
    scripted::{ScriptedServer, Sent, serve_politely},
};

/// Messages of the shorter run; the longer one has four times as many.
const MESSAGES: u64 = 100_000;
/// Messages that are published without a pause; they fit the buffer.
const BATCH: u64 = 1000;
/// After this long something hangs.
const GUARD: Duration = Duration::from_secs(120);

#[test]
fn a_publish_through_a_topic_allocates_nothing() {
    published(async |shard: &Shard, messages| {
        let topic = shard.topic("orders.42").unwrap();
        batches(shard, messages, || topic.publish(b"sixteen bytes ok").unwrap()).await
    });
}

#[test]
fn a_publish_by_name_allocates_nothing() {
    published(async |shard: &Shard, messages| {
        batches(shard, messages, || shard.publish("orders.42", b"sixteen bytes ok").unwrap()).await
    });
}

#[test]
fn a_literal_handler_allocates_nothing_for_a_message() {
    received("orders.42", |_| {});
}

#[test]
fn a_literal_handler_that_looks_allocates_nothing_for_a_message() {
    received("orders.42", look);
}

#[test]
fn a_wildcard_handler_allocates_nothing_for_a_message() {
    received("orders.*", |_| {});
}

#[test]
fn a_wildcard_handler_that_looks_allocates_nothing_for_a_message() {
    received("orders.*", look);
}

#[test]
fn a_ring_lookup_allocates_nothing() {
    let _alone = alone();
    let table = ["c1", "c2", "c3"]
        .iter()
        .fold(ClusterRing::builder(), |builder, name| builder.member(name, CLUSTER_UNITS))
        .build_table()
        .unwrap();
    let topics: Vec<String> = (0..1000).map(|n| format!("orders.{n}")).collect();
    let mut owned = [0_u64; 3];
    let before = allocations();
    for topic in &topics {
        owned[table.owner(black_box(topic.as_bytes()))] += 1;
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!(owned.iter().sum::<u64>(), 1000);
    assert!(owned.iter().all(|&count| count > 0), "{owned:?}");
}

fn look(view: &MessageView<'_>) {
    assert_eq!(view.topic().as_bytes(), b"orders.42");
    assert_eq!(black_box(view.payload()), b"sixteen bytes ok");
}

/// Publishes in batches, with room for each, and returns the allocations of the publishes alone.
async fn batches(shard: &Shard, messages: u64, mut publish: impl FnMut()) -> u64 {
    let mut allocated = 0;
    for _ in 0..messages / BATCH {
        let before = allocations();
        for _ in 0..BATCH {
            publish();
        }
        allocated += allocations() - before;
        while shard.stats().links[0].queued_bytes > 0 {
            shard.sleep(Duration::from_micros(100)).await;
        }
    }
    allocated
}

/// After a warm-up no publish allocates, however many there are.
fn published<F>(publish: F)
where
    F: AsyncFn(&Shard, u64) -> u64 + Clone + Send + 'static,
{
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async move |shard: Shard| {
        publish(&shard, MESSAGES).await;
        let short = publish(&shard, MESSAGES).await;
        let long = publish(&shard, 4 * MESSAGES).await;
        println!("publish: {short} allocations in {MESSAGES} messages, {long} in {}", 4 * MESSAGES);
        // The buffer grows to the longest batch that the machine's load let gather; it doubles, so not often.
        assert!(
            short + long <= 16,
            "{short} allocations in {MESSAGES} messages, {long} in four times as many"
        );
        shard.flush().await.unwrap();
        assert_eq!(shard.stats().links[0].processed, 6 * MESSAGES);
    });
}

/// Floods a handler, and counts everything that the shard's thread allocates meanwhile.
fn received(pattern: &'static str, handle: impl Fn(&MessageView<'_>) + Clone + Send + 'static) {
    let _alone = alone();
    let server = ScriptedServer::start(|_, stream| {
        let mut sid = String::new();
        serve_politely(stream, 1 << 20, |sent, to| match sent {
            Sent::Subscribe { sid: new } => {
                sid = new;
                Ok(())
            }
            Sent::Publish { payload, .. } => {
                flood(to, &sid, str::from_utf8(&payload).unwrap().parse().unwrap())
            }
            _ => Ok(()),
        })
    });
    let mut builder = Node::builder().cluster("c1", [server.url()]);
    // The flood answers no PING before it is over.
    builder.config_mut().connection.ping_interval = GUARD;
    on_one_shard(builder, async move |shard: Shard| {
        let flood = Rc::new(Flood::default());
        let counted = Rc::clone(&flood);
        let _guard = shard
            .subscribe_with(pattern, move |view| {
                handle(&view);
                counted.count();
            })
            .await
            .unwrap();
        flood.run(&shard, MESSAGES).await;
        let (short, short_turns) = flood.run(&shard, MESSAGES).await;
        let (long, long_turns) = flood.run(&shard, 4 * MESSAGES).await;
        println!(
            "{pattern}: {short} allocations in {MESSAGES} messages and {short_turns} reads, {long} in {} and {long_turns}",
            4 * MESSAGES
        );
        // A turn that uses its time up arms a timer, which glommio allocates; turns take many messages.
        assert!(short <= MESSAGES / 100, "{short} allocations in {MESSAGES} messages");
        assert!(long <= 4 * MESSAGES / 100, "{long} allocations in {} messages", 4 * MESSAGES);
    });
}

/// Sends a subscription so many messages.
fn flood(to: &mut TcpStream, sid: &str, messages: u64) -> std::io::Result<()> {
    let message = format!("MSG orders.42 {sid} 16\r\nsixteen bytes ok\r\n");
    let batch = message.repeat(BATCH as usize);
    (0..messages / BATCH).try_for_each(|_| to.write_all(batch.as_bytes()))
}

/// Counts messages in the handler, and wakes who waits for the last.
#[derive(Default)]
struct Flood {
    received: Cell<u64>,
    awaited: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Flood {
    fn count(&self) {
        self.received.set(self.received.get() + 1);
        if self.received.get() == self.awaited.get()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Has the server send so many messages, and returns the shard's allocations and reads meanwhile.
    async fn run(&self, shard: &Shard, messages: u64) -> (u64, u64) {
        let reads = shard.stats().links[0].reads;
        self.awaited.set(self.received.get() + messages);
        let before = allocations();
        shard.publish("go", messages.to_string()).unwrap();
        poll_fn(|cx| {
            if self.received.get() == self.awaited.get() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        (allocations() - before, shard.stats().links[0].reads - reads)
    }
}

fn on_one_shard<F>(mut builder: Builder, test: F)
where
    F: AsyncFnOnce(Shard) + Clone + Send + 'static,
{
    builder.config_mut().shards.pin = false;
    let app = async |shard: Shard| -> Result<(), BoxError> {
        shard.timeout(GUARD, test(shard.clone())).await?;
        Ok(())
    };
    builder.shards(1).run(app).unwrap();
}
