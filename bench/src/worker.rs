//! One client doing one figure's work once, in a process of its own, and what it reports.
//!
//! The process is this program again with [`WORKER_COMMAND`] as its first argument, or the one of
//! [`crate::nats_c`]. It writes one line of JSON, an [`Outcome`], to its standard output.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::figure::{Figure, Via, Work};
use crate::receiving::Length;
use crate::statistics::Spread;
use crate::traffic::Account;
use crate::usage::Meter;
use crate::{async_nats_client, croupier_client};

/// The hidden first argument that makes this program a worker.
pub const WORKER_COMMAND: &str = "worker";

/// What precedes every measured section, on the same connection.
pub const WARM_UP: Length = Length::Time(Duration::from_millis(100));

/// Whose client is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Ours, on one shard.
    Croupier,
    /// Ours, on one shard that polls for [`croupier_client::SPIN`] before it parks.
    CroupierSpinning,
    /// async-nats on tokio's current-thread runtime, where it costs least.
    AsyncNats,
    /// async-nats on tokio's multi-thread runtime with two workers.
    AsyncNatsTwoThreads,
    /// nats.c, where its header and library are installed.
    NatsC,
    /// Ours, as another build of this program has it.
    OtherBuild,
}

impl Client {
    /// Every client, in the order in which they are printed.
    pub const ALL: [Self; 6] = [
        Self::Croupier,
        Self::CroupierSpinning,
        Self::AsyncNats,
        Self::AsyncNatsTwoThreads,
        Self::NatsC,
        Self::OtherBuild,
    ];

    /// The name in the tables and the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Croupier => "croupier",
            Self::CroupierSpinning => "croupier-spin",
            Self::AsyncNats => "async-nats",
            Self::AsyncNatsTwoThreads => "async-nats-two-threads",
            Self::NatsC => "nats.c",
            Self::OtherBuild => "croupier-other-build",
        }
    }

    /// Whether this client is measured at this work, this way.
    pub fn does(self, work: Work, via: Via) -> bool {
        match self {
            // To poll busily is for who waits for single answers.
            Self::CroupierSpinning => work == Work::Request { in_flight: 1 },
            // It takes a server that accepts connections in the clear, which the driver's is, for one without TLS.
            Self::NatsC => via != Via::Tls,
            _ => true,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a worker is told to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// With whose client.
    pub client: Client,
    /// What.
    pub figure: Figure,
    /// Against what stands there.
    pub address: SocketAddr,
    /// For how long.
    pub length: Length,
    /// Whom to trust, where the connection is to be encrypted.
    pub ca_file: Option<PathBuf>,
}

/// An argument of the hidden worker command that is not there or not readable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker's {what} is missing or unreadable: {value:?}")]
pub struct BadAssignment {
    what: &'static str,
    value: Option<String>,
}

impl Assignment {
    /// The arguments after [`WORKER_COMMAND`].
    pub fn to_arguments(&self) -> Vec<String> {
        let Self { client, figure, address, length, ca_file } = self;
        let mut arguments =
            vec![client.to_string(), figure.to_string(), address.to_string(), length.to_string()];
        // Our own temporary folder has a name that is text.
        arguments.extend(ca_file.iter().map(|path| path.display().to_string()));
        arguments
    }

    /// Reads them back.
    ///
    /// # Errors
    /// Naming the first that cannot be read.
    pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Self, BadAssignment> {
        let mut arguments = arguments.into_iter();
        let mut next = |what| {
            let value = arguments.next();
            value.ok_or(BadAssignment { what, value: None })
        };
        Ok(Self {
            client: parse_client(next("client")?)?,
            figure: parse("figure", next("figure")?)?,
            address: parse("address", next("address")?)?,
            length: parse_length(next("length")?)?,
            ca_file: arguments.next().map(PathBuf::from),
        })
    }
}

fn parse<T: FromStr>(what: &'static str, value: String) -> Result<T, BadAssignment> {
    value.parse().map_err(|_| BadAssignment { what, value: Some(value) })
}

fn parse_client(value: String) -> Result<Client, BadAssignment> {
    let known = Client::ALL.into_iter().find(|client| client.name() == value);
    known.ok_or(BadAssignment { what: "client", value: Some(value) })
}

fn parse_length(value: String) -> Result<Length, BadAssignment> {
    let messages = value.strip_suffix('m').and_then(|number| number.parse().ok()).map(Length::Messages);
    let time = || value.strip_suffix("us")?.parse().ok().map(Duration::from_micros).map(Length::Time);
    messages.or_else(time).ok_or(BadAssignment { what: "length", value: Some(value) })
}

/// What a worker reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages or requests of the measured section.
    pub messages: u64,
    /// CPU time of the worker process in the measured section.
    pub cpu_us: f64,
    /// Time by the wall of the measured section.
    pub wall_us: f64,
    /// Median round trip of single requests; nothing for other work.
    pub round_trip_p50_us: Option<f64>,
    /// Everything that passed, warm-up and all, as the client counted it.
    pub account: Account,
}

impl Outcome {
    /// Closes the measured section.
    pub fn new(messages: u64, meter: &Meter, account: Account) -> Self {
        let (cpu, wall) = (meter.cpu(), meter.wall());
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        Self { messages, cpu_us: us(cpu), wall_us: us(wall), round_trip_p50_us: None, account }
    }

    /// Adds the median of these round trips.
    #[must_use]
    pub fn with_round_trips(self, round_trips: &[Duration]) -> Self {
        let spread = Spread::of(round_trips.iter().map(|time| time.as_secs_f64() * 1e6));
        Self { round_trip_p50_us: spread.map(|spread| spread.median), ..self }
    }

    /// CPU time of one message, in microseconds.
    pub fn cpu_us_per_message(&self) -> f64 {
        self.cpu_us / self.messages as f64
    }

    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.wall_us * 1e6
    }
}

/// Does the work in this process.
///
/// # Errors
/// What the client meets.
pub fn run(assignment: Assignment) -> Result<Outcome, BenchError> {
    match assignment.client {
        Client::Croupier => croupier_client::run(&assignment, Duration::ZERO),
        Client::CroupierSpinning => croupier_client::run(&assignment, croupier_client::SPIN),
        Client::AsyncNats => async_nats_client::run(assignment, async_nats_client::Threads::One),
        Client::AsyncNatsTwoThreads => async_nats_client::run(assignment, async_nats_client::Threads::Two),
        Client::NatsC | Client::OtherBuild => {
            Err(BenchError::client(assignment.client.name())("is a program of its own"))
        }
    }
}

/// Round trips are kept only where requests go one at a time; elsewhere reading the clock twice would be a
/// good part of the figure.
pub(crate) fn keeps_round_trips(figure: Figure) -> bool {
    figure.work() == Work::Request { in_flight: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Tally;

    #[test]
    fn an_assignment_survives_the_command_line() {
        for client in Client::ALL {
            for length in [Length::Messages(7), Length::Time(Duration::from_millis(1500))] {
                for figure in Figure::ALL {
                    for ca_file in [None, Some(PathBuf::from("ca.pem"))] {
                        let address = ([127, 0, 0, 1], 4222).into();
                        let assignment = Assignment { client, figure, address, length, ca_file };
                        assert_eq!(Assignment::from_arguments(assignment.to_arguments()), Ok(assignment));
                    }
                }
            }
        }
    }

    #[test]
    fn a_broken_assignment_names_what_is_broken() {
        let check = |arguments: &[&str], what: &str| {
            let error = Assignment::from_arguments(arguments.iter().map(ToString::to_string)).unwrap_err();
            assert_eq!(error.what, what, "{arguments:?}");
        };
        check(&[], "client");
        check(&["nobody"], "client");
        check(&["croupier", "publish_17"], "figure");
        check(&["croupier", "publish_16", "127.0.0.1"], "address");
        check(&["croupier", "publish_16", "127.0.0.1:1", "7"], "length");
    }

    #[test]
    fn an_outcome_survives_the_pipe() {
        let account = Account { flooded: Tally::of_first(3, 16), ..Account::default() };
        let outcome =
            Outcome { messages: 3, cpu_us: 1.5, wall_us: 6.0, round_trip_p50_us: Some(1.25), account };
        let line = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&line).unwrap(), outcome);
        assert_eq!(outcome.cpu_us_per_message(), 0.5);
        assert_eq!(outcome.rate(), 500_000.0);
    }
}
