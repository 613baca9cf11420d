//! The worker processes of a run, which are this program again: started, told, heard, and brought down.
//!
//! A worker reads one order a line, as JSON, on standard input, and writes one piece of news a line on
//! standard output. The kernel kills it when this process ends, however it ends, also while it stands still.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{WORKER_COMMAND, WorkerOf};
use crate::clock::monotonic_nanos;
use crate::cpu::process_time;

/// The workers of one run; they are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Fleet<News> {
    scenario: WorkerOf,
    processes: Vec<Option<Process>>,
    /// Of which life of which process the news are: what a dead life said counts no more.
    heard: mpsc::Receiver<(usize, u64, Heard<News>)>,
    tell: mpsc::Sender<(usize, u64, Heard<News>)>,
    lives: u64,
    /// Processor time of the lives that have ended.
    ended: Duration,
}

/// What came from a worker.
#[derive(Debug)]
pub(crate) enum Heard<News> {
    News(News),
    /// It has ended, or said what cannot be read.
    Gone(String),
}

/// A worker is not there, or cannot be told anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FleetError {
    #[error("process {process} cannot be started: {source}")]
    Start { process: usize, source: io::Error },
    #[error("process {process} is not running")]
    NotRunning { process: usize },
    #[error("process {process} cannot be told anything: {source}")]
    Tell { process: usize, source: io::Error },
    #[error("process {process} cannot be signalled: {source}")]
    Signal { process: usize, source: io::Error },
}

#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
    life: u64,
}

impl<News: DeserializeOwned + Send + 'static> Fleet<News> {
    /// Starts `processes` workers. They end with the thread that calls this: the main thread.
    pub(crate) fn start(scenario: WorkerOf, processes: usize) -> Result<Self, FleetError> {
        let (tell, heard) = mpsc::channel();
        let none = (0..processes).map(|_| None).collect();
        let mut fleet = Self { scenario, processes: none, heard, tell, lives: 0, ended: Duration::ZERO };
        for process in 0..processes {
            fleet.restart(process)?;
        }
        Ok(fleet)
    }

    /// Starts a worker that is not running, or no more.
    pub(crate) fn restart(&mut self, process: usize) -> Result<(), FleetError> {
        self.lives += 1;
        let life = self.lives;
        let start = |source| FleetError::Start { process, source };
        let mut child = spawn(self.scenario).map_err(start)?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(start(io::Error::other("its pipes are missing")));
        };
        let tell = self.tell.clone();
        std::thread::Builder::new()
            .name(format!("worker-{process}"))
            .spawn(move || {
                for line in BufReader::new(output).lines() {
                    let heard = match line.map(|line| serde_json::from_str(&line)) {
                        Ok(Ok(news)) => Heard::News(news),
                        Ok(Err(error)) => Heard::Gone(format!("it said what is no news: {error}")),
                        Err(error) => Heard::Gone(error.to_string()),
                    };
                    if tell.send((process, life, heard)).is_err() {
                        return;
                    }
                }
                // The run is over when nobody listens.
                drop(tell.send((process, life, Heard::Gone("it has ended".to_owned()))));
            })
            .map_err(start)?;
        self.processes[process] = Some(Process { child, orders, life });
        Ok(())
    }

    /// How many workers there are, running or not.
    pub(crate) fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Those that run, or stand still.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|process| self.processes[*process].is_some()).collect()
    }

    /// The system's number of a worker.
    pub(crate) fn pid(&self, process: usize) -> Result<u32, FleetError> {
        let worker = self.processes[process].as_ref();
        worker.map(|worker| worker.child.id()).ok_or(FleetError::NotRunning { process })
    }

    /// Gives an order; it is taken up when the worker has done with those before.
    pub(crate) fn order(&mut self, process: usize, order: &impl Serialize) -> Result<(), FleetError> {
        let worker = self.processes[process].as_mut().ok_or(FleetError::NotRunning { process })?;
        let mut line = serde_json::to_string(order).map_err(io::Error::from);
        if let Ok(line) = &mut line {
            line.push('\n');
        }
        let written = line.and_then(|line| worker.orders.write_all(line.as_bytes()));
        written.and_then(|()| worker.orders.flush()).map_err(|source| FleetError::Tell { process, source })
    }

    /// The next that any worker says, or none within `wait`.
    pub(crate) fn hear(&mut self, wait: Duration) -> Option<(usize, Heard<News>)> {
        match self.heard.recv_timeout(wait) {
            Ok((process, life, heard)) => {
                let is_current = self.processes[process].as_ref().is_some_and(|worker| worker.life == life);
                is_current.then_some((process, heard))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Sends a signal; returns the monotonic time just before.
    pub(crate) fn signal(&mut self, process: usize, signal: libc::c_int) -> Result<u64, FleetError> {
        let worker = self.processes[process].as_ref().ok_or(FleetError::NotRunning { process })?;
        let signal_error = |source| FleetError::Signal { process, source };
        let pid = libc::pid_t::try_from(worker.child.id())
            .map_err(|_| signal_error(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let at_nanos = monotonic_nanos();
        // SAFETY: `kill` takes two numbers; the process is a child that was not waited for, so the number
        // is no other's.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(signal_error(io::Error::last_os_error()));
        }
        Ok(at_nanos)
    }

    /// Kills a worker (SIGKILL) and waits for its end; returns the monotonic time just before the signal.
    /// What it had said and nobody heard is dropped.
    pub(crate) fn kill(&mut self, process: usize) -> Result<u64, FleetError> {
        let worker = self.processes[process].as_ref().ok_or(FleetError::NotRunning { process })?;
        let used = process_time(worker.child.id()).unwrap_or_default();
        let at_nanos = self.signal(process, libc::SIGKILL)?;
        self.ended += used;
        if let Some(mut worker) = self.processes[process].take() {
            // It is dead whether or not the kernel says how.
            drop(worker.child.wait());
        }
        Ok(at_nanos)
    }

    /// Processor time of all workers so far, of those that were killed too.
    pub(crate) fn cpu(&self) -> Duration {
        let running = self.processes.iter().flatten();
        self.ended + running.filter_map(|worker| process_time(worker.child.id())).sum::<Duration>()
    }
}

impl<News> Drop for Fleet<News> {
    fn drop(&mut self) {
        for worker in self.processes.iter_mut().flatten() {
            // One that has ended already cannot be killed, and need not be.
            drop(worker.child.kill());
            drop(worker.child.wait());
        }
    }
}

fn spawn(scenario: WorkerOf) -> io::Result<Child> {
    let parent = std::process::id();
    let mut command = Command::new(std::env::current_exe()?);
    command.args([WORKER_COMMAND, scenario.word()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    // An interrupt from the terminal is for this process, which ends the workers in order.
    command.process_group(0);
    let die_with_parent = move || {
        // SAFETY: `prctl` with these arguments touches no memory; it is a bare system call, so it may be
        // made between fork and exec.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before the request; then the child has another one.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure makes two bare system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(die_with_parent) };
    command.spawn()
}

/// The worker's side: the orders that come, until its parent has gone. A panic of any of its threads from then on fails
/// the run: it is told to the parent, who has the terminal.
pub(crate) fn orders<Order: DeserializeOwned>() -> impl Iterator<Item = io::Result<Order>> {
    std::panic::set_hook(Box::new(|panic| say(&failure(&panic.to_string()))));
    io::stdin().lines().map(|line| serde_json::from_str(&line?).map_err(io::Error::from))
}

/// What all workers say who cannot go on, whatever else their news are.
fn failure(reason: &str) -> serde_json::Value {
    serde_json::json!({ "Failed": reason.replace('\n', " ") })
}

/// The worker's side: says something to its parent, from any thread, in one piece.
pub(crate) fn say(news: &impl Serialize) {
    let Ok(mut line) = serde_json::to_string(news) else { return };
    line.push('\n');
    let mut stdout = io::stdout().lock();
    // A parent that has gone takes this process with it.
    drop(stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names the process that a test starts of itself.
    const CHILD: &str = "CROUPIER_FLEET_CHILD";

    #[test]
    fn a_panic_of_a_worker_is_news_and_nothing_on_its_terminal() {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "fleet::tests::what_a_child_does", "--nocapture"]).env(CHILD, "1");
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout);
        let line = told.lines().find(|line| line.contains("Failed")).unwrap_or_else(|| panic!("{told}"));
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(!shown.contains("the shard broke"), "{shown}");
        let line = &line[line.find('{').expect("an object")..];
        let news: serde_json::Value = serde_json::from_str(line).expect("a piece of news");
        let failure = news["Failed"].as_str().expect("a reason");
        assert!(failure.contains("panicked at") && failure.ends_with("the shard broke"), "{failure}");
    }

    #[test]
    fn what_a_child_does() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let none = orders::<u32>().count();
        assert_eq!(none, 0);
        drop(std::thread::spawn(|| panic!("the shard broke")).join());
        // As the harness would be left with it.
        drop(std::panic::take_hook());
    }
}
