//! The tables of the types whose partitions a shard owns: from events to news for every shard.
//!
//! This shard's own lookups read the ring itself. The other shards, and other threads, get copies of its
//! table: at once after a pause, and else so seldom that copying takes a small part of the time. Where there is no other
//! shard, the copy is of the part that other threads ask for.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use croupier_registry::{Event, NodeKey};
use croupier_ring::{RingClass, RingError, ServiceRing};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::services::{Instance, KindRing, KindUpdate};

/// What a full build of a ring costs, in joins; and a leave, which has to find heirs.
const BUILD_COST: usize = 256;
const LEAVE_COST: usize = 64;
/// Shortest time between two copies of a table: of a small one, and of one that takes a megabyte or so.
const COPY_INTERVAL_SMALL: Duration = Duration::from_millis(1);
const COPY_INTERVAL: Duration = Duration::from_millis(10);

/// All types of this shard's partitions that have instances.
#[derive(Default)]
pub(crate) struct Home {
    kinds: HashMap<Arc<[u8]>, Kind>,
    /// Types with news for this shard.
    changed: BTreeSet<Arc<[u8]>>,
    /// Types with news for the others.
    unpublished: BTreeSet<Arc<[u8]>>,
}

/// Who is told beside the shard that builds a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Other shards, and threads beside them.
    Shards,
    /// Threads beside the only shard: nobody who asks for several owners of a key.
    ThreadsAlone,
}

/// News of one type for the shard that builds its table.
pub(crate) struct OwnNews {
    pub(crate) kind: Arc<[u8]>,
    pub(crate) ring: Rc<RefCell<KindRing>>,
    pub(crate) changes: Vec<(u32, Option<Arc<Instance>>)>,
}

impl Home {
    /// Takes an event of an instance; others are not for here.
    pub(crate) fn take(&mut self, event: Event) {
        let (instance, is_shown) = match event {
            Event::Joined(instance) | Event::Updated(instance) => (instance, true),
            Event::Left(instance) => (instance, false),
            Event::Commanded { .. } | Event::CommandInDoubt { .. } => return,
        };
        let croupier_registry::Instance { node, service, suspect } = instance;
        let kind = match self.kinds.get_mut(service.kind()) {
            Some(kind) => kind,
            None if !is_shown => return,
            None => {
                let name: Arc<[u8]> = service.kind().into();
                self.kinds.entry(Arc::clone(&name)).or_insert_with(|| Kind::new(name))
            }
        };
        if kind.changed.is_empty() {
            self.changed.insert(Arc::clone(&kind.name));
        }
        kind.set(Instance::new(node, service, suspect), is_shown);
    }

    /// What became of each type since the last time, for this shard. It has to take it in before anything is
    /// looked up.
    pub(crate) fn own_news(&mut self) -> Vec<OwnNews> {
        let mut news = Vec::new();
        for name in mem::take(&mut self.changed) {
            let Some(kind) = self.kinds.get_mut(&name) else { continue };
            let changed = kind.settle();
            let changes = changed.iter().map(|place| kind.at(*place)).collect();
            kind.unpublished.extend(changed);
            news.push(OwnNews { kind: Arc::clone(&name), ring: Rc::clone(&kind.ring), changes });
            self.unpublished.insert(name);
        }
        news
    }

    /// What the others are to be told now; `is_owed` says whether somebody waits for a type, small or not.
    pub(crate) fn publications(
        &mut self,
        now: Instant,
        audience: Audience,
        is_owed: impl Fn(&[u8], bool) -> bool,
    ) -> Vec<Arc<KindUpdate>> {
        let mut news = Vec::new();
        let kinds = &mut self.kinds;
        self.unpublished.retain(|name| {
            let Some(kind) = kinds.get_mut(name) else { return false };
            let is_early = kind.publication_due().is_some_and(|due| now < due);
            if is_early && !is_owed(name, kind.is_small()) {
                return true;
            }
            news.push(Arc::new(kind.publish(now, audience)));
            if kind.index.is_empty() {
                kinds.remove(name);
            }
            false
        });
        news
    }

    /// When the others are to be told next.
    pub(crate) fn publication_due(&self) -> Option<Instant> {
        let due = |name: &Arc<[u8]>| self.kinds.get(name).and_then(Kind::publication_due);
        self.unpublished.iter().filter_map(due).min()
    }

    /// A number that two nodes share if a type's keys lead to the same instances on both; 0 without any.
    pub(crate) fn fingerprint(&self, kind: &[u8]) -> u64 {
        self.kinds.get(kind).map_or(0, Kind::fingerprint)
    }
}

/// One type: its instances at places that stay theirs, and the ring of those that lookups may choose.
struct Kind {
    name: Arc<[u8]>,
    places: Vec<Option<Placed>>,
    free: Vec<u32>,
    /// Places that are free once their news are told: two instances in one place would look like one.
    freed: Vec<u32>,
    /// By the hash of node and id.
    index: HashMap<u128, u32>,
    /// Instances that are online and unique, by id.
    rivals: BTreeMap<Box<[u8]>, BTreeMap<NodeKey, u32>>,
    /// How many instances ask for each class.
    classes: [usize; RingClass::ALL.len()],
    /// The ring of those that lookups may choose, which this shard's lookups read.
    ring: Rc<RefCell<KindRing>>,
    /// The weights of its members together.
    ring_units: u64,
    /// Places with news for this shard.
    changed: BTreeSet<u32>,
    /// Places with news for the others.
    unpublished: BTreeSet<u32>,
    published_at: Option<Instant>,
    /// Indexes and weights of those that went, and are in the ring still.
    leaving: Vec<(usize, u8)>,
    /// Places whose part in the ring may have changed.
    ring_changed: BTreeSet<u32>,
}

struct Placed {
    instance: Arc<Instance>,
    /// Its index and weight in the ring, if it is in it.
    in_ring: Option<(usize, u8)>,
}

impl Kind {
    fn new(name: Arc<[u8]>) -> Self {
        Kind {
            name,
            places: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
            index: HashMap::new(),
            rivals: BTreeMap::new(),
            classes: [0; RingClass::ALL.len()],
            ring: Rc::default(),
            ring_units: 0,
            unpublished: BTreeSet::new(),
            published_at: None,
            changed: BTreeSet::new(),
            leaving: Vec::new(),
            ring_changed: BTreeSet::new(),
        }
    }

    fn set(&mut self, instance: Instance, is_shown: bool) {
        let key = xxh3_128(&identity(&instance));
        let place = match self.index.get(&key) {
            Some(place) => *place,
            None if !is_shown => return,
            None => self.new_place(key),
        };
        let before = self.places[place as usize].take();
        if let Some(before) = &before {
            self.forget(&before.instance);
        }
        let in_ring = before.and_then(|before| before.in_ring);
        if is_shown {
            self.note(&instance, place);
            self.places[place as usize] = Some(Placed { instance: Arc::new(instance), in_ring });
        } else {
            self.leaving.extend(in_ring);
            self.index.remove(&key);
            self.freed.push(place);
        }
        self.changed.insert(place);
        self.ring_changed.insert(place);
    }

    fn new_place(&mut self, key: u128) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            // The entries of a log are counted in 20 bits, and those of all nodes together in memory.
            u32::try_from(self.places.len() - 1).expect("fewer than four billion instances")
        });
        self.index.insert(key, place);
        place
    }

    fn note(&mut self, instance: &Instance, place: u32) {
        self.classes[class_of(instance) as usize] += 1;
        if instance.service.is_unique() && instance.service.is_online() {
            let rivals = self.rivals.entry(instance.service.id().into()).or_default();
            rivals.insert(NodeKey::of_name(&instance.node), place);
            self.ring_changed.extend(rivals.values());
        }
    }

    fn forget(&mut self, instance: &Instance) {
        self.classes[class_of(instance) as usize] -= 1;
        if instance.service.is_unique()
            && let Some(rivals) = self.rivals.get_mut(instance.service.id())
        {
            rivals.remove(&NodeKey::of_name(&instance.node));
            self.ring_changed.extend(rivals.values());
            if rivals.is_empty() {
                self.rivals.remove(instance.service.id());
            }
        }
    }

    /// Whether lookups may choose the instance: online, and of several unique ones of an id the first.
    fn is_candidate(&self, place: u32) -> bool {
        let Some(placed) = &self.places[place as usize] else { return false };
        let service = &placed.instance.service;
        let rivals = self.rivals.get(service.id()).filter(|_| service.is_unique());
        let is_first = rivals.is_none_or(|rivals| rivals.values().next() == Some(&place));
        service.is_online() && is_first
    }

    /// Brings the ring up to date with what has changed; returns the places with news.
    fn settle(&mut self) -> BTreeSet<u32> {
        let ring_changed = mem::take(&mut self.ring_changed);
        let leaving = mem::take(&mut self.leaving);
        let shared = Rc::clone(&self.ring);
        let kind_ring = &mut *shared.borrow_mut();
        if !self.change_ring(kind_ring, &ring_changed, &leaving) {
            self.build_ring(kind_ring);
        }
        mem::take(&mut self.changed)
    }

    /// Changes the ring place by place, unless a new build costs less. False: it has to be built anew.
    fn change_ring(
        &mut self,
        kind_ring: &mut KindRing,
        changed: &BTreeSet<u32>,
        leaving: &[(usize, u8)],
    ) -> bool {
        let cost =
            leaving.len() * LEAVE_COST + changed.iter().map(|place| self.cost_of(*place)).sum::<usize>();
        if cost > BUILD_COST {
            return false;
        }
        let Some(ring) = &mut kind_ring.ring else { return false };
        for (index, weight) in leaving {
            if ring.leave(*index).is_err() {
                return false;
            }
            self.ring_units -= u64::from(*weight);
        }
        for place in changed {
            if self.change_place(ring, &mut kind_ring.places, *place).is_err() {
                return false;
            }
        }
        if ring.len() < 2 {
            return false;
        }
        // The class depends on what is there alone, never on what was before: all nodes choose the same.
        Some(ring.class()) == self.class(ring.len(), self.ring_units)
    }

    /// What a place's change costs the ring, in joins. Metadata and suspicion cost nothing.
    fn cost_of(&self, place: u32) -> usize {
        let Some(placed) = &self.places[place as usize] else { return 0 };
        match placed.in_ring {
            None => usize::from(self.is_candidate(place)),
            Some((_, weight)) if self.is_candidate(place) && weight == placed.instance.service.weight() => 0,
            Some(_) => LEAVE_COST,
        }
    }

    fn is_small(&self) -> bool {
        self.ring.borrow().ring.as_ref().is_none_or(|ring| ring.class() == RingClass::Small)
    }

    /// When the next copy is to be made; `None` for the first.
    fn publication_due(&self) -> Option<Instant> {
        let interval = if self.is_small() { COPY_INTERVAL_SMALL } else { COPY_INTERVAL };
        self.published_at.map(|at| at + interval)
    }

    fn fingerprint(&self) -> u64 {
        let kind_ring = self.ring.borrow();
        let only = || self.places[kind_ring.only? as usize].as_ref();
        match &kind_ring.ring {
            Some(ring) => ring.fingerprint(),
            None => only().map_or(0, |only| xxh3_64(&identity(&only.instance))),
        }
    }

    /// What stands at a place.
    fn at(&self, place: u32) -> (u32, Option<Arc<Instance>>) {
        let placed = self.places[place as usize].as_ref();
        (place, placed.map(|placed| Arc::clone(&placed.instance)))
    }

    fn publish(&mut self, now: Instant, audience: Audience) -> KindUpdate {
        self.published_at = Some(now);
        self.free.append(&mut self.freed);
        let unpublished = mem::take(&mut self.unpublished);
        let kind_ring = self.ring.borrow();
        let ring_for = |whom| kind_ring.ring.as_ref().filter(|_| audience == whom);
        KindUpdate {
            kind: Arc::clone(&self.name),
            table: ring_for(Audience::Shards).map(ServiceRing::table),
            owners: ring_for(Audience::ThreadsAlone).map(ServiceRing::owner_table),
            only: kind_ring.only,
            places: if kind_ring.ring.is_some() { kind_ring.places.clone() } else { Vec::new() },
            changes: unpublished.into_iter().map(|place| self.at(place)).collect(),
        }
    }

    /// The largest class that an instance asks for, or the next that holds as many members.
    fn class(&self, members: usize, units: u64) -> Option<RingClass> {
        let asked = RingClass::ALL.iter().zip(&self.classes).rev().find(|(_, count)| **count > 0);
        let least = asked.map_or(RingClass::default(), |(class, _)| *class);
        RingClass::ALL.into_iter().find(|class| *class >= least && class.holds(members, units))
    }

    /// Brings one place's part of the ring up to date.
    fn change_place(
        &mut self,
        ring: &mut ServiceRing,
        ring_places: &mut Vec<u32>,
        place: u32,
    ) -> Result<(), RingError> {
        let is_candidate = self.is_candidate(place);
        let Some(placed) = &mut self.places[place as usize] else { return Ok(()) };
        let weight = placed.instance.service.weight();
        match placed.in_ring {
            None if is_candidate => {
                let index = ring.join(identity(&placed.instance), u32::from(weight))?;
                placed.in_ring = Some((index, weight));
                self.ring_units += u64::from(weight);
                set_place(ring_places, index, place);
            }
            Some((index, before)) if !is_candidate => {
                ring.leave(index)?;
                placed.in_ring = None;
                self.ring_units -= u64::from(before);
            }
            Some((index, before)) if before != weight => {
                ring.reweight(index, u32::from(weight))?;
                placed.in_ring = Some((index, weight));
                self.ring_units = self.ring_units + u64::from(weight) - u64::from(before);
            }
            _ => {}
        }
        Ok(())
    }

    /// Builds the ring of all candidates.
    fn build_ring(&mut self, kind_ring: &mut KindRing) {
        kind_ring.ring = None;
        kind_ring.only = None;
        kind_ring.places.clear();
        self.ring_units = 0;
        let mut members = Vec::new();
        for place in 0..self.places.len() as u32 {
            let is_candidate = self.is_candidate(place);
            if let Some(placed) = &mut self.places[place as usize] {
                placed.in_ring = None;
                if is_candidate {
                    let weight = placed.instance.service.weight();
                    self.ring_units += u64::from(weight);
                    members.push((identity(&placed.instance), weight, place));
                }
            }
        }
        // Every key leads to the only one; a table, which takes a millisecond to build, is for a choice.
        if members.len() < 2 {
            kind_ring.only = members.first().map(|(_, _, place)| *place);
            return;
        }
        let class = self.class(members.len(), self.ring_units);
        let built = class.map(|class| {
            let builder =
                members.iter().fold(ServiceRing::builder(class), |builder, (identity, weight, _)| {
                    builder.member(identity, u32::from(*weight))
                });
            builder.build()
        });
        let Some(Ok(ring)) = built else {
            tracing::error!(kind = %String::from_utf8_lossy(&self.name), members = members.len(),
                "no table holds as many instances: lookups find none");
            return;
        };
        for (identity, weight, place) in &members {
            let Some(index) = ring.index_of(identity) else { continue };
            set_place(&mut kind_ring.places, index, *place);
            if let Some(placed) = &mut self.places[*place as usize] {
                placed.in_ring = Some((index, *weight));
            }
        }
        kind_ring.ring = Some(ring);
    }
}

/// Notes which place an index of the ring stands for.
fn set_place(ring_places: &mut Vec<u32>, index: usize, place: u32) {
    if ring_places.len() <= index {
        ring_places.resize(index + 1, u32::MAX);
    }
    ring_places[index] = place;
}

/// The class that an instance asks for; of one that this version does not know, the largest.
fn class_of(instance: &Instance) -> RingClass {
    let largest = RingClass::ALL[RingClass::ALL.len() - 1];
    RingClass::from_code(instance.service.class()).unwrap_or(largest)
}

/// What the ring knows an instance by: node and id, so that a restart under the same id moves no key.
fn identity(instance: &Instance) -> Vec<u8> {
    let (node, id) = (instance.node.as_bytes(), instance.service.id());
    let mut identity = Vec::with_capacity(1 + node.len() + id.len());
    // A name has at most 128 bytes.
    identity.push(node.len() as u8);
    identity.extend_from_slice(node);
    identity.extend_from_slice(id);
    identity
}

#[cfg(test)]
mod tests {
    use croupier_registry::ServiceBuilder;

    use super::*;
    use crate::{registry_shard::mirror::Mirror, services::Views};

    #[test]
    fn threads_beside_the_shards_find_what_the_shard_finds() {
        for audience in [Audience::Shards, Audience::ThreadsAlone] {
            let (mut home, views, mirror) = (Home::default(), Views::default(), Mirror::default());
            let now = Instant::now();
            for number in 0..7_u32 {
                let service = ServiceBuilder::new("kind", number.to_string()).inbox("inbox").build().unwrap();
                home.take(Event::Joined(croupier_registry::Instance {
                    node: "node".into(),
                    service,
                    suspect: false,
                }));
                for news in home.own_news() {
                    views.apply_own(&news.kind, news.ring, &news.changes, now, |_| ());
                }
                let publications = home.publications(now, audience, |_, _| true);
                assert_eq!(publications.len(), 1);
                for news in publications {
                    let is_table = (news.table.is_some(), news.owners.is_some());
                    let is_choice = number > 0;
                    assert_eq!(
                        is_table,
                        match audience {
                            Audience::Shards => (is_choice, false),
                            Audience::ThreadsAlone => (false, is_choice),
                        }
                    );
                    mirror.push(&news);
                }
                let mut found = BTreeSet::new();
                for key in 0..1000_u32 {
                    let key = key.to_le_bytes();
                    let here = views.with(b"kind", |view| view.find(&key)).flatten().unwrap();
                    assert_eq!(mirror.find(b"kind", &key).unwrap().id(), here.id());
                    found.insert(here.id().to_vec());
                }
                assert_eq!(found.len() as u32, number + 1, "each instance has keys");
            }
        }
    }
}
