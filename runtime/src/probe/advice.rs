//! What stands in the way of a start, and what to do about it.

use std::fmt;

use super::{KERNEL_MIN, KernelVersion};

/// What the kernel refuses. Displayed over several lines, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The administrator has switched io_uring off.
    #[error(
        "io_uring is switched off: kernel.io_uring_disabled is {setting}{}\n  \
         to switch it on:  sysctl -w kernel.io_uring_disabled=0\n  \
         for good:         a line `kernel.io_uring_disabled = 0` in /etc/sysctl.d/50-io-uring.conf",
        disabled_meaning(*setting)
    )]
    IoUringDisabled {
        /// The value of `kernel.io_uring_disabled`: 1 or 2.
        setting: u32,
    },
    /// The kernel has io_uring, but something keeps this process from it.
    #[error(
        "io_uring is filtered: io_uring_setup fails with {} though the kernel has it switched on, as under a \
         seccomp filter, a sandbox or a security module\n  \
         docker, podman:  --security-opt seccomp=PROFILE, with io_uring_setup, io_uring_enter and \
         io_uring_register allowed in it (seccomp=unconfined to try)\n  \
         kubernetes:      securityContext.seccompProfile of type Localhost with these three calls allowed\n  \
         systemd:         SystemCallFilter=, with these three calls in it",
        error_name(*errno)
    )]
    IoUringFiltered {
        /// The kernel's error number.
        errno: i32,
    },
    /// The kernel lacks operations that the executors use.
    #[error("the kernel is too old: {}, and at least {KERNEL_MIN} is needed for io_uring", shown_version(*version))]
    KernelTooOld {
        /// The running kernel; `None` when it does not tell.
        version: Option<KernelVersion>,
    },
    /// `io_uring_setup` fails for a reason of another kind.
    #[error("io_uring does not work: io_uring_setup fails with {}", error_name(*errno))]
    IoUringFails {
        /// The kernel's error number.
        errno: i32,
    },
    /// Too little memory may be locked.
    #[error(
        "too little locked memory: the rings of this node need {} KiB, and the limit (RLIMIT_MEMLOCK) is {} KiB\n  \
         shell:      ulimit -l {}   (if it is refused, raise memlock in /etc/security/limits.conf and log in again)\n  \
         systemd:    LimitMEMLOCK={}K\n  \
         container:  --ulimit memlock={needed_bytes}:{needed_bytes}\n  \
         All processes of a user share the limit, and the kernel gives back what an ended process held \
         with some delay; fewer shards need less",
        kibibytes(*needed_bytes), limit_bytes / 1024, kibibytes(*needed_bytes), kibibytes(*needed_bytes)
    )]
    LockedMemory {
        /// The limit that this node should have, in bytes.
        needed_bytes: u64,
        /// The limit that it has, in bytes.
        limit_bytes: u64,
    },
    /// Each shard needs a CPU.
    #[error(
        "{shards} shards are asked for, and this process may use {cpus} {}\n  \
         ask for fewer shards, or for \"auto\", or allow more CPUs (taskset, AllowedCPUs=, --cpuset-cpus)",
        if *cpus == 1 { "CPU" } else { "CPUs" }
    )]
    MoreShardsThanCpus {
        /// Shards asked for.
        shards: usize,
        /// CPUs allowed.
        cpus: usize,
    },
    /// A named CPU does not exist or is not allowed.
    #[error(
        "CPU {cpu} does not exist, or this process may not use it\n  \
         choose others, or \"auto\", or allow it (taskset, AllowedCPUs=, --cpuset-cpus)"
    )]
    CpuNotAllowed {
        /// Its number.
        cpu: usize,
    },
    /// Too few files may be open.
    #[error(
        "too few open files: about {needed} are needed, and the limit (RLIMIT_NOFILE) is {limit}\n  \
         shell:      ulimit -n {needed}   (if it is refused, raise nofile in /etc/security/limits.conf and log in again)\n  \
         systemd:    LimitNOFILE={needed}\n  \
         container:  --ulimit nofile={needed}:{needed}"
    )]
    OpenFiles {
        /// Files that the node will need, those that are open included.
        needed: u64,
        /// The limit.
        limit: u64,
    },
}

fn disabled_meaning(setting: u32) -> &'static str {
    match setting {
        1 => " (only for administrators and the group kernel.io_uring_group)",
        _ => "",
    }
}

fn shown_version(version: Option<KernelVersion>) -> impl fmt::Display {
    version.map_or_else(|| "its version is unknown".to_owned(), |version| format!("it is {version}"))
}

/// Rounded up: what is told must suffice.
fn kibibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

/// The symbol where one knows it, since the manuals go by it.
fn error_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::ENOSYS => "ENOSYS",
        libc::ENOMEM => "ENOMEM",
        libc::EMFILE => "EMFILE",
        libc::ENFILE => "ENFILE",
        libc::EINVAL => "EINVAL",
        _ => return std::io::Error::from_raw_os_error(errno).to_string(),
    };
    name.to_owned()
}
