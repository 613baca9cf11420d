//! Which option was meant, when there is none of that name.

use lexopt::Arg;

use super::error::UsageError;
use super::topic::Topic;

/// The name of an option as the tables of [`topic`](mod@super::topic) have it, whichever command knows it.
///
/// # Errors
///
/// [`UsageError::UnknownOption`] with the nearest one of those that belong to `topic`.
pub(crate) fn option_name(argument: &Arg<'_>, topic: Topic) -> Result<&'static str, UsageError> {
    let given = match argument {
        Arg::Short('h') => return Ok("--help"),
        Arg::Short('V') => return Ok("--version"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(value) => value.to_string_lossy().into_owned(),
    };
    let known = Topic::Overview.option_names().into_iter().find(|option| *option == given);
    known.ok_or_else(|| UsageError::UnknownOption { nearest: nearest(&given, topic.option_names()), given })
}

/// The word that takes the fewest changes to get to, the first of those that are equally near; nothing when
/// there are no words.
pub(crate) fn nearest(given: &str, words: impl IntoIterator<Item = &'static str>) -> &'static str {
    words.into_iter().min_by_key(|word| edit_distance(given, word)).unwrap_or_default()
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
