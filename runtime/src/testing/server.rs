//! One nats-server process: its ports, its log, its signals.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use super::{port::ReservedPort, spawner};

/// How much of a log an error shows.
const LOG_TAIL_BYTES: u64 = 2048;
/// How much of a log is searched for the word that a server is ready.
const START_LOG_BYTES_MAX: u64 = 256 << 10;

/// One server of a cluster, running or not; its ports stay its own in between.
#[derive(Debug)]
pub(super) struct Server {
    binary: PathBuf,
    name: String,
    cluster_name: String,
    client_port: ReservedPort,
    route_port: Option<ReservedPort>,
    /// Where it dials those servers of the cluster that are before it.
    dials: Vec<SocketAddr>,
    /// Whether it tells its clients of the others.
    advertises: bool,
    log: PathBuf,
    /// Where its configuration is, if it has one, and whether it says INFO only after a handshake.
    config: Option<(PathBuf, bool)>,
    /// Length of the log at the last start.
    log_start: u64,
    process: Option<Child>,
    has_run: bool,
    paused: bool,
}

impl Server {
    pub(super) fn new(
        binary: &Path,
        cluster_name: &str,
        node: usize,
        client_port: ReservedPort,
        dials: Option<Vec<SocketAddr>>,
        advertises: bool,
        logs: &Path,
    ) -> io::Result<Self> {
        // Counted from 1, as people name it; a file cannot be called c1/1.
        let name = format!("{cluster_name}-{}", node + 1);
        Ok(Self {
            binary: binary.to_owned(),
            log: logs.join(format!("{name}.log")),
            name,
            cluster_name: cluster_name.to_owned(),
            client_port,
            route_port: dials.is_some().then(ReservedPort::new).transpose()?,
            dials: dials.unwrap_or_default(),
            advertises,
            config: None,
            log_start: 0,
            process: None,
            has_run: false,
            paused: false,
        })
    }

    /// Gives it a configuration, which counts from the next start or reload on. Its own ports and
    /// cluster stand on the command line, which goes above it.
    pub(super) fn configure(&mut self, text: &str) -> io::Result<()> {
        let path = self.log.with_extension("conf");
        // A server does not reload its configuration when its name stands on the command line.
        fs::write(&path, format!("server_name: {:?}\n{text}", self.name))?;
        self.config = Some((path, text.contains("handshake_first")));
        Ok(())
    }

    pub(super) fn advertises(&self) -> bool {
        self.advertises
    }

    pub(super) fn is_configured(&self) -> bool {
        self.config.is_some()
    }

    /// Whether it greets a plain connection.
    pub(super) fn greets(&self) -> bool {
        !matches!(self.config, Some((_, true)))
    }

    /// Whether it has written that it is ready, since its last start.
    pub(super) fn says_ready(&self) -> bool {
        let read = || -> io::Result<String> {
            let mut log = File::open(&self.log)?;
            log.seek(SeekFrom::Start(self.log_start))?;
            let mut bytes = Vec::new();
            log.take(START_LOG_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().is_ok_and(|log| log.contains("Server is ready"))
    }

    pub(super) fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        self.log_start = log.metadata()?.len();
        let output = log.try_clone()?;
        let set = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(output).stderr(log);
            // An interrupt from the terminal is for this process, which may want to end its work with them.
            command.process_group(0);
        };
        self.process = Some(if self.has_run {
            spawner::spawn_again(&self.binary, self.arguments(), set)?
        } else {
            let mut command = Command::new(&self.binary);
            set(command.args(self.arguments()));
            spawner::spawn(command)?
        });
        self.has_run = true;
        self.paused = false;
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let local = Ipv4Addr::LOCALHOST;
        let client_port = self.client_port.number();
        let mut arguments = vec![format!("--addr={local}"), format!("--port={client_port}")];
        if let Some((config, _)) = &self.config {
            arguments.push(format!("--config={}", config.display()));
        } else {
            arguments.push(format!("--name={}", self.name));
        }
        if let Some(route_port) = &self.route_port {
            arguments.push(format!("--cluster_name={}", self.cluster_name));
            arguments.push(format!("--cluster=nats://{local}:{}", route_port.number()));
            let routes: Vec<String> = self.dials.iter().map(|address| format!("nats://{address}")).collect();
            if !routes.is_empty() {
                arguments.push(format!("--routes={}", routes.join(",")));
            }
            if !self.advertises {
                arguments.push("--no_advertise".to_owned());
            }
        }
        arguments
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.client_port.number()))
    }

    /// Where it takes routes.
    pub(super) fn route_address(&self) -> Option<SocketAddr> {
        self.route_port.as_ref().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())))
    }

    pub(super) fn log_path(&self) -> &Path {
        &self.log
    }

    /// The end of the log, for an error.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut log = File::open(&self.log)?;
            let length = fs::metadata(&self.log)?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_else(|error| format!("({} cannot be read: {error})", self.log.display()))
    }

    /// The process, unless it was killed or has ended by itself.
    pub(super) fn pid(&mut self) -> Option<u32> {
        match self.exited() {
            None => self.process.as_ref().map(Child::id),
            Some(_) => None,
        }
    }

    /// How the process has ended by itself.
    pub(super) fn exited(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().ok()?
    }

    /// Running, and able to answer.
    pub(super) fn is_answering(&mut self) -> bool {
        !self.paused && self.pid().is_some()
    }

    /// SIGKILL, and waits for the end. Whether there was a process.
    pub(super) fn kill(&mut self) -> io::Result<bool> {
        let Some(mut process) = self.process.take() else { return Ok(false) };
        self.paused = false;
        process.kill()?;
        process.wait()?;
        Ok(true)
    }

    /// Sends a signal. Whether there is a process to take it.
    pub(super) fn signal(&mut self, signal: i32) -> io::Result<bool> {
        let Some(pid) = self.pid() else { return Ok(false) };
        // SAFETY: `kill` touches no memory. The process is our child and not waited for, so that its
        // number cannot belong to another one.
        if unsafe { libc::kill(pid.cast_signed(), signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(true)
    }

    /// SIGSTOP, and waits until all threads stand still. Whether there was a process.
    pub(super) fn pause(&mut self) -> io::Result<bool> {
        let running = self.signal(libc::SIGSTOP)?;
        if let Some(process) = &self.process
            && running
        {
            wait_for_stop(process.id())?;
            self.paused = true;
        }
        Ok(running)
    }

    /// SIGCONT. Whether there was a process.
    pub(super) fn resume(&mut self) -> io::Result<bool> {
        self.paused = false;
        self.signal(libc::SIGCONT)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Waits until the child has stopped, or has ended, without collecting it.
fn wait_for_stop(pid: u32) -> io::Result<()> {
    loop {
        // SAFETY: `siginfo_t` is plain data, for which all zeros is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        // SAFETY: the kernel fills in one `siginfo_t`, which lives through the call.
        if unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, options) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
