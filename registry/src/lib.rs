//! Croupier registry.
#![forbid(unsafe_code)]
