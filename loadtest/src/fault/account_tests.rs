//! Faults of small runs, and what the account makes of them.

use std::time::Duration;

use super::*;
use crate::checker::Arrival;
use crate::fault::ServerFault;
use crate::fault::ledger::tests::delivery;
use crate::recorder::Delivery;

const MILLI: u64 = 1_000_000;
/// Where the run begins on the monotonic clock.
const START: u64 = 50_000 * MILLI;
/// Of the run, whose first second is its warm-up.
const END_MS: u64 = 6_000;

/// A run of three clusters that have a message each millisecond, which takes a millisecond.
struct Run {
    faults: Vec<ServerFault>,
    strikes: Vec<Option<Strike>>,
    entries: Vec<Entry>,
    ledger: Ledger,
}

impl Run {
    /// `fate` is asked for the latency of a message by its cluster and due time, both in milliseconds; one
    /// without never arrives.
    fn new(faults: &[&str], fate: impl Fn(usize, u64) -> Option<u64>) -> Self {
        let faults: Vec<ServerFault> =
            faults.iter().map(|text| ServerFault::parse(text, 3, 2).expect(text)).collect();
        let strike = |fault: &ServerFault| {
            let struck_nanos = START + 1_000 * MILLI + fault.at.as_nanos() as u64;
            let length_nanos = match fault.act {
                ServerAct::Pause(length)
                | ServerAct::HalfOpen(length)
                | ServerAct::Delay { length, .. }
                | ServerAct::Partition { length, .. } => length.as_nanos() as u64,
                _ => MILLI,
            };
            Some(Strike { struck_nanos, ended_nanos: Some(struck_nanos + length_nanos) })
        };
        let mut ledger = Ledger::new(END_MS * MILLI, 3);
        for cluster in 0..3 {
            for due in 0..END_MS {
                ledger.sent(cluster, due * MILLI);
                if let Some(latency) = fate(cluster, due) {
                    ledger.delivered(&delivery(cluster, due * MILLI, latency * MILLI));
                }
            }
        }
        Self { strikes: faults.iter().map(strike).collect(), faults, entries: Vec::new(), ledger }
    }

    /// What happens to a link, so many milliseconds after the start of the measured phase.
    fn with(mut self, at_ms: u64, cluster: usize, shard: usize, what: Happened) -> Self {
        self.entries.push(Entry {
            at_nanos: START + (1_000 + at_ms) * MILLI,
            cluster,
            shard,
            what,
            node: None,
        });
        self
    }

    /// The link of a shard is connected from the start on, with this server of its cluster.
    fn connected(mut self, cluster: usize, shard: usize, node: usize) -> Self {
        self.entries.push(Entry {
            at_nanos: START,
            cluster,
            shard,
            what: Happened::Connected,
            node: Some(node),
        });
        self
    }

    fn account(&self) -> Account {
        let clusters = ["c1", "c2", "c3"].map(str::to_owned);
        Scene {
            clusters: &clusters,
            faults: &self.faults,
            strikes: &self.strikes,
            entries: &self.entries,
            ledger: &self.ledger,
            start_nanos: START,
            measured_from_nanos: 1_000 * MILLI,
            end_nanos: END_MS * MILLI,
        }
        .account()
    }
}

/// Has a message of a cluster that was due then, counted from the start of the run, arrive once more.
fn double(ledger: &mut Ledger, cluster: usize, due_ms: u64) {
    ledger.delivered(&Delivery { arrival: Arrival::Duplicate, ..delivery(cluster, due_ms * MILLI, MILLI) });
}

/// Due times count from the start of the run, whose warm-up is a second.
fn is_due(due: u64, from_ms: u64, until_ms: u64) -> bool {
    (from_ms + 1_000..until_ms + 1_000).contains(&due)
}

#[test]
fn a_kill_and_a_restart_share_what_was_lost_and_recover_together() {
    let fate = |cluster: usize, due: u64| match cluster {
        // The first two messages were on their way; two were written too late to be confirmed.
        1 if is_due(due, 998, 1_002) => None,
        // What was queued is lost where it was sent before its subscriber was back.
        1 if is_due(due, 1_900, 2_010) => None,
        // And the rest arrives when the links are back.
        1 if is_due(due, 1_002, 2_200) => Some(2_200 + 1_000 - due),
        _ => Some(1),
    };
    let run = Run::new(&["1s kill c2/1", "2s restart c2/1"], fate)
        .with(1_001, 1, 0, Happened::Lost { in_doubt: 2 })
        .with(1_003, 1, 1, Happened::Lost { in_doubt: 5 })
        .with(2_190, 1, 0, Happened::Back)
        .with(2_195, 1, 1, Happened::Back);
    let account = run.account();
    assert_eq!(account.reasons, Vec::<String>::new());
    let [kill, restart] = &account.reports[..] else { panic!("{:?}", account.reports) };
    assert_eq!((kill.name.as_str(), kill.cluster.as_str()), ("kill c2/1", "c2"));
    assert_eq!((kill.struck_at_s, kill.detected_ms), (Some(1.0), Some(1.0)));
    assert_eq!((kill.lost, kill.in_doubt, kill.duplicates), (104, 7, 0));
    assert_eq!((kill.reconnected_ms, kill.recovered_ms), (Some(1_195.0), Some(1_200.0)));
    let begins = |notes: &[String], begins: &[&str]| {
        assert_eq!(notes.len(), begins.len(), "{notes:?}");
        assert!(notes.iter().zip(begins).all(|(note, begin)| note.starts_with(begin)), "{notes:?}");
    };
    begins(
        &kill.notes,
        &[
            "100 of the lost were due while a link was down",
            "4 of the lost were due within a second before a link was lost",
            "in doubt are those",
        ],
    );
    begins(&restart.notes, &["10 of the lost were due while a link was down"]);
    assert_eq!(restart.detected_ms, None, "no link was there to notice");
    assert_eq!((restart.lost, restart.in_doubt), (10, 0));
    assert_eq!((restart.reconnected_ms, restart.recovered_ms), (Some(195.0), Some(200.0)));
    assert_eq!(account.excused, Excused { lost: 114, disconnects: 2, ..Excused::default() });
    for report in [kill, restart] {
        let names: Vec<&str> = report.clusters.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(names, ["c1", "c3"]);
        assert!(report.clusters.iter().all(|other| !other.noticed && other.lost == 0), "{report:?}");
    }
}

#[test]
fn a_pause_costs_time_alone_and_is_over_when_what_waited_has_arrived() {
    let fate = |cluster: usize, due: u64| match cluster {
        0 if is_due(due, 2_000, 2_500) => Some(2_500 + 1_000 - due + 20),
        _ => Some(1),
    };
    let account = Run::new(&["2s pause c1/1 500ms"], fate).account();
    let report = &account.reports[0];
    assert_eq!((report.lost, report.detected_ms, report.reconnected_ms), (0, None, None));
    assert_eq!((report.recovered_ms, report.recovered_after_end_ms), (Some(520.0), Some(20.0)));
    assert_eq!(account.excused, Excused::default());
    assert!(account.reasons.is_empty(), "{:?}", account.reasons);
    let within = |p99: Option<f64>, millis: Range<f64>| {
        assert!(p99.is_some_and(|micros| millis.contains(&(micros / 1e3))), "{p99:?}");
    };
    within(report.p99_before_us, 0.9..1.1);
    within(report.p99_during_us, 480.0..560.0);
}

#[test]
fn no_cluster_has_recovered_from_a_fault_that_goes_on_however_little_it_does() {
    let delayed = |cluster: usize, due: u64| match cluster {
        1 if is_due(due, 1_000, 2_500) => Some(20),
        _ => Some(1),
    };
    let account = Run::new(&["1s delay c2/1 20ms 1500ms"], delayed).account();
    let report = &account.reports[0];
    assert_eq!((report.recovered_ms, report.recovered_after_end_ms), (Some(1_500.0), Some(0.0)));
    assert_eq!((report.ended_at_s, account.reasons), (Some(2.5), Vec::new()));

    // What strikes meanwhile has not recovered before that either, and what is lost until then is explained.
    let fate = |cluster: usize, due: u64| (cluster != 0 || !is_due(due, 2_000, 2_050)).then_some(1);
    let account = Run::new(&["1s half-open c1/1 2s", "1500ms reset c1/1"], fate).account();
    let told: Vec<_> =
        account.reports.iter().map(|it| (it.recovered_ms, it.recovered_after_end_ms, it.lost)).collect();
    assert_eq!(told, [(Some(2_000.0), Some(0.0), 0), (Some(1_500.0), None, 50)]);
    assert_eq!((account.excused.lost, account.reasons), (50, Vec::new()));

    // The end of one that outlasts the schedule is not seen.
    let mut run = Run::new(&["1s delay c2/1 20ms 9s"], |_, _| Some(1));
    run.strikes[0].as_mut().expect("it struck").ended_nanos = None;
    let account = run.account();
    assert_eq!((account.reports[0].recovered_ms, account.reports[0].recovered_after_end_ms), (None, None));
    assert!(
        matches!(&account.reasons[..], [reason] if reason.contains("c2 had not recovered") && reason.contains("went on")),
        "{:?}",
        account.reasons
    );
}

#[test]
fn what_is_lost_when_a_link_is_back_waited_for_a_subscription_and_not_what_is_lost_long_after() {
    let lost = |from: u64, until: u64| {
        move |cluster: usize, due: u64| (cluster != 0 || !is_due(due, from, until)).then_some(1)
    };
    // The links are down for less than a cell, and for longer.
    for (down, up, from, until, begin) in [
        (1_001, 1_003, 1_010, 1_020, "10 of the lost were due within half a second after a link was back"),
        (1_001, 1_200, 1_300, 1_306, "6 of the lost were due within half a second after a link was back"),
        (1_001, 1_203, 1_195, 1_207, "12 of the lost were due while a link was down"),
        (1_001, 1_003, 1_600, 1_606, "6 of the lost were due while every link was up"),
    ] {
        // The messages due right after the links were back are late, so that the fault is not over before.
        let fate = |cluster: usize, due: u64| match lost(from, until)(cluster, due) {
            Some(_) if cluster == 0 && is_due(due, 1_000, from) => Some(from + 1_050 - due),
            fate => fate,
        };
        let run = Run::new(&["1s restart c1/1"], fate).with(down, 0, 0, Happened::Lost { in_doubt: 0 }).with(
            up,
            0,
            0,
            Happened::Back,
        );
        let report = &run.account().reports[0];
        assert!(report.notes.len() == 1 && report.notes[0].starts_with(begin), "{begin}: {:?}", report.notes);
    }
}

#[test]
fn a_server_that_stays_dead_does_not_recover_and_that_is_said() {
    let fate = |cluster: usize, due: u64| (cluster != 2 || due < 2_000).then_some(1);
    let run = Run::new(&["1s kill c3/1"], fate).with(1_001, 2, 0, Happened::Lost { in_doubt: 1 });
    let account = run.account();
    assert_eq!((account.reports[0].recovered_ms, account.reports[0].reconnected_ms), (None, None));
    assert_eq!(account.reasons.len(), 1, "{:?}", account.reasons);
    assert!(account.reasons[0].contains("c3 had not recovered"), "{:?}", account.reasons);
    assert_eq!(account.excused.lost, 4_000);
}

#[test]
fn loss_on_another_cluster_or_after_the_recovery_is_not_explained() {
    let fate = |cluster: usize, due: u64| match cluster {
        0 if is_due(due, 1_100, 1_103) => None,
        1 if is_due(due, 1_000, 1_500) || is_due(due, 4_000, 4_007) => None,
        _ => Some(1),
    };
    let account = Run::new(&["1s kill c2/1"], fate).account();
    assert_eq!(account.excused.lost, 500);
    assert_eq!(account.reports[0].recovered_ms, Some(500.0));
    let other = &account.reports[0].clusters[0];
    assert_eq!((other.name.as_str(), other.lost, other.noticed), ("c1", 3, true));
    assert!(
        account.reasons.iter().any(|reason| reason.contains("c1 lost 3 messages")),
        "{:?}",
        account.reasons
    );
}

#[test]
fn another_cluster_that_slows_down_has_noticed() {
    let fate = |cluster: usize, due: u64| match cluster {
        0 if is_due(due, 1_000, 1_500) => None,
        1 if is_due(due, 1_000, 1_500) => Some(5),
        _ => Some(1),
    };
    let account = Run::new(&["1s kill c1/1"], fate).account();
    let noticed: Vec<_> = account.reports[0].clusters.iter().map(|other| other.noticed).collect();
    assert_eq!(noticed, [true, false]);
    assert!(account.reasons.is_empty(), "slower is told, and is no mistake: {:?}", account.reasons);
}

#[test]
fn a_lame_duck_may_cost_duplicates_and_moves_and_nobody_else_may() {
    let mut run = Run::new(&["1s lame-duck c1/1", "1s kill c2/1"], |_, _| Some(1))
        .with(1_002, 0, 0, Happened::LameDuck)
        .with(1_300, 0, 0, Happened::Moved)
        .with(1_400, 0, 1, Happened::Moved);
    for cluster in 0..2 {
        double(&mut run.ledger, cluster, 2_300);
    }
    let account = run.account();
    assert_eq!((account.excused.duplicate, account.excused.disconnects), (1, 2));
    let lame_duck = &account.reports[0];
    assert_eq!((lame_duck.detected_ms, lame_duck.duplicates), (Some(2.0), 1));
    assert_eq!(lame_duck.reconnected_ms, Some(400.0));
    assert!(lame_duck.recovered_ms.is_some_and(|millis| (400.0..401.0).contains(&millis)), "{lame_duck:?}");
    let others: Vec<&str> = lame_duck.clusters.iter().map(|other| other.name.as_str()).collect();
    assert_eq!(others, ["c3"], "c2 has a fault of its own at that time");
}

#[test]
fn what_arrives_twice_after_the_last_move_is_still_the_lame_ducks() {
    let mut run = Run::new(&["1s lame-duck c1/1"], |_, _| Some(1))
        .with(1_002, 0, 0, Happened::LameDuck)
        .with(1_300, 0, 0, Happened::Moved)
        .with(1_400, 0, 1, Happened::Moved);
    // The links that have moved stay subscribed where they were for a while, and both ways deliver.
    (0..250).for_each(|ms| double(&mut run.ledger, 0, 2_400 + ms));
    let account = run.account();
    assert_eq!(account.excused, Excused { duplicate: 250, disconnects: 2, ..Excused::default() });
    assert_eq!((account.reports[0].duplicates, account.reports[0].recovered_ms), (250, Some(650.0)));
    assert_eq!(account.reasons, Vec::<String>::new());

    let mut run = Run::new(&["1s pause c1/1 100ms"], |_, _| Some(1));
    (0..250).for_each(|ms| double(&mut run.ledger, 0, 2_000 + ms));
    assert_eq!(run.account().excused, Excused::default(), "no other fault may cost duplicates");
}

#[test]
fn what_strikes_before_a_lame_duck_is_over_ends_with_it_and_shares_what_arrives_twice() {
    let mut run = Run::new(&["1s lame-duck c1/1", "1200ms pause c1/2 100ms"], |_, _| Some(1))
        .with(1_002, 0, 0, Happened::LameDuck)
        .with(1_150, 0, 0, Happened::Moved);
    (0..300).for_each(|ms| double(&mut run.ledger, 0, 2_100 + ms));
    let account = run.account();
    assert_eq!(account.reasons, Vec::<String>::new());
    let told: Vec<_> =
        account.reports.iter().map(|report| (report.duplicates, report.recovered_ms)).collect();
    assert_eq!(told, [(100, Some(400.0)), (200, Some(200.0))]);
    assert_eq!(account.excused, Excused { duplicate: 300, disconnects: 1, ..Excused::default() });

    // One that was over is not begun again by what comes later, and explains nothing of it.
    let fate = |cluster: usize, due: u64| (cluster != 0 || !is_due(due, 3_005, 3_020)).then_some(1);
    let mut run = Run::new(&["1s lame-duck c1/1", "3005ms pause c1/2 100ms"], fate);
    double(&mut run.ledger, 0, 4_012);
    let account = run.account();
    assert_eq!(account.excused, Excused { lost: 15, ..Excused::default() });
    let recovered: Vec<_> = account.reports.iter().map(|report| report.recovered_ms).collect();
    assert_eq!(recovered, [Some(0.0), Some(100.0)]);
}

#[test]
fn what_strikes_while_links_still_leave_a_lame_duck_shares_their_moves_and_what_arrives_twice() {
    let mut run = Run::new(&["1s lame-duck c1/1", "1100ms pause c1/2 300ms"], |_, _| Some(1))
        .with(1_001, 0, 0, Happened::LameDuck)
        .with(1_001, 0, 1, Happened::LameDuck)
        .with(1_404, 0, 0, Happened::Moved)
        .with(2_000, 0, 1, Happened::Moved);
    (0..200).for_each(|ms| double(&mut run.ledger, 0, 2_500 + ms));
    (0..150).for_each(|ms| double(&mut run.ledger, 0, 3_050 + ms));
    let account = run.account();
    assert_eq!(account.reasons, Vec::<String>::new());
    assert_eq!(account.excused, Excused { duplicate: 350, disconnects: 2, ..Excused::default() });
    let [lame_duck, pause] = &account.reports[..] else { panic!("{:?}", account.reports) };
    assert_eq!((lame_duck.detected_ms, lame_duck.reconnected_ms), (Some(1.0), Some(1_000.0)));
    assert_eq!((pause.detected_ms, pause.reconnected_ms, pause.duplicates), (None, None, 350));

    // The stay of the last one is over, and with it the excuse.
    (0..50).for_each(|ms| double(&mut run.ledger, 0, 4_500 + ms));
    assert_eq!(run.account().excused.duplicate, 350);
}

#[test]
fn a_partition_beside_all_links_could_strike_nothing_and_that_is_said() {
    let run = |other: usize| {
        let run = Run::new(&["1s partition c1/1|c1/2 1s"], |_, _| Some(1)).connected(0, 0, 0);
        let run = run.connected(0, 1, other).connected(1, 0, 1);
        let mut reports = run.account().reports;
        reports.remove(0)
    };
    let report = run(0);
    assert_eq!(report.links, [("c1/1".to_owned(), 2)].into());
    assert_eq!(
        report.notes,
        ["it could strike nothing: all 2 links to the cluster were with c1/1, and none with c1/2"]
    );
    let report = run(1);
    assert_eq!(report.links, [("c1/1".to_owned(), 1), ("c1/2".to_owned(), 1)].into());
    assert_eq!(report.notes, ["nobody noticed: no link was lost, and no message was lost, doubled or late"]);
}

#[test]
fn a_link_that_is_back_at_once_was_lost_within_the_window() {
    let run = Run::new(&["1003ms reset c1/1"], |_, _| Some(1))
        .with(1_004, 0, 0, Happened::Lost { in_doubt: 0 })
        .with(1_008, 0, 0, Happened::Back);
    let account = run.account();
    assert_eq!(account.excused, Excused { disconnects: 1, ..Excused::default() });
    let report = &account.reports[0];
    assert_eq!((report.detected_ms, report.reconnected_ms), (Some(1.0), Some(5.0)));
    assert_eq!(report.recovered_ms, Some(7.0), "at the end of its cell");
}

#[test]
fn a_lame_duck_without_another_server_is_over_when_its_links_are_back() {
    let fate = |cluster: usize, due: u64| (cluster != 0 || !is_due(due, 3_000, 3_400)).then_some(1);
    let run = Run::new(&["1s lame-duck c1/1"], fate)
        .with(1_002, 0, 0, Happened::LameDuck)
        .with(3_000, 0, 0, Happened::Lost { in_doubt: 3 })
        .with(3_380, 0, 0, Happened::Back);
    let account = run.account();
    assert_eq!(account.excused, Excused { lost: 400, disconnects: 1, ..Excused::default() });
    let report = &account.reports[0];
    assert_eq!((report.reconnected_ms, report.recovered_ms), (Some(2_380.0), Some(2_400.0)));
    assert_eq!((account.reasons, report.in_doubt), (Vec::new(), 3));
}

#[test]
fn messages_that_were_refused_keep_a_cluster_from_having_recovered() {
    let mut run = Run::new(&["1s kill c2/1"], |_, _| Some(1));
    (0..300).for_each(|ms| run.ledger.refused(1, (2_050 + ms) * MILLI));
    let report = &run.account().reports[0];
    assert_eq!((report.refused, report.lost, report.recovered_ms), (300, 0, Some(350.0)));
}

#[test]
fn a_fault_that_did_not_strike_is_told_and_owns_nothing() {
    let mut run = Run::new(&["4s kill c2/1"], |_, _| Some(1));
    run.strikes[0] = None;
    let account = run.account();
    assert_eq!((account.reports[0].struck_at_s, account.reports[0].asked_at_s), (None, 4.0));
    assert_eq!((account.excused, account.reasons), (Excused::default(), Vec::new()));
    assert!(account.reports[0].to_string().contains("the run ended before"));
    assert_eq!(run.faults[0].at, Duration::from_secs(4));
}

#[test]
fn a_cluster_that_has_just_got_over_its_own_fault_has_not_noticed_the_next_one_of_another() {
    let fate = |cluster: usize, due: u64| match cluster {
        0 if is_due(due, 1_000, 1_020) => None,
        1 if is_due(due, 1_300, 1_320) => None,
        _ => Some(1),
    };
    let run = Run::new(&["1s reset c1/1", "1300ms reset c2/1"], fate)
        .with(1_001, 0, 0, Happened::Lost { in_doubt: 2 })
        .with(1_015, 0, 0, Happened::Back)
        .with(1_301, 1, 0, Happened::Lost { in_doubt: 2 })
        .with(1_315, 1, 0, Happened::Back);
    let account = run.account();
    assert_eq!(account.reasons, Vec::<String>::new());
    assert_eq!(account.reports.iter().map(|report| report.lost).collect::<Vec<_>>(), [20, 20]);
    let second = &account.reports[1];
    let others: Vec<_> = second.clusters.iter().map(|other| (other.name.as_str(), other.lost)).collect();
    assert_eq!(others, [("c1", 0), ("c3", 0)]);
}
