//! The registry's figures: memory, bytes, rejoins and bulk adds, each measured on nodes in memory.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croupier_registry::limits::LogLimits;
use croupier_registry::{PARTITIONS, ServiceKey};
use serde::Serialize;

use crate::error::BenchError;
use crate::registry::allocation::Allocated;
use crate::registry::cluster::{Cluster, Seen, frame_type, key, refused};
use crate::registry::cpu;
use crate::registry::workload::{id, kind, service};
use crate::statistics::Spread;

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Memory of an entry, with its owner and on a replica.
    Memory,
    /// Bytes of a change to each receiver.
    ChangeBytes,
    /// What two nodes that were split for an hour send each other.
    Rejoin,
    /// The same where more was removed than is remembered.
    Seal,
    /// CPU time of adding many services at once.
    Add,
}

impl Figure {
    /// All, in the order in which they are measured and printed.
    pub const ALL: [Self; 5] = [Self::Memory, Self::ChangeBytes, Self::Rejoin, Self::Seal, Self::Add];

    /// The name in the command line and the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::ChangeBytes => "change_bytes",
            Self::Rejoin => "rejoin",
            Self::Seal => "seal",
            Self::Add => "add",
        }
    }

    /// Measures it with so many entries, and says each row as soon as it is there.
    ///
    /// # Errors
    /// If the nodes do not come to the same, or one sees a wrong number of changes.
    pub fn measure(self, entries: u64, say: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
        match self {
            Self::Memory => memory(entries, say),
            Self::ChangeBytes => change_bytes(say),
            Self::Rejoin => rejoin(entries, say),
            Self::Seal => seal(entries, say),
            Self::Add => add(say),
        }
    }
}

/// A name that no figure has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no figure is called {name:?}; there are: {}", Figure::ALL.map(Figure::name).join(" "))]
pub struct UnknownFigure {
    /// The name as it was given.
    pub name: String,
}

impl FromStr for Figure {
    type Err = UnknownFigure;

    fn from_str(name: &str) -> Result<Self, UnknownFigure> {
        let known = Self::ALL.into_iter().find(|figure| figure.name() == name);
        known.ok_or_else(|| UnknownFigure { name: name.to_owned() })
    }
}

/// One number, and what it is held to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The figure's name.
    pub figure: &'static str,
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// The most that it may be, where the design holds it to something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// The heading over [`Row`]'s lines.
pub const HEADING: &str = "figure        what                                                                                  value  at most";

/// One line under [`HEADING`].
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value < 10_000.0 { 1 } else { 0 };
        write!(f, "{:<13} {:<74} {:>14.digits$}", self.figure, self.what, self.value)?;
        match self.at_most {
            Some(at_most) => write!(f, " {at_most:>8} {}", self.unit),
            None => write!(f, "        - {}", self.unit),
        }
    }
}

/// Types over which many entries are spread: enough that every partition has some.
const TYPES: usize = 1000;
/// Nodes settle within this simulated time, or never.
const SETTLE_MAX: Duration = Duration::from_mins(10);
/// Simulated time of a split.
const SPLIT: Duration = Duration::from_hours(1);
/// Long enough that a node which was away for [`SPLIT`] is still remembered.
const REMEMBERED: Duration = Duration::from_hours(2);
/// Repetitions of what is measured in CPU time.
const ROUNDS: usize = 7;

/// How entries are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    OneType,
    ManyTypes,
}

impl Layout {
    fn kind(self, number: u64) -> String {
        match self {
            Self::OneType => kind(0),
            Self::ManyTypes => kind((number % TYPES as u64) as usize),
        }
    }

    fn fill(self, cluster: &mut Cluster, entries: u64) -> Result<(), BenchError> {
        for number in 0..entries {
            cluster.put(0, &service(&self.kind(number), number, 0).map_err(refused)?)?;
        }
        Ok(())
    }

    /// Adds or replaces these entries.
    fn put_all(
        self,
        cluster: &mut Cluster,
        numbers: impl Iterator<Item = u64>,
        revision: u64,
    ) -> Result<(), BenchError> {
        for number in numbers {
            cluster.put(0, &service(&self.kind(number), number, revision).map_err(refused)?)?;
        }
        Ok(())
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneType => f.pad("1 type"),
            Self::ManyTypes => write!(f, "{TYPES} types"),
        }
    }
}

// Memory.

fn memory(entries: u64, say: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
    // Tables double: just above a doubling an entry takes the most.
    let doubled = entries.next_power_of_two() / 2 + entries.next_power_of_two() / 64;
    for (layout, entries) in
        [(Layout::OneType, entries), (Layout::ManyTypes, entries), (Layout::OneType, doubled.min(entries))]
    {
        let mut cluster = Cluster::new(2, None);
        cluster.split(0, 1)?;
        let empty = Allocated::now();
        layout.fill(&mut cluster, entries)?;
        let owner = Allocated::now().since(empty);
        let before = Allocated::now();
        cluster.heal(0, 1);
        cluster.run_until_equal(SETTLE_MAX)?;
        let replica = Allocated::now().since(before);
        let joined = cluster.seen(1);
        if joined != (Seen { joined: entries, ..Seen::default() }) {
            return Err(refused(format!("of {entries} entries the replica saw {joined:?}")));
        }
        if owner.requested <= 0 {
            return Err(refused("memory can be measured only where the allocator counts"));
        }
        for (side, allocated) in [("owner", owner), ("replica", replica)] {
            for (what, bytes, at_most) in [
                ("requested", allocated.requested, None),
                ("occupied", allocated.occupied, Some(MEMORY_AT_MOST)),
            ] {
                say(Row {
                    figure: Figure::Memory.name(),
                    what: format!("{side}, {entries} entries of {layout}: {what}"),
                    value: bytes as f64 / entries as f64,
                    unit: "B/entry",
                    at_most,
                });
            }
        }
    }
    Ok(())
}

/// What the design holds an entry with 64 bytes of metadata to.
const MEMORY_AT_MOST: f64 = 256.0;

// Bytes of a change.

fn change_bytes(say: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
    let mut cluster = Cluster::new(3, None);
    Layout::ManyTypes.fill(&mut cluster, TYPES as u64)?;
    cluster.run_until_equal(SETTLE_MAX)?;
    let mut revision = 0;
    for (what, changes, layout, at_most) in [
        ("one update", 1, Layout::OneType, Some(CHANGE_BYTES_AT_MOST)),
        ("100 updates within 1 ms, of 1 type", 100, Layout::OneType, Some(BATCHED_BYTES_AT_MOST)),
        ("100 updates within 1 ms, of 100 types", 100, Layout::ManyTypes, Some(BATCHED_BYTES_AT_MOST)),
    ] {
        // New entries first, so that what is measured are updates in all three.
        layout.put_all(&mut cluster, 0..changes, revision)?;
        cluster.run_for(Duration::from_secs(1))?;
        revision += 1;
        for node in 0..3 {
            cluster.seen(node);
        }
        cluster.forget_traffic();
        for number in 0..changes {
            let service = service(&layout.kind(number), number, revision).map_err(refused)?;
            cluster.put_without_delivery(0, &service)?;
        }
        cluster.deliver()?;
        cluster.run_for(Duration::from_millis(2))?;
        for receiver in [1, 2] {
            let seen = cluster.seen(receiver);
            if seen != (Seen { updated: changes, ..Seen::default() }) {
                return Err(refused(format!("of {changes} changes a receiver saw {seen:?}")));
            }
        }
        let there = cluster.traffic(0, 1);
        let beats = cluster.traffic_of(0, 1, frame_type::HEARTBEAT).bytes;
        let back = cluster.traffic(1, 0).bytes - cluster.traffic_of(1, 0, frame_type::HEARTBEAT).bytes;
        say(Row {
            figure: Figure::ChangeBytes.name(),
            what: format!("{what}: {} frames and {back} B back", there.frames),
            value: (there.bytes - beats + back) as f64 / changes as f64,
            unit: "B/change",
            at_most,
        });
    }
    Ok(())
}

const CHANGE_BYTES_AT_MOST: f64 = 260.0;
const BATCHED_BYTES_AT_MOST: f64 = 170.0;

// Rejoins.

/// What happens on the owner's side of a split.
struct Meanwhile {
    what: &'static str,
    forget_after: Option<Duration>,
    /// So many entries in a hundred are updated.
    updated_percent: u64,
}

fn rejoin(entries: u64, say: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
    for meanwhile in [
        Meanwhile { what: "unchanged", forget_after: Some(REMEMBERED), updated_percent: 0 },
        Meanwhile { what: "1 % updated", forget_after: Some(REMEMBERED), updated_percent: 1 },
        Meanwhile { what: "unchanged, default forget_after", forget_after: None, updated_percent: 0 },
    ] {
        for layout in [Layout::OneType, Layout::ManyTypes] {
            let mut cluster = Cluster::new(2, meanwhile.forget_after);
            layout.fill(&mut cluster, entries)?;
            cluster.run_until_equal(SETTLE_MAX)?;
            cluster.split(0, 1)?;
            cluster.run_for(SPLIT)?;
            let updated = (0..entries).filter(|number| is_among(*number, meanwhile.updated_percent));
            let updates = updated.clone().count();
            layout.put_all(&mut cluster, updated, 1)?;
            let what = format!("{entries} entries of {layout}, {}", meanwhile.what);
            let back = heal(&mut cluster, entries)?;
            // The changes themselves come on top of what the design allows.
            let at_most = REJOIN_BYTES_AT_MOST + updates as f64 * BATCHED_BYTES_AT_MOST;
            back.say(Figure::Rejoin, &what, Some(at_most), say);
        }
    }
    Ok(())
}

const REJOIN_BYTES_AT_MOST: f64 = 2_000_000.0;

fn seal(entries: u64, say: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
    let limits = LogLimits::default();
    // In one large log 1 % is more than the removals that are kept. In many it takes more than a quarter.
    let percent = if entries / 100 > limits.removals_most as u64 { 1 } else { 10 };
    for (layout, percent) in [(Layout::OneType, percent), (Layout::ManyTypes, 30)] {
        let mut cluster = Cluster::new(2, Some(REMEMBERED));
        layout.fill(&mut cluster, entries)?;
        cluster.run_until_equal(SETTLE_MAX)?;
        cluster.split(0, 1)?;
        cluster.run_for(SPLIT)?;
        let logs = if layout == Layout::OneType { 1 } else { PARTITIONS.min(TYPES) as u64 };
        let remembered =
            (entries / logs / 4).clamp(limits.removals_least as u64, limits.removals_most as u64);
        let mut gone = 0;
        for number in (0..entries).filter(|number| is_among(*number, percent)) {
            let key =
                ServiceKey::new(layout.kind(number).as_bytes(), id(number).as_bytes()).map_err(refused)?;
            if !cluster.remove(0, &key)? {
                return Err(refused("what was to be removed is not there"));
            }
            gone += 1;
        }
        layout.put_all(&mut cluster, entries..entries + gone, 0)?;
        let what = format!("{entries} entries of {layout}, {percent} % replaced (a log keeps {remembered})");
        let back = heal(&mut cluster, entries)?;
        if back.seal_bytes == 0 {
            return Err(refused("no Seal was sent: too few removals"));
        }
        let changes_bytes = gone as f64 * BATCHED_BYTES_AT_MOST;
        back.say(Figure::Seal, &what, Some(REJOIN_BYTES_AT_MOST + changes_bytes), say);
        say(Row {
            figure: Figure::Seal.name(),
            what: format!("{what}: of this, Seals"),
            value: back.seal_bytes as f64,
            unit: "B",
            at_most: Some(REJOIN_BYTES_AT_MOST),
        });
    }
    Ok(())
}

/// Chooses so many entries in a hundred, of every type alike.
fn is_among(number: u64, percent: u64) -> bool {
    (number + number / TYPES as u64) % 100 < percent
}

/// What it took to come together again.
struct Rejoined {
    bytes: u64,
    seal_bytes: u64,
    cpu: Duration,
}

impl Rejoined {
    fn say(&self, figure: Figure, what: &str, at_most: Option<f64>, say: &mut dyn FnMut(Row)) {
        let row = |what, value, unit, at_most| Row { figure: figure.name(), what, value, unit, at_most };
        say(row(format!("{what}: both ways"), self.bytes as f64, "B", at_most));
        say(row(format!("{what}: CPU of both"), self.cpu.as_secs_f64() * 1e3, "ms", None));
    }
}

/// Ends the split and counts until both have the same, and the replica shows it.
fn heal(cluster: &mut Cluster, entries: u64) -> Result<Rejoined, BenchError> {
    cluster.seen(1);
    cluster.forget_traffic();
    cluster.heal(0, 1);
    let start = cpu::of_thread();
    cluster.run_until_equal(SETTLE_MAX)?;
    let cpu = cpu::of_thread() - start;
    let seen = cluster.seen(1);
    if seen.joined != entries {
        return Err(refused(format!("of {entries} entries a node that is back shows {seen:?}")));
    }
    if !cluster.partitions(1).is_synced(key(0))
        || cluster.partitions(1).kinds() != cluster.partitions(0).kinds()
    {
        return Err(refused("the two sides do not show the same types"));
    }
    let bytes = cluster.traffic(0, 1).bytes + cluster.traffic(1, 0).bytes;
    Ok(Rejoined { bytes, seal_bytes: cluster.traffic_of(0, 1, frame_type::SEAL).bytes, cpu })
}

// Adding.

fn add(say: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
    for layout in [Layout::OneType, Layout::ManyTypes] {
        for nodes in [1, 3] {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let mut cluster = Cluster::new(nodes, None);
                cluster.run_for(Duration::from_secs(5))?;
                let services = (0..ADDED).map(|number| service(&layout.kind(number), number, 0));
                let services = services.collect::<Result<Vec<_>, _>>().map_err(refused)?;
                let start = cpu::of_thread();
                for service in &services {
                    cluster.put_without_delivery(0, service)?;
                }
                cluster.run_for(Duration::from_millis(2))?;
                times.push((cpu::of_thread() - start).as_secs_f64() * 1e3);
                for node in 0..nodes {
                    let seen = cluster.seen(node);
                    if seen.joined != ADDED {
                        return Err(refused(format!("of {ADDED} added, node {node} saw {seen:?}")));
                    }
                }
            }
            let Some(time) = Spread::of(times) else { continue };
            let receivers = if nodes == 1 { "nobody".to_owned() } else { format!("{} others", nodes - 1) };
            say(Row {
                figure: Figure::Add.name(),
                what: format!("{ADDED} services of {layout} at once, and taken by {receivers}: CPU of all"),
                value: time.median,
                unit: "ms",
                at_most: Some(ADD_MS_AT_MOST),
            });
        }
    }
    Ok(())
}

const ADDED: u64 = 10_000;
const ADD_MS_AT_MOST: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_but_memory_has_rows_within_reason() {
        for figure in Figure::ALL.into_iter().filter(|figure| *figure != Figure::Memory) {
            let mut rows = Vec::new();
            figure.measure(100_000, &mut |row| rows.push(row)).unwrap();
            assert!(!rows.is_empty());
            for row in rows {
                assert!(row.value > 0.0 && row.figure == figure.name(), "{row}");
            }
        }
    }

    #[test]
    fn memory_is_not_measured_where_nothing_counts_it() {
        assert!(Figure::Memory.measure(100, &mut |row| panic!("{row}")).is_err());
    }

    #[test]
    fn names_are_understood() {
        for figure in Figure::ALL {
            assert_eq!(figure.name().parse(), Ok(figure));
        }
        assert!("seals".parse::<Figure>().is_err());
    }
}
