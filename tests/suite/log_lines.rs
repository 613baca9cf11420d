//! What the process logs, for tests that look for a line, or for what must stand in none.

use std::{
    io::{self, Write},
    sync::{Mutex, Once, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::support::wait_for;

/// What every secret of the tests contains, and nothing else.
pub(crate) const CANARY: &str = "canary7h2k";
/// What the names of clusters begin with whose lines are kept.
const KEPT: &str = "acc-";

static KEPT_LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LINES_WITH_SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Has lines kept from here on: those that name a cluster that begins with `acc-`, and all with a secret.
pub(crate) fn keep() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("croupier=trace,rustls=trace,warn"))
            .with_ansi(false)
            .with_writer(Keeper)
            .init();
    });
}

/// Waits for a line about the cluster that has the text in it.
pub(crate) fn wait_for_line(cluster: &str, text: &str) -> String {
    assert!(cluster.starts_with(KEPT), "{cluster} is not kept");
    wait_for(text, || lines(cluster).into_iter().find(|line| line.contains(text)))
}

/// The lines about a cluster.
pub(crate) fn lines(cluster: &str) -> Vec<String> {
    let name = format!("cluster={cluster} ");
    let lines = KEPT_LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.contains(&name)).cloned().collect()
}

/// Lines of whatever origin with a secret in them.
pub(crate) fn with_secrets() -> Vec<String> {
    LINES_WITH_SECRETS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Keeper;

impl<'a> MakeWriter<'a> for Keeper {
    type Writer = Keeper;

    fn make_writer(&'a self) -> Keeper {
        Keeper
    }
}

impl Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        for (kept, mark) in [(&KEPT_LINES, KEPT), (&LINES_WITH_SECRETS, CANARY)] {
            if text.contains(mark) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone().into_owned());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
