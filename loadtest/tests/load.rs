//! The ways of sending: a fan-out, requests, a closed loop, a ramp; and what is said where one cannot be.

use serde_json::Value;

use support::{croupier, report_of};

#[expect(dead_code, reason = "it serves tests that send signals, too")]
mod support;

/// A light run of this scenario, with these options.
fn run(options: &[&str]) -> (Value, String) {
    let (scenario, options) = options.split_first().expect("a scenario");
    let light = ["--warmup", "200ms", "--duration", "1s", "--clusters", "1", "--json", "-"];
    report_of(&[&["run", scenario], &light[..], options].concat())
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// Nothing was lost, nothing came twice, in neither phase.
fn check_exact(report: &Value, progress: &str) {
    for phase in ["counts", "warmup_counts"] {
        let counts = &report[phase];
        assert_eq!(counts["sent"], counts["delivered"], "{progress}");
        for fault in ["lost", "duplicate", "reordered", "corrupt"] {
            assert_eq!(counts[fault], 0, "{phase} {fault}: {progress}");
        }
    }
}

#[test]
fn every_copy_of_a_fan_out_is_counted_and_timed() {
    let (report, progress) =
        run(&["fanout", "--rate", "200", "--topics", "3", "--subscribers", "7", "--publishers", "1"]);
    assert_eq!(report["scenario"], "fanout");
    check_exact(&report, &progress);
    assert_eq!((&report["counts"]["sent"], &report["warmup_counts"]["sent"]), (&1_400.into(), &280.into()));
    assert_eq!(report["latency_us"]["e2e"]["count"], 1_400);
    // The rate is of messages, whatever becomes of each.
    assert_eq!((&report["rate"]["asked"], &report["latency_us"]["lag"]["count"]), (&200.into(), &200.into()));
    assert_eq!(report["clusters"][0]["topics"], 3);
    assert_eq!(report["requests"], Value::Null);
}

#[test]
fn every_request_is_answered_once_and_timed_at_both_ends() {
    let (report, progress) = run(&["reqrep", "--rate", "500", "--topics", "50", "--timeout", "5s"]);
    assert_eq!(report["scenario"], "reqrep");
    check_exact(&report, &progress);
    let requests = &report["requests"];
    assert_eq!((&requests["executed"], &requests["answered"]), (&500.into(), &500.into()), "{progress}");
    for end in ["timeouts", "no_responders", "disconnected", "refused", "corrupt", "unsent_answers"] {
        assert_eq!(requests[end], 0, "{end}: {progress}");
    }
    for latency in ["e2e", "wire", "service"] {
        assert_eq!(report["latency_us"][latency]["count"], 500, "{latency}");
    }
    let p50 = |latency: &str| report["latency_us"][latency]["p50"].as_f64().expect("a time");
    assert!(p50("e2e") >= p50("service") && p50("service") >= p50("wire"), "{progress}");
}

#[test]
fn requests_that_are_not_answered_in_time_are_counted_by_how_they_ended() {
    let pause = ["--fault", "200ms pause c1/1 300ms"];
    let (report, progress) = run(&[&["reqrep", "--rate", "200", "--timeout", "20ms"][..], &pause].concat());
    let requests = &report["requests"];
    let ends = ["answered", "timeouts", "no_responders", "disconnected", "refused", "corrupt"];
    let sum: u64 = ends.iter().map(|end| count(&requests[*end])).sum();
    assert_eq!(sum, count(&report["counts"]["sent"]), "{progress}");
    assert!(count(&requests["timeouts"]) > 0, "{progress}");
    let lost = count(&report["counts"]["lost"]);
    assert_eq!(lost, count(&report["counts"]["sent"]) - count(&requests["answered"]), "{progress}");
}

#[test]
fn a_closed_loop_is_told_as_one() {
    let (report, progress) =
        run(&["pubsub", "--closed", "--concurrency", "8", "--topics", "20", "--keys", "zipf:1.1"]);
    check_exact(&report, &progress);
    assert!(count(&report["counts"]["sent"]) > 8, "{progress}");
    let arguments = &report["arguments"];
    assert_eq!((&arguments["loop"], &arguments["concurrency"]), (&"closed".into(), &8.into()));
    assert_eq!((&arguments["keys"], &report["rate"]["asked"]), (&"zipf:1.1".into(), &0.into()));
    assert_eq!(report["latency_us"]["lag"]["max"], 0.0);
    assert_eq!(report["latency_us"]["e2e"], report["latency_us"]["wire"]);
    assert!(progress.contains("in a closed loop of 8 under way"), "{progress}");
    assert!(progress.contains("hides what a stall delays"), "{progress}");

    let (report, progress) = run(&["reqrep", "--closed", "--topics", "20"]);
    check_exact(&report, &progress);
    assert_eq!(report["arguments"]["concurrency"], 2);
    assert_eq!(report["requests"]["answered"], report["counts"]["sent"]);
}

#[test]
fn each_step_of_a_ramp_has_its_figures() {
    let (report, progress) = run(&["pubsub", "--ramp", "100..500/2", "--topics", "20", "--subscribers", "1"]);
    check_exact(&report, &progress);
    let steps = report["steps"].as_array().expect("a list of steps");
    let seen: Vec<(u64, u64, u64)> = steps
        .iter()
        .map(|step| (count(&step["asked"]), count(&step["sent"]), count(&step["delivered"])))
        .collect();
    assert_eq!(seen, [(100, 50, 50), (500, 250, 250)], "{progress}");
    assert_eq!(steps[1]["from_s"], 0.5);
    assert_eq!(steps[1]["e2e"]["count"], 250);
    assert_eq!(report["rate"]["asked"], 300);
    assert!(progress.contains("achieved/s"), "{progress}");
}

#[test]
fn what_does_not_go_together_is_exit_code_2() {
    for (line, part) in [
        ("run --closed --rate 5k", "the rate that it finds"),
        ("run --concurrency 4", "without --closed"),
        ("run --subscribers 3", "there are 2 shards"),
        ("run --clsoed", "did you mean --closed?"),
        ("run fanuot", "known: pubsub, fanout, reqrep, registry, calls"),
        ("run fanout --timeout 1s", "no option of fanout"),
    ] {
        let output = croupier(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(part), "{line}: {said}");
    }
}
