//! Settings from the environment and the command line: one key and one value each, taken apart.

use std::{ffi::OsString, ops::Range};

use super::{
    error::{ConfigError, Problem, Text},
    origin::Origin,
};

/// What the name of every variable begins with that sets something.
pub(super) const PREFIX: &str = "CROUPIER_";
/// What stands in a variable's name for the dot of a key.
const DOT: &str = "__";
/// Most settings from the environment and from the command line, each.
pub const OVERRIDES_MAX: usize = 1024;
/// Longest of them, in bytes.
pub const OVERRIDE_BYTES_MAX: usize = 1 << 16;

/// One setting from outside the file.
#[derive(Clone, Debug)]
pub(super) struct Override {
    pub(super) text: Text,
    pub(super) steps: Vec<Step>,
    /// Where its value stands in its text.
    pub(super) value: Range<usize>,
}

/// One step of a key, and where it stands in the text.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) to: To,
    pub(super) span: Range<usize>,
}

/// Where a step leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The key of a table, or the entry of a list that has this name.
    Name(String),
    /// The same in a variable's name: without regard to case, and with `_` for all but letters and digits.
    Variable(String),
    /// The entry of a list.
    Index(usize),
}

impl To {
    /// The key of a table.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Name(name) | Self::Variable(name) => Some(name),
            Self::Index(_) => None,
        }
    }

    /// Whether an entry of this name is meant.
    pub(super) fn means(&self, name: &str) -> bool {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        match self {
            Self::Name(meant) => meant == name,
            Self::Variable(meant) => name.chars().map(plain).eq(meant.chars()),
            Self::Index(_) => false,
        }
    }
}

/// The settings among the variables: those whose name begins with `CROUPIER_` and either is a section's or has a
/// `__`. Others are not Croupier's configuration: a container's platform makes `CROUPIER_PORT` by itself.
///
/// Whole sections come before what is in them.
pub(super) fn from_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    sections: &[String],
) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let is_section = sections.iter().any(|section| section.eq_ignore_ascii_case(key));
        if is_section || key.contains(DOT) {
            found.push(from_variable(name, key, value)?);
        }
    }
    found.sort_by(|a, b| (a.steps.len(), &a.text.text).cmp(&(b.steps.len(), &b.text.text)));
    check_count(found.len(), "environment")?;
    Ok(found)
}

fn from_variable(name: &str, key: &str, value: OsString) -> Result<Override, ConfigError> {
    let origin = Origin::Environment { variable: name.to_owned() };
    let Ok(value) = value.into_string() else {
        let problem = Problem::new("", "the variable's value is not UTF-8", "set it to text, or unset it");
        return Err(refused(&Text { origin, text: name.to_owned() }, problem, 0..name.len()));
    };
    let text = Text { origin, text: format!("{name}={value}") };
    check_length(&text)?;
    let mut steps = Vec::new();
    let mut at = PREFIX.len();
    for part in key.split(DOT) {
        let span = at..at + part.len();
        if part.is_empty() {
            let remedy = "two underscores stand for a dot, as in CROUPIER_REGISTRY__HEARTBEAT=50ms";
            return Err(refused(
                &text,
                Problem::new("", "a part of the variable's name is empty", remedy),
                span,
            ));
        }
        at = span.end + DOT.len();
        steps.push(Step { to: To::Variable(part.to_ascii_lowercase()), span });
    }
    let value = name.len() + 1..text.text.len();
    Ok(Override { text, steps, value })
}

/// The settings of a command line, in their order.
pub(super) fn from_assignments(assignments: &[String]) -> Result<Vec<Override>, ConfigError> {
    check_count(assignments.len(), "--set")?;
    assignments.iter().map(|assignment| from_assignment(assignment)).collect()
}

const SET: &str = "--set ";

fn from_assignment(assignment: &str) -> Result<Override, ConfigError> {
    let mut text =
        Text { origin: Origin::Set { key: assignment.to_owned() }, text: format!("{SET}{assignment}") };
    let remedy = "write --set registry.heartbeat=50ms; clusters by name, --set clusters.c1.weight=2";
    let Some((steps, value_at)) = steps(assignment) else {
        // What has no form may hold anything, a password as well.
        text.origin = Origin::Set { key: "..".to_owned() };
        text.text = format!("{SET}..");
        return Err(refused(
            &text,
            Problem::new("", "is no key and value", remedy),
            SET.len()..SET.len() + 2,
        ));
    };
    text.origin = Origin::Set { key: assignment[..value_at - 1].trim().to_owned() };
    check_length(&text)?;
    let value = SET.len() + value_at..text.text.len();
    Ok(Override { text, steps, value })
}

/// The steps of `a.b`, `a."b.c"` or `a[0].b` before an `=`, and where the value begins after it.
fn steps(assignment: &str) -> Option<(Vec<Step>, usize)> {
    let is_bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut steps = Vec::new();
    let mut at = 0;
    loop {
        let rest = &assignment[at..];
        let first = rest.chars().next()?;
        let (to, length) = if matches!(first, '"' | '\'') {
            let name = rest[1..].split(first).next()?;
            rest[1 + name.len()..].starts_with(first).then_some(())?;
            (To::Name(name.to_owned()), name.len() + 2)
        } else if first == '[' {
            let digits = rest[1..].split(']').next()?;
            rest[1 + digits.len()..].starts_with(']').then_some(())?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
            (To::Index(digits.parse().ok()?), digits.len() + 2)
        } else {
            let length = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
            (length > 0).then_some(())?;
            (To::Name(rest[..length].to_owned()), length)
        };
        steps.push(Step { to, span: SET.len() + at..SET.len() + at + length });
        at += length;
        match assignment[at..].trim_start().chars().next()? {
            '=' => {
                let value_at = at + assignment[at..].find('=')? + 1;
                return matches!(steps[0].to, To::Name(_)).then_some((steps, value_at));
            }
            '.' => at += 1,
            '[' => {}
            _ => return None,
        }
    }
}

fn check_length(text: &Text) -> Result<(), ConfigError> {
    if text.text.len() <= OVERRIDE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("has {} bytes, more than {OVERRIDE_BYTES_MAX}", text.text.len());
    let shown = Text { origin: text.origin.clone(), text: text.origin.to_string() };
    let end = shown.text.len();
    Err(refused(&shown, Problem::new("", message, "write long settings into the file"), 0..end))
}

fn check_count(count: usize, from: &str) -> Result<(), ConfigError> {
    if count <= OVERRIDES_MAX {
        return Ok(());
    }
    let message = format!("has {count} settings, more than {OVERRIDES_MAX}");
    let problem = Box::new(Problem::new("", message, "write them into the file"));
    Err(ConfigError::Form { origin: from.to_owned(), problem })
}

/// A refusal of one override.
pub(super) fn refused(text: &Text, problem: Problem, span: Range<usize>) -> ConfigError {
    let problem = Box::new(problem.within(text, span));
    ConfigError::Form { origin: text.origin.to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<String> {
        let shown = |step: &Step| match &step.to {
            To::Name(name) | To::Variable(name) => name.clone(),
            To::Index(index) => format!("[{index}]"),
        };
        steps.iter().map(shown).collect()
    }

    #[test]
    fn keys_of_the_command_line_are_taken_apart() {
        for (assignment, expected, value) in [
            ("registry.heartbeat=50ms", vec!["registry", "heartbeat"], "50ms"),
            ("clusters.c1.weight = 2", vec!["clusters", "c1", "weight"], " 2"),
            ("clusters[0].weight=2", vec!["clusters", "[0]", "weight"], "2"),
            ("clusters.\"a.b=c\".weight=2", vec!["clusters", "a.b=c", "weight"], "2"),
            ("clusters.'a b'.servers=[\"x=y\"]", vec!["clusters", "a b", "servers"], "[\"x=y\"]"),
            ("node.name=", vec!["node", "name"], ""),
            ("clusters=[]", vec!["clusters"], "[]"),
        ] {
            let found = from_assignment(assignment).unwrap();
            assert_eq!(names(&found.steps), expected, "{assignment}");
            assert_eq!(&found.text.text[found.value.clone()], value);
            for step in &found.steps {
                let shown = &found.text.text[step.span.clone()];
                assert!(step.to.key().is_none_or(|key| shown.contains(key)), "{shown}");
            }
        }
        for assignment in
            ["", "=", "a", "a.b", "a..b=1", ".a=1", "a.=1", "a[x]=1", "a[=1", "[0]=1", "\"a=1", "a b=1"]
        {
            assert!(from_assignment(assignment).is_err(), "{assignment}");
        }
    }

    #[test]
    fn only_variables_of_the_configuration_are_taken() {
        let variables = [
            ("CROUPIER_REGISTRY__HEARTBEAT", "50ms"),
            ("CROUPIER_CLUSTERS", "[]"),
            ("CROUPIER_PORT", "tcp://198.18.0.1:80"),
            ("CROUPIER_SERVICE_HOST", "198.18.0.1"),
            ("PATH", "/bin"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let found = from_variables(variables, &["clusters".to_owned()]).unwrap();
        let found: Vec<_> = found.iter().map(|one| names(&one.steps)).collect();
        assert_eq!(found, [vec!["clusters"], vec!["registry", "heartbeat"]]);
        for name in ["CROUPIER___A", "CROUPIER_A__", "CROUPIER_A____B"] {
            assert!(from_variables([(name.into(), "1".into())], &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn an_entry_is_meant_by_its_name() {
        assert!(To::Name("zone-1.a".to_owned()).means("zone-1.a"));
        assert!(!To::Name("c1".to_owned()).means("C1"));
        assert!(To::Variable("zone_1_a".to_owned()).means("Zone-1.a"));
        assert!(!To::Variable("c1".to_owned()).means("c2"));
        assert!(!To::Index(1).means("1"));
    }
}
