//! What a run does on one shard: subscribe, publish its part of the schedule, hand in what it recorded.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use croupier::{ClusterName, HandlerGuard, InvalidTopic, PublishError, Shard, SubscribeError, Topic};

use serde::{Deserialize, Serialize};

use crate::backlog::Backlog;
use crate::clock::nanos;
use crate::control::Control;
use crate::pace::Pace;
use crate::pacer::Pacer;
use crate::publisher::Publisher;
use crate::receiver::{Handler, Receiver};
use crate::recorder::{Recorder, Window};
use crate::report::ConnectionsReport;
use crate::reqrep::{Requester, Responder};
use crate::roles::{Pattern, Roles};
use crate::schedule::Schedule;
use crate::steps::Steps;
use crate::traffic::Traffic;

/// What every shard of a run is told.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// Tells this run's messages from any other's.
    pub(crate) run: u64,
    pub(crate) roles: Roles,
    pub(crate) pace: Pace,
    pub(crate) schedule: Schedule,
    pub(crate) traffic: Traffic,
    pub(crate) clusters: Vec<ClusterName>,
    /// How long after the end of the schedule a shard that is behind may still send.
    pub(crate) overrun: Duration,
    /// Of each request.
    pub(crate) timeout: Duration,
    /// Where the shards of this process begin among those of all.
    pub(crate) first_shard: usize,
    /// Whether faults strike, so that it must be known what each of them cost.
    pub(crate) has_faults: bool,
}

/// What a shard hands in at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) recorder: Recorder,
    /// Messages of its part that it did not send.
    pub(crate) unsent: u64,
    /// When a shard of its process found the schedule beyond hope, on the run's clock, and all of them gave it up.
    pub(crate) gave_up_nanos: Option<u64>,
    /// Topics of each cluster, told by the first shard of all.
    pub(crate) topics_by_cluster: Vec<u64>,
    /// What went wrong on the shard and its links until everything had arrived.
    pub(crate) connections: ConnectionsReport,
}

/// Why a shard gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WorkerError {
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
    #[error("subscribing failed: {0}")]
    Subscribe(#[from] SubscribeError),
    #[error("publishing failed: {0}")]
    Publish(#[from] PublishError),
    #[error("cluster {0} is not one of the run's")]
    UnknownCluster(ClusterName),
}

/// Where a topic goes and who receives it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) topic: Topic,
    /// The place of its cluster in [`Assignment::clusters`].
    pub(crate) cluster: usize,
    /// How many subscriptions to it this shard has.
    subscriptions: usize,
}

/// Between two looks at what the main thread wants, outside the schedule.
const POLL: Duration = Duration::from_millis(1);

/// Subscriptions that wait for their confirmation at one time.
const SUBSCRIBE_LANES: usize = 32;

impl Assignment {
    /// The measured phase, on the run's clock.
    pub(crate) fn window(&self) -> Window {
        self.schedule.window()
    }

    /// An empty recorder of what this run needs to know.
    pub(crate) fn recorder(&self) -> Recorder {
        let recorder = Recorder::new(self.window(), self.clusters.len())
            .expecting(self.roles.copies())
            .with_steps(Steps::new(self.schedule.steps()));
        if self.has_faults { recorder.with_ledger(self.schedule.end_nanos()) } else { recorder }
    }

    /// When a shard that is behind gives up, on the run's clock.
    pub(crate) fn give_up_nanos(&self) -> u64 {
        self.schedule.end_nanos().saturating_add(nanos(self.overrun))
    }

    /// A fault may leave a backlog of any size, and of a ramp each step is a rate to be known.
    fn backlog(&self) -> Backlog {
        match self.pace {
            Pace::Steady(_) if !self.has_faults => Backlog::new(self.schedule.measured_from_nanos()),
            _ => Backlog::of_patience(),
        }
    }

    fn routes(&self, shard: &Shard) -> Result<Vec<Route>, WorkerError> {
        let is_alone = self.roles.shards == shard.shards();
        let number_of_shard = self.first_shard + shard.id();
        let route = |number| {
            let name = self.traffic.topic_name(number);
            let topic = shard.topic(&name)?;
            let name_of_cluster = topic.cluster();
            let cluster = self
                .clusters
                .iter()
                .position(|cluster| *cluster == name_of_cluster)
                .ok_or(WorkerError::UnknownCluster(name_of_cluster))?;
            let home = is_alone.then(|| shard.shard_of(&name));
            let subscriptions = self.roles.subscriptions(number, home, number_of_shard);
            Ok(Route { topic, cluster, subscriptions })
        };
        (0..self.traffic.topics()).map(route).collect()
    }
}

/// Runs on `shard` until the main thread ends the run.
pub(crate) async fn work(
    shard: &Shard,
    control: &Arc<Control>,
    assignment: &Assignment,
) -> Result<Outcome, WorkerError> {
    let routes: Rc<[Route]> = assignment.routes(shard)?.into();
    let own: Vec<usize> = (0..routes.len())
        .flat_map(|number| std::iter::repeat_n(number, routes[number].subscriptions))
        .collect();
    let own_clusters = own.iter().map(|number| routes[*number].cluster).collect();
    match assignment.roles.pattern {
        Pattern::Pubsub | Pattern::Fanout => {
            let receiver = Receiver::new(shard.id(), control, assignment, own_clusters);
            work_with(shard, control, assignment, routes, own, Rc::new(receiver)).await
        }
        Pattern::Reqrep => {
            let responder = Responder::new(control, assignment, own_clusters);
            work_with(shard, control, assignment, routes, own, Rc::new(responder)).await
        }
    }
}

/// With what takes the messages of the topics `own`.
async fn work_with(
    shard: &Shard,
    control: &Arc<Control>,
    assignment: &Assignment,
    routes: Rc<[Route]>,
    own: Vec<usize>,
    receiver: Rc<impl Handler>,
) -> Result<Outcome, WorkerError> {
    let guards = subscribe_all(shard, control, &receiver, &routes, own).await?;
    let progress = control.shard(shard.id());
    progress.ready();
    await_start(shard, control).await;

    let number = assignment.first_shard + shard.id();
    let mut recorder = assignment.recorder();
    let mut unsent = 0;
    if number < assignment.roles.publishers {
        unsent = send_all(shard, control, assignment, &routes, number, &mut recorder).await?;
    }
    progress.sent_all();

    while !control.is_over() {
        shard.sleep(POLL).await;
    }
    let connections = ConnectionsReport::of(&shard.stats());
    drop(guards);
    receiver.merge_into(&mut recorder);
    recorder.series.label(number);
    let topics_by_cluster = if number == 0 { topics_by_cluster(assignment, &routes) } else { Vec::new() };
    Ok(Outcome { recorder, unsent, gave_up_nanos: control.gave_up_nanos(), topics_by_cluster, connections })
}

/// Waits for the start, or for the end of a run that has none.
async fn await_start(shard: &Shard, control: &Control) {
    while control.may_send() && control.start().is_none_or(|start| start > Instant::now()) {
        shard.sleep(POLL).await;
    }
}

/// Sends the part of a publisher; returns what it did not send.
async fn send_all(
    shard: &Shard,
    control: &Arc<Control>,
    assignment: &Assignment,
    routes: &Rc<[Route]>,
    publisher: usize,
    recorder: &mut Recorder,
) -> Result<u64, WorkerError> {
    let publishers = assignment.roles.publishers;
    let part = assignment.schedule.of_shard(publisher, publishers);
    let place = (publisher, publishers);
    let pacer = Pacer::new(assignment.run, place, assignment.traffic.clone(), part, assignment.recorder())
        .with_backlog(assignment.backlog());
    let concurrency = match assignment.pace {
        Pace::Closed { concurrency } => Some(assignment.roles.share_of(concurrency, publisher)),
        Pace::Steady(_) | Pace::Ramp(_) => None,
    };
    match assignment.roles.pattern {
        Pattern::Pubsub | Pattern::Fanout => {
            let mut publisher = Publisher::new(shard, control, assignment, routes, pacer, concurrency);
            publisher.send_all().await?;
            publisher.merge_into(recorder);
            Ok(publisher.unsent())
        }
        Pattern::Reqrep => {
            let mut requester = Requester::new(shard, control, assignment, routes, pacer, concurrency);
            requester.ask_all().await;
            requester.merge_into(recorder);
            Ok(requester.unsent())
        }
    }
}

fn topics_by_cluster(assignment: &Assignment, routes: &[Route]) -> Vec<u64> {
    let mut topics = vec![0; assignment.clusters.len()];
    for route in routes {
        topics[route.cluster] += 1;
    }
    topics
}

/// Subscribes to the topics `own` and returns when each is confirmed.
async fn subscribe_all<H: Handler>(
    shard: &Shard,
    control: &Arc<Control>,
    receiver: &Rc<H>,
    routes: &Rc<[Route]>,
    own: Vec<usize>,
) -> Result<Vec<HandlerGuard>, WorkerError> {
    let lanes = Rc::new(Lanes {
        own,
        next: Cell::new(0),
        running: Cell::new(SUBSCRIBE_LANES),
        guards: RefCell::default(),
        failure: RefCell::default(),
    });
    for _ in 0..SUBSCRIBE_LANES {
        let (lanes, routes) = (Rc::clone(&lanes), Rc::clone(routes));
        let (shard_of_lane, receiver) = (shard.clone(), Rc::clone(receiver));
        shard.spawn(async move {
            while let Some((place, number)) = lanes.take() {
                let receiver = Rc::clone(&receiver);
                let handler = move |message: croupier::MessageView<'_>| {
                    receiver.handle(place, number, &message);
                };
                match shard_of_lane.subscribe_with(routes[number].topic.name(), handler).await {
                    Ok(guard) => lanes.guards.borrow_mut().push(guard),
                    Err(error) => *lanes.failure.borrow_mut() = Some(error),
                }
            }
            lanes.running.set(lanes.running.get() - 1);
        });
    }
    while lanes.running.get() > 0 && !control.is_over() {
        shard.sleep(POLL).await;
    }
    match lanes.failure.take() {
        Some(error) => Err(error.into()),
        None => Ok(lanes.guards.take()),
    }
}

/// The subscriptions still to be made, shared by the tasks that make them.
struct Lanes {
    own: Vec<usize>,
    next: Cell<usize>,
    running: Cell<usize>,
    guards: RefCell<Vec<HandlerGuard>>,
    failure: RefCell<Option<SubscribeError>>,
}

impl Lanes {
    /// The next topic: its place among the shard's own, and its number. None after a failure.
    fn take(&self) -> Option<(usize, usize)> {
        if self.failure.borrow().is_some() {
            return None;
        }
        let place = self.next.get();
        let number = *self.own.get(place)?;
        self.next.set(place + 1);
        Some((place, number))
    }
}
