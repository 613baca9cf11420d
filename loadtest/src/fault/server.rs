//! Faults of servers as a person writes them: `3s kill c2/1`, `8s pause c1/1 500ms`.

use std::fmt;
use std::time::Duration;

use super::FaultError;
use crate::cli::nearest;
use crate::quantity::{QuantityError, parse_duration};

/// What happens to a server, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerFault {
    /// From the start of the measured phase.
    pub(crate) at: Duration,
    pub(crate) act: ServerAct,
    pub(crate) server: ServerId,
}

/// A server of the run's own, written `c2/1`: the first of the second cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerId {
    /// From 0.
    pub(crate) cluster: usize,
    /// From 0.
    pub(crate) node: usize,
}

/// What a server can suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerAct {
    /// SIGKILL.
    Kill,
    /// Starts again on its port; one that runs is killed first.
    Restart,
    /// SIGSTOP, and SIGCONT after this time.
    Pause(Duration),
    /// It is told to go away in order (`nats-server --signal ldm`).
    LameDuck,
}

/// Later than this nobody waits for.
const AT_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a fault may last.
const LENGTHS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

const ACTS: [&str; 4] = ["kill", "restart", "pause", "lame-duck"];
const KNOWN: &str = "kill, restart, pause, lame-duck";

impl ServerFault {
    /// Reads `<time> kill|restart|lame-duck <server>` or `<time> pause <server> <how long>`; there are
    /// `clusters` clusters of `nodes` servers.
    pub(crate) fn parse(text: &str, clusters: usize, nodes: usize) -> Result<Self, QuantityError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let no_time = || FaultError::NoTime { given: text.trim().to_owned() };
        let (at, rest) = words.split_first().ok_or_else(no_time)?;
        if !at.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(no_time().into());
        }
        let at = parse_duration(at, Duration::ZERO..=AT_MAX)?;
        let (act, server) = match rest {
            ["kill", server] => (ServerAct::Kill, server),
            ["restart", server] => (ServerAct::Restart, server),
            ["lame-duck", server] => (ServerAct::LameDuck, server),
            ["pause", server, length] => (ServerAct::Pause(parse_duration(length, LENGTHS)?), server),
            [act, ..] => return Err(not_so(act).into()),
            [] => return Err(not_so("").into()),
        };
        Ok(Self { at, act, server: ServerId::parse(server, clusters, nodes)? })
    }
}

fn not_so(given: &str) -> FaultError {
    match ACTS.into_iter().find(|act| *act == given) {
        Some(act) => FaultError::Form { act, form: form(act) },
        None => {
            FaultError::UnknownAct { given: given.to_owned(), nearest: nearest(given, ACTS), known: KNOWN }
        }
    }
}

fn form(act: &str) -> &'static str {
    match act {
        "kill" => "3s kill c2/1",
        "restart" => "5s restart c2/1",
        "pause" => "8s pause c1/1 500ms",
        _ => "9s lame-duck c1/1",
    }
}

impl ServerId {
    fn parse(given: &str, clusters: usize, nodes: usize) -> Result<Self, FaultError> {
        let read = || {
            let (cluster, node) = given.strip_prefix('c')?.split_once('/')?;
            let number = |text: &str, most: usize| {
                let number = text.parse::<usize>().ok()?;
                (1..=most).contains(&number).then(|| number - 1)
            };
            Some(Self { cluster: number(cluster, clusters)?, node: number(node, nodes)? })
        };
        read().ok_or_else(|| FaultError::NoSuchServer { given: given.to_owned(), clusters, nodes })
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}/{}", self.cluster + 1, self.node + 1)
    }
}

/// As it is written, without its time.
impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server;
        match self.act {
            ServerAct::Kill => write!(f, "kill {server}"),
            ServerAct::Restart => write!(f, "restart {server}"),
            ServerAct::Pause(length) => write!(f, "pause {server} {length:?}"),
            ServerAct::LameDuck => write!(f, "lame-duck {server}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C2: ServerId = ServerId { cluster: 1, node: 0 };

    #[test]
    fn faults_are_a_time_an_act_and_a_server() {
        let at = Duration::from_secs(3);
        for (act, text) in [
            (ServerAct::Kill, "kill c2/1"),
            (ServerAct::Restart, "restart c2/1"),
            (ServerAct::Pause(Duration::from_millis(500)), "pause c2/1 500ms"),
            (ServerAct::LameDuck, "lame-duck c2/1"),
        ] {
            let fault = ServerFault { at, act, server: C2 };
            assert_eq!(ServerFault::parse(&format!(" 3s  {text} "), 3, 1), Ok(fault), "{text}");
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_fault_is_told_what_to_write() {
        for (text, answer) in [
            ("", "begins with the time"),
            ("kill c2/1", "'3s kill c2/1'"),
            ("3 kill c2/1", "the unit is missing"),
            ("3s", "did you mean kill?"),
            ("3s kil c2/1", "did you mean kill?"),
            ("3s restrat c2/1", "did you mean restart?"),
            ("3s lameduck c2/1", "did you mean lame-duck?"),
            ("3s freeze c2/1 1s", "known: kill, restart, pause"),
            ("3s kill", "'3s kill c2/1'"),
            ("3s kill c2/1 5s", "'3s kill c2/1'"),
            ("3s pause c2/1", "'8s pause c1/1 500ms'"),
            ("3s pause c2/1 0s", "1ms"),
            ("3s kill c4/1", "there are c1/1 to c3/2"),
            ("3s kill c1/3", "there are c1/1 to c3/2"),
            ("3s kill c0/1", "there is no server c0/1"),
            ("3s kill c1", "there is no server c1;"),
            ("3s kill n1", "there is no server n1"),
            ("3s kill c1/-1", "there is no server"),
        ] {
            let error = ServerFault::parse(text, 3, 2).expect_err(text).to_string();
            assert!(error.contains(answer), "{text:?}: {error}");
        }
    }
}
