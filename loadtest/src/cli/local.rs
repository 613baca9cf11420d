//! `croupier local up`, as it is written.

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::{UsageError, unknown_word};
use super::nearest::option_name;
use super::topic::Topic;
use crate::local::LocalOptions;
use crate::quantity::parse_count;

/// Each is a server process with its threads.
const CLUSTERS_MAX: u64 = 32;
const NODES_MAX: u64 = croupier::testing::NODES_MAX as u64;

/// Reads what stands after `croupier local`.
pub(super) fn parse(parser: &mut Parser, topic: Topic) -> Result<Command, UsageError> {
    match parser.next()? {
        Some(Arg::Value(word)) if word == "up" => {}
        Some(Arg::Value(word)) => return Err(unknown_word("local command", &word, "up")),
        Some(argument) => match option_name(&argument, topic)? {
            "--help" => return Ok(Command::Help(topic)),
            option => return Err(UsageError::OtherScenario { option, scenario: "local" }),
        },
        None => return Err(unknown_word("local command", "".as_ref(), "up")),
    }
    let mut options = LocalOptions::default();
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            return Err(unknown_word("argument", &word, "--clusters, --nodes"));
        }
        let (option, most) = match option_name(&argument, topic)? {
            "--help" => return Ok(Command::Help(topic)),
            option @ "--clusters" => (option, CLUSTERS_MAX),
            option @ "--nodes" => (option, NODES_MAX),
            option => return Err(UsageError::OtherScenario { option, scenario: "local up" }),
        };
        let given = parser.value()?.string()?;
        let count =
            parse_count(&given, 1..=most).map_err(|reason| UsageError::BadValue { option, given, reason })?
                as usize;
        *if option == "--clusters" { &mut options.clusters } else { &mut options.nodes } = count;
    }
    Ok(Command::Local(options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{complaint, parse_line};

    #[test]
    fn local_up_hears_its_counts() {
        assert_eq!(parse_line("local up").expect("known"), Command::Local(LocalOptions::default()));
        let expected = LocalOptions { clusters: 2, nodes: 3 };
        let line = "local up --clusters 2 --nodes 3";
        assert_eq!(parse_line(line).expect("known"), Command::Local(expected));
        for (line, answer) in [
            ("local", "known: up"),
            ("local down", "known: up"),
            ("local up --nodes 17", "1 to 16"),
            ("local up --rate 5k", "no option of local up"),
            ("local up c1", "--clusters, --nodes"),
        ] {
            assert!(complaint(line).contains(answer), "{line}: {}", complaint(line));
        }
    }
}
