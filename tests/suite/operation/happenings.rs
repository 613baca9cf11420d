//! Events on the pages: the last ones, how many of each, and what listeners have missed.

use croupier::{EVENTS_MAX, Event, ReloadError, Shard, testing::LocalCluster};
use futures_lite::future::block_on;

use super::{client::status, page::Page};
use crate::{
    links::event,
    support::{TestNode, permit, wait_for},
};

/// Events that a node remembers.
const RECENT_MAX: usize = 64;

#[test]
fn reloads_and_cuts_are_told_counted_and_remembered() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder().shards(1).admin_listen("127.0.0.1:0");
    let mut config = builder.config_mut().clone();
    let node = TestNode::start(builder, 1);
    let address = node.handle.admin_addr().expect("an admin server");
    let mut events = node.handle.events();
    let deaf = node.handle.events();
    node.on(0, async |shard: Shard| drop(shard.subscribe("events").await.unwrap()));

    config.limits.max_payload = 999;
    block_on(node.handle.reload(config.clone())).unwrap();
    let changed = event(&mut events, "reload", |event| match event {
        Event::Reloaded { changed } => Some(changed.clone()),
        _ => None,
    });
    assert_eq!(changed, ["limits.max_payload"]);

    config.shards.inbox += 1;
    let error = block_on(node.handle.reload(config.clone())).unwrap_err();
    assert!(matches!(error, ReloadError::Fixed { .. }), "{error}");
    let reason = event(&mut events, "refusal", |event| match event {
        Event::ReloadRefused { reason } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, error.to_string());

    servers.kill(0, 0).unwrap();
    event(&mut events, "cut", |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    let told = status(address);
    let recent = told["events"]["recent"].as_array().expect("a list");
    let names: Vec<&str> = recent.iter().map(|event| event["name"].as_str().unwrap()).collect();
    for name in ["connected", "reloaded", "reload_refused", "disconnected"] {
        assert_eq!(names.iter().filter(|found| **found == name).count(), 1, "{name}: {names:?}");
    }
    assert!(
        names.iter().position(|name| *name == "reloaded")
            < names.iter().position(|name| *name == "disconnected")
    );
    for event in recent {
        assert!(event["at_unix_seconds"].as_f64() > Some(1.6e9), "{event}");
        assert!(
            event["text"].as_str().is_some_and(|text| text.len() > 10 && !text.contains('\n')),
            "{event}"
        );
    }

    // One listener reads nothing at all. The others are told all the same.
    for _ in 0..EVENTS_MAX {
        block_on(node.handle.reload(config.clone())).unwrap_err();
    }
    let missed = deaf.lagged();
    assert!(missed > 0);
    let page = wait_for("the events to be on the page", || {
        let page = Page::scrape(address);
        let refused = page.sum("croupier_events", &[("event", "reload_refused")]);
        (refused == EVENTS_MAX as f64 + 1.0).then_some(page)
    });
    assert_eq!(page.sum("croupier_events", &[("event", "reloaded")]), 1.0);
    assert_eq!(page.sum("croupier_events", &[("event", "disconnected")]), 1.0);
    assert!(page.sum("croupier_events_dropped", &[]) >= missed as f64);
    assert_eq!(page.sum("croupier_events_waiting", &[]), EVENTS_MAX as f64);
    let told = status(address);
    assert_eq!(told["events"]["recent"].as_array().expect("a list").len(), RECENT_MAX);
    assert!(told["events"]["dropped"].as_u64() > Some(0));
    drop((deaf, events));
    assert_eq!(status(address)["events"]["waiting"], 0);
    node.end();
}
