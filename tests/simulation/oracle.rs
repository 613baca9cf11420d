//! What every owner really wrote, and the first thing that is not as it must be.

use std::collections::BTreeMap;

use croupier_registry::wire::v1::Outcome;
use croupier_registry::{Epoch, Log, NodeKey, Partition, Service, ServiceKey, Version};

/// The entries of a log at some version.
pub(crate) type State = BTreeMap<ServiceKey, (Version, Service)>;

/// All versions of one log of one process. A renewed epoch goes on with the same log.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// What the log held after each version.
    states: Vec<State>,
    /// Which key each event concerns; that of version 1 comes first.
    keys: Vec<ServiceKey>,
}

impl History {
    pub(crate) fn known(&self) -> Version {
        self.keys.len() as Version
    }

    pub(crate) fn latest(&self) -> &State {
        self.states.last().expect("a history begins with nothing")
    }
}

/// The truth, and what was found to differ from it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The first invariant that did not hold.
    pub(crate) failure: Option<String>,
    /// Whether what happens is printed.
    is_told: bool,
    /// The present in microseconds, for what is printed.
    pub(crate) now: u64,
    /// Sum of all that happened, to compare two runs.
    pub(crate) trace: u64,
    /// What happened, to count.
    pub(crate) counts: Counts,
    lives: BTreeMap<(NodeKey, Epoch), u32>,
    histories: BTreeMap<(u32, Partition), History>,
    executed: BTreeMap<u128, Version>,
    /// Who asked, and whether there was an outcome.
    outcomes: BTreeMap<u128, (u32, bool)>,
}

/// How much a run went through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) frames: u64,
    pub(crate) chunks: u64,
    pub(crate) changes: u64,
    pub(crate) commands: u64,
    pub(crate) checks: u64,
    pub(crate) ups: u64,
    pub(crate) downs: u64,
    pub(crate) refused: u64,
    pub(crate) relayed: u64,
    pub(crate) stale: u64,
    pub(crate) conflicts: u64,
    pub(crate) micros: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.frames += other.frames;
        self.chunks += other.chunks;
        self.changes += other.changes;
        self.commands += other.commands;
        self.checks += other.checks;
        self.ups += other.ups;
        self.downs += other.downs;
        self.refused += other.refused;
        self.relayed += other.relayed;
        self.stale += other.stale;
        self.conflicts += other.conflicts;
        self.micros += other.micros;
    }
}

impl Oracle {
    pub(crate) fn new(is_told: bool) -> Self {
        Self { is_told, ..Self::default() }
    }

    /// Notes that something is not as it must be.
    pub(crate) fn fail(&mut self, failure: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(failure());
        }
    }

    /// Requires something.
    pub(crate) fn require(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.fail(failure);
        }
    }

    /// Prints what happens, if it is to be.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>10.3} ms  {}", self.now as f64 / 1000.0, what());
        }
    }

    /// Adds to the trace.
    pub(crate) fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    // What owners write.

    /// A process lives, or goes on, under this epoch.
    pub(crate) fn lives(&mut self, process: u32, node: NodeKey, epoch: Epoch) {
        self.lives.insert((node, epoch), process);
    }

    /// Which process that is or was.
    pub(crate) fn process_of(&self, node: NodeKey, epoch: Epoch) -> Option<u32> {
        self.lives.get(&(node, epoch)).copied()
    }

    /// The owner's log changed: what happened to which key.
    pub(crate) fn wrote(
        &mut self,
        process: u32,
        key: &ServiceKey,
        version: Version,
        service: Option<Service>,
    ) {
        self.counts.changes += 1;
        let history = self
            .histories
            .entry((process, key.partition()))
            .or_insert_with(|| History { states: vec![State::new()], keys: Vec::new() });
        let expected = history.known() + 1;
        let mut state = history.latest().clone();
        match service {
            Some(service) => {
                state.insert(key.clone(), (version, service));
            }
            None => {
                state.remove(key);
            }
        }
        history.states.push(state);
        history.keys.push(key.clone());
        self.require(version == expected, || {
            format!("process {process} wrote version {version} of {key:?} after {}", expected - 1)
        });
    }

    pub(crate) fn history(&self, process: u32, partition: Partition) -> Option<&History> {
        self.histories.get(&(process, partition))
    }

    /// All partitions that a process ever wrote.
    pub(crate) fn histories_of(&self, process: u32) -> impl Iterator<Item = (Partition, &History)> {
        let first = Partition::all().next().expect("there are partitions");
        let last = Partition::all().next_back().expect("there are partitions");
        self.histories
            .range((process, first)..=(process, last))
            .map(|((_, partition), history)| (*partition, history))
    }

    // Commands.

    /// A process asks for something.
    pub(crate) fn commanded(&mut self, process: u32, op_id: u128) {
        self.outcomes.insert(op_id, (process, false));
    }

    /// It was not even asked for.
    pub(crate) fn not_commanded(&mut self, op_id: u128) {
        self.outcomes.remove(&op_id);
    }

    /// The commands of a process that wait for their outcome.
    pub(crate) fn unanswered(&self, process: u32) -> usize {
        self.outcomes.values().filter(|outcome| **outcome == (process, false)).count()
    }

    /// The owner changed something by a command.
    pub(crate) fn executed(&mut self, op_id: u128, version: Version) {
        self.counts.commands += 1;
        if let Some(before) = self.executed.insert(op_id, version) {
            self.fail(|| {
                format!("command {op_id:x} was carried out at version {before} and again at {version}")
            });
        }
    }

    /// Whoever asked got an outcome, or the doubt about it.
    pub(crate) fn answered(&mut self, op_id: u128, outcome: Option<Outcome>) {
        let before = self.outcomes.get(&op_id).copied();
        if let Some((process, false)) = before {
            self.outcomes.insert(op_id, (process, true));
        }
        self.require(before.is_some_and(|(_, answered)| !answered), || {
            format!("command {op_id:x} has two outcomes, or was never given")
        });
        if let Some(Outcome::Done { version }) = outcome {
            let executed = self.executed.get(&op_id).copied();
            self.require(executed == Some(version), || {
                format!("command {op_id:x} is said to be done at {version}, and was at {executed:?}")
            });
        }
    }

    // What replicas hold.

    /// Requires a replica's log to hold what its owner held.
    pub(crate) fn check_log(&mut self, process: u32, partition: Partition, log: &Log) -> Result<(), String> {
        self.counts.checks += 1;
        let (known, horizon, content) = (log.known(), log.horizon(), log.content());
        let empty = History { states: vec![State::new()], keys: Vec::new() };
        let history = self.histories.get(&(process, partition)).unwrap_or(&empty);
        if horizon < known || content < known || horizon.max(content) > history.known() {
            return Err(format!(
                "a replica knows {known}, content {content}, horizon {horizon}; its owner wrote {}",
                history.known()
            ));
        }
        // A key without an event in (known, horizon] is exactly as it was at `known`; without any, so is the log.
        let unsure = &history.keys[known as usize..horizon as usize];
        let is_sure = |key: &ServiceKey| !unsure.contains(key);
        let was = &history.states[known as usize];
        let (mut previous, mut sure) = (0, 0);
        for (version, service) in log.entries() {
            if version <= previous {
                return Err(format!("version {version} stands behind {previous}"));
            }
            previous = version;
            let key = service.key();
            let written = history.states.get(version as usize).and_then(|state| state.get(&key));
            if written.is_none_or(|(at, written)| *at != version || written != service) {
                return Err(format!("{service:?} at {version} was never written"));
            }
            if is_sure(&key) {
                sure += 1;
                if was.get(&key).is_none_or(|(at, _)| *at != version) {
                    return Err(format!(
                        "{key:?} at {version} is here, but was not at {known}, horizon {horizon}"
                    ));
                }
            }
        }
        let expected = was.keys().filter(|key| is_sure(key)).count();
        if sure != expected {
            return Err(format!("{sure} entries are here, {expected} were at {known}, horizon {horizon}"));
        }
        Ok(())
    }
}
