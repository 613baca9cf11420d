//! The load test of Croupier: local clusters, a fixed schedule, every message checked, and a verdict; and what
//! tells about a node's configuration, a running node, and a machine.

mod calls;
mod checker;
mod cli;
mod clock;
mod closed_loop;
mod config_command;
mod connect_check;
mod console;
mod control;
mod cpu;
mod crew;
mod doctor;
mod fault;
mod findings;
mod fleet;
mod interrupt;
mod json;
mod keys;
mod options;
mod pace;
mod pacer;
mod payload;
mod publisher;
mod quantity;
mod receiver;
mod recorder;
mod registry;
mod report;
mod reqrep;
mod results;
mod roles;
mod scenario;
mod schedule;
mod series;
mod sparse;
mod steps;
mod summary;
mod surroundings;
mod top;
mod traffic;
mod verdict;
mod worker;

use std::fmt::Display;
use std::process::ExitCode;

use serde::Serialize;

use cli::{Command, WorkerOf};
use console::Console;
use interrupt::Interrupt;
use json::JsonOutput;
use options::JsonTarget;
use scenario::RunError;
use summary::Summary;
use verdict::{Status, Verdict};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CONFIGURATION: u8 = 78;
const INVALID: u8 = 97;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => Console::Stdout.write(cli::help()),
        Ok(Command::Version) => Console::Stdout.line(concat!("croupier ", env!("CARGO_PKG_VERSION"))),
        Ok(Command::Run(options)) => {
            return run(options.output.json.as_ref(), |console, interrupt| {
                let report = scenario::run(&options, console, interrupt)?;
                Ok((Summary(&report).to_string(), report.verdict.clone(), report))
            });
        }
        Ok(Command::RunRegistry(options)) => {
            return run(options.output.json.as_ref(), |console, interrupt| {
                let report = registry::run(&options, console, interrupt)?;
                Ok((report.to_string(), report.verdict.clone(), report))
            });
        }
        Ok(Command::RunCalls(options)) => {
            return run(options.output.json.as_ref(), |console, interrupt| {
                let report = calls::run(&options, console, interrupt)?;
                Ok((report.to_string(), report.verdict.clone(), report))
            });
        }
        Ok(Command::Config(command)) => return config_command::run(&command),
        Ok(Command::Top(options)) => {
            if let Err(error) = top::run(&options) {
                return fail(FAILED, error);
            }
        }
        Ok(Command::Doctor(options)) => {
            return doctor::run(&options).unwrap_or_else(|error| fail(CONFIGURATION, error));
        }
        Ok(Command::Worker(WorkerOf::Registry)) => registry::work(),
        Ok(Command::Worker(WorkerOf::Calls)) => calls::work(),
        Err(error) => return fail(USAGE, format_args!("{error}\nsee croupier --help")),
    }
    ExitCode::SUCCESS
}

/// Runs a scenario, which gives its report for people, its verdict, and its report for programs.
fn run<R: Serialize>(
    json: Option<&JsonTarget>,
    scenario: impl FnOnce(Console, &Interrupt) -> Result<(String, Verdict, R), RunError>,
) -> ExitCode {
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(FAILED, format_args!("signal handlers cannot be installed: {error}")),
    };
    let console = match json {
        Some(JsonTarget::Stdout) => Console::Stderr,
        _ => Console::Stdout,
    };
    // Before the run: a report that cannot be written is better known before a minute has passed.
    let json = match json.map(JsonOutput::open).transpose() {
        Ok(json) => json,
        Err(error) => return fail(CONFIGURATION, error),
    };
    let (summary, verdict, report) = match scenario(console, &interrupt) {
        Ok(outcome) => outcome,
        Err(error) => {
            let code = fail(exit_code(&error), &error);
            if is_of_the_machine(&error) {
                doctor::after_failure();
            }
            return code;
        }
    };
    console.write(summary);
    if let Some(Err(error)) = json.map(|json| json.write(&report)) {
        return fail(FAILED, error);
    }
    if let Some(signal) = interrupt.signal() {
        return ExitCode::from(interrupt::exit_code(signal));
    }
    match verdict.status {
        Status::Valid | Status::Degraded => ExitCode::SUCCESS,
        Status::Invalid => ExitCode::from(INVALID),
    }
}

fn exit_code(error: &RunError) -> u8 {
    use croupier::Error::{AdminBind, Config, Probe, SameCluster, Start};
    match error {
        RunError::Interrupted { signal } => interrupt::exit_code(*signal),
        RunError::Servers(_) => CONFIGURATION,
        RunError::Node(Config(_) | Probe(_) | SameCluster { .. } | Start { .. } | AdminBind { .. }) => {
            CONFIGURATION
        }
        _ => FAILED,
    }
}

/// Whether a look at the machine may tell why.
fn is_of_the_machine(error: &RunError) -> bool {
    matches!(error, RunError::Node(croupier::Error::Probe(_) | croupier::Error::Start { .. }))
}

fn fail(code: u8, message: impl Display) -> ExitCode {
    Console::Stderr.line(format_args!("croupier: {message}"));
    ExitCode::from(code)
}
