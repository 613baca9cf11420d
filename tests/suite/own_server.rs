//! One nats-server with a configuration and a monitoring port, for what a plain local cluster cannot show.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use croupier::testing::nats_server::NatsServerBinary;
use tempfile::TempDir;

use crate::support::wait_for;

/// Killed when it is dropped.
pub(crate) struct OwnServer {
    folder: TempDir,
    process: Child,
    client: String,
    monitor: String,
}

impl OwnServer {
    /// Starts a server with this configuration on free ports; returns when it answers.
    pub(crate) fn start(config: &str) -> OwnServer {
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(&folder, config, "-1");
        let (client, monitor) = ports(&folder, process.id());
        OwnServer { folder, process, client, monitor }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.client)
    }

    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _dead = self.process.kill();
        self.process.wait().unwrap();
    }

    /// Starts it again on its port, with another configuration.
    pub(crate) fn restart(&mut self, config: &str) {
        self.kill();
        let port = self.client.rsplit_once(':').unwrap().1.to_owned();
        self.process = spawn(&self.folder, config, &port);
        let (client, monitor) = ports(&self.folder, self.process.id());
        assert_eq!(client, self.client);
        self.monitor = monitor;
    }

    /// What a path of the monitoring port says.
    pub(crate) fn monitoring(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.monitor).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &TempDir, config: &str, port: &str) -> Child {
    let file = folder.path().join("server.conf");
    fs::write(&file, config).unwrap();
    Command::new(NatsServerBinary::find().unwrap())
        .args(["--addr", "127.0.0.1", "--port", port, "--http_port", "-1", "--config"])
        .arg(file)
        .arg("--ports_file_dir")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The client's and the monitor's `host:port`, which the server writes down once it listens.
fn ports(folder: &TempDir, pid: u32) -> (String, String) {
    let binary = NatsServerBinary::find().unwrap();
    let program = binary.file_name().expect("a program has a name").to_string_lossy().into_owned();
    let file = folder.path().join(format!("{program}_{pid}.ports"));
    wait_for("the server's ports", || {
        let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
        let address = |kind: &str| Some(ports[kind][0].as_str()?.rsplit_once("//")?.1.to_owned());
        Some((address("nats")?, address("monitoring")?))
    })
}
