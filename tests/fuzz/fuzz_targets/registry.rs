//! Runs the property of the same name.
#![no_main]

#[path = "../src/recipe.rs"]
#[allow(dead_code, reason = "shared with the other properties")]
mod recipe;
#[path = "../src/registry.rs"]
mod registry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| registry::check(data));
