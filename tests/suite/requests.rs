//! Requests: every way that one may end, and that none leaves anything behind.

use std::{
    future::Future,
    task::{Context, Poll, Waker},
    time::Duration,
};

use croupier::{Headers, Message, RequestError, Shard, testing::LocalCluster};
use futures_lite::future;

use crate::{
    rig::{Rig, configured, guarded, text},
    support::{GUARD, wait_on},
};

const SHORT: Duration = Duration::from_millis(30);

/// A task that answers every request on a topic with its payload.
async fn echo(shard: &Shard, topic: &'static str) {
    let mut requests = shard.subscribe(topic).await.unwrap();
    shard.spawn(async move {
        while let Some(request) = requests.next().await {
            request.respond(request.payload()).unwrap();
        }
    });
}

#[test]
fn without_a_responder_the_answer_is_that_nobody_is_there() {
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        for cluster in ["c1", "c2"] {
            let topic = rig.topics_on(cluster, "nobody", 1).remove(0);
            rig.on(0, async move |shard| {
                let error = shard.request_with_timeout(&topic, "x", GUARD).await.unwrap_err();
                assert!(
                    matches!(&error, RequestError::NoResponders { cluster: told } if *told == cluster),
                    "{error}"
                );
                assert!(error.is_retryable());
                // One who does not answer, or publishes only, is another matter: it is not nobody.
                let silent = shard.subscribe(&topic).await.unwrap();
                let error = shard.request_with_timeout(&topic, "x", SHORT).await.unwrap_err();
                assert!(matches!(&error, RequestError::Timeout { .. }), "{error}");
                silent.unsubscribe().await.unwrap();
                let error = shard.request_with_timeout(&topic, "x", GUARD).await.unwrap_err();
                assert!(matches!(&error, RequestError::NoResponders { .. }), "{error}");
            })
            .await;
        }
    });
}

#[test]
fn a_late_reply_is_stray_and_answers_no_other_request() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let mut requests = shard.subscribe("late").await.unwrap();
            for round in 0..20_u64 {
                let error = shard.request_with_timeout("late", "first", SHORT).await.unwrap_err();
                let RequestError::Timeout { cluster, waited } = &error else { panic!("{error}") };
                assert_eq!((cluster.as_str(), *waited), ("c1", SHORT));
                assert!(!error.is_retryable(), "somebody may have acted on it");
                let late = requests.next().await.unwrap();
                assert_eq!(late.payload(), b"first");

                // The next request may well take the place that the first has left.
                let answer = async {
                    let second = requests.next().await.unwrap();
                    late.respond("too late").unwrap();
                    second.respond("in time").unwrap();
                };
                let (reply, ()) = future::zip(shard.request("late", "second"), answer).await;
                assert_eq!(reply.unwrap().payload(), b"in time");
                assert_eq!(shard.stats().link("c1").unwrap().stray, round + 1);
            }
        })
        .await;
    });
}

#[test]
fn a_second_reply_to_the_same_request_is_stray() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            echo(&shard, "twice").await;
            echo(&shard, "twice").await;
            for number in 0..20_u64 {
                let reply = shard.request("twice", number.to_string()).await.unwrap();
                assert_eq!(text(reply.payload()), number.to_string());
                shard.flush().await.unwrap();
                assert_eq!(shard.stats().link("c1").unwrap().stray, number + 1);
            }
        })
        .await;
    });
}

#[test]
fn on_a_link_that_is_down_a_request_fails_at_once_and_nothing_is_sent() {
    let mut servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.reconnect.max = Duration::from_millis(100);
    });
    let rig = Rig::start(builder, 1);
    guarded(async {
        let mut inlet = rig.subscribe(0, "down").await;
        servers.kill(0, 0).unwrap();
        rig.until_connected(0, "c1", false).await;
        rig.on(0, async |shard| {
            let accepted = shard.stats().link("c1").unwrap().accepted;
            for _ in 0..100 {
                // With a timeout of this length it would hang, did it wait for anything.
                let error = shard.request_with_timeout("down", "lost", 10 * GUARD).await.unwrap_err();
                let RequestError::Disconnected { cluster, sent } = &error else { panic!("{error}") };
                assert_eq!((cluster.as_str(), *sent), ("c1", false));
                assert!(error.is_retryable());
            }
            assert_eq!(shard.stats().link("c1").unwrap().accepted, accepted);
        })
        .await;
        let error = rig.handle().request("down", "lost").await.unwrap_err();
        assert!(matches!(&error, RequestError::Disconnected { sent: false, .. }), "{error}");

        servers.restart(0, 0).unwrap();
        rig.until_connected(0, "c1", true).await;
        rig.handle().publish("down", "the first to arrive").unwrap();
        assert_eq!(inlet.texts(1).await, ["the first to arrive"]);
    });
}

#[test]
fn the_first_request_waits_for_the_first_try_to_connect() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        rig.on(0, async |shard| echo(&shard, "first").await).await;
        // This shard has no link yet.
        rig.on(1, async |shard| {
            assert!(shard.stats().links.is_empty());
            assert_eq!(shard.request("first", "hello").await.unwrap().payload(), b"hello");
        })
        .await;
    });
}

#[test]
fn a_request_that_is_cut_off_says_that_it_was_sent() {
    let mut servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        let (sender, got) = tokio::sync::oneshot::channel();
        let asked = rig.on(0, async move |shard| {
            let mut requests = shard.subscribe("cut").await.unwrap();
            shard.spawn(async move {
                requests.next().await.unwrap();
                sender.send(()).unwrap();
            });
            shard.request_with_timeout("cut", "x", GUARD).await.map(|_| ()).unwrap_err()
        });
        let cut = async {
            got.await.unwrap();
            servers.kill(0, 0).unwrap();
        };
        let (error, ()) = tokio::join!(asked, cut);
        let RequestError::Disconnected { cluster, sent } = &error else { panic!("{error}") };
        assert_eq!((cluster.as_str(), *sent), ("c1", true));
        assert!(!error.is_retryable());
    });
}

#[test]
fn sixty_four_in_flight_each_get_their_own_reply() {
    const IN_FLIGHT: usize = 64;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let mut requests = shard.subscribe("many").await.unwrap();
            for _ in 0..10 {
                let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
                for number in 0..IN_FLIGHT {
                    let (asking, sender) = (shard.clone(), sender.clone());
                    shard.spawn(async move {
                        let reply = asking.request("many", number.to_string()).await.unwrap();
                        sender.send((number.to_string(), text(reply.payload()))).unwrap();
                    });
                }
                drop(sender);
                // All are in flight before the first is answered, and the last is answered first.
                let mut waiting: Vec<Message> = Vec::new();
                while waiting.len() < IN_FLIGHT {
                    waiting.push(requests.next().await.unwrap());
                }
                while let Some(request) = waiting.pop() {
                    request.respond(request.payload()).unwrap();
                }
                for _ in 0..IN_FLIGHT {
                    let (asked, answered) = replies.recv().await.expect("a task of each request");
                    assert_eq!(asked, answered);
                }
            }
            assert_eq!(shard.stats().link("c1").unwrap().stray, 0);
        })
        .await;
    });
}

#[test]
fn a_request_that_is_dropped_leaves_its_place() {
    /// One more than a link has places.
    const REQUESTS: usize = (1 << 16) + 1;
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let guard = shard.subscribe_with("dropped", |_| {}).await.unwrap();
            let before = shard.stats().link("c1").unwrap().accepted;
            for number in 0..REQUESTS {
                // Polled once, and so sent; then dropped.
                let given_up = future::poll_once(shard.request("dropped", "x")).await;
                assert!(given_up.is_none(), "request {number}: {given_up:?}");
                if number % 4096 == 0 {
                    shard.flush().await.unwrap();
                }
            }
            assert_eq!(shard.stats().link("c1").unwrap().accepted - before, REQUESTS as u64);
            drop(guard);
            echo(&shard, "dropped").await;
            assert_eq!(shard.request("dropped", "still").await.unwrap().payload(), b"still");
        })
        .await;
    });
}

#[test]
fn more_in_flight_than_a_link_has_places_is_a_typed_error() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let guard = shard.subscribe_with("full", |_| {}).await.unwrap();
            let mut in_flight = Vec::new();
            // Nobody is to be woken; the executor's own wakers of one task are limited to 32767.
            let mut context = Context::from_waker(Waker::noop());
            let limit = loop {
                let mut request = Box::pin(shard.request_with_timeout("full", "x", GUARD));
                match request.as_mut().poll(&mut context) {
                    Poll::Pending => in_flight.push(request),
                    Poll::Ready(Err(RequestError::TooMany { cluster, limit })) => {
                        assert_eq!(cluster, "c1");
                        break limit;
                    }
                    Poll::Ready(outcome) => panic!("{outcome:?}"),
                }
                if in_flight.len() % 4096 == 0 {
                    shard.flush().await.unwrap();
                }
            };
            assert_eq!(in_flight.len(), limit);
            drop((in_flight, guard));
            echo(&shard, "full").await;
            assert_eq!(shard.request("full", "again").await.unwrap().payload(), b"again");
        })
        .await;
    });
}

#[test]
fn messages_and_views_respond_with_or_without_a_reply_subject() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let guard = shard
                .subscribe_with("view", |view| {
                    let expected = view.payload() == b"asked";
                    assert_eq!(view.reply().is_some(), expected);
                    view.respond(format!("seen on {} of {}", view.topic(), view.cluster())).unwrap();
                })
                .await
                .unwrap();
            let mut requests = shard.subscribe("message").await.unwrap();
            shard.spawn(async move {
                while let Some(request) = requests.next().await {
                    // The clone answers as well as the message itself.
                    request.clone().respond(format!("seen on {}", request.topic())).unwrap();
                }
            });
            // Without a reply subject an answer is nothing, and no error.
            shard.publish("view", "told").unwrap();
            shard.publish("message", "told").unwrap();
            let reply = shard.request("view", "asked").await.unwrap();
            assert_eq!(text(reply.payload()), "seen on view of c1");
            let reply = shard.request("message", "asked").await.unwrap();
            assert_eq!(text(reply.payload()), "seen on message");
            assert!(!guard.is_ended());
            let accepted = shard.stats().link("c1").unwrap().accepted;
            assert_eq!(accepted, 6, "two messages, two requests, two answers");
        })
        .await;
    });
}

#[test]
fn a_request_carries_headers() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let mut requests = shard.subscribe("headed").await.unwrap();
            shard.spawn(async move {
                while let Some(request) = requests.next().await {
                    let headers = request.headers().unwrap().unwrap();
                    request.respond(headers.get("Trace").unwrap()).unwrap();
                }
            });
            let mut headers = Headers::new();
            headers.insert("Trace", "abc").unwrap();
            let reply = shard.request_with_headers("headed", &headers, "").await.unwrap();
            assert_eq!(reply.payload(), b"abc");
        })
        .await;
    });
}

#[test]
fn a_tokio_thread_asks_through_the_handle() {
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let topics = [rig.topics_on("c1", "handle", 1).remove(0), rig.topics_on("c2", "handle", 1).remove(0)];
        let answered = topics.clone();
        rig.on(1, async move |shard| {
            for topic in answered {
                let mut requests = shard.subscribe(&topic).await.unwrap();
                shard.spawn(async move {
                    while let Some(request) = requests.next().await {
                        request.respond(request.payload().to_ascii_uppercase()).unwrap();
                    }
                });
            }
        })
        .await;
        // Of several threads and tasks at once: the future is `Send`.
        let handle = rig.handle().clone();
        let asking = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for number in 0..64 {
                    let (handle, topic) = (handle.clone(), topics[number % 2].clone());
                    tasks.spawn(async move {
                        let reply = handle.request(&topic, format!("ask {number}")).await.unwrap();
                        assert_eq!(text(reply.payload()), format!("ASK {number}"));
                        assert_eq!(reply.cluster(), handle.cluster_of(&topic));
                    });
                }
                tasks.join_all().await.len()
            })
        });
        let answered = tokio::task::spawn_blocking(move || asking.join().unwrap()).await.unwrap();
        assert_eq!(answered, 64);
        let error = rig.handle().request("handle.nobody.there", "x").await.unwrap_err();
        assert!(matches!(error, RequestError::NoResponders { .. }), "{error}");
    });
}

#[test]
fn a_request_of_which_the_caller_has_gone_does_not_reach_the_next_one() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(servers.builder(), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let mut requests = shard.subscribe("gone").await.unwrap();
            for number in 0..50_u64 {
                assert!(future::poll_once(shard.request("gone", "given up")).await.is_none());
                let given_up = requests.next().await.unwrap();
                let answer = async {
                    let wanted = requests.next().await.unwrap();
                    given_up.respond("for nobody").unwrap();
                    wanted.respond(wanted.payload()).unwrap();
                };
                let (reply, ()) = future::zip(shard.request("gone", number.to_string()), answer).await;
                assert_eq!(text(reply.unwrap().payload()), number.to_string());
                wait_on(&shard, "the stray reply", || {
                    (shard.stats().link("c1").unwrap().stray == number + 1).then_some(())
                })
                .await;
            }
        })
        .await;
    });
}
