//! The registry under simulated time and a bad network: many nodes, every fault, all invariants at every step.
//!
//! A seed stands for a whole run. One of them again, with the sum of all that happened:
//!
//! ```text
//! CROUPIER_SEED=7 cargo test -p croupier-tests --test simulation -- --nocapture one_seed
//! ```
//!
//! `CROUPIER_TELL=1` prints what happens in it. A campaign of as many as there is time for, from any seed on, on two
//! threads:
//!
//! ```text
//! CROUPIER_SEEDS=100000 CROUPIER_SEED_FROM=0 CROUPIER_THREADS=2 \
//!     cargo test --release -p croupier-tests --test simulation -- --nocapture campaign
//! ```

mod acts;
mod network;
mod node;
mod oracle;
mod plan;
mod settling;
mod shard;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use croupier_registry::Fault;

use oracle::Counts;
use plan::Plan;

#[test]
fn campaign() {
    let seeds = from_environment("CROUPIER_SEEDS").unwrap_or(SEEDS);
    let first = from_environment("CROUPIER_SEED_FROM").unwrap_or(0);
    let threads = from_environment("CROUPIER_THREADS").unwrap_or(1).max(1);
    let begin = Instant::now();
    let run = |thread: u64| {
        let mut sum = Counts::default();
        let mut failures = Vec::new();
        for seed in (first..first + seeds).filter(|seed| seed % threads == thread) {
            match attempt(Plan::of_seed(seed)) {
                Ok((counts, _)) => sum.add(&counts),
                Err(failure) => {
                    println!("seed {seed} failed {failure}");
                    failures.push(seed);
                }
            }
            if failures.len() >= FAILURES_MAX {
                break;
            }
        }
        (sum, failures)
    };
    let mut all = (Counts::default(), Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for worker in workers {
            let (counts, failures) = worker.join().expect("a run's panic is caught");
            all.0.add(&counts);
            all.1.extend(failures);
        }
    });
    println!("{seeds} seeds from {first}: {} in {:.1} s", describe(&all.0), begin.elapsed().as_secs_f64());
    assert_eq!(all.1, [0; 0], "failed; CROUPIER_SEED= replays one, with the test one_seed");
}

#[test]
fn one_seed_runs_alike_every_time() {
    let seeds = from_environment("CROUPIER_SEED").map_or(0..8, |seed| seed..seed + 1);
    let is_told = from_environment("CROUPIER_TELL").is_some();
    for seed in seeds {
        let (counts, trace) = must_pass(seed, Plan { is_told, ..Plan::of_seed(seed) });
        println!("seed {seed}: trace {trace:016x}, {}", describe(&counts));
        let again = must_pass(seed, Plan::of_seed(seed));
        assert_eq!(again.1, trace, "seed {seed} ran differently the second time");
    }
}

#[test]
fn nobody_is_held_to_be_gone_who_is_not() {
    let is_told = from_environment("CROUPIER_TELL").is_some();
    let mut all = Counts::default();
    for seed in from_environment("CROUPIER_SEED").map_or(0..CALM_SEEDS, |seed| seed..seed + 1) {
        for plan in [Plan::lossy(seed), Plan::stalling(seed), Plan::broken_pair(seed)] {
            let (loss, pause, broken) = (plan.loss_percent, plan.pause, plan.broken);
            println!("seed {seed}: {loss} % lost, stalls of {pause:?} us, broken pair {broken:?}");
            all.add(&must_pass(seed, Plan { is_told, ..plan }).0);
        }
    }
    println!("{}", describe(&all));
}

#[test]
fn every_deliberate_fault_is_caught() {
    for fault in Fault::ALL {
        let begin = Instant::now();
        let caught = {
            let _built_in = fault.build_in();
            (0..FAULT_SEEDS)
                .find_map(|seed| attempt(Plan::of_seed(seed)).err().map(|failure| (seed, failure)))
        };
        let Some((seed, failure)) = caught else {
            panic!("{fault:?} passed {FAULT_SEEDS} seeds, and so nothing proves its absence");
        };
        println!("{fault:?}: caught by seed {seed}, {:.1} s; {failure}", begin.elapsed().as_secs_f64());
        // It was the fault, and not the seed.
        for seed in 0..=seed {
            must_pass(seed, Plan::of_seed(seed));
        }
    }
}

/// The faults are there for this test alone: no room that somebody runs asks for them.
#[test]
fn only_tests_are_built_with_the_faults() {
    let rooms = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a room stands in the workspace");
    let mut asking = Vec::new();
    for room in std::fs::read_dir(rooms).expect("the workspace is there") {
        let manifest = room.expect("its rooms can be listed").path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if line.contains(FAULTS) && !line.starts_with('#') {
                let room = manifest.parent().and_then(Path::file_name).unwrap_or_default();
                asking.push((room.to_string_lossy().into_owned(), section.to_owned()));
            }
        }
    }
    asking.sort();
    let expected = [("registry", "[features]"), ("tests", "[dev-dependencies]")];
    assert_eq!(asking, expected.map(|(room, section)| (room.to_owned(), section.to_owned())));
}

fn must_pass(seed: u64, plan: Plan) -> (Counts, u64) {
    attempt(plan)
        .unwrap_or_else(|failure| panic!("seed {seed} failed {failure}\nCROUPIER_SEED={seed} replays it"))
}

/// Runs a plan; a panic is a failure like others.
fn attempt(plan: Plan) -> Result<(Counts, u64), String> {
    catch_unwind(AssertUnwindSafe(|| world::run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

fn describe(counts: &Counts) -> String {
    let Counts {
        events,
        frames,
        chunks,
        changes,
        commands,
        checks,
        ups,
        downs,
        refused,
        relayed,
        stale,
        conflicts,
        micros,
    } = counts;
    let hours = Duration::from_micros(*micros).as_secs_f64() / 3600.0;
    format!(
        "{hours:.2} simulated hours, {events} events, {frames} frames, {chunks} chunks ({relayed} relayed), {changes} changes, \
         {commands} commands, {checks} logs checked, {ups} ups, {downs} downs, {refused} refusals, {stale} stale epochs, \
         {conflicts} name conflicts"
    )
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value}, which is no number")))
}

/// The feature of the registry that builds the switch in.
const FAULTS: &str = "deliberate-faults";
/// After so many failures a campaign ends.
const FAILURES_MAX: usize = 10;
/// What every run of the tests takes.
const SEEDS: u64 = 2000;
/// Seeds of a calm network.
const CALM_SEEDS: u64 = 100;
/// A fault that survives so many seeds is not caught.
const FAULT_SEEDS: u64 = 1000;
