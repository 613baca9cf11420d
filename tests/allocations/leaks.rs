//! What nodes leave behind, and what an idle one costs.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use croupier::{Shard, testing::LocalCluster};

use crate::alone;

/// Starts and stops of the long run.
const ROUNDS: usize = 100;
/// How long a node idles while its processor time is taken.
const IDLE: Duration = Duration::from_secs(10);
/// After this long something hangs.
const GUARD: Duration = Duration::from_secs(60);

#[test]
fn a_hundred_starts_and_stops_leave_no_thread_and_no_file_open() {
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    start_and_stop(&servers);
    let before = Held::of_this_process();
    for _ in 0..ROUNDS {
        start_and_stop(&servers);
    }
    let after = settled(before);
    println!("before {before:?}, after {ROUNDS} starts and stops {after:?}");
    assert_eq!((after.threads, after.files), (before.threads, before.files));
    // glommio leaks one for each executor.
    assert!(after.eventfds <= before.eventfds + ROUNDS, "{} eventfds more", after.eventfds - before.eventfds);
}

#[test]
fn a_dropped_node_ends_its_threads() {
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    let before = Held::of_this_process();
    let node = servers.builder().shards(2).start(async |_| std::future::pending().await).unwrap();
    // Two shards, a watchdog, and what glommio starts beside each executor.
    assert!(Held::of_this_process().threads >= before.threads + 3);
    drop(node);
    assert_eq!(settled(before).threads, before.threads);
}

#[test]
fn an_idle_node_of_two_shards_burns_hardly_any_time() {
    let _alone = alone();
    let servers = LocalCluster::start(1).unwrap();
    let node = servers.builder().shards(2).start(use_the_cluster).unwrap();
    thread::sleep(Duration::from_secs(1));
    let (began, before) = (Instant::now(), processor_time());
    thread::sleep(IDLE);
    let (burnt, lasted) = (processor_time() - before, began.elapsed());
    let percent = 100.0 * burnt.as_secs_f64() / lasted.as_secs_f64();
    println!(
        "a node of 2 shards, idle for {lasted:?}: {burnt:?} of processor time, {percent:.2} % of a core"
    );
    assert!(percent < 5.0, "{percent:.2} % of a core");
    assert!(node.handle().stats().iter().all(|shard| shard.links[0].connected));
    drop(node);
}

fn start_and_stop(servers: &LocalCluster) {
    servers.builder().shards(1).run(use_the_cluster).unwrap();
}

async fn use_the_cluster(shard: Shard) -> Result<(), croupier::BoxError> {
    let mut messages = shard.timeout(GUARD, shard.subscribe("leaks")).await??;
    shard.publish("leaks", "x")?;
    shard.timeout(GUARD, messages.next()).await?.expect("a message");
    Ok(())
}

/// What this process holds of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    threads: usize,
    files: usize,
    eventfds: usize,
}

impl Held {
    fn of_this_process() -> Held {
        let names = |folder: &str| {
            let entries = fs::read_dir(folder).unwrap();
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>()
        };
        let is_ours = |task: &std::path::PathBuf| {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            // Where child processes are forked lives as long as this process, on purpose.
            name.starts_with("croupier-") && !name.starts_with("croupier-spawn")
        };
        let threads = names("/proc/self/task").iter().filter(|task| is_ours(task)).count();
        let targets: Vec<_> =
            names("/proc/self/fd").iter().filter_map(|file| fs::read_link(file).ok()).collect();
        let eventfds = targets.iter().filter(|target| target.ends_with("anon_inode:[eventfd]")).count();
        Held { threads, files: targets.len() - eventfds, eventfds }
    }
}

/// What is held once the threads are as many as before; whatever it is after the guard.
fn settled(before: Held) -> Held {
    let deadline = Instant::now() + GUARD;
    loop {
        let held = Held::of_this_process();
        let is_settled = held.threads == before.threads && held.files == before.files;
        if is_settled || Instant::now() > deadline {
            return held;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// User and system time of all threads of this process so far.
fn processor_time() -> Duration {
    // SAFETY: all bits zero are a valid `rusage`, which is integers throughout.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for writing for the time of the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}
