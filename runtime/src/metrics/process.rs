//! What the kernel tells of this process, for who watches nothing else of the machine.

use std::fs;

/// What the process uses; what the kernel does not tell is left out.
pub(super) struct ProcessUsage {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_limit: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) threads: Option<u64>,
}

impl ProcessUsage {
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in brackets may hold blanks and brackets.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Self {
            resident_bytes: field(24).map(|pages| pages.saturating_mul(system(libc::_SC_PAGESIZE))),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            open_files_limit: open_files_limit(),
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, kernel)| (user + kernel) as f64 / system(libc::_SC_CLK_TCK) as f64),
            threads: field(20),
        }
    }
}

fn system(name: libc::c_int) -> u64 {
    // SAFETY: a bare question to the C library, for a constant of the kernel.
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(1).max(1)
}

fn open_files_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let values = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    values.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_of_everything() {
        let usage = ProcessUsage::read();
        assert!(usage.resident_bytes.is_some_and(|bytes| bytes > 1 << 16), "{:?}", usage.resident_bytes);
        assert!(usage.open_files.is_some_and(|files| files >= 3), "{:?}", usage.open_files);
        assert!(usage.threads.is_some_and(|threads| threads >= 1), "{:?}", usage.threads);
        assert!(usage.cpu_seconds.is_some_and(|seconds| seconds >= 0.0), "{:?}", usage.cpu_seconds);
    }
}
