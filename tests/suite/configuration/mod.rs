//! What a node is told, and told again while it runs.

mod reading_again;
mod reloading;
mod servers;
