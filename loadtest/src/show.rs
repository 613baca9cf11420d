//! `croupier show`: the report of a run that has ended, again; or the schema of all of them.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::OptionRow;
use crate::console::Console;
use crate::results::{RunFile, schema_json};
use crate::{CONFIGURATION, fail, shell};

/// What `croupier show` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ShowOptions {
    /// The run of a folder or of a file.
    Run(PathBuf),
    /// The JSON Schema of `run.json`.
    Schema,
}

pub(crate) const ROWS: &[OptionRow] =
    &[OptionRow::new("--schema", "", "the JSON Schema of run.json, instead of a run", "")];

pub(crate) const WORDS: &[OptionRow] =
    &[OptionRow::new("RUN", "", "the folder of a run, or its run.json: its summary again", "")];

/// Prints what was asked for.
pub(crate) fn run(options: &ShowOptions) -> ExitCode {
    match options {
        ShowOptions::Schema => Console::Stdout.write(schema_json()),
        ShowOptions::Run(path) => match RunFile::read(path) {
            Ok(run) => Console::Stdout.write(text_of(&run)),
            Err(error) => return fail(CONFIGURATION, error),
        },
    }
    ExitCode::SUCCESS
}

fn text_of(run: &RunFile) -> String {
    let words = run.arguments.get("command_line").and_then(|line| line.as_array());
    let words = words.into_iter().flatten().filter_map(|word| word.as_str());
    let program = run.arguments.get("program").and_then(|program| program.as_str()).unwrap_or("croupier");
    format!(
        "{}, {}: {}\n{}",
        run.scenario,
        if run.started_at.is_empty() { "at an unknown time" } else { &run.started_at },
        shell::command(program, words),
        run.summary
    )
}
