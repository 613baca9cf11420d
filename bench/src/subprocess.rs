//! A measurement in a process of its own: started, waited for within a limit, its report read.

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::BenchError;

/// Between two looks at a worker: rare enough to cost the measurement nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// This program, to be run again.
///
/// # Errors
/// If the system does not say where it is.
pub fn this_program() -> Result<Command, BenchError> {
    env::current_exe().map(Command::new).map_err(BenchError::io("find this program"))
}

/// Runs a worker and reads the JSON that it leaves on its standard output. `what` names it in errors.
///
/// # Errors
/// If it cannot be started, fails, takes longer than `time_max`, or reports something else. It has ended then, too.
pub fn report_of<T: DeserializeOwned>(
    mut command: Command,
    what: &str,
    time_max: Duration,
) -> Result<T, BenchError> {
    let mut worker = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BenchError::io("start a worker"))?;
    let Some(mut output) = worker.stdout.take() else {
        return Err(BenchError::client("worker")("it has no standard output"));
    };
    // A report may be larger than a pipe, so it is read while the worker is waited for.
    let reader = thread::spawn(move || {
        let mut report = String::new();
        output.read_to_string(&mut report).map(|_| report)
    });
    let deadline = Instant::now() + time_max;
    let status = loop {
        if let Some(status) = worker.try_wait().map_err(BenchError::io("wait for a worker"))? {
            break status;
        }
        if Instant::now() > deadline {
            // It may have ended in between; either way it is over and waited for.
            let _ = worker.kill();
            let _ = worker.wait();
            return Err(BenchError::WorkerSilent { what: what.to_owned(), seconds: time_max.as_secs() });
        }
        thread::sleep(LOOK_EVERY);
    };
    if !status.success() {
        return Err(BenchError::WorkerFailed { what: what.to_owned(), status });
    }
    let report = reader.join().map_err(|_| BenchError::client("worker")("its reader panicked"))?;
    let report = report.map_err(BenchError::io("read a worker's report"))?;
    serde_json::from_str(&report).map_err(|source| BenchError::WorkerReport {
        what: what.to_owned(),
        report,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_report_is_read_however_long_it_is() {
        let script = "printf '\"'; head -c 300000 /dev/zero | tr '\\0' x; printf '\"'";
        let report: String = report_of(shell(script), "x", LONG).unwrap();
        assert_eq!(report.len(), 300_000);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        let check = |script, time_max| report_of::<u64>(shell(script), "x", time_max).unwrap_err();
        assert!(matches!(check("exit 3", LONG), BenchError::WorkerFailed { .. }));
        assert!(matches!(check("echo nonsense", LONG), BenchError::WorkerReport { .. }));
        assert!(matches!(check("exec sleep 60", Duration::ZERO), BenchError::WorkerSilent { .. }));
    }
}
