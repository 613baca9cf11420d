//! One local nats-server, set up so that a flood ends nobody's connection, and what it has counted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde::Deserialize;

use crate::error::BenchError;

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(10);
/// How long the server may take to publish its own counts after the last message.
const COUNT_MAX: Duration = Duration::from_secs(5);
/// Between two looks at a file or a count.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The most that is read of an answer of the monitoring port.
const MONITOR_BYTES_MAX: u64 = 1024 * 1024;

/// A client that is slow to read is throttled long before this, so it is never cut off as a slow consumer.
const CONFIGURATION: &str = "max_pending: 1GB\nwrite_deadline: \"60s\"\n";

/// A running server. It ends when this is dropped, or with this process.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    monitor: SocketAddr,
    ca_file: Option<PathBuf>,
}

/// Messages and payload bytes that a server has received from its clients since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Received {
    /// How many messages.
    #[serde(rename = "in_msgs")]
    pub messages: u64,
    /// How many payload bytes.
    #[serde(rename = "in_bytes")]
    pub bytes: u64,
}

/// The file in which nats-server says where it listens.
#[derive(Debug, Deserialize)]
struct Ports {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

impl NatsServer {
    /// Starts this binary on free loopback ports.
    ///
    /// # Errors
    /// If it does not start to listen within ten seconds.
    pub fn start(binary: &Path) -> Result<Self, BenchError> {
        Self::start_in(binary, folder("plain")?, "", None)
    }

    /// Starts it with a certificate of its own making, so that clients may encrypt their connections, or not.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn start_with_certificate(binary: &Path) -> Result<Self, BenchError> {
        let folder = folder("tls")?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(BenchError::io("write the server's certificate")).map(|()| path)
        };
        let names = vec![Ipv4Addr::LOCALHOST.to_string()];
        let made = rcgen::generate_simple_self_signed(names).map_err(BenchError::client("rcgen"))?;
        let certificate = write("server.pem", made.cert.pem())?;
        let key = write("server.key", made.signing_key.serialize_pem())?;
        let tls = format!("allow_non_tls: true\ntls {{ cert_file: {certificate:?}, key_file: {key:?} }}\n");
        Self::start_in(binary, folder, &tls, Some(certificate))
    }

    fn start_in(
        binary: &Path,
        folder: PathBuf,
        more: &str,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, BenchError> {
        let configuration = folder.join("nats-server.conf");
        fs::write(&configuration, CONFIGURATION.to_owned() + more)
            .map_err(BenchError::io("write the server's configuration"))?;
        let mut command = Command::new(binary);
        command
            .args(["--addr", "127.0.0.1", "--port", "-1", "--http_port", "-1", "--ports_file_dir"])
            .arg(&folder)
            .arg("--config")
            .arg(&configuration)
            .arg("--log")
            .arg(folder.join("nats-server.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec only async-signal-safe calls are allowed, and prctl is one.
        unsafe { command.pre_exec(end_with_parent) };
        let child = command.spawn().map_err(BenchError::io("start nats-server"))?;

        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Self { child, folder, address: nowhere, monitor: nowhere, ca_file };
        let ports = server.wait_for_ports()?;
        server.address = loopback(ports.nats.first())?;
        server.monitor = loopback(ports.monitoring.first())?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom clients must trust to encrypt; nothing without a certificate.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.ca_file.clone()
    }

    fn wait_for_ports(&mut self) -> Result<Ports, BenchError> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(ports) = self.ports() {
                return Ok(ports);
            }
            if let Some(status) = self.child.try_wait().map_err(BenchError::io("look after nats-server"))? {
                let log = fs::read_to_string(self.folder.join("nats-server.log")).unwrap_or_default();
                return Err(BenchError::Server { reason: format!("ended at once with {status}: {log}") });
            }
            if Instant::now() > deadline {
                return Err(BenchError::Server { reason: format!("does not listen after {START_MAX:?}") });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// `None` until the file is there and whole.
    fn ports(&self) -> Option<Ports> {
        let suffix = format!("_{}.ports", self.child.id());
        let mut files = fs::read_dir(&self.folder).ok()?.filter_map(Result::ok);
        let file = files.find(|file| file.file_name().to_string_lossy().ends_with(&suffix))?;
        serde_json::from_str(&fs::read_to_string(file.path()).ok()?).ok()
    }

    /// What it has received by its own count.
    ///
    /// # Errors
    /// If the monitoring port does not answer.
    pub fn received(&self) -> Result<Received, BenchError> {
        let mut stream =
            TcpStream::connect(self.monitor).map_err(BenchError::io("connect to the monitoring port"))?;
        stream.set_read_timeout(Some(COUNT_MAX)).map_err(BenchError::io("set the monitoring socket"))?;
        stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").map_err(BenchError::io("ask the monitoring port"))?;
        let mut answer = String::new();
        let read = stream.take(MONITOR_BYTES_MAX).read_to_string(&mut answer);
        read.map_err(BenchError::io("read from the monitoring port"))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|error| BenchError::Server { reason: format!("/varz: {error}") })
    }

    /// What it has received since `before`, once that is `messages`; after five seconds, however much it is.
    /// The server adds to its counts a little after it has passed the messages on.
    ///
    /// # Errors
    /// If the monitoring port does not answer.
    pub fn received_since(&self, before: Received, messages: u64) -> Result<Received, BenchError> {
        let deadline = Instant::now() + COUNT_MAX;
        loop {
            let total = self.received()?;
            let since =
                Received { messages: total.messages - before.messages, bytes: total.bytes - before.bytes };
            if since.messages == messages || Instant::now() > deadline {
                return Ok(since);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about a folder that does not go.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn folder(kind: &str) -> Result<PathBuf, BenchError> {
    let folder = std::env::temp_dir().join(format!("croupier-bench-{kind}-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(BenchError::io("make the server's folder"))?;
    Ok(folder)
}

fn end_with_parent() -> std::io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal and touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The port of a URL such as `nats://127.0.0.1:4222`, on the loopback.
fn loopback(url: Option<&String>) -> Result<SocketAddr, BenchError> {
    let port = url.and_then(|url| url.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
    let unreadable = || BenchError::Server { reason: format!("says that it listens at {url:?}") };
    let port: u16 = port.ok_or_else(unreadable)?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_what_follows_the_last_colon() {
        let address = loopback(Some(&"nats://127.0.0.1:4333".to_owned())).unwrap();
        assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], 4333)));
        assert!(loopback(Some(&"nats://host".to_owned())).is_err());
        assert!(loopback(None).is_err());
    }
}
