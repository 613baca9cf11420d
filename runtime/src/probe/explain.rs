//! From the text of an executor's error or panic to the same advice as the probes give.
//!
//! The executors' library tells most obstacles with one sentence about an old kernel, and poisons a
//! static when it panics, so the text says that something is wrong and the findings say what.

use super::{Demand, Findings, IoUringFinding, ProbeError};

/// Beginnings and parts of texts that mean "no ring", whatever the reason.
const NO_RING: [&str; 6] = [
    "Failed to register a probe",
    "kernel should be at least 5.8",
    "Your kernel is older",
    "IO_URING_RECENT_ENOUGH",
    "Lazy instance has previously been poisoned",
    "Once instance has previously been poisoned",
];

impl Findings {
    /// What to do about this text; `None` when it tells of something that these findings do not know.
    #[must_use]
    pub fn explain(&self, text: &str, demand: &Demand) -> Option<ProbeError> {
        if text.contains("memlock resource limit") || is_os_error(text, libc::ENOMEM) {
            return Some(self.locked_memory(demand));
        }
        if is_os_error(text, libc::EMFILE) || is_os_error(text, libc::ENFILE) {
            return Some(self.open_files(demand));
        }
        if let Some(cpu) = number_between(text, "CPU ", " doesn't exist") {
            return Some(ProbeError::CpuNotAllowed { cpu });
        }
        if let (Some(cpus), Some(shards)) =
            (number_between(text, "found ", " of "), number_between(text, " of ", " required CPUs"))
        {
            return Some(ProbeError::MoreShardsThanCpus { shards, cpus });
        }
        let refused =
            [libc::EPERM, libc::EACCES, libc::ENOSYS].into_iter().find(|errno| is_os_error(text, *errno));
        if let Some(errno) = refused {
            // Whatever a ring of two entries says meanwhile, the real one was refused.
            let findings = Self { io_uring: IoUringFinding::Fails { errno }, ..self.clone() };
            return findings.judge_io_uring(demand);
        }
        if NO_RING.iter().any(|part| text.contains(part)) {
            // A tiny ring that works now means that the limit was taken up by others for a moment.
            return Some(self.judge_io_uring(demand).unwrap_or_else(|| self.locked_memory(demand)));
        }
        None
    }
}

fn is_os_error(text: &str, errno: i32) -> bool {
    text.contains(&format!("(os error {errno})")) || text.contains(&format!("code: {errno},"))
}

fn number_between(text: &str, before: &str, after: &str) -> Option<usize> {
    let (head, _) = text.split_once(after)?;
    let (_, digits) = head.rsplit_once(before)?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::KernelVersion, *};

    const TOO_OLD: &str = "Failed to register a probe. The most likely reason is that your kernel witnessed \
                           Romulus killing Remus (too old!! kernel should be at least 5.8)";

    fn findings(io_uring: IoUringFinding) -> Findings {
        Findings { io_uring, locked_bytes_limit: 1 << 20, open_files_limit: 100, ..Findings::healthy() }
    }

    #[test]
    fn texts_of_the_executors_become_advice() {
        use ProbeError as E;
        let demand = Demand { shards: 1, pinned: true, ring_depth: 128, io_memory_bytes: 65_536, sockets: 3 };
        let works = findings(IoUringFinding::Works);
        let refused = findings(IoUringFinding::Fails { errno: libc::EPERM });
        let off = Findings { io_uring_disabled: Some(2), ..refused.clone() };
        let old = Findings { kernel: Some(KernelVersion { major: 5, minor: 4 }), ..works.clone() };
        let locked = Some(E::LockedMemory { needed_bytes: 576 << 10, limit_bytes: 1 << 20 });
        let files = Some(E::OpenFiles { needed: 10 + 32 + 16 + 3, limit: 100 });
        let filtered = Some(E::IoUringFiltered { errno: libc::EPERM });
        let disabled = Some(E::IoUringDisabled { setting: 2 });
        for (text, findings, expected) in [
            (
                "Reactor error: The memlock resource limit is too low: 65536 (recommended 524288)",
                &works,
                &locked,
            ),
            ("IO error occurred: Cannot allocate memory (os error 12)", &works, &locked),
            ("Os { code: 12, kind: OutOfMemory, message: \"Cannot allocate memory\" }", &works, &locked),
            ("IO error occurred: Too many open files (os error 24)", &works, &files),
            ("IO error occurred: Operation not permitted (os error 1)", &works, &filtered),
            ("IO error occurred: Operation not permitted (os error 1)", &off, &disabled),
            (TOO_OLD, &refused, &filtered),
            (TOO_OLD, &off, &disabled),
            (TOO_OLD, &old, &Some(E::KernelTooOld { version: old.kernel })),
            (TOO_OLD, &works, &locked),
            ("Once instance has previously been poisoned", &off, &disabled),
            (
                "Executor builder error: CPU 9 doesn't exist on the host",
                &works,
                &Some(E::CpuNotAllowed { cpu: 9 }),
            ),
            (
                "Executor builder error: found 2 of 8 required CPUs",
                &works,
                &Some(E::MoreShardsThanCpus { shards: 8, cpus: 2 }),
            ),
            ("index out of bounds: the len is 12", &works, &None),
            ("Connection refused (os error 111)", &works, &None),
            ("", &refused, &None),
        ] {
            assert_eq!(&findings.explain(text, &demand), expected, "{text}");
        }
    }
}
