//! One process of a run: a node whose shards do their parts.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use croupier::{Builder, ClusterName, Node};

use super::protocol::{Home, News, Order, Setup};
use crate::clock::monotonic_nanos;
use crate::control::Control;
use crate::fault::{Journal, Pages};
use crate::fleet::{orders, say};
use crate::live::Gathered;
use crate::scenario::{HAND_IN_MAX, HandedIn, SETUP_MAX, start_node, stop};
use crate::servers::{self, Servers};
use crate::worker::Outcome;

/// Carries out orders until the parent has gone; what goes wrong is told to it.
pub(crate) fn work() {
    let mut worker = None;
    for order in orders::<Order>() {
        let news = order
            .map_err(|error| format!("an order cannot be read: {error}"))
            .and_then(|order| carry_out(&mut worker, order))
            .unwrap_or_else(News::Failed);
        say(&news);
    }
}

struct Worker {
    node: Node,
    control: Arc<Control>,
    handed_in: Receiver<HandedIn>,
    shards: usize,
    clusters: Vec<ClusterName>,
    /// In a run with faults.
    journal: Option<Journal>,
    /// For the live view.
    gathered: Gathered,
}

/// Between two looks at whether the shards are ready.
const TICK: Duration = Duration::from_millis(5);

fn carry_out(worker: &mut Option<Worker>, order: Order) -> Result<News, String> {
    match (order, &worker) {
        (Order::Start(setup), None) => {
            *worker = Some(Worker::start(&setup)?);
            Ok(News::Done)
        }
        (Order::Go { start_nanos }, Some(worker)) => {
            // Both clocks are the same one.
            let in_nanos = start_nanos.saturating_sub(monotonic_nanos());
            worker.control.start_at(Instant::now() + Duration::from_nanos(in_nanos));
            Ok(News::Done)
        }
        (Order::Look { is_watching }, Some(_)) => match worker {
            Some(worker) => worker.look(is_watching),
            None => Err("there is no node".to_owned()),
        },
        (Order::Strike { cluster }, Some(worker)) => {
            worker.control.strike(cluster);
            Ok(News::Done)
        }
        (Order::Stop, Some(worker)) => {
            worker.control.stop_sending();
            Ok(News::Done)
        }
        (Order::End, Some(_)) => match worker.take() {
            Some(worker) => worker.end().map(|(outcomes, pages)| News::HandedIn { outcomes, pages }),
            None => Err("there is no node".to_owned()),
        },
        (order, _) => Err(format!("an order at the wrong time: {order:?}")),
    }
}

impl Worker {
    /// Returns when every shard has subscribed.
    fn start(setup: &Setup) -> Result<Self, String> {
        let mut builder = builder(&setup.home).map_err(|error| error.to_string())?;
        builder = builder.name(format!("loadtest{}", setup.process + 1)).shards(setup.shards);
        let clusters = servers::clusters(&mut builder);
        let gathered = Gathered::new(setup.shards, clusters.len());
        let assignment = setup.plan.assignment(clusters, setup.process * setup.shards);
        let urls = match &setup.home {
            Home::Own(urls) => urls.clone(),
            Home::Config(_) => Vec::new(),
        };
        let journal =
            assignment.has_faults.then(|| Journal::new(&assignment.clusters, urls, assignment.first_shard));
        if let Some(journal) = &journal {
            builder = journal.listen(builder);
        }
        let control = Control::new(setup.shards);
        let control = Arc::new(if setup.is_watched { control.watched() } else { control });
        let (node, handed_in) =
            start_node(builder, &control, &assignment).map_err(|error| error.to_string())?;
        let (shards, clusters) = (setup.shards, assignment.clusters);
        let worker = Self { node, control, handed_in, shards, clusters, journal, gathered };
        let until = Instant::now() + SETUP_MAX;
        while !worker.control.all_ready() {
            worker.check()?;
            if Instant::now() >= until {
                return Err(format!("the shards did not subscribe within {SETUP_MAX:?}"));
            }
            std::thread::sleep(TICK);
        }
        Ok(worker)
    }

    fn look(&mut self, is_watching: bool) -> Result<News, String> {
        self.check()?;
        let (totals, has_sent_all) = (self.control.totals(), self.control.all_sent());
        let shares = self.control.shares().filter(|_| is_watching);
        let seen = shares.map(|shares| Box::new(self.gathered.take(shares)));
        let gave_up_nanos = self.control.gave_up_nanos();
        Ok(News::Totals { totals, has_sent_all, gave_up_nanos, cut_off: self.cut_off(), seen })
    }

    /// A shard that hands something in before the end has failed.
    fn check(&self) -> Result<(), String> {
        match self.handed_in.try_recv() {
            Ok(handed_in) => Err(failure(handed_in)),
            Err(_) => Ok(()),
        }
    }

    /// The clusters to which some shard has no connection.
    fn cut_off(&self) -> Vec<usize> {
        if self.journal.is_none() {
            return Vec::new();
        }
        let stats = self.node.handle().stats();
        let is_cut_off = |name: &ClusterName| {
            stats.iter().flat_map(|shard| &shard.links).any(|link| !link.connected && link.cluster == *name)
        };
        let clusters = self.clusters.iter().enumerate();
        clusters.filter(|(_, name)| is_cut_off(name)).map(|(cluster, _)| cluster).collect()
    }

    fn end(self) -> Result<(Vec<Outcome>, Pages), String> {
        self.control.end();
        let until = Instant::now() + HAND_IN_MAX;
        let mut outcomes = Vec::new();
        while outcomes.len() < self.shards {
            match self.handed_in.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((_, Some(Ok(outcome)))) => outcomes.push(outcome),
                Ok(handed_in) => return Err(failure(handed_in)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(format!("the shards did not hand in their results within {HAND_IN_MAX:?}"));
                }
            }
        }
        // Before the drain, which ends the links too.
        let pages = self.journal.as_ref().map(Journal::pages).unwrap_or_default();
        stop(self.node).map_err(|error| error.to_string())?;
        Ok((outcomes, pages))
    }
}

fn builder(home: &Home) -> Result<Builder, croupier::Error> {
    match home {
        Home::Config(path) => Servers::Existing(path.clone()).builder(),
        Home::Own(clusters) => {
            let mut builder = Node::builder();
            for (index, servers) in clusters.iter().enumerate() {
                builder = builder.cluster(format!("c{}", index + 1), servers);
            }
            // The other processes and the servers share the cores of the machine.
            builder.config_mut().shards.pin = false;
            Ok(builder)
        }
    }
}

fn failure((shard, result): HandedIn) -> String {
    match result {
        Some(Err(error)) => format!("shard {shard}: {error}"),
        Some(Ok(_)) => format!("shard {shard} ended before the run"),
        None => format!("shard {shard} ended without a result"),
    }
}
