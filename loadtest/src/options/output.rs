//! What a run leaves behind, whatever its scenario.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::{OptionRow, UsageError};

/// Where the JSON report goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonTarget {
    /// Alone on standard output; everything else goes to standard error.
    Stdout,
    File(PathBuf),
}

/// Which reports are wanted beside the one on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OutputOptions {
    pub(crate) json: Option<JsonTarget>,
}

impl OutputOptions {
    pub(crate) const ROWS: &'static [OptionRow] =
        &[OptionRow::new("--json", "PATH", "the report as JSON; - for standard output alone", "")];

    pub(crate) fn knows(option: &str) -> bool {
        Self::ROWS.iter().any(|row| row.name == option)
    }

    /// Takes one of the options of [`Self::ROWS`], with its value where it has one.
    pub(crate) fn set(&mut self, option: &str, given: OsString) -> Result<(), UsageError> {
        match option {
            "--json" if given == "-" => self.json = Some(JsonTarget::Stdout),
            "--json" => self.json = Some(JsonTarget::File(given.into())),
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }
}
