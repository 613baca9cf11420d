//! Where the JSON report is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::options::JsonTarget;

/// Standard output, or a file that is known to be writable.
#[derive(Debug)]
pub(crate) enum JsonOutput {
    Stdout,
    File(PathBuf),
}

/// The report has nowhere to go.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written to {target}: {source}")]
pub(crate) struct JsonError {
    target: String,
    source: io::Error,
}

impl JsonOutput {
    /// Makes sure that the target can be written. A file's content stays as it is until the report is
    /// there; a file that did not exist does not exist afterwards.
    pub(crate) fn open(target: &JsonTarget) -> Result<Self, JsonError> {
        let JsonTarget::File(path) = target else { return Ok(Self::Stdout) };
        let existed = path.exists();
        File::options()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|_| if existed { Ok(()) } else { fs::remove_file(path) })
            .map_err(|source| JsonError { target: path.display().to_string(), source })?;
        Ok(Self::File(path.clone()))
    }

    /// Writes the report, with a line end.
    pub(crate) fn write(&self, report: &impl Serialize) -> Result<(), JsonError> {
        let mut text = serde_json::to_string_pretty(report).map_err(io::Error::from);
        if let Ok(text) = &mut text {
            text.push('\n');
        }
        let (target, written) = match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = text.and_then(|text| stdout.write_all(text.as_bytes()));
                ("standard output".to_owned(), written.and_then(|()| stdout.flush()))
            }
            Self::File(path) => (path.display().to_string(), text.and_then(|text| fs::write(path, text))),
        };
        written.map_err(|source| JsonError { target, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_where_nothing_can_be_written_is_refused_before_the_run() {
        let folder = std::env::temp_dir();
        assert!(JsonOutput::open(&JsonTarget::File(folder.clone())).is_err(), "a folder is no file");
        assert!(JsonOutput::open(&JsonTarget::File(folder.join("no/such/folder/report.json"))).is_err());
    }

    #[test]
    fn trying_a_file_neither_leaves_a_new_one_nor_touches_an_old_one() {
        let path = std::env::temp_dir().join(format!("croupier-json-{}", std::process::id()));
        JsonOutput::open(&JsonTarget::File(path.clone())).expect("writable");
        assert!(!path.exists());
        fs::write(&path, "old").expect("writable");
        JsonOutput::open(&JsonTarget::File(path.clone())).expect("writable");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "old");
        fs::remove_file(&path).expect("removable");
    }
}
