//! A worker process of a calls run: instances that answer, and write down first what they have executed.
//!
//! An execution is eight bytes at the end of a file, written before the answer is given: what was handed
//! to the kernel outlives a SIGKILL, so that no execution is forgotten with its process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use croupier::{Node, RegistryConfig, ServiceHandle, ServiceRef, ServiceSpec, Shard};
use futures_lite::future::block_on;

use super::protocol::{CLUSTER, Counted, KIND, News, Order, Setup, node_name};
use crate::fleet::{orders, say};
use crate::payload::{HEAD_BYTES, PayloadBuffer, Stamp};

/// Carries out orders until the parent has gone; what goes wrong is told to it.
pub(crate) fn work() {
    let mut worker = None;
    for order in orders::<Order>() {
        let news = order
            .map_err(|error| format!("an order cannot be read: {error}"))
            .and_then(|order| carry_out(&mut worker, order))
            .unwrap_or_else(News::Failed);
        say(&news);
    }
}

struct Worker {
    state: Arc<State>,
    _node: Node,
}

/// What the shard and the worker's main thread share.
#[derive(Debug)]
struct State {
    setup: Setup,
    /// Written to by the shard alone.
    journal: File,
    is_churning: AtomicBool,
    added: AtomicU64,
    removed: AtomicU64,
    corrupt: AtomicU64,
    unanswered: AtomicU64,
}

/// Between two looks at whether instances are to come and go.
const CHURN_POLL: Duration = Duration::from_millis(10);

fn carry_out(worker: &mut Option<Worker>, order: Order) -> Result<News, String> {
    match (order, worker.as_ref()) {
        (Order::Start(setup), None) => {
            *worker = Some(start(setup)?);
            Ok(News::Done)
        }
        (Order::Churn, Some(worker)) => {
            worker.state.is_churning.store(true, Ordering::Release);
            Ok(News::Done)
        }
        (Order::HandIn, Some(worker)) => {
            worker.state.is_churning.store(false, Ordering::Release);
            Ok(News::Counted(worker.state.counted()))
        }
        (order, _) => Err(format!("an order at the wrong time: {order:?}")),
    }
}

fn start(setup: Setup) -> Result<Worker, String> {
    let journal = File::options().append(true).open(&setup.journal);
    let journal = journal.map_err(|error| format!("{}: {error}", setup.journal.display()))?;
    let registry = RegistryConfig::new(CLUSTER).bind("127.0.0.1:0").seed(&setup.seed);
    let mut builder = Node::builder().name(node_name(setup.process)).shards(1).registry(registry);
    for (index, servers) in setup.clusters.iter().enumerate() {
        builder = builder.cluster(format!("c{}", index + 1), servers);
    }
    // The caller, the other workers and the servers share the cores of the machine.
    builder.config_mut().shards.pin = false;
    let node = builder.start(async |_| Ok(())).map_err(|error| error.to_string())?;
    let state = Arc::new(State {
        setup,
        journal,
        is_churning: AtomicBool::new(false),
        added: AtomicU64::new(0),
        removed: AtomicU64::new(0),
        corrupt: AtomicU64::new(0),
        unanswered: AtomicU64::new(0),
    });
    let of_shard = Arc::clone(&state);
    let opened = node.handle().submit_to(0, async move |shard| open(shard, of_shard).await);
    block_on(opened).map_err(|error| error.to_string())??;
    Ok(Worker { state, _node: node })
}

/// Adds the instances, and leaves a task behind that lets them come and go.
async fn open(shard: Shard, state: Arc<State>) -> Result<(), String> {
    let mut offered = VecDeque::new();
    for number in 0..state.setup.instances as u64 {
        offered.push_back(offer(&shard, &state, number).await?);
    }
    let period = Duration::from_nanos(state.setup.churn_nanos);
    if !period.is_zero() {
        let of_task = shard.clone();
        shard.spawn(async move {
            if let Err(error) = churn(&of_task, &state, period, &mut offered).await {
                let name = node_name(state.setup.process);
                say(&News::Failed(format!("an instance of {name} could not come or go: {error}")));
            }
        });
    }
    Ok(())
}

/// By turns one more comes, and the oldest goes: there is never one less than at the start.
async fn churn(
    shard: &Shard,
    state: &Arc<State>,
    period: Duration,
    offered: &mut VecDeque<ServiceRef>,
) -> Result<(), String> {
    let mut next = offered.len() as u64;
    loop {
        while !state.is_churning.load(Ordering::Acquire) {
            shard.sleep(CHURN_POLL).await;
        }
        shard.sleep(period).await;
        if offered.len() <= state.setup.instances {
            offered.push_back(offer(shard, state, next).await?);
            next += 1;
            state.added.fetch_add(1, Ordering::Relaxed);
        } else if let Some(oldest) = offered.pop_front() {
            shard.registry().remove_service(&oldest).await.map_err(|error| error.to_string())?;
            state.removed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn offer(shard: &Shard, state: &Arc<State>, number: u64) -> Result<ServiceRef, String> {
    let spec = ServiceSpec::new(KIND).id(format!("s{number}"));
    let handle = shard.registry().add_service(spec).await.map_err(|error| error.to_string())?;
    let name = handle.service_ref();
    shard.spawn(serve(handle, Arc::clone(state)));
    Ok(name)
}

/// Answers until the instance is removed.
async fn serve(mut handle: ServiceHandle, state: Arc<State>) {
    let mut answers = PayloadBuffer::new(HEAD_BYTES, 0);
    while let Some(request) = handle.next_request().await {
        let stamp = Stamp::read(request.payload()).filter(|stamp| stamp.run == state.setup.run);
        let Some(stamp) = stamp else {
            state.corrupt.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        if let Err(error) = (&state.journal).write_all(&stamp.sequence.to_le_bytes()) {
            say(&News::Failed(format!("an execution cannot be written down: {error}")));
            return;
        }
        let answer = Stamp { publisher: state.setup.process as u32, actual_nanos: state.setup.life, ..stamp };
        if request.respond(answers.stamped(HEAD_BYTES, &answer)).is_err() {
            state.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl State {
    fn counted(&self) -> Counted {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            added: load(&self.added),
            removed: load(&self.removed),
            corrupt: load(&self.corrupt),
            unanswered: load(&self.unanswered),
        }
    }
}
