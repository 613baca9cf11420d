//! Where a program's rows go: lines for people as they come, JSON at the end.

use std::fs::File;
use std::io::{self, Write};

use serde::Serialize;

use crate::error::BenchError;

/// The value of `--json` that means standard output.
pub const STDOUT: &str = "-";

/// Where the lines go: standard output belongs to the JSON if that is where `json` sends it.
#[must_use]
pub fn table(json: Option<&str>) -> Box<dyn Write> {
    if json == Some(STDOUT) { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
}

/// Writes the rows as JSON to a file, to standard output for `-`, and nowhere for `None`.
///
/// # Errors
/// The file cannot be written, or standard output is closed.
pub fn write_rows(rows: &[impl Serialize], json: Option<&str>) -> Result<(), BenchError> {
    match json {
        None => Ok(()),
        Some(STDOUT) => write_json(rows, io::stdout().lock()).map_err(BenchError::io("print the JSON")),
        Some(path) => File::create(path)
            .and_then(|file| write_json(rows, file))
            .map_err(BenchError::io("write the JSON file")),
    }
}

fn write_json(rows: &[impl Serialize], mut output: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut output, rows)?;
    writeln!(output)
}
