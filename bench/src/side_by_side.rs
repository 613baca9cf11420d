//! Clients beside each other: the same work in turn, each in a process of its own, several rounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::driver::Driver;
use crate::error::BenchError;
use crate::figure::{Figure, Via, Work};
use crate::nats_c::NatsC;
use crate::nats_server::NatsServer;
use crate::receiving::Length;
use crate::report::Row;
use crate::stub::Stub;
use crate::subprocess;
use crate::traffic::{Account, Tally};
use crate::worker::{Assignment, Client, Outcome, WORKER_COMMAND};

/// How long a worker may take beyond what it was told to.
const GRACE: Duration = Duration::from_secs(60);

/// How the sides are compared.
#[derive(Debug)]
pub struct Comparison {
    /// The clients beside [`Client::Croupier`].
    pub peers: Vec<Client>,
    /// What [`Client::NatsC`] needs.
    pub nats_c: Option<NatsC>,
    /// What [`Client::OtherBuild`] needs: that program.
    pub other_build: Option<PathBuf>,
    /// How often each side is measured, at least once.
    pub rounds: usize,
    /// How long each measured section is.
    pub length: Length,
}

/// What stands at the other end of all sides' connections.
#[derive(Debug)]
pub enum OtherEnd {
    /// A stub, a fresh one for each run.
    Stub,
    /// A server, with a fresh driver behind it for each run. Where it has a certificate, clients use it.
    Server(NatsServer),
}

impl OtherEnd {
    /// Which way that is.
    pub fn via(&self) -> Via {
        match self {
            Self::Stub => Via::Stub,
            Self::Server(server) if server.ca_file().is_some() => Via::Tls,
            Self::Server(_) => Via::Server,
        }
    }
}

impl Comparison {
    /// Measures one figure one way. The sides alternate, and so does which of them begins.
    ///
    /// # Errors
    /// The first thing that goes wrong on any side; ends that count differently are such a thing.
    pub fn measure(&self, figure: Figure, other_end: &OtherEnd) -> Result<Row, BenchError> {
        let clients = [Client::Croupier].into_iter().chain(self.peers.iter().copied());
        let mut sides: Vec<_> = clients
            .filter(|client| client.does(figure.work(), other_end.via()))
            .map(|client| (client, Vec::new()))
            .collect();
        for round in 0..self.rounds.max(1) {
            for turn in 0..sides.len() {
                let at = (turn + round) % sides.len();
                let (client, outcomes) = &mut sides[at];
                outcomes.push(self.run_once(*client, figure, other_end)?);
            }
        }
        Ok(Row::of(figure, other_end.via(), &sides))
    }

    fn run_once(&self, client: Client, figure: Figure, other_end: &OtherEnd) -> Result<Outcome, BenchError> {
        let what = format!("{client} {figure} via {}", other_end.via());
        let work = |address: SocketAddr, ca_file| {
            self.run_worker(&Assignment { client, figure, address, length: self.length, ca_file }, &what)
        };
        let (outcome, other_account) = match other_end {
            OtherEnd::Stub => {
                let stub = Stub::start()?;
                let outcome = work(stub.address(), None);
                // If the stub has something to say, the worker's complaint is only its consequence.
                let account = stub.finish()?;
                (outcome?, account)
            }
            OtherEnd::Server(server) => through(server, |address| work(address, server.ca_file()), figure)?,
        };
        agree(&what, outcome.account, other_account)?;
        Ok(outcome)
    }

    /// Runs the client's program as a worker and reads its report.
    fn run_worker(&self, assignment: &Assignment, what: &str) -> Result<Outcome, BenchError> {
        let command = match assignment.client {
            Client::NatsC => {
                let missing = || BenchError::client("nats.c")("is not there");
                self.nats_c.as_ref().ok_or_else(missing)?.command(assignment)
            }
            Client::OtherBuild => {
                let missing = || BenchError::client("another build")("is not named");
                let program = self.other_build.as_ref().ok_or_else(missing)?;
                worker(Command::new(program), &Assignment { client: Client::Croupier, ..assignment.clone() })
            }
            _ => worker(subprocess::this_program()?, assignment),
        };
        let time_max = match self.length {
            Length::Messages(_) => GRACE,
            Length::Time(time) => time + GRACE,
        };
        subprocess::report_of(command, what, time_max)
    }
}

fn worker(mut program: Command, assignment: &Assignment) -> Command {
    program.arg(WORKER_COMMAND).args(assignment.to_arguments());
    program
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
