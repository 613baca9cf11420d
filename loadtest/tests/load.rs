//! The ways of sending: a fan-out, requests, a closed loop, a ramp; and what is said where one cannot be.

use croupier::testing::LocalCluster;
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

#[test]
fn the_highest_rate_is_searched_for_and_every_try_is_told() {
    // A second is long for a message on loopback, even here; and nothing takes less than a microsecond.
    let short = ["--warmup", "0s", "--duration", "200ms", "--topics", "20", "--clusters", "1", "--json", "-"];
    let (report, progress) =
        report_of(&[&["run", "--find-max", "p50<1us", "--rate", "4"], &short[..]].concat());
    let found = &report["find_max"];
    assert_eq!((&found["objective"], &found["best"]), (&"p50<1us".into(), &Value::Null), "{progress}");
    let tried: Vec<u64> =
        found["tries"].as_array().expect("a list").iter().map(|made| count(&made["asked"])).collect();
    assert_eq!(tried, [4, 2, 1], "{progress}");
    assert!(report["verdict"]["reasons"][0].as_str().is_some_and(|reason| reason.contains("met p50<1us")));
    assert!(progress.contains("no rate met p50<1us"), "{progress}");
}

#[test]
fn several_runs_have_a_median_and_a_spread() {
    let arguments = ["run", "--runs", "2", "--rate", "100", "--warmup", "0s", "--duration", "200ms"];
    let output = croupier(&[&arguments[..], &["--topics", "5", "--clusters", "1", "--json", "-"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let runs = report["runs"].as_array().unwrap_or_else(|| panic!("no runs in {report}"));
    assert_eq!(runs.len(), 2, "{report}");
    assert!(
        runs.iter().all(|run| run["figures"]["lost"] == 0.0 && run["verdict"]["status"].is_string()),
        "{report}"
    );
    assert!(report["figures"]["e2e_p99_us"]["median"].as_f64() > Some(0.0), "{report}");
    assert!(said.contains("run 2 of 2") && said.contains("2 runs") && said.contains("spread"), "{said}");
}

#[test]
fn servers_joined_by_routes_and_servers_that_run_already_carry_a_load() {
    let short = ["--rate", "200", "--warmup", "0s", "--duration", "500ms", "--topics", "20", "--json", "-"];
    let nodes = ["run", "--clusters", "1", "--nodes", "2"];
    let (report, progress) = report_of(&[&nodes[..], &short].concat());
    check_exact(&report, &progress);
    assert_eq!((&report["arguments"]["nodes"], &report["counts"]["sent"]), (&2.into(), &100.into()));

    let servers = LocalCluster::start(2).expect("servers start");
    let file =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}.toml", std::process::id()));
    let clusters: String = ["left", "right"]
        .iter()
        .enumerate()
        .map(|(index, name)| {
            format!("[[clusters]]\nname = {name:?}\nservers = {:?}\n", servers.servers(index))
        })
        .collect();
    std::fs::write(&file, format!("version = 1\n[node]\nname = \"n1\"\n{clusters}")).expect("a file");
    let config = ["run", "--config", file.to_str().expect("a plain path")];
    let (report, progress) = report_of(&[&config[..], &short].concat());
    std::fs::remove_file(&file).expect("it is ours");
    check_exact(&report, &progress);
    let names: Vec<&Value> =
        report["clusters"].as_array().expect("a list").iter().map(|cluster| &cluster["name"]).collect();
    assert_eq!(names, ["left", "right"], "{progress}");
    assert_eq!((&report["arguments"]["nodes"], &report["counts"]["sent"]), (&0.into(), &100.into()));
    // They are none of the run's processes.
    assert_eq!(
        (&report["cpu_s"]["servers"], &report["cpu_us_per_message"]["servers"]),
        (&Value::Null, &Value::Null)
    );
    assert!(report["cpu_s"]["client"].as_f64() > Some(0.0), "{progress}");
}

#[test]
fn servers_that_are_not_there_are_named_with_the_reason() {
    // Nobody listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let file =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gone-{}.toml", std::process::id()));
    let clusters = format!("[[clusters]]\nname = \"left\"\nservers = [\"nats://{address}\"]\n");
    std::fs::write(&file, format!("version = 1\n[node]\nname = \"n1\"\n{clusters}")).expect("a file");
    let output = croupier(&["run", "--config", file.to_str().expect("a plain path"), "--out", "none"]);
    std::fs::remove_file(&file).expect("it is ours");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    let address = address.to_string();
    for part in ["no server of cluster left", address.as_str(), "refused"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_rate_beyond_the_machine_is_given_up_and_tells_what_was_sent() {
    let more = ["--clusters", "1", "--warmup", "500ms", "--duration", "6s", "--json", "-"];
    let pubsub = ["run", "pubsub", "--rate", "2000M", "--shards", "1", "--topics", "20"];
    // No more of them than are remembered.
    let calls = ["run", "calls", "--rate", "500k"];
    for scenario in [&pubsub[..], &calls] {
        let (report, progress) = report_of(&[scenario, &more].concat());
        let reasons = report["verdict"]["reasons"].to_string();
        assert!(reasons.contains("/s were sent of "), "{progress}");
        assert!(reasons.contains("try --rate ") && reasons.contains("given up "), "{progress}");
        assert!(progress.contains("given up    after "), "{progress}");
        assert!(report["rate"]["achieved"].as_f64() > Some(0.0), "{progress}");
        assert!(report["rate"]["unsent"].as_u64() > Some(0), "{progress}");
    }
}

#[test]
fn the_shards_of_several_processes_are_one_load() {
    for scenario in ["pubsub", "fanout", "reqrep"] {
        let (report, progress) =
            run(&[scenario, "--processes", "2", "--shards", "1", "--rate", "200", "--topics", "20"]);
        check_exact(&report, &progress);
        let copies = if scenario == "fanout" { 8 } else { 1 };
        assert_eq!(count(&report["counts"]["sent"]), 200 * copies, "{scenario}: {progress}");
        assert_eq!(
            (&report["arguments"]["processes"], &report["clusters"][0]["topics"]),
            (&2.into(), &20.into())
        );
        assert_eq!(report["series"]["shards"], serde_json::json!([0, 1]), "{progress}");
    }
}
