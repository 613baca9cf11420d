//! Requests that several answer: what ends the replies, and what comes after that.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use croupier::{
    Event, Headers, Node, RepliesEnd, RequestError, RequestManyOptions, Shard, testing::LocalCluster,
};
use futures_lite::{StreamExt, future};

use crate::{
    links::event,
    rig::{Rig, configured, guarded, text},
    scripted::{ScriptedServer, info, read_operation},
    support::{GUARD, TestNode, permit, wait_on},
};

const SHORT: Duration = Duration::from_millis(30);
/// Long enough that replies which are sent together never lie so far apart.
const SILENCE: Duration = Duration::from_secs(1);

/// A task that answers each request on a topic with these payloads, one after the other.
async fn answer(shard: &Shard, topic: &'static str, payloads: &'static [&'static str]) {
    let mut requests = shard.subscribe(topic).await.unwrap();
    shard.spawn(async move {
        while let Some(request) = requests.next().await {
            for payload in payloads {
                request.respond(*payload).unwrap();
            }
        }
    });
}

fn options() -> RequestManyOptions {
    RequestManyOptions::new().timeout(GUARD)
}

/// Takes all replies, none of which is an error.
async fn all(replies: &mut croupier::Replies) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(reply) = replies.next().await {
        texts.push(text(reply.unwrap().payload()));
    }
    texts
}

#[test]
fn a_count_ends_the_replies_and_later_ones_are_stray() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            for _ in 0..3 {
                answer(&shard, "count", &["here"]).await;
            }
            for round in 1..20_u64 {
                let mut replies = shard.request_many("count", "who?", &options().replies(2)).await.unwrap();
                assert_eq!(all(&mut replies).await, ["here", "here"]);
                assert_eq!(replies.end(), Some(RepliesEnd::Count));
                assert!(replies.next().await.is_none(), "it stays ended");
                wait_on(&shard, "the third reply", || {
                    (shard.stats().link("c1").unwrap().stray == round).then_some(())
                })
                .await;
            }
            // Of none that are awaited there is none, though the request is sent and answered.
            let mut none = shard.request_many("count", "who?", &options().replies(0)).await.unwrap();
            assert!(none.next().await.is_none());
            assert_eq!((none.end(), none.lagged()), (Some(RepliesEnd::Count), 0));
            wait_on(&shard, "its replies", || (shard.stats().link("c1").unwrap().stray == 22).then_some(()))
                .await;
        })
        .await;
    });
}

#[test]
fn more_replies_than_may_wait_are_dropped_counted_and_told_of() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| config.limits.subscriber_queue.messages = 2);
    let node = TestNode::start(builder, 1);
    let mut events = node.handle.events();
    node.on(0, async |shard: Shard| {
        answer(&shard, "much", &["1", "2", "3", "4", "5", "end"]).await;
        let options = options().sentinel("end");
        let mut replies = shard.request_many("much", "?", &options).await.unwrap();
        wait_on(&shard, "the last one", || replies.end()).await;
        assert_eq!(replies.lagged(), 3);
        assert_eq!(all(&mut replies).await, ["1", "2"]);
        assert_eq!(shard.stats().link("c1").unwrap().lagged, 3);
    });
    event(&mut events, "slow asker", |event| match event {
        Event::SlowSubscriber { topic, lagged, shard: 0, .. } => {
            assert_eq!((topic.as_str(), *lagged), ("much", 1));
            Some(())
        }
        _ => None,
    });
    node.end();
}

#[test]
fn a_sentinel_ends_the_replies_and_is_not_handed_out() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            answer(&shard, "empty", &["a", "b", "c", "", "late"]).await;
            let mut replies = shard.request_many("empty", "", &options().sentinel("")).await.unwrap();
            assert_eq!(all(&mut replies).await, ["a", "b", "c"]);
            assert_eq!(replies.end(), Some(RepliesEnd::Sentinel));
            answer(&shard, "word", &["a", "", "end of it"]).await;
            let mut replies = shard.request_many("word", "", &options().sentinel("end of it")).await.unwrap();
            assert_eq!(all(&mut replies).await, ["a", ""]);
            assert_eq!(replies.end(), Some(RepliesEnd::Sentinel));
        })
        .await;
    });
}

#[test]
fn silence_ends_the_replies_but_not_before_the_first() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            answer(&shard, "silence", &["a", "b"]).await;
            let mut replies = shard.request_many("silence", "", &options().silence(SILENCE)).await.unwrap();
            assert_eq!(all(&mut replies).await, ["a", "b"]);
            assert_eq!(replies.end(), Some(RepliesEnd::Silence));
            // One who takes longer for the first than silence may last is waited for.
            let mut requests = shard.subscribe("slow").await.unwrap();
            let slow = shard.clone();
            shard.spawn(async move {
                let request = requests.next().await.unwrap();
                slow.sleep(3 * SHORT).await;
                request.respond("at last").unwrap();
            });
            let mut replies = shard.request_many("slow", "", &options().silence(SHORT)).await.unwrap();
            assert_eq!(all(&mut replies).await, ["at last"]);
            assert_eq!(replies.end(), Some(RepliesEnd::Silence));
        })
        .await;
    });
}

#[test]
fn a_timeout_ends_the_replies_without_an_error() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let _silent = shard.subscribe("timeout").await.unwrap();
            let brief = RequestManyOptions::new().timeout(SHORT);
            let mut replies = shard.request_many("timeout", "", &brief).await.unwrap();
            assert!(replies.next().await.is_none());
            assert_eq!(replies.end(), Some(RepliesEnd::Timeout));
        })
        .await;
    });
}

#[test]
fn nobody_there_and_a_cut_are_the_last_item() {
    let mut servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let (sender, answered) = tokio::sync::oneshot::channel();
        let asked = rig.on(0, async move |shard| {
            let mut replies = shard.request_many("nobody", "", &options()).await.unwrap();
            let error = replies.next().await.unwrap().unwrap_err();
            assert!(matches!(&error, RequestError::NoResponders { cluster } if *cluster == "c1"), "{error}");
            assert!(replies.next().await.is_none());
            assert_eq!(replies.end(), None);

            answer(&shard, "cut", &["one"]).await;
            let mut replies = shard.request_many("cut", "", &options()).await.unwrap();
            assert_eq!(replies.next().await.unwrap().unwrap().payload(), b"one");
            sender.send(()).unwrap();
            let error = replies.next().await.unwrap().unwrap_err();
            assert!(matches!(&error, RequestError::Disconnected { sent: true, .. }), "{error}");
            assert!(replies.next().await.is_none());
            let error = shard.request_many("cut", "", &options()).await.unwrap_err();
            assert!(matches!(&error, RequestError::Disconnected { sent: false, .. }), "{error}");
        });
        let cut = async {
            answered.await.unwrap();
            servers.kill(0, 0).unwrap();
        };
        tokio::join!(asked, cut);
    });
}

#[test]
fn replies_that_are_dropped_free_their_place() {
    /// One more than a link has places.
    const REQUESTS: usize = (1 << 14) + 1;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let _guard = shard.subscribe_with("dropped", |_| {}).await.unwrap();
            for number in 0..REQUESTS {
                drop(shard.request_many("dropped", "", &options()).await.unwrap());
                if number % 4096 == 0 {
                    shard.flush().await.unwrap();
                }
            }
            answer(&shard, "kept", &["still"]).await;
            assert_eq!(shard.request("kept", "").await.unwrap().payload(), b"still");
        })
        .await;
    });
}

#[test]
fn a_tokio_task_asks_many_through_the_handle() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        rig.on(1, async |shard| {
            let mut requests = shard.subscribe("handle").await.unwrap();
            shard.spawn(async move {
                while let Some(request) = requests.next().await {
                    let headers = request.headers().unwrap().unwrap();
                    for payload in ["a", headers.get("Trace").unwrap(), "b"] {
                        request.respond(payload).unwrap();
                    }
                }
            });
        })
        .await;
        let mut headers = Headers::new();
        headers.insert("Trace", "abc").unwrap();
        let options = options().replies(3).headers(headers);
        let handle = rig.handle().clone();
        let asked = tokio::spawn(async move {
            let mut replies = handle.request_many("handle", "", &options).await.unwrap();
            let mut texts = Vec::new();
            while let Some(reply) = StreamExt::next(&mut replies).await {
                texts.push(text(reply.unwrap().payload()));
            }
            (texts, replies.end())
        });
        let (texts, end) = asked.await.unwrap();
        assert_eq!(texts, ["a", "abc", "b"]);
        assert_eq!(end, Some(RepliesEnd::Count));
        let mut nobody = rig.handle().request_many("nobody", "", &RequestManyOptions::new()).await.unwrap();
        let error = nobody.next().await.unwrap().unwrap_err();
        assert!(matches!(error, RequestError::NoResponders { .. }), "{error}");
    });
}

/// A server that maps subjects between accounts may send a reply under another subject than the one that
/// was asked for.
#[test]
fn a_reply_with_a_rewritten_subject_answers_the_only_request_there_is() {
    let _permit = permit(1);
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let server = ScriptedServer::start(move |_, stream| {
        let mut to = stream.try_clone()?;
        to.write_all(info(1 << 20).as_bytes())?;
        let mut from = std::io::BufReader::new(stream);
        let mut inbox = String::new();
        loop {
            match read_operation(&mut from)? {
                crate::scripted::Sent::Ping => to.write_all(b"PONG\r\n")?,
                crate::scripted::Sent::Subscribe { sid } => inbox = sid,
                crate::scripted::Sent::Publish { subject, .. } => {
                    counted.fetch_add(1, Ordering::AcqRel);
                    if subject == "answered" {
                        to.write_all(format!("MSG _R_.rewritten.x {inbox} 2\r\nok\r\n").as_bytes())?;
                    }
                }
                _ => {}
            }
        }
    });
    let mut builder = Node::builder().cluster("c1", [server.url()]);
    builder.config_mut().shards.pin = false;
    let node = TestNode::start(builder, 1);
    node.on(0, async |shard: Shard| {
        for _ in 0..3 {
            let reply = shard.request_with_timeout("answered", "x", GUARD).await.unwrap();
            assert_eq!((reply.payload(), reply.topic().as_bytes()), (&b"ok"[..], &b"_R_.rewritten.x"[..]));
        }
        // With a second one in flight it is not known for whom it is, and it answers neither.
        let first = shard.request_with_timeout("silent", "x", GUARD);
        let second = shard.request_with_timeout("answered", "x", GUARD);
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        assert!(future::poll_once(&mut first).await.is_none());
        assert!(future::poll_once(&mut second).await.is_none());
        wait_on(&shard, "the stray reply", || (shard.stats().link("c1").unwrap().stray == 1).then_some(()))
            .await;
        assert!(future::poll_once(&mut first).await.is_none());
        assert!(future::poll_once(&mut second).await.is_none());
    });
    assert_eq!(asked.load(Ordering::Acquire), 5);
    node.end();
}
