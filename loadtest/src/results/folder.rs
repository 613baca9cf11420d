//! The folder of one run: made before it, filled after it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::RunReport;
use super::csv::csv;
use super::document::{Document, RUN_JSON};
use super::hgrm::hgrm;
use super::hlog::hlogs;
use super::page::page;
use super::run_file::RunFile;
use super::stamp::Stamp;

/// A folder that was made for one run, and is empty until it has ended, but for the logs of its servers.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
}

/// A run's folder cannot be made or filled.
#[derive(Debug, thiserror::Error)]
#[error("the results cannot be written to {}: {source}", path.display())]
pub(crate) struct FolderError {
    path: PathBuf,
    source: io::Error,
}

/// Runs that begin in the same second, before it is given up to find a name for another one.
const SAME_SECOND_MAX: usize = 99;

impl RunFolder {
    /// Makes `<out>/<time>-<scenario>`, with a number behind it when there is one already.
    pub(crate) fn make(out: &Path, scenario: &str, began: Stamp) -> Result<Self, FolderError> {
        let failed = |path: &Path, source| FolderError { path: path.to_owned(), source };
        fs::create_dir_all(out).map_err(|source| failed(out, source))?;
        let name = format!("{}-{scenario}", began.compact());
        let mut path = out.join(&name);
        for number in 2..=SAME_SECOND_MAX + 1 {
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number <= SAME_SECOND_MAX => {
                    path = out.join(format!("{name}-{number}"));
                }
                Err(source) => return Err(failed(&path, source)),
            }
        }
        Err(failed(&path, ErrorKind::AlreadyExists.into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes everything but the logs. What could be written stays when something could not.
    pub(crate) fn fill<R: RunReport>(&self, document: &Document<'_, R>) -> Result<(), FolderError> {
        let of_json = |source: serde_json::Error| FolderError {
            path: self.path.join(RUN_JSON),
            source: io::Error::from(source),
        };
        let value = serde_json::to_value(document).map_err(of_json)?;
        let mut json = serde_json::to_string_pretty(document).map_err(of_json)?;
        json.push('\n');
        self.write(RUN_JSON, &json)?;
        let run: RunFile = serde_json::from_value(value).map_err(of_json)?;
        if let Some(series) = &run.series {
            self.write("series.csv", &csv(series))?;
        }
        for (name, histogram) in document.report.histograms().0.iter().filter(|(_, it)| !it.is_empty()) {
            self.write(&format!("{name}.hgrm"), &hgrm(histogram))?;
        }
        if let Some((headline, series)) = document.report.intervals() {
            for (name, log) in hlogs(series, headline) {
                self.write(&format!("{name}.hlog"), &log)?;
            }
        }
        self.write("report.html", &page(&run))
    }

    /// Takes the folder away when there is nothing in it; answers whether it is gone.
    pub(crate) fn remove_if_empty(&self) -> bool {
        fs::remove_dir(&self.path).is_ok()
    }

    /// A file appears whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let (path, part) = (self.path.join(name), self.path.join(format!(".{name}.part")));
        let written = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
        written.map_err(|source| {
            // There may be no room for it; the error that matters is the first one.
            drop(fs::remove_file(&part));
            FolderError { path, source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;
    use crate::results::document::Told;
    use std::time::SystemTime;

    fn folder_for_test(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("croupier-results-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_run_leaves_its_files_and_two_of_the_same_second_do_not_meet() {
        let out = folder_for_test("fill");
        let stamp = Stamp::of(SystemTime::now());
        let first = RunFolder::make(&out, "pubsub", stamp).expect("writable");
        let second = RunFolder::make(&out, "pubsub", stamp).expect("writable");
        assert!(second.path().to_string_lossy().ends_with("-pubsub-2"), "{second:?}");
        assert!(second.remove_if_empty());

        let report = sample();
        let told = Told { curves_us: report.histograms().curves_us(), ..Told::default() };
        first.fill(&Document { report: &report, told }).expect("filled");
        let mut names: Vec<String> = fs::read_dir(first.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["e2e.hgrm", "lag.hgrm", "report.html", "run.json", "series.csv", "wire.hgrm"]);
        let run = RunFile::read(first.path()).expect("what was written is read again");
        assert_eq!(run.scenario, "pubsub");
        assert!(!first.remove_if_empty());
        fs::remove_dir_all(&out).expect("removable");
    }

    #[test]
    fn where_nothing_can_be_written_the_path_is_told() {
        let file = folder_for_test("file");
        fs::write(&file, "a file is no folder").expect("writable");
        let error = RunFolder::make(&file, "pubsub", Stamp::of(SystemTime::now())).expect_err("a file");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        fs::remove_file(&file).expect("removable");

        let gone = RunFolder { path: folder_for_test("gone") };
        let report = sample();
        let document = Document { report: &report, told: Told::default() };
        let error = gone.fill(&document).expect_err("no such folder");
        assert!(error.to_string().contains(RUN_JSON), "{error}");
    }
}
