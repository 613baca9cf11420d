//! Which option was meant, when there is none of that name.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

use super::Command;
use super::error::UsageError;
use super::topic::Topic;

/// What an option asks for.
pub(crate) enum Asked {
    /// A command in the place of the one that it stands after: help, or the version.
    Instead(Box<Command>),
    /// The name of an option as the tables of [`topic`](mod@super::topic) have it, whichever command knows it.
    Option(&'static str),
}

/// Reads the name of an option after the command that `topic` is about.
///
/// # Errors
///
/// [`UsageError::UnknownOption`] with the nearest one of those that belong to `topic`.
pub(crate) fn asked(argument: &Arg<'_>, topic: Topic) -> Result<Asked, UsageError> {
    let given = match argument {
        Arg::Short('h') => "--help".to_owned(),
        Arg::Short('V') => "--version".to_owned(),
        Arg::Short(letter) => {
            let options = topic.option_names();
            let begins =
                |option: &&str| option.strip_prefix("--").is_some_and(|name| name.starts_with(*letter));
            let example = options.into_iter().find(begins).unwrap_or("--help");
            return Err(UsageError::OneDash { given: format!("-{letter}"), example });
        }
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(value) => value.to_string_lossy().into_owned(),
    };
    match Topic::Overview.option_names().into_iter().find(|option| *option == given) {
        Some("--help") => Ok(Asked::Instead(Box::new(Command::Help(topic)))),
        Some("--version") => Ok(Asked::Instead(Box::new(Command::Version))),
        Some(option) => Ok(Asked::Option(option)),
        None => Err(UsageError::UnknownOption { nearest: nearest(&given, topic.option_names()), given }),
    }
}

/// The value of an option, which `value` is the name of.
///
/// # Errors
///
/// [`UsageError::NoValue`] when there is none, when it is empty, and when another option stands in its place.
pub(crate) fn value(
    parser: &mut Parser,
    option: &'static str,
    value: &'static str,
) -> Result<OsString, UsageError> {
    let given = parser.value().map_err(|_| UsageError::NoValue { option, value })?;
    let is_option = Topic::Overview.option_names().iter().any(|name| given == *name);
    if given.is_empty() || is_option { Err(UsageError::NoValue { option, value }) } else { Ok(given) }
}

/// The word that takes the fewest changes to get to, of those few that a slip of the fingers makes; else the
/// shortest that begins so; the first of those that are equally near.
pub(crate) fn nearest<'w>(given: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let given = given.to_lowercase();
    let words: Vec<&str> = words.into_iter().collect();
    let distances = words.iter().map(|word| (edit_distance(&given, word), *word));
    let near = distances.filter(|(distance, _)| *distance <= slips_max(&given));
    let begun = || words.iter().copied().filter(|word| !bare(&given).is_empty() && word.starts_with(&given));
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
        .or_else(|| begun().min_by_key(|word| word.len()))
}

/// One in three letters, rounded up: with more of them wrong it is another word.
fn slips_max(given: &str) -> usize {
    bare(given).chars().count().div_ceil(3)
}

fn bare(option: &str) -> &str {
    option.trim_start_matches('-')
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (the
/// optimal string alignment distance).
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut next = vec![i];
        for j in 1..=to.len() {
            let replaced = row[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_near_is_not_meant() {
        let words = ["--help", "--rate", "--ramp", "--concurrency", "--config", "--slo"];
        for (given, meant) in [
            ("--rtae", Some("--rate")),
            ("--RATE", Some("--rate")),
            ("--rates", Some("--rate")),
            ("--conf", Some("--config")),
            ("--concur", Some("--concurrency")),
            ("--foo", None),
            ("--verbose", None),
            ("--x", None),
            ("--", None),
        ] {
            assert_eq!(nearest(given, words), meant, "{given}");
        }
        assert_eq!(nearest("run", []), None);
    }

    #[test]
    fn the_distance_counts_edits_and_swaps() {
        for (from, to, distance) in [
            ("", "", 0),
            ("--rate", "--rate", 0),
            ("--rtae", "--rate", 1),
            ("a", "", 1),
            ("abc", "axc", 1),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }
}
