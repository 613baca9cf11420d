//! What a run leaves behind: its folder, the page in a browser, the summary again, goals and baselines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The shortest run of which every file has something to tell.
const SHORT: [&str; 13] = [
    "run",
    "--rate",
    "1k",
    "--warmup",
    "200ms",
    "--duration",
    "600ms",
    "--topics",
    "50",
    "--clusters",
    "2",
    "--shards",
    "1",
];

#[test]
fn a_run_leaves_a_folder_that_show_and_compare_and_a_browser_read() {
    let out = Folder::new("left");
    let goals = ["--slo", "e2e.p99.9<1us", "--slo", "sent=600", "--slo", "p50<1m"];
    let output = croupier(&[&SHORT[..], &goals, &["--out", out.text()]].concat());
    let stdout = text(&output.stdout);
    // A debug build is INVALID, which is graver than a goal that was missed.
    let expected = if cfg!(debug_assertions) { 97 } else { 99 };
    assert_eq!(output.status.code(), Some(expected), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("goal        missed  e2e.p99.9<1us: "), "{stdout}");
    assert!(stdout.contains("goal        met     sent=600: 600"), "{stdout}");

    let run = only_folder_in(&out.path);
    assert!(run.to_string_lossy().ends_with("Z-pubsub"), "{run:?}");
    let report: Value = serde_json::from_str(&read(&run.join("run.json"))).expect("run.json is JSON");
    assert_eq!(report["schema"], 1);
    let met: Vec<&Value> = report["slos"].as_array().expect("goals").iter().map(|slo| &slo["met"]).collect();
    assert_eq!(met, [false, true, true], "{}", report["slos"]);

    let series = &report["series"];
    let intervals = series["intervals"].as_array().expect("intervals");
    let sum = |key: &str, is_warmup: bool| {
        let of_phase = intervals.iter().filter(|interval| interval["is_warmup"] == is_warmup);
        of_phase.filter_map(|interval| interval[key].as_u64()).sum::<u64>()
    };
    assert_eq!((sum("sent", true), sum("sent", false)), (200, 600), "{series}");
    assert_eq!(sum("delivered", false), 600, "{series}");
    assert_eq!(series["shards"], serde_json::json!([0]));
    let csv = read(&run.join("series.csv"));
    assert_eq!(csv.lines().count(), intervals.len() + 1, "{csv}");
    for name in ["e2e", "lag", "wire"] {
        let hgrm = read(&run.join(format!("{name}.hgrm")));
        assert!(hgrm.contains("Total count    =          600]"), "{hgrm}");
    }
    let logs = fs::read_dir(&run).expect("readable").map(|entry| entry.expect("readable").path());
    let logs: Vec<PathBuf> = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    assert_eq!(logs.len(), 2, "a log for each server: {logs:?}");
    assert!(logs.iter().all(|log| read(log).contains("Server is ready")), "{logs:?}");
    check_in_a_browser(&run.join("report.html"));

    let show = croupier(&["show", run.to_str().expect("a plain path")]);
    assert_eq!(show.status.code(), Some(0), "{show:?}");
    let summary = report["summary"].as_str().expect("a summary");
    assert!(text(&show.stdout).ends_with(summary) && stdout.contains(summary), "{show:?}");

    // Of one run each nothing can be said; and an INVALID run is not counted.
    let compare = croupier(&["compare", out.text(), out.text()]);
    assert_eq!(compare.status.code(), Some(0), "{compare:?}");
    assert!(text(&compare.stdout).contains("too few runs: at least 5 of each"), "{compare:?}");
}

#[test]
fn where_nothing_can_be_written_a_run_does_not_begin() {
    let folder = Folder::new("unwritable");
    let file = folder.path.join("file");
    fs::write(&file, "no folder").expect("writable");
    let out = file.to_str().expect("a plain path");
    let output = croupier(&[&SHORT[..], &["--out", out]].concat());
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(text(&output.stderr).contains(out), "{output:?}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn what_cannot_be_written_after_a_run_is_told_with_exit_code_1() {
    let folder = Folder::new("full");
    // No file may grow: what a full disk is to who writes. The servers are spared; their logs go elsewhere.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0; trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_croupier")]);
    command.args(SHORT).args(["--out", folder.text()]).stdin(Stdio::null());
    let output = command.output().expect("a shell");
    let stderr = text(&output.stderr);
    // Whether the servers come up without their logs is their affair; never is it a panic.
    assert!(matches!(output.status.code(), Some(1 | 78)), "{output:?}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    if output.status.code() == Some(1) {
        assert!(stderr.contains("the results cannot be written to"), "{stderr}");
    }
}

#[test]
fn wrong_goals_and_baselines_are_told_before_the_run() {
    for (arguments, code, part) in [
        (&["--slo", "e2e.p99.9<2"][..], 2, "--slo e2e.p99.9<2: at column 11: the unit is missing"),
        (&["--slo", "loss=0"], 2, "known: e2e.p99"),
        (&["--fail-on-regression", "5%"], 2, "--baseline"),
        (&["--baseline", "/nonexistent"], 78, "/nonexistent"),
    ] {
        let output = croupier(&[&SHORT[..], arguments, &["--out", "none"]].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).contains(part), "{output:?}");
    }
    // Of something else, which nobody should have to find out by making the run.
    let baseline = Folder::new("baseline");
    let run = serde_json::json!({
        "schema": 1, "scenario": "pubsub", "verdict": {"status": "VALID", "reasons": []},
        "arguments": {"rate": 5, "topics": 50, "shards": 2}, "surroundings": {"optimised": !cfg!(debug_assertions)},
    });
    fs::write(baseline.path.join("run.json"), run.to_string()).expect("a baseline");
    for (more, part) in [
        (&["--out", "none"][..], "rate 5 and 1 000, shards 2 and 1\n"),
        (&["--out", "none", "--runs", "2"], "rate 5 and 1 000, shards 2 and 1\n"),
    ] {
        let output = croupier(&[&SHORT[..], &["--baseline", baseline.text()], more].concat());
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(78), true), "{output:?}");
        assert!(text(&output.stderr).ends_with(part), "{output:?}");
    }
    // Of too few runs for a difference to be told: the run goes on, until it finds no servers.
    let alike =
        ["run", "--rate", "5", "--topics", "50", "--config", "/nonexistent/node.toml", "--out", "none"];
    let output = croupier(&[&alike[..], &["--baseline", baseline.text()]].concat());
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let remark = format!("baseline    {} holds 1 run that is not INVALID: ", baseline.text());
    assert!(text(&output.stdout).starts_with(&remark), "{output:?}");
    let output = croupier(&["show", "/nonexistent/run.json"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert_eq!(croupier(&["show"]).status.code(), Some(2));
    assert_eq!(croupier(&["compare", "a"]).status.code(), Some(2));
}

/// A phone's width, in CSS pixels.
const NARROW: u32 = 400;

/// Opens a page in a headless browser: nothing on the console, and no request but the one for the file; and on a
/// phone nothing that is wider than the screen.
fn check_in_a_browser(page: &Path) {
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0))
    else {
        return eprintln!("SKIPPED: no chromium, so that nobody has looked at {}", page.display());
    };
    let profile = Folder::new("browser");
    let net_log = profile.path.join("net.json");
    let log = format!("--log-net-log={}", net_log.display());
    let (dom, told) = match in_a_browser(browser, &profile, &log, page) {
        Ok(shown) => shown,
        Err(told) => return eprintln!("SKIPPED: {browser} does not run here: {told}"),
    };
    assert!(dom.contains("</footer>") && dom.contains("<svg"), "the page is not whole: {dom}");
    assert!(!told.contains("CONSOLE"), "the console of the browser: {told}");
    check_width(browser, &profile, page);
    // The browser's own requests have other initiators than a page that lies in a file.
    let log = fs::read_to_string(&net_log).unwrap_or_default();
    let requests: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"initiator\"") && line.contains("\"url\":\"http"))
        .filter(|line| line.contains("\"initiator\":\"file") || line.contains("\"initiator\":\"null"))
        .collect();
    assert!(requests.is_empty(), "{requests:?}");
}

/// The page in a frame as wide as a phone: what is wider than that would have to be scrolled to.
fn check_width(browser: &str, profile: &Folder, page: &Path) {
    let frame = profile.path.join("frame.html");
    let text = format!(
        "<!DOCTYPE html><html><body><iframe id=\"page\" width=\"{NARROW}\" height=\"800\" style=\"border:0\" \
         src=\"file://{}\"></iframe><p id=\"told\"></p><script>\
         document.getElementById('page').onload = (event) => {{\
         const root = event.target.contentDocument.documentElement;\
         document.getElementById('told').textContent = `is ${{root.scrollWidth}} of ${{root.clientWidth}} wide`; }};\
         </script></body></html>",
        page.display()
    );
    fs::write(&frame, text).expect("writable");
    // Of two files only this makes one read the other.
    let shown = in_a_browser(browser, profile, "--allow-file-access-from-files", &frame);
    let (dom, told) = shown.unwrap_or_else(|told| panic!("it has run a moment ago: {told}"));
    let width = dom.split_once("<p id=\"told\">is ").and_then(|(_, rest)| rest.split_once(" wide</p>"));
    let (width, _) = width.unwrap_or_else(|| panic!("no width in {dom}\n{told}"));
    let (needed, there) = width.split_once(" of ").expect("two numbers");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    assert!((NARROW - 40..=NARROW).contains(&number(there)), "the frame is {width}");
    assert_eq!(number(needed), number(there), "the page is wider than a phone of {NARROW} pixels");
    assert!(!told.contains("CONSOLE"), "the console of the browser: {told}");
}

/// What a browser makes of a file, and what it tells; without the first, why it does not run.
fn in_a_browser(
    browser: &str,
    profile: &Folder,
    more: &str,
    page: &Path,
) -> Result<(String, String), String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", browser]);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
        more,
    ]);
    command.arg(format!("--user-data-dir={}", profile.path.join("profile").display()));
    command.arg(format!("file://{}", page.display()));
    let output = command.stdin(Stdio::null()).output().expect("timeout is part of every system");
    let (dom, told) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() || !dom.is_empty() { Ok((dom, told)) } else { Err(told) }
}

/// An empty folder of this test, gone with it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("results-{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("writable");
        Self { path }
    }

    fn text(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

fn only_folder_in(path: &Path) -> PathBuf {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(path).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.remove(0)
}

fn croupier(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_croupier"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the command starts")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
