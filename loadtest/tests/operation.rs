//! `croupier top` against a node, and `croupier doctor` on machines that lack something.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use croupier::Shard;
use croupier::testing::LocalCluster;
use futures_lite::future::block_on;

/// A user without any rights; the kernel counts what he locks.
const NOBODY: u32 = 65_534;
/// After this long something hangs.
const GUARD: Duration = Duration::from_secs(60);

fn croupier() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_croupier"));
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn top_prints_a_running_node_once_and_without_escape_codes() {
    let servers = LocalCluster::start(1).expect("a server");
    let mut builder = servers.builder().name("n1").shards(1).admin_listen("127.0.0.1:0");
    builder.config_mut().shards.pin = false;
    let node = builder.start(async |_| Ok(())).expect("a node");
    let handle = node.handle();
    let address = handle.admin_addr().expect("an admin server").to_string();
    let published = handle.submit_to(0, async |shard: Shard| {
        for _ in 0..7 {
            shard.publish("top", "x").expect("room");
        }
        shard.flush().await.expect("a server that answers");
    });
    block_on(published).expect("the shard runs");
    let deadline = Instant::now() + GUARD;
    // Without `--once`, too: this is no terminal.
    for arguments in
        [vec!["top", &address, "--once", "--interval", "100ms"], vec!["top", &address, "--interval", "100ms"]]
    {
        let shown = loop {
            let output = croupier().args(&arguments).output().expect("the program runs");
            let shown = text(&output.stdout);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            if shown.contains("running, ready") {
                break shown;
            }
            assert!(Instant::now() < deadline, "{shown}");
        };
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        for part in [
            "node\n",
            "n1",
            "shards\n",
            "links\n",
            "c1",
            " up ",
            "registry\n",
            "answers/s",
            "ping p99",
            "events of the node",
            "c1, shard 0: connected to 127.0.0.1:",
        ] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        let fates = shown.split_once("fates of publishes").expect("the fates").1;
        let fates = fates.lines().find(|line| line.trim_start().starts_with("c1")).expect("the link");
        assert_eq!(fates.split_ascii_whitespace().nth(2), Some("7"), "{shown}");
    }
    block_on(handle.drain()).expect("a drain");
    node.join().expect("a node that ends well");

    let gone = croupier().args(["top", &address, "--once"]).output().expect("the program runs");
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        text(&gone.stderr).contains("no node answers") && text(&gone.stderr).contains("node.admin_listen")
    );
}

#[test]
fn the_doctor_tells_of_everything_and_hears_a_file() {
    let output = croupier().arg("doctor").output().expect("the program runs");
    let shown = text(&output.stdout);
    for subject in [
        "kernel",
        "io_uring",
        "locked memory",
        "open files",
        "cores",
        "governor",
        "pressure",
        "clock",
        "clock sync",
        "nats-server",
    ] {
        assert!(shown.contains(subject), "{subject}:\n{shown}");
    }
    let is_failing = shown.lines().any(|line| line.starts_with("fail"));
    assert_eq!(output.status.code(), Some(i32::from(is_failing)), "{shown}");

    let path = std::env::temp_dir().join(format!("croupier-doctor-{}.toml", std::process::id()));
    fs::write(&path, "version = 1\n[shards]\ncpus = 5000\npin = false\n[[clusters]]\nservers = [\"a\"]\n")
        .expect("a file");
    let output = croupier().arg("doctor").arg(&path).output().expect("the program runs");
    assert!(text(&output.stdout).contains("5000 shards"), "{output:?}");
    fs::write(&path, "version = 1\n[shards]\ncpus = true\n").expect("a file");
    let output = croupier().arg("doctor").arg(&path).output().expect("the program runs");
    fs::remove_file(&path).expect("our file");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(text(&output.stderr).contains(":3:8:"), "{output:?}");
}

/// Both commands in a process that is prepared so: the doctor fails with the advice, and a start that fails
/// prints it below its error; neither panics.
fn check_advice(prepare: impl Fn(&mut Command), program: &PathBuf, subject: &str, parts: &[&str]) {
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).current_dir("/");
        prepare(&mut command);
        command.output().expect("the program runs")
    };
    let doctor = run(&["doctor"]);
    let shown = text(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    let line = shown.lines().find(|line| line.starts_with("fail")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains(subject), "{shown}");
    for part in parts {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    let start = run(&[
        "run",
        "--duration",
        "1s",
        "--warmup",
        "0s",
        "--shards",
        "1",
        "--clusters",
        "1",
        "--out",
        "none",
    ]);
    let told = text(&start.stderr);
    assert_eq!(start.status.code(), Some(78), "{start:?}");
    assert!(told.contains("croupier doctor says:") && !told.contains("panicked"), "{told}");
    for part in parts {
        assert!(told.matches(part).count() >= 2, "{part}:\n{told}");
    }
}

#[test]
fn a_user_without_rights_and_with_little_locked_memory_is_told_how_to_get_more() {
    // SAFETY: a bare question to the kernel.
    let is_root = unsafe { libc::geteuid() } == 0;
    // Where anybody can reach it: the target folder may be closed to others.
    let folder = std::env::temp_dir().join(format!("croupier-nobody-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("our folder");
    let program = folder.join("croupier");
    fs::copy(env!("CARGO_BIN_EXE_croupier"), &program).expect("a copy");
    let server = croupier::testing::nats_server::NatsServerBinary::find().expect("a server");
    let own_server = folder.join("nats-server");
    fs::copy(server, &own_server).expect("a copy");
    for path in [&program, &own_server] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our file");
    }
    let prepare = |command: &mut Command| {
        command.env("NATS_SERVER", &own_server).env("TMPDIR", std::env::temp_dir());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        // SAFETY: one system call, which neither allocates nor takes a lock, in the child before it begins.
        unsafe { command.pre_exec(little_locked_memory) };
    };
    check_advice(prepare, &program, "locked memory", &["ulimit -l ", "LimitMEMLOCK="]);
    fs::remove_dir_all(&folder).expect("our folder");
}

fn little_locked_memory() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
    // SAFETY: the kernel reads one `rlimit`, which lives through the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn where_io_uring_is_filtered_one_is_told_so_and_what_to_allow() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let prepare = move |command: &mut Command| {
            // SAFETY: two system calls, which neither allocate nor take a lock, in the child before it begins.
            unsafe { command.pre_exec(move || filter_io_uring(errno)) };
        };
        let program = PathBuf::from(env!("CARGO_BIN_EXE_croupier"));
        let name = if errno == libc::EPERM { "EPERM" } else { "ENOSYS" };
        check_advice(prepare, &program, "io_uring", &[name, "seccomp", "io_uring_setup"]);
    }
}

/// Has `io_uring_setup` fail, as in a container with the usual profile.
fn filter_io_uring(errno: libc::c_int) -> io::Result<()> {
    let statement = |code: u32, operand: u32, otherwise: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf: otherwise,
        k: operand,
    };
    let number = u32::try_from(libc::SYS_io_uring_setup).unwrap_or(0);
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap_or(0);
    let mut filter = [
        // The number of the call stands first in what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1),
        statement(libc::BPF_RET | libc::BPF_K, refusal, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: both calls read their arguments alone; the program and its four statements live through them.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}
