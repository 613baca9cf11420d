//! One run of any scenario, from its signal handlers to its exit code: what is told of it, and where.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use crate::compare::{CompareError, against_baseline, check_baseline};
use crate::console::Console;
use crate::interrupt::{self, Interrupt};
use crate::json::JsonOutput;
use crate::live::Screen;
use crate::options::{JsonTarget, Options};
use crate::results::{Document, RunFile, RunFolder, RunReport, Stamp, Told};
use crate::scenario::RunError;
use crate::slo::Measured;
use crate::verdict::Status;
use crate::{CONFIGURATION, FAILED, INVALID, MISSED, REGRESSION, doctor, exit_code, fail, is_of_the_machine};

/// Whether runs of these options could be compared with this baseline, and what is to be said of that before them.
pub(crate) fn check_planned(
    options: &impl Options,
    baseline: &Path,
    limit: Option<f64>,
) -> Result<Option<String>, CompareError> {
    check_baseline(baseline, limit, &RunFile::planned(options)?)
}

/// Runs a scenario and tells what came of it.
pub(crate) fn run<O: Options, R: RunReport>(
    options: &mut O,
    scenario: impl FnOnce(&O, Console, &Interrupt) -> Result<R, RunError>,
) -> ExitCode {
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(FAILED, format_args!("signal handlers cannot be installed: {error}")),
    };
    // Before the run: a report that cannot be written is better known before a minute has passed.
    let is_one_of_many = options.output_mut().is_one_of_many;
    let json = options.output_mut().json.clone().filter(|_| !is_one_of_many);
    let json = match json.as_ref().map(JsonOutput::open).transpose() {
        Ok(json) => json,
        Err(error) => return fail(CONFIGURATION, error),
    };
    let baseline = options.output_mut().baseline.clone().filter(|_| !is_one_of_many);
    let limit = options.output_mut().fail_on_regression;
    let remark = match baseline.as_deref().map(|path| check_planned(options, path, limit)).transpose() {
        Ok(remark) => remark.flatten(),
        Err(error) => return fail(CONFIGURATION, error),
    };
    let began = Stamp::of(SystemTime::now());
    let name = options.scenario();
    let made = options.output_mut().out.as_deref().map(|out| RunFolder::make(out, name, began)).transpose();
    let folder = match made {
        Ok(folder) => folder,
        Err(error) => return fail(CONFIGURATION, format_args!("{error}; --out none for no folder")),
    };
    options.output_mut().folder = folder.as_ref().map(|folder| folder.path().to_owned());

    let is_json_alone = options.output_mut().json == Some(JsonTarget::Stdout);
    let title = format!("croupier {} {name}", env!("CARGO_PKG_VERSION"));
    let console = match options.output_mut().has_screen {
        _ if is_json_alone => Console::Stderr,
        true => Screen::open(title, interrupt.clone()).map_or(Console::Stdout, Console::Screen),
        false => Console::Stdout,
    };
    if let Some(remark) = remark {
        console.line(remark);
    }
    let outcome = scenario(options, console, &interrupt);
    console.close();
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let code = fail(exit_code(&error), &error);
            if let Some(folder) = folder.filter(|folder| !folder.remove_if_empty()) {
                Console::Stderr.line(format_args!("what there is of it is in {}", folder.path().display()));
            }
            if is_of_the_machine(&error) {
                doctor::after_failure();
            }
            return code;
        }
    };

    let value = match serde_json::to_value(&report) {
        Ok(value) => value,
        Err(error) => return fail(FAILED, format_args!("the report cannot be written: {error}")),
    };
    let measured = Measured { histograms: report.histograms(), report: &value };
    let slos: Vec<_> = options.output_mut().slos.iter().map(|slo| slo.judge(&measured)).collect();
    let mut summary = report.summary();
    for slo in &slos {
        let word = if slo.met { "met" } else { "missed" };
        summary.push_str(&format!("goal        {word:<8}{}: {}\n", slo.slo, slo.told));
    }
    console.write(&summary);
    let has_missed = slos.iter().any(|slo| !slo.met);
    let told =
        Told { started_at: began.extended(), summary, slos, curves_us: report.histograms().curves_us() };
    let document = Document { report: &report, told };

    let mut is_written = true;
    if let Some(folder) = &folder {
        match folder.fill(&document) {
            Ok(()) => console.line(format_args!("report      {}/report.html", folder.path().display())),
            Err(error) => {
                fail(FAILED, error);
                is_written = false;
            }
        }
    }
    if let Some(Err(error)) = json.map(|json| json.write(&document)) {
        fail(FAILED, error);
        is_written = false;
    }
    let mut is_worse = false;
    if let Some(baseline) = baseline {
        let run = RunFile::of(&document);
        match run.map_err(CompareError::from).and_then(|run| against_baseline(&[run], &baseline, limit)) {
            Ok((text, found)) => {
                console.write(text);
                is_worse = found;
            }
            Err(error) => {
                fail(FAILED, error);
                is_written = false;
            }
        }
    }
    if let Some(signal) = interrupt.signal() {
        return ExitCode::from(interrupt::exit_code(signal));
    }
    match report.verdict().status {
        _ if !is_written => ExitCode::from(FAILED),
        Status::Invalid => ExitCode::from(INVALID),
        Status::Valid | Status::Degraded if has_missed => ExitCode::from(MISSED),
        Status::Valid | Status::Degraded if is_worse => ExitCode::from(REGRESSION),
        Status::Valid | Status::Degraded => ExitCode::SUCCESS,
    }
}
