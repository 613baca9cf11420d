//! Tasks that panic, nodes that die or are disabled from afar: who loses what, and what callers see of it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use croupier::{CallError, RegistryError, ServiceSpec};

use super::{
    documented::{add, command, owners, watch},
    worker_process::WorkerProcess,
};
use crate::{
    registry_rig::{RegistryRig, until_counted, until_seen},
    rig::{guarded, text},
    support::GUARD,
};

/// Keys that a test looks up.
const KEYS: usize = 1000;

#[test]
fn d4_d5_a_panic_ends_only_the_services_of_the_task_that_panicked() {
    let rig = RegistryRig::start(1, &[2, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let _same_shard = add(a, 0, "uploader", &["kept 0"]).await;
        let _other_shard = add(a, 1, "uploader", &["kept 1"]).await;
        let mut events = watch(b, 0, "uploader").await;
        a.on(0, async |shard| {
            let mut me = shard.registry().add_service(ServiceSpec::new("uploader").id("lost")).await.unwrap();
            shard.spawn(async move {
                let request = me.next_request().await.unwrap();
                panic!("the task of a service panics over {:?}", text(request.payload()));
            });
        })
        .await;
        until_counted(b, "uploader", 3, 3).await;
        let key = until_seen(b, 0, "a key", |registry| {
            let leads = |key: &String| registry.find_service("uploader", key).unwrap().id() == b"lost";
            (0..).map(|key| format!("key {key}")).find(leads)
        })
        .await;
        // Nobody knows whether the request was carried out, and nobody answers it.
        let outcome = b.handle().call("uploader", &key, "x").timeout(Duration::from_millis(300)).await;
        assert!(matches!(outcome, Err(CallError::Timeout { sent: true, .. })), "{outcome:?}");
        for node in [a, b] {
            until_counted(node, "uploader", 2, 2).await;
            for shard in 0..node.handle().shards() {
                let chosen: BTreeSet<_> = owners(node, shard, "uploader", KEYS).await.into_iter().collect();
                assert_eq!(chosen.len(), 2);
            }
        }
        assert_eq!(a.handle().stats()[0].task_panics, 1);
        let answer = b.handle().call("uploader", &key, "x").await.unwrap();
        assert!(text(answer.payload()).starts_with("kept"));
        for expected in ["synced", "joined a/lost", "left a/lost"] {
            let event = loop {
                let event = events.recv().await.unwrap();
                // What the first two did may come before or after the watch began.
                if !event.contains("kept") {
                    break event;
                }
            };
            assert_eq!(event, expected);
        }
        // The registry takes what comes: on the same shard too.
        let _next = add(a, 0, "uploader", &["lost"]).await;
        until_counted(b, "uploader", 3, 3).await;
    });
}

#[test]
fn d4_d5_a_panicking_watcher_ends_only_its_watch() {
    let rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        b.on(0, async |shard| {
            let mut watch = shard.registry().watch("uploader");
            shard.spawn(async move {
                while let Some(event) = watch.next().await {
                    assert!(matches!(event, croupier::ServiceEvent::Synced), "a watcher panics: {event:?}");
                }
            });
        })
        .await;
        let mut events = watch(b, 0, "uploader").await;
        let mut offers = add(a, 0, "uploader", &["1"]).await;
        until_counted(b, "uploader", 1, 1).await;
        offers.extend(add(a, 0, "uploader", &["2"]).await);
        until_counted(b, "uploader", 2, 2).await;
        for expected in ["synced", "joined a/1", "joined a/2"] {
            assert_eq!(events.recv().await.unwrap(), expected);
        }
        let panics = b.on(0, async |shard| shard.stats().task_panics).await;
        assert_eq!(panics, 1);
        b.handle().call("uploader", "x", "").await.unwrap();
    });
}

#[test]
fn d10_after_a_death_every_call_gets_an_answer_or_a_typed_error() {
    let rig = RegistryRig::with_guest(1, &[1, 1]);
    guarded(async {
        let (a, b) = (rig.node(0), rig.node(1));
        let _kept = add(b, 0, "uploader", &["kept"]).await;
        let mut worker = WorkerProcess::start(&rig, "uploader", 2);
        until_counted(a, "uploader", 3, 3).await;
        let killed = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&killed);
        // Callers go on all the time, one after the other, and a hundred calls longer than the death.
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let is_over = Arc::clone(&is_over);
                tokio::spawn(a.handle().submit_to(0, async move |shard| {
                    let registry = shard.registry();
                    let (mut answered, mut failed, mut left) = (0, Vec::new(), 100);
                    for call in 0.. {
                        // A busy machine may take some seconds to notice a death.
                        let key = format!("{caller} {call}");
                        match registry.call("uploader", key, "x").timeout(GUARD / 2).await {
                            Ok(answer) => {
                                answered += 1;
                                assert!(answer.payload().ends_with(b":x"));
                            }
                            Err(error) => failed.push(error),
                        }
                        left -= usize::from(is_over.load(Ordering::Acquire));
                        if left == 0 {
                            break;
                        }
                    }
                    (answered, failed)
                }))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        worker.kill();
        until_counted(a, "uploader", 1, 1).await;
        killed.store(true, Ordering::Release);
        for caller in callers {
            let (answered, failed) = caller.await.unwrap().unwrap();
            assert!(answered >= 100, "{answered} answers, {failed:?}");
            // What the worker had got when it died is in doubt; nothing else fails.
            for error in failed {
                assert!(
                    matches!(&error, CallError::InDoubt { service } if service.node() == "worker"),
                    "{error:?}"
                );
            }
        }
        // After the death not one call goes there.
        for call in 0..300 {
            let answer = a.handle().call("uploader", format!("later {call}"), "x").await.unwrap();
            assert_eq!(text(answer.payload()), "kept:x");
        }
    });
}

#[test]
fn d11_a_draining_node_loses_no_call() {
    let mut rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        let _kept = add(rig.node(0), 0, "uploader", &["kept"]).await;
        let _going = add(rig.node(1), 0, "uploader", &["1", "2", "3"]).await;
        until_counted(rig.node(0), "uploader", 4, 4).await;
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let handle = rig.node(0).handle().clone();
        let calling = tokio::spawn(async move {
            let mut answers = BTreeSet::new();
            for call in 0.. {
                let answer = handle.call("uploader", call.to_string(), "x").await;
                answers.insert(text(answer.expect("an answer").payload()));
                if is_done.load(Ordering::Acquire) {
                    break;
                }
            }
            answers
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.stop(1).await;
        done.store(true, Ordering::Release);
        let answers = calling.await.unwrap();
        assert_eq!(answers.len(), 4, "all of them served: {answers:?}");
        until_counted(rig.node(0), "uploader", 1, 1).await;
    });
}

#[test]
fn d15_a_disabled_service_stays_its_owners_whoever_disabled_it() {
    let mut rig = RegistryRig::with_guest(1, &[1, 1]);
    guarded(async {
        let mut owner = WorkerProcess::start(&rig, "uploader", 1);
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "uploader", 1, 1).await;
        }
        let service = rig.node(0).handle().find_service("uploader", "x").unwrap().service_ref();

        // Node b disables it, and stops: the service is still there, and still disabled.
        command(rig.node(1), &service, "disable").await.unwrap();
        until_counted(rig.node(0), "uploader", 1, 0).await;
        rig.stop(1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        until_counted(rig.node(0), "uploader", 1, 0).await;
        let outcome = rig.node(0).handle().call("uploader", "x", "").await;
        assert!(matches!(outcome, Err(CallError::NoService { .. })), "{outcome:?}");

        // Another node enables it: it serves again.
        command(rig.node(0), &service, "enable").await.unwrap();
        until_counted(rig.node(0), "uploader", 1, 1).await;
        let answer = rig.node(0).handle().call("uploader", "x", "again").await.unwrap();
        assert_eq!(text(answer.payload()), "w0:again");

        // Disabled by one, enabled by another, and its owner dies: it is gone everywhere.
        rig.start_again(1);
        until_counted(rig.node(1), "uploader", 1, 1).await;
        command(rig.node(0), &service, "disable").await.unwrap();
        until_counted(rig.node(1), "uploader", 1, 0).await;
        command(rig.node(1), &service, "enable").await.unwrap();
        until_counted(rig.node(0), "uploader", 1, 1).await;
        owner.kill();
        for node in [rig.node(0), rig.node(1)] {
            until_counted(node, "uploader", 0, 0).await;
            let error = command(node, &service, "enable").await.unwrap_err();
            assert!(matches!(&error, RegistryError::OwnerDown { node } if &**node == "worker"), "{error:?}");
            assert!(error.is_retryable());
        }
    });
}
