//! What a run of pubsub may be told.

use std::time::Duration;

use super::given_faults::GivenFaults;
use super::*;
use crate::fault::Timeline;

/// How a run of pubsub is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunOptions {
    pub(crate) rate: Rate,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) size: Size,
    pub(crate) topics: usize,
    /// Which of them each message is for.
    pub(crate) keys: KeyChoice,
    pub(crate) clusters: usize,
    pub(crate) shards: usize,
    pub(crate) seed: u64,
    /// Of the servers, in the measured phase, their times counted from its start.
    pub(crate) faults: Timeline,
    pub(crate) output: OutputOptions,
    given_faults: GivenFaults,
}

/// Servers of each cluster.
const SERVERS_EACH: usize = 1;

impl RunOptions {
    pub(crate) const SCENARIO: &'static str = "pubsub";

    /// What `--help` says above the options.
    pub(crate) const ABOUT: &'static str = "\
pubsub, the default: starts three local gnatsd clusters, publishes to many topics at a fixed
rate from two shards, checks every message and prints a verdict.";

    pub(crate) const ROWS: &'static [OptionRow] = &[
        OptionRow::new("--rate", "RATE", "messages a second, all shards together: 20k, 1M", "20k"),
        OptionRow::new("--size", "BYTES", "payload, or a range: 128, 64..1024; least 48", "128"),
        OptionRow::new("--topics", "COUNT", "topics: 10k", "10k"),
        OptionRow::new(
            "--keys",
            "CHOICE",
            "of the topics: uniform, or few of them often: zipf:1.1",
            "uniform",
        ),
        OptionRow::new("--clusters", "COUNT", "local gnatsd clusters, one server each", "3"),
        OptionRow::new("--shards", "COUNT", "shards, each publisher and subscriber", "2"),
        OptionRow::new("--seed", "NUMBER", "topics, order and sizes follow from it", "42"),
        OptionRow::new(
            "--fault",
            "'TIME kill SERVER', --fault 'TIME restart SERVER', --fault 'TIME lame-duck SERVER',",
            "--fault 'TIME pause SERVER TIME': so long after the start of the\n\
             measured phase; c2/1 is the first server of cluster c2; may be repeated",
            "none",
        ),
    ];
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            rate: Rate::DEFAULT,
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            size: Size { smallest_bytes: 128, largest_bytes: 128 },
            topics: 10_000,
            keys: KeyChoice::Uniform,
            clusters: 3,
            shards: 2,
            seed: 42,
            faults: Timeline::default(),
            given_faults: GivenFaults::default(),
            output: OutputOptions::default(),
        }
    }
}

impl Options for RunOptions {
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
            "--size" => self.size = Size::parse(given, SIZE_BYTES)?,
            "--keys" => self.keys = KeyChoice::parse(given)?,
            "--topics" => self.topics = count(given, TOPICS_MAX)?,
            "--clusters" => self.clusters = count(given, CLUSTERS_MAX)?,
            "--shards" => self.shards = count(given, SHARDS_MAX)?,
            "--seed" => self.seed = parse_count(given, 0..=u64::MAX)?,
            "--fault" => self.given_faults.add(given)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn output_mut(&mut self) -> &mut OutputOptions {
        &mut self.output
    }

    fn complete(&mut self) -> Result<(), AtFault> {
        self.faults = self.given_faults.read_servers(self.clusters, SERVERS_EACH, self.duration)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::{complaint, parse_line};

    #[test]
    fn nothing_run_and_run_pubsub_are_the_same() {
        for line in ["", "run", "run pubsub"] {
            assert_eq!(options(line), RunOptions::default(), "{line:?}");
        }
    }

    #[test]
    fn every_option_is_heard() {
        let given = options(
            "run pubsub --rate 50k --duration 5s --warmup 500ms --size 64..1024 --topics 1k --keys zipf:0.9 --clusters 4 \
             --shards 3 --seed 7 --json out.json",
        );
        let expected = RunOptions {
            rate: Rate::parse("50000").expect("a rate"),
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(5),
            size: Size { smallest_bytes: 64, largest_bytes: 1024 },
            topics: 1_000,
            keys: KeyChoice::Zipf(0.9),
            clusters: 4,
            shards: 3,
            seed: 7,
            output: OutputOptions { json: Some(JsonTarget::File("out.json".into())) },
            ..RunOptions::default()
        };
        assert_eq!(given, expected);
        assert_eq!(options("run --rate=1M --json -").output.json, Some(JsonTarget::Stdout));
    }

    #[test]
    fn faults_are_heard_in_their_order_and_refused_when_they_cannot_be() {
        let words = ["run", "--fault", "5s restart c2/1", "--fault", "3s kill c2/1"].map(Into::into);
        let Ok(Command::RunPubsub(given)) = crate::cli::parse(words) else { panic!("refused") };
        let names: Vec<String> = given.faults.faults().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["kill c2/1", "restart c2/1"]);
        assert!(options("run --fault none").faults.is_empty());
        for (fault, answer) in [
            ("3s kill c4/1", "c1/1 to c3/1"),
            ("3s kil c2/1", "did you mean kill?"),
            ("10s kill c2/1", "after the end"),
        ] {
            let error = crate::cli::parse(["run", "--fault", fault].map(Into::into)).expect_err(fault);
            assert!(error.to_string().contains(answer), "{error}");
        }
    }

    #[test]
    fn bad_values_name_the_option_and_the_limit() {
        assert!(complaint("run --size 47").contains("48"));
        assert!(complaint("run --rate fast").starts_with("--rate fast: "));
        assert!(complaint("run --duration 10").contains("unit"));
        assert!(complaint("run --shards 0").contains("1 to 64"));
        for line in ["run --rate", "run --rate 0", "run --duration 0s", "run --clusters 33", "run --seed -1"]
        {
            complaint(line);
        }
    }

    fn options(line: &str) -> RunOptions {
        match parse_line(line) {
            Ok(Command::RunPubsub(options)) => options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }
}
