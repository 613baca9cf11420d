//! Ours: Croupier on one shard, as its documentation says to use it.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use croupier::config::TlsConfig;
use croupier::testing::nats_server::NatsServerBinary;
use croupier::{HandlerGuard, Node, Payload, PublishError, Shard, Subscription, Topic};
use tokio::sync::oneshot;

use crate::error::BenchError;
use crate::figure::{Figure, Work};
use crate::receiving::{Length, Quota, Receiving, Step};
use crate::traffic::{
    Account, DATA_SUBJECT, ECHO_SUBJECT, FLOOD_SUBJECT, FloodOrder, Payloads, StaticPayloads, Tally,
};
use crate::usage::Meter;
use crate::worker::{Assignment, Outcome, WARM_UP, keeps_round_trips};

const NAME: &str = "croupier";

/// The one cluster of the measured node.
pub(crate) const CLUSTER: &str = "c1";
/// How many messages are published between two turns of the shard: as many as the peer's publisher puts into
/// its channel before it has to wait. A turn costs about 10 us: measured against the stub, 4 KiB messages take
/// 1.2 us each at 16 a turn and 0.65 us at 2048; 16-byte messages 0.024 us at 2048 and 0.021 us at 8192.
const BURST: u64 = 2048;
/// How many requests stand between two looks at the clock.
pub(crate) const REQUEST_BATCH: u64 = 16;
/// How long a shard that is told to polls before it parks: longer than a round trip through a local server, within
/// what the configuration's page advises.
pub const SPIN: Duration = Duration::from_micros(100);
/// Long enough for the reactor to be polled, which a plain yield does not do.
const TURN: Duration = Duration::from_nanos(100);

/// Does the work.
///
/// # Errors
/// What Croupier says, or a wrong echo.
pub fn run(assignment: &Assignment, spin: Duration) -> Result<Outcome, BenchError> {
    let Assignment { figure, length, .. } = *assignment;
    on_one_shard(assignment, spin, async move |shard| match figure.work() {
        Work::Publish => publish(&shard, figure, length).await,
        Work::Receive => receive(&shard, figure, length).await,
        Work::Request { in_flight } => request(&shard, figure, in_flight, length).await,
    })
}

/// The nats-server binary that Croupier's own tests use: found, or fetched.
///
/// # Errors
/// With the ways to get one.
pub fn nats_server_binary() -> Result<PathBuf, BenchError> {
    NatsServerBinary::find().map_err(|error| BenchError::Server { reason: error.to_string() })
}

/// Runs `app` on a node of one shard that knows one cluster, the assignment's server, and hands its result out.
fn on_one_shard<T: Send + 'static>(
    assignment: &Assignment,
    spin: Duration,
    app: impl AsyncFnOnce(Shard) -> Result<T, BenchError> + Clone + Send + 'static,
) -> Result<T, BenchError> {
    let (sender, receiver) = mpsc::channel();
    let mut builder = Node::builder().cluster(CLUSTER, [format!("nats://{}", assignment.address)]).shards(1);
    let config = builder.config_mut();
    config.shards.spin = spin;
    if let Some(ca_file) = &assignment.ca_file {
        config.clusters[0].tls = Some(TlsConfig::default().ca_file(ca_file));
    }
    let run = builder.run(async move |shard| {
        // The receiver outlives the node, so this cannot fail.
        let _ = sender.send(app(shard).await?);
        Ok(())
    });
    run.map_err(BenchError::client(NAME))?;
    receiver.recv().map_err(BenchError::client(NAME))
}

async fn publish(shard: &Shard, figure: Figure, length: Length) -> Result<Outcome, BenchError> {
    let topic = shard.topic(DATA_SUBJECT).map_err(BenchError::client(NAME))?;
    let payloads = Published::new(figure.payload_bytes());
    let mut account = Account::default();
    publish_for(shard, &topic, figure, &payloads, WARM_UP, &mut account).await?;
    let before = account.swallowed.messages;
    let meter = Meter::start();
    publish_for(shard, &topic, figure, &payloads, length, &mut account).await?;
    Ok(Outcome::new(account.swallowed.messages - before, &meter, account))
}

/// What is published, as the documentation says to: what is large is handed over, and sent without a copy; what is
/// small is copied anyway.
enum Published {
    Lent(Payloads),
    HandedOver(StaticPayloads),
}

/// Above this a payload that is handed over is sent as it is.
const HANDED_OVER_BYTES_MIN: usize = 2048;

impl Published {
    fn new(payload_bytes: usize) -> Self {
        if payload_bytes > HANDED_OVER_BYTES_MIN {
            Self::HandedOver(StaticPayloads::new(payload_bytes))
        } else {
            Self::Lent(Payloads::new(payload_bytes))
        }
    }

    #[inline]
    fn at(&self, number: u64) -> Payload<'_> {
        match self {
            Self::Lent(payloads) => payloads.at(number).into(),
            Self::HandedOver(payloads) => payloads.at(number).into(),
        }
    }
}

async fn publish_for(
    shard: &Shard,
    topic: &Topic,
    figure: Figure,
    payloads: &Published,
    length: Length,
    account: &mut Account,
) -> Result<(), BenchError> {
    let quota = Quota::start(length);
    let mut published = 0;
    loop {
        let batch = quota.next(published, BURST);
        if batch == 0 {
            break;
        }
        publish_burst(shard, topic, payloads, published, batch).await?;
        published += batch;
    }
    account.swallowed = account.swallowed.plus(Tally::of_first(published, figure.payload_bytes()));
    shard.flush().await.map_err(BenchError::client(NAME))?;
    // The same last word as the peer's, so that both ends count the same.
    let last = Payloads::new(figure.payload_bytes());
    echo(shard, &last, 0).await?;
    account.echoed.add(last.at(0));
    Ok(())
}

/// Publishes `messages` messages from number `first` on, gives the shard a turn whenever its buffer is full,
/// and one at the end. Every refusal but `Busy` is an error.
async fn publish_burst(
    shard: &Shard,
    topic: &Topic,
    payloads: &Published,
    first: u64,
    messages: u64,
) -> Result<(), BenchError> {
    for number in first..first + messages {
        if let Err(error) = topic.publish(payloads.at(number)) {
            if !matches!(error, PublishError::Busy { .. }) {
                return Err(BenchError::client(NAME)(error));
            }
            topic.publish_wait(payloads.at(number)).await.map_err(BenchError::client(NAME))?;
        }
    }
    shard.sleep(TURN).await;
    Ok(())
}

async fn receive(shard: &Shard, figure: Figure, length: Length) -> Result<Outcome, BenchError> {
    let flood = HandlerFlood::subscribe(shard).await?;
    let warm_up = flood.receive(figure.payload_bytes(), WARM_UP).await?;
    let meter = Meter::start();
    let received = flood.receive(figure.payload_bytes(), length).await?;
    let account = Account { flooded: warm_up.plus(received), ..Account::default() };
    Ok(Outcome::new(received.messages, &meter, account))
}

/// Floods received by a handler, which the read loop calls for every message.
pub struct HandlerFlood {
    shard: Shard,
    phase: Rc<RefCell<Option<Phase>>>,
    _guard: HandlerGuard,
}

/// A flood under way, and who waits for its end.
struct Phase {
    receiving: Receiving,
    over: Option<oneshot::Sender<Result<Tally, PublishError>>>,
}

impl HandlerFlood {
    /// Subscribes.
    ///
    /// # Errors
    /// Those of the subscription.
    pub async fn subscribe(shard: &Shard) -> Result<Self, BenchError> {
        let phase = Rc::new(RefCell::new(None));
        let subscribed = shard.subscribe_with(DATA_SUBJECT, {
            let (shard, phase) = (shard.clone(), Rc::clone(&phase));
            move |message| take(&shard, &mut phase.borrow_mut(), message.payload())
        });
        let guard = subscribed.await.map_err(BenchError::client(NAME))?;
        Ok(Self { shard: shard.clone(), phase, _guard: guard })
    }

    /// Orders one flood and receives it to its end.
    ///
    /// # Errors
    /// If an order cannot be published.
    pub async fn receive(&self, payload_bytes: usize, length: Length) -> Result<Tally, BenchError> {
        let (receiving, orders) = Receiving::start(length, payload_bytes);
        let (over, end) = oneshot::channel();
        *self.phase.borrow_mut() = Some(Phase { receiving, over: Some(over) });
        for order in orders {
            send(&self.shard, order).map_err(BenchError::client(NAME))?;
        }
        end.await.map_err(BenchError::client(NAME))?.map_err(BenchError::client(NAME))
    }
}

#[inline]
fn take(shard: &Shard, phase: &mut Option<Phase>, payload: &[u8]) {
    let Some(Phase { receiving, over }) = phase else { return };
    let result = match receiving.take(payload) {
        Step::More => return,
        Step::Order(order) => match send(shard, order) {
            Ok(()) => return,
            Err(error) => Err(error),
        },
        Step::Done => Ok(receiving.tally()),
    };
    if let Some(over) = over.take() {
        // Nobody waits any more if the worker has failed elsewhere.
        let _ = over.send(result);
    }
}

/// Orders one flood and receives it to its end from the subscription's queue.
///
/// # Errors
/// If an order cannot be published, or if the queue has dropped messages.
pub async fn receive_from_queue(
    shard: &Shard,
    subscription: &mut Subscription,
    payload_bytes: usize,
    length: Length,
) -> Result<Tally, BenchError> {
    let (mut receiving, orders) = Receiving::start(length, payload_bytes);
    for order in orders {
        send(shard, order).map_err(BenchError::client(NAME))?;
    }
    while let Some(message) = subscription.next().await {
        match receiving.take(message.payload()) {
            Step::More if subscription.lagged() == 0 => {}
            Step::More => return Err(BenchError::client(NAME)("the queue was too small for the flood")),
            Step::Order(order) => send(shard, order).map_err(BenchError::client(NAME))?,
            Step::Done => return Ok(receiving.tally()),
        }
    }
    Err(BenchError::client(NAME)("the subscription ended"))
}

fn send(shard: &Shard, order: FloodOrder) -> Result<(), PublishError> {
    shard.publish(FLOOD_SUBJECT, order.to_payload())
}

async fn request(
    shard: &Shard,
    figure: Figure,
    in_flight: usize,
    length: Length,
) -> Result<Outcome, BenchError> {
    let payloads = Rc::new(Payloads::new(figure.payload_bytes()));
    let (warm_up, _) = request_for(shard, &payloads, figure, in_flight, WARM_UP).await?;
    let meter = Meter::start();
    let (requested, round_trips) = request_for(shard, &payloads, figure, in_flight, length).await?;
    let account = Account { echoed: warm_up.plus(requested), ..Account::default() };
    Ok(Outcome::new(requested.messages, &meter, account).with_round_trips(&round_trips))
}

/// What one request loop has to say at its end.
type Loop = Result<(Tally, Vec<Duration>), BenchError>;

async fn request_for(
    shard: &Shard,
    payloads: &Rc<Payloads>,
    figure: Figure,
    in_flight: usize,
    length: Length,
) -> Loop {
    let quota = Quota::start(length);
    let begun = Rc::new(Cell::new(0));
    let mut ends = Vec::with_capacity(in_flight);
    for _ in 0..in_flight {
        let (sender, end) = oneshot::channel();
        ends.push(end);
        let (task_shard, payloads, begun) = (shard.clone(), Rc::clone(payloads), Rc::clone(&begun));
        shard.spawn(async move {
            // Nobody waits any more if another loop has failed.
            let _ = sender.send(request_loop(&task_shard, &payloads, figure, &quota, &begun).await);
        });
    }
    let mut total = (Tally::default(), Vec::new());
    for end in ends {
        let (tally, round_trips) = end.await.map_err(BenchError::client(NAME))??;
        total.0 = total.0.plus(tally);
        total.1.extend(round_trips);
    }
    Ok(total)
}

async fn request_loop(
    shard: &Shard,
    payloads: &Payloads,
    figure: Figure,
    quota: &Quota,
    begun: &Cell<u64>,
) -> Loop {
    let (mut tally, mut round_trips) = (Tally::default(), Vec::new());
    loop {
        let first = begun.replace(begun.get() + REQUEST_BATCH);
        let batch = quota.next(first, REQUEST_BATCH);
        if batch == 0 {
            return Ok((tally, round_trips));
        }
        for number in first..first + batch {
            let start = keeps_round_trips(figure).then(Instant::now);
            echo(shard, payloads, number).await?;
            round_trips.extend(start.map(|start| start.elapsed()));
            tally.add(payloads.at(number));
        }
    }
}

/// One request, whose answer must be its own payload.
async fn echo(shard: &Shard, payloads: &Payloads, number: u64) -> Result<(), BenchError> {
    let payload = payloads.at(number);
    let answer = shard.request(ECHO_SUBJECT, payload).await.map_err(BenchError::client(NAME))?;
    if answer.payload() == payload { Ok(()) } else { Err(BenchError::WrongEcho { number }) }
}
