//! What the links of a run's node told while faults struck: when each was lost, and when it was back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use croupier::{Builder, ClusterName, Event};
use serde::{Deserialize, Serialize};

use crate::clock::monotonic_nanos;

/// Written by the shards, from their own threads, as it happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    clusters: Vec<ClusterName>,
    /// By cluster: where clients find its servers. Empty where nobody knows which is which.
    servers: Vec<Vec<String>>,
    /// Where the shards of this process begin among those of all.
    first_shard: usize,
    entries: Mutex<Vec<Entry>>,
    dropped: AtomicU64,
}

/// What a journal holds, in a form that processes can tell each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pages {
    /// By time.
    pub(crate) entries: Vec<Entry>,
    /// How many more there were than a journal holds.
    pub(crate) dropped: u64,
}

/// Something that happened to the link of one shard to one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// On the machine's monotonic clock.
    pub(crate) at_nanos: u64,
    pub(crate) cluster: usize,
    /// Of those of all processes.
    pub(crate) shard: usize,
    pub(crate) what: Happened,
    /// The server with which its connection is from then on, among those of its cluster; none where that is not known,
    /// and where there is no connection.
    pub(crate) node: Option<usize>,
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Happened {
    /// Its connection was lost; so many messages had been written to it and not confirmed.
    Lost { in_doubt: u64 },
    /// It is connected for the first time.
    Connected,
    /// It is connected again.
    Back,
    /// Its server says that it is going away.
    LameDuck,
    /// It has another connection, and leaves the one that it had.
    Moved,
    /// It has ended for good.
    Ended,
}

/// A link that comes and goes as often as it may fills this in an hour.
const ENTRIES_MAX: usize = 65_536;

impl Pages {
    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.entries.sort_by_key(|entry| entry.at_nanos);
        self.dropped += other.dropped;
    }
}

impl Journal {
    /// Of a run over these clusters, whose servers clients find there, in a process whose shards begin at `first_shard`
    /// among those of all.
    pub(crate) fn new(clusters: &[ClusterName], servers: Vec<Vec<String>>, first_shard: usize) -> Self {
        Self(Arc::new(Inner { clusters: clusters.to_vec(), servers, first_shard, ..Inner::default() }))
    }

    /// Has the node write into it.
    pub(crate) fn listen(&self, builder: Builder) -> Builder {
        let journal = self.clone();
        builder.on_event(move |event| journal.note(event, monotonic_nanos()))
    }

    /// All so far.
    pub(crate) fn pages(&self) -> Pages {
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.sort_by_key(|entry| entry.at_nanos);
        Pages { entries, dropped: self.0.dropped.load(Ordering::Relaxed) }
    }

    fn note(&self, event: &Event, at_nanos: u64) {
        let (cluster, shard, what, server) = match event {
            Event::Connected { cluster, shard, server } => {
                (cluster, *shard, Happened::Connected, Some(server))
            }
            Event::Disconnected { cluster, shard, in_doubt, .. } => {
                (cluster, *shard, Happened::Lost { in_doubt: *in_doubt }, None)
            }
            Event::Reconnected { cluster, shard, server } => (cluster, *shard, Happened::Back, Some(server)),
            Event::LameDuck { cluster, shard, server } => (cluster, *shard, Happened::LameDuck, Some(server)),
            Event::Moved { cluster, shard, to, .. } => (cluster, *shard, Happened::Moved, Some(to)),
            Event::LinkEnded { cluster, shard, .. } => (cluster, *shard, Happened::Ended, None),
            _ => return,
        };
        let Some(cluster) = self.0.clusters.iter().position(|known| known == cluster) else { return };
        let node =
            server.zip(self.0.servers.get(cluster)).and_then(|(server, known)| place_of(server, known));
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() < ENTRIES_MAX {
            entries.push(Entry { at_nanos, cluster, shard: self.0.first_shard + shard, what, node });
        } else {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The place of a server, as an event names it, among the URLs of its cluster.
fn place_of(server: &str, urls: &[String]) -> Option<usize> {
    let address = |url: &str| url.rsplit_once("//").map_or(url, |(_, address)| address).to_owned();
    urls.iter().position(|url| address(url) == address(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(cluster: &str, shard: usize) -> Event {
        Event::Reconnected { cluster: cluster.into(), shard, server: "127.0.0.1:2".to_owned() }
    }

    #[test]
    fn what_happens_to_the_links_of_the_run_is_noted_by_time() {
        let journal = {
            let urls = |ports: [u16; 2]| ports.map(|port| format!("nats://127.0.0.1:{port}")).to_vec();
            Journal::new(&["c1", "c2"].map(ClusterName::from), vec![urls([3, 4]), urls([1, 2])], 4)
        };
        journal.note(&back("c2", 1), 20);
        journal.note(&Event::Draining, 15);
        journal.note(&back("c9", 1), 16);
        journal.note(&Event::LameDuck { cluster: "c1".into(), shard: 0, server: String::new() }, 10);
        let mut pages = journal.pages();
        let entry = |at_nanos, cluster, shard, what, node| Entry { at_nanos, cluster, shard, what, node };
        assert_eq!(
            pages.entries,
            [entry(10, 0, 4, Happened::LameDuck, None), entry(20, 1, 5, Happened::Back, Some(1))]
        );
        assert_eq!(pages.dropped, 0);
        let other = Pages { entries: vec![entry(15, 0, 0, Happened::Back, None)], dropped: 3 };
        pages.add(other);
        let times: Vec<u64> = pages.entries.iter().map(|entry| entry.at_nanos).collect();
        assert_eq!((times, pages.dropped), (vec![10, 15, 20], 3));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let journal = Journal::new(&["c1".into()], Vec::new(), 0);
        for at in 0..ENTRIES_MAX as u64 + 3 {
            journal.note(&back("c1", 0), at);
        }
        let pages = journal.pages();
        assert_eq!((pages.entries.len(), pages.dropped), (ENTRIES_MAX, 3));
    }
}
