//! Encrypted links to real servers and to dishonest ones.

mod dishonest;
mod modes;
mod refusals;
mod volume;
