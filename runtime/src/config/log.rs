//! `[log]`: which events are written, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[log]`: what becomes of the events of a node whose application has called
/// [`logging::install`](crate::logging::install). Without that call nothing is written: an application may have
/// a subscriber of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a section [log]")]
pub struct LogConfig {
    /// The least urgent events that are written; default [`LogLevel::Info`]. There is no event for each
    /// message at any level.
    pub level: LogLevel,
    /// How an event is written, always on one line of standard error; default [`LogFormat::Text`].
    pub format: LogFormat,
}

/// How urgent an event must be to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing is written.
    Off,
    /// What ends a node.
    Error,
    /// What an operator should know: connections that ended, stalls, refused peers.
    Warn,
    /// The life of the node: connected, draining, stopped.
    #[default]
    Info,
    /// Each try to connect.
    Debug,
    /// All there is, the events of libraries included.
    Trace,
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, module, message and fields; with colours on a terminal, unless `NO_COLOR` is
    /// set.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}
