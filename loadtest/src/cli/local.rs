//! `croupier local up`, as it is written.

use lexopt::{Arg, Parser, ValueExt};

use super::Command;
use super::error::{UsageError, too_many, unknown_word};
use super::nearest::{Asked, asked, value};
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
        Some(Arg::Value(word)) if !word.is_empty() => {
            return Err(unknown_word("command after local", &word, "up"));
        }
        None | Some(Arg::Value(_)) => {
            return Err(UsageError::Missing { what: "what to do", command: "local", example: "up" });
        }
        Some(argument) => match asked(&argument, topic)? {
            Asked::Instead(command) => return Ok(*command),
            Asked::Option(option) if topic.option_names().contains(&option) => {
                return Err(UsageError::OptionBeforeCommand { option, command: "local up" });
            }
            Asked::Option(option) => return Err(UsageError::other(option, "local")),
        },
    }
    let mut options = LocalOptions::default();
    while let Some(argument) = parser.next()? {
        if let Arg::Value(word) = argument {
            return Err(too_many(&word, "local up", "--clusters, --nodes and --port alone"));
        }
        let (option, most) = match asked(&argument, topic)? {
            Asked::Instead(command) => return Ok(*command),
            Asked::Option(option @ "--clusters") => (option, CLUSTERS_MAX),
            Asked::Option(option @ "--nodes") => (option, NODES_MAX),
            Asked::Option(option @ "--port") => (option, u64::from(u16::MAX)),
            Asked::Option(option) => return Err(UsageError::other(option, "local up")),
        };
        let given = value(parser, option, if option == "--port" { "PORT" } else { "COUNT" })?.string()?;
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
            ("local", "as in `croupier local up`"),
            ("local down", "known: up"),
            ("local --port 4222", "as in `croupier local up --port ..`"),
            ("local up --port", "--port has no value; write --port PORT"),
            ("local up --port http", "not a number"),
            ("local up --nodes 17", "1 to 16"),
            ("local up --port 0", "1 to 65535"),
            ("local up --port 65535 --clusters 2", "no 2 ports from there on"),
            ("local up --rate 5k", "no option of local up"),
            ("local up c1", "takes --clusters, --nodes and --port alone"),
        ] {
            assert!(complaint(line).contains(answer), "{line}: {}", complaint(line));
        }
    }
}
