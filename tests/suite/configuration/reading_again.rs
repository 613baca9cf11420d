//! SIGHUP: a node that was built from a file reads it again.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use croupier::{Node, PublishError, Shard, config::Sources, testing::LocalCluster};

use crate::support::{GUARD, permit, wait_for};

/// Where the child process finds its configuration.
const CHILD_FILE: &str = "CROUPIER_TEST_CONFIGURATION";

/// A child that does not outlive the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn write(path: &Path, server: &str, max_payload: usize, ping_interval: &str) {
    // A file is replaced as a whole, or the child may read half of it.
    let next = path.with_extension("next");
    let text = format!(
        "version = 1\n[shards]\npin = false\n[[clusters]]\nservers = [\"{server}\"]\n\
         [connection]\nping_interval = \"{ping_interval}\"\n[limits]\nmax_payload = {max_payload}\n"
    );
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, path).unwrap();
}

#[test]
fn sighup_reads_the_file_again_and_applies_all_of_it_or_nothing() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let server = &servers.servers(0)[0];
    write(&path, server, 1000, "2s");
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "configuration::reading_again::a_process_that_is_told_again",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_FILE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ending(child);
    let (sender, lines) = mpsc::channel();
    let stdout = child.0.stdout.take().expect("a pipe");
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The test may have heard enough.
            let _heard = sender.send(line);
        }
    });
    let says =
        |words: &str| while !lines.recv_timeout(GUARD).expect("the child says more").contains(words) {};
    let pid = i32::try_from(child.0.id()).unwrap();
    // SAFETY: a bare system call; the child has not been waited for, so the number is still its own.
    let signal = |signal| assert_eq!(unsafe { libc::kill(pid, signal) }, 0);

    says("at most 1000");
    write(&path, server, 2000, "2s");
    signal(libc::SIGHUP);
    says("event reloaded");
    // The interval cannot change, so the payload does not either; the next file can.
    write(&path, server, 3000, "3s");
    signal(libc::SIGHUP);
    says("event reload_refused");
    says("stays as it was");
    write(&path, server, 4000, "2s");
    signal(libc::SIGHUP);
    says("at most 4000");
    std::fs::write(&path, "nonsense").unwrap();
    signal(libc::SIGHUP);
    says("event reload_refused");
    says("stays as it was");
    signal(libc::SIGTERM);
    let status = wait_for("the child's end", || child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let rest: Vec<String> = lines.iter().collect();
    assert!(rest.iter().all(|line| !line.contains("at most")), "{rest:?}");
}

#[test]
#[ignore = "the test of SIGHUP runs it in a process of its own"]
fn a_process_that_is_told_again() {
    let path = std::env::var_os(CHILD_FILE).expect("the parent names a file");
    // What goes wrong is logged, and only that.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .init();
    let builder = Node::from_sources(&Sources::new().file(path)).unwrap();
    builder
        .shards(1)
        .on_event(|event| println!("event {}", event.name()))
        .run(async |shard: Shard| {
            let mut known = 0;
            let watching = shard.clone();
            shard.spawn(async move {
                loop {
                    let error = watching.publish("told", [0; 10_000]).unwrap_err();
                    match error {
                        PublishError::PayloadTooLarge { limit_bytes, .. } if limit_bytes != known => {
                            println!("at most {limit_bytes}");
                            known = limit_bytes;
                        }
                        PublishError::PayloadTooLarge { .. } => {}
                        other => panic!("{other}"),
                    }
                    watching.sleep(Duration::from_millis(5)).await;
                }
            });
            let mut messages = shard.subscribe("ends.with.the.drain").await?;
            while messages.next().await.is_some() {}
            Ok(())
        })
        .unwrap();
}
