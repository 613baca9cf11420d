//! What threads beside the shards see of the services: a copy that is brought up to date by who reads it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use croupier_registry::NodeStatus;

use crate::services::{KindUpdate, Service};

/// The copy. Shards never wait for it: while a reader has it, news go into a queue, and whoever has it next
/// takes them from there.
pub(crate) struct Mirror {
    pending: (async_channel::Sender<Arc<KindUpdate>>, async_channel::Receiver<Arc<KindUpdate>>),
    kinds: Mutex<HashMap<Arc<[u8]>, Kind>>,
    nodes: Mutex<Vec<NodeStatus>>,
}

#[derive(Default)]
struct Kind {
    update: Option<Arc<KindUpdate>>,
    entries: Vec<Option<Service>>,
}

/// A type, its services, and of these the ones that lookups find.
pub(crate) struct KindCount {
    pub(crate) kind: Arc<[u8]>,
    pub(crate) services: usize,
    pub(crate) online: usize,
}

impl Default for Mirror {
    fn default() -> Self {
        Mirror { pending: async_channel::unbounded(), kinds: Mutex::default(), nodes: Mutex::default() }
    }
}

impl Mirror {
    /// Takes news of one type. All of a type come from one shard, so that they keep their order.
    pub(crate) fn push(&self, news: &Arc<KindUpdate>) {
        // The queue is unbounded by itself; it grows for as long as one reader reads.
        let _never_closed = self.pending.0.try_send(Arc::clone(news));
        if let Ok(mut kinds) = self.kinds.try_lock() {
            self.take_in(&mut kinds);
        }
    }

    pub(crate) fn set_nodes(&self, nodes: &[NodeStatus]) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes.to_vec();
    }

    pub(crate) fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_in(&self, kinds: &mut HashMap<Arc<[u8]>, Kind>) {
        let now = Instant::now();
        while let Ok(news) = self.pending.1.try_recv() {
            let kind = kinds.entry(Arc::clone(&news.kind)).or_default();
            for (place, instance) in &news.changes {
                let place = *place as usize;
                if kind.entries.len() <= place {
                    kind.entries.resize(place + 1, None);
                }
                kind.entries[place] =
                    instance.as_ref().map(|instance| Service::new(Arc::clone(instance), now));
            }
            kind.update = Some(Arc::clone(&news));
            if kind.entries.iter().all(Option::is_none) {
                kinds.remove(&news.kind);
            }
        }
    }

    fn read<T>(&self, kind: &[u8], read: impl FnOnce(&Kind) -> T) -> Option<T> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_in(&mut kinds);
        kinds.get(kind).map(read)
    }

    /// How many services each type has.
    pub(crate) fn kinds(&self) -> Vec<KindCount> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_in(&mut kinds);
        let counts = kinds.iter().map(|(name, kind)| KindCount {
            kind: Arc::clone(name),
            services: kind.entries.iter().flatten().count(),
            online: kind.entries.iter().flatten().filter(|service| service.is_online()).count(),
        });
        counts.collect()
    }

    pub(crate) fn all(&self, kind: &[u8]) -> Vec<Service> {
        let all = self.read(kind, |kind| kind.entries.iter().flatten().cloned().collect::<Vec<_>>());
        let mut all = all.unwrap_or_default();
        all.sort_unstable_by(|one, other| (one.node(), one.id()).cmp(&(other.node(), other.id())));
        all
    }

    pub(crate) fn find(&self, kind: &[u8], key: &[u8]) -> Option<Service> {
        self.read(kind, |kind| {
            let place = kind.update.as_ref()?.place_beside(key)?;
            kind.entries[place as usize].clone()
        })
        .flatten()
    }
}
