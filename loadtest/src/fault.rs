//! Faults: of the processes of a run (`3s kill n2`, `6s freeze n3 5s`), here, and of its servers.

mod account;
mod detour;
mod error;
mod injector;
mod journal;
mod ledger;
mod notes;
mod partition;
mod report;
mod routes;
mod server;
mod timeline;
mod witness;

use std::time::Duration;

pub(crate) use self::account::{Account, Excused};
pub(crate) use self::detour::Detour;
pub(crate) use self::error::FaultError;
pub(crate) use self::injector::{Injector, monotonic_of};
pub(crate) use self::journal::{Journal, Pages};
pub(crate) use self::ledger::Ledger;
pub(crate) use self::partition::{NodeFault, Partition};
pub(crate) use self::report::FaultReport;
#[cfg(test)]
pub(crate) use self::report::tests::sample;
pub(crate) use self::routes::Routes;
pub(crate) use self::server::{ServerAct, ServerFault, ServerId};
pub(crate) use self::timeline::Timeline;
pub(crate) use self::witness::Witness;

use crate::quantity::{QuantityError, parse_duration};

/// What happens to the process of a node, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Not before this time; what it counts from is the scenario's affair.
    pub(crate) at: Duration,
    pub(crate) act: Act,
    /// The number of the node, from 1.
    pub(crate) node: usize,
}

/// What a process can suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL; it is started again afterwards.
    Kill,
    /// SIGSTOP, and SIGCONT after this time.
    Freeze(Duration),
}

/// Later than this nobody waits for.
const AT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The longest that a process stands still.
const FREEZE_MAX: Duration = Duration::from_secs(600);

/// Of the workers of run calls, which have no partitions; nodes have the example of [`NodeFault`].
const EXAMPLE: &str = "'3s kill w2' or '6s freeze w1 5s'";

impl Fault {
    /// Reads `<time> kill <node>` or `<time> freeze <node> <how long>`; nodes are called `letter` and a
    /// number from 1 to `nodes`.
    pub(crate) fn parse(text: &str, letter: char, nodes: usize) -> Result<Self, QuantityError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let wrong = || QuantityError::NotAFault { example: EXAMPLE };
        let (at, act, name) = match words[..] {
            [at, "kill", name] => (at, Act::Kill, name),
            [at, "freeze", name, length] => {
                (at, Act::Freeze(parse_duration(length, Duration::from_millis(1)..=FREEZE_MAX)?), name)
            }
            [_, "partition", ..] => return Err(FaultError::PartitionElsewhere.into()),
            _ => return Err(wrong()),
        };
        let node = node_number(name, letter, nodes)?;
        Ok(Self { at: parse_duration(at, Duration::ZERO..=AT_MAX)?, act, node })
    }

    /// As it is written, without its time; `letter` is before the node's number.
    pub(crate) fn name(&self, letter: char) -> String {
        match self.act {
            Act::Kill => format!("kill {letter}{}", self.node),
            Act::Freeze(length) => format!("freeze {letter}{} {length:?}", self.node),
        }
    }
}

/// The number of a node that is called `letter` and this number, from 1 to `nodes`.
fn node_number(name: &str, letter: char, nodes: usize) -> Result<usize, QuantityError> {
    let number = name.strip_prefix(letter).and_then(|number| number.parse::<usize>().ok());
    number.filter(|number| (1..=nodes).contains(number)).ok_or_else(|| QuantityError::NoSuchNode {
        given: name.to_owned(),
        first: format!("{letter}1"),
        last: format!("{letter}{nodes}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_a_time_an_act_and_a_node() {
        let at = Duration::from_secs;
        assert_eq!(Fault::parse("3s kill n2", 'n', 3), Ok(Fault { at: at(3), act: Act::Kill, node: 2 }));
        assert_eq!(
            Fault::parse(" 6s  freeze w1 5s ", 'w', 1),
            Ok(Fault { at: at(6), act: Act::Freeze(at(5)), node: 1 })
        );
        for name in ["kill n2", "freeze n1 5s"] {
            let fault = Fault::parse(&format!("0s {name}"), 'n', 2);
            assert_eq!(fault.map(|fault| fault.name('n')).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "kill n1",
            "3s kill",
            "3s kill n4",
            "3s kill n0",
            "3s kill w1",
            "3s kill n1 5s",
            "3s freeze n1",
            "3 kill n1",
            "3s stop n1",
            "3s freeze n1 11m",
            "3s kill n-1",
            "3s partition n1|n2 1s",
        ] {
            assert!(Fault::parse(text, 'n', 3).is_err(), "{text:?} was accepted");
        }
    }
}
