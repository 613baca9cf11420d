//! Nodes of Croupier, all in this process, each of one shard that floats over the cores, linked over loopback.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use croupier::{Node, NodeHandle, NodeStanding, RegistryConfig, ServiceEvent, ServiceSpec, Shard};
use futures_lite::future::block_on;

use crate::croupier_client::CLUSTER;
use crate::error::BenchError;
use crate::registry::convergence::{Assignment, Cost, IDLE, JOIN_MAX, Outcome, Recorder, SETTLE_MAX};
use crate::registry::cpu;
use crate::registry::workload::{id, kind, metadata};
use crate::stub::Stub;

/// The name in the tables and the JSON.
pub const NAME: &str = "croupier";

/// A stub turns more connections away.
const NODES_PER_STUB: usize = 16;
/// Between two looks at whether something is the case.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures nodes that see each other's changes as users do, by watching.
///
/// # Errors
/// If they do not find each other, or one does not see a change.
pub fn run(assignment: &Assignment) -> Result<Outcome, BenchError> {
    lock_as_much_as_allowed()?;
    let recorder = Arc::new(Recorder::new(assignment));
    // The inboxes of services are subscribed somewhere, and nothing ever comes to them.
    let stubs = (0..assignment.nodes.div_ceil(NODES_PER_STUB)).map(|_| Stub::start());
    let stubs = stubs.collect::<Result<Vec<_>, _>>()?;
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..assignment.nodes {
        let seed = nodes.first().and_then(|first| first.handle().registry_addr());
        let registry = RegistryConfig::new("bench").bind("127.0.0.1:0");
        let registry = seed.into_iter().fold(registry, RegistryConfig::seed);
        let server = format!("nats://{}", stubs[number / NODES_PER_STUB].address());
        let mut builder = Node::builder()
            .name(format!("node-{number}"))
            .cluster(CLUSTER, [server])
            .registry(registry)
            .shards(1);
        // Bound shards would all sit on the first core.
        builder.config_mut().shards.pin = false;
        let (recorder, assignment) = (Arc::clone(&recorder), *assignment);
        let app = async move |shard: Shard| {
            shard.spawn(watch(shard.clone(), number, assignment, recorder));
            Ok(())
        };
        nodes.push(builder.start(app).map_err(failed)?);
    }
    let handles: Vec<NodeHandle> = nodes.iter().map(Node::handle).collect();
    wait_until(JOIN_MAX, || handles.iter().all(|handle| knows_all(handle, assignment.nodes)))
        .map_err(|()| failed(format!("{} nodes have not found each other", assignment.nodes)))?;
    // The first service of a shard waits for a server to confirm its inbox; that is no part of a change.
    for handle in &handles {
        add(handle, ServiceSpec::new("warm-up"), || ())?;
    }

    let idle = Metered::start(&handles);
    sleep(IDLE);
    let idle = idle.cost(&handles);

    let busy = Metered::start(&handles);
    let start = Instant::now();
    for change in 0..assignment.changes {
        let number = change as u64;
        let spec = ServiceSpec::new(kind(0)).id(id(number));
        let spec = metadata(number).into_iter().fold(spec, |spec, (key, value)| spec.meta(key, value));
        sleep((start + assignment.due(change)).saturating_duration_since(Instant::now()));
        let recorder = Arc::clone(&recorder);
        add(&handles[assignment.owner_of(change)], spec, move || recorder.begin(change))?;
    }
    sleep((start + assignment.length()).saturating_duration_since(Instant::now()));
    // What is missing then is told by the recorder.
    let _ = wait_until(SETTLE_MAX, || recorder.is_complete());
    let busy = busy.cost(&handles);
    let latencies_us = recorder.latencies_us(NAME)?;
    for handle in &handles {
        block_on(handle.drain()).map_err(failed)?;
    }
    for node in nodes {
        node.join().map_err(failed)?;
    }
    for stub in stubs {
        stub.finish()?;
    }
    Ok(Outcome { latencies_us, busy, idle })
}

/// Tells the recorder what this node sees of the others' changes, until it drains.
async fn watch(shard: Shard, number: usize, assignment: Assignment, recorder: Arc<Recorder>) {
    let mut watch = shard.registry().watch(kind(0));
    while let Some(event) = watch.next().await {
        let (ServiceEvent::Joined(service) | ServiceEvent::Present(service)) = event else { continue };
        let id = std::str::from_utf8(service.id()).ok();
        // What is no number of a change counts as one that nobody made.
        let change = id.and_then(|id| id.strip_prefix("0.")?.parse().ok()).unwrap_or(usize::MAX);
        if change == usize::MAX || assignment.owner_of(change) != number {
            recorder.saw(number, change);
        }
    }
}

/// Adds a service on a node and leaves it there; `begin` is called right before.
fn add(
    handle: &NodeHandle,
    spec: ServiceSpec,
    begin: impl FnOnce() + Send + 'static,
) -> Result<(), BenchError> {
    let added = handle.submit_to(0, async move |shard| {
        begin();
        let mut service = shard.registry().add_service(spec).await?;
        // It stays for as long as somebody holds it.
        shard.spawn(async move { while service.next_request().await.is_some() {} });
        Ok::<(), croupier::RegistryError>(())
    });
    block_on(added).map_err(failed)?.map_err(failed)
}

fn knows_all(handle: &NodeHandle, nodes: usize) -> bool {
    let up = handle.nodes().iter().filter(|node| node.standing == NodeStanding::Up).count();
    up == nodes && !handle.is_syncing()
}

fn wait_until(time_max: Duration, is_so: impl Fn() -> bool) -> Result<(), ()> {
    let deadline = Instant::now() + time_max;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(());
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Each node's rings need locked memory: the soft limit is raised to the hard one.
fn lock_as_much_as_allowed() -> Result<(), BenchError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and of the type that getrlimit fills.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is readable, and of the type that setrlimit reads.
    if read != 0 || unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        return Err(BenchError::io("raise the limit of locked memory")(std::io::Error::last_os_error()));
    }
    Ok(())
}

/// A stretch of work of this process.
struct Metered {
    start: Instant,
    cpu: Duration,
    bytes: u64,
}

impl Metered {
    fn start(handles: &[NodeHandle]) -> Self {
        Self { start: Instant::now(), cpu: cpu::of_process(), bytes: bytes_sent(handles) }
    }

    fn cost(&self, handles: &[NodeHandle]) -> Cost {
        Cost {
            seconds: self.start.elapsed().as_secs_f64(),
            cpu_us: (cpu::of_process() - self.cpu).as_secs_f64() * 1e6,
            bytes: Some(bytes_sent(handles) - self.bytes),
        }
    }
}

fn bytes_sent(handles: &[NodeHandle]) -> u64 {
    handles.iter().map(|handle| handle.registry_stats().bytes_sent).sum()
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(reason: E) -> BenchError {
    BenchError::client(NAME)(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::convergence::Side;

    #[test]
    fn every_node_sees_every_change() {
        let assignment = Assignment { side: Side::Croupier, nodes: 3, changes: 6, every_ms: 10, seed: 1 };
        let outcome = run(&assignment).unwrap();
        assert_eq!(outcome.latencies_us.len(), 6);
        assert!(outcome.busy.bytes.is_some_and(|bytes| bytes > 6 * 64 * 2));
    }
}
