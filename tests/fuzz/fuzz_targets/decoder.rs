//! Runs the property of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| croupier_fuzz::decoder::check(data));
