//! What a run of registry may be told.

use std::time::Duration;

use super::*;

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
    pub(crate) faults: Vec<Fault>,
    pub(crate) output: OutputOptions,
    given_faults: GivenFaults,
}

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
        OptionRow::new("--entries", "COUNT", "services of each node before the first change", "1000"),
        OptionRow::new("--clusters", "COUNT", "local gnatsd clusters, one server each", "1"),
        OptionRow::new("--shards", "COUNT", "shards of each node", "1"),
        OptionRow::new(
            "--fault",
            "'TIME kill NODE', --fault 'TIME freeze NODE TIME', --fault none",
            "to the process of a node, after the measured phase and from there on,\none after the other; may be repeated",
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

    fn measures(&self) -> &'static Measures {
        &crate::registry::MEASURES
    }

    fn complete(&mut self) -> Result<(), AtFault> {
        check_remembered(self.rate, self.warmup, self.duration)?;
        if self.processes > self.nodes {
            let reason = format!("more processes than the {} nodes", self.nodes);
            return Err(("--processes", self.processes.to_string(), QuantityError::NotTogether { reason }));
        }
        self.faults = self.given_faults.read('n', self.nodes)?.unwrap_or_else(|| {
            // The last process has the fewest nodes, and the last of them is its first's number.
            let at = Duration::from_secs(1);
            let node = self.processes;
            match self.processes {
                1 => Vec::new(),
                _ => [Act::Kill, Act::Freeze(DEFAULT_FREEZE)].map(|act| Fault { at, act, node }).into(),
            }
        });
        if self.processes == 1 && !self.faults.is_empty() {
            let reason = "with one process nobody is left to see a fault".to_owned();
            return Err(("--processes", "1".to_owned(), QuantityError::NotTogether { reason }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::parse_line;
    use crate::cli::{self, Command};
    use std::ffi::OsString;

    #[test]
    fn the_registry_hears_its_options_and_has_its_faults() {
        let second = Duration::from_secs;
        let plain = registry("run registry");
        assert_eq!((plain.nodes, plain.processes, plain.entries), (3, 2, 1_000));
        let of_last = |act| Fault { at: second(1), act, node: 2 };
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

    #[test]
    fn faults_may_be_repeated_and_come_in_the_order_of_their_times() {
        let words = ["run", "registry", "--fault", "6s freeze n3 5s", "--fault", "3s kill n2"];
        let Ok(Command::RunRegistry(options)) = cli::parse(words.map(OsString::from)) else {
            panic!("refused")
        };
        let second = Duration::from_secs;
        let expected = [
            Fault { at: second(3), act: Act::Kill, node: 2 },
            Fault { at: second(6), act: Act::Freeze(second(5)), node: 3 },
        ];
        assert_eq!(options.faults, expected);
    }

    fn registry(line: &str) -> RegistryOptions {
        match parse_line(line) {
            Ok(Command::RunRegistry(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }
}
