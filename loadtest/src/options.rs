//! What a run of each scenario may be told, with its defaults and limits.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::{Act, Fault};
use crate::keys::KeyChoice;
use crate::payload::{HEAD_BYTES, PAYLOAD_BYTES_MAX};
use crate::quantity::{QuantityError, Rate, Size, parse_count, parse_duration};

/// Where the JSON report goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonTarget {
    /// Alone on standard output; everything else goes to standard error.
    Stdout,
    File(PathBuf),
}

/// One scenario's options.
pub(crate) trait Options: Default {
    /// The scenario's name.
    const SCENARIO: &'static str;
    /// Those that it knows, besides `--json`, `--help` and `--version`.
    const KNOWN: &'static [&'static str];

    /// Takes one of the known options.
    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError>;

    fn set_json(&mut self, target: JsonTarget);

    /// Looks at all of them together; names the option that is at fault.
    fn complete(&mut self) -> Result<(), (&'static str, String, QuantityError)>;
}

/// How a run of pubsub is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunOptions {
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) size: Size,
    pub(crate) topics: usize,
    pub(crate) clusters: usize,
    pub(crate) shards: usize,
    pub(crate) seed: u64,
    pub(crate) json: Option<JsonTarget>,
}

/// How a run of registry is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RegistryOptions {
    /// Changes a second, over all nodes.
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) nodes: usize,
    pub(crate) processes: usize,
    /// Services of each node before the first change.
    pub(crate) entries: usize,
    pub(crate) clusters: usize,
    pub(crate) shards: usize,
    /// After the measured phase, their times counted from there.
    pub(crate) faults: Vec<Fault>,
    pub(crate) json: Option<JsonTarget>,
    given_faults: GivenFaults,
}

/// How a run of calls is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallsOptions {
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Instances of the service, over all processes.
    pub(crate) workers: usize,
    pub(crate) processes: usize,
    pub(crate) keys: KeyChoice,
    pub(crate) key_count: usize,
    pub(crate) size: Size,
    /// Between two comings or goings of an instance in each process; zero: none.
    pub(crate) churn: Duration,
    pub(crate) timeout: Duration,
    pub(crate) clusters: usize,
    pub(crate) seed: u64,
    /// In the measured phase, their times counted from its start.
    pub(crate) faults: Vec<Fault>,
    pub(crate) json: Option<JsonTarget>,
    given_faults: GivenFaults,
}

/// Faults as they were written: which nodes there are is known only when all options are.
#[derive(Clone, Debug, Default, PartialEq)]
struct GivenFaults {
    texts: Vec<String>,
    are_none: bool,
}

/// A day: beyond it the histograms' range and a person's patience end.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Each pair of topic and shard takes 32 bytes, and each topic a subscription.
const TOPICS_MAX: u64 = 1_000_000;
/// Each is a server process with its threads.
const CLUSTERS_MAX: u64 = 32;
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
/// Each takes its seconds, one after the other.
const FAULTS_MAX: usize = 100;
/// Long enough for every node to find the silent one down.
const DEFAULT_FREEZE: Duration = Duration::from_secs(5);

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            rate: Rate::DEFAULT,
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            size: Size { smallest_bytes: 128, largest_bytes: 128 },
            topics: 10_000,
            clusters: 3,
            shards: 2,
            seed: 42,
            json: None,
        }
    }
}

impl Default for RegistryOptions {
    /// Without the faults, which depend on the nodes: [`Options::complete`] adds them.
    fn default() -> Self {
        Self {
            rate: Rate::of(500),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            nodes: 3,
            processes: 2,
            entries: 1_000,
            clusters: 1,
            shards: 1,
            faults: Vec::new(),
            json: None,
            given_faults: GivenFaults::default(),
        }
    }
}

impl Default for CallsOptions {
    /// Without the faults, which depend on the processes: [`Options::complete`] adds them.
    fn default() -> Self {
        Self {
            rate: Rate::of(1_000),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            workers: 4,
            processes: 2,
            keys: KeyChoice::Uniform,
            key_count: 10_000,
            size: Size { smallest_bytes: 128, largest_bytes: 128 },
            churn: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            clusters: 1,
            seed: 42,
            faults: Vec::new(),
            json: None,
            given_faults: GivenFaults::default(),
        }
    }
}

impl Options for RunOptions {
    const SCENARIO: &'static str = "pubsub";
    const KNOWN: &'static [&'static str] =
        &["--rate", "--warmup", "--duration", "--size", "--topics", "--clusters", "--shards", "--seed"];

    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError> {
        match option {
            "--rate" => self.rate = Rate::parse(given)?,
            "--warmup" => self.warmup = warmup(given)?,
            "--duration" => self.duration = duration(given)?,
            "--size" => self.size = Size::parse(given, SIZE_BYTES)?,
            "--topics" => self.topics = count(given, TOPICS_MAX)?,
            "--clusters" => self.clusters = count(given, CLUSTERS_MAX)?,
            "--shards" => self.shards = count(given, SHARDS_MAX)?,
            "--seed" => self.seed = parse_count(given, 0..=u64::MAX)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn set_json(&mut self, target: JsonTarget) {
        self.json = Some(target);
    }

    fn complete(&mut self) -> Result<(), (&'static str, String, QuantityError)> {
        Ok(())
    }
}

impl Options for RegistryOptions {
    const SCENARIO: &'static str = "registry";
    const KNOWN: &'static [&'static str] = &[
        "--rate",
        "--warmup",
        "--duration",
        "--registry-nodes",
        "--processes",
        "--entries",
        "--clusters",
        "--shards",
        "--fault",
    ];

    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError> {
        match option {
            "--rate" => self.rate = Rate::parse(given)?,
            "--warmup" => self.warmup = warmup(given)?,
            "--duration" => self.duration = duration(given)?,
            "--registry-nodes" => self.nodes = parse_count(given, 2..=NODES_MAX)? as usize,
            "--processes" => self.processes = count(given, PROCESSES_MAX)?,
            "--entries" => self.entries = parse_count(given, 0..=ENTRIES_MAX)? as usize,
            "--clusters" => self.clusters = count(given, CLUSTERS_MAX)?,
            "--shards" => self.shards = count(given, SHARDS_MAX)?,
            "--fault" => self.given_faults.add(given)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn set_json(&mut self, target: JsonTarget) {
        self.json = Some(target);
    }

    fn complete(&mut self) -> Result<(), (&'static str, String, QuantityError)> {
        check_remembered(self.rate, self.warmup, self.duration)?;
        if self.processes > self.nodes {
            let reason = format!("more processes than the {} nodes", self.nodes);
            return Err(("--processes", self.processes.to_string(), QuantityError::NotTogether { reason }));
        }
        self.faults = self.given_faults.read('n', self.nodes)?.unwrap_or_else(|| {
            // The last process has the fewest nodes, and the last of them is its first's number.
            let at = Duration::from_secs(1);
            let node = self.processes;
            match self.processes {
                1 => Vec::new(),
                _ => [Act::Kill, Act::Freeze(DEFAULT_FREEZE)].map(|act| Fault { at, act, node }).into(),
            }
        });
        if self.processes == 1 && !self.faults.is_empty() {
            let reason = "with one process nobody is left to see a fault".to_owned();
            return Err(("--processes", "1".to_owned(), QuantityError::NotTogether { reason }));
        }
        Ok(())
    }
}

impl Options for CallsOptions {
    const SCENARIO: &'static str = "calls";
    const KNOWN: &'static [&'static str] = &[
        "--rate",
        "--warmup",
        "--duration",
        "--workers",
        "--processes",
        "--keys",
        "--key-count",
        "--size",
        "--churn",
        "--timeout",
        "--clusters",
        "--seed",
        "--fault",
    ];

    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError> {
        match option {
            "--rate" => self.rate = Rate::parse(given)?,
            "--warmup" => self.warmup = warmup(given)?,
            "--duration" => self.duration = duration(given)?,
            "--workers" => self.workers = count(given, WORKERS_MAX)?,
            "--processes" => self.processes = parse_count(given, 2..=PROCESSES_MAX)? as usize,
            "--keys" => self.keys = KeyChoice::parse(given)?,
            "--key-count" => self.key_count = count(given, KEY_COUNT_MAX)?,
            "--size" => self.size = Size::parse(given, SIZE_BYTES)?,
            "--churn" => self.churn = warmup(given)?,
            "--timeout" => self.timeout = parse_duration(given, TIMEOUT)?,
            "--clusters" => self.clusters = count(given, CLUSTERS_MAX)?,
            "--seed" => self.seed = parse_count(given, 0..=u64::MAX)?,
            "--fault" => self.given_faults.add(given)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn set_json(&mut self, target: JsonTarget) {
        self.json = Some(target);
    }

    fn complete(&mut self) -> Result<(), (&'static str, String, QuantityError)> {
        check_remembered(self.rate, self.warmup, self.duration)?;
        if self.workers < self.processes {
            let reason = format!("fewer than the {} processes that hold them", self.processes);
            return Err(("--workers", self.workers.to_string(), QuantityError::NotTogether { reason }));
        }
        self.faults = self
            .given_faults
            .read('w', self.processes)?
            .unwrap_or_else(|| vec![Fault { at: self.duration / 2, act: Act::Kill, node: self.processes }]);
        if let Some(late) = self.faults.iter().find(|fault| fault.at >= self.duration) {
            let reason = "after the end of the measured phase".to_owned();
            return Err(("--fault", format!("{:?}", late.at), QuantityError::NotTogether { reason }));
        }
        Ok(())
    }
}

impl GivenFaults {
    fn add(&mut self, given: &str) -> Result<(), QuantityError> {
        if given == "none" {
            self.are_none = true;
            return Ok(());
        }
        if self.texts.len() >= FAULTS_MAX {
            return Err(QuantityError::OutOfRange { least: "0".to_owned(), most: FAULTS_MAX.to_string() });
        }
        self.texts.push(given.to_owned());
        Ok(())
    }

    /// In the order of their times; none when nothing was given.
    fn read(
        &self,
        letter: char,
        nodes: usize,
    ) -> Result<Option<Vec<Fault>>, (&'static str, String, QuantityError)> {
        if self.texts.is_empty() {
            return Ok(self.are_none.then(Vec::new));
        }
        let read = |text: &String| {
            Fault::parse(text, letter, nodes).map_err(|error| ("--fault", text.clone(), error))
        };
        let mut faults = self.texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        faults.sort_by_key(|fault| fault.at);
        Ok(Some(faults))
    }
}

fn warmup(given: &str) -> Result<Duration, QuantityError> {
    parse_duration(given, Duration::ZERO..=DURATION_MAX)
}

fn duration(given: &str) -> Result<Duration, QuantityError> {
    parse_duration(given, Duration::from_millis(1)..=DURATION_MAX)
}

fn count(given: &str, most: u64) -> Result<usize, QuantityError> {
    Ok(parse_count(given, 1..=most)? as usize)
}

fn check_remembered(
    rate: Rate,
    warmup: Duration,
    duration: Duration,
) -> Result<(), (&'static str, String, QuantityError)> {
    let remembered = (warmup + duration).as_nanos() * u128::from(rate.per_second()) / 1_000_000_000;
    if remembered <= REMEMBERED_MAX {
        return Ok(());
    }
    let reason = format!("{remembered} in the whole run, of which at most {REMEMBERED_MAX} are remembered");
    Err(("--rate", rate.per_second().to_string(), QuantityError::NotTogether { reason }))
}
