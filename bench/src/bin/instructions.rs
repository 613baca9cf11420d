//! `instructions`: how many instructions the hot paths of the pure rooms take, beside those that are recorded.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{env, fs};

use croupier_bench::instructions::callgrind::{self, CountError, GO_COMMAND, SURROUNDINGS_COMMAND};
use croupier_bench::instructions::record::{GROWTH_MAX, Record, Surroundings, compare};
use croupier_bench::instructions::{Path, paths};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
Instructions of the hot paths of ring, protocol and registry, counted by valgrind's callgrind, beside the record.

usage: instructions [PART_OF_A_NAME..] [OPTION..]

options
  --update          write the counts into the record
  --record FILE     the record (bench/instructions.json)
  --list            the paths
  --help

A path that takes 5 % more than is recorded fails the run; 25 % where compiler, C library or processor are others than
those of the record. Exit: 0, 1 failed, 2 usage.";

const RECORD: &str = "bench/instructions.json";

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [GO_COMMAND, name, times] => return go(name, times),
        [SURROUNDINGS_COMMAND] => {
            println!("{}", serde_json::json!(Surroundings::here()));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match Options::parse(Parser::from_args(arguments)) {
        Ok(Wish::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Wish::List) => {
            paths().for_each(|path| println!("{}", path.name));
            ExitCode::SUCCESS
        }
        Ok(Wish::Count(options)) => match count(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(error) => {
                eprintln!("instructions: {error}");
                ExitCode::from(FAILED)
            }
        },
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn go(name: &str, times: &str) -> ExitCode {
    match (paths().find(|path| path.name == name), times.parse()) {
        (Some(path), Ok(times)) => {
            (path.go)(times);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(USAGE),
    }
}

enum Wish {
    Help,
    List,
    Count(Options),
}

struct Options {
    paths: Vec<Path>,
    record: String,
    updates: bool,
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Wish, lexopt::Error> {
        let (mut parts, mut record, mut updates) = (Vec::new(), RECORD.to_owned(), false);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Help),
                Arg::Long("list") => return Ok(Wish::List),
                Arg::Long("update") => updates = true,
                Arg::Long("record") => record = parser.value()?.string()?,
                Arg::Value(part) => parts.push(part.string()?),
                other => return Err(other.unexpected()),
            }
        }
        let is_meant =
            |path: &Path| parts.is_empty() || parts.iter().any(|part| path.name.contains(part.as_str()));
        let paths: Vec<_> = paths().filter(is_meant).collect();
        if paths.is_empty() {
            return Err(format!("no path has any of {parts:?} in its name; --list shows them").into());
        }
        Ok(Wish::Count(Self { paths, record, updates }))
    }
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Count(#[from] CountError),
    #[error("{path}: {source}; --update writes it")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {source}; --update writes it anew")]
    Parse { path: String, source: serde_json::Error },
    #[error("{path}: {source}")]
    Write { path: String, source: std::io::Error },
    #[error("this is a debug build; its counts say nothing")]
    Debug,
}

/// Whether no path takes more than it may.
fn count(options: &Options) -> Result<bool, Fault> {
    if cfg!(debug_assertions) {
        return Err(Fault::Debug);
    }
    let surroundings = callgrind::surroundings()?;
    let path = || options.record.clone();
    let record = fs::read_to_string(&options.record)
        .map_err(|source| Fault::Read { path: path(), source })
        .and_then(|text| {
            serde_json::from_str::<Record>(&text).map_err(|source| Fault::Parse { path: path(), source })
        });
    if options.updates {
        let counted = record_of(options, surroundings, record.ok())?;
        let text = format!("{:#}\n", serde_json::json!(counted));
        fs::write(&options.record, text).map_err(|source| Fault::Write { path: path(), source })?;
        return Ok(true);
    }
    let record = record?;
    let growth_max = record.growth_max(&surroundings);
    if record.surroundings != surroundings {
        println!("OTHER SURROUNDINGS than those of {}:", options.record);
        println!("  recorded: {}\n  here:     {surroundings}", record.surroundings);
        println!(
            "  so a path may take {:.0} % more instead of {:.0} %; on the new ones, run this with --update",
            growth_max * 100.0,
            GROWTH_MAX * 100.0
        );
    }
    println!("{:<52} {:>10} {:>10} {:>10}", "instructions", "counted", "recorded", "change");
    let mut is_good = true;
    for path in &options.paths {
        let compared = compare(path.name, callgrind::count(path)?, &record, growth_max);
        println!("{compared}");
        is_good &= !compared.is_fault;
    }
    let names: Vec<_> = paths().map(|path| path.name).collect();
    for gone in record.gone(&names) {
        println!("{gone:<52} is recorded, and there is no such path");
        is_good = false;
    }
    if !is_good {
        println!(
            "if that is meant: cargo run --release -p croupier-bench --no-default-features --bin instructions -- --update"
        );
    }
    Ok(is_good)
}

/// Fresh counts. Those of paths that are not counted stay, unless they were counted elsewhere.
fn record_of(options: &Options, surroundings: Surroundings, old: Option<Record>) -> Result<Record, Fault> {
    let kept = old.filter(|old| old.surroundings == surroundings).map(|old| old.instructions);
    let mut instructions: BTreeMap<String, f64> = kept.unwrap_or_default();
    instructions.retain(|name, _| paths().any(|path| path.name == name));
    for path in &options.paths {
        let counted = callgrind::count(path)?;
        println!("{:<52} {counted:>10.1}", path.name);
        // To a hundredth: what is less depends on how the memory happens to lie.
        instructions.insert(path.name.to_owned(), (counted * 100.0).round() / 100.0);
    }
    Ok(Record { surroundings, instructions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        match Options::parse(Parser::from_args(arguments)) {
            Ok(Wish::Count(options)) => Ok(options),
            Ok(Wish::Help | Wish::List) => Err("help".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_is_named_is_what_is_counted() {
        let all = options(&[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((all.paths.len(), all.record.as_str(), all.updates), (paths().count(), RECORD, false));
        let some =
            options(&["ring.", "HMSG", "--update", "--record=x"]).unwrap_or_else(|error| panic!("{error}"));
        assert!(some.paths.iter().all(|path| path.name.starts_with("ring.") || path.name.contains("HMSG")));
        assert_eq!((some.record.as_str(), some.updates), ("x", true));
        assert!(some.paths.len() > 5);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in [&["nothing.like.it"][..], &["--record"], &["--fast"]] {
            assert!(options(arguments).is_err(), "{arguments:?} was understood");
        }
    }
}
