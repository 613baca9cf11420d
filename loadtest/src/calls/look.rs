//! The main thread's look at a run of calls, for the live view.

use std::time::Duration;

use super::caller::Caller;
use super::protocol::node_name;
use crate::console::Console;
use crate::live::{Latencies, Pulse, Row, Snapshot, Table, Words, phase};

/// Looks from time to time, when there is a screen to show it on.
#[derive(Debug)]
pub(super) struct Look {
    pulse: Pulse,
    latencies: Latencies,
    /// Calls a second.
    rate_asked: u64,
}

const WORDS: Words =
    Words { things: "calls", sent: "made", delivered: "answered", under_way: "under way", latency: "e2e" };

impl Look {
    pub(super) fn new(console: Console, rate_asked: u64) -> Self {
        Self { pulse: Pulse::new(console), latencies: Latencies::default(), rate_asked }
    }

    /// Shows how the calls stand, which began so long ago, if it is time to.
    pub(super) fn look(&mut self, caller: &Caller, elapsed: Duration) {
        if !self.pulse.is_due() {
            return;
        }
        let (Some(screen), Some(watched)) = (self.pulse.beat(), caller.look()) else { return };
        let schedule = &caller.assignment().schedule;
        let elapsed_nanos = crate::clock::nanos(elapsed);
        self.latencies.add(&watched.recent, elapsed_nanos >= schedule.measured_from_nanos());
        let (made, ended, answered) = caller.progress();
        let rows = watched.answered.iter().zip(&watched.instances).enumerate();
        let rows = rows.map(|(process, (count, instances))| Row {
            name: node_name(process),
            count: *count,
            note: match instances {
                0 => "gone".to_owned(),
                1 => "1 instance".to_owned(),
                more => format!("{more} instances"),
            },
        });
        screen.update(Snapshot {
            words: WORDS,
            phase: phase(schedule, elapsed_nanos),
            elapsed,
            whole: Duration::from_nanos(schedule.end_nanos()),
            measured_from: Duration::from_nanos(schedule.measured_from_nanos()),
            rate_asked: self.rate_asked,
            sent: made,
            delivered: answered,
            under_way: made.saturating_sub(ended),
            under_way_max: self.rate_asked,
            others: [
                ("failed", ended.saturating_sub(answered)),
                ("instances", watched.instances.iter().sum()),
            ],
            recent: self.latencies.recent(),
            so_far: self.latencies.so_far(),
            tables: vec![Table { title: "workers", rows: rows.collect() }],
        });
    }
}
