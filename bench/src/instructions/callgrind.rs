//! Counting: a path is gone in a process under valgrind, once for a short while and once for longer.

use std::env;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use super::Path;
use super::record::Surroundings;

/// The hidden first argument that makes the program go along a path. Then come its name and how often.
pub const GO_COMMAND: &str = "go";
/// The hidden first argument that makes the program tell its [`Surroundings`].
pub const SURROUNDINGS_COMMAND: &str = "surroundings";

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// valgrind is not installed.
    #[error("valgrind is not there: Debian's package is valgrind")]
    Missing,
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The program, or valgrind, failed.
    #[error("{what} under valgrind fails: {said}")]
    Failed {
        /// Which path.
        what: String,
        /// The end of what was said.
        said: String,
    },
    /// valgrind ended well and said nothing that can be read.
    #[error("{what}: valgrind's answer cannot be read: {said}")]
    Unreadable {
        /// Which path, or what else was asked.
        what: String,
        /// The answer.
        said: String,
    },
}

/// Instructions of going along a path once, on average. Starting, preparing and ending are in both runs and
/// cancel out.
///
/// # Errors
/// If a run fails; a path whose own check fails does.
pub fn count(path: &Path) -> Result<f64, CountError> {
    let short = instructions(path, path.times)?;
    let long = instructions(path, path.times * 2)?;
    Ok((long as f64 - short as f64) / path.times as f64)
}

fn instructions(path: &Path, times: u64) -> Result<u64, CountError> {
    let tool = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--read-inline-info=no"];
    let answer = under_valgrind(path.name, &tool, &[GO_COMMAND, path.name, &times.to_string()])?;
    let collected = answer.1.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.and_then(|(_, number)| number.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| CountError::Unreadable { what: path.name.to_owned(), said: answer.1 })
}

/// What the counts depend on, as it is under valgrind, which shows a processor of its own.
///
/// # Errors
/// As [`count`].
pub fn surroundings() -> Result<Surroundings, CountError> {
    let what = "the surroundings";
    let (answer, _) = under_valgrind(what, &["--tool=none"], &[SURROUNDINGS_COMMAND])?;
    let unreadable = |_| CountError::Unreadable { what: what.to_owned(), said: answer.clone() };
    serde_json::from_str(&answer).map_err(unreadable)
}

/// Standard output and standard error of this program under valgrind.
fn under_valgrind(what: &str, tool: &[&str], arguments: &[&str]) -> Result<(String, String), CountError> {
    let io = |what| move |source| CountError::Io { what, source };
    let program = env::current_exe().map_err(io("find this program"))?;
    // What stands in the environment lies on the stack, and moves what else does.
    let mut command = Command::new("valgrind");
    command.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
    command.args(tool).arg(program).args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|source| match source.kind() {
        ErrorKind::NotFound => CountError::Missing,
        _ => CountError::Io { what: "start valgrind", source },
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (answer, said) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        let lines: Vec<_> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n");
        return Err(CountError::Failed { what: what.to_owned(), said: end });
    }
    Ok((answer, said))
}
