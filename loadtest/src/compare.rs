//! `croupier compare`: whether two sets of runs differ by more than runs of the same program do.

mod statistics;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use self::statistics::{mann_whitney, median, outlying};
use crate::cli::OptionRow;
use crate::console::Console;
use crate::quantity::{counted, figure, grouped};
use crate::results::{RunFile, RunFileError};
use crate::verdict::Status;
use crate::{CONFIGURATION, REGRESSION, fail};

/// What `croupier compare` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompareOptions {
    pub(crate) a: PathBuf,
    pub(crate) b: PathBuf,
    /// From 0 to 1; exit code 98 when B is worse by more.
    pub(crate) fail_on_regression: Option<f64>,
}

pub(crate) const WORDS: &[OptionRow] = &[OptionRow::new(
    "A B",
    "",
    "folders with the folders of at least five runs each, best made in\nturns; CPU per message and percentiles are \
     compared",
    "",
)];

pub(crate) const ROWS: &[OptionRow] =
    &[OptionRow::new("--fail-on-regression", "PERCENT", "exit code 98 when B is worse by more: 5%", "")];

/// Two sets of runs, measure by measure.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    names: [String; 2],
    /// Of each set: runs that count, and those that were INVALID.
    runs: [(usize, usize); 2],
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// One measure, of which less is better.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    a: Spread,
    b: Spread,
    /// The chance of such a difference between runs of the same program.
    chance: f64,
    /// Less than this part of A is no difference that matters.
    effect_min: f64,
    /// The least part of A by which B would have to be worse for these runs to tell it; none if that is beyond
    /// [`TELLING_MAX`].
    telling: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

/// The sets cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CompareError {
    #[error(transparent)]
    Run(#[from] RunFileError),
    #[error("the runs are of different things: {0}")]
    Different(String),
    #[error("{} cannot be compared with this run, which is of something else: {difference}", path.display())]
    OtherBaseline { path: PathBuf, difference: String },
    #[error(
        "{} holds {} that {} not INVALID: to tell a regression from chance, {RUNS_MIN} at least are needed",
        path.display(),
        counted(*runs, "run"),
        if *runs == 1 { "is" } else { "are" }
    )]
    TooFew { path: PathBuf, runs: usize },
}

/// With fewer runs in each set, no difference can be told from chance by their ranks, and none at all when A has fewer.
pub(crate) const RUNS_MIN: usize = 5;

/// A difference is one when chance alone makes one like it in at most one of a hundred comparisons: of five runs
/// each, when every run of one set is below every run of the other.
const CHANCE_MAX: f64 = 0.01;

/// What matters, whatever chance says: of processor time, of the median, of the tail.
const CPU_EFFECT_MIN: f64 = 0.05;
const MEDIAN_EFFECT_MIN: f64 = 0.10;
const TAIL_EFFECT_MIN: f64 = 0.20;

/// Whether runs would tell a B that is worse by more than this part of A is not looked for.
const TELLING_MAX: f64 = 3.0;
/// How near the least difference that runs tell is looked for: halvings of [`TELLING_MAX`].
const TELLING_STEPS: usize = 9;

/// Arguments that may differ between runs of the same thing.
const FREE_ARGUMENTS: [&str; 3] = ["command_line", "program", "seed"];

/// Compares, and prints what was found.
pub(crate) fn run(options: &CompareOptions) -> ExitCode {
    let read = |path: &Path| RunFile::read_all(path);
    let sets = read(&options.a).and_then(|a| Ok((a, read(&options.b)?)));
    let name = |path: &Path| path.display().to_string();
    let compared = sets
        .map_err(CompareError::from)
        .and_then(|(a, b)| Comparison::of([name(&options.a), name(&options.b)], [&a, &b]));
    let comparison = match compared {
        Ok(comparison) => comparison,
        Err(error) => return fail(CONFIGURATION, error),
    };
    Console::Stdout.write(&comparison);
    match options.fail_on_regression {
        Some(limit) if !comparison.regressions(limit).is_empty() => ExitCode::from(REGRESSION),
        _ => ExitCode::SUCCESS,
    }
}

/// Whether runs that are `planned` so could be compared with this baseline: it has to be of the same thing and, with a
/// limit, of enough runs. Without one, what is to be said before a run beside too few.
pub(crate) fn check_baseline(
    path: &Path,
    limit: Option<f64>,
    planned: &RunFile,
) -> Result<Option<String>, CompareError> {
    let runs = RunFile::read_all(path)?;
    let counting: Vec<&RunFile> = runs.iter().filter(|run| counts(run)).collect();
    let count = counting.len();
    if limit.is_some() && count < RUNS_MIN {
        return Err(CompareError::TooFew { path: path.to_owned(), runs: count });
    }
    check_alike(counting.into_iter().chain([planned]))
        .map_err(|difference| CompareError::OtherBaseline { path: path.to_owned(), difference })?;
    let path = path.display();
    let runs = counted(count, "run");
    let verb = if count == 1 { "is" } else { "are" };
    let remark = || {
        format!(
            "baseline    {path} holds {runs} that {verb} not INVALID: figures will stand beside each other, and no \
             difference be told; for that it takes {RUNS_MIN}"
        )
    };
    Ok((count < RUNS_MIN).then(remark))
}

/// Whether all of these are runs of the same thing; in what the first that is not differs from the first of all.
fn check_alike<'a>(mut runs: impl Iterator<Item = &'a RunFile>) -> Result<(), String> {
    let Some(first) = runs.next() else { return Ok(()) };
    runs.find_map(|run| difference(first, run)).map_or(Ok(()), Err)
}

/// How runs that have just ended stand beside a baseline: a few lines to print, and whether one of the measures
/// is worse by more than `limit`.
pub(crate) fn against_baseline(
    runs: &[RunFile],
    baseline: &Path,
    limit: Option<f64>,
) -> Result<(String, bool), CompareError> {
    let of_baseline = RunFile::read_all(baseline)?;
    let names = [baseline.display().to_string(), "this".to_owned()];
    let comparison = Comparison::of(names, [&of_baseline, runs])?;
    let regressions = limit.map(|limit| comparison.regressions(limit)).unwrap_or_default();
    let mut text = comparison.to_string();
    for regression in &regressions {
        text.push_str(&format!("regression  {regression}\n"));
    }
    Ok((text, !regressions.is_empty()))
}

impl Comparison {
    /// Compares two sets of runs of the same thing. INVALID runs do not count.
    pub(crate) fn of(names: [String; 2], sets: [&[RunFile]; 2]) -> Result<Self, CompareError> {
        let mut notes = Vec::new();
        let counting = sets.map(|set| set.iter().filter(|run| counts(run)).collect::<Vec<&RunFile>>());
        check_alike(counting.iter().flatten().copied()).map_err(CompareError::Different)?;
        let [a, b] = &counting;
        if !a.is_empty() && !b.is_empty() && !is_alternating(a, b) {
            notes.push(
                "the sets were not made in turns: what the machine did meanwhile may be the difference"
                    .to_owned(),
            );
        }
        let rows = MEASURES.iter().filter_map(|measure| measure.row(a, b)).collect();
        let counts = |place: usize| (counting[place].len(), sets[place].len() - counting[place].len());
        Ok(Self { names, runs: [counts(0), counts(1)], rows, notes })
    }

    /// Whether there are enough runs for anything to be said: A's spread is known, and B has one to lie outside of it.
    fn is_enough(&self) -> bool {
        let [(of_a, _), (of_b, _)] = self.runs;
        of_a >= RUNS_MIN && of_b > 0
    }

    /// The measures that differ.
    fn differing(&self) -> Vec<&Row> {
        if !self.is_enough() {
            return Vec::new();
        }
        self.rows.iter().filter(|row| row.is_different()).collect()
    }

    /// What became worse by more than `limit` (and than what matters) in words.
    fn regressions(&self, limit: f64) -> Vec<String> {
        let is_worse = |row: &&Row| row.chance <= CHANCE_MAX && row.change() > limit.max(row.effect_min);
        self.rows.iter().filter(is_worse).map(Row::told).collect()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, letter) in ["A", "B"].iter().enumerate() {
            let (runs, invalid) = self.runs[place];
            write!(f, "{letter:<11} {}, {}", self.names[place], counted(runs, "run"))?;
            if invalid > 0 {
                write!(f, "; {invalid} more do not count, since they are INVALID")?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "{:<25} {:>10} {:>19} {:>10} {:>19} {:>9} {:>7}",
            "us", "A median", "A spread", "B median", "B spread", "change", "chance"
        )?;
        for row in &self.rows {
            let spread = |spread: &Spread| format!("{}..{}", figure(spread.least), figure(spread.most));
            let word = match (self.is_enough() && row.is_different(), row.change() > 0.0) {
                (false, _) => "",
                (true, true) => "  worse",
                (true, false) => "  better",
            };
            writeln!(
                f,
                "  {:<23} {:>10} {:>19} {:>10} {:>19} {:>+8.1} % {:>6.3}{word}",
                row.name,
                figure(row.a.median),
                spread(&row.a),
                figure(row.b.median),
                spread(&row.b),
                row.change() * 100.0,
                row.chance,
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note        {note}")?;
        }
        let differing = self.differing();
        let told = |is_worse: bool| -> Vec<String> {
            differing.iter().filter(|row| (row.change() > 0.0) == is_worse).map(|row| row.told()).collect()
        };
        match (self.is_enough(), told(true), told(false)) {
            (false, _, _) => writeln!(
                f,
                "verdict     too few runs: at least {RUNS_MIN} of each are needed (B alone may have fewer)"
            ),
            (_, worse, better) if worse.is_empty() && better.is_empty() => {
                if !self.rows.is_empty() {
                    let tellings: Vec<String> = self.rows.iter().map(Row::told_from).collect();
                    writeln!(
                        f,
                        "note        runs like these tell a B that is worse in {}",
                        tellings.join(", ")
                    )?;
                }
                writeln!(f, "verdict     no difference")
            }
            (_, worse, better) if better.is_empty() => {
                writeln!(f, "verdict     B is worse: {}", worse.join(", "))
            }
            (_, worse, better) if worse.is_empty() => {
                writeln!(f, "verdict     B is better: {}", better.join(", "))
            }
            (_, worse, better) => {
                writeln!(f, "verdict     B is worse: {}; and better: {}", worse.join(", "), better.join(", "))
            }
        }
    }
}

impl Row {
    /// By which part of A's median B's differs.
    fn change(&self) -> f64 {
        if self.a.median > 0.0 { self.b.median / self.a.median - 1.0 } else { 0.0 }
    }

    fn is_different(&self) -> bool {
        self.chance <= CHANCE_MAX && self.change().abs() >= self.effect_min
    }

    fn told(&self) -> String {
        format!("{} {:+.1} %", self.name, self.change() * 100.0)
    }

    fn told_from(&self) -> String {
        match self.telling {
            Some(telling) => format!("{} from {:.0} % on", self.name, telling * 100.0),
            None => format!("{} only beyond {:.0} %", self.name, TELLING_MAX * 100.0),
        }
    }
}

/// Something to compare, and how much of a difference matters.
struct Measure {
    name: fn(&RunFile) -> Option<String>,
    of: fn(&RunFile) -> Option<f64>,
    effect_min: f64,
}

const MEASURES: [Measure; 5] = [
    Measure {
        name: |run| Some(format!("client CPU a {}", run.cpu_us_each()?.0)),
        of: |run| Some(run.cpu_us_each()?.1.client),
        effect_min: CPU_EFFECT_MIN,
    },
    Measure {
        name: |run| Some(format!("server CPU a {}", run.cpu_us_each()?.0)),
        of: |run| run.cpu_us_each()?.1.servers,
        effect_min: CPU_EFFECT_MIN,
    },
    Measure {
        name: |run| Some(format!("{} p50", run.headline()?.0)),
        of: |run| Some(run.headline()?.1.p50),
        effect_min: MEDIAN_EFFECT_MIN,
    },
    Measure {
        name: |run| Some(format!("{} p99", run.headline()?.0)),
        of: |run| Some(run.headline()?.1.p99),
        effect_min: TAIL_EFFECT_MIN,
    },
    Measure {
        name: |run| Some(format!("{} p99.9", run.headline()?.0)),
        of: |run| Some(run.headline()?.1.p999),
        effect_min: TAIL_EFFECT_MIN,
    },
];

impl Measure {
    /// None when a set has no value of it.
    fn row(&self, a: &[&RunFile], b: &[&RunFile]) -> Option<Row> {
        let values = |set: &[&RunFile]| set.iter().filter_map(|run| (self.of)(run)).collect::<Vec<f64>>();
        let (of_a, of_b) = (values(a), values(b));
        Some(Row {
            name: (self.name)(a.first()?)?,
            a: Spread::of(&of_a)?,
            b: Spread::of(&of_b)?,
            chance: chance(&of_a, &of_b),
            effect_min: self.effect_min,
            telling: telling(&of_a, &of_b, self.effect_min),
        })
    }
}

/// The chance of such a difference between runs of the same program: by their ranks, or, of a few runs beside a
/// baseline, by how far these lie outside it. Of less, nothing can be said.
fn chance(a: &[f64], b: &[f64]) -> f64 {
    match (a.len() >= RUNS_MIN, b.len() >= RUNS_MIN) {
        (true, true) => mann_whitney(a, b),
        (true, false) => outlying(a, b),
        (false, _) => 1.0,
    }
}

/// The least part by which runs that are spread as those of `b`, about the median of `a`, would have to be worse to be
/// told from chance.
fn telling(a: &[f64], b: &[f64], effect_min: f64) -> Option<f64> {
    let positive = |values: &[f64]| median(values).filter(|median| *median > 0.0);
    let (median_a, median_b) = (positive(a)?, positive(b)?);
    let is_told = |part: f64| {
        let worse: Vec<f64> = b.iter().map(|value| value / median_b * median_a * (1.0 + part)).collect();
        chance(a, &worse) <= CHANCE_MAX
    };
    if is_told(effect_min) {
        return Some(effect_min);
    }
    if !is_told(TELLING_MAX) {
        return None;
    }
    let (mut untold, mut told) = (effect_min, TELLING_MAX);
    for _ in 0..TELLING_STEPS {
        let middle = f64::midpoint(untold, told);
        *if is_told(middle) { &mut told } else { &mut untold } = middle;
    }
    Some(told)
}

fn counts(run: &RunFile) -> bool {
    run.verdict.status != Status::Invalid
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: median(values)?,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// What two runs were told differently, beside their seed.
fn difference(a: &RunFile, b: &RunFile) -> Option<String> {
    if a.scenario != b.scenario {
        return Some(format!("{} and {}", a.scenario, b.scenario));
    }
    // What only one of them knows is an option that the other's program did not have yet.
    let told = a.arguments.iter().filter(|(key, _)| !FREE_ARGUMENTS.contains(&key.as_str()));
    let differing: Vec<String> = told
        .filter_map(|(key, of_a)| {
            let of_b = b.arguments.get(key).filter(|of_b| *of_b != of_a)?;
            let told = |value: &Value| value.as_u64().map_or_else(|| value.to_string(), grouped);
            Some(format!("{key} {} and {}", told(of_a), told(of_b)))
        })
        .collect();
    if !differing.is_empty() {
        return Some(differing.join(", "));
    }
    if a.faults.len() != b.faults.len() {
        return Some(format!("{} and {} faults", a.faults.len(), b.faults.len()));
    }
    let optimised = |run: &RunFile| run.surroundings.get("optimised").and_then(Value::as_bool);
    (optimised(a) != optimised(b)).then(|| "a debug build and a release build".to_owned())
}

/// Whether the sets overlap in time, as they do when they were made in turns.
fn is_alternating(a: &[&RunFile], b: &[&RunFile]) -> bool {
    let span = |set: &[&RunFile]| {
        let times = || set.iter().map(|run| run.started_at.clone());
        (times().min(), times().max())
    };
    let ((a_first, a_last), (b_first, b_last)) = (span(a), span(b));
    a_first <= b_last && b_first <= a_last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::mix;
    use serde_json::json;

    /// A run whose figures are this many times those of a usual one, give or take a few percent by the seed.
    fn run_of(seed: u64, factor: f64, started_at: usize) -> RunFile {
        let noise = |number: u64| 1.0 + (mix(seed ^ mix(number)) % 1_000) as f64 / 1_000.0 * 0.08;
        let points = json!({
            "p50": 180.0 * factor * noise(1), "p90": 300.0, "p99": 900.0 * factor * noise(2) * noise(3),
            "p999": 2_000.0 * factor * noise(4) * noise(5) * noise(6), "max": 9_000.0, "count": 1_000,
        });
        let value = json!({
            "schema": 1, "scenario": "pubsub", "started_at": format!("2026-11-22T07:{started_at:02}:00Z"),
            "verdict": {"status": "DEGRADED", "reasons": ["fewer cores than roles"]},
            "latency_us": {"e2e": points},
            "cpu_us_per_message": {"client": 6.0 * factor * noise(7), "servers": 12.0 * noise(8)},
            "arguments": {"rate": 20_000, "seed": seed, "command_line": ["run"]},
        });
        RunFile::parse(&value.to_string(), Path::new("run.json")).expect("a report")
    }

    /// Two sets of so many runs, made in turns.
    fn compare(seed: u64, runs: u64, factor: f64) -> Comparison {
        let set = |which: u64, factor: f64| -> Vec<RunFile> {
            (0..runs)
                .map(|number| {
                    run_of(seed * 1_000 + which * 100 + number, factor, (number * 2 + which) as usize)
                })
                .collect()
        };
        let (a, b) = (set(0, 1.0), set(1, factor));
        Comparison::of(["a".to_owned(), "b".to_owned()], [&a, &b]).expect("of the same thing")
    }

    #[test]
    fn runs_of_the_same_program_are_no_different_nearly_always() {
        let same = (0..500).filter(|seed| compare(*seed, 5, 1.0).differing().is_empty()).count();
        assert!(same >= 475, "only {same} of 500");
        assert!(compare(1, 5, 1.0).to_string().ends_with("verdict     no difference\n"));
    }

    #[test]
    fn a_slowdown_by_30_percent_is_told() {
        for seed in 0..100 {
            let comparison = compare(seed, 5, 1.3);
            let text = comparison.to_string();
            assert!(text.contains("B is worse: client CPU a message +"), "seed {seed}:\n{text}");
            assert!(text.contains("e2e p50 +"), "seed {seed}:\n{text}");
            assert!(!comparison.regressions(0.05).is_empty() && comparison.regressions(0.6).is_empty());
        }
        let text = compare(3, 5, 0.7).to_string();
        assert!(text.contains("B is better: client CPU a message -"), "{text}");
    }

    #[test]
    fn no_difference_comes_with_what_would_have_been_one() {
        let even = [100.0, 101.0, 102.0, 103.0, 104.0];
        assert_eq!(telling(&even, &even, 0.05), Some(0.05));
        // Of five runs each, the best of one set has to be above the worst of the other.
        let uneven = [50.0, 90.0, 100.0, 110.0, 150.0];
        let part = telling(&uneven, &uneven, 0.05).expect("within bounds");
        assert!((2.0..2.02).contains(&part), "{part}");
        assert_eq!(telling(&[1.0, 9.0, 10.0, 11.0, 99.0], &uneven, 0.05), None);
        assert_eq!(telling(&even, &[], 0.05), None);
        let text = compare(1, 5, 1.0).to_string();
        assert!(
            text.contains("runs like these tell a B that is worse in client CPU a message from "),
            "{text}"
        );
    }

    #[test]
    fn too_few_runs_are_told_and_prove_no_regression() {
        let comparison = compare(1, 4, 3.0);
        assert!(comparison.to_string().contains("too few runs: at least 5"), "{comparison}");
        assert!(comparison.differing().is_empty() && comparison.regressions(0.05).is_empty());
    }

    #[test]
    fn one_run_beside_a_baseline_is_a_regression_when_it_lies_outside_of_it() {
        let beside = |seed: u64, factor: f64| {
            let baseline: Vec<RunFile> =
                (0..5).map(|run| run_of(seed * 100 + run, 1.0, run as usize)).collect();
            let names = ["a", "b"].map(str::to_owned);
            let comparison = Comparison::of(names, [&baseline, &[run_of(seed * 100 + 50, factor, 10)]]);
            let comparison = comparison.expect("of the same thing");
            assert!(!comparison.to_string().contains("too few"), "{comparison}");
            comparison.regressions(0.05)
        };
        let same = (0..500).filter(|seed| beside(*seed, 1.0).is_empty()).count();
        assert!(same >= 475, "only {same} of 500");
        let slow = (0..500).filter(|seed| !beside(*seed, 1.3).is_empty()).count();
        assert!(slow >= 450, "only {slow} of 500");
    }

    #[test]
    fn runs_of_different_things_are_not_compared() {
        let mut other = run_of(1, 1.0, 0);
        other.arguments.insert("rate".to_owned(), 50_000.into());
        let names = || ["a".to_owned(), "b".to_owned()];
        other.arguments.insert("topics".to_owned(), 10.into());
        let mut of_topics = run_of(1, 1.0, 0);
        of_topics.arguments.insert("topics".to_owned(), 9.into());
        let error = Comparison::of(names(), [&[of_topics], &[other]]).expect_err("another rate");
        assert!(error.to_string().ends_with(": rate 20 000 and 50 000, topics 9 and 10"), "{error}");
        let mut registry = run_of(1, 1.0, 0);
        registry.scenario = "registry".to_owned();
        assert!(Comparison::of(names(), [&[run_of(1, 1.0, 0)], &[registry]]).is_err());
    }

    #[test]
    fn invalid_runs_do_not_count_and_sets_one_after_the_other_are_noted() {
        let mut a: Vec<RunFile> = (0..6).map(|number| run_of(number, 1.0, number as usize)).collect();
        a[0].verdict.status = Status::Invalid;
        let b: Vec<RunFile> = (0..5).map(|number| run_of(100 + number, 1.0, 10 + number as usize)).collect();
        let text = Comparison::of(["a".to_owned(), "b".to_owned()], [&a, &b]).expect("the same").to_string();
        assert!(text.contains("5 runs; 1 more do not count"), "{text}");
        assert!(text.contains("not made in turns"), "{text}");
    }
}
