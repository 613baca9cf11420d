//! `croupier doctor`: whether a node can run on this machine, and what to do where it cannot.

use std::path::PathBuf;
use std::process::ExitCode;

use croupier::config::{Config, ConfigError};
use croupier::probe::{Checkup, Demand, Grade};

use crate::console::Console;

/// What `croupier doctor` was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DoctorOptions {
    /// The node to look the machine over for; without it, one with a shard on each core and one cluster.
    pub(crate) config: Option<PathBuf>,
}

/// Prints the lines. Exit code 1 when a node would not start.
pub(crate) fn run(options: &DoctorOptions) -> Result<ExitCode, ConfigError> {
    let config = match &options.config {
        Some(path) => Config::from_path(path)?,
        None => Config::default(),
    };
    let checkup = Checkup::of(&Demand::of(&config));
    Console::Stdout.write(&checkup);
    Ok(match checkup.grade() {
        Grade::Fail => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// After a start that failed: what is not well, below the error.
pub(crate) fn after_failure() {
    let checkup = Checkup::of(&Demand::of(&Config::default()));
    Console::Stderr.line("croupier doctor says:");
    Console::Stderr.write(&checkup);
}
