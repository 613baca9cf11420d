//! Where a run took place: what another machine, or the same one on a bad day, would have different.

use std::fs;

use serde::Serialize;

use crate::cpu::CpuTimes;
use crate::report::rounded;

/// The machine, its state around the run, and the versions of what ran. What the machine does not tell
/// is `null` in the report.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Surroundings {
    pub(crate) cores: usize,
    pub(crate) processor: Option<String>,
    pub(crate) hypervisor: bool,
    pub(crate) governor: Option<String>,
    pub(crate) kernel: Option<String>,
    /// Soft limits of this process.
    pub(crate) open_files_max: Option<String>,
    pub(crate) locked_memory_max_bytes: Option<String>,
    /// Percent of the last ten seconds in which some task waited for a core, before and after the run.
    pub(crate) pressure_before_percent: Option<f64>,
    pub(crate) pressure_after_percent: Option<f64>,
    /// Percent of the machine's time in the measured phase.
    pub(crate) steal_percent: Option<f64>,
    /// Percent of it that neither the run nor its own servers used. Those of `--config` are not its own.
    pub(crate) other_processes_percent: Option<f64>,
    pub(crate) version: &'static str,
    /// The commit that this program was built from, with a plus when the tree had changes.
    pub(crate) commit: Option<&'static str>,
    pub(crate) optimised: bool,
    pub(crate) nats_server: Option<String>,
}

impl Surroundings {
    /// Whether this program was built for users, not for debugging.
    pub(crate) const OPTIMISED: bool = !cfg!(debug_assertions);

    /// What is known before the run.
    pub(crate) fn before_run() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field(&processor, "model name"),
            hypervisor: field(&processor, "flags")
                .is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor")),
            governor: first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            open_files_max: soft_limit(&limits, "Max open files"),
            locked_memory_max_bytes: soft_limit(&limits, "Max locked memory"),
            pressure_before_percent: pressure_percent(),
            pressure_after_percent: None,
            steal_percent: None,
            other_processes_percent: None,
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("CROUPIER_COMMIT").filter(|commit| !commit.is_empty()),
            optimised: Self::OPTIMISED,
            nats_server: None,
        }
    }
}

impl Surroundings {
    /// With what the machine did in the measured phase.
    pub(crate) fn with_cpu(self, cpu: &CpuTimes) -> Self {
        let percent = |share: f64| rounded(share * 100.0, 2);
        Self {
            steal_percent: cpu.steal_share().map(percent),
            other_processes_percent: cpu.others_share().map(percent),
            ..self
        }
    }
}

/// Percent of the last ten seconds in which some task waited for a core.
pub(crate) fn pressure_percent() -> Option<f64> {
    parse_pressure(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// The first number, or `unlimited`, of a line of `/proc/<pid>/limits`.
fn soft_limit(limits: &str, name: &str) -> Option<String> {
    let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
    values.split_ascii_whitespace().next().map(str::to_owned)
}

fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_the_ten_second_average_of_some() {
        let text = "some avg10=12.50 avg60=0.02 avg300=0.10 total=3538704\nfull avg10=99.00 avg60=0.00\n";
        assert_eq!(parse_pressure(text), Some(12.5));
        assert_eq!(parse_pressure("full avg10=1.00\n"), None);
        assert_eq!(parse_pressure("some avg10=x\n"), None);
    }

    #[test]
    fn limits_and_fields_are_found_by_their_names() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max locked memory         8388608              unlimited            bytes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits, "Max open files").as_deref(), Some("1024"));
        assert_eq!(soft_limit(limits, "Max locked memory").as_deref(), Some("8388608"));
        assert_eq!(soft_limit(limits, "Max cpu time"), None);
        assert_eq!(
            field("flags : a b\nmodel name\t: Some: thing\n", "model name").as_deref(),
            Some("Some: thing")
        );
    }
}
