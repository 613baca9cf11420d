//! The pages, and what each of them answers.

use std::{fmt::Write, sync::Arc, time::Duration};

use super::{
    counters::{AdminCounters, Page},
    request::Refusal,
    response::Response,
    status::Status,
};
use crate::{metrics::Metrics, node_shared::NodeShared};

/// A shard that has been blocked for so long makes the node unhealthy: it is not going to come back.
const BLOCKED_UNHEALTHY: Duration = Duration::from_secs(30);
/// What an OpenMetrics page is served as.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) struct Pages {
    node: Arc<NodeShared>,
    metrics: Metrics,
}

impl Pages {
    pub(super) fn new(node: &Arc<NodeShared>) -> Self {
        Self { node: Arc::clone(node), metrics: Metrics::new(node) }
    }

    /// The answer to a request for `path`.
    pub(super) fn answer(&self, path: &str, counters: &AdminCounters) -> Response {
        let Some(page) = Page::ALL.into_iter().find(|page| page.path() == path) else {
            counters.refused(Refusal::NotFound);
            return Response::refusal(Refusal::NotFound);
        };
        counters.answered(page);
        match page {
            Page::Metrics => Response::of(OPENMETRICS, self.metrics.text()),
            Page::Health => self.health(),
            Page::Ready => self.readiness(),
            Page::Status => {
                let status = serde_json::to_string(&Status::of(&self.node)).expect("no key but text");
                Response::of("application/json", status + "\n")
            }
        }
    }

    /// Whether the process should be left alone: a node that is not ready, or drains, is healthy.
    fn health(&self) -> Response {
        let mut complaints = String::new();
        for (shard, port) in self.node.ports.iter().enumerate() {
            let blocked = port.blocks.now();
            if blocked >= BLOCKED_UNHEALTHY {
                let _infallible =
                    writeln!(complaints, "shard {shard} has not yielded for {} s", blocked.as_secs());
            }
        }
        if complaints.is_empty() { Response::text(200, "ok\n") } else { Response::text(503, complaints) }
    }

    /// Whether the node should be sent work.
    fn readiness(&self) -> Response {
        let obstacles = self.node.unready();
        if obstacles.is_empty() {
            return Response::text(200, "ready\n");
        }
        let lines: String = obstacles.iter().map(|obstacle| format!("{obstacle}\n")).collect();
        Response::text(503, lines)
    }
}
