//! The command as a user meets it: its answers, its exit codes, its report, and what it leaves behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{GUARD, check_verdict, children_of, command, croupier, report_of, send_signal, wait};

mod support;

#[test]
fn help_and_version_go_to_standard_output() {
    let help = croupier(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).expect("the help is text");
    assert!(text.contains("usage: croupier") && text.contains("exit codes"), "{text}");
    for (arguments, option) in [
        (&["run", "--help"][..], "--rate"),
        (&["run", "registry", "--help"], "--registry-nodes"),
        (&["run", "calls", "--help"], "--workers"),
        (&["local", "--help"], "--nodes"),
        (&["check", "--help"], "--connect"),
    ] {
        let help = croupier(arguments);
        assert_eq!(help.status.code(), Some(0), "{help:?}");
        let of_command = String::from_utf8(help.stdout).expect("the help is text");
        let row = format!("\n  {option} ");
        assert!(of_command.contains(&row) && !text.contains(&row), "{of_command}");
    }

    for arguments in [&["--version"][..], &["run", "--version"], &["config", "show", "-V"]] {
        let version = croupier(arguments);
        assert_eq!(version.status.code(), Some(0), "{version:?}");
        let told = String::from_utf8_lossy(&version.stdout);
        assert_eq!(told, format!("croupier {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_with_the_nearest_right_option() {
    check_usage(&["run", "--rtae", "5k"], "did you mean --rate?");
    check_usage(&["run", "pubsub", "--duraton", "5s"], "did you mean --duration?");
    check_usage(&["run", "--size", "47"], "48");
    check_usage(&["run", "calls", "--rtae", "5k"], "see croupier run calls --help");
    check_usage(&["local", "up", "--nods", "2"], "see croupier local --help");
    check_usage(&["run", "--rate"], "--rate has no value; write --rate RATE");
    check_usage(&["check"], "the file of a configuration is missing");
    check_usage(&["check", ""], "the file of a configuration is missing");
    check_usage(&["doctor", "--foo"], "unknown option --foo\nsee croupier doctor --help");
    check_usage(&["run", "--ramp", "10k..100k"], "the form is RATE..RATE/STEPS, as in 10k..200k/10");
    check_usage(&["run", "--find-max", "p99.9"], "the form is LATENCY.POINT<TIME, as in 'p99.9<2ms'");
    check_usage(&["run", "--shards", "two"], "--shards two: not a number");
    check_usage(&["run", "--closed=5"], "--closed takes no value");
    check_usage(&["run", "--duration", "10"], "unit");
    check_usage(&["walk"], "known: run, show, compare, local, check, config, top, doctor");
    check_usage(&["run", "nonsense"], "known: pubsub, fanout, reqrep, registry, calls");
    check_usage(&["run", "registry", "--topics", "5"], "no option of registry");
    check_usage(&["run", "registry", "--fault", "3s kill n9"], "n1 to n3");
    check_usage(&["run", "calls", "--workers", "1"], "fewer than the 2 processes");
    check_usage(&["run", "calls", "--keys", "normal"], "zipf:1.1");
}

#[test]
fn the_schema_for_editors_is_the_one_in_the_repository() {
    let output = croupier(&["config", "schema"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../runtime/node.schema.json");
    let written = fs::read_to_string(&file).expect("runtime/node.schema.json is readable");
    assert!(String::from_utf8_lossy(&output.stdout) == written, "{} is not current", file.display());
}

#[test]
fn the_schema_of_a_report_is_the_one_in_the_repository() {
    let output = croupier(&["show", "--schema"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("run.schema.json");
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        String::from_utf8_lossy(&output.stdout) == written,
        "{} is not current; write it with `croupier show --schema`",
        file.display()
    );
}

#[test]
fn a_configuration_is_checked_and_shown() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("check-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("node.toml");
    let file = path.to_str().expect("a plain path");
    let text = "version = 1\n[node]\nname = \"n1\"\n[[clusters]]\nservers = [\"nats://a:1\"]\n[registry]\n\
        cluster = \"prod\"\nsecret_files = [\"secret\"]\n";
    fs::write(&path, text).expect("a file");
    let stderr = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    // The secret's file is not there yet.
    let output = croupier(&["check", file]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(stderr(&output).contains("registry.secret_files[0]"), "{output:?}");
    assert!(stderr(&output).contains("cannot be read: No such file"), "{output:?}");

    fs::write(folder.join("secret"), "canary-0123456789").expect("a file");
    fs::set_permissions(folder.join("secret"), PermissionsExt::from_mode(0o644)).expect("a mode");
    let output = croupier(&["check", file, "--set", "shards.cpus=1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stderr(&output).contains("warning: registry.secret_files[0]"), "{output:?}");
    assert!(stdout(&output).starts_with("fine: node \"n1\", 1 shard, 1 cluster, 1 server"), "{output:?}");

    let output = croupier(&["config", "show", file, "--origin", "--set", "registry.heartbeat=50ms"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = stdout(&output);
    let line =
        |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{shown}"));
    assert!(line("heartbeat = \"50ms\"").ends_with("# --set registry.heartbeat"), "{shown}");
    assert!(line("suspect_after = \"1s\"").ends_with("# default"), "{shown}");
    assert!(line("servers = ").ends_with("node.toml:5:11"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");

    let wrong = ["check", file, "--set", "registry.heartbeat=1ms", "--set", "node.name=a b"];
    let output = croupier(&wrong);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(stderr(&output).contains("--set registry.heartbeat: registry.heartbeat: is 1ms"), "{output:?}");
    assert!(stderr(&output).contains("--set node.name: node.name: "), "{output:?}");
    assert_eq!(output.stdout, b"");
    fs::remove_dir_all(&folder).expect("the folder is gone");
}

#[test]
fn no_secret_of_any_kind_is_printed() {
    const CANARY: &str = "canary4m9x";
    // Seeds of nobody, made for this test.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("secrets-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    write("password", CANARY);
    write("token", CANARY);
    write("seed", SEED);
    write(
        "creds",
        &format!(
            "-----BEGIN NATS USER JWT-----\neyJ.{CANARY}.sig\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
        ),
    );
    write("key.pem", &format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"));
    write("registry", &format!("{CANARY}-registry"));
    // Nothing listens there, which `--connect` is to find out.
    let refusing = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port");
    let clusters: String = [
        "auth = { user = \"app\", password_file = \"password\" }",
        "auth = { token_file = \"token\" }",
        "auth = { nkey_seed_file = \"seed\" }",
        "auth = { creds_file = \"creds\" }",
        "tls = { cert_file = \"key.pem\", key_file = \"key.pem\" }",
    ]
    .iter()
    .enumerate()
    .map(|(number, more)| {
        format!(
            "[[clusters]]\nname = \"c{number}\"\nservers = [\"nats://127.0.0.{}:{}\"]\n{more}\n",
            number + 1,
            refusing.port()
        )
    })
    .collect();
    let text = format!(
        "version = 1\n[node]\nname = \"n1\"\n{clusters}[registry]\ncluster = \"prod\"\nsecret_files = [\"registry\"]\n"
    );
    write("node.toml", &text);
    // The same with secrets where they do not belong.
    write("wrong.toml", &text.replace("password_file = \"password\"", &format!("password = {CANARY:?}")));
    let (right, wrong) = (folder.join("node.toml"), folder.join("wrong.toml"));
    let (right, wrong) = (right.to_str().expect("a plain path"), wrong.to_str().expect("a plain path"));
    let in_a_url = format!("clusters=[{{name=\"c0\",servers=[\"nats://app:{CANARY}@{refusing}\"]}}]");
    let report = folder.join("report.json");
    let report_path = report.to_str().expect("a plain path");
    let mut shown = String::new();
    for arguments in [
        &["check", right][..],
        &["check", right, "--connect"],
        &["check", right, "--set", &in_a_url],
        &["check", wrong],
        &["config", "show", right],
        &["config", "show", right, "--origin"],
        &["config", "show", right, "--set", &in_a_url],
        &["config", "show", wrong],
        &["doctor", right],
        &["doctor", wrong],
        &[
            "run",
            "--rate",
            "1k",
            "--warmup",
            "0s",
            "--duration",
            "200ms",
            "--shards",
            "1",
            "--clusters",
            "1",
            "--json",
            report_path,
        ],
    ] {
        let output = command(arguments).env("APP_PASSWORD", CANARY).output().expect("the program runs");
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{arguments:?}");
        shown += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    shown += &fs::read_to_string(&report).expect("a report");
    assert!(shown.contains("registry") && shown.contains("nkey_seed_file"), "it was read at all: {shown}");
    for secret in [CANARY, SEED] {
        assert!(!shown.contains(secret), "{shown}");
    }
    fs::remove_dir_all(&folder).expect("the folder is gone");
}

#[test]
fn what_the_machine_cannot_do_is_exit_code_78_before_anything_is_started() {
    let output = croupier(&["run", "--json", "/nonexistent/folder/report.json"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/folder/report.json"));
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_run_delivers_every_message_once_and_reports_it_as_json_alone() {
    let output = croupier(&[
        "run",
        "pubsub",
        "--rate",
        "2k",
        "--warmup",
        "200ms",
        "--duration",
        "1s",
        "--topics",
        "300",
        "--size",
        "64..512",
        "--json",
        "-",
    ]);
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{progress}", String::from_utf8_lossy(&output.stdout)));

    assert_eq!(report["schema"], 1);
    assert_eq!(report["scenario"], "pubsub");
    let counts = &report["counts"];
    assert_eq!((&counts["sent"], &counts["delivered"]), (&2_000.into(), &2_000.into()), "{progress}");
    assert_eq!(report["warmup_counts"]["sent"], 400);
    for phase in ["counts", "warmup_counts"] {
        assert_eq!(report[phase]["sent"], report[phase]["delivered"]);
        for fault in ["lost", "duplicate", "reordered", "corrupt"] {
            assert_eq!(report[phase][fault], 0, "{phase} {fault}");
        }
    }
    for latency in ["e2e", "lag", "wire"] {
        check_ordered(&report["latency_us"][latency]);
    }
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert_eq!(number(&report["rate"]["asked"]), 2_000.0);
    assert!(number(&report["rate"]["achieved"]) > 0.0);
    assert!(number(&report["cpu_s"]["client"]) > 0.0);

    let clusters = report["clusters"].as_array().expect("a list of clusters");
    let names: Vec<&Value> = clusters.iter().map(|cluster| &cluster["name"]).collect();
    assert_eq!(names, ["c1", "c2", "c3"]);
    let shares: f64 = clusters.iter().map(|cluster| number(&cluster["share"])).sum();
    assert!((shares - 1.0).abs() < 0.001, "{clusters:?}");
    let topics: u64 = clusters.iter().filter_map(|cluster| cluster["topics"].as_u64()).sum();
    assert_eq!(topics, 300);

    check_verdict(&report, output.status.code());
    assert!(progress.contains("verdict"), "{progress}");
    assert!(!progress.contains('\u{1b}'), "no escape codes without a terminal: {progress:?}");
}

#[test]
fn the_report_goes_to_a_file_and_the_summary_to_standard_output() {
    let path = scratch_file("report.json");
    let path_text = path.to_str().expect("a path of ours is text");
    let output = croupier(&[
        "run",
        "--rate",
        "500",
        "--warmup",
        "0s",
        "--duration",
        "300ms",
        "--topics",
        "10",
        "--clusters",
        "1",
        "--shards",
        "1",
        "--json",
        path_text,
    ]);
    let summary = String::from_utf8_lossy(&output.stdout);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    fs::remove_file(&path).expect("the report is ours");
    let report: Value = serde_json::from_str(&text).expect("the file is JSON");
    assert_eq!(report["counts"]["delivered"], 150);
    assert_eq!(report["clusters"][0]["share"], 1.0);
    assert!(summary.contains("end to end") && summary.contains("verdict"), "{summary}");
    check_verdict(&report, output.status.code());
}

#[test]
fn every_node_sees_every_change_and_a_crash_and_a_freeze_are_found() {
    let (report, progress) = report_of(&[
        "run",
        "registry",
        "--rate",
        "150",
        "--warmup",
        "400ms",
        "--duration",
        "2s",
        "--entries",
        "40",
        "--fault",
        "0s kill n2",
        "--fault",
        "0s freeze n2 5s",
        "--json",
        "-",
    ]);
    assert_eq!((&report["schema"], &report["scenario"]), (&1.into(), &"registry".into()));
    let counts = &report["counts"];
    assert_eq!((&counts["changes"], &report["warmup_counts"]["changes"]), (&300.into(), &60.into()));
    for phase in ["counts", "warmup_counts"] {
        let counts = &report[phase];
        assert_eq!(counts["to_be_seen"], counts["changes"].as_u64().expect("a count") * 2, "{progress}");
        assert_eq!(counts["seen"], counts["to_be_seen"], "{progress}");
        assert_eq!((&counts["missing"], &counts["impossible"]), (&0.into(), &0.into()), "{progress}");
        let sum: u64 = ["adds", "updates", "removals"].iter().filter_map(|kind| counts[kind].as_u64()).sum();
        assert_eq!(counts["changes"], sum);
    }
    for latency in ["converge", "first", "wire", "lag", "detect", "detect_crash", "back_crash"] {
        check_ordered(&report["latency_us"][latency]);
    }
    for latency in ["converge", "first", "wire", "lag"] {
        assert_eq!(report["latency_us"][latency]["count"], 300, "{latency}");
    }
    assert_eq!(report["latency_us"]["detect_crash"]["count"], 1, "{progress}");
    assert_eq!(report["state"]["agreed_after_the_changes"], true, "{progress}");
    assert_eq!(report["state"]["agreed_after_the_faults"], true, "{progress}");
    for part in [&report["bytes"]["per_change_and_receiver"], &report["memory"]["bytes_per_entry"]] {
        assert!(part.as_f64().is_some_and(|bytes| bytes > 0.0), "{report}");
    }
    let faults = report["faults"].as_array().expect("a list of faults");
    let named: Vec<&Value> = faults.iter().map(|fault| &fault["fault"]).collect();
    assert_eq!(named, ["kill n2", "freeze n2 5s"], "{progress}");
}

#[test]
fn every_call_ends_and_none_is_executed_twice_though_a_process_dies() {
    let (report, progress) = report_of(&[
        "run",
        "calls",
        "--rate",
        "300",
        "--warmup",
        "300ms",
        "--duration",
        "3s",
        "--churn",
        "200ms",
        "--keys",
        "zipf:1.1",
        "--key-count",
        "500",
        "--fault",
        "1s kill w2",
        "--json",
        "-",
    ]);
    assert_eq!((&report["schema"], &report["scenario"]), (&1.into(), &"calls".into()));
    let counts = &report["counts"];
    assert_eq!((&counts["calls"], &report["warmup_counts"]["calls"]), (&900.into(), &90.into()));
    let ends = ["answered", "no_service", "no_responders", "timeout", "in_doubt", "disconnected"];
    let sum: u64 = ends.iter().filter_map(|end| counts[end].as_u64()).sum();
    assert_eq!(sum, 900, "{counts}");
    for wrong in [
        "executed_twice",
        "executed_though_refused",
        "answered_without_execution",
        "corrupt",
        "never_ended",
        "to_dead_after_detection",
    ] {
        assert_eq!(counts[wrong], 0, "{wrong}: {progress}");
    }
    let answered = counts["answered"].as_u64().expect("a count");
    assert!(answered > 600 && counts["executed"].as_u64() >= Some(answered), "{counts}");
    assert_eq!(report["latency_us"]["service"]["count"], answered);
    for latency in ["e2e", "service", "lag", "detect_crash"] {
        check_ordered(&report["latency_us"][latency]);
    }
    assert!(report["workers"]["added"].as_u64() > Some(0), "{report}");
    assert_eq!(report["faults"][0]["fault"], "kill w2", "{progress}");
}

#[test]
fn workers_end_with_the_command_that_started_them() {
    let registry = ["run", "registry", "--duration", "10m", "--entries", "5"];
    check_signal_of(&registry, "seen", libc::SIGINT, Some(130));
    check_signal_of(&registry, "seen", libc::SIGKILL, None);
    let calls = ["run", "calls", "--duration", "10m"];
    check_signal_of(&calls, "answered", libc::SIGTERM, Some(143));
}

#[test]
fn an_interrupt_ends_the_run_with_130_and_leaves_no_server_behind() {
    check_signal(libc::SIGINT, Some(130));
}

#[test]
fn a_terminate_ends_the_run_with_143_and_leaves_no_server_behind() {
    check_signal(libc::SIGTERM, Some(143));
}

#[test]
fn servers_end_even_when_the_command_is_killed() {
    check_signal(libc::SIGKILL, None);
}

fn check_usage(arguments: &[&str], expected: &str) {
    let output = croupier(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
    assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
}

fn check_ordered(percentiles: &Value) {
    let points: Vec<f64> = ["p50", "p90", "p99", "p999", "max"]
        .iter()
        .map(|point| percentiles[point].as_f64().unwrap_or_else(|| panic!("{point} in {percentiles}")))
        .collect();
    assert!(points.is_sorted() && points[4] > 0.0, "{percentiles}");
}

fn check_signal(signal: libc::c_int, code: Option<i32>) {
    check_signal_of(
        &["run", "--rate", "1k", "--duration", "10m", "--topics", "50"],
        "delivered",
        signal,
        code,
    );
}

/// Sends a signal once a line of progress has `word`, and sees the command and all its children end.
fn check_signal_of(arguments: &[&str], word: &str, signal: libc::c_int, code: Option<i32>) {
    let mut run =
        command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let mut lines = BufReader::new(run.stdout.take().expect("its output is ours")).lines();
    let is_under_way = lines.by_ref().map_while(Result::ok).any(|line| line.contains(word));
    let servers = children_of(run.id());
    if !is_under_way || servers.is_empty() {
        let mut complaint = String::new();
        drop(run.stderr.take().expect("its errors are ours").read_to_string(&mut complaint));
        panic!("the run did not get under way: {complaint}");
    }

    send_signal(run.id(), signal);
    let status = wait(&mut run);
    assert_eq!(status, code);
    let deadline = Instant::now() + GUARD;
    while servers.iter().any(|server| server.is_running()) {
        assert!(Instant::now() < deadline, "servers are left behind: {servers:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn scratch_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("croupier-loadtest-{}-{name}", std::process::id()))
}
