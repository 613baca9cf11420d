//! Calls and casts to several instances at a time: each is asked for itself.

use std::{collections::BTreeSet, time::Duration};

use croupier::{CallError, OwnedMessage, ServiceSpec, Shard};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    dispatch::{
        offer::Offer,
        worker_process::{NEVER, WORKER, WorkerProcess},
    },
    registry_rig::{RegistryRig, until_counted},
    rig::{configured, guarded, text},
};

#[test]
fn a_multi_call_gives_one_result_for_each_distinct_instance() {
    let rig = RegistryRig::start(2, &[1, 1]);
    guarded(async {
        let mut offers = Vec::new();
        for (node, id) in [(0, "1"), (0, "2"), (0, "3"), (1, "4"), (1, "5")] {
            let spec = ServiceSpec::new("rpc").id(id);
            offers.push(Offer::answering(rig.node(node), 0, spec).await);
        }
        let caller = rig.node(1);
        until_counted(caller, "rpc", 5, 5).await;
        caller
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                for count in [0, 1, 3, 5, 8, 20] {
                    for key in (0..20).map(|key| format!("key {key}")) {
                        let found = registry.find_multi_service(count, "rpc", &key);
                        let found: Vec<_> = found.map(|service| text(service.id())).collect();
                        let answers = registry.multi_call(count, "rpc", &key, &key).await;
                        let asked: Vec<_> = answers.iter().map(|(service, _)| text(service.id())).collect();
                        assert_eq!(asked, found, "in the order of the lookup");
                        assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), count.min(5));
                        for (service, answer) in &answers {
                            let answer = text(answer.as_ref().unwrap().payload());
                            assert_eq!(answer, format!("{}:{key}", text(service.id())));
                        }
                    }
                }
            })
            .await;
    });
}

#[test]
fn a_multi_call_tells_for_each_instance_how_it_ended() {
    // Longer than a busy machine takes to notice a death, and as long as is waited for who never answers.
    let rig = RegistryRig::with_guest_beside(1, &[1], |builder| {
        configured(builder, |config| config.limits.request_timeout = Duration::from_secs(6))
    });
    guarded(async {
        let node = rig.node(0);
        let _answers = Offer::answering(node, 0, ServiceSpec::new("rpc").id("answers")).await;
        let _never = Offer::start(node, 0, ServiceSpec::new("rpc").id("never"), drop).await;
        let mut worker = WorkerProcess::start(&rig, "rpc", 1);
        until_counted(node, "rpc", 3, 3).await;
        let calling = tokio::spawn(node.handle().submit_to(0, async |shard: Shard| {
            let gone = shard.registry().add_service(ServiceSpec::new("rpc").id("gone")).await.unwrap();
            shard.sleep(Duration::from_millis(150)).await;
            drop(gone);
            // The registry's task has had no turn: all four are seen.
            let outcomes = shard.registry().multi_call(9, "rpc", "key", NEVER).await;
            outcomes.into_iter().map(|(service, outcome)| (text(service.id()), outcome.map(|_| ()))).collect()
        }));
        worker.has_taken_one().await;
        worker.kill();
        let outcomes: Vec<(String, Result<(), CallError>)> = calling.await.unwrap().unwrap();
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
        for (id, outcome) in outcomes {
            let is_as_it_should_be = match &*id {
                "answers" => outcome.is_ok(),
                "never" => matches!(outcome, Err(CallError::Timeout { sent: true, .. })),
                "gone" => matches!(outcome, Err(CallError::NoResponders { tried: 1 })),
                _ => matches!(&outcome, Err(CallError::InDoubt { service }) if service.node() == WORKER),
            };
            assert!(is_as_it_should_be, "{id}: {outcome:?}");
        }
    });
}

#[test]
fn a_multi_cast_counts_to_how_many_it_was_sent_and_each_gets_it_once() {
    let rig = RegistryRig::start(2, &[1, 1]);
    guarded(async {
        let (taken, mut all_taken) = unbounded_channel();
        let mut offers = Vec::new();
        for (node, id) in [(0, "1"), (0, "2"), (1, "3"), (1, "4")] {
            let taken = taken.clone();
            let take = move |message: croupier::Message| {
                taken.send((id, OwnedMessage::from(message))).unwrap();
            };
            offers.push(Offer::start(rig.node(node), 0, ServiceSpec::new("sink").id(id), take).await);
        }
        until_counted(rig.node(1), "sink", 4, 4).await;
        let expected = rig
            .node(1)
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                let mut expected = Vec::new();
                for (number, count) in [0, 1, 2, 3, 4, 9].into_iter().enumerate() {
                    let key = number.to_string();
                    if count == 0 {
                        let error = registry.multi_cast(count, "sink", &key, &key).unwrap_err();
                        assert!(matches!(error, CallError::NoService { .. }), "{error:?}");
                        continue;
                    }
                    assert_eq!(registry.multi_cast(count, "sink", &key, &key).unwrap(), count.min(4));
                    let found = registry.find_multi_service(count, "sink", &key);
                    expected.extend(found.map(|service| (text(service.id()), key.clone())));
                    registry.service_type("sink").cast(&key, format!("one {key}")).unwrap();
                    let owner = registry.find_service("sink", &key).unwrap();
                    expected.push((text(owner.id()), format!("one {key}")));
                }
                expected
            })
            .await;
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let (id, message) = all_taken.recv().await.unwrap();
            assert!(message.reply().is_none());
            received.push((id.to_owned(), text(message.payload())));
        }
        let (mut expected, mut received) = (expected, received);
        expected.sort();
        received.sort();
        assert_eq!(received, expected);
        assert!(all_taken.try_recv().is_err());
    });
}
