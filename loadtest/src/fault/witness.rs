//! What is known of the faults when a run has ended: what was done, when, and what the links told.

use super::account::{Account, Scene};
use super::injector::{Injector, Strike};
use super::journal::Pages;
use super::ledger::Ledger;
use super::timeline::Timeline;

/// Handed from the course of a run to those who judge it.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    timeline: Timeline,
    strikes: Vec<Option<Strike>>,
    pages: Pages,
    /// The start of the run on the monotonic clock.
    start_nanos: u64,
}

impl Witness {
    /// Takes down what has happened so far, in a run that began at the monotonic time `start_nanos`; `pages` are those
    /// of the journals of all processes.
    pub(crate) fn new(injector: &Injector, pages: Pages, start_nanos: u64) -> Self {
        Self {
            timeline: injector.timeline().clone(),
            strikes: injector.strikes().to_vec(),
            pages,
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
            entries: &self.pages.entries,
            ledger,
            start_nanos: self.start_nanos,
            measured_from_nanos,
            end_nanos,
        };
        let mut account = scene.account();
        let Pages { entries, dropped } = &self.pages;
        if *dropped > 0 {
            let told = entries.len();
            account.reasons.push(format!("only {told} events of the links are known, and {dropped} are not"));
        }
        account
    }
}
