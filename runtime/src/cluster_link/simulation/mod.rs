//! A link under simulated time and a bad network: the link's own code, from its verbs to its socket, against servers
//! that are strict, and all invariants at every step.
//!
//! A seed stands for a whole run. One of them again, with the sum of all that happened:
//!
//! ```text
//! CROUPIER_SEED=7 cargo test -p croupier --lib -- --nocapture simulation::one_seed
//! ```
//!
//! `CROUPIER_TELL=1` prints what happens in it. A campaign of as many as there is time for, from any seed on, on two
//! threads:
//!
//! ```text
//! CROUPIER_SEEDS=100000 CROUPIER_SEED_FROM=0 CROUPIER_THREADS=2 \
//!     cargo test --release -p croupier --lib -- --nocapture simulation::campaign
//! ```

mod acts;
mod application;
mod cluster;
mod operation;
mod oracle;
mod plan;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use self::{oracle::Counts, plan::Plan};
use super::fault::Fault;

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
            match attempt(plan(seed)) {
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
        let (counts, trace) = must_pass(seed, Plan { is_told, ..plan(seed) });
        println!("seed {seed}: trace {trace:016x}, {}", describe(&counts));
        let again = must_pass(seed, plan(seed));
        assert_eq!(again.1, trace, "seed {seed} ran differently the second time");
    }
}

#[test]
fn every_deliberate_fault_is_caught() {
    for fault in Fault::ALL {
        let begin = Instant::now();
        let caught = {
            let _built_in = fault.build_in();
            (0..FAULT_SEEDS).find_map(|seed| attempt(plan(seed)).err().map(|failure| (seed, failure)))
        };
        let Some((seed, failure)) = caught else {
            panic!("{fault:?} passed {FAULT_SEEDS} seeds, and so nothing proves its absence");
        };
        println!("{fault:?}: caught by seed {seed}, {:.1} s; {failure}", begin.elapsed().as_secs_f64());
        // It was the fault, and not the seed.
        must_pass(seed, plan(seed));
    }
}

/// The simulation's clock is the only one, or its runs would differ.
#[test]
fn links_go_by_the_shards_clock() {
    let links = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster_link");
    for entry in std::fs::read_dir(links).expect("the folder is there") {
        let source = entry.expect("its files can be listed").path();
        if source.is_file() {
            let text = std::fs::read_to_string(&source).expect("a source can be read");
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let own = code.contains("Instant::now()") || code.contains(".elapsed()");
            assert!(!own, "{}: take `time::now()`", source.display());
        }
    }
}

/// One seed in four has nothing but moves.
fn plan(seed: u64) -> Plan {
    if seed % 4 == 3 { Plan::calm(seed) } else { Plan::of_seed(seed) }
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
        steps,
        published,
        processed,
        in_doubt,
        discarded,
        delivered,
        twice,
        requests,
        connects,
        disconnects,
        moves,
        flushes,
        micros,
    } = counts;
    let hours = Duration::from_micros(*micros).as_secs_f64() / 3600.0;
    format!(
        "{hours:.2} simulated hours, {steps} steps, {published} published ({processed} processed, {in_doubt} in doubt, \
         {discarded} discarded), {delivered} delivered ({twice} twice), {requests} requests, {flushes} flushes, \
         {connects} connects, {disconnects} disconnects, {moves} moves"
    )
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value}, which is no number")))
}

/// After so many failures a campaign ends.
const FAILURES_MAX: usize = 10;
/// What every run of the tests takes.
const SEEDS: u64 = 2000;
/// A fault that survives so many seeds is not caught.
const FAULT_SEEDS: u64 = 1000;
