//! The peer: async-nats, set up as well as its options allow.
//!
//! Payloads and subjects are static, so that none is copied or counted; subjects are not validated; no
//! queue is small enough to drop; the payload check of a publish is async-nats' own. A current-thread
//! runtime spares it every wake-up across threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use tokio::runtime;
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::figure::{Figure, Work};
use crate::receiving::{Length, Quota, Receiving, Step};
use crate::traffic::{Account, DATA_SUBJECT, ECHO_SUBJECT, FLOOD_SUBJECT, FloodOrder, StaticPayloads, Tally};
use crate::usage::Meter;
use crate::worker::{Assignment, Outcome, WARM_UP, keeps_round_trips};

const NAME: &str = "async-nats";

/// How many publishes stand between two looks at the clock.
pub(crate) const PUBLISH_BATCH: u64 = 4096;
/// Commands between the caller and the connection. Measured from 64 to 65 536: fewer cost more CPU time a
/// publish, more cost as much and halve the rate.
const CLIENT_CAPACITY: usize = 2048;
/// How many requests stand between two looks at the clock.
const REQUEST_BATCH: u64 = 16;

/// Which of tokio's runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The current-thread runtime.
    One,
    /// The multi-thread runtime with two workers.
    Two,
}

/// Does the work.
///
/// # Errors
/// What async-nats says, or a wrong echo.
pub fn run(assignment: Assignment, threads: Threads) -> Result<Outcome, BenchError> {
    let mut builder = match threads {
        Threads::One => runtime::Builder::new_current_thread(),
        Threads::Two => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().map_err(BenchError::io("start tokio"))?;
    // A task of its own: on the multi-thread runtime, what is blocked on does not run on a worker.
    runtime.block_on(async move { tokio::spawn(work(assignment)).await.map_err(BenchError::client(NAME))? })
}

async fn work(assignment: Assignment) -> Result<Outcome, BenchError> {
    let Assignment { figure, length, address, ca_file, .. } = assignment;
    let mut options = async_nats::ConnectOptions::new()
        .skip_subject_validation(true)
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(Receiving::outstanding_max(figure.payload_bytes()) + 1);
    if let Some(ca_file) = ca_file {
        options = options.require_tls(true).add_root_certificates(ca_file);
    }
    let client = options.connect(format!("nats://{address}")).await.map_err(BenchError::client(NAME))?;
    match figure.work() {
        Work::Publish => publish(&client, figure, length).await,
        Work::Receive => receive(&client, figure, length).await,
        Work::Request { in_flight } => request(&client, figure, in_flight, length).await,
    }
}

async fn publish(client: &async_nats::Client, figure: Figure, length: Length) -> Result<Outcome, BenchError> {
    let payloads = StaticPayloads::new(figure.payload_bytes());
    let mut account = Account::default();
    publish_for(client, &payloads, WARM_UP, &mut account).await?;
    let before = account.swallowed.messages;
    let meter = Meter::start();
    publish_for(client, &payloads, length, &mut account).await?;
    Ok(Outcome::new(account.swallowed.messages - before, &meter, account))
}

async fn publish_for(
    client: &async_nats::Client,
    payloads: &StaticPayloads,
    length: Length,
    account: &mut Account,
) -> Result<(), BenchError> {
    let subject = async_nats::Subject::from_static(DATA_SUBJECT);
    let quota = Quota::start(length);
    let mut published = 0;
    loop {
        let batch = quota.next(published, PUBLISH_BATCH);
        if batch == 0 {
            break;
        }
        for number in published..published + batch {
            client.publish(subject.clone(), payloads.at(number)).await.map_err(BenchError::client(NAME))?;
        }
        published += batch;
    }
    account.swallowed = account.swallowed.plus(Tally::of_first(published, payloads.at(0).len()));
    client.flush().await.map_err(BenchError::client(NAME))?;
    // Its flush ends when the socket has the bytes; an echo says that the other end has them.
    echo(client, payloads, 0).await?;
    account.echoed.add(&payloads.at(0));
    Ok(())
}

async fn receive(client: &async_nats::Client, figure: Figure, length: Length) -> Result<Outcome, BenchError> {
    let mut subscriber = client.subscribe(DATA_SUBJECT).await.map_err(BenchError::client(NAME))?;
    let warm_up = receive_for(client, &mut subscriber, figure, WARM_UP).await?;
    let meter = Meter::start();
    let received = receive_for(client, &mut subscriber, figure, length).await?;
    let account = Account { flooded: warm_up.plus(received), ..Account::default() };
    Ok(Outcome::new(received.messages, &meter, account))
}

async fn receive_for(
    client: &async_nats::Client,
    subscriber: &mut async_nats::Subscriber,
    figure: Figure,
    length: Length,
) -> Result<Tally, BenchError> {
    let (mut receiving, orders) = Receiving::start(length, figure.payload_bytes());
    for order in orders {
        send(client, order).await?;
    }
    while let Some(message) = subscriber.next().await {
        match receiving.take(&message.payload) {
            Step::More => {}
            Step::Order(order) => send(client, order).await?,
            Step::Done => return Ok(receiving.tally()),
        }
    }
    Err(BenchError::client(NAME)("the subscription ended"))
}

async fn send(client: &async_nats::Client, order: FloodOrder) -> Result<(), BenchError> {
    let sent = client.publish(FLOOD_SUBJECT, order.to_payload().into()).await;
    sent.map_err(BenchError::client(NAME))
}

async fn request(
    client: &async_nats::Client,
    figure: Figure,
    in_flight: usize,
    length: Length,
) -> Result<Outcome, BenchError> {
    let payloads = StaticPayloads::new(figure.payload_bytes());
    let (warm_up, _) = request_for(client, &payloads, figure, in_flight, WARM_UP).await?;
    let meter = Meter::start();
    let (requested, round_trips) = request_for(client, &payloads, figure, in_flight, length).await?;
    let account = Account { echoed: warm_up.plus(requested), ..Account::default() };
    Ok(Outcome::new(requested.messages, &meter, account).with_round_trips(&round_trips))
}

async fn request_for(
    client: &async_nats::Client,
    payloads: &StaticPayloads,
    figure: Figure,
    in_flight: usize,
    length: Length,
) -> Result<(Tally, Vec<Duration>), BenchError> {
    let quota = Quota::start(length);
    let begun = Arc::new(AtomicU64::new(0));
    let mut loops = JoinSet::new();
    for _ in 0..in_flight {
        let (client, payloads, begun) = (client.clone(), payloads.clone(), Arc::clone(&begun));
        loops.spawn(async move {
            let mut tally = Tally::default();
            let mut round_trips = Vec::new();
            loop {
                let first = begun.fetch_add(REQUEST_BATCH, Ordering::Relaxed);
                let batch = quota.next(first, REQUEST_BATCH);
                if batch == 0 {
                    return Ok::<_, BenchError>((tally, round_trips));
                }
                for number in first..first + batch {
                    let start = keeps_round_trips(figure).then(Instant::now);
                    echo(&client, &payloads, number).await?;
                    round_trips.extend(start.map(|start| start.elapsed()));
                    tally.add(&payloads.at(number));
                }
            }
        });
    }
    let mut total = (Tally::default(), Vec::new());
    while let Some(done) = loops.join_next().await {
        let (tally, round_trips) = done.map_err(BenchError::client(NAME))??;
        total.0 = total.0.plus(tally);
        total.1.extend(round_trips);
    }
    Ok(total)
}

/// One request, whose answer must be its own payload.
async fn echo(client: &async_nats::Client, payloads: &StaticPayloads, number: u64) -> Result<(), BenchError> {
    let subject = async_nats::Subject::from_static(ECHO_SUBJECT);
    let payload = payloads.at(number);
    let answer = client.request(subject, payload.clone()).await.map_err(BenchError::client(NAME))?;
    if answer.payload == payload { Ok(()) } else { Err(BenchError::WrongEcho { number }) }
}
