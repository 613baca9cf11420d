//! Whole nodes: their roles, their configuration, and what ends them.

use std::{error::Error as _, fmt::Write as _};

use croupier::{
    Error, Node, PublishError, RequestError, SubscribeError, config::Role, testing::LocalCluster,
};

use crate::{
    rig::{Rig, configured, guarded, text},
    support::{GUARD, permit},
};

#[test]
fn a_publisher_does_not_subscribe() {
    let servers = LocalCluster::start(1).unwrap();
    let rig = Rig::start(configured(servers.builder(), |config| config.connection.role = Role::Publisher), 1);
    guarded(async {
        rig.on(0, async |shard| {
            let refused = |error: SubscribeError| {
                assert!(matches!(error, SubscribeError::Role), "{error}");
                assert!(!error.is_retryable());
            };
            refused(shard.subscribe("role").await.unwrap_err());
            refused(shard.subscribe_unconfirmed("role").unwrap_err());
            refused(shard.queue_subscribe("role", "crew").await.unwrap_err());
            refused(shard.subscribe_with("role", |_| {}).await.unwrap_err());
            refused(shard.subscribe("*").await.unwrap_err());
            shard.publish("role", "x").unwrap();
            shard.topic("role").unwrap().publish("x").unwrap();
            shard.flush().await.unwrap();
            assert_eq!(shard.stats().link("c1").unwrap().processed, 2);
        })
        .await;
        let error = rig.handle().subscribe("role").await.unwrap_err();
        assert!(matches!(error, SubscribeError::Role), "{error}");
        rig.handle().publish("role", "x").unwrap();
    });
}

#[test]
fn a_subscriber_does_not_publish() {
    let servers = LocalCluster::start(1).unwrap();
    let rig =
        Rig::start(configured(servers.builder(), |config| config.connection.role = Role::Subscriber), 1);
    guarded(async {
        let mut inlet = rig.subscribe(0, "role").await;
        rig.on(0, async |shard| {
            let refused = |outcome: Result<(), PublishError>| {
                let error = outcome.unwrap_err();
                assert!(matches!(error, PublishError::Role), "{error}");
                assert!(!error.is_retryable());
            };
            refused(shard.publish("role", "x"));
            refused(shard.publish_wait("role", "x").await);
            refused(shard.publish_with_headers("role", &croupier::Headers::new(), "x"));
            refused(shard.publish_to(&shard.cluster_of("role"), "role", "x"));
            refused(shard.topic("role").unwrap().publish("x"));
            let error = shard.request("role", "x").await.unwrap_err();
            assert!(matches!(error, RequestError::Publish(PublishError::Role)), "{error}");
        })
        .await;
        assert!(matches!(rig.handle().publish("role", "x"), Err(PublishError::Role)));
        let peer = crate::rig::peer(&servers.servers(0)).await;
        peer.publish("role", "of a peer".into()).await.unwrap();
        assert_eq!(inlet.texts(1).await, ["of a peer"]);
    });
}

/// Starts a node with these two clusters, has it use both, and answers what ended it.
fn join_of(first: &str, second: &str) -> Error {
    let _permit = permit(1);
    let builder = Node::builder().cluster("one", [first]).cluster("two", [second]).shards(1);
    let builder = configured(builder, |config| config.shards.pin = false);
    let node = builder
        .start(async |shard| {
            let subscribed = shard.subscribe_unconfirmed(">");
            if let Ok(mut subscription) = subscribed {
                // Ends with the node.
                while let Ok(Some(_)) = shard.timeout(GUARD, subscription.next()).await {}
            }
            Ok(())
        })
        .unwrap();
    node.join().unwrap_err()
}

#[test]
fn two_clusters_that_are_one_server_are_refused() {
    let servers = LocalCluster::start(1).unwrap();
    let server = &servers.servers(0)[0];
    let error = join_of(server, &server.replace("127.0.0.1", "localhost"));
    assert_same_cluster(&error);
}

#[test]
fn two_clusters_that_are_two_servers_of_one_are_refused() {
    let servers = LocalCluster::with_nodes(1, 2).unwrap();
    let error = join_of(&servers.servers(0)[0], &servers.servers(0)[1]);
    assert_same_cluster(&error);
}

fn assert_same_cluster(error: &Error) {
    let Error::SameCluster { first, second, evidence } = error else { panic!("{error}") };
    let mut names = [first.as_str(), second.as_str()];
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    assert!(!evidence.is_empty() && !error.is_retryable());
}

#[test]
fn a_node_runs_as_its_file_says() {
    let servers = LocalCluster::start(2).unwrap();
    let _permit = permit(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let mut file = String::from(
        "version = 1\n[node]\nname = \"by-file\"\n[shards]\ncpus = 1\npin = false\n[limits]\nmax_payload = \"1KiB\"\n",
    );
    for (index, name) in ["left", "right"].into_iter().enumerate() {
        writeln!(file, "[[clusters]]\nname = \"{name}\"\nservers = [\"{}\"]", servers.servers(index)[0])
            .unwrap();
    }
    std::fs::write(&path, file).unwrap();
    let (sender, ran) = std::sync::mpsc::channel();
    Node::from_toml(&path)
        .unwrap()
        .run(async move |shard| {
            shard
                .timeout(GUARD, async {
                    let mut all = shard.subscribe("file.*").await?;
                    let mut clusters = std::collections::BTreeSet::new();
                    for number in 0..50 {
                        let topic = format!("file.{number}");
                        shard.publish(&topic, &topic)?;
                        let message = all.next().await.expect("a message");
                        assert_eq!(text(message.payload()), topic);
                        clusters.insert(message.cluster().to_string());
                    }
                    assert_eq!(clusters.into_iter().collect::<Vec<_>>(), ["left", "right"]);
                    let error = shard.publish("file.large", vec![0; 2048]).unwrap_err();
                    assert!(
                        matches!(error, PublishError::PayloadTooLarge { limit_bytes: 1024, .. }),
                        "{error}"
                    );
                    sender.send(shard.shards())?;
                    Ok(())
                })
                .await?
        })
        .unwrap();
    assert_eq!(ran.recv().unwrap(), 1);

    std::fs::write(&path, "version = 1\n[limits]\nmax_paylod = 5\n").unwrap();
    let error = Node::from_toml(&path).unwrap_err();
    assert!(matches!(error, Error::Config(_)));
    let told = error.to_string();
    assert!(told.contains("node.toml") && told.contains('3') && told.contains("max_payload"), "{told}");
    let missing = Node::from_toml(folder.path().join("missing.toml")).unwrap_err();
    assert!(matches!(missing, Error::Config(_)), "{missing}");
}

#[test]
fn the_error_of_an_application_is_what_join_and_run_return() {
    let servers = LocalCluster::start(1).unwrap();
    let _permit = permit(2);
    let app = async |shard: croupier::Shard| {
        if shard.id() == 1 {
            return Err("shard 1 has had enough".into());
        }
        // The others see the end of their subscriptions.
        let mut subscription = shard.subscribe("app").await?;
        shard.timeout(GUARD, async { while subscription.next().await.is_some() {} }).await?;
        Ok(())
    };
    let started = servers.builder().shards(2).start(app).unwrap().join().unwrap_err();
    let ran = servers.builder().shards(2).run(app).unwrap_err();
    for error in [started, ran] {
        assert!(matches!(error, Error::App(_)), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "shard 1 has had enough");
    }
    let panicked =
        servers.builder().shards(1).run(async |_| panic!("the application of the test panics")).unwrap_err();
    let Error::AppPanicked { shard: 0, message } = &panicked else { panic!("{panicked}") };
    assert_eq!(message, "the application of the test panics");
}

#[test]
fn a_node_without_clusters_does_not_start() {
    let error = Node::builder().shards(1).start(async |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
}
