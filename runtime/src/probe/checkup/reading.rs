//! What the kernel and its files tell about the machine; each is left out where it is not there.

use std::{
    fs, mem,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// CPUs that the machine has switched on.
    pub(super) cpus_online: Option<usize>,
    /// Cores' time that the control group may use, if it is limited.
    pub(super) cpu_quota: Option<f64>,
    /// What sets the speed of each core.
    pub(super) governors: Vec<String>,
    /// Percent of the last ten seconds in which some task waited.
    pub(super) cpu_pressure_percent: Option<f64>,
    pub(super) memory_pressure_percent: Option<f64>,
    pub(super) io_pressure_percent: Option<f64>,
    /// Connections that may wait to be accepted.
    pub(super) somaxconn: Option<u64>,
    /// The first and the last port for outgoing connections.
    pub(super) local_ports: Option<(u64, u64)>,
    pub(super) clock_source: Option<String>,
    pub(super) clock_sync: Option<ClockSync>,
}

/// Whether somebody keeps the clock right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockSync {
    /// It is off by at most so much, as whoever keeps it says.
    Kept { error_max: Duration },
    /// Nobody has set it for long, or at all.
    Free,
}

impl Reading {
    pub(super) fn read() -> Self {
        Self {
            cpus_online: line("/sys/devices/system/cpu/online").and_then(|text| count_of(&text)),
            cpu_quota: line("/sys/fs/cgroup/cpu.max").and_then(|text| quota_of(&text)),
            governors: governors(),
            cpu_pressure_percent: pressure("cpu"),
            memory_pressure_percent: pressure("memory"),
            io_pressure_percent: pressure("io"),
            somaxconn: line("/proc/sys/net/core/somaxconn").and_then(|text| text.parse().ok()),
            local_ports: line("/proc/sys/net/ipv4/ip_local_port_range").and_then(|text| range_of(&text)),
            clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            clock_sync: clock_sync(),
        }
    }
}

/// Asks the kernel; a filter of calls may refuse the answer.
fn clock_sync() -> Option<ClockSync> {
    // SAFETY: the structure holds nothing but numbers, for which zero is a value.
    let mut clock: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills one `timex`, which lives through the call; with modes 0 it changes nothing.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    // Microseconds, of whatever width.
    #[allow(clippy::unnecessary_cast)]
    let error_max = Duration::from_micros(u64::try_from(clock.maxerror as i64).unwrap_or(0));
    match state {
        -1 => None,
        libc::TIME_ERROR => Some(ClockSync::Free),
        _ if clock.status & libc::STA_UNSYNC != 0 => Some(ClockSync::Free),
        _ => Some(ClockSync::Kept { error_max }),
    }
}

/// What a server's program says of its version.
pub(super) fn version_of(server: &Path) -> Option<String> {
    let told = Command::new(server).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let (_, version) = text.lines().next()?.rsplit_once(' ')?;
    Some(version.trim().to_owned()).filter(|version| told.status.success() && !version.is_empty())
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

fn governors() -> Vec<String> {
    let Ok(cpus) = fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let files = cpus.flatten().map(|cpu| cpu.path().join("cpufreq/scaling_governor"));
    let mut governors: Vec<String> =
        files.filter_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned()).collect();
    governors.sort();
    governors
}

fn pressure(of: &str) -> Option<f64> {
    pressure_of(&fs::read_to_string(format!("/proc/pressure/{of}")).ok()?)
}

/// The average of the last ten seconds, of "some".
fn pressure_of(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// How many numbers a list such as `0-3,8` names.
fn count_of(list: &str) -> Option<usize> {
    let mut count = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

/// Cores from `max 100000` or `150000 100000`.
fn quota_of(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn range_of(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_understood_and_nothing_else_is() {
        assert_eq!(
            ["0-3,8", "0", "0-1\u{a0}", "", "3-1"].map(count_of),
            [Some(5), Some(1), None, None, None]
        );
        assert_eq!(["max 100000", "150000 100000", "1 0", "x"].map(quota_of), [None, Some(1.5), None, None]);
        assert_eq!(["32768\t60999", "1", "a b"].map(range_of), [Some((32_768, 60_999)), None, None]);
        let text = "some avg10=12.50 avg60=0.02 avg300=0.10 total=3\nfull avg10=99.00 avg60=0.00\n";
        assert_eq!([text, "full avg10=1.00\n", "some avg10=x\n"].map(pressure_of), [Some(12.5), None, None]);
    }
}
