//! What the kernel allows this process, asked before any executor is made, and turned into advice.
//!
//! Reading ([`Findings::read`]) and judging ([`Findings::judge`]) are apart: the judgement is a pure
//! function of the findings and of what a node asks for.

mod advice;
mod checkup;
mod explain;
mod findings;
mod judge;

use crate::{
    config::Config,
    transport::{IO_MEMORY_BYTES, RING_DEPTH},
};

pub use self::{
    advice::ProbeError,
    checkup::{Checkup, Grade, Line},
    findings::{Findings, IoUringFinding, KernelVersion, allowed_cpus},
};

/// Sockets that the probe wants free for peers, when the node has any.
const PEERS_PROBED: usize = 256;

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

impl Demand {
    /// What a node of this configuration asks for.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let allowed = allowed_cpus().unwrap_or_default();
        let shards = config.shards.cpus.shards(allowed.len().max(1));
        Self {
            shards,
            pinned: config.shards.pin,
            ring_depth: RING_DEPTH,
            io_memory_bytes: IO_MEMORY_BYTES,
            // Each link to a peer may be there twice for a moment; a cluster of this size is what is probed for.
            sockets: 2 * shards * config.clusters.len()
                + config.registry.as_ref().map_or(0, |_| PEERS_PROBED),
        }
    }
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

/// After a start that failed: what [`Checkup`] finds amiss, in the log.
pub(crate) fn log_what_is_amiss(demand: &Demand) {
    for line in Checkup::of_machine(demand).lines {
        let remedy = line.remedy.replace('\n', "; ");
        match line.grade {
            Grade::Ok => {}
            Grade::Warn => tracing::warn!(subject = line.subject, remedy, "{}", line.found),
            Grade::Fail => tracing::error!(subject = line.subject, remedy, "{}", line.found),
        }
    }
}

/// What to do about the text of an executor's error or panic while it was made; `None` when the text
/// tells of something else, so that the caller shows it as it is.
#[must_use]
pub fn explain(text: &str, demand: &Demand) -> Option<ProbeError> {
    Findings::read().explain(text, demand)
}
