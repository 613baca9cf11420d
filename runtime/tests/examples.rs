//! Each example runs against real servers and does what its first lines say.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use croupier::{Node, testing::LocalCluster};
use futures_lite::future::block_on;

/// Far longer than any of them takes.
const GUARD: Duration = Duration::from_secs(60);

#[test]
fn a_pool_of_workers_does_every_job() {
    let (_servers, server) = server();
    let said = output("worker_pool", &[&server]);
    assert_eq!(said.matches(" by shard ").count(), 20, "{said}");
    assert!(said.ends_with("20 jobs done\n"), "{said}");
}

#[test]
fn a_server_of_requests_answers_and_each_failure_has_its_name() {
    let (_servers, server) = server();
    let expected = "rpc.upper: ABC\nrpc.lower: nobody is there\nrpc.silent: no answer in time\n";
    assert_eq!(output("rpc_server", &[&server]), expected);
}

#[test]
fn what_is_said_in_a_room_reaches_every_shard() {
    let servers = LocalCluster::start(2).expect("two nats-servers");
    let (first, second) = (servers.servers(0).remove(0), servers.servers(1).remove(0));
    let said = output("chat_fanout", &[&first, &second]);
    let shards = said.lines().count();
    for shard in 0..shards {
        let line = format!("shard {shard} heard {} lines in 8 rooms", 8 * 5 * shards);
        assert!(said.lines().any(|said| said == line), "{said}");
    }
}

#[test]
fn a_drain_works_off_what_has_arrived() {
    let (servers, server) = server();
    let mut example = Running::start("graceful_drain", &[&server]);
    example.until("ready");
    let client = servers.builder().shards(1).start(async |_| Ok(())).expect("a node");
    for _ in 0..200 {
        client.handle().publish("work", "job").expect("published");
    }
    // The server has all of them, and so has the example before its UNSUB is answered.
    let answer = block_on(client.handle().request("work", "the last one"));
    example.terminate();
    let said = example.rest();
    assert_eq!(answer.expect("an answer").payload(), b"job 201");
    assert!(said.contains("draining, 201 done so far"), "{said}");
    assert!(said.ends_with("201 done, nothing left\n"), "{said}");
}

#[test]
fn a_web_service_publishes_and_asks_through_its_node() {
    let (servers, server) = server();
    let mut example = Running::start("axum_bridge", &[&server, "127.0.0.1:0"]);
    let listening = example.until("listening on ");
    let address = listening.trim_start_matches("listening on ").trim();
    let watching: Node = servers.builder().shards(1).start(async |_| Ok(())).expect("a node");
    let mut news = block_on(watching.handle().subscribe("news")).expect("subscribed");

    let asked = Instant::now();
    let answer = loop {
        let answer = post(address, "/request/rpc.upper", "abc");
        // The worker beside it may not have subscribed yet.
        if answer.starts_with("HTTP/1.1 200") || asked.elapsed() > GUARD {
            break answer;
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nABC"), "{answer}");
    assert!(post(address, "/publish/news", "hello").starts_with("HTTP/1.1 202"));
    assert_eq!(block_on(news.next()).expect("a message").payload(), b"hello");
    assert!(post(address, "/request/nobody", "?").starts_with("HTTP/1.1 404"));
    assert!(post(address, "/publish/a..b", "?").starts_with("HTTP/1.1 400"));
    example.terminate();
    assert!(example.rest().ends_with("drained\n"));
}

#[test]
fn a_web_service_drains_at_an_interrupt_too() {
    let (_servers, server) = server();
    let mut example = Running::start("axum_bridge", &[&server, "127.0.0.1:0"]);
    example.until("listening on ");
    example.signal(libc::SIGINT);
    assert_eq!(example.rest(), "drained\n");
}

#[test]
fn an_error_is_told_in_words_and_by_the_exit_code() {
    // Fewer files than a node needs, which it says before it starts.
    let few_files = "ulimit -n 20 && exec \"$0\"";
    let ended = Command::new("sh").arg("-c").arg(few_files).arg(example("hello")).output().expect("a shell");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.lines().any(|line| line.starts_with("hello: ") && line.contains("open files")), "{told}");
}

#[test]
fn a_key_opens_an_encrypted_server() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    fs::write(file("server.pem"), made.cert.pem()).expect("written");
    fs::write(file("server.key"), made.signing_key.serialize_pem()).expect("written");
    let key = nkeys::KeyPair::new_user();
    fs::write(file("app.nk"), key.seed().expect("it was made with its seed")).expect("written");
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, timeout: 20 }}\nauthorization {{ users: [ {{ nkey: {:?} }} ] }}\n",
        file("server.pem"),
        file("server.key"),
        key.public_key()
    );
    let servers = LocalCluster::with_config(1, 1, config).expect("a nats-server");
    let said = output("tls_nkey", &[&servers.servers(0)[0], &file("server.pem"), &file("app.nk")]);
    assert_eq!(said, "whispers: nobody else can read this\n");
}

#[test]
fn a_node_can_be_watched() {
    let (_servers, server) = server();
    let mut example = Running::start("metrics", &[&server, "127.0.0.1:0"]);
    let listening = example.until("listening on ");
    let address = listening.trim_start_matches("listening on ").trim();
    let asked = Instant::now();
    while !ask(address, "GET", "/readyz", "").starts_with("HTTP/1.1 200") {
        assert!(asked.elapsed() < GUARD, "it is never ready");
    }
    let metrics = ask(address, "GET", "/metrics", "");
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(ask(address, "GET", "/statusz", "").contains("\"clusters\""));
}

fn server() -> (LocalCluster, String) {
    let servers = LocalCluster::start(1).expect("a nats-server");
    let server = servers.servers(0).remove(0);
    (servers, server)
}

/// What an example prints that ends by itself and well.
fn output(name: &str, arguments: &[&str]) -> String {
    Running::start(name, arguments).rest()
}

/// An example in a process of its own, which ends with this value.
struct Running {
    name: String,
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Running {
        let mut process = Command::new(example(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let lines = BufReader::new(process.stdout.take().expect("its output is piped"));
        Running { name: name.to_owned(), process, lines }
    }

    /// Reads until a line that begins so.
    fn until(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            let bytes = self.lines.read_line(&mut line).expect("its output is text");
            assert!(bytes > 0, "{} ended before it said {beginning:?}", self.name);
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.process.id()).expect("a process id");
        // SAFETY: it sends a signal to a child that has not been waited for, so that its id is its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    /// Everything else it says, after it has ended well.
    fn rest(mut self) -> String {
        let mut said = String::new();
        self.lines.read_to_string(&mut said).expect("its output is text");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{} ended with {status}, and said {said}", self.name);
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, if the test went well.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Cargo builds the examples of a package for its tests, beside the folder of the test itself.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("it is in deps");
    let example = profile.join("examples").join(name);
    assert!(
        example.exists(),
        "examples are built by `cargo test -p croupier`, not for a test that is named alone"
    );
    example
}

fn post(address: &str, path: &str, body: &str) -> String {
    ask(address, "POST", path, body)
}

fn ask(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(GUARD)).expect("a timeout");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
