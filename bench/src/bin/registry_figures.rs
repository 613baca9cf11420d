//! `registry_figures`: what the registry takes of memory, bytes and CPU time, on nodes in memory.

use std::env;
use std::io::Write;
use std::process::ExitCode;

use croupier_bench::error::BenchError;
use croupier_bench::output;
use croupier_bench::registry::allocation::CountingAllocator;
use croupier_bench::registry::figures::{Figure, HEADING, Row};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
The registry's machines on nodes in memory, in simulated time: memory, bytes and CPU time.

usage: registry_figures [FIGURE..] [OPTION..]

figures (none named: all)
  memory          bytes of memory of an entry with 64 bytes of metadata, with its owner and on a replica
  change_bytes    bytes of a change to each receiver, alone and with others
  rejoin          bytes both ways after a split of an hour, and CPU time
  seal            the same where more was removed than an owner remembers
  add             CPU time of adding 10 000 services at once

options
  --entries N     entries of memory, rejoin and seal (1000000)
  --json FILE     write the rows as JSON; - is standard output, and the table then goes to standard error
  --help

Every node is asked what it saw, and a difference fails the run. Exit: 0, 1 failed, 2 usage.";

/// A log has a quota of 1 048 576 entries, and the replaced ones come before the old ones have gone.
const ENTRIES: u64 = 1_000_000;
/// With fewer, a Seal could not be forced.
const ENTRIES_LEAST: u64 = 100_000;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    match Options::parse(Parser::from_args(env::args().skip(1))) {
        Ok(Wish::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Wish::Measure(options)) => match measure(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("registry_figures: {error}");
                ExitCode::from(FAILED)
            }
        },
        Err(error) => {
            eprintln!("registry_figures: {error}");
            ExitCode::from(USAGE)
        }
    }
}

enum Wish {
    Help,
    Measure(Options),
}

struct Options {
    figures: Vec<Figure>,
    entries: u64,
    json: Option<String>,
}

impl Options {
    fn parse(mut parser: Parser) -> Result<Wish, lexopt::Error> {
        let mut options = Self { figures: Vec::new(), entries: ENTRIES, json: None };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Wish::Help),
                Arg::Long("entries") => options.entries = parser.value()?.parse_with(entries)?,
                Arg::Long("json") => options.json = Some(parser.value()?.string()?),
                Arg::Value(name) => {
                    let figure = name.string()?.parse::<Figure>().map_err(|error| error.to_string())?;
                    if !options.figures.contains(&figure) {
                        options.figures.push(figure);
                    }
                }
                other => return Err(other.unexpected()),
            }
        }
        if options.figures.is_empty() {
            options.figures = Figure::ALL.to_vec();
        }
        Ok(Wish::Measure(options))
    }
}

fn entries(text: &str) -> Result<u64, String> {
    let entries = text.parse().ok().filter(|entries| (ENTRIES_LEAST..=ENTRIES).contains(entries));
    entries.ok_or_else(|| format!("a number from {ENTRIES_LEAST} to {ENTRIES}"))
}

fn measure(options: &Options) -> Result<(), BenchError> {
    if cfg!(debug_assertions) {
        eprintln!("registry_figures: this is a debug build; its times say nothing");
    }
    let json = options.json.as_deref();
    let mut table = output::table(json);
    writeln!(table, "{HEADING}").map_err(BenchError::io("print the table"))?;
    let mut rows: Vec<Row> = Vec::new();
    for figure in &options.figures {
        let mut printed = Ok(());
        figure.measure(options.entries, &mut |row| {
            let line = writeln!(table, "{row}").and_then(|()| table.flush());
            printed = std::mem::replace(&mut printed, Ok(())).and(line);
            rows.push(row);
        })?;
        printed.map_err(BenchError::io("print the table"))?;
    }
    output::write_rows(&rows, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        match Options::parse(Parser::from_args(arguments)) {
            Ok(Wish::Measure(options)) => Ok(options),
            Ok(Wish::Help) => Err("help".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_is_named_is_what_is_measured() {
        let all = options(&[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((all.figures.as_slice(), all.entries), (&Figure::ALL[..], ENTRIES));
        let some = options(&["seal", "add", "seal", "--entries", "300000", "--json=x"])
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((some.figures.as_slice(), some.entries), (&[Figure::Seal, Figure::Add][..], 300_000));
        assert_eq!(some.json.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in
            [&["seals"][..], &["--entries", "5"], &["--entries", "2000000"], &["--json"], &["--fast"]]
        {
            assert!(options(arguments).is_err(), "{arguments:?} was understood");
        }
    }
}
