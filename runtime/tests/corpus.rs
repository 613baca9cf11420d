//! The fuzz target's property, over its whole corpus and over what a generator makes.

#[path = "../../tests/fuzz/src/configuration.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz target")]
mod configuration;

use std::{fs, path::Path};

use proptest::prelude::*;

/// Beginnings of a file of the corpus that are tried beside all of it.
const BEGINNINGS_MAX: usize = 100;

#[test]
fn the_configuration_holds_over_its_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/configuration");
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let data = fs::read(file.expect("a file").path()).expect("a readable file");
        let step = data.len().div_ceil(BEGINNINGS_MAX).max(1);
        for end in (0..data.len()).step_by(step).chain([data.len()]) {
            configuration::check(&data[..end]);
        }
        files += 1;
    }
    assert!(files >= 5, "only {files} files in {}", folder.display());
}

proptest! {
    #[test]
    fn the_configuration_holds_for_any_text(text in "[a-z0-9.\\[\\]{}=\" ,:@%\n\u{0}_-]{0,200}") {
        configuration::check(text.as_bytes());
    }
}
