//! The peer nats.c: a C program, compiled when it is wanted and where its header and library are.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use crate::async_nats_client::PUBLISH_BATCH;
use crate::croupier_client::REQUEST_BATCH;
use crate::error::BenchError;
use crate::figure::Work;
use crate::receiving::{CONTROL_LINE_BYTES, Length, ORDER_BYTES, ORDERS_OUT};
use crate::traffic::{DATA_SUBJECT, DISTINCT_PAYLOADS, ECHO_SUBJECT, FLOOD_SUBJECT, STAMP_BYTES, STAMP_STEP};
use crate::worker::{Assignment, WARM_UP};

const SOURCE: &str = include_str!("nats_c/worker.c");

/// The compiled worker, and the library's version. Its folder goes with it.
#[derive(Debug)]
pub struct NatsC {
    folder: PathBuf,
    version: String,
}

/// Why there is no [`NatsC`] here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsCMissing {
    /// No C compiler.
    #[error("no C compiler: `cc` is not there")]
    Compiler,
    /// No header.
    #[error("nats/nats.h is not there: Debian's package is libnats-dev")]
    Header,
    /// Both are there, and yet it does not work.
    #[error("{0}")]
    Broken(String),
}

impl NatsC {
    /// Compiles the worker into a temporary folder.
    ///
    /// # Errors
    /// With what is missing.
    pub fn compile() -> Result<Self, NatsCMissing> {
        let folder = env::temp_dir().join(format!("croupier-bench-nats-c-{}", std::process::id()));
        let mut nats_c = Self { folder, version: String::new() };
        let broken = |error: std::io::Error| NatsCMissing::Broken(error.to_string());
        fs::create_dir_all(&nats_c.folder).map_err(broken)?;
        let source = nats_c.folder.join("worker.c");
        fs::write(&source, SOURCE).map_err(broken)?;
        let compiled = Command::new("cc")
            .args(["-O2", "-std=gnu11", "-Wall", "-Wextra", "-pthread"])
            .args(definitions())
            .arg("-o")
            .args([&nats_c.program(), &source])
            .arg("-lnats")
            .output();
        let output = compiled.map_err(|error| match error.kind() {
            ErrorKind::NotFound => NatsCMissing::Compiler,
            _ => broken(error),
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("nats/nats.h: No such file") {
                return Err(NatsCMissing::Header);
            }
            let line = said.lines().find(|line| line.contains("error")).unwrap_or("the compiler fails");
            return Err(NatsCMissing::Broken(line.to_owned()));
        }
        let asked = Command::new(nats_c.program()).arg("version").output().map_err(broken)?;
        if !asked.status.success() {
            return Err(NatsCMissing::Broken("the compiled worker does not run".to_owned()));
        }
        nats_c.version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        Ok(nats_c)
    }

    /// The library's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The process that does this work.
    pub fn command(&self, assignment: &Assignment) -> Command {
        let Assignment { figure, address, length, .. } = assignment;
        let (work, in_flight) = match figure.work() {
            Work::Publish => ("publish", 1),
            Work::Receive => ("receive", 1),
            Work::Request { in_flight } => ("request", in_flight),
        };
        let mut command = Command::new(self.program());
        command
            .args([work, &in_flight.to_string(), &figure.payload_bytes().to_string()])
            .args([format!("nats://{address}"), length.to_string()]);
        command
    }

    fn program(&self) -> PathBuf {
        self.folder.join("worker")
    }
}

impl Drop for NatsC {
    fn drop(&mut self) {
        // There is nothing to do about a folder that does not go.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the C program has in common with the other clients.
fn definitions() -> Vec<String> {
    let Length::Time(warm_up) = WARM_UP else { unreachable!("a warm-up is a time") };
    let text = |name: &str, value: &str| format!("-D{name}=\"{value}\"");
    let number = |name: &str, value: u64| format!("-D{name}={value}");
    vec![
        text("DATA_SUBJECT", DATA_SUBJECT),
        text("FLOOD_SUBJECT", FLOOD_SUBJECT),
        text("ECHO_SUBJECT", ECHO_SUBJECT),
        number("DISTINCT_PAYLOADS", DISTINCT_PAYLOADS as u64),
        number("STAMP_BYTES", STAMP_BYTES as u64),
        format!("-DSTAMP_STEP={STAMP_STEP}u"),
        number("ORDER_BYTES", ORDER_BYTES),
        number("CONTROL_LINE_BYTES", CONTROL_LINE_BYTES),
        number("ORDERS_OUT", ORDERS_OUT),
        number("PUBLISH_BATCH", PUBLISH_BATCH),
        number("REQUEST_BATCH", REQUEST_BATCH),
        number("WARM_UP_US", warm_up.as_micros() as u64),
    ]
}

impl From<NatsCMissing> for BenchError {
    fn from(missing: NatsCMissing) -> Self {
        BenchError::client("nats.c")(missing)
    }
}
