//! The load test of Croupier: local clusters, a fixed schedule, every message checked, and a verdict.

mod checker;
mod cli;
mod console;
mod control;
mod cpu;
mod findings;
mod interrupt;
mod json;
mod pacer;
mod payload;
mod publisher;
mod quantity;
mod receiver;
mod recorder;
mod report;
mod scenario;
mod schedule;
mod summary;
mod surroundings;
mod traffic;
mod verdict;
mod worker;

use std::process::ExitCode;

use cli::{Command, JsonTarget, RunOptions};
use console::Console;
use interrupt::Interrupt;
use json::JsonOutput;
use scenario::RunError;
use summary::Summary;
use verdict::Status;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CONFIGURATION: u8 = 78;
const INVALID: u8 = 97;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => Console::Stdout.write(cli::HELP),
        Ok(Command::Version) => Console::Stdout.line(concat!("croupier ", env!("CARGO_PKG_VERSION"))),
        Ok(Command::RunPubsub(options)) => return run(&options),
        Err(error) => return fail(USAGE, format_args!("{error}\nsee croupier --help")),
    }
    ExitCode::SUCCESS
}

fn run(options: &RunOptions) -> ExitCode {
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(FAILED, format_args!("signal handlers cannot be installed: {error}")),
    };
    // Before the run: a report that cannot be written is better known before a minute has passed.
    let json = match options.json.as_ref().map(JsonOutput::open).transpose() {
        Ok(json) => json,
        Err(error) => return fail(CONFIGURATION, error),
    };
    let console = match options.json {
        Some(JsonTarget::Stdout) => Console::Stderr,
        _ => Console::Stdout,
    };
    let report = match scenario::run(options, console, &interrupt) {
        Ok(report) => report,
        Err(error) => return fail(exit_code(&error), error),
    };
    console.write(Summary(&report));
    if let Some(Err(error)) = json.map(|json| json.write(&report)) {
        return fail(FAILED, error);
    }
    match report.verdict.status {
        Status::Valid | Status::Degraded => ExitCode::SUCCESS,
        Status::Invalid => ExitCode::from(INVALID),
    }
}

fn exit_code(error: &RunError) -> u8 {
    use croupier::Error::{Config, Probe, SameCluster, Start};
    match error {
        RunError::Interrupted { signal } => interrupt::exit_code(*signal),
        RunError::Servers(_) => CONFIGURATION,
        RunError::Node(Config(_) | Probe(_) | SameCluster { .. } | Start { .. }) => CONFIGURATION,
        _ => FAILED,
    }
}

fn fail(code: u8, message: impl std::fmt::Display) -> ExitCode {
    Console::Stderr.line(format_args!("croupier: {message}"));
    ExitCode::from(code)
}
