//! The JSON Schema of `run.json`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::document::Document;
use crate::calls::CallsReport;
use crate::registry::RegistryReport;
use crate::report::{Report, SCHEMA};
use crate::runs::RunsReport;

/// A run of one of the scenarios, which its key `scenario` tells; or what several runs came to, which has `runs`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is wanted")]
enum RunJson {
    Pubsub(Document<'static, Report>),
    Registry(Document<'static, RegistryReport>),
    Calls(Document<'static, CallsReport>),
    Runs(Box<RunsReport>),
}

/// The schema as text, with a line end.
pub(crate) fn schema_json() -> String {
    let mut schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<RunJson>();
    schema.insert("title".to_owned(), format!("run.json of croupier, schema {SCHEMA}").into());
    written(&schema)
}

fn written(schema: &Schema) -> String {
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;
    use crate::results::document::Told;
    use serde_json::Value;

    /// Every key of the value is one that the schema knows; a check of names, not of types.
    fn check_keys(value: &Value, known: &str, at: &str) {
        if let Value::Object(object) = value {
            for (key, value) in object {
                assert!(known.contains(&format!("\"{key}\"")), "{at}.{key} is not in the schema");
                check_keys(value, known, &format!("{at}.{key}"));
            }
        }
    }

    #[test]
    fn the_schema_knows_every_key_of_a_report() {
        let report = sample();
        let document = Document { report: &report, told: Told::default() };
        let value = serde_json::to_value(&document).expect("serialisable");
        check_keys(&value, &schema_json(), "");
    }

    #[test]
    fn a_report_without_what_is_told_only_of_some_runs_has_all_that_the_schema_requires() {
        let mut report = sample();
        (report.requests, report.beside, report.find_max, report.faults) = (None, None, None, Vec::new());
        report.steps.clear();
        let document = Document { report: &report, told: Told::default() };
        let value = serde_json::to_value(&document).expect("serialisable");
        let schema: Value = serde_json::from_str(&schema_json()).expect("JSON");
        let mut found = 0;
        for required in required_of(&schema, &schema["anyOf"][0]) {
            assert!(value.get(&required).is_some(), "{required} is required");
            found += 1;
        }
        assert!(found > 5, "{found} required keys");
    }

    /// The required keys of an object, whatever parts its schema is made of.
    fn required_of(root: &Value, part: &Value) -> Vec<String> {
        let own = part["required"].as_array().into_iter().flatten();
        let mut all: Vec<String> = own.filter_map(|key| key.as_str().map(str::to_owned)).collect();
        let parts = part["allOf"].as_array().into_iter().flatten();
        all.extend(parts.flat_map(|inner| required_of(root, inner)));
        if let Some(name) = part["$ref"].as_str() {
            let inner = root.pointer(name.trim_start_matches('#')).expect("a definition");
            all.extend(required_of(root, inner));
        }
        all
    }
}
