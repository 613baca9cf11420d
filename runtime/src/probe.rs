//! What the kernel allows this process, asked before any executor is made, and turned into advice.
//!
//! Reading ([`Findings::read`]) and judging ([`Findings::judge`]) are apart: the judgement is a pure
//! function of the findings and of what a node asks for.

mod advice;
mod explain;
mod findings;
mod judge;

pub use self::{
    advice::ProbeError,
    findings::{Findings, IoUringFinding, KernelVersion, allowed_cpus},
};

/// Bytes of locked memory that an executor's library demands as the process's limit at the least.
pub const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// The oldest kernel with the io_uring operations that the executors use.
pub const KERNEL_MIN: KernelVersion = KernelVersion { major: 5, minor: 8 };

/// What a node is about to ask of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Executors, each with rings of its own.
    pub shards: usize,
    /// Whether each of them is to have a CPU of its own.
    pub pinned: bool,
    /// Entries of each ring.
    pub ring_depth: usize,
    /// Bytes that each executor registers with its rings.
    pub io_memory_bytes: usize,
    /// Sockets in all, over all shards.
    pub sockets: usize,
}

/// Asks the kernel and answers whether a node of this demand can start.
///
/// It makes one io_uring of two entries and closes it again.
///
/// # Errors
///
/// The first obstacle, the one that hides the others first; [`Findings::judge`] lists all.
pub fn check(demand: &Demand) -> Result<(), ProbeError> {
    match Findings::read().judge(demand).into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// What to do about the text of an executor's error or panic while it was made; `None` when the text
/// tells of something else, so that the caller shows it as it is.
#[must_use]
pub fn explain(text: &str, demand: &Demand) -> Option<ProbeError> {
    Findings::read().explain(text, demand)
}
