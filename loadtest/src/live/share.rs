//! What a shard hands over to the live view from time to time; while nobody looks, nothing is kept for it.

use std::sync::{Arc, Mutex, TryLockError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::recorder::{Counts, merge};
use crate::series::interval_histogram;
use crate::sparse;

/// What one shard has seen since it last handed over.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// Since then, in nanoseconds.
    e2e: Histogram<u64>,
    /// Since then.
    delivered_by_cluster: Vec<u64>,
    /// Since the start.
    counts: Counts,
}

/// A shard's side of it: keeps its share, and hands it over when it is time to.
#[derive(Debug)]
pub(crate) struct Reporter {
    shares: Arc<Shares>,
    shard: usize,
    share: Share,
    /// On the run's clock.
    due_nanos: u64,
}

/// Between two times that a shard hands over.
const HAND_OVER_NANOS: u64 = 250_000_000;

/// The shares that were handed over and not taken yet, one for each shard.
#[derive(Debug)]
pub(crate) struct Shares(Vec<Mutex<Option<Share>>>);

/// All shares that were taken, together.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    delivered_by_cluster: Vec<u64>,
    /// By shard.
    counts: Vec<Counts>,
}

/// What the shards of a process have seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Since the last look, in nanoseconds.
    #[serde(with = "sparse")]
    pub(crate) recent: Histogram<u64>,
    /// Since the start.
    pub(crate) delivered_by_cluster: Vec<u64>,
    /// Duplicate, reordered and corrupt messages, since the start.
    pub(crate) wrong: u64,
}

impl Share {
    pub(crate) fn new(clusters: usize) -> Self {
        Self { e2e: interval_histogram(), delivered_by_cluster: vec![0; clusters], counts: Counts::default() }
    }

    /// A distinct message arrived intact.
    pub(crate) fn delivered(&mut self, cluster: usize, e2e_nanos: u64) {
        self.e2e.saturating_record(e2e_nanos);
        if let Some(delivered) = self.delivered_by_cluster.get_mut(cluster) {
            *delivered += 1;
        }
    }
}

impl Reporter {
    pub(crate) fn new(shares: &Arc<Shares>, shard: usize, clusters: usize) -> Self {
        Self { shares: Arc::clone(shares), shard, share: Share::new(clusters), due_nanos: 0 }
    }

    /// A distinct message arrived intact; `counts` are those of all phases so far.
    pub(crate) fn delivered(
        &mut self,
        cluster: usize,
        e2e_nanos: u64,
        now_nanos: u64,
        counts: impl FnOnce() -> Counts,
    ) {
        self.share.delivered(cluster, e2e_nanos);
        if now_nanos >= self.due_nanos {
            self.due_nanos = now_nanos + HAND_OVER_NANOS;
            self.shares.hand_over(self.shard, &mut self.share, counts());
        }
    }
}

impl Shares {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Mutex::new(None)).collect())
    }

    /// Hands over what a shard has, unless the one before was not taken, or is being taken: then it goes on
    /// filling the share that it has. Never waits.
    pub(crate) fn hand_over(&self, shard: usize, share: &mut Share, counts: Counts) {
        let Some(slot) = self.0.get(shard) else { return };
        let mut slot = match slot.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if slot.is_none() {
            share.counts = counts;
            let empty = Share::new(share.delivered_by_cluster.len());
            *slot = Some(std::mem::replace(share, empty));
        }
    }
}

impl Gathered {
    pub(crate) fn new(shards: usize, clusters: usize) -> Self {
        Self { delivered_by_cluster: vec![0; clusters], counts: vec![Counts::default(); shards] }
    }

    /// Takes what was handed over.
    pub(crate) fn take(&mut self, shares: &Shares) -> Seen {
        let mut recent = interval_histogram();
        for (slot, counts) in shares.0.iter().zip(&mut self.counts) {
            let share = slot.lock().map_or_else(|slot| slot.into_inner().take(), |mut slot| slot.take());
            let Some(share) = share else { continue };
            merge(&mut recent, &share.e2e);
            *counts = share.counts;
            for (all, new) in self.delivered_by_cluster.iter_mut().zip(&share.delivered_by_cluster) {
                *all += new;
            }
        }
        let wrong = |counts: &Counts| counts.duplicate + counts.reordered + counts.corrupt;
        Seen {
            recent,
            delivered_by_cluster: self.delivered_by_cluster.clone(),
            wrong: self.counts.iter().map(wrong).sum(),
        }
    }
}

impl Seen {
    /// Of no shard of a run over so many clusters.
    pub(crate) fn nothing(clusters: usize) -> Self {
        Self { recent: interval_histogram(), delivered_by_cluster: vec![0; clusters], wrong: 0 }
    }

    /// Adds what those of another process have seen.
    pub(crate) fn add(&mut self, other: &Self) {
        merge(&mut self.recent, &other.recent);
        for (ours, theirs) in self.delivered_by_cluster.iter_mut().zip(&other.delivered_by_cluster) {
            *ours += theirs;
        }
        self.wrong += other.wrong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_two_looks_however_seldom_they_are() {
        let shares = Shares::new(2);
        let mut gathered = Gathered::new(2, 2);
        let mut share = Share::new(2);
        let mut seen = 0;
        for round in 0..10_u64 {
            share.delivered((round % 2) as usize, 1_000_000 * (round + 1));
            shares.hand_over(1, &mut share, Counts { duplicate: round, ..Counts::default() });
            if round % 4 == 3 {
                seen += gathered.take(&shares).recent.len();
            }
        }
        seen += gathered.take(&shares).recent.len();
        shares.hand_over(1, &mut share, Counts { duplicate: 9, ..Counts::default() });
        let last = gathered.take(&shares);
        assert!(!last.recent.is_empty());
        assert_eq!((seen + last.recent.len(), last.delivered_by_cluster.as_slice()), (10, &[5, 5][..]));
        assert_eq!(last.wrong, 9);
        assert!(gathered.take(&shares).recent.is_empty());
        let mut both = Seen::nothing(2);
        both.add(&last);
        both.add(&last);
        assert_eq!((both.delivered_by_cluster, both.wrong), (vec![10, 10], 18));
        shares.hand_over(7, &mut share, Counts::default());
    }
}
