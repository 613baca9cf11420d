//! Runs the property of the same name.
#![no_main]

#[path = "../src/configuration.rs"]
mod configuration;

libfuzzer_sys::fuzz_target!(|data: &[u8]| configuration::check(data));
