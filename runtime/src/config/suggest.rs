//! "Did you mean": the known word that is nearest to an unknown one.

/// The words compared are keys; a longer one is no typing error of any.
const WORD_CHARS_MAX: usize = 64;

/// The word of `known` with the fewest edits from `unknown`, if these are few enough to be a slip.
pub(crate) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let unknown: Vec<char> = normal(unknown).collect();
    if unknown.is_empty() || unknown.len() > WORD_CHARS_MAX {
        return None;
    }
    let edits_max = (unknown.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (edits(&unknown, &normal(word).collect::<Vec<_>>()), word))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, word)| word)
}

/// `ping-interval`, `pingInterval` and `ping_interval` differ by less than they seem to.
fn normal(word: &str) -> impl Iterator<Item = char> + '_ {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment distance).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_find_none() {
        let known = ["connect_timeout", "ping_interval", "role", "max", "base"];
        for (unknown, expected) in [
            ("conect_timeout", Some("connect_timeout")),
            ("connect-timeout", Some("connect_timeout")),
            ("connectTimeout", Some("connect_timeout")),
            ("pnig_interval", Some("ping_interval")),
            ("rol", Some("role")),
            ("amx", Some("max")),
            ("Role", Some("role")),
            ("tls", None),
            ("registry", None),
            ("", None),
        ] {
            assert_eq!(nearest(unknown, known), expected, "{unknown}");
        }
    }

    #[test]
    fn edits_are_counted() {
        let count = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!(count(a, b), expected, "{a} {b}");
        }
    }
}
