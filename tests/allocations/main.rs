//! What a running node allocates, leaks and burns, counted. One test at a time, so that nothing else moves the
//! counts.

#[path = "../suite/scripted.rs"]
#[allow(dead_code, reason = "the suite uses the rest of it")]
mod scripted;

mod counting;
mod hot_path;
mod leaks;
mod lookups;
mod subscriptions;

use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The right to be the only test that runs.
fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}
