//! `croupier top`: what a running node is doing, read from its admin server, again and again.

mod client;
mod columns;
mod frame;
mod rates;
mod screen;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::OptionRow;
use crate::console::Console;
use client::{Client, ClientError};
use rates::Rates;

/// What `croupier top` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopOptions {
    /// Where the node's admin server listens.
    pub(crate) address: SocketAddr,
    /// One page of text, and the end.
    pub(crate) once: bool,
    /// Between two looks.
    pub(crate) interval: Duration,
}

/// The words that `--help` explains.
pub(crate) const WORDS: &[OptionRow] =
    &[OptionRow::new("ADDRESS", "", "its node.admin_listen", "127.0.0.1:9464")];

pub(crate) const ROWS: &[OptionRow] = &[
    OptionRow::new("--once", "", "one page of plain text, as without a terminal", ""),
    OptionRow::new("--interval", "TIME", "between two looks", "1s"),
];

impl Default for TopOptions {
    fn default() -> Self {
        Self { address: croupier::config::ADMIN_ADDRESS_USUAL, once: false, interval: Duration::from_secs(1) }
    }
}

/// The dashboard cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TopError {
    #[error(transparent)]
    Node(#[from] ClientError),
    #[error("the terminal: {0}")]
    Terminal(#[source] io::Error),
}

/// Shows the node until somebody presses q; or once, as text, when asked so or when there is no terminal.
pub(crate) fn run(options: &TopOptions) -> Result<(), TopError> {
    let mut client = Client::new(options.address);
    if !options.once && io::stdout().is_terminal() && io::stdin().is_terminal() {
        return screen::run(&mut client, options.interval);
    }
    let mut rates = Rates::default();
    rates.take(client.status()?);
    // Rates need two looks.
    std::thread::sleep(options.interval);
    let shown = rates.take(client.status()?);
    Console::Stdout.write(frame::text_of(&frame::frame(&shown)));
    Ok(())
}
