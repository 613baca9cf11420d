//! Faults of the nodes of a registry run: of a process, or of what is between two: `9s partition n1|n2 2s`.

use std::time::Duration;

use super::{AT_MAX, FREEZE_MAX, Fault, node_number};
use crate::quantity::{QuantityError, parse_duration};

/// What a run of registry can suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeFault {
    OfProcess(Fault),
    Partition(Partition),
}

/// Nothing passes between two nodes, and nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Not before this time.
    pub(crate) at: Duration,
    /// Their numbers, from 1.
    pub(crate) nodes: [usize; 2],
    pub(crate) length: Duration,
}

const EXAMPLE: &str = "'3s kill n2', '6s freeze n3 5s' or '9s partition n1|n2 2s'";

impl NodeFault {
    /// Reads what [`Fault::parse`] does, and `<time> partition <node>|<node> <how long>`; nodes are called `n` and a
    /// number from 1 to `nodes`.
    pub(crate) fn parse(text: &str, nodes: usize) -> Result<Self, QuantityError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [at, "partition", rest @ ..] = &words[..] else {
            return Fault::parse(text, 'n', nodes).map(Self::OfProcess).map_err(|error| match error {
                QuantityError::NotAFault { .. } => QuantityError::NotAFault { example: EXAMPLE },
                other => other,
            });
        };
        let wrong = QuantityError::NotAFault { example: EXAMPLE };
        let [pair, length] = rest else { return Err(wrong) };
        let (one, other) = pair.split_once('|').ok_or(wrong)?;
        let nodes = [node_number(one, 'n', nodes)?, node_number(other, 'n', nodes)?];
        if nodes[0] == nodes[1] {
            let reason = format!("there is nothing between {one} and itself");
            return Err(QuantityError::NotTogether { reason });
        }
        Ok(Self::Partition(Partition {
            at: parse_duration(at, Duration::ZERO..=AT_MAX)?,
            nodes,
            length: parse_duration(length, Duration::from_millis(1)..=FREEZE_MAX)?,
        }))
    }

    pub(crate) fn at(&self) -> Duration {
        match self {
            Self::OfProcess(fault) => fault.at,
            Self::Partition(partition) => partition.at,
        }
    }

    /// As it is written, without its time.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::OfProcess(fault) => fault.name('n'),
            Self::Partition(Partition { nodes: [one, other], length, .. }) => {
                format!("partition n{one}|n{other} {length:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Act;
    use super::*;

    #[test]
    fn a_partition_is_between_two_nodes_for_a_time() {
        let at = Duration::from_secs;
        let partition = Partition { at: at(9), nodes: [1, 3], length: at(2) };
        assert_eq!(NodeFault::parse(" 9s partition n1|n3  2s", 3), Ok(NodeFault::Partition(partition)));
        let kill = Fault { at: at(3), act: Act::Kill, node: 2 };
        assert_eq!(NodeFault::parse("3s kill n2", 3), Ok(NodeFault::OfProcess(kill)));
        for name in ["partition n2|n1 500ms", "freeze n1 5s"] {
            let fault = NodeFault::parse(&format!("0s {name}"), 2).expect(name);
            assert_eq!((fault.name().as_str(), fault.at()), (name, Duration::ZERO));
        }
    }

    #[test]
    fn what_is_no_partition_is_told_what_to_write() {
        for (text, answer) in [
            ("3s partition", "'9s partition n1|n2 2s'"),
            ("3s partition n1|n2", "'9s partition n1|n2 2s'"),
            ("3s partition n1 n2 2s", "'9s partition n1|n2 2s'"),
            ("3s partition n1 2s", "'9s partition n1|n2 2s'"),
            ("3s partition n1|n4 2s", "there are n1 to n3"),
            ("3s partition n1|w2 2s", "there are n1 to n3"),
            ("3s partition c1/1|c1/2 2s", "there are n1 to n3"),
            ("3s partition n1|n2|n3 2s", "there are n1 to n3"),
            ("3s partition n2|n2 2s", "between n2 and itself"),
            ("3s partition n1|n2 0s", "1ms"),
            ("partition n1|n2 2s", "'9s partition n1|n2 2s'"),
            ("3s partiton n1|n2 2s", "'9s partition n1|n2 2s'"),
        ] {
            let error = NodeFault::parse(text, 3).expect_err(text).to_string();
            assert!(error.contains(answer), "{text:?}: {error}");
        }
    }
}
