//! What one shard sees of the services: read by its lookups, changed by its registry task alone.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    rc::{Rc, Weak},
    sync::Arc,
    time::Instant,
};

use croupier_ring::{ServiceOwnerTable, ServiceRing, ServiceTable, hash_key};

use super::{
    Service, Services,
    service::Instance,
    watch::{ServiceEvent, WatchQueue},
};

/// Whom the keys of a type lead to, on the shard that builds it.
#[derive(Debug, Default)]
pub(crate) struct KindRing {
    /// `None` while there are not two to choose between.
    pub(crate) ring: Option<ServiceRing>,
    /// Where the only one stands, if there is but one.
    pub(crate) only: Option<u32>,
    /// The place of each index of the ring.
    pub(crate) places: Vec<u32>,
}

/// What became of one type: the same news for all other shards, and for the threads beside them.
#[derive(Debug)]
pub(crate) struct KindUpdate {
    pub(crate) kind: Arc<[u8]>,
    /// Whom a key leads to; `None` while there are not two to choose between, or no other shard.
    pub(crate) table: Option<ServiceTable>,
    /// The same for threads beside the only shard, which ask for one owner alone.
    pub(crate) owners: Option<ServiceOwnerTable>,
    /// Where the only one stands, if there is but one.
    pub(crate) only: Option<u32>,
    /// The place of each index of the table.
    pub(crate) places: Vec<u32>,
    /// What stands at a place from now on.
    pub(crate) changes: Vec<(u32, Option<Arc<Instance>>)>,
}

impl KindUpdate {
    /// The place that a key leads to, on another shard.
    #[inline]
    fn place_of(&self, key: &[u8]) -> Option<u32> {
        match &self.table {
            Some(table) => Some(self.places[table.owner(key)]),
            None => self.only,
        }
    }

    /// The same beside the shards, of however many.
    pub(crate) fn place_beside(&self, key: &[u8]) -> Option<u32> {
        match &self.owners {
            Some(owners) => Some(self.places[owners.owner(key)]),
            None => self.place_of(key),
        }
    }
}

/// One type of service, as one shard sees it.
pub(crate) struct KindView {
    kind: Box<[u8]>,
    state: RefCell<State>,
    watches: RefCell<Vec<Weak<WatchQueue>>>,
}

#[derive(Default)]
struct State {
    table: Table,
    entries: Vec<Option<Service>>,
    shown: usize,
}

/// Where lookups look.
#[derive(Default)]
enum Table {
    #[default]
    None,
    /// This shard builds it.
    Own(Rc<RefCell<KindRing>>),
    /// Another one does.
    Copied(Arc<KindUpdate>),
}

impl KindView {
    pub(crate) fn new(kind: &[u8]) -> Self {
        KindView { kind: kind.into(), state: RefCell::default(), watches: RefCell::default() }
    }

    pub(crate) fn kind(&self) -> &[u8] {
        &self.kind
    }

    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<Service> {
        let state = self.state.borrow();
        let place = match &state.table {
            Table::Own(own) => {
                let own = own.borrow();
                match &own.ring {
                    Some(ring) => own.places[ring.owner(key)],
                    None => own.only?,
                }
            }
            Table::Copied(update) => update.place_of(key)?,
            Table::None => return None,
        };
        state.entries[place as usize].clone()
    }

    #[inline]
    pub(crate) fn find_multi(&self, count: usize, key: &[u8]) -> Services {
        let mut services = Services::default();
        let state = self.state.borrow();
        let mut take = |place: u32| services.extend(state.entries[place as usize].clone());
        match &state.table {
            Table::Own(own) => {
                let own = own.borrow();
                match &own.ring {
                    Some(ring) => ring.owners(key, count).for_each(|index| take(own.places[index])),
                    None => own.only.into_iter().take(count).for_each(take),
                }
            }
            Table::Copied(update) => match &update.table {
                Some(table) => table.owners(key, count).for_each(|index| take(update.places[index])),
                None => update.only.into_iter().take(count).for_each(take),
            },
            Table::None => {}
        }
        services
    }

    /// Whether the instance is shown, in whatever state.
    pub(crate) fn shows(&self, service: &Service) -> bool {
        let state = self.state.borrow();
        let entries = state.entries.iter().flatten();
        entries.into_iter().any(|entry| {
            entry.is_same(service) || (entry.id() == service.id() && entry.node() == service.node())
        })
    }

    /// All instances that are shown, by node and id.
    pub(crate) fn all(&self) -> Vec<Service> {
        let mut all: Vec<Service> = self.state.borrow().entries.iter().flatten().cloned().collect();
        all.sort_unstable_by(|one, other| (one.node(), one.id()).cmp(&(other.node(), other.id())));
        all
    }

    pub(crate) fn watch(&self, queue: &Rc<WatchQueue>) {
        self.watches.borrow_mut().push(Rc::downgrade(queue));
    }

    /// Takes the news, and says which instances left.
    fn apply(
        &self,
        table: Table,
        changes: &[(u32, Option<Arc<Instance>>)],
        now: Instant,
        mut left: impl FnMut(&Service),
    ) {
        // Who went is told before who came: a new life of an instance may stand at a lower place.
        let mut events = VecDeque::new();
        let mut others = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            for (place, instance) in changes {
                let place = *place as usize;
                if state.entries.len() <= place {
                    state.entries.resize(place + 1, None);
                }
                let before = state.entries[place].take();
                // A place that was left may be taken again in the same news, by another or by a new life.
                let is_same =
                    |before: &&Service| instance.as_ref().is_some_and(|after| before.is_same_life(after));
                let appeared = before.as_ref().filter(is_same).map_or(now, Service::appeared);
                let after = instance.as_ref().map(|instance| Service::new(Arc::clone(instance), appeared));
                state.entries[place].clone_from(&after);
                state.shown = state.shown + usize::from(after.is_some()) - usize::from(before.is_some());
                match (before, after) {
                    (None, Some(after)) => others.push(ServiceEvent::Joined(after)),
                    (Some(before), Some(after)) if before.is_same_life(after.instance()) => {
                        others.push(ServiceEvent::Updated(after));
                    }
                    (Some(before), Some(after)) => {
                        events.push_back(ServiceEvent::Left(before));
                        others.push(ServiceEvent::Joined(after));
                    }
                    (Some(before), None) => events.push_back(ServiceEvent::Left(before)),
                    (None, None) => {}
                }
            }
            state.table = table;
        }
        for event in &events {
            if let ServiceEvent::Left(service) = event {
                left(service);
            }
        }
        events.extend(others);
        self.watches.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            watch.push_all(&events);
            true
        });
    }

    fn is_unused(self: &Rc<Self>) -> bool {
        self.state.borrow().shown == 0 && Rc::strong_count(self) == 1 && self.watches.borrow().is_empty()
    }
}

impl fmt::Debug for KindView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindView").field("kind", &String::from_utf8_lossy(&self.kind)).finish_non_exhaustive()
    }
}

/// All types that a shard sees.
#[derive(Default)]
pub(crate) struct Views {
    /// By the hash of the type; types that share one lie beside each other.
    by_hash: RefCell<HashMap<u64, Vec<Rc<KindView>>, BuildHasherDefault<Hashed>>>,
}

impl Views {
    #[inline]
    pub(crate) fn with<T>(&self, kind: &[u8], read: impl FnOnce(&KindView) -> T) -> Option<T> {
        let by_hash = self.by_hash.borrow();
        let view = by_hash.get(&hash_key(kind))?.iter().find(|view| *view.kind == *kind)?;
        Some(read(view))
    }

    /// The view of a type, made if there is none.
    pub(crate) fn get(&self, kind: &[u8]) -> Rc<KindView> {
        let mut by_hash = self.by_hash.borrow_mut();
        let views = by_hash.entry(hash_key(kind)).or_default();
        if let Some(view) = views.iter().find(|view| *view.kind == *kind) {
            return Rc::clone(view);
        }
        let view = Rc::new(KindView::new(kind));
        views.push(Rc::clone(&view));
        view
    }

    /// Takes the news of another shard, and says which instances left.
    pub(crate) fn apply(&self, news: &Arc<KindUpdate>, now: Instant, left: impl FnMut(&Service)) {
        self.get(&news.kind).apply(Table::Copied(Arc::clone(news)), &news.changes, now, left);
        self.forget_if_unused(&news.kind, &news.changes);
    }

    /// Takes the news of a type whose table this shard builds.
    pub(crate) fn apply_own(
        &self,
        kind: &[u8],
        ring: Rc<RefCell<KindRing>>,
        changes: &[(u32, Option<Arc<Instance>>)],
        now: Instant,
        left: impl FnMut(&Service),
    ) {
        self.get(kind).apply(Table::Own(ring), changes, now, left);
        self.forget_if_unused(kind, changes);
    }

    fn forget_if_unused(&self, kind: &[u8], changes: &[(u32, Option<Arc<Instance>>)]) {
        if changes.iter().any(|(_, instance)| instance.is_none()) {
            self.forget_unused(kind);
        }
    }

    /// A type that has no instances, and that nobody here holds, takes no memory.
    fn forget_unused(&self, kind: &[u8]) {
        let mut by_hash = self.by_hash.borrow_mut();
        let hash = hash_key(kind);
        let Some(views) = by_hash.get_mut(&hash) else { return };
        views.retain(|view| !view.is_unused());
        if views.is_empty() {
            by_hash.remove(&hash);
        }
    }
}

/// Takes a hash for what it is.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
