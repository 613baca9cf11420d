//! What is known of the faults when a run has ended: what was done, when, and what the links told.

use super::account::{Account, Scene};
use super::injector::{Injector, Strike};
use super::journal::{Entry, Journal};
use super::ledger::Ledger;
use super::timeline::Timeline;

/// Handed from the course of a run to those who judge it.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    timeline: Timeline,
    strikes: Vec<Option<Strike>>,
    entries: Vec<Entry>,
    /// Entries that the journal had no place for.
    dropped: u64,
    /// The start of the run on the monotonic clock.
    start_nanos: u64,
}

impl Witness {
    /// Takes down what has happened so far, in a run that began at the monotonic time `start_nanos`.
    pub(crate) fn new(injector: &Injector, journal: &Journal, start_nanos: u64) -> Self {
        let (entries, dropped) = journal.entries();
        Self {
            timeline: injector.timeline().clone(),
            strikes: injector.strikes().to_vec(),
            entries,
            dropped,
            start_nanos,
        }
    }

    /// Weighs the faults against what became of the messages. Times are on the run's clock.
    pub(crate) fn account(
        &self,
        ledger: &Ledger,
        clusters: &[String],
        measured_from_nanos: u64,
        end_nanos: u64,
    ) -> Account {
        let scene = Scene {
            clusters,
            faults: self.timeline.faults(),
            strikes: &self.strikes,
            entries: &self.entries,
            ledger,
            start_nanos: self.start_nanos,
            measured_from_nanos,
            end_nanos,
        };
        let mut account = scene.account();
        if self.dropped > 0 {
            let told = self.entries.len();
            account
                .reasons
                .push(format!("only {told} events of the links are known, and {} are not", self.dropped));
        }
        account
    }
}
