//! The load test of Croupier: local clusters, a fixed schedule, every message checked, and a verdict; and what
//! tells about a node's configuration, a running node, and a machine.

mod backlog;
mod beside;
mod calls;
mod checker;
mod cli;
mod clock;
mod closed_loop;
mod compare;
mod config_command;
mod connect_check;
mod console;
mod control;
mod cpu;
mod crew;
mod doctor;
mod fault;
mod find_max;
mod findings;
mod fleet;
mod interrupt;
mod json;
mod keys;
mod live;
mod local;
mod options;
mod pace;
mod pacer;
mod payload;
mod plan;
mod processes;
mod proxy;
mod publisher;
mod quantity;
mod receiver;
mod recorder;
mod registry;
mod report;
mod reqrep;
mod results;
mod roles;
mod run;
mod runs;
mod scenario;
mod schedule;
mod series;
mod servers;
mod shell;
mod show;
mod slo;
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

use cli::{Command, Topic, WorkerOf};
use console::Console;
use runs::Runs;
use scenario::RunError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CONFIGURATION: u8 = 78;
const INVALID: u8 = 97;
const REGRESSION: u8 = 98;
const MISSED: u8 = 99;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help(topic)) => Console::Stdout.write(topic.text()),
        Ok(Command::Version) => Console::Stdout.line(concat!("croupier ", env!("CARGO_PKG_VERSION"))),
        Ok(Command::Run(options)) => return Runs::default().make(&options),
        Ok(Command::RunRegistry(mut options)) => return run::run(&mut options, registry::run),
        Ok(Command::RunCalls(mut options)) => return run::run(&mut options, calls::run),
        Ok(Command::Compare(options)) => return compare::run(&options),
        Ok(Command::Show(options)) => return show::run(&options),
        Ok(Command::Config(command)) => return config_command::run(&command),
        Ok(Command::Top(options)) => {
            if let Err(error) = top::run(&options) {
                return fail(FAILED, error);
            }
        }
        Ok(Command::Local(options)) => return local::run(&options),
        Ok(Command::Doctor(options)) => {
            return doctor::run(&options).unwrap_or_else(|error| fail(CONFIGURATION, error));
        }
        Ok(Command::Worker(WorkerOf::Load)) => processes::work(),
        Ok(Command::Worker(WorkerOf::Registry)) => registry::work(),
        Ok(Command::Worker(WorkerOf::Calls)) => calls::work(),
        Err(error) => {
            let command = Topic::of_line(std::env::args_os().skip(1)).command();
            let page = format!("croupier {command}");
            return fail(USAGE, format_args!("{error}\nsee {} --help", page.trim_end()));
        }
    }
    ExitCode::SUCCESS
}

fn exit_code(error: &RunError) -> u8 {
    use croupier::Error::{AdminBind, Config, Probe, SameCluster, Start};
    match error {
        RunError::Interrupted { signal } => interrupt::exit_code(*signal),
        RunError::Servers(_) | RunError::Unreachable { .. } => CONFIGURATION,
        RunError::Node(Config(_) | Probe(_) | SameCluster { .. } | Start { .. } | AdminBind { .. }) => {
            CONFIGURATION
        }
        _ => FAILED,
    }
}

/// Whether a look at the machine may tell why.
fn is_of_the_machine(error: &RunError) -> bool {
    matches!(error, RunError::Node(error) if error.is_of_the_machine())
}

fn fail(code: u8, message: impl Display) -> ExitCode {
    Console::Stderr.line(format_args!("croupier: {message}"));
    ExitCode::from(code)
}
