//! A request's place while its reply is awaited.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use croupier_protocol::RequestToken;

use super::{
    Link,
    fault::{self, Fault},
};
use crate::{Message, RequestError};

/// What the link completes and the caller waits on.
#[derive(Default)]
pub(crate) struct Reply {
    state: RefCell<State>,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Waiting(Waker),
    Done(Result<Message, RequestError>),
    Taken,
}

impl Reply {
    pub(crate) fn finish(&self, outcome: Result<Message, RequestError>) {
        let before = std::mem::replace(&mut *self.state.borrow_mut(), State::Done(outcome));
        if let State::Waiting(waker) = before {
            waker.wake();
        }
    }
}

/// Frees the request's place when the caller gives up.
pub(crate) struct AwaitedReply {
    pub(crate) link: Rc<Link>,
    pub(crate) token: RequestToken,
    pub(crate) reply: Rc<Reply>,
}

impl AwaitedReply {
    pub(crate) async fn received(self) -> Result<Message, RequestError> {
        poll_fn(|cx| {
            let mut state = self.reply.state.borrow_mut();
            if let State::Done(_) = &*state {
                if let State::Done(outcome) = std::mem::replace(&mut *state, State::Taken) {
                    return Poll::Ready(outcome);
                }
            } else {
                *state = State::Waiting(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for AwaitedReply {
    fn drop(&mut self) {
        if !fault::is_built_in(Fault::RequestNotFreed) {
            self.link.cancel_request(self.token);
        }
    }
}
