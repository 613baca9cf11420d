//! What the admin server counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use super::request::Refusal;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Metrics,
    Health,
    Ready,
    Status,
}

impl Page {
    pub(crate) const ALL: [Page; 4] = [Page::Metrics, Page::Health, Page::Ready, Page::Status];

    /// Its path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Page::Metrics => "/metrics",
            Page::Health => "/healthz",
            Page::Ready => "/readyz",
            Page::Status => "/statusz",
        }
    }
}

/// Why a connection was given up without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The kernel had no file or no memory for it.
    NoFiles,
    /// It waited between two requests when another came and there was no room.
    Idle,
    /// It did not take its answer in time.
    SlowReader,
}

impl Dropped {
    pub(crate) const ALL: [Dropped; 3] = [Dropped::NoFiles, Dropped::Idle, Dropped::SlowReader];

    /// The value of a label.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Dropped::NoFiles => "no_files",
            Dropped::Idle => "idle",
            Dropped::SlowReader => "slow_reader",
        }
    }
}

/// The counters; the server's thread alone writes them.
#[derive(Debug, Default)]
pub(crate) struct AdminCounters {
    answered: [AtomicU64; Page::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
    /// Open connections.
    pub(crate) connections: AtomicU64,
}

impl AdminCounters {
    pub(super) fn answered(&self, page: Page) {
        self.answered[page as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, dropped: Dropped) {
        self.dropped[dropped as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests answered, by path.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Page::ALL.into_iter().map(|page| (page.path(), self.answered[page as usize].load(Ordering::Relaxed)))
    }

    /// Requests refused and connections dropped, by reason.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let refused = Refusal::ALL
            .into_iter()
            .map(|refusal| (refusal.reason(), self.refused[refusal as usize].load(Ordering::Relaxed)));
        let dropped = Dropped::ALL
            .into_iter()
            .map(|dropped| (dropped.reason(), self.dropped[dropped as usize].load(Ordering::Relaxed)));
        refused.chain(dropped)
    }
}
