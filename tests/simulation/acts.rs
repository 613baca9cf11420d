//! What happens to the cluster while a plan lasts.

use std::sync::Arc;
use std::time::Duration;

use croupier_registry::wire::v1::{ByeReason, Frame, LogId, Operation};
use croupier_registry::{Delta, NodeKey, Partition, Put, Removal, Seal, Service, ServiceBuilder, ServiceKey};

use crate::network::Event;
use crate::plan::{Act, MS, Micros, SECOND};
use crate::world::World;

impl World {
    /// One act of the plan, by weight.
    pub(crate) fn act(&mut self) {
        let total: u32 = self.plan.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.u32(..total);
        let chosen = self.plan.acts.iter().find(|(_, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let Some((act, _)) = chosen.copied() else { return };
        let running = self.running();
        let Some(host) = self.random.choice(running) else { return };
        self.oracle.mix(act as u64);
        self.oracle.tell(|| format!("{act:?} at host {host}"));
        match act {
            Act::Change => self.change(host),
            Act::Command => self.command(host),
            Act::Split => self.split(),
            Act::OneWay => self.cut_pair(host, false),
            Act::Pair => self.cut_pair(host, true),
            Act::Reset => {
                if let Some(connection) = self.network.any_connection() {
                    self.network.reset(connection);
                }
            }
            Act::Crash => {
                self.kill(host);
                self.start_later(host);
            }
            Act::Dark => {
                self.network.dark.insert(host);
                self.kill(host);
                self.start_later(host);
            }
            Act::Leave => self.leave(host, ByeReason::Leaving),
            Act::Fail => self.leave(host, ByeReason::Failed),
            Act::Pause => self.pause(host),
            Act::Twin => self.twin(host),
            Act::Corrupt => {
                if let Some(connection) = self.network.any_connection() {
                    self.network.corrupt(connection);
                }
            }
            Act::Forge => self.forge(host),
            Act::Replay => self.replay(host),
        }
    }

    fn change(&mut self, host: usize) {
        // Several in quick succession are what a batch is made of.
        for _ in 0..self.random.usize(1..=3) {
            let key = self.any_key();
            if self.random.u32(..100) < 35 {
                self.with(host, |process, cx| process.remove(&key, cx));
            } else {
                let service = self.service(&key);
                self.with(host, |process, cx| process.put(&service, cx));
            }
        }
    }

    fn any_key(&mut self) -> ServiceKey {
        let kind = &self.plan.kinds[self.random.usize(..self.plan.kinds.len())];
        let id = self.random.u64(..self.plan.ids).to_string();
        ServiceKey::new(kind, id.as_bytes()).expect("kinds and ids are short")
    }

    /// Every service that is written differs from all others.
    fn service(&mut self, key: &ServiceKey) -> Service {
        self.written += 1;
        let builder = ServiceBuilder::new(key.kind(), key.id()).meta("n", self.written.to_string());
        let builder = if self.random.u32(..100) < 20 { builder.unique() } else { builder };
        builder.online(self.random.u32(..100) < 80).build().expect("it is within the limits")
    }

    fn command(&mut self, host: usize) {
        let kind = self.plan.kinds[self.random.usize(..self.plan.kinds.len())].clone();
        let Some(process) = &self.hosts[host].process else { return };
        let shard = process.shard_of(Partition::of_kind(&kind));
        let shown = process.shards[shard].partitions.instances(&kind);
        let Some(instance) = self.random.choice(shown) else { return };
        let (owner, key) = (NodeKey::of_name(&instance.node), instance.service.key());
        let operation = [Operation::Enable, Operation::Disable, Operation::Remove][self.random.usize(..3)];
        let expect_version = match self.random.u32(..4) {
            0 => process.shards[shard].partitions.find(owner, &key).map(|(version, _)| version),
            1 => Some(self.random.u64(1..20)),
            _ => None,
        };
        let op_id = self.random.u128(..);
        self.with(host, |process, cx| {
            cx.oracle.commanded(process.number, op_id);
            let now = cx.network.instant();
            let mut sent = Ok(());
            process.by_command(shard, op_id, &key, cx, |partitions| {
                sent = partitions.command(op_id, owner, operation, &key, expect_version, COMMAND_TIME, now);
            });
            if sent.is_err() {
                cx.oracle.not_commanded(op_id);
            }
            process.shards[shard].drain_events(cx.oracle);
            process.settle(cx);
        });
    }

    fn split(&mut self) {
        let hosts = self.hosts.len();
        let side: Vec<bool> = (0..hosts).map(|_| self.random.bool()).collect();
        let pairs = (0..hosts).flat_map(|one| (0..hosts).map(move |other| (one, other)));
        let directions: Vec<_> = pairs.filter(|(one, other)| side[*one] != side[*other]).collect();
        self.cut(directions);
    }

    fn cut_pair(&mut self, one: usize, both: bool) {
        let other = self.random.usize(..self.plan.shards.len());
        if one != other {
            let mut directions = vec![(one, other)];
            directions.extend(both.then_some((other, one)));
            self.cut(directions);
        }
    }

    fn cut(&mut self, directions: Vec<(usize, usize)>) {
        let time = self.some_time(6 * SECOND);
        self.oracle.tell(|| format!("{directions:?} are cut"));
        self.network.cut(&directions);
        self.network.at(self.network.now + time, Event::Heal { directions });
    }

    /// Mostly short, sometimes long.
    fn some_time(&mut self, most: Micros) -> Micros {
        let most = if self.random.bool() { most } else { most / 10 };
        self.random.u64(MS..=most)
    }

    /// A host gets its process back, perhaps with its clock set back an hour.
    fn start_later(&mut self, host: usize) {
        if self.random.u32(..100) < 30 {
            self.hosts[host].clock_ms -= HOUR_MS;
        } else if self.random.u32(..100) < 20 {
            self.hosts[host].clock_ms = 0;
        }
        let wait =
            if self.random.u32(..100) < 40 { self.random.u64(..5 * MS) } else { self.some_time(5 * SECOND) };
        if host < self.plan.shards.len() {
            self.plan.shards[host] = [1, 2, 4][self.random.usize(..3)];
            self.network.at(self.network.now + wait, Event::Start { host });
        }
    }

    fn leave(&mut self, host: usize, reason: ByeReason) {
        self.with(host, |process, cx| process.leave(reason, cx));
        self.kill(host);
        self.start_later(host);
    }

    fn pause(&mut self, host: usize) {
        let time = self.plan.pause.unwrap_or_else(|| self.some_time(4 * SECOND));
        self.hosts[host].stopped = true;
        self.network.at(self.network.now + time, Event::Resume { host });
    }

    fn twin(&mut self, host: usize) {
        let spare = self.hosts.len() - 1;
        if self.hosts[spare].process.is_some() {
            if self.random.bool() {
                self.kill(spare);
            }
        } else if host != spare {
            self.start(spare, Some(host));
        }
    }

    /// A frame out of the past, as it was, or to another node.
    fn replay(&mut self, host: usize) {
        if self.archive.is_empty() {
            return;
        }
        let (from, frame, bytes) = self.archive[self.random.usize(..self.archive.len())].clone();
        self.with(host, |process, cx| process.handle_stray(from, &frame, bytes, cx));
    }

    /// What no right node says: each must be refused, and change nothing.
    fn forge(&mut self, host: usize) {
        let key = self.any_key();
        let service = self.service(&key);
        let Some(process) = &self.hosts[host].process else { return };
        let peers = process.peers();
        let (me, my_epoch) = (process.key, process.membership.epoch());
        let Some(from) = self.random.choice(peers) else { return };
        let nodes = process.membership.nodes();
        let Some(epoch) =
            nodes.iter().find(|node| NodeKey::of_name(&node.name) == from).map(|node| node.epoch)
        else {
            return;
        };
        let partition = key.partition();
        let known = process.version_of(from, partition);
        let log = LogId { origin: from, epoch, partition };
        let wrong = Partition::all()
            .find(|other| *other != partition && process.shard_of(*other) == process.shard_of(partition));
        let delta = Delta {
            from: known,
            to: known + 2,
            horizon: known + 2,
            removals_from: 0,
            puts: vec![Put { version: known + 1, service }],
            removals: vec![Removal { version: known + 2, key }],
        };
        let seal =
            Seal { target: known + 2, low: 0, high: known + 2, horizon: known + 2, live: vec![known + 1] };
        let frame = match self.random.u32(..10) {
            // It claims to be this node's own.
            0 => Frame::Delta { log: LogId { origin: me, epoch: my_epoch, ..log }, delta },
            1 => Frame::Seal { log: LogId { origin: me, epoch: my_epoch, ..log }, seal },
            // Nobody asked for it.
            2 => Frame::Delta { log: LogId { origin: NodeKey::of_name("stranger"), ..log }, delta },
            3 => Frame::Delta { log: LogId { partition: wrong.unwrap_or(partition), ..log }, delta },
            4 => Frame::Delta { log, delta: Delta { from: known + 3, ..delta } },
            5 => Frame::Delta { log, delta: Delta { horizon: known + 1, ..delta } },
            6 => Frame::Delta { log, delta: Delta { from: known + 1, ..delta } },
            7 => Frame::Seal { log, seal: Seal { live: vec![known + 2, known + 1], ..seal } },
            8 => Frame::Seal { log, seal: Seal { high: known + 3, ..seal } },
            _ => Frame::Seal { log, seal: Seal { live: vec![known + 4], ..seal } },
        };
        let frame = Arc::new(frame);
        self.with(host, |process, cx| process.handle_forged(from, &frame, cx));
    }
}

/// How long an answer is waited for.
const COMMAND_TIME: Duration = Duration::from_secs(3);
const HOUR_MS: i64 = 3_600_000;
