//! What can go wrong in a measurement, sorted by whose fault it is.

use std::io;
use std::process::ExitStatus;

use crate::traffic::Account;
use crate::wire::WireError;

/// Why a measurement has no result. None of these leaves a process or a thread behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// The other side of the stub or of the driver broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A client could not do its work.
    #[error("{client}: {reason}")]
    Client {
        /// The client's name.
        client: &'static str,
        /// What it said.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A worker process ended without success; what it wrote to its standard error stands above.
    #[error("the worker for {what} ended with {status}")]
    WorkerFailed {
        /// Client, figure and way.
        what: String,
        /// How the process ended.
        status: ExitStatus,
    },
    /// A worker process did not finish in time and was ended.
    #[error("the worker for {what} did not finish within {seconds} s")]
    WorkerSilent {
        /// Client, figure and way.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A worker reported something that cannot be read.
    #[error("the worker for {what} reported {report:?}: {source}")]
    WorkerReport {
        /// Client, figure and way.
        what: String,
        /// The report as it came.
        report: String,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// An echo that is not what was sent.
    #[error("request {number} was answered with something else")]
    WrongEcho {
        /// The request's number.
        number: u64,
    },
    /// The two ends of a measurement did not count the same.
    #[error("{what}: the worker counts {worker:?}, the other end {other_end:?}")]
    Mismatch {
        /// Client, figure and way.
        what: String,
        /// What the worker counted.
        worker: Box<Account>,
        /// What the stub, the driver or the server counted.
        other_end: Box<Account>,
    },
    /// The local nats-server could not be started or asked.
    #[error("nats-server: {reason}")]
    Server {
        /// What is the matter, and what to do.
        reason: String,
    },
}

impl BenchError {
    /// For `map_err`: an I/O error with what was being done.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: whatever a client says, under its name.
    pub fn client<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        client: &'static str,
    ) -> impl Fn(E) -> Self {
        move |reason| Self::Client { client, reason: reason.into() }
    }
}
