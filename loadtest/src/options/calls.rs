//! What a run of calls may be told.

use std::time::Duration;

use super::*;

/// How a run of calls is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallsOptions {
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Instances of the service, over all processes.
    pub(crate) workers: usize,
    pub(crate) processes: usize,
    pub(crate) keys: KeyChoice,
    pub(crate) key_count: usize,
    pub(crate) size: Size,
    /// Between two comings or goings of an instance in each process; zero: none.
    pub(crate) churn: Duration,
    pub(crate) timeout: Duration,
    pub(crate) clusters: usize,
    pub(crate) seed: u64,
    /// In the measured phase, their times counted from its start.
    pub(crate) faults: Vec<Fault>,
    pub(crate) output: OutputOptions,
    given_faults: GivenFaults,
}

impl CallsOptions {
    pub(crate) const SCENARIO: &'static str = "calls";

    /// What `--help` says above the options.
    pub(crate) const ABOUT: &'static str = "\
calls: instances of a service in several processes answer calls by key, come and go, and one
process is killed in the middle; every call is checked against what was executed.";

    pub(crate) const ROWS: &'static [OptionRow] = &[
        OptionRow::new("--rate", "RATE", "calls a second", "1k"),
        OptionRow::new("--workers", "COUNT", "instances, all processes together", "4"),
        OptionRow::new("--processes", "COUNT", "processes w1, w2, ..", "2"),
        OptionRow::new("--keys", "CHOICE", "uniform, or zipf:1.1", "uniform"),
        OptionRow::new("--key-count", "COUNT", "keys", "10k"),
        OptionRow::new("--size", "BYTES", "payload, or a range", "128"),
        OptionRow::new("--churn", "TIME", "between two comings or goings in each process; 0s: none", "1s"),
        OptionRow::new("--timeout", "TIME", "of each call", "1s"),
        OptionRow::new("--clusters", "COUNT", "local NATS clusters, one server each", "1"),
        OptionRow::new("--seed", "NUMBER", "keys and sizes follow from it", "42"),
        OptionRow::new(
            "--fault",
            "'TIME kill PROCESS', 'TIME freeze PROCESS TIME', none",
            "to w1, w2, ..; so long after the start of the measured phase; may be\nrepeated",
            "in its middle, kill wP",
        ),
    ];
}

impl Default for CallsOptions {
    /// Without the faults, which depend on the processes: [`Options::complete`] adds them.
    fn default() -> Self {
        Self {
            rate: Rate::of(1_000),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            workers: 4,
            processes: 2,
            keys: KeyChoice::Uniform,
            key_count: 10_000,
            size: Size { smallest_bytes: 128, largest_bytes: 128 },
            churn: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            clusters: 1,
            seed: 42,
            faults: Vec::new(),
            output: OutputOptions::default(),
            given_faults: GivenFaults::default(),
        }
    }
}

impl Options for CallsOptions {
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
            "--workers" => self.workers = count(given, WORKERS_MAX)?,
            "--processes" => self.processes = parse_count(given, 2..=PROCESSES_MAX)? as usize,
            "--keys" => self.keys = KeyChoice::parse(given)?,
            "--key-count" => self.key_count = count(given, KEY_COUNT_MAX)?,
            "--size" => self.size = Size::parse(given, SIZE_BYTES)?,
            "--churn" => self.churn = warmup(given)?,
            "--timeout" => self.timeout = parse_duration(given, TIMEOUT)?,
            "--clusters" => self.clusters = count(given, CLUSTERS_MAX)?,
            "--seed" => self.seed = parse_count(given, 0..=u64::MAX)?,
            "--fault" => self.given_faults.add(given)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn output_mut(&mut self) -> &mut OutputOptions {
        &mut self.output
    }

    fn told(&self) -> serde_json::Result<(Value, usize)> {
        Ok((serde_json::to_value(crate::calls::ArgumentsReport::of(self))?, self.faults.len()))
    }

    fn measures(&self) -> &'static Measures {
        &crate::calls::MEASURES
    }

    fn complete(&mut self) -> Result<(), AtFault> {
        check_remembered(self.rate, self.warmup, self.duration)?;
        if self.workers < self.processes {
            let reason = format!("fewer than the {} processes that hold them", self.processes);
            return Err(("--workers", self.workers.to_string(), QuantityError::NotTogether { reason }));
        }
        self.faults = self
            .given_faults
            .read('w', self.processes)?
            .unwrap_or_else(|| vec![Fault { at: self.duration / 2, act: Act::Kill, node: self.processes }]);
        if let Some(late) = self.faults.iter().find(|fault| fault.at >= self.duration) {
            let reason = "after the end of the measured phase".to_owned();
            return Err(("--fault", format!("{:?}", late.at), QuantityError::NotTogether { reason }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{complaint, parse_line};
    use crate::cli::{self, Command};
    use std::ffi::OsString;

    #[test]
    fn calls_hear_their_options_and_have_one_kill_in_the_middle() {
        let plain = calls("run calls");
        assert_eq!((plain.workers, plain.processes, plain.keys), (4, 2, KeyChoice::Uniform));
        let middle = Fault { at: Duration::from_secs(5), act: Act::Kill, node: 2 };
        assert_eq!(plain.faults, [middle]);
        let given = calls(
            "run calls --rate 5k --workers 9 --processes 3 --keys zipf:1.1 --key-count 1k --size 64..256 \
             --churn 0s --timeout 250ms --clusters 2 --seed 9 --fault none",
        );
        assert_eq!((given.rate, given.workers, given.processes), (Rate::of(5_000), 9, 3));
        assert_eq!((given.keys, given.key_count), (KeyChoice::Zipf(1.1), 1_000));
        assert_eq!(given.size, Size { smallest_bytes: 64, largest_bytes: 256 });
        assert_eq!((given.churn, given.timeout), (Duration::ZERO, Duration::from_millis(250)));
        assert_eq!((given.clusters, given.seed, given.faults), (2, 9, Vec::new()));
    }

    #[test]
    fn what_cannot_be_together_is_refused_and_says_why() {
        assert!(complaint("run registry --topics 5").contains("no option of registry"));
        assert!(complaint("run calls --entries 5").contains("no option of calls"));
        assert!(complaint("run --workers 5").contains("no option of pubsub"));
        assert!(complaint("run registry --processes 4").contains("more processes than the 3 nodes"));
        assert!(complaint("run calls --workers 1").contains("fewer than the 2 processes"));
        assert!(complaint("run registry --rate 1M --duration 10s").contains("remembered"));
        let fault = |fault: &str| {
            let words = ["run", "calls", "--fault", fault];
            cli::parse(words.map(OsString::from)).expect_err(fault).to_string()
        };
        assert!(fault("3s kill n1").contains("w1 to w2"));
        assert!(fault("11s kill w1").contains("after the end"));
        assert!(complaint("run registry --registry-nodes 1").contains("2 to 64"));
    }

    fn calls(line: &str) -> CallsOptions {
        match parse_line(line) {
            Ok(Command::RunCalls(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }
}
