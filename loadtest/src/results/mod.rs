//! What is kept of a run when it has ended: `run.json`, histograms, the series, and a page to look at.

mod csv;
mod document;
mod folder;
mod hgrm;
mod hlog;
mod page;
mod run_file;
mod schema;
mod series;
mod stamp;

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::document::{Document, Histograms, Told};
pub(crate) use self::folder::RunFolder;
pub(crate) use self::run_file::{RunFile, RunFileError};
pub(crate) use self::schema::schema_json;
pub(crate) use self::series::SeriesReport;
pub(crate) use self::stamp::Stamp;
use crate::series::Series;
use crate::verdict::Verdict;

/// The report of any scenario.
pub(crate) trait RunReport: Serialize + JsonSchema {
    fn verdict(&self) -> &Verdict;

    /// The report for people: aligned, short, plain text.
    fn summary(&self) -> String;

    /// The distributions of the measured phase; the one that the run is about comes first.
    fn histograms(&self) -> &Histograms;

    /// The run in intervals, and the name of the latency that its `e2e` is.
    fn intervals(&self) -> Option<(&'static str, &Series)>;
}
