//! R7, R8, R9, R18: how topics are spread over the clusters, what a wildcard hears, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use croupier::{Node, PublishError, testing::LocalCluster};

use crate::{
    rig::{Rig, configured, guarded, peer, text},
    support::permit,
};

#[test]
fn r7_wildcards_get_all_messages_of_all_clusters() {
    const MESSAGES: usize = 1000;
    let servers = LocalCluster::start(3).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let mut inlets = Vec::new();
        for pattern in ["r7.*", "r7.>", "*.*"] {
            inlets.push(rig.subscribe(0, pattern).await);
        }
        let topics: BTreeSet<String> = (0..MESSAGES).map(|number| format!("r7.{number}")).collect();
        let published = topics.clone();
        rig.on(1, async move |shard| {
            for topic in &published {
                shard.publish(topic, topic).unwrap();
            }
            shard.flush().await.unwrap();
        })
        .await;
        for inlet in &mut inlets {
            let mut by_cluster = BTreeMap::<String, usize>::new();
            let mut seen = BTreeSet::new();
            for _ in 0..MESSAGES {
                let message = inlet.next().await;
                let topic = text(message.topic().as_bytes());
                assert_eq!(text(message.payload()), topic);
                assert_eq!(message.cluster(), rig.handle().cluster_of(&topic));
                *by_cluster.entry(message.cluster().to_string()).or_default() += 1;
                assert!(seen.insert(topic), "each comes once");
            }
            assert_eq!(seen, topics);
            assert_eq!(by_cluster.len(), 3, "all clusters carry some: {by_cluster:?}");
        }
        // A peer on one cluster, which knows nothing of the others, is heard as well.
        for index in 0..3 {
            let peer = peer(&servers.servers(index)).await;
            peer.publish("r7.of-a-peer", index.to_string().into()).await.unwrap();
            peer.flush().await.unwrap();
            for inlet in &mut inlets {
                assert_eq!(inlet.texts(1).await, [index.to_string()]);
            }
        }
        assert!(inlets.iter().all(|inlet| inlet.is_empty()));
    });
}

/// A node that knows these clusters and speaks to none: one that publishes nothing connects nowhere.
fn node_of(names: &[String]) -> Rig {
    let servers = (1..).map(|port| format!("127.0.0.1:{port}"));
    let builder = names
        .iter()
        .zip(servers)
        .fold(Node::builder(), |builder, (name, server)| builder.cluster(name, [server]));
    Rig::beside(configured(builder, |config| config.shards.pin = false), 1)
}

#[test]
fn r8_twenty_clusters_with_ambiguous_names_share_alike() {
    const TOPICS: usize = 100_000;
    const CLUSTERS: usize = 20;
    let _permit = permit(1);
    // "1" and "11" are those that the ancestor confused: index and replica ran into one number.
    let names: Vec<String> = (0..CLUSTERS).map(|number| number.to_string()).collect();
    let rig = node_of(&names);
    let mut counts: BTreeMap<String, usize> = names.iter().map(|name| (name.clone(), 0)).collect();
    for number in 0..TOPICS {
        let owner = rig.handle().cluster_of(format!("topic{number}"));
        *counts.get_mut(owner.as_str()).expect("a configured cluster") += 1;
    }
    let share = TOPICS / CLUSTERS;
    for (name, count) in &counts {
        // Chance alone has a standard deviation of 1.4 % here.
        assert!(
            count.abs_diff(share) < share / 10,
            "cluster {name} has {count} of {TOPICS} topics: {counts:?}"
        );
    }
}

#[test]
fn r18_a_cluster_inserted_at_the_front_moves_only_its_share() {
    const TOPICS: usize = 20_000;
    let _permit = permit(3);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let before = node_of(&names(&["beta", "gamma", "delta"]));
    let inserted = node_of(&names(&["alpha", "beta", "gamma", "delta"]));
    let reordered = node_of(&names(&["delta", "beta", "gamma"]));
    let mut moved = 0;
    for number in 0..TOPICS {
        let topic = format!("topic{number}");
        let owner = before.handle().cluster_of(&topic);
        assert_eq!(reordered.handle().cluster_of(&topic), owner, "the order of the list means nothing");
        let new_owner = inserted.handle().cluster_of(&topic);
        if new_owner != owner {
            assert_eq!(new_owner, "alpha", "{topic} moved between clusters that were there before");
            moved += 1;
        }
    }
    let share = TOPICS / 4;
    assert!(share.abs_diff(moved) < share / 5, "{moved} of {TOPICS} topics moved");
}

#[test]
fn r9_one_publisher_on_one_topic_keeps_its_order() {
    const MESSAGES: usize = 20_000;
    let servers = LocalCluster::start(2).unwrap();
    let rig = Rig::start(servers.builder(), 2);
    guarded(async {
        let topics = [rig.topics_on("c1", "r9", 1).remove(0), rig.topics_on("c2", "r9", 1).remove(0)];
        let mut inlets = [rig.subscribe(0, &topics[0]).await, rig.subscribe(1, &topics[1]).await];
        // From a shard, by each of the ways to publish.
        let published = topics.clone();
        rig.on(0, async move |shard| {
            let resolved = [shard.topic(&published[0]).unwrap(), shard.topic(&published[1]).unwrap()];
            for number in 0..MESSAGES {
                for (topic, resolved) in published.iter().zip(&resolved) {
                    match number % 3 {
                        0 => shard.publish_wait(topic, number.to_string()).await.unwrap(),
                        1 => shard.publish(topic, number.to_string()).unwrap(),
                        _ => resolved.publish(number.to_string()).unwrap(),
                    }
                }
                if number % 1000 == 0 {
                    shard.flush().await.unwrap();
                }
            }
        })
        .await;
        for inlet in &mut inlets {
            for number in 0..MESSAGES {
                assert_eq!(inlet.texts(1).await, [number.to_string()]);
            }
        }
        // From another thread.
        let handle = rig.handle().clone();
        let published = topics.clone();
        let thread = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                for topic in &published {
                    while let Err(error) = handle.publish(topic, number.to_string()) {
                        assert!(matches!(error, PublishError::Busy { .. }), "{error}");
                        std::thread::yield_now();
                    }
                }
            }
        });
        for inlet in &mut inlets {
            for number in 0..MESSAGES {
                assert_eq!(inlet.texts(1).await, [number.to_string()]);
            }
        }
        thread.join().unwrap();
    });
}
