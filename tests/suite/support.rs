//! What the tests share: few executors at a time, guards against hanging, waiting for a condition.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use croupier::{BoxError, Builder, LinkStats, Node, NodeHandle, Shard};
use futures_lite::future::block_on;

/// Shards that run in this process at one time, at most: each needs locked memory.
const SHARDS_MAX: usize = 6;
/// After this long something hangs. Nothing in a test takes a tenth of it on an idle machine.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

static SHARDS_IN_USE: Mutex<usize> = Mutex::new(0);
static SHARDS_FREED: Condvar = Condvar::new();

/// The right to run some shards, given back when it is dropped.
#[must_use = "the shards may run only while this lives"]
pub(crate) struct Permit(usize);

/// Waits until so many shards may run beside those of other tests. To be taken before the servers are
/// started and once per test, so that no test waits for another while it holds something.
pub(crate) fn permit(shards: usize) -> Permit {
    assert!(shards <= SHARDS_MAX, "{shards} shards are more than a test may have");
    let mut in_use = SHARDS_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    while *in_use + shards > SHARDS_MAX {
        in_use = SHARDS_FREED.wait(in_use).unwrap_or_else(PoisonError::into_inner);
    }
    *in_use += shards;
    Permit(shards)
}

impl Drop for Permit {
    fn drop(&mut self) {
        *SHARDS_IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        SHARDS_FREED.notify_all();
    }
}

/// Runs `test` on the one shard of a node, with a guard, and drains the node. Panics with the test.
pub(crate) fn on_one_shard<F>(builder: Builder, test: F)
where
    F: AsyncFnOnce(Shard) + Clone + Send + 'static,
{
    let app = async |shard: Shard| -> Result<(), BoxError> {
        shard.timeout(GUARD, test(shard.clone())).await?;
        Ok(())
    };
    builder.shards(1).run(app).unwrap();
}

/// A node that a test's thread steers from outside.
pub(crate) struct TestNode {
    pub(crate) handle: NodeHandle,
    node: Node,
}

impl TestNode {
    pub(crate) fn start(builder: Builder, shards: usize) -> TestNode {
        let node = builder.shards(shards).start(async |_| Ok(())).unwrap();
        TestNode { handle: node.handle(), node }
    }

    /// Runs `work` on a shard, and waits for it. Panics with it.
    pub(crate) fn on<F, T>(&self, shard: usize, work: F) -> T
    where
        F: AsyncFnOnce(Shard) -> T + Send + 'static,
        T: Send + 'static,
    {
        let guarded = async |shard: Shard| shard.timeout(GUARD, work(shard.clone())).await.unwrap();
        block_on(self.handle.submit_to(shard, guarded)).unwrap()
    }

    /// The counts of one link of a shard, as the shard itself sees them.
    pub(crate) fn link(&self, shard: usize, cluster: &'static str) -> LinkStats {
        self.on(shard, async move |shard: Shard| shard.stats().link(cluster).expect("a link in use").clone())
    }

    /// Waits until a link is connected.
    pub(crate) fn connected(&self, shard: usize, cluster: &'static str) {
        wait_for("the connection", || self.link(shard, cluster).connected.then_some(()));
    }

    /// Drains the node and waits for its end.
    pub(crate) fn end(self) {
        block_on(self.handle.drain()).unwrap();
        self.node.join().unwrap();
    }
}

/// Asserts that every accepted message of a link has exactly one fate.
pub(crate) fn assert_balanced(link: &LinkStats) {
    let fates = link.queued + link.written + link.processed + link.in_doubt + link.discarded;
    assert_eq!(link.accepted, fates, "the fates do not add up: {link:?}");
}

/// A topic that lives on the cluster, as the ring has it.
pub(crate) fn topic_on(handle: &NodeHandle, cluster: &str, stem: &str) -> String {
    (0..).map(|n| format!("{stem}.{n}")).find(|topic| handle.cluster_of(topic) == *cluster).expect("endless")
}

/// Looks every millisecond until `ready` gives something; panics after [`GUARD`].
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + GUARD;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {GUARD:?} for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The same on a shard.
pub(crate) async fn wait_on<T>(shard: &Shard, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + GUARD;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {GUARD:?} for {what}");
        shard.sleep(Duration::from_millis(1)).await;
    }
}
