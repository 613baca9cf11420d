//! No shard stays asleep over runnable work, on a busy machine and with a preempt timer that provokes it.

use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use croupier::{Builder, Shard, testing::LocalCluster};
use futures_lite::future::block_on;

use crate::support::{TestNode, permit};

/// How long the traffic lasts.
const LASTS: Duration = Duration::from_secs(10);
/// Threads that do nothing but keep the processors busy.
const BUSY_THREADS: usize = 4;
/// Nodes of two shards each.
const NODES: usize = 2;
/// A shard that has not answered for so long does not do so any more.
const STUCK_AFTER: Duration = Duration::from_secs(10);

#[test]
fn no_shard_stays_stuck_with_a_short_preempt_timer() {
    let stalls =
        traffic("a preempt timer of 200 us", |builder| builder.preempt_timer(Duration::from_micros(200)));
    println!("{stalls} stalls ended by the watchdog");
}

#[test]
fn no_shard_stays_stuck_with_the_default_preempt_timer() {
    traffic("the default preempt timer", |builder| builder);
}

/// Requests between the shards of several nodes, each of which has to be answered. Returns the stalls.
fn traffic(what: &str, adjust: impl Fn(Builder) -> Builder) -> u64 {
    let _permit = permit(2 * NODES);
    let servers = LocalCluster::start(1).unwrap();
    let nodes: Vec<TestNode> = (0..NODES)
        .map(|_| {
            let mut builder = adjust(servers.builder());
            builder.config_mut().limits.request_timeout = STUCK_AFTER;
            TestNode::start(builder, 2)
        })
        .collect();
    let shards: Vec<(usize, usize)> = (0..NODES).flat_map(|node| [(node, 0), (node, 1)]).collect();
    for &(node, shard) in &shards {
        nodes[node].on(shard, async move |shard: Shard| {
            let topic = format!("echo.{node}.{}", shard.id());
            let guard =
                shard.subscribe_with(&topic, |view| view.respond(view.payload()).unwrap()).await.unwrap();
            shard.spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
        });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..BUSY_THREADS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    spin_loop();
                }
            })
        })
        .collect();
    // Each shard asks all of them in turn, by way of its inbox.
    let askers: Vec<_> = shards
        .iter()
        .map(|&(node, shard)| {
            let (answered, answers) = mpsc::channel();
            let (handle, stop, topics) = (nodes[node].handle.clone(), Arc::clone(&stop), shards.clone());
            let asker = thread::spawn(move || {
                for (to_node, to_shard) in topics.into_iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let asked = handle.submit_to(shard, async move |shard: Shard| {
                        let topic = format!("echo.{to_node}.{to_shard}");
                        shard.request(topic, "x").await.map(drop)
                    });
                    // The test may be over.
                    let _heard = answered.send(block_on(asked).unwrap());
                }
            });
            (asker, answers)
        })
        .collect();
    let begun = Instant::now();
    let mut answered = 0_u64;
    while begun.elapsed() < LASTS {
        for ((_, answers), (node, shard)) in askers.iter().zip(&shards) {
            let answer = answers.recv_timeout(STUCK_AFTER);
            let answer = answer.unwrap_or_else(|_| panic!("shard {shard} of node {node} is stuck"));
            answer.unwrap_or_else(|error| panic!("shard {shard} of node {node}: {error}"));
            answered += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (asker, _) in askers {
        asker.join().unwrap();
    }
    for thread in busy {
        thread.join().unwrap();
    }
    let stalls = nodes.iter().flat_map(|node| node.handle.stats()).map(|shard| shard.stalls).sum();
    println!("{what}: {answered} answers in {:?}, {stalls} stalls", begun.elapsed());
    nodes.into_iter().for_each(TestNode::end);
    stalls
}
