//! The counts that are committed, and how fresh ones compare with them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A path may cost so much more than recorded, in the surroundings of the record.
pub const GROWTH_MAX: f64 = 0.05;
/// And so much elsewhere: another compiler inlines otherwise, another libc copies otherwise.
pub const GROWTH_MAX_ELSEWHERE: f64 = 0.25;

/// The counts, and what they were counted with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What the counts depend on beside the sources.
    pub surroundings: Surroundings,
    /// Instructions of each path.
    pub instructions: BTreeMap<String, f64>,
}

/// What the counts depend on beside the sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// `rustc --version` of the compiler that built the program.
    pub rustc: String,
    /// The C library, whose `memcpy` is on most paths.
    pub libc: String,
    /// The instruction sets among which programs choose at run time.
    pub processor: String,
}

impl Surroundings {
    /// Those of this very process.
    #[must_use]
    pub fn here() -> Self {
        // SAFETY: the library returns a constant of its own, which ends with a zero.
        let libc = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
        Self {
            rustc: env!("CROUPIER_BENCH_RUSTC").to_owned(),
            libc: format!("glibc {}", libc.to_string_lossy()),
            processor: processor(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    let sets = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    let there = sets.into_iter().filter_map(|(name, is_there)| is_there.then_some(name));
    ["x86_64"].into_iter().chain(there).collect::<Vec<_>>().join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}

/// A fresh count beside the recorded one.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The path.
    pub name: String,
    /// Instructions, counted freshly.
    pub counted: f64,
    /// Instructions as recorded; nothing for a path that is new.
    pub recorded: Option<f64>,
    /// Whether it has grown by more than is allowed, or is not in the record.
    pub is_fault: bool,
}

/// Compares a path's fresh count with the record; `growth_max` as [`Record::growth_max`] tells.
#[must_use]
pub fn compare(name: &str, counted: f64, record: &Record, growth_max: f64) -> Compared {
    let recorded = record.instructions.get(name).copied();
    let is_fault = recorded.is_none_or(|recorded| counted > recorded * (1.0 + growth_max));
    Compared { name: name.to_owned(), counted, recorded, is_fault }
}

impl Record {
    /// By how much a path may grow, counted in these surroundings.
    #[must_use]
    pub fn growth_max(&self, surroundings: &Surroundings) -> f64 {
        if self.surroundings == *surroundings { GROWTH_MAX } else { GROWTH_MAX_ELSEWHERE }
    }

    /// Recorded paths that are not among these names.
    pub fn gone<'r>(&'r self, names: &'r [&str]) -> impl Iterator<Item = &'r str> {
        self.instructions.keys().map(String::as_str).filter(|recorded| !names.contains(recorded))
    }
}

/// One line.
impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (recorded, change) = match self.recorded {
            Some(recorded) => {
                (format!("{recorded:.1}"), format!("{:+.1} %", (self.counted / recorded - 1.0) * 100.0))
            }
            None => ("-".to_owned(), "new".to_owned()),
        };
        let fault = if self.is_fault { "  TOO MANY" } else { "" };
        write!(f, "{:<52} {:>10.1} {recorded:>10} {change:>10}{fault}", self.name, self.counted)
    }
}

impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}; {}", self.rustc, self.libc, self.processor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let instructions = [("a".to_owned(), 100.0)].into();
        Record { surroundings: Surroundings::here(), instructions }
    }

    fn check(counted: f64, growth_max: f64, is_fault: bool) {
        assert_eq!(
            compare("a", counted, &record(), growth_max).is_fault,
            is_fault,
            "{counted} at {growth_max}"
        );
    }

    #[test]
    fn a_path_may_shrink_and_grow_a_little() {
        check(50.0, GROWTH_MAX, false);
        check(105.0, GROWTH_MAX, false);
        check(105.1, GROWTH_MAX, true);
        check(105.1, GROWTH_MAX_ELSEWHERE, false);
        check(125.1, GROWTH_MAX_ELSEWHERE, true);
    }

    #[test]
    fn a_path_that_nobody_recorded_is_a_fault_and_one_that_is_gone_is_seen() {
        assert!(compare("b", 1.0, &record(), GROWTH_MAX).is_fault);
        assert_eq!(record().gone(&["b"]).collect::<Vec<_>>(), ["a"]);
        assert_eq!(record().gone(&["a", "b"]).count(), 0);
    }

    #[test]
    fn another_compiler_is_given_more_room() {
        let record = record();
        let here = Surroundings::here();
        assert_eq!(record.growth_max(&here), GROWTH_MAX);
        let other = Surroundings { rustc: "rustc 9.9.9".to_owned(), ..here };
        assert_eq!(record.growth_max(&other), GROWTH_MAX_ELSEWHERE);
    }

    #[test]
    fn a_record_survives_its_file() {
        let record = record();
        let text = serde_json::to_string_pretty(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
