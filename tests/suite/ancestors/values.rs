//! R5, R10, R11: bad values are refused one by one, and harm nobody.

use std::time::Duration;

use croupier::{Headers, Node, PublishError, RequestError, Shard, SubscribeError, testing::LocalCluster};

use crate::{
    recording_proxy::RecordingProxy,
    rig::{Rig, configured, guarded, peer, text},
};

const TWO_MB: usize = 2_000_000;
const SERVER_MAX: usize = 1 << 20;

/// What neither a subject nor a queue group may be.
const FORBIDDEN: [&str; 9] = [
    "",
    "with blank",
    " leading",
    "trailing ",
    "with\ttab",
    "r11\r\nPUB injected 0\r\n\r\n",
    "r11\nPUB injected 0\n\n",
    "r11\rinjected",
    "with\0nul",
];
/// What only a subject may not be.
const EMPTY_TOKENS: [&str; 4] = [".", ".front", "end.", "mid..dle"];
/// What may not be published to.
const WILDCARDS: [&str; 5] = ["*", ">", "a.*", "a.>", "a.*.b"];
/// What may not be subscribed to either.
const MISPLACED: [&str; 4] = ["a*", "a.>.b", ">a", "a.b*c.d"];

/// The bad value has done nothing: one connection, no complaint of the server, and messages pass.
async fn assert_unharmed(shard: &Shard) {
    let mut sane = shard.subscribe("sane").await.unwrap();
    shard.publish("sane", "goes on").unwrap();
    assert_eq!(text(sane.next().await.unwrap().payload()), "goes on");
    for link in shard.stats().links {
        assert_eq!((link.connects, link.disconnects, link.server_errors), (1, 0, 0), "{link:?}");
    }
}

#[test]
fn r5_bad_values_are_typed_errors_and_the_connection_survives() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            assert_unharmed(&shard).await;
            let accepted = shard.stats().link("c1").unwrap().accepted;
            let cluster = shard.cluster_of("any");
            for topic in FORBIDDEN.into_iter().chain(EMPTY_TOKENS).chain(WILDCARDS).chain(MISPLACED) {
                let refused = |outcome: Result<(), PublishError>| {
                    assert!(matches!(outcome, Err(PublishError::InvalidTopic(_))), "{topic:?}: {outcome:?}");
                };
                refused(shard.publish(topic, "x"));
                refused(shard.publish_with_headers(topic, &Headers::new(), "x"));
                refused(shard.publish_wait(topic, "x").await);
                refused(shard.publish_to(&cluster, topic, "x"));
                assert!(shard.topic(topic).is_err(), "{topic:?}");
                let asked = shard.request(topic, "x").await;
                assert!(matches!(asked, Err(RequestError::InvalidTopic(_))), "{topic:?}: {asked:?}");
            }
            for topic in FORBIDDEN.into_iter().chain(EMPTY_TOKENS).chain(MISPLACED) {
                let refused = |error: SubscribeError| {
                    assert!(matches!(error, SubscribeError::InvalidTopic(_)), "{topic:?}: {error:?}");
                    assert!(!error.is_retryable());
                };
                refused(shard.subscribe(topic).await.unwrap_err());
                refused(shard.subscribe_unconfirmed(topic).unwrap_err());
                refused(shard.queue_subscribe(topic, "crew").await.unwrap_err());
                refused(shard.subscribe_with(topic, |_| {}).await.unwrap_err());
            }
            for group in FORBIDDEN {
                let error = shard.queue_subscribe("topic", group).await.unwrap_err();
                assert!(matches!(error, SubscribeError::InvalidTopic(_)), "{group:?}: {error:?}");
            }
            let too_long = "x".repeat(1 << 20);
            assert!(matches!(shard.publish(&too_long, ""), Err(PublishError::InvalidTopic(_))));
            assert!(matches!(shard.subscribe(&too_long).await, Err(SubscribeError::InvalidTopic(_))));
            assert_eq!(shard.stats().link("c1").unwrap().accepted, accepted, "nothing was taken");
            assert_unharmed(&shard).await;
        })
        .await;
        for topic in FORBIDDEN.into_iter().chain(EMPTY_TOKENS).chain(WILDCARDS) {
            let outcome = rig.handle().publish(topic, "x");
            assert!(matches!(outcome, Err(PublishError::InvalidTopic(_))), "{topic:?}: {outcome:?}");
            let asked = rig.handle().request(topic, "x").await;
            assert!(matches!(asked, Err(RequestError::InvalidTopic(_))), "{topic:?}: {asked:?}");
        }
        for topic in FORBIDDEN.into_iter().chain(EMPTY_TOKENS).chain(MISPLACED) {
            let subscribed = rig.handle().subscribe(topic).await;
            assert!(matches!(subscribed, Err(SubscribeError::InvalidTopic(_))), "{topic:?}: {subscribed:?}");
        }
    });
}

#[test]
fn r10_two_megabytes_are_too_large_by_every_way() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let (sender, asked) = tokio::sync::oneshot::channel();
        rig.on(0, async move |shard| {
            let mut requests = shard.subscribe("r10.rpc").await.unwrap();
            shard.spawn(async move {
                let request = requests.next().await.unwrap();
                let outcome = request.respond(vec![0; TWO_MB]);
                request.respond("small").unwrap();
                sender.send(outcome).unwrap();
            });
        })
        .await;
        // The answer that fits comes; the one that does not was refused where it was made.
        let reply = peer.request("r10.rpc", "".into()).await.unwrap();
        assert_eq!(text(&reply.payload), "small");
        assert_too_large(asked.await.unwrap(), TWO_MB);

        rig.on(0, async |shard| {
            let payload = vec![0; TWO_MB];
            assert_too_large(shard.publish("r10", &payload), TWO_MB);
            assert_too_large(shard.publish("r10", payload.clone()), TWO_MB);
            assert_too_large(shard.publish_wait("r10", &payload).await, TWO_MB);
            assert_too_large(shard.publish_to(&shard.cluster_of("r10"), "r10", &payload), TWO_MB);
            assert_too_large(shard.topic("r10").unwrap().publish(&payload), TWO_MB);
            let asked = shard.request("r10", &payload).await;
            assert!(
                matches!(&asked, Err(RequestError::Publish(PublishError::PayloadTooLarge { .. }))),
                "{asked:?}"
            );
            // The headers count as the server counts them.
            let mut headers = Headers::new();
            headers.insert("A", "b").unwrap();
            let payload = vec![0; SERVER_MAX];
            let total = headers.encoded_len() + payload.len();
            assert_too_large(shard.publish_with_headers("r10", &headers, &payload), total);
            shard.publish_with_headers("r10", &headers, &payload[headers.encoded_len()..]).unwrap();
            shard.publish("r10", &payload).unwrap();
            shard.flush().await.unwrap();
            assert_unharmed(&shard).await;
        })
        .await;
        assert_too_large(rig.handle().publish("r10", vec![0; TWO_MB]), TWO_MB);
    });
}

fn assert_too_large(outcome: Result<(), PublishError>, bytes: usize) {
    let Err(error) = outcome else { panic!("{bytes} bytes were taken") };
    assert!(!error.is_retryable());
    let PublishError::PayloadTooLarge { cluster, payload_bytes, limit_bytes } = error else {
        panic!("{error}")
    };
    assert_eq!((cluster.as_str(), payload_bytes, limit_bytes), ("c1", bytes, SERVER_MAX));
}

#[test]
fn r10_the_servers_limit_holds_where_the_configuration_allows_more() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(configured(servers.builder(), |config| config.limits.max_payload = 8 << 20), 1);
    guarded(async {
        rig.on(0, async |shard| {
            // Connected, so that the server's word is there.
            shard.subscribe("r10").await.unwrap().unsubscribe().await.unwrap();
            assert_too_large(shard.publish("r10", vec![0; TWO_MB]), TWO_MB);
            assert_unharmed(&shard).await;
        })
        .await;
    });
}

#[test]
fn r11_nothing_in_a_topic_a_group_or_a_header_injects_protocol() {
    let servers = LocalCluster::start(1).unwrap();
    let proxy = RecordingProxy::start(&servers.servers(0)[0], Duration::ZERO);
    let builder =
        configured(Node::builder().cluster("c1", [proxy.url()]), |config| config.shards.pin = false);
    let rig = Rig::start(builder, 1);
    guarded(async {
        rig.on(0, async |shard| {
            let mut witness = shard.subscribe(">").await.unwrap();
            for evil in FORBIDDEN {
                let outcome = shard.publish(evil, "x");
                assert!(matches!(outcome, Err(PublishError::InvalidTopic(_))), "{evil:?}: {outcome:?}");
                assert!(shard.subscribe(evil).await.is_err(), "{evil:?}");
                assert!(shard.queue_subscribe("topic", evil).await.is_err(), "{evil:?}");
                assert!(shard.request(evil, "x").await.is_err(), "{evil:?}");
            }
            for evil in ["a\r\nPUB injected 0\r\n\r\n", "a\rb", "a\nb", "a\0b"] {
                let mut headers = Headers::new();
                assert!(headers.insert("Name", evil).is_err(), "{evil:?}");
                assert!(headers.insert(evil, "value").is_err(), "{evil:?}");
                assert!(headers.append("Name", evil).is_err(), "{evil:?}");
                assert!(headers.is_empty());
            }
            // In a payload all of it is what it is: bytes.
            shard.publish("payload", FORBIDDEN[5]).unwrap();
            let message = witness.next().await.unwrap();
            assert_eq!(message.topic(), &"payload");
            assert_eq!(text(message.payload()), FORBIDDEN[5]);
            assert_unharmed(&shard).await;
        })
        .await;
        let sent = proxy.sent_by_clients();
        let subjects: Vec<&str> = sent.lines().filter_map(|line| line.strip_prefix("SUB ")).collect();
        assert!(
            subjects.iter().all(|line| line.starts_with("> ") || line.starts_with("sane ")),
            "{subjects:?}"
        );
        assert_eq!(sent.matches("PUB injected").count(), 1, "only as the payload: {sent}");
    });
}

#[test]
fn r11_a_reply_subject_that_a_peer_made_up_is_checked_before_it_is_answered() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        // The server relays what a client names as the place to answer to, wildcards and all.
        let address = servers.servers(0)[0].trim_start_matches("nats://").to_owned();
        let (sender, mut answered) = tokio::sync::mpsc::unbounded_channel();
        rig.on(0, async move |shard| {
            let mut requests = shard.subscribe("r11.rpc").await.unwrap();
            shard.spawn(async move {
                while let Some(request) = requests.next().await {
                    sender.send((text(request.payload()), request.respond("answer"))).unwrap();
                }
            });
        })
        .await;
        let mut raw = std::net::TcpStream::connect(address).unwrap();
        let lines = [
            "CONNECT {\"verbose\":false}",
            "PUB r11.rpc all.> 1",
            "a",
            "PUB r11.rpc a..b 1",
            "b",
            "PUB r11.rpc good 1",
            "c",
            "",
        ];
        std::io::Write::write_all(&mut raw, lines.join("\r\n").as_bytes()).unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|payload| payload != "c") {
            let (payload, outcome) = answered.recv().await.unwrap();
            match (payload.as_str(), &outcome) {
                ("a" | "b", Err(PublishError::InvalidTopic(_))) | ("c", Ok(())) => seen.push(payload),
                _ => panic!("{payload:?}: {outcome:?}"),
            }
        }
        assert!(seen.len() > 1, "the server relays at least one of the bad ones: {seen:?}");
        rig.on(0, async |shard| assert_unharmed(&shard).await).await;
    });
}
