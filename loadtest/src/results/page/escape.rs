//! Text as it may stand in HTML and SVG.

/// The text with all that could begin or end markup replaced, and what XML does not know left out.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(letter),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// The same of a sentence whose numbers no line break may split, nor part from their units.
pub(super) fn sentence(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(' ') {
        kept.push_str(before);
        let word = after.split([' ', ',', ';', ':', ')']).next().unwrap_or("");
        let is_group = word.bytes().take_while(u8::is_ascii_digit).count() == 3;
        // Not "p99 900", nor "c2/1 234".
        let name = before.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let is_number = name.len() < before.len();
        let is_name = name.ends_with(|letter: char| letter.is_alphanumeric() || "./".contains(letter));
        kept.push(match is_number {
            true if is_group && !is_name => '\u{202f}',
            true if UNITS.contains(&word) => '\u{a0}',
            _ => ' ',
        });
        rest = after;
    }
    kept.push_str(rest);
    escaped(&kept)
}

/// What stands behind a number.
const UNITS: [&str; 8] = ["us", "ms", "s", "%", "B", "KiB", "MiB", "B/s"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_whole_and_with_its_unit() {
        for (text, kept) in [
            ("lost 1 234 567 of 20 000 sent", "lost 1\u{202f}234\u{202f}567 of 20\u{202f}000 sent"),
            ("p99 900 us, 14.0 %, less", "p99 900\u{a0}us, 14.0\u{a0}%, less"),
            ("2 cores for 5 shards", "2 cores for 5 shards"),
            ("c2/1 <at> 3 s: \u{e9}", "c2/1 &lt;at&gt; 3\u{a0}s: \u{e9}"),
            ("", ""),
            (" 1 ", " 1 "),
        ] {
            assert_eq!(sentence(text), kept);
        }
    }

    #[test]
    fn nothing_that_is_markup_stays() {
        assert_eq!(escaped("a<b>&\"'c"), "a&lt;b&gt;&amp;&quot;&#39;c");
        assert_eq!(escaped("é\u{1b}[0m\n"), "é\u{fffd}[0m\n");
    }
}
