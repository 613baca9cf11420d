//! Faults of servers as a person writes them: `3s kill c2/1`, `8s pause c1/1 500ms`.

use std::fmt;
use std::time::Duration;

use super::FaultError;
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
    /// Every byte between the clients and it is `by` later, in each direction, for a `length`.
    Delay { by: Duration, length: Duration },
    /// Its connections end in order (FIN).
    Cut,
    /// Its connections are reset (RST).
    Reset,
    /// Nothing passes between the clients and it for this time, and nobody is told.
    HalfOpen(Duration),
    /// Nothing passes between it and another server of its cluster for a `length`, and nobody is told.
    Partition {
        /// As in [`ServerId::node`].
        other: usize,
        length: Duration,
    },
}

/// Later than this nobody waits for.
const AT_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a fault may last.
const LENGTHS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

/// The longest detour of a byte.
const DELAYS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

const ACTS: [&str; 9] =
    ["kill", "restart", "pause", "lame-duck", "delay", "cut", "reset", "half-open", "partition"];
const KNOWN: &str = "kill, restart, pause, lame-duck, delay, cut, reset, half-open, partition";

impl ServerFault {
    /// Reads a time, what happens then, to which server, and for how long, as [`form`] has it; there are
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
            ["cut", server] => (ServerAct::Cut, server),
            ["reset", server] => (ServerAct::Reset, server),
            ["pause", server, length] => (ServerAct::Pause(parse_duration(length, LENGTHS)?), server),
            ["half-open", server, length] => (ServerAct::HalfOpen(parse_duration(length, LENGTHS)?), server),
            ["delay", server, by, length] => {
                let by = parse_duration(by, DELAYS)?;
                (ServerAct::Delay { by, length: parse_duration(length, LENGTHS)? }, server)
            }
            ["partition", pair, length] => {
                let (server, other) = parse_pair(pair, clusters, nodes)?;
                let act =
                    ServerAct::Partition { other: other.node, length: parse_duration(length, LENGTHS)? };
                return Ok(Self { at, act, server });
            }
            [act, ..] => return Err(not_so(act).into()),
            [] => return Err(FaultError::Form { act: "a fault", form: form("kill") }.into()),
        };
        Ok(Self { at, act, server: ServerId::parse(server, clusters, nodes)? })
    }

    /// Whether it goes on for a time, and ends by itself.
    pub(crate) fn lasts(&self) -> bool {
        match self.act {
            ServerAct::Pause(_)
            | ServerAct::Delay { .. }
            | ServerAct::HalfOpen(_)
            | ServerAct::Partition { .. } => true,
            ServerAct::Kill
            | ServerAct::Restart
            | ServerAct::LameDuck
            | ServerAct::Cut
            | ServerAct::Reset => false,
        }
    }

    /// Whether it happens between the clients and the server, in the proxy.
    pub(crate) fn is_on_the_way(&self) -> bool {
        match self.act {
            ServerAct::Delay { .. } | ServerAct::Cut | ServerAct::Reset | ServerAct::HalfOpen(_) => true,
            ServerAct::Kill
            | ServerAct::Restart
            | ServerAct::Pause(_)
            | ServerAct::LameDuck
            | ServerAct::Partition { .. } => false,
        }
    }
}

/// Two servers that have a way between them, and none around it.
fn parse_pair(pair: &str, clusters: usize, nodes: usize) -> Result<(ServerId, ServerId), FaultError> {
    if nodes != 2 {
        return Err(FaultError::Routes { fault: format!("partition {pair}") });
    }
    let (one, other) = pair.split_once('|').ok_or_else(|| not_so("partition"))?;
    let server = ServerId::parse(one, clusters, nodes)?;
    let other = ServerId::parse(other, clusters, nodes)?;
    if server.cluster != other.cluster || server.node == other.node {
        return Err(FaultError::NotApart { server: server.to_string() });
    }
    Ok((server, other))
}

fn not_so(given: &str) -> FaultError {
    match ACTS.into_iter().find(|act| *act == given) {
        Some(act) => FaultError::Form { act, form: form(act) },
        None => FaultError::UnknownAct { given: given.to_owned(), known: KNOWN },
    }
}

fn form(act: &str) -> &'static str {
    match act {
        "kill" => "3s kill c2/1",
        "restart" => "5s restart c2/1",
        "pause" => "8s pause c1/1 500ms",
        "lame-duck" => "9s lame-duck c1/1",
        "delay" => "3s delay c1/1 20ms 2s",
        "cut" => "3s cut c1/1",
        "reset" => "3s reset c1/1",
        "partition" => "9s partition c1/1|c1/2 2s",
        _ => "3s half-open c1/1 2s",
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
            ServerAct::Delay { by, length } => write!(f, "delay {server} {by:?} {length:?}"),
            ServerAct::Cut => write!(f, "cut {server}"),
            ServerAct::Reset => write!(f, "reset {server}"),
            ServerAct::HalfOpen(length) => write!(f, "half-open {server} {length:?}"),
            ServerAct::Partition { other, length } => {
                write!(f, "partition {server}|{} {length:?}", ServerId { node: other, ..server })
            }
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
            (ServerAct::Cut, "cut c2/1"),
            (ServerAct::Reset, "reset c2/1"),
            (ServerAct::HalfOpen(Duration::from_secs(2)), "half-open c2/1 2s"),
            (
                ServerAct::Delay { by: Duration::from_millis(20), length: Duration::from_secs(2) },
                "delay c2/1 20ms 2s",
            ),
        ] {
            let fault = ServerFault { at, act, server: C2 };
            assert_eq!(ServerFault::parse(&format!(" 3s  {text} "), 3, 1), Ok(fault), "{text}");
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn a_partition_is_between_the_two_servers_of_a_cluster() {
        let act = ServerAct::Partition { other: 0, length: Duration::from_secs(2) };
        let server = ServerId { cluster: 2, node: 1 };
        let fault = ServerFault { at: Duration::from_secs(9), act, server };
        assert_eq!(ServerFault::parse("9s partition c3/2|c3/1 2s", 3, 2), Ok(fault));
        assert_eq!(fault.to_string(), "partition c3/2|c3/1 2s");
        for (text, nodes, answer) in [
            ("9s partition c1/1|c1/2 2s", 1, "--nodes 2"),
            ("9s partition c1/1|c1/2 2s", 3, "ways around it"),
            ("9s partition n1|n2 2s", 1, "--nodes 2"),
            ("9s partition n1|n2 2s", 2, "there is no server n1"),
            ("9s partition c1/1 2s", 2, "'9s partition c1/1|c1/2 2s'"),
            ("9s partition c1/1|c1/2", 2, "'9s partition c1/1|c1/2 2s'"),
            ("9s partition c1/1|c2/2 2s", 2, "between c1/1 and itself, nor between servers of two"),
            ("9s partition c1/2|c1/2 2s", 2, "between c1/2 and itself"),
            ("9s partition c1/1|c1/2 0s", 2, "1ms"),
        ] {
            let error = ServerFault::parse(text, 3, nodes).expect_err(text).to_string();
            assert!(error.contains(answer), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_fault_is_told_what_to_write() {
        for (text, answer) in [
            ("", "begins with the time"),
            ("kill c2/1", "'3s kill c2/1'"),
            ("3 kill c2/1", "the unit is missing"),
            ("3s", "a fault is written as '3s kill c2/1'"),
            ("3s explode c2/1", "unknown fault \"explode\"; known: kill"),
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
            ("3s delay c1/1 2s", "'3s delay c1/1 20ms 2s'"),
            ("3s halfopen c1/1 2s", "did you mean half-open?"),
            ("3s cut c1/3", "there is no server c1/3"),
        ] {
            let error = ServerFault::parse(text, 3, 2).expect_err(text).to_string();
            assert!(error.contains(answer), "{text:?}: {error}");
        }
    }
}
