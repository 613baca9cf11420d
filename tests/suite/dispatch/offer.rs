//! A service that a task on a shard holds, steered from the test's thread.

use std::pin::Pin;

use croupier::{Message, RegistryError, ServiceHandle, ServiceRef, ServiceSpec};
use futures_lite::future;
use tokio::sync::{
    mpsc::{UnboundedSender, unbounded_channel},
    oneshot,
};

use crate::rig::{Rig, text};

type Work = Box<dyn for<'a> FnOnce(&'a mut ServiceHandle) -> Pin<Box<dyn Future<Output = ()> + 'a>> + Send>;

enum Order {
    Work(Work),
    Remove(oneshot::Sender<Result<(), RegistryError>>),
}

enum Next {
    Order(Option<Order>),
    Request(Option<Message>),
}

/// A service and the task that holds it. Dropping it drops the handle.
pub(crate) struct Offer {
    service: ServiceRef,
    orders: UnboundedSender<Order>,
}

impl Offer {
    /// Adds a service on a shard and serves its requests there.
    pub(crate) async fn start(
        node: &Rig,
        shard: usize,
        spec: ServiceSpec,
        mut serve: impl FnMut(Message) + Send + 'static,
    ) -> Offer {
        let (orders, mut ordered) = unbounded_channel();
        let service = node
            .on(shard, async move |shard| {
                let mut me = shard.registry().add_service(spec).await.unwrap();
                let service = me.service_ref();
                shard.spawn(async move {
                    let mut has_requests = true;
                    loop {
                        let order = async { Next::Order(ordered.recv().await) };
                        let request = async {
                            if !has_requests {
                                future::pending::<()>().await;
                            }
                            Next::Request(me.next_request().await)
                        };
                        match future::or(order, request).await {
                            Next::Order(Some(Order::Work(work))) => work(&mut me).await,
                            Next::Order(Some(Order::Remove(removed))) => {
                                let _heard = removed.send(me.remove().await);
                                return;
                            }
                            Next::Order(None) => return,
                            Next::Request(Some(request)) => serve(request),
                            Next::Request(None) => has_requests = false,
                        }
                    }
                });
                service
            })
            .await;
        Offer { service, orders }
    }

    /// Adds a service that answers each request with its id, a colon and the payload.
    pub(crate) async fn answering(node: &Rig, shard: usize, spec: ServiceSpec) -> Offer {
        let (id_known, id) = std::sync::mpsc::channel::<Vec<u8>>();
        let mut known = None;
        let offer = Offer::start(node, shard, spec, move |request| {
            let id = known.get_or_insert_with(|| text(&id.recv().expect("the id is sent")));
            request.respond(format!("{id}:{}", text(request.payload()))).unwrap();
        })
        .await;
        id_known.send(offer.service.id().to_vec()).unwrap();
        offer
    }

    pub(crate) fn service(&self) -> &ServiceRef {
        &self.service
    }

    /// Has the holder do something with its handle.
    pub(crate) async fn with<F, T>(&self, work: F) -> T
    where
        F: AsyncFnOnce(&mut ServiceHandle) -> T + Send + 'static,
        T: Send + 'static,
    {
        let (done, outcome) = oneshot::channel();
        let work: Work = Box::new(move |me| {
            Box::pin(async move {
                let _heard = done.send(work(me).await);
            })
        });
        assert!(self.orders.send(Order::Work(work)).is_ok(), "the holder lives");
        outcome.await.expect("the holder answers")
    }

    /// Removes the service by its handle.
    pub(crate) async fn remove(self) -> Result<(), RegistryError> {
        let (removed, outcome) = oneshot::channel();
        assert!(self.orders.send(Order::Remove(removed)).is_ok(), "the holder lives");
        outcome.await.expect("the holder answers")
    }
}
