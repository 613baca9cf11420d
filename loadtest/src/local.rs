//! `croupier local up`: local NATS clusters to try things with, until Ctrl-C.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use croupier::testing::{LocalCluster, LocalClusterError};

use crate::cli::OptionRow;
use crate::console::Console;
use crate::interrupt::Interrupt;
use crate::{CONFIGURATION, FAILED, fail};

/// What `croupier local up` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalOptions {
    pub(crate) clusters: usize,
    /// Servers of each cluster, joined by routes.
    pub(crate) nodes: usize,
    /// Of the first server; the next ones follow. None: any that are free.
    pub(crate) first_port: Option<u16>,
}

pub(crate) const WORDS: &[OptionRow] =
    &[OptionRow::new("up", "", "prints a node.toml that knows them, and nothing else; Ctrl-C ends them", "")];
pub(crate) const ROWS: &[OptionRow] = &[
    OptionRow::new("--clusters", "COUNT", "clusters c1, c2, ..", "3"),
    OptionRow::new("--nodes", "COUNT", "servers of each, joined by routes", "1"),
    OptionRow::new("--port", "PORT", "of the first server; each further one has the next", "free ones"),
];

/// Between two looks at the signals and the servers.
const TICK: Duration = Duration::from_millis(100);

impl Default for LocalOptions {
    fn default() -> Self {
        Self { clusters: 3, nodes: 1, first_port: None }
    }
}

/// Starts the servers, and ends them when a signal asks for that. Exit code 1 when one ends by itself.
pub(crate) fn run(options: &LocalOptions) -> ExitCode {
    match Interrupt::install().map(|interrupt| up(options, &interrupt)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => fail(CONFIGURATION, error),
        Err(error) => fail(FAILED, format_args!("signal handlers cannot be installed: {error}")),
    }
}

fn up(options: &LocalOptions, interrupt: &Interrupt) -> Result<ExitCode, LocalClusterError> {
    let console = Console::Stdout;
    let mut servers = match options.first_port {
        Some(first) => LocalCluster::with_ports(options.clusters, options.nodes, first)?,
        None => LocalCluster::with_nodes(options.clusters, options.nodes)?,
    };
    let urls: Vec<Vec<String>> = (0..options.clusters).map(|cluster| servers.servers(cluster)).collect();
    // All of it is TOML, so that it can be written to a file as it comes.
    console.line(format_args!(
        "# {} x nats-server {}; Ctrl-C ends them.",
        options.clusters * options.nodes,
        servers.server_version()
    ));
    console.write(node_toml(&urls));
    while interrupt.signal().is_none() {
        std::thread::sleep(TICK);
        for cluster in 0..options.clusters {
            for node in 0..options.nodes {
                if servers.pid(cluster, node)?.is_none() {
                    let log = servers.log_path(cluster, node).to_owned();
                    servers.keep_logs();
                    Console::Stderr.line(format_args!(
                        "croupier: c{}/{} has ended; its log is {}",
                        cluster + 1,
                        node + 1,
                        log.display()
                    ));
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The smallest configuration of a node that knows these clusters.
fn node_toml(clusters: &[Vec<String>]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (cluster, urls) in clusters.iter().enumerate() {
        let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n[[clusters]]\nname = \"c{}\"\nservers = [{}]\n", cluster + 1, urls.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_a_node_accepts() {
        let urls = [
            vec!["nats://127.0.0.1:1".to_owned(), "nats://127.0.0.1:2".to_owned()],
            vec!["nats://127.0.0.1:3".to_owned()],
        ];
        let config = node_toml(&urls).parse::<croupier::config::Config>().expect("accepted");
        let names: Vec<String> = config.clusters.iter().map(|cluster| cluster.name.to_string()).collect();
        assert_eq!(names, ["c1", "c2"]);
    }
}
