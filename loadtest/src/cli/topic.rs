//! What `--help` says of each command, from the tables of the options that the command line is read with.

use std::ffi::OsStr;

use super::help::{OptionRow, Page, Section};
use crate::options::{self, CallsOptions, OutputOptions, RegistryOptions, RunOptions};
use crate::{compare, config_command, local, show, top};

/// What help is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The program as a whole.
    Overview,
    /// `run`, of which no scenario or `pubsub` was named.
    Run,
    Fanout,
    Reqrep,
    Registry,
    Calls,
    Show,
    Compare,
    Local,
    Check,
    Config,
    Top,
    Doctor,
}

const HELP: OptionRow = OptionRow::new("--help", "", "this text", "");
const VERSION: OptionRow = OptionRow::new("--version", "", "of this program", "");

const RUN_EXIT_CODES: &[(u8, &str)] = &[
    (0, "the run is VALID or DEGRADED"),
    (1, "the run failed"),
    (2, "the command line is wrong"),
    (78, "the configuration or the machine is not fit"),
    (97, "the run is INVALID"),
    (98, "it is worse than the baseline (--fail-on-regression)"),
    (99, "a goal was missed (--slo)"),
    (130, "it was interrupted: the report is of a part; 143 when it was told to terminate"),
];

const SERVER_NOTES: &str = "\
nats-server is looked for in $NATS_SERVER, in PATH, in /usr/sbin and in
target/nats-server/; if there is none, it is fetched with pip.";

const OVERVIEW_COMMANDS: &[OptionRow] = &[
    OptionRow::new("run", "[SCENARIO]", "the load test; without any argument the scenario pubsub", ""),
    OptionRow::new("show", "RUN", "a run that has ended, again", ""),
    OptionRow::new("compare", "A B", "whether two sets of runs differ by more than chance", ""),
    OptionRow::new("local up", "", "starts NATS clusters on this machine, to try things with", ""),
    OptionRow::new("check", "NODE.TOML", "whether a node can run with this configuration", ""),
    OptionRow::new("config", "show | schema", "what a configuration comes to, and what it may say", ""),
    OptionRow::new("top", "[ADDRESS]", "what a running node is doing", ""),
    OptionRow::new("doctor", "[NODE.TOML]", "whether a node can run on this machine", ""),
];

const SCENARIOS: &[OptionRow] = &[
    OptionRow::new("pubsub", "", "messages on many topics, from every shard to every shard; the default", ""),
    OptionRow::new("fanout", "", "few topics, many subscribers each; every copy is checked", ""),
    OptionRow::new("reqrep", "", "requests and their answers", ""),
    OptionRow::new("registry", "", "nodes change what services they offer, until each sees the same", ""),
    OptionRow::new("calls", "", "calls by key to instances that come and go", ""),
];

impl Topic {
    pub(crate) const ALL: [Self; 13] = [
        Self::Overview,
        Self::Run,
        Self::Fanout,
        Self::Reqrep,
        Self::Registry,
        Self::Calls,
        Self::Show,
        Self::Compare,
        Self::Local,
        Self::Check,
        Self::Config,
        Self::Top,
        Self::Doctor,
    ];

    const SCENARIOS: [Self; 5] = [Self::Run, Self::Fanout, Self::Reqrep, Self::Registry, Self::Calls];

    const OTHERS: [Self; 7] =
        [Self::Show, Self::Compare, Self::Local, Self::Check, Self::Config, Self::Top, Self::Doctor];

    /// The command, without the program's name.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Overview => "",
            Self::Run => "run",
            Self::Fanout => "run fanout",
            Self::Reqrep => "run reqrep",
            Self::Registry => "run registry",
            Self::Calls => "run calls",
            Self::Show => "show",
            Self::Compare => "compare",
            Self::Local => "local",
            Self::Check => "check",
            Self::Config => "config",
            Self::Top => "top",
            Self::Doctor => "doctor",
        }
    }

    /// What a command line is about, right or wrong; without the program's name.
    pub(crate) fn of_line<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        let mut words = words.into_iter();
        let Some(first) = words.next() else { return Self::Overview };
        let command = |topic: &Self| topic.command() == first.as_ref();
        let topic = Self::ALL.into_iter().find(command).unwrap_or(Self::Overview);
        match topic {
            Self::Run => words.find_map(|word| Self::of_scenario(word.as_ref())).unwrap_or(topic),
            topic => topic,
        }
    }

    /// The scenario of this name.
    fn of_scenario(name: &OsStr) -> Option<Self> {
        let is_meant =
            |topic: &Self| topic.command().strip_prefix("run ").is_some_and(|scenario| scenario == name);
        Self::SCENARIOS.into_iter().find(is_meant)
    }

    /// The names of the options that the command knows. A scenario may be named after its options, so that these
    /// are of all scenarios.
    pub(crate) fn option_names(self) -> Vec<&'static str> {
        let topics: &[Self] = match self {
            Self::Overview => &Self::ALL,
            topic if Self::SCENARIOS.contains(&topic) => &Self::SCENARIOS,
            ref topic => std::slice::from_ref(topic),
        };
        let sections = topics.iter().flat_map(|topic| topic.page().sections);
        let names = sections.flat_map(|section| section.rows).map(|row| row.name);
        names.filter(|name| name.starts_with("--")).collect()
    }

    /// The commands that know an option, as they are written before it.
    pub(crate) fn commands_of(option: &str) -> Vec<&'static str> {
        let knows = |topic: &&Self| {
            topic.page().sections.iter().flat_map(|section| &section.rows).any(|row| row.name == option)
        };
        let of = |topics: &'static [Self]| topics.iter().filter(knows).map(|topic| topic.command());
        let scenarios =
            of(&Self::SCENARIOS).map(|command| if command == "run" { "run pubsub" } else { command });
        let scenarios: Vec<&str> = scenarios.collect();
        let is_of_all = scenarios.len() == Self::SCENARIOS.len();
        let others = of(&Self::OTHERS).map(|command| match command {
            "local" => "local up",
            "config" => "config show",
            command => command,
        });
        if is_of_all { vec!["run"] } else { scenarios }.into_iter().chain(others).collect()
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        self.page().text()
    }

    fn page(self) -> Page {
        match self {
            Self::Overview => overview(),
            Self::Run => Page {
                usage: "croupier run [pubsub] [OPTIONS]\ncroupier run SCENARIO --help",
                about: RunOptions::ABOUT,
                sections: [
                    vec![Section {
                        head: "scenarios, each with a help of its own",
                        rows: SCENARIOS.to_vec(),
                    }],
                    scenario_sections(&[RunOptions::ROWS]),
                ]
                .concat(),
                notes: SERVER_NOTES,
                exit_codes: RUN_EXIT_CODES,
                examples: &[
                    ("croupier run --rate 50k --size 64..1024", "at another rate, with other sizes"),
                    ("croupier run --find-max 'p99.9<20ms'", "the highest rate that keeps this"),
                    ("croupier run --fault '3s kill c2/1' --fault '5s restart c2/1'", "a server fails"),
                    ("croupier run --config node.toml", "clusters that run already"),
                ],
            },
            Self::Fanout => Page {
                usage: "croupier run fanout [OPTIONS]",
                about: RunOptions::FANOUT_ABOUT,
                sections: scenario_sections(&[RunOptions::FANOUT_ROWS, RunOptions::ROWS]),
                notes: SERVER_NOTES,
                exit_codes: RUN_EXIT_CODES,
                examples: &[
                    ("croupier run fanout --subscribers 16", "sixteen copies of each message"),
                    ("croupier run fanout --rate 2k --topics 4 --size 1024", "more of them, to fewer topics"),
                ],
            },
            Self::Reqrep => Page {
                usage: "croupier run reqrep [OPTIONS]",
                about: RunOptions::REQREP_ABOUT,
                sections: scenario_sections(&[RunOptions::REQREP_ROWS, RunOptions::ROWS]),
                notes: SERVER_NOTES,
                exit_codes: RUN_EXIT_CODES,
                examples: &[
                    ("croupier run reqrep --rate 5k --timeout 250ms", "each is to be answered in time"),
                    ("croupier run reqrep --closed --concurrency 64", "as fast as the answers come"),
                ],
            },
            Self::Registry => Page {
                usage: "croupier run registry [OPTIONS]",
                about: RegistryOptions::ABOUT,
                sections: scenario_sections(&[RegistryOptions::ROWS]),
                notes: SERVER_NOTES,
                exit_codes: RUN_EXIT_CODES,
                examples: &[
                    ("croupier run registry --registry-nodes 5 --rate 1k", "more nodes, more changes"),
                    ("croupier run registry --fault '1s partition n1|n2 5s'", "two do not reach each other"),
                ],
            },
            Self::Calls => Page {
                usage: "croupier run calls [OPTIONS]",
                about: CallsOptions::ABOUT,
                sections: scenario_sections(&[CallsOptions::ROWS]),
                notes: SERVER_NOTES,
                exit_codes: RUN_EXIT_CODES,
                examples: &[
                    ("croupier run calls --workers 8 --rate 2k", "more instances, more calls"),
                    ("croupier run calls --fault '3s freeze w1 2s'", "a process stands still"),
                ],
            },
            Self::Show => Page {
                usage: "croupier show RUN\ncroupier show --schema",
                about: "A run that has ended, again: its summary as it was printed.",
                sections: sections(&[show::WORDS, show::ROWS]),
                notes: "",
                exit_codes: &[
                    (0, "it was printed"),
                    (2, "the command line is wrong"),
                    (78, "there is no such run, or it cannot be read"),
                ],
                examples: &[
                    ("croupier show results/20261122T074503Z-pubsub", "the run of this folder"),
                    ("croupier show --schema > run.schema.json", "what run.json may hold"),
                ],
            },
            Self::Compare => Page {
                usage: "croupier compare A B [--fail-on-regression PERCENT]",
                about: "Whether two sets of runs differ by more than runs of the same program do.",
                sections: sections(&[compare::WORDS, compare::ROWS]),
                notes: "",
                exit_codes: &[
                    (0, "they were compared"),
                    (2, "the command line is wrong"),
                    (78, "they cannot be read, or are of different things"),
                    (98, "B is worse (--fail-on-regression)"),
                ],
                examples: &[
                    ("croupier compare results/main results/new", "two folders of runs"),
                    ("croupier compare results/main results/new --fail-on-regression 5%", "for a pipeline"),
                ],
            },
            Self::Local => Page {
                usage: "croupier local up [OPTIONS]",
                about: "Starts NATS clusters on this machine, to try things with, and keeps them until Ctrl-C.",
                sections: sections(&[local::WORDS, local::ROWS]),
                notes: SERVER_NOTES,
                exit_codes: &[
                    (0, "a signal has ended the servers"),
                    (1, "a server has ended by itself"),
                    (2, "the command line is wrong"),
                    (78, "the servers cannot be started"),
                ],
                examples: &[
                    ("croupier local up --clusters 1", "one server"),
                    ("croupier local up --nodes 2", "three clusters of two servers each"),
                    ("croupier local up --port 4222 > node.toml", "ports 4222 to 4224, and a configuration"),
                ],
            },
            Self::Check => Page {
                usage: "croupier check NODE.TOML [OPTIONS]",
                about: config_command::CHECK_ABOUT,
                sections: sections(&[config_command::CHECK_ROWS]),
                notes: "",
                exit_codes: &[
                    (0, "a node can run so; warnings do not change that"),
                    (2, "the command line is wrong"),
                    (78, "it cannot, or a server would not have it"),
                ],
                examples: &[
                    ("croupier check node.toml", "the file, and the environment over it"),
                    ("croupier check node.toml --set registry.heartbeat=50ms", "with another setting"),
                    ("croupier check node.toml --connect", "and whether its servers would have a node"),
                ],
            },
            Self::Config => Page {
                usage: "croupier config show [NODE.TOML] [OPTIONS]\ncroupier config schema",
                about: "What a node's configuration comes to, and what it may say.",
                sections: sections(&[config_command::WORDS, config_command::ROWS]),
                notes: "",
                exit_codes: &[
                    (0, "it was printed"),
                    (2, "the command line is wrong"),
                    (78, "the configuration is wrong, or cannot be read"),
                ],
                examples: &[
                    ("croupier config show node.toml", "a file, the environment over it, and the defaults"),
                    ("croupier config show node.toml --origin", "a file, and where each setting comes from"),
                    ("croupier config schema > node.schema.json", "for editors"),
                ],
            },
            Self::Top => Page {
                usage: "croupier top [ADDRESS] [OPTIONS]",
                about: "What a running node is doing, read from its admin server; q quits.",
                sections: sections(&[top::WORDS, top::ROWS]),
                notes: "",
                exit_codes: &[
                    (0, "it was shown"),
                    (1, "no node answers there"),
                    (2, "the command line is wrong"),
                ],
                examples: &[
                    ("croupier top", "the node whose admin server listens where it usually does"),
                    ("croupier top 127.0.0.1:9465 --once", "another one, once, as text"),
                ],
            },
            Self::Doctor => Page {
                usage: "croupier doctor [NODE.TOML]",
                about: "\
Whether a node, or the one of NODE.TOML, can run on this machine, and what to do where it cannot.
A start that fails prints the same below its error.",
                sections: sections(&[]),
                notes: "",
                exit_codes: &[
                    (0, "a node can run here; warnings do not change that"),
                    (1, "it cannot"),
                    (2, "the command line is wrong"),
                    (78, "NODE.TOML is wrong, or cannot be read"),
                ],
                examples: &[
                    ("croupier doctor", "a node with a shard on each core"),
                    ("croupier doctor node.toml", "the node of this file"),
                ],
            },
        }
    }
}

fn overview() -> Page {
    Page {
        usage: "croupier [COMMAND] [OPTIONS]\ncroupier COMMAND --help",
        about: "\
croupier: the load test of Croupier, and what tells about a node's configuration, a running node,
and a machine. In the repository `cargo loadtest` stands for `croupier`, and builds it.",
        sections: vec![
            Section { head: "commands", rows: OVERVIEW_COMMANDS.to_vec() },
            Section { head: "scenarios of run", rows: SCENARIOS.to_vec() },
            Section { head: "options", rows: vec![HELP, VERSION] },
        ],
        notes: SERVER_NOTES,
        exit_codes: RUN_EXIT_CODES,
        examples: &[
            ("croupier", "three local clusters, 10 000 messages a second, a verdict"),
            ("croupier run reqrep --rate 5k", "requests instead"),
            ("croupier run --help", "rates, sizes, clusters, faults, goals"),
            ("croupier check node.toml", "a configuration, without a node"),
        ],
    }
}

/// Of a scenario: its own options, those of every scenario, and what a run leaves.
fn scenario_sections(own: &[&[OptionRow]]) -> Vec<Section> {
    let mut rows: Vec<OptionRow> = Vec::new();
    // The first row of a name is that of the scenario itself.
    for row in own.iter().copied().chain([options::COMMON_ROWS]).flatten() {
        if !rows.iter().any(|before| before.name == row.name) {
            rows.push(*row);
        }
    }
    vec![
        Section { head: "options, and in brackets what holds without them", rows },
        Section { head: "what it leaves, and what it is held to", rows: OutputOptions::ROWS.to_vec() },
        Section { head: "", rows: vec![HELP, VERSION] },
    ]
}

fn sections(tables: &[&[OptionRow]]) -> Vec<Section> {
    vec![Section { head: "", rows: [tables.concat(), vec![HELP, VERSION]].concat() }]
}

#[cfg(test)]
mod tests {
    use super::super::help::WIDTH_MAX;
    use super::*;
    use crate::payload::HEAD_BYTES;

    #[test]
    fn each_command_has_a_text_of_its_own_that_names_its_options_alone() {
        let has = |topic: Topic, option: &str| topic.text().contains(&format!("  {option}"));
        for topic in Topic::ALL {
            let text = topic.text();
            assert!(text.starts_with("usage: croupier"), "{text}");
            assert!(text.contains(&format!("croupier {}", topic.command()).trim_end().to_owned()), "{text}");
            assert!(text.contains("\nexit codes\n") && text.contains("\nexamples\n"), "{text}");
            assert!(!text.contains("gnatsd"), "{text}");
        }
        for (topic, right, wrong) in [
            (Topic::Overview, "run", "--rate"),
            (Topic::Run, "--rate", "--origin"),
            (Topic::Run, "--slo", "--registry-nodes"),
            (Topic::Reqrep, "--timeout", "--workers"),
            (Topic::Registry, "--entries", "--find-max"),
            (Topic::Calls, "--workers", "--entries"),
            (Topic::Local, "--clusters", "--rate"),
            (Topic::Check, "--connect", "--origin"),
            (Topic::Config, "--origin", "--connect"),
            (Topic::Top, "--interval", "--rate"),
            (Topic::Compare, "--fail-on-regression", "--baseline"),
            (Topic::Show, "--schema", "--json"),
            (Topic::Doctor, "--help", "--set"),
        ] {
            assert!(has(topic, right) && !has(topic, wrong), "{}", topic.text());
        }
        assert!(Topic::Run.text().contains(&format!("least {HEAD_BYTES}")));
    }

    #[test]
    fn an_option_is_told_the_commands_that_know_it() {
        for (option, commands) in [
            ("--rate", &["run"][..]),
            ("--topics", &["run pubsub", "run fanout", "run reqrep"]),
            ("--workers", &["run calls"]),
            ("--set", &["check", "config show"]),
            ("--port", &["local up"]),
            ("--fail-on-regression", &["run", "compare"]),
            ("--nothing", &[]),
        ] {
            assert_eq!(Topic::commands_of(option), commands, "{option}");
        }
    }

    #[test]
    fn a_scenario_tells_its_own_defaults() {
        let usual = |topic: Topic, option: &str| {
            let rows = topic.page().sections.into_iter().flat_map(|section| section.rows);
            rows.filter(|row| row.name == option).map(|row| row.usual).collect::<Vec<_>>()
        };
        assert_eq!(usual(Topic::Run, "--rate"), ["10k"]);
        assert_eq!(usual(Topic::Fanout, "--rate"), ["1k"]);
        assert_eq!(usual(Topic::Reqrep, "--rate"), ["5k"]);
        assert_eq!(usual(Topic::Reqrep, "--topics"), ["1k"]);
        assert_eq!(usual(Topic::Calls, "--rate"), ["1k"]);
    }

    #[test]
    fn no_line_is_wider_than_the_help_may_be() {
        for topic in Topic::ALL {
            for line in topic.text().lines() {
                assert!(line.chars().count() <= WIDTH_MAX, "{line}");
            }
        }
    }

    #[test]
    fn a_line_is_about_its_command_and_scenario() {
        for (line, topic) in [
            ("", Topic::Overview),
            ("--help", Topic::Overview),
            ("walk", Topic::Overview),
            ("run", Topic::Run),
            ("run --rate 5k pubsub", Topic::Run),
            ("run --rate 5k calls", Topic::Calls),
            ("run registry --help", Topic::Registry),
            ("run --help fanout", Topic::Fanout),
            ("local up --help", Topic::Local),
            ("check --help", Topic::Check),
        ] {
            assert_eq!(Topic::of_line(line.split_ascii_whitespace()), topic, "{line}");
        }
    }
}
