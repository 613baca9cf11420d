//! A node in a process of its own, so that it can be killed.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use croupier::{BoxError, Message, Node, RegistryConfig, ServiceSpec, Shard};

use crate::{
    registry_rig::{REGISTRY, RegistryRig, SECRET},
    rig::text,
    support::GUARD,
};

/// The servers, by cluster between blanks and by server between commas; where a peer is; type of service,
/// and how many.
const SERVERS: &str = "CROUPIER_TEST_WORKER_SERVERS";
const SEED: &str = "CROUPIER_TEST_WORKER_SEED";
const KIND: &str = "CROUPIER_TEST_WORKER_KIND";
const SERVICES: &str = "CROUPIER_TEST_WORKER_SERVICES";

/// The name of the node.
pub(crate) const WORKER: &str = "worker";
/// A request with this payload is never answered.
pub(crate) const NEVER: &str = "never answer";

const OFFERED: &str = "worker: offered";
const TAKEN: &str = "worker: taken";

/// A process with a node of one shard that offers services with the ids `w0`, `w1`, .., each of which
/// answers with its id, a colon and the payload. Killed when it is dropped.
pub(crate) struct WorkerProcess {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl WorkerProcess {
    /// Starts it; returns when its services are offered. The rig is to have room for a guest.
    pub(crate) fn start(rig: &RegistryRig, kind: &str, services: usize) -> WorkerProcess {
        let clusters = (0..rig.servers.clusters()).map(|cluster| rig.servers.servers(cluster).join(","));
        let seed = rig.running().find_map(|node| node.registry_addr()).expect("a node with a registry");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "dispatch::worker_process::a_process_that_offers_services"])
            .args(["--ignored", "--nocapture"])
            .env(SERVERS, clusters.collect::<Vec<_>>().join(" "))
            .env(SEED, seed.to_string())
            .env(KIND, kind)
            .env(SERVICES, services.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The test may have heard enough.
                let _heard = sender.send(line);
            }
        });
        let worker = WorkerProcess { child, lines };
        worker.says(OFFERED);
        worker
    }

    /// Waits until it has taken a request that it does not answer.
    pub(crate) async fn has_taken_one(&self) {
        loop {
            match self.lines.try_recv() {
                Ok(line) if line.contains(TAKEN) => return,
                Ok(_) => {}
                // The test's other tasks go on meanwhile: one of them sends the request.
                Err(mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(mpsc::TryRecvError::Disconnected) => panic!("the process has ended"),
            }
        }
    }

    /// Ends it at once: no word to anybody.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn says(&self, words: &str) {
        while !self.lines.recv_timeout(GUARD).expect("the process says more").contains(words) {}
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn a_process_that_offers_services() {
    let servers = env::var(SERVERS).expect("only other tests run this one");
    let (kind, count) = (env::var(KIND).unwrap(), env::var(SERVICES).unwrap().parse::<usize>().unwrap());
    let registry =
        RegistryConfig::new(REGISTRY).bind("127.0.0.1:0").secret(SECRET).seed(env::var(SEED).unwrap());
    let builder = servers.split(' ').enumerate().fold(Node::builder(), |builder, (index, servers)| {
        builder.cluster(format!("c{}", index + 1), servers.split(','))
    });
    let mut builder = builder.name(WORKER).registry(registry).shards(1);
    builder.config_mut().shards.pin = false;
    let app = async move |shard: Shard| -> Result<(), BoxError> {
        for number in 0..count {
            let id = format!("w{number}");
            let mut me = shard.registry().add_service(ServiceSpec::new(&kind).id(&id)).await?;
            shard.spawn(async move {
                let mut kept = Vec::new();
                while let Some(request) = me.next_request().await {
                    kept.extend(serve(&id, request));
                }
            });
        }
        println!("{OFFERED}");
        std::future::pending().await
    };
    builder.run(app).unwrap();
}

/// Answers a request, or gives it back.
fn serve(id: &str, request: Message) -> Option<Message> {
    if request.payload() == NEVER.as_bytes() {
        println!("{TAKEN}");
        return Some(request);
    }
    request.respond(format!("{id}:{}", text(request.payload()))).unwrap();
    None
}
