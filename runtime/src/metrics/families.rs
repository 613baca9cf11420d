//! Every family of metrics: its name, its meaning, and where its values come from.

use std::{fmt::Error, sync::atomic::Ordering};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{
    page::{Labels, Page},
    process::ProcessUsage,
};
use crate::{LinkStats, RegistryStats, ShardStats, admin::standing, logging, node_shared::NodeShared};

/// One count of each link.
struct LinkCounter(&'static str, &'static str, &'static str, fn(&LinkStats) -> u64);

const LINK_COUNTERS: [LinkCounter; 19] = [
    LinkCounter("link_connects", "Connections that a server has accepted", "", |link| link.connects),
    LinkCounter(
        "link_disconnects",
        "Accepted connections that have ended, by a fault or by the drain",
        "",
        |link| link.disconnects,
    ),
    LinkCounter("link_tries", "Tries to connect, failed ones included", "", |link| link.tries),
    LinkCounter("publish_accepted", "Messages that a publish took; each has one fate", "messages", |link| {
        link.accepted
    }),
    LinkCounter(
        "publish_rejected",
        "Messages that a publish refused, for want of room or as too large; the caller knows",
        "messages",
        |link| link.rejected,
    ),
    LinkCounter(
        "publish_processed",
        "Fate: the server has processed the message, for a PONG came after it",
        "messages",
        |link| link.processed,
    ),
    LinkCounter(
        "publish_in_doubt",
        "Fate: written to a connection that was cut before a PONG, and not sent again",
        "messages",
        |link| link.in_doubt,
    ),
    LinkCounter("link_sends", "System calls that sent", "", |link| link.sends),
    LinkCounter("link_reads", "Reads that brought bytes", "", |link| link.reads),
    LinkCounter("link_received", "Messages that arrived", "messages", |link| link.received),
    LinkCounter("link_received", "Bytes that arrived, all operations included", "bytes", |link| {
        link.received_bytes
    }),
    LinkCounter(
        "link_stray",
        "Messages that nobody waited for any more, such as replies after the request's timeout",
        "messages",
        |link| link.stray,
    ),
    LinkCounter(
        "link_moves",
        "Moves to another connection before the old one ended: off a server in lame duck mode, or on demand",
        "",
        |link| link.moves,
    ),
    LinkCounter(
        "link_overlap",
        "Possible duplicates: messages over a connection that was being moved away from",
        "messages",
        |link| link.overlap,
    ),
    LinkCounter(
        "link_bad_addresses",
        "Addresses of other servers that a server named and that were ignored",
        "",
        |link| link.bad_addresses,
    ),
    LinkCounter("slow_subscriber_dropped", "Messages dropped for slow subscribers", "messages", |link| {
        link.lagged
    }),
    LinkCounter("handler_panics", "Handlers of subscriptions that panicked, which ended them", "", |link| {
        link.handler_panics
    }),
    LinkCounter("server_errors", "Complaints of servers, their -ERR lines", "", |link| link.server_errors),
    LinkCounter("requests", "Requests that were sent, those of calls to services included", "", |link| {
        link.requests
    }),
];

/// One count of each shard.
struct ShardCounter(&'static str, &'static str, fn(&ShardStats) -> u64);

const SHARD_COUNTERS: [ShardCounter; 3] = [
    ShardCounter(
        "shard_blocks",
        "Times that a task kept the shard from everything else for longer than shards.blocked_after",
        |shard| shard.blocks,
    ),
    ShardCounter(
        "shard_stalls",
        "Times that the shard slept over work and the watchdog woke it, within 50 ms",
        |shard| shard.stalls,
    ),
    ShardCounter("task_panics", "Tasks of the application that panicked", |shard| shard.task_panics),
];

/// One count of the registry.
struct RegistryCounter(&'static str, &'static str, &'static str, fn(&RegistryStats) -> u64);

const REGISTRY_COUNTERS: [RegistryCounter; 12] = [
    RegistryCounter("registry_links_opened", "Links to other nodes that opened", "", |stats| {
        stats.links_opened
    }),
    RegistryCounter("registry_links_closed", "Links to other nodes that ended", "", |stats| {
        stats.links_closed
    }),
    RegistryCounter(
        "registry_connections_accepted",
        "Connections of other nodes, or of strangers, that were accepted",
        "",
        |stats| stats.connections_accepted,
    ),
    RegistryCounter("registry_dials_failed", "Dials of other nodes that led to no link", "", |stats| {
        stats.dials_failed
    }),
    RegistryCounter("registry_sent", "Frames sent to other nodes", "frames", |stats| stats.frames_sent),
    RegistryCounter("registry_sent", "Bytes sent to other nodes, as encrypted", "bytes", |stats| {
        stats.bytes_sent
    }),
    RegistryCounter("registry_received", "Frames from other nodes", "frames", |stats| stats.frames_received),
    RegistryCounter("registry_received", "Bytes from other nodes", "bytes", |stats| stats.bytes_received),
    RegistryCounter("registry_table_changes", "Changes to tables of services", "", |stats| {
        stats.table_changes
    }),
    RegistryCounter(
        "registry_repairs",
        "Pulls because a heartbeat showed that something was missing",
        "",
        |stats| stats.repairs,
    ),
    RegistryCounter(
        "registry_name_conflicts",
        "Times that another live node had this node's name",
        "",
        |stats| stats.name_conflicts,
    ),
    RegistryCounter(
        "registry_stale_epochs",
        "Times that this node took a higher epoch because the others remembered one",
        "",
        |stats| stats.stale_epochs,
    ),
];

/// Writes all families of a node.
pub(super) fn encode(node: &NodeShared, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
    node.collect_latencies();
    let mut page = Page(encoder);
    let shard_names: Vec<String> = (0..node.shards()).map(|shard| shard.to_string()).collect();
    let shards: Vec<ShardStats> =
        node.ports.iter().enumerate().map(|(shard, port)| port.stats(shard, &node.clusters)).collect();
    node_families(&mut page, node)?;
    shard_families(&mut page, node, &shards, &shard_names)?;
    link_families(&mut page, &shards, &shard_names)?;
    latency_families(&mut page, node, &shard_names)?;
    registry_families(&mut page, node)?;
    event_families(&mut page, node)?;
    admin_families(&mut page, node)?;
    process_families(&mut page)
}

fn node_families(page: &mut Page<'_>, node: &NodeShared) -> Result<(), Error> {
    let fingerprint = format!("{:016x}", node.ring.fingerprint());
    let labels: Labels<'_, 3> =
        [("version", env!("CARGO_PKG_VERSION")), ("node", &node.name), ("ring", &fingerprint)];
    page.info(
        "node",
        "The node: its version, its name, and the fingerprint of its ring, the same on all",
        &labels,
    )?;
    let uptime = node.started.elapsed().as_secs_f64();
    page.gauge("uptime", "Time since the node was started", "seconds", [([], uptime)])?;
    let is_ready = node.unready().is_empty();
    page.gauge("ready", "1 when /readyz says yes, 0 when it says no", "", [([], truth(is_ready))])?;
    page.gauge("draining", "1 while the node drains", "", [([], truth(node.is_draining()))])?;
    let unready = node.clusters.iter().enumerate().map(|(index, cluster)| {
        let links = node.ports.iter().map(|port| &port.links[index]).filter(|link| link.is_used());
        ([("cluster", cluster.as_str())], truth(links.clone().all(|link| link.is_connected())))
    });
    page.gauge("cluster_up", "1 when every shard that uses the cluster is connected to it", "", unready)
}

fn shard_families(
    page: &mut Page<'_>,
    node: &NodeShared,
    shards: &[ShardStats],
    names: &[String],
) -> Result<(), Error> {
    for ShardCounter(name, help, value) in &SHARD_COUNTERS {
        let samples =
            shards.iter().zip(names).map(|(shard, name)| ([("shard", name.as_str())], value(shard)));
        page.counter(name, help, "", samples)?;
    }
    let each = |value: fn(&ShardStats) -> f64| {
        shards.iter().zip(names).map(move |(shard, name)| ([("shard", name.as_str())], value(shard)))
    };
    page.gauge(
        "shard_longest_block",
        "The longest time that a task has kept the shard, as far as it was seen",
        "seconds",
        each(|shard| shard.longest_block.as_secs_f64()),
    )?;
    let ports = || node.ports.iter().zip(names).map(|(port, name)| ([("shard", name.as_str())], port));
    page.gauge(
        "shard_blocked",
        "For how long a task keeps the shard at this moment; 0 when none does",
        "seconds",
        ports().map(|(labels, port)| (labels, port.blocks.now().as_secs_f64())),
    )?;
    page.gauge(
        "shard_inbox_jobs",
        "Work of other threads that waits for the shard, at most shards.inbox",
        "",
        ports().map(|(labels, port)| (labels, port.inbox.len() as f64)),
    )
}

fn link_families(page: &mut Page<'_>, shards: &[ShardStats], names: &[String]) -> Result<(), Error> {
    let links = || {
        shards.iter().zip(names).flat_map(|(shard, name)| {
            shard
                .links
                .iter()
                .map(move |link| (link, [("cluster", link.cluster.as_str()), ("shard", name.as_str())]))
        })
    };
    for LinkCounter(name, help, unit, value) in &LINK_COUNTERS {
        page.counter(name, help, unit, links().map(|(link, labels)| (labels, value(link))))?;
    }
    page.counter(
        "publish_discarded",
        "Fate: dropped from the queue; oversized: larger than a new connection's server takes; unsent: left at the end",
        "messages",
        links().flat_map(|(link, [cluster, shard])| {
            [("oversized", link.discarded_oversized), ("unsent", link.discarded_unsent)]
                .map(|(reason, count)| ([cluster, shard, ("reason", reason)], count))
        }),
    )?;
    page.counter(
        "request_failures",
        "Requests without a reply; unsent: the link was down or had no room; timeout; no_responders: nobody listens; \
         cut_off: the connection was cut meanwhile",
        "",
        links().flat_map(|(link, [cluster, shard])| {
            [
                ("unsent", link.requests_unsent),
                ("timeout", link.requests_timed_out),
                ("no_responders", link.requests_no_responders),
                ("cut_off", link.requests_cut_off),
            ]
            .map(|(reason, count)| ([cluster, shard, ("reason", reason)], count))
        }),
    )?;
    page.gauge(
        "link_connected",
        "1 when the link is connected",
        "",
        links().map(|(link, labels)| (labels, truth(link.connected))),
    )?;
    page.gauge(
        "publish_pending",
        "Accepted messages whose fate is open: queued, or written and not confirmed yet",
        "messages",
        links().map(|(link, labels)| (labels, (link.queued + link.written) as f64)),
    )?;
    page.gauge(
        "publish_queued",
        "What waits to be sent, at most limits.publish_buffer",
        "bytes",
        links().map(|(link, labels)| (labels, link.queued_bytes as f64)),
    )
}

fn latency_families(page: &mut Page<'_>, node: &NodeShared, names: &[String]) -> Result<(), Error> {
    let totals: Vec<_> = node.ports.iter().map(|port| port.latencies.totals()).collect();
    page.histogram(
        "request_duration_seconds",
        "From a request to its reply, or to the first of many, in the caller's hands; those without a reply are in \
         request_failures",
        totals.iter().zip(names).map(|((requests, _), name)| ([("shard", name.as_str())], requests.clone())),
    )?;
    let links = node.ports.iter().zip(&totals).zip(names).flat_map(|((port, (_, round_trips)), name)| {
        let used =
            port.links.iter().zip(&node.clusters).zip(round_trips).filter(|((link, _), _)| link.is_used());
        used.map(|((_, cluster), totals)| {
            ([("cluster", cluster.as_str()), ("shard", name.as_str())], totals.clone())
        })
    });
    page.histogram(
        "link_round_trip_seconds",
        "From a PING behind what was published to its PONG, one at a time, the turns of the shard included",
        links,
    )
}

fn registry_families(page: &mut Page<'_>, node: &NodeShared) -> Result<(), Error> {
    let registry = &node.registry;
    let stats = registry.counters.stats();
    for RegistryCounter(name, help, unit, value) in &REGISTRY_COUNTERS {
        page.counter(name, help, unit, [([], value(&stats))])?;
    }
    page.counter(
        "registry_refused",
        "Connections of other nodes, or of strangers, that were refused or ended for a fault of theirs",
        "",
        [
            ("channel", stats.refused_channel),
            ("hello_timeout", stats.refused_hello_timeout),
            ("half_open", stats.refused_half_open),
            ("other_cluster", stats.refused_other_cluster),
            ("frame", stats.refused_frame),
            ("violation", stats.refused_violation),
        ]
        .map(|(reason, count)| ([("reason", reason)], count)),
    )?;
    page.gauge(
        "registry_syncing",
        "1 until the registry has heard from every node that it knows of",
        "",
        [([], truth(registry.is_syncing()))],
    )?;
    let nodes = registry.mirror.nodes();
    let standings = ["candidate", "up", "suspect", "down"].map(|name| {
        let count = nodes.iter().filter(|node| standing(node.standing) == name).count();
        ([("standing", name)], count as f64)
    });
    page.gauge(
        "registry_nodes",
        "Nodes of the registry, this one included, by what they are held to be",
        "",
        standings,
    )?;
    let kinds = registry.mirror.kinds();
    let (services, online) = kinds
        .iter()
        .fold((0, 0), |(services, online), kind| (services + kind.services, online + kind.online));
    page.gauge("registry_types", "Types of services that somebody offers", "", [([], kinds.len() as f64)])?;
    page.gauge("registry_services", "Services, all nodes and types together", "", [([], services as f64)])?;
    page.gauge("registry_services_online", "Of these, those that lookups find", "", [([], online as f64)])
}

fn event_families(page: &mut Page<'_>, node: &NodeShared) -> Result<(), Error> {
    page.counter(
        "events",
        "What happened, by the name of the event",
        "",
        node.events.made().map(|(name, count)| ([("event", name)], count)),
    )?;
    page.counter(
        "events_dropped",
        "Events that were dropped because a listener of the application did not keep up",
        "",
        [([], node.events.dropped())],
    )?;
    page.gauge(
        "events_waiting",
        "Events that wait for the listener that lags most, at most 1024",
        "",
        [([], node.events.waiting_max() as f64)],
    )
}

fn admin_families(page: &mut Page<'_>, node: &NodeShared) -> Result<(), Error> {
    let Some(admin) = &node.admin else { return Ok(()) };
    page.counter(
        "admin_requests",
        "Requests to this server that were answered, by page",
        "",
        admin.counters.answers().map(|(path, count)| ([("page", path)], count)),
    )?;
    page.counter(
        "admin_refused",
        "Requests to this server that were refused, and connections given up",
        "",
        admin.counters.refusals().map(|(reason, count)| ([("reason", reason)], count)),
    )?;
    let connections = admin.counters.connections.load(Ordering::Relaxed);
    page.gauge("admin_connections", "Open connections to this server", "", [([], connections as f64)])?;
    let dropped = logging::installed().map_or(0, |log| log.lines_dropped());
    page.counter(
        "log_dropped",
        "Lines of the log that were dropped, because whoever reads it was too slow",
        "lines",
        [([], dropped)],
    )
}

fn process_families(page: &mut Page<'_>) -> Result<(), Error> {
    let usage = ProcessUsage::read();
    let one = |value: Option<u64>| value.map(|value| ([], value as f64));
    page.gauge(
        "process_resident",
        "Memory of the process that is in use",
        "bytes",
        one(usage.resident_bytes),
    )?;
    page.gauge("process_open_files", "Files that the process has open", "", one(usage.open_files))?;
    page.gauge(
        "process_open_files_limit",
        "Files that the process may have open; not there when there is no limit",
        "",
        one(usage.open_files_limit),
    )?;
    page.gauge("process_threads", "Threads of the process", "", one(usage.threads))?;
    if let Some(seconds) = usage.cpu_seconds {
        let mut family = page.0.encode_descriptor(
            "process_cpu",
            "Time of processors that the process has used",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        family.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
    }
    Ok(())
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that is added to these structures makes this fail to compile, until somebody has added its
    /// metric above, and its name here.
    #[test]
    fn every_count_is_a_metric() {
        fn link(stats: &LinkStats) {
            let LinkStats {
                cluster: _,
                connected: _,
                connects: _,
                disconnects: _,
                tries: _,
                accepted: _,
                rejected: _,
                queued: _,
                written: _,
                processed: _,
                in_doubt: _,
                discarded: _,
                discarded_oversized: _,
                discarded_unsent: _,
                queued_bytes: _,
                sends: _,
                reads: _,
                received: _,
                received_bytes: _,
                stray: _,
                moves: _,
                overlap: _,
                bad_addresses: _,
                lagged: _,
                handler_panics: _,
                server_errors: _,
                requests: _,
                requests_unsent: _,
                requests_timed_out: _,
                requests_no_responders: _,
                requests_cut_off: _,
                round_trip: _,
            } = stats;
        }
        fn shard(stats: &ShardStats) {
            let ShardStats {
                shard: _,
                links: _,
                stalls: _,
                blocks: _,
                longest_block: _,
                task_panics: _,
                requests: _,
            } = stats;
        }
        let _compiled: fn(&LinkStats) = link;
        let _compiled: fn(&ShardStats) = shard;
    }
}
