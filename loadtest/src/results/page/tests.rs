//! What must hold of every page, whatever the run: well-formed, nothing from outside, all text escaped.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::results::run_file::RunFile;

#[test]
fn a_page_is_well_formed_and_asks_for_nothing() {
    for run in [sample_run(), bare_run(), hostile_run()] {
        let page = page(&run);
        check_well_formed(&page);
        for word in [
            "http:", "https:", "//", "url(", "@import", "<script", "<link", "<img", "<iframe", " src=",
            " href=",
        ] {
            assert!(!page.contains(word), "{word} in the page of {}", run.scenario);
        }
        assert!(page.contains("default-src &#39;none&#39;"), "the policy is gone");
    }
}

#[test]
fn faults_are_marked_in_both_charts_of_both_sizes_from_strike_to_recovery() {
    let page = page(&sample_run());
    assert_eq!(page.matches("class=\"fault band\"").count(), 2 * 4, "two faults, two charts, two sizes");
    assert_eq!(page.matches(">1 kill c2/1</text>").count(), 2, "its name in the wide charts");
    assert!(page.contains("did not notice"), "the other clusters");
    assert!(page.contains("were due while &lt;a&gt; link was down</span>"), "what is known besides");
    // The measured phase is 10 s of 12 s; the first fault struck at 3 s and was over 2.1 s later.
    let width = 1060.0 - 58.0 - 14.0;
    let (from, length) = (58.0 + width * 5.0 / 12.0, width * 2.1 / 12.0);
    assert!(page.contains(&format!("x=\"{from:.1}\"")), "a band that begins at {from:.1}");
    assert!(page.contains(&format!("width=\"{length:.1}\"")), "a band that is {length:.1} wide");
}

#[test]
fn the_pictures_of_a_run_that_was_broken_off_end_where_it_ended_and_show_what_was_sent_when_it_was() {
    let mut run = sample_run();
    let series = run.series.as_mut().expect("a series");
    series.stopped_s = Some(3.02);
    for interval in &mut series.intervals {
        let place = (interval.at_s * 10.0).round();
        // All that was sent was due in the first second, and the last of it arrived at 3.5 s.
        interval.sent = if place < 10.0 { 7_000 } else { 0 };
        interval.departed = if place < 31.0 { 2_000 } else { 0 };
        interval.arrived = if place < 35.0 { 2_000 } else { 0 };
    }
    let page = page(&run);
    check_well_formed(&page);
    assert!(page.contains("nothing was sent after 1.02\u{a0}s"), "why it ends");
    assert!(!page.contains("1 kill c2/1</text>"), "a fault at 3 s would have been later");
    let (_, after) = page.split_once("<h3>Throughput</h3>").expect("a picture");
    let (picture, _) = after.split_once("</svg>").expect("a picture ends");
    assert!(picture.contains(">1.5 s</text>") && !picture.contains(">2 s</text>"), "{picture}");
    // 20 000 a second were sent until the end, and at no time the 70 000 a second that had been due.
    assert!(
        picture.contains(">20\u{202f}000</text>") && !picture.contains(">40\u{202f}000</text>"),
        "{picture}"
    );
    let whole = super::page(&sample_run());
    assert!(!whole.contains("ended before its time"), "only what was broken off is said to be");
}

#[test]
fn a_fault_that_goes_on_is_recovered_from_after_its_end() {
    for (millis, told) in [(0.0, "when it ended"), (12.5, "12.5 ms after its end")] {
        let mut run = sample_run();
        run.faults[1].insert("recovered_ms".to_owned(), json!(500.0 + millis));
        run.faults[1].insert("recovered_after_end_ms".to_owned(), json!(millis));
        assert!(page(&run).contains(&format!("data-name=\"recovered\">{told}</td>")), "{told}");
    }
}

#[test]
fn a_fault_without_a_length_is_recovered_from_after_its_strike() {
    assert!(page(&sample_run()).contains("data-name=\"recovered\">after 2.10 s</td>"));
}

#[test]
fn what_a_fan_out_costs_is_by_the_copy() {
    let mut run = sample_run();
    assert!(page(&run).contains("CPU a message"));
    run.scenario = "fanout".to_owned();
    let page = page(&run);
    assert!(page.contains("CPU a delivered copy") && !page.contains("us a message"), "{page}");
}

#[test]
fn the_times_of_faults_are_called_as_in_the_terminal() {
    let mut run = sample_run();
    for key in ["back_freeze", "detect_crash", "detect_freeze", "detect"] {
        let points = serde_json::from_value(percentiles(1_000.0)).expect("points");
        run.latency_us.insert(key.to_owned(), points);
    }
    let page = page(&run);
    check_well_formed(&page);
    let places = ["row\">lag<", "row\">gone<", "row\">crash<", "row\">freeze<", "row\">thawed<"];
    let places: Vec<_> =
        places.iter().map(|name| page.find(name).unwrap_or_else(|| panic!("{name}"))).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(!page.contains("detect crash"), "the key is no name");
}

#[test]
fn the_head_says_what_was_asked_for() {
    let lead = |change: &dyn Fn(&mut RunFile)| {
        let mut run = sample_run();
        change(&mut run);
        let page = page(&run);
        check_well_formed(&page);
        let (_, lead) = page.split_once("<p class=\"lead\">").expect("a lead");
        lead.split_once(" after").expect("a warm-up").0.to_owned()
    };
    assert_eq!(lead(&|_| {}), "10\u{202f}000/s to 20\u{202f}000/s in 2 steps for 10 s");
    let steady = |run: &mut RunFile| drop(run.rest.remove("steps"));
    assert_eq!(lead(&steady), "20\u{202f}000/s for 10 s");
    let found = json!({"objective": "p99<2ms", "best": 12_345, "tries": []});
    let search = |run: &mut RunFile| drop(run.rest.insert("find_max".to_owned(), found.clone()));
    assert_eq!(lead(&search), "the highest rate with p99&lt;2ms, 12\u{202f}345/s, each try for 10 s");
    let closed = |run: &mut RunFile| {
        steady(run);
        run.arguments.insert("concurrency".to_owned(), json!(64));
    };
    assert_eq!(lead(&closed), "a closed loop of 64 under way for 10 s");
}

#[test]
fn a_step_that_a_ramp_did_not_come_to_has_no_figures() {
    let mut run = sample_run();
    run.rest["steps"][1]["sent"] = json!(0);
    let page = page(&run);
    check_well_formed(&page);
    assert_eq!(page.matches("not come to").count(), 1);
}

#[test]
fn what_speaks_against_a_run_is_on_top() {
    let page = page(&sample_run());
    let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words} is not there"));
    assert!(place(">INVALID<") < place("lost 1"), "the verdict comes first");
    assert!(place("wrong counts in the measured phase") < place("class=\"figures\""));
    assert!(place("e2e.p99.9&lt;2ms") < place("class=\"figures\""));
    assert!(page.contains("class=\"figure bad\""), "what is wrong stands out");
    let mut excused = sample_run();
    excused.verdict.reasons.clear();
    let excused = super::page(&excused);
    assert!(!excused.contains("class=\"figure bad\"") && excused.contains("wrong, by faults"));
    assert!(page.contains("&#39;3s kill c2/1&#39;"), "the command is quoted for a shell");
}

#[test]
fn a_closed_loop_beside_the_open_one_is_shown_under_it_and_what_it_hides_stands_out() {
    assert!(!page(&sample_run()).contains("closed loop"), "there was none");
    let mut run = sample_run();
    let closed =
        json!({"p50": 170.0, "p90": 180.0, "p99": 190.0, "p999": 300.0, "max": 5_000.0, "count": 1_234});
    let beside =
        json!({"concurrency": 7, "sent": 1_234, "delivered": 1_234, "rate": 120.5, "e2e_us": closed});
    run.rest.insert("beside".to_owned(), beside);
    let page = page(&run);
    check_well_formed(&page);
    let (_, row) = page.split_once("closed loop<span").expect("its row");
    let (row, _) = row.split_once("</tr>").expect("a row ends");
    assert!(row.contains("7 under way") && row.contains("1\u{202f}234"), "{row}");
    assert!(
        row.contains("hiding\" data-name=\"p99.9\">300 us") && !row.contains("hiding\" data-name=\"p99\""),
        "{row}"
    );
    assert!(!page.contains("<h3>Beside"), "and it is shown once");
}

#[test]
fn text_from_outside_stays_text() {
    let page = page(&hostile_run());
    assert!(!page.contains("<b>") && !page.contains("<x "), "markup was let through");
    assert!(page.contains("&lt;b&gt;"), "and is not shown either");
}

/// Tags that are opened are closed, in their order; attributes are quoted; no stray `<` or `&`.
fn check_well_formed(page: &str) {
    let rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (head, body) = rest.split_once("<style>").expect("a style");
    let (_, body) = body.split_once("</style>").expect("the style ends");
    let text = format!("{head}{body}");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.as_str();
    while let Some(place) = rest.find('<') {
        check_entities(&rest[..place]);
        let end = rest[place..].find('>').map(|end| place + end).expect("a tag that ends");
        let tag = &rest[place + 1..end];
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        assert!(tag.matches('"').count().is_multiple_of(2), "quotes of {tag}");
        check_entities(tag);
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes something else");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(open, Vec::<&str>::new(), "left open");
    assert!(
        !page.contains("NaN") && !page.contains("inf\"") && !page.contains("infinity"),
        "a place that is no number"
    );
}

fn check_entities(text: &str) {
    for (place, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|entity| text[place..].starts_with(entity)), "a bare & in {text:?}");
    }
}

fn run_of(value: &Value) -> RunFile {
    RunFile::parse(&value.to_string(), Path::new("run.json")).expect("a report")
}

/// As little as a report can have.
fn bare_run() -> RunFile {
    run_of(&json!({"schema": 1, "scenario": "registry", "verdict": {"status": "VALID", "reasons": []}}))
}

fn hostile_run() -> RunFile {
    let evil = "\"><b>&'<x onload=\"alert(1)\">\u{1b}[31m";
    run_of(&json!({
        "schema": 1,
        "scenario": evil,
        "started_at": evil,
        "verdict": {"status": "DEGRADED", "reasons": [evil]},
        "counts": {evil: 1, "lost": 0},
        "latency_us": {evil: percentiles(1.0)},
        "curves_us": {"e2e": [{"quantile": 0.0, "us": 0.0}, {"quantile": 1.0, "us": 0.0}]},
        "slos": [{"slo": evil, "met": false, "measured": null, "told": evil}],
        "clusters": [{"name": evil, "share": 1.0, "delivered": 0, "topics": 0}],
        "faults": [{"name": evil, "struck_at_s": 0.5, "recovered_ms": null, "clusters": [{"name": evil}]}],
        "series": {
            "interval_s": 0.1, "measured_from_s": 0.0, "until_s": 1.0, "clusters": [evil], "shards": [],
            "arrived_late": 0, "intervals": [],
        },
        "arguments": {"command_line": ["run", evil], "x": evil},
        "surroundings": {"processor": evil, "version": evil},
        "rest": {"a": evil},
    }))
}

fn percentiles(p50: f64) -> Value {
    json!({"p50": p50, "p90": p50 * 1.6, "p99": p50 * 4.0, "p999": p50 * 9.0, "max": p50 * 31.0, "count": 200})
}

/// A run of 12 s with two faults in it, of which the second was not recovered from.
fn sample_run() -> RunFile {
    let cluster = |name: &str, delivered: u64| json!({"name": name, "share": 0.3333, "delivered": delivered, "topics": 3_333});
    let mut run = json!({
        "schema": 1,
        "scenario": "pubsub",
        "started_at": "2026-11-22T07:45:03Z",
        "summary": "",
        "verdict": {"status": "INVALID", "reasons": [
            "wrong counts in the measured phase: lost 1, duplicate 0, reordered 0, corrupt 0 of 200000 sent",
            "fewer cores than roles: 2 cores for 5 shards and servers",
        ]},
        "slos": [
            {"slo": "e2e.p99.9<2ms", "met": false, "measured": 2100.0, "told": "2.10 ms"},
            {"slo": "recovery<3s", "met": true, "measured": 2_100_000.0, "told": "2.10 s"},
        ],
        "counts": {"sent": 200_000, "delivered": 199_999, "lost": 1, "duplicate": 0, "reordered": 0, "corrupt": 0},
        "warmup_counts": {"sent": 40_000, "delivered": 40_000, "lost": 0, "duplicate": 0, "reordered": 0, "corrupt": 0},
        "rate": {"asked": 20_000, "achieved": 19_999.9, "unsent": 0, "busy": 3},
        "latency_us": {"e2e": percentiles(182.4), "lag": percentiles(11.0), "wire": percentiles(160.0)},
        "curves_us": {"e2e": curve(182.4), "lag": curve(11.0), "wire": curve(160.0)},
        "cpu_s": {"client": 1.25, "servers": 2.5},
        "cpu_us_per_message": {"client": 6.25, "servers": 12.5},
        "clusters": [cluster("c1", 67_010), cluster("c2", 65_820), cluster("c3", 67_169)],
        "connections": {"disconnects": 2, "slow_consumer_drops": 0, "server_errors": 0, "in_doubt": 41, "stalls": 0},
    });
    run["series"] = json!({
        "interval_s": 0.1, "measured_from_s": 2.0, "until_s": 12.0, "clusters": ["c1", "c2", "c3"],
        "shards": [0, 1], "arrived_late": 0, "intervals": (0..120).map(interval).collect::<Vec<_>>(),
    });
    run["faults"] = faults();
    run["steps"] = json!([
        {"from_s": 0.0, "until_s": 5.0, "asked": 10_000, "achieved": 9_999.8, "lost": 0, "e2e": percentiles(150.0)},
        {"from_s": 5.0, "until_s": 10.0, "asked": 20_000, "achieved": 19_997.0, "lost": 1, "e2e": percentiles(190.0)},
    ]);
    run["arguments"] = json!({
        "command_line": ["run", "--fault", "3s kill c2/1", "--fault", "8500ms pause c1/1 500ms", "--slo", "e2e.p99.9<2ms"],
        "rate": 20_000, "warmup_s": 2.0, "duration_s": 10.0, "size_bytes_min": 128, "size_bytes_max": 128,
        "topics": 10_000, "clusters": 3, "shards": 2, "seed": 42,
    });
    run["surroundings"] = json!({
        "cores": 2, "processor": "Some Processor 2.5 GHz", "hypervisor": true, "governor": null,
        "kernel": "6.8.0", "steal_percent": 0.4, "version": "0.1.0", "commit": "bbcab40", "optimised": true,
        "nats_server": "2.15.1", "pressure_before_percent": 3.5,
    });
    run_of(&run)
}

fn curve(p50: f64) -> Vec<Value> {
    (0..40)
        .map(|step| 1.0 - 0.5_f64.powf(f64::from(step) / 2.0))
        .chain([1.0])
        .map(|quantile| json!({"quantile": quantile, "us": p50 * (1.0 + 30.0 * quantile.powi(60))}))
        .collect()
}

/// A tenth of a second, of which those from 5 s on are slow for as long as the first fault lasts.
fn interval(place: u32) -> Value {
    let at = f64::from(place) / 10.0;
    let is_out = (5.0..7.0).contains(&at);
    let slow = if is_out { 60.0 } else { 1.0 + f64::from(place * 7 % 11) / 20.0 };
    let arrived = if is_out { 1_340 } else { 2_000 };
    json!({
        "at_s": at, "is_warmup": at < 2.0, "sent": 2_000, "delivered": arrived, "lost": 2_000 - arrived,
        "departed": 2_000, "arrived": arrived, "e2e_us": percentiles(180.0 * slow),
        "delivered_by_cluster": [667, arrived - 1_334, 667],
        "delivered_by_shard": [arrived / 2 + 20, arrived / 2 - 20],
    })
}

fn faults() -> Value {
    let other = |name: &str, during: f64| json!({"name": name, "lost": 0, "disconnects": 0, "p99_before_us": 720.0, "p99_during_us": during, "noticed": false});
    json!([
        {
            "name": "kill c2/1", "cluster": "c2", "asked_at_s": 3.0, "struck_at_s": 3.0, "ended_at_s": null,
            "detected_ms": 1.4, "reconnected_ms": 2_040.0, "recovered_ms": 2_100.0, "lost": 7_920, "refused": 0,
            "in_doubt": 41, "duplicates": 0, "reordered": 0, "notes": ["7 920 of the lost were due while <a> link was down"], "clusters": [other("c1", 812.0), other("c3", 790.0)],
        },
        {
            "name": "pause c1/1 500ms", "cluster": "c1", "asked_at_s": 8.5, "struck_at_s": 8.5, "ended_at_s": 9.0,
            "detected_ms": null, "recovered_ms": null, "lost": 0, "in_doubt": 0, "clusters": [],
        },
    ])
}

/// Writes the page of the sample run for a person to look at: `CROUPIER_PAGE=/some/where.html`.
#[test]
fn the_sample_can_be_looked_at() {
    let Some(path) = std::env::var_os("CROUPIER_PAGE") else {
        return println!("SKIPPED: CROUPIER_PAGE names no file");
    };
    std::fs::write(path, page(&sample_run())).expect("writable");
}
