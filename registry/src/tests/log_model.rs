//! One owner and its replicas under loss, duplication and reordering, against the owner's history. A run is replayed
//! by its seed, which every failure names.

use std::collections::BTreeMap;

use crate::limits::{ChunkLimits, LogLimits};
use crate::{Chunk, ChunkError, Cursor, Fault, Log, Partition, Service, ServiceBuilder, ServiceKey, Version};

#[test]
fn replicas_hold_what_the_owner_held_and_converge() {
    for seed in 0..SEEDS {
        run(seed).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    }
}

#[test]
fn a_seed_replays_to_the_same_state() {
    for seed in [1, 77, 4711] {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn every_fault_of_the_logs_is_caught() {
    for fault in [
        Fault::RemovalByDot,
        Fault::GapsAccepted,
        Fault::ContextAheadOfContent,
        Fault::NoSeal,
        Fault::SealIgnoresMissing,
    ] {
        let caught = (0..SEEDS).any(|seed| {
            let _built_in = fault.build_in();
            run(seed).is_err()
        });
        assert!(caught, "{fault:?} passed {SEEDS} seeds");
    }
}

const SEEDS: u64 = 1000;
const NODES: usize = 4;
const TICKS: usize = 300;
const KEYS: u64 = 12;
/// A whole transfer takes a few dozen chunks of 3 to each replica.
const SETTLE_TICKS: usize = 2000;

/// The sum of what the replicas went through, or which invariant broke.
fn run(seed: u64) -> Result<u64, String> {
    let mut sim = Simulation::new(seed);
    for tick in 0..TICKS {
        sim.owner_acts();
        if sim.random.u32(..100) < 2 {
            let victim = sim.random.usize(1..NODES);
            sim.logs[victim] = Log::new(LIMITS);
            sim.trace = sim.trace.wrapping_mul(31).wrapping_add(victim as u64);
        }
        sim.nodes_send();
        sim.network_delivers(40)?;
        sim.check().map_err(|failure| format!("tick {tick}: {failure}"))?;
    }
    for tick in 0..SETTLE_TICKS {
        sim.nodes_send();
        sim.network_delivers(0)?;
        sim.check().map_err(|failure| format!("settling {tick}: {failure}"))?;
        if sim.network.is_empty() && sim.logs.iter().all(|log| log.known() == sim.logs[0].known()) {
            return sim.check_converged();
        }
    }
    Err(format!(
        "no convergence: {:?}",
        sim.logs.iter().map(|log| (log.known(), log.horizon())).collect::<Vec<_>>()
    ))
}

struct Simulation {
    random: fastrand::Rng,
    /// The owner's is the first.
    logs: Vec<Log>,
    /// What the owner held after each version.
    history: Vec<BTreeMap<ServiceKey, (Version, Service)>>,
    /// Where the sender believes the receiver to be.
    cursors: BTreeMap<(usize, usize), Cursor>,
    network: Vec<Message>,
    trace: u64,
}

#[derive(Clone)]
enum Message {
    Chunk { from: usize, to: usize, chunk: Chunk },
    Pull { from: usize, to: usize, known: Version, content: Version },
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            logs: vec![Log::new(LIMITS); NODES],
            history: vec![BTreeMap::new()],
            cursors: BTreeMap::new(),
            network: Vec::new(),
            trace: seed,
        }
    }

    fn owner_acts(&mut self) {
        for _ in 0..self.random.usize(..4) {
            let id = self.random.u64(..KEYS).to_string();
            let mut state = self.history.last().cloned().unwrap_or_default();
            let key = ServiceKey::new(KIND, id.as_bytes()).unwrap();
            if self.random.u32(..10) < 6 {
                let version = self.logs[0].known() + 1;
                let service = ServiceBuilder::new(KIND, &id).meta("v", version.to_string()).build().unwrap();
                assert_eq!(self.logs[0].put(service.clone()).unwrap(), version);
                state.insert(key, (version, service));
            } else {
                let removed = self.logs[0].remove(&key);
                assert_eq!(removed.as_ref().map(|(_, service)| service), state.get(&key).map(|(_, s)| s));
                if removed.is_none() {
                    continue;
                }
                state.remove(&key);
            }
            self.history.push(state);
            assert_eq!(self.history.len() as u64, self.logs[0].known() + 1);
        }
    }

    /// Each node may push a chunk to each replica; now and then a replica asks somebody by itself.
    fn nodes_send(&mut self) {
        for from in 0..NODES {
            for to in 1..NODES {
                if from == to || self.random.u32(..100) < 50 {
                    continue;
                }
                let cursor = self.cursors.entry((from, to)).or_insert(Cursor::new(0, 0));
                if let Some(chunk) = cursor.next_chunk(&self.logs[from], &CHUNK) {
                    self.network.push(Message::Chunk { from, to, chunk });
                }
            }
        }
        if self.random.u32(..100) < 30 {
            let (from, to) = (self.random.usize(1..NODES), self.random.usize(..NODES));
            self.pull(from, to);
        }
    }

    fn pull(&mut self, from: usize, to: usize) {
        if from != to {
            let (known, content) = (self.logs[from].known(), self.logs[from].content());
            self.network.push(Message::Pull { from, to, known, content });
        }
    }

    /// Delivers half of what is under way in any order; loses and repeats at the rate given.
    fn network_delivers(&mut self, percent: u32) -> Result<(), String> {
        for _ in 0..self.network.len().div_ceil(2) {
            let at = if percent == 0 { 0 } else { self.random.usize(..self.network.len()) };
            let message = self.network.remove(at);
            if self.random.u32(..100) < percent {
                continue;
            }
            if self.random.u32(..100) < percent / 2 {
                self.network.push(message.clone());
            }
            self.deliver(message)?;
        }
        Ok(())
    }

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Pull { from, to, known, content } => {
                self.cursors.insert((to, from), Cursor::new(known, content));
            }
            Message::Chunk { from, to, chunk } => {
                let log = &mut self.logs[to];
                let mut changes = Vec::new();
                let result = match &chunk {
                    Chunk::Delta(delta) => {
                        delta.check(Partition::of_kind(KIND)).map_err(|error| error.to_string())?;
                        log.apply_delta(delta, &mut changes)
                    }
                    Chunk::Seal(seal) => {
                        seal.check().map_err(|error| error.to_string())?;
                        log.apply_seal(seal, &mut changes)
                    }
                };
                self.trace = self.trace.wrapping_mul(31).wrapping_add(log.known());
                match result {
                    Ok(_) => {}
                    Err(ChunkError::Gap { .. } | ChunkError::SealMissing { .. }) => self.pull(to, from),
                    Err(error) => return Err(format!("a right chunk was refused: {error}")),
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for (node, log) in self.logs.iter().enumerate() {
            if log.known() > self.logs[0].known() || log.removals_len() > LIMITS.removals_most {
                return Err(format!("node {node} knows too much"));
            }
            if !log.entries().map(|(version, _)| version).is_sorted_by(|a, b| a < b) {
                return Err(format!("node {node}: versions do not ascend"));
            }
            for (version, service) in log.entries() {
                let written = self.history.get(version as usize).and_then(|state| state.get(&service.key()));
                if written != Some(&(version, service.clone())) {
                    return Err(format!(
                        "node {node} has what its owner never wrote: {service:?} at {version}"
                    ));
                }
            }
            let held: BTreeMap<_, _> =
                log.entries().map(|(version, service)| (service.key(), (version, service.clone()))).collect();
            if log.is_exact() && held != self.history[log.known() as usize] {
                return Err(format!("node {node} is not what its owner was at {}", log.known()));
            }
        }
        Ok(())
    }

    fn check_converged(&self) -> Result<u64, String> {
        match self.logs.iter().position(|log| !log.is_exact()) {
            Some(node) => Err(format!("node {node} is not exact in the end")),
            None => Ok(self.trace),
        }
    }
}

const KIND: &[u8] = b"kind";
const LIMITS: LogLimits = LogLimits { removals_least: 4, removals_most: 4, entries_max: 1000 };
const CHUNK: ChunkLimits = ChunkLimits { events_max: 3, bytes: 1 << 20 };
