//! The fuzz targets' properties, over their whole corpus.

#[path = "../../tests/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
mod properties;

use std::fs;
use std::path::Path;

#[test]
fn decoder_holds_over_its_corpus() {
    run("decoder", properties::decoder::check);
}

#[test]
fn encoder_holds_over_its_corpus() {
    run("encoder", properties::encoder::check);
}

#[test]
fn headers_hold_over_their_corpus() {
    run("headers", properties::headers::check);
}

#[test]
fn info_holds_over_its_corpus() {
    run("info", properties::info::check);
}

#[test]
fn connection_holds_over_its_corpus() {
    run("connection", properties::connection::check);
}

/// Runs `check` over each file of a target's corpus and over each beginning of it.
fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let data = fs::read(file.expect("a file").path()).expect("a readable file");
        let step = data.len().div_ceil(BEGINNINGS_MAX).max(1);
        for end in (0..data.len()).step_by(step).chain([data.len()]) {
            check(&data[..end]);
        }
        files += 1;
    }
    assert!(files >= 5, "only {files} files in {}", folder.display());
}

const BEGINNINGS_MAX: usize = 200;
