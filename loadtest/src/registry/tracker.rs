//! What one node sees of all the others: which services are there, and when it saw which change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plan::{Item, addition_of, removal_of, update_of};

/// The view of one node, fed with the events of its watches.
#[derive(Debug)]
pub(crate) struct Tracker {
    origins: Vec<Origin>,
    is_recording: bool,
}

/// What is seen of one node.
#[derive(Debug, Default)]
struct Origin {
    visible: u64,
    /// Services of this node when all of them are there.
    full: u64,
    was_emptied: bool,
    sightings: Sightings,
}

/// What was seen of one node's changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sightings {
    /// By the number of the change: the monotonic time in nanoseconds; 0 when it was not seen.
    pub(crate) seen_nanos: Vec<u64>,
    /// How many of them have a time.
    pub(crate) seen: u64,
    /// Of them, those that were seen only in what a later change of the same service made of them.
    pub(crate) superseded: u64,
    /// Changes that were seen again, or after a later one of the same service.
    pub(crate) repeated: u64,
    /// Events that no change of the plan explains.
    pub(crate) unexplained: u64,
}

/// What an event meant to the whole of a node's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The last of them went.
    Emptied,
    /// All are there again, for the first time after they were gone.
    Filled,
}

impl Tracker {
    /// A view of `nodes` nodes, each of which has `full` services while it makes no change.
    pub(crate) fn new(nodes: usize, full: u64) -> Self {
        let origin = || Origin { full, ..Origin::default() };
        Self { origins: (0..nodes).map(|_| origin()).collect(), is_recording: false }
    }

    /// From here on, so many changes of each node are expected.
    pub(crate) fn record(&mut self, changes: &[u64]) {
        self.is_recording = true;
        for (origin, changes) in self.origins.iter_mut().zip(changes) {
            origin.sightings = Sightings { seen_nanos: vec![0; *changes as usize], ..Sightings::default() };
        }
    }

    /// Changes seen so far, of all nodes.
    pub(crate) fn seen(&self) -> u64 {
        self.origins.iter().map(|origin| origin.sightings.seen).sum()
    }

    /// When a change of a node was seen; 0 when it was not.
    pub(crate) fn seen_at(&self, node: usize, number: u64) -> u64 {
        let origin = self.origins.get(node);
        let seen = origin.and_then(|origin| origin.sightings.seen_nanos.get(number as usize));
        seen.copied().unwrap_or(0)
    }

    /// Services that are there, of all nodes.
    pub(crate) fn listed(&self) -> u64 {
        self.origins.iter().map(|origin| origin.visible).sum()
    }

    /// What was seen of each node; nothing is recorded after this.
    pub(crate) fn take(&mut self) -> Vec<Sightings> {
        self.is_recording = false;
        self.origins.iter_mut().map(|origin| std::mem::take(&mut origin.sightings)).collect()
    }

    /// A service is there that was not.
    pub(crate) fn came(&mut self, node: usize, item: Item, written: Option<u64>, now: u64) -> Option<Turn> {
        let is_recording = self.is_recording;
        let origin = self.origins.get_mut(node)?;
        origin.visible += 1;
        if let (true, Item::Pool(serial)) = (is_recording, item) {
            origin.sightings.came(serial, written, now);
        }
        if origin.was_emptied && origin.visible >= origin.full {
            origin.was_emptied = false;
            return Some(Turn::Filled);
        }
        None
    }

    /// A service has other metadata, or another state.
    pub(crate) fn changed(&mut self, node: usize, item: Item, written: Option<u64>, now: u64) {
        if let (true, Item::Pool(serial), Some(origin)) =
            (self.is_recording, item, self.origins.get_mut(node))
        {
            origin.sightings.changed(serial, written, now);
        }
    }

    /// A service is gone.
    pub(crate) fn went(&mut self, node: usize, item: Item, now: u64) -> Option<Turn> {
        let is_recording = self.is_recording;
        let origin = self.origins.get_mut(node)?;
        origin.visible = origin.visible.saturating_sub(1);
        if let (true, Item::Pool(serial)) = (is_recording, item) {
            origin.sightings.went(serial, now);
        }
        if origin.visible == 0 {
            origin.was_emptied = true;
            return Some(Turn::Emptied);
        }
        None
    }
}

impl Sightings {
    fn came(&mut self, serial: u64, written: Option<u64>, now: u64) {
        match written {
            Some(number) if Some(number) == addition_of(serial) => self.see(number, now),
            Some(number) if Some(number) == update_of(serial) => {
                self.supersede(addition_of(serial), now);
                self.see(number, now);
            }
            _ => self.unexplained += 1,
        }
    }

    fn changed(&mut self, serial: u64, written: Option<u64>, now: u64) {
        match written {
            Some(number) if Some(number) == update_of(serial) => {
                self.supersede(addition_of(serial), now);
                // Again with the same value: its node is suspected, or no more.
                if self.seen_nanos.get(number as usize) == Some(&0) {
                    self.see(number, now);
                }
            }
            written if written.is_none() || written == addition_of(serial) => {}
            _ => self.unexplained += 1,
        }
    }

    fn went(&mut self, serial: u64, now: u64) {
        self.supersede(addition_of(serial), now);
        self.supersede(update_of(serial), now);
        match removal_of(serial) {
            Some(number) => self.see(number, now),
            None => self.unexplained += 1,
        }
    }

    fn see(&mut self, number: u64, now: u64) {
        match self.seen_nanos.get_mut(number as usize) {
            Some(seen) if *seen == 0 => {
                *seen = now;
                self.seen += 1;
            }
            Some(_) => self.repeated += 1,
            None => self.unexplained += 1,
        }
    }

    fn supersede(&mut self, number: Option<u64>, now: u64) {
        let seen = number.and_then(|number| self.seen_nanos.get_mut(number as usize));
        if let Some(seen) = seen.filter(|seen| **seen == 0) {
            *seen = now;
            self.seen += 1;
            self.superseded += 1;
        }
    }
}

/// The services of one type that a watch has named, so that a watch that begins again can be told from one
/// that goes on: who falls behind gets everything anew, and what is not named then is gone.
#[derive(Debug, Default)]
pub(crate) struct Named {
    there: BTreeSet<(usize, Item)>,
    anew: BTreeSet<(usize, Item)>,
}

impl Named {
    /// `Present`: returns whether it was not there before.
    pub(crate) fn present(&mut self, node: usize, item: Item) -> bool {
        self.anew.insert((node, item));
        self.there.insert((node, item))
    }

    /// `Synced`: what was there and is no more.
    pub(crate) fn synced(&mut self) -> Vec<(usize, Item)> {
        let anew = std::mem::take(&mut self.anew);
        let gone: Vec<_> = self.there.difference(&anew).copied().collect();
        self.there = anew;
        gone
    }

    /// `Joined`: returns whether it was not there before.
    pub(crate) fn joined(&mut self, node: usize, item: Item) -> bool {
        self.there.insert((node, item))
    }

    /// `Left`: returns whether it was there.
    pub(crate) fn left(&mut self, node: usize, item: Item) -> bool {
        self.there.remove(&(node, item))
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Change, POOL, change};
    use super::*;

    /// A tracker of one node, fed with that node's changes `0..made`, of which `skip` are not heard.
    fn follow(made: u64, skip: impl Fn(u64) -> bool) -> Sightings {
        let mut tracker = Tracker::new(1, POOL);
        for serial in 0..POOL {
            tracker.came(0, Item::Pool(serial), None, 1);
        }
        tracker.record(&[made]);
        for number in (0..made).filter(|number| !skip(*number)) {
            let now = 100 + number;
            match change(number) {
                Change::Add { serial } => drop(tracker.came(0, Item::Pool(serial), Some(number), now)),
                Change::Update { serial } => tracker.changed(0, Item::Pool(serial), Some(number), now),
                Change::Remove { serial } => drop(tracker.went(0, Item::Pool(serial), now)),
            }
        }
        tracker.take().remove(0)
    }

    #[test]
    fn every_change_is_seen_once_at_its_time() {
        let sightings = follow(1_000, |_| false);
        assert_eq!(sightings.seen_nanos, (100..1_100).collect::<Vec<_>>());
        let counts = (sightings.seen, sightings.superseded, sightings.repeated, sightings.unexplained);
        assert_eq!(counts, (1_000, 0, 0, 0));
    }

    #[test]
    fn a_change_that_was_never_heard_has_no_time() {
        let sightings = follow(1_000, |number| number == 999);
        assert_eq!((sightings.seen, sightings.seen_nanos[999]), (999, 0));
    }

    #[test]
    fn an_unheard_update_is_superseded_by_the_removal() {
        let sightings = follow(1_000, |number| number == 1);
        assert_eq!((sightings.seen, sightings.superseded), (1_000, 1));
        let removed = removal_of(POOL / 2).expect("a small serial");
        assert_eq!(sightings.seen_nanos[1], 100 + removed);
    }

    #[test]
    fn what_the_plan_does_not_hold_is_unexplained_and_what_comes_twice_is_repeated() {
        let mut tracker = Tracker::new(1, POOL);
        tracker.record(&[30]);
        tracker.came(0, Item::Pool(POOL), Some(0), 5);
        tracker.came(0, Item::Pool(POOL), Some(0), 6);
        tracker.came(0, Item::Pool(POOL + 1), Some(0), 7);
        tracker.came(0, Item::Pool(POOL + 1), None, 7);
        tracker.came(0, Item::Pool(POOL + 500), addition_of(POOL + 500), 7);
        tracker.changed(0, Item::Pool(POOL), Some(77), 8);
        tracker.went(0, Item::Pool(5_000), 9);
        let sightings = tracker.take().remove(0);
        assert_eq!((sightings.seen, sightings.repeated, sightings.unexplained), (1, 1, 5));
    }

    #[test]
    fn a_change_can_be_asked_for_while_the_run_goes_on() {
        let mut tracker = Tracker::new(2, POOL);
        tracker.record(&[9, 9]);
        assert_eq!(tracker.came(1, Item::Pool(POOL), addition_of(POOL), 5), None);
        assert_eq!(
            [(1, 0), (1, 3), (0, 0), (1, 9), (7, 0)].map(|(node, it)| tracker.seen_at(node, it)),
            [5, 0, 0, 0, 0]
        );
        assert_eq!(tracker.listed(), 1);
    }

    #[test]
    fn a_suspicion_is_no_change() {
        let mut tracker = Tracker::new(1, POOL);
        tracker.record(&[30]);
        tracker.changed(0, Item::Pool(3), None, 5);
        tracker.changed(0, Item::Pool(POOL / 2), Some(1), 6);
        tracker.changed(0, Item::Pool(POOL / 2), Some(1), 7);
        let sightings = tracker.take().remove(0);
        assert_eq!((sightings.seen, sightings.seen_nanos[1]), (1, 6));
        assert_eq!((sightings.repeated, sightings.unexplained), (0, 0));
    }

    #[test]
    fn a_node_empties_with_its_last_service_and_fills_with_its_last_again() {
        let mut tracker = Tracker::new(2, 3);
        let items = [Item::Entry(0), Item::Entry(1), Item::Pool(0)];
        for item in items {
            assert_eq!(tracker.came(1, item, None, 1), None);
        }
        assert_eq!(items.map(|item| tracker.went(1, item, 2)), [None, None, Some(Turn::Emptied)]);
        assert_eq!(items.map(|item| tracker.came(1, item, None, 3)), [None, None, Some(Turn::Filled)]);
        assert_eq!(tracker.came(7, Item::Entry(0), None, 4), None);
    }

    #[test]
    fn a_watch_that_begins_again_tells_what_is_gone() {
        let mut named = Named::default();
        for number in 0..4 {
            assert!(named.present(0, Item::Entry(number)));
        }
        assert_eq!(named.synced(), []);
        assert!(named.left(0, Item::Entry(3)) && !named.left(0, Item::Entry(3)));
        assert!(named.joined(1, Item::Pool(9)) && !named.joined(1, Item::Pool(9)));

        assert!(!named.present(0, Item::Entry(0)) && named.present(0, Item::Entry(8)));
        assert_eq!(named.synced(), [(0, Item::Entry(1)), (0, Item::Entry(2)), (1, Item::Pool(9))]);
        assert!(named.left(0, Item::Entry(8)) && !named.left(0, Item::Entry(1)));
    }
}
