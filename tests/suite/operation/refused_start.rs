//! An application whose node cannot start on this machine is told why, and its log has what the doctor says.

use std::{
    env, io,
    process::{Command, Stdio},
};

use croupier::{Error, Node};

/// Open files of the process, which has a few of its own: too few for any node.
const OPEN_FILES: u64 = 24;

#[test]
fn an_application_is_told_what_the_machine_lacks() {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "operation::refused_start::a_process_with_few_files", "--ignored", "--nocapture"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let error = told.lines().find_map(|line| line.split_once("> error: ")).expect("an error").1;
    assert!(error.contains("open files"), "{told}");
    let logged =
        told.lines().find(|line| line.contains("subject=\"open files\"")).expect("a line of the log");
    assert!(logged.contains("ERROR") && logged.contains("ulimit -n"), "{told}");
}

#[test]
#[ignore = "the test of a refused start runs it in a process of its own"]
fn a_process_with_few_files() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(io::stdout)
        .init();
    let limit = libc::rlimit { rlim_cur: OPEN_FILES, rlim_max: OPEN_FILES };
    // SAFETY: the kernel reads one `rlimit`, which lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let mut builder = Node::builder().cluster("c1", ["nats://127.0.0.1:4222"]).shards(1);
    builder.config_mut().shards.pin = false;
    let error = builder.start(async |_| Ok(())).unwrap_err();
    assert!(error.is_of_the_machine(), "{error}");
    println!("\n> error: {error}");
    let of_the_caller = Node::builder().start(async |_| Ok(())).unwrap_err();
    assert!(matches!(of_the_caller, Error::Config(_)) && !of_the_caller.is_of_the_machine());
}
