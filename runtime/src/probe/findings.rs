//! Reading what the kernel allows.

use std::{fmt, fs, io, str::FromStr};

use crate::config::CPU_MAX;

/// What the kernel told about this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Whether a ring can be made.
    pub io_uring: IoUringFinding,
    /// `kernel.io_uring_disabled`: 0 allows all, 1 one group and administrators, 2 nobody. `None` before
    /// Linux 6.6, which does not have it.
    pub io_uring_disabled: Option<u32>,
    /// The running kernel; `None` when its name is no version.
    pub kernel: Option<KernelVersion>,
    /// The soft limit of locked memory in bytes; `u64::MAX` when there is none.
    pub locked_bytes_limit: u64,
    /// Whether locked memory is not counted for this process (`CAP_IPC_LOCK`).
    pub locked_bytes_unaccounted: bool,
    /// The CPUs that this process may use, ascending; empty when the kernel did not tell.
    pub cpus: Vec<usize>,
    /// The soft limit of open files; `u64::MAX` when there is none.
    pub open_files_limit: u64,
    /// Files open at the time; 0 when `/proc` does not tell.
    pub open_files: u64,
}

#[cfg(test)]
impl Findings {
    /// Those of a machine on which nothing is in the way.
    pub(super) fn healthy() -> Self {
        Findings {
            io_uring: IoUringFinding::Works,
            io_uring_disabled: Some(0),
            kernel: Some(KernelVersion { major: 6, minor: 1 }),
            locked_bytes_limit: 8 << 20,
            locked_bytes_unaccounted: false,
            cpus: vec![0, 1, 2, 3],
            open_files_limit: 1024,
            open_files: 10,
        }
    }
}

/// The answer to `io_uring_setup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoUringFinding {
    /// A ring was made, and closed again.
    Works,
    /// It failed with this error number.
    Fails {
        /// The kernel's error number, such as 1 for `EPERM`.
        errno: i32,
    },
}

impl Findings {
    /// Asks the kernel. Makes one tiny ring and closes it; changes nothing.
    #[must_use]
    pub fn read() -> Self {
        Self {
            io_uring: try_io_uring(),
            io_uring_disabled: read_number("/proc/sys/kernel/io_uring_disabled"),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().and_then(|text| text.parse().ok()),
            locked_bytes_limit: soft_limit(libc::RLIMIT_MEMLOCK),
            locked_bytes_unaccounted: has_ipc_lock(),
            cpus: allowed_cpus().unwrap_or_default(),
            open_files_limit: soft_limit(libc::RLIMIT_NOFILE),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        }
    }
}

/// A kernel's version as far as features go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for KernelVersion {
    type Err = ();

    /// Reads the beginning of a release name such as `6.1.0-13-amd64`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next().and_then(|digits| digits.parse().ok()).ok_or(());
        Ok(Self { major: number()?, minor: number()? })
    }
}

/// The CPUs that this thread may use, ascending, by the kernel's numbers.
///
/// # Errors
///
/// What the kernel says, as on a machine with more CPUs than its classical set can hold.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is a plain array of integers, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into `set`, which lives through the call.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: CPU_MAX is the last number inside a `cpu_set_t`, and `CPU_ISSET` only reads.
    Ok((0..=CPU_MAX).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// The size of the kernel's `struct io_uring_params`.
const IO_URING_PARAMS_BYTES: usize = 120;

fn try_io_uring() -> IoUringFinding {
    let mut params = [0_u64; IO_URING_PARAMS_BYTES / 8];
    // SAFETY: the kernel reads and writes one `io_uring_params` of 120 bytes, which `params` holds at
    // its alignment and which lives through the call; zeros ask for no special feature.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2_u32, params.as_mut_ptr()) };
    if result < 0 {
        return IoUringFinding::Fails { errno: io::Error::last_os_error().raw_os_error().unwrap_or(0) };
    }
    let Ok(descriptor) = libc::c_int::try_from(result) else { return IoUringFinding::Works };
    // SAFETY: the descriptor was made just before and nobody else knows it.
    unsafe { libc::close(descriptor) };
    IoUringFinding::Works
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in one `rlimit`, which lives through the call.
    let result = unsafe { libc::getrlimit(resource, &raw mut limit) };
    // A kernel that does not tell does not prove that there is a limit.
    if result != 0 || limit.rlim_cur == libc::RLIM_INFINITY { u64::MAX } else { limit.rlim_cur }
}

/// `CAP_IPC_LOCK`, by its number in the set of effective capabilities.
fn has_ipc_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
}

fn read_number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read_from_release_names() {
        for (text, expected) in [
            ("6.1.0-13-amd64\n", Some((6, 1))),
            ("5.8", Some((5, 8))),
            ("4.19.0", Some((4, 19))),
            ("6.18.44-fc-v669", Some((6, 18))),
            ("unknown", None),
            ("6", None),
            ("", None),
        ] {
            let version = text.parse::<KernelVersion>().ok();
            assert_eq!(version, expected.map(|(major, minor)| KernelVersion { major, minor }), "{text}");
        }
        assert!(KernelVersion { major: 5, minor: 10 } > KernelVersion { major: 5, minor: 8 });
    }

    #[test]
    fn this_process_has_cpus_limits_and_files() {
        let findings = Findings::read();
        assert!(!findings.cpus.is_empty());
        assert!(findings.cpus.is_sorted());
        assert!(findings.open_files >= 3, "{findings:?}");
        assert!(findings.open_files_limit >= findings.open_files);
        assert!(findings.kernel.is_some());
        // Either answer is right here, but a failure must carry its reason.
        assert_ne!(findings.io_uring, IoUringFinding::Fails { errno: 0 });
    }

    #[test]
    fn asking_leaves_no_file_open() {
        let files = || fs::read_dir("/proc/self/fd").unwrap().count();
        // Other tests open and close files meanwhile; 1000 left open would not hide among them.
        let before = files();
        for _ in 0..1000 {
            try_io_uring();
        }
        assert!(files() < before + 500);
    }
}
