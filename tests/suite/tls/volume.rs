//! Much over TLS: many small messages, large ones, and a server that takes nothing for a while.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use croupier::{Shard, testing::LocalCluster};

use crate::{
    access_rig::{cluster, start, trusting},
    certificates::{Authority, server_tls},
    support::{assert_balanced, permit, wait_for},
};

/// Small messages of a round.
const SMALL: u32 = 20_000;
/// Large messages of a round: beyond every buffer of a socket.
const LARGE: u32 = 24;
const LARGE_BYTES: usize = 700_000;

fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(bytes, number as u8);
    payload
}

#[test]
fn everything_arrives_whole_and_in_order_also_past_a_server_that_stood_still() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let mut servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    let node = start(cluster("acc-volume", &servers).tls(trusting(&authority)));
    let received: Arc<Mutex<Vec<(u32, usize)>>> = Arc::default();
    let (taken, broken) = (Arc::clone(&received), Arc::new(AtomicBool::new(false)));
    let is_broken = Arc::clone(&broken);
    node.on(0, async move |shard: Shard| {
        let take = move |message: croupier::MessageView<'_>| {
            let bytes = message.payload();
            let number = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            broken.fetch_or(bytes[4..].iter().any(|byte| *byte != number as u8), Ordering::AcqRel);
            taken.lock().unwrap().push((number, bytes.len()));
        };
        let guard = shard.subscribe_with("volume", take).await.unwrap();
        shard.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
    });
    node.on(0, async |shard: Shard| {
        for number in 0..SMALL {
            shard.publish("volume", payload(number, 16)).unwrap();
        }
        shard.flush().await.unwrap();
    });
    wait_for("the small ones", || (received.lock().unwrap().len() == SMALL as usize).then_some(()));
    servers.pause(0, 0).unwrap();
    node.on(0, async |shard: Shard| {
        for number in 0..LARGE / 3 {
            // Copied into the buffer, and sent from where it is.
            let bytes = payload(number, LARGE_BYTES);
            shard.publish_wait("volume", &bytes[..]).await.unwrap();
        }
    });
    thread::sleep(Duration::from_millis(200));
    let paused = node.link(0, "acc-volume");
    assert!(paused.queued_bytes > 0, "{paused:?}");
    assert_balanced(&paused);
    servers.resume(0, 0).unwrap();
    node.on(0, async |shard: Shard| {
        for number in LARGE / 3..LARGE {
            shard.publish_wait("volume", payload(number, LARGE_BYTES)).await.unwrap();
        }
        shard.flush().await.unwrap();
    });
    let all = (SMALL + LARGE) as usize;
    wait_for("the large ones", || (received.lock().unwrap().len() == all).then_some(()));
    let expected: Vec<(u32, usize)> =
        (0..SMALL).map(|number| (number, 16)).chain((0..LARGE).map(|number| (number, LARGE_BYTES))).collect();
    assert!(*received.lock().unwrap() == expected, "not in order");
    assert!(!is_broken.load(Ordering::Acquire), "a payload has another's bytes");
    let link = node.link(0, "acc-volume");
    assert_eq!((link.connects, link.processed, link.in_doubt), (1, all as u64, 0), "{link:?}");
    node.end();
}

#[test]
fn a_cut_under_tls_leaves_every_message_with_one_fate() {
    let _permit = permit(1);
    let mut authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let mut servers = LocalCluster::with_config(1, 1, server_tls(&issued, "")).unwrap();
    let node = start(cluster("acc-cut", &servers).tls(trusting(&authority)));
    let received: Arc<Mutex<Vec<u32>>> = Arc::default();
    let taken = Arc::clone(&received);
    node.on(0, async move |shard: Shard| {
        let take = move |message: croupier::MessageView<'_>| {
            taken.lock().unwrap().push(u32::from_le_bytes(message.payload()[..4].try_into().unwrap()));
        };
        let guard = shard.subscribe_with("cut", take).await.unwrap();
        shard.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
    });
    let mut published = 0;
    for round in 1..=3 {
        node.on(0, async move |shard: Shard| {
            for number in published..published + 2000 {
                shard.publish("cut", payload(number, 1000)).unwrap();
                if number % 100 == 0 {
                    shard.sleep(Duration::from_micros(100)).await;
                }
            }
        });
        published += 2000;
        servers.kill(0, 0).unwrap();
        wait_for("the disconnect", || (!node.link(0, "acc-cut").connected).then_some(()));
        assert_balanced(&node.link(0, "acc-cut"));
        servers.restart(0, 0).unwrap();
        wait_for("the reconnect", || (node.link(0, "acc-cut").connects == round + 1).then_some(()));
    }
    node.on(0, async |shard: Shard| shard.flush().await.unwrap());
    let link = node.link(0, "acc-cut");
    assert_balanced(&link);
    assert_eq!((link.accepted, link.queued, link.written), (u64::from(published), 0, 0), "{link:?}");
    let received = received.lock().unwrap();
    assert!(received.is_sorted_by(|a, b| a < b), "repeated or out of order");
    let lost = u64::from(published) - received.len() as u64;
    assert!(lost <= link.in_doubt, "{lost} lost, {} in doubt", link.in_doubt);
    println!("{published} published, {} in doubt, {lost} lost", link.in_doubt);
    drop(received);
    node.end();
}
