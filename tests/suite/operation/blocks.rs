//! A shard that does not yield is seen, and nothing that an operator asks for waits for it.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use croupier::{Shard, testing::LocalCluster};
use futures_lite::future;

use super::{
    client::{Client, status},
    page::Page,
};
use crate::support::{TestNode, permit, wait_for};

#[test]
fn scrapes_are_answered_while_every_shard_is_blocked_and_the_blocks_are_counted() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder().admin_listen("127.0.0.1:0");
    builder.config_mut().shards.blocked_after = Duration::from_millis(200);
    let node = TestNode::start(builder, 2);
    let address = node.handle.admin_addr().expect("an admin server");
    node.on(0, async |shard: Shard| {
        let mut asked = shard.subscribe("asked").await.unwrap();
        let answering = async { asked.next().await.unwrap().respond("answer").unwrap() };
        let (answer, ()) = future::zip(shard.request("asked", ""), answering).await;
        answer.unwrap();
    });
    let answered =
        || Page::scrape(address).histogram("croupier_request_duration_seconds", &[("shard", "0")]).count;
    wait_for("the shard to hand over", || (answered() == 1).then_some(()));
    let mut releases = Vec::new();
    let (begun, blocked) = mpsc::channel();
    for shard in 0..2 {
        let (release, released) = mpsc::channel::<()>();
        let begun = begun.clone();
        releases.push(release);
        node.on(shard, async move |shard: Shard| {
            let own = shard.clone();
            shard.spawn(async move {
                own.sleep(Duration::from_millis(1)).await;
                begun.send(()).unwrap();
                // What no task should do: the whole shard stands still until the test lets go.
                let _released = released.recv();
            });
        });
    }
    for _ in 0..2 {
        blocked.recv().unwrap();
    }
    let since = Instant::now();
    let mut client = Client::connect(address);
    for path in ["/metrics", "/statusz", "/healthz", "/readyz"].repeat(25) {
        let answer = client.get(path);
        assert!([200, 503].contains(&answer.code), "{path}: {answer:?}");
    }
    assert_eq!((answered(), &status(address)["shards"][0]["requests"]["count"]), (1, &1.into()));
    for shard in ["0", "1"] {
        wait_for("the block to be seen", || {
            let page = Page::scrape(address);
            let is_seen = page.sum("croupier_shard_blocks", &[("shard", shard)]) == 1.0;
            is_seen.then(|| assert!(page.sum("croupier_shard_blocked_seconds", &[("shard", shard)]) >= 0.2))
        });
    }
    assert_eq!(node.handle.stats()[0].blocks, 1);
    drop(releases);
    let lasted = since.elapsed();
    for shard in 0..2 {
        wait_for("the shard to yield", || {
            (status(address)["shards"][shard]["blocked_seconds"] == 0.0).then_some(())
        });
        // It works again, and the block is counted once, however often one looked.
        node.on(shard, async |_| ());
        let stats = &node.handle.stats()[shard];
        assert_eq!(stats.blocks, 1);
        assert!(stats.longest_block >= Duration::from_millis(200), "{stats:?}");
        // The watchdog adds up looks, none of which counts for more than twice its period.
        assert!(stats.longest_block <= lasted + Duration::from_millis(500), "{stats:?} in {lasted:?}");
    }
    node.end();
}

#[test]
fn an_idle_shard_is_not_blocked() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder();
    builder.config_mut().shards.blocked_after = Duration::from_secs(5);
    let node = TestNode::start(builder, 1);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(node.handle.stats()[0].blocks, 0);
    node.end();
}
