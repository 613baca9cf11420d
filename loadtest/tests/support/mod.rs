//! The command as a process of its own: started, signalled, waited for, and what it leaves behind.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The status and the exit code belong together, and a debug build is never more than INVALID.
pub(crate) fn check_verdict(report: &Value, code: Option<i32>) {
    let verdict = &report["verdict"];
    let status = verdict["status"].as_str().expect("a status");
    let reasons = verdict["reasons"].as_array().expect("a list of reasons");
    assert_eq!(status == "VALID", reasons.is_empty(), "{verdict}");
    assert_eq!(code, Some(if status == "INVALID" { 97 } else { 0 }), "{verdict}");
    let tells_of_debug =
        reasons.iter().filter_map(Value::as_str).any(|reason| reason.contains("debug build"));
    assert_eq!(tells_of_debug, cfg!(debug_assertions), "{verdict}");
    if cfg!(debug_assertions) {
        assert_eq!(status, "INVALID", "{verdict}");
    }
}

/// The report of a run whose JSON goes to standard output alone, and what it wrote beside it. Status and exit
/// code are checked.
pub(crate) fn report_of(arguments: &[&str]) -> (Value, String) {
    let output = croupier(arguments);
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{progress}", String::from_utf8_lossy(&output.stdout)));
    check_verdict(&report, output.status.code());
    (report, progress)
}

/// Against hanging only; nothing here is expected to take a tenth of it.
pub(crate) const GUARD: Duration = Duration::from_secs(120);

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_croupier"));
    // Runs that leave a folder behind leave it where cargo keeps what tests leave behind.
    command.args(arguments).stdin(Stdio::null()).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

pub(crate) fn croupier(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the command starts")
}

pub(crate) fn wait(run: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + GUARD;
    loop {
        if let Some(status) = run.try_wait().expect("the command is our child") {
            return status.code();
        }
        if Instant::now() >= deadline {
            run.kill().expect("the command is our child");
            panic!("the command did not end after the signal");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn send_signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: `kill` takes two numbers; the process is a child of this test that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// A process, told from a later one of the same number by its start time.
#[derive(Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    started: String,
}

impl Process {
    pub(crate) fn is_running(&self) -> bool {
        stat_of(self.pid).is_some_and(|(state, _, started)| state != "Z" && started == self.started)
    }
}

pub(crate) fn children_of(parent: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("a /proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let (_, of, started) = stat_of(pid)?;
            (of == parent).then_some(Process { pid, started })
        })
        .collect()
}

/// State, parent and start time.
fn stat_of(pid: u32) -> Option<(String, u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    Some((fields.first()?.to_string(), fields.get(1)?.parse().ok()?, fields.get(19)?.to_string()))
}
