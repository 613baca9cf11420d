//! Faults that the simulation builds in, to prove that it would notice them.

/// One way to get a link wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(test), allow(dead_code, reason = "named by the code they spoil"))]
pub(super) enum Fault {
    /// What is in doubt after a cut is sent again.
    InDoubtSentAgain,
    /// The rest of a message that a cut tore is sent over the next connection.
    TornMessageFinished,
    /// What is in doubt is counted as discarded as well.
    FateCountedTwice,
    /// Any PONG makes all that was published processed.
    PongCoversAll,
    /// A reconnect forgets a subscription.
    SubscriptionForgotten,
    /// A reconnect forgets where replies come.
    InboxForgotten,
    /// A reconnect tells the server the whole number of messages to come, not what is left of it.
    CountBegunAgain,
    /// The next connection takes over before the last one's server has processed what it got.
    FenceIgnored,
    /// What comes over both connections of a move is not counted.
    OverlapNotCounted,
    /// What a connection brought that failed to take over is not counted.
    FailedMoveNotCounted,
    /// Requests that a cut leaves without an answer wait for their time to be over.
    RequestsOutliveCut,
    /// A request that its caller gave up keeps its place.
    RequestNotFreed,
    /// A flush passes with any PONG.
    BarrierPassesEarly,
    /// A queued message that is larger than the new server takes is sent all the same.
    OversizedSent,
    /// More is queued than the limit says.
    BufferUnbounded,
    /// Pauses between tries grow without end.
    BackoffUnbounded,
    /// Tries at a dead cluster are not held back.
    GateIgnored,
    /// Silence is not noticed.
    SilenceIgnored,
    /// The server's PINGs are not answered.
    PongsForgotten,
    /// The bytes that a partly read message begins with are lost when its chunk is kept.
    StraddlingMessageTorn,
    /// A server that refuses the credentials is tried for ever.
    RefusalsForgotten,
}

#[cfg(test)]
impl Fault {
    /// All of them.
    pub(super) const ALL: [Self; 21] = [
        Self::InDoubtSentAgain,
        Self::TornMessageFinished,
        Self::FateCountedTwice,
        Self::PongCoversAll,
        Self::SubscriptionForgotten,
        Self::InboxForgotten,
        Self::CountBegunAgain,
        Self::FenceIgnored,
        Self::OverlapNotCounted,
        Self::FailedMoveNotCounted,
        Self::RequestsOutliveCut,
        Self::RequestNotFreed,
        Self::BarrierPassesEarly,
        Self::OversizedSent,
        Self::BufferUnbounded,
        Self::BackoffUnbounded,
        Self::GateIgnored,
        Self::SilenceIgnored,
        Self::PongsForgotten,
        Self::StraddlingMessageTorn,
        Self::RefusalsForgotten,
    ];

    /// Builds this fault into all that the thread does until the returned guard is dropped.
    #[must_use = "the fault is gone with the guard"]
    pub(super) fn build_in(self) -> BuiltIn {
        switch::set(Some(self));
        BuiltIn(())
    }
}

/// Keeps a [`Fault`] built in.
#[cfg(test)]
pub(super) struct BuiltIn(());

#[cfg(test)]
impl Drop for BuiltIn {
    fn drop(&mut self) {
        switch::set(None);
    }
}

#[cfg(test)]
pub(super) use switch::{is_built_in, tear, torn_rest};

/// Always false outside of tests, so that nothing of the faults is left in a real build.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn is_built_in(_: Fault) -> bool {
    false
}

#[cfg(not(test))]
#[inline(always)]
pub(super) const fn tear(_: &[u8]) {}

#[cfg(not(test))]
#[inline(always)]
pub(super) const fn torn_rest() -> [u8; 0] {
    []
}

#[cfg(test)]
mod switch {
    use std::cell::{Cell, RefCell};

    use super::Fault;

    pub(super) fn set(fault: Option<Fault>) {
        BUILT_IN.set(fault);
        TORN.with_borrow_mut(Vec::clear);
    }

    pub(crate) fn is_built_in(fault: Fault) -> bool {
        BUILT_IN.get() == Some(fault)
    }

    /// Keeps what is left of a message that a cut tore.
    pub(crate) fn tear(rest: &[u8]) {
        if is_built_in(Fault::TornMessageFinished) {
            TORN.set(rest.to_vec());
        }
    }

    pub(crate) fn torn_rest() -> Vec<u8> {
        TORN.take()
    }

    thread_local! {
        static BUILT_IN: Cell<Option<Fault>> = const { Cell::new(None) };
        static TORN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
}
