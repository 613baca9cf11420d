//! What a run of registry may be told.

use std::time::Duration;

use super::*;
use crate::fault::NodeFault;

/// How a run of registry is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RegistryOptions {
    /// Changes a second, over all nodes.
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) nodes: usize,
    pub(crate) processes: usize,
    /// Services of each node before the first change.
    pub(crate) entries: usize,
    pub(crate) clusters: usize,
    pub(crate) shards: usize,
    /// After the measured phase, their times counted from there.
    pub(crate) faults: Vec<NodeFault>,
    pub(crate) output: OutputOptions,
    given_faults: GivenFaults,
}

/// Each pair of nodes has a connection, with two ends in the proxy, which has a thousand files like any process.
const PARTITION_NODES_MAX: usize = 24;

/// Long enough for every node to find the silent one down.
const DEFAULT_FREEZE: Duration = Duration::from_secs(5);

impl RegistryOptions {
    pub(crate) const SCENARIO: &'static str = "registry";

    /// What `--help` says above the options.
    pub(crate) const ABOUT: &'static str = "\
registry: nodes in several processes add, update and remove services at a fixed rate, and each
watches all the others; then one process is killed and restarted, and one stands still.";

    pub(crate) const ROWS: &'static [OptionRow] = &[
        OptionRow::new("--rate", "RATE", "changes a second, all nodes together", "500"),
        OptionRow::new("--registry-nodes", "COUNT", "nodes n1, n2, ..", "3"),
        OptionRow::new("--processes", "COUNT", "processes; node n is in number (n-1) mod COUNT", "2"),
        OptionRow::new("--entries", "COUNT", "services of each node that stay; 64 more change", "1k"),
        OptionRow::new("--clusters", "COUNT", "local NATS clusters, one server each", "1"),
        OptionRow::new("--shards", "COUNT", "shards of each node", "1"),
        OptionRow::new(
            "--fault",
            "'TIME kill NODE', 'TIME freeze NODE TIME', 'TIME partition n1|n2 TIME', none",
            "to the process of a node, or between the processes of two; after the\n\
             measured phase and from there on, one after the other; may be repeated",
            "1s kill nP, 1s freeze nP 5s",
        ),
    ];
}

impl Default for RegistryOptions {
    /// Without the faults, which depend on the nodes: [`Options::complete`] adds them.
    fn default() -> Self {
        Self {
            rate: Rate::of(500),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            nodes: 3,
            processes: 2,
            entries: 1_000,
            clusters: 1,
            shards: 1,
            faults: Vec::new(),
            output: OutputOptions::default(),
            given_faults: GivenFaults::default(),
        }
    }
}

impl Options for RegistryOptions {
    fn scenario(&self) -> &'static str {
        Self::SCENARIO
    }

    fn rows(&self) -> &'static [OptionRow] {
        Self::ROWS
    }

    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError> {
        match option {
            "--rate" => self.rate = Rate::parse(given)?,
            "--warmup" => self.warmup = warmup(given)?,
            "--duration" => self.duration = duration(given)?,
            "--registry-nodes" => self.nodes = parse_count(given, 2..=NODES_MAX)? as usize,
            "--processes" => self.processes = count(given, PROCESSES_MAX)?,
            "--entries" => self.entries = parse_count(given, 0..=ENTRIES_MAX)? as usize,
            "--clusters" => self.clusters = count(given, CLUSTERS_MAX)?,
            "--shards" => self.shards = count(given, SHARDS_MAX)?,
            "--fault" => self.given_faults.add(given)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn output_mut(&mut self) -> &mut OutputOptions {
        &mut self.output
    }

    fn told(&self) -> serde_json::Result<(Value, usize)> {
        Ok((serde_json::to_value(crate::registry::ArgumentsReport::of(self))?, self.faults.len()))
    }

    fn measures(&self) -> &'static Measures {
        &crate::registry::MEASURES
    }

    fn complete(&mut self) -> Result<(), AtFault> {
        check_remembered(self.rate, self.warmup, self.duration)?;
        if self.processes > self.nodes {
            let reason = format!("more processes than the {} nodes", self.nodes);
            return Err(("--processes", self.processes.to_string(), QuantityError::NotTogether { reason }));
        }
        self.faults = self.given_faults.read_nodes(self.nodes)?.unwrap_or_else(|| {
            // The last process has the fewest nodes, and the last of them is its first's number.
            let at = Duration::from_secs(1);
            let node = self.processes;
            match self.processes {
                1 => Vec::new(),
                _ => [Act::Kill, Act::Freeze(DEFAULT_FREEZE)]
                    .map(|act| NodeFault::OfProcess(Fault { at, act, node }))
                    .into(),
            }
        });
        if self.processes == 1 && !self.faults.is_empty() {
            let reason = "with one process nobody is left to see a fault".to_owned();
            return Err(("--processes", "1".to_owned(), QuantityError::NotTogether { reason }));
        }
        self.check_partitions()
    }
}

impl RegistryOptions {
    fn check_partitions(&self) -> Result<(), AtFault> {
        let is_kill = |fault: &NodeFault| matches!(fault, NodeFault::OfProcess(Fault { act: Act::Kill, .. }));
        for fault in &self.faults {
            let NodeFault::Partition(partition) = fault else { continue };
            let [one, other] = partition.nodes;
            let reason = if (one - 1) % self.processes == (other - 1) % self.processes {
                format!("n{one} and n{other} are in one process; with more --processes they are apart")
            } else if self.faults.iter().any(is_kill) {
                "in one run with a kill: the proxy between the nodes takes connections for the dead one, \
                 which is found gone later than it would be"
                    .to_owned()
            } else if self.nodes > PARTITION_NODES_MAX {
                format!("the way between more than {PARTITION_NODES_MAX} nodes is too much for the proxy")
            } else {
                continue;
            };
            return Err(("--fault", fault.name(), QuantityError::NotTogether { reason }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::parse_line;
    use crate::cli::{self, Command};
    use crate::fault::Partition;
    use std::ffi::OsString;

    #[test]
    fn the_registry_hears_its_options_and_has_its_faults() {
        let second = Duration::from_secs;
        let plain = registry("run registry");
        assert_eq!((plain.nodes, plain.processes, plain.entries), (3, 2, 1_000));
        let of_last = |act| NodeFault::OfProcess(Fault { at: second(1), act, node: 2 });
        assert_eq!(plain.faults, [of_last(Act::Kill), of_last(Act::Freeze(second(5)))]);
        let given = registry(
            "run registry --rate 2k --registry-nodes 5 --processes 4 --entries 10k --clusters 2 --shards 2 \
             --warmup 1s --duration 3s --fault none --json -",
        );
        assert_eq!((given.rate, given.nodes, given.processes), (Rate::of(2_000), 5, 4));
        assert_eq!((given.entries, given.clusters, given.shards), (10_000, 2, 2));
        assert_eq!((given.warmup, given.duration), (second(1), second(3)));
        assert_eq!((given.faults, given.output.json), (Vec::new(), Some(JsonTarget::Stdout)));
        assert_eq!(registry("run registry --processes 1").faults, []);
    }

    fn with_faults(line: &str, faults: &[&str]) -> Result<Command, String> {
        let words = line.split(' ').chain(faults.iter().flat_map(|fault| ["--fault", fault]));
        cli::parse(words.map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn faults_may_be_repeated_and_come_in_the_order_of_their_times() {
        let given = ["6s freeze n3 5s", "3s freeze n2 1s", "4s partition n1|n2 2s"];
        let Ok(Command::RunRegistry(options)) = with_faults("run registry", &given) else {
            panic!("refused")
        };
        let second = Duration::from_secs;
        let expected = [
            NodeFault::OfProcess(Fault { at: second(3), act: Act::Freeze(second(1)), node: 2 }),
            NodeFault::Partition(Partition { at: second(4), nodes: [1, 2], length: second(2) }),
            NodeFault::OfProcess(Fault { at: second(6), act: Act::Freeze(second(5)), node: 3 }),
        ];
        assert_eq!(options.faults, expected);
    }

    #[test]
    fn what_cannot_be_parted_is_told_why() {
        let complaint = |line: &str, fault: &str| with_faults(line, &[fault]).expect_err(fault);
        let fault = "1s partition n1|n3 1s";
        assert!(complaint("run registry", fault).contains("n1 and n3 are in one process"));
        assert!(with_faults("run registry --processes 3", &[fault]).is_ok());
        let many = "run registry --registry-nodes 25 --processes 3";
        assert!(complaint(many, fault).contains("more than 24 nodes"));
        assert!(complaint("run registry --processes 1", "1s partition n1|n2 1s").contains("nobody is left"));
        let both = with_faults("run registry", &["1s partition n1|n2 1s", "3s kill n2"]);
        assert!(both.expect_err("refused").contains("found gone later"));
        assert!(complaint("run calls", "1s partition w1|w2 1s").contains("run registry"));
    }

    fn registry(line: &str) -> RegistryOptions {
        match parse_line(line) {
            Ok(Command::RunRegistry(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }
}
