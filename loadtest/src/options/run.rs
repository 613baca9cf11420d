//! What a run of pubsub, fanout or reqrep may be told.

use std::path::PathBuf;
use std::time::Duration;

use super::given_faults::GivenFaults;
use super::*;
use crate::fault::Timeline;
use crate::pace::{Pace, Ramp};
use crate::report::ArgumentsReport;
use crate::roles::Pattern;
use crate::servers;
use crate::slo::Slo;

/// How a run of pubsub, fanout or reqrep is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunOptions {
    pub(crate) pattern: Pattern,
    /// Of [`Pace::Steady`].
    pub(crate) rate: Rate,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) size: Size,
    pub(crate) topics: usize,
    /// Which of them each message is for.
    pub(crate) keys: KeyChoice,
    pub(crate) clusters: usize,
    /// Servers of each cluster, joined by routes.
    pub(crate) nodes: usize,
    /// A node's configuration with servers that run already, instead of own ones.
    pub(crate) config: Option<PathBuf>,
    /// Each with a node of its own.
    pub(crate) processes: usize,
    /// Of each process.
    pub(crate) shards: usize,
    /// Shards that publish, or ask.
    pub(crate) publishers: usize,
    /// Shards that receive, or answer; of a fan-out the subscribers of each topic.
    pub(crate) subscribers: usize,
    /// Of each request.
    pub(crate) timeout: Duration,
    /// What the highest rate is searched for that keeps it.
    pub(crate) find_max: Option<Slo>,
    /// One after the other.
    pub(crate) runs: usize,
    pub(crate) seed: u64,
    /// A closed loop of so many under way, beside the open one.
    pub(crate) beside: Option<usize>,
    /// Of the servers, in the measured phase, their times counted from its start.
    pub(crate) faults: Timeline,
    pub(crate) output: OutputOptions,
    given: Given,
    given_faults: GivenFaults,
}

/// What was given of that which depends on the rest.
#[derive(Clone, Debug, Default, PartialEq)]
struct Given {
    has_rate: bool,
    ramp: Option<Ramp>,
    is_closed: bool,
    concurrency: Option<usize>,
    publishers: Option<usize>,
    subscribers: Option<usize>,
    has_servers: bool,
}

/// Each is a run with its warm-up.
const RUNS_MAX: u64 = 100;

/// Of each topic of a fan-out; each has a place in the checker for every publisher.
const SUBSCRIBERS_MAX: u64 = 10_000;
const FANOUT_SUBSCRIBERS: usize = 8;

/// Each message or request under way is remembered by whoever waits for it.
const CONCURRENCY_MAX: u64 = 16_384;

/// The run waits for the last request this long.
const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

impl RunOptions {
    /// What `--help` says above the options.
    pub(crate) const ABOUT: &'static str = "\
pubsub, the default: starts three local NATS clusters, publishes to many topics at a fixed
rate from two shards, checks every message and prints a verdict.";

    pub(crate) const ROWS: &'static [OptionRow] = &[
        OptionRow::new("--rate", "RATE", "messages a second, all shards together: 10k, 1M", "10k"),
        OptionRow::new(
            "--ramp",
            "RATE..RATE/STEPS",
            "instead, steps that share the duration: 10k..200k/10",
            "",
        ),
        OptionRow::new(
            "--find-max",
            "OBJECTIVE",
            "instead, tries rates from --rate on for the highest that keeps it without\nloss: 'p99.9<2ms', 'wire.p50<300us'",
            "",
        ),
        OptionRow::new(
            "--closed",
            "",
            "instead, each message is sent when one before it has arrived, and\ntimed from there: such times hide what a stall delays",
            "",
        ),
        OptionRow::new("--concurrency", "COUNT", "under way at one time with --closed", "1 a publisher"),
        OptionRow::new(
            "--closed-beside",
            "COUNT",
            "beside the open loop a closed one of so many under way, on the same\nservers: a table shows which of them sees a stall",
            "",
        ),
        OptionRow::new("--size", "BYTES", "payload, or a range: 128, 64..1024; least 48", "128"),
        OptionRow::new("--topics", "COUNT", "topics: 10k", "10k"),
        OptionRow::new(
            "--keys",
            "CHOICE",
            "of the topics: uniform, or few of them often: zipf:1.1",
            "uniform",
        ),
        OptionRow::new("--clusters", "COUNT", "local NATS clusters", "3"),
        OptionRow::new("--nodes", "COUNT", "servers of each cluster, joined by routes", "1"),
        OptionRow::new(
            "--config",
            "NODE.TOML",
            "instead, clusters that run already: those of a node's configuration",
            "",
        ),
        OptionRow::new("--processes", "COUNT", "each with a node of its own", "1"),
        OptionRow::new("--shards", "COUNT", "shards of each node", "2"),
        OptionRow::new("--publishers", "COUNT", "of the shards, from the first on, publish", "all"),
        OptionRow::new("--subscribers", "COUNT", "of the shards, up to the last, subscribe", "all"),
        OptionRow::new("--runs", "COUNT", "one after the other, with the spread of their figures", "1"),
        OptionRow::new("--seed", "NUMBER", "topics, order and sizes follow from it", "42"),
        OptionRow::new(
            "--fault",
            "'TIME WHAT SERVER', so long after the start of the measured phase; may be repeated",
            "to c2/1, the first server of cluster c2, one of: kill, restart, lame-duck,\n\
             pause (and a time), and on the way to it cut, reset, half-open (a time),\n\
             delay (by a time, and for a time); as in '8s pause c1/1 500ms';\n\
             with --nodes 2 between servers: '9s partition c1/1|c1/2 2s'",
            "none",
        ),
    ];

    /// What `--help` says above the options of a fan-out.
    pub(crate) const FANOUT_ABOUT: &'static str = "\
fanout: few topics with many subscribers each, and every copy is checked.";

    pub(crate) const FANOUT_ROWS: &'static [OptionRow] = &[
        OptionRow::new("--rate", "RATE", "messages a second, each to all subscribers of its topic", "1k"),
        OptionRow::new("--topics", "COUNT", "topics", "10"),
        OptionRow::new("--subscribers", "COUNT", "of each topic, over all shards", "8"),
    ];

    /// What `--help` says above the options of requests.
    pub(crate) const REQREP_ABOUT: &'static str = "\
reqrep: requests on many topics, each answered by the shard that serves the topic.";

    pub(crate) const REQREP_ROWS: &'static [OptionRow] = &[
        OptionRow::new("--rate", "RATE", "requests a second, whether those before are answered or not", "5k"),
        OptionRow::new("--topics", "COUNT", "topics", "1k"),
        OptionRow::new("--publishers", "COUNT", "of the shards, from the first on, ask", "all"),
        OptionRow::new("--subscribers", "COUNT", "of the shards, up to the last, answer", "all"),
        OptionRow::new("--timeout", "TIME", "of each request", "1s"),
    ];

    /// What a run is that is told nothing.
    pub(crate) fn of(pattern: Pattern) -> Self {
        let (per_second, topics) = match pattern {
            Pattern::Pubsub => (10_000, 10_000),
            Pattern::Fanout => (1_000, 10),
            Pattern::Reqrep => (5_000, 1_000),
        };
        let rate = Rate::of(per_second);
        Self {
            pattern,
            rate,
            pace: Pace::Steady(rate),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            size: Size { smallest_bytes: 128, largest_bytes: 128 },
            topics,
            keys: KeyChoice::Uniform,
            clusters: 3,
            nodes: 1,
            config: None,
            processes: 1,
            shards: 2,
            publishers: 2,
            subscribers: if pattern == Pattern::Fanout { FANOUT_SUBSCRIBERS } else { 2 },
            timeout: Duration::from_secs(1),
            find_max: None,
            runs: 1,
            seed: 42,
            beside: None,
            faults: Timeline::default(),
            given: Given::default(),
            given_faults: GivenFaults::default(),
            output: OutputOptions::default(),
        }
    }

    /// The same at another rate, without a search.
    pub(crate) fn at(&self, rate: Rate) -> Self {
        Self { rate, pace: Pace::Steady(rate), find_max: None, ..self.clone() }
    }

    fn check_find_max(&self) -> Result<(), AtFault> {
        let Some(objective) = &self.find_max else { return Ok(()) };
        let latency = objective.limited_latency();
        let reason = match self.pace {
            Pace::Ramp(_) => "--ramp has its own rates",
            Pace::Closed { .. } => "a closed loop has the rate that it finds",
            Pace::Steady(_) if !self.faults.is_empty() => "what is lost to a fault says nothing about a rate",
            Pace::Steady(_) if latency == Some("service") && self.pattern != Pattern::Reqrep => {
                "there is a service latency in reqrep alone"
            }
            Pace::Steady(_) => return Ok(()),
        };
        Err(("--find-max", objective.to_string(), QuantityError::NotTogether { reason: reason.to_owned() }))
    }

    fn check_processes(&self) -> Result<(), AtFault> {
        let is_closed = self.pace.is_closed() && self.pattern != Pattern::Reqrep;
        let reason = match self.processes {
            1 => return Ok(()),
            _ if self.beside.is_some() => "a closed loop beside is for a run in one process",
            _ if is_closed => "a publisher sees in its own process alone that its messages have arrived",
            _ => return Ok(()),
        };
        let given = self.processes.to_string();
        Err(("--processes", given, QuantityError::NotTogether { reason: reason.to_owned() }))
    }

    fn check_config(&self) -> Result<(), AtFault> {
        let Some(config) = &self.config else { return Ok(()) };
        let reason = if self.given.has_servers {
            "these clusters run already: --clusters and --nodes are for own ones"
        } else if !self.given_faults.is_empty() {
            "these clusters are not the run's own, so no fault strikes them, nor the way to them: cut, reset, half-open \
             and delay, too, are for own servers, without --config"
        } else {
            return Ok(());
        };
        let given = config.display().to_string();
        Err(("--config", given, QuantityError::NotTogether { reason: reason.to_owned() }))
    }

    fn pace(&self) -> Result<Pace, AtFault> {
        let Given { has_rate, ramp, is_closed, concurrency, .. } = self.given;
        let refuse = |option, given: &str, reason: &str| {
            Err((option, given.to_owned(), QuantityError::NotTogether { reason: reason.to_owned() }))
        };
        if has_rate && is_closed {
            return refuse("--closed", "with --rate", "a closed loop has the rate that it finds");
        }
        match (ramp, is_closed) {
            (Some(_), true) => refuse("--closed", "with --ramp", "a closed loop has the rate that it finds"),
            (Some(_), _) if has_rate => refuse("--ramp", "with --rate", "a ramp has its own rates"),
            (_, false) if concurrency.is_some() => refuse(
                "--concurrency",
                "without --closed",
                "in an open loop messages are sent at their times, however many are under way",
            ),
            (Some(ramp), false) => Ok(Pace::Ramp(ramp)),
            (None, true) => Ok(Pace::Closed { concurrency: concurrency.unwrap_or(self.publishers) }),
            (None, false) => Ok(Pace::Steady(self.rate)),
        }
    }

    /// So many of the shards, or all.
    fn of_shards(&self, option: &'static str, given: Option<usize>) -> Result<usize, AtFault> {
        let shards = self.shards * self.processes;
        match given.unwrap_or(shards) {
            count if count <= shards => Ok(count),
            count => {
                let reason = format!("there are {shards} shards");
                Err((option, count.to_string(), QuantityError::NotTogether { reason }))
            }
        }
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self::of(Pattern::Pubsub)
    }
}

impl Options for RunOptions {
    fn scenario(&self) -> &'static str {
        self.pattern.name()
    }

    fn rows(&self) -> &'static [OptionRow] {
        Self::ROWS
    }

    fn knows(&self, option: &str) -> bool {
        let of_pattern = match self.pattern {
            Pattern::Pubsub => &[][..],
            Pattern::Fanout => Self::FANOUT_ROWS,
            Pattern::Reqrep => Self::REQREP_ROWS,
        };
        self.rows().iter().chain(of_pattern).chain(COMMON_ROWS).any(|row| row.name == option)
    }

    fn set(&mut self, option: &str, given: &str) -> Result<(), QuantityError> {
        match option {
            "--rate" => {
                self.rate = Rate::parse(given)?;
                self.given.has_rate = true;
            }
            "--ramp" => self.given.ramp = Some(Ramp::parse(given)?),
            "--closed" => self.given.is_closed = true,
            "--concurrency" => self.given.concurrency = Some(count(given, CONCURRENCY_MAX)?),
            "--warmup" => self.warmup = warmup(given)?,
            "--duration" => self.duration = duration(given)?,
            "--size" => self.size = Size::parse(given, SIZE_BYTES)?,
            "--topics" => self.topics = count(given, TOPICS_MAX)?,
            "--keys" => self.keys = KeyChoice::parse(given)?,
            "--clusters" => {
                self.clusters = count(given, CLUSTERS_MAX)?;
                self.given.has_servers = true;
            }
            "--nodes" => {
                self.nodes = count(given, SERVERS_EACH_MAX)?;
                self.given.has_servers = true;
            }
            "--config" => self.config = Some(given.into()),
            "--find-max" => self.find_max = Some(Slo::parse_objective(given, self.measures())?),
            "--runs" => self.runs = count(given, RUNS_MAX)?,
            "--processes" => self.processes = count(given, PROCESSES_MAX)?,
            "--shards" => self.shards = count(given, SHARDS_MAX)?,
            "--publishers" => self.given.publishers = Some(count(given, SHARDS_MAX)?),
            "--subscribers" => self.given.subscribers = Some(count(given, SUBSCRIBERS_MAX)?),
            "--timeout" => self.timeout = parse_duration(given, REQUEST_TIMEOUT)?,
            "--seed" => self.seed = parse_count(given, 0..=u64::MAX)?,
            "--closed-beside" => self.beside = Some(count(given, CONCURRENCY_MAX)?),
            "--fault" => self.given_faults.add(given)?,
            other => unreachable!("{other} is not among the known options"),
        }
        Ok(())
    }

    fn output_mut(&mut self) -> &mut OutputOptions {
        &mut self.output
    }

    fn told(&self) -> serde_json::Result<(Value, usize)> {
        // Of a configuration that cannot be read the run itself will tell.
        let of_config = |path: &PathBuf| {
            servers::existing(path).ok().map(|mut builder| servers::clusters(&mut builder).len())
        };
        let clusters = self.config.as_ref().map_or(Some(self.clusters), of_config);
        let mut told = serde_json::to_value(ArgumentsReport::of(self, clusters.unwrap_or(0)))?;
        if let Some(told) = told.as_object_mut() {
            // What is not known yet is no difference.
            if clusters.is_none() {
                told.remove("clusters");
            }
            if self.find_max.is_some() {
                told.remove("rate");
            }
        }
        Ok((told, self.faults.faults().len()))
    }

    fn measures(&self) -> &'static Measures {
        &crate::report::MEASURES
    }

    fn complete(&mut self) -> Result<(), AtFault> {
        self.publishers = self.of_shards("--publishers", self.given.publishers)?;
        self.subscribers = match self.pattern {
            Pattern::Fanout => self.given.subscribers.unwrap_or(FANOUT_SUBSCRIBERS),
            Pattern::Pubsub | Pattern::Reqrep => self.of_shards("--subscribers", self.given.subscribers)?,
        };
        self.pace = self.pace()?;
        if let Some(beside) = self.beside.filter(|_| self.pace.is_closed()) {
            let reason = "with --closed there is no open loop".to_owned();
            return Err(("--closed-beside", beside.to_string(), QuantityError::NotTogether { reason }));
        }
        self.faults = self.given_faults.read_servers(self.clusters, self.nodes, self.duration)?;
        self.check_find_max()?;
        self.check_processes()?;
        self.check_config()?;
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
            rate: Rate::of(50_000),
            pace: Pace::Steady(Rate::of(50_000)),
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(5),
            size: Size { smallest_bytes: 64, largest_bytes: 1024 },
            topics: 1_000,
            keys: KeyChoice::Zipf(0.9),
            clusters: 4,
            shards: 3,
            publishers: 3,
            subscribers: 3,
            given: Given { has_rate: true, has_servers: true, ..Given::default() },
            seed: 7,
            output: OutputOptions {
                json: Some(JsonTarget::File("out.json".into())),
                ..OutputOptions::default()
            },
            ..RunOptions::default()
        };
        assert_eq!(given, expected);
        assert_eq!(options("run --rate=1M --json -").output.json, Some(JsonTarget::Stdout));
    }

    #[test]
    fn faults_are_heard_in_their_order_and_refused_when_they_cannot_be() {
        let words = ["run", "--fault", "5s restart c2/1", "--fault", "3s kill c2/1"].map(Into::into);
        let Ok(Command::Run(given)) = crate::cli::parse(words) else { panic!("refused") };
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
    fn a_closed_loop_stands_beside_an_open_one_alone() {
        assert_eq!(options("run --closed-beside 2").beside, Some(2));
        assert!(complaint("run --closed --closed-beside 2").contains("no open loop"));
        assert!(complaint("run --closed-beside 0").contains("1 to"));
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
            Ok(Command::Run(options)) => *options,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    #[test]
    fn the_patterns_have_their_own_usual_values_and_options() {
        for line in ["run fanout", "run --seed 42 fanout"] {
            assert_eq!(options(line), RunOptions::of(Pattern::Fanout), "{line}");
        }
        let given = options("run fanout --subscribers 100 --publishers 1 --topics 3");
        assert_eq!((given.subscribers, given.publishers, given.topics), (100, 1, 3));
        let given = options("run reqrep --timeout 250ms --rate 2k");
        assert_eq!((given.pattern, given.timeout), (Pattern::Reqrep, Duration::from_millis(250)));
        assert!(complaint("run --timeout 1s").contains("no option of pubsub"));
        assert!(complaint("run fanout --timeout 1s").contains("no option of fanout"));
        assert!(complaint("run reqrep --timeout 11s").contains("10s"));
    }

    #[test]
    fn some_of_the_shards_publish_and_some_subscribe() {
        let given = options("run --shards 4 --publishers 1 --subscribers 3");
        assert_eq!((given.publishers, given.subscribers), (1, 3));
        assert!(complaint("run --publishers 3").contains("there are 2 shards"));
        assert!(complaint("run reqrep --subscribers 3").contains("there are 2 shards"));
    }

    #[test]
    fn there_is_one_pace() {
        let pace = |line: &str| options(line).pace;
        assert_eq!(pace("run --ramp 1k..3k/3").to_string(), "1 000/s to 3 000/s in 3 steps");
        assert_eq!(pace("run --closed --concurrency 64"), Pace::Closed { concurrency: 64 });
        assert_eq!(pace("run reqrep --closed --publishers 1"), Pace::Closed { concurrency: 1 });
        assert_eq!(pace("run fanout"), Pace::Steady(Rate::of(1_000)));
        for (line, part) in [
            ("run --closed --rate 5k", "the rate that it finds"),
            ("run --closed --ramp 1k..2k/2", "the rate that it finds"),
            ("run --ramp 1k..2k/2 --rate 5k", "its own rates"),
            ("run --concurrency 4", "without --closed"),
            ("run --ramp 1k..2k", "10k..200k/10"),
        ] {
            assert!(complaint(line).contains(part), "{line}: {}", complaint(line));
        }
    }

    #[test]
    fn a_search_has_an_objective_that_its_scenario_can_keep() {
        let given = options("run --find-max p99.9<2ms --rate 5k");
        assert_eq!(given.find_max.map(|objective| objective.to_string()).as_deref(), Some("p99.9<2ms"));
        assert_eq!(given.rate, Rate::of(5_000));
        for (line, part) in [
            ("run --find-max p99.9", "the form is LATENCY.POINT<TIME, as in 'p99.9<2ms'"),
            ("run --find-max p99>2ms", "the form is LATENCY.POINT<TIME"),
            ("run --find-max lost=0", "the form is LATENCY.POINT<TIME"),
            ("run --find-max lost<3", "the form is LATENCY.POINT<TIME"),
            ("run --find-max e2d.p99<3ms", "the form is LATENCY.POINT<TIME"),
            ("run --find-max e2e.q99<3ms", "no point of a latency"),
            ("run --find-max p98x<2ms", "at column 1: "),
            ("run --find-max p99<2", "unit is missing"),
            ("run --find-max p99<2ms --closed", "the rate that it finds"),
            ("run --find-max p99<2ms --ramp 1k..2k/2", "its own rates"),
            ("run --find-max service.p99<2ms", "in reqrep alone"),
        ] {
            assert!(complaint(line).contains(part), "{line}: {}", complaint(line));
        }
    }

    #[test]
    fn the_shards_of_all_processes_share_the_parts() {
        let given = options("run --processes 2 --shards 3 --publishers 5");
        assert_eq!((given.processes, given.shards, given.publishers, given.subscribers), (2, 3, 5, 6));
        assert!(complaint("run --processes 2 --publishers 5").contains("there are 4 shards"));
        assert!(complaint("run --processes 2 --closed").contains("its own process"));
        assert!(options("run reqrep --processes 2 --closed").pace.is_closed());
        let words = ["run", "--processes", "2", "--fault", "1s kill c1/1"].map(Into::into);
        let Ok(Command::Run(given)) = crate::cli::parse(words) else { panic!("refused") };
        assert_eq!((given.processes, given.faults.faults().len()), (2, 1));
    }

    #[test]
    fn servers_are_own_ones_or_those_of_a_configuration() {
        let given = options("run --clusters 2 --nodes 3");
        assert_eq!((given.clusters, given.nodes), (2, 3));
        assert_eq!(options("run --config node.toml").config, Some("node.toml".into()));
        assert!(complaint("run --config node.toml --clusters 2").contains("run already"));
        assert!(complaint("run --nodes 17").contains("1 to 16"));
        let words = ["run", "--config", "node.toml", "--fault", "1s kill c1/1"].map(Into::into);
        let error = crate::cli::parse(words).expect_err("no fault can strike");
        assert!(error.to_string().contains("not the run's own"), "{error}");
        assert_eq!(options("run --runs 3 --json -").runs, 3);
    }
}
