//! R3, R4: what a dead cluster costs.

use std::time::{Duration, Instant};

use croupier::{PublishError, testing::LocalCluster};

use crate::rig::{Rig, configured, guarded, text};

/// The kernel's unit of CPU time in `/proc`, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of the calling thread, in ticks.
fn thread_cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The thread's name stands in parentheses, and may hold blanks.
    let after_name = &stat[stat.rfind(')').unwrap() + 1..];
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // User and system time, fields 14 and 15 of the line.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn r3_a_dead_cluster_costs_few_tries_and_little_cpu() {
    const SHARDS: usize = 2;
    const TRIES_PER_SECOND_MAX: f64 = 10.0;
    let mut servers = LocalCluster::start(1).unwrap();
    servers.kill(0, 0).unwrap();
    // Without the bound of the node this would be a hundred tries a second and more.
    let builder = configured(servers.builder(), |config| {
        config.connection.reconnect.base = Duration::from_millis(1);
        config.connection.reconnect.max = Duration::from_millis(10);
    });
    let rig = Rig::start(builder, SHARDS);
    guarded(async {
        for shard in 0..SHARDS {
            rig.on(shard, async |shard| shard.publish("r3", "waits").unwrap()).await;
        }
        let tries = || {
            rig.handle()
                .stats()
                .iter()
                .map(|shard| shard.link("c1").map_or(0, |link| link.tries))
                .sum::<u64>()
        };
        let cpu_ticks = async || {
            let mut ticks = 0;
            for shard in 0..SHARDS {
                ticks += rig.on(shard, async |_| thread_cpu_ticks()).await;
            }
            ticks
        };
        let begun = Instant::now();
        let (tries_before, ticks_before) = (tries(), cpu_ticks().await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (tries, ticks) = (tries() - tries_before, cpu_ticks().await - ticks_before);
        let seconds = begun.elapsed().as_secs_f64();
        assert!((tries as f64) <= TRIES_PER_SECOND_MAX * seconds, "{tries} tries in {seconds:.1} s");
        assert!(tries >= 3, "it does try: {tries} tries in {seconds:.1} s");
        let cores = ticks as f64 / TICKS_PER_SECOND / seconds;
        assert!(cores < 0.25, "{cores:.2} cores to find that nobody is there");
        let stats = rig.handle().stats();
        assert!(stats.iter().all(|shard| shard.link("c1").unwrap().connects == 0), "{stats:?}");
    });
}

#[test]
fn r4_publishing_to_a_dead_cluster_returns_at_once_with_what_is_wrong() {
    /// One that blocked for a second at each would take hours.
    const PUBLISHES: u64 = 20_000;
    const BUFFER_BYTES: usize = 64 << 10;
    let mut servers = LocalCluster::start(2).unwrap();
    servers.kill(0, 0).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.limits.publish_buffer = BUFFER_BYTES;
        config.connection.reconnect.max = Duration::from_millis(100);
    });
    let rig = Rig::start(builder, 1);
    guarded(async {
        let dead = rig.topics_on("c1", "r4", 1).remove(0);
        let alive = rig.topics_on("c2", "r4", 1).remove(0);
        let mut on_alive = rig.subscribe(0, &alive).await;
        let topic = dead.clone();
        let taken = rig
            .on(0, async move |shard| {
                let mut taken = 0;
                for number in 0..PUBLISHES {
                    match shard.publish(&topic, number.to_string()) {
                        Ok(()) => {
                            assert_eq!(taken, number, "after the first refusal nothing fits");
                            taken += 1;
                        }
                        Err(error @ PublishError::Busy { .. }) => {
                            assert!(error.is_retryable());
                            let PublishError::Busy { cluster, queued_bytes, limit_bytes, needed_bytes } =
                                error
                            else {
                                unreachable!()
                            };
                            assert_eq!((cluster.as_str(), limit_bytes), ("c1", BUFFER_BYTES));
                            assert!(queued_bytes <= limit_bytes && queued_bytes + needed_bytes > limit_bytes);
                        }
                        Err(error) => panic!("publish {number}: {error}"),
                    }
                    // Sometimes the link's task gets its turn in between.
                    if number % 1000 == 0 {
                        shard.sleep(Duration::ZERO).await;
                    }
                }
                let stats = shard.stats();
                let link = stats.link("c1").unwrap();
                assert_eq!((link.accepted, link.rejected, link.queued), (taken, PUBLISHES - taken, taken));
                taken
            })
            .await;
        assert!(taken > 0 && taken < PUBLISHES, "{taken} messages fit");

        rig.handle().publish(&alive, "unhindered").unwrap();
        assert_eq!(on_alive.texts(1).await, ["unhindered"]);

        // What was taken is delivered, whole and in order, when the cluster is there.
        let (subscribed, is_subscribed) = tokio::sync::oneshot::channel();
        let delivered = rig.on(0, async move |shard| {
            let mut seen = shard.subscribe_unconfirmed(&dead).unwrap();
            subscribed.send(()).unwrap();
            for number in 0..taken {
                assert_eq!(text(seen.next().await.unwrap().payload()), number.to_string());
            }
            shard.flush().await.unwrap();
            let stats = shard.stats();
            let link = stats.link("c1").unwrap();
            assert_eq!((link.processed, link.queued, link.in_doubt, link.discarded), (taken, 0, 0, 0));
        });
        let restarted = async {
            // The queue goes out as soon as the server is back, and the SUB goes ahead of it.
            is_subscribed.await.unwrap();
            servers.restart(0, 0).unwrap();
        };
        tokio::join!(delivered, restarted);
    });
}
