//! What `add_service` refuses, and the ids that it gives.

use croupier::{CallError, PublishError, RegistryError, ServiceSpec, Shard, SubscribeError, config::Role};

use crate::{
    dispatch::offer::Offer,
    registry_rig::{RegistryRig, until_counted},
    rig::{configured, guarded, text},
};

#[test]
fn a_spec_with_a_bad_value_is_refused_and_changes_nothing() {
    let rig = RegistryRig::start(1, &[1]);
    guarded(rig.node(0).on(0, async |shard: Shard| {
        let registry = shard.registry();
        let spec = || ServiceSpec::new("rpc");
        let refused = [
            ServiceSpec::new(""),
            ServiceSpec::new("k".repeat(129)),
            spec().id(""),
            spec().id("i".repeat(257)),
            spec().weight(0),
            spec().weight(9),
            spec().weight(255),
            spec().meta("key", "v".repeat(4096)),
            (0..600).fold(spec(), |spec, number| spec.meta(number.to_string(), "four")),
        ];
        for spec in refused {
            let told = format!("{:.100}", format!("{spec:?}"));
            let error = registry.add_service(spec).await.map(drop).unwrap_err();
            assert!(matches!(error, RegistryError::Invalid(_)), "{told}: {error:?}");
            assert!(!error.is_retryable());
            assert!(error.to_string().len() < 300, "{error}");
        }
        for kind in ["", "rpc"] {
            assert!(registry.get_services(kind).is_empty());
            assert!(registry.find_service(kind, "x").is_none());
        }
        // Not even a number is used up.
        let me = registry.add_service(spec()).await.unwrap();
        assert_eq!(me.service_ref().id(), b"0.0");
        // The limits themselves are allowed.
        let long =
            ServiceSpec::new("k".repeat(128)).id("i".repeat(256)).weight(8).meta("key", "v".repeat(4089));
        let long = registry.add_service(long).await.unwrap();
        assert_eq!(registry.get_services("k".repeat(128))[0].meta("key").unwrap().len(), 4089);
        drop((me, long));
    }));
}

#[test]
fn default_ids_are_the_shard_and_a_number_for_each_type() {
    let rig = RegistryRig::start(1, &[2, 1]);
    guarded(async {
        let mut offers = Vec::new();
        for (node, shard, kind, expected) in [
            (0, 0, "one", "0.0"),
            (0, 0, "one", "0.1"),
            (0, 0, "two", "0.0"),
            (0, 1, "one", "1.0"),
            (0, 1, "two", "1.0"),
            (0, 1, "two", "1.1"),
            (0, 0, "one", "0.2"),
            (1, 0, "one", "0.0"),
        ] {
            let offer = Offer::answering(rig.node(node), shard, ServiceSpec::new(kind)).await;
            assert_eq!(text(offer.service().id()), expected);
            offers.push(offer);
        }
        // A given id uses up no number, and a number that was removed is not given again.
        let named = Offer::answering(rig.node(0), 0, ServiceSpec::new("one").id("named")).await;
        let last = Offer::answering(rig.node(0), 0, ServiceSpec::new("one")).await;
        assert_eq!(text(last.service().id()), "0.3");
        last.remove().await.unwrap();
        let next = Offer::answering(rig.node(0), 0, ServiceSpec::new("one")).await;
        assert_eq!(text(next.service().id()), "0.4");
        until_counted(rig.node(1), "one", 7, 7).await;
        until_counted(rig.node(1), "two", 3, 3).await;
        drop((named, offers));
    });
}

#[test]
fn an_id_is_free_again_once_its_service_was_removed_or_dropped() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let spec = || ServiceSpec::new("rpc").id("same");
        rig.node(0)
            .on(0, async move |shard: Shard| {
                let registry = shard.registry();
                for round in 0..50 {
                    let me = registry.add_service(spec().meta("round", round.to_string())).await.unwrap();
                    let inbox = me.inbox().clone();
                    assert_eq!(registry.find_service("rpc", "x").unwrap().inbox(), &inbox);
                    if round % 2 == 0 {
                        me.remove().await.unwrap();
                        assert!(registry.find_service("rpc", "x").is_none());
                    } else {
                        // Not a turn between the drop and the next add.
                        drop(me);
                    }
                }
            })
            .await;
        let _last = Offer::answering(rig.node(0), 0, spec()).await;
        until_counted(rig.node(1), "rpc", 1, 1).await;
        let answer = loop {
            // The other node may still be shown the life before.
            match rig.node(1).handle().call("rpc", "x", "last").await {
                Ok(answer) => break answer,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        };
        assert_eq!(text(answer.payload()), "same:last");
    });
}

#[test]
fn a_publisher_offers_no_service_and_may_not_hear_an_answer_that_it_does_not_get() {
    let rig = RegistryRig::configured(1, &[1, 1], |index, builder| {
        configured(builder, |config| {
            if index == 0 {
                config.connection.role = Role::Publisher;
            }
        })
    });
    guarded(async {
        rig.node(0)
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                // A bad value is told first, whatever else is wrong.
                let error =
                    registry.add_service(ServiceSpec::new("rpc").weight(0)).await.map(drop).unwrap_err();
                assert!(matches!(error, RegistryError::Invalid(_)), "{error:?}");
                for _ in 0..2 {
                    let error = registry.add_service(ServiceSpec::new("rpc")).await.map(drop).unwrap_err();
                    assert!(matches!(error, RegistryError::Inbox(SubscribeError::Role)), "{error:?}");
                    assert!(!error.is_retryable());
                }
                assert!(registry.get_services("rpc").is_empty());
            })
            .await;
        // It may call, as it may request.
        let _offer = Offer::answering(rig.node(1), 0, ServiceSpec::new("rpc")).await;
        until_counted(rig.node(0), "rpc", 1, 1).await;
        let answer = rig.node(0).handle().call("rpc", "x", "of a publisher").await.unwrap();
        assert_eq!(text(answer.payload()), "0.0:of a publisher");
    });
}

#[test]
fn a_subscriber_neither_calls_nor_casts() {
    let rig = RegistryRig::configured(1, &[1, 1], |index, builder| {
        configured(builder, |config| {
            if index == 0 {
                config.connection.role = Role::Subscriber;
            }
        })
    });
    guarded(async {
        let _offer = Offer::answering(rig.node(1), 0, ServiceSpec::new("rpc")).await;
        until_counted(rig.node(0), "rpc", 1, 1).await;
        rig.node(0)
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                let mut errors = vec![
                    registry.call("rpc", "x", "").await.map(drop).unwrap_err(),
                    registry.cast("rpc", "x", "").unwrap_err(),
                    registry.multi_cast(2, "rpc", "x", "").unwrap_err(),
                ];
                errors.extend(
                    registry
                        .multi_call(2, "rpc", "x", "")
                        .await
                        .into_iter()
                        .map(|(_, outcome)| outcome.map(drop).unwrap_err()),
                );
                assert_eq!(errors.len(), 4);
                for error in errors {
                    assert!(matches!(error, CallError::Publish(PublishError::Role)), "{error:?}");
                    assert!(!error.is_retryable());
                }
            })
            .await;
    });
}

#[test]
fn a_draining_node_offers_nothing_new() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (told, outcome) = tokio::sync::oneshot::channel();
        rig.node(0)
            .on(0, async move |shard: Shard| {
                let draining = shard.clone();
                shard.on_drain(async move || {
                    let added = draining.registry().add_service(ServiceSpec::new("late")).await;
                    let _heard = told.send(added.map(drop));
                });
            })
            .await;
        rig.node(0).handle().drain().await.unwrap();
        // Taken back at once, or refused: nobody may be left with it.
        let outcome = outcome.await.unwrap();
        assert!(matches!(outcome, Ok(()) | Err(RegistryError::Draining)), "{outcome:?}");
        until_counted(rig.node(1), "late", 0, 0).await;
    });
}
