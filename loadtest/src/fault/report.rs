//! What is told of a fault: when it struck, what it cost, and whether the other clusters noticed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::ServerFault;
use crate::quantity::{grouped, whole};

/// One fault of a run. Seconds count from the start of the measured phase; milliseconds from the strike.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct FaultReport {
    /// As it was asked for, without its time.
    pub(crate) name: String,
    /// The cluster that it struck.
    pub(crate) cluster: String,
    pub(crate) asked_at_s: f64,
    /// None when the run ended before.
    pub(crate) struck_at_s: Option<f64>,
    /// When what was done to the server was over; a paused one goes on.
    pub(crate) ended_at_s: Option<f64>,
    /// Links to its cluster when it struck, by their server; those that were down are not among them. Empty where it is
    /// not known.
    pub(crate) links: BTreeMap<String, usize>,
    /// Until the first link of any shard to the cluster was lost, or heard that its server goes away. None when
    /// none did.
    pub(crate) detected_ms: Option<f64>,
    /// Until every link was connected again that was down or was lost, or the last one had moved. None when there
    /// was no such link, or not all came back.
    pub(crate) reconnected_ms: Option<f64>,
    /// Until no link was down and all messages arrived without delay, for a tenth of a second at least.
    ///
    /// Never before its end where it goes on for a time.
    pub(crate) recovered_ms: Option<f64>,
    /// The same from its end, `ended_at_s`; only of a fault that goes on for a time: a pause, a delay, a half-open way,
    /// a partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered_after_end_ms: Option<f64>,
    /// Messages to the cluster that were sent and never arrived, by when they were due.
    pub(crate) lost: u64,
    /// Messages that were not sent, because the buffer for the cluster was full.
    pub(crate) refused: u64,
    /// Messages that had been written to the connections that were lost, and were not confirmed.
    pub(crate) in_doubt: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    /// End to end, of its own cluster before the first fault; none when too few messages tell. To 7 %.
    pub(crate) p99_before_us: Option<f64>,
    /// The same from the strike until it had recovered and what was done was over.
    pub(crate) p99_during_us: Option<f64>,
    /// The clusters that no fault had struck meanwhile.
    pub(crate) clusters: Vec<OtherCluster>,
    /// What else is known of it, in words: why nobody noticed it, where what was lost went.
    pub(crate) notes: Vec<String>,
}

/// How another cluster fared from the strike until the struck one had recovered.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct OtherCluster {
    pub(crate) name: String,
    pub(crate) lost: u64,
    pub(crate) disconnects: u64,
    /// End to end, before the first fault; none when too few messages tell. To 7 %.
    pub(crate) p99_before_us: Option<f64>,
    pub(crate) p99_during_us: Option<f64>,
    /// Whether it lost a message or a link, or its p99 was more than twice that of before.
    pub(crate) noticed: bool,
}

impl FaultReport {
    /// Of a fault to which it did not come.
    pub(super) fn not_struck(fault: &ServerFault) -> Self {
        Self {
            name: fault.to_string(),
            cluster: format!("c{}", fault.server.cluster + 1),
            asked_at_s: fault.at.as_secs_f64(),
            struck_at_s: None,
            ended_at_s: None,
            links: BTreeMap::new(),
            detected_ms: None,
            reconnected_ms: None,
            recovered_ms: None,
            recovered_after_end_ms: None,
            lost: 0,
            refused: 0,
            in_doubt: 0,
            duplicates: 0,
            reordered: 0,
            p99_before_us: None,
            p99_during_us: None,
            clusters: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Some lines for people, the first at the margin of the summary's other lines.
impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(struck_at_s) = self.struck_at_s else {
            return writeln!(f, "fault       {:.3} s  {}: the run ended before", self.asked_at_s, self.name);
        };
        let noticed = match (self.detected_ms, self.reconnected_ms) {
            (None, None) => "no link noticed".to_owned(),
            // The links were down already: it is they who come back.
            (None, Some(millis)) => format!("links back after {}", time(millis)),
            (Some(noticed), None) => format!("noticed after {}, links NOT back", time(noticed)),
            (Some(noticed), Some(back)) => {
                format!("noticed after {}, links back after {}", time(noticed), time(back))
            }
        };
        let lasted = self.ended_at_s.map_or(0.0, |ended_at_s| (ended_at_s - struck_at_s) * 1e3);
        let recovered = match (self.recovered_ms, self.recovered_after_end_ms) {
            (None, _) => "NOT recovered".to_owned(),
            (Some(_), Some(0.0)) => format!("lasted {}, recovered when it ended", time(lasted)),
            (Some(_), Some(millis)) => {
                format!("lasted {}, recovered {} after its end", time(lasted), time(millis))
            }
            (Some(millis), None) => format!("recovered after {}", time(millis)),
        };
        writeln!(f, "fault       {struck_at_s:.3} s  {}: {noticed}, {recovered}", self.name)?;
        writeln!(
            f,
            "              {}: lost {}, refused {}, in doubt {}, duplicate {}, reordered {}, p99 {} before and {} during",
            self.cluster,
            grouped(self.lost),
            grouped(self.refused),
            grouped(self.in_doubt),
            grouped(self.duplicates),
            grouped(self.reordered),
            micros(self.p99_before_us),
            micros(self.p99_during_us)
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "              - {note}"))?;
        self.clusters.iter().try_for_each(|other| other.fmt(f))
    }
}

impl fmt::Display for OtherCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noticed = match (self.noticed, self.lost + self.disconnects) {
            (false, _) => "did not notice",
            (true, 0) => "NOTICED, its p99 more than doubled",
            (true, _) => "NOTICED",
        };
        writeln!(
            f,
            "              {} {noticed}: lost {}, disconnects {}, p99 {} before and {} during",
            self.name,
            grouped(self.lost),
            grouped(self.disconnects),
            micros(self.p99_before_us),
            micros(self.p99_during_us)
        )
    }
}

fn micros(p99: Option<f64>) -> String {
    p99.map_or_else(|| "unknown".to_owned(), |p99| format!("{} us", whole(p99)))
}

fn time(millis: f64) -> String {
    if millis < 1_000.0 { format!("{millis:.1} ms") } else { format!("{:.2} s", millis / 1_000.0) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fault with round numbers.
    pub(crate) fn sample() -> FaultReport {
        FaultReport {
            name: "kill c2/1".to_owned(),
            cluster: "c2".to_owned(),
            asked_at_s: 3.0,
            struck_at_s: Some(3.0004),
            ended_at_s: Some(3.002),
            links: [("c2/1".to_owned(), 2)].into(),
            detected_ms: Some(1.25),
            reconnected_ms: Some(2_300.0),
            recovered_ms: Some(2_345.0),
            recovered_after_end_ms: None,
            lost: 1_234,
            refused: 0,
            in_doubt: 20,
            duplicates: 0,
            reordered: 0,
            p99_before_us: Some(900.0),
            p99_during_us: Some(2_000_000.0),
            clusters: vec![OtherCluster {
                name: "c1".to_owned(),
                lost: 0,
                disconnects: 0,
                p99_before_us: Some(905.0),
                p99_during_us: None,
                noticed: false,
            }],
            notes: vec!["all of it was seen".to_owned()],
        }
    }

    #[test]
    fn a_fault_is_told_in_lines_that_stand_by_themselves() {
        let expected = "\
fault       3.000 s  kill c2/1: noticed after 1.2 ms, links back after 2.30 s, recovered after 2.35 s
              c2: lost 1 234, refused 0, in doubt 20, duplicate 0, reordered 0, p99 900 us before and 2 000 000 us during
              - all of it was seen
              c1 did not notice: lost 0, disconnects 0, p99 905 us before and unknown during
";
        let text = sample().to_string();
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn one_that_goes_on_for_a_time_is_told_with_that_and_recovers_from_its_end() {
        let told = |recovered: f64| {
            let report = FaultReport {
                name: "delay c2/1 20ms 2s".to_owned(),
                struck_at_s: Some(3.0),
                ended_at_s: Some(5.001),
                detected_ms: None,
                reconnected_ms: None,
                recovered_ms: Some(2_001.0 + recovered),
                recovered_after_end_ms: Some(recovered),
                ..sample()
            };
            report.to_string().lines().next().unwrap_or_default().to_owned()
        };
        let begin = "fault       3.000 s  delay c2/1 20ms 2s: no link noticed, lasted 2.00 s, recovered";
        assert_eq!(told(0.0), format!("{begin} when it ended"));
        assert_eq!(told(12.34), format!("{begin} 12.3 ms after its end"));
    }
}
