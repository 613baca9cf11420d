//! A worker process of a registry run: its nodes, and the orders that it carries out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use croupier::{Node, NodeHandle, NodeStanding, RegistryConfig, Shard};
use futures_lite::future::block_on;

use super::member::{self, NodeState};
use super::plan::{kinds, node_name};
use super::protocol::{News, NodeNow, Order, Record, Setup, Shown, Traffic};
use super::shown::services_of_node;
use crate::fleet::{orders, say};

/// The name of the registry's cluster.
const CLUSTER: &str = "loadtest";

/// Nothing that an order waits for takes so long on a machine that is fit for it.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Between two looks at what an order waits for.
const POLL: Duration = Duration::from_millis(5);

/// A node of this process.
struct Member {
    number: usize,
    handle: NodeHandle,
    state: Arc<NodeState>,
    _node: Node,
}

/// Carries out orders until the parent has gone; what goes wrong is told to it.
pub(crate) fn work() {
    let mut worker = Worker { setup: None, members: Vec::new() };
    for order in orders::<Order>() {
        let news = order
            .map_err(|error| format!("an order cannot be read: {error}"))
            .and_then(|order| worker.carry_out(order))
            .unwrap_or_else(News::Failed);
        say(&news);
    }
}

struct Worker {
    setup: Option<Setup>,
    members: Vec<Member>,
}

impl Worker {
    fn carry_out(&mut self, order: Order) -> Result<News, String> {
        match order {
            Order::Start(setup) => self.start(setup),
            Order::Link => self.link(),
            Order::Load => {
                self.on_each(|state| async move |shard| member::load(shard, state).await)?;
                Ok(News::Done)
            }
            Order::AwaitAll => self.await_all(),
            Order::Memory => memory(),
            Order::Watch => {
                self.on_each(|state| async move |shard| member::watch(shard, state).await)?;
                Ok(News::Done)
            }
            Order::Traffic => Ok(News::Traffic(self.traffic())),
            Order::Begin { start_nanos } => {
                for member in &self.members {
                    member.state.begin(start_nanos);
                }
                Ok(News::Done)
            }
            Order::Stop => {
                for member in &self.members {
                    member.state.stop();
                }
                Ok(News::Done)
            }
            Order::Progress => {
                let seen = self.members.iter().map(|member| member.state.tracker().seen()).sum();
                let made = self.members.iter().map(|member| member.state.made().len() as u64).sum();
                let finished = self.members.iter().filter(|member| member.state.has_finished()).count();
                Ok(News::Progress { made, seen, finished })
            }
            Order::Look { changes } => Ok(self.look(&changes)),
            Order::HandIn => Ok(News::Recorded(self.members.iter().map(Member::record).collect())),
            Order::Show => Ok(News::Shown(self.shown()?)),
        }
    }

    fn look(&self, changes: &[(usize, u64)]) -> News {
        // Its own changes a node does not see.
        let others = |node: usize| self.members.iter().filter(move |member| member.number != node);
        let seen = |(node, number): &(usize, u64)| {
            let times = others(*node).map(|member| member.state.tracker().seen_at(*node, *number));
            // A process that has only the node itself waits for nobody.
            times.map(|at| (at > 0).then_some(at)).try_fold(1, |last, at| Some(at?.max(last))).unwrap_or(0)
        };
        News::Looked {
            nodes: self.members.iter().map(Member::now).collect(),
            seen_nanos: changes.iter().map(seen).collect(),
        }
    }

    fn start(&mut self, setup: Setup) -> Result<News, String> {
        let mut addresses = Vec::new();
        for node_setup in &setup.nodes {
            let mut registry = RegistryConfig::new(CLUSTER).bind(&node_setup.bind);
            for seed in &node_setup.seeds {
                registry = registry.seed(seed);
            }
            if let Some(address) = &node_setup.advertise {
                registry = registry.advertise(address);
            }
            let mut builder =
                Node::builder().name(node_name(node_setup.number)).shards(setup.shards).registry(registry);
            for (index, servers) in setup.clusters.iter().enumerate() {
                builder = builder.cluster(format!("c{}", index + 1), servers);
            }
            // Several nodes, and the servers, share the cores of the machine.
            builder.config_mut().shards.pin = false;
            let node = builder.start(async |_| Ok(())).map_err(|error| error.to_string())?;
            let handle = node.handle();
            let address = handle.registry_addr().ok_or("a node listens nowhere")?;
            addresses.push(address.to_string());
            let state = Arc::new(NodeState::new(node_setup.number, &setup));
            self.members.push(Member { number: node_setup.number, handle, state, _node: node });
        }
        self.setup = Some(setup);
        Ok(News::Started { addresses })
    }

    fn link(&self) -> Result<News, String> {
        let nodes = self.setup()?.nodes_in_all;
        self.wait("have not reached each other", |member| {
            let up = member.handle.nodes();
            let up = up.iter().filter(|status| status.standing == NodeStanding::Up).count();
            up == nodes && !member.handle.is_syncing()
        })?;
        Ok(News::Done)
    }

    fn await_all(&self) -> Result<News, String> {
        let setup = self.setup()?;
        let expected = services_of_node(setup.entries) * setup.nodes_in_all as u64;
        self.wait("do not list all services", |member| {
            kinds().map(|kind| member.handle.get_services(kind).len() as u64).sum::<u64>() == expected
        })?;
        memory()
    }

    fn shown(&self) -> Result<Vec<Shown>, String> {
        let nodes = self.setup()?.nodes_in_all;
        let of_member = |member: &Member| {
            let services: Vec<_> = kinds().flat_map(|kind| member.handle.get_services(kind)).collect();
            Shown::of_services(member.number, nodes, services.iter())
        };
        Ok(self.members.iter().map(of_member).collect())
    }

    fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        for member in &self.members {
            let stats = member.handle.registry_stats();
            traffic.add(&Traffic {
                bytes_sent: stats.bytes_sent,
                frames_sent: stats.frames_sent,
                made: member.state.made().len() as u64,
                links_closed: stats.links_closed,
                repairs: stats.repairs,
                refused: stats.refused_frame
                    + stats.refused_violation
                    + stats.refused_channel
                    + stats.refused_other_cluster
                    + stats.refused_hello_timeout,
            });
        }
        traffic
    }

    /// Runs work on shard 0 of each node, one after the other, and hands on the first failure.
    fn on_each<F, W>(&self, work: F) -> Result<(), String>
    where
        F: Fn(Arc<NodeState>) -> W,
        W: AsyncFnOnce(Shard) -> Result<(), String> + Send + 'static,
    {
        for member in &self.members {
            let done = member.handle.submit_to(0, work(Arc::clone(&member.state)));
            block_on(done).map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    fn wait(&self, what: &str, is_done: impl Fn(&Member) -> bool) -> Result<(), String> {
        let until = Instant::now() + WAIT_MAX;
        while !self.members.iter().all(&is_done) {
            if Instant::now() >= until {
                return Err(format!("the nodes {what} within {WAIT_MAX:?}"));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn setup(&self) -> Result<&Setup, String> {
        self.setup.as_ref().ok_or_else(|| "an order came before the setup".to_owned())
    }
}

impl Member {
    fn now(&self) -> NodeNow {
        let up = self.handle.nodes();
        let made = self.state.made().len() as u64;
        let tracker = self.state.tracker();
        NodeNow {
            number: self.number,
            made,
            seen: tracker.seen(),
            up: up.iter().filter(|status| status.standing == NodeStanding::Up).count() as u64,
            listed: tracker.listed(),
        }
    }

    fn record(&self) -> Record {
        Record {
            node: self.number,
            made_nanos: std::mem::take(&mut *self.state.made()),
            sightings: self.state.tracker().take(),
        }
    }
}

fn memory() -> Result<News, String> {
    let statm = std::fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: `sysconf` takes a number and returns one.
    let page_bytes = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let pages = pages.ok_or("no resident set in /proc/self/statm")?;
    Ok(News::Memory { resident_bytes: pages * page_bytes })
}

/// What another thread left behind when it panicked is still worth counting: the panic itself is told.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
