//! What a run of each scenario may be told, with its defaults and limits; each scenario has a file below.

mod calls;
mod given_faults;
mod output;
mod registry;
mod run;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

pub(crate) use self::calls::CallsOptions;
use self::given_faults::GivenFaults;
pub(crate) use self::output::{JsonTarget, OutputOptions};
pub(crate) use self::registry::RegistryOptions;
pub(crate) use self::run::RunOptions;
use crate::cli::OptionRow;
use crate::fault::{Act, Fault};
use crate::keys::KeyChoice;
use crate::payload::{HEAD_BYTES, PAYLOAD_BYTES_MAX};
use crate::quantity::{QuantityError, Rate, Size, parse_count, parse_duration};
use crate::slo::Measures;

/// The option that is at fault, what was given, and why it is refused.
pub(crate) type AtFault = (&'static str, String, QuantityError);

/// One scenario's options.
pub(crate) trait Options {
    /// The scenario's name.
    fn scenario(&self) -> &'static str;

    /// Those of its own, besides [`COMMON_ROWS`] and [`OutputOptions::ROWS`].
    fn rows(&self) -> &'static [OptionRow];

    /// Takes one of its own or of [`COMMON_ROWS`]; `given` is empty for an option without a value.
    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError>;

    fn output_mut(&mut self) -> &mut OutputOptions;

    /// What it says of itself in a report, and how many faults there will be: by which it is known before the run whether
    /// that can be compared with another.
    fn told(&self) -> serde_json::Result<(Value, usize)>;

    /// What goals can be about.
    fn measures(&self) -> &'static Measures;

    /// Looks at all of them together.
    fn complete(&mut self) -> Result<(), AtFault>;

    fn knows(&self, option: &str) -> bool {
        self.rows().iter().chain(COMMON_ROWS).any(|row| row.name == option)
    }
}

/// What every scenario knows.
pub(crate) const COMMON_ROWS: &[OptionRow] = &[
    OptionRow::new("--warmup", "TIME", "load before the figures count: 2s, 500ms, 0s", "2s"),
    OptionRow::new("--duration", "TIME", "load that counts", "10s"),
];

/// The row of an option that some scenario knows.
pub(crate) fn row_of(option: &str) -> Option<OptionRow> {
    let tables = [
        RunOptions::ROWS,
        RunOptions::REQREP_ROWS,
        RegistryOptions::ROWS,
        CallsOptions::ROWS,
        COMMON_ROWS,
        OutputOptions::ROWS,
    ];
    tables.into_iter().flatten().find(|row| row.name == option).copied()
}

/// A day: beyond it the histograms' range and a person's patience end.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Each pair of topic and shard takes 32 bytes, and each topic a subscription.
const TOPICS_MAX: u64 = 1_000_000;
/// Each is a server process with its threads.
const CLUSTERS_MAX: u64 = 32;
const SERVERS_EACH_MAX: u64 = 16;
const SHARDS_MAX: u64 = 64;
const SIZE_BYTES: RangeInclusive<usize> = HEAD_BYTES..=PAYLOAD_BYTES_MAX;
/// Each is a node with a thread for each of its shards, and a link to every other.
const NODES_MAX: u64 = 64;
const PROCESSES_MAX: u64 = 64;
/// Each takes some hundred bytes on every node.
const ENTRIES_MAX: u64 = 100_000;
const WORKERS_MAX: u64 = 1_024;
/// Each takes eight bytes where they are not uniform.
const KEY_COUNT_MAX: u64 = 1_000_000;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// Each change and each call is remembered, in some tens of bytes for each node that sees it.
const REMEMBERED_MAX: u128 = 4_000_000;

fn warmup(given: &str) -> Result<Duration, QuantityError> {
    parse_duration(given, Duration::ZERO..=DURATION_MAX)
}

fn duration(given: &str) -> Result<Duration, QuantityError> {
    parse_duration(given, Duration::from_millis(1)..=DURATION_MAX)
}

fn count(given: &str, most: u64) -> Result<usize, QuantityError> {
    Ok(parse_count(given, 1..=most)? as usize)
}

fn check_remembered(rate: Rate, warmup: Duration, duration: Duration) -> Result<(), AtFault> {
    let remembered = (warmup + duration).as_nanos() * u128::from(rate.per_second()) / 1_000_000_000;
    if remembered <= REMEMBERED_MAX {
        return Ok(());
    }
    let reason = format!("{remembered} in the whole run, of which at most {REMEMBERED_MAX} are remembered");
    Err(("--rate", rate.per_second().to_string(), QuantityError::NotTogether { reason }))
}
