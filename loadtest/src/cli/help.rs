//! The text of `--help`, from the tables of the options: the same that the command line is read with.

use crate::config_command;
use crate::local;
use crate::options::{self, CallsOptions, OutputOptions, RegistryOptions, RunOptions};
use crate::{compare, show, top};

/// One option: its name, what it takes, and what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionRow {
    pub(crate) name: &'static str,
    /// The name of its value; nothing for an option that takes none.
    pub(crate) value: &'static str,
    /// Lines of their own where it has several.
    pub(crate) help: &'static str,
    /// What holds without it; nothing where that needs no word.
    pub(crate) usual: &'static str,
}

impl OptionRow {
    pub(crate) const fn new(
        name: &'static str,
        value: &'static str,
        help: &'static str,
        usual: &'static str,
    ) -> Self {
        Self { name, value, help, usual }
    }
}

/// A paragraph of the help, with a table below it.
struct Section {
    head: &'static str,
    rows: &'static [OptionRow],
    /// Words that are no options, in the form of rows.
    words: &'static [OptionRow],
}

const USAGE: &str = "\
croupier: the load test of Croupier

usage: croupier [run [pubsub|fanout|reqrep|registry|calls]] [options]
       croupier show RUN | --schema
       croupier compare A B [--fail-on-regression PERCENT]
       croupier local up [--clusters COUNT] [--nodes COUNT]
       croupier check NODE.TOML [--set KEY=VALUE ..] [--connect]
       croupier config show [NODE.TOML] [--set KEY=VALUE ..] [--origin]
       croupier config schema
       croupier top [ADDRESS] [--once] [--interval TIME]
       croupier doctor [NODE.TOML]
";

const SECTIONS: &[Section] = &[
    Section { head: RunOptions::ABOUT, rows: RunOptions::ROWS, words: &[] },
    Section { head: RunOptions::FANOUT_ABOUT, rows: RunOptions::FANOUT_ROWS, words: &[] },
    Section { head: RunOptions::REQREP_ABOUT, rows: RunOptions::REQREP_ROWS, words: &[] },
    Section { head: RegistryOptions::ABOUT, rows: RegistryOptions::ROWS, words: &[] },
    Section { head: CallsOptions::ABOUT, rows: CallsOptions::ROWS, words: &[] },
    Section { head: "all of them", rows: options::COMMON_ROWS, words: &[] },
    Section { head: "", rows: OutputOptions::ROWS, words: &[] },
    Section { head: "", rows: ANSWERED_EVERYWHERE, words: &[] },
    Section { head: "show: a run that has ended, again.", rows: show::ROWS, words: show::WORDS },
    Section {
        head: "compare: whether two sets of runs differ by more than chance.",
        rows: &[],
        words: compare::WORDS,
    },
    Section {
        head: "local up: starts gnatsd clusters on free ports of this machine, to try things with.",
        rows: local::ROWS,
        words: local::WORDS,
    },
    Section { head: "a node's configuration", rows: config_command::ROWS, words: config_command::WORDS },
    Section {
        head: "top: what a running node is doing, from its admin server; q quits.",
        rows: top::ROWS,
        words: top::WORDS,
    },
];

const ANSWERED_EVERYWHERE: &[OptionRow] =
    &[OptionRow::new("--help", "", "", ""), OptionRow::new("--version", "", "", "")];

const TAIL: &str = "
doctor: whether a node, or the one of NODE.TOML, can run on this machine, and what to do where
it cannot; exit code 1 then. A start that fails prints the same below its error.

nats-server is looked for in $NATS_SERVER, in PATH, in /usr/sbin and in
target/nats-server/; if there is none, it is fetched with pip.

exit codes
  0  the run is VALID or DEGRADED     2   the command line is wrong
  1  the run failed                   78  the configuration or the machine is not fit
  97 the run is INVALID               98  it is worse than the baseline
  99 a goal was missed                 130 it was interrupted: the report is of a part
";

/// Where the meanings begin, and the usual values, in columns.
const HELP_COLUMN: usize = 26;
const USUAL_COLUMN: usize = 75;

/// No line is longer.
const WIDTH_MAX: usize = 100;

/// The whole text.
pub(crate) fn help() -> String {
    let mut text = USAGE.to_owned();
    for section in SECTIONS {
        if !section.head.is_empty() {
            text.push('\n');
            text.push_str(section.head);
            text.push('\n');
        }
        for row in section.words.iter().chain(section.rows) {
            push_row(&mut text, row);
        }
    }
    text.push_str(TAIL);
    text
}

/// The names of all options of all commands; some come twice.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().flat_map(|section| section.rows).map(|row| row.name)
}

fn push_row(text: &mut String, row: &OptionRow) {
    let mut line = format!("  {} {}", row.name, row.value);
    let lines = row.help.lines().count();
    for (number, part) in row.help.lines().enumerate() {
        if line.trim_end().len() >= HELP_COLUMN {
            push_line(text, &line);
            line.clear();
        }
        line = format!("{:HELP_COLUMN$}{part}", line.trim_end());
        if number + 1 < lines {
            push_line(text, &line);
            line.clear();
        }
    }
    if !row.usual.is_empty() {
        let column = USUAL_COLUMN.min(WIDTH_MAX.saturating_sub(row.usual.len() + 2));
        if line.len() > column {
            push_line(text, &line);
            line.clear();
        }
        line = format!("{line:column$}[{}]", row.usual);
    }
    push_line(text, &line);
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::HEAD_BYTES;

    #[test]
    fn the_help_names_every_option_and_the_least_size() {
        let text = help();
        for option in names() {
            assert!(text.contains(&format!("  {option}")), "{option}");
        }
        assert!(text.contains(&format!("least {HEAD_BYTES}")));
    }

    #[test]
    fn the_help_fits_a_terminal() {
        for line in help().lines() {
            assert!(line.chars().count() <= WIDTH_MAX, "{line}");
        }
    }

    #[test]
    fn a_row_is_aligned_however_long_its_parts_are() {
        let mut text = String::new();
        push_row(&mut text, &OptionRow::new("--rate", "RATE", "a second", "20k"));
        push_row(&mut text, &OptionRow::new("--fault", "'TIME WHAT'", "one\ntwo", "none"));
        push_row(&mut text, &OptionRow::new("--a-very-long-option", "WITH-ITS-VALUE", "three", ""));
        let spaces = |count: usize| " ".repeat(count);
        let expected = format!(
            "  --rate RATE{}a second{}[20k]\n  --fault 'TIME WHAT'{}one\n{}two{}[none]\n  \
             --a-very-long-option WITH-ITS-VALUE\n{}three\n",
            spaces(13),
            spaces(41),
            spaces(5),
            spaces(26),
            spaces(46),
            spaces(26)
        );
        assert_eq!(text, expected, "\n{text}");
    }
}
