//! The end of every run: all cuts heal, and then everybody must come to see the same, and that it is right.

use std::collections::{BTreeMap, BTreeSet};

use croupier_registry::{NodeStanding, Service, ServiceKey};

use crate::node::Process;
use crate::plan::{MS, Micros, SECOND};
use crate::world::World;

/// Of each type, whom lookups may choose.
type Tables = BTreeMap<Vec<u8>, Vec<(String, Service)>>;

impl World {
    /// Heals everything, and runs until the nodes agree.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.settling = true;
        self.oracle.tell(|| "everything heals".to_owned());
        self.network.become_good();
        if let Some((one, other)) = self.plan.broken {
            self.network.cut(&[(one, other), (other, one)]);
        }
        let spare = self.hosts.len() - 1;
        let had_twins = self.has_twins();
        for host in 0..self.hosts.len() {
            self.resume(host);
            if self.hosts[host].process.is_none() && host != spare && (host < 2 || self.random.bool()) {
                self.start(host, None);
            } else if host == spare && self.random.bool() {
                self.kill(host);
            }
        }
        // A dark host that stays so refuses nothing; one that runs again was taken out.
        let end = self.network.now + SETTLE_TIME;
        loop {
            self.run_until(self.network.now + SETTLE_STEP)?;
            if let Some(disagreement) = self.disagreement() {
                if self.network.now >= end {
                    return Err(format!("no convergence: {disagreement}"));
                }
                continue;
            }
            // It has to stay so, until all commands have ended and every timer has had its turn.
            self.run_until(self.network.now + QUIET_TIME)?;
            match self.disagreement() {
                None => break,
                // Of two with one name, the one that waits may be the one that stays when it tries again; and one that
                // is just gone may still have answered, so that the other one waits.
                Some(_) if (had_twins || self.has_twins()) && self.network.now < end => {}
                Some(disagreement) => return Err(format!("converged, and then: {disagreement}")),
            }
        }
        self.check_all();
        for process in self.hosts.iter().filter_map(|host| host.process.as_ref()) {
            let unanswered = self.oracle.unanswered(process.number);
            if unanswered > 0 {
                return Err(format!("{unanswered} commands of process {} never ended", process.number));
            }
        }
        self.oracle.failure.take().map_or(Ok(()), Err)
    }

    /// What somebody sees that is not so, or does not see that is.
    fn disagreement(&self) -> Option<String> {
        let live = match self.members() {
            Ok(live) => live,
            Err(disagreement) => return Some(disagreement),
        };
        let mut tables: Option<Tables> = None;
        for process in &live {
            if let Some(disagreement) = self.disagreement_of(process, &live) {
                return Some(format!("process {} ({}): {disagreement}", process.number, process.name));
            }
            let mut own = Tables::new();
            for shard in &process.shards {
                for kind in shard.partitions.kinds() {
                    let candidates = shard.partitions.candidates(&kind).into_iter();
                    let chosen: Vec<_> = candidates.map(|one| (one.node.to_string(), one.service)).collect();
                    if !chosen.is_empty() {
                        own.insert(kind, chosen);
                    }
                }
            }
            if tables.as_ref().is_some_and(|tables| *tables != own) {
                return Some(format!("process {} chooses from another table", process.number));
            }
            tables = Some(own);
        }
        None
    }

    fn has_twins(&self) -> bool {
        let names: Vec<_> =
            self.hosts.iter().filter_map(|host| host.process.as_ref()).map(|process| &process.name).collect();
        let different: BTreeSet<_> = names.iter().collect();
        different.len() < names.len()
    }

    /// The processes that are members: of two with one name, the one that the others accept.
    fn members(&self) -> Result<Vec<&Process>, String> {
        let mut by_name: BTreeMap<&str, Vec<&Process>> = BTreeMap::new();
        for process in self.hosts.iter().filter_map(|host| host.process.as_ref()) {
            by_name.entry(&process.name).or_default().push(process);
        }
        let mut live = Vec::new();
        for (name, mut processes) in by_name {
            if processes.len() > 1 {
                processes.retain(|process| !process.peers().is_empty());
            }
            match processes[..] {
                [one] => live.push(one),
                _ => return Err(format!("{} processes are {name}", processes.len())),
            }
        }
        Ok(live)
    }

    /// Whether these two never find each other again.
    fn is_broken(&self, one: &Process, other: &Process) -> bool {
        self.plan.broken.is_some_and(|pair| pair == (one.host, other.host) || pair == (other.host, one.host))
    }

    fn disagreement_of(&self, process: &Process, live: &[&Process]) -> Option<String> {
        for node in process.membership.nodes() {
            let found = live.iter().find(|other| other.name == node.name);
            let lives = found.is_some();
            let broken = found.is_some_and(|other| self.is_broken(process, other));
            match node.standing {
                NodeStanding::Suspect if broken => {}
                NodeStanding::Up if lives && !broken => {}
                NodeStanding::Down | NodeStanding::Candidate if !lives => {}
                standing => return Some(format!("{} is {standing:?}", node.name)),
            }
        }
        let digests = process.digests();
        for other in live.iter().filter(|other| other.number != process.number) {
            if process.membership.standing(other.key).is_none() {
                return Some(format!("{} is not there", other.name));
            }
            let (here, there) = (digests.get(&other.key), other.digests().get(&other.key).copied());
            if here.copied().unwrap_or_default() != there.unwrap_or_default() {
                return Some(format!("the digest of {} differs", other.name));
            }
        }
        let mut expected: BTreeMap<(String, ServiceKey), Service> = BTreeMap::new();
        for other in live {
            for (_, history) in self.oracle.histories_of(other.number) {
                let entries = history.latest().iter();
                expected.extend(
                    entries
                        .map(|(key, (_, service))| ((other.name.to_string(), key.clone()), service.clone())),
                );
            }
        }
        let mut shown = 0;
        for shard in &process.shards {
            for kind in shard.partitions.kinds() {
                for instance in shard.partitions.instances(&kind) {
                    shown += 1;
                    let key = (instance.node.to_string(), instance.service.key());
                    let broken =
                        |other: &&Process| other.name == instance.node && self.is_broken(process, other);
                    let suspect = live.iter().copied().any(|other| broken(&other));
                    if expected.get(&key) != Some(&instance.service) || instance.suspect != suspect {
                        return Some(format!("{instance:?} is shown"));
                    }
                }
            }
        }
        (shown != expected.len())
            .then(|| format!("{shown} instances are shown instead of {}", expected.len()))
    }
}

/// How long it may take until everybody agrees: a split after which both sides forgot each other is healed by the
/// seeds, which are dialled every 15 to 30 s; a name in conflict is tried every 10 s.
const SETTLE_TIME: Micros = 75 * SECOND;
const SETTLE_STEP: Micros = 250 * MS;
const QUIET_TIME: Micros = 3500 * MS;
