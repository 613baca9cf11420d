//! One table out of several texts, in which everything still knows where it stands.
//!
//! The texts are laid end to end: a span of the merged table is a span of that line, and leads back to its text.
//! So one pass of serde reads them all, and each of its errors has a place.

use std::{borrow::Cow, ops::Range, path::Path};

use serde_json::Value as Schema;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{
    error::{Problem, Text, place_of},
    origin::{Origin, Origins},
    overrides::{Override, Step, To},
};

/// The texts, end to end.
pub(super) struct Layers<'a> {
    texts: Vec<(usize, &'a Text)>,
}

impl<'a> Layers<'a> {
    /// The file's text, if there is one, comes first, so that its spans are its own.
    pub(super) fn new(file: Option<&'a Text>, overrides: &'a [Override]) -> Self {
        let mut next = 0;
        let mut texts = Vec::new();
        for text in file.into_iter().chain(overrides.iter().map(|one| &one.text)) {
            texts.push((next, text));
            next += text.text.len() + 1;
        }
        Self { texts }
    }

    /// The text of a span, and the span in it.
    pub(super) fn local(&self, span: Range<usize>) -> Option<(&'a Text, Range<usize>)> {
        let (base, text) = self.texts.iter().rev().find(|(base, _)| *base <= span.start)?;
        Some((text, span.start - base..span.end.max(span.start) - base))
    }

    /// The problem with its place.
    pub(super) fn locate(&self, problem: Problem, span: Range<usize>) -> Problem {
        match self.local(span) {
            Some((text, span)) => problem.within(text, span),
            None => problem,
        }
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        match self.local(span) {
            Some((Text { origin: Origin::File { name, .. }, text }, span)) => {
                Origin::File { name: name.clone(), place: place_of(text, span.start) }
            }
            Some((text, _)) => text.origin.clone(),
            None => Origin::Default,
        }
    }

    /// Puts the overrides into the table of the file, each over those before it. What cannot be put there comes back,
    /// with where it stands among the spans.
    pub(super) fn merge(
        &self,
        table: &mut DeTable<'a>,
        overrides: &'a [Override],
        schema: &Schema,
    ) -> Vec<(Option<usize>, Problem)> {
        let mut problems = Vec::new();
        let bases = self.texts[self.texts.len() - overrides.len()..].iter().map(|(base, _)| *base);
        for (one, base) in overrides.iter().zip(bases) {
            let placed =
                value_of(one, schema).and_then(|value| put(table, &one.steps, base, shifted(value, base)));
            if let Err((span, message, remedy)) = placed {
                let problem = Problem::new(key_of(&one.steps), message, remedy);
                problems.push((Some(base + span.start), problem.within(&one.text, span)));
            }
        }
        problems
    }

    /// Where each value of the merged table comes from.
    pub(super) fn origins(&self, table: &DeTable<'_>) -> Origins {
        let mut origins = Origins::default();
        self.collect(table, "", &mut origins);
        origins
    }

    fn collect(&self, table: &DeTable<'_>, prefix: &str, origins: &mut Origins) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            match value.get_ref() {
                DeValue::Table(table) => self.collect(table, &key, origins),
                DeValue::Array(array) if array.iter().any(|entry| entry.get_ref().is_table()) => {
                    for (index, entry) in array.iter().enumerate() {
                        if let DeValue::Table(table) = entry.get_ref() {
                            self.collect(table, &format!("{key}[{index}]"), origins);
                        }
                    }
                }
                _ => origins.insert(key, self.origin(value.span())),
            }
        }
    }
}

/// The key as errors write it.
fn key_of(steps: &[Step]) -> String {
    let mut key = String::new();
    for step in steps {
        match &step.to {
            To::Index(index) => key.push_str(&format!("[{index}]")),
            To::Name(name) | To::Variable(name) => {
                let dot = if key.is_empty() { "" } else { "." };
                key.push_str(dot);
                key.push_str(name);
            }
        }
    }
    key
}

/// The value of an override: TOML where it looks like it, else text.
fn value_of<'a>(one: &'a Override, schema: &Schema) -> Result<Spanned<DeValue<'a>>, Misplaced> {
    let raw = &one.text.text[one.value.clone()];
    let trimmed = raw.trim();
    let start = one.value.start + (raw.len() - raw.trim_start().len());
    let text = || Spanned::new(one.value.clone(), DeValue::String(Cow::Borrowed(raw)));
    match trimmed.chars().next() {
        Some('[' | '{' | '"' | '\'') => match DeValue::parse(trimmed) {
            Ok(value) => Ok(shifted(value, start)),
            Err(error) => {
                let message = format!("is no TOML: {}", error.message().trim().replace('\n', "; "));
                let remedy =
                    "text that begins with a quote or a bracket is read as a value of the file would be";
                let span =
                    error.span().map_or(one.value.clone(), |span| span.start + start..span.end + start);
                Err((span, message, remedy.to_owned()))
            }
        },
        _ if wants_text(schema, &one.steps) => Ok(text()),
        _ => match DeValue::parse(trimmed) {
            Ok(value)
                if value.get_ref().is_bool()
                    || value.get_ref().is_integer()
                    || value.get_ref().is_float() =>
            {
                Ok(shifted(value, start))
            }
            _ => Ok(text()),
        },
    }
}

/// Whether a key takes nothing but text, so that `7` is a name too.
fn wants_text(schema: &Schema, steps: &[Step]) -> bool {
    let mut schema = schema;
    for step in steps {
        let entry = schema.get("items");
        let property = step.to.key().and_then(|key| schema.get("properties")?.get(key));
        let Some(next) = entry.or(property) else { return false };
        schema = next;
    }
    let is_text = |schema: &Schema| schema.get("type").is_some_and(|kind| kind == "string");
    let choices = schema.get("oneOf").and_then(Schema::as_array);
    is_text(schema) || choices.is_some_and(|choices| choices.iter().all(is_text))
}

/// What cannot be put where an override wants it: which part of its text, what, and what to do.
type Misplaced = (Range<usize>, String, String);

fn put<'a>(
    table: &mut DeTable<'a>,
    steps: &[Step],
    base: usize,
    value: Spanned<DeValue<'a>>,
) -> Result<(), Misplaced> {
    let (step, rest) = steps.split_first().expect("an override has a key");
    let span = step.span.start + base..step.span.end + base;
    let Some(name) = step.to.key() else {
        let remedy = "only a list has numbered entries".to_owned();
        return Err((step.span.clone(), "has no numbered entries".to_owned(), remedy));
    };
    if rest.is_empty() {
        table.remove(name);
        table.insert(Spanned::new(span, Cow::Owned(name.to_owned())), value);
        return Ok(());
    }
    if !table.contains_key(name) {
        let empty = Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
        table.insert(Spanned::new(span, Cow::Owned(name.to_owned())), empty);
    }
    match table.get_mut(name).map(Spanned::get_mut) {
        Some(DeValue::Table(table)) => put(table, rest, base, value),
        Some(DeValue::Array(array)) => put_into(array, rest, base, value),
        _ => {
            let message = format!("`{name}` is one value, and has nothing in it to set");
            Err((step.span.clone(), message, format!("set `{name}` itself")))
        }
    }
}

fn put_into<'a>(
    array: &mut DeArray<'a>,
    steps: &[Step],
    base: usize,
    value: Spanned<DeValue<'a>>,
) -> Result<(), Misplaced> {
    let (step, rest) = steps.split_first().expect("a longer key has more steps");
    let only = array.len() == 1;
    let name_of = |entry: &Spanned<DeValue<'_>>| -> Option<String> {
        let table = entry.get_ref().as_table()?;
        match table.get("name") {
            Some(name) => name.get_ref().as_str().map(str::to_owned),
            // The only cluster may do without a name.
            None => only.then(|| super::parse::ONLY_CLUSTER_NAME.to_owned()),
        }
    };
    let names: Vec<String> = array.iter().filter_map(name_of).collect();
    let found: Vec<usize> = match step.to {
        To::Index(index) => (index < array.len()).then_some(index).into_iter().collect(),
        _ => (0..array.len())
            .filter(|at| name_of(&array[*at]).is_some_and(|name| step.to.means(&name)))
            .collect(),
    };
    let [at] = found.as_slice() else {
        let what = if found.is_empty() {
            "no entry is meant by this"
        } else {
            "more than one entry is meant by this"
        };
        let remedy = format!(
            "there is {}; a new one is written into the file, or the whole list is set",
            names.join(", ")
        );
        return Err((step.span.clone(), what.to_owned(), remedy));
    };
    let entry = array.get_mut(*at).expect("it was found there");
    if rest.is_empty() {
        *entry = value;
        return Ok(());
    }
    match entry.get_mut() {
        DeValue::Table(table) => put(table, rest, base, value),
        _ => Err((
            step.span.clone(),
            "is one value, and has nothing in it to set".to_owned(),
            "set it itself".to_owned(),
        )),
    }
}

/// The value with all its places moved on.
fn shifted(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let inner = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| {
                    let span = key.span();
                    (Spanned::new(span.start + by..span.end + by, key.into_inner()), shifted(value, by))
                })
                .collect(),
        ),
        DeValue::Array(array) => DeValue::Array(array.into_iter().map(|entry| shifted(entry, by)).collect()),
        single => single,
    };
    Spanned::new(span.start + by..span.end + by, inner)
}

/// Makes the paths in a file's own table begin with its folder, where the schema says that they are paths.
pub(super) fn resolve_files(table: &mut DeTable<'_>, schema: &Schema, folder: &Path) {
    let Some(properties) = schema.get("properties") else { return };
    let keys: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in keys {
        if let (Some(value), Some(schema)) = (table.get_mut(key.as_str()), properties.get(&key)) {
            resolve_file(value.get_mut(), schema, folder);
        }
    }
}

fn resolve_file(value: &mut DeValue<'_>, schema: &Schema, folder: &Path) {
    match value {
        DeValue::Table(table) => resolve_files(table, schema, folder),
        DeValue::Array(array) => {
            if let Some(schema) = schema.get("items") {
                array.iter_mut().for_each(|entry| resolve_file(entry.get_mut(), schema, folder));
            }
        }
        // An empty one is refused by validation, and would name the folder.
        DeValue::String(path) if schema.get("x-file").is_some() && !path.is_empty() => {
            *path = Cow::Owned(folder.join(&**path).to_string_lossy().into_owned());
        }
        _ => {}
    }
}
