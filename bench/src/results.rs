//! Everything that one run of the peers has measured, and where: the file that the pages are made from.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::{registry, report, ring_peers};

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Where and how.
    pub surroundings: Surroundings,
    /// Clients of NATS.
    pub messages: Vec<report::Row>,
    /// Rings.
    pub ring: Vec<ring_peers::Row>,
    /// Registries.
    pub registry: Vec<registry::side_by_side::Row>,
}

/// Where and how a run was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Processor, cores, memory, kernel.
    pub machine: String,
    /// What was measured: the commit, and whether files of the library differ from it.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// The day.
    pub date: String,
    /// What one has to enter to repeat it.
    pub command: String,
    /// How busy the machine was, before and after: the load of the last minute.
    pub load: [String; 2],
    /// The peers' versions.
    pub versions: BTreeMap<String, String>,
    /// Peers that were not measured, and why.
    pub missing: BTreeMap<String, String>,
}

impl Surroundings {
    /// Those of this machine and this source tree. What cannot be found out is said to be unknown.
    #[must_use]
    pub fn here(command: &str) -> Self {
        Self {
            machine: machine(),
            commit: commit(),
            rustc: env!("CROUPIER_BENCH_RUSTC").to_owned(),
            date: said("date", &["-u", "+%Y-%m-%d"]),
            command: command.to_owned(),
            load: [load(), String::new()],
            versions: PEER_CRATES.iter().map(|name| ((*name).to_owned(), locked_version(name))).collect(),
            missing: BTreeMap::new(),
        }
    }
}

/// The crates whose versions are told.
const PEER_CRATES: [&str; 6] =
    ["anchorhash", "async-nats", "chitchat", "consistent_hash_ring", "hashring", "maglev"];

/// As they are locked for this build.
const LOCK: &str = include_str!("../../Cargo.lock");

fn locked_version(name: &str) -> String {
    let package = LOCK.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, rest)| rest);
    package.and_then(|rest| rest.split_once('"')).map_or_else(unknown, |(version, _)| version.to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What a program says in one line.
#[must_use]
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(unknown, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The library is what is measured: what differs elsewhere, this very program's pages among it, is of no account.
fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let commit = said("git", &["-C", root, "rev-parse", "--short=12", "HEAD"]);
    let status = ["-C", root, "status", "--porcelain", "--untracked-files=no", "--"];
    let library = ["ring", "protocol", "registry", "runtime", "Cargo.toml", "Cargo.lock"];
    let changed = said("git", &[&status[..], &library[..]].concat());
    if changed.is_empty() { commit } else { format!("{commit} and changes of the library") }
}

fn machine() -> String {
    let line_of = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':'));
        line.map_or_else(unknown, |(_, value)| value.trim().to_owned())
    };
    let processor = line_of("/proc/cpuinfo", "model name");
    let memory = line_of("/proc/meminfo", "MemTotal");
    let memory: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = said("uname", &["-sr"]);
    let shared = if fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor")) {
        "virtual machine, "
    } else {
        ""
    };
    format!("{shared}{cores} cores of {processor}, {} GiB, {kernel}", memory.div_ceil(1 << 20))
}

/// The load of the last minute.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).map_or_else(unknown, str::to_owned)
}

impl Results {
    /// From its JSON.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &str) -> Result<Self, BenchError> {
        let text = fs::read_to_string(path).map_err(BenchError::io("read the results"))?;
        serde_json::from_str(&text).map_err(BenchError::client("the results"))
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: every part of it is text, a number or a list.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text, numbers and lists are JSON") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_tells_every_peer_s_version() {
        for name in PEER_CRATES {
            let version = locked_version(name);
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name} {version}");
        }
        assert_eq!(locked_version("no-such-crate"), "unknown");
    }

    #[test]
    fn results_survive_their_file() {
        let mut results = Results { surroundings: Surroundings::here("peers"), ..Results::default() };
        results.surroundings.missing.insert("nats.c".to_owned(), "why".to_owned());
        assert_eq!(serde_json::from_str::<Results>(&results.to_json()).unwrap(), results);
    }
}
