//! `croupier check --connect` against servers that are well, and against those that are not.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use croupier::testing::LocalCluster;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// Stands in every secret here, and nowhere else.
const CANARY: &str = "canary-3f9b";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the command said of a configuration, and how it ended.
struct Answer {
    code: Option<i32>,
    lines: Vec<String>,
    stderr: String,
}

impl Answer {
    /// The line that begins so, and what is below it.
    fn about(&self, begin: &str) -> String {
        let first = self.lines.iter().position(|line| line.starts_with(begin));
        let first = first.unwrap_or_else(|| panic!("no {begin:?} in {:#?} {}", self.lines, self.stderr));
        let below = self.lines[first + 1..].iter().take_while(|line| line.starts_with("      "));
        std::iter::once(&self.lines[first]).chain(below).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Checks these `[[clusters]]` and what follows them.
fn check(folder: &TempDir, text: &str) -> Answer {
    let path = folder.path().join("node.toml");
    fs::write(&path, format!("version = 1\n[shards]\npin = false\n{text}")).expect("a file");
    let output: Output = Command::new(env!("CARGO_BIN_EXE_croupier"))
        .arg("check")
        .arg(&path)
        .args(["--connect", "--set", "shards.cpus=1"])
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(!stdout.contains(CANARY) && !stderr.contains(CANARY), "{stdout}{stderr}");
    assert!(!stdout.contains('\u{1b}'), "{stdout:?}");
    Answer { code: output.status.code(), lines: stdout.lines().map(str::to_owned).collect(), stderr }
}

fn cluster(name: &str, servers: &[String], more: &str) -> String {
    format!("[[clusters]]\nname = {name:?}\nservers = {servers:?}\n{more}\n")
}

fn address(url: &str) -> &str {
    url.trim_start_matches("nats://")
}

fn secret(folder: &TempDir, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a mode");
    path.display().to_string()
}

#[test]
fn a_cluster_that_is_well_has_a_line_for_each_server() {
    let folder = TempDir::new().expect("a folder");
    let servers = LocalCluster::with_nodes(1, 2).expect("servers");
    let urls = servers.servers(0);
    let answer = check(&folder, &cluster("c1", &urls, ""));
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{:#?}", answer.lines);
    assert_eq!(answer.lines.len(), 3, "{:#?}", answer.lines);
    for url in &urls {
        let line =
            answer.about(&format!("ok    c1 {}  nats-server {} in ", address(url), servers.server_version()));
        assert!(line.ends_with("no credentials, max_payload 1MiB, no TLS"), "{line}");
    }
    assert!(answer.lines[2].starts_with("fine: node "), "{:#?}", answer.lines);
}

#[test]
fn servers_that_cannot_be_used_are_told_with_the_reason_and_the_remedy() {
    let folder = TempDir::new().expect("a folder");
    let guarded = format!("authorization {{ user: app, password: \"right-{CANARY}\" }}");
    let servers = LocalCluster::with_config(1, 1, guarded).expect("a server");
    let guarded = servers.servers(0);
    // Nobody listens at the first, nobody speaks behind the second, and somebody else behind the third.
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (silent_at, other_at) = (silent.local_addr().expect("one"), other.local_addr().expect("one"));
    thread::spawn(move || {
        // It ends with the process.
        while let Ok((mut stream, _)) = other.accept() {
            let _gone = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
        }
    });
    let right = secret(&folder, "right", &format!("right-{CANARY}"));
    let wrong = secret(&folder, "wrong", &format!("wrong-{CANARY}"));
    let auth = |file: &str| format!("auth = {{ user = \"app\", password_file = {file:?} }}");
    let odd = [closed, silent_at, other_at].map(|at| format!("nats://{at}"));
    let text = cluster("c1", &guarded, &auth(&wrong))
        + &cluster("c2", &odd, "")
        + "[connection]\nconnect_timeout = \"3s\"\n";
    let answer = check(&folder, &text);
    assert_eq!(answer.code, Some(78), "{:#?}", answer.lines);
    assert!(answer.stderr.contains("4 of 4 servers cannot be used"), "{}", answer.stderr);
    let line = answer.about(&format!("fail  c1 {}", address(&guarded[0])));
    assert!(line.contains("refuses the credentials (authorization violation): compare `auth`"), "{line}");
    let line = answer.about(&format!("fail  c2 {closed}"));
    assert!(line.contains("refused") && line.contains("nobody listens there; start the server"), "{line}");
    let line = answer.about(&format!("fail  c2 {silent_at}"));
    assert!(line.contains("no answer within 3s") && line.contains("tls.first"), "{line}");
    let line = answer.about(&format!("fail  c2 {other_at}"));
    assert!(line.contains("something other than a NATS server"), "{line}");

    let answer = check(&folder, &cluster("c1", &guarded, &auth(&right)));
    assert_eq!(answer.code, Some(0), "{:#?} {}", answer.lines, answer.stderr);
    assert!(answer.about("ok    c1 ").contains(", credentials accepted, "), "{:#?}", answer.lines);
}

#[test]
fn a_server_that_takes_less_than_the_node_sends_is_a_warning() {
    let folder = TempDir::new().expect("a folder");
    let servers = LocalCluster::with_config(1, 1, "max_payload: 4096").expect("a server");
    let text = cluster("c1", &servers.servers(0), "");
    let answer = check(&folder, &text);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{:#?}", answer.lines);
    let told = answer.about("warn  c1 ");
    assert!(told.contains("up to 4KiB, and limits.max_payload is 1MiB"), "{told}");
    let answer = check(&folder, &(text + "[limits]\nmax_payload = \"4KiB\"\n"));
    assert!(answer.about("ok    c1 ").contains("max_payload 4KiB"));
}

#[test]
fn servers_that_do_not_belong_together_are_told() {
    let folder = TempDir::new().expect("a folder");
    let servers = LocalCluster::start(2).expect("servers");
    let (one, other) = (servers.servers(0).remove(0), servers.servers(1).remove(0));
    let answer = check(&folder, &cluster("c1", &[one.clone(), other], ""));
    assert_eq!(answer.code, Some(0), "{:#?} {}", answer.lines, answer.stderr);
    let told = answer.about("warn  c1  ");
    assert!(told.contains("not of one NATS cluster") && told.contains("a message reaches only"), "{told}");

    // The same server under two names of a host is two clusters for the ring, and one for its topics.
    let by_name = one.replace("127.0.0.1", "localhost");
    let text = cluster("c1", &[one], "") + &cluster("c2", &[by_name], "");
    let answer = check(&folder, &text);
    assert_eq!(answer.code, Some(78), "{:#?} {}", answer.lines, answer.stderr);
    let all = answer.lines.join("\n");
    assert!(all.contains("belongs to cluster c") && all.contains("as well (both have server id"), "{all}");
}

/// A certificate for this machine that is its own issuer, valid for so long from here on; one of the past if negative.
fn issue(folder: &Path, name: &str, days: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let now = SystemTime::now();
    let span = DAY * days.unsigned_abs();
    params.not_before = (now - 400 * DAY).into();
    params.not_after = if days < 0 { now - span } else { now + span }.into();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let file = |kind: &str| folder.join(format!("{name}.{kind}")).display().to_string();
    fs::write(file("pem"), certificate.pem()).expect("a file");
    fs::write(file("key"), key.serialize_pem()).expect("a file");
    (file("pem"), file("key"))
}

#[test]
fn certificates_are_told_with_their_end_before_and_after_it() {
    let folder = TempDir::new().expect("a folder");
    let mut running = Vec::new();
    let mut text = String::new();
    for (name, days) in [("good", 90), ("short", 10), ("gone", -3)] {
        let (cert, key) = issue(folder.path(), name, days);
        let config = format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, timeout: 20 }}");
        let servers = LocalCluster::with_config(1, 1, config).expect("a server");
        text += &cluster(name, &servers.servers(0), &format!("tls = {{ ca_file = {cert:?} }}"));
        running.push(servers);
    }
    // A server that demands TLS of a node that wants none.
    text += &cluster("plain", &running[0].servers(0), "").replace("127.0.0.1", "localhost");
    text += "[connection]\nconnect_timeout = \"20s\"\n";
    let answer = check(&folder, &text);
    assert_eq!(answer.code, Some(78), "{:#?} {}", answer.lines, answer.stderr);
    assert!(answer.stderr.contains("2 of 4 servers cannot be used"), "{}", answer.stderr);
    let told = answer.about("ok    good ");
    assert!(told.contains(", TLS 1.3, certificate good until 2"), "{told}");
    let told = answer.about("warn  short ");
    // 10 or 11, as the second of its making has passed or not.
    assert!(told.contains("its certificate is good for less than 1"), "{told}");
    assert!(told.contains(" days more: renew it"), "{told}");
    let told = answer.about("fail  gone ");
    assert!(told.contains("certificate has expired: renew it"), "{told}");
    let told = answer.about("fail  plain ");
    assert!(told.contains("the server requires TLS: set tls"), "{told}");
    drop(running);
}

#[test]
fn a_certificate_of_the_node_itself_that_has_expired_is_told() {
    let folder = TempDir::new().expect("a folder");
    let (server, server_key) = issue(folder.path(), "server", 90);
    let (own, own_key) = issue(folder.path(), "own", -1);
    let config = format!("tls {{ cert_file: {server:?}, key_file: {server_key:?}, timeout: 20 }}");
    let servers = LocalCluster::with_config(1, 1, config).expect("a server");
    let tls = format!("tls = {{ ca_file = {server:?}, cert_file = {own:?}, key_file = {own_key:?} }}");
    let text = cluster("c1", &servers.servers(0), &tls) + "[connection]\nconnect_timeout = \"20s\"\n";
    let answer = check(&folder, &text);
    assert_eq!(answer.code, Some(78), "{:#?} {}", answer.lines, answer.stderr);
    assert!(answer.stderr.contains("a certificate of this node has expired"), "{}", answer.stderr);
    assert!(answer.about("fail  c1 tls.cert_file").contains("has expired on 2"), "{:#?}", answer.lines);
}
