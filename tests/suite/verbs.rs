//! The other verbs: publishing by name of the cluster, flush, work for another shard, the handle's own.

use std::time::Duration;

use croupier::{ClusterName, Headers, PublishError, Shard, SubmitError, testing::LocalCluster};
use futures_lite::StreamExt;

use crate::rig::{Rig, configured, guarded, peer, peer_subscribe, text};

#[test]
fn publish_to_names_the_cluster_and_hashes_nothing() {
    let servers = LocalCluster::start(3).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let mut subscribers = Vec::new();
        for index in 0..3 {
            let peer = peer(&servers.servers(index)).await;
            subscribers.push(peer_subscribe(&peer, "named").await);
        }
        rig.on(0, async |shard| {
            for cluster in ["c1", "c2", "c3"] {
                shard.publish_to(&ClusterName::from(cluster), "named", cluster).unwrap();
            }
            let unknown = ClusterName::from("c4");
            let error = shard.publish_to(&unknown, "named", "x").unwrap_err();
            assert!(
                matches!(&error, PublishError::UnknownCluster { cluster } if *cluster == unknown),
                "{error}"
            );
        })
        .await;
        for (index, subscriber) in subscribers.iter_mut().enumerate() {
            assert_eq!(text(&subscriber.next().await.unwrap().payload), format!("c{}", index + 1));
        }
    });
}

#[test]
fn headers_arrive_with_their_message() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let mut inlet = rig.subscribe(0, "headed").await;
        rig.on(0, async |shard| {
            let mut headers = Headers::new();
            headers.append("A", "1").unwrap();
            headers.append("A", "2").unwrap();
            shard.publish_with_headers("headed", &headers, "with").unwrap();
            shard.publish("headed", "without").unwrap();
            shard.publish_with_headers("headed", &Headers::new(), "with none").unwrap();
        })
        .await;
        let message = inlet.next().await;
        let headers = message.headers().unwrap().unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("A", "1"), ("A", "2")]);
        assert_eq!(message.payload(), b"with");
        let message = inlet.next().await;
        assert!(message.headers().unwrap().is_none());
        assert_eq!(message.payload(), b"without");
        let message = inlet.next().await;
        assert!(message.headers().unwrap().is_none_or(|headers| headers.is_empty()));
        assert_eq!(message.payload(), b"with none");
    });
}

#[test]
fn after_a_flush_the_servers_have_processed_everything() {
    const MESSAGES: u64 = 5000;
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            shard.flush().await.unwrap();
            assert!(shard.stats().links.is_empty(), "a flush of nothing connects nowhere");
            for number in 0..MESSAGES {
                shard.publish(format!("flushed.{number}"), "x").unwrap();
            }
            shard.flush().await.unwrap();
            let stats = shard.stats();
            assert_eq!(stats.links.len(), 2);
            for link in &stats.links {
                assert_eq!(link.processed, link.accepted, "{link:?}");
                assert_eq!((link.queued, link.written, link.queued_bytes), (0, 0, 0), "{link:?}");
            }
            assert_eq!(stats.links.iter().map(|link| link.processed).sum::<u64>(), MESSAGES);
        })
        .await;
    });
}

#[test]
fn a_flush_names_the_cluster_that_is_down() {
    const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);
    let mut servers = LocalCluster::start(3).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = FLUSH_TIMEOUT;
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    servers.kill(1, 0).unwrap();
    let rig = Rig::start(builder, 1);
    guarded(async {
        let topics: Vec<String> =
            ["c1", "c2", "c3"].iter().map(|cluster| rig.topics_on(cluster, "flush", 1).remove(0)).collect();
        rig.on(0, async move |shard| {
            for topic in &topics {
                shard.publish(topic, "x").unwrap();
            }
            let error = shard.flush().await.unwrap_err();
            assert_eq!(error.failed, ["c2"]);
            assert_eq!(error.waited, FLUSH_TIMEOUT);
            assert!(error.is_retryable());
            assert!(error.to_string().contains("c2"), "{error}");
            let stats = shard.stats();
            for cluster in ["c1", "c3"] {
                assert_eq!(stats.link(cluster).unwrap().processed, 1);
            }
        })
        .await;
        servers.restart(1, 0).unwrap();
        rig.until_connected(0, "c2", true).await;
        rig.on(0, async |shard| {
            shard.flush().await.unwrap();
            assert_eq!(shard.stats().link("c2").unwrap().processed, 1);
        })
        .await;
    });
}

#[test]
fn publish_wait_waits_for_room_and_loses_nothing() {
    const MESSAGES: usize = 2000;
    let servers = LocalCluster::start(1).unwrap();
    // Room for some twenty messages.
    let rig = Rig::start(configured(servers.builder(), |config| config.limits.publish_buffer = 20 << 10), 1);
    guarded(async {
        let mut inlet = rig.subscribe(0, "patient").await;
        rig.on(0, async |shard| {
            let filling = "x".repeat(1000);
            for number in 0..MESSAGES {
                shard.publish_wait("patient", format!("{number} {filling}")).await.unwrap();
            }
            let error = shard.publish_wait("patient", vec![0; 64 << 10]).await.unwrap_err();
            assert!(matches!(error, PublishError::Busy { .. }), "it never fits: {error}");
        })
        .await;
        for number in 0..MESSAGES {
            assert!(inlet.texts(1).await[0].starts_with(&format!("{number} ")));
        }
    });
}

#[test]
fn work_runs_on_the_shard_it_is_submitted_to() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        for from in 0..2 {
            rig.on(from, async |shard| {
                let here = std::thread::current().id();
                for to in 0..shard.shards() {
                    let (id, there) = shard
                        .submit_to(to, async |on: Shard| (on.id(), std::thread::current().id()))
                        .await
                        .unwrap();
                    assert_eq!(id, to);
                    assert_eq!(there == here, to == shard.id());
                }
                // More than a ring between two shards holds, all at once.
                let other = 1 - shard.id();
                let (sender, mut sums) = tokio::sync::mpsc::unbounded_channel();
                for number in 0..3000_u64 {
                    let (submitting, sender) = (shard.clone(), sender.clone());
                    shard.spawn(async move {
                        let doubled = submitting.submit_to(other, async move |_| 2 * number).await.unwrap();
                        sender.send(doubled).unwrap();
                    });
                }
                drop(sender);
                let mut sum = 0;
                while let Some(doubled) = sums.recv().await {
                    sum += doubled;
                }
                assert_eq!(sum, (0..3000).map(|number| 2 * number).sum::<u64>());
                let error = shard.submit_to(2, async |_| ()).await.unwrap_err();
                assert_eq!(error, SubmitError::UnknownShard { shard: 2, shards: 2 });
            })
            .await;
        }
        let error = rig.handle().submit_to(7, async |_| ()).await.unwrap_err();
        assert_eq!(error, SubmitError::UnknownShard { shard: 7, shards: 2 });
    });
}

#[test]
fn a_panic_in_submitted_work_is_an_error_for_the_caller_alone() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let mut inlet = rig.subscribe(1, "survivor").await;
        rig.on(0, async |shard| {
            for to in 0..2 {
                let error =
                    shard.submit_to(to, async |_| panic!("the work of the test panics")).await.unwrap_err();
                let expected =
                    SubmitError::Panicked { shard: to, message: "the work of the test panics".into() };
                assert_eq!(error, expected);
                assert!(!error.is_retryable());
            }
        })
        .await;
        let error = rig.handle().submit_to(1, async |_| std::panic::panic_any(5)).await.unwrap_err();
        assert!(matches!(error, SubmitError::Panicked { shard: 1, .. }), "{error}");
        rig.handle().publish("survivor", "goes on").unwrap();
        assert_eq!(inlet.texts(1).await, ["goes on"]);
    });
}

#[test]
fn a_stopped_node_answers_with_errors_and_not_with_silence() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let handle = rig.handle().clone();
        let mut subscription = handle.subscribe("stopped").await.unwrap();
        handle.publish("stopped", "before").unwrap();
        assert_eq!(subscription.next().await.unwrap().payload(), b"before");
        rig.stop().await.unwrap();
        assert!(subscription.next().await.is_none(), "the stream ends with the node");
        assert!(matches!(handle.publish("stopped", "x"), Err(PublishError::Disconnected { .. })));
        let asked = handle.request("stopped", "x").await;
        assert!(matches!(asked, Err(croupier::RequestError::Disconnected { sent: false, .. })), "{asked:?}");
        let subscribed = handle.subscribe("stopped").await;
        assert!(matches!(subscribed, Err(croupier::SubscribeError::Disconnected { .. })), "{subscribed:?}");
        let submitted = handle.submit_to(0, async |_| ()).await;
        assert_eq!(submitted, Err(SubmitError::Stopped { shard: 0 }));
        handle.drain().await.unwrap();
    });
}

#[test]
fn the_handles_verbs_work_from_any_thread() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 500;
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let handle = rig.handle().clone();
        let mut wildcard = handle.subscribe("threads.*").await.unwrap();
        assert!(wildcard.unconfirmed().is_empty());
        assert_eq!(wildcard.topic(), &"threads.*");
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let handle = handle.clone();
                std::thread::spawn(move || {
                    let topic = format!("threads.{thread}");
                    // Any executor will do, here the plainest.
                    futures_lite::future::block_on(async {
                        let mut own = handle.subscribe(&topic).await.unwrap();
                        for number in 0..MESSAGES {
                            handle.publish(&topic, number.to_string()).unwrap();
                            // As a stream; the answer comes before the next is sent.
                            let message = StreamExt::next(&mut own).await.unwrap();
                            assert_eq!(text(message.payload()), number.to_string());
                            assert_eq!(message.cluster(), handle.cluster_of(&topic));
                        }
                        assert_eq!(own.lagged(), 0);
                    });
                })
            })
            .collect();
        let mut next = [0; THREADS];
        for _ in 0..THREADS * MESSAGES {
            let message = wildcard.next().await.unwrap();
            let thread: usize =
                text(message.topic().as_bytes()).trim_start_matches("threads.").parse().unwrap();
            assert_eq!(text(message.payload()), next[thread].to_string());
            next[thread] += 1;
        }
        tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| thread.join().unwrap()))
            .await
            .unwrap();

        // Dropped, it unsubscribes, without another message to notice by.
        drop(wildcard);
        rig.on(0, async |shard| {
            loop {
                match shard.request("threads.gone", "x").await {
                    Err(croupier::RequestError::NoResponders { .. }) => break,
                    _ => shard.sleep(Duration::from_millis(1)).await,
                }
            }
        })
        .await;
    });
}

#[test]
fn futures_and_values_of_the_handle_may_change_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_sync<T: Sync>(_: &T) {}
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    let handle = rig.handle().clone();
    is_sync(&handle);
    is_send(&handle.request("a", "b"));
    is_send(&handle.subscribe("a"));
    is_send(&handle.submit_to(0, async |_| ()));
    is_send(&handle.drain());
    guarded(async {
        let mut subscription = handle.subscribe("moved").await.unwrap();
        is_send(&subscription);
        handle.publish("moved", "along").unwrap();
        let moved = tokio::task::spawn_blocking(move || {
            futures_lite::future::block_on(async { subscription.next().await.unwrap().payload().to_vec() })
        });
        assert_eq!(moved.await.unwrap(), b"along");
    });
}
