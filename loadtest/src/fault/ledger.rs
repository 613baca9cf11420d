//! What became of the messages of each cluster by the time at which they were due: what a fault cost, and whom.

use std::ops::Range;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checker::Arrival;
use crate::recorder::{Delivery, LATENCY_NANOS_MAX, merge};
use crate::sparse;

/// Cells of a run, by cluster. A message belongs to the cell of its intended time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    cell_nanos: u64,
    slot_nanos: u64,
    accounts: Vec<Account>,
}

/// One cluster's cells, and its latencies in slots, which are longer than cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    cells: Vec<Cell>,
    slots: Vec<Slot>,
}

/// The messages that were due within one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) sent: u64,
    /// Distinct messages that arrived intact.
    pub(crate) delivered: u64,
    /// Messages that were not sent, because the buffer for a cluster that a fault had struck was full.
    pub(crate) refused: u64,
    pub(crate) duplicate: u64,
    pub(crate) reordered: u64,
    /// When the last of them arrived, on the run's clock.
    pub(crate) last_arrival_nanos: u64,
}

/// From the intended send to the delivery, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Slot(#[serde(with = "sparse")] Histogram<u64>);

/// A cell is as short as this, or longer where there would be more than [`CELLS_MAX`].
const CELL_NANOS_MIN: u64 = 10_000_000;
/// Each takes 48 bytes, for each cluster and shard.
const CELLS_MAX: u64 = 8_192;
const SLOT_NANOS_MIN: u64 = 100_000_000;
/// Each takes 4 KiB, for each cluster and shard.
const SLOTS_MAX: u64 = 600;
/// Below this latencies are not told apart.
const LATENCY_NANOS_MIN: u64 = 1_000;
/// Enough for a factor of two: an error below 7 %.
const SIGNIFICANT_DIGITS: u8 = 1;

impl Ledger {
    /// Empty cells from the start of the run to the end of the schedule.
    pub(crate) fn new(until_nanos: u64, clusters: usize) -> Self {
        let until_nanos = until_nanos.max(1);
        let cell_nanos = until_nanos.div_ceil(CELLS_MAX).max(CELL_NANOS_MIN);
        let slot_nanos = until_nanos.div_ceil(SLOTS_MAX).max(SLOT_NANOS_MIN);
        let empty = Account {
            cells: vec![Cell::default(); until_nanos.div_ceil(cell_nanos) as usize],
            slots: vec![Slot(slot_histogram()); until_nanos.div_ceil(slot_nanos) as usize],
        };
        Self { cell_nanos, slot_nanos, accounts: vec![empty; clusters] }
    }

    /// A message left for its cluster.
    pub(crate) fn sent(&mut self, cluster: usize, intended_nanos: u64) {
        if let Some(cell) = self.cell(cluster, intended_nanos) {
            cell.sent += 1;
        }
    }

    /// A message was not sent, because there was no room for it.
    pub(crate) fn refused(&mut self, cluster: usize, intended_nanos: u64) {
        if let Some(cell) = self.cell(cluster, intended_nanos) {
            cell.refused += 1;
        }
    }

    /// A message arrived intact.
    pub(crate) fn delivered(&mut self, delivery: &Delivery) {
        let Some(cell) = self.cell(delivery.cluster, delivery.intended_nanos) else { return };
        match delivery.arrival {
            Arrival::Duplicate => {
                cell.duplicate += 1;
                return;
            }
            Arrival::Reordered => cell.reordered += 1,
            Arrival::InOrder => {}
        }
        cell.delivered += 1;
        cell.last_arrival_nanos = cell.last_arrival_nanos.max(delivery.delivered_nanos);
        let slot_nanos = self.slot_nanos;
        let slots = self.accounts.get_mut(delivery.cluster).map(|account| &mut account.slots);
        if let Some(slot) = slots.and_then(|slots| at(slots, delivery.intended_nanos, slot_nanos)) {
            slot.0.saturating_record(delivery.delivered_nanos.saturating_sub(delivery.intended_nanos));
        }
    }

    /// Adds what another shard or process of the same run saw.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.accounts.iter_mut().zip(&other.accounts) {
            ours.cells.iter_mut().zip(&theirs.cells).for_each(|(ours, theirs)| ours.add(theirs));
            ours.slots.iter_mut().zip(&theirs.slots).for_each(|(ours, theirs)| merge(&mut ours.0, &theirs.0));
        }
    }

    /// The length of a cell.
    pub(crate) fn cell_nanos(&self) -> u64 {
        self.cell_nanos
    }

    /// The length of a slot, to which the ranges of latencies are widened.
    pub(crate) fn slot_nanos(&self) -> u64 {
        self.slot_nanos
    }

    /// The cells of a cluster that begin within `due`, each with its begin.
    pub(crate) fn cells(&self, cluster: usize, due: Range<u64>) -> impl Iterator<Item = (u64, &Cell)> {
        let from = due.start.div_ceil(self.cell_nanos);
        let until = due.end.div_ceil(self.cell_nanos);
        let cells = self.accounts.get(cluster).map_or(&[][..], |account| &account.cells);
        let begins = (from..until).map(|place| (place as usize, place * self.cell_nanos));
        begins.map_while(|(place, begin)| Some((begin, cells.get(place)?)))
    }

    /// What became of the messages of a cluster whose cells begin within `due`.
    pub(crate) fn sum(&self, cluster: usize, due: Range<u64>) -> Cell {
        let mut sum = Cell::default();
        self.cells(cluster, due).for_each(|(_, cell)| sum.add(cell));
        sum
    }

    /// The latencies of a cluster's messages that were due within `due`, which is widened to whole slots.
    pub(crate) fn latency(&self, cluster: usize, due: Range<u64>) -> Histogram<u64> {
        let mut sum = slot_histogram();
        let places = due.start / self.slot_nanos..due.end.div_ceil(self.slot_nanos);
        let slots = self.accounts.get(cluster).map_or(&[][..], |account| &account.slots);
        for slot in places.map_while(|place| slots.get(place as usize)) {
            merge(&mut sum, &slot.0);
        }
        sum
    }

    fn cell(&mut self, cluster: usize, intended_nanos: u64) -> Option<&mut Cell> {
        let cell_nanos = self.cell_nanos;
        at(&mut self.accounts.get_mut(cluster)?.cells, intended_nanos, cell_nanos)
    }
}

impl Cell {
    /// Messages sent that never arrived intact.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.delivered)
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.refused += other.refused;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.last_arrival_nanos = self.last_arrival_nanos.max(other.last_arrival_nanos);
    }
}

/// What holds a time; times after the end belong to the last.
fn at<T>(all: &mut [T], nanos: u64, each_nanos: u64) -> Option<&mut T> {
    let last = all.len().checked_sub(1)?;
    all.get_mut(((nanos / each_nanos) as usize).min(last))
}

fn slot_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS)
        .expect("the bounds are in order")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MILLI;

    /// A message of `cluster` that was sent, and arrived after `latency_nanos`.
    pub(crate) fn delivery(cluster: usize, intended_nanos: u64, latency_nanos: u64) -> Delivery {
        Delivery {
            arrival: Arrival::InOrder,
            cluster,
            intended_nanos,
            actual_nanos: intended_nanos,
            delivered_nanos: intended_nanos + latency_nanos,
        }
    }

    #[test]
    fn a_message_is_counted_where_it_was_due() {
        let mut ledger = Ledger::new(SECOND, 2);
        for due in [0, 9 * MILLI, 10 * MILLI] {
            ledger.sent(1, due);
        }
        ledger.delivered(&delivery(1, 9 * MILLI, 700 * MILLI));
        ledger.delivered(&Delivery { arrival: Arrival::Duplicate, ..delivery(1, 9 * MILLI, 800 * MILLI) });
        ledger.delivered(&Delivery { arrival: Arrival::Reordered, ..delivery(1, 10 * MILLI, MILLI) });
        ledger.refused(1, 10 * MILLI);
        let first = ledger.sum(1, 0..10 * MILLI);
        assert_eq!((first.sent, first.delivered, first.lost(), first.duplicate), (2, 1, 1, 1));
        assert_eq!(first.last_arrival_nanos, 709 * MILLI);
        let second = ledger.sum(1, 10 * MILLI..20 * MILLI);
        assert_eq!((second.sent, second.lost(), second.reordered, second.refused), (1, 0, 1, 1));
        assert_eq!(ledger.sum(0, 0..SECOND), Cell::default());
        assert_eq!(ledger.sum(7, 0..SECOND), Cell::default());
    }

    #[test]
    fn every_cell_is_in_exactly_one_of_two_neighbouring_ranges() {
        let mut ledger = Ledger::new(SECOND, 1);
        (0..100).for_each(|cell| ledger.sent(0, cell * 10 * MILLI));
        for cut in [0, 1, 10 * MILLI, 15 * MILLI, 333 * MILLI, SECOND] {
            let parts = [0..cut, cut..SECOND].map(|due| ledger.sum(0, due).sent);
            assert_eq!(parts.iter().sum::<u64>(), 100, "{cut}");
        }
    }

    #[test]
    fn latencies_are_those_of_the_slots_that_a_range_touches() {
        let mut ledger = Ledger::new(SECOND, 1);
        for (due, latency) in [(50, 1), (250, 100), (950, 10)] {
            ledger.delivered(&delivery(0, due * MILLI, latency * MILLI));
        }
        let max = |due: Range<u64>| ledger.latency(0, due.start * MILLI..due.end * MILLI).max() / MILLI;
        assert_eq!(max(0..100), 1);
        assert!((100..107).contains(&max(0..210)));
        assert_eq!(max(300..900), 0);
        assert_eq!(max(300..5_000), 10);
    }

    #[test]
    fn a_long_run_has_no_more_cells_than_the_bound() {
        let day = 86_400 * SECOND;
        let mut ledger = Ledger::new(day, 1);
        assert!(ledger.accounts[0].cells.len() as u64 <= CELLS_MAX);
        assert!(ledger.accounts[0].slots.len() as u64 <= SLOTS_MAX);
        ledger.sent(0, day + SECOND);
        assert_eq!(ledger.sum(0, 0..2 * day).sent, 1);
    }

    #[test]
    fn merged_shards_are_as_one_that_saw_everything() {
        let mut ledgers = [Ledger::new(SECOND, 2), Ledger::new(SECOND, 2)];
        let mut whole = Ledger::new(SECOND, 2);
        for i in 0..200_u64 {
            let (cluster, due) = ((i % 2) as usize, i * 5 * MILLI);
            for ledger in [&mut ledgers[usize::from(i % 3 == 0)], &mut whole] {
                ledger.sent(cluster, due);
                ledger.delivered(&delivery(cluster, due, i * MILLI));
            }
        }
        let text = serde_json::to_string(&ledgers[1]).expect("serialisable");
        ledgers[0].merge(&serde_json::from_str(&text).expect("readable in another process"));
        assert_eq!(ledgers[0], whole);
    }
}
