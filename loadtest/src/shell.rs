//! Commands as a shell takes them.

/// The program and its words on one line. `program` may be of two words where cargo is the program.
pub(crate) fn command<'w>(program: &str, words: impl Iterator<Item = &'w str>) -> String {
    let program = if program == "cargo loadtest" { program.to_owned() } else { quoted(program) };
    [program].into_iter().chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
}

/// A word as it is, or in quotes where a shell would take it apart.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_shell() {
        for (word, expected) in [
            ("--rate", "--rate"),
            ("20k", "20k"),
            ("", "''"),
            ("3s kill c2/1", "'3s kill c2/1'"),
            ("it's", "'it'\\''s'"),
        ] {
            assert_eq!(command("croupier", [word].into_iter()), format!("croupier {expected}"));
        }
        assert_eq!(command("cargo loadtest", ["run"].into_iter()), "cargo loadtest run");
        assert_eq!(command("a b/croupier", [].into_iter()), "'a b/croupier'");
    }
}
