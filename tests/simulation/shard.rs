//! One shard of a process: the real machine, its inbox, and what it must show by all that it was told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use croupier_registry::wire::v1::Frame;
use croupier_registry::{
    Epoch, Event, Instance, LinkId, MemberChange, NodeKey, PARTITIONS, Partition, Partitions, Service,
    ServiceKey, Version,
};

use crate::oracle::Oracle;
use crate::plan::Micros;

/// What one part of a process says to a shard.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Member(MemberChange),
    LinkUp { peer: NodeKey, session: LinkId },
    LinkDown { peer: NodeKey },
    Frame { from: NodeKey, session: Option<LinkId>, frame: Arc<Frame>, bytes: usize },
    Pull { peer: NodeKey },
    Versions { peer: NodeKey, node: NodeKey },
}

/// The shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) partitions: Partitions,
    pub(crate) inbox: VecDeque<(Micros, Message)>,
    pub(crate) sessions: BTreeMap<NodeKey, LinkId>,
    members: BTreeMap<NodeKey, Seen>,
    /// What the events said, by type.
    shown: BTreeMap<Vec<u8>, Told>,
    me: NodeKey,
    process: u32,
    /// Where there are services at all.
    used: Vec<Partition>,
}

/// The name of a node, and a key of its services.
type InstanceKey = (Arc<str>, ServiceKey);
/// The instances of one type, by the events.
type Told = BTreeMap<InstanceKey, Instance>;

/// What the membership told of a node.
#[derive(Debug)]
struct Seen {
    process: u32,
    epoch: Epoch,
    standing: Standing,
    /// What the Hello advertised that began this Up; later, what a log had reached that had to begin anew.
    advertised: Box<[Version; PARTITIONS]>,
    /// The highest version of each log in this Up.
    reached: BTreeMap<Partition, Version>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Shown,
    Suspect,
    Hidden,
}

impl Shard {
    pub(crate) fn new(partitions: Partitions, me: NodeKey, process: u32, used: Vec<Partition>) -> Self {
        Self {
            partitions,
            inbox: VecDeque::new(),
            sessions: BTreeMap::new(),
            members: BTreeMap::new(),
            shown: BTreeMap::new(),
            me,
            process,
            used,
        }
    }

    /// Whether chunks of a peer wait to be applied.
    pub(crate) fn has_in_flight(&self, peer: NodeKey) -> bool {
        self.inbox.iter().any(|(_, message)| matches!(message, Message::Frame { from, .. } if *from == peer))
    }

    /// Notes what the machine is about to be told.
    pub(crate) fn note_member(&mut self, change: &MemberChange, oracle: &mut Oracle) {
        match change {
            MemberChange::Up { name, epoch, advertised } => {
                let node = NodeKey::of_name(name);
                let Some(process) = oracle.process_of(node, *epoch) else {
                    return oracle.fail(|| format!("{name} is Up in a life {epoch} that nobody had"));
                };
                let advertised = advertised.clone();
                let fresh = Seen {
                    process,
                    epoch: *epoch,
                    standing: Standing::Shown,
                    advertised,
                    reached: BTreeMap::new(),
                };
                match self.members.get_mut(&node) {
                    Some(seen) if seen.epoch == *epoch && seen.standing != Standing::Hidden => {
                        seen.standing = Standing::Shown;
                    }
                    _ => {
                        self.members.insert(node, fresh);
                    }
                }
            }
            MemberChange::Suspect(node) => self.set(*node, Standing::Shown, Standing::Suspect),
            MemberChange::Cleared(node) => self.set(*node, Standing::Suspect, Standing::Shown),
            MemberChange::Down(node) => {
                if let Some(seen) = self.members.get_mut(node) {
                    seen.standing = Standing::Hidden;
                }
            }
            MemberChange::Dropped(node) => {
                self.members.remove(node);
            }
            MemberChange::Renewed(_) => {}
        }
    }

    fn set(&mut self, node: NodeKey, from: Standing, to: Standing) {
        if let Some(seen) = self.members.get_mut(&node).filter(|seen| seen.standing == from) {
            seen.standing = to;
        }
    }

    /// Takes the machine's events; they have to add up.
    pub(crate) fn drain_events(&mut self, oracle: &mut Oracle) {
        while let Some(event) = self.partitions.poll_event() {
            match event {
                Event::Joined(instance) => {
                    oracle.mix(1);
                    let (key, of_kind) = self.told(&instance);
                    let before = of_kind.insert(key, instance.clone());
                    oracle.require(before.is_none(), || format!("{instance:?} joined, but was there"));
                }
                Event::Updated(instance) => {
                    oracle.mix(2);
                    let (key, of_kind) = self.told(&instance);
                    let before = of_kind.insert(key, instance.clone());
                    oracle
                        .require(before.is_some(), || format!("{instance:?} was updated, but was not there"));
                }
                Event::Left(instance) => {
                    oracle.mix(3);
                    let (key, of_kind) = self.told(&instance);
                    let before = of_kind.remove(&key);
                    oracle.require(
                        before.as_ref().is_some_and(|before| before.service == instance.service),
                        || format!("{instance:?} left, but there was {before:?}"),
                    );
                }
                Event::Commanded { op_id, outcome } => {
                    oracle.mix(4);
                    oracle.answered(op_id, Some(outcome));
                }
                Event::CommandInDoubt { op_id } => {
                    oracle.mix(5);
                    oracle.answered(op_id, None);
                }
            }
        }
    }

    /// An instance's key, and what was told of its type.
    fn told(&mut self, instance: &Instance) -> (InstanceKey, &mut Told) {
        let key = (Arc::clone(&instance.node), instance.service.key());
        (key, self.shown.entry(instance.service.kind().to_vec()).or_default())
    }

    /// Requires one log of another node, and what is shown of it, to be right.
    pub(crate) fn check_log(&mut self, node: NodeKey, partition: Partition, oracle: &mut Oracle) {
        let Some(log) = self.partitions.log(node, partition).filter(|_| node != self.me) else { return };
        let Some(seen) = self.members.get_mut(&node) else {
            return oracle.fail(|| format!("there is data of {node}, which is no member"));
        };
        if let Err(failure) = oracle.check_log(seen.process, partition, log) {
            oracle.fail(|| {
                format!(
                    "process {} has of process {}, partition {}: {failure}",
                    self.process,
                    seen.process,
                    partition.get()
                )
            });
        }
        // The clamp follows the entries as removals are pushed, so only the upper bound holds at any time.
        let removals = log.removals_len();
        oracle.require(removals <= REMOVALS_MAX, || format!("{removals} removals are remembered"));
        let reached = seen.reached.entry(partition).or_default();
        if log.known() < *reached {
            let version = &mut seen.advertised[partition.index()];
            *version = (*version).max(*reached);
        }
        *reached = log.known();
        // All entries of a log are shown, or none.
        if let Some((_, service)) = log.entries().next() {
            let key = service.key();
            if self.partitions.find(node, &key).is_some() {
                let version = seen.advertised[partition.index()];
                oracle.require(log.known() >= version && seen.standing != Standing::Hidden, || {
                    format!(
                        "process {} shows {key:?} of process {} at {}, which advertised {version} ({:?})",
                        self.process,
                        seen.process,
                        log.known(),
                        seen.standing
                    )
                });
            }
        }
    }

    /// Requires everything of this shard to be right.
    pub(crate) fn check(&mut self, oracle: &mut Oracle) {
        let known: Vec<_> = self.partitions.digests().map(|(node, _)| node).collect();
        for node in known {
            if node == self.me {
                self.check_own(oracle);
                continue;
            }
            if !self.members.contains_key(&node) {
                return oracle
                    .fail(|| format!("process {} has data of {node}, which is no member", self.process));
            }
            for at in 0..self.used.len() {
                self.check_log(node, self.used[at], oracle);
            }
        }
        self.check_shown(oracle);
    }

    fn check_own(&self, oracle: &mut Oracle) {
        for partition in &self.used {
            let Some(log) = self.partitions.log(self.me, *partition) else { continue };
            let written = oracle.history(self.process, *partition).map_or(0, |history| history.known());
            oracle.require(log.known() == written && log.is_exact(), || {
                format!("process {} wrote {written}, and its own log is at {}", self.process, log.known())
            });
            if let Err(failure) = oracle.check_log(self.process, *partition, log) {
                oracle.fail(|| {
                    format!("process {}, its own partition {}: {failure}", self.process, partition.get())
                });
            }
        }
    }

    /// What is shown is what the events said, of members that are to be shown, and all of it.
    fn check_shown(&self, oracle: &mut Oracle) {
        let told: usize = self.shown.values().map(BTreeMap::len).sum();
        let count: usize = self.shown.keys().map(|kind| self.check_kind(kind, oracle)).sum();
        oracle.require(count == told, || format!("{count} instances are shown, the events said {told}"));
        let untold = self.partitions.kinds().into_iter().find(|kind| !self.shown.contains_key(kind));
        if let Some(kind) = untold {
            let count = self.check_kind(&kind, oracle);
            oracle.require(count == 0, || {
                format!("{count} instances are shown of which no event said anything")
            });
        }
        let expected: usize = self.members.iter().map(|(node, seen)| self.to_be_shown(*node, seen)).sum();
        let own: usize =
            self.used.iter().filter_map(|one| self.partitions.log(self.me, *one)).map(|log| log.len()).sum();
        oracle.require(count == expected + own, || {
            format!(
                "process {} shows {count} instances instead of {expected} and {own} own ones",
                self.process
            )
        });
    }

    /// The same for the types of one partition, but for what may be hidden.
    pub(crate) fn check_shown_of(&self, partition: Partition, oracle: &mut Oracle) {
        for (kind, told) in &self.shown {
            if Partition::of_kind(kind) == partition {
                let (count, told) = (self.check_kind(kind, oracle), told.len());
                oracle.require(count == told, || {
                    format!("{count} instances are shown, the events said {told}")
                });
            }
        }
    }

    /// How many instances of a type are shown, each of which was told and may be shown.
    fn check_kind(&self, kind: &[u8], oracle: &mut Oracle) -> usize {
        let shown = self.partitions.instances(kind);
        let told = self.shown.get(kind);
        for instance in &shown {
            let key = (Arc::clone(&instance.node), instance.service.key());
            let told = told.and_then(|told| told.get(&key));
            oracle.require(told == Some(instance), || {
                format!("process {} shows {instance:?}, the events said {told:?}", self.process)
            });
            let node = NodeKey::of_name(&instance.node);
            let standing = self.members.get(&node).map(|seen| seen.standing);
            let right = match standing {
                Some(Standing::Shown) => !instance.suspect,
                Some(Standing::Suspect) => instance.suspect,
                Some(Standing::Hidden) | None => node == self.me,
            };
            oracle.require(right, || {
                format!("process {} shows {instance:?} of a node that is {standing:?}", self.process)
            });
        }
        shown.len()
    }

    fn to_be_shown(&self, node: NodeKey, seen: &Seen) -> usize {
        if seen.standing == Standing::Hidden {
            return 0;
        }
        let logs = self.used.iter().filter_map(|one| Some((one, self.partitions.log(node, *one)?)));
        logs.filter(|(one, log)| log.known() >= seen.advertised[one.index()]).map(|(_, log)| log.len()).sum()
    }

    /// A sum of all state that frames can change.
    pub(crate) fn state(&self) -> u64 {
        let mut sum = Oracle::default();
        for (node, _) in self.partitions.digests() {
            sum.mix(u64::from(node.to_bytes()[0]));
            for partition in &self.used {
                let Some(log) = self.partitions.log(node, *partition) else { continue };
                for number in [
                    log.known(),
                    log.content(),
                    log.horizon(),
                    log.removals_from(),
                    log.removals_len() as u64,
                ] {
                    sum.mix(number);
                }
                for (version, service) in log.entries() {
                    sum.mix(version);
                    sum.mix(bytes_of(service));
                }
            }
        }
        sum.mix(self.shown.values().map(BTreeMap::len).sum::<usize>() as u64);
        sum.trace
    }
}

fn bytes_of(service: &Service) -> u64 {
    let mut sum = Oracle::default();
    for byte in service.id().iter().chain(service.packed_metadata()) {
        sum.mix(u64::from(*byte));
    }
    sum.mix(u64::from(service.is_online()));
    sum.trace
}

/// The largest ring of removals of any plan.
const REMOVALS_MAX: usize = 8;
