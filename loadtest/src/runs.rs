//! Several runs of one kind, one after the other: the median and the spread of each figure.

use std::cell::RefCell;
use std::fmt;
use std::process::ExitCode;

use crate::console::Console;
use crate::options::{JsonTarget, RunOptions};
use crate::report::Report;
use crate::{run, scenario};

/// The figures of the runs so far.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    figures: RefCell<Vec<[f64; FIGURES.len()]>>,
}

type Read = fn(&Report) -> f64;

/// What of each run is compared: its name, and how it is read.
const FIGURES: [(&str, Read); 8] = [
    ("rate/s", |report| report.rate.achieved),
    ("lost", |report| report.counts.lost as f64),
    ("e2e p50 us", |report| report.latency_us.e2e.p50),
    ("e2e p99 us", |report| report.latency_us.e2e.p99),
    ("e2e p99.9 us", |report| report.latency_us.e2e.p999),
    ("wire p50 us", |report| report.latency_us.wire.p50),
    ("client cpu us", |report| report.cpu_us_per_message.client),
    ("servers cpu us", |report| report.cpu_us_per_message.servers),
];

impl Runs {
    /// Takes the figures of a run.
    pub(crate) fn add(&self, report: &Report) {
        self.figures.borrow_mut().push(FIGURES.map(|(_, read)| read(report)));
    }

    /// Makes as many runs as the options ask for, each with a folder of its own.
    pub(crate) fn make(&self, options: &RunOptions) -> ExitCode {
        let one = || {
            run::run(&mut options.clone(), |options, console, interrupt| {
                let report = scenario::run(options, console, interrupt)?;
                if !report.partial {
                    self.add(&report);
                }
                Ok(report)
            })
        };
        match options.runs {
            1 => one(),
            count => {
                let is_piped = options.output.json == Some(JsonTarget::Stdout);
                self.repeat(count, if is_piped { Console::Stderr } else { Console::Stdout }, one)
            }
        }
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
            if self.figures.borrow().len() < number {
                break;
            }
        }
        console.write(self);
        code
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures.borrow();
        writeln!(
            f,
            "{:<16}{:>12} {:>12} {:>12}  spread",
            format!("{} runs", figures.len()),
            "median",
            "least",
            "most"
        )?;
        for (place, (name, _)) in FIGURES.iter().enumerate() {
            let mut values: Vec<f64> = figures.iter().map(|figures| figures[place]).collect();
            values.sort_by(f64::total_cmp);
            let Some((least, most)) = values.first().zip(values.last()) else { continue };
            let median = median(&values);
            // Of nothing there is no part.
            let spread = if median > 0.0 { (most - least) / median * 100.0 } else { 0.0 };
            writeln!(f, "  {name:<14}{median:>12.2} {least:>12.2} {most:>12.2}  {spread:.1} %")?;
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
            runs.add(&report);
        }
        let text = runs.to_string();
        assert!(text.starts_with("4 runs "), "{text}");
        let line = text.lines().find(|line| line.contains("e2e p50")).expect("a line");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        assert_eq!(words[3..], ["225.00", "100.00", "300.00", "88.9", "%"]);
        let line = text.lines().find(|line| line.contains("lost")).expect("a line");
        assert!(line.ends_with("0.00  0.0 %"), "{line}");
    }

    #[test]
    fn the_first_bad_code_counts_and_a_run_without_figures_is_the_last() {
        let runs = Runs::default();
        let mut number = 0;
        let code = runs.repeat(4, Console::Stderr, || {
            number += 1;
            if number < 3 {
                runs.add(&sample());
            }
            ExitCode::from(number)
        });
        assert_eq!((number, code), (3, ExitCode::from(1)));
    }
}
