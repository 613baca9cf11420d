//! From findings and demand to the obstacles: no reading here.

use super::{Demand, Findings, IoUringFinding, KERNEL_MIN, LOCKED_BYTES_MIN, ProbeError};

/// Rings of an executor: the main, the latency and the polling one.
const RINGS_PER_SHARD: u64 = 3;

/// Files of a shard beside its sockets: three rings, event descriptors of the shard, of its blocking thread and of
/// its bell, the lookout's set, and some to spare.
const FILES_PER_SHARD: u64 = 16;

/// Files of the node beside its shards: resolver, admin port, log, and the app's own.
const FILES_PER_NODE: u64 = 32;

const PAGE_BYTES: u64 = 4096;

impl Findings {
    /// Every obstacle to this demand, the one that hides others first; empty when it can start.
    #[must_use]
    pub fn judge(&self, demand: &Demand) -> Vec<ProbeError> {
        let mut errors = Vec::new();
        errors.extend(self.judge_io_uring(demand));
        errors.extend(self.judge_locked_memory(demand));
        errors.extend(self.judge_cpus(demand));
        errors.extend(self.judge_open_files(demand));
        // An exhausted limit shows both as a failing ring and as a limit.
        errors.dedup();
        errors
    }

    pub(super) fn judge_io_uring(&self, demand: &Demand) -> Option<ProbeError> {
        let too_old = self.kernel.is_some_and(|version| version < KERNEL_MIN);
        let errno = match self.io_uring {
            _ if too_old => return Some(ProbeError::KernelTooOld { version: self.kernel }),
            IoUringFinding::Works => return None,
            IoUringFinding::Fails { errno } => errno,
        };
        Some(match (errno, self.io_uring_disabled) {
            (libc::EPERM, Some(setting @ 1..)) => ProbeError::IoUringDisabled { setting },
            (libc::ENOSYS, _) if self.kernel.is_none() => ProbeError::KernelTooOld { version: None },
            (libc::EPERM | libc::EACCES | libc::ENOSYS, _) => ProbeError::IoUringFiltered { errno },
            (libc::ENOMEM, _) => self.locked_memory(demand),
            (libc::EMFILE | libc::ENFILE, _) => self.open_files(demand),
            _ => ProbeError::IoUringFails { errno },
        })
    }

    /// Refuses only what cannot work, and then asks for what works with ease.
    fn judge_locked_memory(&self, demand: &Demand) -> Option<ProbeError> {
        // The executors demand their minimum even where nothing is counted.
        let counted = if self.locked_bytes_unaccounted { 0 } else { locked_bytes_counted(demand) };
        (self.locked_bytes_limit < counted.max(LOCKED_BYTES_MIN)).then(|| self.locked_memory(demand))
    }

    fn judge_cpus(&self, demand: &Demand) -> Option<ProbeError> {
        let (shards, cpus) = (demand.shards, self.cpus.len());
        (demand.pinned && cpus != 0 && shards > cpus)
            .then_some(ProbeError::MoreShardsThanCpus { shards, cpus })
    }

    fn judge_open_files(&self, demand: &Demand) -> Option<ProbeError> {
        (self.open_files_limit < self.open_files_needed(demand)).then(|| self.open_files(demand))
    }

    pub(super) fn locked_memory(&self, demand: &Demand) -> ProbeError {
        let each = LOCKED_BYTES_MIN + demand.io_memory_bytes as u64;
        let needed_bytes = each.saturating_mul(demand.shards.max(1) as u64);
        ProbeError::LockedMemory { needed_bytes, limit_bytes: self.locked_bytes_limit }
    }

    pub(super) fn open_files(&self, demand: &Demand) -> ProbeError {
        ProbeError::OpenFiles { needed: self.open_files_needed(demand), limit: self.open_files_limit }
    }

    fn open_files_needed(&self, demand: &Demand) -> u64 {
        let shards = FILES_PER_SHARD.saturating_mul(demand.shards as u64);
        self.open_files
            .saturating_add(FILES_PER_NODE)
            .saturating_add(shards)
            .saturating_add(demand.sockets as u64)
    }
}

/// What the kernel counts against the limit, as measured on Linux 6.18 without `CAP_IPC_LOCK`: per ring
/// 64 bytes for each submission, 16 for each of twice as many completions and 4 for each index, in
/// pages; and the registered memory once for each ring.
fn locked_bytes_counted(demand: &Demand) -> u64 {
    const RING_HEAD_BYTES: u64 = 320;
    let depth = demand.ring_depth as u64;
    let pages = |bytes: u64| bytes.next_multiple_of(PAGE_BYTES);
    let ring =
        pages(depth.saturating_mul(64)).saturating_add(pages(depth.saturating_mul(36) + RING_HEAD_BYTES));
    let registered = pages(demand.io_memory_bytes as u64);
    let shards = demand.shards as u64;
    ring.saturating_add(registered).saturating_mul(RINGS_PER_SHARD).saturating_mul(shards)
}

#[cfg(test)]
mod tests {
    use super::{super::KernelVersion, *};

    fn demand() -> Demand {
        Demand { shards: 2, pinned: true, ring_depth: 128, io_memory_bytes: 65_536, sockets: 6 }
    }

    fn fails(errno: i32) -> IoUringFinding {
        IoUringFinding::Fails { errno }
    }

    #[test]
    fn a_healthy_machine_has_no_obstacle() {
        assert_eq!(Findings::healthy().judge(&demand()), []);
    }

    #[test]
    fn each_obstacle_has_its_name() {
        use ProbeError as E;
        let kernel = |major, minor| Some(KernelVersion { major, minor });
        let locked = |limit_bytes| E::LockedMemory { needed_bytes: 2 * ((512 + 64) << 10), limit_bytes };
        let files = |limit| E::OpenFiles { needed: 10 + 32 + 32 + 6, limit };
        let h = Findings::healthy;
        let table: Vec<(Findings, Vec<ProbeError>)> = vec![
            (
                Findings { io_uring: fails(libc::EPERM), io_uring_disabled: Some(2), ..h() },
                vec![E::IoUringDisabled { setting: 2 }],
            ),
            (
                Findings { io_uring: fails(libc::EPERM), io_uring_disabled: Some(1), ..h() },
                vec![E::IoUringDisabled { setting: 1 }],
            ),
            // Setting 1 with the right to use it.
            (Findings { io_uring_disabled: Some(1), ..h() }, vec![]),
            (
                Findings { io_uring: fails(libc::EPERM), ..h() },
                vec![E::IoUringFiltered { errno: libc::EPERM }],
            ),
            (
                Findings { io_uring: fails(libc::EPERM), io_uring_disabled: None, ..h() },
                vec![E::IoUringFiltered { errno: libc::EPERM }],
            ),
            (
                Findings { io_uring: fails(libc::EACCES), ..h() },
                vec![E::IoUringFiltered { errno: libc::EACCES }],
            ),
            (
                Findings { io_uring: fails(libc::ENOSYS), ..h() },
                vec![E::IoUringFiltered { errno: libc::ENOSYS }],
            ),
            (
                Findings { io_uring: fails(libc::ENOSYS), kernel: kernel(4, 19), ..h() },
                vec![E::KernelTooOld { version: kernel(4, 19) }],
            ),
            (
                Findings { io_uring: fails(libc::ENOSYS), kernel: None, ..h() },
                vec![E::KernelTooOld { version: None }],
            ),
            (Findings { kernel: kernel(5, 7), ..h() }, vec![E::KernelTooOld { version: kernel(5, 7) }]),
            (Findings { kernel: kernel(5, 8), ..h() }, vec![]),
            (Findings { kernel: None, ..h() }, vec![]),
            (
                Findings { io_uring: fails(libc::EINVAL), ..h() },
                vec![E::IoUringFails { errno: libc::EINVAL }],
            ),
            (Findings { io_uring: fails(libc::ENOMEM), ..h() }, vec![locked(8 << 20)]),
            (
                Findings { io_uring: fails(libc::ENOMEM), locked_bytes_limit: 65_536, ..h() },
                vec![locked(65_536)],
            ),
            (Findings { io_uring: fails(libc::EMFILE), ..h() }, vec![files(1024)]),
            // Two executors count 2 * 3 * (16 + 64) KiB = 480 KiB, so the minimum of 512 KiB decides.
            (Findings { locked_bytes_limit: (512 << 10) - 1, ..h() }, vec![locked((512 << 10) - 1)]),
            (Findings { locked_bytes_limit: 512 << 10, ..h() }, vec![]),
            (Findings { locked_bytes_limit: 1, locked_bytes_unaccounted: true, ..h() }, vec![locked(1)]),
            (Findings { locked_bytes_limit: u64::MAX, ..h() }, vec![]),
            (Findings { cpus: vec![3], ..h() }, vec![E::MoreShardsThanCpus { shards: 2, cpus: 1 }]),
            (Findings { cpus: vec![], ..h() }, vec![]),
            (Findings { open_files_limit: 79, ..h() }, vec![files(79)]),
            (Findings { open_files_limit: 80, ..h() }, vec![]),
            (
                Findings { cpus: vec![0], open_files_limit: 20, locked_bytes_limit: 0, ..h() },
                vec![locked(0), E::MoreShardsThanCpus { shards: 2, cpus: 1 }, files(20)],
            ),
        ];
        for (findings, expected) in table {
            assert_eq!(findings.judge(&demand()), expected, "{findings:?}");
        }
    }

    #[test]
    fn many_executors_need_more_than_the_minimum_unless_uncounted() {
        let demand = Demand { shards: 40, ..demand() };
        let findings = Findings { cpus: (0..64).collect(), ..Findings::healthy() };
        let error = ProbeError::LockedMemory { needed_bytes: 40 * (576 << 10), limit_bytes: 8 << 20 };
        assert_eq!(findings.judge(&demand), [error]);
        let findings = Findings { locked_bytes_unaccounted: true, ..findings };
        assert_eq!(findings.judge(&demand), []);
    }

    #[test]
    fn the_advice_names_the_amount_and_every_place_to_raise_it() {
        let shown = Findings::healthy().locked_memory(&demand()).to_string();
        for part in [
            "need 1152 KiB",
            "is 8192 KiB",
            "ulimit -l 1152",
            "LimitMEMLOCK=1152K",
            "memlock=1179648:1179648",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let shown = Findings::healthy().open_files(&demand()).to_string();
        for part in ["about 80", "ulimit -n 80", "LimitNOFILE=80", "nofile=80:80"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let shown = ProbeError::IoUringDisabled { setting: 2 }.to_string();
        assert!(shown.contains("sysctl -w kernel.io_uring_disabled=0"), "{shown}");
        let shown = ProbeError::IoUringFiltered { errno: libc::EPERM }.to_string();
        assert!(shown.contains("EPERM") && shown.contains("seccomp"), "{shown}");
        let shown =
            ProbeError::KernelTooOld { version: Some(KernelVersion { major: 4, minor: 9 }) }.to_string();
        assert!(shown.contains("it is 4.9, and at least 5.8"), "{shown}");
    }

    #[test]
    fn absurd_demands_do_not_overflow() {
        let demand = Demand { shards: usize::MAX, sockets: usize::MAX, ..demand() };
        assert_eq!(Findings::healthy().judge(&demand).len(), 3);
    }
}
