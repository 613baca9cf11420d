//! What is to be said of a fault beside its figures: why nobody noticed it, and where the lost messages went.

use std::collections::BTreeMap;

use super::report::FaultReport;
use super::{ServerAct, ServerFault, ServerId};
use crate::quantity::grouped;

/// The lost messages of a fault by when they were due; to the length of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LostWhen {
    /// Within [`REACH_BACK_NANOS`](super::account::REACH_BACK_NANOS) before a link was lost.
    pub(super) before: u64,
    /// While a link was down.
    pub(super) down: u64,
    /// Within half a second after a link was back.
    pub(super) after: u64,
    /// While all were up.
    pub(super) up: u64,
}

/// Sentences for people, in the order of their weight.
pub(super) fn of(fault: &ServerFault, report: &FaultReport, lost: LostWhen) -> Vec<String> {
    let mut notes: Vec<String> = unnoticed(fault, report).into_iter().collect();
    let mut lost_when = |count: u64, when: &str| {
        if count > 0 {
            notes.push(format!("{} of the lost were due {when}", grouped(count)));
        }
    };
    lost_when(
        lost.down,
        "while a link was down: each shard sends what has waited once it is back itself, and what reaches the server \
         before its receiver has subscribed there again finds nobody",
    );
    lost_when(lost.before, "within a second before a link was lost: they were on their way");
    lost_when(
        lost.after,
        "within half a second after a link was back: each shard subscribes again by itself, and what reaches the server \
         before its receiver has finds nobody",
    );
    lost_when(lost.up, "while every link was up: the tool does not know where they went");
    if report.in_doubt > 0 {
        notes
            .push("in doubt are those that were written and not confirmed: they may have arrived".to_owned());
    }
    notes
}

/// Why nobody noticed; none where somebody did.
fn unnoticed(fault: &ServerFault, report: &FaultReport) -> Option<String> {
    let is_slower =
        report.p99_before_us.zip(report.p99_during_us).is_some_and(|(before, now)| now > before * 2.0);
    let is_whole = report.lost + report.refused + report.duplicates + report.reordered == 0;
    let has_noticed = report.detected_ms.is_some() || report.reconnected_ms.is_some() || !is_whole;
    if has_noticed {
        return None;
    }
    // Where the links are is certain, and a latency is not.
    if let Some(elsewhere) = elsewhere(fault, &report.links) {
        return Some(format!("it could strike nothing: {elsewhere}"));
    }
    (report.recovered_after_end_ms.or(report.recovered_ms) == Some(0.0) && !is_slower)
        .then(|| "nobody noticed: no link was lost, and no message was lost, doubled or late".to_owned())
}

/// Which servers the links were with, where that is known and they were not where the fault was.
fn elsewhere(fault: &ServerFault, links: &BTreeMap<String, usize>) -> Option<String> {
    let all: usize = links.values().sum();
    let server = fault.server;
    let struck = match fault.act {
        ServerAct::Partition { other, .. } => vec![server, ServerId { node: other, ..server }],
        _ => vec![server],
    };
    let without = struck.iter().map(ToString::to_string).find(|name| !links.contains_key(name))?;
    let names: Vec<&str> = links.keys().map(String::as_str).collect();
    let names = names.join(" and ");
    match all {
        0 => None,
        1 => Some(format!("the only link to the cluster was with {names}, and none with {without}")),
        all => Some(format!("all {all} links to the cluster were with {names}, and none with {without}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::sample;

    fn notes(fault: &str, links: &[(&str, usize)], change: impl FnOnce(&mut FaultReport)) -> Vec<String> {
        let fault = ServerFault::parse(fault, 3, 2).expect(fault);
        let mut report = FaultReport {
            links: links.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            detected_ms: None,
            reconnected_ms: None,
            recovered_ms: Some(1_000.0),
            recovered_after_end_ms: Some(0.0),
            lost: 0,
            in_doubt: 0,
            p99_during_us: Some(1_500.0),
            ..sample()
        };
        change(&mut report);
        of(&fault, &report, LostWhen::default())
    }

    #[test]
    fn a_fault_where_no_link_is_could_strike_nothing() {
        for (fault, links, expected) in [
            (
                "1s partition c1/1|c1/2 1s",
                &[("c1/1", 4)][..],
                "all 4 links to the cluster were with c1/1, and none with c1/2",
            ),
            (
                "1s partition c1/1|c1/2 1s",
                &[("c1/2", 1)],
                "the only link to the cluster was with c1/2, and none with c1/1",
            ),
            ("1s kill c1/1", &[("c1/2", 3)], "all 3 links to the cluster were with c1/2, and none with c1/1"),
        ] {
            // A p99 that rose by chance changes nothing.
            let told = notes(fault, links, |report| report.p99_during_us = Some(9_000.0));
            assert_eq!(told, [format!("it could strike nothing: {expected}")]);
        }
    }

    #[test]
    fn what_nobody_noticed_is_said_and_what_somebody_did_is_not() {
        let told = notes("1s pause c1/1 1ms", &[("c1/1", 2), ("c1/2", 2)], |_| {});
        assert!(matches!(&told[..], [note] if note.starts_with("nobody noticed: ")), "{told:?}");
        // Where they were is not known.
        assert!(notes("1s pause c1/1 1ms", &[], |_| {})[0].starts_with("nobody noticed: "));
        let changes: [fn(&mut FaultReport); 6] = [
            |report| report.detected_ms = Some(1.0),
            |report| report.reconnected_ms = Some(1.0),
            |report| report.recovered_after_end_ms = Some(20.0),
            |report| (report.recovered_ms, report.recovered_after_end_ms) = (None, None),
            |report| report.p99_during_us = Some(1_801.0),
            |report| report.refused = 1,
        ];
        for change in changes {
            assert_eq!(notes("1s pause c1/1 1ms", &[("c1/1", 2)], change), Vec::<String>::new());
        }
    }

    #[test]
    fn lost_messages_are_told_apart_by_when_they_were_due() {
        let fault = ServerFault::parse("1s kill c1/1", 3, 1).expect("a fault");
        let told = of(&fault, &sample(), LostWhen { before: 4, down: 1_230, after: 7, up: 0 });
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("1 230 of the lost were due while a link was down: "), "{told:?}");
        assert!(
            told[1].starts_with("4 of the lost were due within a second before a link was lost"),
            "{told:?}"
        );
        assert!(told[2].starts_with("7 of the lost were due within half a second after"), "{told:?}");
        assert!(told[3].starts_with("in doubt are those that were written"), "{told:?}");
    }
}
