//! What a run leaves behind and what it is held to, whatever its scenario.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::ValueExt;

use super::AtFault;
use crate::cli::{OptionRow, UsageError};
use crate::quantity::{QuantityError, parse_percent};
use crate::slo::{Measures, Slo};

/// Where the JSON report goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonTarget {
    /// Alone on standard output; everything else goes to standard error.
    Stdout,
    File(PathBuf),
}

/// Which reports are wanted beside the one on the screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutputOptions {
    pub(crate) json: Option<JsonTarget>,
    /// One of several, whose JSON and comparison are those of all together.
    pub(crate) is_one_of_many: bool,
    /// Where the folder of the run is made; none when no folder is wanted.
    pub(crate) out: Option<PathBuf>,
    /// The run's own folder, once it is made.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) slos: Vec<Slo>,
    /// Whether a terminal shows the run while it goes on.
    pub(crate) has_screen: bool,
    /// Runs that this one is compared with.
    pub(crate) baseline: Option<PathBuf>,
    /// From 0 to 1; exit code 98 when the run is worse than the baseline by more.
    pub(crate) fail_on_regression: Option<f64>,
}

/// More goals than a person has.
const SLOS_MAX: usize = 100;

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            json: None,
            is_one_of_many: false,
            out: Some("results".into()),
            folder: None,
            slos: Vec::new(),
            has_screen: true,
            baseline: None,
            fail_on_regression: None,
        }
    }
}

impl OutputOptions {
    pub(crate) const ROWS: &'static [OptionRow] = &[
        OptionRow::new(
            "--out",
            "FOLDER",
            "where each run gets a folder with report.html, run.json,\nhistograms, series and logs; none: no folder",
            "results",
        ),
        OptionRow::new(
            "--json",
            "PATH",
            "the report as JSON, of several runs their table; - for standard\noutput alone",
            "",
        ),
        OptionRow::new(
            "--slo",
            "GOAL",
            "'e2e.p99.9<2ms', 'lost=0', 'recovery<1s', 'rate>=19k'; exit code 99\nwhen it is missed; may be repeated",
            "",
        ),
        OptionRow::new("--no-tui", "", "a line a second, as without a terminal", ""),
        OptionRow::new(
            "--baseline",
            "FOLDER",
            "runs to compare this one with, as `croupier compare` does",
            "",
        ),
        OptionRow::new(
            "--fail-on-regression",
            "PERCENT",
            "exit code 98 when it is worse than the baseline by more: 5%",
            "",
        ),
    ];

    pub(crate) fn knows(option: &str) -> bool {
        Self::ROWS.iter().any(|row| row.name == option)
    }

    /// Takes one of the options of [`Self::ROWS`], with its value where it has one; goals are about `measures`.
    pub(crate) fn set(
        &mut self,
        option: &'static str,
        given: OsString,
        measures: &Measures,
    ) -> Result<(), UsageError> {
        match option {
            "--json" if given == "-" => self.json = Some(JsonTarget::Stdout),
            "--json" => self.json = Some(JsonTarget::File(given.into())),
            "--out" => self.out = (given != "none").then(|| given.into()),
            "--slo" => {
                let given = given.string()?;
                let read = Slo::parse(&given, measures).map_err(QuantityError::from);
                let slo = read.and_then(|slo| match self.slos.len() {
                    SLOS_MAX => {
                        let reason = format!("there are {SLOS_MAX} already, which is the most");
                        Err(QuantityError::NotTogether { reason })
                    }
                    _ => Ok(slo),
                });
                self.slos.push(slo.map_err(|reason| UsageError::BadValue { option, given, reason })?);
            }
            "--no-tui" => self.has_screen = false,
            "--baseline" => self.baseline = Some(given.into()),
            "--fail-on-regression" => {
                let given = given.string()?;
                let limit = parse_percent(&given);
                self.fail_on_regression =
                    Some(limit.map_err(|reason| UsageError::BadValue { option, given, reason })?);
            }
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    /// Looks at all of them together.
    pub(crate) fn complete(&self) -> Result<(), AtFault> {
        if self.fail_on_regression.is_some() && self.baseline.is_none() {
            let reason = "there is no --baseline to be worse than".to_owned();
            return Err(("--fail-on-regression", String::new(), QuantityError::NotTogether { reason }));
        }
        Ok(())
    }
}
