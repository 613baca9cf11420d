//! Calls: a request to the instance that a key leads to, over a cluster that is there.

use std::{
    borrow::Cow,
    cell::RefCell,
    future::{Future, IntoFuture, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_lite::future;

use super::{CallError, Service, view::KindView};
use crate::{Message, Payload, PublishError, RequestError, Shard, cluster_link::Link, transport};

/// Instances that one call tries, at most.
const INSTANCES_MAX: usize = 8;
/// While an entry is younger, the servers may not know its inbox everywhere: nobody there proves nothing.
const ROUTES_SETTLE: Duration = Duration::from_millis(100);
/// Pause before such an instance is asked again.
const ROUTES_PAUSE: Duration = Duration::from_millis(5);

/// A call under way to be made: awaiting it makes it.
///
/// It goes to the instance that the key leads to, and to the next one only when the first certainly did
/// not get it. See [`Registry::call`](crate::Registry::call).
#[must_use = "a call is made when it is awaited"]
pub struct Call<'a> {
    pub(crate) shard: Shard,
    pub(crate) view: Rc<KindView>,
    pub(crate) key: Cow<'a, [u8]>,
    pub(crate) payload: Payload<'a>,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Duration,
}

impl<'a> Call<'a> {
    /// The call may be carried out more than once: it goes to the next instance also when it is in doubt
    /// whether the first has got it.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// How long to wait for the answer, all instances together. The default is `limits.request_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn make(self) -> Result<Message, CallError> {
        let Call { shard, view, key, payload, idempotent, timeout } = self;
        let payload = payload.into_cheap_to_clone();
        let deadline = Deadline { begun: Instant::now(), timeout };
        let mut tried: Vec<Service> = Vec::new();
        let mut last = None;
        loop {
            let is_untried = |service: &Service| !tried.iter().any(|known| is_same_instance(known, service));
            let Some(service) = view.find_multi(INSTANCES_MAX, &key).find(is_untried) else {
                let kind = || String::from_utf8_lossy(view.kind()).into_owned();
                return Err(last.unwrap_or_else(|| CallError::NoService { kind: kind() }));
            };
            let error = match attempt(&shard, &view, &service, &payload, &deadline).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Unreached) => CallError::NoResponders { tried: tried.len() + 1 },
                Err(Failure::InDoubt) if idempotent => CallError::InDoubt { service: service.service_ref() },
                Err(Failure::InDoubt) => return Err(CallError::InDoubt { service: service.service_ref() }),
                Err(Failure::Refused(error)) => return Err(error),
            };
            if deadline.left().is_zero() {
                return Err(CallError::Timeout { waited: timeout, sent: false });
            }
            last = Some(error);
            tried.push(service);
        }
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Result<Message, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.make())
    }
}

/// When a call has to be over.
struct Deadline {
    begun: Instant,
    timeout: Duration,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.begun.elapsed())
    }
}

/// How an instance came to give no answer.
enum Failure {
    /// It certainly did not get the call.
    Unreached,
    /// It may have.
    InDoubt,
    /// No other instance would do better.
    Refused(CallError),
}

fn is_same_instance(one: &Service, other: &Service) -> bool {
    one.id() == other.id() && one.node() == other.node()
}

/// Asks one instance, over the first cluster that reaches it.
async fn attempt(
    shard: &Shard,
    view: &KindView,
    service: &Service,
    payload: &Payload<'_>,
    deadline: &Deadline,
) -> Result<Message, Failure> {
    loop {
        let lost = async {
            shard.registry_shard().losses().next(service.node()).await;
            Err(Failure::InDoubt)
        };
        let outcome = future::or(ask(shard, view, service, payload, deadline), lost).await;
        let is_new = service.appeared().elapsed() < ROUTES_SETTLE;
        if !(is_new && matches!(outcome, Err(Failure::Unreached)) && view.shows(service)) {
            return outcome;
        }
        transport::sleep(ROUTES_PAUSE.min(deadline.left())).await;
        if deadline.left().is_zero() {
            return outcome;
        }
    }
}

async fn ask(
    shard: &Shard,
    view: &KindView,
    service: &Service,
    payload: &Payload<'_>,
    deadline: &Deadline,
) -> Result<Message, Failure> {
    if !shard.publishes() {
        return Err(Failure::Refused(CallError::Publish(PublishError::Role)));
    }
    let inbox = service.inbox().as_bytes();
    let mut was_heard = false;
    for link in shard.links_from(inbox) {
        let asked = link.request(inbox, None, payload.clone(), deadline.left()).await;
        let cluster = match asked {
            Ok(answer) => return Ok(answer),
            Err(RequestError::NoResponders { .. }) => {
                was_heard = true;
                // Its own link to this cluster may be down. But if it was withdrawn, it says so itself.
                if view.shows(service) {
                    continue;
                }
                return Err(Failure::Unreached);
            }
            Err(RequestError::Disconnected { sent: false, .. }) => continue,
            Err(RequestError::Disconnected { sent: true, .. }) => return Err(Failure::InDoubt),
            Err(RequestError::Timeout { .. }) => {
                let error = CallError::Timeout { waited: deadline.timeout, sent: true };
                return Err(Failure::Refused(error));
            }
            Err(RequestError::TooMany { cluster, limit }) => (cluster, limit),
            Err(RequestError::InvalidTopic(error)) => return Err(Failure::Refused(error.into())),
            Err(RequestError::Publish(error)) => return Err(Failure::Refused(error.into())),
        };
        return Err(Failure::Refused(CallError::TooMany { cluster: cluster.0, limit: cluster.1 }));
    }
    if was_heard {
        return Err(Failure::Unreached);
    }
    Err(Failure::Refused(CallError::Disconnected { cluster: shard.cluster_of(inbox) }))
}

/// Sends a message to an instance, and waits for nothing.
pub(crate) fn cast(shard: &Shard, service: &Service, payload: Payload<'_>) -> Result<(), CallError> {
    if !shard.publishes() {
        return Err(CallError::Publish(PublishError::Role));
    }
    let inbox = service.inbox().as_bytes();
    let first: Option<Rc<Link>> = shard.links_from(inbox).find(|link| link.is_connected_or_trying());
    match first {
        Some(link) => Ok(link.respond(inbox, None, payload)?),
        None => Err(CallError::Disconnected { cluster: shard.cluster_of(inbox) }),
    }
}

/// Asks several instances at the same time, each for itself.
pub(crate) async fn call_each(
    shard: &Shard,
    view: &KindView,
    services: Vec<Service>,
    payload: Payload<'_>,
    timeout: Duration,
) -> Vec<(Service, Result<Message, CallError>)> {
    let payload = payload.into_cheap_to_clone();
    let deadline = Deadline { begun: Instant::now(), timeout };
    let outcomes: RefCell<Vec<Option<Result<Message, CallError>>>> =
        RefCell::new(services.iter().map(|_| None).collect());
    let mut under_way: Vec<_> = services
        .iter()
        .enumerate()
        .map(|(index, service)| {
            let (payload, deadline, outcomes) = (&payload, &deadline, &outcomes);
            Box::pin(async move {
                let outcome = attempt(shard, view, service, payload, deadline).await;
                let outcome = outcome.map_err(|failure| match failure {
                    Failure::Unreached => CallError::NoResponders { tried: 1 },
                    Failure::InDoubt => CallError::InDoubt { service: service.service_ref() },
                    Failure::Refused(error) => error,
                });
                outcomes.borrow_mut()[index] = Some(outcome);
            })
        })
        .collect();
    poll_fn(|cx| {
        under_way.retain_mut(|call| call.as_mut().poll(cx).is_pending());
        if under_way.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    drop(under_way);
    services.into_iter().zip(outcomes.into_inner().into_iter().flatten()).collect()
}
