//! A node in a process of its own: the test binary again, which takes orders on its standard input.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write, stdin},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use croupier::{Node, testing::LocalCluster};
use serde_json::{Value, json};

use super::peer::{Peer, registry};
use crate::support::{GUARD, wait_for};

/// Where the process finds what it is to be.
const SPEC: &str = "CROUPIER_TEST_PEER";
/// What an answer begins with; whatever else the process says is not one.
const ANSWER: &str = "> ";

/// The process. Killed when it is dropped.
pub(super) struct ChildNode {
    child: Child,
    orders: ChildStdin,
    lines: mpsc::Receiver<String>,
    address: SocketAddr,
}

impl ChildNode {
    /// Starts the process, and waits until its node runs.
    pub(super) fn start(
        servers: &LocalCluster,
        name: &str,
        shards: usize,
        seed: Option<SocketAddr>,
    ) -> ChildNode {
        let spec = json!({
            "name": name,
            "shards": shards,
            "seed": seed.map(|seed| seed.to_string()),
            "servers": servers.servers(0),
        });
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "peers::child::a_node_that_takes_orders", "--ignored", "--nocapture"])
            .env(SPEC, spec.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().expect("a pipe");
        let from = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                // The test may have heard enough.
                let _heard = sender.send(line);
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = ChildNode { child, orders, lines, address };
        node.address = node.answer().parse().unwrap();
        node
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives an order and waits for the answer.
    pub(super) fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    /// Gives an order.
    pub(super) fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// Waits for the answer to an order.
    pub(super) fn answer(&self) -> String {
        loop {
            let line = self.lines.recv_timeout(GUARD).expect("the process answers");
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return answer.to_owned();
            }
        }
    }

    /// One of the registry's counters.
    pub(super) fn stat(&mut self, name: &str) -> u64 {
        let stats = self.ask("stats");
        let (_, rest) = stats.split_once(&format!(" {name}: ")).expect("a counter of this name");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    pub(super) fn offer(&mut self, kind: &str, count: usize) {
        assert_eq!(self.ask(&format!("offer {kind} {count}")), "done");
    }

    /// Waits until so many instances of a node are shown there.
    pub(super) fn until_shown(&mut self, kind: &str, node: &str, count: usize) {
        assert!(self.ask(&format!("until {kind} {node} {count}")).starts_with("at "));
    }

    pub(super) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: a bare system call; the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Memory of the process that is in use, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = statm.split(' ').nth(1).expect("a second field").parse().unwrap();
        // SAFETY: a bare system call that reads a constant of the kernel.
        pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
    }

    /// Files that the process has open.
    pub(super) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Has the node drain and the process end.
    pub(super) fn leave(mut self) {
        assert_eq!(self.ask("drain"), "done");
        let status = wait_for("the process's end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for ChildNode {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Microseconds since 1970: processes of one machine agree on it.
pub(super) fn now_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since_1970.as_micros()).unwrap()
}

/// Types of one stem, as both sides name them.
pub(super) fn kinds(stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{stem}.{number}")).collect()
}

/// Numbers as they stand in an answer.
pub(super) fn listed(numbers: &[u64]) -> String {
    let texts: Vec<String> = numbers.iter().map(|number| format!("{number:x}")).collect();
    texts.join(",")
}

#[test]
#[ignore = "the tests of nodes among each other run it in a process of its own"]
fn a_node_that_takes_orders() {
    let spec: Value = serde_json::from_str(&env::var(SPEC).expect("the parent says what to be")).unwrap();
    let text = |field: &str| spec[field].as_str().map(str::to_owned);
    let servers: Vec<String> = serde_json::from_value(spec["servers"].clone()).unwrap();
    let mut builder = Node::builder().cluster("c1", servers);
    builder.config_mut().shards.pin = false;
    let registry = match text("seed") {
        Some(seed) => registry().seed(seed),
        None => registry(),
    };
    let shards = usize::try_from(spec["shards"].as_u64().unwrap()).unwrap();
    let peer = Peer::start(builder, &text("name").expect("a name"), shards, registry);
    println!("{ANSWER}{}", peer.address());
    let mut record = None;
    for order in stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = order.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let answer = match words[0] {
            "offer" => {
                peer.offer(words[1], 0..number(2));
                "done".to_owned()
            }
            "offer-kinds" => {
                kinds(words[1], number(2)).iter().for_each(|kind| peer.offer(kind, 0..number(3)));
                "done".to_owned()
            }
            "remove" => {
                peer.remove(words[1], words[2], words[3]);
                "done".to_owned()
            }
            // Waits until a node has so many instances here, and tells when it was so.
            "until" => {
                peer.until_shown(words[1], words[2], number(3));
                format!("at {}", now_us())
            }
            "fingerprints" => {
                let prints = kinds(words[1], number(2));
                listed(&prints.iter().map(|kind| peer.fingerprint(kind)).collect::<Vec<_>>())
            }
            "lookups" => listed(&peer.lookups(&kinds(words[1], number(2)), number(3))),
            "fingerprint" => listed(&[peer.fingerprint(words[1])]),
            "record" => {
                record = Some(peer.record(words[1]));
                "done".to_owned()
            }
            "recorded" => {
                let notes = record.as_ref().expect("a record was begun").notes();
                let texts = notes.iter().map(|note| format!("{} {} {}", note.what, note.node, note.id));
                texts.collect::<Vec<_>>().join(",")
            }
            "stats" => format!("{:?}", peer.stats()),
            "drain" => {
                peer.end();
                println!("{ANSWER}done");
                return;
            }
            unknown => panic!("no order: {unknown}"),
        };
        println!("{ANSWER}{answer}");
    }
}
