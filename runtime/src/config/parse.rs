//! From texts to a configuration that has been checked, or to errors with their place.

use std::{ffi::OsString, fs::File, io::Read, path::Path};

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{
    AdminListen, Config, Loaded,
    error::{CODE_SOURCE, ConfigError, Place, Problem, STRING_SOURCE, Text, is_secret, without_quoted},
    form,
    layers::{self, Layers},
    origin::Origin,
    overrides::{self, Override},
    schema, suggest, validate,
    validate_access::secrets_in_urls,
};

/// The longest file that is read, in bytes: far above 256 clusters with all their servers.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The only version of the file's form.
const VERSION: &str = "1";

/// The name of the only cluster of a file that names none.
pub(super) const ONLY_CLUSTER_NAME: &str = "c1";

pub(super) fn from_path(path: &Path) -> Result<Config, ConfigError> {
    load(Some(path), Vec::new(), &[]).map(|loaded| loaded.config)
}

pub(super) fn from_text(text: &str) -> Result<Config, ConfigError> {
    let name = STRING_SOURCE.to_owned();
    let origin = Origin::File { name, place: START };
    merged(Some(&Text { origin, text: text.to_owned() }), None, &[], &Value::Null).map(|loaded| loaded.config)
}

/// Reads a file, and puts variables and assignments over it.
pub(super) fn load(
    path: Option<&Path>,
    variables: Vec<(OsString, OsString)>,
    assignments: &[String],
) -> Result<Loaded, ConfigError> {
    let file = path.map(read).transpose()?;
    let schema = schema::schema();
    let sections = schema.get("properties").and_then(Value::as_object);
    let sections: Vec<String> = sections.into_iter().flat_map(|sections| sections.keys().cloned()).collect();
    let mut overrides = overrides::from_variables(variables, &sections)?;
    overrides.extend(overrides::from_assignments(assignments)?);
    let folder = path.and_then(Path::parent);
    merged(file.as_ref(), folder, &overrides, &schema)
}

/// Where every text begins.
const START: Place = Place { line: 1, column: 1 };

fn read(path: &Path) -> Result<Text, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(read_error)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    let name = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text { origin: Origin::File { name, place: START }, text }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            // Only what stands before the bad byte, so that positions are those of the file.
            let text = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
            let problem = Problem::new("", "the file is not UTF-8 from here on", "save it as UTF-8");
            Err(ConfigError::Form { origin: name, problem: Box::new(problem.at(&text, at..at)) })
        }
    }
}

fn merged(
    file: Option<&Text>,
    folder: Option<&Path>,
    overrides: &[Override],
    schema: &Value,
) -> Result<Loaded, ConfigError> {
    let layers = Layers::new(file, overrides);
    let name = match file.map(|file| &file.origin) {
        Some(Origin::File { name, .. }) => name.as_str(),
        _ => CODE_SOURCE,
    };
    let unreadable = |problem| ConfigError::Form { origin: name.to_owned(), problem: Box::new(problem) };
    let mut table = match file {
        Some(file) => {
            let mut table = DeTable::parse(&file.text)
                .map_err(|error| unreadable(from_toml(&layers, &error)))?
                .into_inner();
            if let Some(problem) = check_version(&file.text, &table) {
                return Err(unreadable(problem));
            }
            table.remove("version");
            if let Some(folder) = folder {
                layers::resolve_files(&mut table, schema, folder);
            }
            table
        }
        None => DeTable::new(),
    };
    let misplaced = layers.merge(&mut table, overrides, schema);
    let form = form::read(table, 0..file.map_or(0, |file| file.text.len()));
    let places = &form.table;
    // What comes from elsewhere than the file follows it, and spans are in that order.
    let of_form =
        form.errors.iter().map(|error| (error.span().map(|span| span.start), from_toml(&layers, error)));
    let mut problems: Vec<(Option<usize>, Problem)> = misplaced.into_iter().chain(of_form).collect();

    let config =
        form.config.as_ref().map(|config| with_defaults_of_position(config.clone(), places, file.is_some()));
    if let Some(config) = &config {
        let of_values = validate::problems(config, validate::allowed_cpus().as_deref());
        let of_values = of_values.into_iter().chain(secrets_in_urls(config));
        problems.extend(of_values.filter(|problem| !form.is_from_a_gap(&problem.key)).map(|mut problem| {
            let (_, span) = form::nearest(places, &problem.key);
            problem.key = form.key_in_text(&problem.key);
            match span {
                Some(span) => (Some(span.start), layers.locate(problem, span)),
                None => (None, problem),
            }
        }));
    }
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, origins: layers.origins(places) }),
        _ => {
            // What stands nowhere comes last.
            problems.sort_by_key(|(start, _)| start.unwrap_or(usize::MAX));
            let problems = problems.into_iter().map(|(_, problem)| problem).collect();
            Err(ConfigError::Invalid { origin: name.to_owned(), problems })
        }
    }
}

/// What holds where the texts are silent, and depends on what else they say.
fn with_defaults_of_position(mut config: Config, places: &DeTable<'_>, has_file: bool) -> Config {
    // With several clusters a default by position would move topics when one is inserted.
    if let [only] = config.clusters.as_mut_slice()
        && only.name.is_empty()
        && form::find(places, "clusters[0].name").is_none()
    {
        only.name = ONLY_CLUSTER_NAME.to_owned();
    }
    if has_file && form::find(places, "node.admin_listen").is_none() {
        config.node.admin_listen = AdminListen::Usual;
    }
    config
}

/// What is wrong with the version, if anything.
fn check_version(text: &str, table: &DeTable<'_>) -> Option<Problem> {
    let Some(version) = table.get("version") else {
        let remedy = format!("write `version = {VERSION}` before the first section");
        return Some(Problem::new("version", "is missing", remedy).at(text, 0..0));
    };
    match version.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 && number.as_str() == VERSION => None,
        _ => {
            let remedy = format!("this program reads `version = {VERSION}` only");
            Some(Problem::new("version", "is not known", remedy).at(text, version.span()))
        }
    }
}

/// A problem that the TOML reader or a value's own reader has found.
fn from_toml(layers: &Layers<'_>, error: &toml::de::Error) -> Problem {
    let message = error.message().trim().replace('\n', "; ");
    let message = match error.span().and_then(|span| layers.local(span)) {
        Some((text, span)) if is_secret(&text.text, span.start) => without_quoted(&message),
        _ => message,
    };
    let mut problem = Problem::plain("", message.as_str());
    problem.remedy = remedy_for(&message);
    match error.span() {
        Some(span) => layers.locate(problem, span),
        None => problem,
    }
}

/// Serde's "unknown field `x`, expected one of `a`, `b`" and "unknown variant ..", taken apart.
fn remedy_for(message: &str) -> Option<String> {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    // Every second piece between backticks is a word.
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    if unknown.contains("secret") && words.clone().any(|word| word == "secret_files") {
        return Some("secrets are read from files: `secret_files = [\"/run/secrets/registry\"]`".to_owned());
    }
    let nearest = suggest::nearest(unknown, words)?;
    Some(format!("did you mean `{nearest}`?"))
}
