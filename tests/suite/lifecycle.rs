//! How a node starts, drains, fails and ends.

use std::{
    cell::RefCell,
    fmt,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use croupier::{
    Error, Node, OwnedMessage, PublishError, RequestError, Shard, SubmitError, testing::LocalCluster,
};
use futures_lite::future::{self, block_on};

use crate::support::{GUARD, TestNode, on_one_shard, permit, wait_for};

/// Where the child process of a signal test finds its server, and what it is to do.
const CHILD_SERVER: &str = "CROUPIER_TEST_CHILD_SERVER";
const CHILD_IS_STUBBORN: &str = "CROUPIER_TEST_CHILD_IS_STUBBORN";

#[test]
fn a_drain_delivers_what_is_queued_and_then_ends_the_streams() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let (ready, is_ready) = mpsc::channel();
    let node = servers
        .builder()
        .shards(2)
        .start(async move |shard: Shard| {
            let topic = format!("drain.{}", shard.id());
            let mut messages = shard.subscribe(&topic).await?;
            for number in 0..1000 {
                shard.publish(&topic, number.to_string())?;
            }
            shard.flush().await?;
            ready.send(())?;
            // The drain finds a full queue, and an app that takes its time.
            shard.sleep(Duration::from_millis(50)).await;
            while messages.next().await.is_some() {
                if counted.fetch_add(1, Ordering::AcqRel).is_multiple_of(100) {
                    shard.sleep(Duration::from_millis(1)).await;
                }
            }
            Ok(())
        })
        .unwrap();
    for _ in 0..2 {
        is_ready.recv_timeout(GUARD).unwrap();
    }
    block_on(node.handle().drain()).unwrap();
    node.join().unwrap();
    assert_eq!(taken.load(Ordering::Acquire), 2000);
}

#[test]
fn a_drain_sends_what_was_published_before_it() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let other = TestNode::start(servers.builder(), 1);
    let mut messages = block_on(other.handle.subscribe("last.words")).unwrap();
    let node = TestNode::start(servers.builder(), 1);
    node.on(0, async |shard: Shard| {
        for number in 0..500 {
            shard.publish("last.words", number.to_string()).unwrap();
        }
    });
    let handle = node.handle.clone();
    node.end();
    let link = handle.stats()[0].links[0].clone();
    assert_eq!((link.accepted, link.processed, link.discarded), (500, 500, 0), "{link:?}");
    for number in 0..500 {
        let message: OwnedMessage = block_on(messages.next()).unwrap();
        assert_eq!(message.payload(), number.to_string().as_bytes());
    }
    other.end();
    assert!(block_on(messages.next()).is_none());
}

#[test]
fn drain_hooks_run_last_first_and_may_still_publish() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let other = TestNode::start(servers.builder(), 1);
    let mut messages = block_on(other.handle.subscribe("hooks")).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        for number in 0..3 {
            let publisher = shard.clone();
            shard.on_drain(async move || {
                publisher.sleep(Duration::from_millis(5)).await;
                publisher.publish("hooks", number.to_string()).unwrap();
            });
        }
    });
    for number in [2, 1, 0] {
        assert_eq!(block_on(messages.next()).unwrap().payload(), number.to_string().as_bytes());
    }
    other.end();
}

#[test]
fn a_drain_hook_that_panics_takes_nothing_with_it() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let ran = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&ran);
    on_one_shard(servers.builder(), async move |shard: Shard| {
        shard.on_drain(async move || {
            counted.fetch_add(1, Ordering::AcqRel);
        });
        shard.on_drain(async || panic!("this panic is part of the test"));
    });
    assert_eq!(ran.load(Ordering::Acquire), 1);
}

/// An error of an application.
#[derive(Debug, PartialEq)]
struct OutOfCoffee(u32);

impl fmt::Display for OutOfCoffee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cups short", self.0)
    }
}

impl std::error::Error for OutOfCoffee {}

/// One shard fails, the other waits for messages that never come.
async fn fails_on_shard_1(shard: Shard) -> Result<(), croupier::BoxError> {
    if shard.id() == 1 {
        return Err(Box::new(OutOfCoffee(3)));
    }
    let mut messages = shard.subscribe("never").await?;
    assert!(messages.next().await.is_none());
    Ok(())
}

#[test]
fn an_error_of_the_application_is_what_run_and_join_return() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let started = servers.builder().shards(2).start(fails_on_shard_1).unwrap().join();
    for outcome in [started, servers.builder().shards(2).run(fails_on_shard_1)] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::App(_)), "{error:?}");
        let source = std::error::Error::source(&error).expect("a source");
        assert_eq!(source.downcast_ref(), Some(&OutOfCoffee(3)));
        assert!(error.to_string().contains("3 cups short"), "{error}");
    }
}

#[test]
fn a_panic_of_the_application_is_what_run_returns() {
    let _permit = permit(2);
    let servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder().shards(2);
    builder.config_mut().limits.drain_timeout = Duration::from_millis(200);
    let outcome = builder.run(async |shard: Shard| {
        assert!(shard.id() == 0, "this panic is part of the test");
        future::pending().await
    });
    match outcome.unwrap_err() {
        Error::AppPanicked { shard: 1, message } => assert_eq!(message, "this panic is part of the test"),
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_panicking_task_ends_alone_and_is_counted() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), async |shard: Shard| {
        let order: Rc<RefCell<Vec<&str>>> = Rc::default();
        let (first, other) = (Rc::clone(&order), Rc::clone(&order));
        let sleeper = shard.clone();
        shard.spawn(async move {
            first.borrow_mut().push("panics");
            panic!("this panic is part of the test");
        });
        shard.spawn(async move {
            sleeper.sleep(Duration::from_millis(5)).await;
            other.borrow_mut().push("goes on");
        });
        while order.borrow().len() < 2 {
            shard.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*order.borrow(), ["panics", "goes on"]);
        assert_eq!(shard.stats().task_panics, 1);
        let outcome = shard.submit_to(0, async |_| -> () { panic!("this panic is part of the test") }).await;
        let error: SubmitError = outcome.unwrap_err();
        assert!(matches!(&error, SubmitError::Panicked { shard: 0, .. }), "{error:?}");
        assert_eq!(shard.stats().task_panics, 1, "the caller was told instead");
    });
}

#[test]
fn an_application_that_does_not_end_is_cancelled_at_the_drain_timeout() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder().shards(1);
    builder.config_mut().limits.drain_timeout = Duration::from_millis(200);
    let (dropped, is_dropped) = mpsc::channel();
    let node = builder
        .start(async move |shard: Shard| {
            struct Word(mpsc::Sender<&'static str>);
            impl Drop for Word {
                fn drop(&mut self) {
                    let _heard = self.0.send("dropped");
                }
            }
            let _app = Word(dropped.clone());
            let task = Word(dropped);
            shard.spawn(async move {
                let _task = task;
                future::pending::<()>().await;
            });
            future::pending().await
        })
        .unwrap();
    block_on(node.handle().drain()).unwrap();
    node.join().unwrap();
    assert_eq!(is_dropped.iter().collect::<Vec<_>>(), ["dropped", "dropped"]);
}

#[test]
fn a_started_node_runs_on_after_its_application_and_a_drained_one_says_so() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let node = TestNode::start(servers.builder(), 1);
    node.on(0, async |shard: Shard| shard.flush().await.unwrap());
    let handle = node.handle.clone();
    node.end();
    assert!(matches!(handle.publish("late", "x"), Err(PublishError::Disconnected { .. })));
    let refused = block_on(handle.request("late", "x")).unwrap_err();
    assert!(matches!(refused, RequestError::Disconnected { sent: false, .. }), "{refused:?}");
    let refused = block_on(handle.submit_to(0, async |_| ())).unwrap_err();
    assert!(matches!(refused, SubmitError::Stopped { shard: 0 }), "{refused:?}");
    assert!(block_on(handle.subscribe("late")).is_err());
    block_on(handle.drain()).unwrap();
}

#[test]
fn what_is_still_queued_for_a_dead_cluster_at_the_end_is_discarded_and_counted() {
    let _permit = permit(1);
    let mut servers = LocalCluster::start(1).unwrap();
    let mut builder = servers.builder();
    builder.config_mut().limits.drain_timeout = Duration::from_millis(300);
    let node = TestNode::start(builder, 1);
    node.on(0, async |shard: Shard| shard.subscribe("x").await.map(drop).unwrap());
    servers.kill(0, 0).unwrap();
    wait_for("the disconnect", || (!node.link(0, "c1").connected).then_some(()));
    node.on(0, async |shard: Shard| (0..10).for_each(|_| shard.publish("x", "y").unwrap()));
    let handle = node.handle.clone();
    node.end();
    let link = handle.stats()[0].links[0].clone();
    assert_eq!((link.accepted, link.discarded, link.queued), (10, 10, 0), "{link:?}");
}

/// The test binary as a process of its own that runs a node.
struct RunningChild {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl RunningChild {
    fn start(servers: &LocalCluster, is_stubborn: bool) -> RunningChild {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "lifecycle::a_process_that_waits_for_signals", "--ignored", "--nocapture"])
            .env(CHILD_SERVER, &servers.servers(0)[0])
            .stdout(Stdio::piped());
        if is_stubborn {
            command.env(CHILD_IS_STUBBORN, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = read_lines(child.stdout.take().expect("a pipe"));
        let running = RunningChild { child, lines };
        running.says("the node runs");
        running
    }

    /// Waits until the child has said so.
    fn says(&self, words: &str) {
        while !self.lines.recv_timeout(GUARD).expect("the child says more").contains(words) {}
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: a bare system call; the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn ends(mut self) -> ExitStatus {
        wait_for("the child's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn read_lines(from: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // The test may have heard enough.
            let _heard = sender.send(line);
        }
    });
    lines
}

#[test]
fn a_signal_drains_the_node_that_runs() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let child = RunningChild::start(&servers, false);
        child.signal(signal);
        child.says("the hook ran");
        child.says("the stream ended");
        child.says("the node has drained");
        assert_eq!(child.ends().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let child = RunningChild::start(&servers, true);
        child.signal(libc::SIGTERM);
        child.says("the hook ran");
        child.signal(signal);
        assert_eq!(child.ends().code(), Some(128 + signal));
    }
}

#[test]
#[ignore = "the tests of signals run it in a process of its own"]
fn a_process_that_waits_for_signals() {
    let server = std::env::var(CHILD_SERVER).expect("the parent names a server");
    let is_stubborn = std::env::var_os(CHILD_IS_STUBBORN).is_some();
    let mut builder = Node::builder().cluster("c1", [server]).shards(1);
    builder.config_mut().shards.pin = false;
    builder.config_mut().limits.drain_timeout = GUARD;
    builder
        .run(async move |shard: Shard| {
            let sleeper = shard.clone();
            shard.on_drain(async move || {
                println!("the hook ran");
                if is_stubborn {
                    sleeper.sleep(10 * GUARD).await;
                }
            });
            let mut messages = shard.subscribe("signals").await?;
            println!("the node runs");
            assert!(messages.next().await.is_none());
            println!("the stream ended");
            Ok(())
        })
        .unwrap();
    println!("the node has drained");
}
