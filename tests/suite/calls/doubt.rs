//! When a call was sent and its worker, or the link, is lost: in doubt, unless it may be carried out twice.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use croupier::{CallError, ServiceSpec, Shard, SubmitError};

use super::moving_on::key_of;
use crate::{
    dispatch::{
        offer::Offer,
        worker_process::{NEVER, WORKER, WorkerProcess},
    },
    registry_rig::{RegistryRig, until_counted, until_seen},
    rig::{Rig, guarded, text},
};

/// Much longer than a death takes to be noticed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that a shard makes while the test goes on.
type Calling = tokio::task::JoinHandle<Result<Result<String, CallError>, SubmitError>>;

fn call(node: &Rig, key: &str, payload: &'static str, is_idempotent: bool) -> Calling {
    let key = key.to_owned();
    tokio::spawn(node.handle().submit_to(0, async move |shard: Shard| {
        let call = shard.registry().call("rpc", &key, payload).timeout(PATIENCE);
        let call = if is_idempotent { call.idempotent() } else { call };
        call.await.map(|answer| text(answer.payload()))
    }))
}

#[test]
fn a_call_whose_worker_is_killed_is_in_doubt_unless_it_is_idempotent() {
    let rig = RegistryRig::with_guest(1, &[1]);
    guarded(async {
        let node = rig.node(0);
        let other = Offer::answering(node, 0, ServiceSpec::new("rpc").id("other")).await;
        for is_idempotent in [false, true] {
            let mut worker = WorkerProcess::start(&rig, "rpc", 1);
            until_counted(node, "rpc", 2, 2).await;
            let key = node.on(0, async |shard: Shard| key_of(&shard.registry(), "rpc", "w0")).await;
            assert_eq!(call(node, &key, "x", is_idempotent).await.unwrap().unwrap().unwrap(), "w0:x");
            let calling = call(node, &key, NEVER, is_idempotent);
            worker.has_taken_one().await;
            worker.kill();
            let outcome = calling.await.unwrap().unwrap();
            if is_idempotent {
                assert_eq!(outcome.unwrap(), format!("other:{NEVER}"));
            } else {
                let error = outcome.unwrap_err();
                assert!(!error.is_retryable());
                match error {
                    CallError::InDoubt { service } => {
                        assert_eq!((service.node(), service.id()), (WORKER, &b"w0"[..]));
                    }
                    error => panic!("{error:?}"),
                }
            }
            until_counted(node, "rpc", 1, 1).await;
        }
        // With nobody else to ask, an idempotent call is in doubt too.
        let mut worker = WorkerProcess::start(&rig, "rpc", 1);
        until_counted(node, "rpc", 2, 2).await;
        other.remove().await.unwrap();
        let calling = call(node, "any", NEVER, true);
        worker.has_taken_one().await;
        worker.kill();
        let error = calling.await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, CallError::InDoubt { .. }), "{error:?}");
    });
}

#[test]
fn a_call_whose_link_is_cut_is_in_doubt_unless_it_is_idempotent() {
    let mut rig = RegistryRig::start(2, &[1, 1]);
    guarded(async {
        let (taken, mut all_taken) = tokio::sync::mpsc::unbounded_channel();
        let keep = move |request| taken.send(croupier::OwnedMessage::from(request)).unwrap();
        let _first = Offer::start(rig.node(0), 0, ServiceSpec::new("rpc").id("first"), keep).await;
        let _other = Offer::answering(rig.node(1), 0, ServiceSpec::new("rpc").id("other")).await;
        until_counted(rig.node(1), "rpc", 2, 2).await;
        let caller = rig.node(1);
        let (key, cluster) = caller
            .on(0, async |shard: Shard| {
                let registry = shard.registry();
                let key = key_of(&registry, "rpc", "first");
                let inbox = registry.find_service("rpc", &key).unwrap().inbox().clone();
                (key, shard.cluster_of(inbox).to_string())
            })
            .await;
        let doubtful = call(caller, &key, "once", false);
        let idempotent = call(caller, &key, "twice", true);
        for _ in 0..2 {
            all_taken.recv().await.unwrap();
        }
        let index = usize::from(cluster == "c2");
        rig.servers.kill(index, 0).unwrap();
        let error = doubtful.await.unwrap().unwrap().unwrap_err();
        assert!(matches!(&error, CallError::InDoubt { service } if service.id() == b"first"), "{error:?}");
        // The other instance is asked, over the other cluster if its own is the one that was cut.
        assert_eq!(idempotent.await.unwrap().unwrap().unwrap(), "other:twice");
        assert!(all_taken.try_recv().is_err(), "nothing was sent to the first again");
    });
}

#[test]
fn a_call_that_waits_when_its_worker_drains_goes_on_or_is_in_doubt_but_is_never_left_waiting() {
    let mut rig = RegistryRig::start(1, &[1, 1]);
    guarded(async {
        // It takes the first request and never answers; the others wait in its queue.
        let (taken, is_taken) = tokio::sync::oneshot::channel();
        rig.node(0)
            .on(0, async move |shard: Shard| {
                let mut me = shard.registry().add_service(ServiceSpec::new("rpc").id("first")).await.unwrap();
                shard.spawn(async move {
                    let _kept = me.next_request().await;
                    taken.send(()).unwrap();
                    std::future::pending::<()>().await;
                });
            })
            .await;
        let _other = Offer::answering(rig.node(1), 0, ServiceSpec::new("rpc").id("other")).await;
        until_counted(rig.node(1), "rpc", 2, 2).await;
        let caller = rig.node(1);
        let key = caller.on(0, async |shard: Shard| key_of(&shard.registry(), "rpc", "first")).await;
        let mut calls = vec![call(caller, &key, "taken", false)];
        is_taken.await.unwrap();
        calls.extend((0..5).map(|_| call(caller, &key, "waits", false)));
        caller.on(0, async |shard: Shard| shard.flush().await.unwrap()).await;
        let node = rig.node(0).handle().clone();
        let draining = tokio::spawn(async move { node.drain().await });
        for (number, calling) in calls.into_iter().enumerate() {
            let outcome = calling.await.unwrap().unwrap();
            if number == 0 {
                let error = outcome.unwrap_err();
                assert!(matches!(error, CallError::InDoubt { .. }), "{error:?}");
            } else {
                assert!(
                    matches!(&outcome, Ok(answer) if answer == "other:waits")
                        || matches!(outcome, Err(CallError::InDoubt { .. })),
                    "{outcome:?}"
                );
            }
        }
        draining.await.unwrap().unwrap();
        rig.stop(0).await;
    });
}

/// How often each call was carried out, by its number.
type Executions = Arc<Mutex<HashMap<u64, u32>>>;

fn count(executions: &Executions, call: u64) {
    *executions.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default() += 1;
}

/// Has a shard offer an instance again and again: each life takes some requests, and ends with more waiting.
async fn come_and_go(node: &Rig, shard: usize, id: String, executions: &Executions, over: &Arc<AtomicBool>) {
    let (executions, over) = (Arc::clone(executions), Arc::clone(over));
    node.on(shard, async move |shard: Shard| {
        let task = shard.clone();
        shard.spawn(async move {
            let mut random = fastrand::Rng::with_seed(id.len() as u64 + task.id() as u64);
            while !over.load(Ordering::Acquire) {
                let spec = ServiceSpec::new("rpc").id(&id);
                let mut me = match task.registry().add_service(spec).await {
                    Ok(me) => me,
                    Err(error) => panic!("{error:?}"),
                };
                for _ in 0..random.u32(1..30) {
                    let next = task.timeout(Duration::from_millis(20), me.next_request()).await;
                    let Ok(Some(request)) = next else { break };
                    let call = u64::from_le_bytes(request.payload().try_into().unwrap());
                    count(&executions, call);
                    request.respond(request.payload().to_vec()).unwrap();
                }
                if random.bool() {
                    me.remove().await.unwrap();
                }
            }
        });
    })
    .await;
}

#[test]
fn no_call_is_carried_out_twice_while_workers_come_and_go() {
    let rig = RegistryRig::start(2, &[2, 2]);
    guarded(async {
        let (executions, over) = (Executions::default(), Arc::new(AtomicBool::new(false)));
        for (node, shard) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for number in 0..2 {
                let id = format!("{node}.{shard}.{number}");
                come_and_go(rig.node(node), shard, id, &executions, &over).await;
            }
        }
        for node in [rig.node(0), rig.node(1)] {
            for shard in [0, 1] {
                until_seen(node, shard, "a worker", |registry| registry.find_service("rpc", "x")).await;
            }
        }
        let callers: Vec<_> = (0..16_u64)
            .map(|caller| {
                let (node, shard) = (rig.node((caller % 2) as usize), (caller / 2 % 2) as usize);
                tokio::spawn(node.handle().submit_to(shard, async move |shard: Shard| {
                    let mut outcomes = Vec::new();
                    for number in 0..200 {
                        let call = caller << 32 | number;
                        let outcome = shard.registry().call("rpc", number.to_string(), call.to_le_bytes());
                        let outcome = outcome.timeout(PATIENCE).await;
                        if let Ok(answer) = &outcome {
                            assert_eq!(answer.payload(), call.to_le_bytes());
                        }
                        let is_answered = outcome.is_ok();
                        outcomes.push((call, outcome.err()));
                        if !is_answered {
                            // Others come.
                            shard.sleep(Duration::from_millis(2)).await;
                        }
                    }
                    outcomes
                }))
            })
            .collect();
        let mut outcomes = Vec::new();
        for caller in callers {
            outcomes.extend(caller.await.unwrap().unwrap());
        }
        over.store(true, Ordering::Release);
        let executions = executions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answered = 0;
        for (call, error) in &outcomes {
            let times = executions.get(call).copied().unwrap_or_default();
            match error {
                None => {
                    assert_eq!(times, 1, "call {call} was answered");
                    answered += 1;
                }
                // Certainly not carried out.
                Some(error @ (CallError::NoResponders { .. } | CallError::NoService { .. })) => {
                    assert_eq!(times, 0, "call {call} ended with {error}");
                }
                Some(error) => panic!("{error:?}"),
            }
        }
        println!("{answered} of {} answered", outcomes.len());
        for node in [rig.node(0), rig.node(1)] {
            assert!(node.handle().stats().iter().all(|shard| shard.task_panics == 0));
        }
        assert!(answered > outcomes.len() / 2);
    });
}
