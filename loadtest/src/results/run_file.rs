//! A `run.json` as it is read again: what all scenarios have in common, and the rest as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::{CurvePoint, Document, RUN_JSON};
use super::series::SeriesReport;
use crate::options::Options;
use crate::report::{ClusterReport, CpuReport, Percentiles, SCHEMA};
use crate::slo::SloReport;
use crate::surroundings::Surroundings;
use crate::verdict::Verdict;

/// A run that has ended, of any scenario.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) scenario: String,
    pub(crate) verdict: Verdict,
    #[serde(default)]
    pub(crate) started_at: String,
    /// The report for people.
    #[serde(default)]
    pub(crate) summary: String,
    #[serde(default)]
    pub(crate) counts: Map<String, Value>,
    #[serde(default)]
    pub(crate) warmup_counts: Map<String, Value>,
    #[serde(default)]
    pub(crate) rate: Map<String, Value>,
    #[serde(default)]
    pub(crate) latency_us: BTreeMap<String, Percentiles>,
    #[serde(default)]
    pub(crate) curves_us: BTreeMap<String, Vec<CurvePoint>>,
    #[serde(default)]
    pub(crate) slos: Vec<SloReport>,
    pub(crate) cpu_s: Option<CpuReport>,
    #[serde(default)]
    pub(crate) clusters: Vec<ClusterReport>,
    pub(crate) series: Option<SeriesReport>,
    #[serde(default)]
    pub(crate) faults: Vec<Map<String, Value>>,
    #[serde(default)]
    pub(crate) arguments: Map<String, Value>,
    #[serde(default)]
    pub(crate) surroundings: Map<String, Value>,
    /// What only this scenario has.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// A run cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RunFileError {
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is no report of a run: {source}", path.display())]
    NotAReport { path: PathBuf, source: serde_json::Error },
    #[error("{} has schema {schema}, and this program reads {SCHEMA}", path.display())]
    OtherSchema { path: PathBuf, schema: u32 },
    #[error("{} holds no {RUN_JSON}, and no folder in it does", path.display())]
    NoRuns { path: PathBuf },
    #[error("{} holds more than {RUNS_MAX} runs", path.display())]
    TooMany { path: PathBuf },
}

/// More runs than this are not read together.
pub(crate) const RUNS_MAX: usize = 1_000;

impl RunFile {
    /// Reads a report as `--json` and `run.json` have it.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, RunFileError> {
        let not_a_report = |source| RunFileError::NotAReport { path: path.to_owned(), source };
        // The schema first: of another one, nothing else may be as it is here.
        let schema = serde_json::from_str::<Value>(text).map_err(not_a_report)?;
        match schema["schema"].as_u64() {
            Some(schema) if schema != u64::from(SCHEMA) => {
                let schema = u32::try_from(schema).unwrap_or(u32::MAX);
                Err(RunFileError::OtherSchema { path: path.to_owned(), schema })
            }
            _ => serde_json::from_value(schema).map_err(not_a_report),
        }
    }

    /// A run that has just ended, as it would be read again.
    pub(crate) fn of<R: Serialize>(document: &Document<'_, R>) -> Result<Self, RunFileError> {
        let value = serde_json::to_value(document).and_then(serde_json::from_value);
        value.map_err(|source| RunFileError::NotAReport { path: RUN_JSON.into(), source })
    }

    /// What is known of a run before it is made: of what it is, by its options.
    pub(crate) fn planned(options: &impl Options) -> Result<Self, RunFileError> {
        let planned = options.told().and_then(|(arguments, faults)| {
            serde_json::from_value(json!({
                "scenario": options.scenario(),
                "verdict": Verdict::of(Vec::new(), Vec::new()),
                "arguments": arguments,
                "faults": vec![Map::new(); faults],
                "surroundings": {"optimised": Surroundings::OPTIMISED},
            }))
        });
        planned.map_err(|source| RunFileError::NotAReport { path: RUN_JSON.into(), source })
    }

    /// Reads the run of a file, or the only one of a folder.
    pub(crate) fn read(path: &Path) -> Result<Self, RunFileError> {
        let file = if path.is_dir() { path.join(RUN_JSON) } else { path.to_owned() };
        let read = fs::read_to_string(&file);
        let text = read.map_err(|source| RunFileError::Unreadable { path: file.clone(), source })?;
        Self::parse(&text, &file)
    }

    /// Reads the run of a file, the one of a folder, or those of the folders in a folder, by their names.
    pub(crate) fn read_all(path: &Path) -> Result<Vec<Self>, RunFileError> {
        if !path.is_dir() || path.join(RUN_JSON).is_file() {
            return Ok(vec![Self::read(path)?]);
        }
        let unreadable = |source| RunFileError::Unreadable { path: path.to_owned(), source };
        let mut folders = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let folder = entry.map_err(unreadable)?.path();
            if folder.join(RUN_JSON).is_file() {
                folders.push(folder);
            }
            if folders.len() > RUNS_MAX {
                return Err(RunFileError::TooMany { path: path.to_owned() });
            }
        }
        if folders.is_empty() {
            return Err(RunFileError::NoRuns { path: path.to_owned() });
        }
        folders.sort();
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    /// Processor time for each message, call or sighting, and of a fan-out for each copy: what it is called, and how
    /// much.
    pub(crate) fn cpu_us_each(&self) -> Option<(&str, CpuReport)> {
        self.rest.iter().find_map(|(key, value)| {
            let unit = match key.strip_prefix("cpu_us_per_")? {
                "message" if self.scenario == FANOUT => "delivered copy",
                unit => unit,
            };
            Some((unit, CpuReport::deserialize(value).ok()?))
        })
    }

    /// The latency that the run is about: its name and its points.
    pub(crate) fn headline(&self) -> Option<(&str, Percentiles)> {
        let known = HEADLINES.iter().find_map(|name| self.latency_us.get_key_value(*name));
        known.or_else(|| self.latency_us.iter().next()).map(|(name, points)| (name.as_str(), *points))
    }
}

/// The scenario whose messages have copies.
const FANOUT: &str = "fanout";

/// The latencies that a run can be about.
const HEADLINES: [&str; 2] = ["e2e", "converge"];
