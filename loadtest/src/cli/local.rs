//! `croupier local up`, as it is written.

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::{UsageError, unknown_word};
use super::nearest::option_name;
use super::topic::Topic;
use crate::local::LocalOptions;
use crate::quantity::{QuantityError, parse_count};

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
            return Err(unknown_word("argument", &word, "--clusters, --nodes, --port"));
        }
        let (option, most) = match option_name(&argument, topic)? {
            "--help" => return Ok(Command::Help(topic)),
            option @ "--clusters" => (option, CLUSTERS_MAX),
            option @ "--nodes" => (option, NODES_MAX),
            option @ "--port" => (option, u64::from(u16::MAX)),
            option => return Err(UsageError::OtherScenario { option, scenario: "local up" }),
        };
        let given = parser.value()?.string()?;
        let number =
            parse_count(&given, 1..=most).map_err(|reason| UsageError::BadValue { option, given, reason })?;
        match option {
            "--clusters" => options.clusters = number as usize,
            "--nodes" => options.nodes = number as usize,
            _ => options.first_port = u16::try_from(number).ok(),
        }
    }
    let servers = options.clusters * options.nodes;
    if let Some(first) = options.first_port
        && usize::from(first) + servers - 1 > usize::from(u16::MAX)
    {
        let reason = format!("there are no {servers} ports from there on; the last is {}", u16::MAX);
        let reason = QuantityError::NotTogether { reason };
        return Err(UsageError::BadValue { option: "--port", given: first.to_string(), reason });
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
        let expected = LocalOptions { clusters: 2, nodes: 3, first_port: Some(4222) };
        let line = "local up --clusters 2 --nodes 3 --port 4222";
        assert_eq!(parse_line(line).expect("known"), Command::Local(expected));
        for (line, answer) in [
            ("local", "known: up"),
            ("local down", "known: up"),
            ("local up --nodes 17", "1 to 16"),
            ("local up --port 0", "1 to 65535"),
            ("local up --port 65535 --clusters 2", "no 2 ports from there on"),
            ("local up --rate 5k", "no option of local up"),
            ("local up c1", "--clusters, --nodes, --port"),
        ] {
            assert!(complaint(line).contains(answer), "{line}: {}", complaint(line));
        }
    }
}
