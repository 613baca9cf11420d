//! Croupier and async-nats as each other's peers, on the same servers.

use std::{collections::BTreeSet, env, path::Path, process::Command, time::Duration};

use async_nats::{HeaderMap, RequestErrorKind};
use croupier::{Headers, RequestError, testing::LocalCluster};
use futures_lite::StreamExt;

use crate::{
    rig::{Rig, answer_in_capitals, guarded, peer, peer_subscribe, settle, text},
    support::permit,
};

/// The beginning of the version that the servers must have; set for a run against another server.
const VERSION_VARIABLE: &str = "CROUPIER_INTEROP_VERSION";
const DEBIAN_VARIABLE: &str = "CROUPIER_NATS_SERVER_DEBIAN";
const DEBIAN_VERSION: &str = "2.9.";

fn start_servers(clusters: usize) -> LocalCluster {
    let servers = LocalCluster::start(clusters).unwrap();
    if let Ok(version) = env::var(VERSION_VARIABLE) {
        assert!(
            servers.server_version().starts_with(&version),
            "{} is no {version}",
            servers.server_version()
        );
    }
    servers
}

/// Payloads of all kinds: empty, every byte, line ends, long, as long as may be.
fn payloads() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        b"plain".to_vec(),
        (0..=255).collect(),
        b"\r\nMSG x 1 3\r\nabc\r\n".to_vec(),
        vec![b'k'; 64 << 10],
        (0..1 << 20).map(|index| (index % 251) as u8).collect(),
        b"last".to_vec(),
    ]
}

#[test]
fn what_croupier_publishes_async_nats_receives() {
    let servers = start_servers(1);
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut subscriber = peer_subscribe(&peer, "to.peer").await;
        rig.on(0, async |shard| {
            for payload in payloads() {
                shard.publish("to.peer", payload).unwrap();
            }
            shard.flush().await.unwrap();
        })
        .await;
        for expected in payloads() {
            let message = subscriber.next().await.unwrap();
            assert_eq!(message.subject.as_str(), "to.peer");
            assert!(message.payload == expected, "{} bytes differ", expected.len());
            assert!(message.reply.is_none() && message.headers.is_none());
        }
    });
}

#[test]
fn what_async_nats_publishes_croupier_receives() {
    let servers = start_servers(1);
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut inlet = rig.subscribe(0, "from.*").await;
        for payload in payloads() {
            peer.publish("from.peer", payload.into()).await.unwrap();
        }
        for expected in payloads() {
            let message = inlet.next().await;
            assert_eq!(message.topic(), &"from.peer");
            assert!(message.payload() == expected, "{} bytes differ", expected.len());
            assert!(message.reply().is_none());
            assert!(message.headers().unwrap().is_none());
        }
    });
}

#[test]
fn headers_pass_both_ways() {
    let servers = start_servers(1);
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut subscriber = peer_subscribe(&peer, "headed.to").await;
        let mut inlet = rig.subscribe(0, "headed.from").await;

        rig.on(0, async |shard| {
            let mut headers = Headers::new();
            headers.append("Trace", "one").unwrap();
            headers.append("Trace", "two: with a colon").unwrap();
            headers.append("Content-Type", "text/plain").unwrap();
            shard.publish_with_headers("headed.to", &headers, "body").unwrap();
            shard.publish_with_headers("headed.to", &headers, "").unwrap();
        })
        .await;
        for body in ["body", ""] {
            let message = subscriber.next().await.unwrap();
            assert_eq!(text(&message.payload), body);
            let headers = message.headers.unwrap();
            let traces: Vec<&str> = headers.get_all("Trace").map(AsRef::as_ref).collect();
            assert_eq!(traces, ["one", "two: with a colon"]);
            assert_eq!(headers.get("Content-Type").map(AsRef::as_ref), Some("text/plain"));
        }

        for body in ["body", ""] {
            let mut headers = HeaderMap::new();
            headers.append("Trace", "three");
            headers.append("Trace", "four");
            peer.publish_with_headers("headed.from", headers, body.into()).await.unwrap();
            let message = inlet.next().await;
            assert_eq!(text(message.payload()), body);
            let headers = message.headers().unwrap().unwrap();
            assert_eq!(headers.get_all("Trace").collect::<Vec<_>>(), ["three", "four"]);
        }
    });
}

#[test]
fn a_queue_group_has_members_of_both_kinds() {
    const MESSAGES: usize = 400;
    let servers = start_servers(1);
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let mut peer_member = peer.queue_subscribe("work", "crew".to_owned()).await.unwrap();
        let mut peer_plain = peer_subscribe(&peer, "work").await;
        let mut plain = rig.subscribe(0, "work").await;
        let (sender, mut member) = tokio::sync::mpsc::unbounded_channel();
        rig.on(0, async move |shard| {
            let mut member = shard.queue_subscribe("work", "crew").await.unwrap();
            shard.spawn(async move {
                while let Some(message) = member.next().await {
                    sender.send(text(message.payload())).unwrap();
                }
            });
        })
        .await;

        // Half from each side.
        rig.on(0, async |shard| {
            for number in 0..MESSAGES / 2 {
                shard.publish("work", number.to_string()).unwrap();
            }
        })
        .await;
        for number in MESSAGES / 2..MESSAGES {
            peer.publish("work", number.to_string().into()).await.unwrap();
        }

        let all: BTreeSet<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(plain.texts(MESSAGES).await.into_iter().collect::<BTreeSet<_>>(), all);
        let mut seen = BTreeSet::new();
        for _ in 0..MESSAGES {
            seen.insert(text(&peer_plain.next().await.unwrap().payload));
        }
        assert_eq!(seen, all);

        let (mut here, mut there) = (Vec::new(), Vec::new());
        while here.len() + there.len() < MESSAGES {
            tokio::select! {
                message = member.recv() => here.push(message.unwrap()),
                message = peer_member.next() => there.push(text(&message.unwrap().payload)),
            }
        }
        assert!(!here.is_empty() && !there.is_empty(), "{} here, {} there", here.len(), there.len());
        let shared: BTreeSet<String> = here.into_iter().chain(there).collect();
        assert_eq!(shared, all, "each to one member");
    });
}

#[test]
fn async_nats_asks_and_croupier_answers() {
    let servers = start_servers(1);
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        let error = peer.request("rpc.upper", "early".into()).await.unwrap_err();
        assert_eq!(error.kind(), RequestErrorKind::NoResponders);
        rig.on(0, async |shard| {
            // One responder of each kind; the requests go to both topics.
            let mut requests = shard.subscribe("rpc.upper").await.unwrap();
            shard.spawn(async move {
                while let Some(request) = requests.next().await {
                    request.respond(request.payload().to_ascii_uppercase()).unwrap();
                }
            });
            let guard = shard
                .subscribe_with("rpc.lower", |request| {
                    request.respond(request.payload().to_ascii_lowercase()).unwrap();
                })
                .await
                .unwrap();
            shard.spawn(async move {
                std::future::pending::<()>().await;
                drop(guard);
            });
        })
        .await;
        for number in 0..100 {
            let reply = peer.request("rpc.upper", format!("Ask {number}").into()).await.unwrap();
            assert_eq!(text(&reply.payload), format!("ASK {number}"));
            let reply = peer.request("rpc.lower", format!("Ask {number}").into()).await.unwrap();
            assert_eq!(text(&reply.payload), format!("ask {number}"));
        }
    });
}

#[test]
fn croupier_asks_and_async_nats_answers() {
    let servers = start_servers(1);
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let peer = peer(&servers.servers(0)).await;
        rig.on(0, async |shard| {
            let error = shard.request("rpc.upper", "early").await.unwrap_err();
            assert!(matches!(&error, RequestError::NoResponders { cluster } if *cluster == "c1"), "{error}");
        })
        .await;
        let requests = peer_subscribe(&peer, "rpc.upper").await;
        answer_in_capitals(&peer, requests, 101);
        let ask = async {
            rig.on(0, async |shard| {
                for number in 0..100 {
                    let reply = shard.request("rpc.upper", format!("ask {number}")).await.unwrap();
                    assert_eq!(text(reply.payload()), format!("ASK {number}"));
                }
                let mut headers = Headers::new();
                headers.insert("Trace", "x").unwrap();
                let reply = shard.request_with_headers("rpc.upper", &headers, "headed").await.unwrap();
                assert_eq!(text(reply.payload()), "HEADED");
            })
            .await;
        };
        ask.await;
    });
}

#[test]
fn replies_find_their_way_on_three_clusters() {
    const TOPICS: usize = 8;
    let servers = start_servers(3);
    let _permit = permit(2);
    let asking = Rig::beside(servers.builder(), 1);
    let answering = Rig::beside(servers.builder(), 1);
    guarded(async {
        for (index, cluster) in ["c1", "c2", "c3"].into_iter().enumerate() {
            // The peer has to go where the topic lives.
            let peer = peer(&servers.servers(index)).await;
            for topic in asking.topics_on(cluster, "rpc", TOPICS) {
                assert_eq!(answering.handle().cluster_of(&topic), cluster, "all nodes agree");
                let subscribed = topic.clone();
                answering
                    .on(0, async move |shard| {
                        let mut requests = shard.subscribe(&subscribed).await.unwrap();
                        shard.spawn(async move {
                            while let Some(request) = requests.next().await {
                                request.respond(format!("{} here", text(request.payload()))).unwrap();
                            }
                        });
                    })
                    .await;
                // Croupier asks Croupier.
                let asked = topic.clone();
                let (payload, from) = asking
                    .on(0, async move |shard| {
                        let reply = shard.request(&asked, "node").await.unwrap();
                        (text(reply.payload()), reply.cluster())
                    })
                    .await;
                assert_eq!((payload.as_str(), from.as_str()), ("node here", cluster));
                // async-nats asks Croupier.
                let reply = peer.request(topic.clone(), "peer".into()).await.unwrap();
                assert_eq!(text(&reply.payload), "peer here");
                // Croupier asks async-nats.
                let topic = format!("{topic}.back");
                let peer = self::peer(&servers.servers(index_of(&asking, &topic))).await;
                let requests = peer_subscribe(&peer, &topic).await;
                answer_in_capitals(&peer, requests, 1);
                let reply = asking.handle().request(&topic, "handle").await.unwrap();
                assert_eq!(text(reply.payload()), "HANDLE");
            }
        }
    });
}

fn index_of(rig: &Rig, topic: &str) -> usize {
    let cluster = rig.handle().cluster_of(topic);
    cluster.as_str().trim_start_matches('c').parse::<usize>().unwrap() - 1
}

#[test]
fn a_responder_asks_on_another_cluster_before_it_answers() {
    let servers = start_servers(3);
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let chain: Vec<String> =
            ["c1", "c2", "c3"].iter().map(|cluster| rig.topics_on(cluster, "chain", 1).remove(0)).collect();
        for (at, topic) in chain.clone().into_iter().enumerate() {
            let next = chain.get(at + 1).cloned();
            rig.on(at % 2, async move |shard| {
                let mut requests = shard.subscribe(&topic).await.unwrap();
                shard.clone().spawn(async move {
                    while let Some(request) = requests.next().await {
                        let rest = match &next {
                            Some(next) => {
                                text(shard.request(next, request.payload()).await.unwrap().payload())
                            }
                            None => text(request.payload()),
                        };
                        request.respond(format!("{rest}, {}", request.cluster())).unwrap();
                    }
                });
            })
            .await;
        }
        let peer = peer(&servers.servers(0)).await;
        for _ in 0..20 {
            let reply = peer.request(chain[0].clone(), "through".into()).await.unwrap();
            assert_eq!(text(&reply.payload), "through, c3, c2, c1");
        }
        settle(&peer).await;
    });
}

/// Debian's server, if this machine has it.
fn debians_server() -> Option<String> {
    let named = env::var(DEBIAN_VARIABLE).ok();
    let candidates = [named.clone(), Some("/usr/sbin/nats-server".to_owned())];
    let found = candidates.into_iter().flatten().find(|path| {
        let version = Path::new(path).is_file().then(|| Command::new(path).arg("--version").output().ok());
        version.flatten().is_some_and(|output| text(&output.stdout).contains(&format!("v{DEBIAN_VERSION}")))
    });
    assert!(
        found.is_some() || named.is_none(),
        "{DEBIAN_VARIABLE} is {named:?}, which is no {DEBIAN_VERSION}x"
    );
    found
}

#[test]
fn all_of_this_holds_on_debians_server_too() {
    if env::var(VERSION_VARIABLE).is_ok() {
        return; // This is the run that another one has started.
    }
    let Some(server) = debians_server() else {
        eprintln!("SKIPPED: no nats-server {DEBIAN_VERSION}x in {DEBIAN_VARIABLE} or /usr/sbin/nats-server");
        return;
    };
    // The run has at most two shards at a time, which count here.
    let _permit = permit(2);
    let mut run = Command::new(env::current_exe().unwrap())
        .args(["interop::", "cluster_of_two::", "--test-threads=1"])
        .env("NATS_SERVER", server)
        .env(VERSION_VARIABLE, DEBIAN_VERSION)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = guarded(async {
        loop {
            match run.try_wait().unwrap() {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let mut told = Vec::new();
    std::io::Read::read_to_end(&mut run.stdout.take().unwrap(), &mut told).unwrap();
    assert!(status.success(), "{}", text(&told));
    assert!(!text(&told).contains(" 0 passed"), "{}", text(&told));
}
