//! What a handler may do while it is called: everything, and the others do not notice.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use croupier::{HandlerGuard, Shard, Subscription, testing::LocalCluster};

use crate::support::{GUARD, on_one_shard, permit};

/// Messages of one round; many of them share a read.
const MESSAGES: u64 = 1000;

fn test<F: AsyncFnOnce(Shard) + Clone + Send + 'static>(test: F) {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    on_one_shard(servers.builder(), test);
}

/// Publishes numbered messages and waits until they have been handled: on one connection a server
/// delivers before it answers the PING of a flush.
async fn publish_numbered(shard: &Shard, topic: &str) {
    for number in 0..MESSAGES {
        shard.publish(topic, number.to_string()).unwrap();
    }
    shard.flush().await.unwrap();
}

/// A handler that counts its calls.
async fn counter(shard: &Shard, topic: &str) -> (HandlerGuard, Rc<Cell<u64>>) {
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    let guard = shard.subscribe_with(topic, move |_| counted.set(counted.get() + 1)).await.unwrap();
    (guard, count)
}

#[test]
fn a_handler_publishes_on_the_link_it_is_called_from() {
    test(async |shard: Shard| {
        let (_echoes, echoed) = counter(&shard, "echo").await;
        let publisher = shard.clone();
        let _guard = shard
            .subscribe_with("call", move |view| publisher.publish("echo", view.payload()).unwrap())
            .await
            .unwrap();
        publish_numbered(&shard, "call").await;
        shard.flush().await.unwrap();
        assert_eq!(echoed.get(), MESSAGES);
    });
}

#[test]
fn a_handler_hears_what_it_publishes_after_its_own_subscribe() {
    test(async |shard: Shard| {
        let made: Rc<RefCell<Option<Subscription>>> = Rc::default();
        let (kept, verbs) = (Rc::clone(&made), shard.clone());
        let _guard = shard
            .subscribe_with("call", move |_| {
                *kept.borrow_mut() = Some(verbs.subscribe_unconfirmed("late").unwrap());
                verbs.publish("late", "at once").unwrap();
            })
            .await
            .unwrap();
        shard.publish("call", "").unwrap();
        shard.flush().await.unwrap();
        shard.flush().await.unwrap();
        let mut late = made.borrow_mut().take().unwrap();
        let heard = shard.timeout(GUARD, late.next()).await.unwrap().unwrap();
        assert_eq!(heard.payload(), b"at once");
    });
}

#[test]
fn a_handler_subscribes() {
    test(async |shard: Shard| {
        let made: Rc<RefCell<Vec<Subscription>>> = Rc::default();
        let (kept, subscriber) = (Rc::clone(&made), shard.clone());
        let _guard = shard
            .subscribe_with("call", move |_| {
                kept.borrow_mut().push(subscriber.subscribe_unconfirmed("late").unwrap());
            })
            .await
            .unwrap();
        for _ in 0..3 {
            shard.publish("call", "").unwrap();
        }
        shard.flush().await.unwrap();
        publish_numbered(&shard, "late").await;
        assert_eq!(made.borrow().len(), 3);
        let mut subscriptions = std::mem::take(&mut *made.borrow_mut());
        for subscription in &mut subscriptions {
            for number in 0..MESSAGES {
                assert_eq!(subscription.next().await.unwrap().payload(), number.to_string().as_bytes());
            }
        }
    });
}

#[test]
fn a_handler_that_drops_its_own_guard_is_not_called_again() {
    test(async |shard: Shard| {
        let own: Rc<RefCell<Option<HandlerGuard>>> = Rc::default();
        let calls = Rc::new(Cell::new(0));
        let (kept, counted) = (Rc::clone(&own), Rc::clone(&calls));
        let guard = shard
            .subscribe_with("call", move |_| {
                counted.set(counted.get() + 1);
                if counted.get() == 3 {
                    kept.borrow_mut().take();
                }
            })
            .await
            .unwrap();
        *own.borrow_mut() = Some(guard);
        let (_sibling, sibling_calls) = counter(&shard, "call").await;
        let mut queue = shard.subscribe("call").await.unwrap();
        publish_numbered(&shard, "call").await;
        assert_eq!((calls.get(), sibling_calls.get()), (3, MESSAGES));
        for _ in 0..MESSAGES {
            queue.next().await.unwrap();
        }
        assert_eq!(Rc::strong_count(&calls), 1, "the handler is gone, with what it owned");
    });
}

#[test]
fn a_handler_that_panics_ends_its_subscription_alone() {
    test(async |shard: Shard| {
        let (_first, first) = counter(&shard, "call").await;
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let guard = shard
            .subscribe_with("call", move |_| {
                counted.set(counted.get() + 1);
                assert!(counted.get() < 5, "this panic is part of the test");
            })
            .await
            .unwrap();
        let (_last, last) = counter(&shard, "call").await;
        let (_other, other) = counter(&shard, "*").await;
        assert!(!guard.is_ended());
        publish_numbered(&shard, "call").await;
        assert_eq!((first.get(), calls.get(), last.get(), other.get()), (MESSAGES, 5, MESSAGES, MESSAGES));
        assert!(guard.is_ended());
        assert_eq!(shard.stats().links[0].handler_panics, 1);
        assert_eq!(shard.stats().links[0].disconnects, 0);
    });
}

#[test]
fn a_handler_drops_the_guard_of_a_later_one_on_the_same_topic() {
    test(async |shard: Shard| {
        let other: Rc<RefCell<Option<HandlerGuard>>> = Rc::default();
        let kept = Rc::clone(&other);
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let _guard = shard
            .subscribe_with("call", move |_| {
                counted.set(counted.get() + 1);
                if counted.get() == 4 {
                    kept.borrow_mut().take();
                }
            })
            .await
            .unwrap();
        let (victim, victim_calls) = counter(&shard, "call").await;
        *other.borrow_mut() = Some(victim);
        let (_last, last) = counter(&shard, "call").await;
        publish_numbered(&shard, "call").await;
        assert_eq!((calls.get(), victim_calls.get(), last.get()), (MESSAGES, 3, MESSAGES));
    });
}

#[test]
fn a_handler_that_owns_a_guard_lets_it_go_with_itself_within_a_dispatch() {
    test(async |shard: Shard| {
        let (inner, inner_calls) = counter(&shard, "inner").await;
        let own: Rc<RefCell<Option<HandlerGuard>>> = Rc::default();
        let kept = Rc::clone(&own);
        let guard = shard
            .subscribe_with("outer", move |_| {
                assert!(!inner.is_ended());
                kept.borrow_mut().take();
            })
            .await
            .unwrap();
        *own.borrow_mut() = Some(guard);
        publish_numbered(&shard, "inner").await;
        assert_eq!(inner_calls.get(), MESSAGES);
        // The outer handler, and with it the inner one's guard, goes at the end of this turn.
        shard.publish("outer", "").unwrap();
        shard.flush().await.unwrap();
        publish_numbered(&shard, "inner").await;
        assert_eq!(inner_calls.get(), MESSAGES);
        assert_eq!(Rc::strong_count(&inner_calls), 1);
    });
}

#[test]
fn a_panicking_handler_that_owns_a_guard_lets_it_go() {
    test(async |shard: Shard| {
        let (inner, inner_calls) = counter(&shard, "inner").await;
        let _guard = shard
            .subscribe_with("outer", move |_| {
                assert!(inner.is_ended(), "this panic is part of the test");
            })
            .await
            .unwrap();
        shard.publish("outer", "").unwrap();
        shard.flush().await.unwrap();
        drop(_guard);
        publish_numbered(&shard, "inner").await;
        assert_eq!(inner_calls.get(), 0);
    });
}

#[test]
fn a_handler_responds() {
    test(async |shard: Shard| {
        let _guard = shard
            .subscribe_with("upper", |view| {
                let answer = view.payload().to_ascii_uppercase();
                view.respond(answer).unwrap();
            })
            .await
            .unwrap();
        for number in 0..100 {
            let reply = shard.request("upper", format!("abc{number}")).await.unwrap();
            assert_eq!(reply.payload(), format!("ABC{number}").as_bytes());
        }
        // Without a reply subject there is nobody to answer.
        shard.publish("upper", "x").unwrap();
        shard.flush().await.unwrap();
        assert_eq!(shard.stats().links[0].handler_panics, 0);
    });
}
