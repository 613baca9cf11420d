//! How long requests take, on the pages: those with a reply in a histogram, the others counted by reason.

use std::{net::SocketAddr, time::Duration};

use croupier::{RequestError, RequestManyOptions, Shard, testing::LocalCluster};
use serde_json::Value;

use super::{
    client::{get, status},
    page::Page,
};
use crate::{
    rig::configured,
    support::{GUARD, TestNode, permit, wait_for},
};

const SHORT: Duration = Duration::from_millis(30);

/// Answers on one topic, and takes on another without a word.
async fn serve(shard: &Shard) {
    let mut asked = shard.subscribe("asked").await.unwrap();
    let silent = shard.subscribe_with("silent", |_| {}).await.unwrap();
    shard.spawn(async move {
        let _listens = silent;
        while let Some(request) = asked.next().await {
            request.respond("answer").unwrap();
        }
    });
}

/// Waits until what the shard has recorded is on the page.
fn until_answered(address: SocketAddr, count: u64) -> Page {
    wait_for("the shard to hand over", || {
        let page = Page::scrape(address);
        let histogram = page.histogram("croupier_request_duration_seconds", &[("shard", "0")]);
        (histogram.count >= count).then_some(page)
    })
}

#[test]
fn a_request_with_a_reply_is_in_the_histogram_and_each_other_one_among_the_failures() {
    const ANSWERED: u64 = 50;
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let builder = configured(servers.builder(), |config| {
        config.connection.reconnect.max = Duration::from_millis(50);
    });
    let node = TestNode::start(builder.admin_listen("127.0.0.1:0"), 1);
    let address = node.handle.admin_addr().expect("an admin server");
    node.on(0, async |shard: Shard| {
        serve(&shard).await;
        for _ in 1..ANSWERED {
            shard.request("asked", "").await.unwrap();
        }
        // Of many replies the first one counts.
        let one = RequestManyOptions::new().replies(1);
        let mut replies = shard.request_many("asked", "", &one).await.unwrap();
        while let Some(reply) = replies.next().await {
            reply.unwrap();
        }
        let late = shard.request_with_timeout("silent", "", SHORT).await.unwrap_err();
        assert!(matches!(late, RequestError::Timeout { .. }), "{late}");
        let silence = RequestManyOptions::new().timeout(SHORT);
        let mut replies = shard.request_many("silent", "", &silence).await.unwrap();
        assert!(replies.next().await.is_none());
        let nobody = shard.request_with_timeout("nobody", "", GUARD).await.unwrap_err();
        assert!(matches!(nobody, RequestError::NoResponders { .. }), "{nobody}");
        let asking = shard.clone();
        shard.spawn(async move {
            let cut = asking.request_with_timeout("silent", "", 10 * GUARD).await.unwrap_err();
            assert!(matches!(cut, RequestError::Disconnected { sent: true, .. }), "{cut}");
        });
    });
    wait_for("the last request to be sent", || (node.link(0, "c1").requests == ANSWERED + 4).then_some(()));
    servers.kill(0, 0).unwrap();
    wait_for("the cut", || (node.link(0, "c1").requests_cut_off == 1).then_some(()));
    node.on(0, async |shard: Shard| {
        let refused = shard.request_with_timeout("asked", "", GUARD).await.unwrap_err();
        assert!(matches!(refused, RequestError::Disconnected { sent: false, .. }), "{refused}");
    });
    servers.restart(0, 0).unwrap();
    node.connected(0, "c1");

    let page = until_answered(address, ANSWERED);
    let histogram = page.histogram("croupier_request_duration_seconds", &[("shard", "0")]);
    assert_eq!(histogram.count, ANSWERED);
    assert!(histogram.sum_seconds > 0.0 && histogram.sum_seconds < ANSWERED as f64 * GUARD.as_secs_f64());
    assert!(histogram.buckets.is_sorted(), "not cumulative: {histogram:?}");
    assert_eq!(histogram.buckets.last(), Some(&(f64::INFINITY, ANSWERED as f64)));
    assert!(histogram.buckets.len() > 10, "{histogram:?}");
    assert_eq!(page.sum("croupier_requests", &[("cluster", "c1")]), (ANSWERED + 4) as f64);
    for (reason, count) in [("unsent", 1.0), ("timeout", 2.0), ("no_responders", 1.0), ("cut_off", 1.0)] {
        assert_eq!(page.sum("croupier_request_failures", &[("reason", reason)]), count, "{reason}");
    }
    let pings = page.histogram("croupier_link_round_trip_seconds", &[("cluster", "c1"), ("shard", "0")]);
    assert!(pings.count > 0, "{pings:?}");

    // The same in the other places. The windows of the percentiles may have passed on a slow machine.
    let told = status(address);
    let requests = &told["shards"][0]["requests"];
    assert_eq!(requests["count"], ANSWERED, "{told}");
    let [p50, p99, max] = ["p50_seconds", "p99_seconds", "max_seconds"].map(|name| requests[name].as_f64());
    assert!(p50 <= p99 && p99 <= max && p50.is_some(), "{requests}");
    assert!(told["shards"][0]["links"][0]["round_trip"]["count"].as_u64() > Some(0), "{told}");
    let stats = &node.handle.stats()[0];
    assert_eq!(stats.requests.count, ANSWERED);
    assert!(stats.requests.p50 <= stats.requests.p99 && stats.requests.p99 <= stats.requests.max);
    let handle = node.handle.clone();
    node.end();
    // What was recorded last is handed over at the end.
    assert!(handle.stats()[0].requests.count >= ANSWERED);
}

#[test]
fn all_that_was_asked_before_a_drain_is_counted_after_it() {
    const ASKED: u64 = 300;
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(servers.builder(), 2);
    node.on(0, async |shard: Shard| serve(&shard).await);
    for shard in 0..2 {
        node.on(shard, async |shard: Shard| {
            for _ in 0..ASKED {
                shard.request("asked", "").await.unwrap();
            }
        });
    }
    let handle = node.handle.clone();
    node.end();
    for shard in handle.stats() {
        assert_eq!(shard.requests.count, ASKED, "{shard:?}");
        assert!(shard.requests.sum > Duration::ZERO);
    }
}

#[test]
fn the_four_pages_are_answered_under_load_and_the_figures_only_grow() {
    const SCRAPES: usize = 40;
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(servers.builder().admin_listen("127.0.0.1:0"), 2);
    let address = node.handle.admin_addr().expect("an admin server");
    for shard in 0..2 {
        node.on(shard, async |shard: Shard| {
            serve(&shard).await;
            let asking = shard.clone();
            shard.spawn(async move {
                // Until the node drains, which closes the link.
                while asking.request("asked", "").await.is_ok() {}
            });
        });
    }
    until_answered(address, 1);
    let count = |told: &Value| told["shards"][0]["requests"]["count"].as_u64().expect("a count");
    let (mut before, mut first) = (0, None);
    for _ in 0..SCRAPES {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(get(address, path).code, 200, "{path}");
        }
        let page = Page::scrape(address);
        let histogram = page.histogram("croupier_request_duration_seconds", &[("shard", "0")]);
        let now = count(&status(address));
        // One scrape after the other: the figures were handed over once for both, or again between them.
        assert!(before <= histogram.count && histogram.count <= now, "{before} {histogram:?} {now}");
        before = now;
        first.get_or_insert(now);
    }
    wait_for("more requests", || (Some(count(&status(address))) > first).then_some(()));
    node.end();
}
