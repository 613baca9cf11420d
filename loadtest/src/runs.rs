//! Several runs of one kind, one after the other: the median and the spread of each figure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

use crate::compare::against_baseline;
use crate::console::Console;
use crate::json::JsonOutput;
use crate::options::{JsonTarget, RunOptions};
use crate::quantity::{counted, figure as shown};
use crate::report::{ArgumentsReport, Report, SCHEMA, rounded};
use crate::results::{Document, RunFile, Stamp, Told};
use crate::surroundings::Surroundings;
use crate::verdict::Verdict;
use crate::{CONFIGURATION, FAILED, REGRESSION, fail, run, scenario};

/// The runs so far.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    made: RefCell<Vec<Made>>,
}

/// A run that came to its end.
#[derive(Debug)]
struct Made {
    /// What it was told, and where it ran.
    arguments: ArgumentsReport,
    surroundings: Surroundings,
    told: OneOfRuns,
    /// For a comparison.
    file: Option<RunFile>,
}

/// What `--runs` has in JSON: what the runs came to together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct RunsReport {
    schema: u32,
    scenario: &'static str,
    /// In their order; those that a signal cut short or that failed are not among them.
    runs: Vec<OneOfRuns>,
    /// By their names.
    figures: BTreeMap<&'static str, FigureReport>,
    /// Of the first run.
    arguments: Option<ArgumentsReport>,
    /// Of the first run.
    surroundings: Option<Surroundings>,
}

/// One of several runs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct OneOfRuns {
    /// When it began, in UTC: `2026-11-22T07:45:03Z`.
    started_at: String,
    /// The folder with its report; none when there is none.
    folder: Option<String>,
    verdict: Verdict,
    /// By their names, in the units that these end with.
    figures: BTreeMap<&'static str, f64>,
}

/// A figure over all the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
struct FigureReport {
    median: f64,
    least: f64,
    most: f64,
    /// From the least to the most, as a part of the median; 0 where that is 0.
    spread_percent: f64,
}

/// A figure of which the runs are compared.
struct Figure {
    /// For people, and in JSON.
    names: (&'static str, &'static str),
    /// None where it is not known.
    of: fn(&Report) -> Option<f64>,
}

const FIGURES: [Figure; 8] = [
    Figure { names: ("rate/s", "rate"), of: |report| Some(report.rate.achieved) },
    Figure { names: ("lost", "lost"), of: |report| Some(report.counts.lost as f64) },
    Figure { names: ("e2e p50 us", "e2e_p50_us"), of: |report| Some(report.latency_us.e2e.p50) },
    Figure { names: ("e2e p99 us", "e2e_p99_us"), of: |report| Some(report.latency_us.e2e.p99) },
    Figure { names: ("e2e p99.9 us", "e2e_p999_us"), of: |report| Some(report.latency_us.e2e.p999) },
    Figure { names: ("wire p50 us", "wire_p50_us"), of: |report| Some(report.latency_us.wire.p50) },
    Figure {
        names: ("client cpu us", "client_cpu_us_per_message"),
        of: |report| Some(report.cpu_us_per_message.client),
    },
    Figure {
        names: ("servers cpu us", "servers_cpu_us_per_message"),
        of: |report| report.cpu_us_per_message.servers,
    },
];

impl Runs {
    /// Makes as many runs as the options ask for, each with a folder of its own. Of several, the JSON is that of all
    /// together, and together they are compared with the baseline.
    pub(crate) fn make(&self, options: &RunOptions) -> ExitCode {
        if options.runs == 1 {
            return run::run(&mut options.clone(), scenario::run);
        }
        let output = &options.output;
        let json = match output.json.as_ref().map(JsonOutput::open).transpose() {
            Ok(json) => json,
            Err(error) => return fail(CONFIGURATION, error),
        };
        let limit = output.fail_on_regression;
        let baseline = output.baseline.as_deref();
        let remark = match baseline.map(|path| run::check_planned(options, path, limit)).transpose() {
            Ok(remark) => remark.flatten(),
            Err(error) => return fail(CONFIGURATION, error),
        };
        let console = if output.json == Some(JsonTarget::Stdout) { Console::Stderr } else { Console::Stdout };
        if let Some(remark) = remark {
            console.line(remark);
        }
        let mut each = options.clone();
        each.output.is_one_of_many = true;
        let mut code = self.repeat(options.runs, console, || {
            run::run(&mut each.clone(), |options, console, interrupt| {
                let began = Stamp::of(SystemTime::now());
                let report = scenario::run(options, console, interrupt)?;
                if !report.partial {
                    let folder = options.output.folder.as_ref().map(|folder| folder.display().to_string());
                    self.add(&report, began, folder);
                }
                Ok(report)
            })
        });
        if let Some(Err(error)) = json.map(|json| json.write(&self.report(options.pattern.name()))) {
            code = fail(FAILED, error);
        }
        let is_whole = self.made.borrow().len() == options.runs;
        if let Some(baseline) = output.baseline.as_deref().filter(|_| is_whole) {
            let files: Vec<RunFile> =
                self.made.borrow().iter().filter_map(|made| made.file.clone()).collect();
            match against_baseline(&files, baseline, limit) {
                Ok((text, is_worse)) => {
                    console.write(text);
                    if is_worse && code == ExitCode::SUCCESS {
                        code = ExitCode::from(REGRESSION);
                    }
                }
                Err(error) => code = fail(FAILED, error),
            }
        }
        code
    }

    /// Takes the figures of a run.
    fn add(&self, report: &Report, began: Stamp, folder: Option<String>) {
        let told = Told { started_at: began.extended(), ..Told::default() };
        let file = RunFile::of(&Document { report, told });
        self.made.borrow_mut().push(Made {
            arguments: report.arguments.clone(),
            surroundings: report.surroundings.clone(),
            told: OneOfRuns {
                started_at: began.extended(),
                folder,
                verdict: report.verdict.clone(),
                figures: FIGURES
                    .iter()
                    .filter_map(|figure| Some((figure.names.1, (figure.of)(report)?)))
                    .collect(),
            },
            file: file.ok(),
        });
    }

    /// Runs `count` times, or fewer when a run is interrupted or has no report. The exit code is that of the
    /// first which was not well.
    fn repeat(&self, count: usize, console: Console, mut run: impl FnMut() -> ExitCode) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        for number in 1..=count {
            console.line(format_args!("run {number} of {count}"));
            let of_run = run();
            if code == ExitCode::SUCCESS {
                code = of_run;
            }
            if self.made.borrow().len() < number {
                break;
            }
        }
        console.write(self);
        code
    }

    fn report(&self, scenario: &'static str) -> RunsReport {
        let made = self.made.borrow();
        let figures = FIGURES.iter().filter_map(|figure| Some((figure.names.1, self.figure(figure)?)));
        RunsReport {
            schema: SCHEMA,
            scenario,
            runs: made.iter().map(|made| made.told.clone()).collect(),
            figures: figures.collect(),
            arguments: made.first().map(|made| made.arguments.clone()),
            surroundings: made.first().map(|made| made.surroundings.clone()),
        }
    }

    /// None when there is no run.
    fn figure(&self, figure: &Figure) -> Option<FigureReport> {
        let made = self.made.borrow();
        let mut values: Vec<f64> =
            made.iter().filter_map(|made| made.told.figures.get(figure.names.1).copied()).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let median = median(&values);
        // Of nothing there is no part.
        let spread = if median > 0.0 { (most - least) / median * 100.0 } else { 0.0 };
        Some(FigureReport { median: rounded(median, 3), least, most, spread_percent: rounded(spread, 1) })
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = counted(self.made.borrow().len(), "run");
        writeln!(f, "{count:<16}{:>12} {:>12} {:>12}  spread", "median", "least", "most")?;
        for figure in &FIGURES {
            let Some(FigureReport { median, least, most, spread_percent }) = self.figure(figure) else {
                continue;
            };
            let name = figure.names.0;
            let [median, least, most] = [median, least, most].map(shown);
            writeln!(f, "  {name:<14}{median:>12} {least:>12} {most:>12}  {spread_percent:.1} %")?;
        }
        Ok(())
    }
}

/// Of sorted values; between the middle two where there are as many above as below.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn the_table_has_the_median_and_the_spread_of_each_figure() {
        let runs = Runs::default();
        for p50 in [300.0, 100.0, 200.0, 250.0] {
            let mut report = sample();
            report.latency_us.e2e.p50 = p50;
            add(&runs, &report);
        }
        let text = runs.to_string();
        assert!(text.starts_with("4 runs "), "{text}");
        let line = text.lines().find(|line| line.contains("e2e p50")).expect("a line");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        assert_eq!(words[3..], ["225.00", "100.00", "300.00", "88.9", "%"]);
        let line = text.lines().find(|line| line.contains("lost")).expect("a line");
        assert!(line.ends_with("0.00  0.0 %"), "{line}");
        let line = text.lines().find(|line| line.contains("rate/s")).expect("a line");
        assert!(line.contains("      20 000       20 000 "), "{line}");
    }

    #[test]
    fn the_json_of_several_runs_has_each_of_them_and_the_same_table() {
        let runs = Runs::default();
        for p50 in [300.0, 100.0, 200.0, 250.0] {
            let mut report = sample();
            report.latency_us.e2e.p50 = p50;
            add(&runs, &report);
        }
        let told = serde_json::to_value(runs.report("pubsub")).expect("serialisable");
        let figure = &told["figures"]["e2e_p50_us"];
        let expected =
            serde_json::json!({"median": 225.0, "least": 100.0, "most": 300.0, "spread_percent": 88.9});
        assert_eq!(figure, &expected);
        assert_eq!(told["figures"].as_object().map(serde_json::Map::len), Some(FIGURES.len()));
        assert_eq!(told["runs"].as_array().map(Vec::len), Some(4));
        assert_eq!(
            (&told["runs"][1]["figures"]["e2e_p50_us"], &told["runs"][1]["folder"]),
            (&100.0.into(), &"r".into())
        );
        assert_eq!((&told["arguments"]["seed"], &told["schema"]), (&42.into(), &1.into()));

        let none = serde_json::to_value(Runs::default().report("pubsub")).expect("serialisable");
        assert!(none["figures"].as_object().is_some_and(serde_json::Map::is_empty), "{none}");
    }

    #[test]
    fn the_first_bad_code_counts_and_a_run_without_figures_is_the_last() {
        let runs = Runs::default();
        let mut number = 0;
        let code = runs.repeat(4, Console::Stderr, || {
            number += 1;
            if number < 3 {
                add(&runs, &sample());
            }
            ExitCode::from(number)
        });
        assert_eq!((number, code), (3, ExitCode::from(1)));
    }

    fn add(runs: &Runs, report: &Report) {
        runs.add(report, Stamp::of(SystemTime::UNIX_EPOCH), Some("r".to_owned()));
        assert!(runs.made.borrow().iter().all(|made| made.file.is_some()), "each can be compared");
    }
}
