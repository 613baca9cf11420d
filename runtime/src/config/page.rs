//! The page about `node.toml`, made of the schema; a test keeps `docs/configuration.md` to it.

use std::fmt::Write;

use serde_json::Value;

use super::schema::schema;

/// What stands before the keys.
const HEAD: &str = r#"# Configuration

A node reads one file, `node.toml`. The smallest is

```toml
version = 1

[[clusters]]
servers = ["nats://127.0.0.1:4222"]
```

This page is made of the configuration's own types; so is `runtime/node.schema.json`, which editors use when the file
begins with `#:schema ./node.schema.json`, and which `croupier config schema` prints.

## Where settings come from

Later ones win:

1. the **defaults** on this page,
2. the **file**,
3. the **environment**: `CROUPIER_LIMITS__REQUEST_TIMEOUT=2s` sets `limits.request_timeout`; two underscores stand for
   the dot,
4. the **command line** of `croupier check` and `croupier config show`: `--set limits.request_timeout=2s`. An application
   may have the same: `Node::from_sources(&Sources::new().file(path).environment().set("limits.request_timeout=2s"))`.

`Node::from_toml(path)` takes file and environment; `Config::from_path` and parsing a text take that alone.

A value is text where its key takes text. What begins with a quote or a bracket is TOML, and so are numbers, `true` and
`false`: `CROUPIER_REGISTRY__SEEDS='["a:7946", "b:7946"]'`. A value replaces what stood at its key; a list or a table is
replaced as a whole. A key of a section that the file does not have makes that section: a node with any key of
`[registry]` joins one, and needs its other keys too. A cluster is meant by its name: `--set clusters.c1.weight=2`, `--set 'clusters."a.b".weight=2'`, in
the environment in any case and with `_` for all but letters and digits: `CROUPIER_CLUSTERS__C1__WEIGHT=2`. The command
line may also count from 0: `--set clusters[1].weight=2`. A new cluster is written into the file, or the whole list is set:
`CROUPIER_CLUSTERS='[{ name = "c1", servers = ["nats://a:4222"] }]'`. Variables without `__` that name no section
are left alone: a container's platform may make a `CROUPIER_PORT`.

`croupier config show node.toml --origin` prints what it all comes to, and where each setting comes from.

## Mistakes

A key that does not exist is refused, with the one that was probably meant. All mistakes come at once, those of form (an
unknown key, a value of the wrong kind) and those of meaning (two clusters of one name, a heartbeat of 1 ms); only what is
no TOML ends the reading. Each names file, line and column, or the variable, or the `--set`, and says what to do.
`croupier check node.toml` does all of this without a node, looks at the files that are named, and exits with 78 if a
node could not run so. With `--connect` it also dials every server, as `docs/operating.md` tells.

## Secrets

Secrets are only in files that this one names. They are shown nowhere: not by `config show`, nor in errors, nor in logs.
What stands before the `@` of a server's address is shown as `***`. A relative path in the file is relative to the file's
folder, one from elsewhere to the working directory.

## Changing a node that runs

`NodeHandle::reload(config)` applies the keys marked *reloadable* on all shards, without losing a message; a
node under `Builder::run` that was built from a file reads it again at SIGHUP. If any other key differs, the error names
all of them, and nothing is applied. Secrets' files are read again in any case.
"#;

/// The whole page.
fn page() -> String {
    let schema = schema();
    let mut page = HEAD.to_owned();
    let sections = schema["properties"].as_object().expect("a schema of an object");
    for section in ["node", "shards", "ring", "clusters", "connection", "limits", "registry"] {
        assert!(sections.contains_key(section), "there is no section {section}");
        add_section(&mut page, section, &sections[section]);
    }
    for (name, section) in sections {
        let heading = format!("\n## `[{}", name);
        if name != "version" && !page.contains(&heading) && !page.contains(&format!("\n## `[[{name}")) {
            add_section(&mut page, name, section);
        }
    }
    page
}

fn add_section(page: &mut String, name: &str, section: &Value) {
    let is_list = section["type"] == "array";
    let (heading, table) =
        if is_list { (format!("[[{name}]]"), &section["items"]) } else { (format!("[{name}]"), section) };
    let about = section["description"].as_str().unwrap_or_default();
    // The heading says the name already.
    let about = about.strip_prefix(&format!("`{heading}`: ")).unwrap_or(about);
    let mut letters = about.chars();
    let about: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let _ = write!(page, "\n## `{heading}`\n\n{}\n", wrapped(&about, ""));
    let variable = format!("CROUPIER_{}", name.to_uppercase());
    let variable = if is_list { format!("{variable}__NAME") } else { variable };
    add_keys(page, "", table, &variable);
}

fn add_keys(page: &mut String, prefix: &str, table: &Value, variable: &str) {
    let required: Vec<&str> =
        table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, key) in table["properties"].as_object().into_iter().flatten() {
        let variable = format!("{variable}__{}", name.to_uppercase());
        let is_required = required.contains(&name.as_str());
        let mut facts = vec![kind(key)];
        facts.extend(default(key).or_else(|| is_required.then(|| "required".to_owned())));
        facts.extend(range(key));
        facts.extend((key["x-reloadable"] == true).then(|| "*reloadable*".to_owned()));
        let _ = write!(page, "\n### `{prefix}{name}`\n\n{}. `{variable}`\n", facts.join("; "));
        let _ = write!(page, "\n{}\n", wrapped(key["description"].as_str().unwrap_or_default(), ""));
        for choice in key["oneOf"].as_array().into_iter().flatten() {
            let about = choice["description"].as_str().unwrap_or_default();
            let said = choice["const"].as_str().unwrap_or_default();
            let _ = write!(page, "\n{}", wrapped(&format!("- `\"{said}\"`: {about}"), "  "));
        }
        if key["oneOf"].is_array() {
            page.push('\n');
        }
        add_keys(page, &format!("{prefix}{name}."), key, &variable);
    }
}

fn kind(key: &Value) -> String {
    let has = |kind: &str| {
        key["type"] == kind || key["type"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind))
    };
    let file = |key: &Value| match key["x-file"].as_str() {
        Some("secret") => Some("the path of a file with a secret"),
        Some(_) => Some("the path of a file"),
        None => None,
    };
    if let Some(file) = file(key) {
        return file.to_owned();
    }
    let text = match key["x-unit"].as_str() {
        Some("bytes") => "a size such as `\"64KiB\"`, or a number of bytes",
        Some("duration") => "a duration such as `\"250ms\"`",
        _ if key["oneOf"].is_array() => "one of these words",
        _ if has("string") && has("integer") => "text or a number",
        _ if has("string") => "text",
        _ if has("integer") => "a whole number",
        _ if has("number") => "a number",
        _ if has("boolean") => "`true` or `false`",
        _ if has("array") => return format!("a list: each {}", file(&key["items"]).unwrap_or("text")),
        _ => "a table",
    };
    text.to_owned()
}

fn default(key: &Value) -> Option<String> {
    key.get("default").map(|default| format!("default `{default}`"))
}

fn range(key: &Value) -> Option<String> {
    let limit = |name: &str| {
        key.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let is_greatest = |number: &String| *number == i64::MAX.to_string();
    let least = limit("x-minimum").or_else(|| limit("minimum"));
    let most = limit("x-maximum").or_else(|| limit("maximum")).filter(|most| !is_greatest(most));
    let entries = (limit("minItems"), limit("maxItems"));
    match (least, most, entries) {
        (Some(least), Some(most), _) => Some(format!("`{least}` to `{most}`")),
        (Some(least), None, _) => Some(format!("at least `{least}`")),
        (None, _, (Some(least), Some(most))) => Some(format!("{least} to {most} entries")),
        (None, _, (None, Some(most))) => Some(format!("at most {most} entries")),
        _ => None,
    }
}

/// Lines of at most so many characters.
const LINE_CHARS_MAX: usize = 120;

fn wrapped(text: &str, indent: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let mut lines = String::new();
        let mut used = 0;
        for word in paragraph.split_whitespace() {
            let chars = word.chars().count();
            if used > 0 && used + 1 + chars > LINE_CHARS_MAX {
                lines.push('\n');
                lines.push_str(indent);
                used = indent.len();
            } else if used > 0 {
                lines.push(' ');
                used += 1;
            }
            lines.push_str(word);
            used += chars;
        }
        lines
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn the_page_in_the_repository_is_current() {
    const FILE: &str = "../docs/configuration.md";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("RENEW_GENERATED").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/configuration.md is not what the configuration's types say. Renew it and commit it:\n    \
         RENEW_GENERATED=1 cargo test -p croupier --lib config::"
    );
}
