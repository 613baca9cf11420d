//! Whether the figures of a run may be believed, and why not.

use serde::{Deserialize, Serialize};

use crate::fault::Excused;
use crate::quantity::{counted, grouped, whole, whole_micros};
use crate::recorder::Counts;

/// How far a run's figures carry.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    /// The figures say what they seem to say.
    Valid,
    /// The counts are right; the latencies say as much about the surroundings as about what was measured.
    Degraded,
    /// The run proves nothing, or proves a fault.
    Invalid,
}

/// The status with its reasons, the gravest first; none for a valid run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Verdict {
    pub(crate) status: Status,
    pub(crate) reasons: Vec<String>,
}

/// What a verdict rests on.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) warmup: Counts,
    pub(crate) measured: Counts,
    /// Connections lost while the run went on.
    pub(crate) disconnects: u64,
    /// Messages dropped because a subscriber did not keep up.
    pub(crate) slow_consumer_drops: u64,
    /// What the faults of the run explain, and what they do not: none in a run without faults.
    pub(crate) faults: Option<(Excused, Vec<String>)>,
    /// How requests ended that were not answered; none where all were, and where there are none.
    pub(crate) unanswered: Option<String>,
    pub(crate) circumstances: Circumstances,
}

/// What bears on a run of any scenario.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    /// What ended the run before its time.
    pub(crate) interruption: Option<String>,
    /// What the schedule holds is called: "messages", "changes", "calls".
    pub(crate) unit: &'static str,
    pub(crate) rate_asked: f64,
    pub(crate) rate_achieved: f64,
    /// What to try where that is too little.
    pub(crate) remedy: Remedy,
    /// When the schedule was found to be beyond hope and was given up, since the start of the measured phase.
    pub(crate) gave_up_nanos: Option<u64>,
    /// What the schedule held and was not done before the run was given up.
    pub(crate) unsent: u64,
    pub(crate) is_debug_build: bool,
    pub(crate) lag_p99_nanos: u64,
    /// The latency that the run is about, by its name: "end-to-end", or "converge", to the last node.
    pub(crate) latency: &'static str,
    pub(crate) e2e_p99_nanos: u64,
    /// Medians of the first quarter of the measured time and of the rest.
    pub(crate) e2e_medians_nanos: Option<(u64, u64)>,
    /// Share of the machine's time that the hypervisor gave to others, from 0 to 1.
    pub(crate) steal_share: Option<f64>,
    /// Share of the machine's time used by processes that are not part of the run.
    pub(crate) others_share: Option<f64>,
    /// Whether the servers are among these, if they run here: those of a configuration are not the run's own.
    pub(crate) others_have_servers: bool,
    /// Percent of time in which some task waited for a core, over the ten seconds before the run.
    pub(crate) pressure_before_percent: Option<f64>,
    pub(crate) cores: usize,
    /// Shards and servers: what would like a core of its own.
    pub(crate) roles: usize,
}

/// What a run can be told to try at another rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    Rate,
    /// It may also look for the highest by itself.
    RateOrSearch,
    /// It has not one rate.
    Other,
}

/// Of the rate that was reached without leaving time for anything else, so much is likely to be kept.
const LIKELY_SHARE: f64 = 0.6;

/// Less of the asked rate than this is another load than was asked for.
pub(crate) const RATE_ACHIEVED_MIN: f64 = 0.99;

/// More lag than this part of the end-to-end p99 means that the generator measured itself.
const LAG_OF_E2E_MAX: f64 = 0.10;

/// How far, as a factor and in nanoseconds, the medians of the first quarter and the rest may differ.
const SETTLED_FACTOR_MAX: f64 = 1.5;
const SETTLED_DIFFERENCE_NANOS: u64 = 100_000;

const STEAL_SHARE_MAX: f64 = 0.02;
const OTHERS_SHARE_MAX: f64 = 0.05;
const PRESSURE_BEFORE_PERCENT_MAX: f64 = 20.0;

impl Status {
    /// As it is written everywhere.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Degraded => "DEGRADED",
            Self::Invalid => "INVALID",
        }
    }
}

impl Verdict {
    /// Invalid with a reason that makes a run so, degraded with one that makes it so, valid without any.
    pub(crate) fn of(invalid: Vec<String>, degraded: Vec<String>) -> Self {
        let status = match (invalid.is_empty(), degraded.is_empty()) {
            (false, _) => Status::Invalid,
            (true, false) => Status::Degraded,
            (true, true) => Status::Valid,
        };
        Self { status, reasons: invalid.into_iter().chain(degraded).collect() }
    }
}

impl Evidence {
    /// Weighs everything; every reason is told, not only the first.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut invalid = Vec::new();
        let excused_disconnects = match &self.faults {
            None => {
                for (phase, counts) in [("measured phase", &self.measured), ("warm-up", &self.warmup)] {
                    if !counts.is_exact() {
                        invalid.push(wrong_counts(phase, counts));
                    }
                }
                invalid.extend(self.unanswered.iter().cloned());
                0
            }
            Some((excused, reasons)) => {
                invalid.extend(reasons.iter().cloned());
                invalid.extend(self.unexplained(excused));
                excused.disconnects
            }
        };
        let disconnects = self.disconnects.saturating_sub(excused_disconnects);
        if disconnects > 0 {
            invalid.push(counted(disconnects, "unexpected disconnect"));
        }
        if self.slow_consumer_drops > 0 {
            invalid
                .push(format!("a slow consumer: {} dropped", counted(self.slow_consumer_drops, "message")));
        }
        invalid.extend(self.circumstances.invalid_reasons());
        Verdict::of(invalid, self.circumstances.degraded_reasons())
    }
}

impl Evidence {
    /// Wrong counts beyond what the faults may cause.
    fn unexplained(&self, excused: &Excused) -> Option<String> {
        let both = |count: fn(&Counts) -> u64| count(&self.warmup) + count(&self.measured);
        let beyond = [
            ("lost", both(Counts::lost).saturating_sub(excused.lost)),
            ("duplicate", both(|counts| counts.duplicate).saturating_sub(excused.duplicate)),
            ("reordered", both(|counts| counts.reordered).saturating_sub(excused.reordered)),
            ("corrupt", both(|counts| counts.corrupt)),
        ];
        let wrong: Vec<String> = beyond
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{what} {}", grouped(*count)))
            .collect();
        (!wrong.is_empty()).then(|| {
            format!(
                "beyond what the faults may cause: {} of {} sent",
                wrong.join(", "),
                grouped(both(|counts| counts.sent))
            )
        })
    }
}

impl Circumstances {
    /// Another load than was asked for, or another program than users have.
    pub(crate) fn invalid_reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.interruption.iter().cloned().collect();
        // What was not done because of a signal is no mistake of the generator's.
        let is_whole = self.interruption.is_none();
        if is_whole && self.rate_achieved < self.rate_asked * RATE_ACHIEVED_MIN {
            reasons.push(format!(
                "the rate was not reached: from the start of the measured phase on, {} {}/s were sent of {} asked for \
                 ({:.1} %, less than {:.0} %){}",
                whole(self.rate_achieved),
                self.unit,
                whole(self.rate_asked),
                percent(self.rate_achieved / self.rate_asked),
                percent(RATE_ACHIEVED_MIN),
                self.advice(),
            ));
        }
        if is_whole && let Some(gave_up_nanos) = self.gave_up_nanos {
            reasons.push(format!(
                "given up {:.1} s after the start of the measured phase: less than half of what was due had been sent, and \
                 the rest could not be made up for",
                gave_up_nanos as f64 / 1e9
            ));
        }
        if is_whole && self.unsent > 0 {
            reasons.push(format!("{} {} were not sent in time", grouped(self.unsent), self.unit));
        }
        if self.is_debug_build {
            reasons.push("a debug build: its figures say nothing about a release build".to_owned());
        }
        reasons
    }

    /// Which rate to try, where there is one that was more or less reached.
    fn advice(&self) -> String {
        let likely = likely_rate(self.rate_achieved);
        match (self.remedy, likely) {
            (Remedy::Other, _) | (_, 0) => String::new(),
            (Remedy::Rate, likely) => {
                format!("; {:.0} % of that may be kept: try --rate {likely}", percent(LIKELY_SHARE))
            }
            (Remedy::RateOrSearch, likely) => format!(
                "; {:.0} % of that may be kept: try --rate {likely}, or let --find-max look for the highest",
                percent(LIKELY_SHARE)
            ),
        }
    }

    /// What the latencies say about the generator and the machine.
    pub(crate) fn degraded_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.lag_p99_nanos as f64 > self.e2e_p99_nanos as f64 * LAG_OF_E2E_MAX {
            reasons.push(format!(
                "the generator was late: lag p99 {} us is above {:.0} % of the {} p99 {} us",
                whole_micros(self.lag_p99_nanos),
                percent(LAG_OF_E2E_MAX),
                self.latency,
                whole_micros(self.e2e_p99_nanos)
            ));
        }
        if let Some((early, late)) = self.e2e_medians_nanos
            && early.abs_diff(late) > SETTLED_DIFFERENCE_NANOS
            && early.max(late) as f64 > early.min(late) as f64 * SETTLED_FACTOR_MAX
        {
            reasons.push(format!(
                "the warm-up had not settled: median {} {} us in the first quarter, {} us after it",
                self.latency,
                whole_micros(early),
                whole_micros(late)
            ));
        }
        if let Some(share) = self.steal_share.filter(|share| *share > STEAL_SHARE_MAX) {
            reasons.push(format!("a busy host: {:.1} % of the time was stolen", percent(share)));
        }
        if let Some(share) = self.others_share.filter(|share| *share > OTHERS_SHARE_MAX) {
            let servers =
                if self.others_have_servers { ", the servers among them if they run here," } else { "" };
            reasons.push(format!(
                "a busy machine: other processes{servers} used {:.0} % of its cores",
                percent(share)
            ));
        }
        if let Some(pressure) =
            self.pressure_before_percent.filter(|pressure| *pressure > PRESSURE_BEFORE_PERCENT_MAX)
        {
            reasons.push(format!(
                "a busy machine: before the run, tasks waited for a core {pressure:.0} % of the time"
            ));
        }
        if self.cores < self.roles {
            reasons.push(format!(
                "fewer cores than roles: {} for {} shards and servers, which wait for each other: counts and CPU time stand, \
                 latencies are longer than on {} cores; to measure those take as many, or fewer shards and clusters",
                counted(self.cores, "core"),
                self.roles,
                self.roles
            ));
        }
        reasons
    }
}

fn wrong_counts(phase: &str, counts: &Counts) -> String {
    format!(
        "wrong counts in the {phase}: lost {}, duplicate {}, reordered {}, corrupt {} of {} sent",
        grouped(counts.lost()),
        grouped(counts.duplicate),
        grouped(counts.reordered),
        grouped(counts.corrupt),
        grouped(counts.sent)
    )
}

/// Somewhat below a rate that was reached at most, in two digits; 0 where nothing was.
fn likely_rate(reached: f64) -> u64 {
    let likely = (reached * LIKELY_SHARE) as u64;
    let digit = 10_u64.pow(likely.checked_ilog10().unwrap_or(0).saturating_sub(1));
    likely / digit * digit
}

fn percent(share: f64) -> f64 {
    share * 100.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sound() -> Evidence {
        Evidence {
            warmup: Counts { sent: 100, delivered: 100, ..Counts::default() },
            measured: Counts { sent: 1_000, delivered: 1_000, ..Counts::default() },
            disconnects: 0,
            slow_consumer_drops: 0,
            faults: None,
            unanswered: None,
            circumstances: sound_circumstances(),
        }
    }

    pub(crate) fn sound_circumstances() -> Circumstances {
        Circumstances {
            interruption: None,
            unit: "messages",
            rate_asked: 1_000.0,
            rate_achieved: 999.0,
            remedy: Remedy::RateOrSearch,
            gave_up_nanos: None,
            unsent: 0,
            is_debug_build: false,
            lag_p99_nanos: 50_000,
            latency: "end-to-end",
            e2e_p99_nanos: 1_000_000,
            e2e_medians_nanos: Some((300_000, 290_000)),
            steal_share: Some(0.0),
            others_share: Some(0.01),
            others_have_servers: false,
            pressure_before_percent: Some(1.0),
            cores: 8,
            roles: 5,
        }
    }

    /// The one reason that a change to sound evidence gives, with the status.
    fn judge(change: impl FnOnce(&mut Evidence)) -> (Status, String) {
        let mut evidence = sound();
        change(&mut evidence);
        let verdict = evidence.verdict();
        assert_eq!(verdict.reasons.len(), 1, "{verdict:?}");
        (verdict.status, verdict.reasons[0].clone())
    }

    #[test]
    fn sound_evidence_is_valid() {
        assert_eq!(sound().verdict(), Verdict { status: Status::Valid, reasons: Vec::new() });
    }

    #[test]
    fn every_wrong_count_is_invalid_in_either_phase() {
        let changes: [fn(&mut Counts); 4] = [
            |counts| counts.delivered -= 1,
            |counts| counts.duplicate = 1,
            |counts| counts.reordered = 1,
            |counts| counts.corrupt = 1,
        ];
        for change in changes {
            assert_eq!(judge(|evidence| change(&mut evidence.measured)).0, Status::Invalid);
            assert_eq!(judge(|evidence| change(&mut evidence.warmup)).0, Status::Invalid);
        }
    }

    #[test]
    fn what_a_fault_may_cause_is_no_mistake_and_what_is_beyond_it_is() {
        let excused = Excused { lost: 10, duplicate: 2, reordered: 1, disconnects: 4 };
        let struck = |change: fn(&mut Evidence)| {
            let mut evidence = sound();
            evidence.measured.delivered -= 10;
            (evidence.measured.duplicate, evidence.measured.reordered, evidence.disconnects) = (2, 1, 4);
            evidence.faults = Some((excused, Vec::new()));
            change(&mut evidence);
            evidence.verdict()
        };
        assert_eq!(struck(|_| {}).status, Status::Valid);
        type Change = fn(&mut Evidence);
        let changes: [(Change, &str); 6] = [
            (
                |evidence| evidence.measured.delivered -= 1,
                "beyond what the faults may cause: lost 1 of 1 100 sent",
            ),
            (|evidence| evidence.warmup.delivered -= 1, "lost 1 of"),
            (|evidence| evidence.measured.duplicate = 3, "duplicate 1 of"),
            (|evidence| evidence.measured.corrupt = 1, "corrupt 1 of"),
            (|evidence| evidence.disconnects = 5, "1 unexpected disconnect"),
            (
                |evidence| evidence.faults = Some((excused_of(10), vec!["c2 had not recovered".to_owned()])),
                "c2 had not recovered",
            ),
        ];
        for (change, expected) in changes {
            let verdict = struck(change);
            assert_eq!(verdict.status, Status::Invalid, "{expected}");
            assert!(verdict.reasons[0].contains(expected), "{verdict:?}");
        }
    }

    fn excused_of(lost: u64) -> Excused {
        Excused { lost, duplicate: 2, reordered: 1, disconnects: 4 }
    }

    #[test]
    fn an_interrupted_run_is_invalid_for_that_reason_alone() {
        let (status, reason) = judge(|evidence| {
            let circumstances = &mut evidence.circumstances;
            circumstances.interruption = Some("interrupted".to_owned());
            (circumstances.unsent, circumstances.rate_achieved) = (500, 0.0);
        });
        assert_eq!((status, reason.as_str()), (Status::Invalid, "interrupted"));
    }

    #[test]
    fn another_load_than_asked_for_is_invalid() {
        for (remedy, advice) in [
            (
                Remedy::RateOrSearch,
                "; 60 % of that may be kept: try --rate 260, or let --find-max look for the highest",
            ),
            (Remedy::Rate, "; 60 % of that may be kept: try --rate 260"),
            (Remedy::Other, ""),
        ] {
            let (status, reason) = judge(|evidence| {
                evidence.circumstances.rate_achieved = 444.4;
                evidence.circumstances.remedy = remedy;
            });
            assert_eq!(status, Status::Invalid);
            let told = "444 messages/s were sent of 1 000 asked for (44.4 %, less than 99 %)";
            assert!(reason.ends_with(&format!("{told}{advice}")), "{reason}");
        }
        let (status, reason) = judge(|evidence| evidence.circumstances.gave_up_nanos = Some(1_240_000_000));
        assert_eq!(status, Status::Invalid);
        assert!(reason.starts_with("given up 1.2 s after the start of the measured phase"), "{reason}");
        assert_eq!(judge(|evidence| evidence.circumstances.unsent = 1).0, Status::Invalid);
        let mut enough = sound();
        enough.circumstances.rate_achieved = 990.0;
        assert_eq!(enough.verdict().status, Status::Valid);
    }

    #[test]
    fn a_rate_to_try_has_two_digits_and_is_below_what_was_reached() {
        for (reached, likely) in [
            (0.0, 0),
            (1.0, 0),
            (2.0, 1),
            (99.0, 59),
            (1_000.0, 600),
            (311_234.5, 180_000),
            (5e9, 3_000_000_000),
        ] {
            assert_eq!(likely_rate(reached), likely, "{reached}");
        }
    }

    #[test]
    fn a_fault_of_the_connection_or_the_build_is_invalid() {
        assert_eq!(judge(|evidence| evidence.disconnects = 1).0, Status::Invalid);
        assert_eq!(judge(|evidence| evidence.slow_consumer_drops = 1).0, Status::Invalid);
        let (status, reason) = judge(|evidence| evidence.circumstances.is_debug_build = true);
        assert_eq!(status, Status::Invalid);
        assert!(reason.contains("debug build"), "{reason}");
    }

    #[test]
    fn doubtful_surroundings_degrade() {
        let changes: [fn(&mut Evidence); 7] = [
            |evidence| evidence.circumstances.lag_p99_nanos = 100_001,
            |evidence| evidence.circumstances.e2e_medians_nanos = Some((600_000, 300_000)),
            |evidence| evidence.circumstances.e2e_medians_nanos = Some((300_000, 600_000)),
            |evidence| evidence.circumstances.steal_share = Some(0.03),
            |evidence| evidence.circumstances.others_share = Some(0.2),
            |evidence| evidence.circumstances.pressure_before_percent = Some(40.0),
            |evidence| evidence.circumstances.cores = 4,
        ];
        for change in changes {
            assert_eq!(judge(change).0, Status::Degraded);
        }
        let (_, reason) = judge(changes[6]);
        for told in
            ["4 cores for 5 shards", "counts and CPU time stand", "longer than on 5 cores", "fewer shards"]
        {
            assert!(reason.contains(told), "{told}: {reason}");
        }
        let (_, reason) = judge(|evidence| {
            evidence.circumstances.latency = "converge";
            evidence.circumstances.lag_p99_nanos = 100_001;
        });
        assert!(reason.contains("of the converge p99 1 000 us"), "{reason}");
    }

    #[test]
    fn other_processes_are_told_to_be_servers_where_these_are_not_own_ones() {
        let of = |others_have_servers: bool| {
            judge(|evidence| {
                evidence.circumstances.others_share = Some(0.2);
                evidence.circumstances.others_have_servers = others_have_servers;
            })
        };
        assert_eq!(of(false).1, "a busy machine: other processes used 20 % of its cores");
        let (_, told) = of(true);
        assert!(
            told.contains("other processes, the servers among them if they run here, used 20 %"),
            "{told}"
        );
    }

    #[test]
    fn the_median_may_move_by_little() {
        let mut evidence = sound();
        for medians in [None, Some((80_000, 150_000)), Some((1_000_000, 1_400_000))] {
            evidence.circumstances.e2e_medians_nanos = medians;
            assert_eq!(evidence.verdict().status, Status::Valid, "{medians:?}");
        }
    }

    #[test]
    fn all_reasons_are_told_and_the_gravest_come_first() {
        let mut evidence = sound();
        evidence.circumstances.cores = 1;
        evidence.circumstances.is_debug_build = true;
        let verdict = evidence.verdict();
        assert_eq!(verdict.status, Status::Invalid);
        assert_eq!(verdict.reasons.len(), 2);
        assert!(verdict.reasons[0].contains("debug"), "{verdict:?}");
    }

    #[test]
    fn the_status_is_written_in_capitals() {
        let text = serde_json::to_string(&sound().verdict()).expect("a verdict is serialisable");
        assert_eq!(text, r#"{"status":"VALID","reasons":[]}"#);
    }
}
