//! The JSON Schema of `node.toml`, made of the sections' types, their documentation and their limits.

use std::borrow::Cow;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value};

use super::{
    AdminListen, BLOCKED_AFTER_MIN, CATCH_UP_MAX, CLUSTERS_MAX, CPU_MAX, CREDS_BYTES_MAX, Config, Cpus,
    HEARTBEAT_MIN, INBOX_MAX, INBOX_PREFIX_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, PEM_BYTES_MAX,
    PINGS_OUT_MAX, SECRETS_MAX, SEEDS_MAX, SERVERS_MAX, SPIN_MAX, USER_BYTES_MAX, WAIT_MAX, WEIGHT_MAX,
    WEIGHT_MIN,
    quantity::{shown_duration, shown_size},
};
use crate::{reload::is_reloadable, secret::SECRET_BYTES_MAX};

/// The whole schema, as JSON with a line break at its end.
pub(super) fn schema_json() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
    text.push('\n');
    text
}

/// The whole schema, without references.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.with_transform(Polish).into_generator().into_root_schema_for::<Config>();
    let version = json_schema!({
        "description": "The version of this file's form: 1.",
        "type": "integer",
        "const": 1,
    });
    schema
        .insert("title".to_owned(), "node.toml: everything that a Croupier node is told at its start".into());
    schema.remove("description");
    schema.insert("required".to_owned(), serde_json::json!(["version", "clusters"]));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("version".to_owned(), version.into());
        if let Some(Value::Object(clusters)) = properties.get_mut("clusters") {
            clusters.insert("minItems".to_owned(), 1.into());
            clusters.insert("maxItems".to_owned(), CLUSTERS_MAX.into());
            clusters.remove("default");
        }
    }
    // The one default that is not the same in a file as in code.
    if let Some(Value::Object(admin)) = schema.pointer_mut("/properties/node/properties/admin_listen") {
        admin.insert("default".to_owned(), AdminListen::Usual.to_string().into());
    }
    let mut schema = schema.into();
    mark_reloadable(&mut schema, "");
    schema
}

/// Marks the keys that a running node can change.
fn mark_reloadable(schema: &mut Value, key: &str) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (name, property) in properties {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            if property.get("properties").is_none() && is_reloadable(&key) {
                property["x-reloadable"] = true.into();
            }
            mark_reloadable(property, &key);
        }
    }
    if let Some(items) = schema.get_mut("items") {
        mark_reloadable(items, &format!("{key}[0]"));
    }
}

const DURATION_PATTERN: &str = r"^\s*[0-9]+\s*(ns|us|ms|s|m|h)\s*$";
const SIZE_PATTERN: &str = r"^\s*[0-9]+\s*(B|KiB|MiB|GiB|TiB)\s*$";
const CPUS_PATTERN: &str = r"^\s*(auto|[0-9]+(\s*-\s*[0-9]+)?(\s*,\s*[0-9]+(\s*-\s*[0-9]+)?)*)\s*$";
const SERVER_PATTERN: &str =
    r"^\s*([A-Za-z]+://)?([^@\s]+@)?(\[[^\]\s]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?\s*$";
const PEER_PATTERN: &str = r"^\s*(\[[^\]\s]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\s*$";
const ADMIN_PATTERN: &str = r"^(\s*(\[[^\]\s]+\]|[0-9.]+):[0-9]{1,5}\s*)?$";
const SOCKET_ADDRESS_PATTERN: &str = r"^\s*(\[[^\]\s]+\]|[0-9.]+):[0-9]{1,5}\s*$";

/// A duration within two limits.
pub(super) fn duration(min: &str, max: &str) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": DURATION_PATTERN,
        "x-unit": "duration",
        "x-minimum": min,
        "x-maximum": max,
    })
}

/// A size within two limits, as text or as a number of bytes.
pub(super) fn size(min_bytes: usize, max_bytes: Option<usize>) -> Schema {
    let mut schema = json_schema!({
        "type": ["string", "integer"],
        "pattern": SIZE_PATTERN,
        "minimum": min_bytes,
        "x-unit": "bytes",
        "x-minimum": shown_size(min_bytes),
    });
    if let Some(max_bytes) = max_bytes {
        schema.insert("maximum".to_owned(), max_bytes.into());
        schema.insert("x-maximum".to_owned(), shown_size(max_bytes).into());
    }
    schema
}

pub(super) fn wait(_: &mut SchemaGenerator) -> Schema {
    duration("1ns", &shown_duration(WAIT_MAX))
}

pub(super) fn wait_or_none(_: &mut SchemaGenerator) -> Schema {
    duration("0s", &shown_duration(WAIT_MAX))
}

pub(super) fn spin(_: &mut SchemaGenerator) -> Schema {
    duration("0s", &shown_duration(SPIN_MAX))
}

pub(super) fn catch_up(_: &mut SchemaGenerator) -> Schema {
    duration("0s", &shown_duration(CATCH_UP_MAX))
}

pub(super) fn blocked_after(_: &mut SchemaGenerator) -> Schema {
    duration(&shown_duration(BLOCKED_AFTER_MIN), &shown_duration(WAIT_MAX))
}

pub(super) fn heartbeat(_: &mut SchemaGenerator) -> Schema {
    duration(&shown_duration(HEARTBEAT_MIN), &shown_duration(WAIT_MAX))
}

pub(super) fn buffer(_: &mut SchemaGenerator) -> Schema {
    size(1, None)
}

pub(super) fn payload(_: &mut SchemaGenerator) -> Schema {
    size(1, Some(PAYLOAD_BYTES_MAX))
}

pub(super) fn servers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": SERVER_PATTERN },
        "minItems": 1,
        "maxItems": SERVERS_MAX,
    })
}

pub(super) fn seeds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": PEER_PATTERN },
        "maxItems": SEEDS_MAX,
    })
}

pub(super) fn socket_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": SOCKET_ADDRESS_PATTERN })
}

/// An address to listen on, or nothing.
pub(super) fn admin_listen(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": ADMIN_PATTERN })
}

pub(super) fn secret_files(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "minLength": 1, "x-file": "secret" },
        "maxItems": SECRETS_MAX,
    })
}

pub(super) fn secret_file(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "x-file": "secret" })
}

pub(super) fn file(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "x-file": "public" })
}

impl JsonSchema for Cpus {
    fn schema_name() -> Cow<'static, str> {
        "Cpus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": CPUS_PATTERN, "minimum": 1 })
    }
}

/// What Rust's documentation and types say more than TOML wants to know.
#[derive(Clone)]
struct Polish;

impl Transform for Polish {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(schema) = schema.as_object_mut() else { return };
        if let Some(Value::String(description)) = schema.get_mut("description") {
            *description = plain(description);
        }
        // TOML has no null: what may be left out is not required, and that is all.
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        // The width of a Rust integer is no format.
        schema.remove("format");
        // What is empty until somebody writes it has no default.
        if schema.get("default").is_some_and(|default| default.is_null() || default == "") {
            schema.remove("default");
        }
        let required: Vec<String> = words(schema.get("required"));
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for name in required {
                if let Some(Value::Object(property)) = properties.get_mut(&name) {
                    property.remove("default");
                }
            }
        }
        drop_defaults_of_sections(schema);
    }
}

/// Each key has its default; that of a whole section only repeats them.
fn drop_defaults_of_sections(schema: &mut Map<String, Value>) {
    if schema.contains_key("properties") {
        schema.remove("default");
    }
}

fn words(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Documentation without links: constants as their values, variants as TOML writes them, in one paragraph
/// a blank line.
fn plain(documentation: &str) -> String {
    let mut text = String::with_capacity(documentation.len());
    let mut rest = documentation;
    while let Some(at) = rest.find('[') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let link = after.split_once(']').filter(|(shown, _)| !shown.contains(['[', '\n']));
        // Only what rustdoc takes for a link: `[`name`]`, or `[text](target)`.
        match link {
            Some((shown, behind)) if behind.starts_with('(') || is_path(shown) => {
                text.push_str(&said(shown));
                rest = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
                    Some((_, behind)) => behind,
                    None => behind,
                };
            }
            _ => {
                text.push('[');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>());
    paragraphs.map(|words| words.join(" ")).collect::<Vec<_>>().join("\n\n").replace("`None`", "Left out")
}

fn is_path(shown: &str) -> bool {
    let bare = shown.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    bare.is_some_and(|bare| {
        bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_'))
    })
}

/// What a link's text says to somebody who writes TOML.
fn said(shown: &str) -> String {
    if !is_path(shown) {
        return shown.to_owned();
    }
    let path = shown.trim_matches('`');
    match path.rsplit_once("::") {
        Some((_, variant)) => format!("`{}`", snake_case(variant)),
        None => constant(path).unwrap_or_else(|| shown.to_owned()),
    }
}

fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// A limit that the documentation names.
fn constant(name: &str) -> Option<String> {
    Some(match name {
        "BLOCKED_AFTER_MIN" => shown_duration(BLOCKED_AFTER_MIN),
        "CLUSTERS_MAX" => CLUSTERS_MAX.to_string(),
        "CREDS_BYTES_MAX" => shown_size(CREDS_BYTES_MAX),
        "CPU_MAX" => CPU_MAX.to_string(),
        "HEARTBEAT_MIN" => shown_duration(HEARTBEAT_MIN),
        "INBOX_MAX" => INBOX_MAX.to_string(),
        "INBOX_PREFIX_BYTES_MAX" => INBOX_PREFIX_BYTES_MAX.to_string(),
        "NAME_BYTES_MAX" => NAME_BYTES_MAX.to_string(),
        "PEM_BYTES_MAX" => shown_size(PEM_BYTES_MAX),
        "PAYLOAD_BYTES_MAX" => shown_size(PAYLOAD_BYTES_MAX),
        "PINGS_OUT_MAX" => PINGS_OUT_MAX.to_string(),
        "SECRETS_MAX" => SECRETS_MAX.to_string(),
        "SECRET_BYTES_MAX" => shown_size(SECRET_BYTES_MAX),
        "SEEDS_MAX" => SEEDS_MAX.to_string(),
        "SERVERS_MAX" => SERVERS_MAX.to_string(),
        "CATCH_UP_MAX" => shown_duration(CATCH_UP_MAX),
        "SPIN_MAX" => shown_duration(SPIN_MAX),
        "USER_BYTES_MAX" => USER_BYTES_MAX.to_string(),
        "WAIT_MAX" => shown_duration(WAIT_MAX),
        "WEIGHT_MAX" => WEIGHT_MAX.to_string(),
        "WEIGHT_MIN" => WEIGHT_MIN.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Where the schema stands, for editors.
    const FILE: &str = "node.schema.json";
    /// Whether generated files are to be written instead of compared.
    const RENEW: &str = "RENEW_GENERATED";

    #[test]
    fn the_schema_in_the_repository_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(&path, schema_json()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == schema_json(),
            "runtime/{FILE} is not what the configuration's types say. Renew it and commit it:\n    \
             {RENEW}=1 cargo test -p croupier --lib config::\n\
             or, the same: cargo run -p croupier-loadtest -- config schema > runtime/{FILE}"
        );
    }

    #[test]
    fn documentation_becomes_text_for_those_who_write_toml() {
        for (documentation, expected) in [
            ("at most [`SPIN_MAX`](super::SPIN_MAX).", "at most 1s."),
            ("default [`Role::Both`]", "default `both`"),
            ("[`SlowSubscriberPolicy::DropNewest`]", "`drop_newest`"),
            ("with a [registry](super::X), it\nis", "with a registry, it is"),
            ("`[node]`: who; see [node]", "`[node]`: who; see [node]"),
            ("`None`: none.\n\nNext [", "Left out: none.\n\nNext ["),
        ] {
            assert_eq!(plain(documentation), expected);
        }
    }

    /// Calls `visit` with each property of the schema and its key.
    fn each_property(schema: &Value, key: &str, visit: &mut impl FnMut(&str, &Value)) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                visit(&key, property);
                each_property(property, &key, visit);
            }
        }
        if let Some(items) = schema.get("items") {
            each_property(items, &format!("{key}[]"), visit);
        }
    }

    #[test]
    fn every_key_says_what_it_is_in_words_without_links() {
        let mut keys = Vec::new();
        each_property(&schema(), "", &mut |key, property| {
            keys.push(key.to_owned());
            let description = property["description"].as_str().unwrap_or_default();
            assert!(description.len() > 10, "{key}: {property}");
            for sign in ["](", "e::", "_MAX", "_MIN", "[`"] {
                assert!(!description.contains(sign), "{key} has {sign}: {description}");
            }
            assert!(!property.to_string().contains("null"), "{key}: {property}");
            let is_kind = |kind: &str| property["type"] == kind || property["type"].as_array().is_some();
            let has_kind =
                ["string", "integer", "number", "boolean", "array", "object"].iter().any(|k| is_kind(k));
            assert!(has_kind || property.get("oneOf").is_some(), "{key}: {property}");
        });
        for key in ["version", "clusters[].servers", "limits.subscriber_queue.bytes", "registry.seeds"] {
            assert!(keys.iter().any(|known| known == key), "{key} is missing: {keys:?}");
        }
        assert_eq!(schema()["properties"]["limits"]["properties"]["publish_buffer"]["default"], "8MiB");
    }
}
