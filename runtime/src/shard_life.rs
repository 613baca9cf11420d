//! A shard's life on its thread: start, the application, drain, stop.

use std::{
    cell::Cell,
    future::Future,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use croupier_registry::{Epoch, wire::v1::ByeReason};
use futures_lite::FutureExt;
use rtrb::Consumer;

use crate::{
    BoxError, Error, Shard,
    error::panic_message,
    latency::{Recorder, hand_over_always},
    local_notify::LocalNotify,
    mesh::{self, Job, MeshEnds},
    node_shared::{NodeShared, ShardEnds, ShardLanes},
    peer_link::{self, PeerContext},
    registry_shard::{Hub, RegistryShard, ToShard},
    reload,
    services::LINGER,
    time,
    transport::{self, BoundListener, Task},
    watchdog,
};

/// What moves into a shard's thread.
pub(crate) struct ShardSeed {
    pub(crate) id: usize,
    pub(crate) node: Arc<NodeShared>,
    pub(crate) mesh: MeshEnds,
    pub(crate) ends: ShardEnds,
    pub(crate) registry: RegistrySeed,
}

/// What the registry on a shard begins with.
pub(crate) struct RegistrySeed {
    pub(crate) epoch: Epoch,
    pub(crate) lane: async_channel::Receiver<ToShard>,
    /// What it takes to have peers, if it is to have any.
    pub(crate) peers: Option<PeerContext>,
    /// On shard 0 only: the membership, and where peers come in.
    pub(crate) hub: Option<(Hub, BoundListener)>,
}

/// When the drain is to be over, once it has begun.
#[derive(Default)]
struct DrainState {
    deadline: Cell<Option<Instant>>,
    changed: LocalNotify,
}

impl DrainState {
    fn left(&self) -> Duration {
        self.deadline
            .get()
            .map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Runs `future` until the drain's deadline, which may come nearer meanwhile.
    async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        loop {
            let left = self.left();
            let moved = async {
                self.changed.until(|| (self.left() < left / 2).then_some(())).await;
                None
            };
            let outcome = time::timeout(left, async { Some(future.as_mut().await) }.or(moved)).await;
            match outcome {
                Ok(Some(value)) => return Some(value),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Runs the shard from its start until it has drained.
pub(crate) async fn live<F>(seed: ShardSeed, app: F)
where
    F: AsyncFnOnce(Shard) -> Result<(), BoxError> + 'static,
{
    let (sender, receivers) = seed.mesh.split();
    let registry = RegistryShard::new(seed.id, &seed.node, seed.registry.epoch);
    let latencies = Rc::new(seed.ends.recorder);
    let shard =
        Shard::new(seed.id, Arc::clone(&seed.node), sender, Rc::clone(&registry), Rc::clone(&latencies));
    let (registry_task, acceptor) = start_registry(&registry, seed.registry);
    if shard.id() == 0 && seed.node.admin.is_some() {
        // Else a cluster that nobody has used yet would be down, and the node ready.
        shard.use_all_clusters();
    }
    let drain = Rc::new(DrainState::default());
    let service = services(&shard, &drain, seed.ends.lanes, receivers, &latencies);

    let returned = Rc::new((Cell::new(false), LocalNotify::default()));
    let app_task = {
        let (shard, node, returned) = (shard.clone(), Arc::clone(&seed.node), Rc::clone(&returned));
        transport::spawn(async move {
            let id = shard.id();
            let outcome = AssertUnwindSafe(async move { app(shard).await }).catch_unwind().await;
            match outcome {
                Ok(Ok(())) => node.app_returned(),
                Ok(Err(error)) => node.fail(Error::App(error)),
                Err(panic) => node.fail(Error::AppPanicked { shard: id, message: panic_message(&*panic) }),
            }
            returned.0.set(true);
            returned.1.notify();
        })
    };

    drain.changed.until(|| drain.deadline.get()).await;
    tracing::info!(shard = shard.id(), "draining");
    while let Some(hook) = shard.take_drain_hook() {
        if drain.within(AssertUnwindSafe(hook).catch_unwind()).await.is_none() {
            break;
        }
    }
    if let Some(acceptor) = acceptor {
        acceptor.cancel().await;
    }
    if registry.withdraw_all() {
        // The others learn of it while what they have sent already is still taken.
        drain.within(transport::sleep(LINGER)).await;
    }
    registry.close_watches();
    let inboxes = registry.inboxes().close_all();
    drain.within(unsubscribe_all(&shard)).await;
    // What was unsubscribed too late for its server's answer ends here.
    let queues: Vec<_> = shard.links().flat_map(|link| link.close_receivers()).chain(inboxes).collect();
    drain.within(returned.1.until(|| returned.0.get().then_some(()))).await;
    app_task.cancel().await;
    drain
        .within(async {
            while queues.iter().any(|queue| queue.is_awaited()) {
                transport::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    drain
        .within(async {
            if let Err(error) = shard.flush_within(drain.left()).await {
                tracing::warn!(shard = shard.id(), %error, "the drain leaves messages");
            }
        })
        .await;
    let reason = if seed.node.has_died() { ByeReason::Failed } else { ByeReason::Leaving };
    registry.leave(reason, drain.left()).await;
    registry.close().await;
    shard.close().await;
    registry_task.cancel().await;
    for task in service {
        task.cancel().await;
    }
    latencies.hand_over_last();
    tracing::info!(shard = shard.id(), "stopped");
}

/// Starts the registry's tasks: the one that drives it, and the one that accepts peers.
fn start_registry(registry: &Rc<RegistryShard>, seed: RegistrySeed) -> (Task, Option<Task>) {
    let mut acceptor = None;
    if let Some(peers) = seed.peers {
        let (hub, listener) = seed.hub.unzip();
        registry.join_cluster(hub, peers);
        acceptor = listener.map(|listener: BoundListener| {
            transport::spawn(peer_link::accept(Rc::clone(registry), listener.listen()))
        });
    }
    (transport::spawn(Rc::clone(registry).run(seed.lane)), acceptor)
}

/// Tells every server that no more is wanted, and waits for what was under way.
async fn unsubscribe_all(shard: &Shard) {
    let links: Vec<_> = shard.links().cloned().collect();
    for link in &links {
        link.begin_drain_all();
    }
    for link in &links {
        // A link that is cut meanwhile has nothing more to give.
        let _cut_or_answered = link.confirm_if_connected().await;
    }
}

/// The tasks that serve the shard itself.
fn services(
    shard: &Shard,
    drain: &Rc<DrainState>,
    lanes: ShardLanes,
    receivers: Vec<Consumer<Job>>,
    latencies: &Rc<Recorder>,
) -> Vec<Task> {
    let inbox = {
        let shard = shard.clone();
        transport::spawn(async move {
            while let Ok(job) = lanes.inbox.recv().await {
                job(&shard);
                shard.port(shard.id()).progressed();
            }
        })
    };
    let drains = {
        let drain = Rc::clone(drain);
        transport::spawn(async move {
            while let Ok(deadline) = lanes.drain.recv().await {
                let earliest = drain.deadline.get().map_or(deadline, |known| known.min(deadline));
                drain.deadline.set(Some(earliest));
                drain.changed.notify();
            }
        })
    };
    vec![
        inbox,
        drains,
        transport::spawn(reload::apply_all(shard.clone(), lanes.settings)),
        transport::spawn(mesh::receive(shard.clone(), receivers)),
        transport::spawn(watchdog::beat(shard.clone())),
        transport::spawn(hand_over_always(Rc::clone(latencies))),
    ]
}

/// Keeps the first panic of a shard's own code for the node's error.
pub(crate) fn guard(node: &Arc<NodeShared>, shard: usize, life: impl FnOnce()) {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(life));
    if let Err(panic) = outcome {
        node.fail(Error::ShardDied { shard, message: panic_message(&*panic) });
    }
    node.shard_stopped(shard);
}
