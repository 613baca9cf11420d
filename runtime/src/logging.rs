//! The log that `[log]` describes: events as lines on standard error, written by a thread of its own.
//!
//! Nothing is written unless the application asks for it, by [`install`] or
//! [`Builder::install_log`](crate::Builder::install_log); it may have a `tracing` subscriber of its own instead.

mod sink;

use std::{
    io::{self, IsTerminal},
    sync::OnceLock,
    time::Duration,
};

use tracing::{Subscriber, level_filters::LevelFilter, subscriber::SetGlobalDefaultError};
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt, registry::LookupSpan, reload};

use self::sink::LogSink;
use crate::config::{LogConfig, LogFormat, LogLevel};

static INSTALLED: OnceLock<LogHandle> = OnceLock::new();

/// Writes the events of this process as `config` says, from here on.
///
/// A shard never waits for whoever reads the log: lines go to a thread that writes them, at most
/// [`LINES_WAITING_MAX`] wait, and what finds no room is dropped and counted ([`LogHandle::lines_dropped`]).
///
/// # Errors
///
/// [`LoggingError::SecondSubscriber`] when this process has a subscriber already, from an earlier call or of
/// another make, which stays; [`LoggingError::Thread`] when the writing thread cannot be made.
pub fn install(config: &LogConfig) -> Result<LogHandle, LoggingError> {
    let has_colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let sink = LogSink::start(io::stderr(), config.format).map_err(LoggingError::Thread)?;
    let (filter, level) = reload::Layer::new(filter_of(config.level));
    let subscriber = Registry::default().with(filter).with(format_layer(config.format, has_colours, &sink));
    tracing::subscriber::set_global_default(subscriber).map_err(LoggingError::SecondSubscriber)?;
    // The subscriber can be set only once, and so this comes only once.
    Ok(INSTALLED.get_or_init(|| LogHandle { level, sink }).clone())
}

/// The log that [`install`] has made in this process, if it has.
pub fn installed() -> Option<LogHandle> {
    INSTALLED.get().cloned()
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn format_layer<S>(format: LogFormat, has_colours: bool, sink: &LogSink) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(sink.clone());
    match format {
        LogFormat::Text => Box::new(layer.with_ansi(has_colours)),
        LogFormat::Json => Box::new(layer.json().flatten_event(true).with_ansi(false)),
    }
}

/// The log of this process. Clones are the same log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    level: reload::Handle<LevelFilter, Registry>,
    sink: LogSink,
}

impl LogHandle {
    /// Sets which events are written from here on, on all threads.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and this one is the process's for good.
        let _never_gone = self.level.reload(filter_of(level));
    }

    /// Lines that were dropped because [`LINES_WAITING_MAX`] waited to be written.
    pub fn lines_dropped(&self) -> u64 {
        self.sink.lines_dropped()
    }

    /// Waits until what was logged before is written, or `within` has passed. Returns whether it is written.
    ///
    /// A node does so when it has stopped, and before a second signal ends the process.
    pub fn flush(&self, within: Duration) -> bool {
        self.sink.flush(within)
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The process has a subscriber of events already, which stays.
    #[error("this process writes its events elsewhere already: install the log once, and before others do")]
    SecondSubscriber(#[source] SetGlobalDefaultError),
    /// The thread that writes cannot be made.
    #[error("the thread that writes the log cannot be made: {0}")]
    Thread(#[source] io::Error),
}

pub use self::sink::LINES_WAITING_MAX;
