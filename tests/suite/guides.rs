//! The guides under docs/ speak of what is there.

use std::{fs, path::Path};

#[test]
fn the_tests_that_prove_the_guarantees_exist() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(tests.join("../docs/guarantees.md")).unwrap();
    // The head of the page says how it names tests, by `::` alone.
    let named: Vec<(&str, &str)> =
        guide.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")).collect();
    assert!(named.len() > 30, "only {} tests are named", named.len());
    for (file, test) in named {
        let path = tests.join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {test}()")), "{file}.rs has no test {test}");
    }
}
