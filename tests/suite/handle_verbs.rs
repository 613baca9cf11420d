//! What an application on tokio does through the handle: everything that a shard can, by way of one.

use std::time::Duration;

use croupier::{
    Headers, PublishError, RequestError, SubscribeOptions, config::SlowSubscriberPolicy,
    testing::LocalCluster,
};
use futures_lite::StreamExt;

use crate::{
    rig::{Rig, configured, guarded, peer, peer_subscribe, settle, text},
    support::GUARD,
};

const SHORT: Duration = Duration::from_millis(30);

fn traced(value: &str) -> Headers {
    let mut headers = Headers::new();
    headers.insert("Trace", value).unwrap();
    headers
}

#[test]
fn the_handle_asks_and_answers_with_headers() {
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        for topic in [rig.topics_on("c1", "ask", 1).remove(0), rig.topics_on("c2", "ask", 1).remove(0)] {
            let handle = rig.handle().clone();
            let mut requests = handle.queue_subscribe(&topic, "workers").await.unwrap();
            let answering = handle.clone();
            let worker = tokio::spawn(async move {
                while let Some(request) = StreamExt::next(&mut requests).await {
                    let headers = request.headers().unwrap();
                    let trace = headers.as_ref().and_then(|headers| headers.get("Trace"));
                    match trace {
                        Some(trace) => answering.respond_with_headers(&request, &traced(trace), "with"),
                        None if request.reply().is_none() => return,
                        None => answering.respond(&request, "without"),
                    }
                    .unwrap();
                }
            });
            let reply = handle.request_with_headers(&topic, &traced("7"), "x").await.unwrap();
            assert_eq!(reply.headers().unwrap().unwrap().get("Trace"), Some("7"));
            assert_eq!(reply.payload(), b"with");
            let reply = handle.request_with_timeout(&topic, "x", GUARD).await.unwrap();
            assert_eq!((reply.payload(), reply.headers().unwrap()), (&b"without"[..], None));
            handle.publish(&topic, "the last").unwrap();
            worker.await.unwrap();
        }
        let silent = rig.handle().subscribe("silent").await.unwrap();
        let error = rig.handle().request_with_timeout("silent", "x", SHORT).await.unwrap_err();
        assert!(matches!(&error, RequestError::Timeout { waited, .. } if *waited == SHORT), "{error}");
        drop(silent);
    });
}

#[test]
fn after_the_handles_flush_the_servers_have_what_it_published() {
    const MESSAGES: usize = 300;
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let handle = rig.handle();
        for number in 0..MESSAGES {
            handle.publish_with_headers(format!("flushed.{number}"), &traced("1"), "x").unwrap();
        }
        handle.flush().await.unwrap();
        let stats = handle.stats();
        let links = || stats.iter().flat_map(|shard| &shard.links);
        assert_eq!(links().map(|link| link.accepted).sum::<u64>(), MESSAGES as u64);
        // What a shard has told of itself is as old as its last turn.
        for (shard, counted) in stats.iter().enumerate() {
            let seen = rig.on(shard, async |shard| shard.stats()).await;
            assert!(seen.links.iter().all(|link| link.processed == link.accepted), "{seen:?} {counted:?}");
        }
        let too_large = vec![0; 1 << 20];
        let error = handle.publish_with_headers("large", &traced("1"), &too_large).unwrap_err();
        assert!(
            matches!(error, PublishError::PayloadTooLarge { payload_bytes, .. } if payload_bytes > 1 << 20),
            "{error}"
        );
    });
}

#[test]
fn a_flush_of_the_handle_names_the_cluster_that_is_down() {
    let mut servers = LocalCluster::start(2).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.subscribe_timeout = Duration::from_millis(300);
        config.limits.drain_timeout = Duration::from_millis(300);
    });
    servers.kill(1, 0).unwrap();
    let rig = Rig::start(builder, 2);
    guarded(async {
        for topic in ["c1", "c2"].map(|cluster| rig.topics_on(cluster, "down", 1).remove(0)) {
            rig.handle().publish(topic, "x").unwrap();
        }
        let error = rig.handle().flush().await.unwrap_err();
        assert_eq!(error.failed, ["c2"]);
    });
}

#[test]
fn a_drained_subscription_of_the_handle_gives_what_has_arrived_and_ends() {
    /// More than is handed over at a time, so that the shard's own queue holds some of it.
    const MESSAGES: usize = 3000;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut subscription = rig.handle().subscribe("drained").await.unwrap();
        for number in 0..MESSAGES {
            peer.publish("drained", number.to_string().into()).await.unwrap();
        }
        settle(&peer).await;
        subscription.drain().await.unwrap();
        peer.publish("drained", "too late".into()).await.unwrap();
        settle(&peer).await;
        let texts: Vec<String> = (&mut subscription).map(|message| text(message.payload())).collect().await;
        assert_eq!(texts, (0..MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>());
        subscription.drain().await.unwrap();
        let error = peer.request("drained", "".into()).await.unwrap_err();
        assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);

        let limited = SubscribeOptions::new().unsubscribe_after(2);
        let mut ended = rig.handle().subscribe_with_options("ended", &limited).await.unwrap();
        for number in 0..3 {
            rig.handle().publish("ended", number.to_string()).unwrap();
        }
        assert_eq!(text(ended.next().await.unwrap().payload()), "0");
        assert_eq!(text(ended.next().await.unwrap().payload()), "1");
        assert!(ended.next().await.is_none());
        ended.drain().await.unwrap();
    });
}

#[test]
fn a_subscription_of_the_handle_may_have_a_small_queue() {
    /// Beyond what is handed over at a time.
    const MESSAGES: u64 = 3000;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let options =
            SubscribeOptions::new().queue_messages(10).on_slow_subscriber(SlowSubscriberPolicy::DropOldest);
        let mut slow = rig.handle().subscribe_with_options("slow", &options).await.unwrap();
        rig.on(0, async |shard| {
            for number in 0..MESSAGES {
                shard.publish_wait("slow", number.to_string()).await.unwrap();
            }
            shard.flush().await.unwrap();
        })
        .await;
        let lagged = rig.on(0, async |shard| shard.stats().links[0].lagged).await;
        assert!(lagged > 0);
        let mut last = String::new();
        for _ in 0..MESSAGES - lagged {
            last = text(slow.next().await.unwrap().payload());
        }
        assert_eq!(last, (MESSAGES - 1).to_string());
        assert_eq!(slow.lagged(), lagged);
    });
}

#[test]
fn a_reply_subject_of_ones_own_is_heard_with_a_wildcard() {
    let servers = LocalCluster::start(3).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        for index in 0..3 {
            let peer = peer(&servers.servers(index)).await;
            let topic = rig.topics_on(&format!("c{}", index + 1), "own", 1).remove(0);
            let mut asked = peer_subscribe(&peer, &topic).await;
            let answer = tokio::spawn(async move {
                let request = asked.next().await.unwrap();
                peer.publish(request.reply.unwrap(), "answered".into()).await.unwrap();
                settle(&peer).await;
            });
            rig.on(0, async move |shard| {
                let mut answers = shard.subscribe("answers.*").await.unwrap();
                shard.publish_with_reply(&topic, "answers.1", "?").unwrap();
                let message = shard.timeout(GUARD, answers.next()).await.unwrap().unwrap();
                assert_eq!(
                    (message.payload(), message.cluster()),
                    (&b"answered"[..], shard.cluster_of(&topic))
                );
                assert!(shard.publish_with_reply(&topic, "answers.*", "?").is_err());
            })
            .await;
            answer.await.unwrap();
        }
    });
}
