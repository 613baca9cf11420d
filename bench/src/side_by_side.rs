//! Two clients beside each other: the same work in turn, each in a process of its own, several rounds.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::driver::Driver;
use crate::error::BenchError;
use crate::figure::{Figure, Via, Work};
use crate::nats_server::NatsServer;
use crate::receiving::Length;
use crate::report::Row;
use crate::stub::Stub;
use crate::traffic::{Account, Tally};
use crate::worker::{Assignment, Client, Outcome, WORKER_COMMAND};

/// How long a worker may take beyond what it was told to.
const GRACE: Duration = Duration::from_secs(60);
/// Between two looks at a worker: rare enough to cost the measurement nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How the sides are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The peer; the other side is [`Client::Croupier`].
    pub peer: Client,
    /// How often each side is measured, at least once.
    pub rounds: usize,
    /// How long each measured section is.
    pub length: Length,
}

/// What stands at the other end of both sides' connections.
#[derive(Debug)]
pub enum OtherEnd {
    /// A stub, a fresh one for each run.
    Stub,
    /// A server, with a fresh driver behind it for each run.
    Server(NatsServer),
}

impl OtherEnd {
    /// Which way that is.
    pub fn via(&self) -> Via {
        match self {
            Self::Stub => Via::Stub,
            Self::Server(_) => Via::Server,
        }
    }
}

impl Comparison {
    /// Measures one figure one way. The sides alternate, and so does which of them begins.
    ///
    /// # Errors
    /// The first thing that goes wrong on either side; ends that count differently are such a thing.
    pub fn measure(&self, figure: Figure, other_end: &OtherEnd) -> Result<Row, BenchError> {
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.max(1) {
            let mut order = [Client::Croupier, self.peer];
            order.rotate_left(round % 2);
            for client in order {
                let outcome = self.run_once(client, figure, other_end)?;
                if client == Client::Croupier { ours.push(outcome) } else { peers.push(outcome) }
            }
        }
        Ok(Row::of(figure, other_end.via(), self.peer, &ours, &peers))
    }

    fn run_once(&self, client: Client, figure: Figure, other_end: &OtherEnd) -> Result<Outcome, BenchError> {
        let what = format!("{client} {figure} via {}", other_end.via());
        let work = |address: SocketAddr| {
            run_worker(Assignment { client, figure, address, length: self.length }, &what, self.time_max())
        };
        let (outcome, other_account) = match other_end {
            OtherEnd::Stub => {
                let stub = Stub::start()?;
                let outcome = work(stub.address());
                // If the stub has something to say, the worker's complaint is only its consequence.
                let account = stub.finish()?;
                (outcome?, account)
            }
            OtherEnd::Server(server) => through(server, work, figure)?,
        };
        agree(&what, outcome.account, other_account)?;
        Ok(outcome)
    }

    fn time_max(&self) -> Duration {
        match self.length {
            Length::Messages(_) => GRACE,
            Length::Time(time) => time + GRACE,
        }
    }
}

/// Both ends must have seen the same.
fn agree(what: &str, worker: Account, other_end: Account) -> Result<(), BenchError> {
    if worker == other_end {
        return Ok(());
    }
    let (worker, other_end) = (Box::new(worker), Box::new(other_end));
    Err(BenchError::Mismatch { what: what.to_owned(), worker, other_end })
}

/// Measures through a server. What was published to nobody is counted by the server itself.
fn through(
    server: &NatsServer,
    work: impl FnOnce(SocketAddr) -> Result<Outcome, BenchError>,
    figure: Figure,
) -> Result<(Outcome, Account), BenchError> {
    let before = server.received()?;
    let driver = Driver::connect(server.address())?;
    let outcome = work(server.address());
    let mut account = driver.account();
    driver.finish()?;
    let outcome = outcome?;
    if figure.work() == Work::Publish {
        // A request and its answer are two messages to the server.
        let Tally { messages, bytes, .. } = account.echoed.plus(account.echoed);
        let received = server.received_since(before, outcome.account.swallowed.messages + messages)?;
        account.swallowed = Tally {
            messages: received.messages.saturating_sub(messages),
            bytes: received.bytes.saturating_sub(bytes),
            // The server counts and does not sum.
            stamps: outcome.account.swallowed.stamps,
        };
    }
    Ok((outcome, account))
}

/// Runs this program again as a worker and reads its report.
fn run_worker(assignment: Assignment, what: &str, time_max: Duration) -> Result<Outcome, BenchError> {
    let program = env::current_exe().map_err(BenchError::io("find this program"))?;
    let mut worker = Command::new(program)
        .arg(WORKER_COMMAND)
        .args(assignment.to_arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BenchError::io("start a worker"))?;
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
    // A report is far smaller than a pipe, so the worker never had to wait for this.
    let mut report = String::new();
    if let Some(mut output) = worker.stdout.take() {
        output.read_to_string(&mut report).map_err(BenchError::io("read a worker's report"))?;
    }
    serde_json::from_str(&report).map_err(|source| BenchError::WorkerReport {
        what: what.to_owned(),
        report,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_count_differently_fail_the_run() {
        let account = |messages| Account { flooded: Tally::of_first(messages, 16), ..Account::default() };
        assert!(agree("a figure", account(5), account(5)).is_ok());
        let error = agree("a figure", account(5), account(4)).unwrap_err();
        assert!(matches!(error, BenchError::Mismatch { .. }), "{error}");
    }
}
