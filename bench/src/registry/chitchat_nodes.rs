//! Nodes of chitchat, all in this process: over UDP on loopback, or over its channels in memory.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chitchat::transport::{ChannelTransport, Transport, UdpTransport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat,
};
use tokio::time::{sleep, sleep_until};

use crate::error::BenchError;
use crate::registry::convergence::{Assignment, Cost, IDLE, JOIN_MAX, Outcome, Recorder, SETTLE_MAX};
use crate::registry::cpu;
use crate::registry::workload::{id, kind, service};

/// The name in the tables and the JSON.
pub const NAME: &str = "chitchat";

/// As many threads as the tests of this project run on.
const THREADS: usize = 2;
/// Between two looks at whether something is the case.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures nodes that gossip over UDP.
///
/// # Errors
/// If they do not find each other, or one does not see a change.
pub fn over_udp(assignment: &Assignment, gossip: Duration) -> Result<Outcome, BenchError> {
    let addresses = free_addresses(assignment.nodes)?;
    runtime()?.block_on(measure(assignment, gossip, &UdpTransport, &addresses, || None))
}

/// Measures nodes that gossip over channels, and their bytes.
///
/// # Errors
/// If they do not find each other, or one does not see a change.
pub fn over_channels(assignment: &Assignment, gossip: Duration) -> Result<Outcome, BenchError> {
    let transport = ChannelTransport::default();
    let address = |node| SocketAddr::from(([127, 0, 0, 1], 10_000 + node as u16));
    let addresses: Vec<_> = (0..assignment.nodes).map(address).collect();
    let bytes = || Some(transport.statistics().num_bytes_total);
    runtime()?.block_on(measure(assignment, gossip, &transport, &addresses, bytes))
}

async fn measure(
    assignment: &Assignment,
    gossip: Duration,
    transport: &dyn Transport,
    addresses: &[SocketAddr],
    bytes: impl Fn() -> Option<u64>,
) -> Result<Outcome, BenchError> {
    let recorder = Arc::new(Recorder::new(assignment));
    let mut nodes = Vec::new();
    for number in 0..assignment.nodes {
        nodes.push(start(number, gossip, transport, addresses, assignment, &recorder).await?);
    }
    let deadline = Instant::now() + JOIN_MAX;
    while !know_each_other(&nodes).await {
        if Instant::now() > deadline {
            return Err(failed(format!("{} nodes have not found each other", assignment.nodes)));
        }
        sleep(LOOK_EVERY).await;
    }
    let idle = Metered::start(&bytes);
    sleep(IDLE).await;
    let idle = idle.cost(&bytes);

    let busy = Metered::start(&bytes);
    let start = tokio::time::Instant::now();
    for change in 0..assignment.changes {
        // Made before the clock starts, as in a service that is about to register.
        let (key, value) = entry(change)?;
        sleep_until(start + assignment.due(change)).await;
        recorder.begin(change);
        nodes[assignment.owner_of(change)]
            .with_chitchat(|node| node.self_node_state().set(&key, &value))
            .await;
    }
    sleep_until(start + assignment.length()).await;
    let deadline = Instant::now() + SETTLE_MAX;
    while !recorder.is_complete() && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
    }
    let busy = busy.cost(&bytes);
    for node in nodes {
        node.shutdown().await.map_err(failed)?;
    }
    Ok(Outcome { latencies_us: recorder.latencies_us(NAME)?, busy, idle })
}

async fn start(
    number: usize,
    gossip: Duration,
    transport: &dyn Transport,
    addresses: &[SocketAddr],
    assignment: &Assignment,
    recorder: &Arc<Recorder>,
) -> Result<ChitchatHandle, BenchError> {
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(format!("node-{number}"), 1, addresses[number]),
        cluster_id: "bench".to_owned(),
        gossip_interval: gossip,
        listen_addr: addresses[number],
        seed_nodes: vec![addresses[0].to_string()],
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_hours(1),
        catchup_callback: None,
        extra_liveness_predicate: None,
        // The newer one, whose digests are compressed.
        protocol_version: ProtocolVersion::V1,
    };
    let node = spawn_chitchat(config, Vec::new(), transport).await.map_err(failed)?;
    let (recorder, assignment) = (Arc::clone(recorder), *assignment);
    let saw = move |change: &str| {
        // What is no number of a change counts as one that nobody made.
        let change = change.parse().unwrap_or(usize::MAX);
        if change == usize::MAX || assignment.owner_of(change) != number {
            recorder.saw(number, change);
        }
    };
    let listen = |node: &mut chitchat::Chitchat| {
        let saw = saw.clone();
        node.subscribe_event(format!("{}/0.", kind(0)), move |event| saw(event.key)).forever();
    };
    node.with_chitchat(listen).await;
    Ok(node)
}

/// The same entry as ours: its type and id as the key, inbox and metadata as the value.
fn entry(change: usize) -> Result<(String, String), BenchError> {
    let service = service(&kind(0), change as u64, change as u64).map_err(failed)?;
    let mut value = String::from_utf8_lossy(service.inbox()).into_owned();
    for (key, text) in service.metadata() {
        value = format!("{value} {key}={text}");
    }
    Ok((format!("{}/{}", kind(0), id(change as u64)), value))
}

async fn know_each_other(nodes: &[ChitchatHandle]) -> bool {
    for node in nodes {
        if node.with_chitchat(|node| node.live_nodes().count()).await < nodes.len() {
            return false;
        }
    }
    true
}

/// A stretch of work of this process.
struct Metered {
    start: Instant,
    cpu: Duration,
    bytes: Option<u64>,
}

impl Metered {
    fn start(bytes: impl Fn() -> Option<u64>) -> Self {
        Self { start: Instant::now(), cpu: cpu::of_process(), bytes: bytes() }
    }

    fn cost(&self, bytes: impl Fn() -> Option<u64>) -> Cost {
        Cost {
            seconds: self.start.elapsed().as_secs_f64(),
            cpu_us: (cpu::of_process() - self.cpu).as_secs_f64() * 1e6,
            bytes: bytes().zip(self.bytes).map(|(after, before)| after - before),
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, BenchError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_all().build().map_err(BenchError::io("start tokio"))
}

/// Ports that nobody uses. A node has to say where it is before it binds.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, BenchError> {
    let sockets = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0"));
    let sockets = sockets.collect::<Result<Vec<_>, _>>().map_err(BenchError::io("bind a UDP socket"))?;
    let addresses = sockets.iter().map(UdpSocket::local_addr);
    addresses.collect::<Result<_, _>>().map_err(BenchError::io("ask a socket for its address"))
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(reason: E) -> BenchError {
    BenchError::client(NAME)(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::convergence::Side;

    #[test]
    fn every_node_sees_every_change_either_way() {
        let gossip_ms = 20;
        let assignment =
            Assignment { side: Side::ChitchatUdp { gossip_ms }, nodes: 3, changes: 6, every_ms: 10, seed: 1 };
        let gossip = Duration::from_millis(gossip_ms);
        let udp = over_udp(&assignment, gossip).unwrap();
        let channels = over_channels(&assignment, gossip).unwrap();
        assert_eq!((udp.latencies_us.len(), channels.latencies_us.len()), (6, 6));
        assert_eq!(udp.busy.bytes, None);
        assert!(channels.busy.bytes.is_some_and(|bytes| bytes > 6 * 64 * 2));
    }
}
