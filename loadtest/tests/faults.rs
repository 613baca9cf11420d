//! Runs in which something goes wrong: servers are killed, and runs are interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{GUARD, check_verdict, children_of, command, croupier, report_of, send_signal, wait};

mod support;

/// The verdict blames the faults for all that went wrong.
fn check_nothing_beyond_the_faults(report: &Value, progress: &str) {
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(!reasons.contains("beyond") && !reasons.contains("unexpected"), "{progress}");
}

#[test]
fn a_server_that_dies_and_comes_back_costs_its_own_cluster_alone() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "1500",
        "--warmup",
        "300ms",
        "--duration",
        "6s",
        "--topics",
        "200",
        "--fault",
        "1s restart c1/1",
        "--fault",
        "800ms kill c2/1",
        "--fault",
        "1.1s restart c2/1",
        "--fault",
        "3s pause c3/1 100ms",
        "--json",
        "-",
    ]);
    let faults = report["faults"].as_array().expect("a list of faults");
    let names: Vec<&str> = faults.iter().filter_map(|fault| fault["name"].as_str()).collect();
    assert_eq!(names, ["kill c2/1", "restart c1/1", "restart c2/1", "pause c3/1 100ms"], "{progress}");
    for (fault, asked) in faults.iter().zip([0.8, 1.0, 1.1, 3.0]) {
        assert_eq!(fault["asked_at_s"], asked);
        assert!(fault["struck_at_s"].as_f64() >= Some(asked), "{fault}");
        assert!(fault["ended_at_s"].as_f64() >= fault["struck_at_s"].as_f64(), "{fault}");
        for cluster in fault["clusters"].as_array().expect("the others") {
            assert_ne!(cluster["name"], fault["cluster"]);
            assert_eq!((&cluster["lost"], &cluster["disconnects"]), (&0.into(), &0.into()), "{progress}");
        }
    }
    assert!(faults[0]["detected_ms"].as_f64() > Some(0.0), "{progress}");
    assert!(faults[1]["detected_ms"].as_f64() > Some(0.0), "{progress}");
    assert!(faults[3]["detected_ms"].is_null(), "a short pause is no reason to leave: {progress}");
    assert!(faults[3]["ended_at_s"].as_f64() >= Some(3.1), "{progress}");

    // What is lost is all theirs, and one that does not recover in time is told.
    let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is no count"));
    let lost: u64 = faults.iter().map(|fault| count(&fault["lost"])).sum();
    assert_eq!(
        lost,
        count(&report["counts"]["lost"]) + count(&report["warmup_counts"]["lost"]),
        "{progress}"
    );
    check_nothing_beyond_the_faults(&report, &progress);
    let reasons = report["verdict"]["reasons"].to_string();
    let unrecovered = faults.iter().filter(|fault| fault["recovered_ms"].is_null()).count();
    assert_eq!(reasons.matches("had not recovered").count(), unrecovered, "{progress}");
    assert!(progress.contains("kill c2/1: noticed after"), "{progress}");
}

#[test]
fn a_cluster_that_stays_dead_makes_the_run_invalid_and_is_named() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "500",
        "--warmup",
        "100ms",
        "--duration",
        "1500ms",
        "--topics",
        "60",
        "--clusters",
        "2",
        "--shards",
        "1",
        "--fault",
        "500ms kill c1/1",
        "--json",
        "-",
    ]);
    assert_eq!(report["verdict"]["status"], "INVALID");
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(reasons.contains("kill c1/1 at 500ms: c1 had not recovered"), "{progress}");
    assert!(!reasons.contains("beyond"), "{progress}");
    assert!(report["faults"][0]["lost"].as_u64() > Some(0), "{progress}");
}

#[test]
fn what_happens_on_the_way_to_a_server_is_seen_by_its_cluster_alone() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "1k",
        "--warmup",
        "1s",
        "--duration",
        "6s",
        "--topics",
        "100",
        "--clusters",
        "2",
        "--shards",
        "1",
        "--fault",
        "500ms delay c1/1 20ms 500ms",
        "--fault",
        "1500ms reset c1/1",
        "--fault",
        "2500ms cut c1/1",
        "--fault",
        "3500ms half-open c1/1 300ms",
        "--json",
        "-",
    ]);
    let faults = report["faults"].as_array().expect("a list of faults");
    let names: Vec<&str> = faults.iter().filter_map(|fault| fault["name"].as_str()).collect();
    assert_eq!(names, ["delay c1/1 20ms 500ms", "reset c1/1", "cut c1/1", "half-open c1/1 300ms"]);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number: {progress}"));
    // There and back, and no more exactly than the ledger is.
    assert!(number(&faults[0]["p99_during_us"]) > 40_000.0 * 0.93, "{progress}");
    assert!(number(&faults[3]["p99_during_us"]) > 100_000.0, "{progress}");
    for (fault, is_noticed) in faults.iter().zip([false, true, true, false]) {
        assert_eq!(fault["detected_ms"].is_number(), is_noticed, "{fault}: {progress}");
        assert!(is_noticed || fault["lost"] == 0, "{progress}");
        assert_eq!((&fault["clusters"][0]["name"], &fault["clusters"][0]["lost"]), (&"c2".into(), &0.into()));
    }
    check_nothing_beyond_the_faults(&report, &progress);
}

#[test]
fn the_way_to_every_server_of_a_cluster_can_be_late_and_clients_hear_of_no_other() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "500",
        "--warmup",
        "1s",
        "--duration",
        "3s",
        "--topics",
        "60",
        "--clusters",
        "1",
        "--nodes",
        "2",
        "--fault",
        "200ms delay c1/1 50ms 1s",
        "--fault",
        "200ms delay c1/2 50ms 1s",
        "--json",
        "-",
    ]);
    let faults = report["faults"].as_array().expect("a list of faults");
    let names: Vec<&str> = faults.iter().filter_map(|fault| fault["name"].as_str()).collect();
    assert_eq!(names, ["delay c1/1 50ms 1s", "delay c1/2 50ms 1s"], "{progress}");
    // Whichever server a client has, the only way that it knows is the late one.
    let late = faults[1]["p99_during_us"].as_f64();
    assert!(late.is_some_and(|micros| micros > 100_000.0 * 0.93), "{progress}");
    assert_eq!(faults[1]["lost"], 0, "{progress}");
    check_nothing_beyond_the_faults(&report, &progress);
}

#[test]
fn a_server_that_goes_away_in_order_costs_nothing_but_duplicates() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "500",
        "--warmup",
        "500ms",
        "--duration",
        "3s",
        "--topics",
        "60",
        "--clusters",
        "2",
        "--nodes",
        "2",
        "--fault",
        "500ms lame-duck c1/1",
        "--json",
        "-",
    ]);
    let fault = &report["faults"][0];
    assert_eq!((&fault["name"], &fault["lost"]), (&"lame-duck c1/1".into(), &0.into()), "{progress}");
    assert_eq!(
        (&report["counts"]["lost"], &report["counts"]["corrupt"]),
        (&0.into(), &0.into()),
        "{progress}"
    );
    check_nothing_beyond_the_faults(&report, &progress);
}

#[test]
fn servers_that_are_parted_delay_what_is_between_them_and_their_cluster_alone() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "500",
        "--warmup",
        "500ms",
        "--duration",
        "3s",
        "--topics",
        "60",
        "--clusters",
        "2",
        "--nodes",
        "2",
        "--fault",
        "500ms partition c1/1|c1/2 500ms",
        "--json",
        "-",
    ]);
    let fault = &report["faults"][0];
    assert_eq!(fault["name"], "partition c1/1|c1/2 500ms", "{progress}");
    let lasted = fault["ended_at_s"].as_f64().zip(fault["struck_at_s"].as_f64());
    assert!(lasted.is_some_and(|(ended, struck)| ended - struck >= 0.49), "{progress}");
    assert_eq!((&fault["lost"], &fault["detected_ms"]), (&0.into(), &Value::Null), "{progress}");
    // Which servers the links chose is chance, and where all chose one, nothing crossed the route.
    let links = fault["links"].as_object().expect("where the links were");
    let count: u64 = links.values().filter_map(Value::as_u64).sum();
    assert_eq!(count, 2, "{fault}");
    assert!(links.keys().all(|server| server.starts_with("c1/")), "{fault}");
    assert_eq!(
        links.len() == 1,
        fault["notes"].to_string().contains("it could strike nothing: all 2 links"),
        "{fault}"
    );
    let other = &fault["clusters"][0];
    assert_eq!((&other["name"], &other["lost"], &other["disconnects"]), (&"c2".into(), &0.into(), &0.into()));
    check_nothing_beyond_the_faults(&report, &progress);
}

#[test]
fn nodes_that_are_parted_find_each_other_gone_and_agree_again_afterwards() {
    let (report, progress) = report_of(&[
        "run",
        "registry",
        "--rate",
        "100",
        "--warmup",
        "0s",
        "--duration",
        "500ms",
        "--registry-nodes",
        "3",
        "--entries",
        "5",
        "--fault",
        "100ms partition n1|n2 5s",
        "--json",
        "-",
    ]);
    let fault = &report["faults"][0];
    assert_eq!(fault["fault"], "partition n1|n2 5s", "{progress}");
    // n3 is in the process of n1.
    assert_eq!(fault["nodes"], serde_json::json!(["n1", "n2", "n3"]), "{progress}");
    for times in ["detect_us", "back_us"] {
        let times = fault[times].as_array().expect("a time for each node");
        assert!(times.len() == 3 && times.iter().all(Value::is_number), "{fault}: {progress}");
    }
    let state = &report["state"];
    assert_eq!(
        (&state["agreed_after_the_faults"], &state["false_alarms"]),
        (&true.into(), &0.into()),
        "{progress}"
    );
    assert!(progress.contains("partition n1|n2 5s: gone everywhere after"), "{progress}");
}

#[test]
fn what_a_fault_costs_the_shards_of_several_processes_is_told_as_one() {
    let (report, progress) = report_of(&[
        "run",
        "--rate",
        "600",
        "--warmup",
        "500ms",
        "--duration",
        "5s",
        "--topics",
        "60",
        "--clusters",
        "2",
        "--processes",
        "2",
        "--shards",
        "1",
        "--fault",
        "500ms kill c1/1",
        "--fault",
        "800ms restart c1/1",
        "--json",
        "-",
    ]);
    let faults = report["faults"].as_array().expect("a list of faults");
    let names: Vec<&str> = faults.iter().filter_map(|fault| fault["name"].as_str()).collect();
    assert_eq!(names, ["kill c1/1", "restart c1/1"], "{progress}");
    assert!(faults[0]["detected_ms"].as_f64() > Some(0.0), "{progress}");
    let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is no count"));
    let lost: u64 = faults.iter().map(|fault| count(&fault["lost"])).sum();
    assert_eq!(
        lost,
        count(&report["counts"]["lost"]) + count(&report["warmup_counts"]["lost"]),
        "{progress}"
    );
    for fault in faults {
        let other = &fault["clusters"][0];
        assert_eq!((&other["lost"], &other["disconnects"]), (&0.into(), &0.into()), "{progress}");
    }
    check_nothing_beyond_the_faults(&report, &progress);
    assert_eq!(report["connections"]["disconnects"], 2, "each process has a link: {progress}");
}

#[test]
fn a_closed_loop_beside_the_open_one_hides_the_stall_that_this_shows() {
    let (report, progress) = report_of(&[
        "run",
        "reqrep",
        "--rate",
        "500",
        "--warmup",
        "500ms",
        "--duration",
        "4s",
        "--topics",
        "20",
        "--clusters",
        "1",
        "--shards",
        "1",
        "--closed-beside",
        "1",
        "--fault",
        "1s pause c1/1 500ms",
        "--json",
        "-",
    ]);
    let micros = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number: {progress}"));
    let (open, closed) = (&report["latency_us"]["e2e"], &report["beside"]["e2e_us"]);
    // An eighth of the requests were due in the stall; the closed loop had one under way.
    assert!(micros(&open["p99"]) > 250_000.0, "{progress}");
    assert!(micros(&closed["max"]) > 250_000.0, "{progress}");
    assert!(micros(&closed["p99"]) < micros(&open["p99"]), "{progress}");
    assert_eq!(report["beside"]["sent"], report["beside"]["delivered"], "{progress}");
    assert!(progress.contains("timed in two ways"), "{progress}");
}

#[test]
fn a_fault_that_cannot_be_is_told_what_to_write() {
    for (fault, answer) in [
        ("3s kil c2/1", "did you mean kill?"),
        ("3s kill c9/1", "there are c1/1 to c3/1"),
        ("kill c2/1", "'3s kill c2/1'"),
        ("11s kill c2/1", "after the end of the measured phase"),
        ("9s partition n1|n2 2s", "--nodes 2"),
    ] {
        let output = croupier(&["run", "--fault", fault]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(answer), "{fault}: {complaint}");
    }
}

#[test]
fn an_interrupted_run_reports_what_there_is() {
    let arguments = ["run", "--rate", "1k", "--warmup", "0s", "--duration", "10m", "--topics", "50"];
    let report = check_interrupted(&arguments, "delivered", libc::SIGINT, 130);
    assert!(report["counts"]["sent"].as_u64() > Some(0), "{report}");
    assert_eq!(report["counts"]["sent"], report["counts"]["delivered"], "{report}");
    assert!(report["verdict"]["reasons"][0].to_string().contains("interrupted by SIGINT"), "{report}");

    let faults =
        ["run", "--rate", "1k", "--warmup", "0s", "--duration", "10m", "--fault", "0s pause c1/1 9m"];
    let report = check_interrupted(&faults, "pause c1/1", libc::SIGTERM, 143);
    assert_eq!(report["faults"][0]["name"], "pause c1/1 540s");
}

#[test]
fn an_interrupted_fan_out_and_interrupted_requests_are_whole_up_to_the_signal() {
    for scenario in ["fanout", "reqrep"] {
        let arguments = ["run", scenario, "--rate", "200", "--warmup", "0s", "--duration", "10m"];
        let light = ["--topics", "20", "--clusters", "1"];
        let report = check_interrupted(&[&arguments[..], &light].concat(), "delivered", libc::SIGINT, 130);
        assert_eq!(report["scenario"], scenario);
        let counts = &report["counts"];
        assert!(counts["sent"].as_u64() > Some(0), "{report}");
        assert_eq!(counts["sent"], counts["delivered"], "{report}");
        assert!(report["verdict"]["reasons"][0].to_string().contains("interrupted by SIGINT"), "{report}");
        if scenario == "reqrep" {
            assert_eq!(report["requests"]["answered"], counts["sent"], "{report}");
        }
    }
}

#[test]
fn the_scenarios_with_workers_report_what_there_is_too() {
    let registry =
        ["run", "registry", "--rate", "100", "--warmup", "0s", "--duration", "10m", "--entries", "5"];
    let report = check_interrupted(&registry, "seen", libc::SIGINT, 130);
    assert!(report["counts"]["changes"].as_u64() > Some(0), "{report}");
    assert_eq!(report["counts"]["seen"], report["counts"]["to_be_seen"], "{report}");
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(0));

    let calls = ["run", "calls", "--rate", "100", "--warmup", "0s", "--duration", "10m"];
    let report = check_interrupted(&calls, "answered", libc::SIGTERM, 143);
    assert!(report["counts"]["calls"].as_u64() > Some(0), "{report}");
    assert_eq!(report["counts"]["never_ended"], 0);
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    let arguments = ["run", "--rate", "1k", "--warmup", "0s", "--duration", "10m", "--topics", "50"];
    let (mut run, mut lines) = start(&arguments, &scratch_file("second"));
    assert!(lines.any(|line| line.contains("delivered")), "the run did not get under way");
    let servers = children_of(run.id());
    send_signal(run.id(), libc::SIGINT);
    assert!(lines.any(|line| line.contains("interrupted after")), "the first signal is not told");
    send_signal(run.id(), libc::SIGTERM);
    let code = wait(&mut run);
    // It may have ended by the first one meanwhile.
    assert!([Some(143), Some(130)].contains(&code), "{code:?}");
    check_gone(&servers);
}

#[test]
fn local_up_offers_clusters_until_a_signal_and_leaves_nothing_behind() {
    let mut up = command(&["local", "up", "--clusters", "2", "--nodes", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // All that it says is a configuration, whose last line has the servers of c2.
    let mut lines =
        BufReader::new(up.stdout.take().expect("its output is ours")).lines().map_while(Result::ok);
    let mut told = String::new();
    while told.matches("\nservers = ").count() < 2 {
        let line = lines.next().unwrap_or_else(|| panic!("{told} is not all"));
        told.push_str(&format!("{line}\n"));
    }
    let config: croupier::config::Config = told.parse().expect("a node's configuration");
    assert_eq!(config.clusters.len(), 2);
    for cluster in &config.clusters {
        assert_eq!(cluster.servers.len(), 2);
        for server in &cluster.servers {
            let address = server.to_string().replace("nats://", "");
            let mut greeting = String::new();
            let stream = std::net::TcpStream::connect(&address).expect("a server that listens");
            BufReader::new(stream).read_line(&mut greeting).expect("a server that greets");
            assert!(greeting.starts_with("INFO "), "{greeting}");
        }
    }
    let servers = children_of(up.id());
    assert_eq!(servers.len(), 4, "{servers:?}");
    send_signal(up.id(), libc::SIGINT);
    assert_eq!(wait(&mut up), Some(0));
    check_gone(&servers);
}

/// The report of a run that was signalled once a line of progress had `word`.
fn check_interrupted(arguments: &[&str], word: &str, signal: libc::c_int, code: i32) -> Value {
    let path = scratch_file(&format!("interrupted-{}-{signal}", arguments[1]));
    let (mut run, mut lines) = start(arguments, &path);
    assert!(lines.any(|line| line.contains(word)), "the run did not get under way");
    let children = children_of(run.id());
    assert!(!children.is_empty());
    send_signal(run.id(), signal);
    let told: Vec<String> = lines.collect();
    assert_eq!(wait(&mut run), Some(code), "{told:#?}");
    check_gone(&children);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    fs::remove_file(&path).expect("the report is ours");
    let report: Value = serde_json::from_str(&text).expect("the file is JSON");
    assert_eq!(report["partial"], true, "{report}");
    assert_eq!(report["verdict"]["status"], "INVALID");
    check_verdict(&report, Some(97));
    report
}

fn start(
    arguments: &[&str],
    json: &std::path::Path,
) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    let json = json.to_str().expect("a path of ours is text");
    let mut run = command(arguments)
        .args(["--json", json])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let lines = BufReader::new(run.stdout.take().expect("its output is ours")).lines().map_while(Result::ok);
    let errors: ChildStderr = run.stderr.take().expect("its errors are ours");
    // Read along, so that it never waits for a reader.
    std::thread::spawn(move || {
        BufReader::new(errors).lines().map_while(Result::ok).for_each(|line| eprintln!("{line}"));
    });
    (run, lines)
}

fn check_gone(children: &[support::Process]) {
    let deadline = Instant::now() + GUARD;
    while children.iter().any(support::Process::is_running) {
        assert!(Instant::now() < deadline, "processes are left behind: {children:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn scratch_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("croupier-faults-{}-{name}", std::process::id()))
}
