//! What is wrong with a configuration, where, and what to do: one [`Problem`] for each thing.

use std::{fmt, io, ops::Range, path::PathBuf};

use super::origin::Origin;

/// What a configuration parsed from a string is called in its errors.
pub(crate) const STRING_SOURCE: &str = "<string>";

/// What a configuration built in code is called in its errors.
pub(crate) const CODE_SOURCE: &str = "configuration";

/// The longest part of a line that an error shows.
const SHOWN_CHARS_MAX: usize = 160;

/// Why a configuration cannot be used. Displayed over several lines, with place and remedy; a password
/// in a server address is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{}: longer than {bytes_max} bytes: this is no node configuration", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest file that is read, in bytes.
        bytes_max: u64,
    },
    /// A file that should hold a secret holds nothing but, perhaps, a line break.
    #[error("{}: holds no secret: write at least 16 random bytes into it", path.display())]
    EmptySecret {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a secret is longer than one.
    #[error("{}: longer than {bytes_max} bytes: a secret file holds one secret", path.display())]
    LongSecret {
        /// The file.
        path: PathBuf,
        /// The longest secret, in bytes.
        bytes_max: usize,
    },
    /// The text is not TOML, or of a version that is not known, or an override is none. Reading ends at the first of
    /// these.
    #[error("{}", display_all(origin, std::slice::from_ref(&**problem)))]
    Form {
        /// The file, or `<string>`.
        origin: String,
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// Keys that are not known, values of the wrong kind, and values that cannot work, all of them. More than 64 keys
    /// and kinds are told with the next reading.
    #[error("{}", display_all(origin, problems))]
    Invalid {
        /// The file, `<string>`, or `configuration` for one without a file.
        origin: String,
        /// What is wrong, at least one: from top to bottom in the file, then what comes from elsewhere; in code
        /// in the order of the sections.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// What is wrong with the text or its values; empty when there was no text to read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } | Self::TooLong { .. } | Self::EmptySecret { .. } | Self::LongSecret { .. } => {
                &[]
            }
            Self::Form { problem, .. } => std::slice::from_ref(problem),
            Self::Invalid { problems, .. } => problems,
        }
    }
}

/// A position in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The setting, such as `clusters[1].name`; empty when the text has not got that far.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
    /// Where it stands in the file; `None` in a configuration built in code, when a setting is missing, or when
    /// it comes from elsewhere.
    pub place: Option<Place>,
    /// The environment's variable or the `--set` that it comes from, if from one.
    pub from: Option<Origin>,
    excerpt: Option<Excerpt>,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: redacted(&message.into()),
            remedy: Some(remedy.into()),
            place: None,
            from: None,
            excerpt: None,
        }
    }

    /// A problem that says by itself what to do.
    pub(crate) fn plain(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { remedy: None, ..Self::new(key, message, "") }
    }

    /// Adds line, column and the line itself.
    #[must_use]
    pub(crate) fn at(self, text: &str, span: Range<usize>) -> Self {
        let (place, excerpt) = locate(text, span);
        Self { place: Some(place), excerpt: Some(excerpt), ..self }
    }

    /// Adds where it stands in what a setting comes from.
    #[must_use]
    pub(crate) fn within(self, text: &Text, span: Range<usize>) -> Self {
        match &text.origin {
            Origin::File { .. } | Origin::Default => self.at(&text.text, span),
            origin => {
                let (_, excerpt) = locate(&text.text, span);
                Self { from: Some(origin.clone()), excerpt: Some(excerpt), ..self }
            }
        }
    }

    fn display(&self, origin: &str) -> impl fmt::Display + '_ {
        let origin = self.from.as_ref().map_or_else(|| origin.to_owned(), Origin::to_string);
        fmt_fn(move |f| {
            f.write_str(&origin)?;
            if let Some(Place { line, column }) = self.place {
                write!(f, ":{line}:{column}")?;
            }
            if !self.key.is_empty() {
                write!(f, ": {}", self.key)?;
            }
            write!(f, ": {}", self.message)?;
            if let Some(Excerpt { line, carets_start, carets }) = &self.excerpt {
                let number = self.place.map(|place| place.line.to_string()).unwrap_or_default();
                write!(f, "\n{:5} |\n{number:>5} | {line}\n{:5} | ", "", "")?;
                write!(f, "{:carets_start$}{:^<carets$}", "", "")?;
            }
            if let Some(remedy) = &self.remedy {
                write!(f, "\n{:5} = {remedy}", "")?;
            }
            Ok(())
        })
    }
}

/// A text that settings come from, and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) origin: Origin,
    pub(crate) text: String,
}

/// Line and column of a byte in a text.
pub(crate) fn place_of(text: &str, at: usize) -> Place {
    let at = text.floor_char_boundary(at.min(text.len()));
    let line_start = text[..at].rfind('\n').map_or(0, |found| found + 1);
    let line = text[..line_start].matches('\n').count() + 1;
    Place { line, column: text[line_start..at].chars().count() + 1 }
}

/// The line of a problem as it is shown: redacted, clipped, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    line: String,
    carets_start: usize,
    carets: usize,
}

fn locate(text: &str, span: Range<usize>) -> (Place, Excerpt) {
    let floor = |at: usize| text.floor_char_boundary(at.min(text.len()));
    let (start, end) = (floor(span.start), floor(span.end.max(span.start)));
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let line_number = text[..line_start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;

    let line = &hide_secret(line);
    let within = |at: usize| line.floor_char_boundary(at.saturating_sub(line_start));
    let (shown, start, end) = redacted_with(line, within(start), within(end));
    let chars: Vec<char> = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let carets_start = shown[..start].chars().count();
    let carets = shown[start..end].chars().count().max(1);
    // A long line is shown from some characters before the place.
    let first =
        if chars.len() <= SHOWN_CHARS_MAX { 0 } else { carets_start.saturating_sub(SHOWN_CHARS_MAX / 4) };
    let last = chars.len().min(first + SHOWN_CHARS_MAX);
    let carets = carets.min((last - first).saturating_sub(carets_start - first).max(1));
    let line = chars[first..last].iter().collect();
    (Place { line: line_number, column }, Excerpt { line, carets_start: carets_start - first, carets })
}

/// The line up to the value of a setting whose name promises a secret. There is none; a user may think so.
fn hide_secret(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let value_at = |word: &str| {
        let ends = lower.match_indices(word).map(|(at, _)| at + word.len());
        let assigned = ends.filter_map(|end| {
            let rest = lower[end..].trim_start_matches(is_name);
            let name = &lower[..lower.len() - rest.len()];
            let is_file = name.ends_with("_file") || name.ends_with("_files");
            let after = rest.trim_start_matches(['"', '\'', ' ', '\t']);
            let value = after.strip_prefix('=').filter(|_| !is_file)?;
            let is_text = value.trim_start().starts_with(['"', '\'']);
            (is_text || !TEXT_ONLY_WORDS.contains(&word)).then(|| lower.len() - value.len())
        });
        assigned.min()
    };
    match SECRET_WORDS.iter().copied().filter_map(value_at).min() {
        Some(value_at) => format!("{} {REDACTION}", &line[..value_at]),
        None => line.to_owned(),
    }
}

/// Whether the value that stands there is one that [`hide_secret`] hides.
pub(crate) fn is_secret(text: &str, at: usize) -> bool {
    let at = text.floor_char_boundary(at.min(text.len()));
    let line_start = text[..at].rfind('\n').map_or(0, |before| before + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    hide_secret(line) != line
}

/// The text with what stands in double quotes replaced.
pub(crate) fn without_quoted(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}{REDACTION}{}", &text[..first], &text[last + 1..])
        }
        _ => text.to_owned(),
    }
}

/// What names of settings contain whose value nobody should see.
const SECRET_WORDS: [&str; 8] = ["secret", "pass", "token", "key", "creds", "jwt", "auth", "seed"];

/// Those of them that are also names of settings which hold no secret, unless a text follows.
const TEXT_ONLY_WORDS: [&str; 2] = ["auth", "seed"];

/// The text with whatever stands before an `@` replaced: it may be a password. The text is a line or a sentence, in
/// which quotes stand around values.
pub(crate) fn redacted(text: &str) -> String {
    redacted_with(text, 0, 0).0
}

/// The same of a value that stands alone: a quote in it is a part of it, perhaps of its password.
pub(crate) fn redacted_value(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    // Before a scheme that is none there may be half a password.
    let is_scheme = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match scheme.filter(|scheme| is_scheme(scheme)) {
        Some(scheme) => format!("{scheme}://{REDACTION}@{host}"),
        None => format!("{REDACTION}@{host}"),
    }
}

const REDACTION: &str = "***";

/// [`redacted`], and where two positions of the text have moved to.
///
/// A secret reaches back from its `@` to `://`, else to a quote, else to the `@` before or to the start:
/// rather too much is hidden than too little.
fn redacted_with(text: &str, start: usize, end: usize) -> (String, usize, usize) {
    let mut shown = String::with_capacity(text.len());
    let mut copied = 0;
    let (mut start_shown, mut end_shown) = (None, None);
    for (at, _) in text.match_indices('@') {
        let before = &text[copied..at];
        let from = before
            .find("://")
            .map(|found| found + "://".len())
            .or_else(|| before.find(['"', '\'', '`']).map(|found| found + 1))
            .unwrap_or(0);
        let secret_start = copied + from;
        for (position, moved) in [(start, &mut start_shown), (end, &mut end_shown)] {
            if moved.is_none() && position < at {
                // A position inside the secret goes to its start.
                *moved = Some(shown.len() + position.min(secret_start) - copied);
            }
        }
        shown.push_str(&text[copied..secret_start]);
        if secret_start < at {
            shown.push_str(REDACTION);
        }
        copied = at;
    }
    let moved = |position: usize| shown.len() + position - copied;
    let (start, end) = (start_shown.unwrap_or_else(|| moved(start)), end_shown.unwrap_or_else(|| moved(end)));
    shown.push_str(&text[copied..]);
    (shown, start, end.max(start))
}

fn display_all(origin: &str, problems: &[Problem]) -> String {
    let mut shown = String::new();
    if problems.len() > 1 {
        shown = format!("{origin}: {} problems\n", problems.len());
    }
    let each: Vec<String> = problems.iter().map(|problem| problem.display(origin).to_string()).collect();
    shown + &each.join("\n")
}

fn fmt_fn<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result>(display: F) -> impl fmt::Display {
    struct FmtFn<F>(F);

    impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for FmtFn<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (self.0)(f)
        }
    }

    FmtFn(display)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_with_its_place() {
        let text = "version = 1\r\n\tname = \"a b\" # x\r\n";
        let at = text.find("\"a b\"").unwrap();
        let problem = Problem::new("node.name", "is odd", "choose another").at(text, at..at + 5);
        assert_eq!(problem.place, Some(Place { line: 2, column: 9 }));
        assert_eq!(
            problem.display("n.toml").to_string(),
            "n.toml:2:9: node.name: is odd\n      |\n    2 |  name = \"a b\" # x\n      |         ^^^^^\n      = choose another"
        );
    }

    #[test]
    fn a_place_may_be_anywhere() {
        let text = "a\nbé";
        for start in 0..10 {
            for end in 0..10 {
                let (place, excerpt) = locate(text, start..end);
                assert_eq!(place.line, if start < 2 { 1 } else { 2 });
                assert!(excerpt.carets >= 1, "{start}..{end}");
            }
        }
        assert_eq!(locate("", 0..0).0, Place { line: 1, column: 1 });
    }

    #[test]
    fn a_long_line_is_clipped_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
        let (place, excerpt) = locate(&text, 5000..5004);
        assert_eq!(place.column, 5001);
        assert_eq!(excerpt.line.len(), SHOWN_CHARS_MAX);
        let shown = &excerpt.line[excerpt.carets_start..][..excerpt.carets];
        assert_eq!(shown, "HERE");
        let (_, excerpt) = locate(&text, 5000..10_000);
        assert_eq!(excerpt.carets_start + excerpt.carets, SHOWN_CHARS_MAX);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("servers = [\"nats://u:p@h:1\"]", "servers = [\"nats://***@h:1\"]"),
            ("servers = [\"u:p@h:1\", 'v:q@i']", "servers = [\"***@h:1\"***@i']"),
            ("nats://u:p@q@h", "nats://******@h"),
            ("nats://u:p/\"r@h", "nats://***@h"),
            ("nothing to hide", "nothing to hide"),
            ("@", "@"),
        ] {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }

    #[test]
    fn a_quote_in_a_value_hides_nothing_less() {
        for (value, shown) in [
            ("nats://u:p@h:1", "nats://***@h:1"),
            ("u:s3cret\"s3cret@h", "***@h"),
            ("'s3cret@h", "***@h"),
            ("s3cret`@s3cret'@h", "***@h"),
            ("tls://u:s3cret\"://s3cret@h", "tls://***@h"),
            ("u:s3cret://s3cret@h", "***@h"),
            ("nats://@h", "nats://***@h"),
            ("h:1", "h:1"),
            ("\"h", "\"h"),
        ] {
            assert_eq!(redacted_value(value), shown, "{value}");
        }
    }

    #[test]
    fn a_secret_in_the_file_is_not_shown() {
        for (line, shown) in [
            ("secret = \"canary\"", "secret = ***"),
            ("secrets=['canary']", "secrets= ***"),
            (
                "registry = { cluster = \"x\", \"Secret\" = \"canary\", a = 1 }",
                "registry = { cluster = \"x\", \"Secret\" = ***",
            ),
            ("key_ring = \"canary", "key_ring = ***"),
            (
                "secret_files = [\"/run/registry\"], secret_file = 1",
                "secret_files = [\"/run/registry\"], secret_file = 1",
            ),
            ("secret_files = [\"a\"], token = 'canary'", "secret_files = [\"a\"], token = ***"),
            ("auth = \"canary\"", "auth = ***"),
            ("auth = { user = \"u\", seed = \"canary\" }", "auth = { user = \"u\", seed = ***"),
            (
                "auth = { password_file = \"f\", pass = 'canary' }",
                "auth = { password_file = \"f\", pass = ***",
            ),
            (
                "seeds = [\"a:1\"], seed = 5, nkey_seed_file = \"f\"",
                "seeds = [\"a:1\"], seed = 5, nkey_seed_file = \"f\"",
            ),
            ("name = \"secret\" # password", "name = \"secret\" # password"),
        ] {
            assert_eq!(hide_secret(line), shown);
            for start in 0..=line.len() {
                let (_, excerpt) = locate(line, start..line.len());
                assert!(!excerpt.line.contains("canary"), "{excerpt:?}");
            }
        }
    }

    #[test]
    fn carets_stay_under_their_word_beside_a_secret() {
        let text = "servers = [\"nats://user:password@h:1\"], wieght = 2";
        let at = text.find("wieght").unwrap();
        let (_, excerpt) = locate(text, at..at + 6);
        assert_eq!(&excerpt.line[excerpt.carets_start..][..excerpt.carets], "wieght");
        let at = text.find("\"nats").unwrap();
        let (_, excerpt) = locate(text, at..at + 26);
        assert_eq!(&excerpt.line[excerpt.carets_start..][..excerpt.carets], "\"nats://***@h:1\"");
        let at = text.find("password").unwrap();
        let (_, excerpt) = locate(text, at..at + 8);
        assert!(!excerpt.line.contains("password"));
    }
}
