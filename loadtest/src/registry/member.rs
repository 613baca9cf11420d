//! What one node of a registry run does on its shard: its services, its changes, its watches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use croupier::{RegistryError, Service, ServiceEvent, ServiceHandle, ServiceSpec, Shard, Watch};

use super::plan::{Change, Item, POOL, change, kinds, node_number, value_of};
use super::protocol::{News, Setup};
use super::shown::{CHANGE_KEY, FILLER, services_of_node};
use super::tracker::{Named, Tracker, Turn};
use super::worker::locked;
use crate::clock::monotonic_nanos;
use crate::fleet::say;
use crate::quantity::Rate;
use crate::schedule::{Schedule, ShardSchedule};

/// What a node's shard and the worker's main thread share.
#[derive(Debug)]
pub(crate) struct NodeState {
    number: usize,
    nodes: usize,
    entries: u64,
    schedule: Schedule,
    overrun_nanos: u64,
    /// Zero until the changes may begin.
    start_nanos: AtomicU64,
    has_stopped: AtomicBool,
    has_finished: AtomicBool,
    tracker: Mutex<Tracker>,
    /// When each change was made.
    made: Mutex<Vec<u64>>,
}

/// Between two looks for the start.
const START_POLL: Duration = Duration::from_millis(1);

/// The longest pause, so that a slow rate does not delay an interrupt.
const PAUSE_MAX: Duration = Duration::from_millis(20);

impl NodeState {
    pub(crate) fn new(number: usize, setup: &Setup) -> Self {
        let schedule = Schedule::new(
            Rate::of(setup.rate_per_second),
            Duration::from_nanos(setup.warmup_nanos),
            Duration::from_nanos(setup.duration_nanos),
        );
        Self {
            number,
            nodes: setup.nodes_in_all,
            entries: setup.entries,
            schedule,
            overrun_nanos: setup.overrun_nanos,
            start_nanos: AtomicU64::new(0),
            has_stopped: AtomicBool::new(false),
            has_finished: AtomicBool::new(false),
            tracker: Mutex::new(Tracker::new(setup.nodes_in_all, services_of_node(setup.entries))),
            made: Mutex::default(),
        }
    }

    /// Lets the changes begin at this time, and records what is seen of the others' from here on.
    pub(crate) fn begin(&self, start_nanos: u64) {
        let mut changes: Vec<u64> = (0..self.nodes).map(|node| self.part(node).remaining()).collect();
        changes[self.number] = 0;
        self.tracker().record(&changes);
        self.start_nanos.store(start_nanos, Ordering::Release);
    }

    /// Lets no more changes be made.
    pub(crate) fn stop(&self) {
        self.has_stopped.store(true, Ordering::Release);
    }

    pub(crate) fn has_finished(&self) -> bool {
        self.has_finished.load(Ordering::Acquire)
    }

    pub(crate) fn tracker(&self) -> MutexGuard<'_, Tracker> {
        locked(&self.tracker)
    }

    pub(crate) fn made(&self) -> MutexGuard<'_, Vec<u64>> {
        locked(&self.made)
    }

    fn part(&self, node: usize) -> ShardSchedule {
        self.schedule.of_shard(node, self.nodes)
    }
}

/// Adds the node's entries and its first pool, and leaves a task behind that holds them and makes the
/// changes when they may begin.
pub(crate) async fn load(shard: Shard, state: Arc<NodeState>) -> Result<(), String> {
    let mut entries = Vec::new();
    for number in 0..state.entries {
        entries.push(add(&shard, Item::Entry(number), None).await?);
    }
    let mut pool = VecDeque::new();
    for serial in 0..POOL {
        pool.push_back(add(&shard, Item::Pool(serial), None).await?);
    }
    let of_task = shard.clone();
    shard.spawn(async move {
        if let Err(error) = make_changes(&of_task, &state, &mut pool).await {
            say(&News::Failed(format!("a change of node {}: {error}", state.number + 1)));
        }
        state.has_finished.store(true, Ordering::Release);
        // The services stay for as long as the node does.
        std::future::pending::<()>().await;
        drop((entries, pool));
    });
    Ok(())
}

async fn add(shard: &Shard, item: Item, written: Option<u64>) -> Result<ServiceHandle, String> {
    let spec = ServiceSpec::new(item.kind())
        .id(item.id())
        .meta(CHANGE_KEY, value_of(written))
        .meta(FILLER.0, FILLER.1);
    shard.registry().add_service(spec).await.map_err(|error| error.to_string())
}

async fn make_changes(
    shard: &Shard,
    state: &NodeState,
    pool: &mut VecDeque<ServiceHandle>,
) -> Result<(), String> {
    let start_nanos = loop {
        match state.start_nanos.load(Ordering::Acquire) {
            0 => shard.sleep(START_POLL).await,
            start_nanos => break start_nanos,
        }
    };
    let give_up_nanos = start_nanos + state.schedule.end_nanos() + state.overrun_nanos;
    let mut part = state.part(state.number);
    let mut number = 0;
    while let Some(due) = part.peek() {
        let due_nanos = start_nanos + due.offset_nanos;
        let now = monotonic_nanos();
        if now >= give_up_nanos || state.has_stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        if now < due_nanos {
            shard.sleep(Duration::from_nanos(due_nanos - now).min(PAUSE_MAX)).await;
            continue;
        }
        state.made().push(now);
        make_change(shard, number, pool).await?;
        number += 1;
        part.advance();
    }
    Ok(())
}

async fn make_change(shard: &Shard, number: u64, pool: &mut VecDeque<ServiceHandle>) -> Result<(), String> {
    let text = |error: RegistryError| error.to_string();
    let empty = || "the pool is empty".to_owned();
    match change(number) {
        Change::Add { serial } => pool.push_back(add(shard, Item::Pool(serial), Some(number)).await?),
        Change::Update { .. } => {
            let middle = pool.get(POOL as usize / 2).ok_or_else(empty)?;
            middle.update_meta(CHANGE_KEY, value_of(Some(number))).await.map_err(text)?;
        }
        Change::Remove { .. } => pool.pop_front().ok_or_else(empty)?.remove().await.map_err(text)?,
    }
    Ok(())
}

/// Follows all types, and returns when each watch has named what is there.
pub(crate) async fn watch(shard: Shard, state: Arc<NodeState>) -> Result<(), String> {
    for kind in kinds() {
        let mut watcher = Watcher { state: Arc::clone(&state), named: Named::default() };
        let mut watch = shard.registry().watch(kind);
        while !watcher.take(next(&mut watch).await?) {}
        shard.spawn(async move {
            while let Some(event) = watch.next().await {
                watcher.take(event);
            }
        });
    }
    Ok(())
}

async fn next(watch: &mut Watch) -> Result<ServiceEvent, String> {
    watch.next().await.ok_or_else(|| "the node drains".to_owned())
}

/// Takes the events of one watch.
struct Watcher {
    state: Arc<NodeState>,
    named: Named,
}

impl Watcher {
    /// Returns whether the watch has named all that is there.
    fn take(&mut self, event: ServiceEvent) -> bool {
        let now = monotonic_nanos();
        match event {
            ServiceEvent::Present(service) => self.came(&service, now, Named::present),
            ServiceEvent::Joined(service) => self.came(&service, now, Named::joined),
            ServiceEvent::Updated(service) => {
                if let Some((node, item)) = identity(&service) {
                    self.state.tracker().changed(node, item, written(&service), now);
                }
            }
            ServiceEvent::Left(service) => {
                if let Some((node, item)) =
                    identity(&service).filter(|(node, item)| self.named.left(*node, *item))
                {
                    self.went(node, item, now);
                }
            }
            ServiceEvent::Synced => {
                for (node, item) in self.named.synced() {
                    self.went(node, item, now);
                }
                return true;
            }
            _ => {}
        }
        false
    }

    fn came(&mut self, service: &Service, now: u64, name: impl Fn(&mut Named, usize, Item) -> bool) {
        let Some((node, item)) = identity(service) else { return };
        let is_new = name(&mut self.named, node, item);
        let written = written(service);
        let mut tracker = self.state.tracker();
        if is_new {
            let turn = tracker.came(node, item, written, now);
            drop(tracker);
            self.tell(node, turn, now);
        } else {
            tracker.changed(node, item, written, now);
        }
    }

    fn went(&self, node: usize, item: Item, now: u64) {
        let turn = self.state.tracker().went(node, item, now);
        self.tell(node, turn, now);
    }

    fn tell(&self, origin: usize, turn: Option<Turn>, at_nanos: u64) {
        if let Some(turn) = turn {
            let is_filled = turn == Turn::Filled;
            say(&News::Turned { node: self.state.number, origin, is_filled, at_nanos });
        }
    }
}

fn identity(service: &Service) -> Option<(usize, Item)> {
    Some((node_number(service.node())?, Item::of_id(service.id())?))
}

fn written(service: &Service) -> Option<u64> {
    service.meta(CHANGE_KEY)?.parse().ok()
}
