//! The tables of the types whose partitions a shard owns: from events to news for every shard.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use croupier_registry::{Event, NodeKey};
use croupier_ring::{RingClass, RingError, ServiceRing};
use xxhash_rust::xxh3::xxh3_128;

use crate::services::{Instance, KindUpdate};

/// Changes of one type at a time beyond which its table is built anew, as a part of its members.
const REBUILD_PART: usize = 4;
/// Changes that are worth no new build, however few members there are.
const REBUILD_LEAST: usize = 16;

/// All types of this shard's partitions that have instances.
#[derive(Default)]
pub(crate) struct Home {
    kinds: HashMap<Arc<[u8]>, Kind>,
    changed: BTreeSet<Arc<[u8]>>,
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

    /// What became of each type since the last time.
    pub(crate) fn news(&mut self) -> Vec<Arc<KindUpdate>> {
        let mut news = Vec::new();
        for name in mem::take(&mut self.changed) {
            let Some(kind) = self.kinds.get_mut(&name) else { continue };
            news.push(Arc::new(kind.news()));
            if kind.index.is_empty() {
                self.kinds.remove(&name);
            }
        }
        news
    }

    /// A number that two nodes share if a type's keys lead to the same instances on both; 0 without any.
    pub(crate) fn fingerprint(&self, kind: &[u8]) -> u64 {
        let ring = self.kinds.get(kind).and_then(|kind| kind.ring.as_ref());
        ring.map_or(0, ServiceRing::fingerprint)
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
    ring: Option<ServiceRing>,
    /// The weights of its members together.
    ring_units: u64,
    /// The place of each index of the ring.
    ring_places: Vec<u32>,
    /// Places with news for the other shards.
    changed: BTreeSet<u32>,
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
            ring: None,
            ring_units: 0,
            ring_places: Vec::new(),
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

    /// Takes those out of the ring that went.
    fn leave_ring(&mut self, leaving: &[(usize, u8)]) -> Result<(), RingError> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        for (index, weight) in leaving {
            ring.leave(*index)?;
            self.ring_units -= u64::from(*weight);
        }
        Ok(())
    }

    fn news(&mut self) -> KindUpdate {
        let changed = mem::take(&mut self.changed);
        let ring_changed = mem::take(&mut self.ring_changed);
        let leaving = mem::take(&mut self.leaving);
        self.free.append(&mut self.freed);
        let members = self.ring.as_ref().map_or(0, ServiceRing::len);
        let is_small = ring_changed.len() + leaving.len() <= REBUILD_LEAST.max(members / REBUILD_PART);
        let is_changed = is_small
            && self.leave_ring(&leaving).is_ok()
            && ring_changed.iter().all(|place| self.change_ring(*place).is_ok());
        // The class depends on what is there alone, never on what was before: all nodes choose the same.
        let has_class = |ring: &ServiceRing| Some(ring.class()) == self.class(ring.len(), self.ring_units);
        if !is_changed || !self.ring.as_ref().is_some_and(has_class) {
            self.build_ring();
        }
        let change = |place: u32| {
            let placed = self.places[place as usize].as_ref();
            (place, placed.map(|placed| Arc::clone(&placed.instance)))
        };
        KindUpdate {
            kind: Arc::clone(&self.name),
            table: self.ring.as_ref().map(ServiceRing::table),
            places: if self.ring.is_some() { self.ring_places.clone() } else { Vec::new() },
            changes: changed.into_iter().map(change).collect(),
        }
    }

    /// The largest class that an instance asks for, or the next that holds as many members.
    fn class(&self, members: usize, units: u64) -> Option<RingClass> {
        let asked = RingClass::ALL.iter().zip(&self.classes).rev().find(|(_, count)| **count > 0);
        let least = asked.map_or(RingClass::default(), |(class, _)| *class);
        RingClass::ALL.into_iter().find(|class| *class >= least && class.holds(members, units))
    }

    /// Brings one place's part of the ring up to date.
    fn change_ring(&mut self, place: u32) -> Result<(), RingError> {
        let is_candidate = self.is_candidate(place);
        let (Some(ring), Some(placed)) = (&mut self.ring, &mut self.places[place as usize]) else {
            return Ok(());
        };
        let weight = placed.instance.service.weight();
        match placed.in_ring {
            None if is_candidate => {
                let index = ring.join(identity(&placed.instance), u32::from(weight))?;
                placed.in_ring = Some((index, weight));
                self.ring_units += u64::from(weight);
                if self.ring_places.len() <= index {
                    self.ring_places.resize(index + 1, u32::MAX);
                }
                self.ring_places[index] = place;
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
    fn build_ring(&mut self) {
        self.ring = None;
        self.ring_units = 0;
        self.ring_places.clear();
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
        if members.is_empty() {
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
            if self.ring_places.len() <= index {
                self.ring_places.resize(index + 1, u32::MAX);
            }
            self.ring_places[index] = *place;
            if let Some(placed) = &mut self.places[*place as usize] {
                placed.in_ring = Some((index, *weight));
            }
        }
        self.ring = Some(ring);
    }
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
