//! The registry as an application sees it: all that Dispatch did, and what it got wrong.

mod choosing;
mod documented;
mod ending;
mod gate;
pub(crate) mod offer;
mod splits;
pub(crate) mod worker_process;
