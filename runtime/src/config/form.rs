//! Reading a table as a configuration, past what cannot be read, so that every mistake of form is told at once.
//!
//! Serde ends at the first. So what it stumbles over is left out and the rest is read again; what was left out makes
//! gaps, and what validation says about these is no mistake of its own.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer, Error},
};

use super::Config;

/// More than a person mends before the next look. Each is another reading of the whole.
const ERRORS_MAX: usize = 64;

/// What could be read, and what could not.
pub(super) struct Form<'a> {
    /// None when nothing can be read without what could not.
    pub(super) config: Option<Config>,
    /// What the configuration was read from.
    pub(super) table: DeTable<'a>,
    /// In the order of reading.
    pub(super) errors: Vec<Error>,
    gaps: Vec<Gap>,
}

/// Where something was left out.
struct Gap {
    /// The key of the table or list that it stood in; empty for the whole.
    parent: String,
    /// Its number, if that is a list.
    index: Option<usize>,
}

/// Reads a table whose text is `whole` long.
pub(super) fn read(table: DeTable<'_>, whole: Range<usize>) -> Form<'_> {
    let mut form = Form { config: None, table, errors: Vec::new(), gaps: Vec::new() };
    while form.errors.len() < ERRORS_MAX {
        let deserializer = Deserializer::from(Spanned::new(whole.clone(), form.table.clone()));
        let error = match Config::deserialize(deserializer) {
            Ok(config) => {
                form.config = Some(config);
                break;
            }
            Err(error) => error,
        };
        let gap = error.span().and_then(|span| leave_out(&mut form.table, "", &span));
        form.errors.push(error);
        match gap {
            Some(gap) => form.gaps.push(gap),
            None => break,
        }
    }
    form
}

impl Form<'_> {
    /// Whether a complaint about this setting may come from what was left out: the setting is not there, and something
    /// was taken from where it would be.
    pub(super) fn is_from_a_gap(&self, key: &str) -> bool {
        let (found, _) = nearest(&self.table, key);
        self.gaps.iter().any(|gap| match gap.index {
            Some(_) => key == gap.parent,
            None => found != key && found == gap.parent,
        })
    }

    /// The key with the numbers that the entries of lists have in the text, where none is left out.
    pub(super) fn key_in_text(&self, key: &str) -> String {
        self.gaps.iter().rev().fold(key.to_owned(), |key, gap| {
            let number = || -> Option<(usize, &str)> {
                let (number, rest) = key.strip_prefix(&gap.parent)?.strip_prefix('[')?.split_once(']')?;
                Some((number.parse().ok()?, rest))
            };
            match (gap.index, number()) {
                (Some(index), Some((number, rest))) if number >= index => {
                    format!("{}[{}]{rest}", gap.parent, number + 1)
                }
                _ => key,
            }
        })
    }
}

/// The longest part of a key like `a.b[0].c` that is there, and its span; empty without one for the whole.
pub(super) fn nearest<'k>(table: &DeTable<'_>, key: &'k str) -> (&'k str, Option<Range<usize>>) {
    let mut key = key;
    loop {
        if let Some(span) = find(table, key) {
            return (key, Some(span));
        }
        match key.rsplit_once(['.', '[']) {
            Some((shorter, _)) => key = shorter,
            None => return ("", None),
        }
    }
}

/// The span of the value at `a.b[0].c`.
pub(super) fn find(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut segments = key.split(['.', '[']);
    let mut value: &Spanned<DeValue<'_>> = table.get(segments.next()?)?;
    for segment in segments {
        value = match segment.strip_suffix(']') {
            Some(index) => value.get_ref().as_array()?.get(index.parse::<usize>().ok()?)?,
            None => value.get_ref().as_table()?.get(segment)?,
        };
    }
    Some(value.span())
}

/// Takes out the innermost setting whose key or value has this span.
fn leave_out(table: &mut DeTable<'_>, parent: &str, span: &Range<usize>) -> Option<Gap> {
    let names: Vec<String> = table.keys().map(|name| name.get_ref().to_string()).collect();
    for name in &names {
        let key = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        if let Some(gap) = table.get_mut(name.as_str()).and_then(|value| leave_out_of(value, &key, span)) {
            return Some(gap);
        }
    }
    let is_meant = |name: &Spanned<_>, value: &Spanned<_>| name.span() == *span || value.span() == *span;
    let name = table
        .iter()
        .find(|(name, value)| is_meant(name, value))
        .map(|(name, _)| name.get_ref().to_string())?;
    table.remove(name.as_str());
    Some(Gap { parent: parent.to_owned(), index: None })
}

fn leave_out_of(value: &mut Spanned<DeValue<'_>>, key: &str, span: &Range<usize>) -> Option<Gap> {
    match value.get_mut() {
        DeValue::Table(table) => leave_out(table, key, span),
        DeValue::Array(array) => leave_out_entry(array, key, span),
        _ => None,
    }
}

fn leave_out_entry(array: &mut DeArray<'_>, parent: &str, span: &Range<usize>) -> Option<Gap> {
    for (index, entry) in array.iter_mut().enumerate() {
        if let Some(gap) = leave_out_of(entry, &format!("{parent}[{index}]"), span) {
            return Some(gap);
        }
    }
    let index = array.iter().position(|entry| entry.span() == *span)?;
    let entries = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
    *array = entries.filter(|(at, _)| *at != index).map(|(_, entry)| entry).collect();
    Some(Gap { parent: parent.to_owned(), index: Some(index) })
}
