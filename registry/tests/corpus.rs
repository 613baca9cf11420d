//! The fuzz target's property, over its whole corpus and over what a generator makes.

#[path = "../../tests/fuzz/src/recipe.rs"]
#[allow(dead_code, reason = "shared with the other properties")]
mod recipe;
#[path = "../../tests/fuzz/src/registry.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz target")]
mod registry;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[test]
fn the_registry_holds_over_its_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/registry");
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let data = fs::read(file.expect("a file").path()).expect("a readable file");
        for end in 0..=data.len() {
            registry::check(&data[..end]);
        }
        files += 1;
    }
    assert!(files > 0, "the corpus is empty");
}

proptest! {
    #[test]
    fn the_registry_holds_for_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        registry::check(&data);
    }
}
