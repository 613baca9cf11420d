//! SIGTERM to a process with an admin server: it says that it drains, loses nothing, and ends with 0.

use std::{
    env,
    io::{BufRead, BufReader, Write, stdin},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use croupier::{Node, Shard, testing::LocalCluster};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, sync::oneshot};

use super::client::{get, status};
use crate::support::{GUARD, TestNode, permit, wait_for};

/// Where the process finds what it is to be.
const SPEC: &str = "CROUPIER_TEST_TERMINATED";
/// What a line of the process for its parent begins with.
const TOLD: &str = "> ";
/// Messages to the process ahead of the signal, which it has not looked at by then.
const TO_CHILD: usize = 2_000;
/// Messages of the process after the signal.
const FROM_DRAIN: u64 = 3_000;

/// A child that does not outlive the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_process_that_is_terminated_says_so_and_loses_nothing() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let watching = TestNode::start(servers.builder(), 1);
    let (arrived, arrivals) = mpsc::channel();
    watching.on(0, async move |shard: Shard| {
        let mut from_child = shard.subscribe("from.child").await.unwrap();
        shard.spawn(async move {
            while let Some(message) = from_child.next().await {
                let number: u64 = String::from_utf8_lossy(message.payload()).parse().unwrap();
                let _heard = arrived.send(number);
            }
        });
    });
    // Bound and never listening: nobody else is given the port, and the child may listen beside it.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.set_reuseaddr(true).unwrap();
    reserved.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let admin = reserved.local_addr().unwrap();
    let spec = json!({ "servers": servers.servers(0), "admin": admin.to_string() });
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "operation::termination::a_process_to_terminate", "--ignored", "--nocapture"])
        .env(SPEC, spec.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let mut orders = child.0.stdin.take().expect("a pipe");
    let stdout = child.0.stdout.take().expect("a pipe");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let told = line.split_once(TOLD).map(|(_, told)| told.to_owned());
            if told.is_some_and(|told| sender.send(told).is_err()) {
                return;
            }
        }
    });
    let says = || lines.recv_timeout(GUARD).expect("the child says more");

    assert_eq!(says(), "ready");
    wait_for("the child to be ready", || (get(admin, "/readyz").code == 200).then_some(()));
    watching.on(0, async |shard: Shard| {
        for number in 0..TO_CHILD {
            shard.publish("to.child", number.to_string()).unwrap();
        }
        shard.flush().await.unwrap();
    });
    let pid = i32::try_from(child.0.id()).unwrap();
    // SAFETY: a bare system call; the child has not been waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert_eq!(says(), "draining");
    let unready = get(admin, "/readyz");
    assert_eq!((unready.code, unready.body.as_str()), (503, "the node is draining\n"));
    assert_eq!(get(admin, "/healthz").code, 200);
    assert_eq!(status(admin)["state"], "draining");
    assert_eq!(get(admin, "/metrics").code, 200);
    writeln!(orders, "go on").unwrap();
    assert_eq!(says(), format!("received {TO_CHILD}"), "what had arrived is handed to the application");
    let ended = wait_for("the child's end", || child.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    let numbers: Vec<u64> = (0..FROM_DRAIN).map(|_| arrivals.recv_timeout(GUARD).unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..FROM_DRAIN), "in order, and all of them");
    watching.end();
    assert!(arrivals.try_recv().is_err(), "and none twice");
}

#[test]
#[ignore = "the test of SIGTERM runs it in a process of its own"]
fn a_process_to_terminate() {
    let spec: Value = serde_json::from_str(&env::var(SPEC).expect("the parent says what to be")).unwrap();
    let servers: Vec<String> = serde_json::from_value(spec["servers"].clone()).unwrap();
    let (go_on, told) = oneshot::channel();
    thread::spawn(move || {
        let _order = stdin().lines().next();
        let _gone = go_on.send(());
    });
    // A closure that is cloned for each shard cannot own it; there is but one shard.
    let told = std::sync::Arc::new(std::sync::Mutex::new(Some(told)));
    let mut builder = Node::builder().cluster("c1", servers).shards(1);
    builder.config_mut().shards.pin = false;
    builder.config_mut().limits.drain_timeout = GUARD;
    builder
        .admin_listen(spec["admin"].as_str().expect("an address"))
        .run(async move |shard: Shard| {
            let draining = shard.clone();
            shard.on_drain(async move || {
                println!("{TOLD}draining");
                let told = told.lock().unwrap().take().expect("one drain");
                let _parent_gone = told.await;
                for number in 0..FROM_DRAIN {
                    draining.publish_wait("from.child", number.to_string()).await.unwrap();
                }
            });
            let mut to_child = shard.subscribe("to.child").await?;
            println!("{TOLD}ready");
            let mut received = 0;
            while let Some(message) = to_child.next().await {
                assert_eq!(message.payload(), received.to_string().as_bytes());
                received += 1;
                if received % 500 == 0 {
                    // Slower than they come: most of them wait when the signal does.
                    shard.sleep(Duration::from_millis(20)).await;
                }
            }
            println!("{TOLD}received {received}");
            Ok(())
        })
        .unwrap();
}
